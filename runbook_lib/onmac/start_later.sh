# start a stopped job again after a while, if nobody does, and even if the connection is lost meanwhile
# $1 to $4 as for stop_job.sh, $5 plist, $6 after so many seconds
(
    sleep "$6"
    launchctl bootstrap "$1" "$5"
) >/dev/null 2>&1 </dev/null &
