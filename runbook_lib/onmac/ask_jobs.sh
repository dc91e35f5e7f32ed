# ask launchd for jobs
# $1 domain, then labels. Only a job's own lines are printed: its environment may hold secrets.
domain=$1
shift
for label in "$@"; do
    text=$(launchctl print "$domain/$label" 2>&1)
    printf 'job\t%s\t%s\n' "$label" "$?"
    printf '%s\n' "$text" | grep -E '^	(state|pid|runs|path|program|last exit code|last terminating signal) = ' ||
        printf '%s\n' "$text" | head -n 3
done
