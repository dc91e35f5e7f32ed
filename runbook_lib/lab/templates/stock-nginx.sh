#!/bin/sh
# The host's nginx as Homebrew builds it: Homebrew's paths built in, and its own path in the process list.
if [ "$*" = -V ]; then
    exec 3>&1
    "@REAL@" -V 2>&1 >&3 | /bin/sed -e 's|--prefix=[^ ]*|--prefix=@BREW@/Cellar/nginx|' \
        -e 's|--conf-path=[^ ]*|--conf-path=@BREW@/etc/nginx/nginx.conf|' \
        -e 's|--http-log-path=[^ ]*|--http-log-path=@BREW@/var/log/nginx/access.log|' \
        -e 's|--error-log-path=[^ ]*|--error-log-path=@BREW@/var/log/nginx/error.log|' \
        -e 's|--pid-path=[^ ]*|--pid-path=@BREW@/var/run/nginx.pid|' >&2
    exit
fi
exec /usr/bin/perl -e 'my $real = shift; exec { $real } @ARGV' "@REAL@" "$0" \
    -p "@BREW@" -c "@BREW@/etc/nginx/nginx.conf" -e "@BREW@/var/log/nginx/error.log" "$@"
