//! Calls at a rate: what the host makes of it, in a process of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// Files that are opened one after the other: so many that no two opens of one are close to each other.
const FILES: usize = 1024;
/// Threads that make the calls.
const THREADS: usize = 2;

/// What is called.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Call {
    /// Opens of existing files, and closes, which are not watched.
    Open,
    /// Signals to oneself that do nothing.
    Kill,
}

/// Makes calls of a kind at this rate for so long, in this process; returns how many there were.
pub fn run_here(call: Call, rate: f64, duration: Duration, folder: &Path) -> anyhow::Result<u64> {
    let files: Vec<PathBuf> = (0..FILES).map(|number| folder.join(format!("bench{number}"))).collect();
    if matches!(call, Call::Open) {
        files.iter().try_for_each(|file| std::fs::write(file, ""))?;
    }
    let step = |number: u64| -> anyhow::Result<()> {
        match call {
            Call::Open => drop(std::fs::File::open(&files[number as usize % FILES])?),
            Call::Kill => rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::CONT)?,
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || worker(rate / THREADS as f64, duration, |n| step(n + 512 * thread as u64)))
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().map_err(|_| anyhow::anyhow!("a load panicked"))?).sum()
    })
}

fn worker(rate: f64, duration: Duration, step: impl Fn(u64) -> anyhow::Result<()>) -> anyhow::Result<u64> {
    let (started, mut made) = (Instant::now(), 0);
    loop {
        let passed = started.elapsed();
        if passed >= duration {
            return Ok(made);
        }
        // Not more than a few before the clock is looked at again: the host may not keep up.
        let due = ((passed.as_secs_f64() * rate) as u64).min(made + 64);
        if made >= due {
            std::thread::sleep(Duration::from_micros(500));
        }
        while made < due {
            step(made)?;
            made += 1;
        }
    }
}

/// The same in a child process.
pub fn run_child(call: Call, rate: f64, duration: Duration, folder: &Path) -> anyhow::Result<u64> {
    let name = match call {
        Call::Open => "open",
        Call::Kill => "kill",
    };
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["paced", name, &rate.to_string(), &duration.as_secs_f64().to_string()]).arg(folder);
    let out = command.output()?;
    anyhow::ensure!(out.status.success(), "calls of {name}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout)?.trim().parse().context("the number of calls")
}
