//! `rules check`: is everything in order?

use std::process::ExitCode;

use serde_json::json;
use tw_report::escape;
use tw_rules::{Diagnostic, RuleSet, diagnostic};

use super::choice::{Configure, chosen_most};
use super::{Loaded, RuleOptions, show};
use crate::cli::{CheckFormat, RulesCheckArgs};
use crate::screen::{self, DOUBT, print_stdout};

/// Loads the rules and tells everything that is wrong or doubtful.
///
/// # Errors
/// If nobody reads standard output any more.
pub fn run(args: &RulesCheckArgs, configure: Configure<'_>) -> anyhow::Result<ExitCode> {
    let loaded = match chosen_most(&args.files, configure) {
        Ok((texts, mut options, mut unreadable)) => {
            options.compat = args.compat.unwrap_or(options.compat);
            let mut loaded = texts.load(&options);
            unreadable.append(&mut loaded.diagnostics);
            Loaded { diagnostics: unreadable, ..loaded }
        }
        // Editors and pipelines want this in the form that they asked for, too.
        Err(error) => unreadable(args, &error),
    };
    let errors = loaded.errors();
    let idle = errors == 0 && loaded.enabled() == 0;
    let warnings = loaded.warnings() + usize::from(idle);
    let passed = errors == 0 && !(args.strict && warnings > 0);
    match if args.json { CheckFormat::Json } else { args.format } {
        CheckFormat::Human => {
            show(&loaded.diagnostics, true);
            for doubt in &loaded.doubts {
                anstream::eprintln!("{DOUBT}warning:{DOUBT:#} {}\n", escape::line(doubt));
            }
            if idle {
                anstream::eprintln!(
                    "{DOUBT}warning:{DOUBT:#} no rule that is enabled: `run` refuses these files alone, since there is \
                     nothing to watch for\n"
                );
            }
            let verdict = match (errors, passed) {
                (0, true) => "in order",
                (0, false) => "not in order (--strict)",
                _ => "broken",
            };
            print_stdout(&format!(
                "{}: {verdict}: {} loaded, {}, {}\n",
                escape::line(&loaded.source),
                screen::count(loaded.rules.len(), "rule"),
                screen::count(errors, "error"),
                screen::count(warnings, "warning"),
            ))?;
        }
        CheckFormat::Json => {
            let files: Vec<_> = loaded.files.iter().map(|file| &file.name).collect();
            let report = json!({"ok": passed, "source": loaded.source, "files": files, "rules": loaded.rules.len(),
                "enabled": loaded.enabled(), "errors": errors, "warnings": warnings, "doubts": loaded.doubts,
                "diagnostics": loaded.diagnostics});
            print_stdout(&format!("{report}\n"))?;
        }
        CheckFormat::Sarif => print_stdout(&format!("{:#}\n", diagnostic::sarif(&loaded.diagnostics)))?,
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What there is to say when the rules could not even be read.
fn unreadable(args: &RulesCheckArgs, error: &anyhow::Error) -> Loaded {
    let files: Vec<String> = args.files.iter().map(|file| file.display().to_string()).collect();
    let source = if files.is_empty() { "the configured rules".to_owned() } else { files.join(", ") };
    let diagnostics = vec![Diagnostic::unreadable(source.clone(), format!("{error:#}"))];
    Loaded {
        rules: RuleSet::default(),
        diagnostics,
        source,
        files: Vec::new(),
        doubts: Vec::new(),
        options: RuleOptions::default(),
    }
}
