# start the sentinel
# $1 domain, $2 label, $3 plist, $4 its samples, $5 the spare of the drain file. Needs $stage and lay_files: the
# sentinel itself, what it sources, its configuration, its plist. Nothing is started where this very one runs.
umask 077
laid=$(lay_files 755 600 600 600 644) || return 1
: >"$5"
case $laid in
*written*) ;;
*)
    if launchctl print "$1/$2" 2>/dev/null | grep -q '^	pid = '; then
        printf 'result\tthere already\n'
        return 0
    fi
    ;;
esac
launchctl bootout "$1/$2" >/dev/null 2>&1
tries=0
until launchctl bootstrap "$1" "$3" >/dev/null 2>&1 || launchctl print "$1/$2" >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -lt 40 ] || return 1
    sleep 0.5
done
tries=0
until [ -s "$4" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || return 1
    sleep 0.1
done
printf 'result\tsampling\n'
