//! Hostile names, missing parts, and a clean end.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::container::Container;
use crate::daemon::{Daemon, EVERYTHING, everything, is_alive, rules_file};
use crate::docker::docker;
use crate::image;
use crate::lab;

/// How long the agent may take to detach and leave.
const FAREWELL: Duration = Duration::from_secs(10);

/// Control characters, quotes, escape sequences, a newline and bytes that are no UTF-8, as arguments, as file names
/// and as names of programs. The daemon's reader asserts that each line is JSON.
#[test]
fn hostile_names_leave_json_intact() {
    let Some(daemon) = everything() else { return };
    let container = Container::idle(image::base(), &[]);
    container.exec(&["sh", "-c", HOSTILE]);
    let started = |name: &str| {
        let name = name.to_owned();
        daemon.alert_where(&container.name, move |alert| output(alert).contains(&name))
    };
    assert!(started("mark-argument").is_some(), "the program with the hostile argument");
    assert!(started("mark-file").is_some(), "the file with the hostile name");
    assert!(started("mark-program").is_some(), "the program with the hostile name");
    assert!(started("mark-end").is_some(), "what came after them");
}

const HOSTILE: &str = r#"
hostile=$(printf 'a\001\002\033[31m\010\377\376\300\200"\134\r\n}{')
true "mark-argument $hostile"
: >"/tmp/mark-file $hostile"
cp /bin/busybox "/tmp/busybox mark-program $hostile"
"/tmp/busybox mark-program $hostile" true
true mark-end
"#;

/// Four kilobytes of one argument, hundreds of arguments, a path as long as the kernel takes.
#[test]
fn long_names_leave_json_intact() {
    let Some(daemon) = everything() else { return };
    let container = Container::idle(image::base(), &[]);
    container.exec(&["sh", "-c", LONG]);
    for mark in ["mark-argument", "mark-many", "/tmp/ddd", "mark-end"] {
        let seen = daemon.alert_where(&container.name, |alert| output(alert).contains(mark));
        assert!(seen.is_some(), "no alert with {mark}");
    }
}

const LONG: &str = r#"
long=$(head -c 4096 /dev/zero | tr '\0' a)
true "mark-argument$long"
true mark-many $(seq 800)
name=$(head -c 200 /dev/zero | tr '\0' d)
path=/tmp
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do path=$path/$name; done
mkdir -p "$path" && : >"$path/file"
true mark-end
"#;

/// An interrupt ends the agent at once and with success; no process and no program in the kernel stays.
#[test]
fn an_interrupt_leaves_nothing_behind() {
    leaves_nothing_behind("INT");
}

#[test]
fn a_termination_leaves_nothing_behind() {
    leaves_nothing_behind("TERM");
}

fn leaves_nothing_behind(signal: &str) {
    if !lab::ready() {
        return;
    }
    let mut daemon = Daemon::own(&[]);
    let pid = daemon.pid();
    let agent = daemon.child_pid("agent").expect("the supervisor tells it");
    let manager = daemon.child_pid("manager").expect("the supervisor tells it");
    let programs = bpf_programs_of(agent);
    daemon.signal(signal);
    assert!(daemon.ends_well(FAREWELL), "it goes on {FAREWELL:?} after SIG{signal}");
    assert!(![pid, agent, manager].into_iter().any(is_alive), "a process is left");
    let left: Vec<_> =
        std::fs::read_dir(daemon.folder().join("run")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "lock"), "files are left in the run directory: {left:?}");
    let left: Vec<u64> = all_bpf_programs().into_iter().filter(|id| programs.contains(id)).collect();
    assert!(left.is_empty(), "programs {left:?} are still in the kernel");
}

/// Without Docker the agent works on: one warning, and alerts with the container's id.
#[test]
fn a_missing_docker_socket_is_one_warning() {
    if !lab::ready() {
        return;
    }
    let rules = rules_file("everything.yaml", EVERYTHING);
    let mut daemon = Daemon::own(&["--docker-socket", "/nonexistent", "--rules", &rules.to_string_lossy()]);
    let container = Container::idle(image::base(), &[]);
    container.exec(&["true"]);
    let id = docker(&["inspect", "-f", "{{.Id}}", &container.name]);
    daemon.alert("Program started", &id[..12]);
    let warnings: Vec<String> =
        daemon.log().into_iter().filter(|line| line.contains("WARN") && line.contains("ocker")).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    daemon.signal("INT");
    assert!(daemon.ends_well(FAREWELL));
}

fn output(alert: &Value) -> &str {
    alert["output"].as_str().expect("an alert has an output")
}

/// Numbers of the kernel's BPF programs that this process holds; none if bpftool cannot say.
fn bpf_programs_of(pid: u32) -> Vec<u64> {
    let holds =
        |program: &&Value| program["pids"].as_array().is_some_and(|pids| pids.iter().any(|entry| entry["pid"] == pid));
    let programs = bpftool();
    let ids = programs.iter().filter(holds).filter_map(|program| program["id"].as_u64()).collect::<Vec<_>>();
    if ids.is_empty() {
        eprintln!("note: bpftool does not say which programs process {pid} holds");
    }
    ids
}

fn all_bpf_programs() -> Vec<u64> {
    bpftool().iter().filter_map(|program| program["id"].as_u64()).collect()
}

fn bpftool() -> Vec<Value> {
    let output = ["bpftool", "/usr/sbin/bpftool"]
        .iter()
        .find_map(|program| Command::new(program).args(["prog", "show", "-j"]).output().ok());
    output.and_then(|output| serde_json::from_slice(&output.stdout).ok()).unwrap_or_default()
}
