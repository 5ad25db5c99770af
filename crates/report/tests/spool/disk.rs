//! A disk that is really full: a tmpfs of 1 MiB in a mount namespace of its own, which goes with its process.

use std::path::Path;
use std::process::Command;

use tw_model::status::SpoolLane::{self, Routine, Urgent};
use tw_report::spool::{Spool, SpoolError, SpoolOptions};

use crate::scratch::{Scratch, payload, read, skip, status};

const FOLDER: &str = "TW_SPOOL_FULL_DISK";

/// Not a test of its own: what happens inside the namespace.
#[test]
fn inside() {
    let Some(dir) = std::env::var_os(FOLDER) else { return };
    let mut options = SpoolOptions::new(Path::new(&dir).join("spool"));
    (options.max_bytes, options.segment_bytes) = (64 << 20, 64 << 10);
    let (mut spool, _) = Spool::open(options.clone()).unwrap();

    let kept = fill(&mut spool, Urgent);
    assert!(kept > 300, "{kept} records of 2 KiB");
    let error = spool.status().error.unwrap();
    assert!(error.contains("no room") && error.contains("/spool/urgent") && error.contains("free space"), "{error}");
    assert_eq!(intact(&spool, Urgent), (1..=kept).collect::<Vec<_>>());
    drop(spool);

    // A restart needs no room, nor does an acknowledgement, which makes some.
    let (mut spool, recovery) = Spool::open(options.clone()).unwrap();
    assert_eq!(recovery.damage().count(), 0);
    assert!(matches!(spool.append(Urgent, &batch(0)), Err(SpoolError::NoSpace { .. })));
    assert_eq!(spool.ack(Urgent, kept / 2).unwrap(), kept / 2);
    let numbers = spool.append(Urgent, &batch(kept)).unwrap();
    assert_eq!(numbers.start, kept + 1, "no number is lost with a batch that failed");
    assert_eq!(spool.status().error, None);
    assert_eq!(intact(&spool, Urgent), (kept / 2 + 1..=kept + 8).collect::<Vec<_>>());

    // The rest of the room for routine findings. Urgent ones take it from them, segment by segment.
    let routine = fill(&mut spool, Routine);
    let dropped = status(&spool, Routine).dropped;
    assert!(dropped > 0, "it made room for itself as long as it could");
    assert_eq!(intact(&spool, Routine), (dropped + 1..=routine).collect::<Vec<_>>());
    let urgent = fill(&mut spool, Urgent);
    assert!(urgent > kept + 8);
    let gone = status(&spool, Routine).dropped;
    assert!(gone >= dropped);
    assert_eq!(intact(&spool, Routine), (gone + 1..=routine).collect::<Vec<_>>());
    assert_eq!(intact(&spool, Urgent), (kept / 2 + 1..=urgent).collect::<Vec<_>>());
    let before = spool.status().lanes;
    drop(spool);
    let (spool, recovery) = Spool::open(options).unwrap();
    assert_eq!(recovery.damage().count(), 0);
    assert_eq!(spool.status().lanes, before);
    assert_eq!((status(&spool, Urgent).dropped, status(&spool, Urgent).corrupt), (0, 0));
}

fn batch(after: u64) -> Vec<Vec<u8>> {
    (after + 1..=after + 8).map(|number| payload(number, 2048)).collect()
}

/// Appends until there is no room for 100 batches in a row at most. Returns the newest number.
fn fill(spool: &mut Spool, lane: SpoolLane) -> u64 {
    for _ in 0..500 {
        match spool.append(lane, &batch(status(spool, lane).newest)) {
            Ok(_) => {}
            Err(SpoolError::NoSpace { .. }) => return status(spool, lane).newest,
            Err(error) => panic!("{error}"),
        }
        if lane == Routine && status(spool, lane).dropped > 60 {
            return status(spool, lane).newest;
        }
    }
    panic!("a disk of 1 MiB is never full");
}

/// Numbers of the records that can be read; their payloads are right.
fn intact(spool: &Spool, lane: SpoolLane) -> Vec<u64> {
    let found = read(spool, lane, spool.acked(lane));
    found.into_iter().inspect(|(seq, bytes)| assert_eq!(bytes, &payload(*seq, 2048))).map(|(seq, _)| seq).collect()
}

#[test]
fn a_full_disk_is_told_loses_nothing_urgent_and_heals() {
    if !Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success()) {
        return skip("a mount namespace needs root");
    }
    let scratch = Scratch::new("disk");
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c"])
        .arg(format!("mount -t tmpfs -o size=1m tmpfs \"${FOLDER}\" && exec \"$0\" --exact disk::inside --nocapture"))
        .arg(std::env::current_exe().unwrap())
        .env(FOLDER, scratch.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "nothing of it is here");
}
