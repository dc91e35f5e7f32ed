# what every script begins with, whatever the login shell's files have set before it
# A proxy is for the way out, never for loopback; ~/.curlrc is for a person.
PATH=$PATH:/usr/bin:/bin:/usr/sbin:/sbin
unset CDPATH
curl() { command curl -q --noproxy '*' "$@"; }
