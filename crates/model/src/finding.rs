//! Findings: what a detector has to say, complete in itself.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::coverage::Coverage;
use crate::login::Login;
use crate::process::ProcKey;

/// Identity of a finding: 26 characters, sorted by time (the ULID format). A finding that is delivered twice, or
/// found again by a replay of the same records, has the same one.
pub type FindingId = Ulid;

/// How bad a finding is, in Falco's eight levels, most severe first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Identity.
    pub id: FindingId,
    /// Wall-clock time of the event, nanoseconds since the epoch.
    pub time_ns: u64,
    /// Number of the event since the agent's start.
    pub event_num: u64,
    /// What made the detector speak.
    pub cause: Cause,
    /// How bad.
    pub priority: Priority,
    /// Event source in Falco's sense: `syscall` or `internal`.
    pub source: Cow<'static, str>,
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
    pub event: Cow<'static, str>,
    /// The process and its ancestors, the process first.
    pub lineage: Vec<ProcessSummary>,
    /// The container, `None` on the host.
    pub container: Option<ContainerSummary>,
    /// [`crate::Workload::key`] of the container; on the host `unit/NAME` if a systemd unit did it, else `host`. Empty
    /// if it is about the agent itself.
    #[serde(default)]
    pub workload: String,
    /// The person behind the process, if one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
    /// How much was seen of the container (of the host, if there is none) in the minute before; `None` if that is not
    /// known: the agent speaks of itself, or nobody kept a ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Coverage>,
    /// Equal for "the same again": cause, workload and executable, not time or pid.
    pub fingerprint: u64,
}

/// The identity of a finding. The same in each run over the same records: it depends on the session (one start of an
/// agent on one boot of one host), the event's number and time, and the rule's name.
pub fn finding_id(session: u64, time_ns: u64, event_num: u64, name: &str) -> FindingId {
    let parts: [&[u8]; 4] = [&session.to_le_bytes(), &time_ns.to_le_bytes(), &event_num.to_le_bytes(), name.as_bytes()];
    let low = fnv1a(&parts);
    let high = fnv1a(&[&low.to_le_bytes(), parts[3], parts[2]]);
    FindingId::from_parts(time_ns / 1_000_000, (u128::from(high) << 64) | u128::from(low))
}

/// FNV-1a over the parts, each ended by a byte that none of them holds as its last.
pub fn fnv1a(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter().copied().chain([0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_stable_differ_and_sort_by_time() {
        let id = finding_id(7, 1_767_225_600_123_456_789, 3, "Shell");
        assert_eq!(id, finding_id(7, 1_767_225_600_123_456_789, 3, "Shell"));
        for other in [
            finding_id(8, 1_767_225_600_123_456_789, 3, "Shell"),
            finding_id(7, 1_767_225_600_123_456_788, 3, "Shell"),
            finding_id(7, 1_767_225_600_123_456_789, 4, "Shell"),
            finding_id(7, 1_767_225_600_123_456_789, 3, "Miner"),
        ] {
            assert_ne!(id, other);
        }
        let later = finding_id(7, 1_767_225_600_223_456_789, 3, "Shell");
        assert!(later > id && later.to_string() > id.to_string());
        assert_eq!(id.to_string().len(), 26);
    }
}
