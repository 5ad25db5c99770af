//! `rules check`: is everything in order?

use std::process::ExitCode;

use serde_json::json;
use tw_rules::{Diagnostic, diagnostic};

use super::choice::{Configure, chosen};
use super::{Loaded, show};
use crate::cli::{CheckFormat, RulesCheckArgs};
use crate::screen::{self, print_stdout};

/// Loads the rules and tells everything that is wrong or doubtful.
///
/// # Errors
/// If nobody reads standard output any more.
pub fn run(args: &RulesCheckArgs, configure: Configure<'_>) -> anyhow::Result<ExitCode> {
    let loaded = match chosen(&args.files, configure) {
        Ok(texts) => texts.load(),
        // Editors and pipelines want this in the form that they asked for, too.
        Err(error) => {
            let source = args.files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ");
            let source = if source.is_empty() { "the configured rules".to_owned() } else { source };
            let diagnostics = vec![Diagnostic::unreadable(source.clone(), format!("{error:#}"))];
            Loaded { rules: Default::default(), diagnostics, source, files: Vec::new() }
        }
    };
    let errors = loaded.errors();
    let warnings = loaded.diagnostics.len() - errors;
    let passed = errors == 0 && !(args.strict && warnings > 0);
    match if args.json { CheckFormat::Json } else { args.format } {
        CheckFormat::Human => {
            show(&loaded.diagnostics, true);
            let verdict = match (errors, passed) {
                (0, true) => "in order",
                (0, false) => "not in order (--strict)",
                _ => "broken",
            };
            print_stdout(&format!(
                "{}: {verdict}: {} loaded, {}, {}\n",
                loaded.source,
                screen::count(loaded.rules.len(), "rule"),
                screen::count(errors, "error"),
                screen::count(warnings, "warning"),
            ))?;
        }
        CheckFormat::Json => {
            let files: Vec<_> = loaded.files.iter().map(|file| &file.name).collect();
            print_stdout(&format!(
                "{}\n",
                json!({"ok": passed, "source": loaded.source, "files": files, "rules": loaded.rules.len(),
                    "errors": errors, "warnings": warnings, "diagnostics": loaded.diagnostics})
            ))?;
        }
        CheckFormat::Sarif => print_stdout(&format!("{:#}\n", diagnostic::sarif(&loaded.diagnostics)))?,
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
