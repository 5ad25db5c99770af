//! Takes secrets out of what leaves the agent. In the place of a secret stands `[redacted:NAME:DIGEST]`: the pattern
//! that found it, and a salted digest, so that equal secrets still are seen to be equal.
//!
//! `docs/secrets.md` says what is found, where, and what is not.
//!
//! **Never:** changes what is no secret, reads a byte many times, or keeps a secret.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tw_model::finding::{Finding, Shown};
use tw_model::raw::{Raw, Slot};
use tw_model::{EventKind, first_bytes};

mod engine;
mod extent;
mod form;
mod names;
mod options;
mod pairs;
mod patterns;
mod salt;
mod urls;

use engine::ENGINE;
use form::Form;
pub use options::options_table;
use patterns::Kind;
pub use patterns::{PATTERNS, Pattern};
pub use salt::load_or_make_salt;

/// Most times that a text is looked at.
const PASSES: usize = 8;

/// One secret in a text.
#[derive(Clone, Copy, Debug)]
struct Find {
    /// Where what led to it starts.
    from: usize,
    start: usize,
    end: usize,
    kind: Kind,
    form: Form,
}

/// Takes secrets out. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct Redactor {
    state: Arc<State>,
}

struct State {
    digest: Hmac<Sha256>,
    counts: Vec<AtomicU64>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the salt.
        f.debug_struct("Redactor").finish_non_exhaustive()
    }
}

impl Redactor {
    /// A redactor whose digests are salted with `salt` ([`load_or_make_salt`]).
    pub fn new(salt: [u8; 32]) -> Self {
        let counts = PATTERNS.iter().map(|_| AtomicU64::new(0)).collect();
        // A key of a block's length, padded with zeros: the same HMAC as of the salt itself.
        let mut key = [0; 64];
        key[..salt.len()].copy_from_slice(&salt);
        Self { state: Arc::new(State { digest: Hmac::new(&key.into()), counts }) }
    }

    /// Free text: a message, a command line joined by blanks. Text without a secret is borrowed.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.replaced(text.as_bytes(), in_text) {
            None => Cow::Borrowed(text),
            // Whole characters were replaced by ASCII.
            Some(new) => Cow::Owned(valid(new)),
        }
    }

    /// The same for bytes that need not be UTF-8.
    pub fn bytes<'t>(&self, text: &'t [u8]) -> Cow<'t, [u8]> {
        self.replaced(text, in_text).map_or(Cow::Borrowed(text), Cow::Owned)
    }

    /// The same for bytes whose places matter: each byte of a secret becomes `*`.
    pub fn blanked<'t>(&self, bytes: &'t [u8]) -> Cow<'t, [u8]> {
        if ENGINE.is_clean(bytes) {
            return Cow::Borrowed(bytes);
        }
        let finds = in_text(bytes);
        if finds.is_empty() {
            return Cow::Borrowed(bytes);
        }
        let mut new = bytes.to_vec();
        for find in finds {
            self.state.counts[find.kind as usize].fetch_add(1, Ordering::Relaxed);
            new[find.start..find.end].fill(b'*');
        }
        Cow::Owned(new)
    }

    /// Arguments, each ended by NUL. `--password X` spans two of them; an argument with blanks is one value.
    pub fn argv<'t>(&self, block: &'t [u8]) -> Cow<'t, [u8]> {
        self.replaced(block, in_argv).map_or(Cow::Borrowed(block), Cow::Owned)
    }

    /// Variables `NAME=value`, each ended by NUL.
    pub fn environ<'t>(&self, block: &'t [u8]) -> Cow<'t, [u8]> {
        self.replaced(block, in_environ).map_or(Cow::Borrowed(block), Cow::Owned)
    }

    /// What is shown of a finding: its message, its fields, the command lines of its lineage.
    pub fn finding(&self, finding: &mut Finding) {
        let mut known: Vec<(String, String)> = Vec::new();
        for (name, value) in &mut finding.fields {
            let Shown::Text(text) = value else { continue };
            // `proc.env[DB_PASSWORD]` shows the value without its name.
            let variable = name.split_once('[').and_then(|(_, rest)| rest.strip_suffix(']'));
            match variable.and_then(|variable| self.value(variable, text)) {
                Some(mark) => known.push((std::mem::replace(text, mark.clone()), mark)),
                None => self.change(text),
            }
        }
        for (secret, mark) in known {
            finding.message = finding.message.replace(&secret, &mark);
        }
        self.change(&mut finding.message);
        for process in &mut finding.lineage {
            self.change(&mut process.cmdline);
        }
        if let Some(exec) = finding.login.as_mut().and_then(|login| login.exec.as_mut()) {
            self.change(&mut exec.command);
            self.change(&mut exec.client);
        }
    }

    /// The record with secrets taken out of arguments, environment, first bytes sent and text arguments; `None` if
    /// there are none. The result is not aligned: [`tw_model::raw::to_words`] copies it to where it is.
    pub fn record(&self, raw: &Raw<'_>) -> Option<Vec<u8>> {
        if raw.kind() == EventKind::Flow || raw.kind().has_socket_id() {
            return None; // figures, no text
        }
        let mut changed = false;
        // Lengths in it say where things are.
        let is_binary = raw.kind() == EventKind::Dns
            || raw.sock().is_some_and(|sock| first_bytes::is_tls_hello(raw.text(sock.data)));
        let mut new = |slot, text| {
            let new = match slot {
                Slot::Args => self.argv(text),
                Slot::Env => self.environ(text),
                Slot::Data if is_binary => self.blanked(text),
                Slot::Data | Slot::Text => self.bytes(text),
                // The value of an option: of a mount, as a rule, with the option's name beside it.
                Slot::Text2 => match raw.call().and_then(|call| self.option(raw.text(call.text), text)) {
                    Some(mark) => Cow::Owned(mark.into_bytes()),
                    None => self.bytes(text),
                },
                _ => Cow::Borrowed(text),
            };
            changed |= matches!(new, Cow::Owned(_));
            new
        };
        // Most records have nothing; they are not written anew.
        let texts = match (raw.exec(), raw.sock(), raw.call()) {
            (Some(exec), ..) => [(Slot::Args, raw.text(exec.args)), (Slot::Env, raw.text(exec.env))],
            (_, Some(sock), _) => [(Slot::Data, raw.text(sock.data)), (Slot::Path, b"".as_slice())],
            (.., Some(call)) => [(Slot::Text, raw.text(call.text)), (Slot::Text2, raw.text(call.text2))],
            _ => return None,
        };
        let mut texts = texts.map(|(slot, text)| (slot, new(slot, text)));
        if !changed {
            return None;
        }
        Some(raw.rewrite(|slot, text| {
            let new = texts.iter_mut().find(|(new, _)| *new == slot).map(|(_, new)| std::mem::take(new));
            new.unwrap_or(Cow::Borrowed(text))
        }))
    }

    /// How many secrets each pattern took out so far, in the order of [`PATTERNS`].
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let counts = self.state.counts.iter().map(|count| count.load(Ordering::Relaxed));
        PATTERNS.iter().map(|pattern| pattern.name).zip(counts).collect()
    }

    fn change(&self, text: &mut String) {
        if let Cow::Owned(new) = self.text(text) {
            *text = new;
        }
    }

    /// The mark for a value of a variable with this name, if it is a secret.
    fn value(&self, name: &str, value: &str) -> Option<String> {
        let pair = format!("{name}={value}");
        let new = self.replaced(pair.as_bytes(), |pair| ENGINE.find(pair, true))?;
        let new = valid(new).split_off(name.len() + 1);
        (extent::mark_len(new.as_bytes()) == new.len()).then_some(new)
    }

    /// The mark for the value of an option that is a secret by its name.
    fn option(&self, name: &[u8], value: &[u8]) -> Option<String> {
        let text = |bytes| std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty());
        self.value(text(name)?, text(value)?)
    }

    /// The text with marks in the places of its secrets; `None` if it has none.
    fn replaced(&self, text: &[u8], find: impl Fn(&[u8]) -> Vec<Find>) -> Option<Vec<u8>> {
        if ENGINE.is_clean(text) {
            return None;
        }
        let mut new = None;
        // Mostly once. Where a secret had held words that mean something (the name of a program), what is behind it may
        // read differently without it: until nothing changes, so that what was redacted stays as it is.
        for _ in 0..PASSES {
            let old = new.as_deref().unwrap_or(text);
            let finds = find(old);
            if finds.is_empty() {
                break;
            }
            new = Some(self.replace(old, &finds));
        }
        new
    }

    fn replace(&self, text: &[u8], finds: &[Find]) -> Vec<u8> {
        let mut new = Vec::with_capacity(text.len() + 40 * finds.len());
        let mut at = 0;
        for find in finds {
            new.extend_from_slice(&text[at..find.start]);
            self.mark(find.kind, &find.form.bare(&text[find.start..find.end]), &mut new);
            at = find.end;
        }
        new.extend_from_slice(&text[at..]);
        new
    }

    fn mark(&self, kind: Kind, secret: &[u8], out: &mut Vec<u8>) {
        let row = kind as usize;
        self.state.counts[row].fetch_add(1, Ordering::Relaxed);
        let mut digest = self.state.digest.clone();
        digest.update(secret);
        let digest = digest.finalize().into_bytes();
        let mut text = String::with_capacity(48);
        text.push_str("[redacted:");
        text.push_str(PATTERNS[row].name);
        text.push(':');
        for byte in &digest[..extent::DIGITS / 2] {
            let _ = write!(text, "{byte:02x}");
        }
        text.push(']');
        out.extend_from_slice(text.as_bytes());
    }
}

/// What was valid before whole characters of it were replaced.
fn valid(text: Vec<u8>) -> String {
    String::from_utf8(text).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn in_text(text: &[u8]) -> Vec<Find> {
    ENGINE.find(text, false)
}

fn in_argv(block: &[u8]) -> Vec<Find> {
    let mut walk = options::Walk::default();
    let mut finds = Vec::new();
    for (start, end) in elements(block) {
        if walk.word(block, start, end, true, &mut finds).is_none() {
            in_element(block, start, end, &mut finds);
        }
    }
    finds
}

fn in_environ(block: &[u8]) -> Vec<Find> {
    let mut finds = Vec::new();
    for (start, end) in elements(block) {
        if !block[start..end].starts_with(b"PWD=/") {
            in_element(block, start, end, &mut finds);
        }
    }
    finds
}

/// Finds what is in one argument or variable.
fn in_element(block: &[u8], start: usize, end: usize, finds: &mut Vec<Find>) {
    let text = &block[start..end];
    if ENGINE.is_clean(text) {
        return;
    }
    let shifted =
        |find: Find| Find { from: find.from + start, start: find.start + start, end: find.end + start, ..find };
    finds.extend(ENGINE.find(text, true).into_iter().map(shifted));
}

/// The elements of a block in which each is ended by NUL, as ranges.
fn elements(block: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    let mut start = 0;
    memchr::memchr_iter(0, block).chain((!block.ends_with(&[0])).then_some(block.len())).map(move |end| {
        let element = (start, end);
        start = end + 1;
        element
    })
}
