//! Guards the invariant that nothing is allocated between the ring and "no hit": a counting allocator around
//! enrichment and detection of events that match no rule.

#![allow(clippy::unwrap_used, reason = "a test")]

use bumpalo::Bump;
use tw_detect::Detector;
use tw_enrich::{World, WorldOptions};
use tw_model::raw::{Encoder, FileBody, Header, SockBody, SocketId, from_words, to_words};
use tw_model::{EventKind, Raw};
use tw_rules::Loader;
use zerocopy::IntoBytes as _;

#[path = "../../sensor/tests/allocations/mod.rs"]
mod allocations;

/// Our own pack: what runs by default must keep the promise.
fn pack() -> Loader {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rules");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let yaml = files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    yaml.fold(Loader::new(), |loader, file| {
        loader.add_file(file.display().to_string(), std::fs::read_to_string(file).unwrap())
    })
}

fn open(number: u64) -> Vec<u8> {
    let header = Header {
        kind: EventKind::Openat as u16,
        time: number,
        start: 5,
        cgroup: 1,
        pid: 42,
        tid: 42,
        ret: 3,
        ..Header::default()
    };
    let mut out = Encoder::new(&header, size_of::<FileBody>());
    let body = FileBody {
        path: out.text(b"/usr/share/zoneinfo/UTC"),
        raw: out.text(b"../zoneinfo/UTC"),
        ..FileBody::default()
    };
    out.finish(&body)
}

fn connect(number: u64) -> Vec<u8> {
    let header = Header {
        kind: EventKind::Connect as u16,
        time: number,
        start: 5,
        cgroup: 1,
        pid: 42,
        tid: 42,
        ..Header::default()
    };
    let body = SockBody {
        family: 2,
        proto: 6,
        type_: 1,
        attrs: 5,
        rport: 443,
        raddr: [10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ..SockBody::default()
    };
    Encoder::new(&header, size_of::<SockBody>()).finish(&body)
}

/// One socket, again and again: servers that share it each say so.
fn listen(number: u64) -> Vec<u8> {
    let header = Header {
        kind: EventKind::Listen as u16,
        time: number,
        start: 5,
        cgroup: 1,
        pid: 42,
        tid: 42,
        ..Header::default()
    };
    let mut out = Encoder::new(&header, size_of::<SockBody>());
    let data = out.text(SocketId { ino: 77, netns: 1, chosen: 1 }.as_bytes());
    out.finish(&SockBody { family: 2, proto: 6, type_: 1, lport: 8_080, data, ..SockBody::default() })
}

#[test]
fn nothing_is_allocated_when_nothing_is_found() {
    let (rules, problems) = pack().finish();
    assert!(problems.iter().all(|problem| !problem.is_error()), "{problems:?}");
    let mut detector = Detector::new(rules);
    let mut world = World::new(WorldOptions::default()).unwrap();
    let mut scratch = Bump::with_capacity(64 << 10);
    let kinds = [open, connect, open, connect, listen];
    let records: Vec<Vec<u64>> = kinds.iter().cycle().zip(0..1000).map(|(kind, n)| to_words(&kind(n))).collect();
    let mut found = 0;
    let mut pass = |world: &mut World| {
        for record in &records {
            let raw = Raw::parse(from_words(record)).unwrap();
            assert!(world.admit(&raw));
            let event = world.observe(raw, &scratch);
            detector.inspect(&event, &mut |_| found += 1);
            scratch.reset();
        }
    };
    // The first events teach the world the process and warm what regular expressions keep.
    pass(&mut world);
    let before = allocations::of_this_thread();
    pass(&mut world);
    assert_eq!(allocations::of_this_thread() - before, 0, "allocations for 1000 events without a hit");
    assert_eq!(found, 0);
    assert_eq!((world.listeners().len(), world.listeners().version()), (1, 1));
}
