# stop a launchd job and wait until it is gone
# $1 domain, $2 label, $3 limit in seconds, $4 URL that it answers while it lives, or empty (then thaw.sh is not needed)
[ -z "${4:-}" ] || continue_stopped "$(pid_of "$1/$2")"
text=$(launchctl bootout "$1/$2" 2>&1)
status=$?
tries=0
while launchctl print "$1/$2" >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ "$tries" -ge $(($3 * 4)) ]; then
        printf 'result\tstill there\ndetail\tbootout %s: %s; loaded after %s s\n' "$status" "$(printf '%s' "$text" | tr '\n\t' '  ')" "$3"
        return 0
    fi
    if [ -n "${4:-}" ] && [ $((tries % 20)) -eq 0 ]; then
        kill_hung "$(pid_of "$1/$2")" "$4"
    fi
    sleep 0.25
done
printf 'result\tgone\n'
