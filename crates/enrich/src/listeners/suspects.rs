//! Sockets that a look saw and nobody told of, by network namespace: one that is there the next time too was missed.

use std::collections::{HashMap, HashSet};

/// Sockets remembered; the namespace that has the most loses all of its own.
pub(crate) const MAX: usize = 8_192;
/// Sockets remembered of one namespace; what comes behind them is seen again once these are believed.
const MAX_OF_PLACE: usize = 1_024;

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    places: HashMap<u32, HashSet<u64>>,
    len: usize,
    evicted: u64,
}

impl Suspects {
    /// One more.
    pub(crate) fn add(&mut self, netns: u32, ino: u64) {
        if self.len >= MAX
            && let Some((_, most)) = self.places.iter().map(|(netns, of_it)| (of_it.len(), *netns)).max()
        {
            self.evicted += self.take(most).len() as u64;
        }
        let of_it = self.places.entry(netns).or_default();
        if of_it.len() >= MAX_OF_PLACE {
            self.evicted += 1;
        } else if of_it.insert(ino) {
            self.len += 1;
        }
    }

    /// Forgets those of a namespace, and returns them.
    pub(crate) fn take(&mut self, netns: u32) -> HashSet<u64> {
        let of_it = self.places.remove(&netns).unwrap_or_default();
        self.len -= of_it.len();
        of_it
    }

    /// Forgets those of namespaces that are no more.
    pub(crate) fn keep(&mut self, is_there: impl Fn(u32) -> bool) {
        self.places.retain(|netns, _| is_there(*netns));
        self.len = self.places.values().map(HashSet::len).sum();
    }

    /// Sockets remembered.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Sockets for which there was no room.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_many_makes_room_for_those_who_have_few() {
        let mut suspects = Suspects::default();
        suspects.add(1, 1);
        for place in 2..20 {
            for ino in 0..2_000 {
                suspects.add(place, u64::from(place) * 10_000 + ino);
            }
            assert!(suspects.len() <= MAX);
            assert!(suspects.places.values().all(|of_it| of_it.len() <= MAX_OF_PLACE));
        }
        let counted: usize = suspects.places.values().map(HashSet::len).sum();
        assert_eq!((suspects.len(), suspects.len() as u64 + suspects.evicted()), (counted, 36_001));
        suspects.keep(|netns| netns == 1);
        assert_eq!((suspects.len(), suspects.take(1), suspects.take(1).len()), (1, [1].into(), 0));
        assert_eq!(suspects.len(), 0);
    }
}
