#!/bin/sh
# Sample both gateways into a rotating file and guard the canary, whether or not anybody is connected: sentinel.sh CONFIG
# The config sets every_s, samples, domain and what guard.sh needs, then `gateway NAME LABEL PORT ENV_FILE` for each.
# A line: at, gateway, pid, rss_kb, cpu_pct, ready_status, ready_ms, backlog, in_flight.
config=$1
umask 077
curl() { command curl -q --noproxy '*' "$@"; }
limit_bytes=20000000

# How many entries the array of queued system events has, without a JSON tool.
count_backlog() {
    awk '{
        at = index($0, "\"queuedSystemEvents\":[")
        if (!at) { print ""; exit }
        depth = 1; entries = 0; filled = 0; quoted = 0
        for (i = at + 22; i <= length($0) && depth > 0; i++) {
            c = substr($0, i, 1)
            if (quoted) { if (c == "\\") i++; else if (c == "\"") quoted = 0 }
            else if (c == "\"") { quoted = 1; filled = 1 }
            else if (c == "[" || c == "{") { depth++; filled = 1 }
            else if (c == "]" || c == "}") depth--
            else if (c == "," && depth == 1) entries++
            else if (c != " ") filled = 1
        }
        queued = 0
        if (match($0, /"byStatus":\{"queued":[0-9]+/)) queued = substr($0, RSTART + 21, RLENGTH - 21)
        print entries + filled + queued
    }'
}

sample() {
    name=$1 label=$2 port=$3 env_file=$4
    pid=$(launchctl print "$domain/$label" 2>/dev/null | sed -n 's/^	pid = //p')
    usage=$([ -n "$pid" ] && ps -o rss=,pcpu= -p "$pid" 2>/dev/null)
    rss_kb=$(printf '%s' "$usage" | awk '{ print $1 }')
    cpu_pct=$(printf '%s' "$usage" | awk '{ print $2 }')
    ready=$(curl -s -o /dev/null --max-time 2 -w '%{http_code} %{time_total}' "http://127.0.0.1:$port/readyz")
    ready_ms=$(printf '%s' "${ready#* }" | awk '{ printf "%d", $1 * 1000 }')
    token=$(/bin/sh "${0%/*}/with-env.sh" "$env_file" /usr/bin/printenv OPENCLAW_GATEWAY_TOKEN 2>/dev/null)
    status=$([ -z "$token" ] || printf 'header = "Authorization: Bearer %s"\n' "$token" |
        curl -s --max-time 2 -K - -X POST --data '{"method":"status","params":{}}' "http://127.0.0.1:$port/api/v1/admin/rpc")
    backlog=$(printf '%s\n' "$status" | count_backlog)
    in_flight=$(printf '%s' "$status" | sed -n 's/.*"rootRequests":\([0-9]*\).*/\1/p')
    printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$name" "$pid" "$rss_kb" "$cpu_pct" \
        "${ready%% *}" "$ready_ms" "$backlog" "$in_flight" >>"$samples"
}
# Between two samples, too: a frozen gateway takes the whole time of each question.
gateway() {
    guard
    sample "$@"
}
# shellcheck disable=SC1091
. "${0%/*}/guard.sh"

while :; do
    # shellcheck disable=SC1090
    . "$config"
    if [ "$(($(wc -c <"$samples" 2>/dev/null || echo 0)))" -gt "$limit_bytes" ]; then
        mv -f "$samples" "$samples.1"
    fi
    # shellcheck disable=SC2154
    sleep "$every_s"
done
