//! Compiles everything for 64-bit ARM.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, ensure};

const TARGET: &str = "aarch64-unknown-linux-gnu";
/// What the compilers of the C parts and the linker need, by a file that each package brings.
const NEEDED: [(&str, &str); 3] = [
    ("/usr/bin/aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"),
    ("/usr/lib/aarch64-linux-gnu/libelf.a", "libelf-dev:arm64"),
    ("/usr/lib/aarch64-linux-gnu/libz.a", "zlib1g-dev:arm64"),
];

/// Checks the program, its tests and the kernel half for [`TARGET`].
///
/// # Errors
/// If a tool is missing.
pub fn check() -> anyhow::Result<ExitCode> {
    let missing: Vec<&str> =
        NEEDED.iter().filter(|(file, _)| !Path::new(file).exists()).map(|(_, package)| *package).collect();
    ensure!(
        missing.is_empty(),
        "missing: dpkg --add-architecture arm64 && apt-get update && apt-get install {}",
        missing.join(" ")
    );
    let targets = Command::new("rustup").args(["target", "list", "--installed"]).output().context("no rustup")?;
    ensure!(
        String::from_utf8_lossy(&targets.stdout).lines().any(|line| line == TARGET),
        "the target is missing: rustup target add {TARGET}"
    );
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["check", "--package", "tidewatch", "--package", "tidewatch-sensor", "--tests", "--target", TARGET])
        .env("CC_aarch64_unknown_linux_gnu", "aarch64-linux-gnu-gcc")
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc")
        .env("LIBBPF_SYS_LIBRARY_PATH", "/usr/lib/aarch64-linux-gnu")
        .status()
        .context("cannot run cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
