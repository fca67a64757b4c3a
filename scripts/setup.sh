#!/usr/bin/env bash
# Installs what the build and the tests need on Debian 12. What is there already is left alone, so
# that a second run needs neither network nor root.
set -euo pipefail

# Package, then a program (or file) that shows it is installed.
packages=(
    "gcc gcc"
    "libc6-dev /usr/include/stdio.h"
    "make make"
    "ca-certificates /etc/ssl/certs/ca-certificates.crt"
    "curl curl"
    "openssl openssl"
    "gnutls-bin gnutls-serv"
    "stunnel4 stunnel4"
    "openssh-client ssh"
    "openssh-server sshd"
    "netcat-openbsd nc"
    "socat socat"
    "tmux tmux"
    "procps ps"
)

# Registries hiccup for a minute or two now and then: five tries over two and a half minutes.
retry() {
    local pause
    for pause in 10 20 40 80 last; do
        if "$@"; then
            return 0
        fi
        if [ "$pause" = last ]; then
            echo "setup: gave up on: $*" >&2
            return 1
        fi
        echo "setup: failed, again in $pause s: $*" >&2
        sleep "$pause"
    done
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "setup: need root or sudo for: $*" >&2
        return 1
    fi
}

# Servers live in sbin, which is not in every user's PATH.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

missing=()
for entry in "${packages[@]}"; do
    read -r package witness <<<"$entry"
    case "$witness" in
        /*) [ -e "$witness" ] || missing+=("$package") ;;
        *) command -v "$witness" >/dev/null || missing+=("$package") ;;
    esac
done

if [ "${#missing[@]}" -gt 0 ]; then
    if ! command -v apt-get >/dev/null; then
        echo "setup: missing: ${missing[*]} (install them; only Debian is known here)" >&2
        exit 1
    fi
    echo "setup: installing ${missing[*]}"
    # The tests start every server themselves, on loopback: no daemon may be started by its package.
    retry as_root apt-get -qq update
    retry as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get -qq install --yes --no-install-recommends "${missing[@]}"
fi

if ! command -v cargo >/dev/null; then
    echo "setup: cargo is missing; install Rust from https://rustup.rs" >&2
    exit 1
fi
if ! command -v cargo-nextest >/dev/null; then
    echo "setup: installing cargo-nextest"
    retry cargo install --locked cargo-nextest
fi
