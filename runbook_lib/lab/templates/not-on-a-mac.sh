#!/bin/sh
# Debian has this command and macOS has not: a script that leans on it must fail here, too.
echo "zsh: command not found: ${0##*/}" >&2
exit 127
