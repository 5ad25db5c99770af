//! All rules at once: which of them an event matches, at a cost that hardly grows with their number.
//!
//! 1. Equal comparisons of all rules are one bit; those with the same left side are a group, whose value is read once
//!    and looked up in hash sets, tries and an automaton ([`group`]).
//! 2. Bits that depend on the process alone are found once for each of its states; processes with the same bits are a
//!    class. For each class and kind of event the rules that can still match are listed ([`memory`]). What must be
//!    sought in a command line, say, is left open until a rule asks: then its process moves to a class that knows it.
//! 3. Of these, most need a certain comparison of the event to hold (a path in a set, say): they wait for its bit. Only
//!    rules that a bit brings up, and the few that wait for none, are evaluated ([`condition`]).
//! 4. Most events are opens, of the same few files. One that came to nothing, judged by the class of its process and by
//!    what is opened alone, is remembered as such, and the next like it ends there ([`recall`]).
//!
//! What it finds is what [`RuleSet::inspect`] finds, rule by rule; a property test holds it to that.

mod condition;
mod group;
mod key;
mod memory;
mod recall;
#[cfg(test)]
mod tests;
mod trie;

use std::sync::Arc;

use hashbrown::HashMap;
use tw_model::Event;
use tw_model::field::{FieldRef, Multi, Opened};

use self::condition::{Atom, Condition, is_set, set};
use self::group::{Group, Member, Way};
use self::memory::Memory;
use self::recall::{Quiet, Texts};
use crate::ast::{Modifier, Op};
use crate::extract::Extract;
use crate::node::{Negation, Node, Test};
use crate::predicate::Pred;
use crate::ruleset::{Matching, Rule, RuleSet};

/// The rules of a set, arranged to be tried all at once, and what is remembered between events.
pub struct Engine {
    groups: Box<[Group]>,
    /// By the place of the rule in its set.
    conditions: Box<[Condition]>,
    first_only: bool,
    memory: Memory,
    /// Truths of a process, while they are found.
    process: Box<[u64]>,
    event: Truths,
    quiet: Quiet,
    /// Rules to try for the event at hand, by their places in the plan.
    raised: Vec<u32>,
}

/// What holds for the event at hand, as far as it was asked for.
struct Truths {
    bits: Box<[u64]>,
    /// For each group the number of the event that its bits are of.
    of: Box<[u64]>,
    /// For heavy groups what was found for texts before.
    texts: Box<[Option<Texts>]>,
    /// Number of the event.
    number: u64,
    /// Something was asked of the event that no [`Opened`] decides.
    beyond_open: bool,
}

impl Engine {
    /// Arranges the rules of `set`. It must be rearranged when the set changes.
    pub fn new(set: &RuleSet) -> Self {
        let mut draft = Draft::default();
        let drawn: Vec<Drawn> = set.rules().iter().map(|rule| draft.condition(&rule.node)).collect();
        let (groups, [process, event]) = draft.groups();
        let conditions: Box<[Condition]> =
            drawn.into_iter().map(|drawn| drawn.placed(&groups, &draft.groups)).collect();
        let texts = groups.iter().map(|group| group.heavy.then(|| Texts::new(group))).collect();
        Self {
            conditions,
            first_only: set.matching() == Matching::First,
            memory: Memory::new(),
            process: vec![0; process].into(),
            event: Truths {
                bits: vec![0; event].into(),
                of: vec![0; groups.len()].into(),
                texts,
                number: 0,
                beyond_open: false,
            },
            quiet: Quiet::new(),
            raised: Vec::with_capacity(set.len()),
            groups,
        }
    }

    /// Calls `hit` for each enabled rule that the event matches, in the order of definition. `set` is the one that the
    /// engine was made of.
    pub fn inspect(&mut self, set: &RuleSet, event: &Event<'_>, hit: &mut dyn FnMut(&Rule)) {
        let candidates = set.candidates(event.kind());
        if candidates.is_empty() {
            return;
        }
        let (groups, process, texts) = (&self.groups, &mut self.process, &mut self.event.texts);
        let mut class = self.memory.class_of(event, || {
            process.fill(0);
            for (group, texts) in groups.iter().zip(texts).filter(|(group, _)| group.lasting && !group.late) {
                group.fill_with(event, texts.as_mut(), &mut process[group.range()]);
            }
            process
        });
        self.event.number += 1;
        let (plan, known) = loop {
            let Some((plan, known)) = self.memory.plan(class, event.kind(), candidates, &self.conditions) else {
                return;
            };
            let Some(group) = plan.ask else { break (plan, known) };
            self.process.copy_from_slice(known);
            self.event.see_late(&self.groups, group, event, &mut self.process);
            class = self.memory.refine(event, &self.process);
        };
        if plan.rules.is_empty() {
            return;
        }
        let opened = Opened::of(event);
        if opened.is_some_and(|opened| self.quiet.holds(class, &opened)) {
            return;
        }
        self.event.beyond_open = false;
        self.raised.clear();
        self.raised.extend_from_slice(&plan.always);
        for group in &plan.groups {
            self.event.see(&self.groups, *group, event);
        }
        plan.raise(&self.event.bits, &mut self.raised);
        if self.raised.len() > 1 {
            self.raised.sort_unstable();
            self.raised.dedup();
        }
        let (truths, process) = (&mut self.event, &mut self.process);
        let (mut hits, mut learnt) = (0, false);
        for place in &self.raised {
            let Some((rule, left)) = plan.rules.get(*place as usize) else { continue };
            let mut tell = |atom: Atom| {
                if self.groups[usize::from(atom.group)].late {
                    if !learnt {
                        process.copy_from_slice(known);
                        learnt = true;
                    }
                    truths.see_late(&self.groups, atom.group, event, process);
                    return is_set(process, atom.bit);
                }
                truths.see(&self.groups, atom.group, event);
                is_set(&truths.bits, atom.bit)
            };
            if left.holds(&mut tell)
                && let Some(rule) = set.rules().get(*rule as usize)
            {
                hit(rule);
                hits += 1;
                if self.first_only {
                    break;
                }
            }
        }
        if learnt {
            class = self.memory.refine(event, &self.process);
        }
        if hits == 0
            && !self.event.beyond_open
            && let Some(opened) = opened
        {
            self.quiet.note(class, &opened);
        }
    }
}

impl Truths {
    /// Makes sure that the bits of a group are those of the event at hand.
    fn see(&mut self, groups: &[Group], number: u16, event: &Event<'_>) {
        let (place, group) = (usize::from(number), &groups[usize::from(number)]);
        if self.of[place] == self.number {
            return;
        }
        self.of[place] = self.number;
        self.beyond_open |= !group.of_open;
        group.fill_with(event, self.texts[place].as_mut(), &mut self.bits[group.range()]);
    }

    /// Makes sure that the bits of a late group are those of the event's process.
    fn see_late(&mut self, groups: &[Group], number: u16, event: &Event<'_>, process: &mut [u64]) {
        let (place, group) = (usize::from(number), &groups[usize::from(number)]);
        if self.of[place] == self.number {
            return;
        }
        self.of[place] = self.number;
        group.fill_with(event, self.texts[place].as_mut(), &mut process[group.range()]);
        set(process, group.known());
    }
}

/// Truth values that hold for few events.
const RARE: [&str; 3] = ["evt.is_open_write", "evt.is_open_create", "evt.is_open_exec"];

/// Groups while rules are added.
#[derive(Default)]
struct Draft {
    groups: Vec<DraftGroup>,
    by_extract: HashMap<String, usize>,
}

struct DraftGroup {
    extract: Extract,
    lasting: bool,
    members: Vec<Member>,
    by_key: HashMap<String, u16>,
}

/// A condition whose comparisons are known by group and number, but have no bit yet.
enum Drawn {
    Ready(Condition),
    Atom(usize, u16),
    And(Vec<Drawn>),
    Or(Vec<Drawn>),
    Not(Box<Drawn>),
}

impl Draft {
    fn condition(&mut self, node: &Node) -> Drawn {
        match node {
            Node::Const(value) => Drawn::Ready(Condition::Const(*value)),
            Node::Kind(kinds) => Drawn::Ready(Condition::Kind(*kinds)),
            Node::And(terms) => Drawn::And(terms.iter().map(|term| self.condition(term)).collect()),
            Node::Or(terms) => Drawn::Or(terms.iter().map(|term| self.condition(term)).collect()),
            Node::Not(term) => Drawn::Not(Box::new(self.condition(term))),
            Node::Test(test) => self.test(test),
        }
    }

    fn test(&mut self, test: &Test) -> Drawn {
        // Several comparisons in one are taken apart where that means the same.
        match &*test.pred {
            Pred::Many(Modifier::AnyOf, preds, false) if test.negation == Negation::None => {
                let atom = |pred: &Arc<Pred>| self.atom(&test.left, Arc::clone(pred), Negation::None);
                return Drawn::Or(preds.iter().map(atom).collect());
            }
            Pred::Many(Modifier::AllOf, preds, false)
                if test.negation == Negation::None && test.left.is_single() && !preds.is_empty() =>
            {
                let atom = |pred: &Arc<Pred>| self.atom(&test.left, Arc::clone(pred), Negation::None);
                return Drawn::And(preds.iter().map(atom).collect());
            }
            _ => {}
        }
        if test.negation == Negation::None || !test.left.is_single() {
            return self.atom(&test.left, Arc::clone(&test.pred), test.negation);
        }
        // Of a single value, `!=` is: there is one, and it is not equal. So it shares the bit of `=`.
        Drawn::And(vec![
            self.atom(&test.left, Arc::new(Pred::Exists), Negation::None),
            Drawn::Not(Box::new(self.atom(&test.left, Arc::clone(&test.pred), Negation::None))),
        ])
    }

    fn atom(&mut self, left: &Extract, pred: Arc<Pred>, negation: Negation) -> Drawn {
        let lasting = left.is_lasting() && pred.is_lasting();
        // The scope is part of the key: `proc.name = val(fd.name)` is of the event though its left side is not. So is how
        // it is looked up: what is found at once must not wait for what must be tried.
        let way = Way::of(&pred, negation);
        let mut extract_key = format!("{lasting} {way:?} {}", key::of_extract(left));
        if way == Way::Tried && !lasting {
            extract_key = format!("{extract_key} {}", key::of_pred(&pred, negation));
        }
        let mut number = self.by_extract.get(&extract_key).copied();
        if number.is_some_and(|number| self.groups[number].members.len() > usize::from(u16::MAX) - 1) {
            // Full: another group of the same.
            number = None;
        }
        let number = number.unwrap_or_else(|| {
            self.by_extract.insert(extract_key, self.groups.len());
            self.groups.push(DraftGroup {
                extract: left.clone(),
                lasting,
                members: Vec::new(),
                by_key: HashMap::new(),
            });
            self.groups.len() - 1
        });
        let group = &mut self.groups[number];
        let next = group.members.len() as u16;
        let member = *group.by_key.entry(key::of_pred(&pred, negation)).or_insert(next);
        if member == next {
            group.members.push((next, pred, negation));
        }
        Drawn::Atom(number, member)
    }

    /// The groups with their places, and how many words the truths of process and event have.
    fn groups(&self) -> (Box<[Group]>, [usize; 2]) {
        let mut words = [0, 0];
        let groups = self.groups.iter().map(|draft| {
            let next = &mut words[usize::from(!draft.lasting)];
            let group = Group::new(draft.extract.clone(), draft.lasting, *next, &draft.members);
            *next += group.words;
            group
        });
        (groups.collect(), words)
    }
}

impl Drawn {
    fn placed(self, groups: &[Group], drafts: &[DraftGroup]) -> Condition {
        let all = |terms: Vec<Self>| -> Box<[Condition]> {
            let mut placed: Vec<Condition> = terms.into_iter().map(|term| term.placed(groups, drafts)).collect();
            // The result is the same in any order: what is known already comes first.
            placed.sort_by_key(|term| term.cost(groups));
            placed.into()
        };
        match self {
            Self::Ready(condition) => condition,
            Self::And(terms) => Condition::And(all(terms)),
            Self::Or(terms) => Condition::Or(all(terms)),
            Self::Not(term) => Condition::Not(Box::new(term.placed(groups, drafts))),
            Self::Atom(number, member) => {
                let group = &groups[number];
                let bit = group.first as u32 * 64 + u32::from(member);
                let pred = &drafts[number].members[usize::from(member)].1;
                let weight = pred.weight(&group.extract);
                let atom = Atom { group: number as u16, weight, bit };
                match group.lasting {
                    true if group.late => Condition::Late(atom, group.known()),
                    true => Condition::Process(bit),
                    false => Condition::Event(atom),
                }
            }
        }
    }
}

impl Condition {
    /// The lower, the sooner to be looked at: what is known, then what an open decides, then the rest.
    fn cost(&self, groups: &[Group]) -> u8 {
        match self {
            Self::Const(_) | Self::Kind(_) => 0,
            Self::Process(_) => 1,
            Self::Not(term) => term.cost(groups),
            Self::Late(atom, _) => 3 + u8::from(groups.get(usize::from(atom.group)).is_some_and(|group| group.heavy)),
            Self::Event(atom) => 3 - u8::from(groups.get(usize::from(atom.group)).is_some_and(|group| group.of_open)),
            Self::And(terms) | Self::Or(terms) => terms.iter().map(|term| term.cost(groups)).max().unwrap_or(0) + 1,
        }
    }
}

impl Extract {
    /// The fields that it reads.
    fn each_field(&self, tell: &mut dyn FnMut(&FieldRef)) {
        match self {
            Self::Field(field) => tell(field),
            Self::Text(_) | Self::Number(_) => {}
            Self::List(parts) | Self::Concat(parts) => parts.iter().for_each(|part| part.each_field(tell)),
            Self::ToLower(inner)
            | Self::ToUpper(inner)
            | Self::B64(inner)
            | Self::Basename(inner)
            | Self::Len(inner) => {
                inner.each_field(tell);
            }
            Self::Join(first, second) | Self::Getopt(first, second, _) => {
                first.each_field(tell);
                second.each_field(tell);
            }
        }
    }

    /// Whether for an open it is decided by what [`Opened`] has.
    fn is_of_open(&self) -> bool {
        let mut of_open = true;
        self.each_field(&mut |field| of_open &= field.is_of_open());
        of_open
    }

    /// Whether it depends on the process alone.
    fn is_lasting(&self) -> bool {
        let mut lasting = true;
        self.each_field(&mut |field| lasting &= field.field.per_process);
        lasting
    }

    /// Whether it has one value at most.
    fn is_single(&self) -> bool {
        let mut single = true;
        self.each_field(&mut |field| single &= field.field.multi == Multi::Single);
        single
    }
}

impl Pred {
    fn is_lasting(&self) -> bool {
        match self {
            Self::Other(_, right) => right.is_lasting(),
            Self::Many(_, preds, _) => preds.iter().all(|pred| pred.is_lasting()),
            _ => true,
        }
    }

    /// How good a sieve it is, roughly: the rarer it holds and the cheaper it is found, the more.
    fn weight(&self, left: &Extract) -> u16 {
        // An empty text says nothing.
        let of = |base: u16, text: &[u8]| if text.is_empty() { 1 } else { base + text.len().min(99) as u16 };
        let weight = match self {
            Self::Equals(text) => of(300, text),
            Self::OneOf(set) => set.iter().map(|text| of(300, text)).min().unwrap_or(399),
            Self::StartsWith(text) | Self::EndsWith(text) => of(250, text),
            Self::Below(_) => 255,
            Self::Glob(..) if Way::of(self, Negation::None) == Way::LookedUp => 255,
            Self::Contains(finder) => of(100, finder.needle()),
            Self::ContainsNoCase(_) | Self::Regex(_) | Self::Glob(..) => 90,
            Self::Number(Op::Eq, _) | Self::Numbers(_) | Self::Addresses(_) => return 230,
            Self::Networks(_) => return 120,
            // Far more files are read than written or made.
            Self::Bool(true) if matches!(left, Extract::Field(field) if RARE.contains(&field.field.name)) => {
                return 240;
            }
            Self::Bool(_) => return 50,
            _ => return 10,
        };
        // The name of a type is shared by many events, a path is not.
        if left.is_wide() { weight } else { weight.min(60) }
    }
}
