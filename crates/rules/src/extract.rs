//! Where the two sides of a comparison get their values: fields, and transformers of them.

use bumpalo::collections::Vec as BumpVec;
use tw_model::{Event, FieldRef, Value};

/// A compiled left or right side.
#[derive(Clone, Debug)]
pub(crate) enum Extract {
    /// A field.
    Field(FieldRef),
    /// A constant text.
    Text(Box<[u8]>),
    /// A constant number.
    Number(i64),
    /// A list put together.
    List(Box<[Extract]>),
    /// ASCII lower case.
    ToLower(Box<Extract>),
    /// ASCII upper case.
    ToUpper(Box<Extract>),
    /// Base64, decoded.
    B64(Box<Extract>),
    /// What is behind the last slash.
    Basename(Box<Extract>),
    /// Bytes of a text, elements of a list.
    Len(Box<Extract>),
    /// Elements of a list with a separator between them.
    Join(Box<Extract>, Box<Extract>),
    /// Texts one after the other.
    Concat(Box<[Extract]>),
    /// Options of a command line: the list, the option string, and the option asked for.
    Getopt(Box<Extract>, Box<Extract>, Option<u8>),
}

impl Extract {
    /// The value for this event; `None` is null. What must be built is built in the event's scratch arena.
    pub fn get<'e>(&self, event: &Event<'e>) -> Option<Value<'e>> {
        match self {
            Self::Field(field) => field.get(event),
            Self::Text(text) => Some(Value::Text(event.scratch.alloc_slice_copy(text))),
            Self::Number(number) => Some(Value::Int(*number)),
            Self::List(items) => {
                let mut values = BumpVec::with_capacity_in(items.len(), event.scratch);
                for item in items {
                    values.push(item.get(event)?);
                }
                Some(Value::List(values.into_bump_slice()))
            }
            Self::ToLower(inner) => change(event, inner.get(event)?, |bytes| bytes.make_ascii_lowercase()),
            Self::ToUpper(inner) => change(event, inner.get(event)?, |bytes| bytes.make_ascii_uppercase()),
            Self::B64(inner) => decode_base64(event, text(inner.get(event)?)?),
            Self::Basename(inner) => {
                let path = text(inner.get(event)?)?;
                let from = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
                path.get(from..).map(Value::Text)
            }
            Self::Len(inner) => Some(Value::Uint(match inner.get(event)? {
                Value::Text(text) => text.iter().position(|byte| *byte == 0).unwrap_or(text.len()) as u64,
                Value::List(items) | Value::Any(items) => items.len() as u64,
                _ => return None,
            })),
            Self::Join(separator, list) => join(event, separator.get(event)?, list.get(event)?),
            Self::Concat(parts) => {
                let mut joined = BumpVec::new_in(event.scratch);
                for part in parts {
                    joined.extend_from_slice(text(part.get(event)?)?);
                }
                Some(Value::Text(joined.into_bump_slice()))
            }
            Self::Getopt(list, known, option) => getopt(event, list.get(event)?, known.get(event)?, *option),
        }
    }
}

fn text<'e>(value: Value<'e>) -> Option<&'e [u8]> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn change<'e>(event: &Event<'e>, value: Value<'e>, how: fn(&mut [u8])) -> Option<Value<'e>> {
    match value {
        Value::Text(text) => {
            let copy = event.scratch.alloc_slice_copy(text);
            how(copy);
            Some(Value::Text(copy))
        }
        Value::List(items) => {
            let mut changed = BumpVec::with_capacity_in(items.len(), event.scratch);
            for item in items {
                changed.push(change(event, Value::Text(text(*item)?), how)?);
            }
            Some(Value::List(changed.into_bump_slice()))
        }
        _ => None,
    }
}

fn join<'e>(event: &Event<'e>, separator: Value<'e>, list: Value<'e>) -> Option<Value<'e>> {
    let separator = text(separator)?;
    let (Value::List(items) | Value::Any(items)) = list else { return None };
    let mut joined = BumpVec::new_in(event.scratch);
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            joined.extend_from_slice(separator);
        }
        joined.extend_from_slice(text(*item)?);
    }
    Some(Value::Text(joined.into_bump_slice()))
}

fn decode_base64<'e>(event: &Event<'e>, text: &[u8]) -> Option<Value<'e>> {
    let text = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut out = BumpVec::with_capacity_in(text.len() / 4 * 3 + 3, event.scratch);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    // A single digit at the end is not a byte.
    (count != 6).then(|| Value::Text(out.into_bump_slice()))
}

/// Options of a command line in the manner of getopt(3): with `option` the value of its last occurrence, else
/// all options and values in a row.
fn getopt<'e>(event: &Event<'e>, list: Value<'e>, known: Value<'e>, option: Option<u8>) -> Option<Value<'e>> {
    let known = text(known)?;
    let (Value::List(items) | Value::Any(items)) = list else { return None };
    let mut all = BumpVec::new_in(event.scratch);
    let mut last = None;
    let mut found = |letter: &'e [u8], value: Option<&'e [u8]>| {
        all.push(Value::Text(letter));
        if let Some(value) = value {
            all.push(Value::Text(value));
        }
        if letter.first() == option.as_ref() {
            last = Some(value.unwrap_or_default());
        }
    };
    let mut words = items.iter();
    while let Some(word) = words.next() {
        let word = text(*word)?;
        if word == b"--" || !word.starts_with(b"-") || word.len() < 2 {
            break;
        }
        if word.starts_with(b"--") {
            continue;
        }
        for at in 1..word.len() {
            let letter = &word[at..=at];
            let place = known.iter().position(|byte| *byte == letter[0] && *byte != b':');
            let Some(place) = place else {
                found(b"?", None);
                continue;
            };
            if known.get(place + 1) != Some(&b':') {
                found(letter, None);
                continue;
            }
            let rest = &word[at + 1..];
            let value = if rest.is_empty() { words.next().copied().and_then(text) } else { Some(rest) };
            match value {
                Some(value) => found(letter, Some(value)),
                None => found(b"?", None),
            }
            break;
        }
    }
    match option {
        Some(_) => last.map(Value::Text),
        None => Some(Value::List(all.into_bump_slice())),
    }
}

/// A text as valid UTF-8, copied to the scratch arena only if it is not.
pub(crate) fn valid_utf8<'e>(event: &Event<'e>, bytes: &'e [u8]) -> &'e [u8] {
    if std::str::from_utf8(bytes).is_ok() {
        return bytes;
    }
    let mut valid = BumpVec::with_capacity_in(bytes.len() * 2, event.scratch);
    for chunk in bytes.utf8_chunks() {
        valid.extend_from_slice(chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            valid.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    valid.into_bump_slice()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::file_sample;

    #[test]
    fn base64_and_broken_utf8() {
        file_sample()
            .inspect(1, |event| {
                for (encoded, decoded) in [
                    ("YWJj", Some("abc")),
                    ("YWI=", Some("ab")),
                    ("YQ==", Some("a")),
                    ("YQ", Some("a")),
                    ("", Some("")),
                    ("Y", None),
                    ("Y Q=", None),
                ] {
                    let expected = decoded.map(|text| Value::Text(text.as_bytes()));
                    assert_eq!(decode_base64(event, encoded.as_bytes()), expected, "{encoded}");
                }
                assert_eq!(valid_utf8(event, b"a\xffb"), "a\u{fffd}b".as_bytes());
                assert_eq!(valid_utf8(event, b"ab"), b"ab");
            })
            .unwrap();
    }
}
