# make the canary's state from primary's backup
# $1 archive, $2 canary's state directory, $3 node, $4 what to change as JSON (holds no secret), $5 the program that
# changes it, then the gateway's own command. Nothing of a clone that failed stays.
archive=$1 state=$2 node=$3 wanted=$4 change=$5
shift 5
umask 077
if [ -e "$state/openclaw.json" ]; then
    printf 'result\tthere already\n'
    return 0
fi
if [ -e "$state" ] && ! rmdir "$state" 2>/dev/null; then
    printf 'result\tin the way\n'
    return 0
fi
scratch="$state.restoring"
rm -rf "$scratch"
clone() {
    mkdir -p "$scratch" && "$@" backup restore "$archive" --target "$scratch" --json >/dev/null || return 1
    config=$(find "$scratch" -path '*/payload/*' -name openclaw.json | head -n 1)
    [ -n "$config" ] || { echo "the backup holds no openclaw.json" >&2 && return 1; }
    copy=$(dirname "$config")
    told=$(printf '%s\n' "$change" | "$node" --no-warnings - "$wanted" "$copy") || return 1
    printf '%s\n' "$told"
    case "
$told" in
    *"
left	"*)
        printf 'result\trefused\n'
        return 0
        ;;
    esac
    chmod 700 "$copy" && mkdir -p "$copy/logs" "$copy/tmp" "$(dirname "$state")" && mv "$copy" "$state" &&
        printf 'result\tcloned\n'
}
clone "$@"
status=$?
rm -rf "$scratch"
return "$status"
