# change nginx's configuration and prove that it runs
# The caller sets $stage, a directory of files 1, 2, … whose targets stand in $stage/targets; an empty file means
# that its target is removed. Exit codes are never believed: a reload counts when new connections answer the new
# revision and the old workers are gone or draining. Temporaries are hidden files: nginx includes all others.
# shellcheck disable=SC2154
binary=$1 conf=$2 pid_file=$3 error_log=$4 port=$5 expect=$6 limit_s=$7 sudo=$8

workers() {
    ps -A -o pid=,ppid=,command= | awk -v master="$master" '$2 == master && /nginx/ && !/shutting down/ { print $1 }'
}
# Put file $1 in the place of $2, with the mode and owner that $2 has, so that no reader sees half of it.
put() {
    next=${2%/*}/.${2##*/}.next
    if [ -e "$2" ]; then $sudo cp -p "$2" "$next" || return 1; fi
    $sudo cp "$1" "$next" && $sudo mv -f "$next" "$2" && $sudo cmp -s "$1" "$2"
}
put_back() {
    undone="the old files are back"
    while IFS='	' read -r number target; do
        if [ -e "$stage/$number.before" ]; then
            $sudo cmp -s "$stage/$number.before" "$target" || put "$stage/$number.before" "$target"
        else
            $sudo rm -f "$target"
        fi || undone="$target could NOT be put back: look at once"
    done <"$stage/targets"
}
refused() {
    put_back
    printf 'result\trefused\ndetail\t%s; %s\n' "$1" "$undone"
}
alerts() {
    tail -c "+$((log_size + 1))" "$error_log" 2>/dev/null | grep -E '\[(emerg|alert)\]' | head -n 3 | tr '\n\t' '  '
}
# Wait until $2 new connections in a row answer revision $1 (`none`: nothing answers; `not X`: anything but X).
proven() {
    in_a_row=0 give_up=$(($(date +%s) + limit_s))
    while [ "$(date +%s)" -lt "$give_up" ]; do
        answer=$(curl -s --max-time 1 "http://127.0.0.1:$port/__rollout" || echo none)
        case "$1" in
        'not '*) if [ "${answer%% *}" != "${1#not }" ]; then in_a_row=$((in_a_row + 1)); else in_a_row=0; fi ;;
        *) if [ "${answer%% *}" = "$1" ]; then in_a_row=$((in_a_row + 1)); else in_a_row=0; fi ;;
        esac
        [ "$in_a_row" -ge "$2" ] && return 0
        [ "$in_a_row" -gt 0 ] && continue
        [ -n "$(alerts)" ] && return 1
        sleep 0.1
    done
    return 1
}

# Wait until none of the workers $1 accepts any more; those that do are left in $still.
replaced() {
    give_up=$(($(date +%s) + limit_s))
    while [ "$(date +%s)" -lt "$give_up" ]; do
        still=
        for pid in $(workers); do
            case " $1 " in *" $pid "*) still="$still $pid" ;; esac
        done
        [ -z "$still" ] && return 0
        sleep 0.1
    done
    return 1
}

before=$(curl -s --max-time 1 "http://127.0.0.1:$port/__rollout")
before=${before%% *}
case $before in w[0-9]*) ;; *) before= ;; esac # somebody else may listen there
printf 'before\t%s\n' "$before"

while IFS='	' read -r number target; do # a link stays a link: what it leads to is changed
    while [ -L "$target" ]; do
        leads_to=$(readlink "$target")
        case $leads_to in /*) target=$leads_to ;; *) target=${target%/*}/$leads_to ;; esac
    done
    printf '%s\t%s\n' "$number" "$target" >>"$stage/real"
    [ ! -e "$target" ] || $sudo cp -p "$target" "$stage/$number.before" || return 1
done <"$stage/targets"
mv -f "$stage/real" "$stage/targets"
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

if ! text=$($sudo "$binary" -t -q -c "$conf" 2>&1); then
    refused "$(printf '%s' "$text" | tr '\n\t' '  ')"
    return 0
fi
master=$(cat "$pid_file" 2>/dev/null)
if [ -z "$master" ] || ! ps -p "$master" -o command= | grep -q 'nginx: master'; then
    put_back
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
    log_size=$(($(wc -c <"$error_log" 2>/dev/null || echo 0)))
    # nginx tries a taken port for 2.5 s before it gives a reload up: what runs now is settled by the second one alone
    old_workers=$(workers | tr '\n' ' ')
    $sudo kill -HUP "$master"
    replaced "$old_workers"
    if [ -n "$before" ]; then
        proven "$before" 5 && undone="$undone and $before answers" || undone="$undone but $before does NOT answer: look at once"
    else
        proven "not $expect" 2 && undone="$undone and run" || undone="$undone but $expect still answers: look at once"
    fi
    printf 'result\tnot proven\ndetail\t%s; %s\n' "$failure" "$undone"
    return 0
fi
printf 'draining\t%s\n' "$(ps -A -o pid=,ppid=,command= | awk -v master="$master" '$2 == master && /shutting down/' | wc -l | tr -d ' ')"
printf 'workers\t%s\n' "$(workers | tr '\n' ' ')"
printf 'result\tproven\n'
