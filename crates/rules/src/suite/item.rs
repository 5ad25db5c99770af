//! Reads a test item.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use tw_model::event::EVENTS;
use tw_model::field::nearest;
use tw_model::sample::{Sample, SampleError};

use super::Test;
use crate::diagnostic::{Problem, code};
use crate::text::{Files, Place};
use crate::yaml::typed::{self, TypedError};
use crate::yaml::{Kind, Node};

/// Keys of a test besides `test`.
pub(crate) const KEYS: &[&str] = &["of", "desc", "events", "hits", "alone"];

/// Keys that must be there.
const NEEDED: &[&str] = &["of", "events", "hits"];

/// Most events that a test may have.
const MAX_EVENTS: usize = 10_000;

/// One rule or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Of {
    One(String),
    Several(Vec<String>),
}

/// Numbers of events, or those of each rule.
#[derive(Deserialize)]
#[serde(untagged)]
enum Hits {
    Same(Vec<usize>),
    Each(BTreeMap<String, Vec<usize>>),
}

fn entries(node: &Node) -> &[(Node, Node)] {
    match &node.kind {
        Kind::Map(pairs) => pairs,
        _ => &[],
    }
}

fn get<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    let entry = entries(node).iter().find(|(name, _)| name.scalar() == Some(key));
    entry.map(|(_, value)| value).filter(|value| !matches!(value.kind, Kind::Null))
}

/// Whether an item of a rule file is a test.
pub(crate) fn is_test(node: &Node) -> bool {
    let has = |key: &str| entries(node).iter().any(|(name, _)| name.scalar() == Some(key));
    has("test") && !["rule", "macro", "list"].into_iter().any(has)
}

/// Whether there is all that a test needs.
fn check_shape(node: &Node) -> Result<(), Box<Problem>> {
    if get(node, "test").and_then(Node::scalar).is_none_or(|name| name.trim().is_empty()) {
        let problem = wrong(&node.place, "this test has no name");
        return Err(Box::new(problem.help("say in a sentence what it shows")));
    }
    match NEEDED.iter().find(|key| get(node, key).is_none()) {
        Some(key) => Err(Box::new(wrong(&node.place, format!("this test has no `{key}`")))),
        None => Ok(()),
    }
}

fn wrong(place: &Place, message: impl Into<String>) -> Problem {
    Problem::error(code::EXTENSION, place.clone(), message)
}

fn told(node: &Node, error: TypedError) -> Box<Problem> {
    let problem = wrong(error.place.as_ref().unwrap_or(&node.place), error.message);
    Box::new(Problem { help: error.help, ..problem })
}

fn value<T: serde::de::DeserializeOwned>(node: &Node, expected: &str) -> Result<T, Box<Problem>> {
    typed::read(node).map_err(|error| {
        let place = error.place.as_ref().unwrap_or(&node.place);
        Box::new(wrong(place, format!("this must be {expected}")))
    })
}

/// Line of a node, from 1.
pub(super) fn line(files: &Files, node: &Node) -> usize {
    files.line_column(node.place.file, node.place.start).0
}

/// The events of a document: it is one, or a list of events, or of items of a rule file.
pub(super) fn event_nodes(document: &Node) -> Vec<&Node> {
    let Kind::List(items) = &document.kind else { return vec![document] };
    let is_other = |node: &&Node| {
        let names = ["rule", "macro", "list", "required_engine_version", "required_plugin_versions"];
        entries(node).iter().any(|(name, _)| name.scalar().is_some_and(|name| names.contains(&name)))
    };
    let mut found = Vec::new();
    for node in items.iter().filter(|node| !is_other(node) && !matches!(node.kind, Kind::Null)) {
        match get(node, "events").map(|events| &events.kind) {
            Some(Kind::List(events)) if is_test(node) => found.extend(events),
            _ => found.push(node),
        }
    }
    found
}

/// Reads an event.
pub(super) fn event(node: &Node) -> Result<Sample, Box<Problem>> {
    let sample: Sample = typed::read(node).map_err(|error| told(node, error))?;
    if sample.kind.is_empty() {
        return Err(Box::new(wrong(&node.place, "this event has no `type`").help("such as `type: execve`")));
    }
    // That it can be made is checked here, so that the complaint has its place.
    match sample.inspect(1, |_| ()) {
        Ok(()) => Ok(sample),
        Err(error @ SampleError::UnknownType(_)) => {
            let place = get(node, "type").map_or(&node.place, |node| &node.place);
            let near = nearest(&sample.kind, EVENTS.iter().map(|info| info.name));
            Err(Box::new(wrong(place, error.to_string()).near(&near)))
        }
        Err(error) => Err(Box::new(wrong(&node.place, error.to_string()))),
    }
}

/// Reads a test.
pub(super) fn read(node: &Node, files: &Files) -> Result<Test, Box<Problem>> {
    check_shape(node)?;
    let mut names = BTreeSet::new();
    for (key, _) in entries(node) {
        let name = key.scalar().unwrap_or_default();
        if !names.insert(name) {
            return Err(Box::new(wrong(&key.place, format!("the key `{name}` is there twice"))));
        }
        if name != "test" && !KEYS.contains(&name) {
            let near = nearest(name, KEYS.iter().copied());
            return Err(Box::new(wrong(&key.place, format!("a test has no key `{name}`")).near(&near)));
        }
    }
    let needed = |key| get(node, key).ok_or_else(|| Box::new(wrong(&node.place, format!("this test has no `{key}`"))));
    let of_node = needed("of")?;
    let of = match value(of_node, "the name of a rule, or a list of names")? {
        Of::One(name) => vec![name],
        Of::Several(names) => names,
    };
    if of.is_empty() {
        return Err(Box::new(wrong(&of_node.place, "this test is about no rule")));
    }
    let events_node = needed("events")?;
    let Kind::List(event_nodes) = &events_node.kind else {
        return Err(Box::new(wrong(&events_node.place, "this must be a list of events")));
    };
    if event_nodes.is_empty() || event_nodes.len() > MAX_EVENTS {
        let message = format!("a test has 1 to {MAX_EVENTS} events, but this has {}", event_nodes.len());
        return Err(Box::new(wrong(&events_node.place, message)));
    }
    let events = event_nodes.iter().map(event).collect::<Result<Vec<_>, _>>()?;
    let hits = hits(needed("hits")?, &of, events.len())?;
    let text = |key| get(node, key).map_or(Ok(String::new()), |node| value(node, "a text"));
    Ok(Test {
        name: text("test")?.trim().to_owned(),
        desc: text("desc")?.trim().to_owned(),
        file: files.name(node.place.file).to_owned(),
        line: line(files, node),
        hits,
        lines: event_nodes.iter().map(|node| line(files, node)).collect(),
        events,
        alone: get(node, "alone").map_or(Ok(false), |node| value(node, "`true` or `false`"))?,
    })
}

fn hits(node: &Node, of: &[String], events: usize) -> Result<BTreeMap<String, BTreeSet<usize>>, Box<Problem>> {
    let refuse = |message: String| Err(Box::new(wrong(&node.place, message)));
    let of: BTreeSet<&String> = of.iter().collect();
    let each = match value(node, "a list of the numbers of events, or such a list for each rule")? {
        Hits::Each(each) => each,
        Hits::Same(numbers) => match of.first() {
            Some(rule) if of.len() == 1 => BTreeMap::from([((*rule).clone(), numbers)]),
            _ => return refuse("the test is about several rules: say `{RULE: [NUMBERS]}` for each".into()),
        },
    };
    if let Some(rule) = of.iter().find(|rule| !each.contains_key(**rule)) {
        return refuse(format!("nothing is said about the rule `{rule}`, although the test is about it"));
    }
    if let Some(rule) = each.keys().find(|rule| !of.contains(rule)) {
        return refuse(format!("the rule `{rule}` is not in `of`"));
    }
    if let Some(number) = each.values().flatten().find(|number| !(1..=events).contains(*number)) {
        return refuse(format!("there is no event {number}: they are counted from 1 to {events}"));
    }
    Ok(each.into_iter().map(|(rule, numbers)| (rule, numbers.into_iter().collect())).collect())
}
