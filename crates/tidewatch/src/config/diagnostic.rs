//! What there is to say about a configuration, for people and for machines.
//!
//! **Never:** a raw control character, or a password of the store.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde_json::{Value, json};
use tw_report::escape;

use super::secret::hide_password;

/// Stable codes of diagnostics.
pub mod code {
    /// A file cannot be read.
    pub const READ: &str = "CONFIG_READ";
    /// A file is not YAML.
    pub const YAML: &str = "CONFIG_YAML";
    /// There is no such key.
    pub const UNKNOWN_KEY: &str = "CONFIG_UNKNOWN_KEY";
    /// A key stands twice in one file.
    pub const DUPLICATE_KEY: &str = "CONFIG_DUPLICATE_KEY";
    /// There is no such environment variable.
    pub const UNKNOWN_VARIABLE: &str = "CONFIG_UNKNOWN_VARIABLE";
    /// A value is of the wrong type.
    pub const TYPE: &str = "CONFIG_TYPE";
    /// A value is of the right type, but cannot be.
    pub const VALUE: &str = "CONFIG_VALUE";
    /// Others can change or read a file.
    pub const PERMISSIONS: &str = "CONFIG_PERMISSIONS";
    /// A value is allowed, but hardly meant.
    pub const DOUBT: &str = "CONFIG_DOUBT";
    /// There is more to say than is said.
    pub const MORE: &str = "CONFIG_MORE";
}

/// How bad a diagnostic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration is not used.
    Error,
    /// The configuration is used all the same.
    Warning,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A file; line and column (in characters) from 1, or 0 for the file as a whole.
    File {
        /// The file.
        path: PathBuf,
        /// Line.
        line: usize,
        /// Column.
        column: usize,
    },
    /// An environment variable of this name.
    Variable(String),
    /// A command line option of this name.
    Option(String),
}

impl fmt::Display for Origin {
    /// `default`, `FILE:LINE`, the variable or the option.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: 0, .. } => f.write_str(&escape::line(&path.to_string_lossy())),
            Self::File { path, line, .. } => write!(f, "{}:{line}", escape::line(&path.to_string_lossy())),
            Self::Variable(name) | Self::Option(name) => f.write_str(&escape::short(name, 200)),
        }
    }
}

impl Origin {
    /// A file or folder as a whole.
    pub fn whole(path: &Path) -> Self {
        Self::File { path: path.to_owned(), line: 0, column: 0 }
    }

    /// For machines.
    pub fn json(&self) -> Value {
        match self {
            Self::Default => json!({"kind": "default"}),
            Self::File { path, line: 0, .. } => json!({"kind": "file", "file": path.to_string_lossy()}),
            Self::File { path, line, column } => {
                json!({"kind": "file", "file": path.to_string_lossy(), "line": line, "column": column})
            }
            Self::Variable(name) => json!({"kind": "variable", "name": name}),
            Self::Option(name) => json!({"kind": "option", "name": name}),
        }
    }
}

/// One thing there is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad.
    pub severity: Severity,
    /// Stable code, see [`code`].
    pub code: &'static str,
    /// The key that it is about.
    pub key: Option<String>,
    /// Where.
    pub origin: Origin,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The line of the source and the span in it.
    excerpt: Option<(String, Range<usize>)>,
}

impl Diagnostic {
    /// An error without a source line.
    pub fn error(code: &'static str, origin: Origin, message: impl Into<String>) -> Self {
        let message = hide_password(&message.into());
        Self { severity: Severity::Error, code, key: None, origin, message, help: None, excerpt: None }
    }

    /// The same with another code.
    #[must_use]
    pub fn code(self, code: &'static str) -> Self {
        Self { code, ..self }
    }

    /// The same as a warning.
    #[must_use]
    pub fn warning(self) -> Self {
        Self { severity: Severity::Warning, ..self }
    }

    /// Names the key.
    #[must_use]
    pub fn key(self, key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// Adds help, which quotes no values.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// Shows the first line of `span` of `source`.
    #[must_use]
    pub fn excerpt(self, source: &str, span: &Range<usize>) -> Self {
        Self { excerpt: Some(excerpt(source, span)), ..self }
    }

    /// Whether the configuration cannot be used for it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Renders like rustc: title, `file:line:column`, underlined source, help. ANSI colours if `color`.
    pub fn render(&self, color: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = match (&self.origin, &self.excerpt) {
            // With a line of source, the place stands there.
            (Origin::File { line: 1.., .. }, Some(_)) | (Origin::Default, _) => {
                escape::line(&self.message).into_owned()
            }
            _ => format!("{}: {}", self.origin, escape::line(&self.message)),
        };
        let mut snippet = None;
        if let Some((line, span)) = &self.excerpt {
            let mut source = Snippet::source(line.as_str()).annotation(AnnotationKind::Primary.span(span.clone()));
            if let Origin::File { path, line: 1.., .. } = &self.origin {
                source = source.path(escape::line(&path.to_string_lossy()).into_owned());
            }
            if let Origin::File { line, .. } = self.origin {
                source = source.line_start(line.max(1));
            }
            snippet = Some(source);
        }
        let mut group = level.primary_title(title).id(self.code).elements(snippet);
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(escape::line(help).into_owned()));
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }

    /// For machines.
    pub fn json(&self) -> Value {
        let severity = if self.is_error() { "error" } else { "warning" };
        json!({"severity": severity, "code": self.code, "key": self.key, "origin": self.origin.json(),
            "message": self.message, "help": self.help})
    }
}

impl fmt::Display for Diagnostic {
    /// One line: `file:line:column: message; help`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Default => {}
            Origin::File { line: 1.., column, .. } => write!(f, "{}:{column}: ", self.origin)?,
            origin => write!(f, "{origin}: ")?,
        }
        if !self.is_error() {
            f.write_str("warning: ")?;
        }
        f.write_str(&escape::line(&self.message))?;
        match &self.help {
            Some(help) => write!(f, "; {}", escape::line(help)),
            None => Ok(()),
        }
    }
}

/// Longest line of source that is shown, in characters.
const MAX_SHOWN: usize = 160;

/// The first line that the span touches, safe to show and not too long, and the span in it.
fn excerpt(source: &str, span: &Range<usize>) -> (String, Range<usize>) {
    let start = floor(source, span.start);
    let from = source[..start].rfind('\n').map_or(0, |at| at + 1);
    let to = source[start..].find('\n').map_or(source.len(), |at| start + at);
    let end = floor(source, span.end.clamp(start, to));
    // Each part by itself, so that the span stays on what it marks; then as a whole for what passes its borders.
    let line = source[from..to].trim_end_matches('\r');
    let hidden = hide_password(line);
    if hidden != line {
        let shown = safe(&hidden);
        let begin = (start - from).min(hidden.len());
        let begin = safe(&hidden[..floor(&hidden, begin)]).len();
        let marked = if begin < shown.len() { shown.len() } else { begin };
        return (shown, begin..marked);
    }
    let (before, marked) = (safe(&source[from..start]), safe(&source[start..end]));
    let cut = before.chars().count().saturating_sub(MAX_SHOWN / 2);
    let before: String = before.chars().skip(cut).collect();
    let marked: String = marked.chars().take(MAX_SHOWN).collect();
    let after: String = safe(&source[end..to]).chars().take(MAX_SHOWN.saturating_sub(marked.chars().count())).collect();
    let span = before.len()..before.len() + marked.len();
    (format!("{before}{marked}{after}"), span)
}

fn safe(text: &str) -> String {
    escape::line(&text.replace('\t', " ")).into_owned()
}

fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at.min(text.len()))
}

/// Line and column (in characters) of byte `at`, both from 1.
pub fn line_column(source: &str, at: usize) -> (usize, usize) {
    let before = &source[..floor(source, at)];
    let line = before.rfind('\n').map_or(0, |at| at + 1);
    (1 + before.matches('\n').count(), 1 + before[line..].chars().count())
}

/// Why a configuration cannot be used: one or more errors, and warnings among them.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the configuration cannot be used:{}", list(.0))]
pub struct ConfigErrors(pub Vec<Diagnostic>);

impl ConfigErrors {
    /// Whether nothing is wrong but that files may not be read.
    pub fn is_unread(&self) -> bool {
        self.0.iter().filter(|diagnostic| diagnostic.is_error()).all(|error| error.code == code::READ)
    }

    /// The first error in one line, how many more there are, and what shows them.
    pub fn short(&self) -> String {
        let mut errors = self.0.iter().filter(|diagnostic| diagnostic.is_error());
        let first = errors.next().map(ToString::to_string).unwrap_or_default();
        match errors.count() {
            0 => first,
            more => format!("{first} (and {more} more: tidewatch config check shows them)"),
        }
    }
}

fn list(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).map(|error| format!("\n  {error}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: usize, column: usize) -> Origin {
        Origin::File { path: "/etc/x.yaml".into(), line, column }
    }

    #[test]
    fn looks_like_rustc() {
        let source = "spool:\n  max_mb: 3\n";
        let error = Diagnostic::error(code::UNKNOWN_KEY, at(2, 3), "no key `max_mb`").help("did you mean `max_mib`?");
        let expected = "\
error[CONFIG_UNKNOWN_KEY]: no key `max_mb`
 --> /etc/x.yaml:2:3
  |
2 |   max_mb: 3
  |   ^^^^^^
  |
  = help: did you mean `max_mib`?";
        let error = error.excerpt(source, &(9..15));
        assert_eq!(error.render(false), expected);
        assert_eq!(error.to_string(), "/etc/x.yaml:2:3: no key `max_mb`; did you mean `max_mib`?");
        assert!(error.render(true).contains('\u{1b}'));
    }

    #[test]
    fn a_variable_is_shown_as_it_was_set() {
        let source = "TIDEWATCH_SPOOL__MAX_MIB=4";
        let origin = Origin::Variable("TIDEWATCH_SPOOL__MAX_MIB".into());
        let error = Diagnostic::error(code::VALUE, origin, "too small").excerpt(source, &(25..26));
        let expected = "\
error[CONFIG_VALUE]: TIDEWATCH_SPOOL__MAX_MIB: too small
  |
1 | TIDEWATCH_SPOOL__MAX_MIB=4
  |                          ^";
        assert_eq!(error.render(false), expected);
    }

    #[test]
    fn control_characters_and_passwords_are_not_shown() {
        let source = "url: postgres://u:secret@h \u{1b}[31m\n";
        for span in [0..3, 5..26, 18..24, 30..31, 900..901] {
            let error = Diagnostic::error(code::YAML, at(1, 1), "x postgres://u:secret@h\u{1b}").excerpt(source, &span);
            let shown = format!("{} {error} {} {error:?}", error.render(false), error.json());
            assert!(!shown.contains("secret") && !shown.contains('\u{1b}'), "{shown}");
        }
    }

    #[test]
    fn long_lines_are_cut_around_the_span() {
        let source = format!("{}MARK{}", "é".repeat(5000), "z".repeat(5000));
        let (line, span) = excerpt(&source, &(10_000..10_004));
        assert_eq!(&line[span], "MARK");
        assert!(line.chars().count() <= 2 * MAX_SHOWN);
    }
}
