//! From the start of the agent to its first alert, while something to find happens all the time.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::agent::{command, scratch};
use crate::cost::median;
use crate::marks::{Mark, Marks};
use crate::stop;

const RUNS: usize = 7;

/// Measures and prints.
pub fn measure(agent: &Path) -> anyhow::Result<()> {
    let marks = Marks::new(1)?;
    let done = AtomicBool::new(false);
    let times = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                drop(std::fs::File::open(marks.file(0)));
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let times = (0..RUNS).map(|_| once(agent, &marks)).collect::<anyhow::Result<Vec<f64>>>();
        done.store(true, Ordering::Relaxed);
        times
    })?;
    println!("| figure | value |");
    println!("|---|---|");
    let most = times.iter().copied().fold(0.0, f64::max);
    println!(
        "| start to the first alert on standard output, median of {RUNS}, most | {:.2}, {most:.2} s |\n",
        median(times)
    );
    Ok(())
}

fn once(agent: &Path, marks: &Marks) -> anyhow::Result<f64> {
    stop::check()?;
    let folder = scratch()?;
    let mut command = command(agent, &folder, &marks.arguments());
    let begun = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("cannot start the agent")?;
    let lines = child.stdout.take().map(|stdout| BufReader::new(stdout).lines()).context("a pipe")?;
    let mut lines = lines.map_while(Result::ok);
    let found = lines.any(|line| matches!(Marks::read(&line), Some(Mark::Opened(_))));
    let took = begun.elapsed().as_secs_f64();
    // It ends when nobody reads it any more, but sooner like this.
    let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT);
    lines.for_each(drop);
    child.wait()?;
    std::fs::remove_dir_all(&folder)?;
    anyhow::ensure!(found, "the agent found nothing: run it by hand");
    Ok(took)
}
