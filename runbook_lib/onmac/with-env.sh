#!/bin/sh
# Run a command with the variables of a 0600 env file: with-env.sh FILE COMMAND…
# Lines are NAME=VALUE, read as text and never evaluated; one pair of quotes around a value is taken off.
file=$1
shift
carriage_return=$(printf '\r')
while IFS= read -r line || [ -n "$line" ]; do
    line=${line%"$carriage_return"}
    line=${line#export }
    name=${line%%=*}
    case $line in
    [A-Za-z_]*=*) ;;
    *) continue ;;
    esac
    case $name in *[!A-Za-z0-9_]*) continue ;; esac
    value=${line#*=}
    case $value in
    \"*\") value=${value#\"} value=${value%\"} ;;
    \'*\')
        rest=${value#\'} rest=${rest%\'} value=
        while :; do # '\'' is how sh writes a quote inside of quotes
            case $rest in *"'\\''"*) ;; *) break ;; esac
            value="$value${rest%%"'\\''"*}'" rest=${rest#*"'\\''"}
        done
        value=$value$rest
        ;;
    esac
    export "$name=$value"
done <"$file"
exec "$@"
