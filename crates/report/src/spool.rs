//! The disk spool: findings wait here until the manager has committed them. Append-only, bounded, and safe against
//! crashes; `docs/spec/spool.md` specifies every byte.
//!
//! Two lanes, each a folder of segments and a cursor file. A record has a number in its lane: 1, 2, 3 …, never given
//! out twice. Each number ends in one of three ways: acknowledged, dropped because room was short, or corrupt. The
//! latter two are counted exactly.
//!
//! One process owns the spool, and one [`Spool`] in it writes; put it behind a lock if several threads need it. A
//! [`SpoolReader`] has its own file handle and needs no lock, so that reading never waits for the disk to sync; nor does a
//! [`SpoolView`], which tells the state and sets the bound.
//!
//! **Never:** the meaning of a record. The clock decides nothing.

use std::fs::{File, OpenOptions, TryLockError};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use tw_model::status::{SpoolLane, SpoolStatus};

mod cursor;
mod error;
mod format;
mod lane;
mod ledger;
mod reader;
mod recovery;
mod view;
mod walk;

pub use error::SpoolError;
pub use format::{BadBlock, HEADER, Header, MAX_PAYLOAD, MAX_SEQ, PREFIX, VERSION};
pub use reader::SpoolReader;
pub use recovery::{Damage, LaneRecovery, Recovery};
pub use view::SpoolView;
pub use walk::{Parsed, parse};

use lane::Lane;

/// Least bound of a spool in bytes.
pub const LEAST_BYTES: u64 = 16 << 10;
/// Bounds of a segment's size in bytes.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 1 << 10..=64 << 20;
/// A spool has room for at least this many segments.
const LEAST_SEGMENTS: u64 = 8;

/// When a record counts as kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpoolSync {
    /// Once the disk says so: one `fdatasync` a batch and segment. It survives a loss of power.
    #[default]
    Batch,
    /// Once the kernel has it: it survives the end of the process, but not that of the host.
    None,
}

/// How a spool is to be.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// Its folder; created if need be.
    pub dir: PathBuf,
    /// Most bytes of both lanes together, at least [`LEAST_BYTES`]. Two cursor files of 4 KiB come on top.
    pub max_bytes: u64,
    /// Size of a segment in bytes, roughly. Made to fit: 1 KiB to 64 MiB, and eight times within the bound.
    pub segment_bytes: u64,
    /// When a record counts as kept.
    pub sync: SpoolSync,
}

impl SpoolOptions {
    /// The usual ones: 256 MiB in segments of 4 MiB, synced.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), max_bytes: 256 << 20, segment_bytes: 4 << 20, sync: SpoolSync::Batch }
    }
}

/// The spool's owner and only writer.
#[derive(Debug)]
pub struct Spool {
    urgent: Lane,
    routine: Lane,
    view: SpoolView,
    segment_bytes: u64,
    /// Holds the lock on the folder.
    lock: File,
}

impl Spool {
    /// Opens the spool, or creates it. All segments are read once: a full spool of 256 MiB takes about a second.
    ///
    /// # Errors
    /// [`SpoolError::Locked`] if another process has it, [`SpoolError::Version`] if a file is of a newer version,
    /// [`SpoolError::Bound`] if the bound is too small, and what the disk refuses. Damaged files are no error: they are
    /// told in the [`Recovery`].
    pub fn open(options: SpoolOptions) -> Result<(Self, Recovery), SpoolError> {
        let SpoolOptions { dir, max_bytes, segment_bytes, sync } = options;
        if max_bytes < LEAST_BYTES {
            return Err(SpoolError::Bound { max_bytes, least: LEAST_BYTES });
        }
        recovery::create_folder(&dir)?;
        let lock = lock(&dir)?;
        let sync = sync == SpoolSync::Batch;
        let (urgent, first) = recovery::open_lane(&dir, SpoolLane::Urgent, sync)?;
        let (routine, second) = recovery::open_lane(&dir, SpoolLane::Routine, sync)?;
        if sync {
            File::open(&dir).and_then(|dir| dir.sync_all()).map_err(|e| SpoolError::io("sync", &dir, e))?;
        }
        let segment_bytes = segment_bytes.clamp(*SEGMENT_BYTES.start(), *SEGMENT_BYTES.end());
        let segment_bytes = segment_bytes.min(max_bytes / LEAST_SEGMENTS);
        let view = SpoolView::new(Arc::clone(&urgent.shared), Arc::clone(&routine.shared), max_bytes);
        let spool = Self { urgent, routine, view, segment_bytes, lock };
        Ok((spool, Recovery { lanes: vec![first, second] }))
    }

    /// Keeps a batch of records: all of them, or with an error none. Returns their numbers. When it returns, they are
    /// as safe as [`SpoolSync`] says.
    ///
    /// If the bound would be exceeded, oldest segments are given up first: of the routine lane as long as it has any,
    /// then of the urgent one. If the disk is full, one closed segment of the routine lane is given up for a second try.
    ///
    /// A crash in the middle may leave a part of the batch behind, which is then delivered although this never returned.
    ///
    /// # Errors
    /// [`SpoolError::TooLong`] and [`SpoolError::Batch`]: the batch can never be kept. [`SpoolError::NoSpace`],
    /// [`SpoolError::Io`]: it can be tried again.
    pub fn append<P: AsRef<[u8]>>(&mut self, lane: SpoolLane, payloads: &[P]) -> Result<Range<u64>, SpoolError> {
        let result = self.try_append(lane, payloads);
        self.note(result)
    }

    fn try_append<P: AsRef<[u8]>>(&mut self, lane: SpoolLane, payloads: &[P]) -> Result<Range<u64>, SpoolError> {
        if let Some(payload) = payloads.iter().find(|payload| payload.as_ref().len() > MAX_PAYLOAD) {
            return Err(SpoolError::TooLong(payload.as_ref().len()));
        }
        if payloads.is_empty() {
            let next = self.lane(lane).shared.ledger().marks.newest + 1;
            return Ok(next..next);
        }
        self.make_room(Lane::most_bytes(payloads, self.segment_bytes))?;
        let segment_bytes = self.segment_bytes;
        let first = match self.lane_mut(lane).append(payloads, segment_bytes) {
            Err(full @ SpoolError::NoSpace { .. }) => {
                let spare = self.routine.segments() > 1;
                if !spare || self.routine.drop_oldest().is_err() {
                    return Err(full);
                }
                self.lane_mut(lane).append(payloads, segment_bytes)?
            }
            other => other?,
        };
        Ok(first..first + payloads.len() as u64)
    }

    /// The manager has everything of this lane up to `seq`. Remembers that durably, and removes what is not needed any
    /// more. Returns the number up to which the lane is acknowledged now. A number below that changes nothing.
    ///
    /// Only numbers count that a reader gave out since the spool was opened, or that were there when it was opened.
    /// A higher number comes from an earlier spool of this host (whose folder was removed, or which lost power without
    /// sync): then what was found at the start counts as acknowledged, nothing newer does, and the lane goes on
    /// behind `seq`, so that no number means two findings.
    ///
    /// # Errors
    /// [`SpoolError::Ahead`] if the number is absurdly high: nothing changes. [`SpoolError::Io`],
    /// [`SpoolError::NoSpace`]: it counts, but may be forgotten in a crash; the next call tries again.
    pub fn ack(&mut self, lane: SpoolLane, seq: u64) -> Result<u64, SpoolError> {
        let result = self.lane_mut(lane).ack(seq);
        self.note(result)
    }

    /// Number up to which the manager has everything, as far as is known here.
    pub fn acked(&self, lane: SpoolLane) -> u64 {
        self.lane(lane).shared.ledger().marks.acked
    }

    /// A reader of the records behind `after_seq`; give it [`Spool::acked`] to start with what the manager lacks.
    pub fn reader(&self, lane: SpoolLane, after_seq: u64) -> SpoolReader {
        SpoolReader::new(Arc::clone(&self.lane(lane).shared), after_seq)
    }

    /// What may be asked and set without waiting for the disk, whoever has the spool meanwhile.
    pub fn view(&self) -> SpoolView {
        self.view.clone()
    }

    /// See [`SpoolView::status`].
    pub fn status(&self) -> SpoolStatus {
        self.view.status()
    }

    /// Drops oldest segments until `bytes` more fit.
    fn make_room(&mut self, bytes: u64) -> Result<(), SpoolError> {
        // What is left when everything is given up.
        let least = 2 * HEADER as u64;
        let max_bytes = self.view.max_bytes();
        if bytes + least > max_bytes {
            return Err(SpoolError::Batch { bytes, max_bytes });
        }
        while self.urgent.shared.ledger().bytes() + self.routine.shared.ledger().bytes() + bytes > max_bytes {
            if !self.routine.drop_oldest()? && !self.urgent.drop_oldest()? {
                return Err(SpoolError::Batch { bytes, max_bytes });
            }
        }
        Ok(())
    }

    /// Remembers the last error for the status.
    fn note<T>(&self, result: Result<T, SpoolError>) -> Result<T, SpoolError> {
        match &result {
            Ok(_) => self.view.set_error(None),
            // The batch's fault, not the disk's.
            Err(SpoolError::TooLong(_) | SpoolError::Batch { .. } | SpoolError::Ahead { .. }) => {}
            Err(error) => self.view.set_error(Some(error.to_string())),
        }
        result
    }

    fn lane(&self, lane: SpoolLane) -> &Lane {
        match lane {
            SpoolLane::Urgent => &self.urgent,
            SpoolLane::Routine => &self.routine,
        }
    }

    fn lane_mut(&mut self, lane: SpoolLane) -> &mut Lane {
        match lane {
            SpoolLane::Urgent => &mut self.urgent,
            SpoolLane::Routine => &mut self.routine,
        }
    }
}

impl Drop for Spool {
    /// Leaves the cursor files up to date, so that whatever happens to the segments afterwards is noticed exactly.
    fn drop(&mut self) {
        for lane in [&mut self.urgent, &mut self.routine] {
            let marks = lane.shared.ledger().marks;
            if lane.cursor.marks != Some(marks) {
                // After a failure the next start counts anew.
                let _ = lane.remember();
            }
        }
        // Closing the file is not enough: a process that is just being started has it open for a moment, too.
        let _ = self.lock.unlock();
    }
}

fn lock(dir: &std::path::Path) -> Result<File, SpoolError> {
    let path = dir.join("lock");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(|e| SpoolError::io("open", &path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SpoolError::Locked(dir.to_path_buf())),
        Err(TryLockError::Error(e)) => Err(SpoolError::io("lock", &path, e)),
    }
}
