# ask for the files of a rotated log
# $1 the log's path, $2 how many first bytes to hash. Prints path, device, inode, bytes, modified, hash, hashed bytes.
for file in "$1" "$1".*; do
    [ -f "$file" ] || continue
    case $file in
    *.gz) unpack=gzip ;; *.bz2) unpack=bzip2 ;; *.xz) unpack=xz ;;
    *.zst | *.Z | *.lz4 | *.zip)
        echo "$file is packed in a way that is not read: have it rotated with gzip, bzip2 or xz" >&2 && exit 1
        ;;
    *) unpack= ;;
    esac
    if [ -z "$unpack" ]; then
        head=$(head -c "$2" "$file" | shasum -a 256)
    elif command -v "$unpack" >/dev/null; then
        head=$("$unpack" -dc "$file" | head -c "$2" | shasum -a 256)
    else
        echo "$file needs $unpack, which is not installed here" >&2 && exit 1
    fi
    perl -e 'my ($f, $h, $n) = @ARGV; my @s = stat $f; my $b = $s[7] < $n ? $s[7] : $n;
        printf "%s\t%d\t%d\t%d\t%d\t%s\t%d\n", $f, $s[0], $s[1], $s[7], $s[9], $h, $b' "$file" "${head%% *}" "$2"
done
