//! Frames: what a segment is made of once its blocks are unpacked.
//!
//! A frame is eight bytes (length of the payload, kind, three zeros), the payload, and zeros up to the next multiple of
//! eight, so that every payload is aligned as [`tw_model::Raw::parse`] wants it.

use zerocopy::IntoBytes;

/// Bytes in front of each payload.
const HEAD: usize = 8;

/// Longest payload of a frame in bytes. Kernel records are far below.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[non_exhaustive]
pub enum FrameKind {
    /// A record as the kernel half wrote it; without secrets if the caller takes them out.
    Record = 1,
    /// Something is missing here: a [`Gap`]. Written by the recorder itself.
    Gap = 2,
    /// Which container a cgroup is: eight bytes of cgroup id, then the container's id. See
    /// [`super::Recorder::note_container`].
    Note = 3,
    /// A piece of the caller's state as of the start of the segment.
    State = 16,
    /// What the caller found out of a cgroup.
    Place = 17,
    /// What the caller found out of a container.
    Container = 18,
    /// Names of users and groups.
    Names = 19,
    /// Relation of the clocks.
    Clock = 20,
    /// A finding, as it was told live.
    Finding = 21,
    /// Events that were missed, as the caller learnt it.
    Missed = 22,
}

impl FrameKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Record,
        Self::Gap,
        Self::Note,
        Self::State,
        Self::Place,
        Self::Container,
        Self::Names,
        Self::Clock,
        Self::Finding,
        Self::Missed,
    ];

    /// The kind with this number; `None` if this version does not know it.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// What is missing at a place of the recording: payload of [`FrameKind::Gap`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    /// Records lost.
    pub records: u64,
    /// Frames of other kinds lost.
    pub others: u64,
}

impl Gap {
    /// Reads the payload of a Gap frame; `None` if it is too short.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let (records, rest) = payload.split_first_chunk()?;
        let (others, _) = rest.split_first_chunk()?;
        Some(Self { records: u64::from_le_bytes(*records), others: u64::from_le_bytes(*others) })
    }

    pub(super) fn payload(self) -> [u8; 16] {
        (u128::from(self.others) << 64 | u128::from(self.records)).to_le_bytes()
    }

    pub(super) fn is_empty(self) -> bool {
        self == Self::default()
    }

    pub(super) fn add(&mut self, other: Self) {
        self.records += other.records;
        self.others += other.others;
    }

    /// What is left when `other` is not missing.
    pub(super) fn without(self, other: Self) -> Self {
        Self { records: self.records.saturating_sub(other.records), others: self.others.saturating_sub(other.others) }
    }

    /// Counts a frame: a record as one, another as one of these, with the records that it says were lost.
    pub(super) fn count(&mut self, kind: u8, payload: &[u8]) {
        if kind == FrameKind::Record as u8 {
            self.records = self.records.saturating_add(1);
            return;
        }
        self.others = self.others.saturating_add(1);
        if kind == FrameKind::Gap as u8
            && let Some(gap) = Self::parse(payload)
        {
            self.records = self.records.saturating_add(gap.records);
        }
    }
}

/// Splits the payload of a Note frame into cgroup and id of the container; `None` if it is none.
pub(super) fn parse_note(payload: &[u8]) -> Option<(u64, &str)> {
    let (cgroup, id) = payload.split_first_chunk()?;
    let id = std::str::from_utf8(id).ok()?;
    Some((u64::from_le_bytes(*cgroup), id))
}

/// Frames one behind the other, in memory that is aligned to eight bytes and does not grow unless it must.
#[derive(Debug)]
pub(super) struct Frames {
    words: Vec<u64>,
    used: usize,
    /// Frames of kind Record in it.
    pub records: u64,
    /// Frames of other kinds in it.
    pub others: u64,
}

impl Frames {
    /// Room for `bytes` bytes.
    pub fn with_room(bytes: usize) -> Self {
        Self { words: vec![0; bytes.div_ceil(8)], used: 0, records: 0, others: 0 }
    }

    /// Bytes that a frame with this payload takes.
    pub fn size_of(payload: usize) -> usize {
        HEAD + payload.next_multiple_of(8)
    }

    /// Bytes that are free.
    pub fn room(&self) -> usize {
        self.words.len() * 8 - self.used
    }

    /// Bytes that are taken.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Makes at least this room, with new memory if it must be.
    pub fn reserve(&mut self, bytes: usize) {
        let wanted = (self.used + bytes).div_ceil(8);
        if wanted > self.words.len() {
            self.words.resize(wanted, 0);
        }
    }

    /// Copies a frame in; false if there is no room for it.
    #[inline]
    pub fn push(&mut self, kind: u8, payload: &[u8]) -> bool {
        let size = Self::size_of(payload.len());
        let Some(place) = self.words.as_mut_bytes().get_mut(self.used..self.used + size) else { return false };
        let (head, rest) = place.split_at_mut(HEAD);
        let (body, pad) = rest.split_at_mut(payload.len());
        head.copy_from_slice(&(payload.len() as u64 | u64::from(kind) << 32).to_le_bytes());
        body.copy_from_slice(payload);
        pad.fill(0);
        self.used += size;
        if kind == FrameKind::Record as u8 {
            self.records += 1;
        } else {
            self.others += 1;
        }
        true
    }

    /// Empties it, and gives back memory beyond `bytes`.
    pub fn clear(&mut self, bytes: usize) {
        (self.used, self.records, self.others) = (0, 0, 0);
        let words = bytes.div_ceil(8);
        if self.words.len() > words {
            self.words.truncate(words);
            self.words.shrink_to_fit();
        }
    }

    /// What would be lost with it.
    pub fn as_gap(&self) -> Gap {
        Gap { records: self.records, others: self.others }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.words.as_bytes().get(..self.used).unwrap_or_default()
    }
}

/// Walks frames: number of the kind and payload of each, and at the end `Err` with the offset if the bytes break off.
pub(super) fn walk(bytes: &[u8]) -> impl Iterator<Item = Result<(u8, &[u8]), usize>> {
    let mut at = 0;
    let mut broken = false;
    std::iter::from_fn(move || {
        if broken || at >= bytes.len() {
            return None;
        }
        let Some(frame) = frame_at(bytes, at) else {
            broken = true;
            return Some(Err(at));
        };
        at += Frames::size_of(frame.1.len());
        Some(Ok(frame))
    })
}

fn frame_at(bytes: &[u8], at: usize) -> Option<(u8, &[u8])> {
    let (head, rest) = bytes.get(at..)?.split_first_chunk::<HEAD>()?;
    let [a, b, c, d, kind, ..] = *head;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    // The padding must be there as well, or the next frame would begin outside.
    if length > MAX_PAYLOAD || rest.len() < length.next_multiple_of(8) {
        return None;
    }
    Some((kind, rest.get(..length)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_back_aligned() {
        let mut frames = Frames::with_room(64);
        assert!(frames.push(1, b"abc"));
        assert!(frames.push(200, b""));
        assert!(frames.push(16, &[7; 16]));
        assert!(!frames.push(1, &[7; 16]), "there is room for one of one byte only");
        assert!(frames.push(1, b"x"));
        let read: Vec<_> = walk(frames.bytes()).map(Result::unwrap).collect();
        assert_eq!(read, [(1, b"abc".as_slice()), (200, b""), (16, &[7; 16]), (1, b"x")]);
        assert!(read.iter().all(|(_, payload)| (payload.as_ptr() as usize).is_multiple_of(8)));
        assert_eq!((frames.records, frames.others), (2, 2));
    }

    #[test]
    fn frames_that_break_off_are_noticed() {
        let mut frames = Frames::with_room(64);
        frames.push(1, b"abc");
        frames.push(1, b"defg");
        for cut in 1..frames.used() {
            let read: Vec<_> = walk(&frames.bytes()[..cut]).collect();
            let whole = usize::from(cut >= 16);
            let error = if cut == 16 { None } else { Some(&Err(16 * whole)) };
            assert_eq!((read.iter().filter(|frame| frame.is_ok()).count(), read.get(whole)), (whole, error), "{cut}");
        }
    }

    #[test]
    fn kinds_and_gaps_survive_their_numbers() {
        for kind in FrameKind::ALL {
            assert_eq!(FrameKind::from_number(kind as u8), Some(kind));
        }
        assert_eq!(FrameKind::from_number(0), None);
        let gap = Gap { records: 3, others: u64::MAX };
        assert_eq!(Gap::parse(&gap.payload()), Some(gap));
        assert_eq!(Gap::parse(&[0; 15]), None);
        assert_eq!(parse_note(b"\x01\0\0\0\0\0\0\0abc"), Some((1, "abc")));
        assert_eq!(parse_note(b"\x01\0\0\0\0\0\0"), None);
    }
}
