//! Loads rule files: what was named, or the default pack.

use std::path::PathBuf;

use sha2::{Digest as _, Sha256};
use tw_model::status::{RuleFile, RulesStatus};
use tw_rules::{Diagnostic, RuleSet};

use super::texts::{Places, RuleTexts};

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

/// SHA-256, hexadecimal.
pub(super) fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Loads `paths` (files, or folders of `*.yaml` and `*.yml` in the order of their names), or the default pack.
///
/// # Errors
/// If a file or folder cannot be read. What is wrong inside a file is in [`Loaded::diagnostics`].
pub fn load(paths: &[PathBuf]) -> anyhow::Result<Loaded> {
    Ok(RuleTexts::read(&Places { files: paths.to_vec(), dropins: None })?.load())
}

/// Shows diagnostics on standard error, errors first.
pub fn show(diagnostics: &[Diagnostic], with_warnings: bool) {
    // What NO_COLOR, CLICOLOR_FORCE and the terminal say.
    let color = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    let (errors, warnings): (Vec<_>, Vec<_>) = diagnostics.iter().partition(|diagnostic| diagnostic.is_error());
    let shown = errors.into_iter().chain(warnings.into_iter().filter(|_| with_warnings));
    shown.for_each(|diagnostic| eprintln!("{}\n", diagnostic.render(color).trim_end()));
}
