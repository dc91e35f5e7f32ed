# change nginx's configuration and prove that it runs
# After reload_nginx.sh. The caller sets $stage; an empty file there means that its target is removed. Before the first
# file is touched, the way back is laid into $pending: the sentinel goes it unless the change is confirmed in time.
# shellcheck disable=SC2154
binary=$1 conf=$2 pid_file=$3 error_log=$4 port=$5 expect=$6 limit_s=$7 sudo=$8 pending=$9
shift 9
watcher=$1 confirm_s=$2

refused() {
    put_back
    rm -rf "$pending"
    printf 'result\trefused\ndetail\t%s; %s\n' "$1" "$undone"
}
# What was never confirmed is given up: whoever changes again has looked at what runs now. Where the sentinel was first,
# it is waited for: what it puts back is what this change begins from.
give_up_pending() {
    mv "$pending" "$pending.past" 2>/dev/null
    give_up=$(($(date +%s) + 4 * limit_s))
    while [ -d "$pending.back" ] && [ "$(date +%s)" -lt "$give_up" ]; do sleep 0.2; done
    rm -rf "$pending.past" "$pending.back" "$pending.next"
}
# Lay the way back, where the sentinel runs that would go it.
arm() {
    launchctl print "$watcher" >/dev/null 2>&1 || return 0
    mkdir -m 700 "$pending.next" && cp -p "$stage/targets" "$pending.next/" || return 1
    for kept in "$stage"/*.before; do [ ! -e "$kept" ] || $sudo cp -p "$kept" "$pending.next/" || return 1; done
    {
        printf "binary='%s' conf='%s' pid_file='%s' error_log='%s'\n" "$binary" "$conf" "$pid_file" "$error_log"
        printf "port='%s' limit_s='%s' sudo='%s' before='%s' expect='%s'\n" "$port" "$limit_s" "$sudo" "$before" "$expect"
        printf "deadline='%s'\n" "$(($(date +%s) + confirm_s))"
    } >"$pending.next/settings"
    mv -f "$pending.next" "$pending"
}

give_up_pending
before=$(curl -s --max-time 1 "http://127.0.0.1:$port/__rollout")
before=${before%% *}
case $before in *[!A-Za-z0-9.-]*) before= ;; w[0-9]*) ;; *) before= ;; esac # somebody else may listen there
printf 'before\t%s\n' "$before"

while IFS='	' read -r number target; do # a link stays a link: what it leads to is changed
    links=0
    while [ -L "$target" ]; do
        links=$((links + 1))
        [ "$links" -le 40 ] || {
            printf 'result\trefused\ndetail\t%s is a link that leads to itself; nothing was changed\n' "$target"
            return 0
        }
        leads_to=$(readlink "$target")
        case $leads_to in /*) target=$leads_to ;; *) target=${target%/*}/$leads_to ;; esac
    done
    printf '%s\t%s\n' "$number" "$target" >>"$stage/real"
    [ ! -e "$target" ] || $sudo cp -p "$target" "$stage/$number.before" || return 1
done <"$stage/targets"
mv -f "$stage/real" "$stage/targets"
if ! arm; then
    refused "the way back could not be laid into $pending"
    return 0
fi
while IFS='	' read -r number target; do
    if [ ! -s "$stage/$number" ]; then
        $sudo rm -f "$target"
        continue
    fi
    if ! { $sudo mkdir -p "${target%/*}" && put "$stage/$number" "$target"; }; then
        refused "cannot write $target"
        return 0
    fi
done <"$stage/targets"

if ! text=$($sudo "$binary" -t -q -e stderr -c "$conf" 2>&1); then
    refused "$(printf '%s' "$text" | tr '\n\t' '  ')"
    return 0
fi
master=$(cat "$pid_file" 2>/dev/null)
if [ -z "$master" ] || ! ps -p "$master" -o command= | grep -q 'nginx: master'; then
    put_back
    rm -rf "$pending"
    printf 'result\tstale\ndetail\tthe pid file says %s, which is no nginx master; %s\n' "${master:-nothing}" "$undone"
    return 0
fi
old_workers=$(workers | tr '\n' ' ')
log_size=$(($(wc -c <"$error_log" 2>/dev/null || echo 0)))
failure=
$sudo kill -HUP "$master" || failure="the master could not be told to reload"

if [ -z "$failure" ] && ! proven "$expect" 5; then
    failure="within $limit_s s new connections did not answer $expect"
fi
if [ -z "$failure" ] && ! replaced "$old_workers"; then
    failure="old workers$still still accept after $limit_s s"
fi
found=$(alerts)
[ -n "$found" ] && failure="${failure:+$failure; }nginx's error log: $found"

if [ -n "$failure" ]; then
    put_back
    reload_back "$before" "$expect"
    rm -rf "$pending"
    printf 'result\tnot proven\ndetail\t%s; %s\n' "$failure" "$undone"
    return 0
fi
[ -d "$pending" ] || printf 'unwatched\t%s\n' "$watcher"
printf 'draining\t%s\n' "$(ps -A -o pid=,ppid=,command= | awk -v master="$master" '$2 == master && /shutting down/' | wc -l | tr -d ' ')"
printf 'workers\t%s\n' "$(workers | tr '\n' ' ')"
printf 'result\tproven\n'
