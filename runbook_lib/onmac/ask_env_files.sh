# read the files of secrets
# $1 a line to put before each, then the files; one that is not there is empty
mark=$1
shift
for path in "$@"; do
    printf '%s\n' "$mark"
    cat "$path" 2>/dev/null
done
return 0
