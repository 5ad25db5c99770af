//! `rules explain`: a condition as a tree, and why it holds for an event or does not.

use std::io::{self, Read as _, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use anyhow::Context as _;
use serde_json::json;
use tw_model::Event;
use tw_model::finding::Shown;
use tw_report::escape;
use tw_rules::Diagnostic;
use tw_rules::explain::{Explained, Explainer, Part, Verdict};
use tw_rules::suite::{PlacedEvent, read_events};

use super::choice::{Configure, chosen, for_reading};
use super::find::{Found, find};
use super::texts::RuleTexts;
use crate::cli::RulesExplainArgs;
use crate::replay;
use crate::screen::{self, print_stdout};

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();

/// Largest file with events, in bytes.
const MAX_FILE: u64 = 16 << 20;
/// Characters of a value that are shown.
const VALUE: usize = 120;

/// Explains a rule or macro.
///
/// # Errors
/// If rules or event cannot be read, nothing has the name, or nobody reads standard output any more.
pub fn run(args: &RulesExplainArgs, configure: Configure<'_>) -> anyhow::Result<ExitCode> {
    let (texts, options) = chosen(&args.from.rules, configure)?;
    let loaded = texts.load(&options);
    super::show(&loaded.diagnostics, false);
    let found = find(&loaded.rules, &args.name, &["rule", "macro"])?;
    let explainer = Explainer::new(&loaded.rules);
    let explain = |event: Option<&Event<'_>>| {
        found.iter().find_map(|found| match found {
            Found::Rule(rule) => Some((*found, explainer.rule(rule, event))),
            Found::Macro(known) => Some((*found, explainer.condition(&known.ast, &known.condition, event))),
            Found::List(_) => None,
        })
    };
    let (explained, about) = match (&args.event, &args.replay) {
        (None, None) => (explain(None), None),
        (None, Some(path)) => {
            let wanted = args.num.unwrap_or_default();
            let mut told = None;
            let mut look = |event: &Event<'_>| {
                if event.num == wanted {
                    told = Some((explain(Some(event)), Some(summary(event))));
                }
                // Behind it there is nothing to see; another file may begin anew.
                if told.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let seen = replay::events(std::slice::from_ref(path), &for_reading(configure), &mut look)?;
            let events = screen::count(usize::try_from(seen).unwrap_or(usize::MAX), "event");
            told.with_context(|| format!("none of {events} in {} has the number {wanted}", path.display()))?
        }
        (Some(path), _) => {
            let event = event_in(path, args.num, &texts)?;
            let told = event.sample.inspect(1, |raised| (explain(Some(raised)), Some(summary(raised))));
            told.map_err(|error| anyhow::anyhow!("the event cannot be made: {error}"))?
        }
    };
    let (found, explained) = explained.context("a list has no condition")?;
    if args.json {
        let matches = explained.verdict.map(|verdict| verdict == Verdict::True);
        let told = json!({"kind": found.kind(), "name": found.name(), "event": about, "matches": matches,
            "condition": explained});
        print_stdout(&format!("{told}\n"))?;
    } else {
        write(&mut anstream::AutoStream::auto(io::stdout()), found, &explained, about.as_deref())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What happened, in a few words.
fn summary(event: &Event<'_>) -> String {
    let process = String::from_utf8_lossy(&event.process.comm).into_owned();
    let place = match event.container {
        Some(container) => format!("in the container {}", container.name),
        None => "on the host".to_owned(),
    };
    format!("{} by {process} {place}", event.kind().name())
}

/// The event that is meant: in one of the rule files by name, in a file, or on standard input.
fn event_in(path: &Path, num: Option<u64>, texts: &RuleTexts) -> anyhow::Result<PlacedEvent> {
    let (name, line) = split_line(path, texts);
    let shown = escape::line(&name).into_owned();
    let text = match inside(texts, &name) {
        Some(text) => text,
        None => read(&name)?,
    };
    let (mut events, diagnostics) = read_events(&name, &text);
    // With a line, others may be broken; what is counted must be whole.
    let at = events.iter().rfind(|event| line.is_some_and(|line| event.line <= line)).map(|event| event.line);
    let in_the_way = |diagnostic: &&Diagnostic| {
        line.is_none_or(|line| diagnostic.line <= line && at.is_none_or(|at| at < diagnostic.line))
    };
    if let Some(broken) = diagnostics.iter().find(in_the_way) {
        super::show(std::slice::from_ref(broken), true);
        anyhow::bail!("the event in {shown} cannot be read: mend what is shown above");
    }
    let number = events.len();
    let index = match (line, num) {
        (Some(line), _) => {
            let before = events.iter().rposition(|event| event.line <= line);
            before.with_context(|| format!("there is no event at line {line} of {shown}"))?
        }
        (None, Some(num)) => usize::try_from(num.wrapping_sub(1)).unwrap_or(usize::MAX),
        (None, None) if number == 1 => 0,
        (None, None) => anyhow::bail!(
            "{shown} has {}: say which with --num 1 to {number}, or with {shown}:LINE",
            screen::count(number, "event")
        ),
    };
    anyhow::ensure!(index < number, "{shown} has {}: --num counts them from 1", screen::count(number, "event"));
    Ok(events.swap_remove(index))
}

/// The text of a rule file that is loaded, or of a test that is built in.
fn inside(texts: &RuleTexts, name: &str) -> Option<String> {
    let loaded = texts.files.iter().find(|file| file.name == name).map(|file| file.text.clone());
    loaded.or_else(|| texts.pack_tests().find(|file| file.name == name).map(|file| file.text))
}

/// `FILE:LINE` as both, unless there is a file of the whole name.
fn split_line(path: &Path, texts: &RuleTexts) -> (String, Option<usize>) {
    let whole = path.to_string_lossy().into_owned();
    if path.exists() || inside(texts, &whole).is_some() {
        return (whole, None);
    }
    let split = whole.rsplit_once(':').and_then(|(name, line)| Some((name.to_owned(), line.parse().ok()?)));
    match split {
        Some((name, line)) => (name, Some(line)),
        None => (whole, None),
    }
}

/// The text of a file with events; `-` is standard input.
///
/// # Errors
/// If it cannot be read or is too large.
pub fn read(name: &str) -> anyhow::Result<String> {
    let shown = escape::line(name);
    let mut bytes = Vec::new();
    if name == "-" {
        io::stdin().lock().take(MAX_FILE + 1).read_to_end(&mut bytes).context("cannot read standard input")?;
    } else {
        let file = std::fs::File::open(name).with_context(|| format!("cannot read the event file {shown}"))?;
        file.take(MAX_FILE + 1)
            .read_to_end(&mut bytes)
            .with_context(|| format!("cannot read the event file {shown}"))?;
    }
    anyhow::ensure!(bytes.len() as u64 <= MAX_FILE, "{shown} is larger than the {MAX_FILE} bytes that are allowed");
    String::from_utf8(bytes).map_err(|_| anyhow::anyhow!("{shown} is not UTF-8 text: save the file as UTF-8"))
}

fn write(out: &mut dyn Write, found: Found<'_>, explained: &Explained, about: Option<&str>) -> io::Result<()> {
    let place = match found {
        Found::Rule(rule) => format!("{}:{}", rule.file, rule.line),
        Found::Macro(known) => format!("{}:{}", known.file, known.line),
        Found::List(list) => format!("{}:{}", list.file, list.line),
    };
    let (name, place) = (escape::line(found.name()), escape::line(&place));
    writeln!(out, "{BOLD}{name}{BOLD:#}  {DIM}{}, {place}{DIM:#}", found.kind())?;
    if let Some(about) = about {
        let (style, word) = match explained.verdict {
            Some(Verdict::True) => (GOOD, "matches"),
            _ => (BAD, "does not match"),
        };
        writeln!(out, "{style}{word}{style:#} {}", escape::line(about))?;
        if let Some(part) = decisive(explained) {
            writeln!(out, "{DIM}it comes down to:{DIM:#} {}{}", escape::line(&part.text), values(part))?;
        }
    }
    writeln!(out)?;
    tree(out, explained, 0)
}

/// The comparison that settles the matter, if it is a single one.
fn decisive(explained: &Explained) -> Option<&Explained> {
    let settles = match (explained.part, explained.verdict?) {
        (Part::And, Verdict::False) => Verdict::False,
        (Part::Or, Verdict::True) => Verdict::True,
        (Part::Check, _) => return Some(explained),
        (Part::Not | Part::Macro, _) => return explained.children.first().and_then(decisive),
        _ => return None,
    };
    explained.children.iter().find(|child| child.verdict == Some(settles)).and_then(decisive)
}

/// Writes a node and what is below it.
fn tree(out: &mut dyn Write, node: &Explained, depth: usize) -> io::Result<()> {
    let (style, mark) = match node.verdict {
        None => (Style::new(), ""),
        Some(Verdict::True) => (GOOD, "✓ "),
        Some(Verdict::False) => (BAD, "✗ "),
        Some(Verdict::NotLookedAt) => (DIM, "· "),
    };
    write!(out, "{:1$}{style}{mark}{style:#}", "", 2 * depth)?;
    // The names of macros and `not` stand in the line of what they are about.
    let mut node = node;
    let mut notes: Vec<&str> = Vec::new();
    while let (Part::Macro | Part::Not, [child]) = (node.part, node.children.as_slice()) {
        match node.part {
            Part::Not => write!(out, "not ")?,
            _ => write!(out, "{BOLD}{}{BOLD:#} = ", escape::line(&node.text))?,
        }
        notes.extend(node.note.as_deref());
        node = child;
    }
    notes.extend(node.note.as_deref());
    let number = node.children.len();
    match node.part {
        Part::And => write!(out, "all of {number}")?,
        Part::Or => write!(out, "one of {number}")?,
        _ => write!(out, "{}", escape::line(&node.text))?,
    }
    let skipped = node.verdict == Some(Verdict::NotLookedAt);
    notes.extend(skipped.then_some("not looked at"));
    let notes: String = notes.iter().map(|note| format!("  {DIM}({}){DIM:#}", escape::line(note))).collect();
    writeln!(out, "{}{notes}", values(node))?;
    if skipped {
        return Ok(());
    }
    node.children.iter().try_for_each(|child| tree(out, child, depth + 1))
}

/// What the sides of a comparison are.
fn values(node: &Explained) -> String {
    let mut text = String::new();
    for (i, side) in node.values.iter().enumerate() {
        let value = match &side.value {
            Shown::Null => "null".to_owned(),
            Shown::Bool(value) => value.to_string(),
            Shown::Int(value) => value.to_string(),
            Shown::Uint(value) => value.to_string(),
            Shown::Text(value) => format!("\"{}\"", escape::short(value, VALUE)),
        };
        match i {
            0 => text.push_str(&format!("  {DIM}←{DIM:#} {value}")),
            _ => text.push_str(&format!("{DIM}, {}:{DIM:#} {value}", escape::line(&side.name))),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::texts::RuleText;

    fn texts() -> RuleTexts {
        let rules =
            "- test: t\n  of: R\n  events:\n    - type: chdir\n      path: /a\n    - type: chroot\n  hits: []\n";
        let broken = "- {test: t, events: [{type: chrot}]}\n- {test: t, events: [{type: mount}]}\n";
        let file = |name: &str, text: &str| RuleText { name: name.into(), text: text.into() };
        RuleTexts { files: vec![file("r.yaml", rules), file("b.yaml", broken)], ..RuleTexts::default() }
    }

    fn kind(path: &str, num: Option<u64>) -> Result<String, String> {
        let event = event_in(Path::new(path), num, &texts());
        event.map(|event| event.sample.kind).map_err(|error| error.to_string())
    }

    #[test]
    fn an_event_is_named_by_its_number_or_line() {
        assert_eq!(kind("r.yaml", Some(2)).unwrap(), "chroot");
        assert_eq!(kind("r.yaml:5", None).unwrap(), "chdir");
        assert_eq!(kind("r.yaml:6", None).unwrap(), "chroot");
        assert_eq!(kind("b.yaml:2", None).unwrap(), "mount");
        for (path, num, told) in [
            ("r.yaml", None, "r.yaml has 2 events: say which with --num 1 to 2, or with r.yaml:LINE"),
            ("r.yaml", Some(0), "r.yaml has 2 events: --num counts them from 1"),
            ("r.yaml", Some(3), "r.yaml has 2 events: --num counts them from 1"),
            ("r.yaml:2", None, "there is no event at line 2 of r.yaml"),
            ("b.yaml:1", None, "the event in b.yaml cannot be read: mend what is shown above"),
            ("b.yaml", Some(1), "the event in b.yaml cannot be read: mend what is shown above"),
            ("absent.yaml:2", None, "cannot read the event file absent.yaml"),
        ] {
            assert_eq!(kind(path, num).unwrap_err(), told);
        }
    }
}
