//! Rules that change under a service that runs, and rules that are broken when one of its processes starts.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::container::Container;
use crate::daemon::{Daemon, EVERYTHING, rules_file};
use crate::image;
use crate::lab;
use crate::service::{STORED, until};

const BROKEN: &str = "- rule: broken\n  desc: x\n  condition: evt.tipe = x\n  output: x\n  priority: INFO\n";
/// Looking, settling, loading.
const SEEN: Duration = Duration::from_secs(30);

fn with(rules: &Path) -> Daemon {
    Daemon::own(&["--rules", &rules.to_string_lossy(), "--set", "rules.dropins=null"])
}

/// An alert of the agent about itself.
fn about_itself(daemon: &Daemon, name: &str) -> Value {
    let rule = format!("Tidewatch internal: {name}");
    until(&rule, SEEN, || daemon.alerts().into_iter().find(|alert| alert["rule"] == *rule))
}

fn status(daemon: &Daemon) -> Value {
    until("the agent told its state", STORED, || {
        let status = daemon.ask_json(&["status"]);
        status["agent"].is_object().then_some(status)
    })
}

fn problems(daemon: &Daemon) -> Vec<String> {
    let problems = status(daemon)["problems"].clone();
    let codes = problems.as_array().unwrap().iter().map(|problem| problem["code"].as_str().unwrap().to_owned());
    codes.filter(|code| ["rules", "settings", "metrics"].iter().any(|part| code.starts_with(part))).collect()
}

#[test]
fn a_rule_file_that_changes_is_loaded_by_itself_and_a_broken_one_is_told() {
    if !lab::ready() {
        return;
    }
    let rules = rules_file("watched.yaml", EVERYTHING);
    let daemon = with(&rules);
    let container = Container::idle(image::base(), &[]);
    let before = status(&daemon);

    fs::write(&rules, EVERYTHING.replace("File opened", "File touched")).unwrap();
    let told = about_itself(&daemon, "rules changed");
    let name = rules.to_string_lossy().into_owned();
    assert_eq!(told["output_fields"]["rules.files"], *name, "{told}");
    container.exec(&["touch", "/tmp/once"]);
    daemon.alert("File touched", &container.name);
    let after = until("the state agrees", SEEN, || {
        let after = status(&daemon);
        (after["agent"]["rules"]["digest"] != before["agent"]["rules"]["digest"]).then_some(after)
    });
    let sum = String::from_utf8(Command::new("sha256sum").arg(&rules).output().unwrap().stdout).unwrap();
    assert_eq!(after["agent"]["rules"]["files"][0]["digest"], *sum.split(' ').next().unwrap());
    let shown = String::from_utf8(daemon.ask(&["status"]).stdout).unwrap();
    assert!(shown.contains(&sum[..12]), "{shown}");
    assert_eq!(after["agent"]["pid"], before["agent"]["pid"], "nothing was started again");

    fs::write(&rules, BROKEN).unwrap();
    let alarm = about_itself(&daemon, "reload failed");
    assert_eq!(
        (&alarm["output_fields"]["rules.file"], &alarm["output_fields"]["rules.line"]),
        (&name.into(), &"3".into())
    );
    assert!(alarm["output"].as_str().unwrap().contains("watched.yaml:3:14: error"), "{alarm}");
    assert!(alarm["tidewatch"]["advice"].as_str().unwrap().contains("tidewatch config check"), "{alarm}");
    container.exec(&["touch", "/tmp/twice"]);
    daemon
        .alert_where(&container.name, |alert| alert["output"].as_str().is_some_and(|text| text.contains("/tmp/twice")))
        .expect("the rules from before are in force");
    until("status says so", SEEN, || (problems(&daemon) == ["rules-reload"]).then_some(()));
    assert!(!daemon.ask(&["status"]).status.success());

    // Mended: nobody has to say so.
    fs::write(&rules, EVERYTHING).unwrap();
    until("the problem is gone", SEEN, || problems(&daemon).is_empty().then_some(()));
}

#[test]
fn a_file_that_is_dropped_in_adds_to_the_rules_and_overrides_them() {
    if !lab::ready() {
        return;
    }
    let rules = rules_file("base.yaml", EVERYTHING);
    let folder = lab::scratch().join(lab::unique("rules.d"));
    let named = format!("rules.dropins={}", folder.display());
    let daemon = Daemon::own(&["--rules", &rules.to_string_lossy(), "--set", &named]);
    let container = Container::idle(image::base(), &[]);
    // The folder need not be there at the start.
    fs::create_dir(&folder).unwrap();
    let change = "- rule: File opened\n  condition: and fd.name != /tmp/peaceful\n  priority: CRITICAL\n  \
                  override: {condition: append, priority: replace}\n";
    fs::write(folder.join("10-mine.yaml"), change).unwrap();
    about_itself(&daemon, "rules changed");
    container.exec(&["touch", "/tmp/peaceful", "/tmp/other"]);
    let alert = daemon.alert("File opened", &container.name);
    assert_eq!(alert["priority"], "Critical", "{alert}");
    assert!(alert["output"].as_str().unwrap().contains("/tmp/other"), "{alert}");
    until("both files are listed", SEEN, || {
        (status(&daemon)["agent"]["rules"]["files"].as_array().unwrap().len() == 2).then_some(())
    });
}

/// Whoever asked for a reload and then for the state sees what came of it: every time.
#[test]
fn a_reload_ends_when_the_state_agrees() {
    if !lab::ready() {
        return;
    }
    let rules = rules_file("agreed.yaml", EVERYTHING);
    let daemon = with(&rules);
    status(&daemon);
    for round in 0..6 {
        fs::write(&rules, format!("{EVERYTHING}# {round}\n")).unwrap();
        let sum = String::from_utf8(Command::new("sha256sum").arg(&rules).output().unwrap().stdout).unwrap();
        let done = daemon.ask(&["reload"]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let files = daemon.ask_json(&["status"])["agent"]["rules"]["files"].clone();
        assert_eq!(files[0]["digest"], *sum.split(' ').next().unwrap(), "round {round}");
    }
    fs::write(&rules, BROKEN).unwrap();
    assert!(!daemon.ask(&["reload"]).status.success());
    assert_eq!(problems(&daemon), ["rules-reload"]);
}

/// Every file is found by the rules before or by those after, while they change again and again.
#[test]
fn no_event_is_missed_while_rules_change() {
    if !lab::ready() {
        return;
    }
    const FILES: usize = 3000;
    let rules = rules_file("swapped.yaml", EVERYTHING);
    let daemon = with(&rules);
    let container = Container::idle(image::base(), &[]);
    let script = format!(
        "i=0; while [ $i -lt {FILES} ]; do : >/tmp/n$i; i=$((i+1)); [ $((i % 20)) = 0 ] && usleep 40000; done; : >/tmp/end"
    );
    let mut load = Command::new("docker")
        .args(["exec", &container.name, "sh", "-c", &script])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut swaps = 0;
    while load.try_wait().unwrap().is_none() {
        swaps += 1;
        fs::write(&rules, EVERYTHING.replace("File opened", &format!("File opened {swaps}"))).unwrap();
        let done = daemon.ask(&["reload"]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    daemon
        .alert_where(&container.name, |alert| {
            alert["output"].as_str().is_some_and(|text| text.contains("opened /tmp/end"))
        })
        .expect("the last file");
    let found: BTreeSet<String> = daemon
        .alerts_about(&container.name)
        .iter()
        .filter_map(|alert| {
            Some(alert["output"].as_str()?.split_once("opened /tmp/n")?.1.split(' ').next()?.to_owned())
        })
        .collect();
    assert!(swaps >= 3, "only {swaps} reloads");
    let missing: Vec<usize> = (0..FILES).filter(|n| !found.contains(&n.to_string())).collect();
    let lost = daemon.alerts().into_iter().filter(|alert| alert["rule"] == "Tidewatch internal: events lost");
    let lost: Vec<String> = lost.map(|alert| alert["output"].to_string()).collect();
    assert!(missing.is_empty(), "after {swaps} reloads {missing:?} are missing; {lost:?}; {}", status(&daemon));
}

#[test]
fn an_agent_that_is_killed_returns_with_the_last_good_rules() {
    if !lab::ready() {
        return;
    }
    let rules = rules_file("last-good.yaml", EVERYTHING);
    let mut daemon = with(&rules);
    let container = Container::idle(image::base(), &[]);
    // What was taken later is what counts.
    fs::write(&rules, EVERYTHING.replace("File opened", "File touched")).unwrap();
    assert!(daemon.ask(&["reload"]).status.success());

    fs::write(&rules, BROKEN).unwrap();
    let pid = daemon.child_pid("agent").unwrap();
    assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
    until("another agent takes its place", SEEN, || daemon.child_pid("agent").filter(|other| *other != pid));
    let alarm = about_itself(&daemon, "last good rules stand in");
    assert!(alarm["output"].as_str().unwrap().contains("last-good.yaml:3:14: error"), "{alarm}");
    container.exec(&["touch", "/tmp/again"]);
    daemon.alert("File touched", &container.name);
    until("status says so", SEEN, || (problems(&daemon) == ["rules-last-good"]).then_some(()));
    assert_eq!(status(&daemon)["agent"]["rules"]["origin"], "last_good");
    assert!(daemon.log().iter().any(|line| line.contains("ERROR") && line.contains("stand in")), "the log says so");

    // A reboot, say: the service starts anew, and the file is gone altogether.
    daemon.signal("TERM");
    assert!(daemon.ends_well(Duration::from_secs(20)));
    fs::remove_file(&rules).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewatch"));
    command.args(["run", "--json", "--rules", &rules.to_string_lossy(), "--set", "rules.dropins=null"]);
    let second = Daemon::spawn_in(command.stdin(Stdio::null()), daemon.folder().to_owned());
    about_itself(&second, "last good rules stand in");
    container.exec(&["touch", "/tmp/rebooted"]);
    second.alert("File touched", &container.name);
    // Good rules end it.
    fs::write(&rules, EVERYTHING).unwrap();
    until("the problem is gone", SEEN, || problems(&second).is_empty().then_some(()));
    assert_eq!(status(&second)["agent"]["rules"]["origin"], "configured");
    container.exec(&["touch", "/tmp/mended"]);
    second.alert("File opened", &container.name);
}

#[test]
fn an_agent_that_is_killed_returns_though_the_settings_are_broken() {
    if !lab::ready() {
        return;
    }
    let rules = rules_file("settings.yaml", EVERYTHING);
    let config = rules_file("tidewatch.yaml", "agent: {priority: debug}\n");
    let named = config.to_string_lossy().into_owned();
    let daemon = Daemon::own(&["--config", &named, "--rules", &rules.to_string_lossy(), "--set", "rules.dropins=null"]);
    let container = Container::idle(image::base(), &[]);
    fs::write(&config, "agent: {prority: debug}\n").unwrap();
    let pid = daemon.child_pid("agent").unwrap();
    assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
    let alarm = about_itself(&daemon, "last good settings stand in");
    assert!(alarm["output"].as_str().unwrap().contains("tidewatch.yaml:1:9"), "{alarm}");
    container.exec(&["touch", "/tmp/again"]);
    daemon.alert("File opened", &container.name);
    until("status says so", SEEN, || (problems(&daemon) == ["settings-last-good"]).then_some(()));
    fs::write(&config, "agent: {priority: debug}\n").unwrap();
    assert!(daemon.ask(&["reload"]).status.success());
    assert_eq!(problems(&daemon), [] as [&str; 0]);
}

/// Where nothing was ever in force, broken rules end the start, as a person who waits for it wants.
#[test]
fn a_first_start_with_broken_rules_is_refused() {
    if !lab::ready() {
        return;
    }
    let rules = rules_file("first.yaml", BROKEN);
    let folder = lab::scratch().join(lab::unique("first"));
    let output = Command::new(env!("CARGO_BIN_EXE_tidewatch"))
        .args(["run", "--json", "--rules", &rules.to_string_lossy(), "--set", "metrics.listen=null"])
        .env("TIDEWATCH_RUN_DIR", folder.join("run"))
        .env("TIDEWATCH_STATE_DIR", folder.join("state"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("first.yaml:3:14") && said.contains("Nothing is watched"), "{said}");
}

#[test]
fn a_port_of_metrics_that_is_taken_is_told_and_had_once_it_is_free() {
    if !lab::ready() {
        return;
    }
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    let rules = rules_file("everything.yaml", EVERYTHING);
    let daemon = Daemon::own(&["--rules", &rules.to_string_lossy(), "--set", &format!("metrics.listen={address}")]);
    until("status says so", STORED, || (problems(&daemon) == ["metrics-unbound"]).then_some(()));
    let doctor = daemon.ask(&["doctor"]);
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("metrics-unbound"));
    drop(holder);
    let text = until("metrics are served", Duration::from_secs(60), || {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    });
    assert!(text.contains("tidewatch_rules_file_info{file=\""), "{text}");
    assert_eq!(problems(&daemon), [] as [&str; 0]);
}
