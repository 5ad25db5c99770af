//! Reads a lane from a number on, beside the writer: only what is published, over its own file handle.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::ops::RangeInclusive;
use std::sync::Arc;

use tw_model::status::SpoolLane;

use super::error::SpoolError;
use super::format::HEADER;
use super::ledger::Shared;
use super::walk::{Step, Walk};

/// An independent reader of one lane.
///
/// Segments may vanish beneath it, because they were acknowledged or given up: it goes on with the next one, and the
/// gap shows in the numbers. Records that cannot be read are passed over and counted.
#[derive(Debug)]
pub struct SpoolReader {
    shared: Arc<Shared>,
    next: u64,
    open: Option<Open>,
    corrupt: u64,
}

#[derive(Debug)]
struct Open {
    first: u64,
    walk: Walk<File>,
}

impl SpoolReader {
    pub(super) fn new(shared: Arc<Shared>, after: u64) -> Self {
        Self { shared, next: after.saturating_add(1), open: None, corrupt: 0 }
    }

    /// The lane.
    pub fn lane(&self) -> SpoolLane {
        self.shared.lane
    }

    /// Records that this reader found to be unreadable and that nobody had found before.
    pub fn corrupt(&self) -> u64 {
        self.corrupt
    }

    /// The next record: number and payload. `None` if there is none yet; more may come.
    ///
    /// # Errors
    /// If a segment cannot be opened, for example because the process has too many files open. The reader stays where
    /// it is, and asking again is right. A segment that is gone or cannot be read is not an error: it is passed over.
    pub fn read(&mut self) -> Result<Option<(u64, Vec<u8>)>, SpoolError> {
        loop {
            let (first, end, length) = {
                let ledger = self.shared.ledger();
                self.next = self.next.max(ledger.marks.floor + 1);
                let Some(segment) = ledger.segments.iter().find(|segment| segment.end >= self.next) else {
                    return Ok(None);
                };
                (segment.first, segment.end, segment.length)
            };
            if self.open.as_ref().is_none_or(|open| open.first != first) {
                self.open = None;
                let path = self.shared.segment(first);
                match File::open(&path).and_then(|mut file| file.seek(SeekFrom::Start(HEADER as u64)).map(|_| file)) {
                    Ok(file) => {
                        let walk = Walk::new(file, HEADER as u64, length, first, end);
                        self.open = Some(Open { first, walk });
                    }
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                        self.pass_over(first, self.next..=end);
                        self.next = end + 1;
                        continue;
                    }
                    Err(e) => return Err(SpoolError::io("open", &path, e)),
                }
            }
            let Some(open) = &mut self.open else { continue };
            open.walk.extend(length, end);
            let expected = open.walk.expected();
            // What the disk refuses to read is as good as damaged.
            let step = open.walk.step().ok();
            match step {
                Some(Step { missing, record: Some((seq, place)) }) => {
                    let wanted = (seq >= self.next).then(|| open.walk.payload(place).to_vec());
                    if let Some(missing) = missing {
                        self.pass_over(first, missing);
                    }
                    if let Some(payload) = wanted {
                        self.next = seq + 1;
                        let mut ledger = self.shared.ledger();
                        ledger.handed = ledger.handed.max(seq);
                        return Ok(Some((seq, payload)));
                    }
                }
                Some(Step { record: None, .. }) => {
                    self.pass_over(first, expected..=end);
                    self.next = end + 1;
                }
                None => {
                    self.open = None;
                    self.pass_over(first, expected..=end);
                    self.next = end + 1;
                }
            }
        }
    }

    fn pass_over(&mut self, first: u64, range: RangeInclusive<u64>) {
        let mut ledger = self.shared.ledger();
        let before = ledger.corrupt();
        if let Some(segment) = ledger.segments.iter_mut().find(|segment| segment.first == first) {
            segment.note_bad(range);
        }
        self.corrupt += ledger.corrupt() - before;
    }
}
