//! Guards that handing frames to the flight recorder costs the caller's thread no allocation: a counting allocator
//! around a steady stream of records.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::{Duration, Instant};

use tw_sensor::recorder::{FrameKind, Recorder, RecorderOptions, SegmentMeta};

mod allocations;
mod recording;
use recording::mixed;

fn stream(queue_blocks: usize, pause: Duration) -> (u64, u64) {
    let dir = tempfile::tempdir().unwrap();
    let options =
        RecorderOptions { dir: dir.path().into(), block_bytes: 16 << 10, queue_blocks, ..RecorderOptions::default() };
    let (mut recorder, _) = Recorder::open(options).unwrap();
    recorder.begin_segment(SegmentMeta::default());
    let records: Vec<Vec<u8>> = (0..1000).map(mixed).collect();
    let pass = |recorder: &mut Recorder| {
        for record in &records {
            recorder.append(FrameKind::Record, record);
        }
        recorder.note_container(7, "0123456789ab");
        recorder.flush();
        let _ = recorder.wants_segment();
        // The writer must come along: with a queue that is too short, it need not.
        let begun = Instant::now();
        while recorder.room() < (queue_blocks / 2) * (16 << 10) && begun.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(pause);
        }
    };
    // Faster than the writer, until every block was made that there may be.
    while recorder.status().lost == 0 {
        records.iter().for_each(|record| recorder.append(FrameKind::Record, record));
    }
    pass(&mut recorder);
    let lost = recorder.status().lost;
    let before = allocations::of_this_thread();
    for _ in 0..10 {
        pass(&mut recorder);
    }
    let allocations = allocations::of_this_thread() - before;
    (allocations, recorder.close().lost - lost)
}

#[test]
fn a_steady_stream_allocates_nothing() {
    let (allocations, lost) = stream(64, Duration::from_millis(1));
    assert_eq!(lost, 0, "a stream that is kept whole");
    assert_eq!(allocations, 0, "allocations for 10,000 records");
}

#[test]
fn losing_blocks_allocates_nothing() {
    let (allocations, lost) = stream(1, Duration::ZERO);
    assert!(lost > 0, "a stream that is too fast");
    assert_eq!(allocations, 0, "allocations for 10,000 records");
}
