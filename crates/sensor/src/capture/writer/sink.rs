//! Where blocks go: gathered, and written in pieces that end with a block, so that a file is whole at every moment.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;

/// Bytes that are gathered before they are written.
const PIECE: usize = 256 << 10;
/// The same if they are compressed: small pieces compress badly.
const PACKED_PIECE: usize = 1 << 20;

/// A file that grows by whole blocks.
#[derive(Debug)]
pub(super) struct Sink {
    file: File,
    pending: Vec<u8>,
    packed: bool,
    /// Bytes of the file up to the last whole piece.
    written: u64,
    /// Bytes of blocks, before they were compressed.
    raw: u64,
}

impl Sink {
    pub(super) fn new(file: File, packed: bool) -> Self {
        Self { file, pending: Vec::with_capacity(PIECE), packed, written: 0, raw: 0 }
    }

    /// Bytes of the file if all were written now; of what waits to be compressed, the bytes that it takes now.
    pub(super) fn bytes(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    /// Bytes before compression.
    pub(super) fn raw(&self) -> u64 {
        self.raw
    }

    /// A block, padded to four bytes; `fill` appends its content.
    ///
    /// # Errors
    /// If the file cannot be written. What was written before stays.
    pub(super) fn block(&mut self, kind: u32, fill: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let start = self.pending.len();
        self.pending.extend_from_slice(&kind.to_le_bytes());
        self.pending.extend_from_slice(&[0; 4]);
        fill(&mut self.pending);
        let length = (self.pending.len() - start).next_multiple_of(4) + 4;
        self.pending.resize(start + length - 4, 0);
        let length = (length as u32).to_le_bytes();
        self.pending.extend_from_slice(&length);
        if let Some(place) = self.pending.get_mut(start + 4..start + 8) {
            place.copy_from_slice(&length);
        }
        self.raw += (self.pending.len() - start) as u64;
        let piece = if self.packed { PACKED_PIECE } else { PIECE };
        if self.pending.len() >= piece { self.flush() } else { Ok(()) }
    }

    /// Writes what was gathered. Compressed, it is a member of its own, as gzip allows.
    ///
    /// # Errors
    /// If that fails; then the file is cut to the last whole piece, and what was gathered is gone.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let wrote = if self.packed { self.write_packed() } else { self.write_plain() };
        self.pending.clear();
        match wrote {
            Ok(bytes) => self.written += bytes,
            Err(error) => {
                // Half a block would be damage; where this fails too, the reader tells the place.
                let _ = self.file.set_len(self.written);
                let _ = self.file.seek(SeekFrom::Start(self.written));
                return Err(error);
            }
        }
        Ok(())
    }

    fn write_plain(&mut self) -> io::Result<u64> {
        self.file.write_all(&self.pending)?;
        Ok(self.pending.len() as u64)
    }

    fn write_packed(&mut self) -> io::Result<u64> {
        let mut encoder = GzEncoder::new(Vec::with_capacity(self.pending.len() / 8), Compression::fast());
        encoder.write_all(&self.pending)?;
        let packed = encoder.finish()?;
        self.file.write_all(&packed)?;
        Ok(packed.len() as u64)
    }

    /// Writes what is left, and waits until the disk has it.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.sync_all()
    }
}
