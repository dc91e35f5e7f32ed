# compare secrets by salted hash
# $1 node, $2 a question as JSON, $3 the program that answers it, then env files. Prints gateway, name, hash: the values
# stay where they are. A file that is not there is not told.
node=$1 question=$2 answer=$3
shift 3
for file in "$@"; do
    [ -e "$file" ] || continue
    printf 'mode\t%s\t%s\n' "$file" "$(find "$file" -perm 600 | wc -l | tr -d ' ')"
done
printf '%s\n' "$answer" | "$node" --no-warnings - "$question"
