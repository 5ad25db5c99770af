//! `rules test`: runs the tests that stand in rule files.

mod junit;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use anyhow::Context as _;
use serde_json::{Value, json};
use tw_report::escape;
use tw_rules::Diagnostic;
use tw_rules::suite::{Coverage, Failure, Suite, Test, coverage};

use super::choice::{Configure, chosen};
use super::texts::RuleText;
use super::{Loaded, RuleOptions, show};
use crate::cli::RulesTestArgs;
use crate::screen::{self, print_stdout};

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const DIM: Style = Style::new().dimmed();

/// A test that was run.
struct Ran {
    test: Test,
    failures: Vec<Failure>,
    took: Duration,
}

impl Ran {
    fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

/// A file with tests.
struct FileResult {
    name: String,
    ran: Vec<Ran>,
    /// Tests that could not be read, and what is wrong with each.
    broken: Vec<Vec<Diagnostic>>,
}

impl FileResult {
    fn failed(&self) -> usize {
        self.ran.iter().filter(|ran| !ran.passed()).count() + self.broken.len()
    }

    fn tests(&self) -> usize {
        self.ran.len() + self.broken.len()
    }
}

/// Everything that came out.
struct Results {
    source: String,
    rules: usize,
    /// Errors in the rules themselves.
    errors: usize,
    files: Vec<FileResult>,
    coverage: Option<Vec<Coverage>>,
}

impl Results {
    fn tests(&self) -> usize {
        self.files.iter().map(FileResult::tests).sum()
    }

    fn failed(&self) -> usize {
        self.files.iter().map(FileResult::failed).sum()
    }

    fn uncovered(&self) -> impl Iterator<Item = &Coverage> {
        self.coverage.iter().flatten().filter(|coverage| !coverage.is_complete())
    }

    fn passed(&self) -> bool {
        self.errors == 0 && self.tests() > 0 && self.failed() == 0 && self.uncovered().next().is_none()
    }
}

/// Runs the tests and says what came out.
///
/// # Errors
/// If the rules cannot be read, there is no test, the JUnit file cannot be written, or nobody reads standard output any
/// more.
pub fn run(args: &RulesTestArgs, configure: Configure<'_>) -> anyhow::Result<ExitCode> {
    let named: Vec<PathBuf> = args.rules.iter().chain(&args.files).cloned().collect();
    let with_tests = if args.files.is_empty() { None } else { Some(chosen(&args.files, configure)?.0) };
    // What comes by standard input can be read only once.
    let (texts, options) = match &with_tests {
        Some(own) if args.rules.is_empty() => (own.clone(), RuleOptions::default()),
        Some(own) => (chosen(&args.rules, configure)?.0.and(own), RuleOptions::default()),
        None => chosen(&args.rules, configure)?,
    };
    let loaded = texts.load(&options);
    // Findings of one's own rules are no fault of the pack's.
    let mixed = named.is_empty() && texts.has_more_than_pack();
    let with_tests = match with_tests {
        Some(own) => own.files,
        None if named.is_empty() => texts.pack_tests().chain(texts.files.iter().cloned()).collect(),
        None => texts.files,
    };
    let results = Results {
        source: loaded.source.clone(),
        rules: loaded.rules.len(),
        errors: loaded.errors(),
        files: run_all(&with_tests, &loaded, args.of.as_deref(), mixed),
        coverage: None,
    };
    let covered = || {
        let tests = results.files.iter().flat_map(|file| file.ran.iter().map(|ran| &ran.test));
        let mut found = coverage(&loaded.rules, tests);
        found.retain(|coverage| args.of.as_ref().is_none_or(|of| *of == coverage.rule));
        found
    };
    let coverage = args.coverage.then(covered);
    let results = Results { coverage, ..results };
    if let Some(path) = &args.junit {
        std::fs::write(path, junit::document(&results.files))
            .with_context(|| format!("cannot write the result to {}", path.display()))?;
    }
    if args.json {
        print_stdout(&format!("{}\n", as_json(&results)))?;
    } else {
        show(&loaded.diagnostics, false);
        write_report(&mut anstream::AutoStream::auto(io::stdout()), &results, &named, args.of.as_deref())?;
    }
    Ok(if results.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `mixed`: rules that the tests do not know are loaded as well, and may match.
fn run_all(texts: &[RuleText], loaded: &Loaded, of: Option<&str>, mixed: bool) -> Vec<FileResult> {
    let rules = &loaded.rules;
    let mut files = Vec::new();
    for file in texts {
        let (Suite { tests, unread }, mut broken) = Suite::parse(&file.name, &file.text);
        let tests = tests.into_iter().filter(|test| of.is_none_or(|of| test.hits.contains_key(of)));
        let ran: Vec<Ran> = tests
            .map(|mut test| {
                test.alone &= !mixed;
                let started = Instant::now();
                let failures = test.run(rules);
                Ran { test, failures, took: started.elapsed() }
            })
            .collect();
        // What the loader said is told as an error in the rules.
        broken.retain(|diagnostic| of.is_none() && !loaded.diagnostics.contains(diagnostic));
        if !ran.is_empty() || !broken.is_empty() {
            files.push(FileResult { name: file.name.clone(), ran, broken: by_test(&unread, broken) });
        }
    }
    files
}

/// Puts together what is wrong with one test; `unread` are the lines of such tests.
fn by_test(unread: &[usize], diagnostics: Vec<Diagnostic>) -> Vec<Vec<Diagnostic>> {
    let mut groups: BTreeMap<Option<&usize>, Vec<Diagnostic>> = BTreeMap::new();
    for diagnostic in diagnostics {
        let test = unread.iter().rfind(|line| **line <= diagnostic.line);
        groups.entry(test).or_default().push(diagnostic);
    }
    groups.into_values().collect()
}

fn as_json(results: &Results) -> Value {
    let failure = |test: &Test, failure: &Failure| {
        let mut value = serde_json::to_value(failure).unwrap_or_default();
        value["line"] = test.line_of(failure.event()).into();
        value["text"] = failure.to_string().into();
        value
    };
    let ran = |ran: &Ran| {
        let failures: Vec<_> = ran.failures.iter().map(|found| failure(&ran.test, found)).collect();
        json!({"name": ran.test.name, "of": ran.test.hits.keys().collect::<Vec<_>>(), "line": ran.test.line,
            "events": ran.test.events.len(), "passed": ran.passed(), "failures": failures})
    };
    let files: Vec<_> = results
        .files
        .iter()
        .map(|file| json!({"file": file.name, "tests": file.ran.iter().map(ran).collect::<Vec<_>>(), "broken": file.broken.concat()}))
        .collect();
    json!({"ok": results.passed(), "source": results.source, "rules": results.rules, "rule_errors": results.errors,
        "tests": results.tests(), "failed": results.failed(), "files": files, "coverage": results.coverage})
}

fn write_report(out: &mut dyn Write, results: &Results, named: &[PathBuf], of: Option<&str>) -> io::Result<()> {
    let width = results.files.iter().map(|file| file.name.chars().count()).max().unwrap_or_default();
    for file in &results.files {
        let (style, failed) = match file.failed() {
            0 => (GOOD, String::new()),
            failed => (BAD, format!(", {failed} failed")),
        };
        let passed = file.tests() - file.failed();
        let name = escape::line(&file.name);
        writeln!(out, "{name:width$}  {style}{passed} passed{failed}{style:#}")?;
    }
    for file in &results.files {
        for diagnostic in file.broken.iter().flatten() {
            writeln!(out, "\n{}", diagnostic.render(false).trim_end())?;
        }
        for ran in file.ran.iter().filter(|ran| !ran.passed()) {
            write_failed(out, ran, named)?;
        }
    }
    write_coverage(out, results)?;
    if results.tests() == 0 {
        let about = of.map(|of| format!(" about `{}`", escape::line(of))).unwrap_or_default();
        return writeln!(
            out,
            "{BAD}no test{about} found{BAD:#} in {}; `tidewatch rules test --help` shows how one is written",
            escape::line(&results.source)
        );
    }
    let (tests, failed) = (results.tests(), results.failed());
    let style = if failed == 0 { GOOD } else { BAD };
    let number = screen::count(tests, "test");
    let broken = match results.errors {
        0 => String::new(),
        errors => format!("; {BAD}{} in the rules{BAD:#}, shown above", screen::count(errors, "error")),
    };
    writeln!(
        out,
        "{number} of {}: {style}{} passed, {failed} failed{style:#}{broken}",
        screen::count(results.rules, "rule"),
        tests - failed
    )
}

fn write_failed(out: &mut dyn Write, ran: &Ran, named: &[PathBuf]) -> io::Result<()> {
    let test = &ran.test;
    writeln!(out, "\n{BAD}failed{BAD:#} {}:{}: {}", escape::line(&test.file), test.line, escape::line(&test.name))?;
    for failure in &ran.failures {
        writeln!(out, "  {}", escape::line(&failure.to_string()))?;
        if let (Some(event), Some(rule)) = (failure.event(), failure.rule()) {
            let kind = test.events.get(event - 1).map_or("", |event| event.kind.as_str());
            let place = format!("{}:{}", test.file, test.line_of(Some(event)));
            writeln!(out, "    {DIM}{} at {}{DIM:#}", escape::line(kind), escape::line(&place))?;
            let rules: String =
                named.iter().map(|path| format!("--rules {} ", quoted(&path.to_string_lossy()))).collect();
            let (rule, place) = (quoted(rule), quoted(&place));
            writeln!(out, "    why: tidewatch rules explain {rule} {}--event {place}", rules)?;
        }
    }
    Ok(())
}

fn write_coverage(out: &mut dyn Write, results: &Results) -> io::Result<()> {
    let Some(all) = &results.coverage else { return Ok(()) };
    let uncovered: Vec<&Coverage> = results.uncovered().collect();
    if !uncovered.is_empty() {
        writeln!(out, "\nrules without an event that they must find, or one that they must leave alone:")?;
    }
    for rule in &uncovered {
        let lacks = match (rule.positive, rule.negative) {
            (0, 0) => "neither",
            (0, _) => "nothing to find",
            _ => "nothing to leave alone",
        };
        let place = format!("{}:{}", rule.file, rule.line);
        writeln!(out, "  {:<46}  {lacks:<22}  {DIM}{}{DIM:#}", escape::short(&rule.rule, 46), escape::line(&place))?;
    }
    writeln!(out, "\ntested both ways: {} of {}", all.len() - uncovered.len(), screen::count(all.len(), "rule"))
}

/// A word as a shell takes it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,+@%=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", escape::line(word).replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quoted("rules/a.yaml:3"), "rules/a.yaml:3");
        assert_eq!(quoted("It's mine"), "'It'\\''s mine'");
        assert_eq!(quoted("a\nb"), "'a\\nb'");
    }
}
