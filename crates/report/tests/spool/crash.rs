//! A crash at every byte: whatever prefix of the files is left, what is wholly in it is there, and writing goes on.

use std::fs;

use tw_model::status::SpoolLane::Urgent;
use tw_report::spool::{Damage, HEADER, PREFIX};

use crate::scratch::{Scratch, numbers, payload, read, status};

const LENGTHS: [usize; 24] =
    [80, 20, 333, 64, 17, 500, 90, 18, 400, 300, 16, 250, 77, 31, 600, 45, 199, 80, 20, 333, 64, 17, 900, 100];

/// Every prefix, followed by what `tail` makes of the number of bytes that are missing.
fn every_prefix(name: &str, tail: impl Fn(usize) -> Vec<u8>) {
    let source = Scratch::new(name);
    let cursor = source.cursor(Urgent);
    let mut spool = source.open_intact();
    let before = fs::read(&cursor).unwrap();
    let mut ends = Vec::new();
    for (number, length) in (1..).zip(LENGTHS) {
        spool.append(Urgent, &[payload(number, length)]).unwrap();
        let files = source.segments(Urgent);
        let start = *ends.last().filter(|(file, _)| *file == files.len() - 1).map_or(&HEADER, |(_, end)| end);
        ends.push((files.len() - 1, start + PREFIX + length));
    }
    drop(spool);
    let files = source.segments(Urgent);
    assert!(files.len() >= 4);
    for (index, file) in files.iter().enumerate() {
        let bytes = fs::read(file).unwrap();
        for length in 0..=bytes.len() {
            let scratch = Scratch::new(name);
            let folder = scratch.path().join("spool/urgent");
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("cursor"), &before).unwrap();
            for whole in &files[..index] {
                fs::copy(whole, folder.join(whole.file_name().unwrap())).unwrap();
            }
            let mut left = bytes[..length].to_vec();
            left.extend(tail(bytes.len() - length));
            fs::write(folder.join(file.file_name().unwrap()), left).unwrap();

            let kept = ends.iter().filter(|end| **end <= (index, length)).count() as u64;
            let (mut spool, recovery) = scratch.open();
            assert!(recovery.damage().all(|damage| matches!(damage, Damage::Cut { .. })), "{index} {length}");
            assert_eq!(numbers(&spool, Urgent, 0), (1..=kept).collect::<Vec<_>>(), "{index} {length}");
            assert_eq!(spool.append(Urgent, &["on", "on"]).unwrap(), kept + 1..kept + 3);
            drop(spool);
            let spool = scratch.open_intact();
            let found = read(&spool, Urgent, 0);
            assert_eq!(found.len() as u64, kept + 2);
            for ((seq, bytes), length) in found.iter().zip(LENGTHS).take(kept as usize) {
                assert_eq!(bytes, &payload(*seq, length));
            }
            assert_eq!(status(&spool, Urgent).corrupt, 0);
        }
    }
}

#[test]
fn every_prefix_of_the_files_is_a_spool() {
    every_prefix("prefix", |_| Vec::new());
}

#[test]
fn every_prefix_followed_by_zeros_is_a_spool() {
    // What a file system may leave after a loss of power: the length is new, the bytes are not.
    every_prefix("zeros", |missing| vec![0; missing]);
}
