//! The table of what the pack finds of MITRE ATT&CK, `docs/coverage.md`: made of the tags of the rules, of the drills
//! that play them on real containers, and of the facts in `attack.yaml`. `UPDATE_GOLDEN=1` writes it anew.
//!
//! **Never:** a technique that a rule names and the table does not.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use serde::Deserialize;
use tw_rules::{Loader, Rule, RuleSet};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attack {
    containers: Vec<Technique>,
    beyond: Vec<Technique>,
    former: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Technique {
    id: String,
    name: String,
    tactics: Vec<String>,
    #[serde(default)]
    unseen: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn attack() -> Attack {
    serde_saphyr::from_str(&read("crates/tidewatch/tests/coverage/attack.yaml")).unwrap()
}

fn pack() -> RuleSet {
    let mut files: Vec<PathBuf> =
        fs::read_dir(root().join("rules")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let loader = files.iter().fold(Loader::new(), |loader, path| {
        loader.add_file(path.display().to_string(), fs::read_to_string(path).unwrap())
    });
    loader.finish().0
}

fn is_technique(tag: &str) -> bool {
    tag.strip_prefix('T').is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit()))
}

/// Which drills play a rule: the stories of `demo/play`, and the end-to-end tests of our own rules.
fn drills(rule: &str) -> Vec<String> {
    let (mut found, mut story) = (Vec::new(), String::new());
    for line in read("demo/play").lines() {
        if let Some((_, rest)) = line.split_once("say \"Story ") {
            story = format!("story {}", rest.chars().next().unwrap());
        } else if line.starts_with("expect ") && line.contains(&format!("\"{rule}\"")) && !found.contains(&story) {
            found.push(story.clone());
        }
    }
    if read("crates/tidewatch/tests/e2e/own_rules.rs").contains(&format!("\"{rule}\"")) {
        found.push("test".into());
    }
    found
}

/// Rules that name a technique, or one below it.
fn rules_for<'r>(pack: &'r RuleSet, id: &str) -> Vec<&'r Rule> {
    let below = format!("{id}.");
    let names = |rule: &&Rule| rule.tags.iter().any(|tag| tag == id || tag.starts_with(&below));
    pack.rules().iter().filter(names).collect()
}

fn row(pack: &RuleSet, technique: &Technique, with_unseen: bool) -> String {
    let rules = rules_for(pack, &technique.id);
    let page = technique.id.replace('.', "/");
    let mut names = String::new();
    let mut played = BTreeSet::new();
    for rule in &rules {
        let _ = write!(names, "{}{}", if names.is_empty() { "" } else { " · " }, rule.name);
        played.extend(drills(&rule.name));
    }
    let played: Vec<String> = played.into_iter().collect();
    let or_none = |text: String| if text.is_empty() { "—".to_owned() } else { text };
    let mut row = format!(
        "| [{}](https://attack.mitre.org/techniques/{page}/) {} | {} | {} | {} |",
        technique.id,
        technique.name,
        technique.tactics.join(", "),
        or_none(names),
        or_none(played.join(", "))
    );
    if with_unseen {
        let _ = write!(row, " {} |", technique.unseen);
    }
    row
}

fn document(pack: &RuleSet, attack: &Attack) -> String {
    let covered = attack.containers.iter().filter(|technique| !rules_for(pack, &technique.id).is_empty()).count();
    let played = pack.rules().iter().filter(|rule| !drills(&rule.name).is_empty()).count();
    let mut text = format!(
        "# What the default pack finds of ATT&CK

The pack has {} rules. Of the {} techniques and sub-techniques in the Containers matrix of MITRE ATT&CK 19 (April 2026;
19.2 in August 2026) {covered} have at least one rule. That says where something is looked for, not that all of it is
found: the last column says what system calls do not show, and why. A technique with sub-techniques has their rules too.

*Drill* is what plays a rule of the row on real containers: a story of `make demo`, or a test of
`cargo test -p tidewatch --test e2e own_rules`. {played} of the rules are played. The others are shown by the events in
[`rules/tests`](../rules/tests), as all are. ATT&CK 20 (October 2026) has not been compared yet.

## The Containers matrix

| Technique | Tactics | Rules | Drill | What stays unseen |
|---|---|---|---|---|
",
        pack.rules().len(),
        attack.containers.len(),
    );
    for technique in &attack.containers {
        let _ = writeln!(text, "{}", row(pack, technique, true));
    }
    text.push_str(
        "
## Techniques of other platforms that rules name

| Technique | Tactics | Rules | Drill |
|---|---|---|---|
",
    );
    for technique in &attack.beyond {
        let _ = writeln!(text, "{}", row(pack, technique, false));
    }
    text.push_str(
        "
## Former numbers

ATT&CK 19 split Defense Evasion into Stealth and Defense Impairment and gave some techniques new numbers. Rules keep the
tag `mitre_defense_evasion` and name both numbers, for tools that know only the former ones.

| Former | Now |
|---|---|
",
    );
    for (former, now) in &attack.former {
        let _ = writeln!(text, "| {former} | {now} |");
    }
    text.push_str(
        "
## How this page is made

From the tags of the rules, `demo/play`, the end-to-end tests, and the facts in
[`attack.yaml`](../crates/tidewatch/tests/coverage/attack.yaml):

```sh
UPDATE_GOLDEN=1 cargo test -p tidewatch --test coverage
```
",
    );
    text
}

#[test]
fn the_table_of_coverage_is_that_of_the_pack() {
    let made = document(&pack(), &attack());
    let path = root().join("docs/coverage.md");
    if std::env::var("UPDATE_GOLDEN").is_ok_and(|value| value == "1") {
        fs::write(&path, &made).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == made,
        "docs/coverage.md is not what the rules say; UPDATE_GOLDEN=1 cargo test -p tidewatch --test coverage"
    );
}

#[test]
fn every_technique_of_a_rule_is_one_of_attack() {
    let (pack, attack) = (pack(), attack());
    let known: BTreeSet<&String> = attack
        .containers
        .iter()
        .chain(&attack.beyond)
        .map(|technique| &technique.id)
        .chain(attack.former.keys())
        .collect();
    assert_eq!(
        known.len(),
        attack.containers.len() + attack.beyond.len() + attack.former.len(),
        "a number stands twice"
    );
    for rule in pack.rules() {
        for tag in rule.tags.iter().filter(|tag| is_technique(tag)) {
            assert!(known.contains(tag), "{}: {tag} is not in attack.yaml", rule.name);
            if let Some(now) = attack.former.get(tag) {
                assert!(rule.tags.contains(now), "{}: {tag} has become {now}, name that too", rule.name);
            }
        }
    }
    for technique in &attack.beyond {
        assert!(!rules_for(&pack, &technique.id).is_empty(), "no rule names {} any more", technique.id);
    }
}

#[test]
fn what_no_rule_finds_has_a_reason() {
    let (pack, attack) = (pack(), attack());
    for technique in attack.containers.iter().filter(|technique| rules_for(&pack, &technique.id).is_empty()) {
        assert!(!technique.unseen.is_empty(), "{} has neither a rule nor a reason", technique.id);
    }
}

#[test]
fn a_rule_names_a_tactic_of_its_techniques() {
    let (pack, attack, mut told) = (pack(), attack(), String::new());
    for rule in pack.rules() {
        let mut tactics: BTreeSet<String> = BTreeSet::new();
        for technique in attack.containers.iter().chain(&attack.beyond) {
            if rule.tags.contains(&technique.id) {
                for tactic in &technique.tactics {
                    let tag = match tactic.as_str() {
                        // The tactics that Defense Evasion became.
                        "Stealth" | "Defense Impairment" => "mitre_defense_evasion".to_owned(),
                        other => format!("mitre_{}", other.to_lowercase().replace(' ', "_")),
                    };
                    tactics.insert(tag);
                }
            }
        }
        for tag in rule.tags.iter().filter(|tag| tag.starts_with("mitre_") && !tactics.contains(*tag)) {
            let _ = writeln!(told, "{}: {tag} belongs to none of its techniques, which are of {tactics:?}", rule.name);
        }
    }
    assert!(told.is_empty(), "\n{told}");
}
