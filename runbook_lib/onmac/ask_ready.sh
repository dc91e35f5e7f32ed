# ask whether a gateway is ready
# $1 launchd's target, $2 and $3 the URLs that say whether it is ready, and which version started
printf 'pid\t%s\n' "$(launchctl print "$1" 2>/dev/null | sed -n 's/^	pid = //p')"
printf 'ready\t%s\n' "$(curl -s --max-time 5 "$2")"
printf 'started\t%s\n' "$(curl -s --max-time 5 "$3")"
