//! All comparisons with the same left side: the value is read once, and what holds for it is looked up rather than tried.

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use aho_corasick::automaton::Automaton;
use aho_corasick::dfa::DFA;
use aho_corasick::{AhoCorasick, AhoCorasickKind, Anchored};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use memchr::memmem::Finder;
use tw_model::field::Arg;
use tw_model::{Event, FieldType, Value};

use super::recall::Texts;
use super::trie::Trie;
use crate::ast::Op;
use crate::extract::Extract;
use crate::node::Negation;
use crate::predicate::Pred;

/// From so many substrings on, all are sought at once.
const MANY_SUBSTRINGS: usize = 4;

/// Substrings of so many bytes in all are worth the faster automaton, which takes up to a kibibyte for each byte.
const DFA_BYTES: usize = 4096;

/// Instructions that seeking takes, as counted by callgrind: all at once for each byte; one substring, and it for each
/// five bytes.
const ALL_A_BYTE: usize = 10;
const ONE: usize = 80;

/// A comparison of a group: its place among the group's bits, and what it asks.
pub(super) type Member = (u16, Arc<Pred>, Negation);

/// How it is found whether a comparison holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Looked up in a table or tree, with all others of the group.
    LookedUp,
    /// Sought in the text, with all others of the group.
    Sought,
    /// Tried by itself.
    Tried,
}

impl Way {
    pub fn of(pred: &Pred, negation: Negation) -> Self {
        match pred {
            _ if negation != Negation::None => Self::Tried,
            Pred::Exists | Pred::Equals(_) | Pred::OneOf(_) | Pred::StartsWith(_) | Pred::EndsWith(_) => Self::LookedUp,
            Pred::Number(Op::Eq, _) | Pred::Numbers(_) | Pred::Addresses(_) | Pred::Bool(_) => Self::LookedUp,
            Pred::Below(paths) if paths.is_literal() => Self::LookedUp,
            Pred::Glob(pattern, false) if ends_of(pattern).is_some() => Self::LookedUp,
            Pred::Contains(_) | Pred::ContainsNoCase(_) => Self::Sought,
            _ => Self::Tried,
        }
    }
}

/// What every text that matches a shell pattern begins or ends with; `None` if there is no such thing.
fn ends_of(pattern: &[u8]) -> Option<End<'_>> {
    let special = |byte: &u8| matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\');
    let prefix = pattern.iter().position(special).unwrap_or(pattern.len());
    // What is behind a bracket may belong to its class.
    let suffix = pattern.len() - pattern.iter().rposition(special).map_or(0, |last| last + 1);
    let last = pattern.iter().rev().find(|byte| special(byte));
    match prefix {
        0 if suffix == 0 || matches!(last, Some(b'[' | b'\\')) => None,
        0 => Some(End::Suffix(&pattern[pattern.len() - suffix..])),
        _ => Some(End::Prefix(&pattern[..prefix])),
    }
}

/// A literal end of a pattern.
enum End<'p> {
    Prefix(&'p [u8]),
    Suffix(&'p [u8]),
}

/// Comparisons of one value.
pub(super) struct Group {
    /// What is compared.
    pub extract: Extract,
    /// The value depends on the process alone.
    pub lasting: bool,
    /// Of most processes no rule ever asks for it, so it is left open until one does. It has one bit more, the last,
    /// which says that the others are known.
    pub late: bool,
    /// Its first word among the truths.
    pub first: usize,
    /// How many words it has.
    pub words: usize,
    /// How many comparisons.
    bits: usize,
    index: Index,
    /// Worth remembering by the text of the value, or by what stands in for it.
    pub heavy: bool,
    /// For an open its bits are decided by [`tw_model::field::Opened`].
    pub of_open: bool,
    stands_in: bool,
}

impl Group {
    pub fn new(extract: Extract, lasting: bool, first: usize, members: &[Member]) -> Self {
        let index = Index::new(members);
        let pure = !members.iter().any(|(_, pred, _)| asks_others(pred));
        let of_open = pure && extract.is_of_open();
        let sought = members.iter().any(|(_, pred, negation)| Way::of(pred, *negation) != Way::LookedUp);
        let stands_in = matches!(&extract, Extract::Field(field) if field.has_stand_in());
        let many = if lasting { sought } else { !of_open && extract.is_wide() && (sought || members.len() > 4) };
        let late = lasting && (sought || !extract.is_asked_first());
        let (bits, words) = (members.len(), (members.len() + usize::from(late)).div_ceil(64));
        Self {
            extract,
            lasting,
            late,
            first,
            bits,
            words,
            index,
            heavy: pure && (many || stands_in),
            of_open,
            stands_in,
        }
    }

    /// Words of the group among the truths.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.first..self.first + self.words
    }

    /// The bit that says that the others are known.
    pub fn known(&self) -> u32 {
        (self.first * 64 + self.bits) as u32
    }

    /// Sets the bit of each comparison that holds for this event; uses what was found for the same text before.
    pub fn fill_with(&self, event: &Event<'_>, texts: Option<&mut Texts>, truth: &mut [u64]) {
        match texts {
            Some(texts) => self.fill_or_recall(event, texts, truth),
            None => self.fill(event, truth),
        }
    }

    /// The same, found anew.
    pub fn fill<'e>(&self, event: &Event<'e>, truth: &mut [u64]) {
        self.fill_of(self.extract.get(event), event, truth);
    }

    fn fill_or_recall<'e>(&self, event: &Event<'e>, texts: &mut Texts, truth: &mut [u64]) {
        if let Extract::Field(field) = &self.extract
            && let Some(number) = field.stand_in(event)
        {
            return texts.recall(number.into(), b"", truth, |truth| self.fill(event, truth));
        }
        match self.extract.get(event) {
            Some(value @ Value::Text(text)) if !self.stands_in => {
                texts.recall(0, text, truth, |truth| self.fill_of(Some(value), event, truth));
            }
            value => self.fill_of(value, event, truth),
        }
    }

    fn fill_of<'e>(&self, value: Option<Value<'e>>, event: &Event<'e>, truth: &mut [u64]) {
        truth.fill(0);
        if let Some(value) = value {
            self.index.fill(value, event, truth);
        }
    }
}

fn asks_others(pred: &Pred) -> bool {
    match pred {
        Pred::Other(..) => true,
        Pred::Many(_, preds, _) => preds.iter().any(|pred| asks_others(pred)),
        _ => false,
    }
}

/// Parameters that are paths or texts of the caller.
const WIDE: [&str; 12] =
    ["name", "path", "oldpath", "newpath", "filename", "pathname", "target", "linkpath", "dir", "exe", "args", "data"];

/// Fields of a process that most rules ask, that are quickly read, and that leave few rules to try.
const ASKED_FIRST: [&str; 6] = ["proc.name", "proc.pname", "proc.tty", "proc.vpid", "user.uid", "container.id"];

impl Extract {
    /// Whether it is found for each process at once, rather than when a rule asks.
    fn is_asked_first(&self) -> bool {
        matches!(self, Self::Field(field) if ASKED_FIRST.contains(&field.field.name))
    }

    /// Whether the value has so many possible texts that one of them tells much: a path or an argument, not the name
    /// of a type.
    pub(super) fn is_wide(&self) -> bool {
        match self {
            Self::Field(field) => {
                matches!(field.ty(), FieldType::Path | FieldType::Bytes)
                    || matches!(&field.arg, Arg::Key(name) if field.field.name == "evt.arg" && WIDE.contains(&&**name))
            }
            _ => false,
        }
    }
}

/// Comparisons arranged so that those that hold are found without trying each.
#[derive(Default)]
struct Index {
    exists: Option<u16>,
    exact: Lookup<Box<[u8]>>,
    numbers: Lookup<i128>,
    addresses: Lookup<IpAddr>,
    prefixes: Option<Trie>,
    suffixes: Option<Trie>,
    /// Paths without patterns, for `pmatch`.
    paths: Option<Paths>,
    /// Patterns, tried where their literal end fits.
    patterns: Option<Patterns>,
    substrings: [Option<Substrings>; 2],
    /// The rest, one by one.
    rest: Box<[Member]>,
}

/// Shell patterns by the literal text at their beginning or end.
struct Patterns {
    prefixes: Trie,
    suffixes: Trie,
    patterns: Vec<Member>,
}

impl Patterns {
    fn add(&mut self, pattern: &[u8], member: &Member) {
        let number = self.patterns.len() as u16;
        match ends_of(pattern) {
            Some(End::Prefix(prefix)) => self.prefixes.insert(prefix.iter().copied(), number),
            Some(End::Suffix(suffix)) => self.suffixes.insert(suffix.iter().rev().copied(), number),
            None => return,
        }
        self.patterns.push(member.clone());
    }

    fn find(&self, text: &[u8], event: &Event<'_>, truth: &mut [u64]) {
        let mut attempt = |number: u16, _| {
            if let Some((bit, pred, _)) = self.patterns.get(usize::from(number))
                && pred.holds(Value::Text(text), event)
            {
                set(truth, *bit);
            }
        };
        self.prefixes.prefixes(text.iter().copied(), &mut attempt);
        self.suffixes.prefixes(text.iter().rev().copied(), &mut attempt);
    }
}

/// Directories that a path may be in.
struct Paths {
    /// As prefixes, for paths in the usual form.
    trie: Trie,
    /// The same as sets, for others.
    sets: Box<[Member]>,
}

impl Paths {
    fn find(&self, path: &[u8], event: &Event<'_>, truth: &mut [u64]) {
        // Without an early end, so that the compiler looks at many bytes at once.
        let pairs = path.iter().zip(path.get(1..).unwrap_or_default());
        let odd = !path.starts_with(b"/") || pairs.fold(false, |odd, (a, b)| odd | ((*a == b'/') & (*b == b'/')));
        if odd {
            for (bit, pred, negation) in &self.sets {
                if pred.holds_for(Value::Text(path), *negation, event) {
                    set(truth, *bit);
                }
            }
            return;
        }
        self.trie.prefixes(path.iter().copied(), &mut |bit, length| {
            // Components are compared whole; the root is `/` itself.
            if length <= 1 || matches!(path.get(length), None | Some(b'/')) {
                set(truth, bit);
            }
        });
    }
}

/// What seeks many substrings at once.
enum Seeker {
    /// One look into a table for each byte.
    Table(Box<DFA>),
    /// For very many, smaller.
    Small(AhoCorasick),
}

impl Seeker {
    /// Of these substrings; `None` if they are too many for either.
    fn new(needles: &[Vec<u8>], any_case: bool) -> Option<Self> {
        // Paths and command lines are short: what looks ahead for a beginning costs more than it saves.
        if needles.iter().map(Vec::len).sum::<usize>() < DFA_BYTES {
            let table = DFA::builder().prefilter(false).ascii_case_insensitive(any_case).build(needles);
            return Some(Self::Table(Box::new(table.ok()?)));
        }
        let mut builder = AhoCorasick::builder();
        builder.prefilter(false).kind(Some(AhoCorasickKind::ContiguousNFA)).ascii_case_insensitive(any_case);
        Some(Self::Small(builder.build(needles).ok()?))
    }

    /// Tells the numbers of those that are in `text`, some more than once.
    fn seek(&self, text: &[u8], tell: &mut impl FnMut(usize)) {
        let table = match self {
            Self::Table(table) => table,
            Self::Small(all) => {
                return all.find_overlapping_iter(text).for_each(|found| tell(found.pattern().as_usize()));
            }
        };
        // The crate's own search does the same and keeps track of where it is, which takes twice as long.
        let Ok(mut state) = table.start_state(Anchored::No) else { return };
        for byte in text {
            state = table.next_state(Anchored::No, state, *byte);
            if table.is_match(state) {
                (0..table.match_len(state)).for_each(|nth| tell(table.match_pattern(state, nth).as_usize()));
            }
        }
    }
}

/// Substrings that are sought all at once.
struct Substrings {
    all: Seeker,
    /// Their bits, in the order of their numbers in `all`.
    bits: Box<[u16]>,
    /// Each by itself; not if they are sought in any case.
    each: Box<[Finder<'static>]>,
}

impl Substrings {
    /// Takes substrings out of `rest`, either those sought in any case or the others; `None` if there are few.
    fn out_of(rest: &mut Vec<Member>, any_case: bool) -> Option<Self> {
        let needle = |(_, pred, negation): &Member| match &**pred {
            _ if *negation != Negation::None => None,
            Pred::Contains(finder) if !any_case => Some(finder.needle().to_vec()),
            Pred::ContainsNoCase(needle) if any_case => Some(needle.to_vec()),
            _ => None,
        };
        let (needles, bits): (Vec<_>, Vec<_>) =
            rest.iter().filter_map(|member| Some((needle(member)?, member.0))).unzip();
        if needles.len() < MANY_SUBSTRINGS {
            return None;
        }
        // Too many for one automaton: one by one, then.
        let all = Seeker::new(&needles, any_case)?;
        rest.retain(|member| needle(member).is_none());
        let finders = needles.iter().filter(|_| !any_case).map(|needle| Finder::new(needle).into_owned());
        Some(Self { all, bits: bits.into(), each: finders.collect() })
    }

    fn seek(&self, text: &[u8], truth: &mut [u64]) {
        // The automaton takes one step a byte whatever is sought; a single substring, many bytes a step.
        if !self.each.is_empty() && self.each.len() * (ONE + text.len() / 5) < ALL_A_BYTE * text.len() {
            let found = self.each.iter().zip(&self.bits).filter(|(finder, _)| finder.find(text).is_some());
            found.for_each(|(_, bit)| set(truth, *bit));
            return;
        }
        self.all.seek(text, &mut |number| {
            if let Some(bit) = self.bits.get(number) {
                set(truth, *bit);
            }
        });
    }
}

type Lookup<K> = HashMap<K, Vec<u16>, FixedState>;

fn set(truth: &mut [u64], bit: u16) {
    if let Some(word) = truth.get_mut(usize::from(bit / 64)) {
        *word |= 1 << (bit % 64);
    }
}

fn put<K: Hash + Eq + Clone>(lookup: &mut Lookup<K>, keys: impl IntoIterator<Item = K>, bit: u16) {
    keys.into_iter().for_each(|key| lookup.entry(key).or_default().push(bit));
}

impl Index {
    fn new(members: &[Member]) -> Self {
        let mut index = Self::default();
        let (mut prefixes, mut suffixes, mut directories) = (Trie::new(), Trie::new(), Trie::new());
        let mut sets = Vec::new();
        let mut patterns = Patterns { prefixes: Trie::new(), suffixes: Trie::new(), patterns: Vec::new() };
        let mut rest = Vec::new();
        for member in members {
            let (bit, pred, negation) = member;
            match &**pred {
                _ if *negation != Negation::None => rest.push(member.clone()),
                Pred::Exists => index.exists = Some(*bit),
                Pred::Equals(text) => put(&mut index.exact, [text.clone()], *bit),
                Pred::OneOf(set) => put(&mut index.exact, set.iter().cloned(), *bit),
                Pred::Number(Op::Eq, number) => put(&mut index.numbers, [*number], *bit),
                Pred::Numbers(set) => put(&mut index.numbers, set.iter().copied(), *bit),
                Pred::Addresses(set) => put(&mut index.addresses, set.iter().copied(), *bit),
                Pred::Below(paths) if paths.is_literal() => {
                    paths.each_literal(&mut |path| directories.insert(path.iter().copied(), *bit));
                    sets.push(member.clone());
                }
                Pred::Glob(pattern, false) if ends_of(pattern).is_some() => patterns.add(pattern, member),
                Pred::StartsWith(prefix) => prefixes.insert(prefix.iter().copied(), *bit),
                Pred::EndsWith(suffix) => suffixes.insert(suffix.iter().rev().copied(), *bit),
                _ => rest.push(member.clone()),
            }
        }
        index.substrings = [false, true].map(|any_case| Substrings::out_of(&mut rest, any_case));
        index.prefixes = Some(prefixes).filter(|trie| !trie.is_empty());
        index.suffixes = Some(suffixes).filter(|trie| !trie.is_empty());
        index.paths = (!sets.is_empty()).then(|| Paths { trie: directories, sets: sets.into() });
        index.patterns = Some(patterns).filter(|patterns| !patterns.patterns.is_empty());
        index.rest = rest.into();
        index
    }

    fn fill<'e>(&self, value: Value<'e>, event: &Event<'e>, truth: &mut [u64]) {
        match value {
            Value::Any(values) => values.iter().for_each(|value| self.fill_one(*value, event, truth)),
            one => self.fill_one(one, event, truth),
        }
        for (bit, pred, negation) in &self.rest {
            if pred.holds_for(value, *negation, event) {
                set(truth, *bit);
            }
        }
    }

    fn fill_one(&self, value: Value<'_>, event: &Event<'_>, truth: &mut [u64]) {
        if let Some(bit) = self.exists {
            set(truth, bit);
        }
        match value {
            Value::Text(text) => self.fill_text(text, event, truth),
            Value::Int(number) if !self.numbers.is_empty() => self.fill_number(number.into(), truth),
            Value::Uint(number) if !self.numbers.is_empty() => self.fill_number(number.into(), truth),
            Value::Ip(address) => {
                let found = self.addresses.get(&address.to_canonical());
                found.into_iter().flatten().for_each(|bit| set(truth, *bit));
            }
            _ => {}
        }
    }

    fn fill_number(&self, number: i128, truth: &mut [u64]) {
        self.numbers.get(&number).into_iter().flatten().for_each(|bit| set(truth, *bit));
    }

    fn fill_text(&self, text: &[u8], event: &Event<'_>, truth: &mut [u64]) {
        if !self.exact.is_empty() {
            self.exact.get(text).into_iter().flatten().for_each(|bit| set(truth, *bit));
        }
        if let Some(prefixes) = &self.prefixes {
            prefixes.prefixes(text.iter().copied(), &mut |bit, _| set(truth, bit));
        }
        if let Some(paths) = &self.paths {
            paths.find(text, event, truth);
        }
        if let Some(patterns) = &self.patterns {
            patterns.find(text, event, truth);
        }
        if let Some(suffixes) = &self.suffixes {
            suffixes.prefixes(text.iter().rev().copied(), &mut |bit, _| set(truth, bit));
        }
        for substrings in self.substrings.iter().flatten() {
            substrings.seek(text, truth);
        }
    }
}
