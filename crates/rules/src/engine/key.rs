//! Comparisons as text, so that equal ones of different rules are found and evaluated once.

use std::fmt::Write as _;

use crate::extract::Extract;
use crate::node::Negation;
use crate::predicate::{Pred, Set};

/// The left side: equal texts, equal values.
pub(super) fn of_extract(extract: &Extract) -> String {
    let of_all = |parts: &[Extract]| parts.iter().map(of_extract).collect::<Vec<_>>().join(",");
    match extract {
        Extract::Field(field) => format!("{}{:?}", field.field.name, field.arg),
        Extract::Text(text) => format!("{text:?}"),
        Extract::Number(number) => format!("{number}"),
        Extract::List(items) => format!("({})", of_all(items)),
        Extract::ToLower(inner) => format!("lower({})", of_extract(inner)),
        Extract::ToUpper(inner) => format!("upper({})", of_extract(inner)),
        Extract::B64(inner) => format!("b64({})", of_extract(inner)),
        Extract::Basename(inner) => format!("basename({})", of_extract(inner)),
        Extract::Len(inner) => format!("len({})", of_extract(inner)),
        Extract::Join(separator, list) => format!("join({},{})", of_extract(separator), of_extract(list)),
        Extract::Concat(parts) => format!("concat({})", of_all(parts)),
        Extract::Getopt(list, known, option) => {
            format!("getopt({},{},{option:?})", of_extract(list), of_extract(known))
        }
    }
}

/// What is asked: equal texts, equal answers for equal values.
pub(super) fn of_pred(pred: &Pred, negation: Negation) -> String {
    let mut key = format!("{negation:?} ");
    write_pred(&mut key, pred);
    key
}

fn write_pred(key: &mut String, pred: &Pred) {
    // Writing to a text cannot fail.
    let _ = match pred {
        Pred::Exists => write!(key, "exists"),
        Pred::Bool(expected) => write!(key, "bool {expected}"),
        Pred::Number(op, number) => write!(key, "number {op:?} {number}"),
        Pred::Numbers(set) => write!(key, "numbers {:?}", sorted(set)),
        Pred::Equals(text) => write!(key, "equals {text:?}"),
        Pred::OneOf(set) => write!(key, "one of {:?}", sorted(set)),
        Pred::Contains(finder) => write!(key, "contains {:?}", finder.needle()),
        Pred::ContainsNoCase(needle) => write!(key, "contains in any case {needle:?}"),
        Pred::StartsWith(prefix) => write!(key, "starts with {prefix:?}"),
        Pred::EndsWith(suffix) => write!(key, "ends with {suffix:?}"),
        Pred::Glob(pattern, fold) => write!(key, "glob {fold} {pattern:?}"),
        Pred::Regex(regex) => write!(key, "regex {:?}", regex.as_str()),
        Pred::Below(paths) => write!(key, "below {}", paths.key()),
        Pred::Addresses(addresses) => write!(key, "addresses {addresses:?}"),
        Pred::Networks(networks) => write!(key, "networks {networks:?}"),
        Pred::EachIn(set) => write!(key, "each in {:?}", sorted(set)),
        Pred::SomeIn(set) => write!(key, "some in {:?}", sorted(set)),
        Pred::Other(op, right) => write!(key, "other {op:?} {}", of_extract(right)),
        Pred::Many(modifier, preds, negated) => {
            let _ = write!(key, "many {modifier:?} {negated}");
            for pred in preds {
                key.push('\n');
                write_pred(key, pred);
            }
            Ok(())
        }
    };
}

fn sorted<T: Ord>(set: &Set<T>) -> Vec<&T> {
    let mut items: Vec<&T> = set.iter().collect();
    items.sort();
    items
}
