//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Sees what containers really do, and says what does not belong.
#[derive(Debug, Parser)]
#[command(
    name = "tidewatch",
    version,
    about,
    max_term_width = 100,
    after_help = "Examples:
  sudo tidewatch run                          watch this host, alerts on the terminal
  sudo tidewatch run --json | jq .rule        alerts as JSON lines, in Falco's format
  sudo tidewatch run --rules falco_rules.yaml with your own rules instead of ours
  tidewatch rules check my_rules.yaml         are my rules in order? (no root needed)
  tidewatch doctor                            what works on this host, and what would mend the rest"
)]
pub struct Cli {
    /// More of the program's own log on standard error (-vv for even more). TIDEWATCH_LOG overrides.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch this host and its containers, and print alerts as they happen.
    Run(RunArgs),
    /// Check and list rules; look up the fields that rules may use.
    Rules(RulesArgs),
    /// Say what works on this host and what would mend the rest.
    Doctor(DoctorArgs),
    /// Print a completion script for a shell.
    #[command(after_help = "Example: tidewatch completion bash > /etc/bash_completion.d/tidewatch")]
    Completion {
        /// The shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Rule file, or folder of rule files (*.yaml, *.yml, in the order of their names). Repeatable; replaces the
    /// default pack.
    #[arg(short, long, value_name = "FILE_OR_DIR")]
    pub rules: Vec<PathBuf>,
    /// Print each alert as one JSON line on standard output, in Falco's format, and nothing else there.
    #[arg(long)]
    pub json: bool,
    /// Append each alert as a JSON line to this file too.
    #[arg(long, value_name = "FILE")]
    pub alerts_file: Option<PathBuf>,
    /// Leave out alerts below this priority.
    #[arg(long, value_name = "PRIORITY", default_value = "debug", value_parser = parse_priority)]
    pub priority: tw_model::Priority,
    /// Which rules speak when several match one event.
    #[arg(long, value_enum, default_value_t = MatchingArg::All)]
    pub matching: MatchingArg,
    /// Start although some rules are broken; they are left out.
    #[arg(long)]
    pub skip_broken_rules: bool,
    /// Socket of Docker Engine.
    #[arg(long, value_name = "PATH", default_value = "/var/run/docker.sock")]
    pub docker_socket: PathBuf,
    /// Do not ask Docker for names and images.
    #[arg(long)]
    pub no_docker: bool,
    /// Privileged calls (mount, setns, ptrace, setuid …) that a container may make each second before the rest is
    /// counted instead of looked at.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub privileged_rate: u32,
    /// Stop after this many seconds.
    #[arg(long, value_name = "SECONDS")]
    pub duration: Option<u64>,
}

/// Which rules speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MatchingArg {
    /// Every rule that matches.
    All,
    /// Only the first, in the order of definition, as Falco does by default.
    First,
}

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

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Socket of Docker Engine.
    #[arg(long, value_name = "PATH", default_value = "/var/run/docker.sock")]
    pub docker_socket: PathBuf,
    /// Report as JSON.
    #[arg(long)]
    pub json: bool,
}

fn parse_priority(text: &str) -> Result<tw_model::Priority, String> {
    tw_model::Priority::parse(text).ok_or_else(|| {
        let names: Vec<&str> = tw_model::Priority::ALL.iter().map(|priority| priority.name()).collect();
        format!("not a priority; it is one of {}", names.join(", "))
    })
}

/// Writes the completion script for `shell` to standard output.
pub fn completion(shell: clap_complete::Shell) {
    let mut command = <Cli as clap::CommandFactory>::command();
    clap_complete::generate(shell, &mut command, "tidewatch", &mut std::io::stdout());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_in_order() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn priorities_are_read_in_any_case() {
        let cli = Cli::try_parse_from(["tidewatch", "run", "--priority", "warning"]).unwrap();
        let Command::Run(args) = cli.command else { panic!() };
        assert_eq!(args.priority, tw_model::Priority::Warning);
        assert!(Cli::try_parse_from(["tidewatch", "run", "--priority", "bad"]).is_err());
    }
}
