//! `rules check`: is everything in order?

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;
use tw_report::escape;

use super::{load, show};
use crate::screen::{self, DOUBT, print_stdout};

pub fn check(files: &[PathBuf], json: bool) -> anyhow::Result<ExitCode> {
    let loaded = load(files)?;
    let errors = loaded.errors();
    let idle = errors == 0 && loaded.enabled() == 0;
    let warnings = loaded.warnings() + usize::from(idle);
    if json {
        print_stdout(&format!(
            "{}\n",
            json!({"rules": loaded.rules.len(), "enabled": loaded.enabled(), "doubts": loaded.doubts, "errors": errors, "warnings": warnings, "diagnostics": loaded.diagnostics})
        ))?;
    } else {
        show(&loaded.diagnostics, true);
        for doubt in &loaded.doubts {
            anstream::eprintln!("{DOUBT}warning:{DOUBT:#} {}\n", escape::line(doubt));
        }
        if idle {
            anstream::eprintln!(
                "{DOUBT}warning:{DOUBT:#} no rule that is enabled: `run` refuses these files alone, since there is nothing \
                 to watch for\n"
            );
        }
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
