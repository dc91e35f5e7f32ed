# remove files after a job was stopped
# $1 to $4 as for stop_job.sh, then the files
shift 4
rm -f "$@"
