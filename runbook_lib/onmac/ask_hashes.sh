# hash files
# $@ files; none for one that is not there
for path in "$@"; do
    [ ! -e "$path" ] || shasum -a 256 "$path"
done
