//! Texts that know which bytes of which file they came from.

use std::ops::Range;
use std::sync::Arc;

/// Number of a file in the order of loading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileId(pub u32);

/// A stretch of bytes of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    /// The file.
    pub file: FileId,
    /// First byte.
    pub start: usize,
    /// Byte behind the last.
    pub end: usize,
}

/// A stretch of bytes of a [`Text`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// Byte behind the last.
    pub end: usize,
}

impl Span {
    /// The span of a range.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end: end.max(start) }
    }
}

/// Where a piece of a text came from.
#[derive(Clone, Debug)]
enum Origin {
    /// Byte for byte from this offset on.
    Verbatim(usize),
    /// Each byte has its own offset (folded lines, escapes).
    Mapped(Arc<[u32]>),
    /// Only the scalar as a whole is known, or the piece was made for it.
    Whole,
}

#[derive(Clone, Debug)]
struct Piece {
    at: usize,
    whole: Place,
    origin: Origin,
}

/// A condition or output, put together from one or more scalars of rule files (`append`, exceptions).
#[derive(Clone, Debug, Default)]
pub struct Text {
    value: String,
    pieces: Vec<Piece>,
}

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.value
    }

    /// The text of a scalar that stands at `place` as `raw` and means `value`.
    pub(crate) fn of_scalar(value: &str, raw: &str, place: &Place) -> Self {
        let mut text = Self::default();
        let origin = align(value, raw, place.start);
        text.value.push_str(value);
        text.pieces.push(Piece { at: 0, whole: place.clone(), origin });
        text
    }

    /// Adds made-up text on behalf of the scalar at `place`.
    pub(crate) fn push_made(&mut self, value: &str, place: &Place) {
        self.pieces.push(Piece { at: self.value.len(), whole: place.clone(), origin: Origin::Whole });
        self.value.push_str(value);
    }

    /// Adds another text.
    pub(crate) fn push(&mut self, other: &Self) {
        let base = self.value.len();
        self.value.push_str(&other.value);
        self.pieces.extend(other.pieces.iter().map(|piece| Piece { at: piece.at + base, ..piece.clone() }));
    }

    /// Adds another text behind a space.
    pub(crate) fn append(&mut self, other: &Self) {
        let place = other.whole();
        self.push_made(" ", &place);
        self.push(other);
    }

    /// The text without blanks at both ends.
    #[must_use]
    pub(crate) fn trimmed(&self) -> Self {
        let start = self.value.len() - self.value.trim_start().len();
        self.slice(start..start + self.value.trim().len())
    }

    /// A stretch of the text; empty if it does not lie between characters.
    #[must_use]
    pub(crate) fn slice(&self, range: Range<usize>) -> Self {
        let Range { start, end } = range;
        let value = self.value.get(start..end).unwrap_or_default().to_owned();
        let mut pieces = Vec::with_capacity(self.pieces.len());
        for (i, piece) in self.pieces.iter().enumerate() {
            let next = self.pieces.get(i + 1).map_or(self.value.len(), |next| next.at);
            if next <= start || piece.at >= end.max(1) {
                continue;
            }
            let cut = start.saturating_sub(piece.at);
            let origin = match &piece.origin {
                Origin::Verbatim(offset) => Origin::Verbatim(offset + cut),
                Origin::Mapped(map) => Origin::Mapped(map.get(cut..).unwrap_or_default().into()),
                Origin::Whole => Origin::Whole,
            };
            pieces.push(Piece { at: piece.at.saturating_sub(start), whole: piece.whole.clone(), origin });
        }
        Self { value, pieces }
    }

    /// Where the first piece stands.
    pub(crate) fn whole(&self) -> Place {
        self.pieces.first().map(|piece| piece.whole.clone()).unwrap_or_default()
    }

    /// Where in which file a span of this text stands.
    pub(crate) fn place(&self, span: Span) -> Place {
        let Some((piece, start)) = self.byte(span.start) else { return self.whole() };
        let Some(start) = start else { return piece.whole.clone() };
        let end = match self.byte(span.end.max(span.start + 1) - 1) {
            Some((last, Some(end))) if last.whole.file == piece.whole.file && end >= start => {
                end + usize::from(span.end > span.start)
            }
            _ => start,
        };
        Place { file: piece.whole.file, start, end }
    }

    /// The piece that holds byte `at`, and the byte's offset in the file if it is known.
    fn byte(&self, at: usize) -> Option<(&Piece, Option<usize>)> {
        let index = self.pieces.partition_point(|piece| piece.at <= at).checked_sub(1)?;
        let piece = &self.pieces[index];
        let inside = at - piece.at;
        let offset = match &piece.origin {
            Origin::Verbatim(offset) => Some(offset + inside),
            Origin::Mapped(map) => Some(map.get(inside).map_or(piece.whole.end, |offset| *offset as usize)),
            Origin::Whole => None,
        };
        Some((piece, offset))
    }
}

/// Finds each byte of `value` in `raw`, allowing for what YAML does to blanks and in quotes.
fn align(value: &str, raw: &str, base: usize) -> Origin {
    if raw.starts_with(value) {
        return Origin::Verbatim(base);
    }
    let inner = raw.get(1..).unwrap_or_default();
    if raw.starts_with(['"', '\'']) && inner.starts_with(value) {
        return Origin::Verbatim(base + 1);
    }
    let quote = raw.bytes().next().filter(|byte| matches!(byte, b'"' | b'\''));
    walk(value.as_bytes(), raw.as_bytes(), base, 0, 0)
        .or_else(|| walk(value.as_bytes(), raw.as_bytes(), base, 1, quote?))
        .map_or(Origin::Whole, |map| Origin::Mapped(map.into()))
}

/// Walks over both texts from raw byte `from` on; `quote` is the scalar's quote or 0.
fn walk(value: &[u8], raw: &[u8], base: usize, from: usize, quote: u8) -> Option<Vec<u32>> {
    let blank = |byte: u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let mut map = Vec::with_capacity(value.len());
    let mut at = from;
    for byte in value {
        while let Some(here) = raw.get(at) {
            let escaped = match quote {
                b'\'' => *here == b'\'' && raw.get(at + 1) == Some(&b'\''),
                b'"' => *here == b'\\' && raw.get(at + 1).is_some_and(|next| next == byte || blank(*next)),
                _ => false,
            };
            if escaped {
                at += 1;
            } else if here == byte || (blank(*here) && blank(*byte)) || !blank(*here) {
                break;
            } else {
                at += 1;
            }
        }
        map.push(u32::try_from(base + at.min(raw.len())).ok()?);
        match raw.get(at) {
            Some(here) if here == byte || (blank(*here) && blank(*byte)) => at += 1,
            _ if blank(*byte) => {}
            _ => return None,
        }
    }
    Some(map)
}

/// The files that were loaded.
#[derive(Debug, Default)]
pub(crate) struct Files(Vec<File>);

#[derive(Debug)]
struct File {
    name: String,
    text: String,
    /// The byte at which each line begins.
    lines: Vec<usize>,
}

impl Files {
    /// Adds a file.
    pub fn add(&mut self, name: String, text: String) -> FileId {
        let starts = memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1);
        let lines = std::iter::once(0).chain(starts).collect();
        self.0.push(File { name, text, lines });
        FileId(u32::try_from(self.0.len() - 1).unwrap_or(u32::MAX))
    }

    /// Name of a file.
    pub fn name(&self, file: FileId) -> &str {
        self.0.get(file.0 as usize).map_or("", |file| &file.name)
    }

    /// Text of a file.
    pub fn text(&self, file: FileId) -> &str {
        self.0.get(file.0 as usize).map_or("", |file| &file.text)
    }

    /// Line and column (in characters) of a byte, both from 1.
    pub fn line_column(&self, file: FileId, byte: usize) -> (usize, usize) {
        let Some(File { text, lines, .. }) = self.0.get(file.0 as usize) else { return (1, 1) };
        let byte = floor(text, byte);
        let line = lines.partition_point(|start| *start <= byte).max(1);
        let start = lines.get(line - 1).copied().unwrap_or_default();
        let column = text.get(start..byte).unwrap_or_default().chars().count() + 1;
        (line, column)
    }
}

/// The nearest character boundary at or before `byte`.
pub(crate) fn floor(text: &str, byte: usize) -> usize {
    let mut byte = byte.min(text.len());
    while !text.is_char_boundary(byte) {
        byte -= 1;
    }
    byte
}

/// The nearest character boundary at or behind `byte`.
pub(crate) fn ceil(text: &str, byte: usize) -> usize {
    let mut byte = byte.min(text.len());
    while !text.is_char_boundary(byte) {
        byte += 1;
    }
    byte
}

/// A range as a place.
pub(crate) fn place(file: FileId, range: Range<usize>) -> Place {
    Place { file, start: range.start, end: range.end }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(value: &str, raw: &str, needle: &str) -> Option<String> {
        let text = Text::of_scalar(value, raw, &place(FileId(0), 0..raw.len()));
        let at = value.find(needle)?;
        let place = text.place(Span::new(at, at + needle.len()));
        raw.get(place.start..place.end).map(str::to_owned)
    }

    #[test]
    fn words_are_found_in_what_yaml_made_of_them() {
        for (value, raw, needle) in [
            ("a and b", "a and b", "and"),
            ("a and b\n", "a\n    and b\n\n  ", "and"),
            ("foo\n bar", "foo\n     bar\n", "bar"),
            ("it's x", "'it''s x'", "x"),
            ("a\"b c", "\"a\\\"b \\\n   c\"", "c"),
            ("é x", "'é x'", "x"),
        ] {
            assert_eq!(found(value, raw, needle).as_deref(), Some(needle), "{raw}");
        }
    }

    #[test]
    fn an_unknown_escape_points_at_the_whole_scalar() {
        assert_eq!(found("a\tb", "\"a\\tb\"", "b").as_deref(), Some("\"a\\tb\""));
    }

    #[test]
    fn appended_texts_keep_their_places() {
        let mut text = Text::of_scalar("one", "one", &place(FileId(0), 10..13));
        text.append(&Text::of_scalar("two", "two", &place(FileId(1), 50..53)));
        assert_eq!(text.as_str(), "one two");
        assert_eq!(text.place(Span::new(0, 3)), place(FileId(0), 10..13));
        assert_eq!(text.place(Span::new(4, 7)), place(FileId(1), 50..53));
        assert_eq!(text.place(Span::new(7, 7)), place(FileId(1), 53..53));
    }

    #[test]
    fn trimming_keeps_places() {
        let text = Text::of_scalar("  x y ", "  x y ", &place(FileId(0), 5..11)).trimmed();
        assert_eq!(text.as_str(), "x y");
        assert_eq!(text.place(Span::new(2, 3)), place(FileId(0), 9..10));
    }

    #[test]
    fn lines_and_columns_count_characters() {
        let mut files = Files::default();
        let id = files.add("f".into(), "ab\né x\n".into());
        assert_eq!(files.line_column(id, 0), (1, 1));
        assert_eq!(files.line_column(id, 6), (2, 3));
        assert_eq!(files.line_column(id, 99), (3, 1));
    }
}
