//! Our own records in a capture: events of a number that belongs to nobody. Every reader passes over events of numbers
//! that it does not know; ours takes them in the place of everything else.

/// Number of the events: `TW`.
pub(super) const EVENT: u16 = 0x5754;
/// In the number of a frame: the next event goes on with it.
pub(super) const MORE: u8 = 0x80;
/// Most bytes of a frame in one event: old readers have room for 64 KiB.
pub(super) const PART: usize = 32_000;
/// Most bytes of a frame.
pub(super) const MAX: usize = 4 << 20;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Who wrote it and how, in JSON: the first frame, and the first of each further part of a file.
    Meta,
    /// A record as the kernel half wrote it.
    Record,
    /// Records that were lost here: two numbers of eight bytes, records and other frames.
    Gap,
    /// Something that was learnt beside records, in JSON.
    Context,
    /// A finding as it was told, in JSON.
    Finding,
}

impl Frame {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Meta => 0,
            Self::Record => 1,
            Self::Gap => 2,
            Self::Context => 3,
            Self::Finding => 4,
        }
    }

    pub(super) fn of(number: u8) -> Option<Self> {
        Some(match number & !MORE {
            0 => Self::Meta,
            1 => Self::Record,
            2 => Self::Gap,
            3 => Self::Context,
            4 => Self::Finding,
            _ => return None,
        })
    }
}

/// What a part makes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Made<'a> {
    /// Nothing yet: it goes on.
    Part,
    /// It was the last part of this frame.
    Frame(Frame, &'a [u8]),
    /// A frame of no known kind, or one that is too long.
    Broken,
}

/// Puts frames together again.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    bytes: Vec<u8>,
    /// Aligned, as records have to be.
    words: Vec<u64>,
    /// Too long: it is left out whole.
    over: bool,
}

impl Assembly {
    /// Takes a part.
    pub(super) fn take(&mut self, number: u8, part: &[u8]) -> Made<'_> {
        if self.bytes.len() + part.len() > MAX {
            self.over = true;
        }
        if !self.over {
            self.bytes.extend_from_slice(part);
        }
        if number & MORE != 0 {
            return Made::Part;
        }
        self.words.clear();
        self.words.extend(self.bytes.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            if let Some(place) = word.get_mut(..chunk.len()) {
                place.copy_from_slice(chunk);
            }
            u64::from_ne_bytes(word)
        }));
        let (length, over) = (self.bytes.len(), std::mem::take(&mut self.over));
        self.bytes.clear();
        let bytes = zerocopy::IntoBytes::as_bytes(self.words.as_slice()).get(..length);
        match (Frame::of(number), bytes) {
            (Some(frame), Some(bytes)) if !over => Made::Frame(frame, bytes),
            _ => Made::Broken,
        }
    }
}
