# let go of this Mac
# $1 lock, $2 the id that holds it
IFS='	' read -r until holder others <"$1" 2>/dev/null || return 0
[ "$holder" != "$2" ] || rm -f "$1"
