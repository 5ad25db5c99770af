//! What an agent says of its own state: counters, health, and problems with their remedies.
//!
//! Counters count since the agent's start and never go down within one session. The manager shows them as metrics and
//! in `status`; nothing here decides anything.

use serde::{Deserialize, Serialize};

use crate::finding::Priority;

mod coverage;
pub use coverage::{BudgetStatus, ClassCoverage, ContainerCoverage, CoverageStatus, LastEnd, TableStatus, Unwatched};

/// Who an agent is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Made up once per installation, kept in the state directory: 32 hexadecimal digits.
    pub id: String,
    /// Name of the host.
    pub hostname: String,
    /// The kernel's boot id.
    pub boot_id: String,
    /// One start of the agent: a part of each finding's identity.
    pub session: u64,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// Stable code for programs, such as `spool-full`.
    pub code: String,
    /// True if a part of the service does not work; false if it works but not as well as it could.
    pub failed: bool,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// One hook in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HookStatus {
    /// Name, such as `tp_btf/sys_exit`.
    pub name: String,
    /// What it serves.
    pub serves: String,
    /// Why it does not work, if so.
    pub problem: Option<String>,
    /// What stands in for it then, and what that leaves out.
    pub instead: Option<String>,
}

/// Counts of one type of event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventCount {
    /// Type, such as `openat`.
    pub event: String,
    /// Records that the kernel half delivered.
    pub seen: u64,
    /// Records lost because their ring was full.
    pub lost_ring: u64,
    /// Records lost because no scratch buffer was free.
    pub lost_scratch: u64,
    /// Events that were counted only: over a budget, or datagrams to the same peer again.
    pub folded: u64,
    /// Events left out of a sample.
    pub sampled: u64,
}

/// One ring between the kernel and the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RingStatus {
    /// Which lane.
    pub lane: String,
    /// Size in bytes.
    pub size: u64,
    /// Bytes that waited when it was last looked at.
    pub pending: u64,
}

/// A rule file in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuleFile {
    /// Path, or name within the default pack.
    pub name: String,
    /// SHA-256 of its bytes, hexadecimal.
    pub digest: String,
}

/// Whether the rules in force are those that the configuration names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RulesOrigin {
    /// They are.
    #[default]
    Configured,
    /// These did not load at the start: the copy of those that were in force last stands in.
    LastGood,
    /// Nor was there such a copy: the built-in pack stands in.
    Pack,
}

/// The rules in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RulesStatus {
    /// Whether they are what the configuration names.
    pub origin: RulesOrigin,
    /// Where they came from, for people.
    pub source: String,
    /// SHA-256 over the digests of all files, and over what the settings change of the rules, hexadecimal.
    pub digest: String,
    /// What the settings change of the rules, as in the configuration: `rules.compat: falco`.
    pub options: Vec<String>,
    /// The files in their order.
    pub files: Vec<RuleFile>,
    /// Rules that are tried.
    pub enabled: u64,
    /// Rules that are broken and left out.
    pub broken: u64,
    /// What is doubtful in the files.
    pub warnings: u64,
    /// When they came into force, nanoseconds since the epoch.
    pub loaded_ns: u64,
    /// Why the last attempt to load others failed; none if it did not.
    pub last_error: Option<String>,
    /// Why they could not be copied for the next start; none if they were.
    pub copy_error: Option<String>,
}

/// What one rule costs and finds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuleCost {
    /// Name.
    pub rule: String,
    /// Events that it matched.
    pub hits: u64,
    /// Events for which its cost was measured: a sample.
    pub sampled: u64,
    /// Nanoseconds that these took.
    pub sampled_ns: u64,
}

/// A histogram with fixed bounds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Histogram {
    /// Upper bounds in seconds, ascending; above the last is one more class.
    pub bounds: Vec<f64>,
    /// Number of values per class, one more than there are bounds. Not cumulative.
    pub counts: Vec<u64>,
    /// Sum of all values in seconds.
    pub sum: f64,
}

impl Histogram {
    /// An empty one with these upper bounds.
    pub fn new(bounds: &[f64]) -> Self {
        Self { bounds: bounds.to_vec(), counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// Takes a value in seconds.
    pub fn observe(&mut self, seconds: f64) {
        let class = self.bounds.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get_mut(class) {
            *count += 1;
        }
        self.sum += seconds;
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Upper bound of the class in which quantile `q` (0 to 1) lies; infinite above the last bound, `None` without
    /// values.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let wanted = (q * count as f64).ceil() as u64;
        let mut below = 0;
        for (class, n) in self.counts.iter().enumerate() {
            below += n;
            if below >= wanted {
                return Some(self.bounds.get(class).copied().unwrap_or(f64::INFINITY));
            }
        }
        Some(f64::INFINITY)
    }
}

/// Findings that the agent made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FindingStatus {
    /// Number by priority.
    pub by_priority: Vec<(Priority, u64)>,
    /// Lost because the queue to the outputs was full.
    pub lost_queue: u64,
    /// Waiting in that queue.
    pub queued: u64,
    /// Room of that queue.
    pub queue_capacity: u64,
    /// Seconds from event to finding.
    pub latency: Histogram,
}

/// What the agent knows of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorldStatus {
    /// Processes remembered.
    pub processes: u64,
    /// Processes whose start was not seen.
    pub inferred: u64,
    /// Living processes forgotten because the table was full.
    pub evicted: u64,
    /// Containers that run.
    pub containers: u64,
    /// Sockets that listen.
    pub listeners: u64,
    /// Events that waited for their container's name.
    pub waited: u64,
    /// Events that went on without it.
    pub unnamed: u64,
}

/// A container runtime that is asked for names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimeStatus {
    /// Which, such as `docker`.
    pub name: String,
    /// Whether it answers.
    pub up: bool,
    /// Its version, or why it does not answer.
    pub says: String,
}

/// One lane of the spool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpoolLaneStatus {
    /// Which.
    pub lane: SpoolLane,
    /// Number of the newest record, 0 if there never was one.
    pub newest: u64,
    /// Number up to which the manager has everything.
    pub acked: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Records given up because the spool was over its bound.
    pub dropped: u64,
    /// Records that could not be read back.
    pub corrupt: u64,
}

/// The spool: findings that wait for the manager.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpoolStatus {
    /// Its lanes.
    pub lanes: Vec<SpoolLaneStatus>,
    /// Most bytes that it may take.
    pub max_bytes: u64,
    /// Why it cannot be written, if so.
    pub error: Option<String>,
    /// Findings lost because it could not be written for too long.
    pub lost: u64,
}

/// Lanes of the spool: when room is short, `Routine` gives way first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpoolLane {
    /// Emergency to error.
    #[default]
    Urgent,
    /// Warning to debug.
    Routine,
}

impl SpoolLane {
    /// Both, the one that gives way last first.
    pub const ALL: [Self; 2] = [Self::Urgent, Self::Routine];

    /// The lane of a finding.
    pub fn of(priority: Priority) -> Self {
        if priority <= Priority::Error { Self::Urgent } else { Self::Routine }
    }

    /// Name: also that of its folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::Routine => "routine",
        }
    }
}

/// The flight recorder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecorderStatus {
    /// Bytes on disk.
    pub bytes: u64,
    /// Most bytes that it may take.
    pub max_bytes: u64,
    /// Segments on disk.
    pub segments: u64,
    /// Records written.
    pub records: u64,
    /// Records lost because the disk was too slow or full.
    pub lost: u64,
    /// Start of the oldest segment, nanoseconds since the epoch; 0 if there is none.
    pub oldest_ns: u64,
    /// Why it cannot write, if so.
    pub error: Option<String>,
}

/// What a process takes of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// User and system time in nanoseconds.
    pub cpu_ns: u64,
}

/// How measuring what containers use goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceStatus {
    /// Containers measured in the last round.
    pub containers: u64,
    /// Measurements so far.
    pub measured: u64,
    /// Measurements that came faster than they could be looked at.
    pub dropped: u64,
    /// Containers that are too many to be measured.
    pub left_out: u64,
    /// Time between the last two rounds, milliseconds; longer than asked for if rounds take long.
    pub interval_ms: u64,
    /// Processor time that the last round took, microseconds.
    pub round_us: u64,
}

/// Everything an agent says of itself, as of one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentStatus {
    /// Version of the program.
    pub version: String,
    /// How it watches: `ebpf`, `fanotify` or `connector`.
    pub mode: String,
    /// Rules that can find nothing in this mode, each with the reason.
    pub mute_rules: Vec<String>,
    /// Programs that had ended before they could be looked at; only where the mode has to look.
    pub unseen_programs: u64,
    /// Who it is.
    pub node: Node,
    /// Its process number.
    pub pid: u32,
    /// How often the supervisor started it again.
    pub restarts: u64,
    /// When it began to watch, nanoseconds since the epoch.
    pub started_ns: u64,
    /// When this was said, nanoseconds since the epoch.
    pub time_ns: u64,
    /// Release of the kernel.
    pub kernel: String,
    /// Hooks.
    pub hooks: Vec<HookStatus>,
    /// Rings.
    pub rings: Vec<RingStatus>,
    /// Counts of events, only of types that occurred.
    pub events: Vec<EventCount>,
    /// How much was seen.
    pub coverage: CoverageStatus,
    /// Tables and their bounds.
    pub tables: Vec<TableStatus>,
    /// Budget of CPU.
    pub budget: BudgetStatus,
    /// Events that went through detection.
    pub inspected: u64,
    /// Records that made no sense.
    pub malformed: u64,
    /// Rules.
    pub rules: RulesStatus,
    /// Cost and hits of rules.
    pub rule_costs: Vec<RuleCost>,
    /// Findings.
    pub findings: FindingStatus,
    /// The host.
    pub world: WorldStatus,
    /// Container runtimes.
    pub runtimes: Vec<RuntimeStatus>,
    /// Measuring of what containers use; none if it is off.
    pub resources: Option<ResourceStatus>,
    /// Spool; none if findings are not kept.
    pub spool: Option<SpoolStatus>,
    /// Flight recorder; none if it is off.
    pub recorder: Option<RecorderStatus>,
    /// Secrets taken out, by pattern.
    pub redactions: Vec<(String, u64)>,
    /// How often the wall clock was seen to jump by more than a second.
    pub clock_jumps: u64,
    /// Memory and time.
    pub usage: Usage,
    /// What is not as it should be.
    pub problems: Vec<Problem>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_each_value_once() {
        let mut histogram = Histogram::new(&[0.1, 1.0]);
        for value in [0.05, 0.1, 0.5, 2.0] {
            histogram.observe(value);
        }
        assert_eq!(histogram.counts, [2, 1, 1]);
        assert_eq!(histogram.quantile(0.5), Some(0.1));
        assert_eq!(histogram.quantile(0.75), Some(1.0));
        assert_eq!(histogram.quantile(0.99), Some(f64::INFINITY));
        assert_eq!(Histogram::new(&[1.0]).quantile(0.5), None);
    }

    #[test]
    fn a_status_survives_the_wire_and_an_older_one_is_read() {
        let status = AgentStatus { version: "1".into(), restarts: 3, ..AgentStatus::default() };
        let text = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<AgentStatus>(&text).unwrap(), status);
        assert_eq!(serde_json::from_str::<AgentStatus>("{\"version\":\"0\"}").unwrap().version, "0");
    }

    #[test]
    fn severe_findings_travel_in_the_urgent_lane() {
        assert_eq!(SpoolLane::of(Priority::Error), SpoolLane::Urgent);
        assert_eq!(SpoolLane::of(Priority::Warning), SpoolLane::Routine);
    }
}
