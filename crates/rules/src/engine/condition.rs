//! Conditions over truths: every comparison is a bit, of the process or of the event.

use tw_model::{EventKind, KindSet};

/// A condition.
#[derive(Debug)]
pub(super) enum Condition {
    /// Always or never.
    Const(bool),
    /// The event is of one of these kinds.
    Kind(KindSet),
    /// A bit of the process's truths.
    Process(u32),
    /// The same, of a group that is asked late: known only where the other bit is set.
    Late(Atom, u32),
    /// A bit of the event's truths.
    Event(Atom),
    /// All hold.
    And(Box<[Condition]>),
    /// One holds.
    Or(Box<[Condition]>),
    /// It does not hold.
    Not(Box<Condition>),
}

/// A comparison that depends on the event, or that is asked late.
#[derive(Clone, Copy, Debug)]
pub(super) struct Atom {
    /// Its group.
    pub group: u16,
    /// How much it tells if it holds: the higher, the rarer it may be.
    pub weight: u16,
    /// Its bit.
    pub bit: u32,
}

/// Whether this bit is set.
pub(super) fn is_set(truth: &[u64], bit: u32) -> bool {
    truth.get(bit as usize / 64).is_some_and(|word| word & (1 << (bit % 64)) != 0)
}

/// Sets this bit.
pub(super) fn set(truth: &mut [u64], bit: u32) {
    if let Some(word) = truth.get_mut(bit as usize / 64) {
        *word |= 1 << (bit % 64);
    }
}

impl Condition {
    /// Whether it holds, if it is what is left of one ([`Condition::left`]). `tell` tells a bit of the event's truths, or
    /// one that is asked late.
    pub fn holds(&self, tell: &mut impl FnMut(Atom) -> bool) -> bool {
        match self {
            Self::Const(value) => *value,
            // Nothing of these is left.
            Self::Kind(_) | Self::Process(_) => false,
            Self::Event(atom) | Self::Late(atom, _) => tell(*atom),
            Self::And(terms) => terms.iter().all(|term| term.holds(tell)),
            Self::Or(terms) => terms.iter().any(|term| term.holds(tell)),
            Self::Not(term) => !term.holds(tell),
        }
    }

    /// What is left of it for events of this kind by processes with these truths.
    pub fn left(&self, kind: EventKind, process: &[u64]) -> Self {
        match self {
            Self::Const(value) => Self::Const(*value),
            Self::Kind(kinds) => Self::Const(kinds.contains(kind)),
            Self::Process(bit) => Self::Const(is_set(process, *bit)),
            Self::Late(atom, known) if is_set(process, *known) => Self::Const(is_set(process, atom.bit)),
            Self::Late(atom, known) => Self::Late(*atom, *known),
            Self::Event(atom) => Self::Event(*atom),
            Self::Not(term) => match term.left(kind, process) {
                Self::Const(value) => Self::Const(!value),
                term => Self::Not(Box::new(term)),
            },
            Self::And(terms) => Self::left_of(terms, false, kind, process, Self::And),
            Self::Or(terms) => Self::left_of(terms, true, kind, process, Self::Or),
        }
    }

    /// One term with the value `decisive` decides; the other value says nothing.
    fn left_of(
        terms: &[Self],
        decisive: bool,
        kind: EventKind,
        process: &[u64],
        join: fn(Box<[Self]>) -> Self,
    ) -> Self {
        let mut kept = Vec::new();
        for term in terms {
            match term.left(kind, process) {
                Self::Const(value) if value == decisive => return Self::Const(decisive),
                Self::Const(_) => {}
                term => kept.push(term),
            }
        }
        match kept.len() {
            0 => Self::Const(!decisive),
            1 => kept.swap_remove(0),
            _ => join(kept.into()),
        }
    }

    /// The group of a process that is asked first, if one is.
    pub fn asks(&self) -> Option<u16> {
        match self {
            Self::Late(atom, _) => Some(atom.group),
            Self::Not(term) => term.asks(),
            Self::And(terms) | Self::Or(terms) => terms.iter().find_map(Self::asks),
            Self::Const(_) | Self::Kind(_) | Self::Process(_) | Self::Event(_) => None,
        }
    }

    /// How many parts it has.
    pub fn size(&self) -> usize {
        match self {
            Self::And(terms) | Self::Or(terms) => 1 + terms.iter().map(Self::size).sum::<usize>(),
            Self::Not(term) => 1 + term.size(),
            _ => 1,
        }
    }

    /// Comparisons of the event of which one must hold for what is left of a condition to hold, if there are such: as few
    /// and as telling as can be.
    pub fn needs(&self) -> Option<Vec<Atom>> {
        match self {
            Self::Const(value) => (!value).then(Vec::new),
            Self::Event(atom) => Some(vec![*atom]),
            Self::Kind(_) | Self::Process(_) | Self::Late(..) | Self::Not(_) => None,
            Self::And(terms) => terms.iter().filter_map(Self::needs).max_by_key(|atoms| worth(atoms)),
            Self::Or(terms) => {
                let mut all = Vec::new();
                for term in terms {
                    all.extend(term.needs()?);
                }
                Some(all)
            }
        }
    }
}

/// How good a sieve these comparisons are: the weakest counts.
fn worth(atoms: &[Atom]) -> u16 {
    atoms.iter().map(|atom| atom.weight).min().unwrap_or(u16::MAX)
}
