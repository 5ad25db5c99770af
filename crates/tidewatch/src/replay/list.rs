//! `replay --list`: what there is to replay.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Value, json};
use tw_sensor::capture::{CaptureReader, Survey};
use tw_sensor::recorder::SegmentReader;

use crate::screen::{self, print_stdout};

/// One line for each file, or all as JSON. A failure if one cannot be read, or a capture not to its end.
pub(super) fn list(files: &[PathBuf], json: bool) -> anyhow::Result<ExitCode> {
    let mut rows = Vec::new();
    let mut whole = true;
    for file in files {
        let size = std::fs::metadata(file).with_context(|| format!("cannot look at {}", file.display()))?.len();
        let (row, line) = if super::is_capture(file) { capture(file, size) } else { segment(file, size) };
        whole &= row.get("error").is_none_or(Value::is_null);
        rows.push(row);
        if !json {
            print_stdout(&line)?;
        }
    }
    if json {
        print_stdout(&format!("{}\n", Value::from(rows)))?;
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn unreadable(file: &Path, size: u64, error: &dyn std::fmt::Display) -> (Value, String) {
    let row = json!({"file": file, "bytes": size, "error": error.to_string()});
    // It names the file.
    (row, format!("unreadable            {error}\n"))
}

fn start(ns: u64) -> String {
    tw_report::iso_time(ns).get(..19).unwrap_or_default().to_owned()
}

fn segment(file: &Path, size: u64) -> (Value, String) {
    let reader = match SegmentReader::open(file) {
        Ok(reader) => reader,
        Err(error) => return unreadable(file, size, &error),
    };
    let (meta, index) = (reader.meta(), reader.index());
    let row = json!({
        "file": file, "bytes": size, "hostname": meta.node.hostname, "started_ns": meta.started_ns,
        "complete": reader.is_complete(), "index": index,
    });
    let containers = index.cgroups.iter().filter(|cgroup| !cgroup.container.is_empty()).count();
    let line = format!(
        "{}  {:>9}  {:>10} records  {containers:>4} containers  {}\n",
        start(meta.started_ns),
        screen::bytes(size),
        index.records,
        file.display()
    );
    (row, line)
}

fn capture(file: &Path, size: u64) -> (Value, String) {
    let survey = match CaptureReader::open(file) {
        Ok(reader) => reader.survey(),
        Err(error) => return unreadable(file, size, &error),
    };
    let Survey { machine, first_ns, last_ns, events, threads, .. } = &survey;
    let error = survey.error.as_ref().map(ToString::to_string);
    let row = json!({
        "file": file, "bytes": size, "hostname": machine.hostname, "cpus": machine.cpus, "memory": machine.memory,
        "arch": machine.arch, "addresses": survey.addresses, "started_ns": first_ns, "ended_ns": last_ns,
        "events": events, "threads": threads, "packed": survey.packed, "complete": error.is_none(), "error": error,
    });
    let seconds = last_ns.saturating_sub(*first_ns) as f64 / 1e9;
    let begin = if *events == 0 { " ".repeat(19) } else { start(*first_ns) };
    let mut line = format!(
        "{begin}  {:>9}  {events:>10} events   {seconds:>8.1} s        {}, capture of {} ({}, {})\n",
        screen::bytes(size),
        file.display(),
        tw_report::escape::line(if machine.hostname.is_empty() { "an unnamed host" } else { &machine.hostname }),
        screen::count(machine.cpus as usize, "CPU"),
        screen::count(usize::try_from(*threads).unwrap_or(usize::MAX), "thread"),
    );
    if let Some(error) = error {
        line += &format!("                     {error}\n");
    }
    (row, line)
}
