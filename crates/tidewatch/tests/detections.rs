//! Runs the literate scenarios of `tests/detections`: hand-written events against the default rule pack, or against
//! rules of the scenario's own, and compares what was found with what the text says.
//!
//! A scenario is a heading with an `events` block (list of samples), an `expect` block (list of
//! `{event: NUMBER, rule: NAME}`, `[]` for quiet) and optionally a `rules` block. Scenarios stand below a
//! `## RULE NAME` heading.
//!
//! **Never:** a scenario that is skipped in silence.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tw_model::sample::Sample;
use tw_rules::{Loader, RuleSet};

#[derive(Debug, Default)]
struct Scenario {
    /// `file:line: heading`
    place: String,
    /// The `## ` heading above it.
    section: String,
    events: Option<String>,
    rules: Option<String>,
    expect: Option<String>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(deny_unknown_fields)]
struct Expected {
    event: usize,
    rule: String,
}

/// Splits a document into its scenarios; headings without blocks are none.
fn parse(file: &str, text: &str) -> Result<Vec<Scenario>, String> {
    let mut scenarios = vec![Scenario::default()];
    let mut fence: Option<(String, String)> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let last = scenarios.last_mut().ok_or("no scenario")?;
        if let Some((kind, block)) = &mut fence {
            if line.trim_end() != "```" {
                let _ = writeln!(block, "{line}");
                continue;
            }
            let slot = match kind.as_str() {
                "events" => Some(&mut last.events),
                "rules" => Some(&mut last.rules),
                "expect" => Some(&mut last.expect),
                _ => None,
            };
            if slot.is_some_and(|slot| slot.replace(std::mem::take(block)).is_some()) {
                return Err(format!("{file}:{number}: second `{kind}` block in one scenario"));
            }
            fence = None;
        } else if let Some(kind) = line.strip_prefix("```") {
            fence = Some((kind.trim().to_owned(), String::new()));
        } else if line.starts_with('#') {
            let title = line.trim_start_matches('#').trim().to_owned();
            let section = if line.starts_with("## ") { title.clone() } else { last.section.clone() };
            scenarios.push(Scenario { place: format!("{file}:{number}: {title}"), section, ..Scenario::default() });
        }
    }
    if let Some((kind, _)) = fence {
        return Err(format!("{file}: `{kind}` block is not closed"));
    }
    scenarios.retain(|scenario| scenario.events.is_some() || scenario.rules.is_some() || scenario.expect.is_some());
    Ok(scenarios)
}

/// Loads rules; any diagnostic is an error.
fn load<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<RuleSet, String> {
    let loader = files.into_iter().fold(Loader::new(), |loader, (name, text)| loader.add_file(name, text));
    let (rules, diagnostics) = loader.finish();
    let told = |d: &tw_rules::Diagnostic| format!("{}:{}: {}: {}\n", d.file, d.line, d.code, d.message);
    if diagnostics.is_empty() { Ok(rules) } else { Err(diagnostics.iter().map(told).collect()) }
}

/// Checks one scenario. `Ok` holds what was found, `Err` the difference.
fn check(scenario: &Scenario, pack: &RuleSet) -> Result<BTreeSet<Expected>, String> {
    let place = &scenario.place;
    let wrong = |what: String| format!("{place}\n    {}\n", what.trim_end().replace('\n', "\n    "));
    let events = scenario.events.as_deref().ok_or_else(|| wrong("no `events` block".into()))?;
    let expect = scenario.expect.as_deref().ok_or_else(|| wrong("no `expect` block".into()))?;
    let samples: Vec<Sample> = serde_saphyr::from_str(events).map_err(|e| wrong(format!("events: {e}")))?;
    let listed: Vec<Expected> = serde_saphyr::from_str(expect).map_err(|e| wrong(format!("expect: {e}")))?;
    let own = scenario.rules.as_deref().map(|text| load([("rules", text)])).transpose().map_err(wrong)?;
    let rules = own.as_ref().unwrap_or(pack);
    if samples.is_empty() {
        return Err(wrong("no events".into()));
    }
    let (mut found, mut messages) = (BTreeSet::new(), String::new());
    for (number, sample) in (1..).zip(&samples) {
        let hit = sample.inspect(number as u64, |event| {
            rules.inspect(event, &mut |rule| {
                found.insert(Expected { event: number, rule: rule.name.clone() });
                let _ = writeln!(messages, "event {number} gave: {}", rule.message(event).trim_end());
            });
        });
        hit.map_err(|error| wrong(format!("event {number}: {error}")))?;
    }
    let expected: BTreeSet<Expected> = listed.into_iter().collect();
    let exists = |e: &&Expected| (1..=samples.len()).contains(&e.event) && rules.get(&e.rule).is_some();
    if let Some(bad) = expected.iter().find(|e| !exists(e)) {
        return Err(wrong(format!("expects event {} of {}, rule `{}`: no such", bad.event, samples.len(), bad.rule)));
    }
    let mut difference = String::new();
    for (mark, left, right) in [("- missing:   ", &expected, &found), ("+ unexpected:", &found, &expected)] {
        for Expected { event, rule } in left.difference(right) {
            let _ = writeln!(difference, "{mark} event {event} ({}): {rule}", samples[event - 1].kind);
        }
    }
    if difference.is_empty() { Ok(found) } else { Err(wrong(difference + &messages)) }
}

fn files(folder: &str, extension: &str) -> Vec<(String, String)> {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|known| known == extension));
    paths.sort();
    assert!(!paths.is_empty(), "no .{extension} files in {folder}");
    paths.iter().map(|path| (path.display().to_string(), fs::read_to_string(path).unwrap())).collect()
}

fn pack() -> RuleSet {
    let files = files("rules", "yaml");
    load(files.iter().map(|(name, text)| (name.as_str(), text.as_str()))).unwrap_or_else(|told| panic!("\n{told}"))
}

fn scenarios() -> Vec<Scenario> {
    let documents = files("tests/detections", "md");
    documents.iter().flat_map(|(name, text)| parse(name, text).unwrap()).collect()
}

#[test]
fn every_scenario_holds() {
    let (pack, scenarios) = (pack(), scenarios());
    let failures: Vec<String> = scenarios.iter().filter_map(|scenario| check(scenario, &pack).err()).collect();
    assert!(failures.is_empty(), "{} of {} fail\n\n{}", failures.len(), scenarios.len(), failures.join("\n"));
}

#[test]
fn every_rule_is_shown_finding_and_staying_quiet() {
    let (pack, mut found, mut quiet) = (pack(), BTreeSet::new(), BTreeSet::new());
    for scenario in scenarios().iter().filter(|scenario| scenario.rules.is_none()) {
        let hits = check(scenario, &pack).unwrap_or_default();
        if hits.is_empty() {
            quiet.insert(scenario.section.clone());
        }
        found.extend(hits.into_iter().map(|hit| hit.rule).filter(|rule| *rule == scenario.section));
    }
    for (kind, names) in [("finding", found), ("quiet", quiet)] {
        let missing: Vec<_> = pack.rules().iter().filter(|rule| !names.contains(&rule.name)).map(|r| &r.name).collect();
        assert!(missing.is_empty(), "rules without a {kind} scenario below their heading: {missing:#?}");
    }
}

#[test]
fn every_rule_says_why_what_to_do_and_which_technique() {
    let technique = |tag: &String| {
        let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
        let (id, sub) = tag.split_once('.').unwrap_or((tag, "000"));
        id.strip_prefix('T').is_some_and(|id| digits(id, 4)) && digits(sub, 3)
    };
    for rule in pack().rules() {
        let name = &rule.name;
        assert!(!rule.desc.trim().is_empty() && !rule.advice.trim().is_empty(), "{name}: desc or advice is missing");
        assert!(rule.tags.iter().any(|tag| tag.starts_with("mitre_")), "{name}: no mitre_ tag in {:?}", rule.tags);
        assert!(rule.tags.iter().any(technique), "{name}: no technique in {:?}", rule.tags);
        assert!(rule.tags.iter().any(|tag| tag == "container" || tag == "host"), "{name}: no place in {:?}", rule.tags);
    }
}

#[test]
fn wrong_expectations_and_broken_documents_fail() {
    let rules = "```rules\n- rule: R\n  desc: d\n  condition: evt.type = execve\n  output: o\n  priority: INFO\n```\n";
    let events = "```events\n- type: execve\n- type: chdir\n```\n";
    let document = |expect| format!("# t\n{rules}{events}```expect\n{expect}\n```\n");
    let result = |expect| check(&parse("f", &document(expect)).unwrap()[0], &RuleSet::default());
    assert_eq!(result("- {event: 1, rule: R}").unwrap().len(), 1);
    for (expect, told) in [
        ("[]", "+ unexpected: event 1 (execve): R"),
        ("- {event: 1, rule: R}\n- {event: 2, rule: R}", "- missing:    event 2 (chdir): R"),
        ("- {event: 3, rule: R}", "no such"),
        ("- {event: 1, rule: S}", "no such"),
        ("- {event: 1, rules: R}", "expect:"),
    ] {
        let error = result(expect).unwrap_err();
        assert!(error.starts_with("f:1: t\n") && error.contains(told), "{error}");
    }
    let alone = |text: &str| check(&parse("f", text).unwrap()[0], &RuleSet::default());
    assert!(alone("# t\n```events\n- type: execve\n```\n").unwrap_err().contains("no `expect` block"));
    assert!(alone("# t\n```events\n- type: nonsense\n```\n```expect\n[]\n```\n").unwrap_err().contains("nonsense"));
    assert!(parse("f", "```events\n").unwrap_err().contains("not closed"));
    assert!(parse("f", "# t\n```expect\n```\n```expect\n```\n").unwrap_err().contains("second"));
    assert!(load([("r", "- rule: R\n  condition: nonsense\n")]).is_err());
}
