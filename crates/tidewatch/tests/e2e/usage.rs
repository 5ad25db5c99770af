//! What containers use is measured, and rules can ask for it.

use std::sync::OnceLock;

use serde_json::Value;

use crate::container::Container;
use crate::daemon::{Daemon, rules_file};
use crate::image;
use crate::lab;
use crate::network::Network;

/// Two rules that name no type of event: the first asks for a measurement by its field, the second must not be tried on
/// measurements.
const RULES: &str = r#"
- rule: Busy
  desc: uses processors
  condition: resource.cpu > 20 and container.id != host
  output: busy %container.name at %resource.cpu of %resource.cpu.limit, %resource.cpu.of_limit, held back %resource.cpu.throttled (%resource.memory of %resource.memory.limit, %resource.processes processes, %resource.descriptors descriptors, %resource.interval)
  priority: NOTICE
- rule: Idle by name
  desc: any act of it
  condition: proc.name = sleep and container.id != host and not evt.type in (execve, procexit, clone)
  output: sleep in %container.name did %evt.type
  priority: NOTICE
- rule: Out of memory
  desc: killed
  condition: evt.type = resource and resource.memory.oom_kills > 0
  output: "%resource.memory.oom_kills killed in %container.name: %evt.args"
  priority: NOTICE
- rule: Downloads
  desc: receives
  condition: evt.type = resource and resource.net.received > 100000
  output: "%container.name receives %resource.net.received"
  priority: NOTICE
- rule: Measured
  desc: all
  condition: evt.type = resource and container.id != host
  output: "%container.name %proc.name %proc.pid %resource.net.sent %resource.disk.written"
  priority: NOTICE
"#;

fn daemon() -> Option<&'static Daemon> {
    static DAEMON: OnceLock<Daemon> = OnceLock::new();
    lab::ready().then(|| {
        DAEMON.get_or_init(|| {
            let rules = rules_file("usage.yaml", RULES);
            Daemon::shared(&["--rules", &rules.to_string_lossy()])
        })
    })
}

fn number(alert: &Value, field: &str) -> u64 {
    alert["output_fields"][field].as_u64().unwrap_or_else(|| panic!("{field} in {alert}"))
}

#[test]
fn a_busy_container_is_measured_against_its_limits() {
    let Some(daemon) = daemon() else { return };
    let options = ["--cpus", "0.5", "--memory", "64m", "--pids-limit", "50"];
    let busy = Container::start(image::base(), &options, &["sh", "-c", "while :; do :; done"]);
    let alert = daemon.alert("Busy", &busy.name);
    assert_eq!((number(&alert, "resource.cpu.limit"), number(&alert, "resource.memory.limit")), (50, 64 << 20));
    let (cpu, share) = (number(&alert, "resource.cpu"), number(&alert, "resource.cpu.of_limit"));
    assert!((21..=75).contains(&cpu) && share.abs_diff(cpu * 2) <= 2, "{alert}");
    assert!(number(&alert, "resource.processes") >= 1 && number(&alert, "resource.memory") > 0, "{alert}");
}

#[test]
fn a_kill_for_want_of_memory_is_told() {
    let Some(daemon) = daemon() else { return };
    // The shell lives on, so that there is something left to be measured.
    let grow = "while :; do sleep 1; awk 'BEGIN { s = \"x\"; while (1) s = s s }'; done";
    let options = ["--memory", "16m", "--memory-swap", "16m"];
    let greedy = Container::start(image::base(), &options, &["sh", "-c", grow]);
    let alert = daemon.alert("Out of memory", &greedy.name);
    assert!((1..=2).contains(&number(&alert, "resource.memory.oom_kills")), "{alert}");
}

#[test]
fn what_a_container_receives_is_measured() {
    let Some(daemon) = daemon() else { return };
    let network = Network::private();
    let options = ["--network", network.name.as_str()];
    // Standard input that never ends keeps nc from hanging up.
    let take = "while :; do nc -l -p 99 </dev/zero >/dev/null; done";
    let server = Container::start(image::base(), &options, &["sh", "-c", take]);
    let give = format!("while :; do dd if=/dev/zero bs=100000 count=20 | nc {} 99; sleep 0.1; done", server.address());
    let _client = Container::start(image::base(), &options, &["sh", "-c", &give]);
    let alert = daemon.alert("Downloads", &server.name);
    assert!(number(&alert, "resource.net.received") > 100_000, "{alert}");
}

#[test]
fn measurements_name_the_first_process_and_are_no_acts() {
    let Some(daemon) = daemon() else { return };
    let idle = Container::idle(image::base(), &[]);
    let alert = daemon.alert("Measured", &idle.name);
    assert_eq!(alert["output_fields"]["proc.name"], "sleep", "{alert}");
    assert_eq!(alert["output_fields"]["resource.net.sent"], 0, "no network but its own loopback: {alert}");
    let acts = daemon.alerts_about(&idle.name);
    let acts: Vec<_> = acts.iter().filter(|alert| alert["rule"] == "Idle by name").collect();
    assert!(acts.iter().all(|alert| alert["output_fields"]["evt.type"] != "resource"), "{acts:?}");
}
