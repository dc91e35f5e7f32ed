# confirm a change of nginx, so that it stays
# $1 the way back, $2 the revision that was proven, $3 nginx's probe port
aside=
expect=$(sed -n "s/.* expect='\([^']*\)'.*/\1/p" "$1/settings" 2>/dev/null)
if [ "$expect" = "$2" ] && mv "$1" "$1.confirmed" 2>/dev/null; then
    rm -rf "$1.confirmed"
    printf 'result\tconfirmed\n'
    return 0
fi
[ -z "$expect" ] || [ "$expect" = "$2" ] || aside="what waits to be confirmed is $expect"
[ ! -d "$1.back" ] || aside="it was not confirmed in time, the sentinel is at it"
running=$(curl -s --max-time 2 "http://127.0.0.1:$3/__rollout")
case $2 in "${running%% *}" | none | 'not '*) ;; *) aside=${aside:-new connections get ${running%% *}} ;; esac
[ -z "$aside" ] || printf 'result\tanother\ndetail\t%s\n' "$aside"
