//! The agent under measurement, in folders of its own. However a measurement ends, it ends with it.

use std::io::{BufRead as _, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// Hears the lines of alerts.
pub type Ear = Box<dyn FnMut(String) + Send>;

/// An agent that watches.
pub struct Agent {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    hearing: Option<std::thread::JoinHandle<()>>,
    folder: PathBuf,
    /// From start to watching.
    pub start: Duration,
}

/// What it says of itself at its end.
#[derive(Clone, Debug, Default)]
pub struct Words {
    /// The line.
    pub text: String,
    /// Events that it looked at.
    pub events: u64,
    /// Lost in the kernel.
    pub lost: u64,
}

/// The command that starts an agent with its folders in `folder`.
pub fn command(path: &Path, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(path);
    command
        .args(["agent", "--json"])
        .args(arguments)
        .env("TIDEWATCH_RUN_DIR", folder.join("run"))
        .env("TIDEWATCH_STATE_DIR", folder.join("state"))
        // The whole cost is measured, not what is left of it.
        .env("TIDEWATCH_AGENT__CPU_BUDGET", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// A folder that nobody else has; whoever makes it removes it.
pub fn scratch() -> anyhow::Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("tidewatch-bench-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

impl Agent {
    /// Starts one and waits until it watches.
    pub fn start(path: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        Self::spawn(path, arguments, None)
    }

    /// The same; `ear` hears its alerts.
    pub fn start_heard(path: &Path, arguments: &[&str], ear: Ear) -> anyhow::Result<Self> {
        Self::spawn(path, arguments, Some(ear))
    }

    fn spawn(path: &Path, arguments: &[&str], ear: Option<Ear>) -> anyhow::Result<Self> {
        let folder = scratch()?;
        let mut command = command(path, &folder, arguments);
        if ear.is_some() {
            command.stdout(Stdio::piped());
        }
        let started = Instant::now();
        let mut child = command.spawn().with_context(|| format!("cannot start {}", path.display()))?;
        let stderr = child.stderr.take().context("the agent's standard error is piped")?;
        let hearing = child.stdout.take().zip(ear).map(|(stdout, ear)| {
            let lines = BufReader::new(stdout).lines();
            std::thread::spawn(move || lines.map_while(Result::ok).for_each(ear))
        });
        let lines = BufReader::new(stderr).lines();
        let mut agent = Self { child, lines, hearing, folder, start: Duration::ZERO };
        let watching = agent.lines.by_ref().map_while(Result::ok).any(|line| line.contains("watching; "));
        anyhow::ensure!(watching, "the agent did not start: run it by hand");
        agent.start = started.elapsed();
        Ok(agent)
    }

    /// Seconds of CPU that it used.
    pub fn cpu(&self) -> anyhow::Result<f64> {
        cpu_time(self.child.id())
    }

    /// Bytes that are resident.
    pub fn resident(&self) -> anyhow::Result<u64> {
        resident(self.child.id())
    }

    /// Ends it.
    pub fn stop(mut self) -> anyhow::Result<Words> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
        let line = self.lines.by_ref().map_while(Result::ok).find(|line| line.contains("watched for"));
        self.child.wait()?;
        if let Some(hearing) = self.hearing.take() {
            hearing.join().map_err(|_| anyhow::anyhow!("nobody heard the alerts"))?;
        }
        Ok(Words::of(line.as_deref().unwrap_or_default()))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // One that ended is no child any more, and nothing is killed.
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Words {
    /// `… watched for 5 s: 16278 events, 0 lost, 0 folded; …`
    fn of(line: &str) -> Self {
        let text = line.split_once("watched for").map_or("", |(_, rest)| rest.trim());
        let before = |word: &str| {
            let number = text.split(", ").find_map(|part| part.split(&[';', ':']).find_map(|p| p.strip_suffix(word)));
            number.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
        };
        Self { text: text.to_owned(), events: before(" events"), lost: before(" lost") }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_last_words_are_read() {
        let line = "2026 INFO agent: watched for 5 s: 16278 events, 3 lost, 0 folded; 1 alert, 7 lost; 4 processes";
        let words = Words::of(line);
        assert_eq!((words.events, words.lost), (16_278, 3));
        assert_eq!(Words::of("").events, 0);
    }
}
