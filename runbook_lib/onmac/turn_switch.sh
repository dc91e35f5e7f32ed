# turn the kill switch and ask nginx what it says of it
# $1 drain file, $2 pull or put_back, $3 URL where nginx tells its revision
case $2 in
pull) touch "$1" && [ -f "$1" ] ;;
*) rm -f "$1" && [ ! -e "$1" ] ;;
esac || return 1
printf 'answer\t%s\n' "$(curl -s --max-time 2 "$3")"
