//! From bytes to records: one pass over a segment that finds every record that can be read, and knows which numbers
//! are missing. It holds a window of the file, so that a segment of any size takes little memory.
//!
//! After a record that does not check it goes on behind it if the record there is exactly the next one; else it looks
//! for the next record byte by byte.

use std::io::{self, Read};
use std::ops::{Range, RangeInclusive};

use super::format::{HEADER, Header, Look, MAX_SEQ, PREFIX, look};

/// Bytes read at once.
const CHUNK: usize = 128 * 1024;
/// Bytes whose checksum may be computed in one search; more is a segment made to waste time, and the rest is given up.
const SEARCH: u64 = 64 << 20;

/// A pass over the records of one segment.
#[derive(Debug)]
pub(super) struct Walk<R> {
    source: R,
    window: Vec<u8>,
    /// Where in the window the next record is expected.
    start: usize,
    /// Where in the file the window starts.
    base: u64,
    /// Where in the file the records end.
    limit: u64,
    /// The file ended before its limit.
    dry: bool,
    /// Looking for a record byte by byte.
    lost: bool,
    spent: u64,
    next: u64,
    last: u64,
    good_end: u64,
}

/// One step of a pass.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Numbers that were passed over because their records cannot be read.
    pub missing: Option<RangeInclusive<u64>>,
    /// The record: its number, and where in the window its payload is. None at the end.
    pub record: Option<(u64, Range<usize>)>,
}

enum Found {
    Record {
        at: usize,
        seq: u64,
        payload: Range<usize>,
    },
    Lost,
    /// This many bytes are of no use; more are needed.
    More(usize),
    Nothing,
}

impl<R: Read> Walk<R> {
    /// A pass over `source`, which stands at `base`, the place of the first record in the file. The records end at
    /// `limit` and have the numbers `first` to `last`.
    pub fn new(source: R, base: u64, limit: u64, first: u64, last: u64) -> Self {
        let (window, start, good_end) = (Vec::new(), 0, base);
        Self { source, window, start, base, limit, dry: false, lost: false, spent: 0, next: first, last, good_end }
    }

    /// The segment grew. Never shrinks.
    pub fn extend(&mut self, limit: u64, last: u64) {
        if limit > self.limit {
            (self.limit, self.dry) = (limit, false);
        }
        self.last = self.last.max(last);
    }

    /// The number that the next record has if nothing is missing.
    pub fn expected(&self) -> u64 {
        self.next
    }

    /// Where in the file the last record that could be read ends.
    pub fn good_end(&self) -> u64 {
        self.good_end
    }

    /// Bytes of the last step's payload.
    pub fn payload(&self, place: Range<usize>) -> &[u8] {
        self.window.get(place).unwrap_or_default()
    }

    /// The next record that can be read, or the end.
    pub fn step(&mut self) -> io::Result<Step> {
        loop {
            let whole = self.dry || self.base + self.window.len() as u64 >= self.limit;
            match self.find(whole) {
                Found::Record { at, seq, payload } => {
                    let missing = (seq > self.next).then(|| self.next..=seq - 1);
                    (self.next, self.lost) = (seq + 1, false);
                    let shift = self.start + at;
                    let payload = shift + payload.start - at..shift + payload.end - at;
                    self.start = payload.end;
                    self.good_end = self.base + payload.end as u64;
                    return Ok(Step { missing, record: Some((seq, payload)) });
                }
                Found::Lost => (self.lost, self.spent) = (true, 0),
                Found::More(useless) => {
                    self.start += useless;
                    self.fill()?;
                }
                Found::Nothing => {
                    self.start = self.window.len();
                    if !whole {
                        self.fill()?;
                        continue;
                    }
                    let missing = (self.next <= self.last).then_some(self.next..=self.last);
                    (self.next, self.lost) = (self.next.max(self.last.saturating_add(1)), false);
                    return Ok(Step { missing, record: None });
                }
            }
        }
    }

    fn find(&mut self, whole: bool) -> Found {
        let bytes = &self.window[self.start..];
        if bytes.is_empty() {
            return if whole { Found::Nothing } else { Found::More(0) };
        }
        let numbers = self.next..=self.last;
        if self.lost {
            return search(bytes, whole, &numbers, &mut self.spent);
        }
        match look(bytes, 0, &numbers, &mut 0) {
            Look::Record { seq, payload } => Found::Record { at: 0, seq, payload },
            Look::Short if whole => Found::Lost,
            Look::Short => Found::More(0),
            Look::Bad { hop: None } => Found::Lost,
            Look::Bad { hop: Some(hop) } => match look(bytes, hop, &numbers, &mut 0) {
                // Anything else than the very next number may lie behind a length that is wrong.
                Look::Record { seq, payload } if seq == self.next + 1 => Found::Record { at: hop, seq, payload },
                Look::Short if !whole => Found::More(0),
                _ => Found::Lost,
            },
        }
    }

    /// Drops what was used, and reads at least one byte more unless the file ends.
    fn fill(&mut self) -> io::Result<()> {
        self.window.drain(..self.start);
        self.base += self.start as u64;
        self.start = 0;
        let have = self.window.len();
        let wanted = self.limit.saturating_sub(self.base + have as u64).min(CHUNK as u64);
        (&mut self.source).take(wanted).read_to_end(&mut self.window)?;
        self.dry = self.window.len() == have;
        Ok(())
    }
}

fn search(bytes: &[u8], whole: bool, numbers: &RangeInclusive<u64>, spent: &mut u64) -> Found {
    for at in 0..bytes.len() {
        if *spent > SEARCH {
            return Found::Nothing;
        }
        if bytes.len() - at < PREFIX {
            return if whole { Found::Nothing } else { Found::More(at) };
        }
        match look(bytes, at, numbers, spent) {
            Look::Record { seq, payload } => return Found::Record { at, seq, payload },
            Look::Short if !whole => return Found::More(at),
            Look::Short | Look::Bad { .. } => {}
        }
    }
    Found::Nothing
}

/// What can be read of a segment's bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Whether the header is intact.
    pub header: bool,
    /// Records: number and payload.
    pub records: Vec<(u64, Vec<u8>)>,
    /// Numbers in front of or between the records whose records cannot be read.
    pub missing: u64,
    /// Where the last record that can be read ends.
    pub good_end: u64,
}

/// Highest number that a segment of this many bytes, starting with `first`, can hold.
pub(super) fn highest(first: u64, bytes: u64) -> u64 {
    first.saturating_add(bytes / PREFIX as u64).min(MAX_SEQ)
}

/// Reads the bytes of a segment as if it were the last one of its lane. `first` is the number of its first record if
/// the header does not tell; a segment's name has it.
pub fn parse(bytes: &[u8], first: u64) -> Parsed {
    parse_from(bytes, first, bytes.get(HEADER..).unwrap_or_default())
}

fn parse_from(bytes: &[u8], first: u64, source: impl Read) -> Parsed {
    let header = Header::decode(bytes);
    let first = header.map_or(first, |header| header.first);
    let length = bytes.len() as u64;
    let mut parsed = Parsed { header: header.is_ok(), ..Parsed::default() };
    let mut walk = Walk::new(source, HEADER as u64, length, first, highest(first, length));
    // Reading from memory does not fail.
    while let Ok(Step { missing, record: Some((seq, payload)) }) = walk.step() {
        parsed.missing += missing.map_or(0, |missing| missing.end() - missing.start() + 1);
        parsed.records.push((seq, walk.payload(payload).to_vec()));
    }
    parsed.good_end = walk.good_end();
    parsed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::format::encode_record;
    use super::*;

    /// A source that gives a few bytes at a time.
    struct Drops<'a>(&'a [u8], usize);

    impl Read for Drops<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(buffer.len());
            self.0.read(&mut buffer[..length])
        }
    }

    fn segment(payloads: &[Vec<u8>]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Header { first: 1, follows: 0, created_ns: 0 }.encode();
        let mut starts = vec![bytes.len()];
        for (payload, seq) in payloads.iter().zip(1..) {
            encode_record(seq, payload, &mut bytes);
            starts.push(bytes.len());
        }
        (bytes, starts)
    }

    fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..12)
    }

    proptest! {
        #[test]
        fn one_damaged_byte_costs_exactly_its_record(payloads in payloads(), at in any::<prop::sample::Index>(), to in 1u8..) {
            let (mut bytes, starts) = segment(&payloads);
            let at = at.index(bytes.len());
            bytes[at] ^= to;
            let parsed = parse(&bytes, 1);
            let hit = starts.windows(2).position(|pair| (pair[0]..pair[1]).contains(&at));
            prop_assert_eq!(parsed.header, hit.is_some());
            let wanted: Vec<(u64, Vec<u8>)> =
                (1..).zip(payloads).enumerate().filter(|(index, _)| hit != Some(*index)).map(|(_, record)| record).collect();
            prop_assert_eq!(parsed.missing, u64::from(hit.is_some_and(|hit| hit as u64 != starts.len() as u64 - 2)));
            prop_assert_eq!(parsed.records, wanted);
        }

        #[test]
        fn garbage_between_records_costs_none(payloads in payloads(), junk in prop::collection::vec(any::<u8>(), 1..50)) {
            let (mut bytes, starts) = segment(&payloads);
            let at = starts[payloads.len() / 2];
            bytes.splice(at..at, junk);
            let parsed = parse(&bytes, 1);
            prop_assert_eq!(parsed.missing, 0);
            prop_assert_eq!(parsed.records.len(), payloads.len());
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), first in any::<u64>()) {
            let parsed = parse(&bytes, first);
            prop_assert!(parsed.good_end <= bytes.len().max(HEADER) as u64);
        }

        #[test]
        fn few_small_reads_find_the_same(payloads in payloads(), hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6), step in 1usize..40) {
            let (mut bytes, _) = segment(&payloads);
            for (at, to) in hits {
                let at = at.index(bytes.len());
                bytes[at] = to;
            }
            let slowly = parse_from(&bytes, 1, Drops(&bytes[HEADER..], step));
            prop_assert_eq!(slowly, parse(&bytes, 1));
        }
    }

    #[test]
    fn records_larger_than_the_window_are_read_and_found_again() {
        let payloads = vec![vec![7; super::super::format::MAX_PAYLOAD], vec![8; 300_000], vec![9; 10]];
        let (mut bytes, starts) = segment(&payloads);
        assert_eq!(parse(&bytes, 1).records.len(), 3);
        bytes[starts[0] + 6] = 0xff;
        let parsed = parse(&bytes, 1);
        assert_eq!(parsed.records.iter().map(|record| record.0).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(parsed.missing, 1);
    }

    #[test]
    fn a_wrong_length_that_points_to_a_later_record_skips_none_between() {
        let (mut bytes, starts) = segment(&vec![vec![b'x'; 48]; 4]);
        bytes[starts[0] + 4] ^= 64;
        assert_eq!(starts[2] - starts[0], PREFIX + (48 ^ 64));
        let parsed = parse(&bytes, 1);
        assert_eq!(parsed.records.iter().map(|record| record.0).collect::<Vec<_>>(), [2, 3, 4]);
    }

    #[test]
    fn a_segment_made_to_waste_time_is_given_up() {
        // Each 16 bytes claim to be a record of the longest kind with a number that may come.
        let mut bytes = Header { first: 1, follows: 0, created_ns: 0 }.encode();
        for _ in 0..200_000 {
            bytes.extend([0, 0, 0, 0, 0, 0, 16, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        }
        assert_eq!(parse(&bytes, 1).records.len(), 0);
    }
}
