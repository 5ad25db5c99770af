//! How a secret is written where it was found; its digest is of the bare secret, wherever it is.

use std::borrow::Cow;

/// How a secret is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is.
    Raw,
    /// In double quotes, with `\"` and `\\`.
    Escaped,
    /// With `%41`, as in URLs.
    Percent,
    /// `user:password` in base64.
    Basic,
}

impl Form {
    /// The bare secret. What cannot be decoded is taken as it is.
    pub(super) fn bare(self, secret: &[u8]) -> Cow<'_, [u8]> {
        match self {
            Self::Raw => Cow::Borrowed(secret),
            Self::Escaped => unescape(secret),
            Self::Percent => percent(secret),
            Self::Basic => match base64(secret) {
                Some(mut pair) => match memchr::memchr(b':', &pair) {
                    Some(colon) => Cow::Owned(pair.split_off(colon + 1)),
                    None => Cow::Borrowed(secret),
                },
                None => Cow::Borrowed(secret),
            },
        }
    }
}

fn unescape(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match (byte, bytes.peek()) {
            (b'\\', Some(&next @ (b'\\' | b'"' | b'/'))) => {
                plain.push(next);
                bytes.next();
            }
            _ => plain.push(byte),
        }
    }
    Cow::Owned(plain)
}

fn percent(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'%') {
        return Cow::Borrowed(text);
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut plain = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let code = match &text[at..] {
            [b'%', high, low, ..] => digit(*high).zip(digit(*low)),
            _ => None,
        };
        match code {
            Some((high, low)) => plain.push((high * 16 + low) as u8),
            None => plain.push(text[at]),
        }
        at += if code.is_some() { 3 } else { 1 };
    }
    Cow::Owned(plain)
}

fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(text);
    let mut plain = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            plain.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_same_however_it_is_written() {
        for (form, written, bare) in [
            (Form::Raw, "p@ss", "p@ss"),
            (Form::Percent, "p%40ss", "p@ss"),
            (Form::Percent, "100%", "100%"),
            (Form::Percent, "%zz%4", "%zz%4"),
            (Form::Escaped, r#"a\"b\\c\n"#, "a\"b\\c\\n"),
            (Form::Basic, "dXNlcjpwQHNz", "p@ss"),
            (Form::Basic, "dTpodW50ZXIy", "hunter2"),
            (Form::Basic, "dTpo", "h"),
            (Form::Basic, "no pair", "no pair"),
        ] {
            assert_eq!(form.bare(written.as_bytes()), bare.as_bytes(), "{written}");
        }
    }
}
