//! The spool's properties, one by one.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tw_model::status::SpoolLane::{self, Routine, Urgent};
use tw_report::spool::{Damage, HEADER, MAX_PAYLOAD, PREFIX, Spool, SpoolError};

use crate::scratch::{Scratch, numbers, payload, read, status};

/// Payload with which ten records fill a segment of 1 KiB to the byte, but for 24.
const TENTH: usize = 80;

/// Appends records one at a time, with payloads that show their numbers.
fn append(spool: &mut Spool, lane: SpoolLane, count: u64) {
    for _ in 0..count {
        let number = status(spool, lane).newest + 1;
        assert_eq!(spool.append(lane, &[payload(number, TENTH)]).unwrap(), number..number + 1);
    }
}

/// Reads everything, as the uplink would, and acknowledges up to `seq`.
fn ack(spool: &mut Spool, lane: SpoolLane, seq: u64) {
    numbers(spool, lane, spool.acked(lane));
    assert_eq!(spool.ack(lane, seq).unwrap(), seq);
}

/// Where the record at this place of a full segment of [`append`] starts.
fn record(place: usize) -> usize {
    HEADER + place * (PREFIX + TENTH)
}

#[test]
fn records_come_back_in_order_and_numbers_go_on_after_a_restart() {
    let scratch = Scratch::new("order");
    let mut spool = scratch.open_intact();
    assert_eq!(spool.append(Urgent, &["a", "bb"]).unwrap(), 1..3);
    assert_eq!(spool.append(Routine, &["c"]).unwrap(), 1..2);
    assert_eq!(spool.append(Urgent, &[""]).unwrap(), 3..4);
    assert_eq!(spool.append::<&str>(Urgent, &[]).unwrap(), 4..4);
    drop(spool);
    let mut spool = scratch.open_intact();
    assert_eq!(spool.append(Urgent, &["d"]).unwrap(), 4..5);
    let wanted = [(1, b"a".to_vec()), (2, b"bb".to_vec()), (3, Vec::new()), (4, b"d".to_vec())];
    assert_eq!(read(&spool, Urgent, 0), wanted);
    assert_eq!(read(&spool, Urgent, 2), wanted[2..]);
    assert_eq!(read(&spool, Routine, 0), [(1, b"c".to_vec())]);
}

#[test]
fn a_batch_over_many_segments_is_whole_and_a_long_record_has_its_own() {
    let scratch = Scratch::new("batch");
    let mut options = scratch.options();
    options.max_bytes = 4 << 20;
    let (mut spool, _) = Spool::open(options.clone()).unwrap();
    let mut batch: Vec<Vec<u8>> = (1..=50).map(|number| payload(number, TENTH)).collect();
    batch.insert(25, vec![b'x'; MAX_PAYLOAD]);
    assert_eq!(spool.append(Routine, &batch).unwrap(), 1..52);
    assert_eq!(scratch.segments(Routine).len(), 3 + 1 + 3);
    drop(spool);
    let (spool, _) = Spool::open(options).unwrap();
    let found: Vec<Vec<u8>> = read(&spool, Routine, 0).into_iter().map(|(_, payload)| payload).collect();
    assert!(found == batch);
    let bytes: u64 = scratch.segments(Routine).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert_eq!(status(&spool, Routine).bytes, bytes);
}

#[test]
fn a_record_that_is_too_long_and_a_batch_that_cannot_fit_are_refused_whole() {
    let scratch = Scratch::new("long");
    let mut spool = scratch.open_intact();
    append(&mut spool, Routine, 5);
    let long = vec![0; MAX_PAYLOAD + 1];
    assert!(
        matches!(spool.append(Routine, &[vec![1], long]), Err(SpoolError::TooLong(length)) if length > MAX_PAYLOAD)
    );
    let error = spool.append(Routine, &[vec![0; 65 << 10]]).unwrap_err();
    assert!(error.to_string().contains("raise spool.max_mib"), "{error}");
    assert_eq!(numbers(&spool, Routine, 0), [1, 2, 3, 4, 5]);
    assert_eq!(spool.status().error, None, "the disk is well");
}

#[test]
fn a_second_owner_is_told_whom_to_look_for() {
    let scratch = Scratch::new("lock");
    let spool = scratch.open_intact();
    let error = Spool::open(scratch.options()).unwrap_err();
    assert!(matches!(error, SpoolError::Locked(_)));
    assert!(error.to_string().contains("in use by another process"), "{error}");
    drop(spool);
    scratch.open_intact();
}

#[test]
fn nobody_else_may_look() {
    let scratch = Scratch::new("mode");
    let mut spool = scratch.open_intact();
    append(&mut spool, Urgent, 1);
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let dir = scratch.path().join("spool");
    assert_eq!([mode(&dir), mode(&dir.join("urgent")), mode(&dir.join("routine"))], [0o700; 3]);
    assert_eq!([mode(&dir.join("lock")), mode(&scratch.cursor(Urgent))], [0o600; 2]);
    assert_eq!(mode(&scratch.segments(Urgent)[0]), 0o600);
}

#[test]
fn acknowledged_segments_go_and_numbers_go_on() {
    let scratch = Scratch::new("ack");
    let mut spool = scratch.open_intact();
    append(&mut spool, Urgent, 35);
    assert_eq!(scratch.segments(Urgent).len(), 4);
    ack(&mut spool, Urgent, 9);
    assert_eq!(scratch.segments(Urgent).len(), 4, "the first has an unacknowledged record");
    ack(&mut spool, Urgent, 20);
    assert_eq!(scratch.segments(Urgent).len(), 2);
    assert_eq!(spool.ack(Urgent, 10).unwrap(), 20, "never back");
    ack(&mut spool, Urgent, 35);
    assert_eq!(scratch.segments(Urgent).len(), 1, "the one that grows stays");
    let now = status(&spool, Urgent);
    assert_eq!((now.newest, now.acked, now.dropped, now.corrupt), (35, 35, 0, 0));
    drop(spool);
    // Not even without any segment a number comes twice.
    fs::remove_file(&scratch.segments(Urgent)[0]).unwrap();
    let mut spool = scratch.open_intact();
    assert_eq!(spool.acked(Urgent), 35);
    append(&mut spool, Urgent, 1);
    assert_eq!(numbers(&spool, Urgent, 0), [36]);
}

#[test]
fn a_damaged_record_is_passed_over_counted_once_and_kept_until_it_is_acknowledged() {
    let scratch = Scratch::new("corrupt");
    let mut spool = scratch.open_intact();
    append(&mut spool, Urgent, 25);
    drop(spool);
    // One record's payload, and another's length, so that its end is not known.
    Scratch::damage(&scratch.segments(Urgent)[0], |bytes| {
        bytes[record(3) + PREFIX + 5] ^= 1;
        bytes[record(6) + 7] ^= 0x80;
    });
    for _ in 0..3 {
        let (spool, recovery) = scratch.open();
        let wanted: Vec<u64> = (1..=25).filter(|seq| ![4, 7].contains(seq)).collect();
        assert_eq!(numbers(&spool, Urgent, 0), wanted);
        assert_eq!(status(&spool, Urgent).corrupt, 2);
        assert_eq!((recovery.lanes[0].corrupt, recovery.lanes[0].waiting), (2, 23));
        assert!(matches!(recovery.damage().next(), Some(Damage::Corrupt { records: 2, .. })));
    }
    let (mut spool, _) = scratch.open();
    ack(&mut spool, Urgent, 5);
    drop(spool);
    let (mut spool, recovery) = scratch.open();
    assert_eq!((recovery.lanes[0].corrupt, status(&spool, Urgent).corrupt), (1, 2));
    ack(&mut spool, Urgent, 25);
    drop(spool);
    assert_eq!(status(&scratch.open_intact(), Urgent).corrupt, 2, "settled, and still known");
}

#[test]
fn rot_beneath_a_reader_is_counted_once() {
    let scratch = Scratch::new("rot");
    let mut spool = scratch.open_intact();
    append(&mut spool, Urgent, 15);
    Scratch::damage(&scratch.segments(Urgent)[0], |bytes| bytes[record(2) + PREFIX] ^= 1);
    Scratch::damage(&scratch.segments(Urgent)[1], |bytes| bytes[record(4) + PREFIX] ^= 1);
    let mut reader = spool.reader(Urgent, 0);
    let seen: Vec<u64> = std::iter::from_fn(|| reader.read().unwrap()).map(|(seq, _)| seq).collect();
    assert_eq!(seen, [1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
    assert_eq!((reader.corrupt(), status(&spool, Urgent).corrupt), (2, 2));
    let mut again = spool.reader(Urgent, 0);
    while again.read().unwrap().is_some() {}
    assert_eq!((again.corrupt(), status(&spool, Urgent).corrupt), (0, 2));
    append(&mut spool, Urgent, 1);
    assert_eq!(reader.read().unwrap().unwrap().0, 16, "it goes on behind a bad end");
}

#[test]
fn a_damaged_head_costs_nothing() {
    let scratch = Scratch::new("head");
    let mut spool = scratch.open_intact();
    append(&mut spool, Urgent, 25);
    drop(spool);
    for path in scratch.segments(Urgent) {
        Scratch::damage(&path, |bytes| bytes[..HEADER].fill(0xee));
    }
    let (mut spool, recovery) = scratch.open();
    assert_eq!(recovery.damage().filter(|damage| matches!(damage, Damage::Header { .. })).count(), 3);
    append(&mut spool, Urgent, 3);
    assert_eq!(numbers(&spool, Urgent, 0), (1..=28).collect::<Vec<_>>());
    assert_eq!(status(&spool, Urgent).corrupt, 0);
}

#[test]
fn a_newer_format_is_refused_with_file_versions_and_remedy() {
    let block = |bytes: &mut [u8]| {
        bytes[8] = 7;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..]).to_le_bytes();
        bytes[12..16].copy_from_slice(&crc);
    };
    let scratch = Scratch::new("version");
    let mut spool = scratch.open_intact();
    append(&mut spool, Urgent, 1);
    drop(spool);
    let segment = scratch.segments(Urgent)[0].clone();
    Scratch::damage(&segment, |bytes| block(&mut bytes[..HEADER]));
    let error = Spool::open(scratch.options()).unwrap_err().to_string();
    for part in [segment.to_str().unwrap(), "version 7", "up to 1", "run the newer tidewatch again, or move the folder"]
    {
        assert!(error.contains(part), "{part} in {error}");
    }
    assert!(segment.exists());
    fs::remove_file(segment).unwrap();
    Scratch::damage(&scratch.cursor(Urgent), |bytes| block(&mut bytes[..64]));
    assert!(matches!(Spool::open(scratch.options()), Err(SpoolError::Version { found: 7, .. })));
}

#[test]
fn without_its_cursor_everything_is_delivered_again() {
    let scratch = Scratch::new("cursor");
    let mut spool = scratch.open_intact();
    append(&mut spool, Urgent, 35);
    ack(&mut spool, Urgent, 25);
    drop(spool);
    let garbage = |path: &std::path::Path| fs::write(path, vec![7; 5000]).unwrap();
    let gone = |path: &std::path::Path| fs::remove_file(path).unwrap();
    for spoil in [&garbage as &dyn Fn(&std::path::Path), &gone] {
        spoil(&scratch.cursor(Urgent));
        let (spool, recovery) = scratch.open();
        assert!(matches!(recovery.damage().next(), Some(Damage::Cursor { .. })));
        assert_eq!(spool.acked(Urgent), 20);
        assert_eq!(numbers(&spool, Urgent, 20), (21..=35).collect::<Vec<_>>());
        assert_eq!(status(&spool, Urgent).corrupt, 0);
        drop(spool);
        assert_eq!(scratch.open_intact().acked(Urgent), 20);
    }
}

#[test]
fn half_a_cursor_serves() {
    let scratch = Scratch::new("slot");
    let mut spool = scratch.open_intact();
    append(&mut spool, Urgent, 35);
    for seq in [5, 15, 25] {
        ack(&mut spool, Urgent, seq);
    }
    drop(spool);
    let whole = fs::read(scratch.cursor(Urgent)).unwrap();
    for place in [20, 4096 + 20] {
        let mut bytes = whole.clone();
        bytes[place] ^= 4;
        fs::write(scratch.cursor(Urgent), bytes).unwrap();
        let (spool, recovery) = scratch.open();
        assert!(matches!(recovery.damage().next(), Some(Damage::Slot { .. })));
        assert!([15, 25].contains(&spool.acked(Urgent)));
        assert_eq!(numbers(&spool, Urgent, 25), (26..=35).collect::<Vec<_>>());
        assert_eq!(status(&spool, Urgent).corrupt, 0);
    }
}

#[test]
fn when_room_is_short_the_oldest_routine_findings_go_first() {
    let scratch = Scratch::new("bound");
    let mut options = scratch.options();
    options.max_bytes = 16 << 10;
    let (mut spool, _) = Spool::open(options.clone()).unwrap();
    append(&mut spool, Routine, 75);
    ack(&mut spool, Routine, 3);
    append(&mut spool, Urgent, 90);
    let (urgent, routine) = (status(&spool, Urgent), status(&spool, Routine));
    assert_eq!((urgent.dropped, routine.dropped), (0, 7), "three of the first ten were acknowledged");
    assert_eq!(numbers(&spool, Routine, 3), (11..=75).collect::<Vec<_>>());
    append(&mut spool, Urgent, 135);
    assert!(spool.status().lanes.iter().map(|lane| lane.bytes).sum::<u64>() <= 16 << 10);
    let (urgent, routine) = (status(&spool, Urgent), status(&spool, Routine));
    assert_eq!(routine.dropped, 72, "all of it, also the segment that grew");
    assert_eq!(numbers(&spool, Routine, 0), Vec::<u64>::new());
    assert!(urgent.dropped > 0);
    assert_eq!(numbers(&spool, Urgent, 0), (urgent.dropped + 1..=225).collect::<Vec<_>>());
    append(&mut spool, Routine, 1);
    let before = spool.status();
    drop(spool);
    let (spool, recovery) = Spool::open(options).unwrap();
    assert_eq!(recovery.damage().count(), 0);
    assert_eq!(spool.status(), before);
}

#[test]
fn a_removal_that_was_interrupted_is_finished_uncounted() {
    let scratch = Scratch::new("removal");
    let mut spool = scratch.open_intact();
    append(&mut spool, Urgent, 25);
    let oldest = scratch.segments(Urgent)[0].clone();
    let bytes = fs::read(&oldest).unwrap();
    ack(&mut spool, Urgent, 12);
    assert!(!oldest.exists());
    drop(spool);
    fs::write(&oldest, bytes).unwrap();
    let spool = scratch.open_intact();
    assert!(!oldest.exists());
    assert_eq!(numbers(&spool, Urgent, 0), (11..=25).filter(|seq| *seq > 12).collect::<Vec<_>>());
}

#[test]
fn files_that_were_taken_away_are_counted() {
    let scratch = Scratch::new("taken");
    let mut spool = scratch.open_intact();
    append(&mut spool, Urgent, 45);
    ack(&mut spool, Urgent, 3);
    drop(spool);
    for index in [2, 0] {
        fs::remove_file(&scratch.segments(Urgent)[index]).unwrap();
    }
    for _ in 0..2 {
        let (spool, _) = scratch.open();
        assert_eq!(status(&spool, Urgent).corrupt, 7 + 10);
        assert_eq!(numbers(&spool, Urgent, 0), (11..=20).chain(31..=45).collect::<Vec<_>>());
    }
    for path in scratch.segments(Urgent) {
        fs::remove_file(path).unwrap();
    }
    let (mut spool, recovery) = scratch.open();
    assert!(matches!(recovery.damage().next(), Some(Damage::Missing { records: 35, .. })));
    assert_eq!(status(&spool, Urgent).corrupt, 42);
    append(&mut spool, Urgent, 1);
    assert_eq!(numbers(&spool, Urgent, 0), [46]);
}

#[test]
fn an_end_that_is_cut_off_is_counted_and_its_numbers_are_not_used_again() {
    let scratch = Scratch::new("end");
    let mut spool = scratch.open_intact();
    append(&mut spool, Urgent, 8);
    drop(spool);
    Scratch::damage(&scratch.segments(Urgent)[0], |bytes| bytes.truncate(record(5) + 10));
    for _ in 0..2 {
        let (spool, _) = scratch.open();
        assert_eq!(status(&spool, Urgent).corrupt, 3);
    }
    let (mut spool, _) = scratch.open();
    append(&mut spool, Urgent, 1);
    assert_eq!(numbers(&spool, Urgent, 0), [1, 2, 3, 4, 5, 9]);
    drop(spool);
    assert_eq!(status(&scratch.open().0, Urgent).corrupt, 3);
}

#[test]
fn the_cursor_of_an_earlier_spool_loses_nothing() {
    let scratch = Scratch::new("ahead");
    let mut spool = scratch.open_intact();
    append(&mut spool, Urgent, 3);
    // The manager says hello: it has 1000 findings of a spool that is gone.
    assert_eq!(spool.ack(Urgent, 1000).unwrap(), 0);
    assert_eq!(spool.ack(Urgent, 1000).unwrap(), 0, "said again, before anything was sent");
    append(&mut spool, Urgent, 2);
    drop(spool);
    let mut spool = scratch.open_intact();
    assert_eq!(numbers(&spool, Urgent, 0), [1, 2, 3, 1001, 1002]);
    assert_eq!(status(&spool, Urgent).corrupt, 0, "numbers left out are no loss");
    assert_eq!(spool.ack(Urgent, 1002).unwrap(), 1002);
    assert_eq!(scratch.segments(Urgent).len(), 1);
    let error = spool.ack(Urgent, u64::MAX).unwrap_err();
    assert!(matches!(error, SpoolError::Ahead { newest: 1002, .. }), "{error}");
    append(&mut spool, Urgent, 1);
    assert_eq!(numbers(&spool, Urgent, 1002), [1003]);
}

#[test]
fn what_was_never_given_out_cannot_be_acknowledged() {
    let scratch = Scratch::new("unseen");
    let mut spool = scratch.open_intact();
    append(&mut spool, Urgent, 10);
    assert_eq!(spool.ack(Urgent, 7).unwrap(), 0);
    let mut reader = spool.reader(Urgent, 0);
    for _ in 0..7 {
        reader.read().unwrap();
    }
    assert_eq!(spool.ack(Urgent, 7).unwrap(), 7);
    drop(spool);
    // After a restart it may have been given out before.
    assert_eq!(scratch.open_intact().ack(Urgent, 10).unwrap(), 10);
}

#[test]
fn a_reader_skips_what_vanishes_beneath_it() {
    let scratch = Scratch::new("vanish");
    let mut options = scratch.options();
    options.max_bytes = 16 << 10;
    let (mut spool, _) = Spool::open(options).unwrap();
    append(&mut spool, Routine, 30);
    let mut reader = spool.reader(Routine, 0);
    assert_eq!(reader.read().unwrap().unwrap().0, 1);
    append(&mut spool, Urgent, 150);
    let dropped = status(&spool, Routine).dropped;
    assert!((10..30).contains(&dropped), "{dropped}");
    let (seq, bytes) = reader.read().unwrap().unwrap();
    assert_eq!((seq, bytes), (dropped + 1, payload(dropped + 1, TENTH)));
    assert_eq!(reader.corrupt(), 0);
}

#[test]
fn foreign_files_are_left_alone() {
    let scratch = Scratch::new("foreign");
    drop(scratch.open_intact());
    let folder = scratch.path().join("spool/urgent");
    let names = ["README", "1.seg", "00000000000000000000.seg", "+0000000000000000001.seg", "99999999999999999999.seg"];
    for name in names {
        fs::write(folder.join(name), "hello").unwrap();
    }
    let (_spool, recovery) = scratch.open();
    assert_eq!(recovery.damage().filter(|damage| matches!(damage, Damage::Foreign { .. })).count(), names.len());
    assert!(names.iter().all(|name| folder.join(name).exists()));
}

#[test]
fn a_reader_on_another_thread_sees_everything_once_while_it_is_written_and_acknowledged() {
    let scratch = Scratch::new("threads");
    let mut options = scratch.options();
    options.max_bytes = 8 << 20;
    let (spool, _) = Spool::open(options).unwrap();
    let spool = std::sync::Mutex::new(spool);
    let mut reader = spool.lock().unwrap().reader(Urgent, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in (1..=3000).step_by(3) {
                let batch: Vec<Vec<u8>> = (number..number + 3).map(|number| payload(number, TENTH)).collect();
                spool.lock().unwrap().append(Urgent, &batch).unwrap();
            }
        });
        let mut wanted = 1;
        while wanted <= 3000 {
            let Some((seq, bytes)) = reader.read().unwrap() else {
                std::thread::yield_now();
                continue;
            };
            assert_eq!((seq, bytes), (wanted, payload(wanted, TENTH)));
            if wanted % 100 == 0 {
                spool.lock().unwrap().ack(Urgent, wanted).unwrap();
            }
            wanted += 1;
        }
    });
    let now = status(&spool.lock().unwrap(), Urgent);
    assert_eq!((now.acked, now.corrupt, now.dropped), (3000, 0, 0));
}

#[test]
fn errors_name_the_thing_and_the_remedy() {
    let scratch = Scratch::new("errors");
    let mut options = scratch.options();
    options.max_bytes = 10;
    assert!(Spool::open(options).unwrap_err().to_string().contains("raise spool.max_mib"));
    let mut options = scratch.options();
    options.dir = scratch.path().join("file/spool");
    fs::write(scratch.path().join("file"), "").unwrap();
    let error = Spool::open(options).unwrap_err().to_string();
    assert!(error.contains("file/spool") && error.contains("permissions"), "{error}");
}
