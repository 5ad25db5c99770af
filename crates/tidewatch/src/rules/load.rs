//! Loads rule files: what was named, or the default pack.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use tw_model::status::{RuleFile, RulesStatus};
use tw_rules::{Diagnostic, Loader, RuleSet};

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
