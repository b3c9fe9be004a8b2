//! The first command of the README, to its end: both scenarios play, and the exit code is 0.

mod support;

use std::process::Command;

#[test]
fn the_lab_plays_both_scenarios_and_ends_with_0() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(support::roamgate())
        .args(["lab", "--once", "--dir"])
        .arg(folder.path().join("lab"))
        .env("ROAMGATE_CONTEXT", folder.path().join("context.toml"))
        .output()
        .expect("the lab runs");
    let said = String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    assert!(output.status.success(), "{said}");
    for step in
        ["Scenario (a)", "Unplugged", "Scenario (b)", "blocks", "Scenario (c)", "All scenarios played"]
    {
        assert!(said.contains(step), "{step} is missing");
    }
    assert!(!folder.path().join("context.toml").exists(), "a lab that ends sets no context");
}
