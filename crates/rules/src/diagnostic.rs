//! What the loader has to say about rule files, for people and for machines.
//!
//! **Never:** a raw control character in a rendered diagnostic: rule files may be hostile.

use std::fmt::Write as _;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use serde::Serialize;

use crate::text::{Files, Place, ceil, floor};

pub mod code;
mod sarif;

pub use sarif::sarif;

/// How bad a diagnostic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The item was left out.
    Error,
    /// The item was loaded all the same.
    Warning,
}

/// A place in a file, both numbers from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column in characters.
    pub column: usize,
}

/// A stretch of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Extent {
    /// First character.
    pub start: Position,
    /// Character behind the last.
    pub end: Position,
}

/// One thing that the loader has to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad.
    pub severity: Severity,
    /// Stable code, see [`code`].
    pub code: &'static str,
    /// Name of the file.
    pub file: String,
    /// Bytes of the file that it is about.
    pub span: Range<usize>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The same as lines and columns from start to end.
    pub range: Extent,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Where the project's documents explain the code: path and anchor.
    pub url: String,
    /// The source lines around the span and the span in them.
    #[serde(skip)]
    excerpt: (String, Range<usize>),
    /// The excerpt does not begin where a line does.
    #[serde(skip)]
    is_cut: bool,
}

/// At most so many lines of source are shown.
const MAX_LINES: usize = 3;
/// Longer lines are cut in what is shown, in bytes.
const MAX_LINE: usize = 1000;
/// Longer messages are cut, in bytes: names in them come from the file.
const MAX_MESSAGE: usize = 500;

impl Diagnostic {
    /// Says that a file could not be read, for those who read files; `reason` is the whole sentence.
    pub fn unreadable(file: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        let mut files = Files::default();
        let id = files.add(file.into(), String::new());
        let place = Place { file: id, start: 0, end: 0 };
        Problem::error(code::FILE_READ, place, reason.to_string()).locate(&files)
    }

    /// Renders like rustc: title, `file:line:column`, underlined source, help. ANSI colours if `color`.
    pub fn render(&self, color: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let (source, span) = escape_source(&self.excerpt.0, &self.excerpt.1);
        let snippet = Snippet::source(source).line_start(self.line).annotation(AnnotationKind::Primary.span(span));
        let title = level.primary_title(escape(&self.message)).id(self.code);
        let path = escape(&self.file);
        let mut group = if self.code == code::FILE_READ {
            // There is nothing to show of it.
            title.element(Origin::path(path))
        } else if self.is_cut {
            // Columns cannot be counted in a part of a line.
            title.element(Origin::path(path).line(self.line).char_column(self.column)).element(snippet)
        } else {
            title.element(snippet.path(path))
        };
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(escape(help)));
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }

    /// Whether the item was left out for it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl std::fmt::Display for Diagnostic {
    /// One line: `file:line:column: severity[CODE]: message`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let (file, message) = (escape(&self.file), escape(&self.message));
        write!(f, "{file}:{}:{}: {severity}[{}]: {message}", self.line, self.column, self.code)
    }
}

/// A diagnostic before its place was looked up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Problem {
    /// How bad.
    pub severity: Severity,
    /// Stable code.
    pub code: &'static str,
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// True if a field or event type does not exist, which a rule may ask to be forgiven.
    pub unknown: bool,
}

impl Problem {
    /// An error.
    pub fn error(code: &'static str, place: Place, message: impl Into<String>) -> Self {
        let message = cut(message.into());
        Self { severity: Severity::Error, code, place, message, help: None, unknown: false }
    }

    /// A warning.
    pub fn warning(code: &'static str, place: Place, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, place, message) }
    }

    /// Adds help.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(cut(help.into())), ..self }
    }

    /// Adds "did you mean", if there is anything near.
    #[must_use]
    pub fn near(self, near: &[&str]) -> Self {
        match did_you_mean(near) {
            Some(help) => self.help(help),
            None => self,
        }
    }

    /// Looks up the place.
    pub fn locate(self, files: &Files) -> Diagnostic {
        let text = files.text(self.place.file);
        let start = floor(text, self.place.start);
        let end = ceil(text, self.place.end.max(start));
        let (line, column) = files.line_column(self.place.file, start);
        let (end_line, end_column) = files.line_column(self.place.file, end);
        let (excerpt, is_cut) = excerpt(text, start..end);
        let range = Extent { start: Position { line, column }, end: Position { line: end_line, column: end_column } };
        Diagnostic {
            severity: self.severity,
            code: self.code,
            file: files.name(self.place.file).to_owned(),
            span: start..end,
            line,
            column,
            range,
            message: self.message,
            help: self.help,
            url: code::Info::anchor(self.code),
            excerpt,
            is_cut,
        }
    }
}

/// "did you mean …?" for names that are near.
pub(crate) fn did_you_mean(near: &[&str]) -> Option<String> {
    let quoted: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
    (!quoted.is_empty()).then(|| format!("did you mean {}?", quoted.join(" or ")))
}

/// Cuts a message that is too long.
fn cut(mut message: String) -> String {
    if message.len() > MAX_MESSAGE {
        message.truncate(floor(&message, MAX_MESSAGE));
        message.push('…');
    }
    message
}

/// The lines that the span touches, not too many of them and not too much of each, and whether the first was cut.
fn excerpt(text: &str, span: Range<usize>) -> ((String, Range<usize>), bool) {
    let line = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
    let is_cut = span.start - line > MAX_LINE;
    let from = if is_cut { ceil(text, span.start - MAX_LINE / 4) } else { line };
    let mut to = from;
    for _ in 0..MAX_LINES {
        to = text[to..].find('\n').map_or(text.len(), |at| to + at + 1);
        if to >= span.end || to == text.len() {
            break;
        }
    }
    to = floor(text, to.min(span.start + MAX_LINE));
    let lines = text[from..to].trim_end_matches(['\n', '\r']);
    let start = (span.start - from).min(lines.len());
    ((lines.to_owned(), start..(span.end.min(to) - from).clamp(start, lines.len())), is_cut)
}

fn is_unsafe(c: char) -> bool {
    // Besides control characters: those that turn the direction of writing, which can hide text.
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        // A string's write cannot fail.
        _ => _ = write!(out, "\\u{{{:x}}}", u32::from(c)),
    }
}

/// Makes a text safe to show on one line.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) { push_escaped(&mut out, c) } else { out.push(c) }
    }
    out
}

/// Makes source lines safe to show; the span moves along.
fn escape_source(text: &str, span: &Range<usize>) -> (String, Range<usize>) {
    let mut out = String::with_capacity(text.len());
    let mut moved = None;
    let mut end = None;
    for (at, c) in text.char_indices() {
        if at >= span.start {
            moved.get_or_insert(out.len());
        }
        if at >= span.end {
            end.get_or_insert(out.len());
        }
        if is_unsafe(c) && c != '\n' && c != '\t' { push_escaped(&mut out, c) } else { out.push(c) }
    }
    let start = moved.unwrap_or(out.len());
    let end = end.unwrap_or(out.len()).max(start);
    (out, start..end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{FileId, place};

    fn diagnostic(text: &str, needle: &str) -> Diagnostic {
        let mut files = Files::default();
        files.add("rules.yaml".into(), text.into());
        let at = text.find(needle).unwrap();
        Problem::error(code::CONDITION, place(FileId(0), at..at + needle.len()), "no field `proc.nmae`")
            .near(&["proc.name"])
            .locate(&files)
    }

    #[test]
    fn looks_like_rustc() {
        let shown = diagnostic("- macro: x\n  condition: proc.nmae = y\n", "proc.nmae").render(false);
        let expected = "\
error[LOAD_ERR_COMPILE_CONDITION]: no field `proc.nmae`
 --> rules.yaml:2:14
  |
2 |   condition: proc.nmae = y
  |              ^^^^^^^^^
  |
  = help: did you mean `proc.name`?";
        assert_eq!(shown, expected);
    }

    #[test]
    fn of_a_file_that_cannot_be_read_only_the_name_is_shown() {
        let shown = Diagnostic::unreadable("a.yaml", "cannot read the rule file a.yaml: gone").render(false);
        assert_eq!(shown, "error[LOAD_ERR_FILE_READ]: cannot read the rule file a.yaml: gone\n--> a.yaml");
    }

    #[test]
    fn json_has_what_an_editor_needs() {
        let json = serde_json::to_value(diagnostic("- macro: é\n  condition: proc.nmae = y\n", "proc.nmae")).unwrap();
        let expected = serde_json::json!({
            "severity": "error", "code": "LOAD_ERR_COMPILE_CONDITION", "file": "rules.yaml",
            "span": {"start": 25, "end": 34}, "line": 2, "column": 14,
            "range": {"start": {"line": 2, "column": 14}, "end": {"line": 2, "column": 23}},
            "message": "no field `proc.nmae`", "help": "did you mean `proc.name`?",
            "url": "docs/rule-errors.md#load_err_compile_condition",
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn control_characters_are_escaped() {
        let shown = diagnostic("x: \u{1b}[31m \u{202e}proc.nmae\n", "proc.nmae");
        let text = shown.render(false);
        assert!(text.contains("\\u{1b}[31m \\u{202e}proc.nmae"), "{text}");
        assert!(!text.contains('\u{1b}'));
        assert_eq!(shown.column, 11);
    }

    #[test]
    fn line_ends_in_a_message_are_shown_as_one_writes_them() {
        let mut files = Files::default();
        files.add("f".into(), "x".into());
        let shown = Problem::error(code::VALIDATE, place(FileId(0), 0..1), "no `a\r\n\tb`").locate(&files);
        assert_eq!(shown.to_string(), r"f:1:1: error[LOAD_ERR_VALIDATE]: no `a\r\n\tb`");
    }

    #[test]
    fn long_spans_are_cut() {
        let text = "a\nb\nc\nd\ne\n";
        let mut files = Files::default();
        files.add("f".into(), text.into());
        let shown = Problem::warning(code::VALIDATE, place(FileId(0), 0..9), "all").locate(&files).render(false);
        assert!(shown.contains("c") && !shown.contains("4 |"), "{shown}");
    }

    #[test]
    fn long_lines_and_messages_are_cut() {
        let text = format!("{}é x {}", "é ".repeat(5000), "y".repeat(100_000));
        let mut files = Files::default();
        files.add("f".into(), text.clone());
        let at = text.find('x').unwrap();
        let problem = Problem::error(code::CONDITION, place(FileId(0), at..at + 1), "z".repeat(100_000));
        let diagnostic = problem.locate(&files);
        let shown = diagnostic.render(false);
        assert!(shown.len() < 3000, "{}", shown.len());
        assert!(shown.contains("--> f:1:10003") && shown.contains('^'), "{shown}");
        assert_eq!((diagnostic.column, diagnostic.range.end.column), (10_003, 10_004));
    }

    #[test]
    fn a_place_behind_the_end_is_shown() {
        let mut files = Files::default();
        files.add("f".into(), "é".into());
        for (start, end) in [(0, 0), (1, 1), (2, 2), (5, 9)] {
            let shown = Problem::error(code::YAML_PARSE, place(FileId(0), start..end), "x").locate(&files);
            assert!(shown.render(false).contains("f:1:"));
        }
        let shown = Problem::error(code::YAML_PARSE, place(FileId(9), 3..4), "x").locate(&files);
        assert_eq!(shown.to_string(), ":1:1: error[LOAD_ERR_YAML_PARSE]: x");
    }
}
