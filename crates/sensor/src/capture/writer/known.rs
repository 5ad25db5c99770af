//! Whom a capture was told of already. Readers follow processes by what is told of them; who acts without having been
//! told would have no name.

use hashbrown::HashMap;
use tw_model::ProcKey;

/// Most threads that are remembered.
const MAX: usize = 131_072;

/// Threads that were told, by number.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The process that a thread belongs to.
    threads: HashMap<u32, ProcKey, foldhash::fast::RandomState>,
    /// Threads of a process beside its first.
    others: HashMap<u32, Vec<u32>, foldhash::fast::RandomState>,
    /// How often everything had to be forgotten for want of room.
    pub forgotten: u64,
}

impl Known {
    /// Whether this thread was told as one of this process.
    pub(super) fn has(&self, tid: u32, key: ProcKey) -> bool {
        self.threads.get(&tid).is_some_and(|known| known.is_same(key))
    }

    /// Takes a thread. When there is no room, all are forgotten: they are told again when they act.
    pub(super) fn add(&mut self, tid: u32, key: ProcKey) {
        if self.threads.len() >= MAX {
            self.threads.clear();
            self.others.clear();
            self.forgotten += 1;
        }
        self.threads.insert(tid, key);
        if tid != key.pid {
            let others = self.others.entry(key.pid).or_default();
            if !others.contains(&tid) {
                others.push(tid);
            }
        }
    }

    /// Forgets a process that ended; its threads beside the first.
    pub(super) fn end(&mut self, pid: u32) -> Vec<u32> {
        let others = self.others.remove(&pid).unwrap_or_default();
        for tid in others.iter().chain([&pid]) {
            self.threads.remove(tid);
        }
        others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_another_process_has_is_not_known_and_ends_take_threads_along() {
        let (first, second) = (ProcKey { start_ns: 1, pid: 7 }, ProcKey { start_ns: 2_000_000_000, pid: 7 });
        let mut known = Known::default();
        known.add(7, first);
        known.add(8, first);
        known.add(8, first);
        assert!(known.has(7, first) && known.has(8, first) && !known.has(7, second));
        assert_eq!(known.end(7), [8]);
        assert!(!known.has(7, first) && !known.has(8, first));
    }

    #[test]
    fn the_table_is_bounded() {
        let mut known = Known::default();
        for pid in 1..=MAX as u32 + 1 {
            known.add(pid, ProcKey { start_ns: 1, pid });
        }
        assert_eq!((known.threads.len(), known.forgotten), (1, 1));
    }
}
