# ask what the Mac recorded last
# $1 the sentinel's samples, $2 how many bytes of them, $3 the judge's log, $4 how many bytes of it, $5 the drain file.
# Prints sample, log (each followed by the line) and drain_file.
tail -c "$2" "$1" 2>/dev/null | awk '{ print "sample\t" $0 }'
tail -c "$4" "$3" 2>/dev/null | awk '{ print "log\t" $0 }'
printf 'drain_file\t%s\n' "$([ -e "$5" ] && echo there || echo absent)"
