//! Lists put into conditions as text, as Falco does before it parses them. Only with [`super::Compat::Strict`].

use crate::ast::is_blank;
use crate::text::Text;

/// How long a condition may become, in bytes.
const MAX_TEXT: usize = 16 << 20;

/// Whether a list's name may end beside this byte.
fn is_border(byte: Option<u8>) -> bool {
    byte.is_none_or(|byte| is_blank(byte) || matches!(byte, b'(' | b')' | b',' | b'='))
}

/// Puts the values of the list `name` wherever it is named, in quotes too. `None`: it grows too large.
///
/// The second result tells whether the list was named.
pub(super) fn put_in(text: &Text, name: &str, values: &[Text]) -> Option<(Text, bool)> {
    let source = text.as_str();
    if name.is_empty() || !source.contains(name) {
        return Some((text.clone(), false));
    }
    let bytes = source.as_bytes();
    let mut out = Text::default();
    let (mut copied, mut from) = (0, 0);
    let mut used = false;
    while let Some(found) = source.get(from..).and_then(|rest| rest.find(name)) {
        let (mut start, mut end) = (from + found, from + found + name.len());
        from = end;
        let before = start.checked_sub(1).and_then(|at| bytes.get(at)).copied();
        if !is_border(before) || !is_border(bytes.get(end).copied()) {
            continue;
        }
        used = true;
        while start > copied && is_blank(bytes[start - 1]) {
            start -= 1;
        }
        while bytes.get(end).copied().is_some_and(is_blank) {
            end += 1;
        }
        if values.is_empty() {
            // One comma goes with it.
            if bytes.get(end) == Some(&b',') {
                end += 1;
            } else if start > copied && bytes[start - 1] == b',' {
                start -= 1;
            }
        }
        out.push(&text.slice(copied..start));
        let place = text.whole();
        // What was swallowed must not join words: `= list and`.
        let apart = |byte: Option<u8>| !is_border(byte);
        let behind = apart(bytes.get(end).copied());
        let before = apart(start.checked_sub(1).and_then(|at| bytes.get(at)).copied());
        if before && (behind || !values.is_empty()) {
            out.push_made(" ", &place);
        }
        for (i, value) in values.iter().enumerate() {
            if i > 0 {
                out.push_made(", ", &place);
            }
            let quoted = value.as_str().contains(' ') && !value.as_str().starts_with(['"', '\'']);
            if quoted {
                out.push_made("\"", &place);
            }
            out.push(value);
            if quoted {
                out.push_made("\"", &place);
            }
            if out.as_str().len() > MAX_TEXT {
                return None;
            }
        }
        if behind && !values.is_empty() {
            out.push_made(" ", &place);
        }
        copied = end;
        from = end;
    }
    out.push(&text.slice(copied..source.len()));
    Some((out, used))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{FileId, Span, place};

    fn text(text: &str) -> Text {
        Text::of_scalar(text, text, &place(FileId(0), 0..text.len()))
    }

    #[test]
    fn values_take_the_place_of_names() {
        let values = [text("a"), text("b c"), text("'d'")];
        for (condition, expected) in [
            ("x in (l)", "x in (a, \"b c\", 'd')"),
            ("x in ( y , l , z )", "x in ( y ,a, \"b c\", 'd', z )"),
            ("x in (list)", "x in (list)"),
            ("x = l and y", "x =a, \"b c\", 'd' and y"),
            ("x = \"say l now\"", "x = \"say a, \"b c\", 'd' now\""),
        ] {
            assert_eq!(put_in(&text(condition), "l", &values).unwrap().0.as_str(), expected, "{condition}");
        }
        for (condition, expected) in [
            ("x in (l)", "x in ()"),
            ("x in (l, a)", "x in ( a)"),
            ("x in (a, l)", "x in (a)"),
            ("x in (a, l, b)", "x in (a, b)"),
        ] {
            assert_eq!(put_in(&text(condition), "l", &[]).unwrap().0.as_str(), expected, "{condition}");
        }
    }

    #[test]
    fn places_stay_with_what_is_around() {
        let (out, used) = put_in(&text("x in (l) and y"), "l", &[text("abc")]).unwrap();
        assert!(used);
        let at = out.as_str().find('y').unwrap();
        assert_eq!(out.place(Span::new(at, at + 1)), place(FileId(0), 13..14));
    }
}
