//! Who watches while a load runs: nobody, empty programs, or the agent.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use libbpf_rs::{Link, Object, ObjectBuilder};

static FLOOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/floor.bpf.o"));

/// How long the agent is left alone before its idle figures are read.
const IDLE: Duration = Duration::from_secs(5);

/// Who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nobody.
    Nothing,
    /// Empty programs on our hooks.
    Floor,
    /// `tidewatch run` with its default rules.
    Tidewatch,
}

impl Mode {
    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "unwatched",
            Self::Floor => "empty",
            Self::Tidewatch => "tidewatch",
        }
    }
}

/// What the agent used.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// From start to watching.
    pub start: Duration,
    /// Length of the idle measurement.
    pub idle: Duration,
    /// Share of one core while idle.
    pub idle_cpu: f64,
    /// Resident bytes while idle.
    pub idle_rss: u64,
    /// Resident bytes after the loads.
    pub end_rss: u64,
    /// Its closing line.
    pub summary: String,
}

/// Somebody watching.
pub struct Watch {
    floor: Option<(Vec<Link>, Object)>,
    agent: Option<Agent>,
}

struct Agent {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStderr>>,
    usage: Usage,
}

/// The agent's binary, beside ours.
pub fn find_agent() -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("tidewatch");
    anyhow::ensure!(path.exists(), "{} is missing: make build", path.display());
    Ok(path)
}

impl Watch {
    /// Starts to watch.
    pub fn start(mode: Mode, agent: &Path) -> anyhow::Result<Self> {
        Ok(match mode {
            Mode::Nothing => Self { floor: None, agent: None },
            Mode::Floor => Self { floor: Some(attach_floor()?), agent: None },
            Mode::Tidewatch => Self { floor: None, agent: Some(Agent::start(agent)?) },
        })
    }

    /// Stops, and tells what the agent used.
    pub fn stop(self) -> anyhow::Result<Option<Usage>> {
        drop(self.floor);
        self.agent.map(Agent::stop).transpose()
    }
}

fn attach_floor() -> anyhow::Result<(Vec<Link>, Object)> {
    // ELF wants aligned bytes; a vector of this size is.
    let bytes = FLOOR.to_vec();
    let object = ObjectBuilder::default().open_memory(&bytes)?.load().context("cannot load the empty programs")?;
    let links = object.progs_mut().map(|prog| prog.attach_trace()).collect::<Result<Vec<_>, _>>()?;
    Ok((links, object))
}

impl Agent {
    fn start(path: &Path) -> anyhow::Result<Self> {
        let started = Instant::now();
        let folder = std::env::temp_dir().join(format!("tidewatch-bench-{}", std::process::id()));
        let mut child = Command::new(path)
            .args(["agent", "--json"])
            .env("TIDEWATCH_RUN_DIR", folder.join("run"))
            .env("TIDEWATCH_STATE_DIR", folder.join("state"))
            // The whole cost is measured, not what is left of it.
            .env("TIDEWATCH_AGENT__CPU_BUDGET", "0")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", path.display()))?;
        let stderr = child.stderr.take().context("the agent's standard error is piped")?;
        let mut lines = BufReader::new(stderr).lines();
        let watching = lines.by_ref().map_while(Result::ok).any(|line| line.contains("watching; "));
        anyhow::ensure!(watching, "the agent did not start: run it by hand");
        let start = started.elapsed();
        let pid = child.id();
        let before = cpu_time(pid)?;
        std::thread::sleep(IDLE);
        let idle_cpu = (cpu_time(pid)? - before) / IDLE.as_secs_f64();
        let usage = Usage { start, idle: IDLE, idle_cpu, idle_rss: resident(pid)?, ..Usage::default() };
        Ok(Self { child, lines, usage })
    }

    fn stop(mut self) -> anyhow::Result<Usage> {
        self.usage.end_rss = resident(self.child.id())?;
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
        let words = self.lines.map_while(Result::ok).find(|line| line.contains("watched for"));
        self.usage.summary = words
            .and_then(|line| line.split_once("watched for").map(|(_, rest)| rest.trim().to_owned()))
            .unwrap_or_default();
        self.child.wait()?;
        let folder = std::env::temp_dir().join(format!("tidewatch-bench-{}", std::process::id()));
        std::fs::remove_dir_all(folder).context("the agent's folders")?;
        Ok(self.usage)
    }
}

/// Seconds of CPU that a process used (utime + stime of /proc/PID/stat, in ticks of 10 ms).
fn cpu_time(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: f64 =
        fields.get(11..13).context("short stat")?.iter().filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / 100.0)
}

/// Resident bytes of a process.
pub fn resident(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}
