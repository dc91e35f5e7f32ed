# ask for the files of a rotated log
# $1 the log's path, $2 how many first bytes to hash. Prints path, device, inode, bytes, modified, hash, hashed bytes.
for file in "$1" "$1".*; do
    [ -f "$file" ] || continue
    case $file in *.gz) head=$(gzip -dc "$file" | head -c "$2" | shasum -a 256) ;; *) head=$(head -c "$2" "$file" | shasum -a 256) ;; esac
    perl -e 'my ($f, $h, $n) = @ARGV; my @s = stat $f; my $b = $s[7] < $n ? $s[7] : $n;
        printf "%s\t%d\t%d\t%d\t%d\t%s\t%d\n", $f, $s[0], $s[1], $s[7], $s[9], $h, $b' "$file" "${head%% *}" "$2"
done
