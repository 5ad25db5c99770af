//! A segment of the spool from a broken disk: `cargo fuzz run spool`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tw_report::spool::{HEADER, parse};

fuzz_target!(|bytes: &[u8]| {
    let parsed = parse(bytes, 1);
    assert!(parsed.good_end <= bytes.len().max(HEADER) as u64);
    assert!(parsed.records.windows(2).all(|pair| pair[0].0 < pair[1].0));
    if let (Some(first), Some(last)) = (parsed.records.first(), parsed.records.last()) {
        // Every number between is there or missing.
        assert!(last.0 - first.0 + 1 <= parsed.records.len() as u64 + parsed.missing);
    }
});
