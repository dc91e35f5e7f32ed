# ask nginx for its configuration and processes
# $1 binary, $2 main configuration, $3 "sudo -n" or empty, $4 the job's plist
printf 'version\t%s\n' "$($3 "$1" -V 2>&1 | tr '\n\t' '  ')"
# The limit of this shell is not nginx's.
printf 'open_files\t%s\n' "$(plutil -extract SoftResourceLimits.NumberOfFiles raw -o - "$4" 2>/dev/null | sed -n '/^[0-9][0-9]*$/p')"
printf 'user\t%s\n' "$(id -un)"
scratch=$(mktemp -d "${TMPDIR:-/tmp}/nginx.XXXXXX") || return 1
printf 'pid %s/probe.pid; error_log stderr; events {} http { upstream a { zone a 64k; server 127.0.0.1:9 slow_start=1s; server 127.0.0.1:8; } }\n' "$scratch" >"$scratch/slow_start.conf"
if "$1" -t -e stderr -c "$scratch/slow_start.conf" >/dev/null 2>&1; then
    printf 'slow_start\tyes\n'
else
    printf 'slow_start\tno\n'
fi
$3 "$1" -T -q -e stderr -c "$2" >"$scratch/dump" 2>"$scratch/dump.err"
printf 'test_exit\t%s\n' "$?"
printf 'test_text\t%s\n' "$(tr '\n\t' '  ' <"$scratch/dump.err")"
printf 'dump\tfollows\n'
cat "$scratch/dump"
rm -rf "$scratch"
