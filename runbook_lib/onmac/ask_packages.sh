# ask npm for the packages of both prefixes
# $1 node, $2 npm, then prefixes
PATH=$(dirname "$1"):$PATH
export PATH
npm=$2
printf 'node\t%s\n' "$("$1" --version)"
shift 2
for prefix in "$@"; do
    printf 'tree\t%s\t' "$prefix"
    if [ -d "$prefix/node_modules" ]; then
        "$npm" ls --depth=0 --json --prefix "$prefix" 2>/dev/null | tr -d '\n\t'
    fi
    printf '\n'
done
