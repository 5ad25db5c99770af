//! What listens: in containers that were there before the agent and after it, and on the host.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::Value;

use crate::container::Container;
use crate::daemon::{Daemon, rules_file};
use crate::image;
use crate::lab;
use crate::service::until;

const RULES: &str = r#"
- rule: Listens
  desc: a socket listens
  condition: evt.type = listen and evt.res = SUCCESS and container.id != host
  output: "%fd.name %proc.name in %container.name"
  priority: NOTICE
- rule: No More
  desc: a socket listens no more
  condition: evt.type = listen_end and container.id != host
  output: "%fd.name %fd.sport %fd.ino %proc.name in %container.name, %evt.arg.addr"
  priority: NOTICE
"#;

/// One in which nothing but `nc` listens on these ports, for connections.
fn server(port: &str) -> Container {
    let script = format!("while :; do nc -l -p {port} </dev/null >/dev/null; done");
    let container = Container::start(image::base(), &[], &["sh", "-c", &script]);
    let listening = format!("until netstat -ltn | grep -q ':{port} '; do sleep 0.05; done");
    container.exec(&["timeout", "10", "sh", "-c", &listening]);
    container
}

/// The socket on this port, as the service lists it.
fn listed(daemon: &Daemon, port: u16) -> Option<Value> {
    let all = daemon.ask_json(&["listeners"]);
    all.as_array().unwrap().iter().find(|one| one["port"] == port).cloned()
}

fn ports(daemon: &Daemon, container: &str) -> Vec<u64> {
    let all = daemon.ask_json(&["containers"]);
    let item = all.as_array().unwrap().iter().find(|item| item["container"]["name"] == container);
    let listening = item.and_then(|item| item["listening"].as_array());
    listening.into_iter().flatten().map(|one| one["port"].as_u64().unwrap()).collect()
}

#[test]
fn sockets_that_listen_are_listed_for_their_container_until_they_end() {
    if !lab::ready() {
        return;
    }
    let here = TcpListener::bind("127.0.0.84:0").unwrap();
    let host_port = here.local_addr().unwrap().port();
    let before = server("9001");
    let mut daemon = Daemon::own(&["--rules", &rules_file("listeners.yaml", RULES).to_string_lossy()]);
    let after = server("9002");
    let patience = Duration::from_secs(20);
    let old = until("the one that was there before", patience, || {
        listed(&daemon, 9001).filter(|_| ports(&daemon, &before.name) == [9001])
    });
    assert_eq!((&old["protocol"], &old["process"], &old["since"]), (&"tcp".into(), &"nc".into(), &Value::Null));
    let new = until("the one that came", patience, || {
        listed(&daemon, 9002).filter(|_| ports(&daemon, &after.name) == [9002])
    });
    assert!(new["pid"].as_u64().unwrap() > 1 && new["since"].as_str().unwrap().starts_with("20"), "{new}");
    assert_ne!(new["container"], old["container"]);
    let host = listed(&daemon, host_port).expect("the host's");
    assert_eq!((&host["container"], &host["pid"]), (&"".into(), &std::process::id().into()));
    assert_eq!(host["address"], "127.0.0.84");
    daemon.alert("Listens", &after.name);

    // Both kinds of table for people.
    let table = String::from_utf8(daemon.ask(&["containers"]).stdout).unwrap();
    let row = table.lines().find(|line| line.contains(&*after.name)).unwrap();
    assert!(row.contains("9002/tcp"), "{table}");
    let table = String::from_utf8(daemon.ask(&["listeners"]).stdout).unwrap();
    let row = table.lines().find(|line| line.contains("9001/tcp")).unwrap();
    assert!(row.starts_with(&*before.name) && row.ends_with("before the agent looked"), "{table}");
    assert!(table.lines().any(|line| line.starts_with("the host") && line.contains("127.0.0.84")), "{table}");

    // One ends by itself, one with its container, one on the host.
    after.exec(&["timeout", "1", "nc", "-l", "-p", "9003"]);
    let end = daemon.alert_where(&after.name, |alert| alert["output_fields"]["fd.sport"] == 9003).unwrap();
    assert_eq!(
        (&end["rule"], &end["output_fields"]["fd.name"]),
        (&"No More".into(), &end["output_fields"]["evt.arg.addr"])
    );
    assert!(end["output_fields"]["fd.ino"].as_u64().unwrap() > 0, "{end}");
    until("it is gone", patience, || listed(&daemon, 9003).is_none().then_some(()));
    drop((before, here));
    until("both are gone", patience, || {
        (listed(&daemon, 9001).is_none() && listed(&daemon, host_port).is_none()).then_some(())
    });
    assert_eq!(ports(&daemon, &after.name), [9002]);
    let metrics = daemon.ask_json(&["status"])["agent"]["world"]["listeners"].as_u64().unwrap();
    let tables = daemon.ask_json(&["status"])["agent"]["tables"].clone();
    let table = tables.as_array().unwrap().iter().find(|table| table["table"] == "listeners").unwrap().clone();
    assert!(metrics > 0 && table["capacity"] == 8192, "{table}");
    daemon.signal("TERM");
    assert!(daemon.ends_well(patience));
}
