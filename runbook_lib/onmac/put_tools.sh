# put the runbook's tools on the Mac
# $1 the runbook's folder, $2 its snapshots. Needs $stage and lay_files. nginx's worker looks into $1 for the drain file.
umask 077
mkdir -p "$1" "$2" && chmod 711 "$1" && lay_files 755
