# ask which schemas a gateway's databases have, and which its binary knows
# $1 node, then for each gateway: name, package folder, state directory
node=$1
shift
while [ $# -ge 3 ]; do
    printf 'known\t%s\t%s\n' "$1" "$("$node" -p '
        const { version, openclaw } = require(process.argv[1] + "/package.json");
        JSON.stringify({ version, ...openclaw?.schemaVersions })' "$2" 2>/dev/null)"
    for file in "$3/state/openclaw.sqlite" "$3"/agents/*/agent/openclaw-agent.sqlite; do
        [ -f "$file" ] || continue
        printf 'found\t%s\t%s\t%s\n' "$1" "${file#"$3/"}" "$(sqlite3 -readonly "$file" 'pragma user_version' 2>/dev/null)"
    done
    shift 3
done
