//! The highest rate of events without loss, by lane: real calls, faster and faster, until the ledger says that something
//! is lost, or the host makes no more. Calls and agent share the cores.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::agent::{Agent, scratch};
use crate::marks::{Mark, Marks};
use crate::paced::{self, Call};
use crate::stop;

/// How long each rate is held.
const HELD: Duration = Duration::from_secs(3);

/// How hard a lane is driven.
#[derive(Clone, Copy, Debug)]
enum Drive {
    /// So many calls a second.
    Calls(Call, u32),
    /// So many shells that fork without end.
    Shells(u32),
    /// So many of stress-ng's workers that do nothing but vfork.
    Forks(u32),
}

/// What came of it.
struct Outcome {
    drive: Drive,
    /// Events a second that the ledger has, seen or missed.
    events: f64,
    lost: u64,
    /// Counted only, or left out of a sample.
    folded: u64,
    /// Seconds of the agent's CPU for a million events.
    cpu: f64,
    /// The host did not make as many calls as were asked for.
    at_the_top: bool,
}

/// Measures and prints.
pub fn measure(agent: &Path) -> anyhow::Result<()> {
    let calls = [5, 10, 25, 50, 100, 200, 400, 800].map(|thousands| thousands * 1000);
    let lifecycle = [Drive::Shells(1), Drive::Shells(2), Drive::Forks(1), Drive::Forks(2), Drive::Forks(4)];
    let lanes = [
        ("lifecycle", "forks and ends", lifecycle.to_vec()),
        ("privileged", "kill", calls.map(|rate| Drive::Calls(Call::Kill, rate)).to_vec()),
        ("bulk", "open of 1,024 files", calls.map(|rate| Drive::Calls(Call::Open, rate)).to_vec()),
    ];
    let mut rows = Vec::new();
    for (lane, what, drives) in lanes {
        let mut best: Option<Outcome> = None;
        let mut last = None;
        for drive in drives {
            eprint!("\r{lane}: {drive:<50?}");
            let outcome = run(agent, drive)?;
            let over = outcome.lost > 0 || outcome.at_the_top;
            if outcome.lost == 0 && best.as_ref().is_none_or(|best| best.events < outcome.events) {
                best = Some(outcome);
            } else {
                last = Some(outcome);
            }
            if over {
                break;
            }
        }
        rows.push((lane, what, best, last));
    }
    eprintln!("\r{:<70}", "");
    println!(
        "| lane and work | most events a second without loss | the agent's CPU for a million of them | harder than that |"
    );
    println!("|---|---|---|---|");
    for (lane, what, best, last) in rows {
        let (events, cpu) = best.as_ref().map_or_else(
            || ("none".to_owned(), "–".to_owned()),
            |best| (format!("{:.0}{}", best.events, top(best)), format!("{:.2} s", best.cpu)),
        );
        let harder = last.map_or_else(
            || "the host does no more".to_owned(),
            |last| format!("{:.0} a second: {} lost, {} folded{}", last.events, last.lost, last.folded, top(&last)),
        );
        println!("| {lane}: {what} | {events} | {cpu} | {harder} |");
    }
    println!();
    Ok(())
}

fn top(outcome: &Outcome) -> String {
    match outcome.drive {
        Drive::Calls(_, rate) if outcome.at_the_top => format!(" (of {rate} that were asked for)"),
        Drive::Calls(..) => String::new(),
        Drive::Shells(shells) => format!(" ({shells} shells at once)"),
        Drive::Forks(workers) => format!(" ({workers} × `stress-ng --vfork`)"),
    }
}

fn run(agent: &Path, drive: Drive) -> anyhow::Result<Outcome> {
    let marks = Marks::new(0)?;
    let mut arguments = marks.arguments().to_vec();
    // The lane is measured, not its dam.
    arguments.extend(["--set", "agent.privileged_rate=1000000"]);
    let ledger = Arc::new(Mutex::new([0_u64; 4]));
    let heard = Arc::clone(&ledger);
    let ear = move |line: String| {
        if let Some(Mark::Minute(minute)) = Marks::read(&line) {
            let mut sum = heard.lock().unwrap_or_else(PoisonError::into_inner);
            sum.iter_mut().zip(minute).for_each(|(sum, more)| *sum += more);
        }
    };
    let agent = Agent::start_heard(agent, &arguments, Box::new(ear))?;
    stop::check()?;
    let (cpu, started) = (agent.cpu()?, Instant::now());
    let at_the_top = match drive {
        Drive::Calls(call, rate) => {
            let folder = scratch()?;
            let made = paced::run_child(call, f64::from(rate), HELD, &folder);
            std::fs::remove_dir_all(&folder)?;
            (made? as f64) < 0.9 * f64::from(rate) * HELD.as_secs_f64()
        }
        Drive::Shells(shells) => {
            crate::forks::rate(shells, HELD)?;
            false
        }
        Drive::Forks(workers) => {
            let seconds = format!("{}s", HELD.as_secs());
            let out = Command::new("stress-ng")
                .args(["--vfork", &workers.to_string(), "--timeout", &seconds])
                .stdin(Stdio::null())
                .output()
                .context("stress-ng is missing: scripts/setup bench installs it")?;
            anyhow::ensure!(out.status.success(), "stress-ng: {}", String::from_utf8_lossy(&out.stderr));
            false
        }
    };
    let seconds = started.elapsed().as_secs_f64();
    // What still waits in the rings was made by the load, too.
    stop::sleep(Duration::from_millis(200))?;
    let cpu = agent.cpu()? - cpu;
    agent.stop()?;
    let [seen, lost, folded, sampled] = *ledger.lock().unwrap_or_else(PoisonError::into_inner);
    anyhow::ensure!(seen > 0, "the ledger said nothing");
    let events = (seen + lost + folded + sampled) as f64 / seconds;
    Ok(Outcome { drive, events, lost, folded: folded + sampled, cpu: cpu / seen as f64 * 1e6, at_the_top })
}
