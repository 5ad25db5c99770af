//! A writer that is killed, or whose calls fail, at each system call in turn. What it said to be kept is there
//! afterwards, exactly once, and every loss is counted.
//!
//! The writer is this test program itself, started anew under strace with a variable that names the folder.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

use tw_model::status::SpoolLane;
use tw_report::spool::{Damage, Spool, SpoolOptions, SpoolSync};

use crate::scratch::{Scratch, payload, read, skip, status};

const FOLDER: &str = "TW_SPOOL_WRITER";
/// Calls that change something on disk; `openat` creates the files.
const CALLS: &[&str] = &["pwrite64", "write", "fdatasync", "fsync", "unlink", "ftruncate", "mkdir", "openat"];

fn options(dir: &Path) -> SpoolOptions {
    let mut options = SpoolOptions::new(dir.join("spool"));
    (options.max_bytes, options.segment_bytes, options.sync) = (16 << 10, 1 << 10, SpoolSync::Batch);
    options
}

/// Says something to the parent, past the test runner's capture.
fn say(line: &str) {
    std::io::stdout().write_all(format!("\n{line}\n").as_bytes()).unwrap();
}

/// Not a test of its own: the writer.
#[test]
fn writer() {
    let Some(dir) = std::env::var_os(FOLDER) else { return };
    // Calls are counted by thread. The loader's, in the first one, must not use up the numbers of the spool's here.
    for _ in 0..12 {
        let _ = std::fs::File::open("/dev/null");
    }
    say("begun");
    let (mut spool, _) = match Spool::open(options(Path::new(&dir))) {
        Ok(opened) => opened,
        Err(error) => return say(&format!("refused {error}")),
    };
    let mut number = 0;
    for round in 0..14 {
        for lane in SpoolLane::ALL {
            // Urgent findings are acknowledged as they come; routine ones never, until they are over the bound.
            let batch: Vec<Vec<u8>> = (number..number + 3).map(|number| payload(number, 250)).collect();
            number += 3;
            for _ in 0..3 {
                match spool.append(lane, &batch) {
                    Ok(numbers) => {
                        for (seq, payload) in numbers.zip(&batch) {
                            say(&format!("kept {} {seq} {}", lane.name(), String::from_utf8_lossy(payload).trim()));
                        }
                        break;
                    }
                    Err(error) => say(&format!("failed {error}")),
                }
            }
        }
        if round % 3 == 2 {
            let mut reader = spool.reader(SpoolLane::Urgent, spool.acked(SpoolLane::Urgent));
            let read: Vec<_> = std::iter::from_fn(|| reader.read().ok().flatten()).collect();
            if let Some((seq, _)) = read.get(read.len() / 2)
                && spool.ack(SpoolLane::Urgent, *seq).is_ok()
            {
                say(&format!("acked {seq}"));
            }
        }
    }
    say("ended");
}

fn run(dir: &Path, inject: &str) -> Output {
    strace(dir, inject, Path::new("/dev/null"))
}

/// Starts the writer under strace.
fn strace(dir: &Path, what: &str, trace: &Path) -> Output {
    Command::new("strace")
        .args(["-f", "-qq", "-e", what, "-o"])
        .arg(trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "kill::writer", "--nocapture", "--test-threads=1"])
        .env(FOLDER, dir)
        // Cargo's has the loader look in many places.
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .unwrap()
}

/// How the disk is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    /// A file can be written over.
    Enough,
    /// Not even that, and for good: what was removed nevertheless is told as missing at the next start.
    NotEvenOver,
}

/// What the writer said, and whether the spool agrees.
fn check(dir: &Path, output: &Output, room: Room, what: &str) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut kept: BTreeMap<&str, BTreeMap<u64, &str>> = BTreeMap::new();
    let mut acked = 0;
    for line in said.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["kept", lane, seq, payload] => {
                let before = kept.entry(lane).or_default().insert(seq.parse().unwrap(), payload);
                assert_eq!(before, None, "{what}: a number twice");
            }
            ["acked", seq] => acked = seq.parse().unwrap(),
            _ => {}
        }
    }
    let (mut spool, recovery) = Spool::open(options(dir)).unwrap();
    let expected = |damage: &&Damage| match damage {
        Damage::Cut { .. } => true,
        Damage::Missing { .. } => room == Room::NotEvenOver,
        _ => false,
    };
    assert_eq!(recovery.damage().find(|damage| !expected(damage)), None, "{what}");
    for lane in SpoolLane::ALL {
        let now = status(&spool, lane);
        let found = read(&spool, lane, now.acked);
        assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0), "{what}: in order, none twice");
        assert!(room == Room::NotEvenOver || now.corrupt == 0, "{what}");
        let lost = now.newest - now.acked - found.len() as u64;
        assert_eq!(lost, now.dropped + now.corrupt, "{what}: losses are counted exactly");
        assert!(now.dropped == 0 || lane == SpoolLane::Routine, "{what}: urgent ones have room");
        let found: BTreeMap<u64, String> =
            found.into_iter().map(|(seq, bytes)| (seq, String::from_utf8(bytes).unwrap().trim().to_owned())).collect();
        let oldest = now.newest + 1 - found.len() as u64;
        for (seq, payload) in kept.remove(lane.name()).unwrap_or_default() {
            assert!(seq <= now.newest, "{what}: {seq} was kept");
            if seq >= oldest {
                assert_eq!(found.get(&seq).map(String::as_str), Some(payload), "{what}");
            }
        }
        if lane == SpoolLane::Urgent {
            assert!(now.acked >= acked, "{what}: acknowledged once, acknowledged for good");
        }
        let next = now.newest + 1;
        assert_eq!(spool.append(lane, &["on"]).unwrap(), next..next + 1, "{what}");
    }
    drop(spool);
    let (_, recovery) = Spool::open(options(dir)).unwrap();
    assert_eq!(recovery.damage().count(), 0, "{what}: all is well again");
    said
}

fn have_strace() -> bool {
    let have =
        Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success());
    if !have {
        skip("strace is missing or may not trace");
    }
    have
}

#[test]
fn a_kill_at_any_call_loses_nothing_that_was_kept() {
    if !have_strace() {
        return;
    }
    let mut killed = 0;
    for call in CALLS {
        for when in 1.. {
            let scratch = Scratch::new("kill");
            let what = format!("killed at {call} {when}");
            let output = run(scratch.path(), &format!("inject={call}:signal=SIGKILL:when={when}"));
            let said = check(scratch.path(), &output, Room::Enough, &what);
            if output.status.signal() != Some(9) {
                assert!(output.status.success() && said.contains("\nended"), "{what}: {output:?}");
                assert!(said.contains("\nacked 1"), "the writer does what it is to do");
                break;
            }
            killed += 1;
            // The others are the kernel's to do in between; this one says only how much was said.
            if *call == "write" && when >= 40 {
                break;
            }
        }
    }
    assert!(killed > 200, "{killed}");
}

#[test]
fn a_call_that_fails_loses_nothing_that_was_kept() {
    if !have_strace() {
        return;
    }
    let faults = [
        ("pwrite64", "ENOSPC"),
        ("pwrite64", "EFBIG"),
        ("fdatasync", "EIO"),
        ("fsync", "EIO"),
        ("unlink", "EIO"),
        ("openat", "ENOSPC"),
    ];
    for (call, error) in faults {
        // Once, and from then on.
        for (every, step) in [("", 1), ("+", 7)] {
            let mut failed = 0;
            for when in (1..=calls(call)).step_by(step) {
                let scratch = Scratch::new("fail");
                let what = format!("{error} at {call} {when}{every}");
                let output = run(scratch.path(), &format!("inject={call}:error={error}:when={when}{every}"));
                let over = (call, error, every) == ("pwrite64", "ENOSPC", "+");
                let said = check(scratch.path(), &output, if over { Room::NotEvenOver } else { Room::Enough }, &what);
                // Before `begun` it is the loader that fails.
                assert!(output.status.success() || !said.contains("\nbegun"), "{what}: {output:?}");
                failed += usize::from(said.contains("\nfailed "));
            }
            // A removal that fails is tried again later; one missing segment of several can be made up for.
            assert!(call == "unlink" || failed > 0, "{error} at {call}{every} had no effect");
        }
    }
}

#[test]
fn nothing_counts_as_kept_or_goes_before_the_disk_says_so() {
    if !have_strace() {
        return;
    }
    let scratch = Scratch::new("order");
    let trace = scratch.path().join("trace");
    let output = strace(scratch.path(), "trace=openat,pwrite64,fdatasync,fsync,ftruncate,unlink,write", &trace);
    assert!(output.status.success(), "{output:?}");
    let (mut dirty, mut kept, mut gone) = (std::collections::BTreeSet::new(), 0, 0);
    for line in std::fs::read_to_string(trace).unwrap().lines() {
        // "123 pwrite64(7, …) = 40"
        let Some((call, arguments)) = line.split_once(' ').and_then(|(_, call)| call.trim().split_once('(')) else {
            continue;
        };
        let file = arguments.split([',', ')']).next().unwrap_or_default().to_owned();
        match call {
            "pwrite64" | "ftruncate" => _ = dirty.insert(file),
            "fdatasync" | "fsync" => _ = dirty.remove(&file),
            "write" if arguments.contains("nkept ") || arguments.contains("nacked ") => {
                assert!(dirty.is_empty(), "{line}: {dirty:?} not synced");
                kept += 1;
            }
            "unlink" => {
                assert!(dirty.is_empty(), "{line}: {dirty:?} not synced");
                gone += 1;
            }
            "openat" if arguments.contains("O_CREAT") && arguments.contains(".seg") => {
                assert!(dirty.is_empty(), "{line}: the segment before is not synced");
            }
            _ => {}
        }
    }
    assert!(kept > 50 && gone > 5, "{kept} {gone}");
}

/// How often the writer makes a call if nothing is in its way.
fn calls(call: &str) -> usize {
    let scratch = Scratch::new("calls");
    let trace = scratch.path().join("trace");
    let output = strace(scratch.path(), &format!("trace={call}"), &trace);
    assert!(output.status.success(), "{output:?}");
    let count = std::fs::read_to_string(trace).unwrap().lines().filter(|line| line.contains(call)).count();
    assert!(count > 5, "{count} of {call}");
    count
}
