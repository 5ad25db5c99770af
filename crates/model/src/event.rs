//! An event as the detectors see it: the raw record with the process and the container it belongs to.

use bumpalo::Bump;

use crate::container::Container;
use crate::coverage::Window;
use crate::known_names::Names;
use crate::process::{Process, ProcessTable};
use crate::raw::Raw;

mod names;
mod table;
pub use names::PARAMS;
pub use table::{EVENTS, EventInfo, EventKind, Lane, Shape, is_known_type, known_types};

/// A set of event kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindSet(pub u128);

impl KindSet {
    /// No kind.
    pub const NONE: Self = Self(0);
    /// Every kind.
    pub const ALL: Self = Self(u128::MAX);

    /// The set of one kind.
    pub const fn one(kind: EventKind) -> Self {
        Self(1 << kind as u16)
    }

    /// Whether `kind` is in the set.
    pub const fn contains(self, kind: EventKind) -> bool {
        self.0 & (1 << kind as u16) != 0
    }

    /// The kinds that are measurements, see [`EventKind::is_measurement`].
    pub fn measurements() -> Self {
        let kinds = EVENTS.iter().map(|info| info.kind).filter(|kind| kind.is_measurement());
        kinds.fold(Self::NONE, |set, kind| set.or(Self::one(kind)))
    }

    /// Kinds in either set.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Kinds in both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Kinds not in the set.
    #[must_use]
    pub const fn not(self) -> Self {
        Self(!self.0)
    }

    /// The kinds in the set, in table order.
    pub fn iter(self) -> impl Iterator<Item = EventKind> {
        EVENTS.iter().map(|info| info.kind).filter(move |kind| self.contains(*kind))
    }
}

/// Credentials of the acting process before the event, as the last one told them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prior {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Effective capabilities.
    pub cap_effective: u64,
    /// It has more than before, and neither this event nor one before it could give it: see `proc.cred_jump`.
    pub jumped: bool,
}

/// One event with its context. Borrowed throughout; never stored.
#[derive(Clone, Copy)]
pub struct Event<'e> {
    /// The record as the sensor delivered it.
    pub raw: Raw<'e>,
    /// 1-based number of the event since start.
    pub num: u64,
    /// Wall-clock time of the event, in nanoseconds since the epoch.
    pub wall_ns: u64,
    /// Who did it.
    pub process: &'e Process,
    /// For ancestors and session leaders.
    pub processes: &'e ProcessTable,
    /// The container of the process; `None` on the host.
    pub container: Option<&'e Container>,
    /// The systemd unit of a process of the host, such as `nginx.service`, by its cgroup.
    pub unit: Option<&'e str>,
    /// Changes whenever something known of containers and their cgroups changes. What was worked out about a process
    /// holds as long as this, its stamp and its lineage are the same.
    pub context: u64,
    /// The last minute of the container's (or the host's) coverage; `None` where nobody keeps a ledger.
    pub coverage: Option<&'e Window>,
    /// Credentials before the event.
    pub prior: Prior,
    /// Names of addresses, as the answers said that processes of the same container got.
    pub names: Names<'e>,
    /// Where values that must be put together are built; emptied after each event.
    pub scratch: &'e Bump,
}

impl Event<'_> {
    /// Kind of the event.
    pub fn kind(&self) -> EventKind {
        self.raw.kind()
    }
}
