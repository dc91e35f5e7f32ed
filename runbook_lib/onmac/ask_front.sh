# ask one nginx for its version and its whole configuration
# $1 binary, $2 "sudo -n" or empty, then the words that it was started with, -g left out
binary=$1 sudo=$2
shift 2
printf 'version\t%s\n' "$("$binary" -V 2>&1 | tr '\n\t' '  ')"
printf 'owner\t%s\n' "$(perl -e 'my @s = stat shift; print scalar getpwuid $s[4] if @s' "$binary")"
scratch=$(mktemp -d "${TMPDIR:-/tmp}/front.XXXXXX") || return 1
$sudo "$binary" "$@" -T -q >"$scratch/dump" 2>"$scratch/dump.err"
printf 'test_exit\t%s\n' "$?"
printf 'test_text\t%s\n' "$(tr '\n\t' '  ' <"$scratch/dump.err")"
# a folder that this user may not write into needs sudo for the two files that the runbook renders
sed -n 's/^# configuration file \(.*\):$/\1/p' "$scratch/dump" | while IFS= read -r file; do
    printf 'file\t%s\t%s\n' "$file" "$([ -w "$file" ] && [ -w "${file%/*}" ] && echo ours || echo not ours)"
done
printf 'dump\tfollows\n'
cat "$scratch/dump"
rm -rf "$scratch"
