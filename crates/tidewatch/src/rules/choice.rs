//! Which rules a verb is about: those that were named, or those of the configuration.

use std::path::PathBuf;

use anyhow::Context as _;
use tw_rules::Diagnostic;

use super::texts::{Places, RuleTexts, read, read_named, sentences};
use crate::config::Config;

/// Reads the configuration, if that is needed.
pub type Configure<'c> = &'c dyn Fn() -> anyhow::Result<Config>;

/// The rules in `files`, or those that the configuration names if there are none.
///
/// # Errors
/// If a file or the configuration cannot be read.
pub fn chosen(files: &[PathBuf], configure: Configure<'_>) -> anyhow::Result<RuleTexts> {
    match chosen_most(files, configure)? {
        (texts, unreadable) if unreadable.is_empty() => Ok(texts),
        (_, unreadable) if files.is_empty() => {
            anyhow::bail!("the rules that the configuration names cannot be read: {}", sentences(&unreadable))
        }
        (_, unreadable) => anyhow::bail!(sentences(&unreadable)),
    }
}

/// The same without the files that cannot be read, of which there is a diagnostic each.
///
/// # Errors
/// If the configuration or a folder cannot be read.
pub fn chosen_most(files: &[PathBuf], configure: Configure<'_>) -> anyhow::Result<(RuleTexts, Vec<Diagnostic>)> {
    if !files.is_empty() {
        return RuleTexts::read_most(&Places { files: files.to_vec(), dropins: None }, read_named);
    }
    let config =
        configure().context("no rule file is named, and the configuration that says which there are is not usable")?;
    let (mut texts, unreadable) = RuleTexts::read_most(&Places::of(&config), read)
        .context("the rules that the configuration names cannot be read")?;
    if !config.rules.files.is_empty() {
        texts.source += " (rules.files of the configuration)";
    }
    Ok((texts, unreadable))
}

/// The configuration for reading what was recorded, where it is of little weight: the defaults, if it is not usable.
pub fn for_reading(configure: Configure<'_>) -> Config {
    configure().unwrap_or_else(|error| {
        tracing::warn!("the configuration is not usable, so that the defaults are taken: {error:#}");
        Config::default()
    })
}
