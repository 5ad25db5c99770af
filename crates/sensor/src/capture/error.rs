//! What can be wrong with a capture.

use std::path::PathBuf;

/// Why a capture cannot be read, or not to its end. Whatever was before that place was delivered.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The system refused something.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Something else than a capture.
    #[error("{}: {what}: not a capture of sysdig or Falco (*.scap), gzip or plain", path.display())]
    NotACapture {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// Of a format that is not known.
    #[error("{}: byte {offset}: format {major}, known is 1: convert it with the program that wrote it", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Where, in bytes of the unpacked capture.
        offset: u64,
        /// Its major version.
        major: u16,
    },
    /// It ends in the middle of something.
    #[error("{}: byte {offset}{}: {what}; everything before was read. Copy the capture anew if it was whole where it comes from", path.display(), unpacked(*packed))]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Where the part begins that is not whole, in bytes of the unpacked capture.
        offset: u64,
        /// The file is compressed.
        packed: bool,
        /// What is not whole.
        what: &'static str,
    },
    /// Bytes that are not what they should be.
    #[error("{}: byte {offset}{}: {what}; everything before was read. Copy or record the capture anew", path.display(), unpacked(*packed))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where, in bytes of the unpacked capture.
        offset: u64,
        /// The file is compressed.
        packed: bool,
        /// What is wrong.
        what: String,
    },
}

fn unpacked(packed: bool) -> &'static str {
    if packed { " of the unpacked capture" } else { "" }
}

impl CaptureError {
    pub(super) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }

    /// Whether nothing but the end is missing: a capture whose recording was killed looks like this.
    pub fn is_truncation(&self) -> bool {
        matches!(self, Self::Truncated { .. })
    }
}
