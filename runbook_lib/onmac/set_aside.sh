# set the canary aside
# $1 the snapshot's folder, $2 plist, $3 state, $4 drain file
aside="$1/aside" number=1
while [ -e "$aside-$number" ]; do number=$((number + 1)); done
mkdir -p "$aside-$number" || return 1
for path in "$2" "$3"; do
    [ ! -e "$path" ] || mv "$path" "$aside-$number/" || return 1
done
rm -f "$4" && printf 'result\taside\n'
