//! The table of fields: the one place that says which names a rule may use, what they mean and where
//! their values come from. Type check, evaluation, output and documentation all read [`FIELDS`].

use crate::event::Event;
use crate::value::{FieldType, Value};

mod container;
mod event;
mod fd;
mod process;
mod table;
pub use table::FIELDS;

/// What may stand in brackets behind a field's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgRule {
    /// Nothing.
    None,
    /// Optionally a number, such as the generation in `proc.aname[2]`.
    OptionalIndex,
    /// Optionally a number or a name, such as `proc.env[PATH]`.
    Optional,
    /// A number or a name is needed, such as `container.mount.dest[/proc]`.
    Required,
}

/// A parsed argument of a field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Arg {
    /// No argument given.
    None,
    /// A number.
    Index(u32),
    /// A name.
    Key(Box<str>),
}

/// How a comparison treats a value with several elements ([`Value::Any`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Multi {
    /// The field has one value.
    Single,
    /// Every operator, `!=` too, needs one element for which it holds (ancestors).
    Some,
    /// As `Some`, but `!=` is the negation of `=`: neither end matches (`fd.ip`, `fd.port`, `fd.net`).
    EitherEnd,
}

/// Reads a field from an event. `None` is null: the field does not apply to this event.
pub type Getter = for<'e> fn(&Event<'e>, &Arg) -> Option<Value<'e>>;

/// One row of [`FIELDS`].
#[derive(Debug)]
pub struct Field {
    /// Name as written in rules.
    pub name: &'static str,
    /// Type of the value.
    pub ty: FieldType,
    /// What may stand in brackets.
    pub arg: ArgRule,
    /// Treatment of several values.
    pub multi: Multi,
    /// Where the value comes from; `None`: the name is known, but nothing supplies it yet.
    pub get: Option<Getter>,
    /// True if the field depends only on the process, its ancestors, the thread's name and the container, as they are
    /// until one of them changes: not on the single event, another process or the clock.
    pub per_process: bool,
    /// Meaning, in one sentence, with the unit and the source of the value.
    pub doc: &'static str,
}

/// A field with its argument, ready for evaluation.
#[derive(Clone, Debug)]
pub struct FieldRef {
    /// Row of the table.
    pub field: &'static Field,
    /// Parsed argument.
    pub arg: Arg,
}

impl PartialEq for FieldRef {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.field, other.field) && self.arg == other.arg
    }
}

/// Why a name in a rule is not a usable field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldError {
    /// No such field; near matches, best first.
    Unknown {
        /// Up to three similar names.
        near: Vec<&'static str>,
    },
    /// The field needs an argument in brackets.
    ArgMissing,
    /// The field takes no argument, or only a number.
    ArgNotAllowed,
    /// `evt.arg.NAME` with a NAME that no event has.
    UnknownParam {
        /// Up to three similar names.
        near: Vec<&'static str>,
    },
}

impl FieldRef {
    /// Resolves `name` (with the text in brackets, if any) against the table.
    ///
    /// `evt.arg.NAME` and `evt.rawarg.NAME` are `evt.arg` and `evt.rawarg` with the key NAME.
    ///
    /// # Errors
    /// [`FieldError`] says what is wrong and which names are near.
    pub fn resolve(name: &str, arg: Option<&str>) -> Result<Self, FieldError> {
        for prefix in ["evt.arg", "evt.rawarg"] {
            if let Some(param) = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.')) {
                if arg.is_some() {
                    return Err(FieldError::ArgNotAllowed);
                }
                let Some(known) = crate::event::PARAMS.iter().find(|known| **known == param) else {
                    return Err(FieldError::UnknownParam {
                        near: nearest(param, crate::event::PARAMS.iter().copied()),
                    });
                };
                return Ok(Self { field: row(prefix), arg: Arg::Key((*known).into()) });
            }
        }
        let Some(field) = FIELDS.iter().find(|field| field.name == name) else {
            return Err(FieldError::Unknown { near: nearest(name, FIELDS.iter().map(|field| field.name)) });
        };
        let arg = match (field.arg, arg) {
            (ArgRule::Required, None) => return Err(FieldError::ArgMissing),
            (_, None) => Arg::None,
            (ArgRule::None, Some(_)) => return Err(FieldError::ArgNotAllowed),
            (rule, Some(text)) => match text.parse::<u32>() {
                Ok(index) => Arg::Index(index),
                Err(_) if rule == ArgRule::OptionalIndex => return Err(FieldError::ArgNotAllowed),
                Err(_) => Arg::Key(text.into()),
            },
        };
        Ok(Self { field, arg })
    }

    /// The value for this event, or `None` for null.
    pub fn get<'e>(&self, event: &Event<'e>) -> Option<Value<'e>> {
        (self.field.get?)(event, &self.arg)
    }

    /// Type of the value.
    pub fn ty(&self) -> FieldType {
        self.field.ty
    }
}

impl std::fmt::Display for FieldRef {
    /// The name as a rule would write it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.arg {
            Arg::None => f.write_str(self.field.name),
            Arg::Index(index) => write!(f, "{}[{index}]", self.field.name),
            Arg::Key(key) if matches!(self.field.name, "evt.arg" | "evt.rawarg") => {
                write!(f, "{}.{key}", self.field.name)
            }
            Arg::Key(key) => write!(f, "{}[{key}]", self.field.name),
        }
    }
}

fn row(name: &str) -> &'static Field {
    FIELDS.iter().find(|field| field.name == name).unwrap_or(&FIELDS[0])
}

/// Up to three `candidates` nearest to `word` by edit distance, best first.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let limit = (word.len() / 3).clamp(2, 6);
    let mut near: Vec<(usize, &str)> = candidates
        .map(|candidate| (edit_distance(word.as_bytes(), candidate.as_bytes()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .collect();
    near.sort();
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

/// Levenshtein distance, in bytes; inputs over 64 bytes count as far apart.
fn edit_distance(a: &[u8], b: &[u8]) -> usize {
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
