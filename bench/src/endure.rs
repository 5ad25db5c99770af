//! Whether the service keeps what it finds: findings at a steady rate through agent, spool and store, while nothing, or
//! one of its processes again and again, is killed. What was shown must be stored, once.
//!
//! `make endure` runs it; docs/figures.md holds results.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;

/// When the load is over, the store is waited for as long as it goes on filling, and so long after that.
const CATCH_UP: Duration = Duration::from_secs(60);

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Findings a second.
    pub rate: u64,
    /// How long.
    pub duration: Duration,
    /// How many times one of the two processes is killed.
    pub kills: u64,
}

/// Runs the plan and prints what came of it. An error if anything was lost or doubled.
pub fn run(agent: &Path, plan: Plan) -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("tidewatch-endure-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("load"))?;
    let result = in_folder(agent, plan, &folder);
    std::fs::remove_dir_all(&folder)?;
    result
}

fn in_folder(agent: &Path, plan: Plan, folder: &Path) -> anyhow::Result<()> {
    let rules = folder.join("rules.yaml");
    std::fs::write(
        &rules,
        format!(
            "- rule: load\n  desc: the load of the benchmark\n  condition: evt.type in (open, openat) and fd.name \
             startswith {}\n  output: opened %fd.name\n  priority: WARNING\n",
            folder.join("load").display()
        ),
    )?;
    let service = Service::start(agent, folder, &rules)?;
    let started = service.started;
    let stop = Arc::new(AtomicBool::new(false));
    let made = Arc::new(AtomicU64::new(0));
    let load = {
        let (stop, made, place) = (Arc::clone(&stop), Arc::clone(&made), folder.join("load"));
        std::thread::spawn(move || make_load(&place, plan, &stop, &made))
    };
    let mut random = Random(u64::from(std::process::id()) | 1);
    let mut memory = Vec::new();
    let mut pauses = Vec::new();
    let begun = Instant::now();
    let mut killed = 0;
    let mut looked = Instant::now();
    while begun.elapsed() < plan.duration || killed < plan.kills {
        std::thread::sleep(Duration::from_millis(20));
        if looked.elapsed() > Duration::from_secs(1) {
            looked = Instant::now();
            memory.push([service.resident("agent"), service.resident("manager")]);
            eprint!("\r{:>5.0} s  {} findings shown, {killed} kills  ", begun.elapsed().as_secs_f64(), service.shown());
        }
        let due = plan.duration.mul_f64((killed + 1) as f64 / (plan.kills + 1) as f64);
        if killed < plan.kills && begun.elapsed() >= due {
            std::thread::sleep(Duration::from_millis(random.below(300)));
            let name = if random.below(2) == 0 { "agent" } else { "manager" };
            pauses.push((name, service.kill(name)?));
            killed += 1;
        }
    }
    stop.store(true, Ordering::Relaxed);
    load.join().map_err(|_| anyhow::anyhow!("the load ended early"))??;
    let stored = service.await_stored()?;
    eprintln!("\r{:<60}", "");
    let latency = service.latency();
    let (shown, doubled_shown) = service.ids();
    let ids: HashSet<&String> = stored.keys().collect();
    let lost = shown.iter().filter(|id| !ids.contains(id)).count();
    let doubled = stored.values().filter(|count| **count > 1).count();
    println!("| figure | value |");
    println!("|---|---|");
    println!("| start to watching, supervisor included | {:.2} s |", started.as_secs_f64());
    println!("| findings wanted, a second, for | {}, {:.0} s |", plan.rate, plan.duration.as_secs_f64());
    println!(
        "| events made; findings shown; in the store | {}; {}; {} |",
        made.load(Ordering::Relaxed),
        shown.len(),
        stored.len()
    );
    println!("| kill -9 of agent or manager | {killed} |");
    println!("| shown but not stored | {lost} |");
    println!("| stored twice; shown twice | {doubled}; {doubled_shown} |");
    println!("| event to store: p50, p99 | {latency} |");
    for (i, name) in ["agent", "manager"].iter().enumerate() {
        let of: Vec<u64> = memory.iter().map(|row| row[i]).filter(|bytes| *bytes > 0).collect();
        let quarter = (of.len() / 4).max(1);
        let mean = |part: &[u64]| part.iter().sum::<u64>() as f64 / part.len().max(1) as f64 / 1_048_576.0;
        println!(
            "| resident memory of the {name}: first quarter, last quarter, most | {:.1}, {:.1}, {:.1} MiB |",
            mean(&of[..quarter.min(of.len())]),
            mean(&of[of.len().saturating_sub(quarter)..]),
            of.iter().max().copied().unwrap_or(0) as f64 / 1_048_576.0
        );
    }
    for name in ["agent", "manager"] {
        let mut of: Vec<f64> =
            pauses.iter().filter(|(n, _)| *n == name).map(|(_, pause)| pause.as_secs_f64()).collect();
        of.sort_by(f64::total_cmp);
        if let (Some(middle), Some(most)) = (of.get(of.len() / 2), of.last()) {
            println!("| the {name} is back after a kill: median, most | {middle:.2}, {most:.2} s |");
        }
    }
    service.stop()?;
    anyhow::ensure!(lost == 0 && doubled == 0, "{lost} lost, {doubled} doubled");
    // Somebody else may open a file of ours beside.
    anyhow::ensure!(plan.kills > 0 || shown.len() as u64 >= made.load(Ordering::Relaxed), "events without a finding");
    Ok(())
}

/// Opens files of ascending numbers at the rate of the plan.
fn make_load(place: &Path, plan: Plan, stop: &AtomicBool, made: &AtomicU64) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let due = (begun.elapsed().as_secs_f64() * plan.rate as f64) as u64;
        while number < due {
            let file = place.join(format!("{number:09}"));
            File::create(&file)?;
            std::fs::remove_file(&file)?;
            number += 1;
        }
        made.store(number, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// The service under load.
struct Service {
    child: Child,
    binary: PathBuf,
    folder: PathBuf,
    started: Duration,
    shown: Arc<Mutex<Vec<String>>>,
    count: Arc<AtomicU64>,
}

impl Service {
    fn start(binary: &Path, folder: &Path, rules: &Path) -> anyhow::Result<Self> {
        let begun = Instant::now();
        let mut child = command(binary, folder)
            .args(["run", "--json", "--no-docker", "--rules"])
            .arg(rules)
            .args(["--set", "spool.max_mib=1024", "--set", "store.retention.findings.max_mib=1000000"])
            .args(["--set", "store.retention.findings.max_rows=1000000000"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = BufReader::new(child.stderr.take().context("a pipe")?);
        let mut log = stderr.lines().map_while(Result::ok);
        anyhow::ensure!(log.any(|line| line.contains("watching; ")), "the service did not start: run it by hand");
        let started = begun.elapsed();
        std::thread::spawn(move || {
            for line in log.filter(|line| line.contains("ERROR") && !line.contains("killed by signal 9")) {
                eprintln!("\r{line}");
            }
        });
        let (shown, count) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
        let stdout = BufReader::new(child.stdout.take().context("a pipe")?);
        let (hear, counted) = (Arc::clone(&shown), Arc::clone(&count));
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // A killed agent may leave half a line.
                let Ok(alert) = serde_json::from_str::<Value>(&line) else { continue };
                if alert["rule"] == "load"
                    && let (Some(id), Ok(mut shown)) = (alert["tidewatch"]["id"].as_str(), hear.lock())
                {
                    shown.push(id.to_owned());
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Ok(Self { child, binary: binary.to_owned(), folder: folder.to_owned(), started, shown, count })
    }

    fn shown(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Ids shown, and how many of them more than once.
    fn ids(&self) -> (HashSet<String>, usize) {
        let shown = self.shown.lock().map(|shown| shown.clone()).unwrap_or_default();
        let all = shown.len();
        let ids: HashSet<String> = shown.into_iter().collect();
        let doubled = all - ids.len();
        (ids, doubled)
    }

    fn pid(&self, name: &str) -> Option<u32> {
        let text = std::fs::read(self.folder.join("run/supervisor.json")).ok()?;
        let status: Value = serde_json::from_slice(&text).ok()?;
        let child = status["children"].as_array()?.iter().find(|child| child["name"] == name)?;
        child["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0)
    }

    fn resident(&self, name: &str) -> u64 {
        self.pid(name).and_then(|pid| crate::agent::resident(pid).ok()).unwrap_or(0)
    }

    /// Kills one and waits until its successor works; returns how long that took.
    fn kill(&self, name: &str) -> anyhow::Result<Duration> {
        let pid = self.pid(name).with_context(|| format!("no {name} to kill"))?;
        let raw = rustix::process::Pid::from_raw(i32::try_from(pid)?).context("a process number")?;
        rustix::process::kill_process(raw, rustix::process::Signal::KILL)?;
        let begun = Instant::now();
        loop {
            std::thread::sleep(Duration::from_millis(20));
            anyhow::ensure!(begun.elapsed() < Duration::from_secs(60), "the {name} does not come back");
            let back = match name {
                "agent" => {
                    let ready = std::fs::read_to_string(self.folder.join("run/agent.ready")).unwrap_or_default();
                    let now = self.pid(name);
                    now.is_some() && now != Some(pid) && ready.trim().parse().ok() == now
                }
                _ => self.pid(name).is_some_and(|now| now != pid) && self.get("/healthz").is_ok(),
            };
            if back {
                return Ok(begun.elapsed());
            }
        }
    }

    /// What the control socket answers.
    fn get(&self, path: &str) -> anyhow::Result<String> {
        let mut stream = UnixStream::connect(self.folder.join("run/control.sock"))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: tidewatch\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Ids in the store with their numbers, once it has all that was shown, or nothing came for [`CATCH_UP`].
    fn await_stored(&self) -> anyhow::Result<HashMap<String, u64>> {
        let (mut grown, mut most) = (Instant::now(), 0);
        loop {
            std::thread::sleep(Duration::from_secs(2));
            let mut stored: HashMap<String, u64> = HashMap::new();
            let mut child = command(&self.binary, &self.folder)
                .args(["findings", "--json", "--rule", "load", "--limit", "1000000000"])
                .stdout(Stdio::piped())
                .spawn()?;
            for line in BufReader::new(child.stdout.take().context("a pipe")?).lines() {
                let finding: Value = serde_json::from_str(&line?)?;
                *stored.entry(finding["tidewatch"]["id"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
            }
            child.wait()?;
            let (shown, _) = self.ids();
            if stored.len() > most {
                (grown, most) = (Instant::now(), stored.len());
            }
            if shown.iter().all(|id| stored.contains_key(id)) || grown.elapsed() > CATCH_UP {
                return Ok(stored);
            }
        }
    }

    /// Median and 99th percentile from event to store, as the manager's histogram has them.
    fn latency(&self) -> String {
        let metrics = self.get("/metrics").unwrap_or_default();
        let mut classes: Vec<(f64, f64)> = metrics
            .lines()
            .filter_map(|line| line.strip_prefix("tidewatch_event_to_store_seconds_bucket{le=\""))
            .filter_map(|line| line.split_once("\"} "))
            .filter_map(|(bound, count)| Some((bound.replace("+Inf", "inf").parse().ok()?, count.trim().parse().ok()?)))
            .collect();
        classes.sort_by(|a, b| a.0.total_cmp(&b.0));
        let all = classes.last().map_or(0.0, |class| class.1);
        let quantile = |q: f64| classes.iter().find(|class| class.1 >= q * all).map_or(f64::NAN, |class| class.0);
        format!("≤ {} s, ≤ {} s of {all:.0} (since the manager's last start)", quantile(0.5), quantile(0.99))
    }

    fn stop(mut self) -> anyhow::Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        self.child.wait()?;
        Ok(())
    }
}

fn command(binary: &Path, folder: &Path) -> Command {
    let mut command = Command::new(binary);
    command
        .env("TIDEWATCH_RUN_DIR", folder.join("run"))
        .env("TIDEWATCH_STATE_DIR", folder.join("state"))
        .env("TIDEWATCH_METRICS__LISTEN", "null");
    command
}

/// A small generator of numbers (xorshift): where the kills fall need not be secret.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
