//! The `config` verbs, by running the binary.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tidewatch-config-cli-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::set_permissions(path.parent().unwrap(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    }

    /// Runs the binary in the folder, with none of our variables but `env`.
    fn run(&self, args: &[&str], env: &[(&str, &str)]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidewatch"));
        command.args(args).current_dir(&self.0).env("NO_COLOR", "1");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TIDEWATCH_")) {
            command.env_remove(name);
        }
        let Output { status, stdout, stderr } = command.envs(env.iter().copied()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const FILE: [&str; 2] = ["--config", "t.yaml"];

fn with<'a>(args: &[&'a str]) -> Vec<&'a str> {
    FILE.iter().chain(args).copied().collect()
}

#[test]
fn check_says_what_is_wrong_and_where() {
    let folder = Folder::new("check");
    folder.write("t.yaml", "spool:\n  max_mb: 64\n");
    folder.write("conf.d/x.yaml", "metrics:\n  listen: 0.0.0.0:9465\n");
    let (code, stdout, stderr) = folder.run(&with(&["config", "check"]), &[("TIDEWATCH_LOG__KEEP", "0")]);
    let expected = "\
error[CONFIG_UNKNOWN_KEY]: the section `spool` has no key `max_mb`
 --> t.yaml:2:3
  |
2 |   max_mb: 64
  |   ^^^^^^
  |
  = help: did you mean `max_mib`?

error[CONFIG_VALUE]: TIDEWATCH_LOG__KEEP: `log.keep` is 0, but must be at least 1
  |
1 | TIDEWATCH_LOG__KEEP=0
  |                     ^
  |
  = help: write 1 or more

error[CONFIG_VALUE]: `metrics.listen` is 0.0.0.0:9465, which other hosts can reach
 --> conf.d/x.yaml:2:11
  |
2 |   listen: 0.0.0.0:9465
  |           ^^^^^^^^^^^^
  |
  = help: set metrics.allow_remote to true if they should, else write 127.0.0.1

";
    assert_eq!(stderr, expected);
    assert_eq!((code, stdout.as_str()), (1, "configuration broken: 3 errors, 0 warnings\n"));
}

#[test]
fn check_counts_variables_among_the_sources() {
    let folder = Folder::new("variables");
    folder.write("t.yaml", "log: {keep: 2}\n");
    let env = [("TIDEWATCH_LOG__KEEP", "3"), ("TIDEWATCH_LOG", "info")];
    let (code, stdout, _) = folder.run(&with(&["config", "check", "--no-rules"]), &env);
    assert_eq!((code, &*stdout), (0, "configuration in order: t.yaml, 1 variable of the environment; 0 warnings\n"));
}

#[test]
fn check_of_files_reads_these_alone() {
    let folder = Folder::new("files");
    folder.write("t.yaml", "metrics: {listen: '0.0.0.0:1'}\n");
    folder.write("more.yaml", "metrics: {allow_remote: true}\n");
    folder.write("conf.d/x.yaml", "broken");
    let env = [("TIDEWATCH_NONSENSE", "1")];
    let (code, stdout, stderr) = folder.run(&["config", "check", "--no-rules", "t.yaml", "more.yaml"], &env);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(stdout, "configuration in order: t.yaml, more.yaml; 0 warnings\n");
    assert_eq!(folder.run(&["config", "check", "t.yaml"], &env).0, 1);
}

const RULE: &str = "- rule: mine\n  desc: d\n  condition: evt.type = chroot\n  output: o\n  priority: INFO\n";

#[test]
fn check_looks_at_the_rules_that_are_named_too() {
    let folder = Folder::new("rules");
    let path = |name: &str| folder.0.join(name).to_string_lossy().into_owned();
    folder.write("mine.yaml", RULE);
    folder.write("rules.d/more.yaml", &RULE.replace("mine", "more").replace("chroot", "unshare"));
    folder.write("t.yaml", &format!("rules: {{files: [{}], dropins: {}}}\n", path("mine.yaml"), path("rules.d")));
    let (code, stdout, stderr) = folder.run(&["config", "check", "t.yaml"], &[]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let from = format!("{} and {}", path("mine.yaml"), path("rules.d"));
    assert!(stdout.contains(&format!("rules in order: 2 rules from {from}; 0 errors, 0 warnings\n")), "{stdout}");

    folder.write("rules.d/more.yaml", &RULE.replace("mine", "more").replace("evt.type", "evt.tipe"));
    let (code, stdout, stderr) = folder.run(&["config", "check", "t.yaml"], &[]);
    assert!(code == 1 && stdout.contains("rules broken: "), "{stdout}");
    assert!(stderr.contains(&format!(" --> {}:3:14\n", path("rules.d/more.yaml"))), "{stderr}");
    let (_, stdout, _) = folder.run(&["config", "check", "--json", "t.yaml"], &[]);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&report["ok"], &report["errors"], &report["rules"]["errors"]), (&false.into(), &0.into(), &1.into()));
    assert_eq!(report["rules"]["diagnostics"][0]["line"], 3);
    assert_eq!(folder.run(&["config", "check", "--no-rules", "t.yaml"], &[]).0, 0);
    // What the service would leave out, it starts without.
    let leave_out = [("TIDEWATCH_RULES__SKIP_BROKEN", "true"), ("TIDEWATCH_CONFIG", "t.yaml")];
    assert_eq!(folder.run(&["config", "check"], &leave_out).0, 0);

    folder.write("t.yaml", &format!("\nrules: {{files: [{}], dropins: null}}\n", path("absent.yaml")));
    let (code, stdout, _) = folder.run(&["config", "check", "t.yaml"], &[]);
    assert!(code == 1 && stdout.contains("cannot read the rule file") && stdout.contains("t.yaml:2"), "{stdout}");
}

#[test]
fn options_of_rules_are_checked_with_their_places_and_shown() {
    let folder = Folder::new("options");
    folder.write("mine.yaml", &RULE.replace("output: o", "output: o\n  tags: [host]"));
    let head = format!("rules:\n  files: [{}]\n  dropins: null\n", folder.0.join("mine.yaml").display());
    folder.write(
        "t.yaml",
        &format!("{head}  select:\n    - disable: {{tgs: x}}\n  append_output:\n    - extra_fields: [proc.nmae]\n"),
    );
    let (code, stdout, stderr) = folder.run(&["config", "check", "t.yaml"], &[]);
    assert_eq!((code, stdout.as_str()), (1, "configuration broken: 2 errors, 0 warnings\n"));
    for text in [
        "error[CONFIG_UNKNOWN_KEY]: `rules.select[0].disable` has no key `tgs`\n --> t.yaml:5:17\n",
        "= help: did you mean `tag`?",
        "error[CONFIG_VALUE]: `rules.append_output[0].extra_fields[0]`: there is no field `proc.nmae`\n --> t.yaml:7:22\n",
    ] {
        assert!(stderr.contains(text), "{text}\n{stderr}");
    }

    let options = "  compat: falco\n  select:\n    - disable: {tag: hots}\n    - enable: {rule: 'mi*'}\n  append_output:\n    - match: {tags: [host]}\n      extra_output: by %proc.name\n      extra_fields: [proc.pid, {who: '%user.name'}]\n";
    folder.write("t.yaml", &format!("{head}{options}"));
    let (code, stdout, stderr) = folder.run(&["config", "check", "t.yaml"], &[]);
    assert!(code == 0 && stdout.contains("rules in order: 1 rule from "), "{stdout}{stderr}");
    let doubt = "warning: rules.select[0] (t.yaml:5) changes nothing: no rule has the tag `hots`";
    assert!(stderr.contains(doubt) && stdout.contains("0 errors, 1 warning\n"), "{stderr}{stdout}");
    let (_, stdout, stderr) = folder.run(&with(&["rules", "check"]), &[]);
    assert!(stderr.contains(doubt) && stdout.contains("1 warning"), "{stderr}{stdout}");

    let (_, stdout, _) = folder.run(&with(&["config", "show", "--effective"]), &[]);
    for line in [
        "  compat: falco                              # t.yaml:4",
        "  select: [{disable: {tag: hots}}, {enable: {rule: mi*}}] # t.yaml:5",
        "  append_output: [{extra_fields: [proc.pid, {who: \"%user.name\"}], extra_output: by %proc.name, match: {tags: [host]}}] # t.yaml:8",
    ] {
        assert!(stdout.lines().any(|shown| shown == line), "{line}\n{stdout}");
    }
    // In a variable, too; what is set last replaces the list.
    let env = [("TIDEWATCH_CONFIG", "t.yaml"), ("TIDEWATCH_RULES__SELECT", "[{disable: {rule: mine}}]")];
    let (code, stdout, _) = folder.run(&["config", "check"], &env);
    assert!(code == 1 && stdout.contains("no rule that is enabled"), "{stdout}");
    let (code, stdout, _) = folder.run(&["rules", "list", "--json"], &env);
    let listed: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &listed[0]["enabled"]), (0, &false.into()), "{stdout}");
    let (code, _, stderr) =
        folder.run(&["config", "check"], &[env[0], ("TIDEWATCH_RULES__SELECT", "[{enable: {rle: x}}]")]);
    assert!(
        code == 1 && stderr.contains("TIDEWATCH_RULES__SELECT: `rules.select[0].enable` has no key `rle`"),
        "{stderr}"
    );
}

/// A file without rules is doubtful; a set without rules is refused, by `run` as by the check of what `run` would take.
#[test]
fn an_empty_rule_file_is_a_warning_and_an_empty_set_is_refused() {
    let folder = Folder::new("empty");
    folder.write("empty.yaml", "# nothing yet\n");
    folder.write("mine.yaml", RULE);
    let (code, stdout, stderr) = folder.run(&["rules", "check", "empty.yaml", "mine.yaml"], &[]);
    assert!(code == 0 && stdout.contains("1 warning"), "{stdout}");
    assert!(stderr.contains("empty.yaml has no rule, list or macro"), "{stderr}");
    let (code, _, stderr) = folder.run(&["rules", "check", "empty.yaml"], &[]);
    assert!(code == 0 && stderr.contains("`run` refuses"), "{stderr}");

    let empty = folder.0.join("empty.yaml").to_string_lossy().into_owned();
    let env = [("TIDEWATCH_RULES__FILES", format!("[{empty}]")), ("TIDEWATCH_RULES__DROPINS", "null".to_owned())];
    let env = [(env[0].0, env[0].1.as_str()), (env[1].0, env[1].1.as_str())];
    let (code, stdout, _) = folder.run(&["config", "check"], &env);
    assert!(code == 1 && stdout.contains("nothing to watch for; add one"), "{stdout}");
}

#[test]
fn check_reports_to_machines() {
    let folder = Folder::new("json");
    folder.write("t.yaml", "log: {lvel: info}\n");
    let (code, stdout, stderr) = folder.run(&["config", "check", "--json", "t.yaml"], &[]);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, stderr.as_str()), (1, ""));
    assert_eq!(
        report["diagnostics"][0],
        serde_json::json!({
            "severity": "error", "code": "CONFIG_UNKNOWN_KEY", "key": "log.lvel",
            "origin": {"kind": "file", "file": "t.yaml", "line": 1, "column": 7},
            "message": "the section `log` has no key `lvel`", "help": "did you mean `level`?",
        })
    );
    folder.write("t.yaml", "");
    let (code, stdout, _) = folder.run(&["config", "check", "--json", "t.yaml"], &[]);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &report["ok"], &report["errors"]), (0, &true.into(), &0.into()));
}

#[test]
fn show_tells_values_and_where_they_come_from_but_no_password() {
    let folder = Folder::new("show");
    folder.write("t.yaml", "store:\n  url: postgres://user:secret@host/db\n  retention: {audit: {max_days: 7}}\n");
    folder.write("conf.d/x.yml", "log: {level: warn}\n");
    let env = [("TIDEWATCH_CONFIG", "t.yaml"), ("TIDEWATCH_SPOOL__MAX_MIB", "64")];
    let (code, stdout, stderr) = folder.run(&["config", "show"], &env);
    let expected = "\
spool:
  max_mib: 64
store:
  url: postgres://user:***@host/db
  retention:
    audit:
      max_days: 7
log:
  level: warn
";
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, expected, ""));
    let (_, stdout, _) = folder.run(&["config", "show", "--effective"], &env);
    for line in [
        "  max_mib: 64                                # TIDEWATCH_SPOOL__MAX_MIB",
        "  url: postgres://user:***@host/db           # t.yaml:2",
        "  level: warn                                # conf.d/x.yml:1",
        "  user: tidewatch                            # default",
    ] {
        assert!(stdout.lines().any(|shown| shown == line), "{line}\n{stdout}");
    }
    let (_, stdout, _) = folder.run(&["config", "show", "--json"], &env);
    let shown: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(shown["files"], serde_json::json!(["t.yaml", "conf.d/x.yml"]));
    assert_eq!(shown["settings"].as_array().unwrap().len(), 4);
    assert!(!stdout.contains("secret"));
}

#[test]
fn show_of_a_broken_configuration_fails() {
    let folder = Folder::new("broken");
    let (code, stdout, stderr) = folder.run(&with(&["config", "show"]), &[]);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("t.yaml: cannot read the file"), "{stderr}");
}

#[test]
fn verbs_that_ask_the_service_go_on_with_what_can_be_read() {
    let folder = Folder::new("asking");
    let run_dir = folder.0.join("run");
    folder.write("t.yaml", &format!("run_dir: {}\n", run_dir.display()));
    folder.write("conf.d/x.yaml", "spool: {max_mibb: 16}\nlog: {keep: none}\n");
    let warning = "warning: the configuration is broken: conf.d/x.yaml:1:9: the section `spool` has no key `max_mibb`; \
                   did you mean `max_mib`? (and 1 more: tidewatch config check shows them)\n";
    for verb in ["status", "findings", "containers", "reload"] {
        let (_, stdout, stderr) = folder.run(&with(&[verb]), &[]);
        let said = format!("{stdout}{stderr}");
        assert!(stderr.starts_with(warning) && stderr.matches("max_mibb").count() == 1, "{verb}: {stderr}");
        assert!(said.contains(&format!("cannot ask {}/control.sock", run_dir.display())), "{verb}: {said}");
    }
    // A variable is as good as a file.
    folder.write("conf.d/x.yaml", "");
    let (_, _, stderr) = folder.run(&with(&["status"]), &[("TIDEWATCH_SPOOL__MAX_MB", "3")]);
    assert!(stderr.starts_with("warning: ") && stderr.contains("TIDEWATCH_SPOOL__MAX_MIB"), "{stderr}");
    assert!(stderr.contains("cannot ask"), "{stderr}");
    // What was typed just now is no warning, nor is a file that was named and is not there.
    for args in [["status", "--set", "run_dri=/x"], ["status", "--config", "none.yaml"]] {
        let args = if args[1] == "--set" { with(&args) } else { args.to_vec() };
        let (code, _, stderr) = folder.run(&args, &[]);
        assert!(code == 1 && stderr.starts_with("error: the configuration cannot be used"), "{stderr}");
    }
}

#[test]
fn a_broken_configuration_is_the_first_problem_of_doctor() {
    let folder = Folder::new("doctor");
    folder.write("t.yaml", "run_dir: /nonexistent/run\nspool: {max_mibb: 16}\n");
    let (code, stdout, _) = folder.run(&with(&["doctor"]), &[]);
    assert!(code == 1 && stdout.starts_with("failed   configuration "), "{stdout}");
    assert!(stdout.contains("t.yaml:2:9: ") && stdout.contains(" root "), "{stdout}");
    let (code, stdout, _) = folder.run(&with(&["doctor", "--json"]), &[]);
    let rows: Value = serde_json::from_str(&stdout).unwrap();
    assert!(code == 1 && rows[0]["what"] == "configuration" && rows[0]["ok"] == false, "{rows}");
}

#[test]
fn a_replay_is_stopped_by_broken_settings_that_it_depends_on_alone() {
    let folder = Folder::new("replay");
    folder.write("recordings/x.scap", "");
    let refused = "error: the configuration cannot be used";
    for (text, lists, replays) in [
        ("metrics: {lissten: 1}\n", true, true),
        ("rules: {fils: []}\n", true, false),
        ("state_dir: [1]\n", true, false),
        ("a: [\n", false, false),
    ] {
        folder.write("t.yaml", text);
        let (_, _, stderr) = folder.run(&with(&["replay", "--list", "recordings"]), &[]);
        assert_eq!(!stderr.starts_with(refused), lists, "{text}: {stderr}");
        let (_, _, stderr) = folder.run(&with(&["replay", "recordings"]), &[]);
        assert_eq!(!stderr.starts_with(refused), replays, "{text}: {stderr}");
    }
}

#[test]
fn the_option_wins_over_the_variable() {
    let folder = Folder::new("option");
    folder.write("t.yaml", "log: {keep: 9}\n");
    let (code, stdout, _) = folder.run(&["config", "show", "--config", "t.yaml"], &[("TIDEWATCH_CONFIG", "/nowhere")]);
    assert_eq!((code, stdout.as_str()), (0, "log:\n  keep: 9\n"));
}

#[test]
fn the_schema_and_the_default_file_are_printed() {
    let folder = Folder::new("print");
    let (code, stdout, _) = folder.run(&["config", "schema"], &[]);
    let schema: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &schema["properties"]["spool"]["properties"]["max_mib"]["default"]), (0, &256.into()));
    let (code, stdout, _) = folder.run(&["config", "default"], &[]);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/tidewatch.yaml");
    assert_eq!((code, stdout), (0, std::fs::read_to_string(file).unwrap()));
}

#[test]
fn the_help_teaches() {
    let (code, stdout, _) = Folder::new("help").run(&["config", "--help"], &[]);
    assert_eq!(code, 0);
    for words in ["tidewatch config show --effective", "TIDEWATCH_SPOOL__MAX_MIB=64", "conf.d/*.yaml"] {
        assert!(stdout.contains(words), "{words}\n{stdout}");
    }
}
