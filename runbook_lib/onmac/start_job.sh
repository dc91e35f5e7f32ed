# start a launchd job from its plist
# $1 domain, $2 label, $3 plist, $4 limit in seconds. What print says afterwards counts, not the exit code.
launchctl enable "$1/$2" >/dev/null 2>&1
tries=0
while :; do
    text=$(launchctl bootstrap "$1" "$3" 2>&1)
    status=$?
    launchctl print "$1/$2" >/dev/null 2>&1 && break
    tries=$((tries + 1))
    if [ "$tries" -ge $(($4 * 2)) ] || { [ "$status" -ne 5 ] && [ "$status" -ne 36 ] && [ "$status" -ne 37 ]; }; then
        printf 'result\trefused\ndetail\tbootstrap %s: %s\n' "$status" "$(printf '%s' "$text" | tr '\n\t' '  ')"
        return 0
    fi
    sleep 0.5
done
printf 'result\tloaded\n'
