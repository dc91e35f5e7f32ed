# ask nginx which revision new connections get
# $1 probe port, $2 pid file, $3 drain file, $4 the way back of a change that is not confirmed yet, or is being taken back
printf 'answer\t%s\n' "$(curl -s --max-time 2 "http://127.0.0.1:$1/__rollout")"
master=$(cat "$2" 2>/dev/null)
printf 'master\t%s\n' "$master"
[ -n "$master" ] && ps -A -o pid=,ppid=,command= | awk -v master="$master" '
    $2 == master { printf "worker\t%s\t%s\n", $1, (/shutting down/ ? "draining" : "serving") }'
printf 'drain_file\t%s\n' "$([ -f "$3" ] && echo there || echo absent)"
for way_back in "$4" "$4.back"; do
    [ ! -f "$way_back/settings" ] || printf 'unconfirmed\t%s\n' "$(sed -n "s/.* expect='\([^']*\)'.*/\1/p" "$way_back/settings")"
done
