//! Tests of what is told when several things are wrong.

use tw_model::{EventKind, KindSet, Priority};

use crate::Diagnostic;
use crate::diagnostic::code;
use crate::testing::load;

fn errors(diagnostics: &[Diagnostic]) -> Vec<&str> {
    diagnostics.iter().filter(|one| one.is_error()).map(|one| one.message.as_str()).collect()
}

#[test]
fn what_is_wrong_with_a_condition_is_told_although_keys_are_wrong() {
    for (change, expected) in [
        (
            "priority: Warn",
            vec!["there is no field `proc.nmae`", "there is no field `proc.nnn`", "there is no priority `Warn`"],
        ),
        (
            "tags: [x]",
            vec!["this rule has no `priority`", "there is no field `proc.nmae`", "there is no field `proc.nnn`"],
        ),
    ] {
        let text = format!(
            "- rule: R\n  desc: d\n  condition: evt.type = execve and proc.nmae = x\n  output: o %proc.nnn\n  {change}\n\
             - macro: m\n  condition: fd.num = 1\n- rule: S\n  desc: d\n  condition: m\n  output: o\n"
        );
        let (rules, diagnostics) = load(&text);
        assert_eq!(rules.len(), 0);
        let mut expected = expected;
        expected.push("this rule has no `priority`");
        assert_eq!(errors(&diagnostics), expected, "{change}");
        // The macro is used, if only by a rule that is left out.
        assert!(diagnostics.iter().all(|diagnostic| diagnostic.code != code::UNUSED_MACRO));
    }
    // An earlier rule stays, and a broken one in its place takes nothing away.
    let good = "- rule: R\n  desc: d\n  condition: evt.type = chroot\n  output: o\n  priority: INFO\n";
    let (rules, diagnostics) = load(&format!("{good}{}", good.replace("INFO", "INFOO").replace("chroot", "chrot")));
    assert_eq!((rules.len(), rules.get("R").unwrap().ast.to_string().as_str()), (1, "evt.type = chroot"));
    assert_eq!(errors(&diagnostics), ["there is no event type `chrot`", "there is no priority `INFOO`"]);
}

#[test]
fn all_that_is_wrong_with_an_override_is_told() {
    let rule = "- rule: R\n  desc: d\n  condition: fd.num = 1\n  output: o\n  priority: INFO\n";
    let (rules, diagnostics) = load(&format!(
        "{rule}- rule: R\n  output: x\n  priority: a\n  desc: y\n  capture: maybe\n  \
         override: {{output: apend, priority: append, tags: replace, desc: replace}}\n"
    ));
    let expected = [
        "there is no priority `a`",
        "this must be `true` or `false`",
        "this must be `append` or `replace`",
        "`priority` of a rule cannot be appended to",
        "`tags` is overridden, but not there",
    ];
    assert_eq!(errors(&diagnostics), expected);
    assert_eq!(rules.get("R").unwrap().priority, Priority::Informational);
}

#[test]
fn a_rule_about_measurements_need_not_name_their_type() {
    let told = |condition: &str| {
        let (rules, diagnostics) =
            load(&format!("- rule: R\n  desc: d\n  condition: {condition}\n  output: o\n  priority: INFO\n"));
        (rules.get("R").unwrap().kinds, diagnostics.iter().any(|one| one.code == code::NO_EVTTYPE))
    };
    let resource = KindSet::one(EventKind::from_name("resource").unwrap());
    assert_eq!(told("resource.cpu > 180 and container.name = shop"), (resource, false));
    assert_eq!(told("resource.cpu > 180 or resource.memory exists"), (resource, false));
    assert_eq!(told("resource.cpu > val(resource.cpu.limit)"), (resource, false));
    // What holds without a measurement is tried everywhere.
    assert!(told("resource.cpu > 180 or fd.num > 3").1);
}
