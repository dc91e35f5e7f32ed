# compare secrets by salted hash
# $1 salt, $2 the env wrapper, then env files. Prints file, name, hash: the values stay where they are.
salt=$1 wrapper=$2
shift 2
for file in "$@"; do
    [ -e "$file" ] || continue
    printf 'mode\t%s\t%s\n' "$file" "$(find "$file" -perm 600 | wc -l | tr -d ' ')"
    sed -n 's/^\(export \)\{0,1\}\([A-Za-z_][A-Za-z0-9_]*\)=.*/\2/p' "$file" | while IFS= read -r name; do
        value=$(/bin/sh "$wrapper" "$file" /usr/bin/printenv "$name")
        printf 'secret\t%s\t%s\t%s\n' "$file" "$name" "$(printf '%s%s' "$salt" "$value" | shasum -a 256 | cut -c 1-64)"
    done
done
