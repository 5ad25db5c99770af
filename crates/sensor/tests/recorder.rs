//! The flight recorder from its outside: what goes in comes out, what is lost is counted, what is broken is told.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tw_model::event::EventKind;
use tw_model::{KindSet, Raw};
use tw_sensor::recorder::{
    FrameKind, Gap, MAX_PAYLOAD, Recorder, RecorderError, RecorderOptions, SegmentMeta, SegmentReader, Selection,
    segments,
};

mod recording;
use recording::{Owned, exec, mixed, noise, only_segment, open, options, read, read_all};

fn record(options: RecorderOptions, frames: &[Owned]) {
    let (mut recorder, _) = Recorder::open(options).unwrap();
    recorder.begin_segment(SegmentMeta { version: "1.2.3".into(), ..SegmentMeta::default() });
    for (kind, payload) in frames {
        recorder.append(*kind, payload);
    }
    let status = recorder.close();
    assert_eq!((status.lost, status.error), (0, None));
}

/// A small segment of several blocks, and the frames in it.
fn small(dir: &Path) -> (Vec<u8>, Vec<Owned>) {
    let mut frames = vec![(FrameKind::State, b"state".to_vec())];
    frames.extend((0..6).map(|number| (FrameKind::Record, open(number, 7 + number % 2))));
    frames.push((FrameKind::Finding, b"{}".to_vec()));
    record(RecorderOptions { block_bytes: 600, ..options(dir) }, &frames);
    (only_segment(dir), frames)
}

fn frame() -> impl Strategy<Value = Owned> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        (0_u64..1000, 0_u64..5).prop_map(|(number, cgroup)| (FrameKind::Record, open(number, cgroup))),
        (0_u64..1000, 0_u64..5).prop_map(|(number, cgroup)| (FrameKind::Record, exec(number, cgroup))),
        bytes.clone().prop_map(|bytes| (FrameKind::Record, bytes)),
        (3_usize..FrameKind::ALL.len(), bytes).prop_map(|(kind, bytes)| (FrameKind::ALL[kind], bytes)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_goes_in_comes_out(
        steps in proptest::collection::vec((frame(), 0_u8..20), 0..120),
        block_bytes in 64_usize..5000,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let options = RecorderOptions { block_bytes, ..options(dir.path()) };
        let (mut recorder, _) = Recorder::open(options).unwrap();
        let mut frames = Vec::new();
        for ((kind, payload), step) in steps {
            match step {
                0 => recorder.begin_segment(SegmentMeta::default()),
                1 => recorder.flush(),
                _ => {}
            }
            recorder.append(kind, &payload);
            frames.push((kind, payload));
        }
        let status = recorder.close();
        prop_assert_eq!((status.lost, status.error), (0, None));
        prop_assert_eq!(status.records, frames.iter().filter(|(kind, _)| *kind == FrameKind::Record).count() as u64);
        prop_assert_eq!(read_all(dir.path()), frames);
        // The index from the heads says the same as the one that was written.
        for file in segments(dir.path()).unwrap() {
            let mut bytes = std::fs::read(&file.path).unwrap();
            bytes.truncate(bytes.len() - 1);
            let rebuilt = SegmentReader::from_bytes("cut", bytes).unwrap();
            prop_assert!(!rebuilt.is_complete());
            prop_assert_eq!(rebuilt.index(), &file.content.unwrap().1);
        }
    }

    #[test]
    fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), keep in 0_usize..900, head: bool) {
        let dir = tempfile::tempdir().unwrap();
        let (good, _) = small(dir.path());
        let mut whole = good[..keep.min(good.len())].to_vec();
        whole.append(&mut bytes);
        if head {
            whole.extend_from_slice(&good[good.len() - 400..]);
        }
        if let Ok(mut segment) = SegmentReader::from_bytes("x", whole) {
            let _ = read(&mut segment);
        }
    }
}

#[test]
fn a_cut_at_any_byte_leaves_what_is_before_and_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, frames) = small(dir.path());
    let mut opened = 0;
    for cut in 0..bytes.len() {
        let Ok(mut segment) = SegmentReader::from_bytes("cut", bytes[..cut].to_vec()) else { continue };
        opened += 1;
        assert!(!segment.is_complete());
        let (got, reading) = read(&mut segment);
        assert!(frames.starts_with(&got), "cut at {cut}");
        let error = reading.error.unwrap();
        assert!(
            matches!(error, RecorderError::Truncated { .. } | RecorderError::Unfinished { .. }),
            "cut at {cut}: {error}"
        );
        assert_eq!(reading.damaged, 0);
    }
    assert!(opened > 500, "only {opened} cuts could be opened");
    let (got, reading) = read(&mut SegmentReader::from_bytes("whole", bytes).unwrap());
    assert_eq!(got, frames);
    assert!(reading.error.is_none());
}

#[test]
fn a_flipped_bit_is_noticed_and_costs_one_block_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, frames) = small(dir.path());
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1 << (at % 8);
        let Ok(mut segment) = SegmentReader::from_bytes("bad", bad) else { continue };
        let (mut got, reading) = read(&mut segment);
        assert!(reading.error.is_some(), "byte {at}");
        assert!(reading.damaged <= 1, "byte {at}: {:?}", reading.damages);
        // Gaps stand for what is missing, so that whoever counts comes to the same number.
        if segment.is_complete() {
            assert_eq!(counted(&got), counted(&frames), "byte {at}");
        }
        got.retain(|(kind, _)| *kind != FrameKind::Gap);
        assert!(got.len() + 3 >= frames.len(), "byte {at}: {} of {}", got.len(), frames.len());
        let mut rest = frames.iter();
        assert!(got.iter().all(|frame| rest.any(|good| good == frame)), "byte {at}");
    }
}

/// Records, and those that gaps say are missing.
fn counted(frames: &[Owned]) -> u64 {
    let records = frames.iter().filter(|(kind, _)| *kind == FrameKind::Record).count() as u64;
    let gaps = frames.iter().filter(|(kind, _)| *kind == FrameKind::Gap);
    records + gaps.map(|(_, payload)| Gap::parse(payload).unwrap().records).sum::<u64>()
}

#[test]
fn errors_name_file_place_and_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, _) = small(dir.path());
    let first_block = bytes.windows(8).position(|window| window == b"TWblock\n").unwrap();
    let mut bad = bytes.clone();
    bad[first_block + 20] ^= 1;
    let (_, reading) = read(&mut SegmentReader::from_bytes("/x/bad.twrec", bad).unwrap());
    let text = reading.error.unwrap().to_string();
    assert!(
        text.starts_with(&format!("/x/bad.twrec: byte {first_block}: is not the block that should be here")),
        "{text}"
    );
    let cut = bytes[..first_block + 100].to_vec();
    let (_, reading) = read(&mut SegmentReader::from_bytes("/x/cut.twrec", cut).unwrap());
    let text = reading.error.unwrap().to_string();
    assert!(text.starts_with(&format!("/x/cut.twrec: byte {first_block}: ")) && text.contains("cut"), "{text}");
    let mut newer = bytes.clone();
    newer[8] = 7;
    let crc = crc32c::crc32c(&newer[..20]);
    newer[20..24].copy_from_slice(&crc.to_le_bytes());
    let text = SegmentReader::from_bytes("/x/new.twrec", newer).err().unwrap().to_string();
    assert!(text.contains("has format 7, this version reads up to 1"), "{text}");
    let text =
        SegmentReader::from_bytes("/x/y.txt", b"something else, but long enough".to_vec()).err().unwrap().to_string();
    assert!(text.contains("not a readable segment"), "{text}");
    assert!(SegmentReader::open(Path::new("/dev/null")).is_err());
}

#[test]
fn a_lie_about_the_size_of_a_block_is_no_bomb() {
    let dir = tempfile::tempdir().unwrap();
    record(options(dir.path()), &[(FrameKind::State, vec![0; 900])]);
    let bytes = only_segment(dir.path());
    let block = bytes.windows(8).position(|window| window == b"TWblock\n").unwrap();
    // Head: raw length at 8, its own CRC at 76, no lists.
    for (raw, opened) in [(8_u32, true), (4 << 20, true), (u32::MAX, false)] {
        let mut bad = bytes.clone();
        bad[block + 8..block + 12].copy_from_slice(&raw.to_le_bytes());
        let crc = crc32c::crc32c(&bad[block..block + 76]);
        bad[block + 76..block + 80].copy_from_slice(&crc.to_le_bytes());
        let (got, reading) = read(&mut SegmentReader::from_bytes("bomb", bad).unwrap());
        let gap = Gap { records: 0, others: 1 };
        assert_eq!((got.len(), reading.damaged), (1, 1));
        assert_eq!((got[0].0, Gap::parse(&got[0].1)), (FrameKind::Gap, Some(gap)));
        let what = if opened { "a block cannot be decompressed" } else { "is not the block that should be here" };
        assert_eq!(reading.damages[0], (block as u64, what));
    }
}

#[test]
fn only_what_is_asked_for_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let mut frames: Vec<Owned> = (0..40).map(|number| (FrameKind::Record, open(number, 7 + number / 20))).collect();
    frames.push((FrameKind::Record, exec(40, 9)));
    record(options(dir.path()), &frames);
    let mut segment = SegmentReader::open(&segments(dir.path()).unwrap()[0].path).unwrap();
    let mut count = |selection: Selection| {
        let mut found = Vec::new();
        let reading = segment.frames_where(&selection, |_, payload| {
            let words = tw_model::raw::to_words(payload);
            found.push(Raw::parse(tw_model::raw::from_words(&words)).unwrap().header.time);
            ControlFlow::Continue(())
        });
        assert!(reading.error.is_none());
        (found.len(), reading.passed > 0)
    };
    assert_eq!(count(Selection::default()), (41, false));
    assert_eq!(count(Selection { cgroup: Some(8), ..Selection::default() }), (20, true));
    assert_eq!(count(Selection { cgroup: Some(10), ..Selection::default() }), (0, true));
    assert_eq!(count(Selection { kinds: KindSet::one(EventKind::Execve), ..Selection::default() }), (1, true));
    let at = |number: u64| 1_000_000_000 + number * 13_577;
    assert_eq!(count(Selection { from_ns: at(3), to_ns: at(5), ..Selection::default() }), (3, true));
    assert_eq!(count(Selection { from_ns: at(41), ..Selection::default() }), (0, true));
    let mut seen = 0;
    let reading = segment.frames(|_, _| {
        seen += 1;
        ControlFlow::Break(())
    });
    assert_eq!((seen, reading.frames), (1, 1));
}

#[test]
fn records_come_out_as_they_can_be_parsed() {
    let dir = tempfile::tempdir().unwrap();
    let frames: Vec<Owned> = (0..30).map(|number| (FrameKind::Record, mixed(number))).collect();
    record(options(dir.path()), &frames);
    let mut segment = SegmentReader::open(&segments(dir.path()).unwrap()[0].path).unwrap();
    let mut parsed = 0;
    let reading = segment.frames(|_, payload| {
        parsed += usize::from(Raw::parse(payload).is_ok());
        ControlFlow::Continue(())
    });
    assert_eq!((parsed, reading.records), (30, 30));
}

#[test]
fn the_index_names_events_cgroups_and_containers() {
    let dir = tempfile::tempdir().unwrap();
    let (mut recorder, _) = Recorder::open(options(dir.path())).unwrap();
    recorder.begin_segment(SegmentMeta::default());
    recorder.note_container(7, "0123456789ab");
    recorder.append(FrameKind::Record, &open(0, 7));
    recorder.append(FrameKind::Record, &exec(1, 8));
    recorder.begin_segment(SegmentMeta { rules_digest: "abc".into(), first_event: 3, ..SegmentMeta::default() });
    recorder.append(FrameKind::Record, &open(2, 7));
    recorder.close();
    let files = segments(dir.path()).unwrap();
    let (meta, index) = files[0].content.as_ref().unwrap();
    assert_eq!((meta.number, meta.arch.as_str()), (1, std::env::consts::ARCH));
    assert!(meta.kinds_are_ours() && meta.started_ns > 0);
    assert_eq!(index.events.get("openat"), Some(&1));
    assert_eq!(index.events.get("execve"), Some(&1));
    let cgroups: Vec<_> = index.cgroups.iter().map(|entry| (entry.cgroup, entry.container.as_str())).collect();
    assert_eq!(cgroups, [(7, "0123456789ab"), (8, "")]);
    assert_eq!((index.first_ns, index.last_ns, index.records), (1_000_000_000, 1_000_013_577, 2));
    let (meta, index) = files[1].content.as_ref().unwrap();
    assert_eq!((meta.number, meta.rules_digest.as_str(), meta.first_event), (2, "abc", 3));
    assert_eq!(index.cgroups[0].container, "0123456789ab", "known from the segment before");
}

/// More than a writer with a queue of one small block can take at once.
const RECORDS: u64 = 20_000;

#[test]
fn a_writer_that_falls_behind_loses_exactly_what_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let options = RecorderOptions { block_bytes: 1024, queue_blocks: 1, ..options(dir.path()) };
    let (mut recorder, _) = Recorder::open(options).unwrap();
    assert!(recorder.wants_segment());
    recorder.begin_segment(SegmentMeta::default());
    assert!(!recorder.wants_segment());
    let begun = Instant::now();
    // A block is a few records and each costs the writer a call to the disk: it cannot keep up.
    for number in 0..RECORDS {
        recorder.append(FrameKind::Record, &open(number, 7));
        if number == RECORDS / 2 {
            recorder.begin_segment(SegmentMeta::default());
        }
    }
    recorder.append(FrameKind::State, b"x");
    let lost = recorder.status().lost;
    assert!(lost > 100, "{lost}");
    while !recorder.wants_segment() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the loss asks for a new segment");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(begun.elapsed() >= Duration::from_secs(1), "but not at once");
    recorder.begin_segment(SegmentMeta::default());
    assert!(!recorder.wants_segment());
    let status = recorder.close();
    let frames = read_all(dir.path());
    let records = frames.iter().filter(|(kind, _)| *kind == FrameKind::Record).count() as u64;
    let gaps = frames.iter().filter(|(kind, _)| *kind == FrameKind::Gap).map(|(_, gap)| Gap::parse(gap).unwrap());
    assert_eq!((records, records + status.lost), (status.records, RECORDS));
    assert_eq!(gaps.map(|gap| gap.records).sum::<u64>(), status.lost);
    let indexed: u64 = segments(dir.path()).unwrap().iter().map(|file| file.content.as_ref().unwrap().1.lost).sum();
    assert_eq!(indexed, status.lost);
    // What is missing is missing at the place that the gap has.
    let mut next = 0;
    for (kind, payload) in &frames {
        match kind {
            FrameKind::Gap => next += Gap::parse(payload).unwrap().records,
            FrameKind::Record => {
                assert_eq!(payload, &open(next, 7));
                next += 1;
            }
            _ => {}
        }
    }
}

#[test]
fn a_frame_larger_than_a_block_gets_one_of_its_own_and_one_too_large_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (mut recorder, _) = Recorder::open(options(dir.path())).unwrap();
    recorder.begin_segment(SegmentMeta::default());
    recorder.append(FrameKind::Record, &open(1, 7));
    recorder.append(FrameKind::State, &noise(1, MAX_PAYLOAD));
    recorder.append(FrameKind::State, &noise(1, MAX_PAYLOAD + 1));
    recorder.append(FrameKind::Record, &open(2, 7));
    assert_eq!(recorder.close().error, None);
    let frames = read_all(dir.path());
    let shape: Vec<_> = frames.iter().map(|(kind, payload)| (*kind, payload.len())).collect();
    let size = open(1, 7).len();
    let (record, state) = ((FrameKind::Record, size), (FrameKind::State, MAX_PAYLOAD));
    assert_eq!(shape[0], record);
    assert_eq!(shape.iter().filter(|frame| **frame == state).count(), 1);
    let gap = frames.iter().find(|(kind, _)| *kind == FrameKind::Gap).unwrap();
    assert_eq!(Gap::parse(&gap.1), Some(Gap { records: 0, others: 1 }));
}

#[test]
fn a_new_segment_is_wanted_by_size_and_by_age() {
    let dir = tempfile::tempdir().unwrap();
    let by_size = RecorderOptions { segment_bytes: 10_000, ..options(dir.path()) };
    let (mut recorder, _) = Recorder::open(by_size).unwrap();
    recorder.begin_segment(SegmentMeta::default());
    recorder.append(FrameKind::State, &noise(1, 12_000));
    recorder.flush();
    let begun = Instant::now();
    while !recorder.wants_segment() {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(1));
    }
    recorder.begin_segment(SegmentMeta::default());
    assert!(!recorder.wants_segment());
    recorder.close();
    let by_age = RecorderOptions { segment_age: Duration::from_millis(50), ..options(dir.path()) };
    let (mut recorder, _) = Recorder::open(by_age).unwrap();
    recorder.begin_segment(SegmentMeta::default());
    assert!(!recorder.wants_segment());
    std::thread::sleep(Duration::from_millis(60));
    assert!(recorder.wants_segment());
}

#[test]
fn a_flushed_block_survives_a_kill_and_numbers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("recorder");
    let (mut recorder, recovery) = Recorder::open(options(&folder)).unwrap();
    assert_eq!((recovery.segments, recovery.unfinished), (0, 0));
    recorder.append(FrameKind::Record, &open(1, 7));
    recorder.flush();
    let begun = Instant::now();
    while recorder.status().records == 0 {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(1));
    }
    // What a kill leaves: the file as it is now.
    let path = segments(&folder).unwrap()[0].path.clone();
    let bytes = std::fs::read(&path).unwrap();
    recorder.close();
    std::fs::write(&path, bytes).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&path)), (0o700, 0o600));
    std::fs::write(folder.join("0000000002-20261124T000000Z.twrec"), b"nonsense").unwrap();
    std::fs::write(folder.join("README"), b"not ours").unwrap();

    let (mut recorder, recovery) = Recorder::open(options(&folder)).unwrap();
    assert_eq!((recovery.segments, recovery.unfinished, recovery.unreadable.len()), (2, 1, 1));
    recorder.append(FrameKind::Record, &open(2, 7));
    recorder.close();
    let files = segments(&folder).unwrap();
    assert_eq!(files.iter().map(|file| file.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(files[1].content.is_err());
    let (frames, reading) = read(&mut SegmentReader::open(&files[0].path).unwrap());
    assert_eq!(frames, [(FrameKind::Record, open(1, 7))]);
    assert!(matches!(reading.error, Some(RecorderError::Unfinished { .. })));
}
