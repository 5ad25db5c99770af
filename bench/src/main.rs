//! Measures what watching costs on this host. Everything is a ratio within one run, against the same work unwatched
//! and against empty programs on the same hooks: absolute times of shared hosts mean little.
//!
//! `make bench` runs it; docs/figures.md holds results.

mod endure;
mod forks;
mod load;
mod made_up;
mod pipeline;
mod watch;

use std::process::ExitCode;

use load::{LOADS, Load};
use watch::{Mode, Usage};

/// Rounds; in each, every load runs in every mode, so that a drift of the host hits all alike.
const ROUNDS: usize = 5;

const HELP: &str =
    "usage: tidewatch-bench [watched [NAME] | rules [NAME] | forks [SECONDS] | endure [RATE [SECONDS [KILLS]]]]
  without arguments: what watching costs on this host
  watched: only what the watched pay, of the works with NAME in their name
  rules:  how many events enrichment and rules take on one core, with rule sets of several sizes (or those with NAME
          in their name); also Falco's rule files if TIDEWATCH_FALCO_RULES names them, joined by colons
          (stable:incubating:sandbox)
  forks:  the highest rate of forks that this host reaches, and how many events of it are lost, for SECONDS (10) each
          with one, two and four at once
  endure: findings at RATE a second (1000) for SECONDS (600) through the whole service, while agent or manager is
          killed KILLS times (0); fails if a finding that was shown is not stored exactly once";

fn main() -> anyhow::Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [verb, name] = args.as_slice()
        && verb == "load"
    {
        // A child of ours: does one load and prints how long it took.
        println!("{}", load::run_here(name)?);
        return Ok(ExitCode::SUCCESS);
    }
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("the benchmark attaches eBPF programs: run it as root (sudo target/release/tidewatch-bench)");
        return Ok(ExitCode::from(3));
    }
    if args.first().is_some_and(|verb| verb == "rules") {
        pipeline::measure(args.get(1).map_or("", String::as_str))?;
        return Ok(ExitCode::SUCCESS);
    }
    let agent = watch::find_agent()?;
    if args.first().is_some_and(|verb| verb == "forks") {
        let seconds = args.get(1).map_or(Ok(10), |text| text.parse())?;
        forks::measure(&agent, std::time::Duration::from_secs(seconds))?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.first().is_some_and(|verb| verb == "endure") {
        let number = |at: usize, otherwise: u64| args.get(at).map_or(Ok(otherwise), |text| text.parse());
        let (rate, seconds, kills) = (number(1, 1000)?, number(2, 600)?, number(3, 0)?);
        endure::run(&agent, endure::Plan { rate, duration: std::time::Duration::from_secs(seconds), kills })?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.first().is_some_and(|verb| verb == "watched") {
        let loads = matching(args.get(1).map_or("", String::as_str));
        print_loads(&loads, &measure(&agent, &loads)?.0);
        return Ok(ExitCode::SUCCESS);
    }
    let loads = matching("");
    let (times, usage) = measure(&agent, &loads)?;
    print_loads(&loads, &times);
    print_usage(&usage);
    pipeline::measure("")?;
    Ok(ExitCode::SUCCESS)
}

/// `times[load][mode][round]`, in nanoseconds per step.
type Times = Vec<[Vec<f64>; 3]>;

/// Loads with this in their name.
fn matching(name: &str) -> Vec<&'static Load> {
    LOADS.iter().filter(|load| load.name.contains(name)).collect()
}

fn measure(agent: &std::path::Path, loads: &[&Load]) -> anyhow::Result<(Times, Usage)> {
    let mut times: Times = loads.iter().map(|_| Default::default()).collect();
    let mut usage = Usage::default();
    for round in 0..ROUNDS {
        for mode in [Mode::Nothing, Mode::Floor, Mode::Tidewatch] {
            eprint!("\rround {} of {ROUNDS}: {:<12}", round + 1, mode.name());
            let watch = watch::Watch::start(mode, agent)?;
            for (i, load) in loads.iter().enumerate() {
                times[i][mode as usize].push(load::run_child(load.name)?);
            }
            if let Some(used) = watch.stop()? {
                usage = used;
            }
        }
    }
    eprintln!("\r{:<40}", "");
    Ok((times, usage))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print_loads(loads: &[&Load], times: &Times) {
    println!("Slow-down, median of {ROUNDS} rounds; each ratio is within one round.\n");
    println!(
        "| work | ns a step, unwatched | empty programs ÷ unwatched | Tidewatch ÷ unwatched | Tidewatch ÷ empty programs |"
    );
    println!("|---|---|---|---|---|");
    for (load, [nothing, floor, tidewatch]) in loads.iter().zip(times) {
        let ratio = |a: &[f64], b: &[f64]| median(a.iter().zip(b).map(|(a, b)| a / b).collect());
        println!(
            "| {} | {:.0} | {:.2} | {:.2} | {:.2} |",
            load.what,
            median(nothing.clone()),
            ratio(floor, nothing),
            ratio(tidewatch, nothing),
            ratio(tidewatch, floor),
        );
    }
    println!();
}

fn print_usage(usage: &Usage) {
    println!("The agent itself, over the last round:\n");
    println!("| figure | value |");
    println!("|---|---|");
    println!("| start to watching | {:.2} s |", usage.start.as_secs_f64());
    println!("| CPU of one core while idle ({:.0} s) | {:.2} % |", usage.idle.as_secs_f64(), usage.idle_cpu * 100.0);
    println!("| resident memory, idle | {:.1} MiB |", usage.idle_rss as f64 / 1048576.0);
    println!("| resident memory, after the loads | {:.1} MiB |", usage.end_rss as f64 / 1048576.0);
    println!("| its last words | {} |", usage.summary);
    println!();
}
