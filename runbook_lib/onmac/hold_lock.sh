# hold this Mac for one operator, or say who holds it
# The lock is one line, put into place whole: until (epoch), id, who, since, why. `hold` succeeds where nobody holds the
# Mac, where we do, where the other's time is over, or where $6 names the other, whose process is known to be gone. A lock
# that nobody can read holds nobody off: empty, garbled, a folder, or one that would last longer than a week.
hold() { # LOCK ID FOR_S WHO WHY [GONE]
    [ -d "${1%/*}" ] || { mkdir -p "${1%/*}" && chmod 711 "${1%/*}"; } || return 1
    now=$(date +%s)
    printf '%s\t%s\t%s\t%s\t%s\n' "$((now + $3))" "$2" "$4" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$5" >"$1.$2" || {
        printf 'unwritable\t%s\n' "$1.$2"
        return 1
    }
    held=no
    if [ ! -d "$1" ] && ln "$1.$2" "$1" 2>/dev/null; then
        held=yes
    elif await_turn "$1.turn"; then
        line=$({ tr -d '\000' <"$1"; } 2>/dev/null)
        until=${line%%	*} holder=${line#*	} holder=${holder%%	*}
        case $until in "" | *[!0-9]* | ???????????*) until=$((now + 604801)) ;; esac
        if [ ! -e "$1" ] && [ ! -L "$1" ]; then
            ln "$1.$2" "$1" 2>/dev/null && held=yes
        elif [ "$until" -gt $((now + 604800)) ]; then
            [ ! -d "$1" ] || [ -L "$1" ] || mv "$1" "$1.$now" || return 1
            printf 'taken_over\ta lock that could not be read\n'
            mv -f "$1.$2" "$1" && held=yes
        elif [ "$holder" = "$2" ] || [ "$holder" = "$6" ] || [ "$until" -le "$now" ]; then
            [ "$holder" = "$2" ] || printf 'taken_over\t%s\n' "$(printf '%s' "${line#*	}" | tr '\t' ' ')"
            mv -f "$1.$2" "$1" && held=yes
        fi
        rmdir "$1.turn"
    fi
    rm -f "$1.$2"
    [ "$held" = yes ]
}
# Only one at a time looks at another's lock and replaces it. Whoever died meanwhile is not waited for.
await_turn() {
    tries=0
    until mkdir "$1" 2>/dev/null; do
        tries=$((tries + 1))
        [ "$tries" -lt 20 ] || return 1
        [ -z "$(find "$1" -prune -mmin +1 2>/dev/null)" ] || rmdir "$1" 2>/dev/null
        sleep 0.1
    done
}
