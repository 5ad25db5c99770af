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
    /// A bit of the event's truths.
    Event(Atom),
    /// All hold.
    And(Box<[Condition]>),
    /// One holds.
    Or(Box<[Condition]>),
    /// It does not hold.
    Not(Box<Condition>),
}

/// A comparison that depends on the event.
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

impl Condition {
    /// Whether it holds. `event` tells a bit of the event's truths.
    pub fn holds(&self, kind: EventKind, process: &[u64], event: &mut impl FnMut(Atom) -> bool) -> bool {
        match self {
            Self::Const(value) => *value,
            Self::Kind(kinds) => kinds.contains(kind),
            Self::Process(bit) => is_set(process, *bit),
            Self::Event(atom) => event(*atom),
            Self::And(terms) => terms.iter().all(|term| term.holds(kind, process, event)),
            Self::Or(terms) => terms.iter().any(|term| term.holds(kind, process, event)),
            Self::Not(term) => !term.holds(kind, process, event),
        }
    }

    /// What the kind of the event and the truths of the process say already; `None` if it depends on the event.
    pub fn known(&self, kind: EventKind, process: &[u64]) -> Option<bool> {
        match self {
            Self::Const(value) => Some(*value),
            Self::Kind(kinds) => Some(kinds.contains(kind)),
            Self::Process(bit) => Some(is_set(process, *bit)),
            Self::Event(_) => None,
            Self::Not(term) => term.known(kind, process).map(|value| !value),
            Self::And(terms) => Self::known_of(terms, false, kind, process),
            Self::Or(terms) => Self::known_of(terms, true, kind, process),
        }
    }

    /// One term with the value `decisive` decides; else all must be known.
    fn known_of(terms: &[Self], decisive: bool, kind: EventKind, process: &[u64]) -> Option<bool> {
        let mut all = Some(!decisive);
        for term in terms {
            match term.known(kind, process) {
                Some(value) if value == decisive => return Some(decisive),
                Some(_) => {}
                None => all = None,
            }
        }
        all
    }

    /// Comparisons of the event of which one must hold, if there are such: as few and as telling as can be.
    /// `Some` of none: it cannot hold for this kind.
    pub fn needs(&self, kind: EventKind) -> Option<Vec<Atom>> {
        match self {
            Self::Const(value) => (!value).then(Vec::new),
            Self::Kind(kinds) => (!kinds.contains(kind)).then(Vec::new),
            Self::Event(atom) => Some(vec![*atom]),
            Self::Process(_) | Self::Not(_) => None,
            Self::And(terms) => terms.iter().filter_map(|term| term.needs(kind)).max_by_key(|atoms| worth(atoms)),
            Self::Or(terms) => {
                let mut all = Vec::new();
                for term in terms {
                    all.extend(term.needs(kind)?);
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
