//! A condition and an output from a stranger, past the YAML: `cargo fuzz run condition`.
#![no_main]

use std::fmt::Write as _;

use libfuzzer_sys::fuzz_target;
use tw_model::sample::Sample;
use tw_rules::{Compat, Loader, Matching};

/// A text as a YAML scalar that means just that text.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() || (c as u32) > 0xfffd => drop(write!(out, "\\U{:08x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fuzz_target!(|text: &str| {
    let (condition, output) = text.split_once('\n').unwrap_or((text, "o"));
    let file = format!(
        "- list: l\n  items: [a, b c]\n- macro: m\n  condition: evt.type in (openat, connect)\n- rule: R\n  desc: d\n  \
         priority: INFO\n  condition: {0}\n  output: {1}\n- rule: S\n  desc: d\n  priority: INFO\n  condition: m and \
         proc.name in (l)\n  output: {1}\n",
        quoted(condition),
        quoted(output)
    );
    for compat in [Compat::Normal, Compat::Strict] {
        let loader = Loader::new().compat(compat).matching(Matching::First).add_file("fuzz.yaml", file.as_str());
        let (rules, problems) = loader.finish();
        let never: Vec<&str> = problems
            .iter()
            .filter(|problem| problem.code == "LOAD_NEVER_MATCHES")
            .map(|problem| &*problem.message)
            .collect();
        for problem in &problems {
            let _ = problem.render(false);
        }
        for kind in ["openat", "connect"] {
            let sample = Sample { kind: kind.into(), path: "/etc/a".into(), ..Sample::default() };
            let _ = sample.inspect(1, |event| {
                for rule in rules.rules() {
                    let name = format!("the rule `{}` can never match", rule.name);
                    if rule.matches(event) {
                        assert!(!never.iter().any(|message| message.starts_with(&name)), "{condition}");
                        let _ = (rule.message(event), rule.fields(event));
                    }
                }
            });
        }
        // What is printed reads the same.
        if compat == Compat::Normal
            && let Ok(ast) = tw_rules::parser::parse(condition)
        {
            let shown = ast.to_string();
            let again = tw_rules::parser::parse(&shown).map(|ast| ast.to_string());
            assert_eq!(again.as_ref(), Ok(&shown), "{condition}");
        }
    }
});
