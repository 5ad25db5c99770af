//! Redaction as its users see it: what is taken out, what stays, and what the document says about it.
#![allow(clippy::unwrap_used, reason = "a test")]

mod carriers;
mod peace;
mod properties;
mod secrets;
mod speed;

use tw_report::redact::{PATTERNS, Redactor};

fn redactor() -> Redactor {
    Redactor::new([7; 32])
}

/// The marks in a text: name and digest.
fn marks(text: &str) -> Vec<(String, String)> {
    let marks = text.split("[redacted:").skip(1);
    marks
        .filter_map(|rest| rest.split_once(']')?.0.split_once(':'))
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .collect()
}

/// The digest that stands for a secret.
fn digest(secret: &str) -> String {
    let text = redactor().environ(format!("X_PASSWORD={secret}\0").as_bytes()).into_owned();
    marks(&String::from_utf8_lossy(&text))[0].1.clone()
}

#[test]
fn the_document_has_the_tables_of_the_code() {
    let document = include_str!("../../../../docs/secrets.md");
    let section = |title: &str| -> Vec<&str> {
        let rest = document.split_once(&format!("\n## {title}\n")).unwrap().1;
        let rest = rest.split_once("\n## ").map_or(rest, |(section, _)| section);
        rest.lines().filter(|line| line.starts_with('|')).skip(2).collect()
    };
    let patterns: Vec<String> = PATTERNS
        .iter()
        .map(|pattern| format!("| `{}` | {} | `{}` |", pattern.name, pattern.what, pattern.example))
        .collect();
    assert_eq!(section("Patterns"), patterns);
    assert_eq!(section("Options of programs"), tw_report::redact::options_table());
}
