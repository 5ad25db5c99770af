//! Which rules a verb is about: those that were named, or those of the configuration.

use std::path::PathBuf;

use anyhow::Context as _;
use tw_rules::Diagnostic;

use super::load::Loaded;
use super::options::RuleOptions;
use super::texts::{Places, RuleTexts, read, read_named, sentences};
use crate::config::{self, Config};

/// Reads the configuration, if that is needed.
pub type Configure<'c> = &'c dyn Fn() -> anyhow::Result<config::Loaded>;

/// The rules in `files`, or those that the configuration names if there are none.
///
/// Those that are named are taken as they are, with the default options: the configuration is not read.
///
/// # Errors
/// If a file or the configuration cannot be read.
pub fn chosen(files: &[PathBuf], configure: Configure<'_>) -> anyhow::Result<(RuleTexts, RuleOptions)> {
    match chosen_most(files, configure)? {
        (texts, options, unreadable) if unreadable.is_empty() => Ok((texts, options)),
        (_, _, unreadable) if files.is_empty() => {
            anyhow::bail!("the rules that the configuration names cannot be read: {}", sentences(&unreadable))
        }
        (_, _, unreadable) => anyhow::bail!(sentences(&unreadable)),
    }
}

/// The same without the files that cannot be read, of which there is a diagnostic each.
///
/// # Errors
/// If the configuration or a folder cannot be read.
pub fn chosen_most(
    files: &[PathBuf],
    configure: Configure<'_>,
) -> anyhow::Result<(RuleTexts, RuleOptions, Vec<Diagnostic>)> {
    if !files.is_empty() {
        let (texts, unreadable) = RuleTexts::read_most(&Places { files: files.to_vec(), dropins: None }, read_named)?;
        return Ok((texts, RuleOptions::default(), unreadable));
    }
    let found =
        configure().context("no rule file is named, and the configuration that says which there are is not usable")?;
    let (mut texts, unreadable) = RuleTexts::read_most(&Places::of(&found.config), read)
        .context("the rules that the configuration names cannot be read")?;
    if !found.config.rules.files.is_empty() {
        texts.source += " (rules.files of the configuration)";
    }
    Ok((texts, RuleOptions::placed(&found), unreadable))
}

/// The same as [`chosen`], loaded.
///
/// # Errors
/// If a file or the configuration cannot be read.
pub fn loaded(files: &[PathBuf], configure: Configure<'_>) -> anyhow::Result<Loaded> {
    let (texts, options) = chosen(files, configure)?;
    Ok(texts.load(&options))
}

/// The configuration for reading what was recorded, where it is of little weight: the defaults, if it is not usable.
pub fn for_reading(configure: Configure<'_>) -> Config {
    configure().map(|loaded| loaded.config).unwrap_or_else(|error| {
        tracing::warn!("the configuration is not usable, so that the defaults are taken: {error:#}");
        Config::default()
    })
}
