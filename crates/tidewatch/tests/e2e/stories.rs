//! The three stories of the demonstration, told by `demo/play`: a miner, an escape, a poisoned package.

use std::process::Command;

use crate::lab;

/// Every alert that the play expects comes within a second of its act, and the web server's normal life raises none.
#[test]
fn the_demonstration_meets_its_expectations() {
    if !lab::ready() {
        return;
    }
    let play = lab::repository().join("demo/play");
    let output = Command::new("timeout")
        .arg("240")
        .arg(play)
        .arg(env!("CARGO_BIN_EXE_tidewatch"))
        .env("DEMO_CALM_SECONDS", "3")
        .output()
        .expect("demo/play can be started");
    let told = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "demo/play: {}\n{told}\n{complained}", output.status);
}
