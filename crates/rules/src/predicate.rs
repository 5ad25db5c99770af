//! Compiled right sides of comparisons.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashSet;
use ipnet::IpNet;
use memchr::memmem::{self, Finder};
use regex::bytes::Regex;
use tw_model::{Event, Value};

use crate::ast::{Modifier, Op};
use crate::extract::{Extract, valid_utf8};
use crate::glob;
use crate::node::Negation;
use crate::path_set::PathSet;

/// A set of literals.
pub(crate) type Set<T> = HashSet<T, foldhash::fast::RandomState>;

/// What a value is asked. `!=` is not here: it is the negation of [`Pred::Equals`] and its like.
#[derive(Debug)]
pub(crate) enum Pred {
    /// There is a value.
    Exists,
    /// It is this truth value.
    Bool(bool),
    /// It stands in this order to a number.
    Number(Op, i128),
    /// It is one of these numbers.
    Numbers(Set<i128>),
    /// It is this text.
    Equals(Box<[u8]>),
    /// It is one of these texts.
    OneOf(Set<Box<[u8]>>),
    /// It holds this text.
    Contains(Box<Finder<'static>>),
    /// It holds this text, which is in lower case, in any case.
    ContainsNoCase(Box<[u8]>),
    /// It starts with this text.
    StartsWith(Box<[u8]>),
    /// It ends with this text.
    EndsWith(Box<[u8]>),
    /// It matches this shell pattern; true: in any case.
    Glob(Box<[u8]>, bool),
    /// All of it matches.
    Regex(Box<Regex>),
    /// One of the paths is it or above it.
    Below(Box<PathSet>),
    /// It is one of these addresses.
    Addresses(Box<[IpAddr]>),
    /// It is in one of these networks.
    Networks(Box<[IpNet]>),
    /// Every element of the list is in the set.
    EachIn(Set<Box<[u8]>>),
    /// An element of the list is in the set.
    SomeIn(Set<Box<[u8]>>),
    /// It stands in this relation to another value of the event.
    Other(Op, Box<Extract>),
    /// As many of these hold as the modifier says; true: each is negated.
    Many(Modifier, Box<[Arc<Pred>]>, bool),
}

impl Pred {
    /// Whether it, or what the negation makes of it, holds for a value.
    pub fn holds_for<'e>(&self, value: Value<'e>, negation: Negation, event: &Event<'e>) -> bool {
        match (value, negation) {
            (Value::Any(values), Negation::None) => values.iter().any(|value| self.holds(*value, event)),
            (Value::Any(values), Negation::Each) => values.iter().any(|value| !self.holds(*value, event)),
            (Value::Any(values), Negation::All) => !values.iter().any(|value| self.holds(*value, event)),
            (_, Negation::None) => self.holds(value, event),
            (_, Negation::Each | Negation::All) => !self.holds(value, event),
        }
    }

    /// Whether it holds for one value, which is not [`Value::Any`].
    pub fn holds<'e>(&self, value: Value<'e>, event: &Event<'e>) -> bool {
        match self {
            Self::Exists => return true,
            Self::Bool(expected) => return value == Value::Bool(*expected),
            Self::Number(op, expected) => return number(value).is_some_and(|number| in_order(*op, &number, expected)),
            Self::Numbers(set) => return number(value).is_some_and(|number| set.contains(&number)),
            Self::Addresses(set) => {
                return matches!(value, Value::Ip(ip) if set.contains(&ip.to_canonical()));
            }
            Self::Networks(nets) => {
                let Value::Ip(ip) = value else { return false };
                let ip = ip.to_canonical();
                return nets.iter().any(|net| net.contains(&ip));
            }
            Self::EachIn(set) => return elements(&value).iter().all(|element| is_in(set, element)),
            Self::SomeIn(set) => return elements(&value).iter().any(|element| is_in(set, element)),
            Self::Other(op, right) => return right.get(event).is_some_and(|right| relation(*op, value, right)),
            Self::Many(modifier, preds, negated) => {
                let mut holds = preds.iter().map(|pred| pred.holds(value, event) != *negated);
                return match modifier {
                    Modifier::AnyOf => holds.any(|holds| holds),
                    Modifier::AllOf => !preds.is_empty() && holds.all(|holds| holds),
                    Modifier::OneOf => holds.filter(|holds| *holds).take(2).count() == 1,
                };
            }
            _ => {}
        }
        matches!(value, Value::Text(text) if self.holds_text(text, event))
    }

    fn holds_text<'e>(&self, text: &'e [u8], event: &Event<'e>) -> bool {
        match self {
            Self::Equals(expected) => text == &**expected,
            Self::OneOf(set) => set.contains(text),
            Self::Contains(finder) => finder.find(text).is_some(),
            Self::ContainsNoCase(needle) => contains_no_case(text, needle),
            Self::StartsWith(prefix) => text.starts_with(prefix),
            Self::EndsWith(suffix) => text.ends_with(suffix),
            Self::Glob(pattern, fold) => glob::matches(pattern, text, *fold),
            Self::Regex(regex) => regex.is_match(valid_utf8(event, text)),
            Self::Below(paths) => paths.holds(text),
            _ => false,
        }
    }
}

fn elements<'v, 'e>(value: &'v Value<'e>) -> &'v [Value<'e>] {
    match value {
        Value::List(items) | Value::Any(items) => items,
        one => std::slice::from_ref(one),
    }
}

fn is_in(set: &Set<Box<[u8]>>, value: &Value<'_>) -> bool {
    matches!(value, Value::Text(text) if set.contains(*text))
}

fn number(value: Value<'_>) -> Option<i128> {
    match value {
        Value::Int(number) => Some(number.into()),
        Value::Uint(number) => Some(number.into()),
        _ => None,
    }
}

fn in_order<T: Ord + ?Sized>(op: Op, left: &T, right: &T) -> bool {
    match op {
        Op::Eq => left == right,
        Op::Lt => left < right,
        Op::Le => left <= right,
        Op::Gt => left > right,
        Op::Ge => left >= right,
        _ => false,
    }
}

/// Whether `text` holds `needle` (in lower case) in any case of ASCII letters.
fn contains_no_case(text: &[u8], needle: &[u8]) -> bool {
    let Some(first) = needle.first() else { return true };
    let upper = first.to_ascii_uppercase();
    let mut rest = text;
    while rest.len() >= needle.len() {
        let Some(at) = memchr::memchr2(*first, upper, rest) else { return false };
        match rest.get(at..at + needle.len()) {
            Some(candidate) if candidate.eq_ignore_ascii_case(needle) => return true,
            Some(_) => rest = &rest[at + 1..],
            None => return false,
        }
    }
    false
}

/// A comparison of two values of the event.
fn relation(op: Op, left: Value<'_>, right: Value<'_>) -> bool {
    match op {
        Op::In => match left {
            Value::List(items) => items.iter().all(|item| is_one_of(*item, right)),
            _ => is_one_of(left, right),
        },
        Op::Intersects => elements(&left).iter().any(|item| is_one_of(*item, right)),
        _ => match (left, right) {
            (Value::Text(left), Value::Text(right)) => text_relation(op, left, right),
            (Value::Bool(left), Value::Bool(right)) => op == Op::Eq && left == right,
            (Value::Ip(left), Value::Ip(right)) => op == Op::Eq && left.to_canonical() == right.to_canonical(),
            _ => matches!((number(left), number(right)), (Some(left), Some(right)) if in_order(op, &left, &right)),
        },
    }
}

fn is_one_of(left: Value<'_>, right: Value<'_>) -> bool {
    elements(&right).iter().any(|item| relation(Op::Eq, left, *item))
}

fn text_relation(op: Op, left: &[u8], right: &[u8]) -> bool {
    match op {
        Op::Contains | Op::BContains => memmem::find(left, right).is_some(),
        Op::IContains => right.is_empty() || left.windows(right.len()).any(|window| window.eq_ignore_ascii_case(right)),
        Op::StartsWith | Op::BStartsWith => left.starts_with(right),
        Op::EndsWith => left.ends_with(right),
        Op::Glob => glob::matches(right, left, false),
        Op::IGlob => glob::matches(right, left, true),
        _ => in_order(op, left, right),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_in_any_case() {
        for (text, needle, expected) in [
            ("xBEGIN private", "begin p", true),
            ("bbegin", "begin", true),
            ("begi", "begin", false),
            ("", "", true),
            ("1A", "1a", true),
            ("xbegi", "begin", false),
        ] {
            assert_eq!(contains_no_case(text.as_bytes(), needle.as_bytes()), expected, "{text} {needle}");
        }
    }

    #[test]
    fn relations_of_values() {
        let text = |text: &'static str| Value::Text(text.as_bytes());
        assert!(relation(Op::Eq, text("a"), text("a")));
        assert!(relation(Op::Lt, text("a"), text("b")));
        assert!(relation(Op::Ge, Value::Int(3), Value::Uint(3)));
        assert!(!relation(Op::Eq, Value::Int(-1), Value::Uint(u64::MAX)));
        assert!(relation(Op::IContains, text("xABy"), text("ab")));
        assert!(relation(Op::In, text("a"), Value::List(&[Value::Text(b"b"), Value::Text(b"a")])));
        assert!(!relation(Op::Eq, text("1"), Value::Int(1)));
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert!(relation(Op::Eq, Value::Ip(mapped), Value::Ip("10.0.0.1".parse().unwrap())));
    }
}
