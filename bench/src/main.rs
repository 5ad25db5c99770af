//! Measures what watching costs on this host. What is compared is a ratio within one run, against the same work
//! unwatched and against empty programs on the same hooks: absolute times of shared hosts mean little.
//!
//! `make bench` runs it; docs/figures.md holds results, and each verb prints rows for it.

mod agent;
mod containers;
mod cost;
mod cpu;
mod delay;
mod endure;
mod forks;
mod load;
mod made_up;
mod marks;
mod memory;
mod paced;
mod pipeline;
mod rate;
mod servers;
mod start;
mod stop;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};

/// What watching costs on this host. Without a verb: cost and rules.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Clone, Subcommand)]
enum Verb {
    /// What the watched pay in small loops, and what the agent takes [two minutes]
    Cost,
    /// Only what the watched pay in small loops [two minutes for all]
    Watched {
        /// Only those with this in their name
        #[arg(default_value = "")]
        name: String,
    },
    /// What servers under load lose of their throughput: redis, nginx, stress-ng's sockets [five minutes]
    Servers,
    /// From the start of the agent to its first alert [ten seconds]
    Start,
    /// From a call to its record in user space, and to its alert [twenty seconds]
    Delay,
    /// CPU of the whole agent for a million events of mixed work [half a minute]
    Cpu,
    /// The highest rate of events without loss, by lane [two minutes]
    Rate,
    /// Resident memory, idle and beside containers of runc [some minutes for a thousand]
    Memory {
        /// How many containers, ascending
        #[arg(default_values_t = [100, 1000])]
        containers: Vec<usize>,
    },
    /// All of the above, one after the other, and rules [a quarter of an hour]
    All,
    /// How many events enrichment and rules take on one core, with rule sets of several sizes; also Falco's rule files if
    /// TIDEWATCH_FALCO_RULES names them, joined by colons (stable:incubating:sandbox)
    Rules {
        /// Only sets with this in their name
        #[arg(default_value = "")]
        name: String,
    },
    /// The highest rate of forks that this host reaches, and how many events of it are lost, with one, two and four at once
    Forks {
        /// How long each
        #[arg(default_value_t = 10)]
        seconds: u64,
    },
    /// Findings at a rate through the whole service, while agent or manager is killed; fails if a finding that was shown is
    /// not stored exactly once
    Endure {
        /// Findings a second
        #[arg(default_value_t = 1000)]
        rate: u64,
        /// How long
        #[arg(default_value_t = 600)]
        seconds: u64,
        /// How many kills
        #[arg(default_value_t = 0)]
        kills: u64,
    },
    /// One load in this process; prints nanoseconds a step
    #[command(hide = true)]
    Load { name: String },
    /// Calls at a rate in this process; prints how many there were
    #[command(hide = true)]
    Paced { call: paced::Call, rate: f64, seconds: f64, folder: PathBuf },
}

fn main() -> anyhow::Result<ExitCode> {
    let verb = Cli::parse().verb;
    // Those that start and make things end with an error, so that all of it is taken away on the way out; the others at once.
    if !matches!(verb, Some(Verb::Load { .. } | Verb::Paced { .. } | Verb::Rules { .. } | Verb::Endure { .. })) {
        stop::listen()?;
    }
    match &verb {
        // Children of ours.
        Some(Verb::Load { name }) => println!("{}", load::run_here(name)?),
        Some(Verb::Paced { call, rate, seconds, folder }) => {
            println!("{}", paced::run_here(*call, *rate, Duration::from_secs_f64(*seconds), folder)?);
        }
        _ if !rustix::process::geteuid().is_root() => {
            eprintln!("the benchmark attaches eBPF programs: run it as root (sudo target/release/tidewatch-bench)");
            return Ok(ExitCode::from(3));
        }
        None => [Verb::Cost, rules()].into_iter().try_for_each(run)?,
        Some(Verb::All) => {
            let memory = Verb::Memory { containers: vec![100, 1000] };
            let verbs = [Verb::Cost, Verb::Servers, Verb::Start, Verb::Delay, Verb::Cpu, Verb::Rate, memory, rules()];
            for verb in verbs {
                let begun = Instant::now();
                run(verb)?;
                eprintln!("[{:.0} s]", begun.elapsed().as_secs_f64());
            }
        }
        Some(verb) => run(verb.clone())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn rules() -> Verb {
    Verb::Rules { name: String::new() }
}

fn run(verb: Verb) -> anyhow::Result<()> {
    let agent = || watch::find_agent();
    match verb {
        Verb::Cost => cost::measure(&agent()?),
        Verb::Watched { name } => cost::watched(&agent()?, &name).map(drop),
        Verb::Servers => servers::measure(&agent()?),
        Verb::Start => start::measure(&agent()?),
        Verb::Delay => delay::measure(&agent()?),
        Verb::Cpu => cpu::measure(&agent()?),
        Verb::Rate => rate::measure(&agent()?),
        Verb::Memory { containers } => memory::measure(&agent()?, &containers),
        Verb::Rules { name } => pipeline::measure(&name),
        Verb::Forks { seconds } => forks::measure(&agent()?, Duration::from_secs(seconds)),
        Verb::Endure { rate, seconds, kills } => {
            endure::run(&agent()?, endure::Plan { rate, duration: Duration::from_secs(seconds), kills })
        }
        // These are done by `main`.
        Verb::All | Verb::Load { .. } | Verb::Paced { .. } => Ok(()),
    }
}
