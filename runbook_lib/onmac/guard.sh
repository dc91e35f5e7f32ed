# what the sentinel does by itself, with nobody connected
# The config sets, beside what sentinel.sh needs: run, drain_file, lease, pending, events, guarded, slim_log, canary (its
# address), primary (its address), columns (of upstream_addr and upstream_status), bets, odds, limits, error_pct.

# What it did, for the ledger. A full disk keeps nothing: what is owed is written when there is room again.
owed=
note() { # EVENT CAUSE WHAT
    owed="$owed$(date -u +%Y-%m-%dT%H:%M:%SZ)	$run	$1	$2	$3
"
}
pay() {
    [ -z "$owed" ] || { printf '%s' "$owed" >>"$events"; } 2>/dev/null && owed=
}
cannot_drain=
drain() { # CAUSE WHAT
    [ ! -f "$drain_file" ] || return 0
    # nginx looks for a file: what else lies in its place is moved aside.
    if [ -e "$drain_file" ] || [ -L "$drain_file" ]; then mv "$drain_file" "$drain_file.$(date +%s)"; fi 2>/dev/null
    # A link needs no room for content; the spare file was laid down with the sentinel.
    ln "$drain_file.spare" "$drain_file" 2>/dev/null || (: >"$drain_file") 2>/dev/null
    if [ -f "$drain_file" ]; then
        cannot_drain=
        note drained "$1" "$2"
    elif [ -z "$cannot_drain" ]; then # said once, tried at each look
        cannot_drain=yes
        note not_drained "$1" "$2, and $drain_file cannot be made"
    fi
}
# The lease: until (epoch), who, in one whole line. Without one nothing is guarded: no canary has traffic that somebody
# must answer for. One that cannot be read has lapsed.
watch_lease() {
    until='' who=''
    { IFS='	' read -r until who <"$lease"; } 2>/dev/null || until=
    case $until in
    "" | *[!0-9]* | ???????????*) drain lease "the lease cannot be read" ;;
    *) [ "$(date +%s)" -le "$until" ] || drain lease "the lease of $who lapsed" ;;
    esac
}
# The judge's own test (judging/pair.py), carried forward in $guarded: where the log was read to, how many looks there
# were, the block that is not whole yet, and per bet what it has so far, in logs.
watch_errors() {
    [ -r "$slim_log" ] || return 0
    size=$(($(wc -c <"$slim_log")))
    # shellcheck disable=SC2012  # one file, whose name the parameters' rules keep plain
    inode=$(ls -i "$slim_log" | awk '{ print $1 }')
    [ -s "$guarded" ] || { # what was there before is not looked at
        printf '%s %s 0\n' "$inode" "$size" >"$guarded"
        return 0
    }
    read -r known offset looks state <"$guarded" || return 0
    looks=$((looks + 1))
    [ "$inode" = "$known" ] && [ "$size" -ge "$offset" ] || offset=0 # rotated or cut short
    if [ "$size" -le "$offset" ]; then
        printf '%s %s %s %s\n' "$inode" "$offset" "$looks" "$state" >"$guarded"
        return 0
    fi
    tail -c "+$((offset + 1))" "$slim_log" | head -c $((size - offset)) | LC_ALL=C awk -F '\t' \
        -v canary="$canary" -v primary="$primary" -v columns="$columns" -v room=$((size - offset)) -v bets="$bets" \
        -v odds="$odds" -v limits="$limits" -v state="$state" -v place="$inode $offset $looks" '
        function add(a, b, swap) { if (a < b) { swap = a; a = b; b = swap } return b < a - 700 ? a : a + log(1 + exp(b - a)) }
        function clip(value, low, high) { return value < low ? low : value > high ? high : value }
        function close_block(    k, n, part, ahead, nth, expected, share, begins, starts_now, gain, anew, i, b) {
            k = k_c + k_p; n = n_c + n_p; canary_tried += n_c; both_tried += n
            part = n_c / n; ahead = looks_count / looks
            starts_now = -1e6
            if (k) {
                nth = starts + 1
                expected = nth * looks_count / (looks + prior * looks_count)
                if (both_tried * ahead * healthy > expected) expected = both_tried * ahead * healthy
                starts_now = -log(2) - log(clip(expected, 1, looks_count) * nth) / 2
                starts = nth
            }
            for (i = 1; i <= odds_count; i++) {
                split(odd[i], b, " ")
                worse[i] = add(worse[i], starts_now) + k_c * log(b[1]) - k * log(1 + (b[1] - 1) * part)
            }
            gain = k_c * log(reset_odds) - k * log(1 + (reset_odds - 1) * part)
            lead = (lead > 0 ? lead : 0) + gain
            anew = k_p > 0 && lead <= 0
            since_canary = anew ? 0 : since_canary + n_c; since_both = anew ? 0 : since_both + n
            begins = int(canary_tried / 10) > tens; tens = int(canary_tried / 10)
            share = 1 / clip(canary_tried * ahead / 10, 1, looks_count)
            if (begins) begun += share
            for (i = 1; i <= bets_count; i++) {
                split(bet[i], b, " ")
                stretch[i] = anew ? 0 : (stretch[i] > 0 ? stretch[i] : 0) + k_c * b[2] + (n_c - k_c) * b[3]
                if (begins) run[i] = add(run[i], log(share))
                gain = run[i] + k_c * b[4] + (n_c - k_c) * b[5]
                if (anew && run[i] < gain) gain = run[i]
                if (anew && begun < exp(gain)) gain = begun > 0 ? log(begun) : -700
                run[i] = gain
            }
            k_c = n_c = k_p = n_p = 0
            decide()
        }
        function decide(    i, b, best, total, evidence) {
            best = total = evidence = -1e6
            for (i = 1; i <= bets_count; i++) {
                split(bet[i], b, " ")
                if (b[1] + stretch[i] > best) best = b[1] + stretch[i]
                total = add(total, b[1] + run[i])
            }
            for (i = 1; i <= odds_count; i++) { split(odd[i], b, " "); evidence = add(evidence, b[2] + worse[i]) }
            if (best < needed_stretch || total < needed) return
            if (evidence >= needed) answer = "worse"
            else if (since_canary > large_share * since_both && since_canary >= large_count) answer = "alone"
        }
        BEGIN {
            split(columns, column, " "); bets_count = split(bets, bet, ";"); odds_count = split(odds, odd, ";")
            split(limits, l, " "); needed = l[1]; needed_stretch = l[2]; looks_count = l[3]; healthy = l[4]; prior = l[5]
            reset_odds = l[6]; block = l[7]; block_canary = l[8]; large_share = l[9]; large_count = l[10]
            split(place, at, " "); looks = at[3]; answer = "open"
            n = split(state, was, " ")
            all_failed = was[1] + 0; k_c = was[2] + 0; n_c = was[3] + 0; k_p = was[4] + 0; n_p = was[5] + 0
            canary_tried = was[6] + 0; both_tried = was[7] + 0; starts = was[8] + 0; tens = n ? was[9] : -1
            begun = was[10] + 0; since_canary = was[11] + 0; since_both = was[12] + 0; lead = was[13] + 0
            for (i = 1; i <= bets_count; i++) { stretch[i] = was[12 + 2 * i] + 0; run[i] = n ? was[13 + 2 * i] : -1e6 }
            for (i = 1; i <= odds_count; i++) worse[i] = n ? was[13 + 2 * bets_count + i] : -1e6
        }
        { read += length($0) + 1; if (read > room) { read -= length($0) + 1; exit } }
        {
            count = split($column[1], address, /, | : /)
            split($column[2], status, /, | : /)
            for (i = 1; i <= count; i++) {
                failed = status[i] >= 500 && status[i] <= 599
                if (address[i] == canary) { n_c++; k_c += failed; all_failed += failed }
                else if (address[i] == primary) { n_p++; k_p += failed }
            }
        }
        END {
            all_tried = canary_tried + n_c
            if (n_c + n_p >= block || n_c >= block_canary) close_block()
            for (i = 1; i <= bets_count; i++) kept = kept sprintf(" %.12g %.12g", stretch[i], run[i])
            for (i = 1; i <= odds_count; i++) kept = kept sprintf(" %.12g", worse[i])
            printf "%s %.0f %d %.0f %d %d %d %d %.0f %.0f %.0f %.0f %.12g %.0f %.0f %.12g%s\n", at[1], at[2] + read, looks, \
                all_failed, k_c, n_c, k_p, n_p, canary_tried, both_tried, starts, tens, begun, since_canary, since_both, lead, kept
            printf "%s %.0f %.0f\n", answer, all_failed, all_tried
        }' >"$guarded.next" || return 0
    { read -r line && read -r answer failed tried; } <"$guarded.next" || return 0
    printf '%s\n' "$line" >"$guarded"
    found="$failed of $tried attempts at the canary were 5xx, certainly over $error_pct %"
    case $answer in
    worse) drain errors "$found, and certainly worse than primary in the same minutes" ;;
    alone) drain errors "$found; primary had too few requests to compare with" ;;
    esac
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
    if { [ ! -e "$lease" ] && [ ! -L "$lease" ]; } || [ -f "$drain_file" ]; then
        rm -f "$guarded" # whoever gives the canary its share back begins anew
    else
        watch_lease
        watch_errors
    fi
    pay
}
