# make the canary's state from primary's backup
# $1 archive, $2 canary's state directory, $3 node, $4 merge patch for openclaw.json (holds no secret),
# then the gateway's own command
archive=$1 state=$2 node=$3 patch=$4
shift 4
umask 077
if [ -e "$state/openclaw.json" ]; then
    printf 'result\tthere already\n'
    return 0
fi
if [ -e "$state" ]; then
    printf 'result\tin the way\n'
    return 0
fi
scratch="$state.restoring"
rm -rf "$scratch"
mkdir -p "$scratch" && "$@" backup restore "$archive" --target "$scratch" --json >/dev/null || return 1
copy=$(dirname "$(find "$scratch" -path '*/payload/*' -name openclaw.json | head -n 1)")
"$node" -e '
    const fs = require("node:fs"), [file, patch] = process.argv.slice(1);
    const merge = (to, from) => {
        if (from === null || typeof from !== "object" || Array.isArray(from)) return from;
        const out = to !== null && typeof to === "object" && !Array.isArray(to) ? to : {};
        for (const [key, value] of Object.entries(from)) value === null ? delete out[key] : (out[key] = merge(out[key], value));
        return out;
    };
    fs.writeFileSync(file, JSON.stringify(merge(JSON.parse(fs.readFileSync(file, "utf8")), JSON.parse(patch)), null, 2), { mode: 0o600 });
' "$copy/openclaw.json" "$patch" || return 1
# Primary's secrets and logs stay primary's.
rm -rf "$copy/service-env" "$copy/logs"
chmod 700 "$copy" && mkdir -p "$copy/logs" "$(dirname "$state")" && mv "$copy" "$state" && rm -rf "$scratch" || return 1
printf 'result\tcloned\n'
