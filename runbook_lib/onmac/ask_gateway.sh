# ask what one gateway is made of: package, Node, npm, state, configuration, keys by kind
# $1 Node, $2 the script that it runs, $3 env file or empty, $4 state directory, $5 configuration, $6 port, then ports that
# a canary could have. Values of secrets stay on the Mac: of a configuration only its shape is told.
node=$1 entry=$2 env_file=$3 state=$4 config=$5 port=$6
shift 6
owner() { perl -e 'my @s = stat shift; print scalar getpwuid $s[4] if @s' "$1"; }
printf 'node\t%s\n' "$("$node" --version 2>/dev/null)"
# a link in a bin folder leads to the script; what the env file says of state and configuration counts
target=$(readlink "$entry")
case $target in '') ;; /*) entry=$target ;; *) entry=${entry%/*}/$target ;; esac
said() { # NAME
    [ -n "$env_file" ] && [ -f "$env_file" ] && sed -n "s/^\(export \)\{0,1\}$1=//p" "$env_file" | tail -n 1 | tr -d "'\""
}
told=$(said OPENCLAW_STATE_DIR)
state=${told:-$state}
told=$(said OPENCLAW_CONFIG_PATH)
config=${told:-${config:-$state/openclaw.json}}
printf 'configuration\t%s\n' "$config"
root=${entry%/*}
while [ -n "$root" ] && [ ! -f "$root/package.json" ]; do root=${root%/*}; done
printf 'root\t%s\t%s\t%s\n' "$root" "$(cd -P "$root" 2>/dev/null && pwd -P)" "$(owner "$root")"
[ ! -e "$root/.git" ] || printf 'git\t%s\n' "$root"
printf 'package\t%s\n' "$("$node" -p '
    const { name, version, openclaw } = require(process.argv[1] + "/package.json");
    JSON.stringify({ name, version, schemas: openclaw?.schemaVersions })' "$root" 2>/dev/null)"
case $root in */node_modules/*) printf 'beside\t%s\n' "$(find "${root%/node_modules/*}/node_modules" -mindepth 1 -maxdepth 1 ! -name '.*' | wc -l)" ;; esac
npm=${node%/*}/npm
if [ -x "$npm" ]; then
    PATH=${node%/*}:$PATH
    export PATH
    printf 'npm\t%s\t%s\n' "$npm" "$("$npm" --version 2>/dev/null)"
    "$npm" config get registry proxy https-proxy cafile 2>/dev/null | sed 's|//[^/@]*@|//***@|' | awk '{ print "setting\t" $0 }'
fi
for file in "$env_file" "$state/.env"; do
    [ -n "$file" ] && [ -f "$file" ] || continue
    printf 'env file\t%s\t%s\n' "$file" "$(find "$file" -perm 600 | wc -l | tr -d ' ')"
    awk -v told='OPENCLAW_(STATE_DIR|CONFIG_PATH|PROFILE|HOME|GATEWAY_PORT|LAUNCHD_LABEL|SUPERVISOR_MODE|SERVICE_[A-Z]+)|HOME|PATH|TMPDIR|NODE_OPTIONS|NODE_EXTRA_CA_CERTS' '
        BEGIN { whole = "^(" told ")$" }
        { sub(/^export /, "") }
        /^[A-Za-z_][A-Za-z0-9_]*=/ {
            name = $0; sub(/=.*/, "", name)
            print "env\t" name "\t" (name ~ whole ? substr($0, length(name) + 2) : "")
        }' "$file"
done
printf 'state\t%s\t%s\t%s\t%s\n' "$state" "$(owner "$state")" \
    "$(du -sk "$state" 2>/dev/null | awk '{ print $1 }')" "$(df -Pk "$state" 2>/dev/null | awk 'NR == 2 { print $4 }')"
for file in "$state/state/openclaw.sqlite" "$state"/agents/*/agent/openclaw-agent.sqlite; do
    [ -f "$file" ] || continue
    printf 'database\t%s\t%s\n' "${file#"$state/"}" "$(sqlite3 -readonly "$file" 'pragma user_version' 2>/dev/null)"
    sqlite3 -readonly -separator '	' "$file" "select 'profile', p.key, json_extract(p.value, '\$.type'), json_extract(p.value, '\$.provider')
        from config_machine_state, json_each(json_extract(value_json, '\$.profiles')) p where state_key = 'authProfiles.store'" 2>/dev/null
    sqlite3 -readonly -separator '	' "$file" "select 'profile', p.key, json_extract(p.value, '\$.type'), json_extract(p.value, '\$.provider')
        from auth_profile_store, json_each(json_extract(store_json, '\$.profiles')) p" 2>/dev/null
done
for file in "$state"/agents/*/agent/auth-profiles.json; do
    [ -f "$file" ] || continue
    "$node" -e '
        for (const [id, { type, provider }] of Object.entries(require(process.argv[1]).profiles ?? {}))
            console.log(["profile", id, type, provider].join("\t"))' "$file" 2>/dev/null
done
"$node" -e '
    const fs = require("fs"), path = require("path"), { createRequire } = require("module");
    const [root, config] = process.argv.slice(1);
    const plain = new RegExp("^(mode|bind|path|source|id|type|provider|kind|profile|basePath|primary|action|agentId|mapped|customBindHost)$");
    const secret = new RegExp("token|password|passwd|secret|api_?key|credential|cookie|authorization|^key$|private", "i");
    const variable = new RegExp("^\\$\\{[A-Z_][A-Z0-9_]*\\}$");
    const say = (...words) => console.log(words.join("\t"));
    let parse = JSON.parse;
    const own = createRequire(root + "/package.json");
    for (const name of ["json5", "./json5.mjs"]) try { parse = own(name).parse; break } catch { continue }
    function shape(value, at, file, base) {
        const key = String(at[at.length - 1] ?? ""), where = at.join(".");
        if (Array.isArray(value)) return value.forEach((one, index) => shape(one, [...at, index], file, base));
        if (value !== null && typeof value === "object") {
            if (typeof value.source === "string" && typeof value.id === "string" && Object.keys(value).length < 4)
                return say("config", where, "reference", value.source + ":" + value.id);
            for (const [name, one] of Object.entries(value)) {
                if (name === "$include") [one].flat().forEach((other) => read(path.resolve(path.dirname(file), other), at));
                else shape(one, [...at, name], file, base);
            }
        } else if (typeof value !== "string") say("config", where, "value", value);
        else if (variable.test(value)) say("config", where, "variable", value.slice(2, -1));
        else if (secret.test(key)) say("config", where, "secret", file + "#" + at.slice(base).join("."));
        else if (value.startsWith("/") || value.startsWith("~/")) say("config", where, "path", value.split("\t").join(" "));
        else say("config", where, "text", plain.test(key) || at.includes("trustedProxies") ? value.split("\t").join(" ") : "");
    }
    function read(file, at) {
        say("file", file, at.join("."));
        try {
            const text = fs.readFileSync(file, "utf8");
            try { JSON.parse(text) } catch { say("json5", file) }
            shape(parse(text), at, file, at.length);
        } catch (error) { say("unreadable", file, error.name) }
    }
    read(config, []);' "$root" "$config" 2>/dev/null
for path in startupz readyz; do
    printf 'answer\t%s\t%s\n' "$path" "$(curl -s --noproxy '*' --max-time 5 "http://127.0.0.1:$port/$path" | tr -d '\n\t' | cut -c 1-400)"
done
# a port is free where nobody answers, whoever the owner is
for candidate in "$@"; do
    curl -s --noproxy '*' -o /dev/null --max-time 2 "http://127.0.0.1:$candidate/"
    printf 'port\t%s\t%s\n' "$candidate" "$([ "$?" -eq 7 ] && echo free || echo taken)"
done
