//! The real sensor for tests: one at a time, and what it told of something that was done.

#![allow(dead_code, reason = "no test needs all of it")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tw_model::raw::{Raw, Str, from_words, to_words};
use tw_sensor::{EbpfSensor, Options};

/// A record that outlives the ring.
pub struct Record(pub Vec<u64>);

impl Record {
    pub fn of(bytes: &[u8]) -> Self {
        Self(to_words(bytes))
    }

    pub fn raw(&self) -> Raw<'_> {
        Raw::parse(from_words(&self.0)).unwrap()
    }
}

/// A sensor sees the whole host: one test at a time, lest one test's storm drowns another's events.
static ALONE: Mutex<()> = Mutex::new(());

/// A running sensor; `None`, with the reason printed, where it cannot be had and need not.
pub fn sensor(options: &Options) -> Option<(EbpfSensor, MutexGuard<'static, ()>)> {
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    match EbpfSensor::start(options) {
        Ok(sensor) => Some((sensor, alone)),
        Err(error) if std::env::var_os("TIDEWATCH_REQUIRE_E2E").is_some() => panic!("{error}"),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

/// What the sensor tells within 300 ms.
pub fn told(sensor: &mut EbpfSensor) -> Vec<Record> {
    let mut records = Vec::new();
    let deadline = Instant::now() + Duration::from_millis(300);
    while Instant::now() < deadline {
        sensor.drain(|bytes| records.push(Record::of(bytes)));
        std::thread::sleep(Duration::from_millis(10));
    }
    records
}

/// Runs `script` with python3 under the sensor; returns the records of the host meanwhile.
pub fn watch(sensor: &mut EbpfSensor, script: &str) -> Vec<Record> {
    let out = Command::new("/usr/bin/python3").args(["-c", script]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    told(sensor)
}

/// A string of a record.
pub fn text<'r>(raw: &Raw<'r>, what: Str) -> std::borrow::Cow<'r, str> {
    String::from_utf8_lossy(raw.text(what))
}
