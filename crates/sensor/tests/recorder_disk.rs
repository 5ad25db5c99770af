//! The flight recorder and the disk: its budget, old segments, a clock that jumped, and no space left.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tw_model::status::RecorderStatus;
use tw_sensor::recorder::{FrameKind, Gap, Recorder, RecorderOptions, SegmentMeta, segments};

mod recording;
use recording::{noise, open, options, read_all};

/// Says where the full disk is, to the test that is started again in a mount namespace of its own.
const SMALL_DISK: &str = "TIDEWATCH_TEST_SMALL_DISK";

fn until(recorder: &Recorder, what: &str, done: impl Fn(&RecorderStatus) -> bool) -> RecorderStatus {
    let begun = Instant::now();
    loop {
        let status = recorder.status();
        if done(&status) {
            return status;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}: {status:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn on_disk(dir: &Path) -> u64 {
    segments(dir).unwrap().iter().map(|file| file.bytes).sum()
}

/// Appends a record and noise around it, and waits until it is on disk, or known to be lost.
fn append(recorder: &mut Recorder, number: u64, noise_bytes: usize) -> RecorderStatus {
    if recorder.wants_segment() {
        recorder.begin_segment(SegmentMeta::default());
    }
    recorder.append(FrameKind::State, &noise(number + 1, noise_bytes));
    recorder.append(FrameKind::Record, &open(number, 7));
    recorder.flush();
    until(recorder, "every record is written or lost", |status| status.records + status.lost == number + 1)
}

/// Numbers of the records in `dir`, and those that gaps name as lost.
fn told(dir: &Path) -> (Vec<u64>, u64) {
    let mut lost = 0;
    let mut numbers = Vec::new();
    for (kind, payload) in read_all(dir) {
        match kind {
            FrameKind::Record => numbers.push((0..10_000).find(|number| open(*number, 7) == payload).unwrap()),
            FrameKind::Gap => lost += Gap::parse(&payload).unwrap().records,
            _ => {}
        }
    }
    (numbers, lost)
}

#[test]
fn the_budget_is_kept_and_the_newest_stay() {
    let dir = tempfile::tempdir().unwrap();
    let max_bytes = 100_000;
    let options = RecorderOptions { max_bytes, segment_bytes: 20_000, ..options(dir.path()) };
    for run in 0..2 {
        let (mut recorder, recovery) = Recorder::open(options.clone()).unwrap();
        assert_eq!(recovery.segments > 0, run > 0);
        for number in 0..60 {
            let status = append(&mut recorder, number, 4_000);
            assert!(on_disk(dir.path()) <= max_bytes, "{number}");
            assert_eq!((status.lost, status.error), (0, None), "{number}");
        }
        let status = recorder.close();
        let files = segments(dir.path()).unwrap();
        assert_eq!((status.bytes, status.segments), (on_disk(dir.path()), files.len() as u64));
        assert!(status.bytes > max_bytes / 2 && files.len() >= 3, "{status:?}");
        assert_eq!(status.oldest_ns, files[0].created_ns);
        assert!(files[0].number > 1);
        let (numbers, _) = told(dir.path());
        assert_eq!(numbers.last(), Some(&59));
        assert!(numbers.len() > 10 && numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    }
}

#[test]
fn a_smaller_budget_counts_from_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let large = RecorderOptions { max_bytes: 100_000, segment_bytes: 20_000, ..options(dir.path()) };
    let (mut recorder, _) = Recorder::open(large.clone()).unwrap();
    for number in 0..30 {
        append(&mut recorder, number, 4_000);
    }
    recorder.close();
    let (recorder, _) = Recorder::open(RecorderOptions { max_bytes: 50_000, ..large }).unwrap();
    until(&recorder, "what is too much goes", |status| status.bytes <= 50_000);
    recorder.close();
    assert!(on_disk(dir.path()) <= 50_000 && on_disk(dir.path()) > 20_000);
}

#[test]
fn a_budget_for_nothing_loses_everything_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (mut recorder, _) = Recorder::open(RecorderOptions { max_bytes: 100, ..options(dir.path()) }).unwrap();
    for number in 0..5 {
        append(&mut recorder, number, 10);
    }
    let status = recorder.close();
    assert_eq!((status.records, status.lost, status.bytes), (0, 5, 0));
    assert!(status.error.unwrap().contains("raise recorder.max_mib"));
}

fn empty_files(dir: &Path, names: &[&str]) {
    std::fs::create_dir_all(dir).unwrap();
    for name in names {
        std::fs::write(dir.join(name), b"old").unwrap();
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_is_too_old_goes_and_files_of_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let old =
        ["0000000007-20200101T000000Z.twrec", "0000000008-20200102T000000Z.twrec", "0000000009-20200103T000000Z.twrec"];
    empty_files(dir.path(), &old);
    empty_files(dir.path(), &["0000000001-20200101T000000Z.txt", "notes"]);
    let (mut recorder, _) = Recorder::open(options(dir.path())).unwrap();
    until(&recorder, "all but the newest go", |status| status.segments == 1);
    append(&mut recorder, 0, 10);
    recorder.close();
    let left = names(dir.path());
    assert_eq!(left[..2], ["0000000001-20200101T000000Z.txt", "0000000009-20200103T000000Z.twrec"]);
    assert!(left[2].starts_with("0000000010-2"), "{left:?}");
    // The segment before the newest goes on until that begins, so it is young enough.
    assert_eq!(left.len(), 4);
}

#[test]
fn a_clock_that_jumped_back_deletes_nothing_and_numbers_decide_the_order() {
    let dir = tempfile::tempdir().unwrap();
    let future = ["0000000007-20990101T000000Z.twrec", "0000000008-20980101T000000Z.twrec"];
    empty_files(dir.path(), &future);
    let (mut recorder, _) = Recorder::open(options(dir.path())).unwrap();
    append(&mut recorder, 0, 10);
    let status = recorder.close();
    let left = names(dir.path());
    assert_eq!((&left[..2], status.segments), (&future.map(String::from)[..], 3));
    assert!(left[2].starts_with("0000000009-20"), "{left:?}");
    // Two days later, the segments that follow show that these are old: the same with files of two days ago.
    empty_files(dir.path(), &["0000000010-20200101T000000Z.twrec", "0000000011-20200102T000000Z.twrec"]);
    std::fs::remove_file(dir.path().join(&left[2])).unwrap();
    let (recorder, _) = Recorder::open(options(dir.path())).unwrap();
    until(&recorder, "nothing is kept for ever", |status| status.segments == 1);
    recorder.close();
}

#[test]
fn a_folder_that_vanished_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("recorder");
    let (mut recorder, _) = Recorder::open(options(&folder)).unwrap();
    append(&mut recorder, 0, 10);
    std::fs::remove_dir_all(&folder).unwrap();
    recorder.begin_segment(SegmentMeta::default());
    append(&mut recorder, 1, 10);
    assert_eq!(recorder.close().error, None);
    assert_eq!(told(&folder).0, [1]);
}

/// Runs one test of this file again, as the only one in a mount namespace with a small file system. False if that cannot
/// be had here.
fn on_small_disk(test: &str) -> bool {
    if std::env::var_os(SMALL_DISK).is_some() {
        return true;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=1m,mode=0700 tidewatch-test \"$0\" || exit 99; exec \"$@\"";
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(SMALL_DISK, dir.path())
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) if !matches!(status.code(), Some(1 | 99)) => panic!("{test} on a small disk: {status}"),
        other => {
            let required = std::env::var_os("TIDEWATCH_REQUIRE_E2E").is_some();
            assert!(!required, "no mount namespace of our own: {other:?}");
            eprintln!("skipped: no mount namespace of our own (needs root): {other:?}");
        }
    }
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "nothing is left behind");
    false
}

fn small_disk() -> PathBuf {
    std::env::var_os(SMALL_DISK).unwrap().into()
}

#[test]
fn on_a_full_disk_the_oldest_segments_make_way() {
    if !on_small_disk("on_a_full_disk_the_oldest_segments_make_way") {
        return;
    }
    let dir = small_disk().join("recorder");
    let options = RecorderOptions { segment_bytes: 100_000, ..options(&dir) };
    let (mut recorder, _) = Recorder::open(options).unwrap();
    for number in 0..300 {
        let status = append(&mut recorder, number, 10_000);
        assert_eq!((status.lost, status.error), (0, None), "{number}");
    }
    recorder.close();
    let (numbers, _) = told(&dir);
    assert!(numbers.len() > 40 && numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    assert_eq!(numbers.last(), Some(&299));
}

#[test]
fn a_disk_filled_by_others_costs_counted_records_until_there_is_room() {
    if !on_small_disk("a_disk_filled_by_others_costs_counted_records_until_there_is_room") {
        return;
    }
    let dir = small_disk().join("recorder");
    // Noise and record in one block: a record alone would fit into the rest of a page.
    let options = RecorderOptions { block_bytes: 64 << 10, queue_blocks: 16, ..options(&dir) };
    let (mut recorder, _) = Recorder::open(options).unwrap();
    for number in 0..10 {
        append(&mut recorder, number, 10_000);
    }
    let filler = small_disk().join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    drop(file);
    for number in 10..30 {
        append(&mut recorder, number, 10_000);
    }
    let status = recorder.status();
    let error = status.error.unwrap();
    assert!(error.contains("No space left") && error.contains("free space"), "{error}");
    assert!((19..=20).contains(&status.lost), "{}", status.lost);
    assert!(!recorder.wants_segment(), "there is no use in telling the state now");
    std::fs::remove_file(&filler).unwrap();
    append(&mut recorder, 30, 10_000);
    assert_eq!(recorder.status().error, None, "it recovers by itself");
    std::thread::sleep(Duration::from_millis(1100));
    assert!(recorder.wants_segment(), "the state must be told anew");
    append(&mut recorder, 31, 10_000);
    let status = recorder.close();
    let (numbers, lost) = told(&dir);
    assert_eq!((numbers.len() as u64, lost), (status.records, status.lost));
    assert_eq!(status.records + status.lost, 32);
    assert_eq!(numbers[numbers.len() - 2..], [30, 31]);
}
