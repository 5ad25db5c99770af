//! What was found before, for the same text or the same open: the same libraries and configuration files are opened again
//! and again.

use tw_model::Event;
use tw_model::field::Opened;

use super::group::Group;

/// Longest text that is remembered, in bytes.
const LONGEST: usize = 120;
/// How many texts are remembered for each group; a power of two.
const TEXTS: usize = 2048;

/// What was found for texts seen lately.
pub(super) struct Texts {
    words: usize,
    numbers: Box<[u128]>,
    lengths: Box<[u8]>,
    texts: Box<[[u8; LONGEST]]>,
    truths: Box<[u64]>,
}

impl Texts {
    /// For groups of `words` words.
    pub fn new(words: usize) -> Self {
        Self {
            words,
            numbers: vec![0; TEXTS].into(),
            lengths: vec![u8::MAX; TEXTS].into(),
            texts: vec![[0; LONGEST]; TEXTS].into(),
            truths: vec![0; TEXTS * words].into(),
        }
    }

    /// The place of a number and a text, which is theirs from now on, and whether it was before. `None` if the text is
    /// too long to be remembered.
    fn claim(&mut self, number: u128, text: &[u8]) -> Option<(usize, bool)> {
        if text.len() > LONGEST {
            return None;
        }
        let slot = place(number, text);
        let known_number = self.numbers.get_mut(slot)?;
        let length = self.lengths.get_mut(slot)?;
        let known = self.texts.get_mut(slot)?.get_mut(..text.len())?;
        let same = usize::from(*length) == text.len() && *known_number == number && known == text;
        if !same {
            *known_number = number;
            *length = text.len() as u8;
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
fn place(number: u128, text: &[u8]) -> usize {
    let word = |bytes: Option<&[u8; 8]>| bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let middle = text.get(text.len() / 2..).and_then(|rest| rest.first_chunk());
    let ends = word(text.last_chunk()) ^ word(middle).rotate_left(23) ^ word(text.first_chunk()).rotate_left(41);
    // Texts shorter than a word.
    let short = text.iter().rev().take(if text.len() < 8 { 8 } else { 0 });
    let short = short.fold(0, |word: u64, byte| word << 8 | u64::from(*byte));
    let number = number as u64 ^ (number >> 64) as u64;
    let mixed = (ends ^ short ^ text.len() as u64 ^ number.rotate_left(31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) as usize >> 20 & (TEXTS - 1)
}

/// What was found for opens seen lately, in the groups whose bits are decided by what is opened, and how. The bits of
/// these groups come first.
pub(super) struct Opens {
    /// Number of the group among its like, by its number among all.
    numbers: Box<[Option<u8>]>,
    known: Texts,
    /// For each place the groups whose bits are known.
    filled: Box<[u64]>,
    /// The event at hand, and the place of what it opens.
    event: u64,
    slot: Option<usize>,
}

/// Groups beyond so many are not remembered.
const GROUPS: u8 = 64;

impl Opens {
    pub fn new(groups: &[Group]) -> Self {
        let mut next = 0;
        let numbers = groups.iter().map(|group| {
            (group.of_open && next < GROUPS).then(|| {
                next += 1;
                next - 1
            })
        });
        let numbers = numbers.collect();
        let words = groups.iter().filter(|group| group.of_open).map(|group| group.words).sum();
        Self { numbers, known: Texts::new(words), filled: vec![0; TEXTS].into(), event: 0, slot: None }
    }

    /// Sets the bits of a group for the event, the `number`th that was looked at; false if it is no open, or the group
    /// is none of an open.
    pub fn fill(&mut self, place: usize, group: &Group, number: u64, event: &Event<'_>, bits: &mut [u64]) -> bool {
        let Some(Some(group_number)) = self.numbers.get(place) else { return false };
        if self.event != number {
            self.event = number;
            self.slot =
                Opened::of(event).and_then(|opened| self.known.claim(opened.how, opened.path)).map(|(slot, same)| {
                    if !same && let Some(filled) = self.filled.get_mut(slot) {
                        *filled = 0;
                    }
                    slot
                });
        }
        let Some(slot) = self.slot else { return false };
        let (Some(filled), Some(kept)) = (self.filled.get_mut(slot), self.known.kept(slot).get_mut(group.range()))
        else {
            return false;
        };
        if *filled & 1 << group_number != 0 {
            copy(kept, bits);
        } else {
            group.fill(event, bits);
            copy(bits, kept);
            *filled |= 1 << group_number;
        }
        true
    }
}
