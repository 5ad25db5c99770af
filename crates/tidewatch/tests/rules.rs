//! The `rules` verbs, by running the binary.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tw_model::EventKind;
use tw_model::raw::{Encoder, FileBody, Header};
use tw_sensor::recorder::{FrameKind, Recorder, RecorderOptions, SegmentMeta};

const RULES: &str = "\
- list: shells
  items: [bash, sh]
- macro: spawned
  condition: evt.type in (execve, execveat) and evt.rawres >= 0
- rule: Shell Below Web Server
  desc: A web server started a shell.
  advice: Read the command.
  condition: spawned and proc.name in (shells) and proc.pname = nginx
  output: shell below a web server | command=%proc.cmdline
  priority: WARNING
  tags: [container, T1059.004]
  exceptions:
    - {name: known_commands, fields: proc.cmdline, values: [sh -c date]}
- rule: Folder Changed
  desc: d
  condition: evt.type = chdir
  output: o
  priority: NOTICE
  enabled: false
";

const TESTS: &str = "\
- test: nginx starts a shell
  of: Shell Below Web Server
  events:
    - type: execve
      proc: {name: sh}
      ancestors: [{name: nginx}]
    - type: execve
      proc: {name: ls}
      ancestors: [{name: nginx}]
  hits: [1]
";

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tidewatch-rules-cli-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        let folder = Self(path);
        folder.write("t.yaml", "rules:\n  dropins: null\n");
        folder.write("rules.yaml", RULES);
        folder
    }

    fn write(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(self.0.join(name), text).unwrap();
        std::fs::set_permissions(self.0.join(name), std::fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// Runs `rules` with these words and this input: exit code, standard output, standard error.
    fn fed(&self, args: &[&str], input: &str) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidewatch"));
        command.args(["--config", "t.yaml", "rules"]).args(args).current_dir(&self.0).env("NO_COLOR", "1");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TIDEWATCH_")) {
            command.env_remove(name);
        }
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    fn run(&self, args: &[&str]) -> (i32, String, String) {
        self.fed(args, "")
    }

    fn json(&self, args: &[&str]) -> (i32, Value) {
        let (code, stdout, stderr) = self.run(args);
        (code, serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}")))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn check_ends_with_1_for_errors_and_when_strict_for_warnings() {
    let folder = Folder::new("check");
    let (code, stdout, _) = folder.run(&["check", "rules.yaml"]);
    assert_eq!((code, stdout.as_str()), (0, "rules.yaml: in order: 2 rules loaded, 0 errors, 0 warnings\n"));
    folder.write("doubtful.yaml", &format!("{RULES}- list: unused\n  items: [a]\n"));
    assert_eq!(folder.run(&["check", "doubtful.yaml"]).0, 0);
    let (code, stdout, stderr) = folder.run(&["check", "--strict", "doubtful.yaml"]);
    assert!(code == 1 && stdout.contains("not in order (--strict)") && stderr.contains("LOAD_UNUSED_LIST"), "{stdout}");
    folder.write("broken.yaml", &RULES.replace("spawned and", "spawnd and"));
    let (code, _, stderr) = folder.run(&["check", "broken.yaml"]);
    assert!(code == 1 && stderr.contains("did you mean `spawned`?"), "{stderr}");
}

#[test]
fn check_reads_rules_as_falco_does_if_asked_for() {
    let folder = Folder::new("compat");
    folder.write("quirk.yaml", &RULES.replace("in (shells)", "in shells"));
    assert_eq!(folder.run(&["check", "quirk.yaml"]).0, 0);
    assert_eq!(folder.run(&["check", "--compat", "falco", "quirk.yaml"]).0, 1);
    folder.write(
        "t.yaml",
        &format!("rules: {{dropins: null, compat: falco, files: [{}]}}\n", folder.0.join("quirk.yaml").display()),
    );
    assert_eq!(folder.run(&["check"]).0, 1);
    assert_eq!(folder.run(&["check", "--compat", "tidewatch"]).0, 0);
    // The default pack means the same in either way, as its tests show.
    folder.write("t.yaml", "rules: {dropins: null, compat: falco}\n");
    let (code, stdout, stderr) = folder.run(&["test"]);
    assert_eq!(code, 0, "{stdout}{stderr}");
}

#[test]
fn a_file_that_is_missing_does_not_hide_what_is_wrong_with_others() {
    let folder = Folder::new("missing");
    folder.write("broken.yaml", &RULES.replace("spawned and", "spawnd and"));
    let (code, stdout, stderr) = folder.run(&["check", "broken.yaml", "nofile.yaml"]);
    assert!(code == 1 && stdout.contains("2 errors"), "{stdout}");
    assert!(stderr.contains("did you mean `spawned`?") && stderr.contains("--> nofile.yaml\n"), "{stderr}");
    assert_eq!(stderr.matches("cannot read the rule file nofile.yaml").count(), 1, "{stderr}");
    let (_, json) = folder.json(&["check", "--json", "broken.yaml", "nofile.yaml"]);
    assert_eq!(json["diagnostics"][0]["file"], "nofile.yaml", "{json}");
    let (code, _, stderr) = folder.run(&["list", "broken.yaml", "nofile.yaml"]);
    assert!(code == 1 && stderr.contains("cannot read the rule file nofile.yaml"), "{stderr}");
}

#[test]
fn rules_are_read_from_standard_input_as_well() {
    let folder = Folder::new("stdin");
    let (code, stdout, stderr) = folder.fed(&["check", "-"], RULES);
    assert_eq!((code, stdout.as_str()), (0, "-: in order: 2 rules loaded, 0 errors, 0 warnings\n"), "{stderr}");
    assert_eq!(folder.fed(&["check", "-"], "- rule: [\n").0, 1);
    // Rules with their tests, and tests of rules in a file.
    let (code, stdout, stderr) = folder.fed(&["test", "-"], &format!("{RULES}{TESTS}"));
    assert!(code == 0 && stdout.contains("1 test of 2 rules: 1 passed"), "{stdout}{stderr}");
    folder.write("own.yaml", RULES);
    let (code, stdout, stderr) = folder.fed(&["test", "-r", "own.yaml", "-"], TESTS);
    assert!(code == 0 && stdout.contains("1 test of 2 rules: 1 passed"), "{stdout}{stderr}");
    // Each verb that takes it says so.
    for (verb, options) in [("check", 1), ("list", 1), ("show", 1), ("explain", 2), ("bench", 2), ("test", 2)] {
        let (_, help, _) = folder.run(&[verb, "--help"]);
        let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words.matches("`-` for standard input").count(), options, "{help}");
    }
}

#[test]
fn a_broken_test_is_a_warning_to_check_and_told_once_by_test() {
    let folder = Folder::new("broken-test");
    folder.write("rules.yaml", &format!("{RULES}{}", TESTS.replace("  hits: [1]\n", "")));
    let (code, stdout, stderr) = folder.run(&["check", "rules.yaml"]);
    assert!(code == 0 && stdout.contains("2 rules loaded, 0 errors, 1 warning"), "{stdout}{stderr}");
    let (code, stdout, stderr) = folder.run(&["test", "rules.yaml"]);
    assert_eq!((code, (stdout.clone() + &stderr).matches("this test has no `hits`").count()), (1, 1), "{stdout}");
    assert!(stdout.contains("0 passed, 1 failed") && !stdout.contains("in the rules"), "{stdout}");
    // What is no YAML at all is told once, too.
    folder.write("rules.yaml", "- test: [\n");
    let (code, stdout, stderr) = folder.run(&["test", "rules.yaml"]);
    assert_eq!((code, (stdout.clone() + &stderr).matches("LOAD_ERR_YAML_PARSE").count()), (1, 1), "{stdout}{stderr}");
}

#[test]
fn check_reports_in_the_form_that_was_asked_for() {
    let folder = Folder::new("formats");
    folder.write("broken.yaml", &RULES.replace("spawned and", "spawnd and"));
    let (code, json) = folder.json(&["check", "--json", "broken.yaml"]);
    assert_eq!((code, &json["ok"], &json["errors"], &json["rules"]), (1, &false.into(), &1.into(), &1.into()));
    assert_eq!(json, folder.json(&["check", "--format", "json", "broken.yaml"]).1);
    let (code, sarif) = folder.json(&["check", "--format", "sarif", "broken.yaml"]);
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    let errors: Vec<_> = results.iter().filter(|result| result["level"] == "error").collect();
    assert_eq!((code, &sarif["version"], errors.len()), (1, &"2.1.0".into(), 1));
    let (code, json) = folder.json(&["check", "--json", "absent.yaml"]);
    assert!(code == 1 && json["diagnostics"][0]["message"].as_str().unwrap().contains("absent.yaml"), "{json}");
}

#[test]
fn without_files_the_configured_rules_are_meant() {
    let folder = Folder::new("configured");
    let (code, stdout, _) = folder.run(&["check"]);
    assert!(code == 0 && stdout.starts_with("the default pack: in order: "), "{stdout}");
    folder.write("t.yaml", &format!("rules:\n  dropins: null\n  files: [{}]\n", folder.0.join("rules.yaml").display()));
    let (code, stdout, _) = folder.run(&["list"]);
    assert!(code == 0 && stdout.contains("rules.yaml (rules.files of the configuration)"), "{stdout}");
    assert_eq!(folder.json(&["show", "shells", "--json"]).1["kind"], "list");
    folder.write("t.yaml", "rules: {fils: []}\n");
    let (code, _, stderr) = folder.run(&["list"]);
    assert!(code == 1 && stderr.contains("no rule file is named") && stderr.contains("fils"), "{stderr}");
    assert_eq!(folder.run(&["list", "rules.yaml"]).0, 0, "the configuration is not needed");
}

#[test]
fn list_shows_what_passes_the_filters() {
    let folder = Folder::new("list");
    let names = |filters: &[&str]| {
        let (_, rows) = folder.json(&[&["list", "rules.yaml", "--json"], filters].concat());
        rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (shell, chdir) = ("Shell Below Web Server", "Folder Changed");
    assert_eq!(names(&[]), [shell, chdir]);
    for filter in [
        &["--tag", "T1059.004"][..],
        &["--priority", "warning"],
        &["--event", "execve", "--event", "mount"],
        &["--enabled"],
        &["--tag", "container", "--tag", "T1059.004"],
    ] {
        assert_eq!(names(filter), [shell], "{filter:?}");
    }
    assert_eq!(names(&["--disabled"]), [chdir]);
    assert_eq!(names(&["--event", "chdir"]), [chdir]);
    assert!(names(&["--tag", "container", "--tag", "host"]).is_empty());
    let (code, _, stderr) = folder.run(&["list", "--event", "exeve"]);
    assert!(code == 2 && stderr.contains("did you mean execve"), "{stderr}");
    let (_, stdout, _) = folder.run(&["list", "rules.yaml"]);
    let expected = "\
PRIORITY  RULE                    EVENTS           IN    TAGS
Warning   Shell Below Web Server  execve execveat  EFCW  T1059.004 container
Notice    Folder Changed (off)    chdir            E--W
2 rules (rules.yaml)
IN: finds something by eBPF, fanotify, connector, wrap; a small letter: not of all its events
";
    assert_eq!(stdout, expected);
    let (_, stdout, _) = folder.run(&["list", "rules.yaml", "--disabled"]);
    assert!(stdout.contains("\n1 of 2 rules (rules.yaml)\n"), "{stdout}");
}

#[test]
fn show_tells_all_of_a_rule_macro_or_list() {
    let folder = Folder::new("show");
    let (code, stdout, _) = folder.run(&["show", "Shell Below Web Server", "--rules", "rules.yaml"]);
    let expected = "\
Shell Below Web Server  rule, rules.yaml:5
  priority    Warning
  state       enabled
  tags        T1059.004 container
  events      execve execveat
  modes       ebpf       yes
              fanotify   yes
              connector  yes
              wrap       yes
  why         A web server started a shell.
  do          Read the command.
  condition   spawned and proc.name in (shells) and proc.pname = nginx
  except      known_commands:
              proc.cmdline in (\"sh -c date\")
  output      shell below a web server | command=%proc.cmdline
  macros      spawned
  lists       shells
  fields      evt.rawres, evt.type, proc.cmdline, proc.name, proc.pname
";
    assert_eq!((code, stdout.as_str()), (0, expected));
    let (_, stdout, _) = folder.run(&["show", "shells", "-r", "rules.yaml"]);
    let list =
        "shells  list, rules.yaml:1\n  number      2\n  values      bash, sh\n  in rules    Shell Below Web Server\n";
    assert_eq!(stdout, list);
    let (_, json) = folder.json(&["show", "spawned", "--macro", "-r", "rules.yaml", "--json"]);
    assert_eq!(json["used_by"]["rules"][0], "Shell Below Web Server");
    assert_eq!(json["fields"], serde_json::json!(["evt.rawres", "evt.type"]));
    let (_, json) = folder.json(&["show", "Shell Below Web Server", "-r", "rules.yaml", "--json"]);
    assert_eq!(json["exceptions"][0]["name"], "known_commands");
    let (code, stdout, stderr) = folder.run(&["show", "Shell Below Webserver", "-r", "rules.yaml"]);
    assert!(code == 1 && stdout.is_empty() && stderr.contains("did you mean `Shell Below Web Server`?"), "{stderr}");
}

#[test]
fn explain_says_why_a_rule_matches_or_not() {
    let folder = Folder::new("explain");
    folder.write("tests.yaml", TESTS);
    let rule = ["explain", "Shell Below Web Server", "-r", "rules.yaml"];
    let (code, stdout, _) = folder.run(&[&rule[..], &["--event", "tests.yaml:7"]].concat());
    let expected = "\
Shell Below Web Server  rule, rules.yaml:5
does not match execve by ls on the host
it comes down to: proc.name in (shells: 2 values)  ← \"ls\"

✗ all of 2
  ✗ all of 3
    ✓ spawned = all of 2
      ✓ evt.type in (execve, execveat)  ← \"execve\"
      ✓ evt.rawres >= 0  ← 0
    ✗ proc.name in (shells: 2 values)  ← \"ls\"
    · proc.pname = nginx  (not looked at)
  · not proc.cmdline in (\"sh -c date\")  (exception known_commands)  (not looked at)
";
    assert_eq!((code, stdout.as_str()), (0, expected));
    let (_, json) = folder.json(&[&rule[..], &["--event", "tests.yaml", "--num", "1", "--json"]].concat());
    assert_eq!((&json["matches"], &json["condition"]["verdict"]), (&true.into(), &"true".into()));
    let event = "{type: execve, proc: {name: sh, args: [sh, -c, date]}, ancestors: [{name: nginx}]}";
    let (_, stdout, _) = folder.fed(&[&rule[..], &["--event", "-"]].concat(), event);
    assert!(
        stdout.contains("✗ not proc.cmdline in (\"sh -c date\")  ← \"sh -c date\"  (exception known_commands)\n"),
        "{stdout}"
    );
    let (_, stdout, _) = folder.run(&rule);
    assert!(stdout.contains("\n    spawned = all of 2\n      evt.type in (execve, execveat)\n"), "{stdout}");
    let (code, _, stderr) = folder.fed(&[&rule[..], &["--event", "-"]].concat(), "{type: exeve}");
    assert!(code == 1 && stderr.contains("did you mean `execve`?"), "{stderr}");
    let (code, _, stderr) = folder.run(&[&rule[..], &["--event", "tests.yaml"]].concat());
    assert!(code == 1 && stderr.contains("tests.yaml has 2 events"), "{stderr}");
}

#[test]
fn events_are_taken_out_of_a_recording() {
    let folder = Folder::new("recording");
    let dir = folder.0.join("recorder");
    let (mut recorder, _) = Recorder::open(RecorderOptions { dir, ..RecorderOptions::default() }).unwrap();
    recorder.begin_segment(SegmentMeta { first_event: 41, ..SegmentMeta::default() });
    for (time, kind) in [(5, EventKind::Chdir), (6, EventKind::Mkdir), (7, EventKind::Chdir)] {
        let header = Header { kind: kind as u16, pid: 9, tid: 9, start: 3, time, ..Header::default() };
        let mut out = Encoder::new(&header, size_of::<FileBody>());
        let path = out.text(b"/tmp");
        recorder.append(FrameKind::Record, &out.finish(&FileBody { path, ..FileBody::default() }));
    }
    recorder.close();
    let explain = |number| {
        let args = ["explain", "Folder Changed", "-r", "rules.yaml", "--replay", "recorder", "--num", number];
        folder.run(&args)
    };
    let (code, stdout, _) = explain("43");
    assert!(code == 0 && stdout.contains("✓ evt.type = chdir  ← \"chdir\""), "{stdout}");
    let (_, stdout, _) = explain("42");
    assert!(stdout.contains("✗ evt.type = chdir  ← \"mkdir\""), "{stdout}");
    let (code, _, stderr) = explain("44");
    assert!(code == 1 && stderr.contains("none of 3 events in recorder has the number 44"), "{stderr}");
    folder.write("rules.yaml", &RULES.replace("enabled: false", "enabled: true"));
    let (_, json) = folder.json(&["bench", "recorder", "-r", "rules.yaml", "--json"]);
    let rule = &json["rules"].as_array().unwrap().iter().find(|rule| rule["name"] == "Folder Changed").unwrap();
    assert_eq!((&json["events"], &rule["evaluations"], &rule["hits"]), (&3.into(), &2.into(), &2.into()));
}

#[test]
fn tests_in_rule_files_are_run() {
    let folder = Folder::new("test");
    folder.write("both.yaml", &format!("{RULES}{TESTS}"));
    let (code, stdout, _) = folder.run(&["test", "both.yaml"]);
    let expected = "both.yaml  1 passed\n1 test of 2 rules: 1 passed, 0 failed\n";
    assert_eq!((code, stdout.as_str()), (0, expected));
    folder.write("tests.yaml", &TESTS.replace("hits: [1]", "hits: [2]"));
    let (code, stdout, _) = folder.run(&["test", "--rules", "rules.yaml", "tests.yaml", "--junit", "out.xml"]);
    let expected = "\
tests.yaml  0 passed, 1 failed

failed tests.yaml:1: nginx starts a shell
  event 1: `Shell Below Web Server` must not match, but says: shell below a web server | command=sh
    execve at tests.yaml:4
    why: tidewatch rules explain 'Shell Below Web Server' --rules rules.yaml --rules tests.yaml --event tests.yaml:4
  event 2: `Shell Below Web Server` must match, but does not
    execve at tests.yaml:7
    why: tidewatch rules explain 'Shell Below Web Server' --rules rules.yaml --rules tests.yaml --event tests.yaml:7
1 test of 2 rules: 0 passed, 1 failed
";
    assert_eq!((code, stdout.as_str()), (1, expected));
    let xml = std::fs::read_to_string(folder.0.join("out.xml")).unwrap();
    assert!(xml.contains("failures=\"1\"") && xml.contains("tests.yaml:7: event 2: `Shell Below Web Server`"), "{xml}");
    let (code, json) = folder.json(&["test", "--json", "--rules", "rules.yaml", "tests.yaml"]);
    assert_eq!((code, &json["ok"], &json["failed"]), (1, &false.into(), &1.into()));
    assert_eq!(json["files"][0]["tests"][0]["failures"][1]["kind"], "missing");
}

#[test]
fn the_default_pack_brings_its_tests_along() {
    let folder = Folder::new("pack");
    let (code, json) = folder.json(&["test", "--coverage", "--json"]);
    assert_eq!((code, &json["ok"]), (0, &true.into()));
    let first = &json["files"][0];
    let (name, test) = (first["file"].as_str().unwrap(), &first["tests"][0]);
    let (rule, place) = (test["of"][0].as_str().unwrap(), format!("{name}:{}", test["line"].as_u64().unwrap() + 20));
    let (code, stdout, stderr) = folder.run(&["explain", rule, "--event", &place]);
    assert!(code == 0 && stdout.contains("match"), "{place}: {stdout}{stderr}");
    // Rules of one's own may find what the pack's tests are about; what one switches off is still tested.
    std::fs::create_dir(folder.0.join("rules.d")).unwrap();
    folder
        .write("rules.d/own.yaml", "- rule: All\n  desc: d\n  condition: evt.num > 0\n  output: o\n  priority: INFO\n");
    folder.write("t.yaml", &format!("rules:\n  dropins: {}\n", folder.0.join("rules.d").display()));
    let (code, json) = folder.json(&["test", "--json"]);
    assert_eq!((code, &json["failed"]), (0, &0.into()), "{json}");
}

#[test]
fn a_run_without_tests_or_with_broken_ones_is_a_failure() {
    let folder = Folder::new("no-test");
    let (code, stdout, _) = folder.run(&["test", "rules.yaml"]);
    assert!(code == 1 && stdout.contains("no test found in rules.yaml"), "{stdout}");
    folder.write("broken.yaml", &format!("{RULES}{}", TESTS.replace("type: execve", "type: exeve")));
    let (code, stdout, _) = folder.run(&["test", "broken.yaml"]);
    assert!(code == 1 && stdout.contains("did you mean `execve`?") && stdout.contains("1 failed"), "{stdout}");
    // All mistakes of a test are told; it is one test all the same.
    let wrong = TESTS.replace("type: execve", "type: exeve").replace("  hits: [1]\n", "  hits: [9]\n  alon: true\n");
    folder.write("broken.yaml", &format!("{RULES}{wrong}"));
    let (code, stdout, _) = folder.run(&["test", "broken.yaml", "--junit", "junit.xml"]);
    for told in ["did you mean `execve`?", "there is no event 9", "a test has no key `alon`", "1 test of", "1 failed"] {
        assert!(code == 1 && stdout.contains(told), "{told}: {stdout}");
    }
    let junit = std::fs::read_to_string(folder.0.join("junit.xml")).unwrap();
    assert!(junit.contains("tests=\"1\" failures=\"0\" errors=\"1\"") && junit.contains("alon"), "{junit}");
    folder.write("both.yaml", &format!("{RULES}{TESTS}"));
    let (code, stdout, _) = folder.run(&["test", "both.yaml", "--coverage"]);
    assert!(
        code == 1 && stdout.contains("Folder Changed") && stdout.contains("tested both ways: 1 of 2 rules"),
        "{stdout}"
    );
    let (code, stdout, _) = folder.run(&["test", "both.yaml", "--coverage", "--of", "Shell Below Web Server"]);
    assert!(code == 0 && stdout.contains("tested both ways: 1 of 1 rule\n"), "{stdout}");
}

/// The commands of docs/rules-tooling.md with what they answer; answers that are cut are left out.
#[test]
fn the_documented_examples_are_what_the_verbs_answer() {
    let page = include_str!("../../../docs/rules-tooling.md");
    let blocks = |mark: &str| {
        let mark = format!("```{mark}\n");
        let parts = page.split(mark.as_str()).skip(1);
        parts.map(|part| part.split("```").next().unwrap()).collect::<Vec<_>>()
    };
    let rules = blocks("yaml")[0];
    let folder = Folder::new("documents");
    folder.write("my_rules.yaml", rules);
    folder.write("wrong.yaml", &rules.replace("hits: [1]", "hits: [1, 2]"));
    let mut compared = 0;
    for block in blocks("console") {
        let (command, answer) = block.strip_prefix("$ tidewatch rules ").unwrap().split_once('\n').unwrap();
        if command == "bench" || answer.contains('…') {
            continue;
        }
        // Names of rules stand in quotes.
        let mut words = Vec::new();
        for (i, part) in command.split('\'').enumerate() {
            if i % 2 == 1 { words.push(part) } else { words.extend(part.split_whitespace()) }
        }
        let (_, stdout, stderr) = folder.run(&words);
        assert_eq!(stdout, answer, "{command}: {stderr}");
        compared += 1;
    }
    assert!(compared > 6, "{compared} examples");
}

#[test]
fn bench_tells_what_each_rule_costs_and_how_often_it_hits() {
    let folder = Folder::new("bench");
    folder.write("tests.yaml", TESTS);
    let args = ["bench", "-r", "rules.yaml", "--events", "tests.yaml", "--json"];
    let (code, json) = folder.json(&args);
    assert_eq!((code, &json["events"], json["rules"].as_array().unwrap().len()), (0, &100.into(), 1));
    let rule = &json["rules"][0];
    assert_eq!((&rule["evaluations"], &rule["hits"], &json["together"]["hits"]), (&100.into(), &50.into(), &50.into()));
    let (code, stdout, _) = folder.run(&["bench", "-r", "rules.yaml", "-n", "10"]);
    assert!(code == 0 && stdout.starts_with("10 events of the built-in mix\n"), "{stdout}");
    let (code, _, stderr) = folder.run(&["bench", "absent.scap"]);
    assert!(code == 1 && stderr.contains("absent.scap"), "{stderr}");
}
