//! `tidewatch replay FILE.scap`: a story told by a capture, found as it would have been found live.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

#[path = "../../sensor/tests/capturing/mod.rs"]
mod capturing;
use capturing::{BEGIN, Form, P, Proc, Scap};

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tidewatch-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn replay(&self, arguments: &[&Path], options: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidewatch"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TIDEWATCH_")) {
            command.env_remove(name);
        }
        command
            .arg("replay")
            .args(arguments)
            .args(options)
            .arg("--set")
            .arg(format!("state_dir={}", self.0.join("state").display()))
            .env("NO_COLOR", "1")
            .output()
            .unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const RULES: &str = r#"
- rule: Shell Below Nginx
  desc: a shell that a server started
  condition: evt.type = execve and evt.dir = < and proc.name = sh and proc.pname = nginx
  output: "%evt.num %proc.cmdline of %proc.pname in %container.name (%container.id %container.image.repository:%container.image.tag) as %user.name, cwd %proc.cwd, exe %proc.exepath, host %container.privileged"
  priority: ERROR
- rule: Shadow Read
  desc: relative to a folder's descriptor
  condition: evt.type in (open, openat) and fd.name = /etc/shadow
  output: "%evt.num %proc.name %fd.name %fd.directory %evt.arg.flags %user.name"
  priority: WARNING
- rule: Way Out
  desc: a connection
  condition: evt.type = connect and fd.sport = 4444
  output: "%evt.num %fd.name %fd.l4proto %proc.name %proc.aname[2]"
  priority: CRITICAL
- rule: Mode Changed
  desc: by descriptor
  condition: evt.type = fchmod
  output: "%evt.num %fd.name %evt.arg.mode"
  priority: NOTICE
"#;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A server in a container is broken into.
fn story(form: Form) -> Scap {
    let cgroups = format!("cpu=/docker/{ID}\0memory=/docker/{ID}\0");
    let json = format!(
        r#"{{"container":{{"id":"{}","type":0,"name":"shop","image":"reg/shop/web:1.4","imagerepo":"reg/shop/web",
            "imagetag":"1.4","privileged":true,"Mounts":[{{"Source":"/s","Destination":"/d","RW":true}}]}}}}"#,
        &ID[..12]
    );
    let mut scap = Scap::new(form);
    scap.machine("web-1", BEGIN - 3_600_000_000_000);
    scap.accounts(1, &[(0, "root"), (33, "www-data")], &[(0, "root")]);
    let nginx = Proc { cgroups: cgroups.clone(), vpid: 7, ..Proc::default() };
    let init =
        Proc { tid: 1, pid: 1, ptid: 0, comm: "systemd", exe: "/sbin/init", args: "", vpid: 1, ..Proc::default() };
    scap.processes(5, &[nginx, init]);
    scap.event(1, 272, &[P::Owned(json)]);
    scap.fork([0, 200, 200, 100, 8], 1 << 29, &cgroups);
    scap.exec(17, 200, 100, ["/bin/sh", "-c mysql --password=hunter2secret"], &cgroups);
    // As old writers put it: arguments with the begin, the folder by its descriptor.
    scap.event(200, 2, &[P::Text("/etc/"), P::U32(1 | 1 << 10), P::U32(0)]);
    scap.event(200, 3, &[P::I64(3), P::Text("/etc/"), P::U32(1 | 1 << 10), P::U32(0)]);
    scap.event(200, 102, &[P::I64(3), P::Text("shadow"), P::U32(3), P::U32(0)]);
    scap.event(200, 103, &[P::I64(4)]);
    scap.event(200, 317, &[P::I64(0), P::I64(4), P::U32(0o4755)]);
    scap.event(200, 18, &[P::U32(2), P::U32(1), P::U32(6)]);
    scap.event(200, 19, &[P::I64(5)]);
    scap.event(200, 22, &[P::I64(5)]);
    scap.event(200, 23, &[P::I64(0), P::Tuple4([172, 17, 0, 2], 5_000, [6, 6, 6, 6], 4_444)]);
    scap.event(200, 186, &[P::I64(0), P::I64(0), P::U8(0), P::U8(0)]);
    scap
}

fn findings(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_story_told_by_old_and_new_writers_is_found_with_the_captures_times() {
    let folder = Folder::new("replay-capture");
    let rules = folder.write("rules.yaml", RULES);
    let rules = ["--json", "--stats", "--rules", rules.to_str().unwrap()];
    let mut first = None;
    for form in Form::ALL {
        let scap = story(form);
        let name = format!("{form:?}.scap");
        let plain = folder.write(&name, &scap.bytes);
        let packed = folder.write("packed.scap", scap.gzip());
        let output = folder.replay(&[&plain], &rules);
        assert!(output.status.success(), "{}", said(&output));
        let found = findings(&output);
        let told: Vec<_> = found
            .iter()
            .map(|finding| (finding["rule"].as_str().unwrap(), finding["output"].as_str().unwrap().to_owned()))
            .collect();
        assert_eq!(told.len(), 4, "{told:?}");
        let (rule, text) = &told[0];
        assert_eq!(*rule, "Shell Below Nginx");
        assert!(!text.contains("hunter2secret"), "{text}");
        assert!(text.contains("3 sh -c mysql --password="), "{text}");
        assert!(
            text.ends_with(
                "of nginx in shop (0123456789ab reg/shop/web:1.4) as root, cwd /root/, exe /bin/sh, host true"
            ),
            "{text}"
        );
        assert!(told[1].1.ends_with("7 sh /etc/shadow /etc O_RDWR root"), "{}", told[1].1);
        assert!(
            told[2].1.ends_with("8 /etc/shadow S_IXOTH|S_IROTH|S_IXGRP|S_IRGRP|S_IXUSR|S_IWUSR|S_IRUSR|S_ISUID"),
            "{}",
            told[2].1
        );
        assert!(told[3].1.ends_with("12 172.17.0.2:5000->6.6.6.6:4444 tcp sh systemd"), "{}", told[3].1);
        // The third event of the capture, three microseconds after it began.
        assert_eq!(found[0]["time"], "2023-11-14T22:13:20.000003000Z");
        assert_eq!(found[0]["hostname"], "web-1");
        assert_eq!(folder.replay(&[&plain], &rules).stdout, output.stdout, "the same again");
        // Compressed, or by other writers, it is the same but for the digests of secrets.
        let of = |finding: &Value| ["rule", "time", "priority"].map(|key| finding[key].clone());
        let known =
            |found: &[Value]| found.iter().map(|it| (of(it), it["tidewatch"]["id"].clone())).collect::<Vec<_>>();
        assert_eq!(known(&findings(&folder.replay(&[&packed], &rules))), known(&found));
        assert_eq!(known(&found), *first.get_or_insert_with(|| known(&found)));
        let stats: Value = serde_json::from_str(said(&output).lines().last().unwrap()).unwrap();
        assert_eq!((&stats["captures"], &stats["read"], &stats["events"]), (&1.into(), &13.into(), &8.into()));
        assert_eq!(stats["hits"]["Way Out"], 1);
        assert!(stats["events_per_second"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn the_options_of_rules_hold_for_replays_too() {
    let folder = Folder::new("replay-options");
    let rules = folder.write("rules.yaml", RULES);
    let capture = folder.write("t.scap", &story(Form::ALL[0]).bytes);
    let output = folder.replay(
        &[&capture],
        &[
            "--json",
            "--rules",
            rules.to_str().unwrap(),
            "--set",
            "rules.select=[{disable: {rule: '*'}}, {enable: {rule: 'Way Out'}}]",
            "--set",
            "rules.append_output=[{extra_output: 'by %proc.name', extra_fields: [fd.sport, {who: '%proc.name!'}]}]",
        ],
    );
    let found = findings(&output);
    assert_eq!(found.len(), 1, "{}", said(&output));
    assert!(found[0]["rule"] == "Way Out" && found[0]["output"].as_str().unwrap().ends_with(" by sh"), "{found:?}");
    let fields = &found[0]["output_fields"];
    assert_eq!((&fields["fd.sport"], &fields["who"]), (&4_444.into(), &"sh!".into()), "{fields}");
}

#[test]
fn a_cut_capture_gives_what_was_before_and_ends_with_a_failure() {
    let folder = Folder::new("replay-cut");
    let rules = folder.write("rules.yaml", RULES);
    let options = ["--json", "--rules", rules.to_str().unwrap()];
    let scap = story(Form::New);
    let cut = folder.write("cut.scap", &scap.bytes[..scap.bytes.len() - 30]);
    let whole = folder.write("whole.scap", &scap.bytes);
    let other = folder.write("other.scap", "no capture");
    let output = folder.replay(&[&cut, &other, &whole], &options);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(findings(&output).len(), 8, "{}", said(&output));
    let text = said(&output);
    assert!(text.contains("cut.scap: byte ") && text.contains("everything before was read"), "{text}");
    assert!(text.contains("other.scap: ") && text.contains("it is left out"), "{text}");
    // Only the time that is asked for.
    let output = folder.replay(&[&whole], &[&options[..], &["--until", "2023-11-14T22:13:20.000005Z"]].concat());
    assert_eq!(findings(&output).len(), 1, "{}", said(&output));
}

#[test]
fn what_cannot_be_read_is_listed_once_and_ends_with_a_failure() {
    let folder = Folder::new("replay-list-broken");
    let named = folder.0.join("named");
    std::fs::create_dir_all(&named).unwrap();
    let gzip = story(Form::ALL[0]).gzip();
    for (name, bytes) in
        [("a.scap", &b"garbage, no capture"[..]), ("b.scap", b""), ("c.scap.gz", &gzip[..12]), ("d.twrec", b"garbage")]
    {
        folder.write(&format!("named/{name}"), bytes);
    }
    let list = |options: &[&str]| folder.replay(&[&named], &[&["--list"], options].concat());
    let output = list(&[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let wanted = [
        ("d.twrec", "is too short: not a readable segment"),
        ("a.scap", "does not begin like one: not a capture"),
        ("b.scap", "is empty: not a capture"),
        ("c.scap.gz", "is cut off: "),
    ];
    assert_eq!(lines.len(), wanted.len(), "{text}");
    for (line, (name, says)) in lines.iter().zip(wanted) {
        assert!(line.starts_with("unreadable ") && line.contains(says), "{line}");
        assert_eq!(line.matches(name).count(), 1, "{line}");
    }
    let output = list(&["--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(serde_json::from_slice::<Vec<Value>>(&output.stdout).unwrap().len(), 4);
}

#[test]
fn a_replay_that_finds_nothing_says_so_to_people_alone() {
    let folder = Folder::new("replay-nothing");
    let capture = folder.write("a.scap", &story(Form::ALL[0]).bytes);
    let rules = folder.write("rules.yaml", RULES);
    let rules = ["--rules", rules.to_str().unwrap(), "--since", "1h"];
    let output = folder.replay(&[&capture], &rules);
    assert!(output.status.success() && output.stdout.is_empty());
    assert_eq!(said(&output), "nothing found\n");
    assert_eq!(said(&folder.replay(&[&capture], &[&rules[..], &["--json"]].concat())), "");
    let reversed = folder.replay(&[&capture], &[&rules[..], &["--until", "2h"]].concat());
    assert!(said(&reversed).contains("--until 2h is before --since 1h"), "{}", said(&reversed));
}

#[test]
fn captures_are_listed_with_machine_times_and_events() {
    let folder = Folder::new("replay-list");
    let path = folder.write("a.scap", story(Form::New).gzip());
    folder.write("b.scap", "no capture");
    let output = folder.replay(&[&folder.0], &["--list"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("2023-11-14T22:13:20") && text.contains("13 events"), "{text}");
    assert!(text.contains("capture of web-1 (4 CPUs, 2 threads)"), "{text}");
    assert!(text.contains("unreadable") && text.contains("b.scap"), "{text}");
    let output = folder.replay(&[&path], &["--list", "--json"]);
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&rows[0]["events"], &rows[0]["complete"], &rows[0]["packed"]),
        (&13.into(), &true.into(), &true.into())
    );
    assert_eq!(rows[0]["arch"], "x86_64");
}

/// Falco's stock rules over real captures, if both are there.
#[test]
fn real_captures_are_replayed_with_the_stock_rules() {
    let (Some(captures), Some(rules)) =
        (std::env::var_os("TIDEWATCH_CAPTURES"), std::env::var_os("TIDEWATCH_FALCO_RULES"))
    else {
        eprintln!("skipped: no TIDEWATCH_CAPTURES and TIDEWATCH_FALCO_RULES");
        return;
    };
    let folder = Folder::new("replay-real");
    let output = folder.replay(&[Path::new(&captures)], &["--json", "--stats", "--rules", rules.to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));
    let stats: Value = serde_json::from_str(said(&output).lines().last().unwrap()).unwrap();
    assert!(stats["captures"].as_u64().unwrap() > 0, "{stats}");
    assert_eq!(stats["malformed"], 0);
}
