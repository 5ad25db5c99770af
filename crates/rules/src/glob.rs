//! Shell patterns as `fnmatch` without flags: `*` and `?` match `/` and leading dots, too.

/// Whether all of `text` matches `pattern`; `fold` ignores the case of ASCII letters.
///
/// Works on bytes. A `*` that fails moves on by one byte, never back over an earlier `*`, so that the time is
/// bounded by the product of both lengths.
pub(crate) fn matches(pattern: &[u8], text: &[u8], fold: bool) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    loop {
        let step = if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
            continue;
        } else {
            match text.get(t) {
                None if p == pattern.len() => return true,
                None => return false,
                Some(byte) => one(pattern.get(p..).unwrap_or_default(), *byte, fold),
            }
        };
        if let Some(length) = step {
            p += length;
            t += 1;
            continue;
        }
        let Some((behind, from)) = star else { return false };
        star = Some((behind, from + 1));
        p = behind;
        t = from + 1;
    }
}

/// Whether a pattern holds anything but literal bytes.
pub(crate) fn is_pattern(pattern: &[u8]) -> bool {
    pattern.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'))
}

/// Whether the pattern's first element matches `byte`: the length of the element.
fn one(pattern: &[u8], byte: u8, fold: bool) -> Option<usize> {
    match pattern.first()? {
        b'?' => Some(1),
        b'[' => match class(pattern, byte, fold) {
            Some((length, found)) => found.then_some(length),
            // A bracket that is never closed stands for itself.
            None => (byte == b'[').then_some(1),
        },
        b'\\' => {
            let literal = pattern.get(1)?;
            same(*literal, byte, fold).then_some(2)
        }
        literal => same(*literal, byte, fold).then_some(1),
    }
}

fn same(a: u8, b: u8, fold: bool) -> bool {
    a == b || (fold && a.eq_ignore_ascii_case(&b))
}

/// Length of a `[...]` and whether `byte` is in it; `None` if it is not closed.
fn class(pattern: &[u8], byte: u8, fold: bool) -> Option<(usize, bool)> {
    let mut at = 1;
    let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    at += usize::from(negated);
    let first = at;
    let mut found = false;
    loop {
        let here = *pattern.get(at)?;
        if here == b']' && at > first {
            return Some((at + 1, found != negated));
        }
        if here == b'['
            && pattern.get(at + 1) == Some(&b':')
            && let Some(length) = pattern.get(at + 2..)?.windows(2).position(|end| end == b":]")
        {
            found |= named(&pattern[at + 2..at + 2 + length], byte, fold);
            at += length + 4;
            continue;
        }
        let (low, after) = member(pattern, at)?;
        at = after;
        let is_range = pattern.get(at) == Some(&b'-') && !matches!(pattern.get(at + 1), None | Some(b']'));
        if is_range {
            let (high, after) = member(pattern, at + 1)?;
            at = after;
            let inside = |byte: u8| low <= byte && byte <= high;
            found |= inside(byte) || (fold && (inside(byte.to_ascii_lowercase()) || inside(byte.to_ascii_uppercase())));
        } else {
            found |= same(low, byte, fold);
        }
    }
}

/// One byte of a class, maybe behind a backslash, and where it ends.
fn member(pattern: &[u8], at: usize) -> Option<(u8, usize)> {
    match *pattern.get(at)? {
        b'\\' => Some((*pattern.get(at + 1)?, at + 2)),
        byte => Some((byte, at + 1)),
    }
}

fn named(name: &[u8], byte: u8, fold: bool) -> bool {
    match name {
        b"alpha" => byte.is_ascii_alphabetic(),
        b"digit" => byte.is_ascii_digit(),
        b"alnum" => byte.is_ascii_alphanumeric(),
        b"upper" => byte.is_ascii_uppercase() || (fold && byte.is_ascii_lowercase()),
        b"lower" => byte.is_ascii_lowercase() || (fold && byte.is_ascii_uppercase()),
        b"space" => matches!(byte, b' ' | 0x09..=0x0d),
        b"blank" => matches!(byte, b' ' | b'\t'),
        b"punct" => byte.is_ascii_punctuation(),
        b"xdigit" => byte.is_ascii_hexdigit(),
        b"cntrl" => byte.is_ascii_control(),
        b"graph" => byte.is_ascii_graphic(),
        b"print" => byte.is_ascii_graphic() || byte == b' ',
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("*", "a/b", true),
            ("/home/*/.ssh/*", "/home/u/.ssh/id_rsa", true),
            ("*../*../*", "/x/../../etc", true),
            ("*../*../*", "/x/../etc", false),
            ("?", "/", true),
            ("??", "a", false),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXbXb", false),
            ("[abc]x", "bx", true),
            ("[!abc]x", "bx", false),
            ("[^abc]x", "dx", true),
            ("[a-c0-9]", "7", true),
            ("[]]", "]", true),
            ("[a", "[a", true),
            ("[a-]", "-", true),
            ("[[:digit:]]*", "1a", true),
            ("[[:upper:]]", "a", false),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("a\\", "a", false),
            (".*", ".x", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes(), false), expected, "{pattern} {text}");
        }
        assert!(matches(b"*ABC[x-z]", b"zabcY", true));
        assert!(!matches(b"*ABC[x-z]", b"zabcY", false));
    }

    #[test]
    fn hostile_patterns_end() {
        let pattern = b"*a".repeat(200);
        let text = b"a".repeat(4000);
        assert!(!matches(&[pattern.as_slice(), b"b"].concat(), &text, false));
    }
}
