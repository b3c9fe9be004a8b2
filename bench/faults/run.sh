#!/bin/sh
# The long fault tests: processes killed and lines silenced again and again, and what takes a minute by default.
# They start everything themselves on loopback, end by themselves, and leave nothing running. With
# ROAMGATE_WRITE_DOCS=1 they write their section of docs/faults.md, otherwise they hold it against what they find.
set -eu
cd "$(dirname "$0")/../.."
cargo test -p roamgate --locked --test faults --no-run
export ROAMGATE_FAULTS_LONG=1
exec timeout --kill-after=30 "${1:-900}" cargo test -p roamgate --locked --test faults -- --nocapture "${2:-long::}"
