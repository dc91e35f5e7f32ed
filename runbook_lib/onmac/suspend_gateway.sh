# suspend a gateway and wait until nothing is in flight
# $1 URL of its admin RPC, $2 env wrapper, $3 env file, $4 name of its token, $5 request id, $6 limit in seconds, $7 node
# New work is refused from the first answer on. The lease runs out by itself, so every question renews it. A gateway
# that is still busy at the end is resumed: it serves on.
url=$1 wrapper=$2 env_file=$3 variable=$4 id=$5 limit=$6 node=$7
ask() { # METHOD PARAMS
    token=$(/bin/sh "$wrapper" "$env_file" /usr/bin/printenv "$variable" | sed 's/[\\"]/\\&/g')
    printf 'header = "Authorization: Bearer %s"\n' "$token" |
        curl -s --max-time 5 -K - -X POST --data "{\"method\":\"$1\",\"params\":$2}" "$url"
}
read_answer() { # ANSWER: its status, the id of the suspension and what blocks, a line each
    printf '%s' "$1" | "$node" -e '
        const line = (value) => String(value ?? "").replace(/\s+/g, " ").trim();
        let payload;
        try { payload = JSON.parse(require("node:fs").readFileSync(0, "utf8")).payload; } catch { payload = undefined; }
        const blockers = Array.isArray(payload?.blockers) ? payload.blockers : [];
        console.log(line(payload?.status));
        console.log(line(payload?.suspensionId));
        console.log(blockers.map((blocker) => line(blocker?.message)).filter(Boolean).join("; "));
    '
}
refused() {
    printf 'result\trefused\ndetail\t%s\n' "$(printf '%s' "$1" | head -c 300 | tr '\n\t' '  ')"
}
started=$(date +%s)
asked=0 silent=0 blockers='' suspension=''
while :; do
    answer=$(ask gateway.suspend.prepare "{\"requestId\":\"$id\",\"drain\":true}")
    asked=$((asked + 1))
    waited=$(($(date +%s) - started))
    state=
    if [ -n "$answer" ]; then
        if ! said=$(read_answer "$answer" 2>/dev/null); then
            refused "its answer could not be read with $node: $answer"
            return 0
        fi
        state=$(printf '%s\n' "$said" | sed -n 1p)
    fi
    case $state in
    ready) break ;;
    draining | busy)
        silent=0
        suspension=$(printf '%s\n' "$said" | sed -n 2p)
        blockers=$(printf '%s\n' "$said" | sed -n 3p)
        ;;
    '')
        if [ -n "$answer" ]; then
            refused "$answer"
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
