//! Tests of explanations.

use tw_model::FieldType;
use tw_model::field::{ArgRule, FIELDS};

use super::*;
use crate::testing::{file_sample, load};

const RULES: &str = "\
- list: shells
  items: [bash, sh]
- list: readers
  items: [cat, head, tail]
- macro: opened
  condition: evt.type in (open, openat) and fd.num >= 0
- macro: sensitive
  condition: fd.name startswith /etc and not (fd.name = /etc/hosts or fd.name contains passwd)
- rule: R
  desc: d
  priority: INFO
  output: o
  condition: >
    opened and sensitive and proc.name in (shells, readers, less) and container.id exists and
    proc.pname = val(proc.name)
";

/// One line for each node: mark, text, values, note.
fn lines(explained: &Explained) -> Vec<String> {
    fn add(node: &Explained, depth: usize, lines: &mut Vec<String>) {
        let mark = match node.verdict {
            None => ' ',
            Some(Verdict::True) => '+',
            Some(Verdict::False) => '-',
            Some(Verdict::NotLookedAt) => '.',
        };
        let values: Vec<String> = node.values.iter().map(|side| format!(" [{:?}]", side.value)).collect();
        let note = node.note.as_deref().map(|note| format!(" ({note})")).unwrap_or_default();
        lines.push(format!("{mark}{:depth$}{}{}{note}", "", node.text, values.concat()));
        node.children.iter().for_each(|child| add(child, depth + 1, lines));
    }
    let mut found = Vec::new();
    add(explained, 0, &mut found);
    found
}

#[test]
fn each_node_says_how_it_came_out_and_from_which_value() {
    let (rules, _) = load(RULES);
    let explainer = Explainer::new(&rules);
    let explained = file_sample().inspect(1, |event| explainer.rule(&rules.rules()[0], Some(event))).unwrap();
    let expected = [
        "-and",
        "+ opened",
        "+  and",
        "+   evt.type in (open, openat) [Text(\"openat\")]",
        "+   fd.num >= 0 [Int(3)]",
        "+ sensitive",
        "+  and",
        "+   fd.name startswith /etc [Text(\"/etc/shadow\")]",
        "+   not",
        "-    or",
        "-     fd.name = /etc/hosts [Text(\"/etc/shadow\")]",
        "-     fd.name contains passwd [Text(\"/etc/shadow\")]",
        "+ proc.name in (shells: 2 values, readers: 3 values, less) [Text(\"cat\")] (it is in readers)",
        "+ container.id exists [Text(\"host\")]",
        "- proc.pname = val(proc.name) [Text(\"bash\")] [Text(\"cat\")]",
    ];
    assert_eq!(lines(&explained), expected);
}

#[test]
fn what_the_engine_does_not_reach_is_not_looked_at() {
    let (rules, _) = load(RULES);
    let explainer = Explainer::new(&rules);
    let mut sample = file_sample();
    sample.kind = "chdir".into();
    let explained = sample.inspect(1, |event| explainer.rule(&rules.rules()[0], Some(event))).unwrap();
    let shown = lines(&explained);
    assert_eq!(shown[0], "-and (the rule is not tried on events of this type)");
    assert_eq!(shown[3], "-   evt.type in (open, openat) [Text(\"chdir\")]");
    assert!(shown[4..].iter().all(|line| line.starts_with('.') && !line.contains('[')), "{shown:#?}");
}

#[test]
fn without_an_event_it_is_the_condition_unfolded() {
    let (rules, _) = load(RULES);
    let explained = Explainer::new(&rules).rule(&rules.rules()[0], None);
    assert!(lines(&explained).iter().all(|line| line.starts_with(' ')));
    assert_eq!(explained.children[0].children[0].children.len(), 2);
}

#[test]
fn null_is_told_as_such() {
    let rule = |condition| format!("- rule: R\n  desc: d\n  priority: INFO\n  output: o\n  condition: {condition}\n");
    for (condition, expected) in [
        ("fd.sip = 1.2.3.4", "-fd.sip = 1.2.3.4 [Null] (a comparison with null never holds)"),
        ("not fd.sip = 1.2.3.4", "+not"),
        ("proc.name in (a, b, c, d, e, f, g, h, i, j)", "-proc.name in (a, b, c, d, e, f, g, h, …10 values in all)"),
    ] {
        let (rules, _) = load(&rule(condition));
        let explainer = Explainer::new(&rules);
        let explained = file_sample().inspect(1, |event| explainer.rule(&rules.rules()[0], Some(event))).unwrap();
        let first = &lines(&explained)[0];
        assert!(first.starts_with(expected), "{first}");
    }
}

#[test]
fn a_field_that_nothing_supplies_is_told_as_such() {
    let mut lacking = FIELDS.iter().filter(|field| field.get.is_none() && field.arg == ArgRule::None);
    let Some(field) = lacking.find(|field| field.ty == FieldType::Text) else { return };
    let (rules, _) = load(&crate::testing::rule_with(&format!("{} = x", field.name)));
    let explained = Explainer::new(&rules).rule(&rules.rules()[0], None);
    assert_eq!(explained.note.unwrap(), format!("nothing supplies {} yet: it is always null", field.name));
}

#[test]
fn macros_in_a_circle_and_bombs_come_to_an_end() {
    let mut text =
        String::from("- macro: a\n  condition: b\n- macro: b\n  condition: a\n- macro: m0\n  condition: a and a\n");
    for i in 1..40 {
        text.push_str(&format!("- macro: m{i}\n  condition: m{0} and m{0}\n", i - 1));
    }
    let (rules, _) = load(&text);
    let explainer = Explainer::new(&rules);
    let of = |name: &str| {
        let known = rules.macro_named(name).unwrap();
        explainer.condition(&known.ast, &known.condition, None)
    };
    let circle = of("a");
    assert_eq!(lines(&circle), [" b", "  a", "   b (leads back to itself)"]);
    assert!(lines(&of("m39")).len() < 2 * MAX_NODES);
}
