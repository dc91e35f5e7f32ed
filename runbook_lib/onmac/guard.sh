# what the sentinel does by itself, with nobody connected
# The config sets, beside what sentinel.sh needs: run, drain_file, lease, pending, events, guarded, slim_log, canary (its
# address), columns (of upstream_addr and upstream_status), bets, needed, needed_stretch, starts, error_pct.

# What it did, for the ledger. A full disk keeps nothing: what is owed is written when there is room again.
owed=
note() { # EVENT CAUSE WHAT
    owed="$owed$(date -u +%Y-%m-%dT%H:%M:%SZ)	$run	$1	$2	$3
"
}
pay() {
    [ -z "$owed" ] || { printf '%s' "$owed" >>"$events"; } 2>/dev/null && owed=
}
drain() { # CAUSE WHAT
    [ ! -e "$drain_file" ] || return 0
    # A link needs no room for content; the spare file was laid down with the sentinel.
    ln "$drain_file.spare" "$drain_file" 2>/dev/null || : >"$drain_file"
    note drained "$1" "$2"
}
# The lease: until (epoch), who. Without one nothing is guarded: no canary has traffic that somebody must answer for.
watch_lease() {
    IFS='	' read -r until who <"$lease" || return 0
    [ "$(date +%s)" -le "$until" ] || drain lease "the lease of $who lapsed"
}
# The judge's own test (statistics.excess), carried forward in $guarded: per bet the stretch and the whole run, in logs.
watch_errors() {
    [ -r "$slim_log" ] || return 0
    size=$(($(wc -c <"$slim_log")))
    # shellcheck disable=SC2012  # one file, whose name the parameters' rules keep plain
    inode=$(ls -i "$slim_log" | awk '{ print $1 }')
    [ -s "$guarded" ] || printf '%s %s\n' "$inode" "$size" >"$guarded" # what was there before is not looked at
    read -r known offset state <"$guarded" || return 0
    [ "$inode" = "$known" ] && [ "$size" -ge "$offset" ] || offset=0 # rotated or cut short
    [ "$size" -gt "$offset" ] || return 0
    tail -c "+$((offset + 1))" "$slim_log" | head -c $((size - offset)) | LC_ALL=C awk -F '\t' \
        -v canary="$canary" -v columns="$columns" -v room=$((size - offset)) -v bets="$bets" -v needed="$needed" \
        -v needed_stretch="$needed_stretch" -v starts="$starts" -v state="$state" -v place="$inode $offset" '
        function add(a, b, swap) { if (a < b) { swap = a; a = b; b = swap } return b < a - 700 ? a : a + log(1 + exp(b - a)) }
        BEGIN { split(columns, column, " ") }
        { read += length($0) + 1; if (read > room) { read -= length($0) + 1; exit } }
        {
            count = split($column[1], address, /, | : /)
            split($column[2], status, /, | : /)
            for (i = 1; i <= count; i++) if (address[i] == canary) { tried++; if (status[i] >= 500 && status[i] <= 599) failed++ }
        }
        END {
            split(place, at, " "); parts = split(bets, bet, ";")
            n = split(state, was, " ")  # tried, failed, the last start, then stretch and run for each bet
            before = was[1] + 0; all_tried = before + tried; all_failed = was[2] + failed
            tens = int(before / 10); begins = n == 0 || tens > was[3]
            best = total = -1e6
            for (j = 1; j <= parts; j++) {
                split(bet[j], b, " ")
                stretch = n ? was[2 + 2 * j] : 0; run = n ? was[3 + 2 * j] : -1e6
                if (stretch < 0) stretch = 0
                if (begins) run = add(run, -log(starts))
                stretch += failed * b[2] + (tried - failed) * b[3]
                run += failed * b[4] + (tried - failed) * b[5]
                if (b[1] + stretch > best) best = b[1] + stretch
                total = add(total, b[1] + run)
                kept = kept sprintf(" %.9g %.9g", stretch, run)
            }
            printf "%s %.0f %.0f %.0f %d%s\n", at[1], at[2] + read, all_tried, all_failed, tens, kept
            printf "%s %.0f %.0f\n", (best >= needed_stretch && total >= needed ? "certain" : "open"), all_failed, all_tried
        }' >"$guarded.next" || return 0
    { read -r line && read -r answer failed tried; } <"$guarded.next" || return 0
    printf '%s\n' "$line" >"$guarded"
    [ "$answer" != certain ] || drain errors "$failed of $tried attempts at the canary were 5xx, certainly over $error_pct %"
}
lapsed() { # WAY-BACK
    [ -f "$1/settings" ] || return 1
    deadline=$(sed -n "s/^deadline='\([0-9]*\)'$/\1/p" "$1/settings" 2>/dev/null)
    [ -n "$deadline" ] && [ "$(date +%s)" -gt "$deadline" ]
}
# A change of nginx that nobody confirmed in time. It is put aside first: whoever changes nginx now either was there
# before, and there is nothing to take back, or waits. What lies aside already was left by a sentinel that died over it.
watch_pending() {
    if [ ! -d "$pending.back" ]; then
        lapsed "$pending" && mv "$pending" "$pending.back" 2>/dev/null || return 0
        lapsed "$pending.back" || { mv "$pending.back" "$pending"; return 0; } # another came in its place
    fi
    said=$(/bin/sh "${0%/*}/revert_nginx.sh" "$pending.back" 2>&1)
    note reverted unconfirmed "$said"
    case $said in *NOT*) drain unconfirmed "$said" ;; esac
}
guard() {
    watch_pending
    if [ ! -s "$lease" ] || [ -e "$drain_file" ]; then
        rm -f "$guarded" # whoever gives the canary its share back begins anew
    else
        watch_lease
        watch_errors
    fi
    pay
}
