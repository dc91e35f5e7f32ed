# ask which files a job and its children have open
# $1 domain/label. Prints pid and command of each process, then the paths of its open files.
pid=$(launchctl print "$1" 2>/dev/null | sed -n 's/^	pid = //p')
[ -n "$pid" ] || return 0
family=$(ps -A -o pid=,ppid= | awk -v root="$pid" '
    { parent[$1] = $2 }
    END {
        for (one in parent) {
            up = one
            while (up != root && up in parent && up != 1 && up != 0) up = parent[up]
            if (up == root) printf "%s%s", between, one
            if (up == root) between = ","
        }
    }')
printf 'family\t%s\n' "$family"
lsof -nP -p "$family" -Fpn 2>/dev/null | awk '
    /^p/ { pid = substr($0, 2) }
    /^n\// { print "open\t" pid "\t" substr($0, 2) }' | sort -u
return 0
