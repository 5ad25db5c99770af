//! What the spool costs on this disk: `cargo test -p tidewatch-report --test spool -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use tw_model::status::SpoolLane;
use tw_report::spool::{Spool, SpoolOptions, SpoolSync};

use crate::scratch::{Scratch, payload, read};

#[test]
#[ignore = "measures, and takes twelve seconds"]
fn appends_a_second() {
    let debug = if cfg!(debug_assertions) { "debug" } else { "release" };
    for sync in [SpoolSync::Batch, SpoolSync::None] {
        for size in [1, 32, 256] {
            let scratch = Scratch::on_disk("bench");
            let mut options = SpoolOptions::new(scratch.path().join("spool"));
            options.sync = sync;
            let (mut spool, _) = Spool::open(options.clone()).unwrap();
            let batch = vec![payload(1, 2048); size];
            let (start, mut records) = (Instant::now(), 0);
            while start.elapsed() < Duration::from_secs(2) {
                records += spool.append(SpoolLane::Urgent, &batch).unwrap().count();
            }
            let rate = records as f64 / start.elapsed().as_secs_f64();
            drop(spool);
            let start = Instant::now();
            let (spool, recovery) = Spool::open(options).unwrap();
            let opened = start.elapsed();
            let start = Instant::now();
            let count = read(&spool, SpoolLane::Urgent, 0).len();
            println!(
                "{debug}, {sync:?}, batches of {size}: {rate:.0} records/s; {} waiting: opened in {:.2} s, {count} read in {:.2} s",
                recovery.lanes[0].waiting,
                opened.as_secs_f64(),
                start.elapsed().as_secs_f64()
            );
        }
    }
}
