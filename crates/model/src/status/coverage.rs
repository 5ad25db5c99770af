//! What an agent says of how much it saw, of its bounds, and of its budget.

use serde::{Deserialize, Serialize};

use crate::coverage::{Class, Coverage, Miss};

/// Counts of one class of events since the agent's start, over all containers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClassCoverage {
    /// Class.
    pub class: Class,
    /// Events that went through the detectors.
    pub seen: u64,
    /// Events that did not, by reason; all reasons.
    pub missed: Vec<(Miss, u64)>,
}

/// The last minute of a container of which something was missed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerCoverage {
    /// Short id; `host` for what is in no container, `others` for cgroups that are not known.
    pub id: String,
    /// Name, if it is known.
    pub name: String,
    /// What was seen and missed.
    pub coverage: Coverage,
}

/// How the watch before this one ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LastEnd {
    /// It was told to end.
    #[default]
    Asked,
    /// It was killed, or crashed.
    Killed,
    /// The host was started anew.
    HostStarted,
}

/// The time before this start in which nobody watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unwatched {
    /// Last sign of life of the agent before, nanoseconds since the epoch.
    pub from_ns: u64,
    /// When this one began to watch, nanoseconds since the epoch.
    pub until_ns: u64,
    /// How it ended.
    pub end: LastEnd,
}

/// How much was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CoverageStatus {
    /// Since the start, by class.
    pub classes: Vec<ClassCoverage>,
    /// The last minute of the whole host.
    pub minute: Coverage,
    /// Containers of which something was missed in the last minute, the worst first; at most sixteen.
    pub worst: Vec<ContainerCoverage>,
    /// Time before the start in which nobody watched; none at the first start.
    pub unwatched: Option<Unwatched>,
}

/// A table with a bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TableStatus {
    /// Name.
    pub table: String,
    /// What it holds now, in its unit.
    pub entries: u64,
    /// Most that it holds.
    pub capacity: u64,
    /// What made room or found none, since the start.
    pub evicted: u64,
}

/// The budget of CPU, and what was given up for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BudgetStatus {
    /// Cores that the agent may take; 0: no budget.
    pub cores: f64,
    /// Cores that it took, over the last seconds.
    pub used: f64,
    /// Rung of the ladder; 0: nothing is given up.
    pub level: u64,
    /// What is given up now, in words.
    pub given_up: Vec<String>,
    /// How often the rung changed.
    pub changes: u64,
}
