//! Each condition of the loader gives its documented code, at its place.

#![allow(clippy::unwrap_used, reason = "a test")]

use tw_rules::Loader;

/// Codes and places, of all but things unused.
fn told(text: &str) -> String {
    let (_, diagnostics) = Loader::new().add_file("t.yaml", text).finish();
    let shown = diagnostics.iter().filter(|d| !d.code.starts_with("LOAD_UNUSED"));
    shown.map(|d| format!("{} {}:{}", d.code, d.line, d.column)).collect::<Vec<_>>().join(", ")
}

fn check(cases: &[(&str, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .filter(|(text, expected)| told(text) != *expected)
        .map(|(text, expected)| format!("{text}\nexpected: {expected}\nfound:    {}\n", told(text)))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// A rule that is in order, with `rest` behind it.
fn rule(rest: &str) -> String {
    format!("- rule: R\n  desc: d\n  priority: INFO\n  output: o\n  condition: evt.type = open\n{rest}")
}

fn check_with(base: &str, cases: &[(&str, &str)]) {
    let texts: Vec<(String, &str)> =
        cases.iter().map(|(rest, expected)| (format!("{base}{rest}"), *expected)).collect();
    check(&texts.iter().map(|(text, expected)| (text.as_str(), *expected)).collect::<Vec<_>>());
}

#[test]
fn files_and_items() {
    check(&[
        ("", ""),
        ("\n---\n- \n---\n", ""),
        ("# a comment\n", ""),
        ("- rule: [\n", "LOAD_ERR_YAML_PARSE 1:9"),
        ("- a: *nothing\n", "LOAD_ERR_YAML_PARSE 1:6"),
        ("- a: b: c\n", "LOAD_ERR_YAML_PARSE 1:7"),
        ("a: b\n", "LOAD_ERR_YAML_VALIDATE 1:1"),
        ("text\n", "LOAD_ERR_YAML_VALIDATE 1:1"),
        ("- 17\n", "LOAD_ERR_YAML_VALIDATE 1:3"),
        ("- [a]\n", "LOAD_ERR_YAML_VALIDATE 1:3"),
        ("- rul: x\n  desc: y\n", "LOAD_UNKNOWN_ITEM 1:3"),
        ("- {}\n", "LOAD_UNKNOWN_ITEM 1:3"),
        ("- macro: m\n  condition: evt.type = open\n  macro: n\n", "LOAD_ERR_YAML_VALIDATE 3:3"),
        // The first of rule, macro and list in this order says what an item is.
        ("- rule: x\n  list: l\n  items: []\n", "LOAD_UNKNOWN_KEY 1:3"),
        ("- macro: m\n  condition: evt.type = open\n  rule: r\n", "LOAD_UNKNOWN_KEY 3:3"),
    ]);
}

#[test]
fn versions() {
    check(&[
        ("- required_engine_version: 0.63.0\n", ""),
        ("- required_engine_version: 26\n", ""),
        ("- required_engine_version: 0.63.1\n", "LOAD_ERR_VALIDATE 1:28"),
        ("- required_engine_version: 64\n", "LOAD_ERR_VALIDATE 1:28"),
        ("- required_engine_version: 1.0.0\n", "LOAD_ERR_VALIDATE 1:28"),
        ("- required_engine_version: soon\n", "LOAD_ERR_VALIDATE 1:28"),
        ("- required_engine_version: [1]\n", "LOAD_ERR_YAML_VALIDATE 1:28"),
        ("- required_engine_version:\n", "LOAD_ERR_YAML_VALIDATE 1:3"),
        ("- required_plugin_versions:\n  - name: container\n    version: 0.4.0\n", ""),
        ("- required_plugin_versions:\n  - name: container\n", "LOAD_ERR_YAML_VALIDATE 2:5"),
        ("- required_plugin_versions:\n  - name: container\n    version: new\n", "LOAD_ERR_YAML_VALIDATE 3:14"),
        (
            "- required_plugin_versions:\n  - name: a\n    version: 0.4.0\n    alternatives: [{name: a, version: 1.0.0}]\n",
            "LOAD_ERR_YAML_VALIDATE 4:20",
        ),
        ("- required_plugin_versions: x\n", "LOAD_ERR_YAML_VALIDATE 1:29"),
    ]);
}

#[test]
fn lists() {
    check(&[
        ("- list: l\n  items: [a, 1, true, null, 'x y']\n", ""),
        ("- list: l\n", "LOAD_ERR_YAML_VALIDATE 1:9"),
        ("- list:\n  items: []\n", "LOAD_ERR_YAML_VALIDATE 1:3"),
        ("- list: [l]\n  items: []\n", "LOAD_ERR_YAML_VALIDATE 1:9"),
        ("- list: l\n  items: a\n", "LOAD_ERR_YAML_VALIDATE 2:10"),
        ("- list: l\n  items: [a, [b]]\n", "LOAD_ERR_YAML_VALIDATE 2:14"),
        ("- list: a b\n  items: []\n", "LOAD_INVALID_LIST_NAME 1:9"),
        ("- list: a=b\n  items: []\n", "LOAD_INVALID_LIST_NAME 1:9"),
        ("- list: a/b-c\n  items: []\n", ""),
        ("- list: l\n  items: []\n  item: x\n", "LOAD_UNKNOWN_KEY 3:3"),
        ("- list: l\n  items: [a]\n  append: true\n", "LOAD_ERR_VALIDATE 1:9, LOAD_DEPRECATED_ITEM 3:11"),
        ("- list: l\n  items: [a]\n  append: maybe\n", "LOAD_ERR_YAML_VALIDATE 3:11"),
        ("- list: l\n  items: [a]\n  override: {items: append}\n", "LOAD_ERR_VALIDATE 1:9"),
        ("- list: l\n  items: [a]\n  override: {items: replace}\n", ""),
        ("- list: l\n  items: [a]\n  override: {items: add}\n", "LOAD_ERR_VALIDATE 3:21"),
        ("- list: l\n  items: [a]\n  override: {item: append}\n", "LOAD_ERR_VALIDATE 3:14"),
        ("- list: l\n  items: [a]\n  override: items\n", "LOAD_ERR_YAML_VALIDATE 3:13"),
        ("- list: l\n  items: ['\"\\q\"']\n", "LOAD_ERR_COMPILE_CONDITION 2:13"),
    ]);
}

#[test]
fn macros() {
    check(&[
        ("- macro: m\n  condition: evt.type = open\n", ""),
        ("- macro: m\n", "LOAD_ERR_YAML_VALIDATE 1:10"),
        ("- macro: m\n  condition:\n", "LOAD_ERR_YAML_VALIDATE 1:10"),
        ("- macro: m\n  condition: ' '\n", "LOAD_ERR_YAML_VALIDATE 1:10"),
        ("- macro: m\n  condition: [a]\n", "LOAD_ERR_YAML_VALIDATE 2:14"),
        ("- macro: m-n\n  condition: evt.type = open\n", "LOAD_INVALID_MACRO_NAME 1:10"),
        ("- macro: 1m\n  condition: evt.type = open\n", "LOAD_INVALID_MACRO_NAME 1:10"),
        ("- macro: m\n  condition: evt.type = open and\n", "LOAD_ERR_COMPILE_CONDITION 2:33"),
        ("- macro: m\n  condition: or x = y\n  override: {condition: append}\n", "LOAD_ERR_VALIDATE 1:10"),
        ("- macro: m\n  condition: evt.type = open\n  override: {condition: replace}\n", ""),
        (
            "- macro: m\n  condition: evt.type = open\n- macro: m\n  append: true\n  condition: or evt.type = creat\n",
            "LOAD_DEPRECATED_ITEM 4:11",
        ),
    ]);
}

#[test]
fn keys_of_a_rule() {
    check_with(
        &rule(""),
        &[
            ("", ""),
            ("  tags: [a, 1]\n", ""),
            ("  tags: a\n", "LOAD_ERR_YAML_VALIDATE 6:9"),
            ("  tags: [[a]]\n", "LOAD_ERR_YAML_VALIDATE 6:10"),
            ("  enabled: never\n", "LOAD_ERR_YAML_VALIDATE 6:12"),
            ("  capture: 5\n", "LOAD_ERR_YAML_VALIDATE 6:12"),
            ("  capture_duration: 5s\n", "LOAD_ERR_YAML_VALIDATE 6:21"),
            ("  warn_evttypes: x\n", "LOAD_ERR_YAML_VALIDATE 6:18"),
            ("  skip-if-unknown-filter: x\n", "LOAD_ERR_YAML_VALIDATE 6:27"),
            ("  outptu: x\n", "LOAD_UNKNOWN_KEY 6:3"),
            ("  source: k8s_audit\n", "LOAD_UNKNOWN_SOURCE 1:9"),
            ("- rule: R\n  append: true\n  output: x\n  override: {output: append}\n", "LOAD_ERR_VALIDATE 6:9"),
            ("- rule: R\n  output: x\n  override: {output: replace}\n", ""),
            ("- rule: R\n  output: x\n  override: {desc: replace}\n", "LOAD_ERR_VALIDATE 8:14"),
            ("- rule: R\n  output: x\n  desc: y\n  override: {desc: replace}\n", "LOAD_ERR_VALIDATE 7:3"),
            ("- rule: R\n  priority: INFO\n  override: {priority: append}\n", "LOAD_ERR_VALIDATE 8:14"),
            ("- rule: S\n  output: x\n  override: {output: replace}\n", "LOAD_ERR_VALIDATE 6:9"),
            ("- rule: R\n  enabled: false\n", "LOAD_DEPRECATED_ITEM 6:9"),
            ("- rule: S\n  enabled: false\n", "LOAD_ERR_VALIDATE 6:9, LOAD_DEPRECATED_ITEM 6:9"),
            ("- rule: R\n  append: true\n  condition: and fd.num = 1\n", "LOAD_DEPRECATED_ITEM 7:11"),
            ("- rule: R\n  append: true\n", "LOAD_ERR_VALIDATE 6:9, LOAD_DEPRECATED_ITEM 7:11"),
            ("- rule: R\n  append: true\n  desc: x\n", "LOAD_ERR_VALIDATE 6:9, LOAD_DEPRECATED_ITEM 7:11"),
        ],
    );
    check(&[
        ("- rule:\n", "LOAD_ERR_YAML_VALIDATE 1:3"),
        ("- rule: R\n", "LOAD_ERR_YAML_VALIDATE 1:9"),
        ("- rule: R\n  desc: d\n  output: o\n  condition: evt.type = open\n", "LOAD_ERR_YAML_VALIDATE 1:9"),
        ("- rule: R\n  desc: d\n  priority: INFO\n  condition: evt.type = open\n", "LOAD_ERR_YAML_VALIDATE 1:9"),
        ("- rule: R\n  output: o\n  priority: INFO\n  condition: evt.type = open\n", "LOAD_ERR_YAML_VALIDATE 1:9"),
        (&rule("").replace("INFO", "LOUD"), "LOAD_ERR_YAML_VALIDATE 3:13"),
        (&rule("").replace("INFO", "[INFO]"), "LOAD_ERR_YAML_VALIDATE 3:13"),
        (&rule("").replace("output: o", "output: 100%"), "LOAD_ERR_COMPILE_OUTPUT 4:14"),
        (&rule("").replace("output: o", "output: '%fd.nmae'"), "LOAD_ERR_COMPILE_OUTPUT 4:13"),
        (&rule("").replace("output: o", "output: '%fd.ip'"), "LOAD_ERR_COMPILE_OUTPUT 4:13"),
        (&rule("").replace("output: o", "output: '%container.imagex'"), "LOAD_COMPILE_OUTPUT 4:13"),
        (&(rule("") + &rule("  source: k8s_audit\n")), "LOAD_ERR_VALIDATE 6:9"),
    ]);
}

#[test]
fn exceptions() {
    let with = "  exceptions:\n    - name: e\n";
    check_with(
        &rule(with),
        &[
            ("      fields: proc.name\n", ""),
            ("      fields: proc.name\n      values: [a, 'b c']\n", ""),
            ("      fields: [proc.name]\n      comps: [startswith]\n      values: [[a]]\n", ""),
            ("", "LOAD_ERR_VALIDATE 7:13"),
            ("      fields: proc.name\n      comps: startswith\n", "LOAD_ERR_VALIDATE 9:14"),
            ("      fields: proc.name\n      comps: [in]\n", "LOAD_ERR_VALIDATE 7:13"),
            ("      fields: [proc.name, fd.name]\n      comps: [in]\n", "LOAD_ERR_VALIDATE 7:13"),
            ("      fields: proc.name\n      values: a\n", "LOAD_ERR_VALIDATE 9:15"),
            ("      fields: proc.name\n      values: [[a]]\n", "LOAD_ERR_VALIDATE 9:16"),
            ("      fields: [proc.name]\n      values: [a]\n", "LOAD_ERR_VALIDATE 9:16"),
            ("      fields: [proc.name]\n      values: [[a, b]]\n", "LOAD_ERR_VALIDATE 9:16"),
            ("      fields: proc.nmae\n      values: [a]\n", "LOAD_ERR_VALIDATE 8:15"),
            ("      fields: proc.nmae\n", "LOAD_ERR_VALIDATE 8:15"),
            ("      fields: [proc.name, concat(fd.name)]\n", "LOAD_ERR_VALIDATE 8:27"),
            ("      fields: fd.name = x\n", "LOAD_ERR_VALIDATE 8:15"),
            ("      fields: proc.nmae\n  skip-if-unknown-filter: true\n", "LOAD_UNKNOWN_FILTER 1:9"),
            ("      fields: tolower(proc.name)\n      values: [a]\n", ""),
            ("      fields: proc.name\n    - name: e\n      fields: fd.name\n", "LOAD_EXCEPTION_NAME_NOT_UNIQUE 9:13"),
            ("      fields: proc.name\n    - x\n", "LOAD_ERR_VALIDATE 9:7"),
            ("      fields: proc.name\n    - fields: fd.name\n", "LOAD_ERR_VALIDATE 9:7"),
            ("      fields: fd.num\n      values: [x]\n", "LOAD_ERR_COMPILE_CONDITION 9:16"),
        ],
    );
    check_with(
        &rule(
            "  exceptions: [{name: e, fields: proc.name}]\n- rule: R\n  override: {exceptions: append}\n  exceptions:\n",
        ),
        &[
            ("    - {name: e, values: [a]}\n", ""),
            ("    - {name: e}\n", "LOAD_APPEND_NO_VALUES 10:14"),
            ("    - {name: e, fields: proc.name, values: [a]}\n", "LOAD_ERR_VALIDATE 10:14"),
            ("    - {name: f, fields: fd.name, values: [a]}\n", ""),
            ("    - {name: f, values: [a]}\n", "LOAD_ERR_VALIDATE 10:14"),
            ("    - {name: f, fields: fd.name}\n", "LOAD_APPEND_NO_VALUES 10:14"),
        ],
    );
}

#[test]
fn conditions() {
    let base = "- list: l\n  items: [a, b]\n- macro: m\n  condition: fd.num = 1\n- rule: R\n  desc: d\n  priority: INFO\n  \
                output: o\n  condition: evt.type = open and ";
    check_with(
        base,
        &[
            ("m\n", ""),
            ("n\n", "LOAD_ERR_VALIDATE 9:34"),
            ("proc.nmae = x\n", "LOAD_ERR_COMPILE_CONDITION 9:34"),
            ("ka.verb = x\n", "LOAD_ERR_COMPILE_CONDITION 9:34"),
            ("proc.name[1] = x\n", "LOAD_ERR_COMPILE_CONDITION 9:34"),
            ("container.label = x\n", "LOAD_ERR_COMPILE_CONDITION 9:34"),
            ("evt.arg.nope = x\n", "LOAD_ERR_COMPILE_CONDITION 9:34"),
            ("proc.name is x\n", "LOAD_ERR_COMPILE_CONDITION 9:44"),
            ("proc.name\n", "LOAD_ERR_COMPILE_CONDITION 9:43"),
            ("proc.name =\n", "LOAD_ERR_COMPILE_CONDITION 9:45"),
            ("proc.name = (a)\n", "LOAD_ERR_COMPILE_CONDITION 9:46"),
            ("proc.name in nope\n", "LOAD_ERR_COMPILE_CONDITION 9:47"),
            ("proc.name = l\n", "LOAD_ERR_COMPILE_CONDITION 9:46"),
            ("proc.name in (a b)\n", "LOAD_ERR_COMPILE_CONDITION 9:50"),
            ("(fd.num = 1\n", "LOAD_ERR_COMPILE_CONDITION 9:34"),
            ("fd.num = 1)\n", "LOAD_ERR_COMPILE_CONDITION 9:44"),
            ("fd.num = 1 fd.num = 2\n", "LOAD_ERR_COMPILE_CONDITION 9:45"),
            ("fd.num contains 1\n", "LOAD_ERR_COMPILE_CONDITION 9:41"),
            ("fd.num = one\n", "LOAD_ERR_COMPILE_CONDITION 9:43"),
            ("fd.sip = here\n", "LOAD_ERR_COMPILE_CONDITION 9:43"),
            ("fd.snet = 10.0.0.0\n", "LOAD_ERR_COMPILE_CONDITION 9:44"),
            ("fd.name regex \"[\"\n", "LOAD_ERR_COMPILE_CONDITION 9:48"),
            ("fd.name = \"a\n", "LOAD_ERR_COMPILE_CONDITION 9:44"),
            ("evt.type = opne\n", "LOAD_ERR_COMPILE_CONDITION 9:45"),
            ("evt.outputtime = x\n", "LOAD_ERR_COMPILE_CONDITION 9:34"),
            ("lower(proc.name) = x\n", "LOAD_ERR_COMPILE_CONDITION 9:34"),
            ("tolower(fd.num) = x\n", "LOAD_ERR_COMPILE_CONDITION 9:34"),
            ("proc.name = val(proc.aname)\n", "LOAD_ERR_COMPILE_CONDITION 9:50"),
            ("proc.name = proc.pname\n", "LOAD_COMPILE_CONDITION 9:46"),
            ("proc.name = \"tolower(proc.pname)\"\n", "LOAD_COMPILE_CONDITION 9:46"),
            ("fd.name regex abc\n", "LOAD_COMPILE_CONDITION 9:48"),
            ("proc.name > 3\n", "LOAD_NUMBER_WITH_TEXT 9:46"),
            ("user.name = 0\n", "LOAD_NUMBER_WITH_TEXT 9:46"),
            ("evt.dir = <\n", "LOAD_DEPRECATED_ITEM 9:34"),
            ("not proc.nthreads > 3\n", "LOAD_NO_SOURCE 9:38"),
            ("not evt.type = read\n", "LOAD_NO_SOURCE 9:49"),
            ("proc.name in ()\n", "LOAD_NEVER_MATCHES 9:34"),
            ("evt.type = creat\n", "LOAD_NEVER_MATCHES 9:34"),
            ("proc.nmae = x\n  skip-if-unknown-filter: true\n", "LOAD_UNKNOWN_FILTER 5:9"),
            ("evt.type = opne\n  skip-if-unknown-filter: true\n", "LOAD_UNKNOWN_FILTER 5:9"),
            // Only what does not exist is forgiven.
            ("fd.num = x\n  skip-if-unknown-filter: true\n", "LOAD_ERR_COMPILE_CONDITION 9:43"),
        ],
    );
    check(&[
        (&rule("").replace("evt.type = open", "fd.num = 1"), "LOAD_NO_EVTTYPE 1:9"),
        (&rule("").replace("evt.type = open", "evt.num > 0"), "LOAD_ALWAYS_MATCHES 1:9"),
        (&(rule("") + &rule("").replace("rule: R", "rule: S")), "LOAD_SHADOWED_RULE 6:9"),
        (
            &rule("  skip-if-unknown-filter: true\n").replace("output: o", "output: '%fd.nmae'"),
            "LOAD_UNKNOWN_FILTER 1:9",
        ),
        (
            &rule("  source: k8s_audit\n").replace("evt.type = open", "not (ka.verb in (x, \"<NA>\"))"),
            "LOAD_UNKNOWN_SOURCE 1:9, LOAD_UNSAFE_NA_CHECK 5:19",
        ),
        (
            &rule("  source: k8s_audit\n").replace("evt.type = open", "ka.verb contains \"<NA>\""),
            "LOAD_UNKNOWN_SOURCE 1:9",
        ),
    ]);
}

#[test]
fn macros_and_lists_that_are_not_used() {
    let told = |text: &str| {
        let (_, diagnostics) = Loader::new().add_file("t.yaml", text).finish();
        diagnostics.iter().map(|d| format!("{} {}:{}", d.code, d.line, d.column)).collect::<Vec<_>>().join(", ")
    };
    let items = "- list: inner\n  items: [a]\n- list: outer\n  items: [inner]\n- macro: below\n  condition: proc.name in (outer)\n- macro: above\n  condition: below\n";
    assert_eq!(told(items), "LOAD_UNUSED_MACRO 7:10", "only the end of a chain is told of");
    assert_eq!(told(&(items.to_owned() + &rule("").replace("= open", "= open and above"))), "");
    assert_eq!(told("- list: l\n  items: []\n"), "LOAD_UNUSED_LIST 1:9");
    let elsewhere = rule("  source: k8s_audit\n").replace("evt.type = open", "above and ka.verb = x");
    assert_eq!(told(&(items.to_owned() + &elsewhere)), "LOAD_UNKNOWN_SOURCE 9:9", "a skipped rule uses them, too");
}
