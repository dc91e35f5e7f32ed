# write the canary's env file, 0600
# $1 env file, $2 the env wrapper. The caller defines from_mac (NAME FILE KEY a line) and from_here (NAME=VALUE lines)
# and put_file as functions. Where a value is missing, the file is left as it was.
umask 077
mkdir -p "$(dirname "$1")" && chmod 700 "$(dirname "$1")" && from_here >"$1.next" || return 1
missing=$(from_mac | while IFS='	' read -r name file key; do
    value=$(/bin/sh "$2" "$file" /usr/bin/printenv "$key" 2>/dev/null)
    [ -n "$value" ] || { printf 'missing\t%s\t%s\n' "$file" "$key"; continue; }
    printf "%s='%s'\n" "$name" "$(printf '%s' "$value" | sed "s/'/'\\\\''/g")" >>"$1.next"
done)
if [ -n "$missing" ]; then
    rm -f "$1.next"
    printf '%s\n' "$missing"
    return 0
fi
put_file "$1" 600
