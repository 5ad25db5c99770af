//! Resident memory of the agent: idle, and beside many containers that run.

use std::path::Path;
use std::time::Duration;

use crate::agent::Agent;
use crate::containers::Containers;
use crate::stop;

/// How long the agent is left alone before it is looked at.
const SETTLE: Duration = Duration::from_secs(5);

/// Measures with these numbers of containers and prints.
pub fn measure(agent: &Path, counts: &[usize]) -> anyhow::Result<()> {
    println!("| containers that run | resident, there when they started | resident, started when they were there |");
    println!("|---|---|---|");
    let containers = Containers::new()?;
    let witness = Agent::start(agent, &[])?;
    for count in [0].iter().chain(counts) {
        containers.grow(*count)?;
        let since = settled(&witness)?;
        let newcomer = Agent::start(agent, &[])?;
        let after = settled(&newcomer)?;
        newcomer.stop()?;
        println!("\r| {count} | {:.1} MiB | {:.1} MiB |", mib(since), mib(after));
    }
    let words = witness.stop()?;
    drop(containers);
    println!("\nLast words of the first: {}\n", words.text);
    Ok(())
}

fn settled(agent: &Agent) -> anyhow::Result<u64> {
    stop::sleep(SETTLE)?;
    agent.resident()
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}
