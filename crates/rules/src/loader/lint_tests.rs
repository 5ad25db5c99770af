//! Tests of the warnings about rules that make no sense.

use crate::testing::{file_sample, load, rule_with, socket_sample, verdict};
use crate::{Diagnostic, Loader, Matching};

fn rule(name: &str, condition: &str) -> String {
    rule_with(condition).replace("- rule: R", &format!("- rule: {name}"))
}

/// What was said that is not about things unused or without a source.
fn told(diagnostics: &[Diagnostic]) -> Vec<String> {
    let of_interest = |d: &&Diagnostic| !d.code.starts_with("LOAD_UNUSED") && d.code != "LOAD_NO_SOURCE";
    diagnostics
        .iter()
        .filter(of_interest)
        .map(|d| format!("{} {}:{} {}", d.code, d.line, d.column, d.message))
        .collect()
}

const LISTS: &str = "- list: shells\n  items: [sh, bash]\n- list: none\n  items: []\n- macro: opens\n  condition: evt.type in (open, openat)\n- macro: never_true\n  condition: (evt.num=0)\n";

#[test]
fn rules_that_can_never_match() {
    for (condition, why) in [
        ("proc.name = a and proc.name = b", "`proc.name = a` and `proc.name = b` contradict each other"),
        (
            "proc.name in (shells) and fd.num = 1 and proc.name = zsh",
            "`proc.name in (shells)` and `proc.name = zsh` contradict each other",
        ),
        ("proc.name = a and proc.name != a", "`proc.name = a` and `not proc.name = a` contradict each other"),
        ("proc.name = a and not proc.name = a", "`proc.name = a` and `not proc.name = a` contradict each other"),
        ("proc.name in (none)", "`proc.name in (none)` is never true: the list is empty"),
        ("proc.name startswith anyof ()", "`proc.name startswith anyof ()` is never true: the list is empty"),
        ("opens and evt.type = execve", "`evt.type in (open, openat)` and `evt.type = execve` contradict each other"),
        (
            "opens and not evt.type in (open, openat)",
            "`evt.type in (open, openat)` and `not evt.type in (open, openat)` contradict each other",
        ),
        ("proc.name = a and never_true", "`evt.num = 0` is never true: events are counted from 1"),
        ("not evt.num exists", "`evt.num exists` is always true: every event has `evt.num`"),
        (
            "fd.num = 1 and evt.dir = >",
            "`evt.dir = >` is never true: only exits of calls are seen, whose direction is `<`",
        ),
        (
            "fd.num = 1 and evt.dir != <",
            "`evt.dir != <` is never true: only exits of calls are seen, whose direction is `<`",
        ),
        ("fd.num > 5 and fd.num < 5", "`fd.num > 5` and `fd.num < 5` contradict each other"),
        ("fd.num = 3 and fd.num >= 4", "`fd.num = 3` and `fd.num >= 4` contradict each other"),
        ("fd.sport = https and fd.sport = 80", "`fd.sport = https` and `fd.sport = 80` contradict each other"),
        (
            "fd.name startswith /etc and fd.name startswith /usr",
            "`fd.name startswith /etc` and `fd.name startswith /usr` contradict each other",
        ),
        (
            "fd.name = /etc/x and fd.name startswith /usr",
            "`fd.name = /etc/x` and `fd.name startswith /usr` contradict each other",
        ),
        (
            "fd.name startswith /etc/x and not fd.name startswith /etc",
            "`fd.name startswith /etc/x` and `not fd.name startswith /etc` contradict each other",
        ),
        (
            "fd.name contains abc and not fd.name contains b",
            "`fd.name contains abc` and `not fd.name contains b` contradict each other",
        ),
        ("fd.name = x and not fd.name exists", "`fd.name = x` and `not fd.name exists` contradict each other"),
        (
            "evt.is_open_read = true and evt.is_open_read = false",
            "`evt.is_open_read = true` and `evt.is_open_read = false` contradict each other",
        ),
        ("proc.nchilds = 3 and fd.num = 1", "`proc.nchilds = 3` is never true: nothing supplies `proc.nchilds` yet"),
        (
            "evt.type = execve and fd.name = /x",
            "`evt.type = execve` and `an event that has fd.name` contradict each other",
        ),
        (
            "evt.type = connect and evt.is_open_write = true",
            "`evt.type = connect` and `an event that has evt.is_open_write` contradict each other",
        ),
        (
            "evt.arg.uid exists and evt.type in (open, openat)",
            "`an event that has evt.arg.uid` and `evt.type in (open, openat)` contradict each other",
        ),
        (
            "syscall.type = open and evt.type = execve",
            "`syscall.type = open` and `evt.type = execve` contradict each other",
        ),
        ("evt.type = read", "`evt.type = read` is never true: nothing supplies such events yet"),
        (
            "proc.name = a and (proc.name = b or proc.name in (c, d))",
            "`proc.name = a` and `proc.name = b` contradict each other",
        ),
        (
            "len(proc.name) = 3 and len(proc.name) = 4",
            "`len(proc.name) = 3` and `len(proc.name) = 4` contradict each other",
        ),
        ("fd.sip = 1.2.3.4 and fd.sip = ::1", "`fd.sip = 1.2.3.4` and `fd.sip = ::1` contradict each other"),
    ] {
        let (_, diagnostics) = load(&format!("{LISTS}{}", rule_with(condition)));
        let told = told(&diagnostics);
        let never: Vec<&String> = told.iter().filter(|told| told.starts_with("LOAD_NEVER_MATCHES")).collect();
        let [never] = never.as_slice() else { panic!("{condition}: {told:?}") };
        assert!(never.ends_with(&format!("the rule `R` can never match: {why}")), "{condition}: {never}");
    }
}

#[test]
fn rules_that_match_every_event() {
    for condition in [
        "evt.num >= 1",
        "evt.num > 0 or proc.name = x",
        "proc.name exists",
        "evt.type exists",
        "proc.name = a or not proc.name = a",
        "not (evt.num = 0)",
        "user.uid = 0 or user.uid != 0",
        "not never_true",
        "not proc.name in (none)",
    ] {
        let (_, diagnostics) = load(&format!("{LISTS}{}", rule_with(condition)));
        let told = told(&diagnostics);
        assert_eq!(told.len(), 1, "{condition}: {told:?}");
        assert!(
            told[0].starts_with("LOAD_ALWAYS_MATCHES 9:9 the rule `R` matches every event"),
            "{condition}: {told:?}"
        );
    }
    let (_, diagnostics) = load(&rule_with("evt.num >= 1").replace("  warn_evttypes: false\n", ""));
    assert_eq!(told(&diagnostics).len(), 1, "one warning is enough: {diagnostics:?}");
}

#[test]
fn rules_that_make_sense() {
    for condition in [
        "proc.name = a or proc.name = b",
        "proc.name = a and proc.pname = b",
        // Of several ancestors each may be another.
        "proc.aname = a and proc.aname = b",
        "fd.port = 1 and fd.port = 2",
        "fd.snet = 10.0.0.0/8 and fd.snet = 10.1.0.0/16",
        // Null is neither.
        "not fd.name = a and not fd.name != a",
        "fd.name = a or fd.name != a",
        "not fd.name exists",
        "fd.name exists",
        "fd.num >= 5 and fd.num <= 5",
        "fd.name startswith /etc and fd.name startswith /etc/ssh and not fd.name startswith /etc/ssh/x",
        "fd.name startswith a and fd.name endswith b",
        "(fd.num = 1 or proc.name = b) and (fd.num = 2 or proc.name = c or fd.num = 1)",
        "proc.name in (shells) and proc.name in (bash, zsh)",
        "proc.name = a and proc.args contains b and not proc.args contains bc",
        "getopt((\"-a\", proc.name), \"a\") in ()",
        "proc.name = \"\" and opens",
        "evt.type in (open, read)",
        "fd.name contains a and not fd.name contains ab",
        "fd.num > 1 and not fd.num > 5",
        "evt.type = execve and not fd.name = /x",
        "evt.type in (open, execve) and (fd.name = /x or proc.name = y)",
        "evt.type = chown and evt.arg.uid = root",
    ] {
        let (_, diagnostics) = load(&format!("{LISTS}{}", rule_with(condition)));
        assert_eq!(told(&diagnostics), Vec::<String>::new(), "{condition}");
    }
    let disabled = rule_with("proc.name in ()") + "  enabled: false\n";
    assert_eq!(told(&load(&disabled).1), Vec::<String>::new(), "who disabled it knows");
}

#[test]
fn rules_that_are_covered_by_earlier_ones() {
    let with = |matching, earlier: &str, later: &str| {
        let text = format!("{LISTS}{}{}", rule("A", earlier), rule("B", later));
        told(&Loader::new().matching(matching).add_file("t", text).finish().1).len()
    };
    // The earlier condition, the later one, whether it is covered, and whether they are equal.
    for (earlier, later, covered, equal) in [
        ("opens and fd.num = 1", "fd.num = 1 and opens", true, true),
        ("opens and fd.num = 1", "evt.type in (openat, open) and fd.num = 0x1", true, true),
        ("not (opens or fd.num = 1)", "not opens and not fd.num = 1", true, true),
        ("opens", "opens and fd.num = 1", true, false),
        ("opens", "evt.type = open and fd.num = 1", true, false),
        ("proc.name in (shells)", "opens and proc.name = sh", true, false),
        ("opens and (proc.name = a or proc.name = b)", "opens and proc.name = b", true, false),
        (
            "opens and (proc.name = a or fd.num = 1)",
            "opens and (fd.num = 1 or proc.name = a) and proc.pname = x",
            true,
            false,
        ),
        ("fd.name startswith /etc", "opens and fd.name startswith /etc/ssh", true, false),
        ("opens and fd.num >= 0", "opens and fd.num > 3", true, false),
        ("opens and fd.num = 1", "opens", false, false),
        ("opens and not proc.name = a", "opens and proc.name != b", false, false),
        ("evt.type = open", "opens", false, false),
        ("opens and proc.aname = a", "opens and proc.aname = b", false, false),
        ("opens and fd.name != a", "opens and not fd.name = a", false, false),
    ] {
        assert_eq!(with(Matching::First, earlier, later), usize::from(covered), "{earlier} / {later}");
        assert_eq!(with(Matching::All, earlier, later), usize::from(equal), "{earlier} / {later}");
    }
}

#[test]
fn what_is_said_of_a_covered_rule() {
    let text = rule("A", "evt.type = open") + &rule("B", "evt.type = open and fd.num = 3");
    let (_, diagnostics) = Loader::new().matching(Matching::First).add_file("t", text).finish();
    assert_eq!(
        told(&diagnostics),
        ["LOAD_SHADOWED_RULE 7:9 the rule `B` never speaks: wherever it matches, so does the earlier rule `A` (t:1)"]
    );
}

#[test]
fn many_alternatives_take_bounded_time() {
    let clause = |i: usize| {
        let alternatives: Vec<String> =
            (0..40).map(|j| format!("fd.name contains x{i}_{j} and proc.args contains y{j}")).collect();
        format!("({})", alternatives.join(" or "))
    };
    let condition = (0..40).map(clause).collect::<Vec<_>>().join(" and ");
    let text: String = (0..20).map(|i| rule(&format!("R{i}"), &format!("{condition} and fd.num = {i}"))).collect();
    let start = std::time::Instant::now();
    let (rules, diagnostics) = Loader::new().matching(Matching::First).add_file("t", text).finish();
    assert_eq!((rules.len(), told(&diagnostics)), (20, Vec::new()));
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]

    /// What is said never to match does not match, and what is said to match always does.
    #[test]
    fn claims_hold(condition in crate::compile::random_condition()) {
        let (_, diagnostics) = load(&rule_with(&condition));
        let is_told = |code| diagnostics.iter().any(|diagnostic| diagnostic.code == code);
        for sample in [file_sample(), socket_sample()] {
            let matched = sample.inspect(1, |event| verdict(&condition, event)).unwrap();
            proptest::prop_assert!(!(is_told("LOAD_NEVER_MATCHES") && matched == Some(true)), "{}", condition);
            proptest::prop_assert!(!(is_told("LOAD_ALWAYS_MATCHES") && matched == Some(false)), "{}", condition);
        }
    }

    /// A rule that is said to be covered matches only what the earlier one matches.
    #[test]
    fn covered_rules_are_covered(
        earlier in crate::compile::random_condition(),
        more in crate::compile::random_condition(),
        kind in 0..3_usize,
    ) {
        let later = match kind {
            0 => more,
            1 => format!("({earlier}) and ({more})"),
            _ => format!("({earlier}) or ({more})"),
        };
        let text = rule("A", &earlier) + &rule("B", &later);
        let (rules, diagnostics) = Loader::new().matching(Matching::First).add_file("t", text).finish();
        let is_covered = diagnostics.iter().any(|diagnostic| diagnostic.code == "LOAD_SHADOWED_RULE");
        for sample in [file_sample(), socket_sample()] {
            let matched = sample.inspect(1, |event| [0, 1].map(|i| rules.rules()[i].matches(event))).unwrap();
            proptest::prop_assert!(!is_covered || matched != [false, true], "{} / {}", earlier, later);
        }
    }
}

#[test]
fn words_that_are_nearly_the_name_of_a_list_are_told() {
    let lists = "- list: shells\n  items: [shell, sh]\n- list: more\n  items: [shels, 'shellz', x]\n";
    let with = |condition: &str| told(&load(&format!("{lists}{}", rule_with(condition))).1);
    let in_list = |word: &str, column: usize| {
        format!("LOAD_COMPILE_CONDITION 4:{column} `{word}` is taken as text, since there is no list of that name")
    };
    let of_lists = || vec![in_list("shels", 11), in_list("shellz", 18)];
    let told = with("proc.name in (shelsl)");
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[2].ends_with("`shelsl` is taken as text, since there is no list of that name"), "{told:?}");
    for fine in ["in (shells)", "in (shell)", "in ('shels')", "in (more, bells)", "in (mor)"] {
        assert_eq!(with(&format!("proc.name {fine}")), of_lists(), "{fine}");
    }
    let (_, diagnostics) = load(&format!("{lists}{}", rule_with("proc.name in (shelsl)")));
    let help = diagnostics.iter().filter_map(|d| d.help.as_deref()).next().unwrap_or_default();
    assert_eq!(help, "did you mean the list `shells`? If the text is meant, put it in quotes");
}

#[test]
fn lists_that_cannot_be_put_into_each_other_are_told() {
    let with = |lists: &str| told(&load(lists).1);
    let (a, b) = ("`a_list` and `b_list` lead back to each other: `b_list`", "`b_list` is defined behind the list");
    for (lists, expected) in [
        ("- list: a_list\n  items: [b_list, x]\n- list: b_list\n  items: [a_list, y]\n", a),
        ("- list: a_list\n  items: [b_list, x]\n- list: b_list\n  items: [y]\n", b),
    ] {
        let told = with(lists);
        assert!(told.len() == 1 && told[0].contains(" 2:11 ") && told[0].contains(expected), "{told:?}");
    }
    let late = "- list: a_list\n  items: [x]\n- list: b_list\n  items: [a_list]\n- list: a_list\n  items: [b_list]\n  override: {items: append}\n";
    let told = with(late);
    assert!(!told.is_empty() && told.iter().all(|told| told.contains("lead back to each other")), "{told:?}");
    assert_eq!(with("- list: rpm\n  items: [rpm, yum]\n- list: all\n  items: [rpm]\n"), Vec::<String>::new());
}
