//! Tests that stand in rule files: events written by hand, and which of them a rule matches.
//!
//! ```yaml
//! - test: A shell below a web server
//!   of: Shell Below Web Server
//!   events:
//!     - type: execve
//!       proc: {name: sh}
//!       ancestors: [{name: nginx}]
//!   hits: [1]
//! ```
//!
//! [`Suite::parse`] reads the tests of a file, [`Test::run`] runs one with rules that were loaded, [`coverage`] says
//! which rules are tested at all.
//!
//! **Never:** a test that is left out in silence. What cannot be read is a [`Diagnostic`].

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use tw_model::field::nearest;
use tw_model::sample::Sample;

use crate::diagnostic::{Diagnostic, Problem};
use crate::ruleset::RuleSet;
use crate::text::Files;
use crate::yaml::{self, Kind, Node};

mod item;

pub(crate) use item::{KEYS, is_test};

/// The tests of a file.
#[derive(Debug, Default)]
pub struct Suite {
    /// In the order of the file.
    pub tests: Vec<Test>,
    /// Lines of the tests that cannot be read, from 1: each has one diagnostic or several.
    pub unread: Vec<usize>,
}

/// A test.
#[derive(Clone, Debug)]
pub struct Test {
    /// The sentence that says what it shows.
    pub name: String,
    /// Why that matters; may be empty.
    pub desc: String,
    /// Its file.
    pub file: String,
    /// Line of its beginning, from 1.
    pub line: usize,
    /// The rules that it is about, and which of the events, counted from 1, each of them matches.
    pub hits: BTreeMap<String, BTreeSet<usize>>,
    /// The events.
    pub events: Vec<Sample>,
    /// Line of each event, from 1.
    pub lines: Vec<usize>,
    /// No other enabled rule may match any of the events.
    pub alone: bool,
}

/// What was wrong with a test. Events are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Failure {
    /// The rule is not among those that were loaded.
    NoRule {
        /// Its name.
        rule: String,
        /// Names of rules that are near.
        near: Vec<String>,
    },
    /// The event cannot be made.
    BadEvent {
        /// Which.
        event: usize,
        /// Why.
        reason: String,
    },
    /// The rule does not match the event, but ought to.
    Missing {
        /// Which event.
        event: usize,
        /// Which rule.
        rule: String,
    },
    /// The rule matches the event, but ought not to.
    Unexpected {
        /// Which event.
        event: usize,
        /// Which rule.
        rule: String,
        /// What the rule says of it.
        message: String,
    },
    /// Another rule matches the event of a test that allows no other.
    NotAlone {
        /// Which event.
        event: usize,
        /// Which rule.
        rule: String,
        /// What the rule says of it.
        message: String,
    },
}

impl Failure {
    /// The event that it is about, counted from 1.
    pub fn event(&self) -> Option<usize> {
        match self {
            Self::NoRule { .. } => None,
            Self::BadEvent { event, .. }
            | Self::Missing { event, .. }
            | Self::Unexpected { event, .. }
            | Self::NotAlone { event, .. } => Some(*event),
        }
    }

    /// The rule that it is about.
    pub fn rule(&self) -> Option<&str> {
        match self {
            Self::BadEvent { .. } => None,
            Self::NoRule { rule, .. }
            | Self::Missing { rule, .. }
            | Self::Unexpected { rule, .. }
            | Self::NotAlone { rule, .. } => Some(rule),
        }
    }
}

impl std::fmt::Display for Failure {
    /// One sentence. Texts of events are in it as they are, with control characters.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoRule { rule, near } => {
                write!(f, "there is no rule `{rule}`")?;
                let near: Vec<&str> = near.iter().map(String::as_str).collect();
                crate::diagnostic::did_you_mean(&near).map_or(Ok(()), |help| write!(f, "; {help}"))
            }
            Self::BadEvent { event, reason } => write!(f, "event {event}: {reason}"),
            Self::Missing { event, rule } => write!(f, "event {event}: `{rule}` must match, but does not"),
            Self::Unexpected { event, rule, message } => {
                write!(f, "event {event}: `{rule}` must not match, but says: {message}")
            }
            Self::NotAlone { event, rule, message } => {
                write!(f, "event {event}: no other rule may match, but `{rule}` says: {message}")
            }
        }
    }
}

/// An event out of a file.
#[derive(Clone, Debug)]
pub struct PlacedEvent {
    /// The event.
    pub sample: Sample,
    /// Line of its beginning, from 1.
    pub line: usize,
}

/// Reads the events of a file: one alone, a list of them, or those of the tests in a rule file, in order. `name` is what
/// diagnostics call it.
pub fn read_events(name: &str, text: &str) -> (Vec<PlacedEvent>, Vec<Diagnostic>) {
    with_documents(name, text, |node, files, problems| {
        let mut found = Vec::new();
        for node in item::event_nodes(node) {
            if let Some(sample) = item::event(node, problems) {
                found.push(PlacedEvent { sample, line: item::line(files, node) });
            }
        }
        found
    })
}

fn with_documents<T>(
    name: &str,
    text: &str,
    mut read: impl FnMut(&Node, &Files, &mut Vec<Problem>) -> Vec<T>,
) -> (Vec<T>, Vec<Diagnostic>) {
    let mut files = Files::default();
    let file = files.add(name.to_owned(), text.to_owned());
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    match yaml::parse(file, text) {
        Ok(documents) => {
            for document in &documents {
                found.extend(read(document, &files, &mut problems));
            }
        }
        Err(error) => problems.push(error.problem()),
    }
    (found, problems.into_iter().map(|problem| problem.locate(&files)).collect())
}

impl Suite {
    /// Reads the tests of a file; rules, macros and lists are passed over. `name` is what diagnostics call it.
    pub fn parse(name: &str, text: &str) -> (Self, Vec<Diagnostic>) {
        let mut unread = Vec::new();
        let (tests, diagnostics) = with_documents(name, text, |document, files, problems| {
            let Kind::List(items) = &document.kind else { return Vec::new() };
            let mut tests = Vec::new();
            for node in items.iter().filter(|node| item::is_test(node)) {
                match item::read(node, files, problems) {
                    Some(test) => tests.push(test),
                    None => unread.push(item::line(files, node)),
                }
            }
            tests
        });
        (Self { tests, unread }, diagnostics)
    }
}

impl Test {
    /// Runs the test; it is passed if nothing failed. Rules that are disabled are tried all the same, but do not count
    /// as others.
    pub fn run(&self, rules: &RuleSet) -> Vec<Failure> {
        let mut failures = Vec::new();
        for name in self.hits.keys().filter(|name| rules.get(name).is_none()) {
            let near = nearest(name, rules.rules().iter().map(|rule| rule.name.as_str()));
            let near = near.into_iter().map(str::to_owned).collect();
            failures.push(Failure::NoRule { rule: name.clone(), near });
        }
        for (event, sample) in (1..).zip(&self.events) {
            let told = sample.inspect(event as u64, |raised| {
                for rule in rules.rules() {
                    let name = || rule.name.clone();
                    let expected = self.hits.get(&rule.name).map(|hits| hits.contains(&event));
                    let looked_at = expected.is_some() || (self.alone && rule.enabled);
                    if !looked_at {
                        continue;
                    }
                    match (expected, rule.matches(raised)) {
                        (Some(true), false) => failures.push(Failure::Missing { event, rule: name() }),
                        (Some(false), true) => {
                            failures.push(Failure::Unexpected { event, rule: name(), message: rule.message(raised) });
                        }
                        (None, true) => {
                            failures.push(Failure::NotAlone { event, rule: name(), message: rule.message(raised) });
                        }
                        _ => {}
                    }
                }
            });
            if let Err(error) = told {
                failures.push(Failure::BadEvent { event, reason: error.to_string() });
            }
        }
        failures
    }

    /// Line of an event, counted from 1; of the test, if there is no such event.
    pub fn line_of(&self, event: Option<usize>) -> usize {
        let index = event.and_then(|event| event.checked_sub(1));
        index.and_then(|index| self.lines.get(index)).copied().unwrap_or(self.line)
    }
}

/// How well a rule is tested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Name of the rule.
    pub rule: String,
    /// Its file.
    pub file: String,
    /// Line of its definition.
    pub line: usize,
    /// Tests about it.
    pub tests: usize,
    /// Events that a test expects it to match.
    pub positive: usize,
    /// Events that a test expects it to leave alone.
    pub negative: usize,
}

impl Coverage {
    /// Whether it is shown finding something and leaving something alone.
    pub fn is_complete(&self) -> bool {
        self.positive > 0 && self.negative > 0
    }
}

/// How well each rule is tested, in the order of definition.
pub fn coverage<'t>(rules: &RuleSet, tests: impl IntoIterator<Item = &'t Test>) -> Vec<Coverage> {
    let mut found: BTreeMap<&str, (usize, usize, usize)> = BTreeMap::new();
    for test in tests {
        for (rule, hits) in &test.hits {
            let (tests, positive, negative) = found.entry(rule).or_default();
            *tests += 1;
            *positive += hits.len();
            *negative += test.events.len().saturating_sub(hits.len());
        }
    }
    let coverage = |rule: &crate::Rule| {
        let (tests, positive, negative) = found.get(rule.name.as_str()).copied().unwrap_or_default();
        let (name, file) = (rule.name.clone(), rule.file.clone());
        Coverage { rule: name, file, line: rule.line, tests, positive, negative }
    };
    rules.rules().iter().map(coverage).collect()
}

#[cfg(test)]
mod tests;
