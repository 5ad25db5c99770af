//! The one binary: reads the command line, wires the stages together, and says how it went.
//!
//! **Never:** logic of a stage. `agent` is the corridor from the kernel to the alert; everything it calls lives in a
//! crate of its own.
#![forbid(unsafe_code)]

mod agent;
mod cli;
mod doctor;
mod outlet;
mod rules;
mod screen;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(&cli);
    let result = match &cli.command {
        Command::Run(args) => agent::run(args),
        Command::Rules(args) => rules::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Completion { shell } => {
            cli::completion(*shell);
            Ok(ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| {
        // `tidewatch rules list | head` is no failure.
        if error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
            return ExitCode::SUCCESS;
        }
        anstream::eprintln!("{}error:{:#} {error:#}", screen::ERROR, screen::ERROR);
        ExitCode::FAILURE
    })
}

/// Our own log goes to standard error, so that standard output holds alerts and nothing else.
fn start_log(cli: &Cli) {
    let level = match cli.verbose {
        0 => "warn,tidewatch=info,libbpf=error",
        1 => "info,libbpf=warn",
        2 => "debug",
        _ => "trace",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("TIDEWATCH_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        .init();
}
