//! Bounded reads of files that may change or vanish meanwhile.

use std::ffi::OsString;
use std::io::Read as _;
use std::path::Path;
use std::time::UNIX_EPOCH;

use rustix::fs::{Mode, OFlags};

/// Most bytes of a specification or state.
pub const MAX_FILE: usize = 1 << 20;
/// Most bytes of a list of containers.
pub const MAX_LIST: usize = 8 << 20;

/// What was found.
#[derive(Debug)]
pub enum Found<T> {
    /// All of it.
    Whole(T),
    /// A beginning: somebody writes it, or is about to.
    Half,
    /// Nothing of the kind.
    Nothing,
}

/// A regular file's bytes. None if it is not there, is something else, or is larger than `most`. Nothing waits: neither
/// for the writer of a pipe nor for a lock.
pub fn read(path: &Path, most: usize) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = std::fs::File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    let size = file.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
    let size = usize::try_from(size).ok().filter(|size| *size <= most)?;
    let mut bytes = Vec::with_capacity(size + 1);
    file.take(most as u64 + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() <= most).then_some(bytes)
}

/// When a file was last written, nanoseconds since the epoch; 0 if it cannot be told.
pub fn modified_ns(path: &Path) -> u64 {
    let modified = std::fs::symlink_metadata(path).and_then(|meta| meta.modified());
    let since = modified.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0)
}

/// Names of folders in a folder, at most so many.
pub fn folders(path: &Path, most: usize) -> Vec<OsString> {
    let Ok(entries) = std::fs::read_dir(path) else { return Vec::new() };
    let folders = entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.file_name()).take(most).collect()
}

/// Whether nothing is in a folder.
pub fn is_empty(path: &Path) -> bool {
    std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}
