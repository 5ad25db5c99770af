//! Records put together by hand: for sensors without a kernel half, and for tests.

use zerocopy::{Immutable, IntoBytes};

use super::{Header, Str};

/// The bytes in whole words, padded with zeros: a copy of a record that is aligned as [`Raw::parse`] wants it.
pub fn to_words(bytes: &[u8]) -> Vec<u64> {
    bytes
        .chunks(8)
        .map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_ne_bytes(word)
        })
        .collect()
}

/// The bytes of such a copy.
pub fn from_words(words: &[u64]) -> &[u8] {
    words.as_bytes()
}

/// Builds records, for sensors without a kernel half and for tests.
pub struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    /// Starts a record for `header` whose body takes `body_size` bytes.
    pub fn new(header: &Header, body_size: usize) -> Self {
        let mut bytes = header.as_bytes().to_vec();
        bytes.resize(bytes.len() + body_size, 0);
        Self { bytes }
    }

    /// Appends a string to the tail, cut so that the record stays under 64 KiB.
    pub fn text(&mut self, text: &[u8]) -> Str {
        let off = self.bytes.len();
        let room = usize::from(u16::MAX).saturating_sub(off + 8);
        let text = &text[..text.len().min(room)];
        self.bytes.extend_from_slice(text);
        Str { off: off as u16, len: text.len() as u16 }
    }

    /// Sets bits of the header's flags.
    pub fn flag(&mut self, flags: u16) {
        const AT: usize = std::mem::offset_of!(Header, flags);
        let old = u16::from_ne_bytes([self.bytes[AT], self.bytes[AT + 1]]);
        self.bytes[AT..AT + 2].copy_from_slice(&(old | flags).to_ne_bytes());
    }

    /// Puts another header in the place of the one that the record was begun with; its flags are kept.
    pub fn set_header(&mut self, header: &Header) {
        const AT: usize = std::mem::offset_of!(Header, flags);
        let flags = u16::from_ne_bytes([self.bytes[AT], self.bytes[AT + 1]]);
        let header = Header { flags: header.flags | flags, ..*header };
        self.bytes[..size_of::<Header>()].copy_from_slice(header.as_bytes());
    }

    /// Writes the body and returns the record, padded to 8 bytes so that records can lie behind each other.
    pub fn finish<B: IntoBytes + Immutable>(mut self, body: &B) -> Vec<u8> {
        let start = size_of::<Header>();
        self.bytes[start..start + size_of::<B>()].copy_from_slice(body.as_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let size = self.bytes.len() as u16;
        self.bytes[..2].copy_from_slice(&size.to_ne_bytes());
        self.bytes
    }
}
