//! Items of a rule file: their keys, read with complaints that point at the right place.

use std::collections::HashSet;

use tw_model::field::nearest;

use crate::diagnostic::{Problem, code};
use crate::text::{Place, Text};
use crate::yaml::{Kind, Node};

/// Kinds of items and the keys that each may have.
static KINDS: &[(&str, &[&str])] = &[
    ("required_engine_version", &[]),
    ("required_plugin_versions", &[]),
    ("list", &["items", "append", "override"]),
    ("macro", &["condition", "append", "override"]),
    (
        "rule",
        &[
            "condition",
            "output",
            "desc",
            "priority",
            "source",
            "enabled",
            "capture",
            "capture_duration",
            "warn_evttypes",
            "skip-if-unknown-filter",
            "tags",
            "exceptions",
            "override",
            "append",
            "advice",
        ],
    ),
    ("test", crate::suite::KEYS),
];

/// How many names are looked at for what may have been meant.
const MAX_NAMES: usize = 2000;

/// An item of a rule file.
pub(super) struct Item<'n> {
    /// Its kind, or nothing if it is of no known kind.
    pub kind: &'static str,
    /// Where it stands: the value of the key that says what it is, or all of it.
    pub place: Place,
    entries: Vec<(&'n str, &'n Node, &'n Node)>,
}

impl<'n> Item<'n> {
    /// Reads the keys of a map.
    pub fn new(node: &'n Node) -> Result<Self, Problem> {
        let Kind::Map(pairs) = &node.kind else {
            let message = format!("an item is a map, but this is {}", node.kind_name());
            return Err(Problem::error(code::YAML_VALIDATE, node.place.clone(), message));
        };
        let mut entries: Vec<(&str, &Node, &Node)> = Vec::with_capacity(pairs.len());
        let mut names = HashSet::with_capacity(pairs.len());
        for (key, value) in pairs {
            let Some(name) = key.scalar() else {
                let message = format!("a key is a single value, but this is {}", key.kind_name());
                return Err(Problem::error(code::YAML_VALIDATE, key.place.clone(), message));
            };
            if !names.insert(name) {
                let message = format!("the key `{name}` is there twice");
                return Err(Problem::error(code::YAML_VALIDATE, key.place.clone(), message));
            }
            entries.push((name, key, value));
        }
        let found = KINDS.iter().find_map(|(kind, _)| {
            entries.iter().find(|(name, ..)| name == kind).map(|(_, key, value)| (*kind, *key, *value))
        });
        let (kind, place) = match found {
            Some((kind, key, value)) if matches!(value.kind, Kind::Null) => (kind, key.place.clone()),
            Some((kind, _, value)) => (kind, value.place.clone()),
            None => ("", entries.first().map_or(node.place.clone(), |(_, key, _)| key.place.clone())),
        };
        Ok(Self { kind, place, entries })
    }

    /// Warns of keys that items of this kind do not have.
    pub fn warn_of_unknown_keys(&self, problems: &mut Vec<Problem>) {
        let Some((kind, keys)) = KINDS.iter().find(|(kind, _)| *kind == self.kind) else { return };
        for (name, key, _) in &self.entries {
            if name != kind && !keys.contains(name) {
                let message = format!("a {kind} has no key `{name}`");
                let near = nearest(name, keys.iter().copied());
                // Falco does not know tests; what is said about them is ours.
                let code = if *kind == "test" { code::WARNING_EXTENSION } else { code::UNKNOWN_KEY };
                problems.push(Problem::warning(code, key.place.clone(), message).near(&near));
            }
        }
    }

    /// The value of a key, unless it is null.
    pub fn get(&self, key: &str) -> Option<&'n Node> {
        let entry = self.entries.iter().find(|(name, ..)| *name == key);
        entry.map(|(_, _, value)| *value).filter(|value| !matches!(value.kind, Kind::Null))
    }

    /// An error about the whole item.
    pub fn error(&self, message: impl Into<String>) -> Problem {
        Problem::error(code::VALIDATE, self.place.clone(), message)
    }

    /// A key that must be there is not.
    pub fn missing(&self, key: &str) -> Problem {
        Problem::error(code::YAML_VALIDATE, self.place.clone(), format!("this {} has no `{key}`", self.kind))
    }

    /// The item that this one is to change does not exist.
    pub fn no_target<'a>(&self, name: &str, known: impl Iterator<Item = &'a str>) -> Problem {
        let problem = self.error(format!("there is no earlier {} `{name}` to change", self.kind));
        let near = nearest(name, known.take(MAX_NAMES));
        if near.is_empty() {
            problem.help("files are loaded in order: the one that defines it must come first")
        } else {
            problem.near(&near)
        }
    }

    /// Checks the shape of a test as far as that is cheap. What is in it matters only to those who run it.
    pub fn check_test(&self) -> Result<(), Problem> {
        self.name()?;
        let of = self.get("of").ok_or_else(|| self.missing("of"))?;
        match &of.kind {
            Kind::Scalar { .. } => {}
            Kind::List(rules) if !rules.is_empty() && rules.iter().all(|rule| rule.scalar().is_some()) => {}
            _ => return Err(self.wrong(of, "the name of a rule or a list of names")),
        }
        let events = self.list("events")?.ok_or_else(|| self.missing("events"))?;
        if let Some(event) = events.iter().find(|event| !matches!(event.kind, Kind::Map(_))) {
            return Err(self.wrong(event, "an event as a map"));
        }
        let hits = self.get("hits").ok_or_else(|| self.missing("hits"))?;
        if !matches!(hits.kind, Kind::List(_) | Kind::Map(_)) {
            return Err(self.wrong(hits, "a list of numbers, or a map from rules to such lists"));
        }
        self.flag("alone").map(|_| ())
    }

    /// Name of the item and where it stands.
    pub fn name(&self) -> Result<(String, Place), Problem> {
        match self.get(self.kind).map(|node| (node, node.scalar())) {
            Some((node, Some(name))) if !name.trim().is_empty() => Ok((name.to_owned(), node.place.clone())),
            Some((node, None)) => Err(self.wrong(node, "a single value")),
            _ => {
                Err(Problem::error(code::YAML_VALIDATE, self.place.clone(), format!("this {} has no name", self.kind)))
            }
        }
    }

    fn wrong(&self, node: &Node, expected: &str) -> Problem {
        let message = format!("this must be {expected}, but is {}", node.kind_name());
        Problem::error(code::YAML_VALIDATE, node.place.clone(), message)
    }

    /// The text of a key; empty texts count as absent.
    pub fn text(&self, key: &str) -> Result<Option<Text>, Problem> {
        let Some(node) = self.get(key) else { return Ok(None) };
        match node.text() {
            Some(text) => Ok((!text.as_str().trim().is_empty()).then_some(text)),
            None => Err(self.wrong(node, "a single value")),
        }
    }

    /// The same without places, and without blanks at both ends.
    pub fn string(&self, key: &str) -> Result<Option<String>, Problem> {
        Ok(self.text(key)?.map(|text| text.as_str().trim().to_owned()))
    }

    /// The elements of a list.
    pub fn list(&self, key: &str) -> Result<Option<&'n [Node]>, Problem> {
        match self.get(key) {
            None => Ok(None),
            Some(Node { kind: Kind::List(items), .. }) => Ok(Some(items)),
            Some(node) => Err(self.wrong(node, "a list")),
        }
    }

    /// A truth value.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, Problem> {
        let Some(node) = self.get(key) else { return Ok(None) };
        match node.scalar().map(str::to_ascii_lowercase).as_deref() {
            Some("true" | "yes" | "on" | "y") => Ok(Some(true)),
            Some("false" | "no" | "off" | "n") => Ok(Some(false)),
            _ => Err(Problem::error(code::YAML_VALIDATE, node.place.clone(), "this must be `true` or `false`")),
        }
    }

    /// Whether a list or macro is to be added to the earlier one.
    pub fn appends(&self, overrides: &Option<Overrides>) -> Result<bool, Problem> {
        let flag = self.flag("append")?.unwrap_or(false);
        if flag && overrides.is_some() {
            return Err(self.error("`append` and `override` cannot be used together"));
        }
        Ok(flag
            || overrides.as_ref().is_some_and(|overrides| overrides.0.iter().any(|(_, mode)| *mode == Mode::Append)))
    }
}

/// What an override does with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Adds to what was there.
    Append,
    /// Takes the place of what was there.
    Replace,
}

/// The keys that an item overrides.
pub(super) struct Overrides(pub Vec<(String, Mode)>);

impl Overrides {
    /// Reads `override`; `None` if there is none. What is wrong is told of each key, so that all can be mended in one go.
    pub fn read(item: &Item<'_>, append: &[&str], replace: &[&str], wrong: &mut Vec<Problem>) -> Option<Self> {
        let node = item.get("override")?;
        let Kind::Map(pairs) = &node.kind else {
            wrong.push(item.wrong(node, "a map"));
            return Some(Self(Vec::new()));
        };
        let before = wrong.len();
        let (mut overrides, mut names) = (Vec::with_capacity(pairs.len()), Vec::with_capacity(pairs.len()));
        for (key, value) in pairs {
            match Self::entry(item, append, replace, &names, key, value) {
                Ok(entry) => overrides.push(entry),
                Err(problem) => wrong.push(problem),
            }
            names.extend(key.scalar());
        }
        for (name, key, value) in &item.entries {
            let can_be = append.contains(name) || replace.contains(name);
            // A name that is misspelt above may be this one.
            if can_be && wrong.len() == before && !names.contains(name) && !matches!(value.kind, Kind::Null) {
                let message = format!("`{name}` is there, but `override` does not say what to do with it");
                let problem = Problem::error(code::VALIDATE, key.place.clone(), message);
                wrong.push(problem.help(format!("add `{name}: append` or `{name}: replace` to `override`")));
            }
        }
        Some(Self(overrides))
    }

    fn entry(
        item: &Item<'_>,
        append: &[&str],
        replace: &[&str],
        earlier: &[&str],
        key: &Node,
        value: &Node,
    ) -> Result<(String, Mode), Problem> {
        let problem = |place: &Place, message| Problem::error(code::VALIDATE, place.clone(), message);
        let Some(name) = key.scalar() else { return Err(item.wrong(key, "a key")) };
        let (mode, allowed) = match value.scalar() {
            Some("append") => (Mode::Append, append),
            Some("replace") => (Mode::Replace, replace),
            _ => return Err(problem(&value.place, "this must be `append` or `replace`".to_owned())),
        };
        if !allowed.contains(&name) {
            let done = if mode == Mode::Append { "appended to" } else { "replaced" };
            let message = format!("`{name}` of a {} cannot be {done}", item.kind);
            return Err(problem(&key.place, message).near(&nearest(name, allowed.iter().copied())));
        }
        if earlier.contains(&name) {
            return Err(problem(&key.place, format!("`{name}` is overridden twice")));
        }
        if item.get(name).is_none() {
            return Err(problem(&key.place, format!("`{name}` is overridden, but not there")));
        }
        Ok((name.to_owned(), mode))
    }

    /// The keys with this mode.
    pub fn keys(&self, mode: Mode) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(_, known)| *known == mode).map(|(name, _)| name.as_str())
    }
}
