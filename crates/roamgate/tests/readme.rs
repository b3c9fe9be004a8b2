//! The README's three machines: its own commands, as they stand, in network namespaces.
//!
//! Four namespaces on two networks. The device and the gateway are on the internet, the site
//! host is inside, and the connection point has a foot in each: it dials both ways and nobody
//! dials it.

mod support;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

const README: &str = include_str!("../../../README.md");

/// Machine, name, address inside, address on the internet.
const MACHINES: [(&str, &str, Option<&str>, Option<&str>); 4] = [
    ("site", "site.example.org", Some("10.77.1.1"), None),
    ("gateway", "gw.example.org", None, Some("10.77.2.2")),
    ("connection-point", "cp.example.org", Some("10.77.1.3"), Some("10.77.2.3")),
    ("device", "device.example.org", None, Some("10.77.2.4")),
];

/// The README's blocks for machines, in their order: machine and commands.
fn blocks() -> Vec<(&'static str, &'static str)> {
    let mut found = Vec::new();
    for part in README.split("```sh machine=").skip(1) {
        let (machine, rest) = part.split_once('\n').expect("a line end");
        let (commands, _) = rest.split_once("```").expect("the end of the block");
        assert!(MACHINES.iter().any(|(name, ..)| *name == machine), "the README names the machine {machine}");
        found.push((machine, commands));
    }
    found
}

/// One script that lays the networks out and runs every block on its machine.
fn script(folder: &Path) -> String {
    let mut text = String::from(PREAMBLE);
    let mut hosts = String::from("127.0.0.1 localhost\n");
    for (_, name, inside, outside) in MACHINES {
        // The gateway's and the device's names mean their internet addresses, the others' inside ones.
        let _ = writeln!(hosts, "{} {name}", inside.or(outside).expect("an address"));
    }
    let _ =
        writeln!(text, "cat > \"$WORK/hosts\" <<'END'\n{hosts}END\nmount --bind \"$WORK/hosts\" /etc/hosts");
    for (machine, _, inside, outside) in MACHINES {
        let _ = writeln!(text, "machine {machine} {} {}", inside.unwrap_or("-"), outside.unwrap_or("-"));
    }
    for (number, (machine, commands)) in blocks().into_iter().enumerate() {
        let file = folder.join(format!("block-{number}.sh"));
        // What a person does without thinking: wait until what was just started answers.
        let commands: String = commands
            .lines()
            .map(|line| {
                if line.ends_with(" &") { format!("{line}\nsettle {machine}\n") } else { format!("{line}\n") }
            })
            .collect();
        std::fs::write(&file, format!("{BLOCK_PREAMBLE}{commands}")).expect("a script");
        let _ = writeln!(text, "run {machine} {}", file.display());
    }
    text.push_str(CHECK);
    text
}

const PREAMBLE: &str = r#"
set -eu
mount -t tmpfs none /run
mkdir -p /run/netns
ip link set lo up
for bridge in inside internet; do ip link add $bridge type bridge; ip link set $bridge up; done
number=0
plug() { # machine, bridge, address
    [ "$3" = - ] && return 0
    number=$((number + 1))
    ip link add v$number type veth peer name $2 netns $1
    ip link set v$number master $2 up
    ip -n $1 addr add $3/24 dev $2
    ip -n $1 link set $2 up
}
machine() { # name, address inside, address on the internet
    ip netns add $1
    ip -n $1 link set lo up
    plug $1 inside $2
    plug $1 internet $3
    mkdir -p "$WORK/$1"
}
run() { # machine, script
    echo "--- $1"
    ( cd "$WORK/$1" && HOME="$WORK/$1" ip netns exec $1 bash "$2" )
}
"#;

const BLOCK_PREAMBLE: &str = r#"
set -eu
scp() { # files, then host:
    local host="${@: -1}"
    case "$host" in
        gw.example.org:) to=gateway ;; cp.example.org:) to=connection-point ;; device.example.org:) to=device ;;
        *) echo "scp to $host?" >&2; exit 1 ;;
    esac
    cp "${@:1:$#-1}" "../$to/"
}
settle() { # machine: wait until its listener answers
    case "$1" in site) at=site.example.org/8443 ;; gateway) at=gw.example.org/443 ;; *) return 0 ;; esac
    for attempt in $(seq 300); do
        if (exec 3<>/dev/tcp/$at) 2>/dev/null; then return 0; fi
        read -rt 0.1 <> <(:) || true
    done
    echo "$at does not answer" >&2; exit 1
}
exec < /dev/null
"#;

/// The device is online; it cannot reach the site host, and the gateway cannot either.
const CHECK: &str = r#"
reach() { ip netns exec $1 timeout 2 bash -c "exec 3<>/dev/tcp/$2" 2>/dev/null; }
reach device 10.77.1.1/8080 && { echo "the device reaches the inside" >&2; exit 1; }
reach gateway 10.77.1.1/8080 && { echo "the gateway reaches the inside" >&2; exit 1; }
[ -z "$(ip netns exec connection-point ss -Hltn 2>/dev/null)" ] || { echo "the connection point listens" >&2; exit 1; }
for attempt in $(seq 300); do
    list=$(cd "$WORK/site" && HOME="$WORK/site" ip netns exec site roamgate device list --state online --output json)
    if echo "$list" | grep -q '"presence": *"online"' && echo "$list" | grep -q '"policy_version": *[1-9]'; then
        echo "ONLINE after $attempt looks"; exit 0
    fi
    read -rt 0.1 <> <(:) || true
done
echo "no device came online: $list" >&2
tail -n 20 "$WORK"/*/logs/*.log "$WORK"/device/client/logs/*.log >&2 || true
exit 1
"#;

#[test]
fn the_commands_for_three_machines_bring_a_device_online() {
    for program in ["ip", "unshare", "openssl"] {
        if !support::installed(program) {
            return;
        }
    }
    let allowed = Command::new("unshare").args(["-Urnmpf", "true"]).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: this system gives no network namespaces to unprivileged programs");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin).expect("a folder");
    std::os::unix::fs::symlink(support::roamgate(), bin.join("roamgate")).expect("a link");
    // The same program under the client's name would do; the README means the client's own.
    let client = support::roamgate().with_file_name("roamgate-client");
    if !client.exists() {
        println!("SKIPPED: {} is not built; `cargo build --workspace` builds it", client.display());
        return;
    }
    std::os::unix::fs::symlink(client, bin.join("roamgate-client")).expect("a link");
    let file = folder.path().join("machines.sh");
    std::fs::write(&file, script(folder.path())).expect("a script");
    // A process namespace of its own: whatever the commands leave running ends with it.
    let output = Command::new("unshare")
        .args(["-Urnmpf", "--mount-proc", "--kill-child", "bash"])
        .arg(&file)
        .env("WORK", folder.path())
        .env(
            "PATH",
            format!("{}:{}:/usr/sbin:/sbin", bin.display(), std::env::var("PATH").unwrap_or_default()),
        )
        .env_remove("ROAMGATE_CONTEXT")
        .output()
        .expect("unshare runs");
    let said =
        format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success() && said.contains("ONLINE"), "{said}");
}

#[test]
fn the_readme_names_the_two_commands_and_ci_calls_the_second() {
    assert!(README.contains("cargo run --release -- lab") && README.contains("./test.sh"));
    let ci = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.ci/run")).expect(".ci/run");
    assert!(ci.contains("exec ./test.sh"));
}
