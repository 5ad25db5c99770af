//! What the API of Kubernetes says of a pod is in the alerts about its containers: from a server that follows a script,
//! through a manager in its sandbox, to an agent that watches real containers.

#[path = "../../../manager/tests/ground/api_server.rs"]
mod api_server;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use api_server::{ApiServer, furnish, kubeconfig, pod};
use serde_json::{Value, json};

use crate::container::Container;
use crate::containerd;
use crate::cri::{Order, Pod};
use crate::daemon::{Daemon, rules_file};
use crate::{image, lab};

const RULES: &str = r#"
- rule: Program started
  desc: every program in a container
  condition: evt.type in (execve, execveat) and container.id != host and proc.name = ls
  output: >
    started in %container.name (%container.id %k8s.pod.name %k8s.ns.name %k8s.pod.uid %k8s.pod.node
    %k8s.pod.service_account %k8s.pod.label[app] %k8s.rs.name %k8s.deployment.name %k8s.deployment.id %k8s.ns.id
    %k8s.ns.label[team] %k8smeta.deployment.name %k8smeta.ns.labels %k8s.pod.ip %workload.kind %workload.name)
  priority: NOTICE
- rule: Program of the blue team
  desc: a condition on what the API alone knows
  condition: evt.type = execve and k8s.ns.label[team] = blue and k8smeta.pod.labels intersects ("app:changed")
  output: blue in %container.name (%container.id)
  priority: NOTICE
"#;

const LOOP: &str = "while sleep 0.3; do /bin/ls /; done";

struct Service {
    daemon: Daemon,
    rules: PathBuf,
    /// The file of its token.
    token: PathBuf,
}

/// A service that watches the pods of a server.
fn watching(server: &ApiServer, more: &[String]) -> Service {
    let folder = lab::scratch().join(lab::unique("kubernetes"));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("kubeconfig");
    kubeconfig(&file, &format!("http://{}", server.address), None);
    let rules = rules_file("kubernetes.yaml", RULES);
    let mut options = vec!["--rules".to_owned(), rules.display().to_string()];
    for setting in [format!("kubernetes.kubeconfig={}", file.display()), "kubernetes.node=node-1".into()] {
        options.extend(["--set".to_owned(), setting]);
    }
    options.extend_from_slice(more);
    let daemon = Daemon::own(&options.iter().map(String::as_str).collect::<Vec<_>>());
    Service { daemon, rules, token: folder.join("token") }
}

fn fields(alert: &Value, names: &[&str]) -> Value {
    names.iter().map(|name| alert["output_fields"][*name].clone()).collect()
}

/// Waits until the service says of Kubernetes what is wanted.
fn standing(daemon: &Daemon, what: impl Fn(&Value) -> bool) -> Value {
    let begin = Instant::now();
    loop {
        let status = daemon.ask_json(&["status"]);
        if what(&status["kubernetes"]) {
            return status;
        }
        // On a busy host the pauses between attempts have grown to half a minute by the time that the agent watches.
        assert!(begin.elapsed() < Duration::from_secs(60), "{}; {}", status["kubernetes"], daemon.log().join("\n"));
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A deployment's pod that containerd runs: what the API says is in its alerts, and in a replay.
#[test]
fn alerts_about_a_pod_carry_what_the_api_says() {
    let Some(containerd) = containerd::shared() else { return };
    let server = ApiServer::start();
    furnish(&server);
    let uid = lab::unique("uid");
    let name = "web-7d4b9c8f6-x2x9k";
    server.put(pod(&uid, name, "web"));
    let order = Order {
        pod: name,
        namespace: "shop",
        uid: &uid,
        labels: &[("app", "as it began")],
        container: "app",
        image: containerd.image(),
        command: &["/bin/sh", "-c", LOOP],
    };
    let run = Pod::run(&containerd.socket(), &order);
    let Service { mut daemon, rules, .. } = watching(&server, &containerd.options());
    standing(&daemon, |kubernetes| kubernetes["up"] == true && kubernetes["pods"] == 1);
    let ours = |alert: &Value| alert["output_fields"]["container.id"] == run.container[..12];
    let told = daemon.wait_alert(|alert| ours(alert) && alert["output_fields"]["k8s.deployment.name"] == "web");
    let told = told.unwrap_or_else(|| panic!("{:#?}", daemon.alerts().iter().rfind(|alert| ours(alert))));
    let names = [
        "container.name",
        "k8s.pod.name",
        "k8s.ns.name",
        "k8s.pod.uid",
        "k8s.pod.node",
        "k8s.pod.service_account",
        "k8s.pod.label[app]",
        "k8s.rs.name",
        "k8s.deployment.id",
        "k8s.ns.id",
        "k8s.ns.label[team]",
        "k8smeta.deployment.name",
        "workload.kind",
        "workload.name",
    ];
    let wanted = json!([
        "app",
        name,
        "shop",
        uid,
        "node-1",
        "robot",
        "web",
        "web-7d4b9c8f6",
        "deployment-uid",
        "ns-uid",
        "blue",
        "web",
        "deployment",
        "web"
    ]);
    assert_eq!(fields(&told, &names), wanted, "{told}");
    assert_eq!(told["tidewatch"]["workload"], format!("deployment/shop/web/app/{}", containerd.repository()));

    // A change is in what happens from then on, and conditions see it.
    server.put(pod(&uid, name, "changed"));
    daemon.wait_alert(|alert| ours(alert) && alert["rule"] == "Program of the blue team").expect("an alert");
    // The store's list of containers has it too.
    let begin = Instant::now();
    while !daemon.ask_json(&["containers"]).to_string().contains("deployment-uid") {
        assert!(begin.elapsed() < Duration::from_secs(10), "{}", daemon.ask_json(&["containers"]));
        std::thread::sleep(Duration::from_millis(250));
    }
    drop(run);
    daemon.signal("TERM");
    assert!(daemon.ends_well(Duration::from_secs(20)));
    let before = daemon.lines();
    let replayed = daemon.ask(&["replay", "--json", "--rules", &rules.to_string_lossy()]);
    let replayed = String::from_utf8_lossy(&replayed.stdout).into_owned();
    let with_owner: Vec<&String> = before.iter().filter(|line| line.contains("deployment-uid")).collect();
    assert!(with_owner.len() >= 2, "{}", before.join("\n"));
    for line in &with_owner {
        assert!(replayed.lines().any(|replayed| replayed == **line), "not replayed: {line}");
    }
}

/// Where no runtime tells of a pod, the path of the cgroup does, and the API the rest; the tokens may change and the
/// server may go and come.
#[test]
fn the_path_of_a_cgroup_is_enough_and_a_server_that_was_away_is_found_again() {
    if !lab::ready() {
        return;
    }
    let server = ApiServer::start();
    furnish(&server);
    server.script().token = "second".into();
    let uid = lab::unique("uid");
    server.put(pod(&uid, "web-7d4b9c8f6-abcde", "web"));
    let nobody = ["runtimes.containerd=null", "runtimes.cri=null", "runtimes.folders=[]", "agent.docker=false"];
    let options: Vec<String> = nobody.iter().flat_map(|setting| ["--set".to_owned(), (*setting).to_owned()]).collect();
    let Service { daemon, token, .. } = watching(&server, &options);
    let parent = format!("/kubepods/besteffort/pod{uid}");
    let container = Container::start(image::base(), &["--cgroup-parent", &parent], &["sh", "-c", LOOP]);
    let id = crate::docker::docker(&["inspect", "-f", "{{.Id}}", &container.name]);
    let ours = |alert: &Value| alert["output_fields"]["container.id"] == id[..12];
    let told = daemon.wait_alert(ours).expect("an alert");
    assert_eq!(fields(&told, &["k8s.pod.uid", "k8s.pod.name"]), json!([uid, null]), "{told}");
    let status = standing(&daemon, |kubernetes| kubernetes["error"].as_str().is_some_and(|text| text.contains("401")));
    assert_eq!(status["kubernetes"]["up"], false);

    std::fs::write(token.with_extension("new"), "second").unwrap();
    std::fs::rename(token.with_extension("new"), &token).unwrap();
    standing(&daemon, |kubernetes| kubernetes["up"] == true);
    let told = daemon.wait_alert(|alert| ours(alert) && !alert["output_fields"]["k8s.pod.name"].is_null());
    let told = told.unwrap_or_else(|| panic!("{}", daemon.ask_json(&["status"])));
    let wanted = json!(["web-7d4b9c8f6-abcde", "shop", "web", "deployment"]);
    assert_eq!(fields(&told, &["k8s.pod.name", "k8s.ns.name", "k8s.deployment.name", "workload.kind"]), wanted);
}
