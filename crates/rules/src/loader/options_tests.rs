//! Tests of what is said to the loader beside the files.

use tw_model::Priority;
use tw_model::finding::Shown;

use crate::testing::{codes, file_sample, load, rule_with, socket_sample};
use crate::{Compat, Diagnostic, ExtraField, Loader, Matching, OutputAddition, RuleSet, Selection};

fn rule(name: &str, condition: &str, rest: &str) -> String {
    format!("- rule: {name}\n  desc: d\n  priority: Warning\n  output: o\n  condition: {condition}\n{rest}")
}

fn strictly(text: &str) -> (RuleSet, Vec<Diagnostic>) {
    Loader::new().compat(Compat::Strict).add_file("t.yaml", text).finish()
}

fn matches(rules: &RuleSet) -> bool {
    file_sample().inspect(1, |event| rules.get("R").is_some_and(|rule| rule.matches(event))).unwrap()
}

#[test]
fn quirks_are_there_only_if_asked_for() {
    // Condition, whether it matches as it means, and as Falco takes it; `None`: an error.
    let lists = "- list: leaf\n  items: [cat, 'a b']\n- list: middle\n  items: [leaf]\n- list: outer\n  items: [middle]\n\
                 - list: none\n  items: []\n";
    for (condition, normal, strict) in [
        ("proc.name in (leaf)", Some(true), Some(true)),
        ("proc.name in (x, none, leaf)", Some(true), Some(true)),
        ("proc.name in (none)", Some(false), Some(false)),
        // One level only.
        ("proc.name in (middle)", Some(true), Some(true)),
        ("proc.name in (outer)", Some(true), Some(false)),
        // A list without parentheses becomes a row of values, which is no condition.
        ("proc.name in leaf", Some(true), None),
        // In a quoted text.
        ("proc.cmdline != \" leaf \"", Some(true), None),
        // A quote behind a backslash.
        ("proc.name = \"c\\ t\"", Some(false), Some(false)),
        ("proc.cmdline != \"a\\\\\"", Some(true), None),
        ("fd.num = 0x3", Some(true), None),
        ("fd.num = 3", Some(true), Some(true)),
    ] {
        let text = format!("{lists}{}", rule_with(condition));
        for (found, expected) in [(load(&text), normal), (strictly(&text), strict)] {
            let (rules, diagnostics) = found;
            let verdict = rules.get("R").map(|_| matches(&rules));
            assert_eq!(verdict, expected, "{condition}: {diagnostics:?}");
        }
    }
    let nets = rule_with("evt.type = connect and fd.net in (\"192.168.0.0/16\", \"1.2.3.0/24\")");
    let verdict = |rules: RuleSet| socket_sample().inspect(1, |event| rules.rules()[0].matches(event)).unwrap();
    assert_eq!((verdict(load(&nets).0), verdict(strictly(&nets).0)), (true, false));
}

#[test]
fn lists_put_in_as_text_count_as_used_and_keep_places() {
    let text = "- list: l\n  items: [a]\n- macro: m\n  condition: proc.name in (l)\n".to_owned()
        + &rule("R", "evt.type = open and m and proc.nmae in (l)", "");
    let (_, diagnostics) = strictly(&text);
    assert_eq!(codes(&diagnostics), ["LOAD_ERR_COMPILE_CONDITION 9:40"]);
    assert!(diagnostics.iter().all(|diagnostic| !diagnostic.code.starts_with("LOAD_UNUSED")), "{diagnostics:?}");
}

#[test]
fn lists_put_in_as_text_do_not_explode() {
    let items = vec!["x".repeat(1000); 1000].join(", ");
    let condition = vec!["proc.name in (l)"; 1000].join(" or ");
    let (rules, diagnostics) = strictly(&format!("- list: l\n  items: [{items}]\n{}", rule_with(&condition)));
    assert!(rules.is_empty());
    assert!(diagnostics.iter().any(|diagnostic| diagnostic.message.contains("too large")), "{diagnostics:?}");
}

#[test]
fn rules_less_severe_than_asked_for_are_left_out() {
    let text = rule("A", "evt.type = open", "") + &rule("B", "evt.type = open", "").replace("Warning", "Error");
    for (least, expected) in [(Priority::Debug, 2), (Priority::Warning, 2), (Priority::Error, 1), (Priority::Alert, 0)]
    {
        let (rules, _) = Loader::new().least_priority(least).add_file("t", &text).finish();
        assert_eq!(rules.len(), expected, "{}", least.name());
    }
}

#[test]
fn rules_are_selected_by_name_and_tag_in_order() {
    let text = rule("Read A", "evt.type = open", "  tags: [host]\n")
        + &rule("Read B", "evt.type = open", "  tags: [container]\n  enabled: false\n")
        + &rule("Write", "evt.type = open", "  tags: [host, container]\n");
    let by_rule = |enable, pattern: &str| Selection { enable, rule: Some(pattern.into()), tag: None };
    let by_tag = |enable, tag: &str| Selection { enable, rule: None, tag: Some(tag.into()) };
    for (selections, expected) in [
        (vec![], "Read A,Write"),
        (vec![by_rule(false, "*")], ""),
        (vec![by_rule(false, "*"), by_tag(true, "container")], "Read B,Write"),
        (vec![by_rule(true, "Read*")], "Read A,Read B,Write"),
        (vec![by_tag(true, "container"), by_rule(false, "*A")], "Read B,Write"),
        (vec![by_tag(true, "cont*")], "Read A,Write"),
        (vec![Selection { enable: false, rule: Some("Write".into()), tag: Some("host".into()) }], ""),
    ] {
        let enabled = |rules: &RuleSet| {
            let enabled = rules.rules().iter().filter(|rule| rule.enabled);
            enabled.map(|rule| rule.name.clone()).collect::<Vec<_>>().join(",")
        };
        let (rules, _) = Loader::new().select(selections.clone()).add_file("t", &text).finish();
        assert_eq!(enabled(&rules), expected, "{selections:?}");
        let (mut rules, _) = load(&text);
        Selection::apply(&selections, &mut rules);
        assert_eq!(enabled(&rules), expected, "{selections:?}");
    }
    let selections = [by_rule(true, "Read*"), by_rule(true, "Raed*"), by_tag(true, "hots")];
    assert_eq!(Selection::idle(&selections, &load(&text).0), [&selections[1], &selections[2]]);
}

#[test]
fn outputs_are_added_to_by_rule_source_and_tags() {
    let text =
        rule("A", "evt.type = openat", "  tags: [x, y]\n") + &rule("B", "evt.type in (open, openat)", "  tags: [x]\n");
    let shown = |addition: OutputAddition| {
        let (rules, diagnostics) = Loader::new().append_output(addition).add_file("t", &text).finish();
        assert_eq!(codes(&diagnostics), Vec::<String>::new());
        let look = |name| {
            file_sample()
                .inspect(1, |event| {
                    let rule = rules.get(name).unwrap();
                    (rule.message(event), rule.fields(event))
                })
                .unwrap()
        };
        (look("A"), look("B"))
    };
    let (a, b) = shown(OutputAddition { extra_output: "by %proc.name".into(), ..OutputAddition::default() });
    assert_eq!((a.0.as_str(), b.0.as_str()), ("o by cat", "o by cat"));
    assert_eq!(a.1, [("proc.name".to_owned(), Shown::Text("cat".into()))]);
    let addition = OutputAddition {
        tags: vec!["x".into(), "y".into()],
        source: Some("syscall".into()),
        extra_fields: vec![
            ExtraField::Field("fd.num".into()),
            ExtraField::Format { key: "who".into(), format: "%proc.name/%proc.pname".into() },
            ExtraField::Format { key: "number".into(), format: "%fd.num".into() },
        ],
        ..OutputAddition::default()
    };
    let (a, b) = shown(addition.clone());
    let text_of = |text: &str| Shown::Text(text.into());
    let expected = [("fd.num", Shown::Int(3)), ("who", text_of("cat/bash")), ("number", text_of("3"))];
    assert_eq!(a, ("o".to_owned(), expected.map(|(key, value)| (key.to_owned(), value)).into()));
    assert_eq!(b, ("o".to_owned(), Vec::new()));
    assert_eq!(shown(OutputAddition { rule: Some("B".into()), ..addition.clone() }).0.1, []);
    assert_eq!(shown(OutputAddition { source: Some("k8s_audit".into()), ..addition }).0.1, []);
    let (a, _) = shown(OutputAddition {
        rule: Some("A".into()),
        extra_output: "x".into(),
        suggested_output: true,
        ..OutputAddition::default()
    });
    assert_eq!(
        a.0,
        "o x container_id=host container_name=host container_image_repository=<NA> container_image_tag=<NA> \
         k8s_pod_name=<NA> k8s_ns_name=<NA>"
    );
}

#[test]
fn a_wrong_addition_is_told_and_left_out() {
    let addition = OutputAddition {
        extra_output: "a %proc.nmae".into(),
        extra_fields: vec![ExtraField::Field("fd.nope".into()), ExtraField::Field("proc.pid".into())],
        ..OutputAddition::default()
    };
    let (rules, diagnostics) =
        Loader::new().append_output(addition).add_file("t", rule("A", "evt.type = openat", "")).finish();
    let found: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "append_output[0].extra_output:1:4: error[LOAD_ERR_COMPILE_OUTPUT]: there is no field `proc.nmae`",
            "append_output[0].extra_fields[0]:1:2: error[LOAD_ERR_COMPILE_OUTPUT]: there is no field `fd.nope`",
        ]
    );
    let (message, fields) =
        file_sample().inspect(1, |event| (rules.rules()[0].message(event), rules.rules()[0].fields(event))).unwrap();
    assert_eq!((message.as_str(), fields.len()), ("o", 1));
}

#[test]
fn the_way_of_matching_is_kept() {
    let text = rule("A", "evt.type = openat", "") + &rule("B", "evt.type = openat and proc.name = cat", "");
    for (matching, expected) in [(Matching::All, "AB"), (Matching::First, "A")] {
        let (rules, _) = Loader::new().matching(matching).add_file("t", &text).finish();
        let mut names = String::new();
        file_sample().inspect(1, |event| rules.inspect(event, &mut |rule| names.push_str(&rule.name))).unwrap();
        assert_eq!(names, expected);
    }
}
