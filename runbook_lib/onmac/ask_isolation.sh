# ask what of primary's the canary has
# $1 node, $2 a question as JSON, $3 the program that answers it
printf '%s\n' "$3" | "$1" --no-warnings - "$2"
