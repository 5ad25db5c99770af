//! `record`: what it writes is read by others, and by ourselves to the same end.
//!
//! The judges are Debian's sysdig 0.29 and tcpdump; where one is not installed its test says so and passes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::container::Container;
use crate::daemon::{Daemon, EVERYTHING, rules_file};
use crate::image;
use crate::lab;
use crate::service::until;

/// How long a recording may take to begin: its programs are verified first.
const BEGINS: Duration = Duration::from_secs(60);

/// Acts that rules of the built-in pack find, and that leave every kind of event behind.
const STORY: &str = "
cat /etc/shadow >/dev/null; : >/tmp/new; mv /tmp/new /tmp/old; ln /tmp/old /tmp/hard; ln -s old /tmp/soft
chmod 4755 /tmp/old; mkdir /tmp/folder; rmdir /tmp/folder; rm /tmp/soft /tmp/hard; chown 1:1 /tmp/old
cp /bin/busybox /tmp/busybox; /tmp/busybox true; echo x >>/root/.bashrc; mkdir /etc/cron.d; echo x >/etc/cron.d/job
nsenter -t 1 -n true; cat /proc/1/environ >/dev/null; /usr/local/bin/drills attach; env LD_PRELOAD=/tmp/x.so true
/usr/local/bin/perl become-root; mount -t tmpfs none /mnt; /usr/local/bin/drills memfd /bin/busybox true
httpd -p 80 -h /www; wget -q -O /tmp/stage2 http://127.0.0.1/index.html; /usr/local/bin/curl connect 10.255.0.7 2375
nc 127.0.0.1 4444 -e /bin/true; : '/tmp/a b' >'/tmp/a b'; touch /tmp/the-end
";

/// A recording on its way.
struct Recording {
    /// None once it was stopped.
    child: Option<Child>,
    file: PathBuf,
}

/// A test that fails must not leave a recording behind: it would watch, and slow down, the whole host for ever.
impl Drop for Recording {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Recording {
    /// Starts one, and waits until it writes.
    fn start(name: &str, arguments: &[&str]) -> Self {
        let file = lab::scratch().join(lab::unique(name));
        let mut command = record(&file, arguments);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut recording = Self { child: Some(child), file };
        until("the recording begins", BEGINS, || {
            let ended = recording.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some());
            assert!(!ended, "{}", recording.said());
            fs::metadata(&recording.file).ok().filter(|data| data.len() > 0)
        });
        recording
    }

    fn said(&mut self) -> String {
        let mut said = String::new();
        if let Some(mut stderr) = self.child.as_mut().and_then(|child| child.stderr.take()) {
            let _ = std::io::Read::read_to_string(&mut stderr, &mut said);
        }
        said
    }

    /// Ends it as Ctrl-C does.
    fn stop(mut self) -> (PathBuf, Value) {
        let child = self.child.take().unwrap();
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        (self.file.clone(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }
}

/// `record -o FILE` with folders of its own.
fn record(file: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewatch"));
    let folder = lab::scratch().join("record");
    command.env("TIDEWATCH_STATE_DIR", folder.join("state")).env("TIDEWATCH_RUN_DIR", folder.join("run"));
    command.arg("record").arg("-o").arg(file).arg("--json").args(arguments).stdin(Stdio::null());
    command
}

/// What a replay of a file prints.
fn replay(file: &Path, arguments: &[&str]) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_tidewatch"))
        .env("TIDEWATCH_STATE_DIR", lab::scratch().join("record/state"))
        .args(["replay", "--json"])
        .arg(file)
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Rule, process, container and message of each finding about a container; how often.
fn findings(all: &[Value], container: &str) -> BTreeMap<[String; 4], usize> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut found = BTreeMap::new();
    for finding in all.iter().filter(|finding| finding["output_fields"]["container.name"] == container) {
        let fields = &finding["output_fields"];
        // In front of the message stands the time: two sensors see a call some nanoseconds apart.
        let output = word(&finding["output"]);
        let message = output.split_once(": ").map_or(output.clone(), |(_, message)| message.to_owned());
        let key = [word(&finding["rule"]), word(&fields["proc.cmdline"]), word(&fields["container.id"]), message];
        *found.entry(key).or_insert(0) += 1;
    }
    found
}

fn has(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
    found.status.success() || lab::skip(&format!("{program} is not installed"))
}

/// What sysdig says of a file, one line for each event.
fn sysdig(file: &Path, format: &str, filter: &str) -> Vec<String> {
    let output = Command::new("sysdig").arg("-r").arg(file).args(["-p", format, filter]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn differences(what: &str, live: &BTreeMap<[String; 4], usize>, again: &BTreeMap<[String; 4], usize>) -> String {
    let only = |a: &BTreeMap<[String; 4], usize>, b: &BTreeMap<[String; 4], usize>| {
        a.iter().filter(|(key, count)| b.get(*key) != Some(*count)).map(|it| format!("{it:?}\n")).collect::<String>()
    };
    format!("{what}: live only:\n{}replay only:\n{}", only(live, again), only(again, live))
}

/// The story is watched and recorded at once; the recording, replayed, finds what was found live.
#[test]
fn a_replay_of_our_own_capture_finds_what_was_found_live() {
    if !lab::ready() {
        return;
    }
    let daemon = Daemon::own(&["--set", "recorder.enabled=false"]);
    let container = Container::idle(image::base(), &[]);
    let whole = Recording::start("whole.scap", &[]);
    let part = Recording::start("part.scap", &["--container", &container.name, "--compress"]);
    let plain = Recording::start("plain.scap", &["--plain"]);
    container.exec(&["sh", "-c", STORY]);
    // A container that is new, too, and lives for a moment.
    let label = lab::label();
    let short = lab::unique("short");
    let run = ["run", "--rm", "--pull=never", "--network", "none", "--label", &label, "--name", &short];
    crate::docker::docker(&[&run[..], &[image::base(), "cat", "/etc/shadow"]].concat());
    daemon.alert("Password File Read in Container", &short);
    sleep(Duration::from_secs(1));
    let live: Vec<Value> = daemon.alerts();
    let expected = findings(&live, &container.name);
    let rules: std::collections::BTreeSet<_> = expected.keys().map(|key| &key[0]).collect();
    assert!(rules.len() >= 12, "the story is about {rules:?}");

    let (whole, end) = whole.stop();
    assert_eq!((&end["lost"], &end["ended"]), (&Value::from(0), &Value::Null), "{end}");
    let again = replay(&whole, &[]);
    let found = findings(&again, &container.name);
    assert_eq!(expected, found, "{}", differences("whole", &expected, &found));
    let (of_short, again_short) = (findings(&live, &short), findings(&again, &short));
    assert_eq!(of_short, again_short, "{}", differences("short", &of_short, &again_short));

    let (part, _) = part.stop();
    let again = replay(&part, &[]);
    let found = findings(&again, &container.name);
    assert_eq!(expected, found, "{}", differences("part", &expected, &found));
    assert_eq!(found.values().sum::<usize>(), again.len(), "nothing of others is in it: {again:?}");

    // Without our own records there is what captures have room for. docs/record.md lists the difference.
    let (plain, _) = plain.stop();
    let found = findings(&replay(&plain, &[]), &container.name);
    let acts = |found: &BTreeMap<[String; 4], usize>| -> Vec<[String; 3]> {
        let found = found.iter();
        found.flat_map(|([rule, line, id, _], times)| vec![[rule.clone(), line.clone(), id.clone()]; *times]).collect()
    };
    assert_eq!(acts(&expected), acts(&found), "{}", differences("plain", &expected, &found));
    // It asks for the name that a program gave itself, as busybox does.
    assert!(expected.keys().any(|key| key[0] == "Program Downloaded in Container"), "the story has such a program");
    assert_eq!(fs::metadata(&plain).unwrap().permissions().mode() & 0o777, 0o600);
}

/// sysdig names processes, files, connections and containers, and shows what calls were given.
#[test]
fn sysdig_reads_our_captures() {
    if !lab::ready() || !has("sysdig") {
        return;
    }
    let container = Container::idle(image::base(), &[]);
    let name = &container.name;
    let recording = Recording::start("judged.scap", &[]);
    container.exec(&["sh", "-c", STORY]);
    // Standard input that lasts: at its end nc hangs up, perhaps before anything was sent.
    let connect = "sleep 3 | nc -l -p 5555 >/dev/null & until netstat -ltn | grep -q :5555; do sleep 0.1; done; \
                   echo hello-there | nc 127.0.0.1 5555";
    container.exec(&["sh", "-c", connect]);
    sleep(Duration::from_secs(1));
    let (file, end) = recording.stop();
    assert_eq!(end["lost"], 0, "{end}");

    let ours = format!("container.name={name}");
    let format = "*%evt.dir %evt.type proc=%proc.name parent=%proc.pname fd=%fd.name box=%container.name \
                  image=%container.image %evt.args";
    let lines = sysdig(&file, format, &ours);
    let sees = |parts: &[&str]| {
        let seen = lines.iter().any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(seen, "sysdig does not show {parts:?}; it shows\n{}", lines.join("\n"));
    };
    let image = format!("image={}", image::base());
    let of = format!("box={name}");
    sees(&["< openat proc=exe parent=sh fd=/etc/shadow", &of, &image, "name=/etc/shadow", "O_RDONLY"]);
    sees(&["> openat", "name=/etc/shadow"]);
    sees(&["< rename proc=", "oldpath=/tmp/new", "newpath=/tmp/old"]);
    sees(&["< link proc=", "oldpath=/tmp/old", "newpath=/tmp/hard"]);
    sees(&["< symlink proc=", "target=old", "linkpath=/tmp/soft"]);
    sees(&["< chmod proc=", "filename=/tmp/old", "mode=04755"]);
    sees(&["< mkdir proc=", "path=/tmp/folder"]);
    sees(&["< rmdir proc=", "path=/tmp/folder"]);
    sees(&["< unlink proc=", "res=0", "path=/tmp/soft"]);
    sees(&["< execve proc=busybox", "res=0", "exe=/tmp/busybox", "args=true."]);
    sees(&["> execve", "filename=/tmp/busybox"]);
    sees(&["< clone proc=sh", "res=0", "comm=sh"]);
    sees(&["> procexit proc="]);
    sees(&["> mount proc=", "flags="]);
    sees(&["< mount proc=", "res=-1(EPERM)", "dir=/mnt", "type=tmpfs"]);
    sees(&["> ptrace proc=drills", "request=11(PTRACE_ATTACH)"]);
    sees(&["> setns proc="]);
    sees(&["< setns proc=", "EPERM"]);
    sees(&["> setuid proc=perl"]);
    sees(&["< dup proc="]);
    sees(&["> socket proc=", "domain=2(AF_INET) type=1"]);
    sees(&["< connect proc=", "fd=127.0.0.1:", "->127.0.0.1:5555", "res=0"]);
    sees(&["< bind proc=", ":5555", "res=0"]);
    sees(&["> listen proc=", ":5555"]);
    sees(&["< accept proc=", "->127.0.0.1:5555"]);
    sees(&["< write proc=", "->127.0.0.1:5555", "data=hello-there"]);
    // Nobody is without a name, and everybody knows where their program lies.
    let nameless = sysdig(
        &file,
        "*%evt.num %evt.type %proc.pid",
        &format!("{ours} and (proc.name=\"<NA>\" or not proc.name exists)"),
    );
    assert!(nameless.is_empty(), "{nameless:?}");
    let paths =
        sysdig(&file, "%proc.exepath", &format!("{ours} and evt.type=execve and evt.dir=< and evt.failed=false"));
    assert!(
        paths.iter().any(|path| path == "/tmp/busybox") && paths.iter().any(|path| path == "/bin/busybox"),
        "{paths:?}"
    );
    // And the host's processes are there beside.
    let host = sysdig(&file, "%proc.name", "container.id=host and evt.type=execve");
    assert!(host.iter().any(|name| name == "docker"), "{host:?}");
}

/// A part of the flight recorder: what a replay of the part finds is, byte for byte, what was found live.
#[test]
fn an_excerpt_of_the_recorder_finds_what_was_found_live_to_the_byte() {
    if !lab::ready() {
        return;
    }
    let rules = rules_file("everything.yaml", EVERYTHING);
    let mut daemon = Daemon::own(&["--rules", &rules.to_string_lossy()]);
    let (wanted, other) = (Container::idle(image::base(), &[]), Container::idle(image::base(), &[]));
    other.exec(&["touch", "/tmp/of-another"]);
    wanted.exec(&["sh", "-c", "touch /tmp/first; echo --password hunter2-secret >/dev/null"]);
    sleep(Duration::from_millis(1_100));
    let since = now();
    wanted.exec(&["sh", "-c", "touch /tmp/second; su -s /bin/sh nobody -c true; touch /tmp/third"]);
    let third = |alert: &Value| alert["output"].as_str().is_some_and(|text| text.contains("/tmp/third"));
    daemon.alert_where(&wanted.name, third);
    sleep(Duration::from_secs(2));
    daemon.signal("TERM");
    assert!(daemon.ends_well(Duration::from_secs(20)));

    let file = lab::scratch().join(lab::unique("excerpt.scap"));
    let file_text = file.to_string_lossy().into_owned();
    let arguments = ["record", "-o", &file_text, "--container", &wanted.name, "--since", &since, "--from-recorder"];
    let output = daemon.ask(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let again = daemon.ask(&["replay", "--json", &file_text, "--rules", &rules.to_string_lossy()]);
    let again = String::from_utf8_lossy(&again.stdout).into_owned();
    let live: Vec<String> = daemon
        .lines()
        .into_iter()
        .filter(|line| {
            let alert: Value = serde_json::from_str(line).unwrap();
            let at = alert["time"].as_str().unwrap();
            alert["output_fields"]["container.id"] == wanted_id(&wanted) && at >= since.as_str()
        })
        .collect();
    assert!(live.len() >= 3, "since {since}: {live:#?}\nof {:#?}", daemon.lines());
    // Who called `docker exec` is a process of the host, which is no part of the excerpt.
    let without_caller = |line: &str| {
        let mut alert: Value = serde_json::from_str(line).unwrap();
        alert["tidewatch"].as_object_mut().unwrap().remove("login");
        alert
    };
    let expected: Vec<Value> = live.iter().map(|line| without_caller(line)).collect();
    assert_eq!(expected, again.lines().map(without_caller).collect::<Vec<_>>());
    assert!(!again.contains("/tmp/first") && again.contains("/tmp/third"));

    // It stands in nobody's way, and a time in which nothing was is told.
    let output = daemon.ask(&arguments);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("--force"));
    let empty = lab::scratch().join(lab::unique("empty.scap"));
    let until = ["--until", "2001-01-01T00:00:00Z", "--from-recorder"];
    let output = daemon.ask(&[&["record", "-o", &empty.to_string_lossy()][..], &until].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("nothing was recorded in that time"), "{said}");
    assert!(!empty.exists());
}

/// Off a terminal a recording says when it begins, and one of a container that never was fails.
#[test]
fn a_recording_says_when_it_begins_and_that_there_was_nobody() {
    if !lab::ready() {
        return;
    }
    let file = lab::scratch().join(lab::unique("nobody.scap"));
    let output = record(&file, &["--duration", "1", "--container", "no-such-container"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("recording into") && said.contains("no container no-such-container ran"), "{said}");
    assert!(!file.exists(), "an empty file is left");
    // One that is there and does nothing is no mistake.
    let quiet = Container::idle(image::base(), &[]);
    let output = record(&file, &["--duration", "1", "--container", &quiet.name]).output().unwrap();
    assert!(output.status.success() && file.exists(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What was missed stands in what is recorded: a replay does not say that it saw everything.
#[test]
fn a_replay_of_an_excerpt_or_a_capture_knows_what_was_missed() {
    if !lab::ready() {
        return;
    }
    let rules = rules_file("everything.yaml", EVERYTHING);
    let rate = ("TIDEWATCH_AGENT__PRIVILEGED_RATE", "200");
    let folder = lab::scratch().join(lab::unique("service"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewatch"));
    command.args(["run", "--json", "--rules", &rules.to_string_lossy()]).env(rate.0, rate.1);
    let mut daemon = Daemon::spawn_in(&mut command, folder);
    let recording = Recording::start("missed.scap", &["--set", "agent.privileged_rate=200"]);
    let container = Container::idle(image::base(), &[]);
    container.exec(&["/usr/local/bin/storms", "flood", "1"]);
    sleep(Duration::from_millis(500));
    container.exec(&["true", "mark-loud"]);
    let marked = |alert: &Value| alert["output_fields"]["proc.cmdline"] == "true mark-loud";
    let percent = |alert: &Value| alert["tidewatch"]["coverage"]["percent"].as_f64().unwrap();
    let alert = daemon.alert_where(&container.name, marked).unwrap();
    assert!(percent(&alert) < 100.0, "{alert}");
    sleep(Duration::from_millis(500));
    let (captured, _) = recording.stop();
    daemon.signal("TERM");
    assert!(daemon.ends_well(Duration::from_secs(20)));

    let excerpt = lab::scratch().join(lab::unique("missed.scap"));
    let output = daemon.ask(&["record", "-o", &excerpt.to_string_lossy(), "--from-recorder"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (file, same) in [(&excerpt, true), (&captured, false)] {
        let again = replay(file, &["--rules", &rules.to_string_lossy()]);
        let found = again.iter().find(|alert| marked(alert)).unwrap_or_else(|| panic!("{again:?}"));
        assert!(percent(found) < 100.0, "{}: {found}", file.display());
        assert!(!same || percent(found) == percent(&alert), "{found}\n{alert}");
    }
}

fn wanted_id(container: &Container) -> String {
    crate::docker::docker(&["inspect", "-f", "{{.Id}}", &container.name])[..12].to_owned()
}

/// Now, as alerts write it.
fn now() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.%NZ"]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// tcpdump reads the packets of a container: those of its loopback interface, and both directions of its bridge.
#[test]
fn tcpdump_reads_the_packets_of_a_container() {
    if !lab::ready() || !has("tcpdump") {
        return;
    }
    let network = crate::network::Network::private();
    let listener = network.listener("7777");
    let caller = Container::idle(image::base(), &["--network", &network.name]);
    let address = listener.address();
    let recording = Recording::start("caller.pcapng", &["--packets", "--container", &caller.name, "--max-size", "1M"]);
    caller.exec(&["sh", "-c", &format!("echo over-the-bridge | nc {address} 7777")]);
    caller.exec(&["sh", "-c", "ping -c 2 127.0.0.1"]);
    sleep(Duration::from_secs(1));
    let (file, end) = recording.stop();
    assert!(end["packets"].as_u64() > Some(5) && end["lost"] == 0, "{end}");
    let read = |arguments: &[&str]| -> Output {
        Command::new("tcpdump").arg("-nr").arg(&file).args(arguments).output().unwrap()
    };
    let all = read(&["-A"]);
    let lines = String::from_utf8_lossy(&all.stdout).into_owned();
    assert!(all.status.success(), "{}", String::from_utf8_lossy(&all.stderr));
    assert!(lines.contains("over-the-bridge"), "{lines}");
    let own = caller.address();
    for wanted in [format!("> {address}.7777: Flags [S]"), format!("{address}.7777 > {own}")] {
        assert!(lines.contains(&wanted), "{wanted} is not in\n{lines}");
    }
    // Each packet of the loopback interface is there once.
    let asked = lines.matches("127.0.0.1 > 127.0.0.1: ICMP echo request").count();
    assert_eq!(asked, 2, "{lines}");
    // Nobody else's.
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let bytes = fs::read(&file).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(text.contains(&format!("container {}", caller.name)) && text.contains("eth0"));

    let output = record(&lab::scratch().join("no.pcapng"), &["--packets", "--container", "no-such-container"]).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("no container no-such-container runs"), "{said}");
}

/// A disk that is full ends a recording with the reason; what was written until then is read to its end.
#[test]
fn a_full_disk_ends_a_recording_that_can_be_read() {
    if !lab::ready() {
        return;
    }
    let mount = lab::scratch().join(lab::unique("small"));
    fs::create_dir_all(&mount).unwrap();
    let tmpfs = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "none"]).arg(&mount).output().unwrap();
    if !tmpfs.status.success() {
        lab::skip("no small file system can be mounted");
        return;
    }
    let container = Container::idle(image::base(), &[]);
    let file = mount.join("full.scap");
    let mut command = record(&file, &["--duration", "60"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    sleep(Duration::from_secs(2));
    container.exec(&["sh", "-c", "mkdir /load; i=0; while [ $i -lt 4000 ]; do : >/load/$i; i=$((i+1)); done"]);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let listed = Command::new(env!("CARGO_BIN_EXE_tidewatch")).args(["replay", "--list"]).arg(&file).output().unwrap();
    let sysdig_reads = !has_quietly("sysdig") || !sysdig(&file, "%evt.num", "evt.num>0").is_empty();
    let unmounted = Command::new("umount").arg(&mount).status().unwrap();
    assert!(unmounted.success());
    assert!(!output.status.success() && said.contains("No space left on device"), "{said}");
    assert!(said.contains("make room"), "{said}");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stdout));
    assert!(sysdig_reads);
}

fn has_quietly(program: &str) -> bool {
    Command::new("sh").args(["-c", &format!("command -v {program} >/dev/null")]).status().unwrap().success()
}
