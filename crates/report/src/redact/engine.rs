//! What finds secrets: one look at the bytes that mostly says "nothing here", then only the readers that it calls for.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};
use regex::bytes::Regex;

use super::extent::{MARK, mark_len};
use super::options::{self, PROGRAMS};
use super::patterns::{Kind, PATTERNS};
use super::{Find, Form, pairs, urls};

/// The readers to run: one bit for each pattern with an expression (its row), and these.
type Readers = u64;
const PAIRS: Readers = 1 << 63;
const WORDS: Readers = 1 << 62;
const URLS: Readers = 1 << 61;
const MARKS: Readers = 1 << 60;
const PEM: Readers = 1 << 59;

/// What is in every name that promises a secret. Guarded by a test against `names.rs`.
const NAMES: &[&str] =
    &["pass", "pwd", "pw", "psw", "secret", "token", "bearer", "key", "psk", "erlang", "sig", "auth", "cookie"];

/// What finds secrets. The same for every redactor.
pub(super) struct Engine {
    /// Without it (it could not be built) every reader runs.
    first: Option<AhoCorasick>,
    /// For each of its literals.
    readers: Vec<Readers>,
    expressions: Vec<(usize, Regex)>,
    pem: Option<Regex>,
}

pub(super) static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let mut literals: Vec<(&str, Readers)> = vec![("://", URLS), ("[redacted:", MARKS), ("private key", PEM)];
    // Names of passwords are options as well.
    literals.extend(NAMES.iter().map(|name| (*name, PAIRS | WORDS)));
    literals.push(("amz-sec", PAIRS));
    for program in PROGRAMS {
        match program.command {
            Some(command) => literals.push((command, WORDS)),
            None => literals.extend(program.names.iter().map(|name| (*name, WORDS))),
        }
    }
    let mut expressions = Vec::new();
    for (row, pattern) in PATTERNS.iter().enumerate() {
        let Some((anchors, expression)) = pattern.token else { continue };
        literals.extend(anchors.iter().map(|anchor| (*anchor, 1 << row)));
        expressions.extend(Regex::new(expression).ok().map(|expression| (row, expression)));
    }
    Engine {
        first: AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .kind(Some(AhoCorasickKind::DFA))
            .build(literals.iter().map(|(literal, _)| literal))
            .ok(),
        readers: literals.iter().map(|(_, readers)| *readers).collect(),
        expressions,
        pem: Regex::new("-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----").ok(),
    }
});

impl Engine {
    /// Whether nothing in the bytes calls for a reader.
    pub(super) fn is_clean(&self, text: &[u8]) -> bool {
        self.first.as_ref().is_some_and(|first| !first.is_match(Input::new(text).earliest(true)))
    }

    fn readers(&self, text: &[u8]) -> Readers {
        let Some(first) = &self.first else { return Readers::MAX };
        first.find_overlapping_iter(text).fold(0, |all, found| all | self.readers[found.pattern().as_usize()])
    }

    /// The secrets in a text, in order, not overlapping. With `whole` the text is one argument or variable.
    pub(super) fn find(&self, text: &[u8], whole: bool) -> Vec<Find> {
        let mut finds = Vec::new();
        let readers = self.readers(text);
        if readers & !MARKS == 0 {
            return finds;
        }
        if readers & PAIRS != 0 {
            pairs::scan(text, whole, &mut finds);
        }
        if readers & WORDS != 0 {
            options::scan(text, &mut finds);
        }
        if readers & URLS != 0 {
            urls::scan(text, &mut finds);
        }
        if readers & PEM != 0 {
            self.pem(text, &mut finds);
        }
        for (row, expression) in &self.expressions {
            if readers & 1 << row == 0 {
                continue;
            }
            for found in expression.captures_iter(text) {
                let (Some(all), Some(secret)) = (found.get(0), found.name("s")) else { continue };
                finds.push(Find {
                    from: all.start(),
                    start: secret.start(),
                    end: secret.end(),
                    kind: PATTERNS[*row].kind,
                    form: Form::Raw,
                });
            }
        }
        if readers & MARKS != 0 {
            spare_marks(text, &mut finds);
        }
        merge(finds)
    }

    /// Private keys: from the line that begins one to the one that ends it, or to the end of the text.
    fn pem(&self, text: &[u8], finds: &mut Vec<Find>) {
        let Some(begin) = &self.pem else { return };
        let mut at = 0;
        while let Some(found) = begin.find_at(text, at) {
            let start = found.end();
            let end = memchr::memmem::find(&text[start..], b"-----END").map_or(text.len(), |len| start + len);
            let blank = |byte: &&u8| byte.is_ascii_whitespace();
            let first = start + text[start..end].iter().take_while(blank).count();
            let mark = mark_len(&text[first..]);
            if mark > 0 {
                at = first + mark;
                continue;
            }
            let last = end - text[first..end].iter().rev().take_while(blank).count();
            if last > first {
                finds.push(Find {
                    from: found.start(),
                    start: first,
                    end: last,
                    kind: Kind::PrivateKey,
                    form: Form::Raw,
                });
            }
            at = end;
        }
    }
}

/// Takes what already was redacted out of the finds: redacting twice changes nothing.
fn spare_marks(text: &[u8], finds: &mut Vec<Find>) {
    let marks: Vec<(usize, usize)> = memchr::memmem::find_iter(text, MARK)
        .map(|at| (at, at + mark_len(&text[at..])))
        .filter(|(start, end)| end > start)
        .collect();
    if marks.is_empty() {
        return;
    }
    let mut left = Vec::with_capacity(finds.len());
    for find in finds.drain(..) {
        let first = marks.partition_point(|(_, end)| *end <= find.from);
        // A name or a scheme inside a mark is none.
        if marks.get(first).is_some_and(|(start, _)| *start <= find.from && find.from < find.start) {
            continue;
        }
        // As for every reader: a value that starts with a mark was dealt with.
        let led = marks.partition_point(|(start, _)| *start < find.start);
        if marks.get(led).is_some_and(|(start, _)| *start == find.start) {
            continue;
        }
        let mut start = find.start;
        for (mark, after) in marks[first..].iter().take_while(|(mark, _)| *mark < find.end) {
            left.push(Find { from: start, start, end: (*mark).max(start), ..find });
            start = start.max(*after);
        }
        left.push(Find { from: start, start, end: find.end.max(start), ..find });
    }
    left.retain(|find| find.end - find.start >= super::names::SHORTEST);
    *finds = left;
}

/// Sorts; of overlapping finds the outer one stays, and of equal ones the pattern that comes first.
fn merge(mut finds: Vec<Find>) -> Vec<Find> {
    finds.sort_by_key(|find| (find.start, std::cmp::Reverse(find.end), find.kind));
    finds.dedup_by(|next, kept| {
        if next.start >= kept.end {
            return false;
        }
        if next.end > kept.end {
            (kept.end, kept.form) = (next.end, Form::Raw);
        }
        true
    });
    finds
}

#[cfg(test)]
mod tests {
    use super::super::names;
    use super::*;

    #[test]
    fn the_engine_could_be_built() {
        assert!(ENGINE.first.is_some() && ENGINE.pem.is_some());
        assert_eq!(ENGINE.expressions.len(), PATTERNS.iter().filter(|pattern| pattern.token.is_some()).count());
        for (row, pattern) in PATTERNS.iter().enumerate() {
            assert_eq!(pattern.kind as usize, row, "{}", pattern.name);
        }
        assert!(PATTERNS.len() < 59, "the upper bits are taken");
    }

    #[test]
    fn every_name_that_promises_a_secret_is_noticed_at_first_look() {
        for name in names::all() {
            assert!(!ENGINE.is_clean(name.as_bytes()), "{name}");
            assert!(ENGINE.readers(name.as_bytes()) & PAIRS != 0, "{name}");
        }
    }
}
