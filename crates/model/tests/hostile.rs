//! Whatever a record says, no field panics on it.

#![allow(clippy::unwrap_used, reason = "a test")]

use bumpalo::Bump;
use proptest::prelude::*;
use tw_model::event::{EVENTS, Prior};
use tw_model::field::{ArgRule, FIELDS, FieldRef, Opened};
use tw_model::raw::{Header, from_words, to_words};
use tw_model::{Event, KindSet, Names, ProcKey, Process, ProcessTable, Raw};
use zerocopy::IntoBytes as _;

/// A record of `kind` with random numbers in its body and strings that lie inside it.
fn record(kind: u16, ret: i64, body: &[u16], tail: &[u8]) -> Vec<u64> {
    let header = Header { kind, ret, size: 80 + 2 * body.len() as u16 + tail.len() as u16, ..Header::default() };
    let mut bytes = header.as_bytes().to_vec();
    body.iter().for_each(|half| bytes.extend(half.to_ne_bytes()));
    bytes.extend(tail);
    to_words(&bytes)
}

fn read_all_fields(words: &[u64]) -> bool {
    let Ok(raw) = Raw::parse(from_words(words)) else { return false };
    let (process, processes, scratch) = (Process::default(), ProcessTable::new(4), Bump::new());
    let event = Event {
        raw,
        num: 1,
        wall_ns: 5,
        process: &process,
        processes: &processes,
        container: None,
        unit: None,
        context: 0,
        coverage: None,
        prior: Prior::default(),
        names: Names::default(),
        scratch: &scratch,
    };
    for field in FIELDS {
        let arg = if field.arg == ArgRule::Required { Some("2") } else { None };
        if let Ok(field) = FieldRef::resolve(field.name, arg) {
            let _ = field.get(&event);
        }
    }
    for param in raw.info().params {
        for prefix in ["evt.arg", "evt.rawarg"] {
            let field = FieldRef::resolve(&format!("{prefix}.{param}"), None).expect("parameters of events are known");
            let _ = field.get(&event);
        }
    }
    true
}

/// Values of all fields of a process, for an event of it.
fn lasting_fields(words: &[u64], wall_ns: u64, processes: &ProcessTable) -> Option<Vec<String>> {
    let raw = Raw::parse(from_words(words)).ok()?;
    let process = processes.by_pid(7)?;
    let scratch = Bump::new();
    let event = Event {
        raw,
        num: wall_ns,
        wall_ns,
        process,
        processes,
        container: None,
        unit: None,
        context: 0,
        coverage: None,
        prior: Prior::default(),
        names: Names::default(),
        scratch: &scratch,
    };
    let lasting = FIELDS.iter().filter(|field| field.per_process);
    let values = lasting.filter_map(|field| {
        let arg = if field.arg == ArgRule::Required { Some("2") } else { None };
        FieldRef::resolve(field.name, arg).ok().map(|field| format!("{field}: {:?}", field.get(&event)))
    });
    Some(values.collect())
}

/// Values of the fields that an open decides, and what decides them.
fn fields_of_an_open(words: &[u64], ret: i64) -> Option<(String, Vec<String>)> {
    let raw = Raw::parse(from_words(words)).ok()?;
    let (process, processes, scratch) = (Process::default(), ProcessTable::new(4), Bump::new());
    let event = Event {
        raw,
        num: ret.unsigned_abs(),
        wall_ns: 5,
        process: &process,
        processes: &processes,
        container: None,
        unit: None,
        context: 0,
        coverage: None,
        prior: Prior::default(),
        names: Names::default(),
        scratch: &scratch,
    };
    let opened = format!("{:?}", Opened::of(&event)?);
    let all = FIELDS.iter().filter_map(|field| FieldRef::resolve(field.name, None).ok());
    let of_open = all.chain(FieldRef::resolve("evt.arg.flags", None)).filter(FieldRef::is_of_open);
    Some((opened, of_open.map(|field| format!("{field}: {:?}", field.get(&event))).collect()))
}

proptest! {
    #[test]
    fn equal_opens_have_equal_fields(
        kind in proptest::sample::select(&["open", "openat", "openat2", "creat", "open_by_handle_at"][..]),
        one in (any::<i64>(), proptest::collection::vec(0_u16..200, 120)),
        other in (any::<i64>(), proptest::collection::vec(0_u16..200, 120)),
        same in proptest::collection::vec(any::<u16>(), 120),
        resolved in any::<bool>(),
    ) {
        let kind = EVENTS.iter().find(|info| info.name == kind).map(|info| info.kind as u16).expect("it is a kind");
        // What decides: flags, mode and attributes, in halves of the body, and the path's text.
        let record_of = |(ret, body): &(i64, Vec<u16>)| {
            let mut body = body.clone();
            for at in [10, 11, 12, 13, 16, 17] {
                body[at] = same[at];
            }
            // Place and length of the path, or of what the caller wrote: the tail begins at byte 320.
            let at = if resolved { 24 } else { 26 };
            (body[24], body[25]) = (0, 0);
            (body[at], body[at + 1]) = (320, 17);
            // An open has one path only.
            body[31] = 0;
            record(kind, *ret, &body, b"/usr/share/a.conf, and what no place points to: so that strings of the body lie inside.")
        };
        let (first, second) = (fields_of_an_open(&record_of(&one), one.0), fields_of_an_open(&record_of(&other), other.0));
        prop_assert!(first.is_some() && second.is_some());
        prop_assert_eq!(first, second);
    }

    #[test]
    fn fields_of_a_process_do_not_depend_on_the_event(
        kind in 0_u16..EVENTS.len() as u16, ret in any::<i64>(), wall_ns in any::<u64>(),
        body in proptest::collection::vec(0_u16..200, 120), other in proptest::collection::vec(0_u16..200, 120),
    ) {
        let mut processes = ProcessTable::new(8);
        let key = |pid| ProcKey { start_ns: u64::from(pid), pid };
        // The leader of its session and group is no ancestor: another program in its place changes nothing.
        processes.insert(Process { key: key(3), comm: b"leader"[..].into(), ..Process::default() });
        processes.insert(Process { key: key(6), comm: b"parent"[..].into(), ..Process::default() });
        let child = Process { key: key(7), parent: Some(key(6)), sid: 3, pgid: 3, vpgid: 3, ..Process::default() };
        processes.insert(child);
        let first = lasting_fields(&record(kind, ret, &body, &[0; 100]), 5, &processes);
        processes.get_mut(key(3)).expect("it is there").comm = b"other"[..].into();
        let mut record = record(0, 1, &other, &[0; 100]);
        // The record's time.
        record[1] = wall_ns / 2;
        let second = lasting_fields(&record, wall_ns, &processes);
        prop_assert!(first.is_some() && second.is_some());
        prop_assert_eq!(first, second);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_field_panics(
        kind in 0..EVENTS.len() as u16,
        ret in prop_oneof![Just(0_i64), Just(-1), Just(i64::MIN), Just(i64::MAX), any::<i64>()],
        body in proptest::collection::vec(prop_oneof![3 => 0_u16..400, 1 => any::<u16>()], 0..120),
        tail in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        read_all_fields(&record(kind, ret, &body, &tail));
    }
}

#[test]
fn most_random_records_are_read_so_the_test_tests() {
    let read = EVENTS.iter().filter(|info| read_all_fields(&record(info.kind as u16, 0, &[0; 120], &[0; 100]))).count();
    assert_eq!(read, EVENTS.len());
}

#[test]
fn sets_of_kinds_are_sets() {
    let (a, b) = (KindSet::one(EVENTS[0].kind), KindSet::one(EVENTS[5].kind));
    assert!(a.or(b).contains(EVENTS[5].kind) && !a.or(b).contains(EVENTS[1].kind));
    assert_eq!(a.and(b), KindSet::NONE);
    assert_eq!(a.not().and(a), KindSet::NONE);
    assert_eq!(KindSet::ALL.iter().count(), EVENTS.len());
}
