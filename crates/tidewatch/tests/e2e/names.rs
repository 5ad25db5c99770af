//! DNS of containers, also through Docker's own name server, and the names that connections get from it.

use std::time::Duration;

use crate::container::Container;
use crate::daemon::{Daemon, rules_file};
use crate::image;
use crate::lab;
use crate::network::Network;

const RULES: &str = r#"
- rule: Name asked
  desc: every question and answer of a container
  condition: evt.type = dns and container.id != host
  output: asked %dns.name for %dns.type at %dns.server (answer=%dns.is_answer rcode=%dns.rcode answers=%dns.answers args=%evt.args)
  priority: NOTICE
- rule: Connected to a name
  desc: every connection of a container to an address that it looked up
  condition: evt.type = connect and container.id != host and fd.sip.name exists
  output: connected to %fd.sip.name at %fd.sip
  priority: NOTICE
- rule: Server asked for
  desc: first bytes that name a host
  condition: evt.type = write and container.id != host and (net.http_host exists or net.sni exists)
  output: asked for %net.http_host %net.sni (to=%fd.sip.name)
  priority: NOTICE
- rule: Flow ended
  desc: what went over a connection of a container
  condition: evt.type = flow and container.id != host and flow.state in (closed, reset)
  output: flow %fd.name (in=%flow.bytes_in out=%flow.bytes_out to=%fd.sip.name state=%flow.state port=%fd.sport)
  priority: NOTICE
"#;

/// A container asks Docker's name server for another, and connects by the address that it was told. What is replayed
/// says the same.
#[test]
fn a_connection_has_the_name_that_its_container_asked_docker_for() {
    if !lab::ready() {
        return;
    }
    let rules = rules_file("names.yaml", RULES);
    let mut daemon = Daemon::own(&["--rules", &rules.to_string_lossy()]);
    let network = Network::private();
    let server =
        Container::start(image::base(), &["--network", &network.name], &["httpd", "-f", "-p", "8080", "-h", "/www"]);
    server.exec(&["timeout", "10", "sh", "-c", "until netstat -ltn | grep -q ':8080 '; do sleep 0.05; done"]);
    let (name, address) = (server.name.as_str(), server.address());
    let client = Container::idle(image::base(), &["--network", &network.name]);
    client.exec(&["nslookup", name]);
    client.exec(&["nc", "-w", "1", &address, "8080"]);
    let request = format!("printf 'GET / HTTP/1.1\\r\\nHost: Shop.example:8080\\r\\n\\r\\n' | nc {address} 8080");
    client.exec(&["timeout", "5", "sh", "-c", &request]);

    let fields = |rule: &str, wanted: &dyn Fn(&serde_json::Value) -> bool| {
        let alert = daemon.alert_where(&client.name, |alert| alert["rule"] == rule && wanted(&alert["output_fields"]));
        alert.unwrap_or_else(|| panic!("no {rule:?}; alerts: {:#?}", outputs(&daemon, &client.name)))
    };
    let asked = |answer: bool| {
        fields("Name asked", &move |fields| {
            let is_this = fields["dns.name"].as_str().is_some_and(|asked| asked.starts_with(name));
            is_this && fields["dns.type"] == "A" && fields["dns.is_answer"] == answer
        })
    };
    let question = asked(false);
    assert_eq!(question["output_fields"]["dns.server"], "127.0.0.11", "{question:#}");
    let told = asked(true);
    assert_eq!(told["output_fields"]["dns.rcode"], "NOERROR", "{told:#}");
    assert!(told["output"].as_str().is_some_and(|text| text.contains(&format!("(A {address})"))), "{told:#}");
    let connected = fields("Connected to a name", &|fields| fields["fd.sip"] == address.as_str());
    assert_eq!(connected["output_fields"]["fd.sip.name"], name);
    let request = fields("Server asked for", &|fields| fields["net.http_host"] == "shop.example");
    assert_eq!(request["output_fields"]["fd.sip.name"], name);

    // `printf` gave the request 43 bytes; the server answered with a page.
    let flow = fields("Flow ended", &|fields| fields["fd.sport"] == 8080 && fields["flow.bytes_out"] == 43);
    assert_eq!(flow["output_fields"]["fd.sip.name"], name, "{flow:#}");
    assert!(flow["output_fields"]["flow.bytes_in"].as_u64().is_some_and(|bytes| bytes > 50), "{flow:#}");

    std::thread::sleep(Duration::from_secs(1));
    daemon.signal("TERM");
    assert!(daemon.ends_well(Duration::from_secs(20)));
    let replayed = daemon.ask(&["replay", "--json", "--rules", &rules.to_string_lossy()]);
    assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stderr));
    let replayed = String::from_utf8_lossy(&replayed.stdout).into_owned();
    assert_eq!(daemon.lines(), replayed.lines().map(str::to_owned).collect::<Vec<_>>());
}

fn outputs(daemon: &Daemon, container: &str) -> Vec<String> {
    daemon.alerts_about(container).iter().map(|alert| alert["output"].to_string()).collect()
}
