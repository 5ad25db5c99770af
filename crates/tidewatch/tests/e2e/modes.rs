//! The ways to watch other than eBPF: the process connector and fanotify on real containers, and a command wrapped in a container that
//! has no right at all.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::container::Container;
use crate::daemon::{Daemon, EVERYTHING, rules_file};
use crate::docker::{docker, docker_output};
use crate::{image, lab};

/// What is told of a process's capabilities, as `/proc` has it.
fn effective(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

/// The names of the process that an alert is about and of those that made it.
fn lineage(alert: &Value) -> Vec<&str> {
    alert["tidewatch"]["lineage"].as_array().into_iter().flatten().filter_map(|p| p["name"].as_str()).collect()
}

#[test]
fn without_ebpf_executions_in_containers_are_seen_and_what_is_not_is_told() {
    if !lab::ready() {
        return;
    }
    let rules = rules_file("connector.yaml", EVERYTHING);
    let mut daemon = Daemon::own(&["--sensor", "connector", "--rules", &rules.to_string_lossy()]);
    let container = Container::idle(image::base(), &[]);
    // A busy host may look at a program when it has ended, or hear nothing of it: that is counted, and no defect.
    let alert = (0..6).find_map(|_| {
        container.exec(&["sh", "-c", "sleep 3; true"]);
        let wanted = |alert: &Value| alert["output_fields"]["proc.cmdline"] == "sleep 3";
        daemon.alert_where(&container.name, |alert| wanted(alert) && lineage(alert).starts_with(&["sleep", "sh"]))
    });
    let alert =
        alert.unwrap_or_else(|| panic!("no alert about the program: {:?}", daemon.alerts_about(&container.name)));
    assert_eq!(alert["output_fields"]["container.image.repository"], image::base().split(':').next().unwrap());
    let agent = daemon.child_pid("agent").unwrap();
    // CAP_DAC_READ_SEARCH 2, CAP_NET_ADMIN 12, CAP_SYS_PTRACE 19.
    assert_eq!(effective(agent), 1 << 2 | 1 << 12 | 1 << 19, "no right over eBPF, which it does not use");
    // Once a second the agent says how it is.
    std::thread::sleep(Duration::from_secs(2));
    let status = daemon.ask_json(&["status"]);
    let text = status.to_string();
    assert!(text.contains(r#""mode":"connector""#), "{text}");
    assert!(text.contains("File opened: no such events"), "the rule that cannot speak is named: {text}");
    assert!(text.contains(r#""code":"rules-mute""#), "{text}");
    daemon.signal("TERM");
    assert!(daemon.ends_well(Duration::from_secs(20)));
}

#[test]
fn without_ebpf_files_of_containers_are_seen_where_fanotify_is_allowed() {
    if !lab::ready() {
        return;
    }
    let before = Container::idle(image::base(), &[]);
    let mut daemon = Daemon::own(&["--sensor", "fanotify"]);
    let after = Container::idle(image::base(), &[]);
    let bound = Container::idle(image::base(), &["-v", "/etc:/host/etc:ro", "--tmpfs", "/scratch"]);
    // Something that ran there for a second is looked at with all that is mounted.
    std::thread::sleep(Duration::from_secs(2));
    for container in [&before, &after, &bound] {
        // By its path: else busybox runs itself, and is called "exe" at first.
        for (rule, field, file, process, command) in [
            ("Password File Read in Container", "fd.name", "/etc/shadow", "cat", "/bin/cat /etc/shadow"),
            (
                "Account File Changed in Container",
                "fs.path.name",
                "/etc/passwd",
                "sh",
                "echo x:x:0:0::/:/bin/sh >> /etc/passwd",
            ),
            ("Environment of Other Process Read", "fd.name", "/proc/1/environ", "cat", "/bin/cat /proc/1/environ"),
        ] {
            // A busy host may look at a program when it has ended: that is counted, and no defect.
            let alert = (0..6).find_map(|_| {
                container.exec(&["sh", "-c", &format!("sleep 1; {command}; sleep 1; cat /proc/self/environ")]);
                let wanted = |alert: &Value| alert["rule"] == rule && alert["output_fields"]["proc.name"] == process;
                daemon.alert_where(&container.name, wanted)
            });
            let all = || daemon.alerts_about(&container.name);
            let fields = &alert.unwrap_or_else(|| panic!("no {rule}: {:?}", all()))["output_fields"];
            assert_eq!(fields[field], file, "{fields}");
            assert_eq!(fields["container.name"], container.name, "{fields}");
            assert!(fields.to_string().contains(image::base()), "{fields}");
        }
        let own = |alert: &&Value| {
            let file = alert["output_fields"]["fd.name"].as_str().unwrap_or_default().to_owned();
            alert["rule"] == "Environment of Other Process Read" && file != "/proc/1/environ"
        };
        let alerts = daemon.alerts_about(&container.name);
        assert_eq!(alerts.iter().find(own), None, "its own environment is nobody else's business");
    }
    let agent = daemon.child_pid("agent").unwrap();
    // CAP_DAC_READ_SEARCH 2, CAP_NET_ADMIN 12, CAP_SYS_PTRACE 19, CAP_SYS_ADMIN 21.
    assert_eq!(effective(agent), 1 << 2 | 1 << 12 | 1 << 19 | 1 << 21);
    std::thread::sleep(Duration::from_secs(2));
    let status = daemon.ask_json(&["status"]).to_string();
    assert!(status.contains(r#""mode":"fanotify""#), "{status}");
    assert!(!status.contains("Password File Read in Container: "), "a rule that can speak is not named: {status}");
    daemon.signal("TERM");
    assert!(daemon.ends_well(Duration::from_secs(20)));
}

#[test]
fn the_connector_loses_nothing_of_ten_thousand_forks_uncounted() {
    if !lab::ready() {
        return;
    }
    let rules = rules_file("connector-forks.yaml", EVERYTHING);
    let daemon = Daemon::own(&["--sensor", "connector", "--rules", &rules.to_string_lossy()]);
    let script =
        "import os\nfor i in range(10000):\n  pid = os.fork()\n  if pid == 0: os._exit(0)\n  os.waitpid(pid, 0)\n";
    assert!(Command::new("python3").args(["-c", script]).status().unwrap().success());
    std::thread::sleep(Duration::from_secs(3));
    let status = daemon.ask_json(&["status"]);
    let events = status["agent"]["events"].as_array().cloned().unwrap_or_default();
    let of = |name: &str, key: &str| {
        let row = events.iter().find(|row| row["event"] == name);
        row.and_then(|row| row[key].as_u64()).unwrap_or(0)
    };
    let told = |name: &str| of(name, "seen") + of(name, "lost_ring");
    // What never came is counted as forks; others fork too.
    let lost = of("clone", "lost_ring");
    assert!(told("clone") >= 10_000, "{events:?}");
    assert!(told("procexit") + lost >= 10_000, "{events:?}");
}

#[test]
fn a_command_is_wrapped_in_a_container_without_rights() {
    if !lab::ready() {
        return;
    }
    let program = env!("CARGO_BIN_EXE_tidewatch");
    // The host's libraries, since the program under test is not linked to be alone.
    let mut words: Vec<String> =
        ["run", "--rm", "--pull=never", "--network", "none", "--user", "65534:65534"].map(str::to_owned).into();
    words.extend(
        ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--label", &lab::label()].map(str::to_owned),
    );
    for folder in ["/lib", "/lib64", "/usr/lib"] {
        words.extend(["-v".to_owned(), format!("{folder}:{folder}:ro")]);
    }
    words.extend(["-v".to_owned(), format!("{program}:/tidewatch:ro"), image::base().to_owned()]);
    let script = "cp /bin/busybox /tmp/busybox && /tmp/busybox true; cat /etc/shadow; exit 6";
    words.extend(["/tidewatch", "wrap", "--json", "--", "sh", "-c", script].map(str::to_owned));
    let output = docker_output(&words);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(6), "{said}");
    let found: Vec<Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let finding = found.iter().find(|finding| finding["rule"] == "Program Run From Scratch Directory");
    let fields = &finding.unwrap_or_else(|| panic!("{said}"))["output_fields"];
    assert_eq!(fields["proc.exepath"], "/tmp/busybox");
    assert_eq!(fields["container.name"], "sh");
    // Nothing of it is left.
    assert_eq!(docker(&["ps", "-aq", "--filter", &format!("label={}", lab::label()), "--filter", "status=exited"]), "");
}
