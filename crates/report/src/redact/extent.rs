//! How far a value reaches in text. Each function looks at every byte once.

use super::names::LONGEST;

/// What already stands for a secret starts with this.
pub(super) const MARK: &[u8] = b"[redacted:";
/// Hexadecimal digits of a digest.
pub(super) const DIGITS: usize = 12;

/// Length of the mark that `text` starts with; 0 if there is none.
pub(super) fn mark_len(text: &[u8]) -> usize {
    let Some(rest) = text.strip_prefix(MARK) else { return 0 };
    let name = rest.iter().take(32).take_while(|byte| byte.is_ascii_lowercase() || **byte == b'-').count();
    let Some(rest) = rest[name..].strip_prefix(b":") else { return 0 };
    let is_mark = name > 0
        && rest.len() > DIGITS
        && rest[..DIGITS].iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && rest[DIGITS] == b']';
    if is_mark { MARK.len() + name + 1 + DIGITS + 1 } else { 0 }
}

/// The first `:` (or another byte) that is in no mark.
pub(super) fn position(text: &[u8], byte: u8) -> Option<usize> {
    let mut at = 0;
    loop {
        let found = at + memchr::memchr2(byte, b'[', text.get(at..)?)?;
        match mark_len(&text[found..]) {
            0 if text[found] == byte => return Some(found),
            mark => at = found + mark.max(1),
        }
    }
}

/// Where a word ends: at white space or a control character.
pub(super) fn is_blank(byte: u8) -> bool {
    byte <= b' ' || byte == 0x7f
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// Whether a name with `=` or `:` starts here: what is before it belongs to another value.
fn starts_name(text: &[u8], spaces: bool) -> bool {
    let text = &text[..text.len().min(LONGEST + 1)];
    if !text.first().is_some_and(u8::is_ascii_alphabetic) {
        return false;
    }
    let end = text.iter().position(|byte| !(is_name(*byte) || (spaces && *byte == b' ')));
    end.is_some_and(|end| text[end] == b'=' || (!spaces && text[end] == b':'))
}

/// End of an unquoted value that starts at `start`: white space, a quote that closes something around it, or a `,`, `;`
/// or `&` before the next name, the byte `list` that separates pairs here; without punctuation at its end.
pub(super) fn bare(text: &[u8], start: usize, list: Option<u8>) -> usize {
    let mut end = start;
    while let Some(&byte) = text.get(end) {
        let after = text.get(end + 1).copied().unwrap_or(b' ');
        let ends = match byte {
            byte if is_blank(byte) || list == Some(byte) => true,
            b'\'' | b'"' | b'`' => {
                is_blank(after) || matches!(after, b',' | b';' | b':' | b')' | b']' | b'}' | b'&' | b'|' | b'>')
            }
            b'\\' => after == b'"',
            b',' | b';' | b'&' => starts_name(&text[end + 1..], byte == b';'),
            b'<' | b'>' | b'|' => true,
            _ => false,
        };
        if ends {
            break;
        }
        let mark = if byte == b'[' { mark_len(&text[end..]) } else { 0 };
        end += mark.max(1);
        if mark > 0 && text.get(end).is_some_and(|byte| matches!(byte, b')' | b']' | b'}' | b',' | b';')) {
            break;
        }
    }
    while end > start && matches!(text[end - 1], b',' | b';' | b')' | b']' | b'}' | b'&' | b'.' | b'\'' | b'"' | b'`') {
        if text[end - 1] == b']' && ends_in_mark(&text[start..end]) {
            break;
        }
        end -= 1;
    }
    end
}

fn ends_in_mark(text: &[u8]) -> bool {
    // A mark is never longer than this.
    let tail = &text[text.len().saturating_sub(MARK.len() + 32 + 1 + DIGITS + 1)..];
    (0..tail.len()).any(|at| mark_len(&tail[at..]) == tail.len() - at)
}

/// End of the value of a parameter of a URL's query.
pub(super) fn query(text: &[u8], start: usize) -> usize {
    let ends =
        |byte: &u8| is_blank(*byte) || matches!(byte, b'&' | b'#' | b'"' | b'\'' | b'`' | b'<' | b'>' | b'|' | b'\\');
    let end = text[start..].iter().position(ends).map_or(text.len(), |len| start + len);
    let trail =
        text[start..end].iter().rev().take_while(|byte| matches!(byte, b',' | b';' | b')' | b'}' | b'.')).count();
    end - trail
}

/// End of a value that takes the whole rest of an argument, unless another name follows it (`Password=…;Server=db`).
pub(super) fn rest(text: &[u8], start: usize) -> usize {
    let ends = |at: &usize| matches!(text[*at], b';' | b'&') && starts_name(&text[at + 1..], text[*at] == b';');
    (start..text.len()).find(ends).unwrap_or(text.len())
}

/// An opening quote at `start`, with up to four backslashes before it: the quote and their number.
pub(super) fn opening(text: &[u8], start: usize) -> Option<(u8, usize)> {
    let slashes = text[start..].iter().take(5).take_while(|byte| **byte == b'\\').count();
    let quote = *text.get(start + slashes)?;
    (matches!(quote, b'"' | b'\'') && slashes < 5).then_some((quote, slashes))
}

/// End of what such a quote opened just before `start`: its closing quote, else the end of the text.
pub(super) fn quoted(text: &[u8], start: usize, quote: u8, slashes: usize) -> usize {
    let mut run = 0;
    for (at, &byte) in text.iter().enumerate().skip(start) {
        if byte == b'\\' {
            run += 1;
            continue;
        }
        if byte == quote {
            let closes = if slashes == 0 { quote == b'\'' || run % 2 == 0 } else { run <= slashes };
            if closes {
                return if slashes == 0 { at } else { at - run };
            }
        }
        run = 0;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unquoted_values_end_where_a_reader_would_end_them() {
        for (text, value) in [
            ("abc def", "abc"),
            ("abc,user=x", "abc"),
            ("a,b;c&d", "a,b;c&d"),
            ("abc;Server=db", "abc"),
            ("abc; x", "abc"),
            ("abc)", "abc"),
            ("abc\",\"b\":1", "abc"),
            ("a'b c", "a'b"),
            ("abc' x", "abc"),
            ("abc|wc", "abc"),
            ("[redacted:token:0123456789ab]) x", "[redacted:token:0123456789ab]"),
        ] {
            assert_eq!(&text[..bare(text.as_bytes(), 0, None)], value, "{text}");
        }
    }

    #[test]
    fn quoted_values_end_at_their_own_quote() {
        for (text, value) in [
            (r#""a b" c"#, "a b"),
            (r#""a\"b" c"#, r#"a\"b"#),
            (r#"\"ab\",\"c\""#, "ab"),
            ("'a\\' b", "a\\"),
            ("\"open", "open"),
        ] {
            let (quote, slashes) = opening(text.as_bytes(), 0).unwrap();
            let start = slashes + 1;
            assert_eq!(&text[start..quoted(text.as_bytes(), start, quote, slashes)], value, "{text}");
        }
    }

    #[test]
    fn marks_are_recognised_whole() {
        assert_eq!(mark_len(b"[redacted:url-password:0123456789ab]@h"), 36);
        for other in ["[redacted:x:0123456789ab", "[redacted::0123456789ab]", "[redacted:x:0123456789aX]", "x"] {
            assert_eq!(mark_len(other.as_bytes()), 0, "{other}");
        }
    }
}
