# ask who listens on ports
# $@ ports. Prints port, pid, command, address for each listener. lsof shows what is ours; what another user holds is
# found by connecting, and has pid 0.
for port in "$@"; do
    found=$(lsof -nP -iTCP:"$port" -sTCP:LISTEN -Fpcn 2>/dev/null | awk -v port="$port" '
        /^p/ { pid = substr($0, 2) }
        /^c/ { command = substr($0, 2) }
        /^n/ { printf "%s\t%s\t%s\t%s\n", port, pid, command, substr($0, 2) }')
    [ -z "$found" ] || printf '%s\n' "$found"
    for address in 127.0.0.1 '[::1]'; do
        case $found in *"	$address:$port"* | *"	*:$port"*) continue ;; esac
        curl -s -o /dev/null --max-time 2 "http://$address:$port/"
        [ "$?" -eq 7 ] || printf '%s\t0\tanother user\t%s\n' "$port" "$address:$port"
    done
done
