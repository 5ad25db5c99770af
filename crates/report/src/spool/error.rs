//! What can go wrong with a spool, each with its remedy.

use std::io;
use std::path::{Path, PathBuf};

use tw_model::status::SpoolLane;

use super::format::{MAX_PAYLOAD, VERSION};

/// Why the spool did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// The options make no sense.
    #[error("the spool's bound of {max_bytes} bytes is too small: raise spool.max_mib (at least {least} bytes)")]
    Bound {
        /// What was asked for.
        max_bytes: u64,
        /// The least that works.
        least: u64,
    },
    /// Another process has it.
    #[error("the spool {} is in use by another process: stop the other agent, or give this one another state_dir", .0.display())]
    Locked(PathBuf),
    /// A file of a later version of this program.
    #[error(
        "{} has format version {found}, this program knows up to {VERSION}: run the newer tidewatch again, or move the folder away (its findings are then not delivered)",
        .path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A record over the bound.
    #[error("a finding of {0} bytes is too long for the spool (at most {MAX_PAYLOAD}): nothing of its batch was kept")]
    TooLong(usize),
    /// A batch that cannot fit.
    #[error("a batch of {bytes} bytes does not fit into a spool of {max_bytes}: raise spool.max_mib")]
    Batch {
        /// Its bytes on disk.
        bytes: u64,
        /// The bound.
        max_bytes: u64,
    },
    /// No room on the disk, or the quota is used up.
    #[error("no room for the spool below {}: free space there, or lower spool.max_mib ({source})", .dir.display())]
    NoSpace {
        /// Its folder.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The disk or the system refused.
    #[error("cannot {doing} {}: {source}; look at the disk (dmesg) and at the folder's permissions", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An acknowledgement that cannot be true.
    #[error(
        "the manager acknowledges {} {seq}, the spool's newest is {newest}: its store belongs to another agent; give this host a node id of its own",
        .lane.name()
    )]
    Ahead {
        /// The lane.
        lane: SpoolLane,
        /// What was acknowledged.
        seq: u64,
        /// The newest number.
        newest: u64,
    },
    /// Out of numbers.
    #[error("the lane {} has used all numbers: move the spool's folder away", .0.name())]
    Exhausted(SpoolLane),
}

impl SpoolError {
    pub(super) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { dir: path.parent().unwrap_or(path).to_path_buf(), source }
            }
            _ => Self::Io { doing, path: path.to_path_buf(), source },
        }
    }
}
