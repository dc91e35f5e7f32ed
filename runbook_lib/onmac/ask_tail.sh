# read the end of a log
# $1 file; nothing where there is none
tail -c 4000 "$1" 2>/dev/null
return 0
