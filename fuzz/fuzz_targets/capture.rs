//! A capture from a stranger: `cargo fuzz run capture`.
//!
//! Lengths would keep out nearly everything, so most inputs are put into blocks and events with sound ones.
#![no_main]

use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use tw_model::raw::Raw;
use tw_sensor::capture::{CaptureReader, Item};

/// Kinds of blocks that hold lists.
const LISTS: [u32; 16] = [
    0x201, 0x202, 0x203, 0x205, 0x206, 0x207, 0x209, 0x210, 0x211, 0x212, 0x213, 0x214, 0x215, 0x218, 0x219, 0x220,
];

fn block(out: &mut Vec<u8>, kind: u32, content: &[u8]) {
    let length = (content.len().next_multiple_of(4) + 12) as u32;
    out.extend(kind.to_le_bytes());
    out.extend(length.to_le_bytes());
    out.extend(content);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend(length.to_le_bytes());
}

fn section() -> Vec<u8> {
    let mut out = Vec::new();
    let mut content = 0x1a2b_3c4d_u32.to_le_bytes().to_vec();
    content.extend([1, 0, 2, 0]);
    content.extend([0xff; 8]);
    block(&mut out, 0x0a0d_0d0a, &content);
    out
}

/// An event: number, thread, and parameters each behind its length.
fn event(out: &mut Vec<u8>, input: &[u8], counted: bool) {
    let [low, high, tid, rest @ ..] = input else { return };
    let (mut lengths, mut data, mut count) = (Vec::<u8>::new(), Vec::<u8>::new(), 0_u32);
    let mut rest = rest;
    while let Some((length, tail)) = rest.split_first() {
        let (param, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        lengths.extend((param.len() as u16).to_le_bytes());
        data.extend(param);
        count += 1;
        rest = tail;
    }
    let header = if counted { 26 } else { 22 };
    let mut content = vec![0, 0];
    content.extend((1_700_000_000_000_000_000_u64 + out.len() as u64).to_le_bytes());
    // Few threads, so that begins find their ends and forks their children.
    content.extend(u64::from(*tid % 8).to_le_bytes());
    content.extend(((header + lengths.len() + data.len()) as u32).to_le_bytes());
    content.extend((u16::from_le_bytes([*low, *high]) % 430).to_le_bytes());
    if counted {
        content.extend(count.to_le_bytes());
    }
    content.extend(lengths);
    content.extend(data);
    block(out, if counted { 0x216 } else { 0x204 }, &content);
}

fn read(bytes: Vec<u8>) {
    let Ok(reader) = CaptureReader::from_bytes("fuzz", bytes.clone()) else { return };
    let mut records = 0;
    let reading = reader.read(&mut |item| {
        if let Item::Record { bytes, .. } = item {
            assert!(Raw::parse(bytes).is_ok());
            records += 1;
        }
        ControlFlow::Continue(())
    });
    let of = reading.conversion;
    assert_eq!(of.records, records);
    assert_eq!(of.events, of.records + of.begins + of.others + of.silent + of.malformed);
    if let Ok(reader) = CaptureReader::from_bytes("fuzz", bytes) {
        assert_eq!(reader.survey().events, of.events);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((how, bytes)) = bytes.split_first() else { return };
    if how % 4 == 0 {
        return read(bytes.to_vec());
    }
    let mut out = section();
    let mut rest = bytes;
    while let Some(([kind, length], tail)) = rest.split_first_chunk() {
        let (part, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        match kind % 4 {
            0 => block(&mut out, LISTS[usize::from(kind / 4) % LISTS.len()], part),
            _ => event(&mut out, part, how % 4 != 1),
        }
        rest = tail;
    }
    read(out);
});
