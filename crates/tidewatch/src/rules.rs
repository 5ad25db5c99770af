//! Loads rule files, and the `rules` verbs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tw_model::field::FIELDS;
use tw_model::status::{RuleFile, RulesStatus};
use tw_rules::{Diagnostic, Loader, RuleSet};

use crate::cli::{RulesArgs, RulesCommand};
use crate::screen::{self, print_stdout};

include!(concat!(env!("OUT_DIR"), "/pack.rs"));

/// Largest rule file that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// Rules with what was found wrong while loading them.
pub struct Loaded {
    /// Rules that are in order.
    pub rules: RuleSet,
    /// Everything wrong or doubtful.
    pub diagnostics: Vec<Diagnostic>,
    /// Where they came from, for people.
    pub source: String,
    /// The files, with the digest of each.
    pub files: Vec<RuleFile>,
}

impl Loaded {
    /// Number of errors.
    pub fn errors(&self) -> usize {
        self.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count()
    }

    /// What is in force with these rules, as of now.
    pub fn status(&self) -> RulesStatus {
        let mut all = Sha256::new();
        self.files.iter().for_each(|file| all.update(file.digest.as_bytes()));
        RulesStatus {
            source: self.source.clone(),
            digest: hex(&all.finalize()),
            files: self.files.clone(),
            enabled: self.rules.rules().iter().filter(|rule| rule.enabled).count() as u64,
            broken: self.errors() as u64,
            warnings: (self.diagnostics.len() - self.errors()) as u64,
            loaded_ns: tw_sensor::clock::wall_ns(),
            last_error: None,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Loads `paths` (files, or folders of `*.yaml` and `*.yml` in the order of their names), or the default pack.
///
/// # Errors
/// If a file or folder cannot be read. What is wrong inside a file is in [`Loaded::diagnostics`].
pub fn load(paths: &[PathBuf]) -> anyhow::Result<Loaded> {
    let mut loader = Loader::new();
    let mut files = Vec::new();
    let mut note = |name: &str, text: &str| {
        files.push(RuleFile { name: name.to_owned(), digest: hex(&Sha256::digest(text.as_bytes())) });
    };
    let source = if paths.is_empty() {
        for (name, text) in PACK {
            note(name, text);
            loader = loader.add_file(*name, *text);
        }
        "the default pack".to_owned()
    } else {
        for file in expand(paths)? {
            let (name, text) = (file.display().to_string(), read(&file)?);
            note(&name, &text);
            loader = loader.add_file(name, text);
        }
        paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    };
    let (rules, diagnostics) = loader.finish();
    Ok(Loaded { rules, diagnostics, source, files })
}

fn expand(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut inside: Vec<PathBuf> = std::fs::read_dir(path)
            .with_context(|| format!("cannot read the folder {}", path.display()))?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|file| file.extension().is_some_and(|end| end == "yaml" || end == "yml"))
            .collect();
        anyhow::ensure!(!inside.is_empty(), "the folder {} has no *.yaml or *.yml file", path.display());
        inside.sort();
        files.extend(inside);
    }
    Ok(files)
}

fn read(file: &Path) -> anyhow::Result<String> {
    let shown = file.display();
    let size = std::fs::metadata(file).with_context(|| format!("cannot read the rule file {shown}"))?.len();
    anyhow::ensure!(size <= MAX_FILE, "the rule file {shown} has {size} bytes; {MAX_FILE} are allowed");
    let bytes = std::fs::read(file).with_context(|| format!("cannot read the rule file {shown}"))?;
    String::from_utf8(bytes).map_err(|error| {
        let line =
            1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        anyhow::anyhow!("{shown}:{line}: not UTF-8 text: save the file as UTF-8")
    })
}

/// Shows diagnostics on standard error, errors first.
pub fn show(diagnostics: &[Diagnostic], with_warnings: bool) {
    // What NO_COLOR, CLICOLOR_FORCE and the terminal say.
    let color = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    let (errors, warnings): (Vec<_>, Vec<_>) = diagnostics.iter().partition(|diagnostic| diagnostic.is_error());
    let shown = errors.into_iter().chain(warnings.into_iter().filter(|_| with_warnings));
    shown.for_each(|diagnostic| eprintln!("{}\n", diagnostic.render(color).trim_end()));
}

/// The `rules` verbs.
pub fn run(args: &RulesArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        RulesCommand::Check { files, json } => check(files, *json),
        RulesCommand::List { files, json } => list(files, *json),
        RulesCommand::Fields { search, json } => fields(search.as_deref(), *json),
    }
}

fn check(files: &[PathBuf], json: bool) -> anyhow::Result<ExitCode> {
    let loaded = load(files)?;
    let errors = loaded.errors();
    let warnings = loaded.diagnostics.len() - errors;
    if json {
        print_stdout(&format!(
            "{}\n",
            json!({"rules": loaded.rules.len(), "errors": errors, "warnings": warnings, "diagnostics": loaded.diagnostics})
        ))?;
    } else {
        show(&loaded.diagnostics, true);
        let verdict = if errors == 0 { "in order" } else { "broken" };
        print_stdout(&format!(
            "{}: {verdict}: {} loaded, {}, {}\n",
            loaded.source,
            screen::count(loaded.rules.len(), "rule"),
            screen::count(errors, "error"),
            screen::count(warnings, "warning"),
        ))?;
    }
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn list(files: &[PathBuf], json: bool) -> anyhow::Result<ExitCode> {
    let loaded = load(files)?;
    show(&loaded.diagnostics, false);
    let rules = loaded.rules.rules();
    if json {
        let rows: Vec<_> = rules
            .iter()
            .map(|rule| {
                let events: Vec<&str> = rule.kinds.iter().map(|kind| kind.name()).collect();
                json!({"name": rule.name, "priority": rule.priority.name(), "enabled": rule.enabled, "tags": rule.tags,
                    "desc": rule.desc, "advice": rule.advice, "events": events, "file": rule.file, "line": rule.line})
            })
            .collect();
        print_stdout(&format!("{}\n", serde_json::Value::from(rows)))?;
    } else {
        for rule in rules {
            let off = if rule.enabled { "" } else { "  (disabled)" };
            let attack: Vec<&str> = rule.tags.iter().filter(|tag| tag.starts_with('T')).map(String::as_str).collect();
            print_stdout(&format!("{:<14}{:<58} {}{off}\n", rule.priority.name(), rule.name, attack.join(" ")))?;
        }
        print_stdout(&format!("{} ({})\n", screen::count(rules.len(), "rule"), loaded.source))?;
    }
    Ok(if loaded.errors() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn fields(search: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
    let wanted = |field: &&tw_model::field::Field| {
        search.is_none_or(|text| field.name.contains(text) || field.doc.to_lowercase().contains(&text.to_lowercase()))
    };
    let found: Vec<_> = FIELDS.iter().filter(wanted).collect();
    if json {
        let rows: Vec<_> = found
            .iter()
            .map(|field| json!({"name": field.name, "type": field.ty.name(), "has_source": field.get.is_some(), "doc": field.doc}))
            .collect();
        print_stdout(&format!("{}\n", serde_json::Value::from(rows)))?;
    } else {
        for field in &found {
            let missing = if field.get.is_some() { "" } else { " [no source yet: always empty]" };
            print_stdout(&format!("{:<42} {:<14} {}{missing}\n", field.name, field.ty.name(), field.doc))?;
        }
        print_stdout(&format!("{}\n", screen::count(found.len(), "field")))?;
    }
    Ok(if found.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
