//! The table of processes: who lives, who ended, who descends from whom.

use hashbrown::{HashMap, HashSet};

use super::{ProcKey, Process, TICK_NS};

/// All processes by number, bounded: the dead stay while a living process may name them as ancestor, and
/// the longest dead go first when the table is full.
pub struct ProcessTable {
    by_key: HashMap<ProcKey, Process, foldhash::fast::RandomState>,
    by_pid: HashMap<u32, ProcKey, foldhash::fast::RandomState>,
    dead: std::collections::VecDeque<ProcKey>,
    capacity: usize,
    evicted: u64,
    epoch: u64,
}

/// How far a walk over ancestors goes.
pub const MAX_ANCESTORS: usize = 64;

impl ProcessTable {
    /// An empty table that holds at most `capacity` processes.
    pub fn new(capacity: usize) -> Self {
        Self {
            by_key: HashMap::default(),
            by_pid: HashMap::default(),
            dead: std::collections::VecDeque::new(),
            capacity: capacity.max(1),
            evicted: 0,
            epoch: 0,
        }
    }

    /// Grows when a process that may have descendants changes, comes or goes. As long as it is the same, the ancestors
    /// of every process are.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What the ancestors of `process` are like, as one number: with equal numbers they are the same, in the same
    /// state (but for a collision of 64-bit hashes).
    pub fn lineage(&self, process: &Process) -> u64 {
        let mix = |hash: u64, ancestor: &Process| {
            (hash.rotate_left(5) ^ ancestor.stamp.number()).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        };
        self.ancestors(process).fold(1, mix)
    }

    /// Number of processes held, living and dead.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether the table is empty.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// How many living processes were dropped because the table was full.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The process with this identity.
    pub fn get(&self, key: ProcKey) -> Option<&Process> {
        self.by_key.get(&key).or_else(|| {
            let known = *self.by_pid.get(&key.pid)?;
            if known.is_same(key) { self.by_key.get(&known) } else { None }
        })
    }

    /// The process with this identity, to change.
    pub fn get_mut(&mut self, key: ProcKey) -> Option<&mut Process> {
        let process = Self::find_mut(&mut self.by_key, &self.by_pid, key)?;
        process.stamp.renew();
        self.epoch += u64::from(process.stamp.has_children);
        Some(process)
    }

    fn find_mut<'t>(
        by_key: &'t mut HashMap<ProcKey, Process, foldhash::fast::RandomState>,
        by_pid: &HashMap<u32, ProcKey, foldhash::fast::RandomState>,
        key: ProcKey,
    ) -> Option<&'t mut Process> {
        if by_key.contains_key(&key) {
            return by_key.get_mut(&key);
        }
        let known = *by_pid.get(&key.pid)?;
        if known.is_same(key) { by_key.get_mut(&known) } else { None }
    }

    /// The latest process that had this number.
    pub fn by_pid(&self, pid: u32) -> Option<&Process> {
        self.by_key.get(self.by_pid.get(&pid)?)
    }

    /// The latest process that has this number in the pid namespace with this inode number. A walk over the table: for
    /// rare events only.
    pub fn by_vpid(&self, namespace: u32, vpid: u32) -> Option<&Process> {
        let there = |process: &&Process| process.vpid == vpid && process.ns.pid == namespace;
        // By start, then number: the same whatever the order of the table is.
        self.by_key.values().filter(there).filter(|process| process.exit_ns.is_none()).max_by_key(|process| process.key)
    }

    /// Replaces an identity known to the clock tick by the exact one of the same process.
    pub fn rekey(&mut self, exact: ProcKey) {
        let Some(known) = self.by_pid.get(&exact.pid).copied().filter(|known| known.is_same(exact)) else { return };
        if let Some(mut process) = self.by_key.remove(&known) {
            process.key = exact;
            process.stamp.renew();
            self.epoch += u64::from(process.stamp.has_children);
            if process.exit_ns.is_some()
                && let Some(place) = self.dead.iter_mut().find(|key| **key == known)
            {
                *place = exact;
            }
            self.by_pid.insert(exact.pid, exact);
            self.by_key.insert(exact, process);
        }
    }

    /// Forgets the process that `/proc` showed under this number, for which an exact one is about to come.
    pub fn remove_pid(&mut self, pid: u32) {
        if let Some(known) = self.by_pid.get(&pid).copied().filter(|known| known.start_ns.is_multiple_of(TICK_NS)) {
            self.remove(known);
        }
    }

    /// Adds or replaces a process; makes room first if the table is full.
    pub fn insert(&mut self, mut process: Process) {
        // It may be the ancestor that others had lacked.
        self.epoch += 1;
        process.stamp.has_children = true;
        self.put(process);
    }

    /// Adds a process that was forked just now, so that nobody descends from it yet.
    pub fn insert_forked(&mut self, mut process: Process) {
        process.stamp.has_children = false;
        self.put(process);
    }

    fn put(&mut self, mut process: Process) {
        while self.by_key.len() >= self.capacity && !self.by_key.contains_key(&process.key) {
            self.evict_one();
        }
        process.stamp.renew();
        if let Some(parent) = process.parent
            && let Some(parent) = Self::find_mut(&mut self.by_key, &self.by_pid, parent)
        {
            parent.stamp.has_children = true;
        }
        self.by_pid.insert(process.key.pid, process.key);
        if let Some(before) = self.by_key.get(&process.key).filter(|before| before.stamp.has_children) {
            // Who descends from it still does.
            process.stamp.has_children = before.stamp.has_children;
            self.epoch += 1;
        }
        self.by_key.insert(process.key, process);
    }

    /// Marks a process as ended. It stays as an ancestor until the table needs room.
    pub fn end(&mut self, key: ProcKey, at_ns: u64) {
        let Some(process) = Self::find_mut(&mut self.by_key, &self.by_pid, key) else { return };
        if process.exit_ns.replace(at_ns).is_none() {
            // No field asks whether it ended, so that its stamp may stay.
            if process.shorten() {
                process.stamp.renew();
                self.epoch += u64::from(process.stamp.has_children);
            }
            let key = process.key;
            self.dead.push_back(key);
        }
        // The dead are worth remembering, but they must not crowd out the living.
        while self.dead.len() > self.capacity / 2 {
            self.evict_one();
        }
    }

    /// The processes that ended and are still remembered, longest dead first.
    pub fn dead(&self) -> impl Iterator<Item = &Process> {
        self.dead.iter().filter_map(|key| self.by_key.get(key))
    }

    /// Identities of processes that an event may still show: those that live or ended after boot time `since_ns`, and
    /// all their ancestors.
    pub fn needed(&self, since_ns: u64) -> HashSet<ProcKey> {
        let mut found = HashSet::new();
        for process in self.iter().filter(|process| process.exit_ns.is_none_or(|exit_ns| exit_ns > since_ns)) {
            let mut next = Some(process);
            // Without a bound on the way, whoever was found has all ancestors found.
            while let Some(process) = next.filter(|process| found.insert(process.key)) {
                next = process.parent.and_then(|parent| self.get(parent));
            }
        }
        found
    }

    /// Puts back a process as it was told: one that ended goes behind those that ended before it.
    pub fn restore(&mut self, process: Process) {
        let known_dead = self.by_key.get(&process.key).is_some_and(|known| known.exit_ns.is_some());
        if process.exit_ns.is_some() && !known_dead {
            self.dead.push_back(process.key);
        }
        self.insert(process);
    }

    /// All processes, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Process> {
        self.by_key.values()
    }

    /// Ancestors of `process`, the parent first, at most [`MAX_ANCESTORS`].
    pub fn ancestors<'t>(&'t self, process: &Process) -> impl Iterator<Item = &'t Process> + use<'t> {
        let mut next = process.parent;
        std::iter::from_fn(move || {
            let process = self.get(next?)?;
            next = process.parent;
            Some(process)
        })
        .take(MAX_ANCESTORS)
    }

    /// Ancestor number `generation`: 0 is the process itself, 1 its parent.
    pub fn ancestor<'t>(&'t self, process: &'t Process, generation: usize) -> Option<&'t Process> {
        match generation {
            0 => Some(process),
            n => self.ancestors(process).nth(n - 1),
        }
    }

    fn evict_one(&mut self) {
        while let Some(key) = self.dead.pop_front() {
            if self.remove(key) {
                return;
            }
        }
        // Nobody is dead: an attacker filled the table with living processes, or it is too small. Any one goes.
        let Some(key) = self.by_key.keys().next().copied() else { return };
        self.remove(key);
        self.evicted += 1;
    }

    fn remove(&mut self, key: ProcKey) -> bool {
        if self.by_pid.get(&key.pid) == Some(&key) {
            self.by_pid.remove(&key.pid);
        }
        let removed = self.by_key.remove(&key);
        self.epoch += u64::from(removed.as_ref().is_some_and(|process| process.stamp.has_children));
        removed.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::process::Image;

    fn process(pid: u32, parent: Option<u32>) -> Process {
        let key = |pid| ProcKey { start_ns: u64::from(pid) + 1, pid };
        Process {
            key: key(pid),
            parent: parent.map(key),
            comm: format!("p{pid}").into_bytes().into(),
            ..Process::default()
        }
    }

    #[test]
    fn argv_is_split_and_joined() {
        let image = Image::from_argv(b"sh\0-c\0echo a  b\0\0");
        assert_eq!(&*image.exe, b"sh");
        assert_eq!(&*image.args, b"-c echo a  b ");
        assert_eq!(image.argv().count(), 4, "an empty argument is one too");
        assert_eq!(Image::from_argv(b"").argv().count(), 0);
        assert_eq!(&*Image::from_argv(b"no-nul").exe, b"no-nul");
    }

    #[test]
    fn ancestors_end_in_a_loop_and_at_the_limit() {
        let mut table = ProcessTable::new(1000);
        table.insert(process(1, Some(2)));
        table.insert(process(2, Some(1)));
        let first = table.by_pid(1).unwrap();
        assert_eq!(table.ancestors(first).count(), MAX_ANCESTORS);
        assert!(table.ancestor(first, 1).is_some_and(|parent| parent.key.pid == 2));
    }

    #[test]
    fn all_that_an_event_may_still_show_is_needed() {
        let mut table = ProcessTable::new(1000);
        for pid in 1..=200 {
            table.insert(process(pid, (pid > 1).then_some(pid - 1)));
        }
        table.insert(process(300, None));
        table.insert(process(301, Some(300)));
        let pids: Vec<u32> = (1..=200).chain([300, 301]).filter(|pid| ![80, 140, 200].contains(pid)).collect();
        for pid in pids {
            let key = table.by_pid(pid).unwrap().key;
            table.end(key, if pid == 301 { 50 } else { 5 });
        }
        // 140 lives and is met at once or from 200, whichever comes first: its ancestors are needed all the same.
        assert_eq!(table.needed(50).len(), 200, "a long line is needed as a whole, and nobody else");
        assert_eq!(table.needed(49).len(), 202, "who ended a moment ago is, with its parent");
    }

    #[test]
    fn a_process_that_ended_keeps_its_place_among_the_dead_under_its_exact_start() {
        let mut table = ProcessTable::new(10);
        let tick = ProcKey { start_ns: 3 * TICK_NS, pid: 9 };
        let exact = ProcKey { start_ns: 3 * TICK_NS + 5, pid: 9 };
        table.insert(Process { key: tick, ..Process::default() });
        table.end(tick, 7);
        table.rekey(exact);
        let mut again = ProcessTable::new(10);
        table.dead().for_each(|process| again.restore(process.clone()));
        table.dead().for_each(|process| again.restore(process.clone()));
        let keys = |table: &ProcessTable| table.dead().map(|process| process.key).collect::<Vec<_>>();
        assert_eq!((keys(&table), keys(&again)), (vec![exact], vec![exact]));
    }

    #[test]
    fn stamps_and_epochs_tell_of_every_change() {
        let mut table = ProcessTable::new(1000);
        table.insert(process(1, None));
        table.insert_forked(process(2, Some(1)));
        table.insert_forked(process(3, Some(2)));
        let key = |pid| process(pid, None).key;
        let state = |table: &ProcessTable, pid| {
            let process = table.get(key(pid)).unwrap();
            (process.stamp.number(), table.lineage(process))
        };
        let (two, three, epoch) = (state(&table, 2), state(&table, 3), table.epoch());
        assert_ne!(two.0, three.0);
        // A change of one without descendants concerns nobody else.
        table.get_mut(key(3)).unwrap().tty = 1;
        assert_ne!(state(&table, 3).0, three.0);
        assert_eq!((state(&table, 2), table.epoch()), (two, epoch));
        // A change of an ancestor is seen in the lineage of its descendants, and in the epoch.
        let three = state(&table, 3);
        table.get_mut(key(1)).unwrap().tty = 1;
        assert!(table.epoch() > epoch);
        assert_eq!((state(&table, 2).0, state(&table, 3).0), (two.0, three.0));
        assert_ne!(state(&table, 2).1, two.1);
        assert_ne!(state(&table, 3).1, three.1);
        // An end changes nothing that a field asks for; that an ancestor is forgotten does.
        let (three, epoch) = (state(&table, 3), table.epoch());
        table.end(key(2), 9);
        assert_eq!((state(&table, 3), table.epoch()), (three, epoch));
        table.remove(key(2));
        assert!(table.epoch() > epoch);
        assert_ne!(state(&table, 3).1, three.1);
        // One that had been missing, and comes late.
        let (three, epoch) = (state(&table, 3), table.epoch());
        table.insert(process(2, Some(1)));
        assert!(table.epoch() > epoch);
        assert_ne!(state(&table, 3).1, three.1);
    }

    #[test]
    fn the_dead_keep_little_memory() {
        let mut table = ProcessTable::new(10);
        let mut long = process(5, None);
        long.image = Arc::new(Image::from_argv(&[b'x'; 4000]));
        long.rebuild_cmdline();
        let key = long.key;
        table.insert(long);
        table.end(key, 9);
        let dead = table.get(key).unwrap();
        assert!(dead.cmdline.len() <= 600 && dead.image.argv_truncated && dead.exit_ns == Some(9));
    }

    #[test]
    fn a_start_known_to_the_tick_matches_the_exact_one() {
        let tick = ProcKey { start_ns: 50_000_000, pid: 9 };
        assert!(tick.is_same(ProcKey { start_ns: 50_000_123, pid: 9 }));
        assert!(!tick.is_same(ProcKey { start_ns: 60_000_000, pid: 9 }));
        assert!(!ProcKey { start_ns: 50_000_001, pid: 9 }.is_same(ProcKey { start_ns: 50_000_123, pid: 9 }));
    }
}
