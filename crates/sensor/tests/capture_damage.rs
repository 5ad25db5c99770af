//! Captures that are compressed, cut, damaged, or made by somebody who means harm; and real ones.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::ops::ControlFlow;
use std::path::Path;

use proptest::prelude::*;
use tw_model::raw::Raw;
use tw_sensor::capture::{CaptureError, CaptureReader, Item};

mod capturing;
mod telling;
use capturing::{Form, P, Scap};
use telling::{host, mixed, told};

#[test]
fn a_cut_at_any_byte_leaves_everything_before_and_an_error() {
    let scap = mixed(Form::New);
    let (all, reading) = told(&scap.bytes);
    assert!(reading.error.is_none());
    // At the border of two blocks nobody can know that there was more.
    let (mut whole, mut opened) = (0, 0);
    for cut in 0..scap.bytes.len() {
        let reader = match CaptureReader::from_bytes("cut", scap.bytes[..cut].to_vec()) {
            Ok(reader) => reader,
            Err(CaptureError::NotACapture { .. } | CaptureError::Truncated { .. }) => continue,
            Err(error) => panic!("cut at {cut}: {error}"),
        };
        opened += 1;
        drop(reader);
        let (got, reading) = told(&scap.bytes[..cut]);
        assert!(all.starts_with(&got), "cut at {cut}");
        match reading.error {
            None => whole += 1,
            Some(error) => assert!(error.is_truncation(), "cut at {cut}: {error}"),
        }
    }
    assert!(opened > 2_000, "{opened}");
    assert_eq!(whole as u64, reading.conversion.events + 5, "one for each block but the last");
}

#[test]
fn a_compressed_capture_is_the_same_and_may_be_cut_as_well() {
    let scap = mixed(Form::Old);
    let (all, _) = told(&scap.bytes);
    let packed = scap.gzip();
    let (got, reading) = told(&packed);
    assert!(reading.error.is_none());
    assert_eq!(got, all);
    for cut in 0..packed.len() {
        let Ok(reader) = CaptureReader::from_bytes("/x/cut.scap", packed[..cut].to_vec()) else { continue };
        drop(reader);
        let (got, reading) = told(&packed[..cut]);
        assert!(all.starts_with(&got), "cut at {cut}");
        if let Some(error) = reading.error {
            assert!(error.is_truncation(), "cut at {cut}: {error}");
            assert!(error.to_string().contains(" of the unpacked capture: "), "{error}");
        }
    }
    // Two files behind each other are one.
    let two = [packed.clone(), packed].concat();
    assert_eq!(told(&two).0.iter().filter(|line| *line == "section").count(), 1);
}

#[test]
fn errors_name_file_place_and_remedy() {
    let scap = mixed(Form::New);
    let length = scap.bytes.len();
    let error = |bytes: &[u8]| told(bytes).1.error.unwrap().to_string();
    let text = error(&scap.bytes[..length - 3]);
    assert!(text.starts_with("/x/y.scap: byte ") && text.contains("a block ends before its length"), "{text}");
    assert!(text.contains("everything before was read") && text.contains("Copy the capture anew"), "{text}");
    for (value, what) in [
        (0_u32, "a block of 0 bytes"),
        (u32::MAX, "more than 16777216 are not believed"),
        (60, "says 60 bytes at its start and "),
    ] {
        let mut bad = scap.clone();
        let at = bad.bytes.len();
        bad.event(100, 301, &[P::I64(0), P::Text("/a-path-that-is-long-enough")]);
        bad.bytes[at + 4..at + 8].copy_from_slice(&value.to_le_bytes());
        let text = error(&bad.bytes);
        assert!(text.starts_with(&format!("/x/y.scap: byte {at}: ")) && text.contains(what), "{text}");
    }
    for (bytes, what) in [
        (b"".to_vec(), "/x/y.scap: is empty: not a capture"),
        (b"\n".to_vec(), "/x/y.scap: is too short: not a capture"),
        (b"#!/bin/sh\n".to_vec(), "does not begin like one"),
        ([&[0x1f, 0x8b][..], b"not gzip at all, but it says so"].concat(), "cannot be unpacked"),
    ] {
        let text = CaptureReader::from_bytes("/x/y.scap", bytes).err().unwrap().to_string();
        assert!(text.contains(what), "{text}");
    }
    let mut newer = Scap::new(Form::New);
    newer.bytes.clear();
    newer.section(2);
    let text = CaptureReader::from_bytes("/x/y.scap", newer.bytes).err().unwrap().to_string();
    assert!(text.contains("format 2, known is 1"), "{text}");
    assert!(CaptureReader::open(Path::new("/dev/null")).err().unwrap().to_string().contains("is not a file"));
    let text = CaptureReader::open(Path::new("/nonexistent/x.scap")).err().unwrap().to_string();
    assert!(text.starts_with("cannot open /nonexistent/x.scap: No such file"), "{text}");
}

#[test]
fn an_event_that_lies_costs_only_itself_and_a_list_only_its_rest() {
    for form in Form::ALL {
        let mut scap = host(form, false, 9, 2);
        let at = scap.bytes.len();
        scap.event(100, 301, &[P::I64(0), P::Text("/lost")]);
        scap.event(100, 301, &[P::I64(0), P::Text("/kept")]);
        let flags = if matches!(form, Form::OldWithFlags | Form::NewWithFlags | Form::LargeWithFlags) { 4 } else { 0 };
        // The length of the event, in front of its number.
        let length = at + 8 + 2 + flags + 16;
        for lie in [0_u32, 21, 40_000, u32::MAX] {
            let mut bad = scap.clone();
            bad.bytes[length..length + 4].copy_from_slice(&lie.to_le_bytes());
            let (lines, reading) = told(&bad.bytes);
            assert!(lines.last().unwrap().contains("raw:/kept"), "{form:?} {lie}");
            assert_eq!(reading.conversion.malformed, 1, "{form:?} {lie}");
            assert!(reading.error.is_none());
        }
    }
    let mut scap = Scap::new(Form::New);
    let mut content = 5_000_u32.to_le_bytes().to_vec();
    content.extend([0; 20]);
    scap.block(0x215, &content);
    scap.event(100, 301, &[P::I64(0), P::Text("/kept")]);
    let (lines, reading) = told(&scap.bytes);
    assert!(lines.last().unwrap().contains("raw:/kept"));
    assert!(reading.error.unwrap().to_string().contains("a list breaks off"));
}

#[test]
fn a_capture_of_packets_is_told_as_that() {
    let mut scap = Scap::new(Form::New);
    scap.bytes.clear();
    scap.section(1);
    // An interface: Ethernet, no limit.
    scap.block(1, &[1, 0, 0, 0, 0, 0, 0, 0]);
    let (lines, reading) = told(&scap.bytes);
    assert!(lines.is_empty());
    let said = reading.error.unwrap().to_string();
    assert!(said.contains("packets (pcapng)"), "{said}");
}

#[test]
fn an_event_of_our_own_that_makes_no_sense_is_counted() {
    let ours = 0x5754;
    let one = [0_u8; 16];
    for (params, expected) in [
        (vec![P::Bytes(vec![2]), P::Bytes(one.to_vec())], (1, 0)),
        (vec![P::Bytes(vec![2]), P::Bytes(vec![])], (1, 0)),
        (vec![P::Bytes(vec![0x82]), P::Bytes(one.to_vec())], (0, 0)),
        (vec![P::Bytes(vec![]), P::Bytes(one.to_vec())], (0, 1)),
        (vec![P::Bytes(vec![99]), P::Bytes(one.to_vec())], (0, 1)),
        (vec![], (0, 1)),
    ] {
        let mut scap = Scap::new(Form::New);
        scap.event(100, ours, &params);
        let (_, reading) = told(&scap.bytes);
        assert_eq!((reading.conversion.native, reading.conversion.malformed), expected, "{params:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_bytes_panic(
        form in 0..Form::ALL.len(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..40),
        number in 0_u16..430,
        params in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..34),
        kind in prop::sample::select(vec![0x201_u32, 0x202, 0x203, 0x205, 0x206, 0x211, 0x215, 0x218, 0x219, 0x220, 0x216]),
        noise in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut scap = mixed(Form::ALL[form]);
        // Events with any parameters at all, and blocks with any content.
        let params: Vec<P> = params.into_iter().map(P::Bytes).collect();
        scap.event(100, number, &params);
        scap.event(100, number | 1, &params);
        scap.block(kind, &noise);
        for (at, value) in &flips {
            let at = at.index(scap.bytes.len());
            scap.bytes[at] = *value;
        }
        if let Ok(reader) = CaptureReader::from_bytes("bad", scap.bytes.clone()) {
            let mut records = 0;
            let reading = reader.read(&mut |item| {
                if let Item::Record { bytes, .. } = item {
                    Raw::parse(bytes).unwrap();
                    records += 1;
                }
                ControlFlow::Continue(())
            });
            let of = reading.conversion;
            prop_assert_eq!(of.records, records);
            prop_assert_eq!(of.events, of.records + of.begins + of.others + of.silent + of.malformed);
            let _ = CaptureReader::from_bytes("bad", scap.bytes).unwrap().survey();
        }
    }
}

/// Real captures, if there are any: `TIDEWATCH_CAPTURES=/folder`.
#[test]
fn real_captures_are_read_to_their_end() {
    let Some(folder) = std::env::var_os("TIDEWATCH_CAPTURES") else {
        eprintln!("skipped: no TIDEWATCH_CAPTURES");
        return;
    };
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let mut records = 0;
        let reading = CaptureReader::open(&path).unwrap().read(&mut |item| {
            if let Item::Record { bytes, .. } = item {
                Raw::parse(bytes).unwrap();
                records += 1;
            }
            ControlFlow::Continue(())
        });
        assert!(reading.error.is_none(), "{}: {:?}", path.display(), reading.error);
        assert_eq!((reading.conversion.malformed, reading.unknown_blocks), (0, 0), "{}", path.display());
        assert!(records > 0, "{}", path.display());
        seen += 1;
    }
    assert!(seen > 0);
}
