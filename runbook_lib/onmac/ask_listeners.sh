# ask who listens on ports
# $@ ports. Prints port, pid, command, address for each listener.
for port in "$@"; do
    lsof -nP -iTCP:"$port" -sTCP:LISTEN -Fpcn 2>/dev/null | awk -v port="$port" '
        /^p/ { pid = substr($0, 2) }
        /^c/ { command = substr($0, 2) }
        /^n/ { printf "%s\t%s\t%s\t%s\n", port, pid, command, substr($0, 2) }'
done
