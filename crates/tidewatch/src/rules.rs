//! Rules as files: loading them, and the `rules` verbs.

mod check;
mod fields;
mod list;
mod load;
mod refusal;
mod texts;

use std::process::ExitCode;

pub use load::{Loaded, load, show};
pub use refusal::{Refusal, take};
pub use texts::{Places, RuleTexts, inside};

use crate::cli::{RulesArgs, RulesCommand};

/// The `rules` verbs.
pub fn run(args: &RulesArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        RulesCommand::Check { files, json } => check::check(files, *json),
        RulesCommand::List { files, json } => list::list(files, *json),
        RulesCommand::Fields { search, json } => fields::fields(search.as_deref(), *json),
    }
}
