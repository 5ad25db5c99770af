//! The `config` verbs: check, show, schema, default.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Config, ConfigErrors, DEFAULT, Diagnostic, Loaded, Origin, Sources, draft, key, show};
use crate::rules::{self, Places, Refusal, RuleOptions, RuleTexts};
use crate::screen::{DOUBT, count};

/// Arguments of `config`.
#[derive(Debug, Args)]
#[command(after_help = "\
Where values come from; what is further down wins:
  built-in defaults                           tidewatch config default
  the file                                    /etc/tidewatch/tidewatch.yaml, or what --config names
  drop-ins beside it, in the order of names   conf.d/*.yaml
  environment variables                       TIDEWATCH_SPOOL__MAX_MIB=64 for spool.max_mib
  options of the command line

Examples:
  tidewatch config check                      would the service take what is there now, rules and all?
  tidewatch config check new.yaml             is this file in order?
  tidewatch config show                       what differs from the defaults
  tidewatch config show --effective           every value, and where it comes from
  tidewatch config schema > schema.json       for editors that complete and check YAML
  tidewatch config default > tidewatch.yaml   a file to begin with: every key, explained")]
pub struct ConfigArgs {
    /// What to do with the configuration.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say what is wrong with the settings and with the rule files that they name, with file, line and column, and who
    /// else could change the files. Exit 0 if the service would start with it, else 1.
    Check {
        /// Files to check instead of what the service reads; each wins over those before it, as drop-ins do.
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Leave out the rule files: on another host than that which they lie on.
        #[arg(long)]
        no_rules: bool,
        /// Report as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the settings that differ from the default, as YAML. Passwords are left out.
    Show {
        /// Print every setting, with its origin.
        #[arg(long)]
        effective: bool,
        /// Print as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON schema, with which editors complete and check the file.
    Schema,
    /// Print the default file: every key with its default and meaning.
    Default,
    /// Print the table of keys in Markdown.
    #[command(hide = true)]
    Table,
}

/// Runs a `config` verb; `file` is what `--config` names.
///
/// # Errors
/// If standard output cannot be written.
pub fn run(args: &ConfigArgs, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let load = || Config::load(&Sources::system(file.map(Path::to_owned)));
    match &args.command {
        ConfigCommand::Check { files, no_rules, json } => {
            check(if files.is_empty() { load() } else { draft::load_files(files) }, !no_rules, *json)
        }
        ConfigCommand::Show { effective, json } => match load() {
            Ok(loaded) if *json => print(&format!("{:#}\n", show::json(&loaded, *effective))),
            Ok(loaded) => {
                let text = show::yaml(&loaded, *effective);
                print(if text.is_empty() { "# everything is at its default\n" } else { &text })
            }
            Err(errors) => {
                report(&errors.0);
                Ok(ExitCode::FAILURE)
            }
        },
        ConfigCommand::Schema => print(&format!("{:#}\n", key::schema())),
        ConfigCommand::Default => print(DEFAULT),
        ConfigCommand::Table => print(&show::table()),
    }
}

fn check(result: Result<Loaded, ConfigErrors>, with_rules: bool, json: bool) -> anyhow::Result<ExitCode> {
    let (files, diagnostics) = match &result {
        Ok(loaded) => (loaded.files.as_slice(), &loaded.warnings),
        Err(errors) => (&[][..], &errors.0),
    };
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
    let warnings = diagnostics.len() - errors;
    // Without settings nobody knows which rules are meant.
    let rules = result.as_ref().ok().filter(|_| with_rules).map(CheckedRules::of);
    let named = result.as_ref().ok().and_then(|loaded| loaded.origins.get("rules.files")).map(ToString::to_string);
    let named = named.unwrap_or_default();
    let ok = result.is_ok() && rules.as_ref().is_none_or(|rules| rules.refusal.is_none());
    if json {
        let shown: Vec<_> = diagnostics.iter().map(Diagnostic::json).collect();
        let files: Vec<_> = files.iter().map(|file| file.to_string_lossy()).collect();
        let report = json!({"ok": ok, "files": files, "errors": errors, "warnings": warnings,
            "diagnostics": shown, "rules": rules.as_ref().map(CheckedRules::json)});
        print(&format!("{report:#}\n"))?;
    } else {
        report(diagnostics);
        let names: Vec<String> = files.iter().map(|file| Origin::whole(file).to_string()).collect();
        let variables = result.iter().flat_map(|loaded| loaded.origins.values());
        let variables = variables.filter(|origin| matches!(origin, Origin::Variable(_))).count();
        let from = match (names.is_empty(), variables) {
            (true, 0) => "no file, defaults only".to_owned(),
            (true, _) => format!("no file, {} of the environment", count(variables, "variable")),
            (false, 0) => names.join(", "),
            (false, _) => format!("{}, {} of the environment", names.join(", "), count(variables, "variable")),
        };
        match result {
            Ok(_) => print(&format!("configuration in order: {from}; {}\n", count(warnings, "warning")))?,
            Err(_) => {
                print(&format!("configuration broken: {}, {}\n", count(errors, "error"), count(warnings, "warning")))?
            }
        };
        if let Some(rules) = &rules {
            print(&rules.text(&named))?;
        }
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The rules that a configuration names, as the service would find them.
struct CheckedRules {
    /// None if they cannot be read.
    loaded: Option<rules::Loaded>,
    /// Why the service would not take them.
    refusal: Option<Refusal>,
}

impl CheckedRules {
    fn of(found: &Loaded) -> Self {
        match RuleTexts::read(&Places::of(&found.config)) {
            Ok(texts) => {
                let loaded = texts.load(&RuleOptions::placed(found));
                let refusal = loaded.refusal(found.config.rules.skip_broken);
                Self { loaded: Some(loaded), refusal }
            }
            Err(error) => Self { loaded: None, refusal: Some(Refusal::new(format!("{error:#}"))) },
        }
    }

    fn json(&self) -> serde_json::Value {
        let diagnostics = self.loaded.iter().flat_map(|loaded| &loaded.diagnostics);
        let errors: Vec<_> = diagnostics.filter(|diagnostic| diagnostic.is_error()).collect();
        json!({
            "ok": self.refusal.is_none(),
            "refusal": self.refusal.as_ref().map(ToString::to_string),
            "files": self.loaded.as_ref().map(|loaded| &loaded.files),
            "enabled": self.loaded.as_ref().map(rules::Loaded::enabled),
            "errors": errors.len(),
            "warnings": self.loaded.as_ref().map(rules::Loaded::warnings),
            "doubts": self.loaded.as_ref().map(|loaded| &loaded.doubts),
            "diagnostics": errors,
        })
    }

    /// The verdict; what is wrong with rules is shown on standard error. Warnings are for `rules check`.
    /// `named` says where they were named.
    fn text(&self, named: &str) -> String {
        let Some(loaded) = &self.loaded else {
            let refusal = self.refusal.iter().map(Refusal::to_string).collect::<String>();
            return format!("rules broken: {refusal}; rules.files is set by {named}\n");
        };
        rules::show(&loaded.diagnostics, false);
        for doubt in &loaded.doubts {
            anstream::eprintln!("{DOUBT}warning:{DOUBT:#} {}\n", tw_report::escape::line(doubt));
        }
        let (errors, warnings) = (loaded.errors(), loaded.warnings());
        let numbers = format!("{}, {}", count(errors, "error"), count(warnings, "warning"));
        match &self.refusal {
            None => format!(
                "rules in order: {} from {}; {numbers}{}\n",
                count(loaded.enabled(), "rule"),
                loaded.source,
                if errors > 0 { " (left out: rules.skip_broken)" } else { "" }
            ),
            Some(refusal) if errors == 0 => format!("rules broken: {refusal}\n"),
            Some(_) => format!("rules broken: {}; {numbers}\n", loaded.source),
        }
    }
}

/// Shows diagnostics on standard error.
fn report(diagnostics: &[Diagnostic]) {
    // What NO_COLOR, CLICOLOR_FORCE and the terminal say.
    let color = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    let mut out = std::io::stderr().lock();
    for diagnostic in diagnostics {
        // Nobody is left to be told.
        let _ = writeln!(out, "{}\n", diagnostic.render(color).trim_end());
    }
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
