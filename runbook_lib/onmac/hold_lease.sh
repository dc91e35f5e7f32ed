# hold the operator's lease
# $1 lease, $2 for so many seconds by the Mac's own clock, $3 who
until=$(($(date +%s) + $2))
printf '%s\t%s\n' "$until" "$3" >"$1.next" && mv -f "$1.next" "$1" && printf 'until\t%s\n' "$until"
