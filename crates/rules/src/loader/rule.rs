//! Rules: definition, redefinition, appending and overriding.

use std::collections::BTreeSet;

use tw_model::Priority;
use tw_model::field::nearest;

use super::exception::{self, Exception};
use super::item::{Item, Mode, Overrides};
use super::{Loader, MAX_COPIED};
use crate::diagnostic::{Problem, Severity, code};
use crate::text::{Place, Text};
use crate::yaml::Node;

/// The source of events that this engine has.
pub(super) const SOURCE: &str = "syscall";

static APPENDABLE: &[&str] = &["condition", "output", "desc", "tags", "exceptions", "advice"];
static REPLACEABLE: &[&str] = &[
    "condition",
    "output",
    "desc",
    "priority",
    "capture",
    "capture_duration",
    "tags",
    "exceptions",
    "enabled",
    "warn_evttypes",
    "skip-if-unknown-filter",
    "advice",
];

/// A rule as the files define it.
pub(super) struct RuleDef {
    pub name: String,
    pub place: Place,
    pub condition: Text,
    pub output: Text,
    pub desc: String,
    pub advice: String,
    pub priority: Priority,
    pub source: String,
    pub enabled: bool,
    pub warn_evttypes: bool,
    pub skip_if_unknown: bool,
    pub tags: BTreeSet<String>,
    pub exceptions: Vec<Exception>,
}

const TOO_OFTEN: &str = "rules are changed too often";

impl RuleDef {
    /// Bytes that a copy takes, about.
    fn size(&self) -> usize {
        let texts = self.condition.as_str().len() + self.output.as_str().len() + self.desc.len() + self.advice.len();
        texts + self.exceptions.iter().map(Exception::size).sum::<usize>()
    }
}

fn priority(item: &Item<'_>) -> Result<Option<Priority>, Problem> {
    let Some(text) = item.string("priority")? else { return Ok(None) };
    Priority::parse(&text).map(Some).ok_or_else(|| {
        let place = item.get("priority").map_or(item.place.clone(), |node| node.place.clone());
        let names = Priority::ALL.map(Priority::name);
        let mut near = nearest(&text, names.iter().copied());
        if near.is_empty() {
            let lower = text.to_ascii_lowercase();
            near.extend(names.iter().copied().filter(|name| name.to_ascii_lowercase().starts_with(&lower)));
        }
        let problem = Problem::error(code::YAML_VALIDATE, place, format!("there is no priority `{text}`"));
        if near.is_empty() { problem.help(format!("priorities are {}", names.join(", "))) } else { problem.near(&near) }
    })
}

fn tags(item: &Item<'_>) -> Result<Option<BTreeSet<String>>, Problem> {
    let Some(nodes) = item.list("tags")? else { return Ok(None) };
    let tag = |node: &Node| {
        node.scalar().map(str::to_owned).ok_or_else(|| {
            let message = format!("a tag is a single value, but this is {}", node.kind_name());
            Problem::error(code::YAML_VALIDATE, node.place.clone(), message)
        })
    };
    nodes.iter().map(tag).collect::<Result<_, _>>().map(Some)
}

/// What was read; an error is told.
fn told<T>(read: Result<Option<T>, Problem>, wrong: &mut Vec<Problem>) -> Option<T> {
    read.unwrap_or_else(|problem| {
        wrong.push(problem);
        None
    })
}

/// The text of a key that must be there; if it is not, that is told.
fn needed(item: &Item<'_>, key: &str, wrong: &mut Vec<Problem>) -> Text {
    told(item.text(key).and_then(|text| text.ok_or_else(|| item.missing(key)).map(Some)), wrong).unwrap_or_default()
}

impl Loader {
    pub(super) fn rule(&mut self, item: &Item<'_>) -> Result<(), Problem> {
        let (name, place) = item.name()?;
        // What is wrong with several keys is told of each, so that all can be mended in one go; first of those whose
        // values are not used.
        let mut wrong = Vec::new();
        told(item.flag("capture"), &mut wrong);
        if let Some(duration) = told(item.string("capture_duration"), &mut wrong)
            && duration.parse::<u64>().is_err()
        {
            let place = item.get("capture_duration").map_or(item.place.clone(), |node| node.place.clone());
            wrong.push(Problem::error(code::YAML_VALIDATE, place, "this must be a number of milliseconds"));
        }
        let overrides = Overrides::read(item, APPENDABLE, REPLACEABLE, &mut wrong);
        let append = told(item.flag("append"), &mut wrong).unwrap_or(false);
        if append && overrides.is_some() {
            wrong.push(item.error("`append` and `override` cannot be used together"));
        }
        if let Some(overrides) = overrides {
            self.override_rule(item, &name, &overrides, wrong);
            return Ok(());
        }
        let toggles = ["condition", "output", "desc", "priority"].iter().all(|key| item.get(key).is_none());
        match (append || toggles, wrong.is_empty()) {
            (true, false) => self.problems.append(&mut wrong),
            (true, true) if append => self.append_rule(item, &name)?,
            (true, true) => self.toggle_rule(item, &name)?,
            (false, _) => self.define_rule(item, name, place, wrong),
        }
        Ok(())
    }

    fn define_rule(&mut self, item: &Item<'_>, name: String, place: Place, mut wrong: Vec<Problem>) {
        let source = told(item.string("source"), &mut wrong);
        if let (Some(source), Some(earlier)) = (&source, self.rules.get_mut(&name))
            && earlier.source != *source
        {
            let message = format!("the rule `{name}` was defined for the source `{}`", earlier.source);
            wrong.push(item.error(message));
        }
        let is_missing = |key: &&str| matches!(item.text(key), Ok(None));
        let missing: Vec<&str> = ["condition", "output", "desc", "priority"].into_iter().filter(is_missing).collect();
        if !missing.is_empty() {
            wrong.push(item.missing(&missing.join("`, no `")));
        }
        let condition = told(item.text("condition"), &mut wrong);
        let output = told(item.text("output"), &mut wrong);
        let desc = told(item.string("desc"), &mut wrong);
        let priority = told(priority(item), &mut wrong);
        let advice = told(item.string("advice"), &mut wrong).unwrap_or_default();
        let enabled = told(item.flag("enabled"), &mut wrong).unwrap_or(true);
        let warn_evttypes = told(item.flag("warn_evttypes"), &mut wrong).unwrap_or(true);
        let skip_if_unknown = told(item.flag("skip-if-unknown-filter"), &mut wrong).unwrap_or(false);
        let tags = told(tags(item), &mut wrong).unwrap_or_default();
        let exceptions = told(exception::define(item, &mut wrong).map(Some), &mut wrong);
        let broken = wrong.iter().any(|problem| problem.severity == Severity::Error);
        self.problems.append(&mut wrong);
        let is_loaded = !broken && output.is_some() && desc.is_some() && priority.is_some();
        let Some(condition) = condition else { return };
        let rule = RuleDef {
            condition,
            output: output.map(|output| output.trimmed()).unwrap_or_default(),
            desc: desc.unwrap_or_default(),
            advice,
            priority: priority.unwrap_or(Priority::Debug),
            source: source.unwrap_or_else(|| SOURCE.to_owned()),
            enabled,
            warn_evttypes,
            skip_if_unknown,
            tags,
            exceptions: exceptions.unwrap_or_default(),
            name: name.clone(),
            place,
        };
        if is_loaded {
            self.rules.define(&name, rule);
        } else {
            self.broken.push(rule);
        }
    }

    fn append_rule(&mut self, item: &Item<'_>, name: &str) -> Result<(), Problem> {
        self.warn_of_append(item);
        let Some(rule) = self.rules.get_mut(name) else { return Err(item.no_target(name, self.rules.names())) };
        self.copied = self.copied.saturating_add(rule.size());
        if self.copied > MAX_COPIED {
            return Err(item.error(TOO_OFTEN));
        }
        let condition = item.text("condition")?;
        if condition.is_none() && item.get("exceptions").is_none() {
            return Err(item.error("there is neither a condition nor an exception to append"));
        }
        let mut exceptions = rule.exceptions.clone();
        exception::append(&mut exceptions, item, &mut self.problems)?;
        rule.exceptions = exceptions;
        if let Some(condition) = condition {
            rule.condition.append(&condition);
        }
        Ok(())
    }

    fn toggle_rule(&mut self, item: &Item<'_>, name: &str) -> Result<(), Problem> {
        let enabled = item.flag("enabled")?.ok_or_else(|| item.missing("condition"))?;
        let problem =
            Problem::warning(code::DEPRECATED_ITEM, item.place.clone(), "a rule with `enabled` only is deprecated");
        self.problems.push(problem.help("add `override: {enabled: replace}`"));
        let Some(rule) = self.rules.get_mut(name) else { return Err(item.no_target(name, self.rules.names())) };
        rule.enabled = enabled;
        Ok(())
    }

    /// All values are read before any is used, so that an error leaves the rule as it was.
    fn override_rule(&mut self, item: &Item<'_>, name: &str, overrides: &Overrides, mut wrong: Vec<Problem>) {
        let Some(rule) = self.rules.get_mut(name) else {
            self.problems.append(&mut wrong);
            self.problems.push(item.no_target(name, self.rules.names()));
            return;
        };
        self.copied = self.copied.saturating_add(rule.size());
        if self.copied > MAX_COPIED {
            self.problems.push(item.error(TOO_OFTEN));
            return;
        }
        let (priority, tags) = (told(priority(item), &mut wrong), told(tags(item), &mut wrong));
        let mut exceptions = rule.exceptions.clone();
        let (mut condition, mut output) = (rule.condition.clone(), rule.output.clone());
        let (mut desc, mut advice) = (rule.desc.clone(), rule.advice.clone());
        let add = |old: &mut String, new: Text| {
            old.push(' ');
            old.push_str(new.as_str().trim());
        };
        for key in overrides.keys(Mode::Append) {
            match key {
                "condition" => condition.append(&needed(item, key, &mut wrong)),
                "output" => output.append(&needed(item, key, &mut wrong).trimmed()),
                "desc" => add(&mut desc, needed(item, key, &mut wrong)),
                "advice" => add(&mut advice, needed(item, key, &mut wrong)),
                "exceptions" => wrong.extend(exception::append(&mut exceptions, item, &mut self.problems).err()),
                _ => {}
            }
        }
        for key in overrides.keys(Mode::Replace) {
            match key {
                "condition" => condition = needed(item, key, &mut wrong),
                "output" => output = needed(item, key, &mut wrong).trimmed(),
                "desc" => desc = needed(item, key, &mut wrong).as_str().trim().to_owned(),
                "advice" => advice = needed(item, key, &mut wrong).as_str().trim().to_owned(),
                "exceptions" => {
                    let new = exception::define(item, &mut self.problems);
                    exceptions = told(new.map(Some), &mut wrong).unwrap_or_default();
                }
                _ => {}
            }
        }
        let mut flag = |key| told(item.flag(key), &mut wrong);
        let flags = (flag("enabled"), flag("warn_evttypes"), flag("skip-if-unknown-filter"));
        if !wrong.is_empty() {
            self.problems.append(&mut wrong);
            return;
        }
        let replaces = |key| overrides.keys(Mode::Replace).any(|known| known == key);
        (rule.condition, rule.output, rule.desc, rule.advice) = (condition, output, desc, advice);
        rule.exceptions = exceptions;
        rule.priority = priority.unwrap_or(rule.priority);
        rule.enabled = flags.0.unwrap_or(rule.enabled);
        rule.warn_evttypes = flags.1.unwrap_or(rule.warn_evttypes);
        rule.skip_if_unknown = flags.2.unwrap_or(rule.skip_if_unknown);
        match tags {
            Some(tags) if replaces("tags") => rule.tags = tags,
            Some(tags) => rule.tags.extend(tags),
            None => {}
        }
    }
}
