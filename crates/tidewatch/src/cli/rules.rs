//! The command line of `rules`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Arguments of `rules`.
#[derive(Debug, Args)]
pub struct RulesArgs {
    /// What to do with rules.
    #[command(subcommand)]
    pub command: RulesCommand,
}

/// What to do with rules.
#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// Load rule files and report what is wrong, with file, line and column. Exit 0 if all load, else 1.
    Check {
        /// Rule files or folders; the default pack if none.
        #[arg(value_name = "FILE_OR_DIR")]
        files: Vec<PathBuf>,
        /// Report as JSON.
        #[arg(long)]
        json: bool,
    },
    /// List rules with priority, tags and the events they look at.
    List {
        /// Rule files or folders; the default pack if none.
        #[arg(value_name = "FILE_OR_DIR")]
        files: Vec<PathBuf>,
        /// List as JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the fields that conditions and outputs may use, with their meaning and source.
    Fields {
        /// Only fields whose name or meaning contains this text.
        search: Option<String>,
        /// List as JSON.
        #[arg(long)]
        json: bool,
    },
}
