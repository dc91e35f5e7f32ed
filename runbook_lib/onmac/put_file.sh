# put $1.next in the place of $1 with mode $2, unless it is there already
# $1 path, $2 mode
chmod "$2" "$1.next" || return 1
if cmp -s "$1.next" "$1" && [ -n "$(find "$1" -prune -type f -perm "$2")" ]; then
    rm -f "$1.next" && printf 'result\tthere already\n'
else
    mv -f "$1.next" "$1" && printf 'result\twritten\n'
fi
