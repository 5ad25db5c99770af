//! Scanner of the condition language.
//!
//! What a byte means depends on where it stands (`=` ends a word, but `>` may be in one), so the parser asks
//! for what it expects instead of being fed a list of tokens.

use crate::ast::{Word, is_bare, is_blank};
use crate::loader::Compat;
use crate::parser::ParseError;
use crate::text::Span;

/// A position in a condition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lexer<'t> {
    text: &'t str,
    at: usize,
    compat: Compat,
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic()
}

pub(crate) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

impl<'t> Lexer<'t> {
    /// A scanner at byte `at` of `text`.
    pub fn new(text: &'t str, at: usize) -> Self {
        Self { text, at: at.min(text.len()), compat: Compat::Normal }
    }

    /// The same with Falco's ways of reading quotes, or without.
    #[must_use]
    pub fn compat(self, compat: Compat) -> Self {
        Self { compat, ..self }
    }

    /// The byte at which it stands.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The next byte.
    pub fn peek(&self) -> Option<u8> {
        self.rest().first().copied()
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'t [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// Skips blanks; tells whether there were any.
    pub fn blanks(&mut self) -> bool {
        let count = self.rest().iter().take_while(|byte| is_blank(**byte)).count();
        self.at += count;
        count > 0
    }

    /// Reads `symbol`, if it is next.
    pub fn symbol(&mut self, symbol: &str) -> bool {
        let found = self.rest().starts_with(symbol.as_bytes());
        if found {
            self.at += symbol.len();
        }
        found
    }

    /// Reads the whole word `word`, if it is next.
    pub fn keyword(&mut self, word: &str) -> bool {
        let found = self.rest().starts_with(word.as_bytes())
            && !self.rest().get(word.len()).is_some_and(|byte| is_name_byte(*byte) || *byte == b'.');
        if found {
            self.at += word.len();
        }
        found
    }

    /// Reads an identifier.
    pub fn identifier(&mut self) -> Option<(&'t str, Span)> {
        let length = self.identifier_at(0)?;
        Some(self.take(length))
    }

    /// Reads the name of a field: identifiers joined by dots, two at least.
    pub fn field_name(&mut self) -> Option<(&'t str, Span)> {
        let mut length = self.identifier_at(0)?;
        let mut parts = 1;
        while self.rest().get(length) == Some(&b'.') {
            let Some(more) = self.identifier_at(length + 1) else { break };
            length += 1 + more;
            parts += 1;
        }
        (parts > 1).then(|| self.take(length))
    }

    /// Reads a number.
    pub fn number(&mut self) -> Option<(&'t str, Span)> {
        let rest = self.rest();
        let digits = |from: usize| rest.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
        if rest.starts_with(b"0x") || rest.starts_with(b"0X") {
            let count = rest.iter().skip(2).take_while(|byte| byte.is_ascii_hexdigit()).count();
            return (count > 0).then(|| self.take(2 + count));
        }
        let sign = usize::from(matches!(rest.first(), Some(b'+' | b'-')));
        let whole = digits(sign);
        if whole == 0 {
            return None;
        }
        let mut length = sign + whole;
        if rest.get(length) == Some(&b'.') {
            length += 1 + digits(length + 1);
        }
        if matches!(rest.get(length), Some(b'e' | b'E')) && matches!(rest.get(length + 1), Some(b'+' | b'-')) {
            let exponent = digits(length + 2);
            length += if exponent > 0 { 2 + exponent } else { 0 };
        }
        Some(self.take(length))
    }

    /// Reads a literal without quotes.
    pub fn bare(&mut self) -> Option<Word> {
        let length = self.rest().iter().take_while(|byte| is_bare(**byte)).count();
        if length == 0 {
            return None;
        }
        let (text, span) = self.take(length);
        Some(Word { bytes: text.as_bytes().to_vec(), quoted: false, span })
    }

    /// Reads the text in brackets without quotes.
    pub fn bare_arg(&mut self) -> Option<&'t str> {
        let plain = |byte: &&u8| !is_blank(**byte) && !matches!(**byte, b'[' | b']' | b'"' | b'\'');
        let length = self.rest().iter().take_while(plain).count();
        (length > 0).then(|| self.take(length).0)
    }

    /// Reads a literal in quotes.
    ///
    /// # Errors
    /// If it is not ended, or holds an escape that there is not.
    pub fn quoted(&mut self) -> Result<Option<Word>, ParseError> {
        let start = self.at;
        let Some(quote @ (b'"' | b'\'')) = self.peek() else { return Ok(None) };
        let mut bytes = Vec::new();
        self.at += 1;
        loop {
            let Some(byte) = self.peek() else {
                return Err(ParseError::new(Span::new(start, self.at), "the quoted text has no end")
                    .help(format!("add a {} behind it", char::from(quote))));
            };
            self.at += 1;
            match byte {
                b'\\' => bytes.push(self.escape(quote)?),
                // In Falco a quote behind a backslash never ends the text, even if the backslash is escaped itself.
                byte if byte == quote
                    && !(self.compat == Compat::Strict && self.text.as_bytes().get(self.at - 2) == Some(&b'\\')) =>
                {
                    break;
                }
                byte => bytes.push(byte),
            }
        }
        Ok(Some(Word { bytes, quoted: true, span: Span::new(start, self.at) }))
    }

    fn escape(&mut self, quote: u8) -> Result<u8, ParseError> {
        let start = self.at - 1;
        let byte = self.peek();
        self.at += usize::from(byte.is_some());
        Ok(match byte {
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(byte @ (b'\\' | b'/')) => byte,
            Some(byte) if byte == quote => byte,
            // Falco's own rules count on a backslash before a blank being a backslash.
            Some(b' ') => b'\\',
            Some(b'x') => {
                let digits = self.rest().get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
                let value = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                let hex = digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
                match value {
                    Some(value) if hex => {
                        self.at += 2;
                        value
                    }
                    _ => return Err(bad_escape(Span::new(start, self.at))),
                }
            }
            _ => {
                let end = crate::text::ceil(self.text, self.at);
                self.at = end;
                return Err(bad_escape(Span::new(start, end)));
            }
        })
    }

    fn identifier_at(&self, from: usize) -> Option<usize> {
        let rest = self.rest().get(from..)?;
        rest.first().filter(|byte| is_letter(**byte))?;
        Some(rest.iter().take_while(|byte| is_name_byte(**byte)).count())
    }

    fn take(&mut self, length: usize) -> (&'t str, Span) {
        let start = self.at;
        self.at += length;
        // All callers count bytes that end at a character's boundary.
        (self.text.get(start..self.at).unwrap_or_default(), Span::new(start, self.at))
    }
}

fn bad_escape(span: Span) -> ParseError {
    ParseError::new(span, "there is no such escape")
        .help("escapes are \\b \\f \\n \\r \\t \\\\ \\/ \\xHH and the quote itself; write \\\\ for a backslash")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (text, number) in [
            ("12", Some("12")),
            ("-1)", Some("-1")),
            ("0x1F z", Some("0x1F")),
            ("1.5e+3", Some("1.5e+3")),
            ("1e5", Some("1")),
            ("1.", Some("1.")),
            ("x", None),
            ("-", None),
            ("0x", None),
        ] {
            assert_eq!(Lexer::new(text, 0).number().map(|(text, _)| text), number, "{text}");
        }
    }

    #[test]
    fn quoted_texts() {
        for (text, meaning) in [
            (r#""a b""#, Some("a b")),
            (r#"'a"b'"#, Some("a\"b")),
            (r#""a\"b""#, Some("a\"b")),
            (r#""\x41\n\\""#, Some("A\n\\")),
            (r#""a\ b""#, Some("a\\b")),
            (r#""a\\""#, Some("a\\")),
            (r#""\q""#, None),
            (r#""\'""#, None),
            (r#""\x4""#, None),
            (r#""\x+1""#, None),
            (r#""abc"#, None),
            (r#""abc\"#, None),
            ("\"\\é\"", None),
        ] {
            let word = Lexer::new(text, 0).quoted().ok().flatten();
            assert_eq!(word.as_ref().map(|word| word.lossy()).as_deref(), meaning, "{text}");
        }
    }

    #[test]
    fn quoted_texts_as_falco_reads_them() {
        for (text, meaning) in [
            (r#""a\ b""#, Some("a\\b")),
            (r#""a\\" b""#, Some("a\\\" b")),
            (r#""a\\""#, None),
            (r#""a b""#, Some("a b")),
        ] {
            let word = Lexer::new(text, 0).compat(Compat::Strict).quoted().ok().flatten();
            assert_eq!(word.as_ref().map(|word| word.lossy()).as_deref(), meaning, "{text}");
        }
    }

    #[test]
    fn names() {
        assert_eq!(Lexer::new("proc.aname[2]", 0).field_name().map(|(name, _)| name), Some("proc.aname"));
        assert_eq!(Lexer::new("proc", 0).field_name(), None);
        assert_eq!(Lexer::new("proc.", 0).field_name(), None);
        assert_eq!(Lexer::new("_a", 0).identifier(), None);
        assert!(!Lexer::new("android", 0).keyword("and"));
        assert!(Lexer::new("and(", 0).keyword("and"));
    }
}
