//! Helpers of the tests in this crate.

use tw_model::Event;
use tw_model::sample::{Sample, SampleArg, SampleProcess};

use crate::{Diagnostic, Loader, RuleSet};

/// Loads one file.
pub(crate) fn load(text: &str) -> (RuleSet, Vec<Diagnostic>) {
    Loader::new().add_file("t.yaml", text).finish()
}

/// Codes and places of all diagnostics that are not about things unused.
pub(crate) fn codes(diagnostics: &[Diagnostic]) -> Vec<String> {
    let unused = |diagnostic: &&Diagnostic| !diagnostic.code.starts_with("LOAD_UNUSED");
    diagnostics.iter().filter(unused).map(|d| format!("{} {}:{}", d.code, d.line, d.column)).collect()
}

/// The text of the only diagnostic of a rule with this condition.
pub(crate) fn complaint(condition: &str) -> String {
    let (_, diagnostics) = load(&rule_with(condition));
    match diagnostics.as_slice() {
        [one] => one.message.clone(),
        other => format!("{} diagnostics: {other:?}", other.len()),
    }
}

/// A rule `R` with this condition.
pub(crate) fn rule_with(condition: &str) -> String {
    let mut quoted = String::new();
    for c in condition.chars() {
        if c == '\'' { quoted.push_str("''") } else { quoted.push(c) }
    }
    format!("- rule: R\n  desc: d\n  priority: INFO\n  output: o\n  warn_evttypes: false\n  condition: '{quoted}'\n")
}

/// Whether a rule with this condition matches; `None` if the rule has an error.
pub(crate) fn verdict(condition: &str, event: &Event<'_>) -> Option<bool> {
    let (rules, _) = load(&rule_with(condition));
    rules.rules().first().map(|rule| rule.matches(event))
}

/// An opened file: `cat /etc/shadow` by a shell under sshd, in a container.
pub(crate) fn file_sample() -> Sample {
    Sample {
        kind: "openat".into(),
        proc: SampleProcess {
            name: "cat".into(),
            args: vec!["cat".into(), "/etc/shadow".into()],
            tty: 34816,
            ..SampleProcess::default()
        },
        ancestors: vec![
            SampleProcess { name: "bash".into(), ..SampleProcess::default() },
            SampleProcess { name: "sshd".into(), ..SampleProcess::default() },
        ],
        path: "/etc/shadow".into(),
        flags: "O_RDONLY".into(),
        fd: 3,
        ret: Some(SampleArg::Number(3)),
        ..Sample::default()
    }
}

/// A connection from 10.0.0.5:40000 to 1.2.3.4:443.
pub(crate) fn socket_sample() -> Sample {
    Sample {
        kind: "connect".into(),
        proc: SampleProcess { name: "curl".into(), ..SampleProcess::default() },
        local: "10.0.0.5:40000".into(),
        remote: "1.2.3.4:443".into(),
        ret: Some(SampleArg::Number(0)),
        fd: 5,
        ..Sample::default()
    }
}

/// Checks verdicts of many conditions on one sample.
pub(crate) fn check_all(sample: &Sample, cases: &[(&str, bool)]) {
    sample
        .inspect(1, |event| {
            for (condition, expected) in cases {
                assert_eq!(verdict(condition, event), Some(*expected), "{condition}");
            }
        })
        .unwrap();
}
