# restore primary's state
# $1 archive, $2 state, then the gateway's own command. What is there now is kept beside it.
archive=$1 state=$2
shift 2
umask 077
scratch="$state.restoring"
rm -rf "$scratch"
mkdir -p "$scratch" && "$@" backup restore "$archive" --target "$scratch" --json >/dev/null || return 1
copy=$(dirname "$(find "$scratch" -path '*/payload/*' -name openclaw.json | head -n 1)")
number=1
while [ -e "$state.before-rollback-$number" ]; do number=$((number + 1)); done
mv "$state" "$state.before-rollback-$number" && mv "$copy" "$state" || return 1
chmod 700 "$state" && rm -rf "$scratch" || return 1
printf 'result\trestored\n'
