//! Who watches while a load runs: nobody, empty programs, or the agent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use libbpf_rs::{Link, Object, ObjectBuilder};

use crate::agent::Agent;
use crate::stop;

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
    /// The agent with its default rules.
    Tidewatch,
}

impl Mode {
    /// In the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Nothing, Self::Floor, Self::Tidewatch];

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
    agent: Option<(Agent, Usage)>,
}

/// The agent's binary, beside ours.
pub fn find_agent() -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("tidewatch");
    anyhow::ensure!(path.exists(), "{} is missing: make build", path.display());
    Ok(path)
}

impl Watch {
    /// Starts to watch. The agent is left alone for a while, to see what it takes when nothing happens.
    pub fn start(mode: Mode, agent: &Path) -> anyhow::Result<Self> {
        let mut watch = Self::at_once(mode, agent)?;
        if let Some((agent, usage)) = &mut watch.agent {
            let before = agent.cpu()?;
            stop::sleep(IDLE)?;
            usage.idle = IDLE;
            usage.idle_cpu = (agent.cpu()? - before) / IDLE.as_secs_f64();
            usage.idle_rss = agent.resident()?;
        }
        Ok(watch)
    }

    /// The same without a look at the idle agent.
    pub fn at_once(mode: Mode, agent: &Path) -> anyhow::Result<Self> {
        Ok(match mode {
            Mode::Nothing => Self { floor: None, agent: None },
            Mode::Floor => Self { floor: Some(attach_floor()?), agent: None },
            Mode::Tidewatch => {
                let agent = Agent::start(agent, &[])?;
                let usage = Usage { start: agent.start, ..Usage::default() };
                Self { floor: None, agent: Some((agent, usage)) }
            }
        })
    }

    /// Stops, and tells what the agent used.
    pub fn stop(self) -> anyhow::Result<Option<Usage>> {
        drop(self.floor);
        let Some((agent, mut usage)) = self.agent else { return Ok(None) };
        usage.end_rss = agent.resident()?;
        usage.summary = agent.stop()?.text;
        Ok(Some(usage))
    }
}

fn attach_floor() -> anyhow::Result<(Vec<Link>, Object)> {
    // ELF wants aligned bytes; a vector of this size is.
    let bytes = FLOOR.to_vec();
    let object = ObjectBuilder::default().open_memory(&bytes)?.load().context("cannot load the empty programs")?;
    let links = object.progs_mut().map(|prog| prog.attach_trace()).collect::<Result<Vec<_>, _>>()?;
    Ok((links, object))
}
