//! The writer of one lane: the segment that grows, the cursor file, what is removed.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::cursor::CursorFile;
use super::error::SpoolError;
use super::format::{HEADER, Header, MAX_SEQ, PREFIX, encode_record};
use super::ledger::Shared;

/// How far beyond the newest number an acknowledgement may lie and still be taken for one of an earlier spool.
const FARTHEST: u64 = 1 << 32;
/// Memory kept between batches.
const KEPT_BUFFER: usize = 1 << 20;

/// The segment that grows.
#[derive(Debug)]
pub(super) struct Active {
    pub file: File,
    pub first: u64,
    /// Highest number in it, `first - 1` if there is none.
    pub end: u64,
    pub length: u64,
    /// Something went wrong with it: the next record goes into a new one.
    pub sealed: bool,
    /// Something may lie behind its length that must be cut off first.
    pub torn: bool,
}

impl Active {
    fn is_empty(&self) -> bool {
        self.end < self.first
    }
}

#[derive(Debug)]
pub(super) struct Lane {
    pub shared: Arc<Shared>,
    /// The folder, to sync it.
    pub folder: File,
    pub cursor: CursorFile,
    /// None until the first record.
    pub active: Option<Active>,
    /// Newest number when the spool was opened.
    pub found_newest: u64,
    pub sync: bool,
    /// The cursor file is behind the books.
    pub stale: bool,
    pub buffer: Vec<u8>,
}

impl Lane {
    /// Bytes that records take on disk, if each got a segment of its own at worst.
    pub fn most_bytes<P: AsRef<[u8]>>(payloads: &[P], segment_bytes: u64) -> u64 {
        let records: u64 = payloads.iter().map(|payload| (PREFIX + payload.as_ref().len()) as u64).sum();
        // Two neighbouring segments together hold more than one segment's bytes.
        let segments = 2 * records / segment_bytes.max(1) + 2;
        records + segments.min(payloads.len() as u64 + 1) * HEADER as u64
    }

    /// Appends records: all or none. Returns the number of the first.
    pub fn append<P: AsRef<[u8]>>(&mut self, payloads: &[P], segment_bytes: u64) -> Result<u64, SpoolError> {
        let newest = self.shared.ledger().marks.newest;
        if payloads.len() as u64 > MAX_SEQ.saturating_sub(newest) {
            return Err(SpoolError::Exhausted(self.shared.lane));
        }
        let mut full = Vec::new();
        match self.write(payloads, newest + 1, segment_bytes, &mut full) {
            Ok(()) => {
                let mut ledger = self.shared.ledger();
                for segment in full.iter().chain(&self.active) {
                    ledger.publish(segment.first, segment.end, segment.length);
                }
                Ok(newest + 1)
            }
            Err(error) => {
                self.take_back(full);
                Err(error)
            }
        }
    }

    /// Writes and syncs; segments that are left behind go into `full`. Nothing is published.
    fn write<P: AsRef<[u8]>>(
        &mut self,
        mut payloads: &[P],
        mut seq: u64,
        segment_bytes: u64,
        full: &mut Vec<Active>,
    ) -> Result<(), SpoolError> {
        self.cut()?;
        while let Some(payload) = payloads.first() {
            let least = (PREFIX + payload.as_ref().len()) as u64;
            let fits = |active: &Active| active.is_empty() || !active.sealed && active.length + least <= segment_bytes;
            if !self.active.as_ref().is_some_and(fits) {
                full.extend(self.active.take());
                self.active = Some(self.create(seq, seq - 1)?);
            }
            let Some(active) = &mut self.active else { break };
            self.buffer.clear();
            let mut taken = 0;
            for payload in payloads {
                let length = active.length + (self.buffer.len() + PREFIX + payload.as_ref().len()) as u64;
                if length > segment_bytes && (taken > 0 || !active.is_empty()) {
                    break;
                }
                encode_record(seq + taken, payload.as_ref(), &mut self.buffer);
                taken += 1;
            }
            let path = self.shared.segment(active.first);
            active.file.write_all_at(&self.buffer, active.length).map_err(|e| SpoolError::io("write", &path, e))?;
            if self.sync {
                active.file.sync_data().map_err(|e| SpoolError::io("sync", &path, e))?;
            }
            active.length += self.buffer.len() as u64;
            active.end = seq + taken - 1;
            seq += taken;
            payloads = &payloads[taken as usize..];
        }
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BUFFER);
        Ok(())
    }

    /// After a failed batch: what was published stays, everything else goes.
    fn take_back(&mut self, mut touched: Vec<Active>) {
        touched.extend(self.active.take());
        for mut segment in touched {
            let published = self.shared.ledger().published(segment.first);
            match published {
                Some((end, length)) => {
                    (segment.end, segment.length, segment.sealed, segment.torn) = (end, length, true, true);
                    self.active = Some(segment);
                }
                None => {
                    // If it stays, the next segment with this name overwrites it.
                    let _ = fs::remove_file(self.shared.segment(segment.first));
                }
            }
        }
        // If this fails it is tried again before the next record.
        let _ = self.cut();
    }

    /// Cuts off what lies behind the published end.
    fn cut(&mut self) -> Result<(), SpoolError> {
        if let Some(active) = self.active.as_mut().filter(|active| active.torn) {
            let path = self.shared.segment(active.first);
            active.file.set_len(active.length).map_err(|e| SpoolError::io("cut", &path, e))?;
            active.torn = false;
        }
        Ok(())
    }

    /// Creates a segment, durably if need be.
    fn create(&self, first: u64, follows: u64) -> Result<Active, SpoolError> {
        let path = self.shared.segment(first);
        let made = || -> Result<File, (&'static str, std::io::Error)> {
            // A file of this name can only be a remainder without any published record.
            let options = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path);
            let file = options.map_err(|e| ("create", e))?;
            let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let header = Header { first, follows, created_ns: created.as_nanos() as u64 };
            file.write_all_at(&header.encode(), 0).map_err(|e| ("write", e))?;
            if self.sync {
                file.sync_all().map_err(|e| ("sync", e))?;
                self.folder.sync_all().map_err(|e| ("sync the folder of", e))?;
            }
            Ok(file)
        };
        match made() {
            Ok(file) => Ok(Active { file, first, end: first - 1, length: HEADER as u64, sealed: false, torn: false }),
            Err((doing, error)) => {
                let _ = fs::remove_file(&path);
                Err(SpoolError::io(doing, &path, error))
            }
        }
    }

    /// Goes on in a new segment that starts with `first`, and publishes that.
    fn roll(&mut self, first: u64, follows: u64) -> Result<(), SpoolError> {
        self.cut()?;
        let active = self.create(first, follows)?;
        self.shared.ledger().publish(first, first - 1, active.length);
        self.active = Some(active);
        Ok(())
    }

    /// See [`super::Spool::ack`].
    pub fn ack(&mut self, seq: u64) -> Result<u64, SpoolError> {
        let (marks, handed) = {
            let ledger = self.shared.ledger();
            (ledger.marks, ledger.handed)
        };
        let mut believed = seq;
        if seq > self.found_newest.max(handed) {
            // Of an earlier spool of this host. What was here at the start may be among it; what came since is not.
            believed = self.found_newest;
            if seq > marks.newest {
                if seq - marks.newest > FARTHEST || seq >= MAX_SEQ {
                    return Err(SpoolError::Ahead { lane: self.shared.lane, seq, newest: marks.newest });
                }
                self.roll(seq + 1, marks.newest)?;
                self.stale = true;
            }
        }
        if believed > marks.acked || self.stale {
            self.shared.ledger().ack(believed);
            self.settle()?;
        }
        Ok(marks.acked.max(believed))
    }

    /// Gives up the oldest segment. False if there is nothing to give up.
    pub fn drop_oldest(&mut self) -> Result<bool, SpoolError> {
        let (segments, end, newest) = {
            let ledger = self.shared.ledger();
            let Some(oldest) = ledger.segments.front() else { return Ok(false) };
            (ledger.segments.len(), oldest.end, ledger.marks.newest)
        };
        if segments == 1 {
            if self.active.as_ref().is_some_and(Active::is_empty) {
                return Ok(false);
            }
            self.roll(newest + 1, newest)?;
        }
        self.shared.ledger().give_up(end);
        self.settle()?;
        Ok(true)
    }

    /// Number of segments.
    pub fn segments(&self) -> usize {
        self.shared.ledger().segments.len()
    }

    /// Brings the cursor file up to date, then removes the segments in which everything is settled.
    pub fn settle(&mut self) -> Result<(), SpoolError> {
        self.stale = true;
        match self.remember() {
            Ok(()) => self.sweep(),
            // Some file systems need room even to overwrite. What goes makes some.
            Err(SpoolError::NoSpace { .. }) => self.sweep().and_then(|()| self.remember()),
            Err(error) => Err(error),
        }
    }

    /// Writes the cursor file.
    pub fn remember(&mut self) -> Result<(), SpoolError> {
        let marks = self.shared.ledger().marks;
        self.cursor.write(marks, self.sync)?;
        self.stale = false;
        Ok(())
    }

    fn sweep(&mut self) -> Result<(), SpoolError> {
        let settled = self.shared.ledger().settled();
        for first in &settled {
            let path = self.shared.segment(*first);
            match fs::remove_file(&path) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(SpoolError::io("remove", &path, e)),
            }
            self.shared.ledger().segments.pop_front();
        }
        if self.sync && !settled.is_empty() {
            self.folder.sync_all().map_err(|e| SpoolError::io("sync", &self.shared.folder, e))?;
        }
        Ok(())
    }
}
