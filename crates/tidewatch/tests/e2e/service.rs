//! The service as an operator has it: asked over its control socket, killed, reloaded, short of room.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::container::Container;
use crate::daemon::{Daemon, EVERYTHING, is_alive, rules_file};
use crate::image;
use crate::lab;

/// How long the manager may take to have what the agent showed.
pub const STORED: Duration = Duration::from_secs(60);

fn with_everything() -> Daemon {
    let rules = rules_file("everything.yaml", EVERYTHING);
    Daemon::own(&["--rules", &rules.to_string_lossy()])
}

/// Waits until `look` finds something.
pub fn until<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not within {patience:?}: {what}");
        sleep(Duration::from_millis(100));
    }
}

/// Ids of all findings in the store.
fn stored(daemon: &Daemon) -> Vec<String> {
    let output = daemon.ask(&["findings", "--limit", "1000000", "--json"]);
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["tidewatch"]["id"].as_str().unwrap().to_owned())
        .collect()
}

/// Ids of all findings that were shown.
fn shown(daemon: &Daemon) -> BTreeSet<String> {
    daemon.alerts().iter().map(|alert| alert["tidewatch"]["id"].as_str().unwrap().to_owned()).collect()
}

pub fn await_all_stored(daemon: &Daemon) {
    let end = Instant::now() + STORED;
    let kept = loop {
        let kept = stored(daemon);
        let ids: BTreeSet<String> = kept.iter().cloned().collect();
        let shown = shown(daemon);
        let missing = shown.difference(&ids).count();
        if missing == 0 {
            break kept;
        }
        assert!(Instant::now() < end, "{missing} of {} findings that were shown are not stored", shown.len());
        sleep(Duration::from_millis(200));
    };
    assert_eq!(kept.iter().collect::<BTreeSet<_>>().len(), kept.len(), "a finding is stored twice");
}

#[test]
fn what_was_found_can_be_asked_for() {
    if !lab::ready() {
        return;
    }
    let daemon = with_everything();
    let container = Container::idle(image::base(), &[]);
    container.exec(&["touch", "/tmp/asked"]);
    daemon.alert("File opened", &container.name);
    await_all_stored(&daemon);

    let status = until("the agent told its state", STORED, || {
        let status = daemon.ask_json(&["status"]);
        status["agent"].is_object().then_some(status)
    });
    assert_eq!(status["agent"]["rules"]["enabled"], 2);
    assert!(status["agent"]["inspected"].as_u64() > Some(0), "{status}");
    assert_eq!(status["manager"]["store"]["up"], true, "{status}");
    assert!(daemon.ask(&["status"]).status.success());

    let found = daemon.ask(&["findings", "--container", &container.name, "--rule", "File opened", "--json"]);
    let first: Value = serde_json::from_slice(found.stdout.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
    assert_eq!(first["rule"], "File opened");
    let id = first["tidewatch"]["id"].as_str().unwrap();
    let whole = daemon.ask_json(&["show", &id[..20]]);
    assert_eq!(whole["id"], *id);
    let block = daemon.ask(&["show", id]);
    assert!(String::from_utf8_lossy(&block.stdout).contains("/tmp/asked"));

    until("the container is listed", STORED, || {
        let containers = daemon.ask_json(&["containers"]);
        let mut containers = containers.as_array()?.iter();
        containers.any(|item| item["container"]["name"] == container.name.as_str()).then_some(())
    });
    let absent = daemon.ask(&["show", "01ZZZZZZZZ"]);
    assert!(!absent.status.success() && String::from_utf8_lossy(&absent.stderr).contains("01ZZZZZZZZ"));
}

/// A rule for the files that the load makes.
const LOAD: &str = "
- rule: Load
  desc: files of the load
  condition: evt.type in (open, openat) and container.id != host and fd.name startswith /load/
  output: opened %fd.name in %container.name
  priority: WARNING
";

/// Each of the two is killed at random moments while findings come at a high rate. What was shown is kept, once.
#[test]
fn a_killed_process_returns_and_nothing_that_was_shown_is_lost() {
    if !lab::ready() {
        return;
    }
    // A place of its own, so that the load is no other service's.
    let rules = rules_file("load.yaml", LOAD);
    let daemon = Daemon::own(&["--rules", &rules.to_string_lossy()]);
    let container = Container::idle(image::base(), &[]);
    let mut load = Command::new("docker")
        .args(["exec", &container.name, "sh", "-c"])
        .arg("mkdir /load; i=0; while [ $i -lt 20000 ]; do : >/load/$i; i=$((i+1)); [ $((i % 50)) = 0 ] && usleep 50000; done")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    for round in 0..6_u64 {
        let name = if round % 2 == 0 { "manager" } else { "agent" };
        let pid = until("the process is there", Duration::from_secs(60), || daemon.child_pid(name));
        // Not on the beat of anything.
        sleep(Duration::from_millis(300 + 137 * round % 500));
        let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
        assert!(killed.success());
        until("another one takes its place", Duration::from_secs(60), || {
            daemon.child_pid(name).filter(|other| *other != pid)
        });
    }
    until("the agent watches again", Duration::from_secs(60), || {
        let before = daemon.alerts().len();
        sleep(Duration::from_millis(500));
        (daemon.alerts().len() > before).then_some(())
    });
    let _ = load.kill();
    let _ = load.wait();
    await_all_stored(&daemon);
    assert!(shown(&daemon).len() > 100, "the load made next to nothing");
    let status = daemon.ask_json(&["status"]);
    assert!(status["supervisor"]["children"][0]["restarts"].as_u64() >= Some(3), "{status}");
}

/// A segment of the recorder, replayed, gives the lines that were printed live, byte for byte.
#[test]
fn a_replay_finds_what_was_found_live_to_the_byte() {
    if !lab::ready() {
        return;
    }
    let rules = rules_file("everything.yaml", EVERYTHING);
    let mut daemon = Daemon::own(&["--rules", &rules.to_string_lossy()]);
    let before = Container::idle(image::base(), &[]);
    before.exec(&["sh", "-c", "adduser -D -u 4321 visitor; su visitor -c 'touch /tmp/by-visitor'"]);
    let container = Container::idle(image::base(), &["-e", "DB_PASSWORD=correct-horse-battery"]);
    container.exec(&[
        "sh",
        "-c",
        "echo --password hunter2-secret; (cat /etc/passwd | sh -c 'cat >/tmp/copy'); touch '/tmp/a b'",
    ]);
    daemon.alert_where(&container.name, |alert| alert["output"].as_str().is_some_and(|text| text.contains("/tmp/a b")));
    drop(before);
    sleep(Duration::from_secs(2));
    daemon.signal("TERM");
    assert!(daemon.ends_well(Duration::from_secs(20)));

    let live = daemon.lines();
    let replayed = daemon.ask(&["replay", "--json", "--rules", &rules.to_string_lossy(), "--stats"]);
    let said = String::from_utf8_lossy(&replayed.stderr).into_owned();
    assert!(replayed.status.success(), "{said}");
    let replayed: Vec<String> = String::from_utf8_lossy(&replayed.stdout).lines().map(str::to_owned).collect();
    assert!(live.len() >= 10, "the run found next to nothing");
    for (at, (live, replayed)) in live.iter().zip(&replayed).enumerate() {
        assert_eq!(live, replayed, "line {at}");
    }
    assert_eq!(live.len(), replayed.len(), "{said}");
}

#[test]
fn rules_change_without_a_restart_and_broken_ones_change_nothing() {
    if !lab::ready() {
        return;
    }
    let rules = rules_file("changing.yaml", EVERYTHING);
    let daemon = Daemon::own(&["--rules", &rules.to_string_lossy()]);
    let container = Container::idle(image::base(), &[]);
    let before = until("the digest is told", STORED, || {
        let digest = daemon.ask_json(&["status"])["agent"]["rules"]["digest"].clone();
        digest.is_string().then_some(digest)
    });

    fs::write(&rules, "- rule: broken\n  desc: x\n  condition: evt.type = = x\n  output: x\n  priority: INFO\n")
        .unwrap();
    let refused = daemon.ask(&["reload"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("changing.yaml"), "{said}");
    container.exec(&["touch", "/tmp/still"]);
    daemon.alert_where(&container.name, |alert| alert["rule"] == "File opened").expect("the old rules are in force");
    let alarm = daemon.alerts().into_iter().find(|alert| alert["rule"] == "Tidewatch internal: reload failed");
    assert!(alarm.is_some(), "a failed reload is an alert of its own");

    fs::write(&rules, EVERYTHING.replace("File opened", "File touched")).unwrap();
    let taken = daemon.ask(&["reload"]);
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    container.exec(&["touch", "/tmp/renamed"]);
    daemon.alert("File touched", &container.name);
    let status = until("the new digest is told", Duration::from_secs(10), || {
        let status = daemon.ask_json(&["status"]);
        (status["agent"]["rules"]["digest"] != before).then_some(status)
    });
    assert_eq!(status["agent"]["rules"]["last_error"], Value::Null);
}

#[test]
fn a_second_service_does_not_take_the_place_of_the_first() {
    if !lab::ready() {
        return;
    }
    let daemon = with_everything();
    let second = Command::new(env!("CARGO_BIN_EXE_tidewatch"))
        .arg("run")
        .env("TIDEWATCH_RUN_DIR", daemon.folder().join("run"))
        .env("TIDEWATCH_STATE_DIR", daemon.folder().join("state"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains(&format!("process {}", daemon.pid())), "{said}");
    assert!(daemon.ask(&["status"]).status.success(), "the first goes on");
}

/// Of root's powers the agent keeps four, the manager none; neither can get them back.
#[test]
fn each_process_keeps_only_what_it_needs() {
    if !lab::ready() {
        return;
    }
    let daemon = with_everything();
    let agent = daemon.child_pid("agent").unwrap();
    let manager = until("the manager answers", STORED, || {
        daemon.ask(&["status"]).status.success().then(|| daemon.child_pid("manager").unwrap())
    });
    let field = |pid: u32, name: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().next().unwrap_or_default().to_owned()
    };
    // CAP_DAC_READ_SEARCH 2, CAP_SYS_PTRACE 19, CAP_PERFMON 38, CAP_BPF 39.
    let four = format!("{:016x}", 1_u64 << 2 | 1 << 19 | 1 << 38 | 1 << 39);
    for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
        assert_eq!(field(agent, set), four, "{set} of the agent");
    }
    for set in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"] {
        assert_eq!(field(manager, set), "0".repeat(16), "{set} of the manager");
    }
    for pid in [agent, manager] {
        assert_eq!((field(pid, "NoNewPrivs:"), field(pid, "Seccomp:")), ("1".into(), "2".into()));
    }
    assert_ne!(field(manager, "Uid:"), "0");
    // No socket of the agent is on a network: it has local ones only.
    let inodes: BTreeSet<String> = fs::read_dir(format!("/proc/{agent}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .filter_map(|link| link.to_str()?.strip_prefix("socket:[").map(|rest| rest.trim_end_matches(']').to_owned()))
        .collect();
    for table in ["tcp", "tcp6", "udp", "udp6", "raw"] {
        let text = fs::read_to_string(format!("/proc/{agent}/net/{table}")).unwrap_or_default();
        let network = text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(9).map(str::to_owned));
        assert!(network.into_iter().all(|inode| !inodes.contains(&inode)), "a {table} socket of the agent");
    }
}

/// A secret in arguments and environment of a container is nowhere on disk, neither in alerts.
#[test]
fn secrets_leave_the_agent_nowhere() {
    if !lab::ready() {
        return;
    }
    let mut daemon = with_everything();
    let secret = "correct-horse-battery-9";
    let container = Container::idle(image::base(), &["-e", &format!("DB_PASSWORD={secret}")]);
    container.exec(&["sh", "-c", &format!("/bin/true --password {secret}; /bin/true --password={secret} x")]);
    let alert = daemon
        .alert_where(&container.name, |alert| {
            alert["output"].as_str().is_some_and(|text| text.contains("started true --password [redacted:"))
        })
        .expect("an alert about the program that was given it");
    await_all_stored(&daemon);
    sleep(Duration::from_secs(2));
    daemon.signal("TERM");
    assert!(daemon.ends_well(Duration::from_secs(20)));
    assert!(!alert.to_string().contains(secret));
    assert!(daemon.lines().iter().all(|line| !line.contains(secret)), "an alert has it");
    for file in files_below(&daemon.folder().join("state")) {
        let bytes = fs::read(&file).unwrap();
        assert!(!contains(&bytes, secret.as_bytes()), "{} has it", file.display());
        if file.extension().is_some_and(|end| end == "twrec") {
            // Compressed: look inside.
            let mut segment = tw_sensor::recorder::SegmentReader::open(&file).unwrap();
            let _ = segment.frames(|_, payload| {
                assert!(!contains(payload, secret.as_bytes()), "the recorder has it");
                std::ops::ControlFlow::Continue(())
            });
        }
    }
    // The same secret has the same digest, wherever it stood.
    let digests: BTreeSet<String> = daemon
        .lines()
        .iter()
        .flat_map(|line| {
            line.match_indices("[redacted:")
                .map(|(at, _)| line[at..].split(']').next().unwrap().to_owned())
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(digests.len(), 1, "{digests:?}");
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            found.extend(files_below(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

/// State and run directory of a service that ended serve the next one: what was found is still there.
#[test]
fn state_outlives_the_service() {
    if !lab::ready() {
        return;
    }
    let mut first = with_everything();
    let container = Container::idle(image::base(), &[]);
    container.exec(&["touch", "/tmp/before"]);
    first.alert("File opened", &container.name);
    await_all_stored(&first);
    let found = shown(&first);
    first.signal("TERM");
    assert!(first.ends_well(Duration::from_secs(20)));

    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewatch"));
    let rules = rules_file("everything.yaml", EVERYTHING);
    command.args(["run", "--json", "--rules", &rules.to_string_lossy()]).stdin(Stdio::null());
    let second = Daemon::spawn_in(&mut command, first.folder().to_owned());
    until("the store of the first is there", STORED, || {
        let kept: BTreeSet<String> = stored(&second).into_iter().collect();
        found.is_subset(&kept).then_some(())
    });
}

/// Who comes second is told who was first; and where nothing was found, since when that means something.
#[test]
fn a_second_one_names_the_first_and_silence_has_a_beginning() {
    if !lab::ready() {
        return;
    }
    let rules =
        "- {rule: Never, desc: d, condition: evt.type = close and evt.type = open, output: o, priority: ERROR}\n";
    let daemon = Daemon::own(&["--rules", &rules_file("never.yaml", rules).to_string_lossy()]);
    for verb in ["run", "agent"] {
        let output = daemon.ask(&[verb]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{verb}: {said}");
        assert!(said.contains(&format!("(`tidewatch run`, process {})", daemon.pid())), "{verb}: {said}");
    }
    until("the store answers, and says since when nothing was found", STORED, || {
        let output = daemon.ask(&["findings", "--since", "1h"]);
        let said = String::from_utf8_lossy(&output.stderr);
        (output.status.success() && said.starts_with("nothing found yet; ")).then_some(())
    });
}

/// While the manager cannot work (here: its store is no database), the agent goes on, and status says why.
#[test]
fn the_agent_watches_on_while_the_manager_cannot_work() {
    if !lab::ready() {
        return;
    }
    let mut first = with_everything();
    until("the store is made", STORED, || first.ask(&["status"]).status.success().then_some(()));
    first.signal("TERM");
    assert!(first.ends_well(Duration::from_secs(20)));
    let database = first.folder().join("state/manager/tidewatch.db");
    for file in files_below(&first.folder().join("state/manager")) {
        fs::write(&file, vec![b'x'; 65_536]).unwrap();
    }

    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewatch"));
    let rules = rules_file("everything.yaml", EVERYTHING);
    command.args(["run", "--json", "--rules", &rules.to_string_lossy()]).stdin(Stdio::null());
    let second = Daemon::spawn_in(&mut command, first.folder().to_owned());
    let container = Container::idle(image::base(), &[]);
    container.exec(&["touch", "/tmp/meanwhile"]);
    second.alert("File opened", &container.name);
    let said = until("status says what is wrong", STORED, || {
        let output = second.ask(&["status"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (!output.status.success() && said.contains("manager") | said.contains("store")).then_some(said)
    });
    assert!(said.contains("watching"), "{said}");
    assert_eq!(fs::read(&database).unwrap().len(), 65_536, "a store that cannot be read is not touched");
    assert!(is_alive(second.child_pid("agent").unwrap()));
}
