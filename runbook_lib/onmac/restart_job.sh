# restart a launchd job
# $1 domain/label, $2 URL that it answers while it lives
pid=$(pid_of "$1")
continue_stopped "$pid"
kill_hung "$pid" "$2"
launchctl kickstart -k "$1" && printf 'result\tloaded\n'
