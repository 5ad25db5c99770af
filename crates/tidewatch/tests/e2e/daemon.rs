//! The agent under test: `tidewatch run --json` and what it says.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab;

/// How long an alert may take.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long the agent may take to attach its sensor. Verifying the programs is the most of it.
const ATTACH: Duration = Duration::from_secs(60);

/// Stops the agent when its input ends, which happens however this process ends: the harness drops no statics.
const KEEPER: &str = r#""$@" & agent=$!; cat >/dev/null; kill -TERM $agent; wait $agent"#;

/// The rules that are built in.
pub fn default_pack() -> Option<&'static Daemon> {
    static DAEMON: OnceLock<Daemon> = OnceLock::new();
    lab::ready().then(|| DAEMON.get_or_init(|| Daemon::shared(&[])))
}

/// Falco's stock rules: `TIDEWATCH_FALCO_RULES`, or beside the repository.
pub fn stock_rules() -> Option<&'static Daemon> {
    static DAEMON: OnceLock<Option<Daemon>> = OnceLock::new();
    if !lab::ready() {
        return None;
    }
    let daemon = DAEMON.get_or_init(|| {
        let file = stock_rules_file();
        file.exists().then(|| Daemon::shared(&["--rules", &file.to_string_lossy()]))
    });
    if daemon.is_none() {
        // Not a failure even where the tests are required: the file is not part of the project.
        eprintln!("skipped: {} is missing (TIDEWATCH_FALCO_RULES)", stock_rules_file().display());
    }
    daemon.as_ref()
}

/// A rule for every program that is started and every file that is opened below /tmp in a container.
pub fn everything() -> Option<&'static Daemon> {
    static DAEMON: OnceLock<Daemon> = OnceLock::new();
    lab::ready().then(|| {
        DAEMON.get_or_init(|| {
            let rules = rules_file("everything.yaml", EVERYTHING);
            Daemon::shared(&["--rules", &rules.to_string_lossy()])
        })
    })
}

/// The rules of [`everything`].
pub const EVERYTHING: &str = r#"
- rule: Program started
  desc: every program in a container
  condition: evt.type in (execve, execveat) and container.id != host
  output: started %proc.cmdline in %container.name (image=%container.image.repository id=%container.id name=%proc.name)
  priority: NOTICE
- rule: File opened
  desc: every file below /tmp in a container
  condition: evt.type in (open, openat, openat2) and container.id != host and fd.name startswith /tmp/
  output: opened %fd.name in %container.name (id=%container.id command=%proc.cmdline)
  priority: NOTICE
"#;

/// Writes a file of rules that goes with this process.
pub fn rules_file(name: &str, text: &str) -> PathBuf {
    let path = lab::scratch().join(lab::unique(name));
    fs::write(&path, text).expect("the scratch directory is writable");
    path
}

fn stock_rules_file() -> PathBuf {
    std::env::var_os("TIDEWATCH_FALCO_RULES")
        .map_or_else(|| lab::repository().join("../shared/data/falco-rules/falco_rules.yaml"), PathBuf::from)
}

/// A running service: supervisor, agent and manager.
pub struct Daemon {
    child: Child,
    /// Its folders: `run` and `state` below it.
    folder: PathBuf,
    /// Holds a shared agent's keeper; closing it stops the agent.
    _lifeline: Option<ChildStdin>,
    feed: Arc<Feed>,
}

impl Daemon {
    /// One that several tests use and that ends with this process.
    pub fn shared(arguments: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "keeper", env!("CARGO_BIN_EXE_tidewatch"), "run", "--json"]);
        Self::spawn(command.args(arguments).stdin(Stdio::piped()))
    }

    /// One of a test's own, whose process is the agent itself.
    pub fn own(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidewatch"));
        Self::spawn(command.args(["run", "--json"]).args(arguments).stdin(Stdio::null()))
    }

    fn spawn(command: &mut Command) -> Self {
        let folder = lab::scratch().join(lab::unique("service"));
        fs::create_dir_all(&folder).expect("the scratch directory is writable");
        Self::spawn_in(command, folder)
    }

    /// One with these folders, such as those of a service that ended.
    pub fn spawn_in(command: &mut Command, folder: PathBuf) -> Self {
        command.env("TIDEWATCH_RUN_DIR", folder.join("run")).env("TIDEWATCH_STATE_DIR", folder.join("state"));
        if std::env::var_os("TIDEWATCH_METRICS__LISTEN").is_none() {
            // Several run side by side.
            command.env("TIDEWATCH_METRICS__LISTEN", "null");
        }
        if std::env::var_os("TIDEWATCH_AGENT__CPU_BUDGET").is_none() && !names(command, "TIDEWATCH_AGENT__CPU_BUDGET") {
            // A build without optimisation costs many times what the budget is made for.
            command.env("TIDEWATCH_AGENT__CPU_BUDGET", "0");
        }
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the agent can be started");
        let feed = Arc::new(Feed::default());
        let lifeline = child.stdin.take();
        follow(child.stdout.take().expect("a pipe"), &feed, Feed::hear_alert);
        follow(child.stderr.take().expect("a pipe"), &feed, Feed::hear_log);
        let daemon = Self { child, folder, _lifeline: lifeline, feed };
        let watching = daemon.wait(ATTACH, |heard| {
            heard.log.iter().find_map(|line| {
                if line.contains("watching") { Some(true) } else { line.contains("error: ").then_some(false) }
            })
        });
        assert!(watching == Some(true), "the agent does not watch; it said:\n{}", daemon.log().join("\n"));
        daemon
    }

    /// Waits for an alert of this rule about this container; panics with what there was instead.
    pub fn alert(&self, rule: &str, container: &str) -> Value {
        self.alert_where(container, |alert| alert["rule"] == rule).unwrap_or_else(|| {
            panic!("no alert {rule:?} about {container}; alerts about it:\n{}", self.about(container))
        })
    }

    /// Waits for an alert about this container that is wanted.
    pub fn alert_where(&self, container: &str, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        let found = self.wait(PATIENCE, |heard| {
            heard.alerts.iter().find(|alert| is_about(alert, container) && wanted(alert)).cloned()
        });
        let heard = self.heard();
        assert_eq!(heard.broken, Vec::<String>::new(), "lines that are no JSON");
        assert!(found.is_some() || !heard.ended, "the agent ended; its last words:\n{}", last_words(&heard.log));
        drop(heard);
        found
    }

    /// Waits for an alert that is wanted.
    pub fn wait_alert(&self, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        self.wait(PATIENCE, |heard| heard.alerts.iter().find(|alert| wanted(alert)).cloned())
    }

    /// The alerts so far about this container.
    pub fn alerts_about(&self, container: &str) -> Vec<Value> {
        self.heard().alerts.iter().filter(|alert| is_about(alert, container)).cloned().collect()
    }

    /// All alerts so far.
    pub fn alerts(&self) -> Vec<Value> {
        self.heard().alerts.clone()
    }

    /// The lines on standard output so far, as they came.
    pub fn lines(&self) -> Vec<String> {
        self.heard().lines.clone()
    }

    /// What it logged so far.
    pub fn log(&self) -> Vec<String> {
        self.heard().log.clone()
    }

    /// The folder that its `run` and `state` lie in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Asks the service with a verb of the command line.
    pub fn ask(&self, arguments: &[&str]) -> std::process::Output {
        Command::new(env!("CARGO_BIN_EXE_tidewatch"))
            .args(arguments)
            .env("TIDEWATCH_RUN_DIR", self.folder.join("run"))
            .env("TIDEWATCH_STATE_DIR", self.folder.join("state"))
            .output()
            .expect("the binary is there")
    }

    /// The same, and reads the answer as JSON; panics with what it said instead.
    pub fn ask_json(&self, arguments: &[&str]) -> Value {
        let output = self.ask(&[arguments, &["--json"]].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
            panic!(
                "{arguments:?}: {}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            )
        })
    }

    /// Process number of its agent or manager, as the supervisor tells it.
    pub fn child_pid(&self, name: &str) -> Option<u32> {
        let text = fs::read(self.folder.join("run/supervisor.json")).ok()?;
        let status: Value = serde_json::from_slice(&text).ok()?;
        let children = status["children"].as_array()?;
        let child = children.iter().find(|child| child["name"] == name)?;
        child["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0)
    }

    /// Its process number: the supervisor's.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, by the name that `kill` knows.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status();
        assert!(sent.expect("kill is there").success(), "the agent is gone already");
    }

    /// Waits for its end; false if it goes on.
    pub fn ends_well(&mut self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                assert!(status.success(), "it ended with {status}:\n{}", self.log().join("\n"));
                return true;
            }
            thread::sleep(Duration::from_millis(20));
        }
        false
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.feed.heard.lock().expect("no thread panics while it holds this")
    }

    fn wait<T>(&self, patience: Duration, mut look: impl FnMut(&Heard) -> Option<T>) -> Option<T> {
        let end = Instant::now() + patience;
        let mut heard = self.heard();
        loop {
            if let Some(found) = look(&heard) {
                return Some(found);
            }
            let left = end.checked_duration_since(Instant::now())?;
            if heard.ended {
                return None;
            }
            heard = self.feed.more.wait_timeout(heard, left).expect("no thread panics while it holds this").0;
        }
    }

    fn about(&self, container: &str) -> String {
        let lines = self
            .alerts_about(container)
            .iter()
            .map(|alert| format!("  {}: {}\n", alert["rule"], alert["output"]))
            .collect::<String>();
        if lines.is_empty() { "  none\n".into() } else { lines }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Already gone is as good.
            let _ = Command::new("kill").arg(self.pid().to_string()).status();
            let _ = self.child.wait();
        }
    }
}

/// Whether the command sets this variable already.
fn names(command: &Command, variable: &str) -> bool {
    command.get_envs().any(|(name, _)| name == variable)
}

fn last_words(log: &[String]) -> String {
    log[log.len().saturating_sub(20)..].join("\n")
}

/// Whether an alert names this container.
fn is_about(alert: &Value, container: &str) -> bool {
    let fields = &alert["output_fields"];
    ["container.name", "container.id"].iter().any(|key| fields[*key] == container)
}

/// What a daemon said so far.
#[derive(Default)]
struct Heard {
    alerts: Vec<Value>,
    /// The same as they came.
    lines: Vec<String>,
    /// Lines on standard output that are no JSON object.
    broken: Vec<String>,
    log: Vec<String>,
    ended: bool,
}

#[derive(Default)]
struct Feed {
    heard: Mutex<Heard>,
    more: Condvar,
}

impl Feed {
    fn hear(&self, note: impl FnOnce(&mut Heard)) {
        note(&mut self.heard.lock().expect("no thread panics while it holds this"));
        self.more.notify_all();
    }

    fn hear_alert(&self, line: Option<&[u8]>) {
        let parsed = line.map(serde_json::from_slice::<Value>);
        self.hear(|heard| match parsed {
            Some(Ok(alert)) if alert.is_object() => {
                heard.alerts.push(alert);
                heard.lines.push(String::from_utf8_lossy(line.unwrap_or_default()).into_owned());
            }
            Some(_) => heard.broken.push(String::from_utf8_lossy(line.unwrap_or_default()).into_owned()),
            None => heard.ended = true,
        });
    }

    fn hear_log(&self, line: Option<&[u8]>) {
        let Some(line) = line else { return };
        self.hear(|heard| heard.log.push(String::from_utf8_lossy(line).into_owned()));
    }
}

/// Hands each line of a stream to the feed, and `None` at its end.
fn follow(stream: impl Read + Send + 'static, feed: &Arc<Feed>, hear: fn(&Feed, Option<&[u8]>)) {
    let feed = Arc::clone(feed);
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            hear(&feed, Some(&line));
        }
        hear(&feed, None);
    });
}

/// Whether a process of this number is there.
pub fn is_alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}
