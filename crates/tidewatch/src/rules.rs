//! Rules as files: loading them, and the `rules` verbs.

mod bench;
mod check;
mod choice;
mod explain;
mod fields;
mod find;
mod list;
mod load;
mod options;
mod refusal;
mod show;
mod suite;
mod texts;

use std::process::ExitCode;

pub use find::no_such_rule;
pub use load::{Loaded, in_force, show};
pub use options::{RuleOptions, addition};
pub use refusal::{Refusal, take};
pub use texts::{Places, RuleTexts, inside, is_of_pack};

use crate::cli::{RulesArgs, RulesCommand};
use choice::Configure;

/// The `rules` verbs. `configure` reads the configuration.
///
/// # Errors
/// If a file cannot be read, or nobody reads standard output any more.
pub fn run(args: &RulesArgs, configure: Configure<'_>) -> anyhow::Result<ExitCode> {
    match &args.command {
        RulesCommand::Check(args) => check::run(args, configure),
        RulesCommand::List(args) => list::run(args, configure),
        RulesCommand::Show(args) => show::run(args, configure),
        RulesCommand::Explain(args) => explain::run(args, configure),
        RulesCommand::Fields { search, json } => fields::fields(search.as_deref(), *json),
        RulesCommand::Bench(args) => bench::run(args, configure),
        RulesCommand::Test(args) => suite::run(args, configure),
    }
}
