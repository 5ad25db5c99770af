//! Retention: how long and how much of each kind is kept.
//!
//! Oldest first, in chunks of a bounded size, so that a commit of findings waits for one chunk at most. What came in
//! last goes last, whatever the clock did meanwhile.
//!
//! The limits are settings: the section `store.retention` of the configuration is made of the types here.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::store::{Deleted, Entry, Kind, Limit, Reason, Store, StoreError};

/// Rows that one transaction deletes at most.
const CHUNK: u32 = 500;
/// Free pages of a SQLite file that one step gives back, and that are left in it as room for what comes next.
const PAGES: u32 = 256;
/// A wall clock that is ahead of the monotonic one by more than this is doubted…
const DOUBTED: Duration = Duration::from_secs(3600);
/// … until it has stayed so for this long.
const BELIEVED: Duration = Duration::from_secs(600);

/// How long and how much is kept. What is beyond any of the limits is deleted, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Findings.
    pub findings: Limits,
    /// Containers that no longer run.
    pub containers: Limits,
    /// Images that no container uses any more.
    pub images: Limits,
    /// Workloads that no longer run.
    pub workloads: Limits,
    /// Versions of rules that no finding refers to.
    pub rules: Limits,
    /// Who changed what.
    pub audit: Limits,
}

/// Limits of one kind of thing in the store.
// Zero means that there is none; who configures it gives one at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Oldest that is kept, in days.
    #[schemars(range(min = 1, max = 36_500), extend("x-applies" = "live"))]
    pub max_days: u32,
    /// Most rows that are kept.
    #[schemars(range(min = 1, max = 1_000_000_000), extend("x-applies" = "live"))]
    pub max_rows: u64,
    /// Most that the rows take together, in MiB.
    // Of content: the database's own needs come on top.
    #[schemars(range(min = 1, max = 1_048_576), extend("x-applies" = "live"))]
    pub max_mib: u64,
}

impl Default for Retention {
    fn default() -> Self {
        let limits = |max_days, max_rows, max_mib| Limits { max_days, max_rows, max_mib };
        Self {
            findings: limits(30, 2_000_000, 2048),
            containers: limits(30, 100_000, 256),
            images: limits(90, 100_000, 64),
            workloads: limits(90, 100_000, 64),
            rules: limits(365, 10_000, 16),
            audit: limits(365, 1_000_000, 256),
        }
    }
}

impl Retention {
    /// The limits of a kind.
    pub fn of(&self, kind: Kind) -> Limits {
        match kind {
            Kind::Findings => self.findings,
            Kind::Containers => self.containers,
            Kind::Images => self.images,
            Kind::Workloads => self.workloads,
            Kind::Rules => self.rules,
            Kind::Audit => self.audit,
        }
    }
}

/// One run: deletes what is over its limits as of `now_us`, and tells of each chunk. A run that deletes anything but
/// audit lines writes one audit line.
///
/// # Errors
/// See [`StoreError`]; what was deleted until then stays deleted.
pub async fn enforce(
    store: &Store,
    retention: &Retention,
    now_us: i64,
    mut tell: impl FnMut(Kind, Reason, Deleted),
) -> Result<u64, StoreError> {
    let mut told = serde_json::Map::new();
    let mut all = 0;
    let mut result = Ok(());
    'kinds: for kind in Kind::ALL {
        for reason in [Reason::Age, Reason::Rows, Reason::Bytes] {
            let (deleted, outcome) = delete(store, retention.of(kind), kind, reason, now_us).await;
            if deleted.rows > 0 {
                tell(kind, reason, deleted);
                all += deleted.rows;
                if kind != Kind::Audit {
                    let what = json!({"rows": deleted.rows, "bytes": deleted.bytes});
                    told.insert(format!("{}/{}", kind.name(), reason.name()), what);
                }
            }
            if outcome.is_err() {
                result = outcome;
                break 'kinds;
            }
        }
    }
    if !told.is_empty() {
        let entry = Entry {
            actor: "retention".into(),
            action: "delete".into(),
            target: store.place().shown(),
            detail: told.into(),
        };
        store.audit(now_us, &entry).await?;
    }
    result?;
    if all > 0 {
        while store.shrink(PAGES, PAGES).await? {}
    }
    Ok(all)
}

async fn delete(
    store: &Store,
    limits: Limits,
    kind: Kind,
    reason: Reason,
    now_us: i64,
) -> (Deleted, Result<(), StoreError>) {
    let mut all = Deleted::default();
    loop {
        let limit = match over(store, limits, kind, reason, now_us).await {
            Ok(Some(limit)) => limit,
            Ok(None) => return (all, Ok(())),
            Err(error) => return (all, Err(error)),
        };
        match store.prune(kind, limit, CHUNK).await {
            Ok(deleted) if deleted.rows == 0 => return (all, Ok(())),
            Ok(deleted) => {
                all.rows += deleted.rows;
                all.bytes += deleted.bytes;
            }
            Err(error) => return (all, Err(error)),
        }
    }
}

/// What of a kind is over its limit, if anything.
async fn over(
    store: &Store,
    limits: Limits,
    kind: Kind,
    reason: Reason,
    now_us: i64,
) -> Result<Option<Limit>, StoreError> {
    let excess = |have: u64, most: u64| (most > 0 && have > most).then(|| have - most);
    Ok(match reason {
        Reason::Age if limits.max_days == 0 => None,
        Reason::Age => Some(Limit::Before(now_us.saturating_sub(i64::from(limits.max_days) * 86_400_000_000))),
        Reason::Rows => excess(store.total(kind).await?.0, limits.max_rows).map(Limit::Rows),
        Reason::Bytes => excess(store.total(kind).await?.1, limits.max_mib << 20).map(Limit::Bytes),
    })
}

/// A wall clock that is not believed at once when it jumps ahead: a minute in the wrong century must not delete
/// everything. When it goes back it is believed, since that deletes less.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    wall_us: i64,
    monotonic: Duration,
    doubted: Option<Duration>,
}

impl WallClock {
    /// Begins with a wall clock that is believed.
    pub fn new(wall_us: i64, monotonic: Duration) -> Self {
        Self { wall_us, monotonic, doubted: None }
    }

    /// The time to delete by, microseconds since the epoch.
    pub fn believe(&mut self, wall_us: i64, monotonic: Duration) -> i64 {
        let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        let expected = self.wall_us.saturating_add(micros(monotonic.saturating_sub(self.monotonic)));
        if wall_us > expected.saturating_add(micros(DOUBTED)) {
            let since = *self.doubted.get_or_insert(monotonic);
            if monotonic.saturating_sub(since) < BELIEVED {
                return expected;
            }
        }
        *self = Self::new(wall_us, monotonic);
        wall_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_ahead_is_believed_only_after_a_while() {
        let (day, minute) = (86_400_000_000, Duration::from_secs(60));
        let mut clock = WallClock::new(1000 * day, minute);
        assert_eq!(clock.believe(1000 * day + 60_000_000, minute * 2), 1000 * day + 60_000_000);
        assert_eq!(clock.believe(9000 * day, minute * 3), 1000 * day + 120_000_000);
        assert_eq!(clock.believe(9000 * day, minute * 12), 1000 * day + 660_000_000);
        assert_eq!(clock.believe(9000 * day, minute * 13), 9000 * day);
        // Back it may go at once.
        assert_eq!(clock.believe(1000 * day, minute * 14), 1000 * day);
        assert_eq!(clock.believe(9000 * day, minute * 15), 1000 * day + 60_000_000);
        assert_eq!(clock.believe(1000 * day + 120_000_000, minute * 16), 1000 * day + 120_000_000);
    }
}
