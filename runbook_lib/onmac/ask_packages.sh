# ask npm for the packages of both prefixes
# $1 node, $2 npm, $3 package, then for each gateway its prefix and its package's folder. A prefix without a manifest is
# a global tree, with the packages of others in it: there only the gateway's own counts.
PATH=$(dirname "$1"):$PATH
export PATH
node=$1 npm=$2 package=$3
printf 'node\t%s\n' "$("$node" --version)"
shift 3
while [ $# -ge 2 ]; do
    printf 'tree\t%s\t' "$1"
    if [ -e "$1/package.json" ]; then
        "$npm" ls --depth=0 --json --prefix "$1" 2>/dev/null | tr -d '\n\t'
    elif [ -e "$2/package.json" ]; then
        "$node" -p 'const [file, name] = process.argv.slice(1);
            JSON.stringify({ dependencies: { [name]: { version: require(file).version } } })' "$2/package.json" "$package"
    fi
    printf '\n'
    shift 2
done
