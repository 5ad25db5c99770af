//! Tests of tests.

use proptest::prelude::*;

use super::*;
use crate::testing::load;

const RULES: &str = "\
- rule: Shell
  desc: d
  priority: INFO
  output: shell %proc.name
  condition: evt.type = execve and proc.name = sh
- rule: Program
  desc: d
  priority: INFO
  output: program %proc.name
  condition: evt.type = execve
- rule: Off
  desc: d
  priority: INFO
  output: o
  enabled: false
  condition: evt.type = execve and proc.name = sh
";

const EVENTS: &str = "events: [{type: execve, proc: {name: sh}}, {type: execve, proc: {name: ls}}]";

fn parse(test: &str) -> Result<Test, String> {
    let (suite, diagnostics) = Suite::parse("t.yaml", &format!("{RULES}{test}"));
    match (suite.tests.as_slice(), diagnostics.as_slice()) {
        ([test], []) => Ok(test.clone()),
        ([], [one]) => Err(format!("{}:{} {}", one.line, one.column, one.message)),
        other => panic!("{other:?}"),
    }
}

fn failures(test: &str) -> Vec<String> {
    let (rules, _) = load(RULES);
    parse(test).unwrap().run(&rules).iter().map(Failure::to_string).collect()
}

#[test]
fn a_test_that_says_what_happens_is_passed() {
    for test in [
        format!("- {{test: t, of: Shell, {EVENTS}, hits: [1]}}\n"),
        format!("- {{test: t, of: [Shell, Program], {EVENTS}, hits: {{Shell: [1], Program: [1, 2]}}}}\n"),
        "- {test: t, of: Shell, events: [{type: execve, proc: {name: ls}}], hits: []}\n".to_owned(),
        format!("- {{test: a disabled rule can be tested, of: Off, {EVENTS}, hits: [1]}}\n"),
        format!("- {{test: t, of: [Shell, Program], alone: true, {EVENTS}, hits: {{Shell: [1], Program: [1, 2]}}}}\n"),
    ] {
        assert_eq!(failures(&test), Vec::<String>::new(), "{test}");
    }
}

#[test]
fn what_differs_is_told_for_each_event() {
    let shown = failures(&format!("- {{test: t, of: Shell, {EVENTS}, hits: [2]}}\n"));
    let missing = "event 2: `Shell` must match, but does not";
    assert_eq!(shown, ["event 1: `Shell` must not match, but says: shell sh", missing]);
    let shown = failures(&format!("- {{test: t, of: Shell, alone: true, {EVENTS}, hits: [1]}}\n"));
    let other = |event, name| format!("event {event}: no other rule may match, but `Program` says: program {name}");
    assert_eq!(shown, [other(1, "sh"), other(2, "ls")]);
    let shown = failures(&format!("- {{test: t, of: Shel, {EVENTS}, hits: []}}\n"));
    assert_eq!(shown, ["there is no rule `Shel`; did you mean `Shell`?"]);
}

#[test]
fn places_are_those_of_the_file() {
    let test =
        parse("- test: t\n  of: Shell\n  events:\n    - type: execve\n    - {type: chdir}\n  hits: []\n").unwrap();
    assert_eq!((test.line, test.lines.as_slice()), (17, [20, 21].as_slice()));
    assert_eq!([test.line_of(None), test.line_of(Some(2)), test.line_of(Some(9))], [17, 21, 17]);
}

#[test]
fn what_cannot_be_read_is_told_with_its_place() {
    for (test, expected) in [
        ("- test: t\n  of: Shell\n  hits: []\n", "17:3 this test has no `events`"),
        ("- test:\n  of: Shell\n  events: [{type: chdir}]\n  hits: []\n", "17:3 this test has no name"),
        ("- {test: t, of: S, events: [], hits: []}\n", "17:28 a test has 1 to 10000 events, but this has 0"),
        ("- {test: t, of: S, events: x, hits: []}\n", "17:28 this must be a list of events"),
        ("- {test: t, of: S, events: [{type: chdri}], hits: []}\n", "17:36 `chdri` is no event type that the sensor"),
        ("- {test: t, of: S, events: [{path: /x}], hits: []}\n", "17:29 this event has no `type`"),
        ("- {test: t, of: S, events: [{type: chdir, pth: x}], hits: []}\n", "17:43 there is no key `pth` here"),
        ("- {test: t, of: S, events: [{type: chdir, fd: x}], hits: []}\n", "17:47 invalid type: string \"x\""),
        ("- {test: t, of: S, events: [{type: chdir}], hits: [2]}\n", "17:51 there is no event 2: they are counted"),
        ("- {test: t, of: S, events: [{type: chdir}], hits: [0]}\n", "17:51 there is no event 0"),
        ("- {test: t, of: S, events: [{type: chdir}], hits: yes}\n", "17:51 this must be a list of the numbers"),
        ("- {test: t, of: [A, B], events: [{type: chdir}], hits: []}\n", "17:56 the test is about several rules"),
        ("- {test: t, of: [A, B], events: [{type: chdir}], hits: {A: []}}\n", "17:56 nothing is said about the rule"),
        ("- {test: t, of: A, events: [{type: chdir}], hits: {A: [], B: []}}\n", "17:51 the rule `B` is not in `of`"),
        ("- {test: t, of: [], events: [{type: chdir}], hits: []}\n", "17:17 this test is about no rule"),
        ("- {test: t, of: A, event: [], events: [{type: chdir}], hits: []}\n", "17:20 a test has no key `event`"),
        ("- {test: t, of: A, events: [{type: chdir}], hits: [], alone: 1}\n", "17:62 this must be `true` or"),
    ] {
        let told = parse(test).unwrap_err();
        assert!(told.starts_with(expected), "{test}{told}");
    }
    let (suite, diagnostics) = Suite::parse("t.yaml", "- test: [\n");
    assert_eq!((suite.tests.len(), diagnostics.len()), (0, 1));
}

#[test]
fn files_with_tests_are_loaded_for_running_without_a_word() {
    let (rules, diagnostics) = load(&format!("{RULES}- {{test: t, of: Shell, {EVENTS}, hits: [1]}}\n"));
    assert_eq!((rules.len(), diagnostics), (3, vec![]));
}

#[test]
fn coverage_counts_what_is_expected() {
    let (rules, _) = load(RULES);
    let test =
        parse(&format!("- {{test: t, of: [Shell, Program], {EVENTS}, hits: {{Shell: [1], Program: [1, 2]}}}}\n"));
    let found = coverage(&rules, [&test.unwrap()]);
    let counts: Vec<_> = found.iter().map(|c| (c.tests, c.positive, c.negative, c.is_complete())).collect();
    assert_eq!(counts, [(1, 1, 1, true), (1, 2, 0, false), (0, 0, 0, false)]);
}

#[test]
fn events_are_read_from_files_of_any_shape() {
    let rules = "- rule: R\n- test: t\n  events:\n  - type: chdir\n  - type: execve\n- list: l\n";
    for (text, expected) in [
        ("type: chdir\npath: /tmp\n", vec![("chdir", 1)]),
        ("- type: chdir\n- {type: execve}\n", vec![("chdir", 1), ("execve", 2)]),
        (rules, vec![("chdir", 4), ("execve", 5)]),
        ("", vec![]),
        ("{\"type\": \"chdir\", \"fd\": 3}", vec![("chdir", 1)]),
    ] {
        let (found, diagnostics) = read_events("e", text);
        let found: Vec<_> = found.iter().map(|event| (event.sample.kind.as_str(), event.line)).collect();
        assert_eq!((found, diagnostics), (expected, vec![]), "{text}");
    }
    for text in ["type: chdri", "just words", "- type: chdir\n- pth: x\n", "- [", "[[]]"] {
        assert_eq!(read_events("e", text).1.len(), 1, "{text}");
    }
}

#[test]
fn events_of_any_size_can_be_made() {
    let long = "x".repeat(70_000);
    for kind in tw_model::event::EVENTS.iter().map(|info| info.name) {
        let text = format!(
            "- type: {kind}\n  path: {long}\n  path2: {long}\n  raw: {long}\n  target: {long}\n  base: {long}\n  data: {long}\n  \
             text: {long}\n  mode: {}\n  fd: {}\n  ret: {}\n  args: [{}, {}, 0, 0, 0, 0, 0, 0, 0]\n  proc:\n    name: {long}\n    \
             args: [{long}, {long}]\n    env: [{long}]\n    cwd: {long}\n    age_ms: {}\n    pid: {}\n",
            u32::MAX,
            i32::MIN,
            i64::MIN,
            i64::MIN,
            i64::MAX,
            u64::MAX,
            u32::MAX
        );
        let (found, diagnostics) = read_events("e", &text);
        assert_eq!((found.len(), diagnostics), (1, vec![]), "{kind}");
        let (rules, _) = load(RULES);
        found[0].sample.inspect(u64::MAX, |event| rules.inspect(event, &mut |_| ())).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_file_makes_the_reader_of_tests_panic(
        text in "(- test: t\n  of: Shell\n  hits: \\[1\\]\n  events:\n)?((  )?- |    )?((type|test|of|events|hits|alone|proc|args|ret|flags|remote|container|path): ?|[\\[\\]{}&*>|'\"a-z0-9.:%()=\\\\ -]{0,9}|execve|connect|mount|\n|, ){0,30}"
    ) {
        let (suite, diagnostics) = Suite::parse("t", &text);
        diagnostics.iter().for_each(|diagnostic| drop(diagnostic.render(false)));
        let (rules, _) = load(RULES);
        for test in &suite.tests {
            for failure in test.run(&rules) {
                let _ = (failure.to_string(), test.line_of(failure.event()));
            }
        }
        coverage(&rules, &suite.tests);
        read_events("t", &text);
    }
}

#[test]
fn all_that_is_wrong_with_a_test_is_told() {
    let text = "\
- test: t
  of: [Shell, Program]
  events:
    - {type: execv, proc: {name: sh}}
    - type: execve
      proc: {nmae: sh, uid: x}
      pth: /a
    - {typ: chdir}
  hits: {Shell: [9], Other: []}
  alon: true
- test: u
  of: Shell
- {test: v, of: Shell, events: [{type: chdir}], hits: []}
";
    let (suite, diagnostics) = Suite::parse("t.yaml", text);
    let told: Vec<String> =
        diagnostics.iter().map(|one| format!("{}:{} {}", one.line, one.column, one.message)).collect();
    assert_eq!(
        told,
        [
            "10:3 a test has no key `alon`",
            "4:14 `execv` is no event type that the sensor delivers",
            "6:14 there is no key `nmae` here",
            "6:29 invalid type: string \"x\", expected u32",
            "7:7 there is no key `pth` here",
            "8:8 there is no key `typ` here",
            "9:9 nothing is said about the rule `Program`, although the test is about it",
            "9:9 the rule `Other` is not in `of`",
            "9:9 there is no event 9: they are counted from 1 to 3",
            "11:3 this test has no `events`",
            "11:3 this test has no `hits`",
        ]
    );
    assert_eq!((suite.tests.len(), suite.unread.as_slice()), (1, [1, 11].as_slice()));
}
