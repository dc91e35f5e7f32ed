# install the canary's packages from primary's pins
# $1 primary's prefix, $2 canary's prefix, $3 node, $4 npm, $5 package, $6 version or empty for primary's own, $7 primary's
# package folder. A prefix without a manifest is a global tree or a checkout: only the gateway's package is installed.
PATH=$(dirname "$3"):$PATH
export PATH
umask 022
mkdir -p "$2" || return 1
if [ -e "$1/package-lock.json" ]; then
    cp "$1/package.json" "$1/package-lock.json" "$2/" || return 1
    printf 'pins\tlock\n'
    cd "$2" && "$4" ci --no-audit --no-fund --loglevel=error 2>&1 || return 1
elif [ ! -e "$1/package.json" ]; then
    version=$("$3" -p 'require(process.argv[1]).version' "$7/package.json") || return 1
    printf 'pins\texact %s@%s\n' "$5" "$version"
    [ -e "$2/package.json" ] || printf '{ "name": "canary", "private": true }\n' >"$2/package.json" || return 1
    cd "$2" && "$4" install --save-exact --no-audit --no-fund --loglevel=error "$5@${6:-$version}" 2>&1 || return 1
    return 0
else
    # npm ls may complain and still say what is there
    # shellcheck disable=SC2016
    "$4" ls --depth=0 --json --prefix "$1" 2>/dev/null | "$3" -e '
        const [file, wanted] = process.argv.slice(1);
        const found = JSON.parse(require("node:fs").readFileSync(0, "utf8")).dependencies ?? {};
        const pins = Object.fromEntries(Object.entries(found).map(([name, { version }]) => [name, version]));
        if (!pins[wanted]) throw new Error(`${wanted} is not installed for primary`);
        const manifest = { name: "canary", private: true, dependencies: pins };
        require("node:fs").writeFileSync(file, JSON.stringify(manifest, null, 2));
        console.log(`pins\texact ${Object.entries(pins).map((pin) => pin.join("@")).join(" ")}`);
    ' "$2/package.json" "$5" || return 1
    cd "$2" && "$4" install --save-exact --no-audit --no-fund --loglevel=error 2>&1 || return 1
fi
if [ -n "$6" ]; then
    "$4" install --save-exact --no-audit --no-fund --loglevel=error "$5@$6" 2>&1 || return 1
fi
