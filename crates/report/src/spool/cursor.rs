//! The cursor file of a lane: how far the manager is, and what was lost. Two slots are written in turn and in place, so
//! that one is always whole, and an acknowledgement needs no room on a full disk.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use super::error::SpoolError;
use super::format::{BadBlock, CURSOR_MAGIC, SLOT, block, unblock};

/// Distance of the two slots: they share no sector.
const STRIDE: u64 = 4096;

/// What the cursor file remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// Number up to which the manager has everything.
    pub acked: u64,
    /// Number up to which each record's fate is counted: acknowledged, dropped or corrupt. At least `acked`.
    pub floor: u64,
    /// Highest number known to be given out.
    pub newest: u64,
    /// Unacknowledged records dropped.
    pub dropped: u64,
    /// Records up to `floor` that could not be read.
    pub corrupt: u64,
}

/// What was found in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing was ever written.
    Blank,
    /// As it was written last.
    Whole(Marks),
    /// One slot is damaged: these may not be the last.
    Stale(Marks),
    /// Nothing can be read.
    Damaged,
}

#[derive(Debug)]
pub(super) struct CursorFile {
    file: File,
    path: PathBuf,
    generation: u64,
    /// What it holds.
    pub marks: Option<Marks>,
}

impl CursorFile {
    /// Opens or creates it.
    pub fn open(path: PathBuf) -> Result<(Self, Found), SpoolError> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(|e| SpoolError::io("open", &path, e))?;
        let mut best: Option<(u64, Marks)> = None;
        let (mut blank, mut damaged) = (0, 0);
        for slot in 0..2 {
            let mut bytes = [0; SLOT];
            let length = read_up_to(&file, &mut bytes, slot * STRIDE).map_err(|e| SpoolError::io("read", &path, e))?;
            match unblock::<6>(CURSOR_MAGIC, &bytes[..length]) {
                Ok([generation, acked, floor, newest, dropped, corrupt]) => {
                    let marks = Marks { acked, floor: floor.max(acked), newest, dropped, corrupt };
                    if best.is_none_or(|(other, _)| other < generation) {
                        best = Some((generation, marks));
                    }
                }
                Err(BadBlock::Newer(found)) => return Err(SpoolError::Version { path, found }),
                Err(BadBlock::Damaged) if bytes.iter().all(|byte| *byte == 0) => blank += 1,
                Err(BadBlock::Damaged) => damaged += 1,
            }
        }
        let found = match best {
            None if blank == 2 => Found::Blank,
            None => Found::Damaged,
            Some((_, marks)) if damaged > 0 => Found::Stale(marks),
            Some((_, marks)) => Found::Whole(marks),
        };
        let generation = best.map_or(0, |(generation, _)| generation);
        Ok((Self { file, path, generation, marks: best.map(|(_, marks)| marks) }, found))
    }

    /// Writes the marks into both slots: of a new file, or of one that cannot be read.
    pub fn start(&mut self, marks: Marks, sync: bool) -> Result<(), SpoolError> {
        self.write(marks, sync)?;
        self.write(marks, sync)
    }

    /// Writes the marks over the older slot.
    pub fn write(&mut self, marks: Marks, sync: bool) -> Result<(), SpoolError> {
        let generation = self.generation + 1;
        let Marks { acked, floor, newest, dropped, corrupt } = marks;
        let bytes = block(CURSOR_MAGIC, [generation, acked, floor, newest, dropped, corrupt]);
        let place = generation % 2 * STRIDE;
        self.file.write_all_at(&bytes, place).map_err(|e| SpoolError::io("write", &self.path, e))?;
        if sync {
            self.file.sync_data().map_err(|e| SpoolError::io("sync", &self.path, e))?;
        }
        (self.generation, self.marks) = (generation, Some(marks));
        Ok(())
    }
}

fn read_up_to(file: &File, bytes: &mut [u8], at: u64) -> std::io::Result<usize> {
    let mut length = 0;
    while length < bytes.len() {
        match file.read_at(&mut bytes[length..], at + length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(length)
}

/// Reads the first bytes of a file: at most as many as there is room.
pub(super) fn head_of(file: &File, bytes: &mut [u8]) -> std::io::Result<usize> {
    read_up_to(file, bytes, 0)
}
