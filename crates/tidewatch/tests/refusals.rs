//! What the binary does for a user who may not watch.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// A number of nobody.
const NOBODY: u32 = 65_534;

#[test]
fn without_root_the_watching_verbs_say_so_and_end_with_3() {
    // The folders above the binary may be closed to that user: it is started by what is open.
    let binary = File::open(env!("CARGO_BIN_EXE_tidewatch")).unwrap();
    // Nor is what this host is configured with anybody's matter.
    let config = std::env::temp_dir().join(format!("tidewatch-refusals-{}.yaml", std::process::id()));
    std::fs::write(&config, "log: {level: info}\n").unwrap();
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o644)).unwrap();
    for verb in ["run", "agent"] {
        let mut command = Command::new(format!("/proc/self/fd/{}", binary.as_raw_fd()));
        command.arg("--config").arg(&config).arg(verb).current_dir("/").env_clear();
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{verb}: {said}");
        assert!(said.contains("run it as root: sudo tidewatch run"), "{verb}: {said}");
    }
    std::fs::remove_file(&config).unwrap();
}

#[test]
fn without_root_doctor_says_what_it_could_not_look_at() {
    let binary = File::open(env!("CARGO_BIN_EXE_tidewatch")).unwrap();
    let mut command = Command::new(format!("/proc/self/fd/{}", binary.as_raw_fd()));
    command.args(["doctor", "--json"]).current_dir("/").env_clear();
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let row = |what: &str| rows.iter().find(|row| row["what"] == what).unwrap_or_else(|| panic!("{what}: {rows:?}"));
    for what in ["mode ebpf", "mode connector"] {
        assert_eq!((&row(what)["unknown"], &row(what)["vital"]), (&true.into(), &false.into()), "{}", row(what));
        assert_eq!(row(what)["remedy"], "sudo tidewatch doctor");
    }
    assert!(row("root")["vital"] == true && row("mode wrap")["unknown"].is_null());
}
