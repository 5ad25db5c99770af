//! How much was seen: the coverage ledger, the lanes under a storm, the budget of CPU, and a kill of the agent.
//!
//! Those that take minutes are ignored; docs/coverage-ledger.md has their command and results.

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::container::Container;
use crate::daemon::{Daemon, is_alive, rules_file};
use crate::image;
use crate::lab;
use crate::service::until;

const RULES: &str = r#"
- rule: Mark
  desc: something to find
  condition: evt.type = execve and proc.args contains mark-
  output: a mark %proc.args in %container.name
  priority: NOTICE
- rule: Incomplete
  desc: something is missing of a minute
  condition: evt.type = coverage and coverage.class != all and coverage.percent < 100
  output: "%coverage.percent percent of %coverage.class of %container.name | %evt.args"
  priority: NOTICE
- rule: Minute
  desc: the summary of the host
  condition: evt.type = coverage and coverage.class = all
  output: "%coverage.percent percent, %coverage.seen seen"
  priority: NOTICE
"#;

fn with_marks(variables: &[(&str, &str)]) -> Daemon {
    let rules = rules_file("marks.yaml", RULES);
    let folder = lab::scratch().join(lab::unique("service"));
    std::fs::create_dir_all(&folder).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewatch"));
    command.args(["run", "--json", "--rules", &rules.to_string_lossy()]).envs(variables.iter().copied());
    Daemon::spawn_in(&mut command, folder)
}

fn coverage(alert: &Value) -> &Value {
    &alert["tidewatch"]["coverage"]
}

/// `agent.coverage.classes` of the status: seen, and missed by reason.
fn class(status: &Value, name: &str) -> (u64, Vec<(String, u64)>) {
    let classes = status["agent"]["coverage"]["classes"].as_array().unwrap();
    let class = classes.iter().find(|class| class["class"] == name).unwrap();
    let missed = class["missed"].as_array().unwrap().iter();
    let missed = missed.map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].as_u64().unwrap()));
    (class["seen"].as_u64().unwrap(), missed.collect())
}

fn lost(missed: &[(String, u64)]) -> u64 {
    let lost = ["ring_full", "no_buffer", "gave_way", "malformed"];
    missed.iter().filter(|(why, _)| lost.contains(&why.as_str())).map(|(_, n)| n).sum()
}

/// An alert about a quiet container says 100 %; one about a container that flooded its budget says what is missing,
/// and the minute is an event that a rule finds.
#[test]
fn alerts_say_how_much_was_seen_of_their_container() {
    if !lab::ready() {
        return;
    }
    let mut daemon = with_marks(&[("TIDEWATCH_AGENT__PRIVILEGED_RATE", "200")]);
    let (quiet, loud) = (Container::idle(image::base(), &[]), Container::idle(image::base(), &[]));
    loud.exec(&["/usr/local/bin/storms", "flood", "1"]);
    // What the kernel half counted is read ten times a second.
    sleep(Duration::from_millis(300));
    quiet.exec(&["true", "mark-quiet"]);
    loud.exec(&["true", "mark-loud"]);
    let alert = daemon.alert("Mark", &quiet.name);
    assert_eq!(
        (&coverage(&alert)["percent"], &coverage(&alert)["text"]),
        (&100.0.into(), &"100 % in the last minute".into())
    );
    let alert = daemon.alert("Mark", &loud.name);
    assert!(coverage(&alert)["percent"].as_f64().unwrap() < 100.0, "{alert}");
    let text = coverage(&alert)["text"].as_str().unwrap();
    assert!(text.contains("in the last minute") && text.contains("privileged events counted only"), "{text}");
    let status = until("the status has it", Duration::from_secs(10), || {
        let status = daemon.ask_json(&["status"]);
        let worst = status["agent"]["coverage"]["worst"].as_array()?.clone();
        worst.iter().any(|container| container["name"] == loud.name.as_str()).then_some(status)
    });
    let (seen, missed) = class(&status, "privileged");
    assert!(seen > 20 && missed.iter().any(|(why, n)| why == "folded" && *n > 100), "{seen} {missed:?}");
    assert_eq!(lost(&class(&status, "lifecycle").1), 0);
    // The end of the agent ends the minute, too.
    daemon.signal("TERM");
    assert!(daemon.ends_well(Duration::from_secs(20)));
    let minute = daemon.alerts_about(&loud.name).into_iter().find(|alert| alert["rule"] == "Incomplete");
    let minute = minute.expect("the minute of the loud container");
    assert_eq!(minute["output_fields"]["coverage.class"], "privileged", "{minute}");
    assert!(daemon.alerts_about(&quiet.name).iter().all(|alert| alert["rule"] != "Incomplete"));
    assert!(daemon.alerts().iter().any(|alert| alert["rule"] == "Minute"));
}

/// A budget that a busy container makes impossible: the ladder is climbed, told and counted, and the lifecycle is whole.
#[test]
fn over_its_budget_the_agent_gives_up_what_it_declared_and_nothing_else() {
    if !lab::ready() {
        return;
    }
    let daemon = with_marks(&[("TIDEWATCH_AGENT__CPU_BUDGET", "1")]);
    let busy = Container::start(image::base(), &[], &["/usr/local/bin/storms", "opens", "120"]);
    let other = Container::idle(image::base(), &[]);
    let level = |status: &Value| status["agent"]["budget"]["level"].as_u64().unwrap_or(0);
    let status = until("the ladder is climbed", Duration::from_secs(90), || {
        other.exec(&["true", "mark-under-load"]);
        let status = daemon.ask_json(&["status"]);
        (level(&status) >= 4 && class(&status, "file").1.iter().any(|(why, n)| why == "sampled" && *n > 0))
            .then_some(status)
    });
    let given_up = status["agent"]["budget"]["given_up"].as_array().unwrap();
    assert!(given_up.iter().any(|what| what == "the flight recorder"), "{given_up:?}");
    let problems = status["problems"].as_array().unwrap();
    assert!(problems.iter().any(|problem| problem["code"] == "over-budget"), "{problems:?}");
    for name in ["lifecycle", "privileged"] {
        let (seen, missed) = class(&status, name);
        assert!(seen > 0 && missed.iter().all(|(why, n)| *n == 0 || why == "folded"), "{name}: {missed:?}");
    }
    let told = daemon.alerts().into_iter().filter(|alert| alert["rule"] == "Tidewatch internal: budget of CPU");
    assert!(told.count() >= 4);
    daemon.alert("Mark", &other.name);
    drop(busy);
}

/// The agent is killed: the supervisor starts another, which holds as many programs as the one before, knows what runs,
/// and says from when to when nobody watched.
#[test]
fn a_killed_agent_leaves_no_program_behind_and_its_successor_states_the_gap() {
    if !lab::ready() {
        return;
    }
    let daemon = with_marks(&[]);
    let container = Container::idle(image::base(), &[]);
    container.exec(&["true", "mark-before"]);
    daemon.alert("Mark", &container.name);
    let first = daemon.child_pid("agent").unwrap();
    let held = programs_of(first);
    let before = Instant::now();
    assert!(Command::new("kill").args(["-KILL", &first.to_string()]).status().unwrap().success());
    let second = until("another agent", Duration::from_secs(60), || {
        daemon.child_pid("agent").filter(|pid| *pid != first && is_alive(*pid))
    });
    let gap = until("the gap is told", Duration::from_secs(60), || {
        daemon.alerts().into_iter().find(|alert| alert["rule"] == "Tidewatch internal: not watched")
    });
    let seconds: f64 = gap["output_fields"]["unwatched.seconds"].as_str().unwrap().parse().unwrap();
    let longest = before.elapsed().as_secs_f64() + 2.0;
    assert!(seconds > 0.0 && seconds < longest, "{seconds} of at most {longest}");
    assert!(gap["output"].as_str().unwrap().contains("killed"), "{gap}");
    let status = until("the new agent's state", Duration::from_secs(20), || {
        let status = daemon.ask_json(&["status"]);
        (status["agent"]["pid"] == second).then_some(status)
    });
    assert_eq!(status["agent"]["coverage"]["unwatched"]["end"], "killed");
    // What runs was read from /proc, so that its container has a name from the first event on.
    container.exec(&["true", "mark-after"]);
    let after = daemon.alert_where(&container.name, |alert| alert["output"].as_str().unwrap().contains("mark-after"));
    assert_eq!(coverage(&after.expect("an alert of the new agent"))["percent"], 100.0);
    if !held.is_empty() {
        let now = programs_of(second);
        assert_eq!(now.len(), held.len(), "as many programs as before");
        let all = all_programs();
        assert!(held.iter().all(|id| !all.contains(id)), "programs of the killed agent are still in the kernel");
    }
}

/// While one container opens, changes users and is denied mounts at full speed, 100,000 executions in another lose none.
#[test]
#[ignore = "takes minutes: docs/coverage-ledger.md"]
fn a_hundred_thousand_executions_beside_a_flood_lose_none() {
    if !lab::ready() {
        return;
    }
    let number = std::env::var("EXECS").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000_u64);
    let daemon = with_marks(&[]);
    let before = until("the agent told its state", Duration::from_secs(20), || {
        let status = daemon.ask_json(&["status"]);
        status["agent"]["coverage"]["classes"].as_array().is_some_and(|all| !all.is_empty()).then_some(status)
    });
    let flood = Container::start(image::base(), &[], &["/usr/local/bin/storms", "flood", "3600"]);
    let execs = Container::idle(image::base(), &[]);
    let started = Instant::now();
    assert!(execs.exec(&["/usr/local/bin/storms", "execs", &number.to_string()]).status.success());
    let took = started.elapsed();
    drop(flood);
    execs.exec(&["true", "mark-end"]);
    until("the end is seen", Duration::from_secs(120), || daemon.alerts_about(&execs.name).pop());
    sleep(Duration::from_secs(2));
    let status = daemon.ask_json(&["status"]);
    for name in ["lifecycle", "privileged", "file"] {
        let (seen, missed) = class(&status, name);
        let seen = seen - class(&before, name).0;
        eprintln!("{name}: {seen} seen; {missed:?}");
    }
    eprintln!("{number} executions in {:.1} s beside the flood", took.as_secs_f64());
    let (seen, missed) = class(&status, "lifecycle");
    assert_eq!(missed.iter().map(|(_, n)| n).sum::<u64>(), 0, "{missed:?}");
    // Each is a fork, an execution and an end.
    assert!(seen - class(&before, "lifecycle").0 >= 3 * number);
}

/// A million files, a hundred thousand processes and sockets do not move memory past its bound.
#[test]
#[ignore = "takes minutes: docs/limits.md"]
fn a_million_files_and_processes_do_not_move_memory_past_the_bound() {
    if !lab::ready() {
        return;
    }
    let daemon = with_marks(&[]);
    let agent = daemon.child_pid("agent").unwrap();
    let idle = resident(agent);
    let container = Container::idle(image::base(), &[]);
    let mut most = idle;
    std::thread::scope(|scope| {
        let attack = scope.spawn(|| {
            let words = ["/usr/local/bin/storms", "attack", "1000000", "120000", "200000"];
            assert!(container.exec(&words).status.success());
        });
        while !attack.is_finished() {
            most = most.max(resident(agent));
            sleep(Duration::from_millis(200));
        }
    });
    sleep(Duration::from_secs(3));
    let status = daemon.ask_json(&["status"]);
    for table in status["agent"]["tables"].as_array().unwrap() {
        eprintln!("{table}");
        assert!(table["entries"].as_u64() <= table["capacity"].as_u64(), "{table}");
    }
    eprintln!("resident: {} MiB idle, {} MiB at most, {} MiB after", idle >> 20, most >> 20, resident(agent) >> 20);
    assert!(most < 120 << 20, "{most} bytes are more than the bound of docs/limits.md");
}

fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Numbers of the kernel's BPF programs that a process holds; none if bpftool cannot say.
fn programs_of(pid: u32) -> Vec<u64> {
    let holds =
        |program: &Value| program["pids"].as_array().is_some_and(|pids| pids.iter().any(|entry| entry["pid"] == pid));
    programs().iter().filter(|program| holds(program)).filter_map(|program| program["id"].as_u64()).collect()
}

fn all_programs() -> Vec<u64> {
    programs().iter().filter_map(|program| program["id"].as_u64()).collect()
}

fn programs() -> Vec<Value> {
    let output = ["bpftool", "/usr/sbin/bpftool"]
        .iter()
        .find_map(|program| Command::new(program).args(["prog", "show", "-j"]).output().ok());
    output.and_then(|output| serde_json::from_slice(&output.stdout).ok()).unwrap_or_default()
}
