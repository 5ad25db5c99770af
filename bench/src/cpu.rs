//! CPU of the whole agent, all its threads, user and system time, for a million events of mixed work.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::agent::Agent;
use crate::pipeline::WORK;
use crate::stop;

/// The work is done again until so long has passed.
const LASTING: Duration = Duration::from_secs(25);

/// Measures and prints.
pub fn measure(agent: &Path) -> anyhow::Result<()> {
    let agent = Agent::start(agent, &[])?;
    let (before, started) = (agent.cpu()?, Instant::now());
    while started.elapsed() < LASTING {
        stop::check()?;
        anyhow::ensure!(Command::new("sh").args(["-c", WORK]).status()?.success(), "the work failed");
    }
    let (cpu, seconds) = (agent.cpu()? - before, started.elapsed().as_secs_f64());
    let resident = agent.resident()?;
    let words = agent.stop()?;
    anyhow::ensure!(words.events > 0, "the agent saw nothing");
    let events = words.events as f64;
    println!("| shell jobs, tar, gcc, files, web server, redis, one after the other | value |");
    println!("|---|---|");
    println!("| events, a second; lost | {:.0}, {:.0}; {} |", events, events / seconds, words.lost);
    println!("| CPU of the agent for a million of them | {:.2} s |", cpu / events * 1e6);
    println!("| CPU of the agent, of one core | {:.1} % |", cpu / seconds * 100.0);
    println!("| resident memory afterwards | {:.1} MiB |", resident as f64 / 1048576.0);
    println!();
    Ok(())
}
