//! The default pack: its tests in `rules/tests` hold, each of its rules is shown finding something and staying quiet,
//! and says why it matters, what to do, and where it stands in ATT&CK.
//!
//! **Never:** a test that is skipped in silence, or a finding beside those that a test names.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use tw_rules::suite::{Suite, Test, coverage};
use tw_rules::{Loader, RuleSet};

fn files(folder: &str) -> Vec<(String, String)> {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    assert!(!paths.is_empty(), "no rule files in {folder}");
    let name = |path: &Path| format!("{folder}/{}", path.file_name().unwrap().display());
    paths.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// The pack; any diagnostic is an error.
fn pack() -> RuleSet {
    let loader = files("rules").into_iter().fold(Loader::new(), |loader, (name, text)| loader.add_file(&name, &text));
    let (rules, diagnostics) = loader.finish();
    let told: String =
        diagnostics.iter().map(|d| format!("{}:{}: {}: {}\n", d.file, d.line, d.code, d.message)).collect();
    assert!(told.is_empty(), "\n{told}");
    rules
}

fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for (name, text) in files("rules").into_iter().chain(files("rules/tests")) {
        let (suite, diagnostics) = Suite::parse(&name, &text);
        let told: String = diagnostics.iter().map(|d| format!("{}:{}: {}\n", d.file, d.line, d.message)).collect();
        assert!(told.is_empty(), "\n{told}");
        tests.extend(suite.tests);
    }
    tests
}

#[test]
fn every_test_of_the_pack_holds() {
    let (pack, tests, mut told) = (pack(), tests(), String::new());
    for test in &tests {
        for failure in test.run(&pack) {
            let _ = writeln!(told, "{}:{}: {}: {failure}", test.file, test.line_of(failure.event()), test.name);
        }
    }
    assert!(told.is_empty(), "of {} tests:\n{told}", tests.len());
}

/// No other rule may match an event of a test unless the test names it: what a rule of the pack is about stays
/// apart from the others, and a peaceful event is peaceful for all of them.
#[test]
fn tests_of_the_pack_allow_no_other_finding() {
    let lax: Vec<String> =
        tests().iter().filter(|test| !test.alone).map(|test| format!("{}:{}", test.file, test.line)).collect();
    assert!(lax.is_empty(), "these tests lack `alone: true`: {lax:#?}");
}

#[test]
fn every_rule_is_shown_finding_and_staying_quiet() {
    let (pack, tests) = (pack(), tests());
    let lacking: Vec<_> = coverage(&pack, &tests).into_iter().filter(|rule| !rule.is_complete()).collect();
    assert!(lacking.is_empty(), "{lacking:#?}");
    let quiet: BTreeSet<&String> = tests
        .iter()
        .filter(|test| test.hits.values().all(BTreeSet::is_empty))
        .flat_map(|test| test.hits.keys())
        .collect();
    let never: Vec<_> = pack.rules().iter().map(|rule| &rule.name).filter(|name| !quiet.contains(name)).collect();
    assert!(never.is_empty(), "rules without a test in which nothing at all is found: {never:#?}");
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
