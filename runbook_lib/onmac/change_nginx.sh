# change nginx's configuration and prove that it runs
# The caller sets $stage, a directory of files 1, 2, … whose targets stand in $stage/targets; an empty file is removed. Exit codes are never believed: a reload
# counts when new connections answer the new revision and the old workers are gone or draining.
binary=$1 conf=$2 pid_file=$3 error_log=$4 port=$5 expect=$6 limit_s=$7 sudo=$8

workers() {
    ps -A -o pid=,ppid=,command= | awk -v master="$master" '$2 == master && /nginx/ && !/shutting down/ { print $1 }'
}
put_back() {
    while IFS='	' read -r number target; do
        if [ -e "$stage/$number.before" ]; then
            $sudo cp "$stage/$number.before" "$target.next" && $sudo mv -f "$target.next" "$target"
        else
            $sudo rm -f "$target"
        fi
    done <"$stage/targets"
}
# Wait until $2 new connections in a row answer revision $1; `none` means that nothing answers there any more.
proven() {
    in_a_row=0 tries=0
    while [ "$tries" -lt $((limit_s * 10)) ]; do
        tries=$((tries + 1))
        answer=$(curl -s --max-time 1 "http://127.0.0.1:$port/__rollout" || echo none)
        case "$answer " in
        "$1 "*) in_a_row=$((in_a_row + 1)) ;;
        *) in_a_row=0 ;;
        esac
        [ "$in_a_row" -ge "$2" ] && return 0
        [ "$in_a_row" -gt 0 ] || sleep 0.1
    done
    return 1
}

before=$(curl -s --max-time 2 "http://127.0.0.1:$port/__rollout")
before=${before%% *}
printf 'before\t%s\n' "$before"

number=0
while IFS='	' read -r number target; do
    [ -e "$target" ] && $sudo cp "$target" "$stage/$number.before"
done <"$stage/targets"
while IFS='	' read -r number target; do
    if [ ! -s "$stage/$number" ]; then
        $sudo rm -f "$target"
        continue
    fi
    $sudo mkdir -p "$(dirname "$target")"
    if ! { $sudo cp "$stage/$number" "$target.next" && $sudo mv -f "$target.next" "$target"; }; then
        put_back
        printf 'result\trefused\ndetail\tcannot write %s\n' "$target"
        return 0
    fi
done <"$stage/targets"

if ! text=$($sudo "$binary" -t -q -c "$conf" 2>&1); then
    put_back
    printf 'result\trefused\ndetail\t%s\n' "$(printf '%s' "$text" | tr '\n\t' '  ')"
    return 0
fi
master=$(cat "$pid_file" 2>/dev/null)
if [ -z "$master" ] || ! ps -p "$master" -o command= | grep -q 'nginx: master'; then
    put_back
    printf 'result\tstale\ndetail\tthe pid file says %s, which is no nginx master\n' "${master:-nothing}"
    return 0
fi
old_workers=$(workers | tr '\n' ' ')
log_size=$(($(wc -c <"$error_log" 2>/dev/null || echo 0)))
$sudo kill -HUP "$master"

failure=
if ! proven "$expect" 5; then
    failure="after $limit_s s new connections do not answer $expect"
fi
waited=0
while [ -z "$failure" ]; do
    still=
    for pid in $(workers); do
        case " $old_workers " in *" $pid "*) still="$still $pid" ;; esac
    done
    [ -z "$still" ] && break
    waited=$((waited + 1))
    [ "$waited" -ge $((limit_s * 10)) ] && failure="old workers$still still accept after $limit_s s"
    sleep 0.1
done
alerts=$(tail -c "+$((log_size + 1))" "$error_log" 2>/dev/null | grep -E '\[(emerg|alert)\]' | head -n 3 | tr '\n\t' '  ')
[ -n "$alerts" ] && failure="${failure:+$failure; }nginx's error log: $alerts"

if [ -n "$failure" ]; then
    put_back
    $sudo kill -HUP "$master"
    if [ -z "$before" ] || proven "$before" 5; then
        undone="the old configuration is back on disk${before:+ and answers}"
    else
        undone="the old configuration is back on disk but $before does NOT answer: look at once"
    fi
    printf 'result\tnot proven\ndetail\t%s; %s\n' "$failure" "$undone"
    return 0
fi
printf 'draining\t%s\n' "$(ps -A -o pid=,ppid=,command= | awk -v master="$master" '$2 == master && /shutting down/' | wc -l | tr -d ' ')"
printf 'workers\t%s\n' "$(workers | tr '\n' ' ')"
printf 'result\tproven\n'
