//! Rules as loaded, with what there is to say about them.

use sha2::{Digest as _, Sha256};
use tw_model::status::{RuleFile, RulesOrigin, RulesStatus};
use tw_rules::{Diagnostic, RuleSet};

use super::options::RuleOptions;
use super::texts::{Places, RuleTexts};
use crate::config::Config;
use crate::screen;

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
    /// What is doubtful about the files themselves, and about the options, in sentences.
    pub doubts: Vec<String>,
    /// With what options they were loaded.
    pub options: RuleOptions,
}

/// The rules that the settings name, for a verb that runs them; what is wrong with them is shown.
///
/// # Errors
/// If a file cannot be read, or a rule is broken and that is not allowed.
pub fn in_force(config: &Config) -> anyhow::Result<Loaded> {
    let loaded = RuleTexts::read(&Places::of(config))?.load(&RuleOptions::of(config));
    show(&loaded.diagnostics, false);
    anyhow::ensure!(
        loaded.errors() == 0 || config.rules.skip_broken,
        "{} in the rules ({}): mend what is shown above, or use --skip-broken-rules",
        screen::count(loaded.errors(), "error"),
        loaded.source
    );
    Ok(loaded)
}

impl Loaded {
    /// Number of errors.
    pub fn errors(&self) -> usize {
        self.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count()
    }

    /// Number of warnings.
    pub fn warnings(&self) -> usize {
        self.diagnostics.len() - self.errors() + self.doubts.len()
    }

    /// Tells the log what is doubtful about the files.
    pub fn tell_doubts(&self) {
        self.doubts.iter().for_each(|doubt| tracing::warn!("{doubt}"));
    }

    /// Number of rules that would be tried.
    pub fn enabled(&self) -> usize {
        self.rules.rules().iter().filter(|rule| rule.enabled).count()
    }

    /// What is in force with these rules, as of now.
    pub fn status(&self) -> RulesStatus {
        let mut all = Sha256::new();
        self.files.iter().for_each(|file| all.update(file.digest.as_bytes()));
        // Without any, the digest is that of the files.
        self.options.texts().iter().for_each(|option| all.update(format!("\n{option}")));
        RulesStatus {
            origin: RulesOrigin::Configured,
            source: self.source.clone(),
            digest: hex(&all.finalize()),
            options: self.options.told(),
            files: self.files.clone(),
            enabled: self.enabled() as u64,
            broken: self.errors() as u64,
            warnings: self.warnings() as u64,
            loaded_ns: tw_sensor::clock::wall_ns(),
            last_error: None,
            copy_error: None,
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

/// Shows diagnostics on standard error, errors first.
pub fn show(diagnostics: &[Diagnostic], with_warnings: bool) {
    // What NO_COLOR, CLICOLOR_FORCE and the terminal say.
    let color = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    let (errors, warnings): (Vec<_>, Vec<_>) = diagnostics.iter().partition(|diagnostic| diagnostic.is_error());
    let shown = errors.into_iter().chain(warnings.into_iter().filter(|_| with_warnings));
    shown.for_each(|diagnostic| eprintln!("{}\n", diagnostic.render(color).trim_end()));
}
