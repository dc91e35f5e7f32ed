# take back a change of nginx that nobody confirmed in time
# After reload_nginx.sh. $1: the way back that change_nginx.sh laid. Prints what came of it, one line.
stage=$1
# shellcheck disable=SC1091
. "$stage/settings"
# shellcheck disable=SC2154
put_back
master=$(cat "$pid_file" 2>/dev/null)
if [ -n "$master" ] && ps -p "$master" -o command= | grep -q 'nginx: master'; then
    reload_back "$before" "$expect"
fi
printf '%s was not confirmed; %s\n' "$expect" "$undone"
rm -rf "$stage"
