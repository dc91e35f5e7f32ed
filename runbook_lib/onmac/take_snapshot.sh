# take a snapshot and restore it into a scratch directory
# The caller sets $snap (a new directory) and $again (where an answer may have been lost), and defines keep, which calls
# keep_file, keep_wrappers, keep_state and keep_nginx for what is to be kept.
umask 077

# PATH…: whose size counts.
take() {
    [ -z "$again" ] || ! taken_already || return 0
    room "$@" || {
        printf 'result\tno room\n'
        return 0
    }
    rm -rf "$snap" && mkdir -p "$snap" || return 1 # half a snapshot of this run, left by a cut or a crash
    keep >"$snap/report.next" || {
        cat "$snap/report.next"
        return 1
    }
    finish
}

# The same snapshot, taken within the hour: told again, not taken again.
taken_already() {
    [ -n "$(find "$snap/report" -mmin -60 2>/dev/null)" ] && cat "$snap/report" && printf 'result\tthere already\n'
}

# The report last: a snapshot without it is half of one.
finish() {
    rm -rf "$snap/scratch"
    cat "$snap/report.next"
    grep -q '^state	[^	]*	failed' "$snap/report.next" || mv -f "$snap/report.next" "$snap/report"
    printf 'result\tkept\n'
}

# Is there room? A backup, its restored copy and as much again, or nothing is written.
room() {
    needed=0
    for path in "$@"; do
        [ -e "$path" ] && needed=$((needed + $(du -sk "$path" | cut -f 1)))
    done
    needed=$((needed * 3 + 51200))
    place=$snap
    while [ ! -d "$place" ]; do place=$(dirname "$place"); done
    available=$(df -Pk "$place" | awk 'NR == 2 { print $4 }')
    printf 'room\t%s\t%s\n' "$needed" "$available"
    [ "$available" -gt "$needed" ]
}

# NAME PATH: one file, copied with its mode.
keep_file() {
    if [ -e "$2" ]; then
        mkdir -p "$snap/files/$1" && cp -p "$2" "$snap/files/$1/" &&
            printf 'kept\t%s\t%s\t%s\t%s\n' "$1" "$2" "$(shasum -a 256 <"$2" | cut -c 1-64)" "$(shasum -a 256 <"$snap/files/$1/${2##*/}" | cut -c 1-64)"
    else
        printf 'kept\t%s\t%s\tabsent\tabsent\n' "$1" "$2"
    fi
}

# NAME DIRECTORY: the wrapper that OpenClaw's installer put beside an env file.
keep_wrappers() {
    for file in "$2"/*.sh; do
        [ ! -e "$file" ] || keep_file "$1" "$file"
    done
}

# DIRECTORY: the whole nginx configuration as a tarball, unpacked again and compared.
keep_nginx() {
    COPYFILE_DISABLE=1 tar -czf "$snap/nginx.tar.gz" -C "$1" . && mkdir -p "$snap/scratch/nginx" &&
        tar -xzf "$snap/nginx.tar.gz" -C "$snap/scratch/nginx" || return 1
    hashes nginx live "$1"
    hashes nginx restored "$snap/scratch/nginx"
    printf 'archive\tnginx\t%s\t%s\t%s\n' "$snap/nginx.tar.gz" "$(shasum -a 256 <"$snap/nginx.tar.gz" | cut -c 1-64)" "$(($(wc -c <"$snap/nginx.tar.gz")))"
}

# NAME KIND DIRECTORY: a line with the hash of each file.
hashes() {
    (cd "$3" && find . -type f -exec shasum -a 256 {} +) | sed "s/^\([0-9a-f]*\)  /hash	$1	$2	\1	/"
}

# NAME KIND DIRECTORY: a line for each SQLite database, with its integrity, schema version and number of tables.
databases() {
    (cd "$3" && find . -type f -size +0 ! -name '*-wal' ! -name '*-shm') | while IFS= read -r file; do
        [ "$(head -c 15 "$3/$file" | tr -d '\000')" = "SQLite format 3" ] || continue
        printf 'database\t%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$file" \
            "$(sqlite3 -readonly "$3/$file" 'pragma integrity_check' 2>&1 | head -n 1)" \
            "$(sqlite3 -readonly "$3/$file" 'pragma user_version' 2>&1 | head -n 1)" \
            "$(sqlite3 -readonly "$3/$file" 'select count(*) from sqlite_master' 2>&1 | head -n 1)"
    done
}

# FILE…: what a command said that failed, in one line.
said() {
    cat "$@" | { grep -iE 'error|fail|refus|cannot|invalid|denied' || cat "$@" | tail -n 3; } | head -n 3 | tr '\n\t' '  '
}

# NAME STATE COMMAND…: a gateway's state by the gateway's own backup, restored beside it.
keep_state() {
    name=$1 state=$2
    shift 2
    if [ ! -d "$state" ]; then
        printf 'state\t%s\tabsent\n' "$name"
        return 0
    fi
    mkdir -p "$snap/state/$name" "$snap/scratch/$name" && : >"$snap/$name.started"
    started=$(date +%s)
    if ! "$@" backup create --output "$snap/state/$name" --verify --json >"$snap/$name.backup.json" 2>"$snap/$name.err"; then
        printf 'state\t%s\tfailed\t%s\n' "$name" "$(said "$snap/$name.err" "$snap/$name.backup.json")"
        return 0
    fi
    copied=$(date +%s)
    archive=$(find "$snap/state/$name" -name '*.tar.gz')
    "$@" backup restore "$archive" --target "$snap/scratch/$name" --json >"$snap/$name.restore.json" 2>"$snap/$name.err" || {
        printf 'state\t%s\tfailed\trestore: %s\n' "$name" "$(said "$snap/$name.err" "$snap/$name.restore.json")"
        return 0
    }
    restored=$(date +%s)
    copy=$(dirname "$(find "$snap/scratch/$name" -path '*/payload/*' -name openclaw.json | head -n 1)")
    printf 'archive\t%s\t%s\t%s\t%s\n' "$name" "$archive" "$(shasum -a 256 <"$archive" | cut -c 1-64)" "$(($(wc -c <"$archive")))"
    printf 'took\t%s\t%s\t%s\n' "$name" "$((copied - started))" "$((restored - copied))"
    hashes "$name" restored "$copy"
    hashes "$name" live "$state"
    (cd "$state" && find . -type f -newer "$snap/$name.started") | sed "s/^/changing	$name	/"
    databases "$name" restored "$copy"
    databases "$name" live "$state"
    printf 'state\t%s\tkept\n' "$name"
}
