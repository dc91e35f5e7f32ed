# confirm a change of nginx, so that it stays
# $1 the way back, $2 the revision that was proven
[ -d "$1" ] || return 0 # nobody watched, or it was confirmed before
expect=
# shellcheck disable=SC1091
. "$1/settings"
if [ "$expect" != "$2" ]; then
    printf 'result\tanother\ndetail\twhat waits to be confirmed is %s\n' "$expect"
    return 0
fi
mv "$1" "$1.confirmed" && rm -rf "$1.confirmed" && printf 'result\tconfirmed\n'
