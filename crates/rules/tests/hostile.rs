//! Rule files from strangers: what they can cost is bounded, and what is wrong is said.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use tw_rules::{Compat, Diagnostic, Loader, Matching, RuleSet};

/// What a file may take in a build that is not optimised, on a slow machine that has other work.
const LIMIT: Duration = Duration::from_secs(120);

fn load(what: &str, text: String) -> (RuleSet, Vec<Diagnostic>) {
    load_as(Compat::Normal, what, &text)
}

fn load_as(compat: Compat, what: &str, text: &str) -> (RuleSet, Vec<Diagnostic>) {
    let start = Instant::now();
    let loader = Loader::new().compat(compat).matching(Matching::First).add_file("hostile.yaml", text);
    let (rules, diagnostics) = loader.finish();
    let shown: usize = diagnostics.iter().map(|diagnostic| diagnostic.render(false).len()).sum();
    let took = start.elapsed();
    eprintln!("{what}: {} bytes, {compat:?}, {took:?}, {} diagnostics", text.len(), diagnostics.len());
    assert!(took < LIMIT, "{what}: {took:?}");
    assert!(diagnostics.len() <= 1001 && shown < 16 << 20, "{what}: {} diagnostics, {shown} bytes", diagnostics.len());
    (rules, diagnostics)
}

/// A rule with this condition, in a folded block.
fn rule(name: &str, condition: &str) -> String {
    format!("- rule: {name}\n  desc: d\n  priority: INFO\n  output: o\n  condition: >\n    {condition}\n")
}

fn has(diagnostics: &[Diagnostic], part: &str) -> bool {
    diagnostics.iter().any(|diagnostic| diagnostic.message.contains(part))
}

#[test]
fn yaml_bombs() {
    let mut bomb = String::from("- &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..20 {
        let alias = format!("*a{},", i - 1).repeat(10);
        writeln!(bomb, "- &a{i} [{alias}]").unwrap();
    }
    let (_, diagnostics) = load("aliases", bomb);
    assert_eq!(diagnostics[0].code, "LOAD_ERR_YAML_PARSE");
    let (_, diagnostics) = load("brackets", "[".repeat(1_000_000));
    assert_eq!(diagnostics[0].code, "LOAD_ERR_YAML_PARSE");
    let (_, diagnostics) = load("dashes", "- ".repeat(1_000_000));
    assert_eq!(diagnostics[0].code, "LOAD_ERR_YAML_PARSE");
    let nested = |i: usize| format!("{}- {i}\n", " ".repeat(i));
    let (_, diagnostics) = load("indentation", (0..2000).map(nested).collect());
    assert!(diagnostics[0].is_error());
    let merged = "- &m {list: l, items: [a]}\n- <<: *m\n".repeat(1000);
    load("merge keys", merged);
    let (_, diagnostics) = load("many documents", "---\n- rule: x\n".repeat(20_000));
    assert!(diagnostics.iter().all(Diagnostic::is_error));
    let keys: String = (0..100_000).fold("- macro: m\n".to_owned(), |text, i| text + &format!("  k{i}: v\n"));
    let (_, diagnostics) = load("many keys", keys);
    assert!(has(&diagnostics, "has no key"));
    let overrides = "condition: append, ".repeat(50_000);
    let text = rule("R", "evt.type = open") + &format!("- rule: R\n  condition: or x\n  override: {{{overrides}}}\n");
    let (_, diagnostics) = load("many overrides", text);
    assert!(has(&diagnostics, "`condition` is overridden twice"), "{diagnostics:?}");
}

#[test]
fn long_conditions() {
    let text = rule("R", &vec!["proc.name = a"; 300_000].join(" or "));
    load_as(Compat::Strict, "many comparisons", &text);
    let (rules, diagnostics) = load("many comparisons", text);
    assert!(rules.is_empty() && has(&diagnostics, "too large"));
    let (rules, diagnostics) = load("deep parentheses", rule("R", &"(".repeat(5_000_000)));
    assert!(rules.is_empty() && has(&diagnostics, "nested more than"));
    let (rules, _) = load("many negations", rule("R", &format!("{}evt.type = open", "not ".repeat(1_000_000))));
    assert_eq!(rules.len(), 1);
    let (rules, _) = load("a long word", rule("R", &format!("proc.name = {}", "a".repeat(5_000_000))));
    assert_eq!(rules.len(), 1);
    let (rules, _) = load("a long quote", rule("R", &format!("proc.name = \"{}\"", "\\x41".repeat(2_500_000))));
    assert_eq!(rules.len(), 1);
    let (rules, diagnostics) = load("an open quote", rule("R", &format!("proc.name = \"{}", "a ".repeat(2_500_000))));
    assert!(rules.is_empty() && has(&diagnostics, "has no end"));
    let words = "w,".repeat(200_000);
    let (rules, _) = load("a long list", rule("R", &format!("proc.name in ({words}w)")));
    assert_eq!(rules.len(), 1);
    let calls = format!("{}proc.name{} = a", "tolower(".repeat(100_000), ")".repeat(100_000));
    let (_, diagnostics) = load("deep transformers", rule("R", &calls));
    assert!(has(&diagnostics, "nested more than"));
    let arguments = vec!["proc.name"; 50_000].join(", ");
    load("many arguments", rule("R", &format!("concat({arguments}) = a")));
    let (_, diagnostics) = load("many unknown fields", rule("R", &vec!["proc.nmae = a"; 50_000].join(" or ")));
    assert!(has(&diagnostics, "there is no field"));
    let many: String = (0..1000).map(|i| rule(&format!("R{i}"), "proc.nmae = a or nope")).collect();
    let (_, diagnostics) = load("many rules with errors", many);
    assert!(has(&diagnostics, "there is no field"));
}

#[test]
fn cycles_and_explosions() {
    let looped =
        "- macro: a\n  condition: evt.type = open\n- macro: b\n  condition: a\n- macro: a\n  condition: b or b\n";
    let (rules, diagnostics) = load("a loop of macros", looped.to_owned() + &rule("R", "a and b"));
    assert!(rules.is_empty() && has(&diagnostics, "leads back to itself"));
    let mut chain = String::from("- macro: m0\n  condition: evt.type = open\n");
    for i in 1..5000 {
        writeln!(chain, "- macro: m{i}\n  condition: m{0} or m{0}", i - 1).unwrap();
    }
    let (rules, diagnostics) = load("a chain of macros", chain + &rule("R", "m4999") + &rule("S", "m40"));
    assert!(rules.is_empty() && has(&diagnostics, "too deep") && has(&diagnostics, "too large"));
    let mut lists = String::from("- list: l0\n  items: [l0, x, y]\n");
    for i in 1..100 {
        writeln!(lists, "- list: l{i}\n  items: [l{0}, l{0}, l{i}]", i - 1).unwrap();
    }
    let lists = lists + &rule("R", "proc.name in (l99)");
    load_as(Compat::Strict, "lists of lists", &lists);
    let (rules, _) = load("lists of lists", lists);
    assert!(rules.is_empty());
    let items = "x,".repeat(50_000);
    let text =
        format!("- list: l\n  items: [{items}]\n- macro: m\n  condition: proc.name in (l) or proc.name in (l)\n");
    let text = (0..200).fold(text, |text, i| text + &rule(&format!("R{i}"), "m and evt.type = open"));
    load_as(Compat::Strict, "a large list in many rules", &text);
    let (rules, diagnostics) = load("a large list in many rules", text);
    assert!(rules.len() < 200 && has(&diagnostics, "grow too large"), "{}", rules.len());
    let append = "- rule: R\n  condition: or fd.num = 1\n  override: {condition: append}\n".repeat(3000);
    load("many changes of a rule", rule("R", "evt.type = open") + &append);
    let exceptions: String =
        (0..5000).map(|i| format!("    - {{name: e{i}, fields: proc.name, values: [a]}}\n")).collect();
    let (_, diagnostics) = load("many exceptions", rule("R", "evt.type = open") + "  exceptions:\n" + &exceptions);
    assert!(has(&diagnostics, "at most 1000 exceptions"), "{diagnostics:?}");
}

#[test]
fn hostile_regular_expressions() {
    for pattern in [
        "((((a{100}){100}){100}){100})",
        r"\w{5000}",
        "(?i)(a|b|ab)*c{0,5000}",
        "(a*)*b",
        &"(".repeat(100_000),
        "[[:bogus:]]",
    ] {
        let (rules, diagnostics) =
            load(&pattern[..pattern.len().min(30)], rule("R", &format!("fd.name regex '{pattern}'")));
        assert!(rules.len() + diagnostics.len() > 0);
    }
    let many: Vec<String> = (0..2100).map(|i| format!("fd.name regex 'a{i}.*'")).collect();
    let (_, diagnostics) = load("many regular expressions", rule("R", &many.join(" or ")));
    assert!(has(&diagnostics, "grow too large"), "{diagnostics:?}");
    let same = vec!["fd.name regex 'a[0-9]+.*'"; 50_000].join(" or ");
    assert_eq!(load("the same many times", rule("R", &same)).0.len(), 1);
}

#[test]
fn hostile_names_and_outputs() {
    let name = format!("\"\\e[31m\\u202e{}\"", "n".repeat(1_000_000));
    let (rules, diagnostics) = load(
        "a name",
        rule(&name, "proc.nmae = a") + &format!("- list: {name}\n  items: []\n- macro: {name}\n  condition: a\n"),
    );
    assert!(rules.is_empty());
    assert!(diagnostics.iter().all(|diagnostic| diagnostic.message.len() < 1000));
    let shown: String = diagnostics.iter().map(|diagnostic| diagnostic.render(false)).collect();
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "escapes are shown, not sent");
    let output = |text: &str| rule("R", "evt.type = open").replace("output: o", &format!("output: \"{text}\""));
    load("a long field", output(&format!("%{}", "a.".repeat(1_000_000))));
    load("many percents", output(&"%".repeat(1_000_000)));
    load("many unknown fields in an output", output(&"%proc.nmae ".repeat(100_000)));
    let (rules, _) = load("many fields in an output", output(&"%proc.name ".repeat(100_000)));
    assert_eq!(rules.len(), 1);
    let macros: String =
        (0..1500).map(|i| format!("- macro: macro_number_{i}\n  condition: macro_nmuber_{i}\n")).collect();
    let calls: Vec<String> = (0..1500).map(|i| format!("macro_munber_{i}")).collect();
    let (_, diagnostics) = load("many names that are nearly right", macros + &rule("R", &calls.join(" or ")));
    assert!(has(&diagnostics, "there is no macro"));
}
