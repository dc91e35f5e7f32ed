# ask each gateway what it thinks of its own configuration
# The caller adds a line a question: one GATEWAY TOOL COMMAND…
one() {
    name=$1 tool=$2
    shift 2
    started=$(date +%s)
    text=$("$@" 2>&1)
    status=$?
    printf '%s\t%s\t%s\t%s\t%s\n' "$name" "$tool" "$status" "$(($(date +%s) - started))" \
        "$(printf '%s' "$text" | tail -n 40 | tr '\n\t' '  ')"
}
