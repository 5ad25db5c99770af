//! What was found before, for the same text or the same open: the same libraries and configuration files are opened again
//! and again.

use tw_model::field::Opened;

use super::group::Group;

/// What was found for texts seen lately.
pub(super) struct Texts {
    words: usize,
    /// Longest text that is remembered, in bytes.
    longest: usize,
    numbers: Box<[u128]>,
    lengths: Box<[u16]>,
    /// `longest` bytes for each.
    texts: Box<[u8]>,
    truths: Box<[u64]>,
}

impl Texts {
    /// For a group: many texts of events, a few command lines of processes, which are longer.
    pub fn new(group: &Group) -> Self {
        let (many, longest): (usize, usize) = if group.lasting { (16, 4352) } else { (2048, 120) };
        Self {
            words: group.words,
            longest,
            numbers: vec![0; many].into(),
            lengths: vec![u16::MAX; many].into(),
            texts: vec![0; many * longest].into(),
            truths: vec![0; many * group.words].into(),
        }
    }

    /// The place of a number and a text, which is theirs from now on, and whether it was before. `None` if the text is
    /// too long to be remembered.
    fn claim(&mut self, number: u128, text: &[u8]) -> Option<(usize, bool)> {
        if text.len() > self.longest {
            return None;
        }
        let slot = place(number, text) & (self.lengths.len() - 1);
        let known_number = self.numbers.get_mut(slot)?;
        let length = self.lengths.get_mut(slot)?;
        let known = self.texts.get_mut(slot * self.longest..)?.get_mut(..text.len())?;
        let same = usize::from(*length) == text.len() && *known_number == number && known == text;
        if !same {
            *known_number = number;
            *length = text.len() as u16;
            known.copy_from_slice(text);
        }
        Some((slot, same))
    }

    fn kept(&mut self, slot: usize) -> &mut [u64] {
        self.truths.get_mut(slot * self.words..(slot + 1) * self.words).unwrap_or_default()
    }

    /// Gives what was found for the same number and text before, or finds it.
    pub fn recall(&mut self, number: u128, text: &[u8], truth: &mut [u64], find: impl FnOnce(&mut [u64])) {
        let Some((slot, same)) = self.claim(number, text) else { return find(truth) };
        let kept = self.kept(slot);
        if same {
            copy(kept, truth);
        } else {
            find(truth);
            copy(truth, kept);
        }
    }
}

/// Copies truths. Most groups are one word: that is cheaper than a call.
fn copy(from: &[u64], to: &mut [u64]) {
    match (from, to) {
        ([from], [to]) => *to = *from,
        (from, to) if from.len() == to.len() => to.copy_from_slice(from),
        _ => {}
    }
}

/// A place for a number and a text, by its length and some of its bytes: two at the same place cost time, nothing else.
/// The lower bits are as good as the higher ones.
fn place(number: u128, text: &[u8]) -> usize {
    let word = |bytes: Option<&[u8; 8]>| bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let middle = text.get(text.len() / 2..).and_then(|rest| rest.first_chunk());
    let ends = word(text.last_chunk()) ^ word(middle).rotate_left(23) ^ word(text.first_chunk()).rotate_left(41);
    // Texts shorter than a word.
    let short = text.iter().rev().take(if text.len() < 8 { 8 } else { 0 });
    let short = short.fold(0, |word: u64, byte| word << 8 | u64::from(*byte));
    let number = number as u64 ^ (number >> 64) as u64;
    let mixed = (ends ^ short ^ text.len() as u64 ^ number.rotate_left(31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) as usize >> 20
}

/// Opens that came to nothing, judged by the class of their process and by what is opened, and how. Such an open comes
/// to nothing again.
pub(super) struct Quiet {
    opens: Box<[QuietOpen]>,
}

/// Two lines of the processor's cache.
#[derive(Clone, Copy)]
#[repr(align(128))]
struct QuietOpen {
    how: u128,
    class: u64,
    length: u8,
    path: [u8; QUIET_LONGEST],
}

/// Opens remembered; a power of two.
const QUIET: usize = 4096;
/// Longest path of such an open, in bytes.
const QUIET_LONGEST: usize = 103;

impl Quiet {
    pub fn new() -> Self {
        // No path is so long.
        let none = QuietOpen { how: 0, class: 0, length: u8::MAX, path: [0; QUIET_LONGEST] };
        Self { opens: vec![none; QUIET].into() }
    }

    /// Whether an open of this class is among them.
    pub fn holds(&self, class: u64, opened: &Opened<'_>) -> bool {
        self.opens.get(Self::place(class, opened)).is_some_and(|known| {
            known.class == class
                && known.how == opened.how
                && known.path.get(..usize::from(known.length)) == Some(opened.path)
        })
    }

    /// Says that an open of this class came to nothing.
    pub fn note(&mut self, class: u64, opened: &Opened<'_>) {
        let place = Self::place(class, opened);
        if let Some(known) = self.opens.get_mut(place)
            && let Some(path) = known.path.get_mut(..opened.path.len())
        {
            path.copy_from_slice(opened.path);
            (known.class, known.how, known.length) = (class, opened.how, opened.path.len() as u8);
        }
    }

    fn place(class: u64, opened: &Opened<'_>) -> usize {
        place(opened.how ^ u128::from(class), opened.path) & (QUIET - 1)
    }
}
