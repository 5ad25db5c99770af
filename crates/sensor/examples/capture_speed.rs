//! How fast captures are read: `cargo run --release -p tidewatch-sensor --example capture_speed [FILE]`.
//!
//! Without a file, a capture is made up: a server and shell jobs, as old and as new writers tell them.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use tw_sensor::capture::{CaptureError, CaptureReader, Item, Reading};

#[path = "../tests/capturing/mod.rs"]
mod capturing;
use capturing::{Form, P, Proc, Scap};

/// Events of a server, and one shell job for every fifty requests.
fn mixed(form: Form, rounds: i64) -> Scap {
    let mut scap = Scap::new(form);
    scap.processes(5, &[Proc::default()]);
    for round in 0..rounds {
        scap.event(100, 22, &[P::I64(6)]);
        scap.event(100, 27, &[P::I64(6), P::Tuple4([10, 0, 0, 9], 5_000, [10, 0, 0, 1], 80), P::U8(0)]);
        for _ in 0..6 {
            scap.event(100, 6, &[P::I64(6), P::U32(4096)]);
            scap.event(100, 7, &[P::I64(300), P::Bytes(vec![b'x'; 80])]);
        }
        scap.event(100, 2, &[P::Text("/srv/www/index.html"), P::U32(1), P::U32(0)]);
        scap.event(100, 3, &[P::I64(7), P::Text("/srv/www/index.html"), P::U32(1), P::U32(0)]);
        scap.event(100, 8, &[P::I64(6), P::U32(4096)]);
        scap.event(100, 9, &[P::I64(4096), P::Bytes(vec![b'y'; 80])]);
        for fd in [6, 7] {
            scap.event(100, 4, &[P::I64(fd)]);
            scap.event(100, 5, &[P::I64(0)]);
        }
        scap.event(100, 108, &[P::Text("cache/entry")]);
        scap.event(100, 109, &[P::I64(-2)]);
        if round % 50 == 0 {
            let pid = 1_000 + round % 10_000;
            scap.fork([pid, 100, 100, 1, 100], 0, "cpu=/\0");
            scap.fork([0, pid, pid, 100, pid], 0, "cpu=/\0");
            scap.exec(16, pid, 100, ["/bin/sh", "-c true"], "cpu=/\0");
            scap.event(pid as u64, 186, &[P::I64(0), P::I64(0), P::U8(0), P::U8(0)]);
        }
    }
    scap
}

fn measure(what: &str, reader: Result<CaptureReader, CaptureError>, bytes: usize) -> Result<(), CaptureError> {
    let started = Instant::now();
    let mut record_bytes = 0;
    let reading: Reading = reader?.read(&mut |item| {
        if let Item::Record { bytes, .. } = item {
            record_bytes += bytes.len();
        }
        ControlFlow::Continue(())
    });
    let seconds = started.elapsed().as_secs_f64();
    let of = reading.conversion;
    eprintln!(
        "{what:<28} {:>9} events, {:>8} records in {seconds:.3} s: {:.2} million events a second, {:.0} MB/s",
        of.events,
        of.records,
        of.events as f64 / seconds / 1e6,
        bytes as f64 / seconds / 1e6
    );
    Ok(())
}

fn main() -> Result<(), CaptureError> {
    if let Some(path) = std::env::args().nth(1) {
        let bytes = std::fs::metadata(&path).map_or(0, |data| data.len() as usize);
        return measure(&path, CaptureReader::open(Path::new(&path)), bytes);
    }
    for (what, form) in [("old writers", Form::Old), ("new writers", Form::New)] {
        let scap = mixed(form, 100_000);
        let (plain, packed) = (scap.bytes.clone(), scap.gzip());
        measure(what, CaptureReader::from_bytes(what, plain), scap.bytes.len())?;
        measure(&format!("{what}, gzip"), CaptureReader::from_bytes(what, packed), scap.bytes.len())?;
    }
    Ok(())
}
