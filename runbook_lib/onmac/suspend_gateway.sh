# suspend a gateway and wait until nothing is in flight
# $1 URL of its admin RPC, $2 env wrapper, $3 env file, $4 name of its token, $5 request id, $6 limit in seconds
# New work is refused from the first answer on. The lease runs out by itself, so every question renews it. A gateway
# that is still busy at the end is resumed: it serves on.
url=$1 wrapper=$2 env_file=$3 variable=$4 id=$5 limit=$6
ask() { # METHOD PARAMS
    token=$(/bin/sh "$wrapper" "$env_file" /usr/bin/printenv "$variable" | sed 's/[\\"]/\\&/g')
    printf 'header = "Authorization: Bearer %s"\n' "$token" |
        curl -s --max-time 5 -K - -X POST --data "{\"method\":\"$1\",\"params\":$2}" "$url"
}
first() { # NAME ANSWER: the first text of that name
    printf '%s' "$2" | grep -o "\"$1\":\"[^\"]*\"" | head -n 1 | cut -d '"' -f 4
}
started=$(date +%s)
asked=0 silent=0 blockers=
while :; do
    answer=$(ask gateway.suspend.prepare "{\"requestId\":\"$id\",\"drain\":true}")
    asked=$((asked + 1))
    waited=$(($(date +%s) - started))
    state=$(first status "$answer")
    case $state in
    ready) break ;;
    draining | busy)
        silent=0
        suspension=$(first suspensionId "$answer")
        blockers=$(printf '%s' "$answer" | grep -o '"message":"[^"]*"' | cut -d '"' -f 4 | awk '{ printf "%s%s", between, $0; between = "; " }')
        ;;
    '')
        if [ -n "$answer" ]; then
            printf 'result\trefused\ndetail\t%s\n' "$(printf '%s' "$answer" | head -c 300 | tr '\n\t' '  ')"
            return 0
        fi
        silent=$((silent + 1))
        if [ "$silent" -ge 2 ]; then
            state=silent
            break
        fi
        ;;
    esac
    if [ "$silent" -eq 0 ] && [ "$waited" -ge "$limit" ]; then
        [ -z "$suspension" ] || ask gateway.suspend.resume "{\"suspensionId\":\"$suspension\"}" >/dev/null
        state=busy
        break
    fi
    sleep 1
done
printf 'result\t%s\nwaited_s\t%s\nasked\t%s\nblockers\t%s\n' "$state" "$waited" "$asked" "$blockers"
