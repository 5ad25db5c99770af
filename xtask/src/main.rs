//! Chores: `cargo xtask ci` runs what CI runs, `cargo xtask bench` measures.
#![forbid(unsafe_code)]

use std::process::{Command, ExitCode};

use anyhow::Context as _;

const HELP: &str = "usage: cargo xtask ci | bench
  ci     every check and test, as CI runs them (make test)
  bench  the cost of watching, on this host (make bench; needs root)
";

fn main() -> anyhow::Result<ExitCode> {
    let target = match std::env::args().nth(1).as_deref() {
        Some("ci") => "test",
        Some("bench") => "bench",
        _ => {
            eprint!("{HELP}");
            return Ok(ExitCode::from(2));
        }
    };
    let status = Command::new("make").arg(target).status().context("cannot run make: install it")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
