//! Compiled conditions and their plain evaluation.
//!
//! Evaluation walks the tree from left to right and stops as soon as the result is known. It allocates nothing
//! but what fields and transformers build in the event's scratch arena.

use std::sync::Arc;

use tw_model::{Event, KindSet};

use crate::extract::Extract;
use crate::predicate::Pred;

/// A compiled condition.
#[derive(Debug)]
pub(crate) enum Node {
    /// Always or never.
    Const(bool),
    /// The event is of one of these kinds.
    Kind(KindSet),
    /// All hold.
    And(Box<[Node]>),
    /// One holds.
    Or(Box<[Node]>),
    /// It does not hold.
    Not(Box<Node>),
    /// A comparison.
    Test(Box<Test>),
}

/// A comparison.
#[derive(Debug)]
pub(crate) struct Test {
    /// Left side.
    pub left: Extract,
    /// What it is asked.
    pub pred: Arc<Pred>,
    /// What `!=` makes of it.
    pub negation: Negation,
}

/// How a comparison is negated. Null stays false in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Negation {
    /// Not at all.
    None,
    /// For each value on its own: of several values one must differ.
    Each,
    /// As a whole: of several values none may be equal.
    All,
}

impl Node {
    /// `terms` joined by `and`, as small as constants allow.
    pub fn and(terms: Vec<Self>) -> Self {
        let mut kept = Vec::with_capacity(terms.len());
        for term in terms {
            match term {
                Self::Const(true) => {}
                Self::Const(false) => return Self::Const(false),
                Self::And(inner) => kept.extend(inner),
                other => kept.push(other),
            }
        }
        match kept.len() {
            0 => Self::Const(true),
            1 => kept.swap_remove(0),
            _ => Self::And(kept.into()),
        }
    }

    /// `terms` joined by `or`, as small as constants allow.
    pub fn or(terms: Vec<Self>) -> Self {
        let mut kept = Vec::with_capacity(terms.len());
        for term in terms {
            match term {
                Self::Const(false) => {}
                Self::Const(true) => return Self::Const(true),
                Self::Or(inner) => kept.extend(inner),
                other => kept.push(other),
            }
        }
        match kept.len() {
            0 => Self::Const(false),
            1 => kept.swap_remove(0),
            _ => Self::Or(kept.into()),
        }
    }

    /// The opposite.
    pub fn negate(self) -> Self {
        match self {
            Self::Const(value) => Self::Const(!value),
            Self::Kind(kinds) => Self::Kind(kinds.not()),
            Self::Not(inner) => *inner,
            other => Self::Not(Box::new(other)),
        }
    }

    /// The kinds of events for which it can be true.
    pub fn kinds(&self) -> KindSet {
        self.kinds_if(true)
    }

    /// The kinds of events for which it can have this value.
    fn kinds_if(&self, value: bool) -> KindSet {
        match self {
            Self::Const(constant) => {
                if *constant == value {
                    KindSet::ALL
                } else {
                    KindSet::NONE
                }
            }
            Self::Kind(kinds) => {
                if value {
                    *kinds
                } else {
                    kinds.not()
                }
            }
            Self::Not(inner) => inner.kinds_if(!value),
            Self::Test(_) => KindSet::ALL,
            Self::And(terms) if value => terms.iter().fold(KindSet::ALL, |all, term| all.and(term.kinds_if(true))),
            Self::Or(terms) if !value => terms.iter().fold(KindSet::ALL, |all, term| all.and(term.kinds_if(false))),
            Self::And(terms) | Self::Or(terms) => {
                terms.iter().fold(KindSet::NONE, |all, term| all.or(term.kinds_if(value)))
            }
        }
    }

    /// Whether it holds for this event.
    pub fn holds(&self, event: &Event<'_>) -> bool {
        match self {
            Self::Const(value) => *value,
            Self::Kind(kinds) => kinds.contains(event.kind()),
            Self::And(terms) => terms.iter().all(|term| term.holds(event)),
            Self::Or(terms) => terms.iter().any(|term| term.holds(event)),
            Self::Not(inner) => !inner.holds(event),
            Self::Test(test) => test.holds(event),
        }
    }
}

impl Test {
    /// Whether it holds for this event; never for null.
    pub fn holds(&self, event: &Event<'_>) -> bool {
        self.left.get(event).is_some_and(|value| self.pred.holds_for(value, self.negation, event))
    }
}
