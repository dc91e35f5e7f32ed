# give the operator's lease back
# $1 lease
rm -f "$1" && [ ! -e "$1" ]
