#!/bin/sh
# What sshd runs for every session: the login shell (zsh) with the environment of a Mac's, whatever the host's is.
set -- /usr/bin/env -i @ENVIRONMENT@ SSH_CONNECTION="${SSH_CONNECTION:-}"
cd "@HOME@" || exit 1
umask 022
if [ -n "${SSH_ORIGINAL_COMMAND:-}" ]; then
    exec "$@" @ZSH@ -c "$SSH_ORIGINAL_COMMAND"
fi
exec "$@" TERM="${TERM:-dumb}" @ZSH@ -l
