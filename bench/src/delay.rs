//! From a call to its record in user space, and from a call to its alert on standard output.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tw_model::Raw;
use tw_model::event::EventKind;
use tw_model::raw::{from_words, to_words};
use tw_sensor::{EbpfSensor, clock};

use crate::agent::{Agent, scratch};
use crate::marks::{Mark, Marks};
use crate::paced::{self, Call};
use crate::stop;

/// The agent's pause when there was nothing to read.
const NAP: Duration = Duration::from_millis(10);
/// Opens a second, and for how long, whose records are timed.
const RATE: f64 = 500.0;
const LASTING: Duration = Duration::from_secs(6);
/// Opens whose alerts are timed.
const ALERTS: usize = 1000;

/// Measures and prints.
pub fn measure(agent: &Path) -> anyhow::Result<()> {
    let records = to_the_record()?;
    let alerts = to_the_alert(agent)?;
    println!("| from the call to | p50 | p99 | most | of |");
    println!("|---|---|---|---|---|");
    for (what, mut times) in [
        ("its record in user space, by the kernel's time of the event", records),
        ("its alert on standard output, spool synced", alerts),
    ] {
        times.sort_unstable();
        let at = |part: f64| {
            let place = ((times.len() as f64 * part) as usize).min(times.len().saturating_sub(1));
            times.get(place).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
        };
        println!("| {what} | {:.1} ms | {:.1} ms | {:.1} ms | {} |", at(0.5), at(0.99), at(1.0), times.len());
    }
    println!();
    Ok(())
}

/// The sensor, read as the agent reads it.
fn to_the_record() -> anyhow::Result<Vec<Duration>> {
    let mut sensor = EbpfSensor::start(&tw_sensor::Options::default())?;
    let folder = scratch()?;
    // It does not see its own process.
    let place = folder.clone();
    let load = std::thread::spawn(move || paced::run_child(Call::Open, RATE, LASTING, &place));
    let mut times = Vec::new();
    while !load.is_finished() && stop::check().is_ok() {
        let taken = sensor.drain(|bytes| {
            let words = to_words(bytes);
            let Ok(raw) = Raw::parse(from_words(&words)) else { return };
            if raw.kind() == EventKind::Openat && raw.comm().starts_with(b"tidewatch-bench") {
                times.push(Duration::from_nanos(clock::boot_ns().saturating_sub(raw.header.time)));
            }
        });
        if taken == 0 {
            std::thread::sleep(NAP);
        }
    }
    let made = load.join().map_err(|_| anyhow::anyhow!("a load panicked"));
    std::fs::remove_dir_all(&folder)?;
    stop::check()?;
    let made = made??;
    anyhow::ensure!(times.len() as u64 >= made / 2, "{} records of {made} opens", times.len());
    Ok(times)
}

/// The agent, with all that it does by default.
fn to_the_alert(agent: &Path) -> anyhow::Result<Vec<Duration>> {
    let marks = Marks::new(ALERTS)?;
    let heard = Arc::new(Mutex::new(vec![None; ALERTS]));
    let ear = {
        let heard = Arc::clone(&heard);
        move |line: String| {
            let now = Instant::now();
            if let Some(Mark::Opened(number)) = Marks::read(&line)
                && let Some(place) = heard.lock().unwrap_or_else(PoisonError::into_inner).get_mut(number)
            {
                place.get_or_insert(now);
            }
        }
    };
    let agent = Agent::start_heard(agent, &marks.arguments(), Box::new(ear))?;
    stop::sleep(Duration::from_secs(1))?;
    let mut opened = Vec::with_capacity(ALERTS);
    for number in 0..ALERTS {
        stop::check()?;
        opened.push(Instant::now());
        drop(std::fs::File::open(marks.file(number))?);
        // At no fixed distance, lest they all fall on the same place between two looks.
        std::thread::sleep(Duration::from_micros(2000 + (number as u64 * 7919) % 6000));
    }
    agent.stop()?;
    let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    let times: Vec<_> = opened.iter().zip(heard.iter()).filter_map(|(at, heard)| Some((*heard)? - *at)).collect();
    anyhow::ensure!(times.len() == ALERTS, "{} alerts of {ALERTS}", times.len());
    Ok(times)
}
