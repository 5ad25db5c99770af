//! Secrets by the name before them: `name=value`, `name: value`, `"name": "value"`, headers, parameters of a query.

use super::extent::{self, is_blank, mark_len};
use super::names::{self, LONGEST, Promise};
use super::patterns::Kind;
use super::{Find, Form};

/// Finds pairs. With `whole`, the text is one argument or variable: a name at its start has all the
/// rest as its value.
pub(super) fn scan(text: &[u8], whole: bool, finds: &mut Vec<Find>) {
    let mut resume = 0;
    for at in memchr::memchr2_iter(b'=', b':', text) {
        if at >= resume {
            resume = pair(text, at, whole, finds);
        }
    }
}

/// The name before a separator.
struct Name {
    start: usize,
    end: usize,
    /// In quotes or brackets.
    quoted: bool,
    /// Blanks before the separator.
    spaced: bool,
}

fn name_before(text: &[u8], separator: usize) -> Name {
    let mut end = separator;
    while end > 0 && separator - end < 3 && matches!(text[end - 1], b' ' | b'\t') {
        end -= 1;
    }
    let spaced = end < separator;
    let before = end;
    if end > 0 && text[end - 1] == b']' {
        end -= 1;
    }
    if end > 0 && matches!(text[end - 1], b'"' | b'\'') {
        end -= 1;
        while end > 0 && before - end < 6 && text[end - 1] == b'\\' {
            end -= 1;
        }
    }
    let quoted = end < before;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let mut start = end;
    while start > 0 && end - start <= LONGEST && is_name(text[start - 1]) {
        start -= 1;
    }
    Name { start, end, quoted, spaced }
}

/// Looks at the pair around one separator; returns where to go on.
fn pair(text: &[u8], separator: usize, whole: bool, finds: &mut Vec<Find>) -> usize {
    let next = separator + 1;
    let name = name_before(text, separator);
    let word = &text[name.start..name.end];
    let before = name.start.checked_sub(1).map(|at| text[at]);
    if text[separator] == b':' {
        let bare_word = word.strip_prefix(b"Proxy-").or(word.strip_prefix(b"proxy-")).unwrap_or(word);
        if bare_word.eq_ignore_ascii_case(b"authorization") {
            return authorization(text, name.start, next, finds).unwrap_or(next);
        }
        if word.eq_ignore_ascii_case(b"cookie") || word.eq_ignore_ascii_case(b"set-cookie") {
            return cookies(text, next, word.len() > 6, finds);
        }
    } else if word.eq_ignore_ascii_case(b"authorization") {
        return authorization(text, name.start, next, finds).unwrap_or(next);
    }
    let in_query = text[separator] == b'=' && matches!(before, Some(b'?' | b'&'));
    let dashes = word.iter().take_while(|byte| **byte == b'-').count();
    let Some(promise) = names::promise(&word[dashes..]).or_else(|| names::query_promise(word).filter(|_| in_query))
    else {
        return next;
    };
    // An argument that starts with the name is one value to its end.
    let whole = whole && name.start == 0 && text[separator] == b'=' && !name.quoted && !name.spaced;
    let start = if whole { (next < text.len()).then_some(next) } else { value_start(text, separator, &name, before) };
    let Some(value) = start else { return next };
    let needs_look = text[separator] == b':' && !name.quoted;
    let reach = match (whole, in_query) {
        (true, _) => Reach::Rest,
        (_, true) => Reach::Query,
        _ => match before {
            Some(list @ (b',' | b';')) => Reach::List(list),
            _ => Reach::Bare,
        },
    };
    let (found, resume) = read(text, name.start, value, promise, reach);
    let Some(find) = found else { return resume.max(next) };
    let bytes = &text[find.start..find.end];
    let prose = if value > next {
        // "unexpected token: word"
        (promise.weak && names::is_word(bytes))
            // The program of this name speaks.
            || (word == b"passwd" && bytes.iter().all(u8::is_ascii_alphabetic))
    } else {
        // `registry/auth-token:1.4`, `pass:word`: without a blank only what is long and has a digit.
        let random = bytes.len() >= 16
            && bytes.iter().any(u8::is_ascii_digit)
            && memchr::memmem::find(bytes, extent::MARK).is_none();
        !random && (promise.weak || promise.kind != Kind::Password)
    };
    if needs_look && find.form == Form::Raw && prose {
        // What is long is not read twice.
        return if bytes.len() > LONGEST { resume } else { next };
    }
    finds.push(find);
    resume
}

/// Where the value starts, if the separator is one.
fn value_start(text: &[u8], separator: usize, name: &Name, before: Option<u8>) -> Option<usize> {
    let mut at = separator + 1;
    let blanks = if text[separator] == b'=' {
        while text.get(at) == Some(&b'=') {
            at += 1;
        }
        if text.get(at) == Some(&b'>') {
            at += 1;
        }
        // `PASSWORD= command` sets nothing.
        name.spaced || name.quoted
    } else {
        if !name.quoted && matches!(before, Some(b'/' | b'@' | b':' | b'$' | b'{')) && text.get(at) != Some(&b' ') {
            return None;
        }
        if text.get(at) == Some(&b'=') {
            at += 1;
        }
        true
    };
    if blanks {
        let len = text[at..].iter().take(8).take_while(|byte| matches!(**byte, b' ' | b'\t')).count();
        at += len;
    }
    (at < text.len()).then_some(at)
}

/// How an unquoted value ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// As in prose or a command line.
    Bare,
    /// The same, but at the latest at this byte: `a=1,password=x,ro`.
    List(u8),
    /// As in the query of a URL.
    Query,
    /// With the text.
    Rest,
}

/// Reads the value at `start`: the secret, if it is one, and where to go on.
pub(super) fn read(text: &[u8], from: usize, start: usize, promise: Promise, reach: Reach) -> (Option<Find>, usize) {
    let quote = extent::opening(text, start).filter(|(quote, slashes)| {
        // In an argument a quote is part of the value unless it encloses all of it.
        reach != Reach::Rest || (*slashes == 0 && text.len() > start + 1 && text.last() == Some(quote))
    });
    let first = quote.map_or(start, |(_, slashes)| start + slashes + 1);
    let mark = mark_len(&text[first..]);
    if mark > 0 {
        return (None, first + mark);
    }
    if names::starts_plain(&text[first..]) {
        return (None, first);
    }
    let (end, form) = match quote {
        Some((quote, slashes)) => {
            let form = if quote == b'"' && slashes == 0 { Form::Escaped } else { Form::Raw };
            (extent::quoted(text, first, quote, slashes), form)
        }
        None => match reach {
            Reach::Bare => (extent::bare(text, first, None), Form::Raw),
            Reach::List(separator) => (extent::bare(text, first, Some(separator)), Form::Raw),
            Reach::Query => (extent::query(text, first), Form::Percent),
            Reach::Rest => (extent::rest(text, first), Form::Raw),
        },
    };
    if end <= first || names::is_plain(&text[first..end], promise) {
        return (None, end.max(first));
    }
    (Some(Find { from, start: first, end, kind: promise.kind, form }), end)
}

/// Credentials of an Authorization header whose value starts at or after `at`.
fn authorization(text: &[u8], from: usize, at: usize, finds: &mut Vec<Find>) -> Option<usize> {
    const ONE_WORD: &[&str] =
        &["bearer", "basic", "token", "apikey", "api-key", "negotiate", "ntlm", "bot", "key", "jwt"];
    const MANY: &[&str] = &["digest", "aws4-hmac-sha256", "oauth", "signature", "hawk", "hmac"];
    let mut start = at + text[at..].iter().take(8).take_while(|byte| matches!(**byte, b' ' | b'\t')).count();
    let quote = extent::opening(text, start);
    if let Some((_, slashes)) = quote {
        start += slashes + 1;
    }
    let word_end = |start: usize| start + text[start..].iter().take_while(|byte| !is_blank(**byte)).count();
    let scheme_end = start + text[start..].iter().take(20).take_while(|byte| !is_blank(**byte)).count();
    let scheme = &text[start..scheme_end];
    let is_one_of = |names: &[&str]| names.iter().any(|name| scheme.eq_ignore_ascii_case(name.as_bytes()));
    let follows = text.get(scheme_end) == Some(&b' ');
    let mut form = Form::Raw;
    let mut first = start;
    let mut many = false;
    if follows && is_one_of(ONE_WORD) {
        first = scheme_end + 1;
        if scheme.eq_ignore_ascii_case(b"basic") {
            form = Form::Basic;
        }
    } else if follows && is_one_of(MANY) {
        (first, many) = (scheme_end + 1, true);
    }
    first += text[first..].iter().take(8).take_while(|byte| **byte == b' ').count();
    let mark = mark_len(text.get(first..)?);
    if mark > 0 {
        return Some(first + mark);
    }
    if names::starts_plain(&text[first..]) {
        return Some(first);
    }
    let mut end = match quote {
        Some((quote, slashes)) if !many => extent::quoted(text, first, quote, slashes).min(word_end(first)),
        _ => extent::bare(text, first, None),
    };
    // `Digest username="x", nonce="y"`: all that has the form name=value.
    while many && end < text.len() {
        let blanks = text[end..].iter().take(3).take_while(|byte| matches!(**byte, b' ' | b',' | b'"')).count();
        let next = end + blanks;
        let name = text[next..]
            .iter()
            .take(LONGEST)
            .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_' || **byte == b'-')
            .count();
        if blanks == 0 || name == 0 || text.get(next + name) != Some(&b'=') {
            break;
        }
        end = extent::bare(text, next, None);
    }
    let bytes = &text[first..end];
    if bytes.len() < names::SHORTEST || (first == start && names::is_word(bytes)) {
        return Some(first);
    }
    finds.push(Find { from, start: first, end, kind: Kind::Authorization, form });
    Some(end)
}

/// Values of cookies, the first one at or after `at`; returns where to go on.
pub(super) fn cookies(text: &[u8], at: usize, only_first: bool, finds: &mut Vec<Find>) -> usize {
    let blanks =
        |at: usize| at + text[at..].iter().take(8).take_while(|byte| matches!(**byte, b' ' | b'"' | b'\'')).count();
    let mut at = blanks(at);
    loop {
        let is_name = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'=' | b';' | b',' | b'"' | b'\'' | b'[');
        let len = text[at..].iter().take(LONGEST).take_while(|byte| is_name(byte)).count();
        if len == 0 || text.get(at + len) != Some(&b'=') {
            return at;
        }
        let start = at + len + 1;
        let mark = mark_len(&text[start..]);
        let ends = |byte: &u8| is_blank(*byte) || matches!(byte, b';' | b'"' | b'\'' | b'`' | b'\\');
        let end = text[start + mark..].iter().position(ends).map_or(text.len(), |len| start + mark + len);
        if mark == 0 && end - start >= names::SHORTEST {
            finds.push(Find { from: at, start, end, kind: Kind::Cookie, form: Form::Raw });
        }
        if only_first || text.get(end) != Some(&b';') {
            return end;
        }
        at = blanks(end + 1);
    }
}
