//! Reads a test item.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use tw_model::event::EVENTS;
use tw_model::field::nearest;
use tw_model::sample::{Sample, SampleError};

use super::Test;
use crate::diagnostic::{Problem, code};
use crate::text::{Files, Place};
use crate::yaml::typed;
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

/// Tells of keys that are missing, twice, or not known.
fn check_keys(node: &Node, problems: &mut Vec<Problem>) {
    if get(node, "test").and_then(Node::scalar).is_none_or(|name| name.trim().is_empty()) {
        problems.push(wrong(&node.place, "this test has no name").help("say in a sentence what it shows"));
    }
    let missing = NEEDED.iter().filter(|key| get(node, key).is_none());
    problems.extend(missing.map(|key| wrong(&node.place, format!("this test has no `{key}`"))));
    let mut names = BTreeSet::new();
    for (key, _) in entries(node) {
        let name = key.scalar().unwrap_or_default();
        if !names.insert(name) {
            problems.push(wrong(&key.place, format!("the key `{name}` is there twice")));
        } else if name != "test" && !KEYS.contains(&name) {
            let near = nearest(name, KEYS.iter().copied());
            problems.push(wrong(&key.place, format!("a test has no key `{name}`")).near(&near));
        }
    }
}

fn wrong(place: &Place, message: impl Into<String>) -> Problem {
    Problem::error(code::EXTENSION, place.clone(), message)
}

fn value<T: serde::de::DeserializeOwned>(node: &Node, expected: &str, problems: &mut Vec<Problem>) -> Option<T> {
    let error = match typed::read(node) {
        Ok(value) => return Some(value),
        Err(error) => error,
    };
    problems.push(wrong(error.place.as_ref().unwrap_or(&node.place), format!("this must be {expected}")));
    None
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

/// Reads an event; `None`: there are problems more.
pub(super) fn event(node: &Node, problems: &mut Vec<Problem>) -> Option<Sample> {
    let sample: Sample = match typed::read_all(node) {
        Ok(sample) => sample,
        Err(errors) => {
            problems.extend(errors.into_iter().map(|error| {
                let problem = wrong(error.place.as_ref().unwrap_or(&node.place), error.message);
                Problem { help: error.help, ..problem }
            }));
            return None;
        }
    };
    if sample.kind.is_empty() {
        problems.push(wrong(&node.place, "this event has no `type`").help("such as `type: execve`"));
        return None;
    }
    // That it can be made is checked here, so that the complaint has its place.
    match sample.inspect(1, |_| ()) {
        Ok(()) => return Some(sample),
        Err(error @ SampleError::UnknownType(_)) => {
            let place = get(node, "type").map_or(&node.place, |node| &node.place);
            let near = nearest(&sample.kind, EVENTS.iter().map(|info| info.name));
            problems.push(wrong(place, error.to_string()).near(&near));
        }
        Err(error) => problems.push(wrong(&node.place, error.to_string())),
    }
    None
}

/// Reads a test; `None`: there are problems more.
pub(super) fn read(node: &Node, files: &Files, problems: &mut Vec<Problem>) -> Option<Test> {
    let before = problems.len();
    check_keys(node, problems);
    let of = get(node, "of").and_then(|of| names(of, problems));
    let event_nodes = get(node, "events").and_then(|events| events_of(events, problems)).unwrap_or_default();
    let events: Vec<Sample> = event_nodes.iter().filter_map(|node| event(node, problems)).collect();
    // Numbers are those of the events that are written, whether they can be read or not.
    let hits = match (get(node, "hits"), &of) {
        (Some(hits_node), Some(of)) => hits(hits_node, of, event_nodes.len(), problems),
        _ => None,
    };
    let mut text = |key| get(node, key).map_or(Some(String::new()), |node| value(node, "a text", problems));
    let (name, desc) = (text("test"), text("desc"));
    let alone = get(node, "alone").map_or(Some(false), |node| value(node, "`true` or `false`", problems));
    let test = Test {
        name: name?.trim().to_owned(),
        desc: desc?.trim().to_owned(),
        file: files.name(node.place.file).to_owned(),
        line: line(files, node),
        hits: hits?,
        lines: event_nodes.iter().map(|node| line(files, node)).collect(),
        events,
        alone: alone?,
    };
    (problems.len() == before).then_some(test)
}

fn names(node: &Node, problems: &mut Vec<Problem>) -> Option<Vec<String>> {
    let names = match value(node, "the name of a rule, or a list of names", problems)? {
        Of::One(name) => vec![name],
        Of::Several(names) => names,
    };
    if names.is_empty() {
        problems.push(wrong(&node.place, "this test is about no rule"));
        return None;
    }
    Some(names)
}

fn events_of<'n>(node: &'n Node, problems: &mut Vec<Problem>) -> Option<&'n [Node]> {
    let Kind::List(events) = &node.kind else {
        problems.push(wrong(&node.place, "this must be a list of events"));
        return None;
    };
    if events.is_empty() || events.len() > MAX_EVENTS {
        let message = format!("a test has 1 to {MAX_EVENTS} events, but this has {}", events.len());
        problems.push(wrong(&node.place, message));
        return None;
    }
    Some(events)
}

fn hits(
    node: &Node,
    of: &[String],
    events: usize,
    problems: &mut Vec<Problem>,
) -> Option<BTreeMap<String, BTreeSet<usize>>> {
    let of: BTreeSet<&String> = of.iter().collect();
    let each = match value(node, "a list of the numbers of events, or such a list for each rule", problems)? {
        Hits::Each(each) => each,
        Hits::Same(numbers) => match of.first() {
            Some(rule) if of.len() == 1 => BTreeMap::from([((*rule).clone(), numbers)]),
            _ => {
                let message = "the test is about several rules: say `{RULE: [NUMBERS]}` for each";
                problems.push(wrong(&node.place, message));
                return None;
            }
        },
    };
    let mut refuse = |message: String| problems.push(wrong(&node.place, message));
    for rule in of.iter().filter(|rule| !each.contains_key(**rule)) {
        refuse(format!("nothing is said about the rule `{rule}`, although the test is about it"));
    }
    for rule in each.keys().filter(|rule| !of.contains(rule)) {
        refuse(format!("the rule `{rule}` is not in `of`"));
    }
    // Where the events cannot be counted, that was told.
    if events > 0
        && let Some(number) = each.values().flatten().find(|number| !(1..=events).contains(*number))
    {
        refuse(format!("there is no event {number}: they are counted from 1 to {events}"));
    }
    Some(each.into_iter().map(|(rule, numbers)| (rule, numbers.into_iter().collect())).collect())
}
