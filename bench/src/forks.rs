//! A storm of forks: how many a second this host makes while it is watched, and what of them is lost.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::watch::{Mode, Watch};

/// Forks without end; an ended parent ends it.
const STORM: &str = "while :; do (:) done";

/// Prints forks a second, and the agent's last words, for one, two and four storms at once.
pub fn measure(agent: &Path, duration: Duration) -> anyhow::Result<()> {
    println!("| storms at once | forks a second, unwatched | watched | the agent's last words |");
    println!("|---|---|---|---|");
    for storms in [1, 2, 4] {
        let alone = rate(storms, duration)?;
        let watch = Watch::start(Mode::Tidewatch, agent)?;
        let watched = rate(storms, duration)?;
        let words = watch.stop()?.map(|usage| usage.summary).unwrap_or_default();
        println!("| {storms} | {alone:.0} | {watched:.0} | {words} |");
    }
    Ok(())
}

/// Forks a second of so many storms.
pub fn rate(storms: u32, duration: Duration) -> anyhow::Result<f64> {
    let mut children = (0..storms).map(|_| storm()).collect::<anyhow::Result<Vec<Child>>>()?;
    let (started, before) = (Instant::now(), forks()?);
    let slept = crate::stop::sleep(duration);
    let rate = (forks()? - before) as f64 / started.elapsed().as_secs_f64();
    for child in &mut children {
        child.kill()?;
        child.wait()?;
    }
    slept.map(|()| rate)
}

fn storm() -> anyhow::Result<Child> {
    let mut command = Command::new("sh");
    command.args(["-c", STORM]).stdin(Stdio::null()).spawn().context("cannot start sh")
}

/// Processes that the host made since its start (`processes` of /proc/stat: threads too).
fn forks() -> anyhow::Result<u64> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().find_map(|line| line.strip_prefix("processes ")).context("no processes in /proc/stat")?;
    Ok(line.trim().parse()?)
}
