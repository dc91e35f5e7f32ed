# end the wait for a process that cannot obey a signal
# Defines functions: a stopped process (SIGSTOP, Ctrl-Z) is continued, one that no longer answers is killed.
pid_of() { # DOMAIN/LABEL
    launchctl print "$1" 2>/dev/null | sed -n 's/^	pid = //p'
}

continue_stopped() { # PID
    case $(ps -o stat= -p "${1:-0}") in *T*) kill -CONT "$1" && printf 'continued\t%s\n' "$1" ;; esac
}

# A refused connection is an ending process; one that is taken and never answered is a hung one.
is_hung() { # URL
    curl -s -o /dev/null --max-time 3 "$1"
    [ "$?" -eq 28 ]
}

kill_hung() { # PID URL
    if [ -n "$1" ] && is_hung "$2" && is_hung "$2"; then
        kill -KILL "$1" && printf 'killed\t%s\n' "$1"
    fi
}
