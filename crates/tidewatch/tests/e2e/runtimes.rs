//! Containers of containerd, Kubernetes (through the CRI), podman and plain runc are named like Docker's: from their
//! first event on, however short they live, whether they were there before or came later.

use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::containerd::{self, Containerd};
use crate::cri::{Order, Pod};
use crate::daemon::{Daemon, rules_file};
use crate::docker::docker;
use crate::{image, lab};

/// Every program that is started in a container, with all that is known of who it is.
const WHO: &str = r#"
- rule: Program started
  desc: every program in a container
  condition: evt.type in (execve, execveat) and container.id != host
  output: >
    started %proc.cmdline in %container.name (%container.id %container.type %container.image.repository
    %container.image.digest %container.privileged %container.host_network %container.label[tide] %k8s.pod.name
    %k8s.ns.name %k8s.pod.uid %k8s.pod.sandbox_id %k8s.pod.labels %k8s.pod.label[app] %workload.kind %workload.name
    %workload.namespace %proc.name %evt.type)
  priority: NOTICE
- rule: Directory made
  desc: every directory made in a container, and by runc for it
  condition: evt.type in (mkdir, mkdirat) and container.id != host
  output: made in %container.name (%container.id %container.image.repository %k8s.pod.name)
  priority: NOTICE
"#;

/// An agent that knows the tests' own containerd.
fn watching() -> Option<(&'static Containerd, &'static Daemon)> {
    static DAEMON: OnceLock<Daemon> = OnceLock::new();
    let containerd = containerd::shared()?;
    let daemon = DAEMON.get_or_init(|| {
        let rules = rules_file("who.yaml", WHO);
        let mut options = containerd.options();
        options.extend(["--rules".to_owned(), rules.to_string_lossy().into_owned()]);
        Daemon::shared(&options.iter().map(String::as_str).collect::<Vec<_>>())
    });
    Some((containerd, daemon))
}

fn fields<'a>(alert: &'a Value, names: &[&str]) -> Vec<&'a Value> {
    names.iter().map(|name| &alert["output_fields"][*name]).collect()
}

#[test]
fn a_container_of_ctr_is_named() {
    let Some((containerd, daemon)) = watching() else { return };
    let name = lab::unique("ctr");
    containerd.run(&name, &["true"]);
    let alert = daemon.alert_where(&name, |alert| alert["output_fields"]["proc.name"] == "true").unwrap();
    let who = fields(&alert, &["container.name", "container.type", "container.image.repository", "workload.kind"]);
    assert_eq!(who, [&json!(name), &json!("containerd"), &json!(containerd.repository()), &json!("container")]);
    let digest = alert["output_fields"]["container.image.digest"].as_str().unwrap_or_default();
    assert!(digest.starts_with("sha256:"), "{alert}");
    assert_eq!(alert["output_fields"]["workload.name"], containerd.repository());
}

/// A tag that moves: containers made before and after it are told with the image that they were made of.
#[test]
fn a_tag_that_moves_does_not_take_the_digest_of_a_container_along() {
    let Some((containerd, daemon)) = watching() else { return };
    let (name, before, after) = (lab::unique("moving"), lab::unique("before"), lab::unique("after"));
    let image = format!("docker.io/library/{name}:latest");
    let run = |id: &str| {
        let words = [
            "run",
            "--detach",
            "--snapshotter",
            "native",
            &image,
            id,
            "sh",
            "-c",
            "while sleep 0.2; do /bin/ls /; done",
        ];
        containerd.ctr("default", &words);
    };
    let digest = |id: &str, since: usize| {
        let wanted = |alert: &Value| {
            let fields = &alert["output_fields"];
            fields["proc.name"] == "ls" && fields["container.name"] == *id
        };
        let all = || daemon.alerts().into_iter().skip(since).find(|alert| wanted(alert));
        let found = (0..100).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            all()
        });
        found.unwrap_or_else(|| panic!("no alert about {id}"))["output_fields"]["container.image.digest"].clone()
    };
    containerd.ctr("default", &["images", "tag", containerd.image(), &image]);
    run(&before);
    let first = digest(&before, 0);
    assert!(first.as_str().is_some_and(|digest| digest.starts_with("sha256:")), "{first}");

    // The same name for another image: with one more label.
    let (made, tar) = (lab::unique("made"), lab::scratch().join(format!("{name}.tar")));
    docker(&["create", "--pull=never", "--label", &lab::label(), "--name", &made, image::base(), "true"]);
    docker(&["commit", "--change", "LABEL moved=yes", &made, &name]);
    docker(&["save", &name, "-o", &tar.to_string_lossy()]);
    docker(&["rm", &made]);
    docker(&["rmi", &name]);
    containerd.ctr("default", &["images", "import", "--snapshotter", "native", &tar.to_string_lossy()]);
    run(&after);
    let second = digest(&after, 0);
    assert!(second.is_string() && second != first, "{first} {second}");

    // A word about the older one, which is asked about again.
    containerd.ctr("default", &["containers", "label", &before, "tide=out"]);
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(digest(&before, daemon.alerts().len()), first);
    for id in [&before, &after] {
        containerd.ctr("default", &["tasks", "kill", "-s", "KILL", id]);
        std::thread::sleep(std::time::Duration::from_millis(300));
        containerd.ctr("default", &["containers", "delete", id]);
    }
}

/// 200 of them, a few at a time, as fast as they go.
#[test]
fn two_hundred_short_containers_of_ctr_are_named() {
    let Some((containerd, daemon)) = watching() else { return };
    all_named(daemon, containerd.repository(), |name| containerd.run(name, &["true"]));
}

#[test]
fn two_hundred_short_containers_of_docker_are_named() {
    let Some((_, daemon)) = watching() else { return };
    let (image, label) = (image::base(), lab::label());
    all_named(daemon, image, |name| {
        let words = ["run", "--rm", "--pull=never", "--network", "none", "--label", &label, "--name", name];
        docker(&[&words[..], &[image, "true"]].concat());
    });
}

/// Runs 200 containers, four at a time, and wants for each that its program was told of with its name and image, and
/// that nothing was told of it without.
fn all_named(daemon: &Daemon, image: &str, run: impl Fn(&str) + Sync) {
    let names: Vec<String> = (0..200).map(|_| lab::unique("many")).collect();
    std::thread::scope(|scope| {
        for some in names.chunks(50) {
            scope.spawn(|| some.iter().for_each(|name| run(name)));
        }
    });
    let told = |alert: &Value| alert["output_fields"]["proc.name"] == "true";
    let nameless: Vec<&String> = names
        .iter()
        .filter(|name| {
            let found = daemon.alert_where(name, told);
            found.is_none_or(|alert| alert["output_fields"]["container.image.repository"] != image)
        })
        .collect();
    assert!(nameless.is_empty(), "{} of 200 have no name or image: {nameless:?}", nameless.len());
    // Whatever was told of one of these containers, early or late, has its name and image.
    let ours: std::collections::HashSet<Value> = daemon
        .alerts()
        .iter()
        .filter(|alert| names.iter().any(|name| alert["output_fields"]["container.name"] == **name))
        .map(|alert| alert["output_fields"]["container.id"].clone())
        .collect();
    let anonymous: Vec<Value> = daemon
        .alerts()
        .into_iter()
        .filter(|alert| ours.contains(&alert["output_fields"]["container.id"]))
        .filter(|alert| {
            let who = fields(alert, &["container.name", "container.image.repository"]);
            who[0].as_str().is_none_or(str::is_empty) || who[1] != image
        })
        .collect();
    assert!(anonymous.is_empty(), "{} alerts without name or image, such as {}", anonymous.len(), anonymous[0]);
}

#[test]
fn a_pod_of_the_cri_is_named_with_its_owner() {
    let Some((containerd, daemon)) = watching() else { return };
    let (uid, namespace) = (lab::unique("uid"), lab::unique("ns"));
    let order = Order {
        pod: "web-7d4b9c8f6-x2x9k",
        namespace: &namespace,
        uid: &uid,
        labels: &[("app", "web"), ("pod-template-hash", "7d4b9c8f6")],
        container: "app",
        image: containerd.image(),
        command: &["/bin/sh", "-c", "true; /bin/ls /; sleep 3600"],
    };
    let pod = Pod::run(&containerd.socket(), &order);
    let of_pod = |alert: &Value| alert["output_fields"]["container.id"] == pod.container[..12];
    let alert =
        daemon.wait_alert(|alert| of_pod(alert) && alert["output_fields"]["proc.name"] == "sh").expect("an alert");
    let names = [
        "container.name",
        "container.type",
        "container.image.repository",
        "container.host_network",
        "k8s.pod.name",
        "k8s.ns.name",
        "k8s.pod.uid",
        "k8s.pod.sandbox_id",
        "k8s.pod.label[app]",
        "workload.kind",
        "workload.name",
        "workload.namespace",
    ];
    let wanted = json!([
        "app",
        "containerd",
        containerd.repository(),
        true,
        order.pod,
        namespace,
        uid,
        pod.sandbox[..12],
        "web",
        "deployment",
        "web",
        namespace
    ]);
    assert_eq!(json!(fields(&alert, &names)), wanted, "{alert}");
    assert_eq!(alert["tidewatch"]["workload"], format!("deployment/{namespace}/web/app/{}", containerd.repository()));
    // Of every event of the container, of its sandbox too, the pod is known.
    for alert in daemon.alerts() {
        let id = &alert["output_fields"]["container.id"];
        if *id == pod.container[..12] || *id == pod.sandbox[..12] {
            let who = fields(&alert, &["container.image.repository", "k8s.pod.name"]);
            assert_eq!(who, [&json!(containerd.repository()), &json!(order.pod)], "{alert}");
        }
    }
}

/// An agent that starts when pods and containers run knows them too, and lists them.
#[test]
fn containers_that_were_there_before_are_known() {
    let Some((containerd, _)) = watching() else { return };
    let (uid, name) = (lab::unique("uid"), lab::unique("early"));
    let order = Order {
        pod: "db-0",
        namespace: "shop",
        uid: &uid,
        labels: &[("statefulset.kubernetes.io/pod-name", "db-0")],
        container: "db",
        image: containerd.image(),
        command: &["/bin/sh", "-c", "while sleep 0.3; do /bin/ls /; done"],
    };
    let pod = Pod::run(&containerd.socket(), &order);
    let start = ["run", "-d", "--snapshotter", "native", "--label", "tide=high", containerd.image(), &name];
    containerd.ctr("default", &[&start[..], &["sh", "-c", "while sleep 0.3; do /bin/ls /; done"]].concat());
    let plain = Runc::start("/bin/ls /; while sleep 0.3; do /bin/ls /; done");
    let rules = rules_file("who.yaml", WHO);
    let mut options = containerd.options();
    options.extend(["--rules".to_owned(), rules.to_string_lossy().into_owned()]);
    let daemon = Daemon::own(&options.iter().map(String::as_str).collect::<Vec<_>>());
    let alert = daemon.alert_where(&name, |alert| alert["output_fields"]["proc.name"] == "ls").expect("an alert");
    let who = fields(&alert, &["container.image.repository", "container.label[tide]"]);
    assert_eq!(who, [&json!(containerd.repository()), &json!("high")]);
    daemon.alert_where(&plain.name, |alert| alert["output_fields"]["container.type"] == "runc").expect("an alert");
    let of_pod = |alert: &Value| alert["output_fields"]["container.id"] == pod.container[..12];
    let alert = daemon.wait_alert(of_pod).expect("an alert");
    assert_eq!(
        json!(fields(&alert, &["k8s.pod.name", "workload.kind", "workload.name"])),
        json!(["db-0", "statefulset", "db"])
    );
    // The manager hears of them within some seconds.
    let wanted = [&*name, "statefulset/shop/db", &*plain.name];
    let mut text = String::new();
    for _ in 0..40 {
        text = daemon.ask_json(&["containers"]).to_string();
        if wanted.iter().all(|name| text.contains(name)) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(250));
    }
    assert!(wanted.iter().all(|name| text.contains(name)), "{text}");
    let status = daemon.ask_json(&["status"]).to_string();
    assert!(status.contains("containerd") && status.contains("files"), "{status}");
    // Its stream of events says nothing while nothing is started: that is no reason to give it up.
    std::thread::sleep(std::time::Duration::from_millis(2_500));
    let lost: Vec<String> = daemon.log().into_iter().filter(|line| line.contains("does not answer")).collect();
    assert!(lost.is_empty(), "{lost:?}");
    containerd.ctr("default", &["tasks", "kill", "-s", "KILL", &name]);
}

/// A bundle that runc alone runs.
struct Runc {
    name: String,
    bundle: PathBuf,
}

impl Runc {
    fn bundle(script: &str) -> Self {
        let name = lab::unique("runc");
        let bundle = lab::scratch().join(&name);
        std::fs::create_dir_all(bundle.join("rootfs/bin")).unwrap();
        std::fs::copy("/bin/busybox", bundle.join("rootfs/bin/busybox")).unwrap();
        for applet in ["sh", "ls", "true", "sleep"] {
            std::os::unix::fs::symlink("busybox", bundle.join("rootfs/bin").join(applet)).unwrap();
        }
        let made = Command::new("runc").arg("spec").current_dir(&bundle).status().expect("runc is there");
        assert!(made.success());
        let path = bundle.join("config.json");
        let mut spec: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        spec["process"]["terminal"] = false.into();
        spec["process"]["args"] = json!(["/bin/sh", "-c", script]);
        spec["process"]["rlimits"] = json!([]);
        spec["annotations"] = json!({ "org.opencontainers.image.ref.name": "example/plain:3", "tide": "low" });
        std::fs::File::create(&path).unwrap().write_all(spec.to_string().as_bytes()).unwrap();
        Self { name, bundle }
    }

    fn run(&self, options: &[&str]) {
        let mut command = Command::new("runc");
        command.arg("run").args(options).arg(&self.name).current_dir(&self.bundle);
        let ran = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(ran.expect("runc is there").success());
    }

    fn start(script: &str) -> Self {
        let runc = Self::bundle(script);
        runc.run(&["-d"]);
        runc
    }
}

impl Drop for Runc {
    fn drop(&mut self) {
        let _ = Command::new("runc").args(["delete", "-f", &self.name]).stderr(Stdio::null()).status();
    }
}

/// What runc's bundle tells is all there is; that it is a container at all shows in runc's state only.
#[test]
fn a_bundle_of_runc_is_named() {
    let Some((_, daemon)) = watching() else { return };
    for _ in 0..10 {
        let runc = Runc::bundle("/bin/true");
        runc.run(&[]);
        let told = |alert: &Value| alert["output_fields"]["proc.name"] == "true";
        let alert = daemon.alert_where(&runc.name, told).unwrap_or_else(|| panic!("no alert about {}", runc.name));
        let names = ["container.type", "container.image.repository", "container.label[tide]", "workload.name"];
        assert_eq!(json!(fields(&alert, &names)), json!(["runc", "example/plain", "low", "example/plain"]), "{alert}");
    }
}

/// Podman has no daemon; what it leaves on disk names its containers.
#[test]
fn a_container_of_podman_is_named() {
    if !lab::ready() {
        return;
    }
    if !Command::new("podman").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        lab::skip("podman is missing: apt-get install podman");
        return;
    }
    let podman = Podman { dir: std::env::temp_dir().join(lab::unique("podman")) };
    let rules = rules_file("who.yaml", WHO);
    let daemon = Daemon::own(&[
        "--rules",
        &rules.to_string_lossy(),
        "--set",
        &format!("runtimes.folders={:?}", [podman.dir.join("root"), podman.dir.join("run"), "/run/runc".into()]),
    ]);
    let tar = podman.dir.join("image.tar");
    std::fs::create_dir_all(&podman.dir).unwrap();
    docker(&["save", image::base(), "-o", &tar.to_string_lossy()]);
    podman.run(&["load", "-i", &tar.to_string_lossy()]);
    let image = format!("localhost/{}", image::base());
    for _ in 0..5 {
        let name = lab::unique("podman");
        let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];
        let start = ["run", "--rm", "--pull=never", "--network", "none", "--name", &name];
        podman.run(&[&start[..], &limits, &[&image, "true"]].concat());
        let told = |alert: &Value| alert["output_fields"]["proc.name"] == "true";
        let alert = daemon.alert_where(&name, told).unwrap_or_else(|| panic!("no alert about {name}"));
        assert_eq!(json!(fields(&alert, &["container.type", "container.image.repository"])), json!(["podman", image]));
    }
}

struct Podman {
    dir: PathBuf,
}

impl Podman {
    fn run(&self, words: &[&str]) {
        let output = self.command().args(words).stdin(Stdio::null()).output().expect("podman is there");
        assert!(output.status.success(), "podman {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn command(&self) -> Command {
        let mut command = Command::new("podman");
        command.arg("--root").arg(self.dir.join("root")).arg("--runroot").arg(self.dir.join("run"));
        command.args(["--storage-driver", "vfs", "--runtime", "/usr/sbin/runc", "--cgroup-manager", "cgroupfs"]);
        command
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.command().args(["rm", "-a", "-f"]).output();
        let _ = self.command().args(["rmi", "-a", "-f"]).output();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Sockets that hang or answer nonsense do no harm: alerts come, containers are named from disk, and it is said which
/// runtime could not be asked.
#[test]
fn sockets_that_hang_or_lie_do_no_harm() {
    if !lab::ready() {
        return;
    }
    let folder = lab::scratch().join(lab::unique("sockets"));
    std::fs::create_dir_all(&folder).unwrap();
    let silent = UnixListener::bind(folder.join("silent")).unwrap();
    let lying = UnixListener::bind(folder.join("lying")).unwrap();
    std::thread::spawn(move || {
        for mut stream in lying.incoming().flatten() {
            let _ = stream.write_all(b"\0\0\x7f\xff\xff\xff nonsense\r\n\r\n");
        }
    });
    let rules = rules_file("who.yaml", WHO);
    let socket = |key: &str, name: &str| format!("{key}={}", folder.join(name).display());
    let daemon = Daemon::own(&[
        "--rules",
        &rules.to_string_lossy(),
        "--set",
        &socket("runtimes.containerd", "silent"),
        "--set",
        &socket("runtimes.cri", "lying"),
        "--docker-socket",
        &folder.join("silent").to_string_lossy(),
    ]);
    let name = lab::unique("calm");
    let (image, label) = (image::base(), lab::label());
    let words = ["run", "--rm", "--pull=never", "--network", "none", "--label", &label, "--name", &name, image, "true"];
    docker(&words);
    let alert = daemon.alert_where(&name, |alert| alert["output_fields"]["proc.name"] == "true").expect("an alert");
    assert_eq!(alert["output_fields"]["container.image.repository"], image, "named by what Docker leaves on disk");
    let status = daemon.ask_json(&["status"]);
    let text = status.to_string();
    for (name, reason) in [("docker", "no answer in"), ("containerd", "no answer in"), ("cri", "")] {
        assert!(text.contains(&format!("{name} does not answer")) && text.contains(reason), "{name}: {text}");
    }
    drop(silent);
}
