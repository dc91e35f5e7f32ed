# ask how one public way to a gateway looks from this Mac, and what came in by it lately
# $1 host name, $2 port, $3 path of the hooks, then the access logs. Of a log only paths, times and senders are counted.
name=$1 port=$2 hooks=$3
shift 3
curl -sS --noproxy '*' -o /dev/null --max-time 5 --resolve "$name:$port:127.0.0.1" "https://$name:$port/healthz" 2>/dev/null
printf 'trust\t%s\n' "$?"
for log in "$@"; do
    for file in "$log" "$log".[0-9]* "${log%.log}"-*.log; do
        [ -f "$file" ] && [ -r "$file" ] || continue
        case $file in *.gz) continue ;; esac
        [ -n "$(find "$file" -mtime -7)" ] || continue
        printf 'log\t%s\t%s\t%s\n' "$file" "$(wc -c <"$file" | tr -d ' ')" "$(wc -l <"$file" | tr -d ' ')"
        for end in head tail; do
            "$end" -n 1 "$file" | awk -v end="$end" '
                match($0, /[0-9][0-9]\/[A-Z][a-z][a-z]\/[0-9][0-9][0-9][0-9]:[0-9:]* [-+][0-9]*/) ||
                match($0, /[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9:.]*[-+Z0-9:]*/) ||
                match($0, /1[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]\.[0-9][0-9][0-9]/) { print end "\t" substr($0, RSTART, RLENGTH) }'
        done
    done
    [ -f "$log" ] && [ -r "$log" ] || continue
    # the last 20 MB say what comes in; a path's query, and what looks like an id in it, are not told
    tail -c 20000000 "$log" | LC_ALL=C awk -v hooks="$hooks" '
        {
            lines++
            if (!match($0, /(GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS) \/[^ "?]*/)) next
            request = substr($0, RSTART, RLENGTH)
            split(request, part, " ")
            path = part[2]
            gsub(/\/[A-Za-z0-9_-]*[0-9][0-9][0-9][0-9][A-Za-z0-9_-]*/, "/*", path)
            if (index(path, hooks) != 1) { others++; next }
            count[part[1] " " path]++
            if (/GitHub-Hookshot/) sender = "GitHub"
            else if (/Stripe\//) sender = "Stripe"
            else if (/Slackbot/) sender = "Slack"
            else if (/TelegramBot/) sender = "Telegram"
            else if (/Shopify/) sender = "Shopify"
            else if (/Svix-Webhooks/) sender = "Svix"
            else if (/GitLab/) sender = "GitLab"
            else sender = "another"
            from[path "\t" sender]++
        }
        END {
            print "lines\t" lines + 0 "\t" others + 0
            for (key in count) print "path\t" key "\t" count[key]
            for (key in from) print "sender\t" key "\t" from[key]
        }' | sort
done
return 0
