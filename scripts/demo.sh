#!/usr/bin/env bash
# The main job in one run, each command shown before it runs: Alice's machine serves a local
# service, Bob's reaches it by invitation, Carol's is refused and told why. All three are homes in
# a temporary folder here. The exit status is 0 only when everything went as it should.
#
#   scripts/demo.sh
#
# COMITY_DEMO_BINARY=PATH uses that `comity` instead of building one.
set -euo pipefail
cd "$(dirname "$0")/.."

# Where rustup puts cargo, before the next login.
export PATH="$PATH:${HOME:-/root}/.cargo/bin"

comity=${COMITY_DEMO_BINARY:-}
# Settings of whoever runs this are not part of it.
for variable in "${!COMITY_@}"; do
    unset "$variable"
done
# Nobody is asked anything: Carol meets Alice without a person at the terminal.
export COMITY_NO_TERMINAL=1
if [ -z "$comity" ]; then
    scripts/setup.sh build
    echo "$ cargo build --package comity"
    scripts/retry.sh cargo fetch --quiet --locked
    cargo build --locked --package comity
    comity=${CARGO_TARGET_DIR:-target}/debug/comity
fi

world=$(mktemp -d)
started=()
clean_up() {
    for pid in "${started[@]}"; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$world"
}
trap clean_up EXIT

fail() {
    echo "demo: FAILED: $*" >&2
    echo "demo: what alice's server said:" >&2
    cat "$world/serve.log" >&2 2>/dev/null || true
    exit 1
}

explain() {
    printf '\n'
    printf '# %s\n' "$@"
}

# expect STATUS TEXT WHO ARGUMENT...: runs `comity ARGUMENT...` on WHO's machine. It must end with
# STATUS and say TEXT. What it says is shown, and kept in $output; $input is its standard input.
input=
expect() {
    local status=$1 text=$2 who=$3 got=0
    shift 3
    printf '%s$ %scomity %s\n' "$who" "${input:+echo $input | }" "$*"
    output=$(printf '%s' "$input" | "$comity" --home "$world/$who" "$@" 2>&1) || got=$?
    printf '%s\n' "$output"
    [ "$got" = "$status" ] || fail "exit status $got instead of $status"
    [[ $output == *"$text"* ]] || fail "it should have said: $text"
    input=
}

explain "Three machines that share no authority. Each makes its own identity."
expect 0 "made an identity" alice init
expect 0 "made an identity" bob init
expect 0 "made an identity" carol init

explain "Alice has a service on a Unix socket: it greets, and repeats what it is told."
socket=$world/hello.sock
greeting='SYSTEM:echo "hello from alice, you said $(cat)"'
echo "alice$ socat -t 30 UNIX-LISTEN:hello.sock,fork '$greeting' &"
socat -t 30 "UNIX-LISTEN:$socket,fork" "$greeting" &
started+=($!)

explain "She puts it behind mutual TLS, under the name hello, on a free port."
echo "alice$ comity serve hello=unix:hello.sock --listen 127.0.0.1:0 &"
exec {server}< <(exec "$comity" --home "$world/alice" serve "hello=unix:$socket" \
    --listen 127.0.0.1:0 2>"$world/serve.log")
started+=($!)
read -r -t 30 line <&"$server" || fail "alice's server did not start"
echo "$line"
address=${line#listening on }

explain "One pasted text lets one machine in: Bob's, to this one service."
expect 0 "COMITY-INVITE-" alice invite --for hello --as bob --addr "$address"
invitation=$(grep -m 1 '^COMITY-INVITE-' <<<"$output")
expect 0 "alice" bob join "$invitation" --as alice

explain "From now on the two recognise each other by key, whatever the address."
for _ in {1..300}; do
    [ -S "$socket" ] && break
    sleep 0.1
done
input="good morning"
expect 0 "hello from alice, you said good morning" bob connect alice/hello

explain "The invitation is used up: it does not work for Carol."
expect 1 "(invite-invalid)" carol join "$invitation"

explain "Carol dials all the same. She takes Alice's key at first sight, but Alice does not know hers:" \
    "she is refused before a byte reaches the service, and told why."
input="let me in"
expect 1 "(pending)" carol connect "$address/hello" --as alice --trust tofu
[[ $output != *"hello from alice"* ]] || fail "carol reached the service"

explain "She waits until Alice approves her by her full id. Alice does not, and Bob is still served."
expect 0 "$("$comity" --home "$world/carol" id)" alice trust pending
expect 0 "bob" alice trust list
input="good night"
expect 0 "hello from alice, you said good night" bob connect alice/hello

explain "Everything went as it should. The three homes are removed again."
