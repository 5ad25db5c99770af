//! What the flight recorder costs on this host: `cargo run --release -p tidewatch-sensor --example recorder_speed`.
//!
//! Appends records as a web host makes them, nine opens to one exec, as fast as the writer takes them, and then at a
//! steady rate; prints time per append on the caller's thread, throughput and compression. Writes to a temporary folder.
//!
//! With a number as argument, records this host for so many seconds instead (root), and prints compression.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "an example")]

use std::time::{Duration, Instant};

use tw_sensor::recorder::{FrameKind, Recorder, RecorderOptions, SegmentMeta, segments};
use tw_sensor::{EbpfSensor, Options};

#[path = "../tests/recording/mod.rs"]
mod recording;

const RECORDS: u64 = 2_000_000;

fn main() {
    let folder = std::env::temp_dir();
    if let Some(seconds) = std::env::args().nth(1) {
        return live(&folder, Duration::from_secs(seconds.parse().unwrap()));
    }
    let records: Vec<Vec<u8>> = (0..200_000).map(recording::mixed).collect();
    let bytes: usize = records.iter().map(Vec::len).sum();
    println!("{} bytes a record on average", bytes / records.len());
    full_speed(&folder, &records);
    steady(&folder, &records, 100_000);
}

fn open(folder: &std::path::Path) -> (tempfile::TempDir, Recorder) {
    let dir = tempfile::tempdir_in(folder).unwrap();
    let options = RecorderOptions { dir: dir.path().into(), ..RecorderOptions::default() };
    let (mut recorder, _) = Recorder::open(options).unwrap();
    recorder.begin_segment(SegmentMeta::default());
    (dir, recorder)
}

fn full_speed(folder: &std::path::Path, records: &[Vec<u8>]) {
    let (dir, mut recorder) = open(folder);
    let (mut raw, mut appending) = (0_u64, Duration::ZERO);
    let begun = Instant::now();
    let mut left = RECORDS;
    for batch in records.chunks(500).cycle() {
        // Wait outside of what is timed, so that nothing is lost.
        while recorder.room() < 1 << 20 {
            std::thread::sleep(Duration::from_micros(200));
        }
        if recorder.wants_segment() {
            recorder.begin_segment(SegmentMeta::default());
        }
        let start = Instant::now();
        for record in batch {
            recorder.append(FrameKind::Record, record);
        }
        appending += start.elapsed();
        raw += batch.iter().map(Vec::len).sum::<usize>() as u64;
        left = left.saturating_sub(batch.len() as u64);
        if left == 0 {
            break;
        }
    }
    let status = recorder.close();
    let took = begun.elapsed().as_secs_f64();
    assert_eq!((status.lost, status.error), (0, None));
    println!(
        "{:.0} ns per append; {:.0} MB/s, {:.0} records/s to disk; {:.1} to 1, {:.1} bytes a record, {} segments",
        appending.as_nanos() as f64 / RECORDS as f64,
        raw as f64 / took / 1e6,
        RECORDS as f64 / took,
        raw as f64 / status.bytes as f64,
        status.bytes as f64 / RECORDS as f64,
        segments(dir.path()).unwrap().len()
    );
}

fn steady(folder: &std::path::Path, records: &[Vec<u8>], per_second: u64) {
    let (_dir, mut recorder) = open(folder);
    let (begun, mut appending, mut appended) = (Instant::now(), Duration::ZERO, 0_u64);
    let before = cpu();
    // Ten milliseconds' worth at a time, as the agent's turns bring them.
    for batch in records.chunks((per_second / 100) as usize).cycle().take(500) {
        let start = Instant::now();
        for record in batch {
            recorder.append(FrameKind::Record, record);
        }
        appending += start.elapsed();
        appended += batch.len() as u64;
        if appended.is_multiple_of(per_second) {
            recorder.flush();
        }
        let due = Duration::from_nanos(appended * 1_000_000_000 / per_second);
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
    }
    let used = cpu() - before;
    let status = recorder.close();
    println!(
        "at {per_second} records/s: {:.0} ns per append; both threads use {:.1} % of a CPU; {} lost",
        appending.as_nanos() as f64 / appended as f64,
        used.as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0,
        status.lost
    );
}

fn live(folder: &std::path::Path, time: Duration) {
    let mut sensor = EbpfSensor::start(&Options::default()).unwrap();
    let (_dir, mut recorder) = open(folder);
    let (mut raw, begun) = (0, Instant::now());
    while begun.elapsed() < time {
        sensor.drain(|record: &[u8]| {
            raw += record.len();
            recorder.append(FrameKind::Record, record);
        });
        std::thread::sleep(Duration::from_millis(10));
    }
    let status = recorder.close();
    println!(
        "this host: {:.0} records/s of {:.0} bytes; {:.1} to 1, {:.1} bytes a record, {:.2} MB an hour; {} lost",
        status.records as f64 / time.as_secs_f64(),
        raw as f64 / status.records as f64,
        raw as f64 / status.bytes as f64,
        status.bytes as f64 / status.records as f64,
        status.bytes as f64 / time.as_secs_f64() * 3600.0 / 1e6,
        status.lost
    );
}

/// Time that this process has used.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
