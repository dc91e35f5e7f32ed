# lay staged files where they belong, each in the place of what is there, unless it is there already
# $stage as proposal.staged left it, $@ the mode of each file, in order. Needs put_file.
while IFS='	' read -r number target; do
    if ! { mkdir -p "${target%/*}" && cp "$stage/$number" "$target.next" && put_file "$target" "$1"; }; then
        rm -rf "$stage"
        return 1
    fi
    shift
done <"$stage/targets"
rm -rf "$stage"
