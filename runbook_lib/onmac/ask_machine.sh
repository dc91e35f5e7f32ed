# ask a Mac what it is, and which gateways and which nginx run on it
# Prints name<TAB>value lines. Of an environment only names are told, and the values of settings that hold no secret.
told='OPENCLAW_(STATE_DIR|CONFIG_PATH|PROFILE|HOME|GATEWAY_PORT|LAUNCHD_LABEL|SUPERVISOR_MODE|SERVICE_[A-Z]+)|HOME|PATH|TMPDIR|NODE_OPTIONS|NODE_EXTRA_CA_CERTS'
user=$(id -u)
owner() { perl -e 'my @s = stat shift; print scalar getpwuid $s[4] if @s' "$1"; }
printf 'system\t%s\t%s\t%s\n' "$(uname -s)" "$(uname -m)" "$(sw_vers -productVersion 2>/dev/null)"
printf 'user\t%s\t%s\t%s\n' "$(id -un)" "$user" "$HOME"
printf 'connection\t%s\n' "$SSH_CONNECTION"
printf 'console\t%s\n' "$(owner /dev/console)"
printf 'disk\t%s\t%s\n' "$HOME" "$(df -Pk "$HOME" | awk 'NR == 2 { print $4 }')"
printf 'sudo\t%s\n' "$(sudo -n -l 2>/dev/null | grep -c NOPASSWD)"
ifconfig -a 2>/dev/null | awk '$1 == "inet" { sub(/^addr:/, "", $2); print "address\t" $2 }'
pmset -g 2>/dev/null | awk '$1 ~ /^(sleep|disksleep|autorestart|standby)$/ { print "power\t" $1 "\t" $2 }'
for key in AutomaticallyInstallMacOSUpdates AutomaticCheckEnabled; do
    printf 'update\t%s\t%s\n' "$key" "$(defaults read /Library/Preferences/com.apple.SoftwareUpdate "$key" 2>/dev/null)"
done
# what a login shell alone knows of the network; a shell that does not come back is ended
perl -e 'alarm 10; exec @ARGV' "$SHELL" -l -c env 2>/dev/null </dev/null |
    grep -E '^(https?_proxy|HTTPS?_PROXY|no_proxy|NO_PROXY|npm_config_(registry|proxy|https_proxy|cafile)|NODE_EXTRA_CA_CERTS)=' |
    sed 's|//[^/@]*@|//***@|' | awk '{ print "login\t" $0 }'

# The words of a command, a secret among them hidden: what follows --token or --password.
hide='
    function hidden(word) {
        if (secret) { secret = 0; return "***" }
        if (word ~ /^--?(token|password|gateway-token|gateway-password)$/) secret = 1
        else if (word ~ /^--?[a-z-]*(token|password)=/) sub(/=.*/, "=***", word)
        return word
    }'

# Each property list that names OpenClaw or nginx; of its environment the names, and the values that may be told.
for folder in "$HOME/Library/LaunchAgents" /Library/LaunchAgents /Library/LaunchDaemons; do
    for file in "$folder"/*.plist; do
        grep -q -i -e openclaw -e nginx -e clawd "$file" 2>/dev/null || continue
        printf 'plist\t%s\t%s\n' "$file" "$(owner "$file")"
        plutil -convert xml1 -o - "$file" 2>/dev/null | awk -v whole="^($told)\$" "$hide"'
            skip { if (/<\/string>/) skip = 0; next }
            /<key>EnvironmentVariables<\/key>/ { environment = 1 }
            /<\/dict>/ { environment = 0 }
            /<key>/ { name = $0; sub(/.*<key>/, "", name); sub(/<\/key>.*/, "", name) }
            /<string>/ {
                word = $0; sub(/.*<string>/, "", word); sub(/<\/string>.*/, "", word)
                if (environment && name !~ whole) word = ""
                else if (name == "ProgramArguments") word = hidden(word)
                if ($0 !~ /<\/string>/) { skip = 1; if (environment) word = "" }
                $0 = "<string>" word "</string>"
            }
            { print "xml\t" $0 }'
    done
done

# Each job of theirs that is loaded, in every domain that this user may ask.
for domain in "gui/$user" "user/$user" system; do
    text=$(launchctl print "$domain" 2>&1)
    printf 'domain\t%s\t%s\n' "$domain" "$?"
    printf '%s\n' "$text" | awk '
        /^\tservices = \{/ { inside = 1; next }
        /^\t\}/ { inside = 0 }
        inside && tolower($NF) ~ /openclaw|nginx|clawd/ { print $NF }' | sort -u | while read -r label; do
        printf 'job\t%s\t%s\n' "$domain" "$label"
        launchctl print "$domain/$label" 2>/dev/null | awk -v whole="^($told)\$" "$hide"'
            /^\t\}/ { block = ""; next }
            /^\t[a-z][a-z ]* = \{/ { block = $0; sub(/^\t/, "", block); sub(/ = .*/, "", block); secret = 0; next }
            /^\t(state|pid|path|program|runs|last exit code|last terminating signal|username|stdout path) = / {
                line = $0; sub(/^\t/, "", line); name = line; sub(/ = .*/, "", name); sub(/[^=]* = /, "", line)
                print "line\t" name "\t" line
            }
            /^\t\t/ && block == "arguments" { line = $0; sub(/^\t\t/, "", line); print "argument\t" hidden(line) }
            /^\t\t[A-Za-z_][A-Za-z0-9_]* => / && block == "environment" {
                print "variable\t" $1 "\t" ($1 ~ whole ? substr($0, index($0, "=> ") + 3) : "")
            }'
    done
done

# The processes, who listens, and what the gateways have open.
ps -A -o pid=,ppid=,user=,command= | awk "$hide"'
    tolower($0) ~ /[o]penclaw|[n]ginx: master/ {
        line = $1 "\t" $2 "\t" $3 "\t"
        for (i = 4; i <= NF; i++) line = line (i == 4 ? "" : " ") hidden($i)
        secret = 0
        print "process\t" line
    }'
listeners() {
    lsof -nP -iTCP -sTCP:LISTEN -Fpcn 2>/dev/null | awk '
        /^p/ { pid = substr($0, 2) }
        /^c/ { command = substr($0, 2) }
        /^n/ { print "listen\t" pid "\t" command "\t" substr($0, 2) }'
}
listeners | sort -u
pids=$(ps -A -o pid=,command= | awk 'tolower($0) ~ /[o]penclaw/ { printf "%s%s", comma, $1; comma = "," }')
[ -z "$pids" ] || lsof -nP -a -p "$pids" -d cwd,txt,0-999 -Fpfn 2>/dev/null | awk '
    /^p/ { pid = substr($0, 2) }
    /^f/ { descriptor = substr($0, 2) }
    /^n\// && (descriptor == "cwd" || descriptor == "txt" || /\.(sqlite|log|jsonl)$/) && !/\.(dylib|so|node|so\.[0-9.]*)$/ {
        print "open\t" pid "\t" descriptor "\t" substr($0, 2)
    }' | sort -u
