#!/usr/bin/env bash
# The whole test command: installs what is missing, then formatting, lints, tests and examples.
# Later stages run although an earlier one failed, so that one run shows everything; the exit
# status is 0 only when all passed.
#
# COMITY_REQUIRE=all turns a counterpart that is missing from a skipped test into a failed one.
set -euo pipefail
cd "$(dirname "$0")/.."

# Servers live in sbin, which is not in every user's PATH, and cargo where rustup puts it, before the
# next login.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin:${HOME:-/root}/.cargo/bin"

scripts/setup.sh
scripts/retry.sh cargo fetch --quiet --locked

log=${CARGO_TARGET_DIR:-target}/test-log
mkdir -p "$log"
summary=()
failed=0

stage() {
    local name=$1 start=$SECONDS verdict=ok
    shift
    echo
    echo "== $name: $*"
    # The log keeps the last run for the summary; the terminal sees everything as it comes.
    if ! "$@" 2>&1 | tee "$log/$name"; then
        verdict=FAILED
        failed=1
    fi
    summary+=("$(printf '%-9s %-7s %4d s' "$name" "$verdict" "$((SECONDS - start))")")
}

stage format cargo fmt --all --check
stage tests cargo nextest run --workspace --locked --no-tests=fail
stage examples cargo test --quiet --workspace --locked --doc
stage lints cargo clippy --quiet --workspace --all-targets --locked -- -D warnings

echo
echo "== summary"
printf '%s\n' "${summary[@]}"
# The runner's own count, without its colours.
sed 's/\x1b\[[0-9;]*m//g' "$log/tests" | grep -E '^ +Summary ' || true
exit "$failed"
