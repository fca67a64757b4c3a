#!/usr/bin/env bash
# Installs what the build and the tests need on Debian 12. What is there already is left alone, so
# that a second run needs neither network nor root.
#
#   scripts/setup.sh         everything that scripts/test.sh needs
#   scripts/setup.sh build   what scripts/demo.sh needs: a C compiler for the cryptography, and socat
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-all}" in
    all | build) wanted=${1:-all} ;;
    *)
        echo "setup: unknown argument: $1 (build, or nothing)" >&2
        exit 2
        ;;
esac

# Package, then a program (or file) that shows it is installed.
packages=(
    "gcc gcc"
    "libc6-dev /usr/include/stdio.h"
    "socat socat"
)
[ "$wanted" = build ] || packages+=(
    "make make"
    "ca-certificates /etc/ssl/certs/ca-certificates.crt"
    "curl curl"
    "openssl openssl"
    "libssl-dev /usr/include/openssl/ssl.h"
    "pkg-config pkg-config"
    "gnutls-bin gnutls-serv"
    "stunnel4 stunnel4"
    "openssh-client ssh"
    "openssh-server sshd"
    "netcat-openbsd nc"
    "tmux tmux"
    "procps ps"
)

# Servers live in sbin, which is not in every user's PATH, and cargo where rustup puts it.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin:${HOME:-/root}/.cargo/bin"

if ! command -v cargo >/dev/null; then
    echo "setup: cargo is missing; install Rust from https://rustup.rs and run this again" >&2
    exit 1
fi

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
        echo "setup: only Debian is known here; please install: ${missing[*]}" >&2
        exit 1
    fi
    root=()
    if [ "$(id -u)" != 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "setup: need root or sudo to install: ${missing[*]}" >&2
            exit 1
        fi
        root=(sudo)
    fi
    echo "setup: installing ${missing[*]}"
    scripts/retry.sh "${root[@]}" apt-get -qq update
    scripts/retry.sh "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq install --yes --no-install-recommends "${missing[@]}"
fi

[ "$wanted" = all ] || exit 0

for component in rustfmt clippy; do
    if ! cargo "${component/rust/}" --version >/dev/null 2>&1; then
        echo "setup: installing $component"
        scripts/retry.sh rustup component add "$component"
    fi
done

if ! command -v cargo-nextest >/dev/null; then
    echo "setup: installing cargo-nextest"
    scripts/retry.sh cargo install --locked cargo-nextest
fi
