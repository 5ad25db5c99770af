//! Opening a lane: reads every segment once, cuts a torn end off, counts what is missing.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tw_model::status::SpoolLane;

use super::cursor::{CursorFile, Found, Marks, head_of};
use super::error::SpoolError;
use super::format::{BadBlock, HEADER, Header};
use super::lane::{Active, Lane};
use super::ledger::{Ledger, Segment, Shared, count, segment_path};
use super::walk::{Step, Walk, highest};

/// What was found when the spool was opened; for the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// By lane.
    pub lanes: Vec<LaneRecovery>,
}

impl Recovery {
    /// Everything that is not as it was left, one sentence each.
    pub fn damage(&self) -> impl Iterator<Item = &Damage> {
        self.lanes.iter().flat_map(|lane| &lane.damage)
    }
}

/// What was found in one lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneRecovery {
    /// Which.
    pub lane: SpoolLane,
    /// Segments on disk.
    pub segments: usize,
    /// Records that can be read and are not acknowledged.
    pub waiting: u64,
    /// Unacknowledged records that cannot be read, as far as the numbers tell.
    pub corrupt: u64,
    /// Bytes of incomplete records cut off.
    pub cut: u64,
    /// What is not as it was left.
    pub damage: Vec<Damage>,
}

/// Something that is not as it was left.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// The end of the newest segment was incomplete and was cut off. Usual after a crash while writing: no record that
    /// counted as kept is concerned.
    Cut {
        /// The segment.
        path: PathBuf,
        /// How many bytes.
        bytes: u64,
    },
    /// The head of a segment cannot be read. Its records can.
    Header {
        /// The segment.
        path: PathBuf,
    },
    /// Records of a segment cannot be read.
    Corrupt {
        /// The segment.
        path: PathBuf,
        /// How many unacknowledged ones.
        records: u64,
    },
    /// The disk refuses to read a segment to its end.
    Unreadable {
        /// The segment.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// Segments are gone.
    Missing {
        /// Their folder.
        folder: PathBuf,
        /// How many unacknowledged records they had.
        records: u64,
    },
    /// The cursor file cannot be read: everything on disk is delivered again, which is harmless. Counters of losses
    /// start anew.
    Cursor {
        /// The file.
        path: PathBuf,
    },
    /// A half of the cursor file cannot be read: at worst some findings are delivered again, and counters of losses
    /// are a little too low.
    Slot {
        /// The file.
        path: PathBuf,
    },
    /// A file that is none of the spool's. It is left alone.
    Foreign {
        /// The file.
        path: PathBuf,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut { path, bytes } => write!(out, "{}: cut {bytes} bytes of an unfinished write", path.display()),
            Self::Header { path } => write!(out, "{}: its head is damaged, its records are read", path.display()),
            Self::Corrupt { path, records } => {
                write!(out, "{}: {records} findings cannot be read and are lost", path.display())
            }
            Self::Unreadable { path, why } => write!(out, "{}: cannot be read to its end: {why}", path.display()),
            Self::Missing { folder, records } => {
                write!(out, "{}: files are gone, and {records} findings with them", folder.display())
            }
            Self::Cursor { path } => {
                write!(out, "{}: cannot be read; what is on disk is delivered again", path.display())
            }
            Self::Slot { path } => write!(out, "{}: half of it cannot be read; the other half serves", path.display()),
            Self::Foreign { path } => write!(out, "{}: not a file of the spool; left alone", path.display()),
        }
    }
}

/// A segment as found.
struct OnDisk {
    path: PathBuf,
    first: u64,
    length: u64,
    header: Option<Header>,
}

impl OnDisk {
    fn follows(&self) -> u64 {
        self.header.map_or(self.first - 1, |header| header.follows)
    }
}

/// Creates a folder for the owner alone, with its parents.
pub(super) fn create_folder(path: &Path) -> Result<(), SpoolError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| SpoolError::io("create", path, e))
}

/// Opens a lane below the spool's folder.
pub(super) fn open_lane(dir: &Path, lane: SpoolLane, sync: bool) -> Result<(Lane, LaneRecovery), SpoolError> {
    let folder = dir.join(lane.name());
    create_folder(&folder)?;
    let handle = File::open(&folder).map_err(|e| SpoolError::io("open", &folder, e))?;
    let mut told = LaneRecovery { lane, ..LaneRecovery::default() };
    let mut found = list(&folder, &mut told)?;
    let cursor_path = folder.join("cursor");
    let (mut cursor, state) = CursorFile::open(cursor_path.clone())?;
    let mut marks = match state {
        Found::Whole(marks) => marks,
        Found::Stale(marks) => {
            told.damage.push(Damage::Slot { path: cursor_path });
            marks
        }
        Found::Blank | Found::Damaged => {
            if state == Found::Damaged || !found.is_empty() {
                told.damage.push(Damage::Cursor { path: cursor_path });
            }
            let before = found.first().map_or(0, |segment| segment.first - 1);
            let marks = Marks { acked: before, floor: before, newest: before, ..Marks::default() };
            cursor.start(marks, sync)?;
            marks
        }
    };
    // The end of a removal that was interrupted.
    while found.len() > 1 && found[1].follows() <= marks.floor {
        let gone = found.remove(0);
        fs::remove_file(&gone.path).map_err(|e| SpoolError::io("remove", &gone.path, e))?;
    }
    if let Some(first) = found.first() {
        let missing = count(marks.floor + 1, first.follows());
        if matches!(state, Found::Whole(_)) && missing > 0 {
            marks.corrupt += missing;
            told.corrupt += missing;
            told.damage.push(Damage::Missing { folder: folder.clone(), records: missing });
        }
        marks.floor = marks.floor.max(first.follows());
    }
    let mut ledger = Ledger { marks, ..Ledger::default() };
    let mut active = None;
    for index in 0..found.len() {
        let next = found.get(index + 1).map(OnDisk::follows);
        active = read_segment(&found[index], next, sync, &mut ledger, &mut told)?;
    }
    let newest = ledger.marks.newest.max(ledger.marks.floor);
    ledger.marks.newest = newest;
    if let Some(last) = ledger.segments.back_mut().filter(|last| last.end < newest) {
        // Numbers that were given out, but their records are gone with the end of the segment.
        let lost = last.end + 1..=newest;
        last.end = newest;
        last.note_bad(lost.clone());
        active = None;
        let records = count(ledger.marks.floor + 1, newest).min(count(*lost.start(), newest));
        tell_corrupt(segment_path(&folder, last.first), records, &mut told);
    } else if ledger.segments.is_empty() {
        let records = count(ledger.marks.floor + 1, newest);
        if records > 0 {
            told.corrupt += records;
            told.damage.push(Damage::Missing { folder: folder.clone(), records });
        }
        ledger.marks.corrupt += records;
        ledger.marks.floor = newest;
    }
    if sync {
        handle.sync_all().map_err(|e| SpoolError::io("sync", &folder, e))?;
    }
    told.segments = ledger.segments.len();
    let shared = Arc::new(Shared::new(lane, folder, ledger));
    let (stale, buffer) = (false, Vec::new());
    Ok((Lane { shared, folder: handle, cursor, active, found_newest: newest, sync, stale, buffer }, told))
}

/// The segments of a folder, oldest first, with their heads.
fn list(folder: &Path, told: &mut LaneRecovery) -> Result<Vec<OnDisk>, SpoolError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| SpoolError::io("list", folder, e))? {
        let path = entry.map_err(|e| SpoolError::io("list", folder, e))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let first = name.strip_suffix(".seg").filter(|number| number.len() == 20).and_then(|n| n.parse::<u64>().ok());
        let first = first.filter(|first| (1..=super::format::MAX_SEQ).contains(first));
        let Some(first) = first.filter(|first| segment_path(folder, *first) == path) else {
            if name != "cursor" {
                told.damage.push(Damage::Foreign { path });
            }
            continue;
        };
        let file = File::open(&path).map_err(|e| SpoolError::io("open", &path, e))?;
        let length = file.metadata().map_err(|e| SpoolError::io("look at", &path, e))?.len();
        let mut bytes = [0; HEADER];
        let read = head_of(&file, &mut bytes).map_err(|e| SpoolError::io("read", &path, e))?;
        let header = match Header::decode(&bytes[..read]) {
            Ok(header) => Some(header).filter(|header| header.first == first),
            Err(BadBlock::Damaged) => None,
            Err(BadBlock::Newer(found)) => return Err(SpoolError::Version { path, found }),
        };
        found.push(OnDisk { path, first, length, header });
    }
    found.sort_by_key(|segment| segment.first);
    Ok(found)
}

/// Reads a segment through and enters it into the books. `follows` is the highest number in front of the next one; the
/// last one is cut and returned to be written on.
fn read_segment(
    segment: &OnDisk,
    follows: Option<u64>,
    sync: bool,
    ledger: &mut Ledger,
    told: &mut LaneRecovery,
) -> Result<Option<Active>, SpoolError> {
    let OnDisk { path, first, length, header } = segment;
    let (first, length) = (*first, *length);
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).write(follows.is_none()).open(path).map_err(|e| SpoolError::io("open", path, e))?;
    file.seek(SeekFrom::Start(HEADER as u64)).map_err(|e| SpoolError::io("read", path, e))?;
    let last = follows.map_or_else(|| highest(first, length), |follows| follows.max(first - 1));
    let mut books = Segment { first, end: last, length, bad: Vec::new() };
    let floor = ledger.marks.floor;
    let mut walk = Walk::new(&file, HEADER as u64, length, first, last);
    let mut seen = first - 1;
    loop {
        match walk.step() {
            Ok(Step { missing, record }) => {
                let Some((seq, _)) = record else { break };
                if let Some(missing) = missing {
                    books.note_bad(missing);
                }
                seen = seq;
                told.waiting += u64::from(seq > floor);
            }
            // Numbers must not be given out twice, so the end of the last segment must be known.
            Err(error) if follows.is_none() => return Err(SpoolError::io("read", path, error)),
            Err(error) => {
                told.damage.push(Damage::Unreadable { path: path.clone(), why: error.to_string() });
                break;
            }
        }
    }
    let good_end = walk.good_end();
    let mut active = None;
    if follows.is_some() {
        books.note_bad(seen + 1..=last);
    } else {
        ledger.marks.newest = ledger.marks.newest.max(seen);
        books.end = seen;
        books.length = good_end;
        let torn = header.is_none() && seen < first;
        let cut = length.saturating_sub(if torn { 0 } else { good_end });
        if cut > 0 {
            told.cut += cut;
            told.damage.push(Damage::Cut { path: path.clone(), bytes: cut });
        }
        if torn {
            // Its creation was interrupted.
            fs::remove_file(path).map_err(|e| SpoolError::io("remove", path, e))?;
            return Ok(None);
        }
        if cut > 0 {
            file.set_len(good_end)
                .and_then(|()| if sync { file.sync_all() } else { Ok(()) })
                .map_err(|e| SpoolError::io("cut", path, e))?;
        }
        let sealed = header.is_none();
        active = Some(Active { file, first, end: seen, length: good_end, sealed, torn: false });
    }
    if header.is_none() {
        told.damage.push(Damage::Header { path: path.clone() });
    }
    ledger.segments.push_back(books);
    let records = ledger.segments.back().map_or(0, |books| books.bad_between(floor, u64::MAX));
    tell_corrupt(path.clone(), records, told);
    Ok(active)
}

fn tell_corrupt(path: PathBuf, records: u64, told: &mut LaneRecovery) {
    if records > 0 {
        told.corrupt += records;
        told.damage.push(Damage::Corrupt { path, records });
    }
}
