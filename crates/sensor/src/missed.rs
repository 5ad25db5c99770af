//! What the kernel half missed, by cgroup, class and reason; and how full its tables are.

use hashbrown::HashMap;
use libbpf_rs::{MapCore as _, MapFlags, Object};
use tw_model::coverage::{Class, Miss};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::ebpf::SensorError;

/// Cgroups that the kernel half counts one by one (bpf/maps.h); those beyond share one entry.
pub const CGROUPS: usize = 4096;
/// From so many on, entries that are quiet are taken out.
const CROWDED: usize = CGROUPS * 3 / 4;
/// Nanoseconds without a change after which an entry is quiet.
const QUIET_NS: u64 = 60_000_000_000;
/// Entries that are read with one call: all, since the kernel gives fewer than were asked for where they lie badly.
const BATCH: u32 = CGROUPS as u32;

/// `struct tw_missed` of bpf/tidewatch.h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Counts([[u64; Miss::IN_KERNEL]; Class::ALL.len()]);

/// `struct tw_sampling` of bpf/tidewatch.h: of what only one event in so many is wanted; 0: all are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Sampling {
    /// Opens for reading that failed.
    pub failed_opens: u32,
    /// Opens for reading that did not.
    pub read_opens: u32,
}

/// `struct tw_table_use` of bpf/tidewatch.h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct TableUse {
    inserted: u64,
    removed: u64,
    refused: u64,
}

/// `enum tw_table` of bpf/tidewatch.h: a row of the map `table_uses` each.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Row {
    Buckets,
    Peers,
    Missed,
    NameServers,
    Connections,
    Datagrams,
    RingSends,
    Folds,
}

/// The tables that the kernel half fills and empties alone, by the name of their map.
pub(crate) const TABLES: [(&str, Row); 6] = [
    ("buckets", Row::Buckets),
    ("peers", Row::Peers),
    ("name_servers", Row::NameServers),
    ("connections", Row::Connections),
    ("datagrams", Row::Datagrams),
    ("ring_sends", Row::RingSends),
];

/// A table of the kernel half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelTable {
    /// Name of the map.
    pub name: &'static str,
    /// Entries; where the kernel drops some by itself, the most that there can be.
    pub entries: u64,
    /// Most entries.
    pub capacity: u64,
    /// Entries that made room, or that found none; where the kernel drops them by itself, the least.
    pub evicted: u64,
}

/// What was missed of one class for one reason.
pub type Missing = (Class, Miss, u64);

/// What is known of one cgroup's entry.
struct Known {
    counts: Counts,
    changed_ns: u64,
}

/// Reads the kernel half's counts, and remembers them, so that each is told once.
#[derive(Default)]
pub(crate) struct Missed {
    known: HashMap<u64, Known, foldhash::fast::RandomState>,
    rest: Counts,
    total: u64,
    removed: u64,
}

impl Missed {
    /// Tells what was missed since the last call: the cgroup (`None`: one for which there was no room), and how much.
    /// Costs one call to the kernel if nothing was missed or folded. `now_ns` is boot time.
    pub fn read(&mut self, object: &Object, now_ns: u64, tell: &mut dyn FnMut(Option<u64>, &[Missing])) {
        let total = percpu(object, "misses", 0, |sum: u64, cpu: u64| sum + cpu);
        if total == self.total {
            return;
        }
        let Some(map) = object.maps().find(|map| map.name() == "missed") else { return };
        let Ok(entries) = map.lookup_batch(BATCH, MapFlags::ANY, MapFlags::ANY) else { return };
        // What could not be read is read the next time.
        self.total = total;
        for (key, value) in entries {
            let (Ok((cgroup, _)), Ok((now, _))) = (u64::read_from_prefix(&key), Counts::read_from_prefix(&value))
            else {
                continue;
            };
            let known = self.known.entry(cgroup).or_insert(Known { counts: Counts::default(), changed_ns: now_ns });
            if known.counts != now {
                tell(Some(cgroup), &difference(&known.counts, &now));
                *known = Known { counts: now, changed_ns: now_ns };
            }
        }
        if let Some(rest) = value(object, "missed_rest")
            && self.rest != rest
        {
            tell(None, &difference(&self.rest, &rest));
            self.rest = rest;
        }
        if self.known.len() >= CROWDED {
            self.make_room(&map, now_ns, tell);
        }
    }

    /// Takes out what has been quiet for long. Its cgroup is most likely gone.
    fn make_room(&mut self, map: &impl libbpf_rs::MapCore, now_ns: u64, tell: &mut dyn FnMut(Option<u64>, &[Missing])) {
        let quiet = self.known.iter().filter(|(_, known)| now_ns.saturating_sub(known.changed_ns) >= QUIET_NS);
        let quiet: Vec<u64> = quiet.map(|(cgroup, _)| *cgroup).collect();
        for cgroup in quiet {
            let key = cgroup.to_ne_bytes();
            // In one step where the kernel can (5.14 and later), so that nothing is counted in between.
            let last = match map.lookup_and_delete(&key) {
                Ok(last) => last,
                Err(_) => map.lookup(&key, MapFlags::ANY).ok().flatten().inspect(|_| drop(map.delete(&key))),
            };
            let Some(known) = self.known.remove(&cgroup) else { continue };
            self.removed += 1;
            if let Some((last, _)) = last.as_deref().and_then(|bytes| Counts::read_from_prefix(bytes).ok())
                && last != known.counts
            {
                tell(Some(cgroup), &difference(&known.counts, &last));
            }
        }
    }

    /// The tables of the kernel half.
    pub fn tables(&self, object: &Object) -> Vec<KernelTable> {
        let uses = |row: Row| {
            percpu(object, "table_uses", row as u32, |sum: TableUse, cpu: TableUse| TableUse {
                inserted: sum.inserted + cpu.inserted,
                removed: sum.removed + cpu.removed,
                refused: sum.refused + cpu.refused,
            })
        };
        // How large each is, the map itself says.
        let size = |name: &str| object.maps().find(|map| map.name() == name).map_or(0, |map| map.max_entries());
        let mut tables: Vec<KernelTable> = TABLES
            .into_iter()
            .map(|(name, row)| {
                let (uses, capacity) = (uses(row), u64::from(size(name)));
                let held = uses.inserted.saturating_sub(uses.removed);
                let evicted = held.saturating_sub(capacity);
                KernelTable { name, entries: held.min(capacity), capacity, evicted }
            })
            .collect();
        // Per CPU and counted exactly: an open takes the row of another, none is given back.
        let (opens, cpus) = (uses(Row::Folds), libbpf_rs::num_possible_cpus().unwrap_or(1));
        let capacity = u64::from(size("folds")) * cpus as u64;
        tables.push(KernelTable { name: "folds", entries: opens.inserted, capacity, evicted: opens.refused });
        let evicted = self.removed + uses(Row::Missed).refused;
        let entries = self.known.len() as u64;
        tables.push(KernelTable { name: "missed", entries, capacity: CGROUPS as u64, evicted });
        tables
    }
}

/// Says what only a sample is wanted of.
pub(crate) fn set_sampling(object: &Object, sampling: Sampling) -> Result<(), SensorError> {
    let map = object.maps().find(|map| map.name() == "sampling");
    let map = map.ok_or_else(|| SensorError::Load("map sampling is missing in the object".into()))?;
    let set = map.update(&0_u32.to_ne_bytes(), sampling.as_bytes(), MapFlags::ANY);
    set.map_err(|error| SensorError::Load(format!("cannot set what is sampled: {error}")))
}

fn difference(before: &Counts, now: &Counts) -> Vec<Missing> {
    let mut missing = Vec::new();
    for ((class, before), now) in Class::ALL.into_iter().zip(&before.0).zip(&now.0) {
        for ((why, before), now) in Miss::ALL.into_iter().zip(before).zip(now) {
            if now > before {
                missing.push((class, why, now - before));
            }
        }
    }
    missing
}

fn value<T: FromBytes>(object: &Object, map: &str) -> Option<T> {
    let map = object.maps().find(|known| known.name() == map)?;
    let bytes = map.lookup(&0_u32.to_ne_bytes(), MapFlags::ANY).ok()??;
    T::read_from_prefix(&bytes).ok().map(|(value, _)| value)
}

/// A row of a per-CPU array, put together from all CPUs.
pub(crate) fn percpu<T: FromBytes>(object: &Object, map: &str, row: u32, add: impl Fn(T, T) -> T) -> T {
    let map = object.maps().find(|known| known.name() == map);
    let cpus = map.and_then(|map| map.lookup_percpu(&row.to_ne_bytes(), MapFlags::ANY).ok().flatten());
    let values = cpus.iter().flatten().filter_map(|cpu| T::read_from_prefix(cpu).ok());
    values.fold(T::new_zeroed(), |sum, (cpu, _)| add(sum, cpu))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_told() {
        let mut before = Counts::default();
        before.0[2][0] = 5;
        let mut now = before;
        now.0[2][0] = 7;
        now.0[1][2] = 1;
        let expected = vec![(Class::Privileged, Miss::Folded, 1), (Class::File, Miss::RingFull, 2)];
        assert_eq!(difference(&before, &now), expected);
        assert!(difference(&now, &now).is_empty());
    }
}
