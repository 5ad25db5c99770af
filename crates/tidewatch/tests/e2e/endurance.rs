//! The service in bad times: a full disk, a broken configuration, logs that must not grow for ever.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::container::Container;
use crate::daemon::{Daemon, EVERYTHING, is_alive, rules_file};
use crate::image;
use crate::lab;
use crate::service::{STORED, await_all_stored, until};

/// The state directory is a small file system, which somebody fills. The agent shows findings all the same, says what
/// is wrong, and when there is room again, everything that was shown is stored.
#[test]
fn a_full_disk_is_told_and_nothing_that_was_shown_is_lost() {
    if !lab::ready() {
        return;
    }
    let folder = lab::scratch().join(lab::unique("small"));
    fs::create_dir_all(folder.join("state")).unwrap();
    let rules = rules_file("everything.yaml", EVERYTHING);
    // A mount namespace of its own: the file system goes with the service.
    let script = r#"mount -t tmpfs -o size=40m,mode=755 none "$1/state" && shift && exec "$@""#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(&folder).arg(env!("CARGO_BIN_EXE_tidewatch"));
    command.args(["run", "--json", "--rules", &rules.to_string_lossy()]);
    command.args(["--set", "spool.max_mib=8", "--set", "recorder.max_mib=8"]).stdin(Stdio::null());
    let daemon = Daemon::spawn_in(&mut command, folder.clone());
    let container = Container::idle(image::base(), &[]);
    container.exec(&["touch", "/tmp/before"]);
    daemon.alert("File opened", &container.name);
    await_all_stored(&daemon);

    // As the service sees it.
    let state = format!("/proc/{}/root{}", daemon.pid(), folder.join("state").display());
    let filler = format!("{state}/filler");
    let fill = || {
        let _ = Command::new("dd")
            .args(["if=/dev/zero", &format!("of={filler}"), "bs=4k", "oflag=append", "conv=notrunc"])
            .output();
    };
    fill();
    let touch = "i=0; while [ $i -lt 1500 ]; do : >/tmp/during-$i; i=$((i+1)); done";
    container.exec(&["sh", "-c", touch]);
    let problem = until("the full disk is told", Duration::from_secs(60), || {
        // What retention or a log gave back is taken again.
        fill();
        let status: Value = serde_json::from_slice(&daemon.ask(&["status", "--json"]).stdout).ok()?;
        let problems = status["problems"].as_array()?;
        let full = |code: &str| code == "spool-failed" || code == "store-full" || code == "recorder-failed";
        problems.iter().find(|problem| problem["code"].as_str().is_some_and(full)).cloned()
    });
    assert!(
        problem["remedy"].as_str().is_some_and(|remedy| remedy.contains("room") || remedy.contains("space")),
        "{problem}"
    );
    daemon
        .alert_where(&container.name, |alert| alert["output"].as_str().is_some_and(|text| text.contains("during-1499")))
        .expect("alerts go on while the disk is full");

    fs::remove_file(&filler).unwrap();
    await_all_stored(&daemon);
    until("all is well again", STORED, || daemon.ask(&["status"]).status.success().then_some(()));
}

/// A configuration that is broken while the service runs changes nothing; one that is in order is taken.
#[test]
fn a_broken_configuration_keeps_the_one_that_is_in_force() {
    if !lab::ready() {
        return;
    }
    let folder = lab::scratch().join(lab::unique("configured"));
    fs::create_dir_all(&folder).unwrap();
    let (rules, file) = (rules_file("everything.yaml", EVERYTHING), folder.join("tidewatch.yaml"));
    let write = |more: &str| fs::write(&file, format!("rules: {{files: [{}]}}\n{more}", rules.display())).unwrap();
    write("");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewatch"));
    command.args(["run", "--json", "--config", &file.to_string_lossy()]).stdin(Stdio::null());
    let daemon = Daemon::spawn_in(&mut command, folder.clone());
    let container = Container::idle(image::base(), &[]);

    write("agent: {prioritty: error}\n");
    let refused = daemon.ask(&["reload"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("did you mean `priority`"), "{said}");
    assert!(said.contains("tidewatch.yaml:2:"), "{said}");
    container.exec(&["touch", "/tmp/still"]);
    daemon.alert("File opened", &container.name);

    write("agent: {priority: error, docker: false}\n");
    let taken = daemon.ask(&["reload"]);
    let said = String::from_utf8_lossy(&taken.stdout).into_owned();
    assert!(taken.status.success() && said.contains("wait for a restart: agent.docker"), "{said}");
    let before = daemon.alerts_about(&container.name).len();
    container.exec(&["touch", "/tmp/unimportant"]);
    sleep(Duration::from_secs(2));
    assert_eq!(daemon.alerts_about(&container.name).len(), before, "notices are left out now");
}

/// Logs in files: one of each process, the manager's in a folder of its own, bounded by rotation.
#[test]
fn logs_are_files_of_each_process_that_are_rotated() {
    if !lab::ready() {
        return;
    }
    let folder = lab::scratch().join(lab::unique("logged"));
    fs::create_dir_all(&folder).unwrap();
    let rules = rules_file("everything.yaml", EVERYTHING);
    let logs = folder.join("logs");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewatch"));
    command.args([
        "run",
        "--json",
        "--rules",
        &rules.to_string_lossy(),
        "--set",
        &format!("log.file={}", logs.display()),
    ]);
    command.args([
        "--set",
        "log.format=json",
        "--set",
        "log.max_mib=1",
        "--set",
        "log.keep=2",
        "--set",
        "log.level=trace",
    ]);
    // Of a service that ran here before: as good as full.
    fs::create_dir_all(&logs).unwrap();
    let line = "{\"timestamp\":\"2026-01-01T00:00:00Z\",\"level\":\"INFO\",\"message\":\"of before\"}\n";
    fs::write(logs.join("agent.log"), line.repeat((1 << 20) / line.len())).unwrap();
    let daemon = Daemon::spawn_in(command.stdin(Stdio::null()), folder.clone());
    let size = |path: &str| fs::metadata(logs.join(path)).map_or(0, |data| data.len());
    until("the agent's log is rotated", STORED, || (size("agent.log.1") > 0).then_some(()));
    until("the manager has a log", STORED, || (size("manager/manager.log") > 0).then_some(()));
    assert!(is_alive(daemon.pid()));
    for log in ["agent.log", "agent.log.1", "manager/manager.log"] {
        let text = fs::read_to_string(logs.join(log)).unwrap();
        let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
    }
    assert!(size("agent.log.1") >= 1 << 20 && size("agent.log") < 1 << 20);
    let owner = |path: &str| fs::metadata(logs.join(path)).unwrap().uid();
    assert_eq!(owner("agent.log"), 0);
    assert_ne!(owner("manager/manager.log"), 0);
}
