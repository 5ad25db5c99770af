//! Tests of the configuration as a whole: what wins, what is refused and in which words, and what is written down.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use proptest::prelude::*;

use super::key::{self, keys};
use super::rule_options::Selected;
use super::settings::{LogFormat, Matching, Stdout};
use super::*;

mod written;

/// A folder of its own for a test, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tidewatch-config-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(path.join("conf.d")).unwrap();
        std::fs::set_permissions(path.join("conf.d"), std::fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        path
    }

    fn sources(&self) -> Sources {
        Sources { file: Some(self.0.join("t.yaml")), dropins: self.0.join("conf.d"), ..Sources::default() }
    }

    /// Loads `text` alone; the errors (or else the warnings), without the folder in them.
    fn say(&self, text: impl AsRef<[u8]>) -> Vec<String> {
        self.write("t.yaml", text);
        self.strip(match Config::load(&self.sources()) {
            Ok(loaded) => loaded.warnings,
            Err(errors) => errors.0,
        })
    }

    fn strip(&self, diagnostics: Vec<Diagnostic>) -> Vec<String> {
        let folder = format!("{}/", self.0.display());
        diagnostics.iter().map(|diagnostic| diagnostic.to_string().replace(&folder, "")).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn env(pairs: &[(&str, &str)]) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
    pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

/// What is said about variables alone.
fn say_env(pairs: &[(&str, &str)]) -> Vec<String> {
    let folder = Folder::new("env");
    folder.write("t.yaml", "");
    match Config::load(&Sources { env: env(pairs), ..folder.sources() }) {
        Ok(loaded) => folder.strip(loaded.warnings),
        Err(errors) => folder.strip(errors.0),
    }
}

#[test]
fn what_comes_later_wins_and_maps_are_merged() {
    let folder = Folder::new("precedence");
    let main = "spool: {max_mib: 10, sync: none}\nlog: {level: debug}\nrules: {files: [/a, /b]}\nmetrics: {listen: null}\n\
                store: {retention: {findings: {max_days: 3}}}\n";
    folder.write("t.yaml", main);
    folder.write("conf.d/20.yaml", "spool: {max_mib: 30}\nrules: {files: [/c]}\nlog: {keep: 9}\n");
    folder.write("conf.d/10.yml", "spool: {max_mib: 20}\nlog: {keep: 8, max_mib: 4}\n");
    folder.write("conf.d/.hidden.yaml", "not: ours\n");
    folder.write("conf.d/30.yaml.bak", "not: ours\n");
    let mut sources = folder.sources();
    sources.env = env(&[
        ("TIDEWATCH_LOG__KEEP", "11"),
        ("TIDEWATCH_LOG__MAX_MIB", "12"),
        ("TIDEWATCH_METRICS__LISTEN", "[::1]:80"),
        ("PATH", "/bin"),
    ]);
    sources.set("--keep", "log.keep", "13");
    sources.set("--rules", "rules.files", r#"["/x, y: z", "rel/./a/../b.yaml"]"#);
    let loaded = Config::load(&sources).unwrap();
    let config = &loaded.config;
    assert_eq!((config.spool.max_mib, config.log.max_mib, config.log.keep), (30, 12, 13));
    assert_eq!((config.spool.sync, config.log.level.as_str()), (Sync::None, "debug"));
    let relative = std::env::current_dir().unwrap().join("rel/b.yaml");
    assert_eq!(config.rules.files, [PathBuf::from("/x, y: z"), relative]);
    assert_eq!(config.metrics.listen, Some("[::1]:80".parse().unwrap()));
    let findings = config.store.retention.findings;
    assert_eq!((findings.max_days, findings.max_rows), (3, 2_000_000));
    let origin = |key: &str| loaded.origins[key].to_string().replace(&format!("{}/", folder.0.display()), "");
    assert_eq!(origin("spool.max_mib"), "conf.d/20.yaml:1");
    assert_eq!(origin("spool.sync"), "t.yaml:1");
    assert_eq!(origin("log.keep"), "--keep");
    assert_eq!(origin("log.max_mib"), "TIDEWATCH_LOG__MAX_MIB");
    assert_eq!(origin("store.retention.findings.max_days"), "t.yaml:5");
    assert_eq!(origin("manager.user"), "default");
    assert_eq!(loaded.origins.len(), keys().len());
    let names: Vec<_> = loaded.files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["t.yaml", "10.yml", "20.yaml"]);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn words_are_read_in_any_case_and_texts_as_written() {
    let folder = Folder::new("words");
    let text = "rules: {matching: First}\noutput: {stdout: NONE, file: ~}\nagent: {priority: Info}\nmanager: {user: 0100}\n\
                log: {level: off, format: JSON}\nspool:\nstore: {url: null}\n";
    assert_eq!(folder.say(text), [] as [&str; 0]);
    let config = Config::load(&folder.sources()).unwrap().config;
    assert_eq!((config.rules.matching, config.output.stdout), (Matching::First, Stdout::None));
    assert_eq!(config.agent.priority, tw_model::Priority::Informational);
    assert_eq!((config.manager.user.as_str(), config.log.level.as_str()), ("0100", "off"));
    assert_eq!((config.log.format, config.output.file), (LogFormat::Json, None));
}

#[test]
fn every_mistake_in_a_file_is_told_with_place_and_remedy() {
    let folder = Folder::new("mistakes");
    let list_of_choices = "emergency, alert, critical, error, warning, notice, informational, debug, info";
    for (text, expected) in [
        ("spool:\n  max_mb: 1\n", "t.yaml:2:3: the section `spool` has no key `max_mb`; did you mean `max_mib`?".into()),
        ("spol: 1", "t.yaml:1:1: there is no key `spol`; did you mean `spool`?".into()),
        ("state-dir: /x", "t.yaml:1:1: there is no key `state-dir`; did you mean `state_dir`?".into()),
        ("max_hours: 1", "t.yaml:1:1: there is no key `max_hours`; did you mean `recorder.max_hours`?".into()),
        ("agent: {sync: 1}", "t.yaml:1:9: the section `agent` has no key `sync`; did you mean `spool.sync`?".into()),
        (
            "spool.max_mib: 9",
            "t.yaml:1:1: there is no key `spool.max_mib`; did you mean `spool.max_mib`? keys are nested: write spool: {max_mib: …}".into(),
        ),
        (
            "manager: {frobnicate: 1}",
            "t.yaml:1:11: the section `manager` has no key `frobnicate`; the keys here are user".into(),
        ),
        (
            "log: &x {}\nspool:\n  <<: *x\n",
            "t.yaml:3:3: the section `spool` has no key `<<`; maps cannot be merged with `<<` here: write the keys out".into(),
        ),
        (
            "log: {keep: 1}\nlog: {keep: 2}\n",
            "t.yaml:2:1: `log` stands twice; it is on line 1 too: keep one of them".into(),
        ),
        ("spool: 3", "t.yaml:1:8: `spool` must be a map of keys, but is the number 3; it has the keys max_mib, sync".into()),
        (
            "- a",
            "t.yaml:1:1: the file must be a map of keys, but is a list; it has the keys state_dir, run_dir, rules, agent, runtimes, kubernetes, output, spool, recorder, redaction, manager, store, metrics, log".into(),
        ),
        (
            "spool: {max_mib: 64MB}",
            "t.yaml:1:18: `spool.max_mib` must be a whole number, but is the text `64MB`; write a number from 8 to 1048576 without quotes; the unit is in the name: mib".into(),
        ),
        (
            "log: {keep: '3'}",
            "t.yaml:1:13: `log.keep` must be a whole number, but is the text `3`; write a number from 1 to 100 without quotes".into(),
        ),
        (
            "log: {keep: -3}",
            "t.yaml:1:13: `log.keep` must be a whole number, but is the number -3; write a number from 1 to 100 without quotes".into(),
        ),
        ("spool: {max_mib: 7}", "t.yaml:1:18: `spool.max_mib` is 7, but must be at least 8; write 8 or more".into()),
        ("log: {keep: 101}", "t.yaml:1:13: `log.keep` is 101, but must be at most 100; write 100 or less".into()),
        ("agent: {docker: no}", "t.yaml:1:17: `agent.docker` must be true or false, but is the text `no`; write true or false".into()),
        ("agent:\n  docker:\n", "t.yaml:2:3: `agent.docker` has no value; write true or false".into()),
        (
            "agent: {priority: WARN}",
            format!("t.yaml:1:19: `agent.priority` is `WARN`, but must be one of {list_of_choices}; did you mean `warning`?"),
        ),
        ("rules: {files: /a}", "t.yaml:1:16: `rules.files` must be a list, but is the text `/a`; write a list: [/first, /second]".into()),
        ("rules: {files: [[a]]}", "t.yaml:1:16: `rules.files` must be a list of texts, but an item is none; write a list: [/first, /second]".into()),
        (
            "rules: {files: [a]}",
            "t.yaml:1:16: `rules.files` is `a`, but must be an absolute path; begin it with `/`: the processes have no folder of their own".into(),
        ),
        ("state_dir: /a/../b", "t.yaml:1:12: `state_dir` is `/a/../b`, but must not hold `..`; write the path that it stands for".into()),
        ("state_dir: /", "t.yaml:1:12: `state_dir` is `/`, but must not be the root folder; name a folder or file below it".into()),
        ("state_dir: ''", "t.yaml:1:12: `state_dir` is empty; leave the key out for the default".into()),
        ("state_dir: \"/a\\nb\"", "t.yaml:1:12: `state_dir` holds a control character; remove it".into()),
        ("run_dir: /var/lib/tidewatch", "t.yaml:1:10: `run_dir` is state_dir too; what is there must outlive a restart, and sockets must not; give each a folder of its own".into()),
        ("manager: {user: 'a b'}", "t.yaml:1:17: `manager.user` is `a b`, which is no name of a user; write a name such as `tidewatch`, or the number of a user".into()),
        ("metrics: {listen: 'localhost:80'}", "t.yaml:1:19: `metrics.listen` is `localhost:80`, which is no address and port; write 127.0.0.1:80: a name may mean several addresses".into()),
        ("metrics: {listen: ':80'}", "t.yaml:1:19: `metrics.listen` is `:80`, which is no address and port; write 0.0.0.0:80, and set metrics.allow_remote".into()),
        ("metrics: {listen: 9465}", "t.yaml:1:19: `metrics.listen` is `9465`, which is no address and port; write 127.0.0.1:9465".into()),
        ("metrics: {listen: 10.0.0.1}", "t.yaml:1:19: `metrics.listen` is `10.0.0.1`, which is no address and port; add a port: 10.0.0.1:9465".into()),
        ("metrics: {listen: [x]}", "t.yaml:1:19: `metrics.listen` must be text, but is a list; put the value into quotes if it begins with `[` or `{`".into()),
        ("metrics: {listen: '0.0.0.0:80'}", "t.yaml:1:19: `metrics.listen` is 0.0.0.0:80, which other hosts can reach; set metrics.allow_remote to true if they should, else write 127.0.0.1".into()),
        ("metrics: {listen: '[::]:80'}", "t.yaml:1:19: `metrics.listen` is [::]:80, which other hosts can reach; set metrics.allow_remote to true if they should, else write 127.0.0.1".into()),
        ("log: {level: inof}", "t.yaml:1:14: `log.level` holds `inof`, which is no level; did you mean `info`?".into()),
        ("log: {level: 'warn,x=y'}", "t.yaml:1:14: `log.level` holds `y`, which is no level; write one of off, error, warn, info, debug, trace, or a filter such as warn,tidewatch=debug".into()),
        ("store: {url: mysql://h/d}", "t.yaml:1:14: `store.url` is no address of SQLite or PostgreSQL; write postgres://user:password@host/database, sqlite:///absolute/path.db, or null".into()),
        ("store: {url: sqlite://x.db}", "t.yaml:1:14: `store.url` must name the database by an absolute path; write sqlite:///absolute/path.db, with three `/`".into()),
        ("store: {url: 'postgres://u:a@b@h/d'}", "t.yaml:1:14: `store.url` holds a character that an address gives a meaning; in user and password write `@` as %40, `:` as %3A, `/` as %2F, `?` as %3F, `#` as %23".into()),
        ("store: {url: 'postgres://u:a/b@h/d'}", "t.yaml:1:14: `store.url` holds a character that an address gives a meaning; in user and password write `@` as %40, `:` as %3A, `/` as %2F, `?` as %3F, `#` as %23".into()),
        ("a: 1\n---\nb: 2", "t.yaml:3:1: a second document begins here; the configuration is one: remove `---`; blanks at the start of a line say what belongs to what; quote values that hold `: `, ` #`, or begin with `[`, `{`, `*`, `&`, `!` or `%`".into()),
    ] {
        assert_eq!(folder.say(text), [expected], "{text}");
    }
    let long = format!("run_dir: /{}", "x".repeat(100));
    assert_eq!(
        folder.say(long),
        [
            "t.yaml:1:10: `run_dir` is too long; shorten it by 7 bytes: the sockets in it would have more than the 107 bytes of a socket's path"
        ]
    );
}

#[test]
fn every_mistake_in_all_files_is_told_at_once() {
    let folder = Folder::new("all");
    folder.write("t.yaml", "spool: {max_mib: 1}\nlog: [\n");
    folder.write("conf.d/a.yaml", "spool: {max_mib: 1, sync: x}\n");
    folder.write("conf.d/b.yaml", b"log:\n  l\xe9vel: x\n");
    folder.write("conf.d/c.yaml", vec![b'#'; (1 << 20) + 1]);
    std::fs::create_dir(folder.0.join("conf.d/d.yaml")).unwrap();
    std::os::unix::fs::symlink("/nowhere", folder.0.join("conf.d/e.yaml")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(folder.0.join("conf.d/f.yaml")).status();
    assert!(made.unwrap().success());
    let mut sources = folder.sources();
    sources.env = env(&[("TIDEWATCH_X", "")]);
    sources.set("--y", "spool.y", "");
    let errors = folder.strip(Config::load(&sources).unwrap_err().0);
    assert!(errors[0].starts_with("t.yaml:2:") && errors[0].contains(": not valid YAML: "), "{errors:?}");
    let expected = [
        "conf.d/a.yaml:1:18: `spool.max_mib` is 1, but must be at least 8; write 8 or more",
        "conf.d/a.yaml:1:27: `spool.sync` is `x`, but must be one of batch, none; write one of batch, none",
        "conf.d/b.yaml:2:4: is not UTF-8 text from here on; save the file as UTF-8",
        "conf.d/c.yaml: is larger than 1048576 bytes; is it a configuration? remove what is not",
        "conf.d/d.yaml: is not a regular file; name a file",
        "conf.d/e.yaml: cannot read the file: no such file or directory; create it, or name another file with --config",
        "conf.d/f.yaml: is not a regular file; name a file",
        "TIDEWATCH_X: there is no such setting; unset it; `tidewatch config show --effective` shows all keys",
        "--y: the section `spool` has no key `y`; the keys here are max_mib, sync",
    ];
    assert_eq!(errors[1..], expected);
}

/// Whoever wraps a command may not read what the host is configured with; but what it names itself counts.
#[test]
fn a_file_that_cannot_be_read_is_left_out_where_it_need_not_be_read() {
    let folder = Folder::new("unread");
    std::os::unix::fs::symlink("/nowhere", folder.0.join("conf.d/a.yaml")).unwrap();
    folder.write("conf.d/b.yaml", "agent: {priority: critical}\n");
    let system = Sources { file: None, ..folder.sources() };
    let needed = Config::load_for(&system, Needs::Keys(&["agent"]));
    assert!(needed.is_err());
    let (config, errors) = Config::load_for(&system, Needs::Readable(&["agent"])).unwrap();
    assert!(config.agent.priority == tw_model::Priority::Critical && errors.unwrap().is_unread());
    // A mistake in what can be read stays one.
    folder.write("conf.d/b.yaml", "agent: {priority: loud}\n");
    assert!(Config::load_for(&system, Needs::Readable(&["agent"])).is_err());
    assert!(!Config::load_for(&system, Needs::Address).unwrap().1.unwrap().is_unread());
    // Nor is one that was named left out.
    assert!(Config::load_for(&folder.sources(), Needs::Readable(&["agent"])).is_err());
}

#[test]
fn a_named_file_must_exist_and_the_default_need_not() {
    let folder = Folder::new("missing");
    let error = Config::load(&folder.sources()).unwrap_err();
    assert_eq!(
        error.to_string().replace(&format!("{}/", folder.0.display()), ""),
        "the configuration cannot be used:\n  t.yaml: cannot read the file: no such file or directory; create it, or name another file with --config"
    );
    if !Path::new(source::DEFAULT_FILE).exists() {
        let loaded = Config::load(&Sources::default()).unwrap();
        assert_eq!((loaded.config, loaded.files.len()), (Config::default(), 0));
    }
}

#[test]
fn mistakes_in_variables_are_told() {
    for (pair, expected) in [
        (
            ("TIDEWATCH_SPOOL_MAX_MIB", "9"),
            "TIDEWATCH_SPOOL_MAX_MIB: there is no such setting; did you mean `TIDEWATCH_SPOOL__MAX_MIB`?",
        ),
        (
            ("TIDEWATCH_SPOOL", "9"),
            "TIDEWATCH_SPOOL: there is no such setting; it is a section; set its keys one by one, such as TIDEWATCH_SPOOL__MAX_MIB",
        ),
        (
            ("TIDEWATCH_SPOOL__MAX_MIB", "9 MB"),
            "TIDEWATCH_SPOOL__MAX_MIB: `spool.max_mib` must be a whole number, but is the text `9 MB`; write a number from 8 to 1048576 without quotes; the unit is in the name: mib",
        ),
        (
            ("TIDEWATCH_SPOOL__MAX_MIB", ""),
            "TIDEWATCH_SPOOL__MAX_MIB: `spool.max_mib` has no value; write a number from 8 to 1048576 without quotes; the unit is in the name: mib",
        ),
        (
            ("TIDEWATCH_RULES__FILES", "/a"),
            "TIDEWATCH_RULES__FILES: `rules.files` must be a list, but is the text `/a`; write a list: [/first, /second]",
        ),
        (
            ("TIDEWATCH_METRICS__LISTEN", "0.0.0.0:1"),
            "TIDEWATCH_METRICS__LISTEN: `metrics.listen` is 0.0.0.0:1, which other hosts can reach; set metrics.allow_remote to true if they should, else write 127.0.0.1",
        ),
    ] {
        assert_eq!(say_env(&[pair]), [expected], "{pair:?}");
    }
    let error = &say_env(&[("TIDEWATCH_RULES__FILES", "[a")])[0];
    assert!(error.starts_with("TIDEWATCH_RULES__FILES: the value of `rules.files` is not valid YAML: "), "{error}");
}

#[test]
fn other_variables_are_left_alone() {
    let others = [
        ("TIDEWATCH_LOG", "debug"),
        ("TIDEWATCH_CONFIG", "/x"),
        ("TIDEWATCH_REQUIRE_E2E", "1"),
        ("TIDEWATCH_TEST_ANYTHING", "1"),
        // As Kubernetes sets for services called `tidewatch` and `tidewatch-manager`.
        ("TIDEWATCH_SERVICE_HOST", "10.0.0.1"),
        ("TIDEWATCH_MANAGER_SERVICE_PORT_HTTP", "80"),
        ("TIDEWATCH_PORT", "tcp://10.0.0.1:80"),
        ("TIDEWATCH_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("tidewatch_spool", "1"),
        ("OTHER", "1"),
    ];
    assert_eq!(say_env(&others), [] as [&str; 0]);
    assert_eq!(say_env(&[("TIDEWATCH_PORT", "80")]).len(), 1);
}

#[test]
fn passwords_never_show() {
    let folder = Folder::new("secret");
    for url in [
        "postgres://u:SECRET@h/d",
        "postgres://u:SECRET@h:x/d",
        "mysql://u:SECRET@h",
        "u:SECRET@h",
        "postgres://u:SE/SECRET@h",
        "postgres://u:SECRET",
        "postgres:u:SECRET",
        "'postgres://u:SECRET @h'",
        "postgres://h/d?password=SECRET",
        "\"postgres://u:SECRET@h",
        "[postgres://u:SECRET@h",
        "postgres://u:SECRET@h\n  frob: 1",
    ] {
        folder.write("t.yaml", format!("store:\n  url: {url}\n"));
        let env_url = url.split('\n').next().unwrap_or_default();
        let variable = Sources { env: env(&[("TIDEWATCH_STORE__URL", env_url)]), ..Sources::default() };
        for sources in [folder.sources(), variable] {
            let shown = match Config::load(&sources) {
                Ok(loaded) => {
                    let (yaml, json) = (show::yaml(&loaded, true), show::json(&loaded, true));
                    let warnings: String = loaded.warnings.iter().map(|warning| warning.render(false)).collect();
                    assert!(loaded.config.store_url().reveal().contains("SECRET"));
                    format!("{yaml}{json}{warnings}{loaded:?}")
                }
                Err(errors) => {
                    let rendered: String = errors.0.iter().map(|error| error.render(false)).collect();
                    let json: String = errors.0.iter().map(|error| error.json().to_string()).collect();
                    format!("{errors}{errors:?}{rendered}{json}")
                }
            };
            assert!(!shown.contains("SECRET"), "{url}\n{shown}");
        }
    }
}

#[test]
fn files_that_others_can_change_or_read_are_told() {
    let folder = Folder::new("mode");
    let path = folder.write("t.yaml", "store: {url: 'postgres://u:pw@h/d'}\n");
    for (mode, expected) in [
        (0o640, vec![]),
        (
            0o644,
            vec!["t.yaml: warning: holds a password and can be read by everybody (mode 0644); chmod o-r FOLDER/t.yaml"],
        ),
        (
            0o660,
            vec![
                "t.yaml: warning: can be changed by others than its owner (mode 0660): whoever can may take over root; chmod go-w FOLDER/t.yaml",
            ],
        ),
    ] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let shown: Vec<String> = Config::load(&folder.sources())
            .unwrap()
            .warnings
            .iter()
            .map(|warning| warning.to_string().replace(&*folder.0.to_string_lossy(), "FOLDER"))
            .map(|warning| warning.strip_prefix("FOLDER/").map(str::to_owned).unwrap_or(warning))
            .collect();
        assert_eq!(shown, expected);
    }
}

#[test]
fn what_is_hardly_meant_is_told() {
    let folder = Folder::new("doubt");
    assert_eq!(
        folder.say("manager: {user: root}\nredaction: {enabled: false}\n"),
        [
            "t.yaml:1:17: warning: `manager.user` is root: whoever breaks into the manager owns the host; use a user of its own",
            "t.yaml:2:22: warning: `redaction.enabled` is false: passwords in command lines are kept and sent; set it to true",
        ]
    );
}

#[test]
fn floods_of_mistakes_are_cut() {
    let folder = Folder::new("flood");
    let text: String = (0..5000).map(|i| format!("k{i}: 1\n")).collect();
    let errors = folder.say(text);
    assert_eq!(errors.len(), 101);
    assert!(errors[100].ends_with("more than 100 problems; the rest is left out"), "{}", errors[100]);
}

/// The default file with every key taken out of its comment.
fn with_every_key_set() -> String {
    let is_key = |rest: &str| rest.starts_with(|first: char| first.is_ascii_lowercase());
    let lines = DEFAULT.lines().map(|line| match line.trim_start().strip_prefix('#') {
        Some(rest) if is_key(rest) => line.replacen('#', "", 1) + "\n",
        _ => format!("{line}\n"),
    });
    lines.collect()
}

/// The default file with some of its bytes changed.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let noise = prop::sample::select(b"\0\x1b:#-[]{}&*!|>'\"%@`~ \n\tay1\xc3\xa9\xff".to_vec());
    prop::collection::vec((any::<prop::sample::Index>(), noise, 0..3u8), 1..20).prop_map(|changes| {
        // Every key is set, so that changes hit values too.
        let mut text = with_every_key_set().into_bytes();
        for (index, byte, how) in changes {
            let at = index.index(text.len());
            match how {
                0 => text[at] = byte,
                1 => text.insert(at, byte),
                _ => {
                    text.remove(at);
                }
            }
        }
        text
    })
}

fn survives(folder: &Folder, text: &[u8]) {
    let text_shown = |diagnostics: &[Diagnostic]| {
        for diagnostic in diagnostics {
            let shown = format!("{diagnostic}{}{}", diagnostic.render(false), diagnostic.json());
            assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
        }
    };
    folder.write("t.yaml", text);
    match Config::load(&folder.sources()) {
        Ok(loaded) => {
            text_shown(&loaded.warnings);
            folder.write("t.yaml", show::yaml(&loaded, true));
            let again = Config::load(&folder.sources());
            assert_eq!(again.map(|again| again.config).map_err(|error| error.to_string()), Ok(loaded.config));
        }
        Err(errors) => text_shown(&errors.0),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_file_is_read_or_refused(text in mutated()) {
        survives(&Folder::new("mutated"), &text);
    }

    #[test]
    fn random_text_is_read_or_refused(
        text in "((spool|log|store|rules|max_mib|url|files|x)?[ ]{0,3}[:\\-#&*!|>{}\\[\\],'\"~ \t\né\u{1b}\u{202e}]{0,3}(postgres://|[0-9]{1,22}|true|null|/a|<<)?\n?){0,30}",
    ) {
        survives(&Folder::new("random"), text.as_bytes());
    }

    #[test]
    fn random_variables_are_read_or_refused(index in any::<prop::sample::Index>(), value in "\\PC{0,30}|[\\[\\]{},:'\"&*!|>#%@ a1/~-]{0,20}") {
        let key = &keys()[index.index(keys().len())];
        let sources = Sources { env: env(&[(&key.variable(), &value)]), ..Folder::new("variables").sources() };
        let sources = Sources { file: None, ..sources };
        if let Err(errors) = Config::load(&sources) {
            prop_assert!(!errors.0.is_empty());
            prop_assert!(errors.0.iter().all(|error| !error.render(false).is_empty()));
        }
    }
}
