//! What the watched pay: small loops in rounds, and what the agent takes meanwhile.

use std::path::Path;

use crate::load::{self, LOADS, Load};
use crate::stop;
use crate::watch::{Mode, Usage, Watch};

/// Rounds; in each, every load runs in every mode, so that a drift of the host hits all alike.
const ROUNDS: usize = 5;

/// `times[load][mode][round]`, in nanoseconds per step.
type Times = Vec<[Vec<f64>; 3]>;

/// Measures and prints.
pub fn measure(agent: &Path) -> anyhow::Result<()> {
    let usage = watched(agent, "")?;
    print_usage(&usage);
    Ok(())
}

/// Only the loops, of those with `name` in their name.
pub fn watched(agent: &Path, name: &str) -> anyhow::Result<Usage> {
    let loads: Vec<&Load> = LOADS.iter().filter(|load| load.name.contains(name)).collect();
    let mut times: Times = loads.iter().map(|_| Default::default()).collect();
    let mut usage = Usage::default();
    for round in 0..ROUNDS {
        for mode in Mode::ALL {
            eprint!("\rround {} of {ROUNDS}: {:<12}", round + 1, mode.name());
            let watch = Watch::start(mode, agent)?;
            for (i, load) in loads.iter().enumerate() {
                stop::check()?;
                times[i][mode as usize].push(load::run_child(load.name)?);
            }
            if let Some(used) = watch.stop()? {
                usage = used;
            }
        }
    }
    eprintln!("\r{:<40}", "");
    print_loads(&loads, &times);
    Ok(usage)
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The middle one of the ratios within each round.
pub fn ratio(a: &[f64], b: &[f64]) -> f64 {
    median(a.iter().zip(b).map(|(a, b)| a / b).collect())
}

fn print_loads(loads: &[&Load], times: &Times) {
    println!("Slow-down, median of {ROUNDS} rounds; each ratio is within one round.\n");
    println!(
        "| work | ns a step, unwatched | empty programs ÷ unwatched | Tidewatch ÷ unwatched | Tidewatch ÷ empty programs |"
    );
    println!("|---|---|---|---|---|");
    for (load, [nothing, floor, tidewatch]) in loads.iter().zip(times) {
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
