#!/bin/sh
# Debian's command with a Mac's manners: what only GNU has is refused, so that a script which leans on it fails on
# the practice Mac and not on the leased one; a Mac's own spelling of stat, date, sed -i and cp -c is understood.
name=${0##*/}
real=/usr/bin/$name
[ -x "$real" ] || real=/bin/$name

refuse() {
    echo "$name: illegal option -- $1 (only GNU's has it; refused by the practice Mac)" >&2
    exit 64
}

case $name in # letters that only GNU's takes, and whether long options are refused, too
stat) letters=c ;;
date) letters=d ;;
sed) letters=sz ;;
readlink) letters=em ;;
xargs) letters=da ;;
mv) letters=tTu ;;
ln) letters=tTr ;;
cp) letters=tTdu ;;
du) letters=b ;;
grep) letters=P long=yes ;;
find | awk) letters='' long=yes ;;
*) letters='' ;;
esac

for word in "$@"; do
    case $word in
    --) break ;;
    --*) [ "${long:-no}" = yes ] || refuse "$word" ;;
    -*[!A-Za-z]*) ;;
    -?*)
        rest=$letters
        while [ -n "$rest" ]; do
            letter=${rest%"${rest#?}"}
            rest=${rest#?}
            case $word in *"$letter"*) refuse "$letter" ;; esac
        done
        ;;
    *) break ;;
    esac
done

case $name in
stat)
    if [ "${1:-}" = -f ]; then
        format=$(printf '%s' "$2" | /bin/sed -e 's/%N/%n/g' -e 's/%m/%Y/g' -e 's/%z/%s/g' -e 's/%O\{0,1\}Lp/%a/g' \
            -e 's/%Su/%U/g' -e 's/%Sg/%G/g')
        shift 2
        exec "$real" -L -c "$format" "$@"
    fi
    ;;
date)
    utc=
    if [ "${1:-}" = -u ]; then
        utc=-u
        shift
    fi
    if [ "${1:-}" = -r ] && [ -z "$(printf '%s' "${2:-}" | tr -d 0-9)" ]; then
        seconds=$2
        shift 2
        exec "$real" ${utc:+"$utc"} -d "@$seconds" "$@"
    fi
    case "$*" in *+*%N*) refuse %N ;; esac
    exec "$real" ${utc:+"$utc"} "$@"
    ;;
sed)
    if [ "${1:-}" = -i ]; then
        [ -z "${2-x}" ] || refuse "-i without a suffix; write -i ''"
        shift 2
        exec "$real" -i "$@"
    fi
    ;;
cp)
    case ${1:-} in
    -*c*)
        options=$(printf '%s' "$1" | tr -d c) # clones, on APFS alone
        shift
        [ "$options" = - ] && exec "$real" "$@"
        exec "$real" "$options" "$@"
        ;;
    esac
    ;;
find)
    for word in "$@"; do
        case $word in -printf | -fprintf | -regextype | -executable | -readable | -writable) refuse "$word" ;; esac
    done
    ;;
head)
    case "$*" in -n\ -* | -c\ -* | -n-* | -c-*) refuse 'a negative count' ;; esac
    ;;
awk) # Debian's mawk knows functions that a Mac's awk does not
    for word in "$@"; do
        case $word in
        *strftime\(* | *systime\(* | *mktime\(* | *gensub\(* | *asort\(* | *PROCINFO*) refuse 'strftime, systime, gensub' ;;
        esac
    done
    ;;
esac
exec "$real" "$@"
