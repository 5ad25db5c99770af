//! What is known of a lane: its segments, its numbers, its losses. The writer and the readers share it.
//!
//! A number is settled once its record is acknowledged, dropped or known to be corrupt and passed by one of the former.
//! `floor` is the highest settled number; what lies above it is counted anew from the files at each start, so that no
//! loss is counted twice and none is forgotten.
//!
//! **Never:** a file. The lock is held for moments only.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tw_model::status::{SpoolLane, SpoolLaneStatus};

use super::cursor::Marks;

/// One segment, as far as it is published.
#[derive(Clone, Debug, Default)]
pub(super) struct Segment {
    /// Number of its first record: its name.
    pub first: u64,
    /// Highest number given out in it, or in front of the next segment.
    pub end: u64,
    /// Bytes that may be read.
    pub length: u64,
    /// Numbers whose records cannot be read: ascending, apart.
    pub bad: Vec<RangeInclusive<u64>>,
}

impl Segment {
    /// How many numbers above `floor` and up to `top` are bad.
    pub fn bad_between(&self, floor: u64, top: u64) -> u64 {
        self.bad.iter().map(|bad| count(*bad.start().max(&(floor + 1)), *bad.end().min(&top))).sum()
    }

    /// Takes note of numbers that cannot be read. Returns how many of them are new.
    pub fn note_bad(&mut self, range: RangeInclusive<u64>) -> u64 {
        let before = self.bad_between(0, u64::MAX);
        let (mut start, mut end) = (*range.start().max(&self.first), *range.end().min(&self.end));
        if start > end {
            return 0;
        }
        self.bad.retain(|bad| {
            let apart = *bad.end() + 1 < start || end + 1 < *bad.start();
            if !apart {
                (start, end) = (start.min(*bad.start()), end.max(*bad.end()));
            }
            apart
        });
        let place = self.bad.partition_point(|bad| *bad.start() < start);
        self.bad.insert(place, start..=end);
        self.bad_between(0, u64::MAX) - before
    }
}

/// Numbers from `first` to `last`; none if they are the wrong way round.
pub(super) fn count(first: u64, last: u64) -> u64 {
    if last < first { 0 } else { last - first + 1 }
}

/// A lane's books.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    /// Oldest first. The last one is the one that is written.
    pub segments: VecDeque<Segment>,
    /// As they are to be in the cursor file.
    pub marks: Marks,
    /// Highest number that a reader gave out since the spool was opened.
    pub handed: u64,
}

impl Ledger {
    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.length).sum()
    }

    /// Records that could not be read: settled ones, and those that still wait.
    pub fn corrupt(&self) -> u64 {
        let floor = self.marks.floor;
        self.marks.corrupt + self.segments.iter().map(|segment| segment.bad_between(floor, u64::MAX)).sum::<u64>()
    }

    /// Everything up to `seq` is acknowledged.
    pub fn ack(&mut self, seq: u64) {
        self.marks.acked = self.marks.acked.max(seq);
        self.raise_floor(seq);
    }

    /// Everything up to `seq` is given up.
    pub fn give_up(&mut self, seq: u64) {
        let floor = self.marks.floor;
        let held = self.segments.iter().map(|segment| count(segment.first.max(floor + 1), segment.end.min(seq)));
        let bad = self.segments.iter().map(|segment| segment.bad_between(floor, seq));
        self.marks.dropped += held.sum::<u64>() - bad.sum::<u64>();
        self.raise_floor(seq);
    }

    fn raise_floor(&mut self, seq: u64) {
        let floor = self.marks.floor;
        if seq > floor {
            let bad = self.segments.iter().map(|segment| segment.bad_between(floor, seq));
            self.marks.corrupt += bad.sum::<u64>();
            self.marks.floor = seq;
        }
    }

    /// Takes note of a segment's new length and end, or of a new segment.
    pub fn publish(&mut self, first: u64, end: u64, length: u64) {
        match self.segments.back_mut().filter(|last| last.first == first) {
            Some(last) => (last.end, last.length) = (end, length),
            None => self.segments.push_back(Segment { first, end, length, bad: Vec::new() }),
        }
        self.marks.newest = self.marks.newest.max(end);
    }

    /// The published end and length of the segment with this name.
    pub fn published(&self, first: u64) -> Option<(u64, u64)> {
        self.segments.iter().find(|segment| segment.first == first).map(|segment| (segment.end, segment.length))
    }

    /// Names of the segments, but not the last one, in which everything is settled.
    pub fn settled(&self) -> Vec<u64> {
        let closed = self.segments.len().saturating_sub(1);
        let settled = self.segments.iter().take(closed).take_while(|segment| segment.end <= self.marks.floor);
        settled.map(|segment| segment.first).collect()
    }

    pub fn status(&self, lane: SpoolLane) -> SpoolLaneStatus {
        let Marks { acked, newest, dropped, .. } = self.marks;
        SpoolLaneStatus { lane, newest, acked, bytes: self.bytes(), dropped, corrupt: self.corrupt() }
    }
}

/// What the writer and the readers of a lane share.
#[derive(Debug)]
pub(super) struct Shared {
    pub lane: SpoolLane,
    pub folder: PathBuf,
    ledger: Mutex<Ledger>,
}

impl Shared {
    pub fn new(lane: SpoolLane, folder: PathBuf, ledger: Ledger) -> Self {
        Self { lane, folder, ledger: Mutex::new(ledger) }
    }

    /// The books, for a moment.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Nothing panics while it holds the lock; should it, the numbers are still right.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Path of the segment with this name.
    pub fn segment(&self, first: u64) -> PathBuf {
        segment_path(&self.folder, first)
    }
}

/// Path of a segment: its name is the number of its first record.
pub(super) fn segment_path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}.seg"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_numbers_are_counted_once_however_often_they_are_noted() {
        let mut segment = Segment { first: 10, end: 30, ..Segment::default() };
        assert_eq!(segment.note_bad(12..=14), 3);
        assert_eq!(segment.note_bad(13..=16), 2);
        assert_eq!(segment.note_bad(20..=99), 11);
        assert_eq!(segment.note_bad(1..=10), 1);
        assert_eq!(segment.note_bad(11..=19), 4);
        assert_eq!(segment.bad, [10..=30]);
    }

    #[test]
    fn what_is_dropped_what_is_corrupt_and_what_is_acknowledged_are_told_apart() {
        let mut ledger = Ledger::default();
        ledger.publish(1, 10, 100);
        ledger.publish(11, 20, 100);
        ledger.segments[0].note_bad(3..=3);
        ledger.segments[0].note_bad(7..=8);
        assert_eq!(ledger.corrupt(), 3);
        ledger.ack(4);
        ledger.give_up(10);
        assert_eq!((ledger.marks.dropped, ledger.corrupt(), ledger.marks.acked, ledger.marks.floor), (4, 3, 4, 10));
        assert_eq!(ledger.settled(), [1]);
        ledger.ack(10);
        assert_eq!((ledger.marks.dropped, ledger.corrupt()), (4, 3));
    }
}
