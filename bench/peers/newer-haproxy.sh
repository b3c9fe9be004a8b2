#!/bin/sh
# Unpacks haproxy of a newer Debian with its libraries into a folder, and writes the script `run` there.
# Usage: newer-haproxy.sh FOLDER [SUITE]
set -eu
folder="$1"
suite="${2:-trixie}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# apt's own way to look into another suite: its mirror and keys, other lists, nothing of the system touched.
mirror="$(sed -n 's/^URIs: *//p; s/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null | head -n 1)"
[ -n "$mirror" ] || { echo "no Debian mirror is set up here" >&2; exit 1; }
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$folder"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$work/sources.list"
: >"$work/status"
apt() {
    apt-get -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$work/lists" \
        -o Dir::State::status="$work/status" -o Dir::Cache="$work/cache" -o APT::Install-Recommends=false \
        -o APT::Sandbox::User=root -o Debug::NoLocking=true "$@"
}
apt -qq update
apt -y --download-only install haproxy
for package in "$work"/cache/archives/*.deb; do
    dpkg-deb --extract "$package" "$folder/root"
done
loader="$(find "$folder/root" -name 'ld-linux-x86-64.so.2' -type f -o -name 'ld-linux-aarch64.so.1' -type f | head -n 1)"
libraries="$(find "$folder/root" -name '*.so*' -not -path '*/gconv/*' -printf '%h\n' | sort -u | tr '\n' ':')"
program="$(find "$folder/root" -path '*/sbin/haproxy' -type f | head -n 1)"
cat >"$folder/run" <<END
#!/bin/sh
exec "$loader" --library-path "$libraries" "$program" "\$@"
END
chmod +x "$folder/run"
"$folder/run" -v
