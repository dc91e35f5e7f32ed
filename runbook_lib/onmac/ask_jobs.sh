# ask launchd for jobs
# $@ each one's domain/label. Only a job's own lines are printed: its environment may hold secrets.
for target in "$@"; do
    text=$(launchctl print "$target" 2>&1)
    printf 'job\t%s\t%s\n' "$target" "$?"
    printf '%s\n' "$text" | grep -E '^	(state|pid|runs|path|program|last exit code|last terminating signal) = ' ||
        printf '%s\n' "$text" | head -n 3
done
