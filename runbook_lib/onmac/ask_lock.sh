# ask who holds this Mac
# $1 lock
[ ! -f "$1" ] || cat "$1"
