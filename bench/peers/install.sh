#!/bin/sh
# Gets the peers of `roamgate-bench relay`: what the system's packages have by apt, the rest into
# target/peers. Whatever cannot be had is said and skipped; the benchmark then leaves it out, too.
set -u
cd "$(dirname "$0")/../.."
peers="$PWD/target/peers"
mkdir -p "$peers/bin"

say() { printf '%s\n' "$*"; }
skip() { say "left out: $1 ($2)"; }

# nginx, haproxy, ssh from the system's own packages.
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get install -y --no-install-recommends nginx-light haproxy openssh-server openssh-client openssl util-linux \
        || skip "nginx, haproxy, sshd" "apt-get failed"
else
    say "install nginx, haproxy, openssh-server and openssl by your system's package manager"
fi

# rathole 0.5.0. Its lock file pins a version of `time` that a compiler of today refuses, so it is built without it.
if [ ! -x "$peers/bin/rathole" ]; then
    cargo install rathole --version 0.5.0 --root "$peers" --no-default-features --features server,client,tls \
        || skip rathole "cargo install failed"
fi

# haproxy that can be dialled from inside (2.9 or later), from a newer Debian: packages unpacked beside each
# other and started with their own loader, so that nothing of the system changes.
newer="$peers/haproxy-new"
has_reverse() { haproxy -v 2>/dev/null | grep -Eq 'version (2\.9|[3-9]\.)'; }
if ! has_reverse && [ ! -x "$newer/run" ]; then
    "$PWD/bench/peers/newer-haproxy.sh" "$newer" || skip "haproxy 2.9 or later" "its packages could not be unpacked"
fi

# wstunnel (the one written in Rust) is in no package registry that we know of: build it from its source and put
# the program into target/peers/bin or anywhere in PATH.
[ -x "$peers/bin/wstunnel" ] || command -v wstunnel >/dev/null || skip wstunnel "in no package registry; see README.md"
