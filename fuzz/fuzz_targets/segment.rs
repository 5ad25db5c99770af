//! A segment of the flight recorder from a stranger: `cargo fuzz run segment`.
//!
//! Checksums would keep out nearly everything, so most inputs are put into blocks with sound ones.
#![no_main]

use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use tw_model::raw::Raw;
use tw_model::{EventKind, KindSet};
use tw_sensor::recorder::{FrameKind, SegmentReader, Selection};

fn checksum(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).to_le_bytes()
}

fn segment(meta: &[u8]) -> Vec<u8> {
    let mut out = b"TWsegmt\n\x01\0\0\0".to_vec();
    out.extend((meta.len() as u32).to_le_bytes());
    out.extend(checksum(meta));
    out.extend(checksum(&out));
    out.extend(meta);
    out
}

fn block(out: &mut Vec<u8>, raw: u32, numbers: &[u8], data: &[u8]) {
    let mut head = b"TWblock\n".to_vec();
    head.extend(raw.to_le_bytes());
    head.extend((data.len() as u32).to_le_bytes());
    // Counts, times, kinds, cgroups, flags: as the input has it, with room for their lists.
    head.extend(numbers.iter().chain(std::iter::repeat(&0)).take(56));
    head.extend(checksum(data));
    let (kinds, cgroups) = (&head[48..64], u16::from_le_bytes([head[64], head[65]]) % 300);
    let lists = kinds.iter().map(|byte| byte.count_ones()).sum::<u32>() as usize * 4 + usize::from(cgroups) * 12;
    head[64..66].copy_from_slice(&cgroups.to_le_bytes());
    let lists: Vec<u8> = numbers.iter().copied().cycle().chain(std::iter::repeat(0)).take(lists).collect();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head), &lists);
    head.extend(crc.to_le_bytes());
    out.extend(head);
    out.extend(lists);
    out.extend(data);
}

fn read(bytes: Vec<u8>) {
    let Ok(mut segment) = SegmentReader::from_bytes("fuzz", bytes) else { return };
    let mut parsed = 0;
    let reading = segment.frames(|kind, payload| {
        assert!((payload.as_ptr() as usize).is_multiple_of(8));
        parsed += usize::from(kind == FrameKind::Record && Raw::parse(payload).is_ok());
        ControlFlow::Continue(())
    });
    assert!(parsed as u64 <= reading.records);
    let kinds = KindSet::one(EventKind::Execve);
    let some = Selection { from_ns: 5, to_ns: 1 << 40, kinds, cgroup: Some(7), context: false };
    let fewer = segment.frames_where(&some, |_, _| ControlFlow::Continue(()));
    assert!(fewer.records <= reading.records);
}

fuzz_target!(|bytes: &[u8]| {
    let Some((how, bytes)) = bytes.split_first() else { return };
    if how % 4 == 0 {
        return read(bytes.to_vec());
    }
    let mut out = segment(b"{}");
    for part in bytes.chunks(200) {
        let (numbers, rest) = part.split_at(part.len().min(56));
        match how % 4 {
            1 => {
                let raw = u32::from(*part.last().unwrap_or(&0)) << 12;
                block(&mut out, raw, numbers, rest);
            }
            2 => block(&mut out, rest.len() as u32, numbers, &zstd::encode_all(rest, 1).unwrap()),
            _ => {
                block(&mut out, rest.len() as u32, numbers, &zstd::encode_all(rest, 1).unwrap());
                out.extend(rest);
            }
        }
    }
    read(out);
});
