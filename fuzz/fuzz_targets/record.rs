//! Bytes as if from a ring: `cargo fuzz run record`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tw_model::Raw;
use zerocopy::IntoBytes as _;

fuzz_target!(|bytes: &[u8]| {
    let words: Vec<u64> = bytes
        .chunks(8)
        .map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_ne_bytes(word)
        })
        .collect();
    if let Ok(raw) = Raw::parse(words.as_bytes()) {
        let _ = (raw.comm(), raw.key(), raw.file(), raw.sock(), raw.exec(), raw.call());
    }
});
