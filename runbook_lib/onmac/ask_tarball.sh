# read the snapshot's nginx configuration
# $1 tarball, $2 the folder it was made of. As nginx -T prints it; no key and no certificate.
tar -tzf "$1" | while IFS= read -r name; do
    case $name in */ | *.key | *.pem) continue ;; esac
    printf '# configuration file %s/%s:\n' "$2" "${name#./}"
    tar -xzOf "$1" "$name"
    printf '\n'
done
