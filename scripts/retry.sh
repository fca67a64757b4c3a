#!/usr/bin/env bash
# Runs a command that needs the network, and again after a pause when it fails. Registries hiccup
# for a minute or two now and then: five tries over two and a half minutes.
#
#   scripts/retry.sh COMMAND [ARGUMENT]...
set -uo pipefail

for pause in 10 20 40 80 last; do
    "$@" && exit 0
    status=$?
    if [ "$pause" = last ]; then
        echo "retry: gave up: $*" >&2
        exit "$status"
    fi
    echo "retry: failed, again in $pause s: $*" >&2
    sleep "$pause"
done
