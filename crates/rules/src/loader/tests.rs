//! Tests of the module above.

use proptest::prelude::*;

use crate::diagnostic::Severity;
use crate::testing::{codes, file_sample, load};
use crate::{Diagnostic, Loader, RuleSet};

/// Falco's stable rules, where somebody keeps them beside the project.
const STABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/falco-rules/falco_rules.yaml");

#[test]
fn the_stable_rules_load_without_an_error() {
    let Ok(text) = std::fs::read_to_string(STABLE) else {
        println!("skipped: {STABLE} is not there");
        return;
    };
    let (rules, diagnostics) = Loader::new().add_file("falco_rules.yaml", text).finish();
    for diagnostic in &diagnostics {
        println!("{}", diagnostic.render(false));
    }
    assert_eq!(diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count(), 0);
    assert_eq!(rules.len(), 25);
    for rule in rules.rules() {
        let kinds: Vec<&str> = rule.kinds.iter().map(|kind| kind.name()).collect();
        println!("{}:{} {} {kinds:?}", rule.file, rule.line, rule.name);
        assert!(kinds.len() < 20, "{}", rule.name);
        assert_eq!(crate::parser::parse(&rule.ast.to_string()).unwrap().to_string(), rule.ast.to_string());
    }
}

/// A complete rule, with `rest` behind it.
fn rule(name: &str, condition: &str, rest: &str) -> String {
    format!(
        "- rule: {name}\n  desc: d\n  priority: Warning\n  warn_evttypes: false\n  condition: {condition}\n  output: o\n{rest}"
    )
}

fn matches(rules: &RuleSet, name: &str) -> bool {
    file_sample().inspect(1, |event| rules.get(name).unwrap().matches(event)).unwrap()
}

fn condition(rules: &RuleSet, name: &str) -> String {
    rules.get(name).unwrap().ast.to_string()
}

/// Messages of all errors.
fn errors(diagnostics: &[Diagnostic]) -> Vec<&str> {
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
    errors.map(|diagnostic| diagnostic.message.as_str()).collect()
}

#[test]
fn all_keys_of_a_rule() {
    let text = "- rule: R\n  desc: >\n    why\n  condition: evt.type = open\n  output: '  o  '\n  priority: info\n  \
                source: syscall\n  enabled: false\n  tags: [b, a, 1]\n  advice: do it\n  capture: true\n  \
                capture_duration: 5000\n  skip-if-unknown-filter: true\n  warn_evttypes: false\n";
    let (rules, diagnostics) = load(text);
    assert_eq!(diagnostics, []);
    let rule = rules.get("R").unwrap();
    assert_eq!((rule.desc.as_str(), rule.advice.as_str(), rule.output.as_str()), ("why", "do it", "o"));
    assert_eq!(rule.priority, tw_model::Priority::Informational);
    assert_eq!(rule.tags, ["1", "a", "b"]);
    assert_eq!((rule.enabled, rule.file.as_str(), rule.line), (false, "t.yaml", 1));
}

#[test]
fn a_broken_item_does_not_take_the_others_down() {
    let text = [
        rule("A", "proc.name = cat", ""),
        rule("B", "proc.nmae = cat", ""),
        "- rule: C\n  desc: d\n".into(),
        rule("D", "(proc.name = cat", ""),
        "- list: l\n".into(),
        "- 17\n".into(),
        "- macro: [m]\n  condition: a\n".into(),
        "- foo: bar\n".into(),
        rule("E", "proc.name = dog", "  typo: 1\n"),
        rule("F", "proc.name = cat", "  tags: x\n"),
        rule("G", "proc.name = cat", "  desc: again\n"),
        rule("H", "proc.name = cow", ""),
    ]
    .concat();
    let (rules, diagnostics) = load(&text);
    let names: Vec<&str> = rules.rules().iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["A", "E", "H"]);
    let found: Vec<&str> = diagnostics.iter().map(|diagnostic| diagnostic.code).collect();
    assert_eq!(
        found,
        [
            "LOAD_ERR_COMPILE_CONDITION",
            "LOAD_ERR_YAML_VALIDATE",
            "LOAD_ERR_COMPILE_CONDITION",
            "LOAD_ERR_YAML_VALIDATE",
            "LOAD_ERR_YAML_VALIDATE",
            "LOAD_ERR_YAML_VALIDATE",
            "LOAD_UNKNOWN_ITEM",
            "LOAD_UNKNOWN_KEY",
            "LOAD_ERR_YAML_VALIDATE",
            "LOAD_ERR_YAML_VALIDATE",
        ]
    );
}

#[test]
fn files_that_are_no_rules() {
    assert_eq!(codes(&load("").1), Vec::<String>::new());
    assert_eq!(codes(&load("---\n---\n-\n").1), Vec::<String>::new());
    assert_eq!(codes(&load("a: b\n").1), ["LOAD_ERR_YAML_VALIDATE 1:1"]);
    assert_eq!(codes(&load("- a: [\n").1).len(), 1);
    let (rules, diagnostics) =
        Loader::new().add_file("bad", "a: : b").add_file("good", rule("A", "fd.num = 1", "")).finish();
    assert_eq!((rules.len(), diagnostics[0].code), (1, "LOAD_ERR_YAML_PARSE"));
}

#[test]
fn tests_in_the_file_are_looked_at_and_left_alone() {
    let test = "- test: a sentence\n  of: R\n  desc: why\n  events: [{type: execve, proc: {name: x}}]\n  hits: [1]\n  alone: true\n";
    assert_eq!(load(test).1, []);
    assert_eq!(load(&test.replace("of: R", "of: [R, S]").replace("hits: [1]", "hits: {R: [1], S: []}")).1, []);
    for (old, new, expected) in [
        ("a sentence", "", "LOAD_WARNING_EXTENSION 1:3"),
        ("  of: R\n", "", "LOAD_WARNING_EXTENSION 1:9"),
        ("of: R", "of: {R: 1}", "LOAD_WARNING_EXTENSION 2:7"),
        ("[{type: execve, proc: {name: x}}]", "x", "LOAD_WARNING_EXTENSION 4:11"),
        ("{type: execve, proc: {name: x}}", "x", "LOAD_WARNING_EXTENSION 4:12"),
        ("  hits: [1]\n", "", "LOAD_WARNING_EXTENSION 1:9"),
        ("hits: [1]", "hits: 1", "LOAD_WARNING_EXTENSION 5:9"),
        ("alone: true", "alone: maybe", "LOAD_WARNING_EXTENSION 6:10"),
        ("desc: why", "why: desc", "LOAD_WARNING_EXTENSION 3:3"),
        ("desc: why", "of: S", "LOAD_WARNING_EXTENSION 3:3"),
    ] {
        let (_, diagnostics) = load(&test.replace(old, new));
        assert_eq!(codes(&diagnostics), [expected], "{new}");
        // A test keeps no rule from being loaded, however broken it is.
        assert!(!diagnostics[0].is_error(), "{new}");
    }
}

#[test]
fn engine_and_plugin_versions() {
    for (version, ok) in
        [("0.57.0", true), ("57", true), ("0.63.0", true), ("0.64.0", false), ("1.0.0", false), ("x", false)]
    {
        let (_, diagnostics) = load(&format!("- required_engine_version: {version}\n"));
        assert_eq!(diagnostics.is_empty(), ok, "{version} {diagnostics:?}");
    }
    let plugins = "- required_plugin_versions:\n    - name: k8saudit\n      version: 0.1.0\n      alternatives:\n        \
                   - name: k8saudit-eks\n          version: 0.1.0\n";
    assert_eq!(load(plugins).1, []);
    assert_eq!(load(&plugins.replace("k8saudit-eks", "k8saudit")).1.len(), 1);
}

#[test]
fn lists_hold_lists_and_values_with_blanks() {
    let lists = "- list: inner\n  items: [a, 'b c', '\"d e\"']\n- list: outer\n  items: [inner, f, later, 'outer']\n\
                 - list: later\n  items: [z]\n";
    let text = format!("{lists}{}", rule("R", "proc.name in (x, outer, \"inner\")", ""));
    let (rules, _) = load(&text);
    let items = |name| {
        let list = rules.list_named(name).unwrap();
        list.items.iter().map(|item| String::from_utf8_lossy(item).into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(items("outer"), ["a", "b c", "d e", "f", "later", "outer"]);
    assert_eq!(condition(&rules, "R"), "proc.name in (x, outer, \"inner\")");
    for (condition, expected) in [
        ("proc.name in (l)", true),
        ("proc.name in l", true),
        ("proc.name in (\"l\")", false),
        ("proc.name = one", true),
        ("proc.name startswith anyof (l)", true),
        ("proc.name in (empty)", false),
        ("proc.name in (x, empty, cat)", true),
    ] {
        let lists = "- list: l\n  items: [cat, dog]\n- list: one\n  items: [cat]\n- list: empty\n  items: []\n";
        let (rules, diagnostics) = load(&format!("{lists}{}", rule("R", condition, "")));
        assert!(errors(&diagnostics).is_empty(), "{condition}: {diagnostics:?}");
        assert_eq!(matches(&rules, "R"), expected, "{condition}");
    }
    let (_, diagnostics) = load(&format!("- list: l\n  items: [a, b]\n{}", rule("R", "proc.name = l", "")));
    assert_eq!(errors(&diagnostics), ["the list `l` stands where one value is needed"]);
}

#[test]
fn lists_and_macros_do_not_explode() {
    for (item, empty) in [("list: l", "items: []"), ("list: l", "items: [x]"), ("macro: l", "condition: nope")] {
        let mut text = format!("- {item}0\n  {empty}\n");
        for i in 1..60 {
            let inner = i - 1;
            let body = if item.starts_with("list") {
                format!("items: [l{inner}, l{inner}]")
            } else {
                format!("condition: l{inner} or l{inner}")
            };
            text.push_str(&format!("- {item}{i}\n  {body}\n"));
        }
        let condition = if item.starts_with("list") { "proc.name in (l59)" } else { "l59" };
        let (rules, diagnostics) = load(&format!("{text}{}", rule("R", condition, "")));
        assert!(rules.is_empty(), "{item} {empty}");
        // Where all is wrong, it is enough to say so a hundred times.
        let told = |d: &Diagnostic| d.message.contains("too large") || d.message == "there is no macro `nope`";
        assert!(diagnostics.iter().any(told), "{item} {empty}");
    }
    let text = format!("- list: l\n  items: ['\"\\q\"']\n{}", rule("R", "proc.name in (l)", ""));
    assert_eq!(errors(&load(&text).1), ["there is no such escape", "the list `l` has an error"]);
}

#[test]
fn lists_and_macros_are_appended_and_replaced() {
    let base = format!(
        "- list: l\n  items: [dog]\n- macro: m\n  condition: proc.name in (l)\n{}",
        rule("R", "m and fd.num = 3", "")
    );
    for (change, expected, code) in [
        ("", false, None),
        ("- list: l\n  append: true\n  items: [cat]\n", true, Some("LOAD_DEPRECATED_ITEM")),
        ("- list: l\n  items: [cat]\n  override: {items: append}\n", true, None),
        ("- list: l\n  items: [cat]\n  override: {items: replace}\n", true, None),
        ("- list: l\n  items: [cat]\n", true, None),
        ("- macro: m\n  append: true\n  condition: or proc.name = cat\n", true, Some("LOAD_DEPRECATED_ITEM")),
        ("- macro: m\n  condition: or proc.name = cat\n  override: {condition: append}\n", true, None),
        ("- macro: m\n  condition: proc.name = cat\n", true, None),
        ("- macro: n\n  append: true\n  condition: or a\n", false, Some("LOAD_ERR_VALIDATE")),
        ("- list: n\n  items: [a]\n  override: {items: append}\n", false, Some("LOAD_ERR_VALIDATE")),
        ("- list: l\n  append: true\n  items: [cat]\n  override: {items: append}\n", false, Some("LOAD_ERR_VALIDATE")),
        ("- list: l\n  items: [cat]\n  override: {items: add}\n", false, Some("LOAD_ERR_VALIDATE")),
        ("- list: l\n  items: [cat]\n  override: {itms: append}\n", false, Some("LOAD_ERR_VALIDATE")),
    ] {
        let (rules, diagnostics) = Loader::new().add_file("a", &base).add_file("b", change).finish();
        assert_eq!(matches(&rules, "R"), expected, "{change}");
        let found: Vec<&str> =
            diagnostics.iter().map(|d| d.code).filter(|code| !code.starts_with("LOAD_UNUSED")).collect();
        assert!(
            found.iter().copied().eq(code) || found == ["LOAD_ERR_VALIDATE", "LOAD_DEPRECATED_ITEM"],
            "{change}: {found:?}"
        );
    }
}

#[test]
fn rules_are_appended_overridden_and_toggled() {
    let base = rule("R", "fd.num = 3 and proc.name = dog", "  tags: [a]\n");
    let with = |change: &str| Loader::new().add_file("a", &base).add_file("b", format!("- rule: R\n{change}")).finish();
    let (rules, _) = with("  append: true\n  condition: or proc.name = cat\n");
    assert_eq!(condition(&rules, "R"), "fd.num = 3 and proc.name = dog or proc.name = cat");
    assert!(matches(&rules, "R"));
    let (rules, diagnostics) = with(
        "  condition: and x = y\n  output: p\n  desc: e\n  tags: [b]\n  priority: ERROR\n  \
         override: {condition: replace, output: append, desc: append, tags: append, priority: replace}\n",
    );
    assert_eq!(errors(&diagnostics).len(), 1);
    assert!(rules.is_empty());
    let (rules, diagnostics) = with(
        "  condition: fd.num = 3\n  output: p\n  desc: e\n  tags: [b]\n  priority: ERROR\n  enabled: false\n  \
         override: {condition: replace, output: append, desc: append, tags: append, priority: replace, enabled: replace}\n",
    );
    assert!(errors(&diagnostics).is_empty(), "{diagnostics:?}");
    let changed = rules.get("R").unwrap();
    assert_eq!((changed.output.as_str(), changed.desc.as_str()), ("o p", "d e"));
    assert_eq!((changed.tags.join(""), changed.enabled), ("ab".into(), false));
    assert_eq!(changed.priority, tw_model::Priority::Error);
    let (rules, diagnostics) = with("  enabled: false\n");
    assert!(!rules.get("R").unwrap().enabled);
    assert_eq!(codes(&diagnostics), ["LOAD_DEPRECATED_ITEM 1:9"]);
    for (change, message) in [
        ("  append: true\n", "there is neither a condition nor an exception to append"),
        ("  override: {priority: replace}\n", "`priority` is overridden, but not there"),
        (
            "  output: x\n  desc: y\n  override: {output: append}\n",
            "`desc` is there, but `override` does not say what to do with it",
        ),
        ("  priority: INFO\n  override: {priority: append}\n", "`priority` of a rule cannot be appended to"),
        ("  desc: x\n", "this rule has no `condition`, no `output`, no `priority`"),
        (
            "  source: x\n  desc: d\n  priority: INFO\n  output: o\n  condition: a\n",
            "the rule `R` was defined for the source `syscall`",
        ),
    ] {
        let (rules, diagnostics) = with(change);
        assert_eq!(errors(&diagnostics), [message], "{change}");
        assert_eq!(condition(&rules, "R"), "fd.num = 3 and proc.name = dog", "{change}");
    }
}

#[test]
fn exceptions_are_added_to_the_condition() {
    let with = |exceptions: &str| {
        load(
            &rule("R", "a_m or fd.num = 3", exceptions)
                .replace("- rule", "- macro: a_m\n  condition: fd.num = 1\n- rule"),
        )
    };
    for (exceptions, expected) in [
        ("[]", "a_m or fd.num = 3"),
        ("[{name: e, fields: proc.name}]", "a_m or fd.num = 3"),
        (
            "[{name: e, fields: proc.name, values: [cat, 'a b']}]",
            "(a_m or fd.num = 3) and not proc.name in (cat, \"a b\")",
        ),
        (
            "[{name: e, fields: fd.name, comps: startswith anyof, values: [/etc]}]",
            "(a_m or fd.num = 3) and not fd.name startswith anyof (/etc)",
        ),
        (
            "[{name: e, fields: fd.name, comps: pmatch, values: [/etc]}]",
            "(a_m or fd.num = 3) and not fd.name pmatch (/etc)",
        ),
        (
            "[{name: e, fields: [proc.name, fd.name], values: [[cat, 'x y'], [dog, /d]]}]",
            "(a_m or fd.num = 3) and not (proc.name = cat and fd.name = \"x y\" or proc.name = dog and fd.name = /d)",
        ),
        (
            "[{name: e, fields: [proc.name, fd.name], comps: [in, startswith], values: [[[cat, dog], /etc]]}]",
            "(a_m or fd.num = 3) and not (proc.name in (cat, dog) and fd.name startswith /etc)",
        ),
        (
            "[{name: e, fields: [proc.name], comps: [in], values: [['(cat, dog)'], [cow]]}]",
            "(a_m or fd.num = 3) and not (proc.name in (cat, dog) or proc.name in (cow))",
        ),
    ] {
        let (rules, diagnostics) = with(&format!("  exceptions: {exceptions}\n"));
        assert!(errors(&diagnostics).is_empty(), "{exceptions}: {diagnostics:?}");
        assert_eq!(condition(&rules, "R"), expected, "{exceptions}");
    }
    for (exceptions, message) in [
        ("[{fields: proc.name}]", "the exception has no `name`"),
        ("[{name: e}]", "the exception `e` has no `fields`"),
        ("[{name: e, fields: [a.b, c.d], comps: [in]}]", "the exception `e` needs one of `comps` for each of `fields`"),
        ("[{name: e, fields: fd.name, comps: startswith, values: [x]}]", "`startswith` does not take a list of values"),
        ("[{name: e, fields: [fd.name], values: [x]}]", "with several fields each of the values is a list"),
        ("[{name: e, fields: [fd.name], values: [[x, y]]}]", "the exception has 1 fields, but here are 2 values"),
        ("[{name: e, fields: fd.nmae, values: [x]}]", "there is no field `fd.nmae`"),
    ] {
        let (rules, diagnostics) = with(&format!("  exceptions: {exceptions}\n"));
        assert_eq!(errors(&diagnostics), [message], "{exceptions}");
        assert!(rules.is_empty());
    }
}

#[test]
fn all_wrong_keys_of_a_rule_are_told() {
    let exceptions = "[{fields: proc.name}, {name: a}, {name: b, fields: proc.name, values: x}]";
    let more = format!("  enabled: maybe\n  tags: x\n  exceptions: {exceptions}\n");
    let (rules, diagnostics) = load(&rule("R", "proc.name = x", &more).replace("Warning", "Worst"));
    let mut found = errors(&diagnostics);
    found.sort();
    let expected = [
        "`values` is a list",
        "the exception `a` has no `fields`",
        "the exception has no `name`",
        "there is no priority `Worst`",
        "this must be `true` or `false`",
        "this must be a list, but is a single value",
    ];
    assert_eq!((rules.len(), found), (0, expected.to_vec()));
    let (_, diagnostics) = load("- rule: R\n  desc: d\n");
    assert_eq!(errors(&diagnostics), ["this rule has no `condition`, no `output`, no `priority`"]);
}

#[test]
fn exceptions_are_appended() {
    let base = rule("R", "fd.num = 3", "  exceptions: [{name: e, fields: proc.name, values: [dog]}]\n");
    let with = |exceptions: &str| {
        let change = format!("- rule: R\n  exceptions: [{exceptions}]\n  override: {{exceptions: append}}\n");
        Loader::new().add_file("a", &base).add_file("b", change).finish()
    };
    let (rules, _) = with("{name: e, values: [cat]}");
    assert_eq!(condition(&rules, "R"), "fd.num = 3 and not proc.name in (dog, cat)");
    let (rules, _) = with("{name: f, fields: fd.name, values: [/x]}");
    assert_eq!(condition(&rules, "R"), "fd.num = 3 and not proc.name in (dog) and not fd.name in (/x)");
    let (_, diagnostics) = with("{name: e, fields: fd.name, values: [x]}");
    assert_eq!(errors(&diagnostics), ["to an existing exception only `values` can be appended"]);
    let (_, diagnostics) = with("{name: e}");
    assert_eq!(codes(&diagnostics), ["LOAD_APPEND_NO_VALUES 2:23"]);
}

#[test]
fn errors_in_appended_parts_and_lists_point_there() {
    let list = "- list: nets\n  items:\n    - 10.0.0.0/8\n    - bogus\n";
    let (_, diagnostics) = Loader::new()
        .add_file("a", format!("{list}{}", rule("R", "fd.snet in (nets)", "")))
        .add_file("b", "- rule: R\n  append: true\n  condition: >\n    and\n      proc.nmae = x\n")
        .finish();
    let found: Vec<String> = diagnostics.iter().filter(|d| d.is_error()).map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "a:4:7: error[LOAD_ERR_COMPILE_CONDITION]: `bogus` is not a network",
            "b:5:7: error[LOAD_ERR_COMPILE_CONDITION]: there is no field `proc.nmae`",
        ]
    );
}

#[test]
fn golden_diagnostic() {
    let text = format!(
        "- macro: spawned\n  condition: evt.type = execve\n{}",
        rule("R", ">\n    fd.num = 3\n    and (spawnt\n    or evt.type = opne)", "")
    );
    let shown: Vec<String> = load(&text).1.iter().skip(1).map(|diagnostic| diagnostic.render(false)).collect();
    let expected = "\
error[LOAD_ERR_VALIDATE]: there is no macro `spawnt`
 --> t.yaml:9:10
  |
9 |     and (spawnt
  |          ^^^^^^
  |
  = help: did you mean `spawned`?

error[LOAD_ERR_COMPILE_CONDITION]: there is no event type `opne`
  --> t.yaml:10:19
   |
10 |     or evt.type = opne)
   |                   ^^^^
   |
   = help: did you mean `open`?";
    assert_eq!(shown.join("\n\n"), expected);
}

#[test]
fn skipping_unknown_fields_and_sources() {
    let (rules, diagnostics) = load(&rule("R", "proc.nmae = x", "  skip-if-unknown-filter: true\n"));
    assert_eq!((rules.len(), codes(&diagnostics)), (0, vec!["LOAD_UNKNOWN_FILTER 1:9".to_owned()]));
    let (rules, diagnostics) = load(&rule("R", "proc.name >> x", "  skip-if-unknown-filter: true\n"));
    assert_eq!((rules.len(), errors(&diagnostics).len()), (0, 1));
    let (rules, diagnostics) = load(&rule("R", "ka.verb = x", "  source: k8s_audit\n"));
    assert_eq!((rules.len(), codes(&diagnostics)), (0, vec!["LOAD_UNKNOWN_SOURCE 1:9".to_owned()]));
}

#[test]
fn more_warnings() {
    let (_, diagnostics) = load("- list: a b\n  items: []\n- macro: 1a\n  condition: fd.num = 1\n");
    let found: Vec<&str> = diagnostics.iter().map(|diagnostic| diagnostic.code).collect();
    assert_eq!(found, ["LOAD_INVALID_LIST_NAME", "LOAD_UNUSED_LIST", "LOAD_INVALID_MACRO_NAME", "LOAD_UNUSED_MACRO"]);
    let (rules, diagnostics) = load(&rule("R", "proc.name = x", "").replace("  warn_evttypes: false\n", ""));
    assert_eq!((rules.len(), codes(&diagnostics)), (1, vec!["LOAD_NO_EVTTYPE 1:9".to_owned()]));
    let (_, diagnostics) = load(&rule("R", "proc.name = x", "").replace("Warning", "Warn"));
    assert_eq!(diagnostics[0].help.as_deref(), Some("did you mean `Warning`?"));
}

#[test]
fn inspection_follows_the_order_and_the_mode() {
    let text =
        [rule("A", "proc.name = cat", ""), rule("B", "evt.type = openat", ""), rule("C", "evt.type = execve", "")]
            .concat();
    let (mut rules, _) = load(&text);
    let hits = |rules: &RuleSet| {
        let mut names = String::new();
        file_sample().inspect(1, |event| rules.inspect(event, &mut |rule| names.push_str(&rule.name))).unwrap();
        names
    };
    assert_eq!(hits(&rules), "AB");
    rules.set_matching(crate::Matching::First);
    assert_eq!(hits(&rules), "A");
    rules.enable(|rule| rule.name != "A");
    assert_eq!(hits(&rules), "B");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_file_makes_the_loader_panic(text in "(- (rule|macro|list|[a-z]): |  (condition|items|output|desc|priority|exceptions|override|append): |[\\[\\]{}&*>|'\"a-z.:%()=\\\\ -]{0,9}|\n){0,30}") {
        let (_, diagnostics) = load(&text);
        for diagnostic in diagnostics {
            diagnostic.render(false);
        }
    }

    #[test]
    fn no_condition_makes_the_compiler_panic(text in "((proc\\.name|fd\\.num|fd\\.net|evt\\.type|len|[a-z]{1,3}|=|in|>|and|or|not|[(),'\"%\\[\\]]|[0-9]{1,4}) ?){0,12}") {
        let (_, diagnostics) = load(&crate::testing::rule_with(&text));
        for diagnostic in diagnostics {
            diagnostic.render(true);
        }
    }
}
