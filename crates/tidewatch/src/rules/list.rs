//! `rules list`: what rules there are.

use std::io::Write as _;
use std::process::ExitCode;

use anstyle::Style;
use serde_json::json;
use tw_model::Mode;
use tw_model::event::EVENTS;
use tw_report::escape;
use tw_rules::reach::{Reach, reach};
use tw_rules::{Rule, RuleSet};

use super::choice::{Configure, loaded};
use super::show;
use crate::cli::RulesListArgs;
use crate::screen::{self, print_stdout};

const DIM: Style = Style::new().dimmed();

/// Characters that a line of the table may have.
const WIDTH: usize = 100;
/// Characters that the name of a rule may have, and those of events.
const NAMES: usize = 50;
const EVENT_NAMES: usize = 18;

/// Lists the rules that pass the filters.
///
/// # Errors
/// If the rules cannot be read, or nobody reads standard output any more.
pub fn run(args: &RulesListArgs, configure: Configure<'_>) -> anyhow::Result<ExitCode> {
    let loaded = loaded(&args.files, configure)?;
    show(&loaded.diagnostics, false);
    let rules: Vec<&Rule> = loaded.rules.rules().iter().filter(|rule| is_wanted(rule, &loaded.rules, args)).collect();
    if args.json {
        let rows: Vec<_> = rules.iter().map(|rule| row(rule, &loaded.rules)).collect();
        print_stdout(&format!("{}\n", serde_json::Value::from(rows)))?;
    } else {
        let all = loaded.rules.len();
        let of = if rules.len() < all { format!(" of {all}") } else { String::new() };
        let mut out = anstream::AutoStream::auto(std::io::stdout());
        let (head, lines) = table(&rules, &loaded.rules);
        if !lines.is_empty() {
            writeln!(out, "{DIM}{head}{DIM:#}")?;
        }
        lines.iter().try_for_each(|line| writeln!(out, "{line}"))?;
        let number = screen::count(rules.len(), "rule");
        let number = if of.is_empty() { number } else { format!("{}{of} rules", rules.len()) };
        writeln!(out, "{number} ({})", escape::line(&loaded.source))?;
        writeln!(
            out,
            "{DIM}IN: finds something by eBPF, fanotify, connector, wrap; a small letter: not of all its events{DIM:#}"
        )?;
    }
    Ok(if loaded.errors() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn is_wanted(rule: &Rule, rules: &RuleSet, args: &RulesListArgs) -> bool {
    args.tag.iter().all(|tag| rule.tags.contains(tag))
        && args.priority.is_none_or(|priority| rule.priority <= priority)
        && (args.event.is_empty() || args.event.iter().any(|kind| rule.kinds.contains(*kind)))
        && args.mode.is_none_or(|mode| reach(rule, rules, mode).is_any())
        && (rule.enabled || !args.enabled)
        && (!rule.enabled || !args.disabled)
}

fn row(rule: &Rule, rules: &RuleSet) -> serde_json::Value {
    json!({"name": rule.name, "priority": rule.priority.name(), "enabled": rule.enabled, "tags": rule.tags,
        "desc": rule.desc, "advice": rule.advice, "events": events(rule), "file": rule.file, "line": rule.line,
        "modes": modes(rule, rules)})
}

/// What a rule can find in each mode: `yes`, `part` or `no`.
pub fn modes(rule: &Rule, rules: &RuleSet) -> serde_json::Value {
    let word = |mode: Mode| serde_json::Value::from(reach(rule, rules, mode).word());
    Mode::ALL.into_iter().map(|mode| (mode.name().to_owned(), word(mode))).collect()
}

/// The same in four characters: a letter for each mode in which it can find something, a small one where not all.
fn short_modes(rule: &Rule, rules: &RuleSet) -> String {
    let letters = Mode::ALL.iter().zip(['E', 'F', 'C', 'W']);
    letters
        .map(|(mode, letter)| match reach(rule, rules, *mode) {
            Reach::Whole => letter,
            Reach::Part(_) => letter.to_ascii_lowercase(),
            Reach::Nothing(_) => '-',
        })
        .collect()
}

/// Names of the events that a rule looks at.
pub fn events(rule: &Rule) -> Vec<&'static str> {
    rule.kinds.iter().map(|kind| kind.name()).collect()
}

/// As many words as fit, then how many are left out.
fn fitted(words: &[&str], width: usize) -> String {
    let mut line = String::new();
    for (i, word) in words.iter().enumerate() {
        let rest = words.len() - i - 1;
        let (gap, more) = (usize::from(i > 0), if rest > 0 { 2 + rest.to_string().len() } else { 0 });
        if line.chars().count() + gap + word.chars().count() + more > width {
            let space = if i > 0 { " " } else { "" };
            return format!("{line}{space}+{}", words.len() - i);
        }
        if i > 0 {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

/// Tags with techniques first; what they begin with alike is left out.
fn short_tags(rule: &Rule) -> Vec<&str> {
    let is_technique =
        |tag: &str| tag.strip_prefix('T').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let mut tags: Vec<&str> = rule.tags.iter().map(|tag| tag.strip_prefix("mitre_").unwrap_or(tag)).collect();
    tags.sort_by_key(|tag| !is_technique(tag));
    tags
}

/// The heading and a line for each rule.
fn table(rules: &[&Rule], set: &RuleSet) -> (String, Vec<String>) {
    let rows: Vec<[String; 5]> = rules
        .iter()
        .map(|rule| {
            let kinds = events(rule);
            let kinds = if kinds.len() == EVENTS.len() { vec!["any"] } else { kinds };
            let name = escape::short(&rule.name, NAMES);
            let off = if rule.enabled { "" } else { " (off)" };
            [
                rule.priority.name().to_owned(),
                format!("{name}{off}"),
                fitted(&kinds, EVENT_NAMES),
                short_modes(rule, set),
                String::new(),
            ]
        })
        .collect();
    let head = ["PRIORITY", "RULE", "EVENTS", "IN", "TAGS"].map(str::to_owned);
    let width =
        |column: usize| rows.iter().chain([&head]).map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2), width(3)];
    let left = WIDTH.saturating_sub(widths.iter().sum::<usize>() + 2 * widths.len());
    let line = |row: &[String; 5], last: &str| {
        let [a, b, c, d] = widths;
        format!("{:<a$}  {:<b$}  {:<c$}  {:<d$}  {last}", row[0], row[1], row[2], row[3]).trim_end().to_owned()
    };
    let lines = rows.iter().zip(rules).map(|(row, rule)| {
        let tags: Vec<String> = short_tags(rule).into_iter().map(|tag| escape::line(tag).into_owned()).collect();
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        line(row, &fitted(&tags, left))
    });
    (line(&head, &head[4]), lines.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted() {
        for (width, expected) in [(20, "open openat creat"), (15, "open openat +1"), (10, "open +2"), (5, "+3")] {
            assert_eq!(fitted(&["open", "openat", "creat"], width), expected);
        }
    }

    #[test]
    fn the_table_of_the_pack_fits_the_screen_and_is_aligned() {
        let loaded = crate::rules::RuleTexts::pack().load(&crate::rules::RuleOptions::default());
        let rules: Vec<&Rule> = loaded.rules.rules().iter().collect();
        let (head, lines) = table(&rules, &loaded.rules);
        let long: Vec<&String> = lines.iter().filter(|line| line.chars().count() > WIDTH).collect();
        assert!(long.is_empty(), "{long:#?}");
        let column = head.find("EVENTS").unwrap();
        for (line, rule) in lines.iter().zip(&rules) {
            assert_eq!(line.chars().nth(column - 1), Some(' '), "{line}");
            assert!(line.starts_with(rule.priority.name()));
        }
    }
}
