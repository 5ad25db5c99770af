//! The bytes of the spool's files: blocks with a magic, a version and a checksum, and records. `docs/spec/spool.md` is
//! the specification.
//!
//! **Never:** a file, a clock, a decision.

use std::ops::Range;

/// Version of the format that this program writes.
pub const VERSION: u32 = 1;
/// Bytes of a segment's header.
pub const HEADER: usize = 40;
/// Bytes in front of a record's payload.
pub const PREFIX: usize = 16;
/// Longest payload in bytes.
pub const MAX_PAYLOAD: usize = 1 << 20;
/// Highest number of a record.
pub const MAX_SEQ: u64 = i64::MAX as u64;
/// Bytes of a slot of the cursor file that mean something.
pub const SLOT: usize = 64;
/// First bytes of a segment.
pub const SEGMENT_MAGIC: [u8; 8] = *b"TWSPOOL\x1a";
/// First bytes of a slot of the cursor file.
pub const CURSOR_MAGIC: [u8; 8] = *b"TWACKED\x1a";

/// Why a block cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadBlock {
    /// Not there, not ours, or damaged.
    Damaged,
    /// Intact, but of this newer version.
    Newer(u32),
}

/// Head of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Number of its first record.
    pub first: u64,
    /// Highest number given out before it. Less than `first - 1` if numbers were left out.
    pub follows: u64,
    /// When it was created, nanoseconds since the epoch. For people only.
    pub created_ns: u64,
}

impl Header {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        block(SEGMENT_MAGIC, [self.first, self.follows, self.created_ns])
    }

    /// From the first bytes of a segment.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadBlock> {
        let [first, follows, created_ns] = unblock(SEGMENT_MAGIC, bytes)?;
        let header = Self { first, follows, created_ns };
        if first == 0 || first > MAX_SEQ || follows >= first { Err(BadBlock::Damaged) } else { Ok(header) }
    }
}

/// Magic, version, checksum over everything else, numbers.
pub(super) fn block<const N: usize>(magic: [u8; 8], numbers: [u64; N]) -> Vec<u8> {
    let mut bytes = magic.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    let mut body = Vec::new();
    for number in numbers {
        body.extend(number.to_le_bytes());
    }
    bytes.extend(crc32c::crc32c_append(crc32c::crc32c(&bytes), &body).to_le_bytes());
    bytes.append(&mut body);
    bytes
}

/// The numbers of a block.
pub(super) fn unblock<const N: usize>(magic: [u8; 8], bytes: &[u8]) -> Result<[u64; N], BadBlock> {
    let bytes = bytes.get(..16 + 8 * N).ok_or(BadBlock::Damaged)?;
    let (Some(version), Some(crc)) = (u32_at(bytes, 8), u32_at(bytes, 12)) else { return Err(BadBlock::Damaged) };
    if bytes[..8] != magic || crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..]) != crc || version == 0 {
        return Err(BadBlock::Damaged);
    }
    if version > VERSION {
        return Err(BadBlock::Newer(version));
    }
    let mut numbers = [0; N];
    for (number, at) in numbers.iter_mut().zip((16..).step_by(8)) {
        *number = u64_at(bytes, at).ok_or(BadBlock::Damaged)?;
    }
    Ok(numbers)
}

/// Appends a record: checksum over the rest, length of the payload, number, payload.
pub(super) fn encode_record(seq: u64, payload: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend([0; 4]);
    out.extend((payload.len() as u32).to_le_bytes());
    out.extend(seq.to_le_bytes());
    out.extend(payload);
    let crc = crc32c::crc32c(&out[start + 4..]).to_le_bytes();
    out[start..start + 4].copy_from_slice(&crc);
}

/// What is at the start of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// A record that checks.
    Record {
        /// Its number.
        seq: u64,
        /// Where its payload is.
        payload: Range<usize>,
    },
    /// It may be a record, but not all of it is there.
    Short,
    /// None; if its length can be right, the next one is at `hop`.
    Bad {
        /// Where the next one would be.
        hop: Option<usize>,
    },
}

/// Looks at `at` for a record with a number in `numbers`. `spent` counts the bytes whose checksum was computed.
pub(super) fn look(bytes: &[u8], at: usize, numbers: &std::ops::RangeInclusive<u64>, spent: &mut u64) -> Look {
    let Some(record) = bytes.get(at..) else { return Look::Short };
    let (Some(crc), Some(length), Some(seq)) = (u32_at(record, 0), u32_at(record, 4), u64_at(record, 8)) else {
        return Look::Short;
    };
    let length = length as usize;
    if length > MAX_PAYLOAD {
        return Look::Bad { hop: None };
    }
    let hop = at + PREFIX + length;
    if !numbers.contains(&seq) {
        return Look::Bad { hop: Some(hop) };
    }
    let Some(checked) = record.get(4..PREFIX + length) else { return Look::Short };
    *spent += checked.len() as u64;
    if crc32c::crc32c(checked) != crc {
        return Look::Bad { hop: Some(hop) };
    }
    Look::Record { seq, payload: at + PREFIX..hop }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_back_and_every_flipped_bit_is_seen() {
        let header = Header { first: 7, follows: 6, created_ns: 5 };
        let bytes = header.encode();
        assert_eq!(bytes.len(), HEADER);
        assert_eq!(Header::decode(&bytes), Ok(header));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&flipped), Err(BadBlock::Damaged), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut bytes = Header { first: 1, follows: 0, created_ns: 0 }.encode();
        bytes[8] = 9;
        assert_eq!(Header::decode(&bytes), Err(BadBlock::Damaged), "the checksum does not fit");
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..]).to_le_bytes();
        bytes[12..16].copy_from_slice(&crc);
        assert_eq!(Header::decode(&bytes), Err(BadBlock::Newer(9)));
    }

    #[test]
    fn records_have_the_bytes_of_the_specification() {
        let mut bytes = Vec::new();
        encode_record(1, b"hello", &mut bytes);
        // The example of docs/spec/spool.md.
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(&hex[8..], "05000000010000000000000068656c6c6f");
        assert_eq!(bytes[..4], crc32c::crc32c(&bytes[4..]).to_le_bytes());
        let spec = include_str!("../../../../docs/spec/spool.md");
        assert!(spec.contains(&hex), "the example in docs/spec/spool.md should be {hex}");
    }
}
