//! Bytes as if from a ring: `cargo fuzz run record`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tw_model::Raw;
use tw_model::raw::{from_words, to_words};

fuzz_target!(|bytes: &[u8]| {
    let words = to_words(bytes);
    if let Ok(raw) = Raw::parse(from_words(&words)) {
        let _ = (raw.comm(), raw.key(), raw.file(), raw.sock(), raw.exec(), raw.call());
    }
});
