//! Findings: what a detector has to say, complete in itself.

use serde::Serialize;

use crate::process::ProcKey;

/// How bad a finding is, in Falco's eight levels, most severe first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Priority {
    /// The system is unusable.
    Emergency,
    /// Act at once.
    Alert,
    /// Critical.
    Critical,
    /// Error.
    Error,
    /// Warning.
    Warning,
    /// Normal, but worth attention.
    Notice,
    /// Information.
    Informational,
    /// For debugging.
    Debug,
}

impl Priority {
    /// All levels, most severe first.
    pub const ALL: [Self; 8] = [
        Self::Emergency,
        Self::Alert,
        Self::Critical,
        Self::Error,
        Self::Warning,
        Self::Notice,
        Self::Informational,
        Self::Debug,
    ];

    /// Name as Falco prints it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Emergency => "Emergency",
            Self::Alert => "Alert",
            Self::Critical => "Critical",
            Self::Error => "Error",
            Self::Warning => "Warning",
            Self::Notice => "Notice",
            Self::Informational => "Informational",
            Self::Debug => "Debug",
        }
    }

    /// Reads a level in any case; `info` is accepted for Informational.
    pub fn parse(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("info") {
            return Some(Self::Informational);
        }
        Self::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(text))
    }
}

/// What made a detector speak.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Cause {
    /// A rule matched.
    Rule {
        /// Name of the rule.
        name: String,
    },
    /// The sensor has something to say of itself (loss, a hook that failed).
    Sensor {
        /// Short name of the condition.
        name: String,
    },
}

impl Cause {
    /// The name of the rule or condition.
    pub fn name(&self) -> &str {
        match self {
            Self::Rule { name } | Self::Sensor { name } => name,
        }
    }
}

/// A value shown with a finding.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Shown {
    /// The field did not apply.
    Null,
    /// Truth value.
    Bool(bool),
    /// Signed number.
    Int(i64),
    /// Unsigned number.
    Uint(u64),
    /// Text, made valid UTF-8; control characters are still in it and are the output's to escape.
    Text(String),
}

/// One process of a lineage, as remembered with a finding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ProcessSummary {
    /// Identity.
    pub key: ProcKey,
    /// Name.
    pub name: String,
    /// Command line.
    pub cmdline: String,
    /// Path of the executable.
    pub exepath: String,
    /// Name of the user; its number if there is no name.
    pub user: String,
}

/// The container of a finding's subject.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ContainerSummary {
    /// Short id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Image as the user named it.
    pub image: String,
    /// Image digest, if known.
    pub digest: String,
}

/// What a detector found. Owned and self-contained: it can be stored and read without the rest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// Wall-clock time of the event, nanoseconds since the epoch.
    pub time_ns: u64,
    /// Number of the event since the agent's start.
    pub event_num: u64,
    /// What made the detector speak.
    pub cause: Cause,
    /// How bad.
    pub priority: Priority,
    /// Event source in Falco's sense: `syscall` or `internal`.
    pub source: &'static str,
    /// The message, without time and priority.
    pub message: String,
    /// Why it matters: the rule's description.
    pub why: String,
    /// What to do: the rule's advice, empty if it has none.
    pub advice: String,
    /// Tags of the rule, sorted.
    pub tags: Vec<String>,
    /// Fields named by the rule's output, in its order.
    pub fields: Vec<(String, Shown)>,
    /// Event type, such as `execve`.
    pub event: &'static str,
    /// The process and its ancestors, the process first.
    pub lineage: Vec<ProcessSummary>,
    /// The container, `None` on the host.
    pub container: Option<ContainerSummary>,
    /// Equal for "the same again": cause, workload and executable, not time or pid.
    pub fingerprint: u64,
}
