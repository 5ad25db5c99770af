//! Passwords of users in URLs: `scheme://user:password@host`.

use super::extent::{self, is_blank};
use super::names::{self, SHORTEST};
use super::patterns::Kind;
use super::{Find, Form};

/// How far a password with unescaped `/`, `?` or `#` is followed, in bytes.
const FAR: usize = 512;
/// Users of http URLs shorter than this are names, not tokens.
const TOKEN: usize = 20;

/// Finds passwords of users in URLs.
pub(super) fn scan(text: &[u8], finds: &mut Vec<Find>) {
    let mut resume = 0;
    for at in memchr::memmem::find_iter(text, b"://") {
        if at >= resume {
            resume = url(text, at, finds);
        }
    }
}

fn url(text: &[u8], scheme_end: usize, finds: &mut Vec<Find>) -> usize {
    let start = scheme_end + 3;
    let stops = |byte: &u8| is_blank(*byte) || matches!(byte, b'"' | b'\'' | b'`' | b'<' | b'>' | b'\\');
    let ends = |byte: &u8| stops(byte) || matches!(byte, b'/' | b'?' | b'#');
    let end = text[start..].iter().position(ends).map_or(text.len(), |len| start + len);
    let authority = &text[start..end];
    let colon = extent::position(authority, b':');
    let from = scheme_end;
    if let Some(host) = memchr::memrchr(b'@', authority) {
        // `docker://image:tag@sha256:…`
        if authority[host + 1..].starts_with(b"sha256") {
            return end;
        }
        match colon.filter(|colon| *colon < host) {
            Some(colon) => push(text, from, start + colon + 1, start + host, finds),
            None if text[..scheme_end].ends_with(b"http") || text[..scheme_end].ends_with(b"https") => {
                let user = &authority[..host];
                if user.len() >= TOKEN && user.iter().any(u8::is_ascii_digit) && !user.contains(&b'@') {
                    push(text, from, start, start + host, finds);
                }
            }
            None => {}
        }
        return end;
    }
    // `user:pass/word@host`: not a port, and an `@` further on.
    if let Some(colon) = colon
        && !authority.starts_with(b"[")
        && matches!(text.get(end), Some(b'/' | b'?' | b'#'))
        && !authority[colon + 1..].iter().all(u8::is_ascii_digit)
    {
        let far = &text[end..text.len().min(end + FAR)];
        let far = &far[..far.iter().position(stops).unwrap_or(far.len())];
        if let Some(host) = memchr::memrchr(b'@', far) {
            push(text, from, start + colon + 1, end + host, finds);
            return end + host;
        }
    }
    end
}

fn push(text: &[u8], from: usize, start: usize, end: usize, finds: &mut Vec<Find>) {
    let value = &text[start..end];
    // Paths are fine as passwords here; variables and placeholders are not.
    let placeholder = matches!(value.first(), Some(b'$' | b'<' | b'{' | b'%')) && names::starts_plain(value);
    if value.len() >= SHORTEST && !placeholder && !value.iter().all(|byte| matches!(byte, b'*' | b'x' | b'X')) {
        finds.push(Find { from, start, end, kind: Kind::UrlPassword, form: Form::Percent });
    }
}
