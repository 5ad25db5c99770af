//! Chores: `cargo xtask ci` runs what CI runs, `cargo xtask bench` measures, `cargo xtask kernel` tries another
//! kernel, `cargo xtask arm64` another architecture.
#![forbid(unsafe_code)]

mod arm64;
mod kernel;

use std::process::{Command, ExitCode};

use anyhow::Context as _;

const HELP: &str = "usage: cargo xtask ci | bench | kernel [PACKAGE] | arm64
  ci      every check and test, as CI runs them (make test)
  bench   the cost of watching, on this host (make bench; needs root)
  kernel  the sensor's tests and the program on another kernel, in QEMU: that of PACKAGE (a .deb file, or a name that
          apt knows), by default Debian's linux-image-cloud-amd64; some minutes
  arm64   checks that everything compiles for 64-bit ARM; says which packages of Debian that takes
";

fn main() -> anyhow::Result<ExitCode> {
    let target = match std::env::args().nth(1).as_deref() {
        Some("ci") => "test",
        Some("bench") => "bench",
        Some("arm64") => return arm64::check(),
        Some("kernel") => return kernel::run(std::env::args().nth(2).as_deref()),
        _ => {
            eprint!("{HELP}");
            return Ok(ExitCode::from(2));
        }
    };
    let status = Command::new("make").arg(target).status().context("cannot run make: install it")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
