#!/usr/bin/env bash
# Runs all tests. What they need beyond Rust is installed first, and said.
#
#   ./test.sh            everything
#
# A plain `cargo test --workspace --locked` needs nothing installed; tests of third-party
# programs that are missing then print that they skip, and why.
set -eu
cd "$(dirname "$0")"

need() { # program, Debian package
    command -v "$1" >/dev/null 2>&1 && return
    missing="$missing $2"
}
missing=""
# Servers are kept where ordinary users do not look.
PATH="$PATH:/usr/sbin:/sbin"
need openssl openssl
need curl curl
need ip iproute2
# Lossy and narrow lines for the fault tests.
need nft nftables
need unshare util-linux
need cc build-essential
# A real OpenID provider and a real directory, as peers of what the site fetches.
need node nodejs
need npm npm
need slapd slapd
if [ -n "$missing" ]; then
    echo "Installing what the tests need beyond Rust:$missing"
    sudo=""
    [ "$(id -u)" = 0 ] || sudo=sudo
    export DEBIAN_FRONTEND=noninteractive
    $sudo apt-get update -qq
    # Unquoted on purpose: a list of packages.
    # shellcheck disable=SC2086
    $sudo apt-get install -y -qq --no-install-recommends $missing
fi

# One profile for every step, so that nothing is built twice.
export CARGO_TERM_COLOR=never
run() {
    echo
    echo "== $*"
    "$@"
}

run cargo fmt --all --check
run cargo clippy --workspace --all-targets --locked -- -D warnings
# The programs first: the stories start them.
run cargo build --workspace --bins --locked
run cargo test --workspace --locked
