//! The bytes of a capture, unpacked as they are asked for.
//!
//! **Never:** more in memory than the block that is read, whatever a length says: room grows with what is really there.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Cursor, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;

use super::error::CaptureError;

/// Bytes that are asked for at once.
const CHUNK: usize = 64 << 10;
/// What a gzip file begins with.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// How many bytes of a file were read, for whoever shows how far it is.
#[derive(Clone, Debug, Default)]
pub struct BytesRead(Arc<AtomicU64>);

impl BytesRead {
    /// Bytes of the file so far, packed or not.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts what is read.
struct Counted<R> {
    input: R,
    read: BytesRead,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let read = self.input.read(out)?;
        self.read.0.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// A window that moves over the bytes.
pub(super) struct Source {
    path: PathBuf,
    input: Box<dyn Read + Send>,
    packed: bool,
    read: BytesRead,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Place of `start` in the unpacked bytes.
    offset: u64,
    ended: bool,
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self, CaptureError> {
        // A pipe under this name must not make us wait.
        let flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
        let open = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let mut file: File = open.map_err(CaptureError::io("open", path))?;
        let metadata = file.metadata().map_err(CaptureError::io("look at", path))?;
        if !metadata.is_file() {
            return Err(CaptureError::NotACapture { path: path.into(), what: "is not a file" });
        }
        let mut magic = Vec::new();
        (&mut file).take(2).read_to_end(&mut magic).map_err(CaptureError::io("read", path))?;
        let input = Cursor::new(magic.clone()).chain(file);
        Ok(Self::new(path.into(), magic == GZIP, input))
    }

    pub(super) fn from_bytes(path: PathBuf, bytes: Vec<u8>) -> Self {
        let packed = bytes.starts_with(&GZIP);
        Self::new(path, packed, Cursor::new(bytes))
    }

    fn new(path: PathBuf, packed: bool, input: impl Read + Send + 'static) -> Self {
        let read = BytesRead::default();
        let input = Counted { input, read: read.clone() };
        let input: Box<dyn Read + Send> = if packed {
            Box::new(MultiGzDecoder::new(BufReader::with_capacity(CHUNK, input)))
        } else {
            Box::new(input)
        };
        Self { path, input, packed, read, buffer: Vec::new(), start: 0, end: 0, offset: 0, ended: false }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is compressed.
    pub(super) fn is_packed(&self) -> bool {
        self.packed
    }

    /// How much was read.
    pub(super) fn bytes_read(&self) -> BytesRead {
        self.read.clone()
    }

    /// Place of the next byte in the unpacked capture.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next `length` bytes, or fewer where the capture ends. They stay.
    pub(super) fn peek(&mut self, length: usize) -> Result<&[u8], CaptureError> {
        if self.end - self.start < length && !self.ended {
            self.fill(length)?;
        }
        let end = self.end.min(self.start + length);
        Ok(self.buffer.get(self.start..end).unwrap_or_default())
    }

    /// Bytes that a [`Self::peek`] has shown.
    pub(super) fn shown(&self, length: usize) -> &[u8] {
        let end = self.end.min(self.start + length);
        self.buffer.get(self.start..end).unwrap_or_default()
    }

    /// Goes on behind `length` bytes that [`Self::peek`] has shown.
    pub(super) fn skip(&mut self, length: usize) {
        let length = length.min(self.end - self.start);
        self.start += length;
        self.offset += length as u64;
    }

    fn fill(&mut self, length: usize) -> Result<(), CaptureError> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        while self.end < length {
            if self.buffer.len() - self.end < CHUNK {
                // What was read so far, and as much again: a length alone takes no memory.
                let wanted = length.next_multiple_of(CHUNK).min(self.end.saturating_mul(2)) + CHUNK;
                self.buffer.resize(wanted.max(self.buffer.len()), 0);
            }
            let Some(room) = self.buffer.get_mut(self.end..) else { return Ok(()) };
            match self.input.read(room) {
                Ok(0) => {
                    self.ended = true;
                    return Ok(());
                }
                Ok(read) => self.end += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A gzip file that was cut.
                Err(error) if self.packed && error.kind() == ErrorKind::UnexpectedEof => {
                    self.ended = true;
                    return Ok(());
                }
                Err(error) if self.packed => {
                    self.ended = true;
                    return Err(CaptureError::Damaged {
                        path: self.path.clone(),
                        offset: self.offset + self.end as u64,
                        packed: true,
                        what: format!("cannot be unpacked ({error})"),
                    });
                }
                Err(error) => return Err(CaptureError::io("read", self.path.clone())(error)),
            }
        }
        Ok(())
    }
}
