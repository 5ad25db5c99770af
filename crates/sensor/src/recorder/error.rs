//! What can be wrong with a recording.

use std::path::PathBuf;

/// Why the flight recorder cannot be used, or a segment not be read.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// The system refused something.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The budget does not hold what is to be written, even with nothing else in it.
    #[error("{} bytes of budget in {} are taken by the segment being written: raise recorder.max_mib", max, path.display())]
    Budget {
        /// The folder.
        path: PathBuf,
        /// The budget in bytes.
        max: u64,
    },
    /// Not a segment, or one whose head is broken.
    #[error("{}: byte {offset}: {what}: not a readable segment of the flight recorder (*.twrec)", path.display())]
    NotASegment {
        /// The file.
        path: PathBuf,
        /// Where, in bytes from its start.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// Written by a newer version.
    #[error("{} has format {found}, this version reads up to {known}: read it with the version that wrote it or a newer one", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u16,
        /// The newest format that is understood.
        known: u16,
    },
    /// Bytes within a segment are not what was written. What could be read was delivered.
    #[error("{}: byte {offset}: {what}; everything else was read. Check the disk if no program changed the file", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where, in bytes from its start.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A segment ends in the middle of something. What is before that was delivered.
    #[error("{}: byte {offset}: {what}; everything before was read. The agent was killed, is still writing, or the file was cut", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Where the part begins that is not whole.
        offset: u64,
        /// What is not whole.
        what: &'static str,
    },
    /// A segment ends behind a whole block, but without its index.
    #[error("{}: byte {offset}: ends without its index; everything was read. The agent was killed or is still writing", path.display())]
    Unfinished {
        /// The file.
        path: PathBuf,
        /// Its length.
        offset: u64,
    },
    /// The writer thread ended.
    #[error("the recorder's writer thread ended: restart the agent, and report this")]
    WriterEnded,
}

impl RecorderError {
    pub(super) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }

    /// Whether the reason is that no space is left: on the disk, in the quota, or in the budget.
    pub fn is_no_space(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        match self {
            Self::Io { source, .. } => matches!(source.kind(), StorageFull | QuotaExceeded),
            Self::Budget { .. } => true,
            _ => false,
        }
    }
}
