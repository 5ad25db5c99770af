//! The table of fields: the one place that says which names a rule may use, what they mean and where
//! their values come from. Type check, evaluation, output and documentation all read [`FIELDS`].

use crate::event::{EVENTS, Event};
use crate::value::{FieldType, Value};

pub(crate) mod call;
mod container;
pub mod coverage;
mod event;
mod fd;
mod flow;
mod login;
mod network;
mod place;
mod pod;
mod process;
mod resource;
mod table;
mod target;
pub use fd::Opened;
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

/// Where a field may stand, and what else is special about it; as in Falco.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldFlag {
    /// Not on the right side of a comparison (`val()`).
    NoRhs,
    /// Not in a transformer.
    NoTransformer,
    /// Not in an output.
    FilterOnly,
    /// Not in a condition.
    PrintOnly,
    /// Meant for tables of Falco's relatives; not listed for people.
    TableOnly,
    /// Kept for old rules.
    Deprecated,
    /// Added to outputs where that is wished for.
    Suggested,
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
    /// Where it may stand.
    pub flags: &'static [FieldFlag],
    /// Where the value comes from; `None`: the name is known, but nothing supplies it yet.
    pub get: Option<Getter>,
    /// True if the field depends only on the process, its ancestors, the thread's name and the container, as they are
    /// until one of them changes: not on the single event, another process or the clock.
    pub per_process: bool,
    /// Meaning, in one sentence, with the unit and the source of the value.
    pub doc: &'static str,
}

impl Field {
    /// Whether the flag is set.
    pub fn is(&self, flag: FieldFlag) -> bool {
        self.flags.contains(&flag)
    }
}

/// Fields whose argument may be written behind a dot, as in `container.label.app`.
static DOTTED: &[&str] = &[
    "container.label",
    "evt.abspath",
    "evt.type.is",
    "k8s.deployment.label",
    "k8s.ns.label",
    "k8s.pod.label",
    "k8s.rc.label",
    "k8s.rs.label",
    "k8s.svc.label",
    "thread.cgroup",
];

/// Parameters that are texts in every event that has them.
static TEXT_PARAMS: &[&str] = &[
    "args",
    "cgroups",
    "comm",
    "cwd",
    "data",
    "dir",
    "env",
    "exe",
    "filename",
    "img",
    "linkpath",
    "name",
    "newpath",
    "oldpath",
    "path",
    "pathname",
    "target",
    "trusted_exepath",
    "tuple",
    "uargs",
];

/// Fields whose value for an open is decided by its path, flags, mode and attributes.
const OF_OPEN: [&str; 12] = [
    "fs.path.name",
    "fd.name",
    "fd.directory",
    "fd.filename",
    "fd.type",
    "fd.typechar",
    "fd.is_upper_layer",
    "fd.is_lower_layer",
    "evt.is_open_read",
    "evt.is_open_write",
    "evt.is_open_create",
    "evt.is_open_exec",
];

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
                    // Parameters are short: what is half as long again off is something else.
                    let near =
                        nearest_within(param, crate::event::PARAMS.iter().copied(), (param.len() / 2).clamp(1, 4));
                    return Err(FieldError::UnknownParam { near });
                };
                return Ok(Self { field: row(prefix), arg: Arg::Key((*known).into()) });
            }
        }
        if arg.is_none()
            && let Some((prefix, rest)) = DOTTED.iter().find_map(|prefix| {
                Some((*prefix, name.strip_prefix(prefix)?.strip_prefix('.').filter(|rest| !rest.is_empty())?))
            })
            && FIELDS.iter().all(|field| field.name != name)
        {
            return Self::resolve(prefix, Some(rest));
        }
        let Some(field) = FIELDS.iter().find(|field| field.name == name) else {
            return Err(FieldError::Unknown { near: nearest(name, FIELDS.iter().map(|field| field.name)) });
        };
        if let Some(arg) = arg {
            let known = match name {
                "evt.type.is" => crate::event::is_known_type(arg),
                "evt.abspath" => matches!(arg, "src" | "dst"),
                _ => true,
            };
            if !known {
                let types = EVENTS.iter().map(|info| info.name).chain(["src", "dst"]);
                return Err(FieldError::UnknownParam { near: nearest(arg, types) });
            }
        }
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

    /// A number that decides the value, where there is such a one and the value itself is dear to make: with equal
    /// numbers the values are equal.
    pub fn stand_in(&self, event: &Event<'_>) -> Option<u64> {
        let cred = &event.process.cred;
        match self.field.name {
            "thread.cap_effective" => Some(cred.cap_effective),
            "thread.cap_permitted" => Some(cred.cap_permitted),
            "thread.cap_inheritable" => Some(cred.cap_inheritable),
            _ => None,
        }
    }

    /// Whether events have a [`FieldRef::stand_in`].
    pub fn has_stand_in(&self) -> bool {
        self.field.name.starts_with("thread.cap_")
    }

    /// Whether for an open the value is decided by what [`Opened`] has.
    pub fn is_of_open(&self) -> bool {
        match &self.arg {
            Arg::Key(name) => self.field.name == "evt.arg" && &**name == "flags",
            Arg::None => OF_OPEN.contains(&self.field.name),
            Arg::Index(_) => false,
        }
    }

    /// Whether anything supplies values: some fields, and some parameters of events, are known by name only.
    pub fn has_source(&self) -> bool {
        let delivered = match &self.arg {
            Arg::Key(param) if matches!(self.field.name, "evt.arg" | "evt.rawarg") => {
                EVENTS.iter().any(|info| info.params.contains(&&**param))
            }
            _ => true,
        };
        self.field.get.is_some() && delivered
    }

    /// Type of the value.
    pub fn ty(&self) -> FieldType {
        match &self.arg {
            Arg::Key(param) if self.field.name == "evt.rawarg" && TEXT_PARAMS.contains(&&**param) => FieldType::Text,
            _ => self.field.ty,
        }
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

/// Whether a rule may write `name` without brackets, as far as that can be told cheaply.
pub fn is_field(name: &str) -> bool {
    FIELDS.iter().any(|field| field.name == name && field.arg != ArgRule::Required) || is_dotted(name)
}

/// Whether `name` is a field that has its argument behind a dot.
fn is_dotted(name: &str) -> bool {
    let is_param = |prefix| name.strip_prefix(prefix).is_some_and(|param| crate::event::PARAMS.contains(&param));
    let has_key =
        |prefix: &&str| name.strip_prefix(*prefix).is_some_and(|rest| rest.len() > 1 && rest.starts_with('.'));
    is_param("evt.arg.") || is_param("evt.rawarg.") || DOTTED.iter().any(has_key)
}

/// Whether `name` is in the table, with or without what belongs in brackets.
pub fn is_known(name: &str) -> bool {
    FIELDS.iter().any(|field| field.name == name) || is_dotted(name)
}

fn row(name: &str) -> &'static Field {
    FIELDS.iter().find(|field| field.name == name).unwrap_or(&FIELDS[0])
}

/// Up to three `candidates` nearest to `word` by edit distance, best first.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    nearest_within(word, candidates, (word.len() / 3).clamp(2, 6))
}

/// The same of those that are at most `limit` edits away.
pub fn nearest_within<'a>(word: &str, candidates: impl Iterator<Item = &'a str>, limit: usize) -> Vec<&'a str> {
    let mut near: Vec<(usize, &str)> = candidates
        .filter(|candidate| may_be_near(word.as_bytes(), candidate.as_bytes(), limit))
        .map(|candidate| (edit_distance(word.as_bytes(), candidate.as_bytes()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .collect();
    near.sort();
    // What is much farther than the best is not meant.
    let best = near.first().map_or(0, |(distance, _)| *distance);
    near.into_iter().take_while(|(distance, _)| *distance <= best + 1).take(3).map(|(_, name)| name).collect()
}

/// Cheaply finds that words are far apart: by their lengths, and by the bytes that only one of them has.
fn may_be_near(a: &[u8], b: &[u8], limit: usize) -> bool {
    let set = |word: &[u8]| word.iter().fold(0_u64, |set, byte| set | 1 << (byte & 63));
    a.len().abs_diff(b.len()) <= limit && a.len() <= 64 && {
        let (a, b) = (set(a), set(b));
        // One edit can take away one byte and bring another.
        (a & !b).count_ones() as usize <= limit && (b & !a).count_ones() as usize <= limit
    }
}

/// Edit distance in bytes, in which two neighbours that changed places count once; inputs over 64 bytes count as far
/// apart.
fn edit_distance(a: &[u8], b: &[u8]) -> usize {
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    let mut before = row.clone();
    for (i, x) in a.iter().enumerate() {
        let last = row.clone();
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = last[j] + usize::from(x != y);
            row[j + 1] = change.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                row[j + 1] = row[j + 1].min(before[j - 1] + 1);
            }
        }
        before = last;
    }
    row[b.len()]
}
