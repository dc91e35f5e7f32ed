# the parts of a proven reload, for a change and for what takes it back
# Exit codes are never believed: a reload counts when new connections answer the new revision and the old workers
# are gone or draining. Temporaries are hidden files: nginx includes all others. The caller sets $stage, a directory
# of files 1, 2, … whose targets stand in $stage/targets, and binary, conf, pid_file, error_log, port, limit_s, sudo.
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
alerts() {
    tail -c "+$((log_size + 1))" "$error_log" 2>/dev/null | grep -E "\[(emerg|alert)\] $master#" | head -n 3 | tr '\n\t' '  '
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

# Reload once more with the files that are back, and prove that revision $1 answers again (empty: not $2).
reload_back() {
    log_size=$(($(wc -c <"$error_log" 2>/dev/null || echo 0)))
    # nginx tries a taken port for 2.5 s before it gives a reload up: what runs now is settled by the second one alone
    old_workers=$(workers | tr '\n' ' ')
    $sudo kill -HUP "$master"
    replaced "$old_workers"
    if [ -n "$1" ]; then
        proven "$1" 5 && undone="$undone and $1 answers" || undone="$undone but $1 does NOT answer: look at once"
    else
        proven "not $2" 2 && undone="$undone and run" || undone="$undone but $2 still answers: look at once"
    fi
}
