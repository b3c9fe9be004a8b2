//! What each role links: the gateway holds no database, no site, nothing that makes
//! certificates or tokens.

use std::process::Command;

fn tree(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn names(tree: &str) -> Vec<&str> {
    tree.lines().filter_map(|line| line.split(' ').next()).collect()
}

/// Crates that must not stand on the internet-facing host.
const NOT_AT_THE_GATEWAY: &[&str] = &[
    "site",
    "management-point",
    "console",
    "fetch",
    "stand-in",
    "rusqlite",
    "libsqlite3-sys",
    "postgres",
    "rcgen",
];

#[test]
fn the_gateway_links_no_site_no_database_and_nothing_that_mints() {
    let tree = tree(&["-p", "gateway"]);
    let names = names(&tree);
    assert!(names.contains(&"tunnel"), "this is the gateway's tree");
    for banned in NOT_AT_THE_GATEWAY {
        assert!(!names.contains(banned), "the gateway links {banned}");
    }
}

#[test]
fn the_connection_point_links_no_site_and_no_database() {
    let tree = tree(&["-p", "connector"]);
    for banned in NOT_AT_THE_GATEWAY {
        assert!(!names(&tree).contains(banned), "the connection point links {banned}");
    }
}

#[test]
fn the_client_links_no_server() {
    let tree = tree(&["-p", "client"]);
    for banned in
        ["site", "gateway", "connector", "tunnel", "management-point", "console", "fetch", "rusqlite", "axum"]
    {
        assert!(!names(&tree).contains(&banned), "the client links {banned}");
    }
}

#[test]
fn one_crypto_library_is_linked() {
    let tree = tree(&["--workspace"]);
    for banned in ["ring", "rsa", "openssl", "openssl-sys", "native-tls"] {
        assert!(!names(&tree).contains(&banned), "{banned} is linked");
    }
}

#[test]
fn the_lower_crates_know_no_higher_one() {
    for (package, banned) in [
        ("proto", vec!["runtime", "tunnel", "site", "client", "tokio"]),
        ("runtime", vec!["proto", "tunnel", "site"]),
        ("tunnel", vec!["proto", "runtime", "tokio"]),
        ("site", vec!["management-point", "console", "fetch", "gateway", "connector"]),
        ("stand-in", vec!["site", "client", "gateway", "connector"]),
    ] {
        let tree = tree(&["-p", package]);
        for banned in banned {
            assert!(!names(&tree).contains(&banned), "{package} links {banned}");
        }
    }
}
