//! The texts of rules: which files there are, in which order they are loaded, and what is in them.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tw_model::status::RuleFile;
use tw_rules::Loader;

use super::load::{Loaded, digest};
use crate::config::Config;

include!(concat!(env!("OUT_DIR"), "/pack.rs"));

/// Largest rule file that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// Where rules lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Files, or folders of `*.yaml` and `*.yml` in the order of their names; none for the default pack.
    pub files: Vec<PathBuf>,
    /// A folder of more, loaded behind them. It may be missing or empty.
    pub dropins: Option<PathBuf>,
}

impl Places {
    /// Those that a configuration names.
    pub fn of(config: &Config) -> Self {
        Self { files: config.rules.files.clone(), dropins: None }
    }
}

/// A rule file as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleText {
    /// Path, or name within the default pack.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// All texts of a set of rules, in the order of loading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleTexts {
    /// Where they came from, for people.
    pub source: String,
    /// The files.
    pub files: Vec<RuleText>,
}

impl RuleTexts {
    /// The default pack.
    pub fn pack() -> Self {
        let files = PACK.iter().map(|(name, text)| RuleText { name: (*name).to_owned(), text: (*text).to_owned() });
        Self { source: "the default pack".to_owned(), files: files.collect() }
    }

    /// Reads what lies at `places`; the default pack if no file is named.
    ///
    /// # Errors
    /// If a file or folder cannot be read.
    pub fn read(places: &Places) -> anyhow::Result<Self> {
        if places.files.is_empty() {
            return Ok(Self::pack());
        }
        let named: Vec<_> = places.files.iter().map(|path| path.display().to_string()).collect();
        let mut texts = Self { source: named.join(", "), files: Vec::new() };
        for file in expand(&places.files)? {
            texts.files.push(RuleText { name: file.display().to_string(), text: read(&file)? });
        }
        Ok(texts)
    }

    /// Checks and compiles them.
    pub fn load(&self) -> Loaded {
        let mut loader = Loader::new();
        let mut files = Vec::new();
        for RuleText { name, text } in &self.files {
            files.push(RuleFile { name: name.clone(), digest: digest(text.as_bytes()) });
            loader = loader.add_file(name.as_str(), text.as_str());
        }
        let (rules, diagnostics) = loader.finish();
        Loaded { rules, diagnostics, source: self.source.clone(), files }
    }
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
