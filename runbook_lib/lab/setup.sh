#!/bin/sh
# Make a bare Debian 12 (root or sudo) or a macOS with Homebrew ready for `make demo` and `make test`: the commands
# the practice Mac needs, a browser for the tests of the pages, and .venv from requirements.lock. Says what it installs; silent when nothing is missing.
set -eu
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
UV=uv==0.13.9 # installs the locked packages in a tenth of the time pip takes, which is used where uv cannot be had
stamp=.venv/ready

say() { printf 'setup: %s\n' "$*"; }
has() { command -v "$1" >/dev/null 2>&1; }
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }
fingerprint() { cat requirements.lock pyproject.toml runbook_lib/lab/setup.sh | cksum; }

# command:package, as Debian has it
debian_commands='nginx:nginx sshd:openssh-server ssh:openssh-client ssh-keygen:openssh-client rsync:rsync
    sqlite3:sqlite3 zsh:zsh lsof:lsof curl:curl shasum:perl ps:procps visudo:sudo
    chromium:chromium'

missing_on_debian() {
    for pair in $debian_commands; do
        has "${pair%%:*}" || printf '%s\n' "${pair#*:}"
    done
    find_python >/dev/null || printf 'python3\npython3-venv\n'
}

# A Python that is new enough and can make environments: Debian's own lacks ensurepip without python3-venv.
find_python() {
    for name in python3.13 python3.12 python3.11 python3 /opt/homebrew/bin/python3 /usr/local/bin/python3; do
        if has "$name" && "$name" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
        then
            printf '%s\n' "$name"
            return
        fi
    done
    return 1
}

# The browser that opens the pages in tests: on macOS Chrome where it is installed, else Playwright's own Chromium.
has_browser() {
    [ "$(uname -s)" != Darwin ] || [ -d "/Applications/Google Chrome.app" ] ||
        [ -n "$(ls -d "$HOME"/Library/Caches/ms-playwright/chromium-* 2>/dev/null)" ]
}

quietly() {
    "$@" >"$log" 2>&1 || { cat "$log" >&2; say "failed: $*" >&2; exit 1; }
}

# Debian starts a service as soon as it is installed, and at every boot; the practice Mac starts its own.
install_on_debian() {
    say "installing with apt-get: $*"
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        policy=/usr/sbin/policy-rc.d
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
    fi
    quietly as_root apt-get -q update
    quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "$@"
    if [ -d /run/systemd/system ]; then
        for package in "$@"; do
            case $package in
            nginx) quietly as_root systemctl disable nginx ;;
            openssh-server) quietly as_root systemctl disable ssh ;;
            esac
        done
        say "Debian's own nginx and ssh services are not started, if they were installed now"
    fi
}

install_commands() {
    case $(uname -s) in
    Darwin)
        formulas=
        has nginx || formulas=nginx
        find_python >/dev/null || formulas="$formulas python@3.12"
        [ -z "$formulas" ] && return
        has brew || { say "needs Homebrew (https://brew.sh) for: $formulas" >&2; exit 1; }
        say "installing with Homebrew: $formulas"
        # shellcheck disable=SC2086 # one word a formula
        quietly brew install --quiet $formulas
        ;;
    *)
        packages=$(missing_on_debian | sort -u | tr '\n' ' ')
        [ -z "$packages" ] && return
        has apt-get || { say "no apt-get here; install by hand: $packages" >&2; exit 1; }
        # shellcheck disable=SC2086 # one word a package
        install_on_debian $packages
        ;;
    esac
}

install_environment() {
    if ! .venv/bin/python -c '' 2>/dev/null; then
        say "making .venv with $(find_python)"
        quietly "$(find_python)" -m venv --clear .venv
    fi
    [ "$(fingerprint)" = "$(cat "$stamp" 2>/dev/null)" ] && return
    say "installing $(grep -c '^[a-z].*==' requirements.lock) Python packages from requirements.lock into .venv"
    if .venv/bin/uv --version >/dev/null 2>&1 || .venv/bin/python -m pip -q install "$UV" >"$log" 2>&1; then
        quietly env VIRTUAL_ENV="$PWD/.venv" .venv/bin/uv pip install --compile-bytecode --require-hashes -r requirements.lock
        quietly env VIRTUAL_ENV="$PWD/.venv" .venv/bin/uv pip install --no-deps -e .
    else
        quietly .venv/bin/python -m pip -q install --require-hashes -r requirements.lock
        quietly .venv/bin/python -m pip -q install --no-deps -e .
    fi
    fingerprint >"$stamp"
}

is_ready() {
    [ "$(fingerprint)" = "$(cat "$stamp" 2>/dev/null)" ] || return 1
    .venv/bin/python -c '' 2>/dev/null || return 1
    if [ "$(uname -s)" = Darwin ]; then
        has nginx && has_browser
        return
    fi
    for pair in $debian_commands; do
        has "${pair%%:*}" || return 1
    done
}

is_ready && exit 0
policy=
log=$(mktemp)
trap 'rm -f "$log"; [ -z "$policy" ] || as_root rm -f "$policy"' EXIT
trap 'exit 130' INT TERM
install_commands
install_environment
has_browser || { say "installing Chromium with Playwright"; quietly .venv/bin/playwright install chromium; }
say "ready"
