#!/bin/sh
# Run a command with the variables of a 0600 env file: with-env.sh FILE COMMAND…
# Lines are NAME=VALUE, read as text and never evaluated.
file=$1
shift
while IFS= read -r line || [ -n "$line" ]; do
    line=${line#export }
    case $line in
    [A-Za-z_]*=*) ;;
    *) continue ;;
    esac
    name=${line%%=*}
    value=${line#*=}
    case $value in
    \"*\") value=${value#\"} value=${value%\"} ;;
    \'*\') value=${value#\'} value=${value%\'} ;;
    esac
    export "$name=$value"
done <"$file"
exec "$@"
