//! `rules check`: is everything in order?

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::{load, show};
use crate::screen::{self, print_stdout};

pub fn check(files: &[PathBuf], json: bool) -> anyhow::Result<ExitCode> {
    let loaded = load(files)?;
    let errors = loaded.errors();
    let warnings = loaded.diagnostics.len() - errors;
    if json {
        print_stdout(&format!(
            "{}\n",
            json!({"rules": loaded.rules.len(), "errors": errors, "warnings": warnings, "diagnostics": loaded.diagnostics})
        ))?;
    } else {
        show(&loaded.diagnostics, true);
        let verdict = if errors == 0 { "in order" } else { "broken" };
        print_stdout(&format!(
            "{}: {verdict}: {} loaded, {}, {}\n",
            loaded.source,
            screen::count(loaded.rules.len(), "rule"),
            screen::count(errors, "error"),
            screen::count(warnings, "warning"),
        ))?;
    }
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
