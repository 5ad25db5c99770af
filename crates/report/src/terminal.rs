//! Findings for people: a block that can be understood in one look.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Color, Style};
use tw_model::finding::{ProcessSummary, Shown};
use tw_model::{Finding, Priority};

use crate::escape;

/// Width that text is wrapped to.
const WIDTH: usize = 110;
/// Width of the column of labels.
const LABEL: usize = 11;

const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();

/// The block for a finding, with colours; whoever writes it takes them out where they are not wanted.
pub fn block(finding: &Finding) -> String {
    let mut out = String::new();
    let style = colour(finding.priority);
    let time = crate::clock_time(finding.time_ns, 3);
    let name = escape::line(finding.cause.name());
    let level = finding.priority.name().to_uppercase();
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{style}▌ {level}{style:#}  {BOLD}{name}{BOLD:#}  {DIM}{time}{DIM:#}");
    if let Some(container) = &finding.container {
        let name = if container.name.is_empty() { "(name unknown)" } else { &container.name };
        let image = if container.image.is_empty() { "image unknown" } else { &container.image };
        let (name, image) = (escape::short(name, 60), escape::short(image, 90));
        row(&mut out, style, "container", &format!("{name}  {DIM}{image}  {}{DIM:#}", escape::line(&container.id)));
        // Where nothing manages it, the image above is the workload.
        if !finding.workload.is_empty() && !finding.workload.starts_with("container/") {
            row(&mut out, style, "workload", &escape::line(&finding.workload));
        }
    } else if !finding.lineage.is_empty() {
        let unit = finding.workload.strip_prefix("unit/").map(|unit| format!("unit {}", escape::line(unit)));
        row(&mut out, style, "host", unit.as_deref().unwrap_or("not in a container"));
    }
    if let Some(process) = finding.lineage.first() {
        let who = format!(
            "{BOLD}{}{BOLD:#}  {DIM}{} pid {} user {}{DIM:#}",
            escape::short(&process.cmdline, 90),
            escape::short(&process.exepath, 60),
            process.key.pid,
            escape::short(&process.user, 32)
        );
        row(&mut out, style, "process", &who);
    }
    if finding.lineage.len() > 1 {
        row(&mut out, style, "started by", &lineage(&finding.lineage[1..]));
    }
    if let Some(login) = &finding.login {
        row(&mut out, style, "by", &escape::short(&login.words(), 100));
    }
    // Outputs are written as `sentence | key=value key=value`.
    let sentence = finding.message.split_once(" | ").map_or(&*finding.message, |(sentence, _)| sentence);
    wrapped(&mut out, style, "what", &escape::short(sentence, 300));
    wrapped(&mut out, style, "details", &escape::short(&details(finding), 600));
    wrapped(&mut out, style, "why", &escape::short(&one_line(&finding.why), 600));
    wrapped(&mut out, style, "do", &escape::short(&one_line(&finding.advice), 600));
    if let Some(coverage) = &finding.coverage {
        let dim = if coverage.missed.is_empty() { DIM } else { Style::new() };
        row(&mut out, style, "coverage", &format!("{dim}{}{dim:#}", coverage.words()));
    }
    let attack: Vec<&str> = finding.tags.iter().filter(|tag| is_attack(tag)).map(String::as_str).collect();
    if !attack.is_empty() {
        row(&mut out, style, "ATT&CK", &format!("{DIM}{}{DIM:#}", escape::line(&attack.join(" "))));
    }
    out
}

/// The fields that the rows above do not show already.
fn details(finding: &Finding) -> String {
    let above = |name: &str| {
        name.starts_with("container.")
            || matches!(name, "proc.name" | "proc.exepath" | "proc.pname" | "proc.cmdline" | "user.name" | "evt.time")
    };
    let shown = finding.fields.iter().filter(|(name, value)| !above(name) && *value != Shown::Null);
    let texts = shown.map(|(name, value)| match value {
        Shown::Text(text) => format!("{name}={text}"),
        Shown::Bool(value) => format!("{name}={value}"),
        Shown::Int(value) => format!("{name}={value}"),
        Shown::Uint(value) => format!("{name}={value}"),
        Shown::Null => String::new(),
    });
    texts.collect::<Vec<_>>().join("  ")
}

fn row(out: &mut String, style: Style, label: &str, text: &str) {
    let _ = writeln!(out, "{style}▌{style:#} {DIM}{label:<LABEL$}{DIM:#}{text}");
}

/// A row whose text, which must be free of escapes, goes on over several lines.
fn wrapped(out: &mut String, style: Style, label: &str, text: &str) {
    let mut label = label;
    let mut line = String::new();
    for word in text.split_whitespace() {
        // A word longer than the line is cut into pieces, so that nothing runs over the edge.
        let mut word = word;
        while let Some((end, _)) = word.char_indices().nth(WIDTH - LABEL) {
            if !line.is_empty() {
                row(out, style, std::mem::take(&mut label), &std::mem::take(&mut line));
            }
            row(out, style, std::mem::take(&mut label), &word[..end]);
            word = &word[end..];
        }
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH - LABEL {
            row(out, style, label, &line);
            label = "";
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        row(out, style, label, &line);
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn lineage(ancestors: &[ProcessSummary]) -> String {
    let names: Vec<String> = ancestors.iter().take(8).map(|process| escape::short(&process.name, 24)).collect();
    let more = if ancestors.len() > names.len() { " ← …" } else { "" };
    format!("{}{more}", names.join(" ← "))
}

fn is_attack(tag: &str) -> bool {
    tag.starts_with("mitre_")
        || (tag.starts_with('T') && tag[1..].starts_with(|c: char| c.is_ascii_digit() || c == 'A'))
}

/// The style of a priority.
pub fn colour(priority: Priority) -> Style {
    let (colour, bold) = match priority {
        Priority::Emergency | Priority::Alert | Priority::Critical => (AnsiColor::Red, true),
        Priority::Error => (AnsiColor::Red, false),
        Priority::Warning => (AnsiColor::Yellow, true),
        Priority::Notice => (AnsiColor::Cyan, false),
        Priority::Informational | Priority::Debug => (AnsiColor::Blue, false),
    };
    let style = Style::new().fg_color(Some(Color::Ansi(colour)));
    if bold { style.bold() } else { style }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tw_model::Cause;
    use tw_model::coverage::Coverage;

    #[test]
    fn a_block_tells_what_where_who_and_why_and_lets_no_escape_through() {
        let process =
            |name: &str| ProcessSummary { name: name.into(), cmdline: name.into(), ..ProcessSummary::default() };
        let finding = Finding {
            id: tw_model::FindingId::nil(),
            time_ns: 0,
            event_num: 1,
            cause: Cause::Rule { name: "Shell".into() },
            priority: Priority::Critical,
            source: "syscall".into(),
            message: "shell \u{1b}]0;owned\u{7} \u{202e}".into(),
            why: "A web server\n  should not.".into(),
            advice: "Look at it.".into(),
            tags: vec!["T1059".into(), "container".into(), "mitre_execution".into()],
            fields: Vec::new(),
            event: "execve".into(),
            lineage: vec![process("sh\u{1b}[1m"), process("nginx"), process("containerd-shim")],
            container: None,
            workload: String::new(),
            login: Some(tw_model::Login { user: "an\u{1b}na".into(), ..tw_model::Login::default() }),
            coverage: Some(Coverage::default()),
            fingerprint: 0,
        };
        let plain = anstream_free(&block(&finding));
        assert!(!plain.contains('\u{1b}') && !plain.contains('\u{202e}') && !plain.contains('\u{7}'), "{plain:?}");
        for part in [
            "CRITICAL",
            "Shell",
            "by         an\\x1bna",
            "nginx ← containerd-shim",
            "A web server should not.",
            "Look at it.",
            "T1059 mitre_execution",
            "coverage   100 % in the last minute",
        ] {
            assert!(plain.contains(part), "{part} is missing in:\n{plain}");
        }
    }

    /// The block without the sequences that [`Style`] writes.
    fn anstream_free(text: &str) -> String {
        let mut plain = text.to_owned();
        for code in ["0", "1", "2", "31", "33", "34", "36", "1m\u{1b}[31", "91", "93", "94", "96"] {
            plain = plain.replace(&format!("\u{1b}[{code}m"), "");
        }
        plain
    }
}
