//! Blocks: compressed frames behind a head that says what is in them, so that a reader can pass them over unopened.

use tw_model::event::EVENTS;
use tw_model::raw::Header;
use zerocopy::FromBytes;
use zerocopy::little_endian::{U16, U32, U64, U128};

use super::frame::{FrameKind, Gap, walk};

/// What a block begins with.
pub(super) const MAGIC: [u8; 8] = *b"TWblock\n";
/// Most bytes of frames in a block.
pub(super) const MAX_RAW: usize = 4 << 20;
/// Most bytes that a block's data may take on disk: what cannot be compressed grows a little.
pub(super) const MAX_STORED: usize = MAX_RAW + (64 << 10);
/// Most cgroups that a head lists.
const MAX_CGROUPS: usize = 256;
/// Bytes of a head before its lists.
pub(super) const FIXED: usize = size_of::<Fixed>();
/// Longest head in bytes.
pub(super) const MAX_HEAD: usize = FIXED + 128 * 4 + MAX_CGROUPS * 12 + 8;
/// Flag: a frame of the block notes which container a cgroup is.
const HAS_NOTES: u16 = 1;

/// The head as it lies on disk, before its lists.
#[derive(
    Clone, Copy, FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout, zerocopy::Unaligned,
)]
#[repr(C)]
struct Fixed {
    magic: [u8; 8],
    raw: U32,
    stored: U32,
    frames: U32,
    records: U32,
    lost: U64,
    first: U64,
    last: U64,
    kinds: U128,
    cgroups: U16,
    flags: U16,
    others: U32,
    data_crc: U32,
    head_crc: U32,
}

/// What a block holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct BlockHead {
    /// Bytes of its frames.
    pub raw: u32,
    /// Bytes of its compressed data.
    pub stored: u32,
    /// Frames.
    pub frames: u32,
    /// Records among them.
    pub records: u32,
    /// Records lost, as its gaps say.
    pub lost: u64,
    /// Earliest and latest time of its records; 0 if it has none.
    pub first: u64,
    pub last: u64,
    /// Number of records by kind, for the kinds that occur, ascending.
    pub kinds: Vec<(u8, u32)>,
    /// Number of records by cgroup, ascending by cgroup.
    pub cgroups: Vec<(u64, u32)>,
    /// Number of records of cgroups that are not listed.
    pub others: u32,
    /// Whether it notes containers.
    pub has_notes: bool,
    /// CRC32C of the compressed data.
    pub data_crc: u32,
}

/// Why bytes are not a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHead {
    /// Something else.
    Foreign,
    /// It may be one, but bytes are missing.
    Short,
}

/// Reads only the header of a record; `None` if it is too short.
pub(super) fn record_header(payload: &[u8]) -> Option<&Header> {
    Header::ref_from_prefix(payload).ok().map(|(header, _)| header)
}

impl BlockHead {
    /// What is missing if its data cannot be read.
    pub fn as_gap(&self) -> Gap {
        Gap { records: u64::from(self.records).saturating_add(self.lost), others: self.context().into() }
    }

    /// Sets it to what these frames hold. `kinds` and `cgroups` keep their memory.
    pub fn take_stock(&mut self, frames: &[u8]) {
        let (mut kinds, mut cgroups) = (std::mem::take(&mut self.kinds), std::mem::take(&mut self.cgroups));
        kinds.clear();
        cgroups.clear();
        *self = Self { raw: frames.len() as u32, first: u64::MAX, kinds, cgroups, ..Self::default() };
        let mut by_kind = [0_u32; 128];
        let mut at = 0;
        for (kind, payload) in walk(frames).map_while(Result::ok) {
            self.frames += 1;
            match FrameKind::from_number(kind) {
                Some(FrameKind::Gap) => self.lost += Gap::parse(payload).unwrap_or_default().records,
                Some(FrameKind::Note) => self.has_notes = true,
                Some(FrameKind::Record) => {
                    self.records += 1;
                    let Some(header) = record_header(payload) else { continue };
                    let Some(count) = by_kind.get_mut(usize::from(header.kind)) else { continue };
                    if usize::from(header.kind) >= EVENTS.len() {
                        continue;
                    }
                    *count += 1;
                    self.first = self.first.min(header.time);
                    self.last = self.last.max(header.time);
                    at = self.count_cgroup(header.cgroup, at);
                }
                _ => {}
            }
        }
        if self.first == u64::MAX {
            self.first = self.last;
        }
        let occurring = by_kind.iter().enumerate().filter(|(_, count)| **count > 0);
        self.kinds.extend(occurring.map(|(kind, count)| (kind as u8, *count)));
    }

    /// Counts a record of `cgroup`. Neighbours often share theirs: `hint` is where the last one was.
    fn count_cgroup(&mut self, cgroup: u64, hint: usize) -> usize {
        let found = match self.cgroups.get(hint) {
            Some((id, _)) if *id == cgroup => Ok(hint),
            _ => self.cgroups.binary_search_by_key(&cgroup, |(id, _)| *id),
        };
        match found {
            Ok(at) => {
                if let Some((_, count)) = self.cgroups.get_mut(at) {
                    *count += 1;
                }
                at
            }
            Err(at) if self.cgroups.len() < MAX_CGROUPS => {
                self.cgroups.insert(at, (cgroup, 1));
                at
            }
            Err(_) => {
                self.others += 1;
                hint
            }
        }
    }

    /// Appends the head and its data to `out`.
    pub fn write(&mut self, data: &[u8], out: &mut Vec<u8>) {
        use zerocopy::IntoBytes as _;
        self.stored = data.len() as u32;
        self.data_crc = crc32c::crc32c(data);
        let mut fixed = Fixed {
            magic: MAGIC,
            raw: self.raw.into(),
            stored: self.stored.into(),
            frames: self.frames.into(),
            records: self.records.into(),
            lost: self.lost.into(),
            first: self.first.into(),
            last: self.last.into(),
            kinds: self.kinds.iter().fold(0, |kinds, (kind, _)| kinds | 1_u128 << kind).into(),
            cgroups: (self.cgroups.len() as u16).into(),
            flags: if self.has_notes { HAS_NOTES } else { 0 }.into(),
            others: self.others.into(),
            data_crc: self.data_crc.into(),
            head_crc: 0.into(),
        };
        let start = out.len();
        out.extend_from_slice(fixed.as_bytes());
        for (_, count) in &self.kinds {
            out.extend_from_slice(&count.to_le_bytes());
        }
        for (cgroup, count) in &self.cgroups {
            out.extend_from_slice(&cgroup.to_le_bytes());
            out.extend_from_slice(&count.to_le_bytes());
        }
        let head = out.get(start..).unwrap_or_default();
        fixed.head_crc = head_crc(head).into();
        if let Some(place) = out.get_mut(start..start + FIXED) {
            place.copy_from_slice(fixed.as_bytes());
        }
        out.extend_from_slice(data);
    }

    /// Reads the head that `bytes` begin with; also its length.
    ///
    /// # Errors
    /// [`NoHead`] if there is none, or not the whole of it.
    pub fn read(bytes: &[u8]) -> Result<(Self, usize), NoHead> {
        let known = bytes.len().min(MAGIC.len());
        if bytes.get(..known) != MAGIC.get(..known) {
            return Err(NoHead::Foreign);
        }
        let (fixed, lists) = Fixed::ref_from_prefix(bytes).map_err(|_| NoHead::Short)?;
        let kinds = fixed.kinds.get();
        let (kind_bytes, cgroups) = (kinds.count_ones() as usize * 4, usize::from(fixed.cgroups.get()));
        let length = FIXED + kind_bytes + cgroups * 12;
        let (raw, stored) = (fixed.raw.get(), fixed.stored.get());
        if cgroups > MAX_CGROUPS || raw as usize > MAX_RAW || stored as usize > MAX_STORED {
            return Err(NoHead::Foreign);
        }
        if bytes.len() < length {
            return Err(NoHead::Short);
        }
        if head_crc(bytes.get(..length).unwrap_or_default()) != fixed.head_crc.get() {
            return Err(NoHead::Foreign);
        }
        let (by_kind, by_cgroup) = lists.split_at_checked(kind_bytes).ok_or(NoHead::Short)?;
        let occurring = (0..128_u8).filter(|kind| kinds >> kind & 1 != 0);
        let (counts, _) = by_kind.as_chunks::<4>();
        let (entries, _) = by_cgroup.as_chunks::<12>();
        let head = Self {
            raw,
            stored,
            frames: fixed.frames.get(),
            records: fixed.records.get(),
            lost: fixed.lost.get(),
            first: fixed.first.get(),
            last: fixed.last.get(),
            kinds: occurring.zip(counts.iter().map(|count| u32::from_le_bytes(*count))).collect(),
            cgroups: entries.iter().take(cgroups).filter_map(entry_of).collect(),
            others: fixed.others.get(),
            has_notes: fixed.flags.get() & HAS_NOTES != 0,
            data_crc: fixed.data_crc.get(),
        };
        Ok((head, length))
    }

    /// Whether the block may hold a record of `cgroup`.
    pub fn may_hold(&self, cgroup: u64) -> bool {
        self.others > 0 || self.cgroups.iter().any(|(id, _)| *id == cgroup)
    }

    /// Frames that are not records.
    pub fn context(&self) -> u32 {
        self.frames.saturating_sub(self.records)
    }
}

fn entry_of(entry: &[u8; 12]) -> Option<(u64, u32)> {
    let (cgroup, count) = entry.split_first_chunk()?;
    Some((u64::from_le_bytes(*cgroup), u32::from_le_bytes(*count.first_chunk()?)))
}

/// CRC32C of a head with its lists, without the CRC itself.
fn head_crc(head: &[u8]) -> u32 {
    let before = head.get(..FIXED - 4).unwrap_or_default();
    let after = head.get(FIXED..).unwrap_or_default();
    crc32c::crc32c_append(crc32c::crc32c(before), after)
}

#[cfg(test)]
mod tests {
    use super::super::frame::Frames;
    use super::*;
    use tw_model::EventKind;
    use tw_model::raw::{Encoder, ExitBody};

    fn exit(time: u64, cgroup: u64) -> Vec<u8> {
        let header = Header { kind: EventKind::Procexit as u16, time, cgroup, ..Header::default() };
        Encoder::new(&header, size_of::<ExitBody>()).finish(&ExitBody::default())
    }

    fn head_of(frames: &Frames) -> BlockHead {
        let mut head = BlockHead::default();
        head.take_stock(frames.bytes());
        head
    }

    #[test]
    fn a_head_says_what_the_block_holds() {
        let mut frames = Frames::with_room(4096);
        frames.push(FrameKind::Gap as u8, &Gap { records: 9, others: 1 }.payload());
        for (time, cgroup) in [(5, 8), (3, 8), (4, 2)] {
            frames.push(FrameKind::Record as u8, &exit(time, cgroup));
        }
        frames.push(FrameKind::Record as u8, b"no record");
        frames.push(FrameKind::State as u8, b"x");
        let mut head = head_of(&frames);
        assert_eq!((head.frames, head.records, head.lost, head.context()), (6, 4, 9, 2));
        assert_eq!((head.first, head.last), (3, 5));
        assert_eq!((head.kinds.as_slice(), head.cgroups.as_slice()), (&[(3, 3)][..], &[(2, 1), (8, 2)][..]));
        let mut out = b"before".to_vec();
        head.write(b"data", &mut out);
        let (read, length) = BlockHead::read(&out[6..]).unwrap();
        assert_eq!((&read, &out[6 + length..]), (&head, b"data".as_slice()));
        assert!(length <= MAX_HEAD);
    }

    #[test]
    fn every_bit_of_a_head_counts() {
        let mut frames = Frames::with_room(4096);
        frames.push(FrameKind::Record as u8, &exit(1, 2));
        let mut out = Vec::new();
        head_of(&frames).write(b"", &mut out);
        for at in 0..out.len() * 8 {
            let mut bad = out.clone();
            bad[at / 8] ^= 1 << (at % 8);
            assert!(BlockHead::read(&bad).is_err(), "bit {at}");
        }
        for cut in 0..out.len() {
            assert_eq!(BlockHead::read(&out[..cut]).err(), Some(NoHead::Short), "{cut}");
        }
    }

    #[test]
    fn cgroups_beyond_the_bound_are_counted_together() {
        let mut frames = Frames::with_room(1 << 20);
        for cgroup in 0..MAX_CGROUPS as u64 + 10 {
            frames.push(FrameKind::Record as u8, &exit(1, cgroup));
        }
        let head = head_of(&frames);
        assert_eq!((head.cgroups.len(), head.others), (MAX_CGROUPS, 10));
        assert!(head.may_hold(u64::MAX));
        let mut out = Vec::new();
        head.clone().write(b"", &mut out);
        assert!(out.len() <= MAX_HEAD);
    }
}
