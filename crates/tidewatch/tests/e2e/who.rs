//! Who did it: a program that came into a container by `docker exec` has the id of that exec, the client that asked for
//! it, and the person who logged in to the host and called the client.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::container::Container;
use crate::daemon::{Daemon, rules_file};
use crate::docker::docker;
use crate::{image, lab};

const WHO: &str = r#"
- rule: Program started
  desc: every program in a container
  condition: evt.type in (execve, execveat) and container.id != host
  output: >
    started %proc.cmdline in %container.name (%proc.is_exec_into %container.exec.id %container.exec.command
    %container.exec.client %login.user %login.source %login.address %login.sudo_user)
  priority: NOTICE
"#;

fn watching() -> Option<&'static Daemon> {
    static DAEMON: OnceLock<Daemon> = OnceLock::new();
    lab::ready().then(|| {
        DAEMON.get_or_init(|| {
            let rules = rules_file("who.yaml", WHO);
            Daemon::shared(&["--rules", &rules.to_string_lossy()])
        })
    })
}

/// The alert about this command in the container.
fn about(daemon: &Daemon, container: &Container, command: &str) -> Value {
    let wanted = |alert: &Value| alert["output_fields"]["proc.cmdline"] == command;
    let found = daemon.alert_where(&container.name, wanted);
    found.unwrap_or_else(|| panic!("no {command:?}: {:#?}", daemon.alerts_about(&container.name)))
}

/// The id of an exec, as Docker's own events have it.
fn id_by_docker(container: &Container, event: &str) -> String {
    let format = ["--format", "{{.Action}} {{.Actor.Attributes.execID}}"];
    let of_it = ["--filter", &format!("container={}", container.name)];
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        // Docker counts the end of the time asked for in whole seconds.
        let said = docker(&[&["events", "--since", "60s", "--until", "0s"][..], &of_it, &format].concat());
        if let Some(id) = said.lines().find_map(|line| line.strip_prefix(event)) {
            return id.to_owned();
        }
        assert!(Instant::now() < end, "Docker does not tell of it:\n{said}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn docker_exec_is_known_with_its_id_and_its_client() {
    let Some(daemon) = watching() else { return };
    let container = Container::idle(image::base(), &[]);
    container.exec(&["sh", "-c", "/bin/env true; true"]);
    let id = id_by_docker(&container, "exec_start: sh -c /bin/env true; true ");
    // The program itself, and what it started.
    for command in ["sh -c /bin/env true; true", "env true"] {
        let alert = about(daemon, &container, command);
        let fields = &alert["output_fields"];
        assert_eq!(fields["proc.is_exec_into"], true, "{alert}");
        assert_eq!(fields["container.exec.id"], id, "{alert}");
        assert_eq!(fields["container.exec.command"], "sh -c /bin/env true; true");
        let client = format!("docker exec {} sh -c /bin/env true; true", container.name);
        assert_eq!(fields["container.exec.client"], client, "{alert}");
        assert_eq!(alert["tidewatch"]["login"]["exec"]["id"], id);
    }
    // What the container was started with came by no exec.
    let start = about(daemon, &container, "sleep 3600");
    assert_eq!(start["output_fields"]["proc.is_exec_into"], false, "{start}");
    assert_eq!(start["tidewatch"]["login"], Value::Null, "a container is not its daemon's starter's: {start}");
}

#[test]
fn docker_exec_over_ssh_names_the_session() {
    let Some(daemon) = watching() else { return };
    let Some(server) = Sshd::start() else { return };
    let container = Container::idle(image::base(), &[]);
    let output = server.ssh(&format!("docker exec {} env uname", container.name));
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), server.log());
    let alert = about(daemon, &container, "env uname");
    let login = &alert["tidewatch"]["login"];
    assert_eq!((&login["source"], &login["address"]), (&json!("ssh"), &json!("127.0.0.1")), "{alert}");
    assert_eq!(login["text"], "root over ssh from 127.0.0.1, docker exec", "{alert}");
    assert_eq!(alert["output_fields"]["login.user"], "root");
    assert_eq!(alert["output_fields"]["login.address"], "127.0.0.1");
}

/// A server of SSH on the loopback interface, with keys and an account list of its own. It goes with the value.
struct Sshd {
    child: Child,
    port: u16,
    folder: PathBuf,
    made_run: bool,
}

/// Where sshd wants an empty folder.
const EMPTY: &str = "/run/sshd";

impl Sshd {
    /// Starts it. `None`, with the reason printed, where there is no sshd.
    fn start() -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
        let Some(program) = places.map(|place| place.join("sshd")).find(|program| program.exists()) else {
            lab::skip("sshd is missing: apt-get install openssh-server");
            return None;
        };
        let folder = lab::scratch().join(lab::unique("sshd"));
        std::fs::create_dir_all(&folder).unwrap();
        for key in ["host", "user"] {
            let made =
                Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.join(key)).status();
            assert!(made.unwrap().success(), "ssh-keygen failed");
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = folder.display();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {at}/host\nAuthorizedKeysFile {at}/user.pub\nStrictModes no\n\
             PermitRootLogin yes\nUsePAM no\nPidFile none\n"
        );
        std::fs::write(folder.join("config"), config).unwrap();
        // sshd wants an account for the half of it that has no rights.
        let mut accounts = std::fs::read_to_string("/etc/passwd").unwrap();
        if !accounts.contains("\nsshd:") {
            accounts.push_str("sshd:x:65533:65534::/run/sshd:/bin/false\n");
        }
        std::fs::write(folder.join("passwd"), accounts).unwrap();
        let made_run = std::fs::create_dir(EMPTY).is_ok();
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let script = r#"mount --bind "$2/passwd" /etc/passwd && exec "$1" -D -e -f "$2/config""#;
        let child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
            .args([&program, &folder])
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("unshare is there");
        let server = Self { child, port, folder, made_run };
        let end = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "sshd does not listen:\n{}", server.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(server)
    }

    fn ssh(&self, command: &str) -> std::process::Output {
        let known = format!("UserKnownHostsFile={}/known", self.folder.display());
        let port = self.port.to_string();
        Command::new("ssh")
            .args(["-o", "StrictHostKeyChecking=no", "-o", &known, "-o", "BatchMode=yes", "-p", &port, "-i"])
            .arg(self.folder.join("user"))
            .args(["root@127.0.0.1", command])
            .output()
            .expect("ssh is there")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if self.made_run {
            let _ = std::fs::remove_dir(EMPTY);
        }
    }
}
