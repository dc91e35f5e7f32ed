# write the canary's plist
# $1 the folder of its logs. Needs $stage and lay_files.
mkdir -p "$1" && plutil -lint "$stage/1" && lay_files 644
