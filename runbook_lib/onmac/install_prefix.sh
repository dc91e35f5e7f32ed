# install the canary's packages from primary's pins
# $1 primary's prefix, $2 canary's prefix, $3 node, $4 npm, $5 package, $6 version or empty for primary's own
PATH=$(dirname "$3"):$PATH
export PATH
umask 022
mkdir -p "$2" || return 1
if [ -e "$1/package-lock.json" ]; then
    cp "$1/package.json" "$1/package-lock.json" "$2/" || return 1
    printf 'pins\tlock\n'
    cd "$2" && "$4" ci --no-audit --no-fund --loglevel=error 2>&1 || return 1
else
    version=$("$3" -p 'require(process.argv[1]).version' "$1/node_modules/$5/package.json") || return 1
    printf '{"name":"canary","private":true,"dependencies":{"%s":"%s"}}\n' "$5" "$version" >"$2/package.json"
    printf 'pins\texact %s\n' "$version"
    cd "$2" && "$4" install --save-exact --no-audit --no-fund --loglevel=error 2>&1 || return 1
fi
if [ -n "$6" ]; then
    "$4" install --save-exact --no-audit --no-fund --loglevel=error "$5@$6" 2>&1 || return 1
fi
