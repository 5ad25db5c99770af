//! The `config` verbs: check, show, schema, default.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Config, ConfigErrors, DEFAULT, Diagnostic, Loaded, Origin, Sources, draft, key, show};

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
  tidewatch config check                      would the service take what is there now?
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
    /// Say what is wrong, with file, line and column, and who else could change the files. Exit 0 if it can be used,
    /// else 1.
    Check {
        /// Files to check instead of what the service reads; each wins over those before it, as drop-ins do.
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
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
        ConfigCommand::Check { files, json } => {
            check(if files.is_empty() { load() } else { draft::load_files(files) }, *json)
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

fn check(result: Result<Loaded, ConfigErrors>, json: bool) -> anyhow::Result<ExitCode> {
    let (files, diagnostics) = match &result {
        Ok(loaded) => (loaded.files.as_slice(), &loaded.warnings),
        Err(errors) => (&[][..], &errors.0),
    };
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
    let warnings = diagnostics.len() - errors;
    if json {
        let shown: Vec<_> = diagnostics.iter().map(Diagnostic::json).collect();
        let files: Vec<_> = files.iter().map(|file| file.to_string_lossy()).collect();
        let report = json!({"ok": result.is_ok(), "files": files, "errors": errors, "warnings": warnings,
            "diagnostics": shown});
        print(&format!("{report:#}\n"))?;
    } else {
        report(diagnostics);
        let count = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
        let names: Vec<String> = files.iter().map(|file| Origin::whole(file).to_string()).collect();
        let from = if names.is_empty() { "no file, defaults only".to_owned() } else { names.join(", ") };
        match result {
            Ok(_) => print(&format!("configuration in order: {from}; {}\n", count(warnings, "warning")))?,
            Err(_) => {
                print(&format!("configuration broken: {}, {}\n", count(errors, "error"), count(warnings, "warning")))?
            }
        };
    }
    Ok(if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
