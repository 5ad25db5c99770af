//! Sockets that listen: told by events, found by looking, forgotten when they end, and lived again.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use bumpalo::Bump;
use tw_enrich::{Context, World, WorldOptions};
use tw_model::raw::{Encoder, Header, SockBody, SocketId, from_words, to_words};
use tw_model::{Container, EventKind, Raw};
use zerocopy::IntoBytes as _;

#[path = "../src/scratch.rs"]
mod scratch;
use scratch::Scratch;

const WEB: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const LOOK: u64 = 30_000_000_000;

fn record(kind: EventKind, cgroup: u64, ino: u64, port: u16, proto: u16, chosen: u32) -> Vec<u64> {
    record_of(7, kind, cgroup, SocketId { ino, netns: 1, chosen }, port, proto)
}

fn record_of(pid: u32, kind: EventKind, cgroup: u64, socket: SocketId, port: u16, proto: u16) -> Vec<u64> {
    let mut comm = [0; 16];
    comm[..6].copy_from_slice(b"server");
    let header = Header { kind: kind as u16, pid, tid: pid, start: 70, time: 1_000, cgroup, comm, ..Header::default() };
    let mut out = Encoder::new(&header, size_of::<SockBody>());
    let type_ = if proto == 17 { 2 } else { 1 };
    let data = out.text(socket.as_bytes());
    to_words(&out.finish(&SockBody { family: 2, proto, type_, lport: port, data, ..SockBody::default() }))
}

fn observe(world: &mut World, record: &[u64]) {
    let scratch = Bump::new();
    world.observe(Raw::parse(from_words(record)).unwrap(), &scratch);
}

fn shown(world: &World) -> Vec<String> {
    let told = world.listeners_told();
    told.iter()
        .map(|one| format!("{:.3} {} {}:{} {}", one.container, one.protocol, one.address, one.port, one.process))
        .collect()
}

#[test]
fn events_tell_who_listens_and_a_second_life_knows_the_same() {
    let mut world = World::reliving(100);
    let container = Container { id: WEB.into(), name: "web".into(), complete: true, ..Container::default() };
    world.relive(Context::Place { cgroup: 5, container: WEB.into() });
    world.relive(Context::Container { container: Box::new(container) });
    observe(&mut world, &record(EventKind::Listen, 5, 11, 80, 6, 1));
    observe(&mut world, &record(EventKind::Listen, 1, 12, 22, 6, 1));
    observe(&mut world, &record(EventKind::Bind, 5, 13, 5353, 17, 1));
    observe(&mut world, &record(EventKind::Bind, 5, 14, 40_000, 17, 0)); // waits for an answer
    observe(&mut world, &record(EventKind::Bind, 5, 15, 81, 6, 1)); // bound, but does not listen
    assert_eq!(shown(&world), [" tcp 0.0.0.0:22 server", "aaa tcp 0.0.0.0:80 server", "aaa udp 0.0.0.0:5353 server"]);
    let mut again = World::reliving(100);
    world.checkpoint(&mut |context| {
        let line = serde_json::to_string(&context).unwrap();
        again.relive(serde_json::from_str(&line).unwrap());
    });
    assert_eq!(shown(&again), shown(&world));
    for world in [&mut world, &mut again] {
        observe(world, &record(EventKind::ListenEnd, 1, 11, 80, 6, 1));
        world.relive(Context::ListeningEnded { ino: 12 });
        assert_eq!(shown(world), ["aaa udp 0.0.0.0:5353 server"]);
        world.relive(Context::Gone { id: WEB.into() });
        assert!(world.listeners().is_empty());
    }
}

fn number(socket: &impl AsRawFd) -> u64 {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
    link.to_str().unwrap().trim_start_matches("socket:[").trim_end_matches(']').parse().unwrap()
}

/// Lets the world look once more; returns when it has looked.
fn look(world: &mut World, now: &mut u64) {
    *now += LOOK;
    world.refresh_listeners(*now);
    take(world, *now);
}

/// Waits until the look under way is over, and takes what was seen.
fn take(world: &mut World, now: u64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while world.is_looking() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(10));
        // Nothing is due yet: this only takes what was seen.
        world.refresh_listeners(now + 1);
    }
}

/// Lets the world find what is there already.
fn seed(world: &mut World) {
    let (_, all) = world.seed(|_| {});
    assert!(all);
    take(world, 0);
}

#[test]
fn those_that_were_there_are_found_and_those_that_went_unseen_are_forgotten() {
    let before = TcpListener::bind("127.0.0.83:0").unwrap();
    let datagrams = (21_000..21_100).find_map(|port| UdpSocket::bind(("127.0.0.83", port)).ok()).unwrap();
    let mut world = World::new(WorldOptions::default()).unwrap();
    world.keep_journal();
    seed(&mut world);
    let own = std::process::id();
    for (ino, protocol) in [(number(&before), 6), (number(&datagrams), 17)] {
        let found = world.listeners().get(ino).unwrap();
        assert_eq!((found.protocol, found.process.unwrap().pid, found.since_ns), (protocol, own, 0));
    }
    let learnt = |world: &mut World, ino: u64| -> Vec<bool> {
        let news = world.learnt().filter_map(|context| match context {
            Context::Listening { listening } => (listening.ino == ino).then_some(true),
            Context::ListeningEnded { ino: ended } => (ended == ino).then_some(false),
            _ => None,
        });
        news.collect()
    };
    assert_eq!(learnt(&mut world, number(&before)), [true]);
    // One more, and no event tells of it: it is believed the second time.
    let missed = TcpListener::bind("127.0.0.83:0").unwrap();
    let (ino, gone) = (number(&missed), number(&datagrams));
    let mut now = LOOK;
    look(&mut world, &mut now);
    assert!(world.listeners().get(ino).is_none());
    look(&mut world, &mut now);
    assert_eq!(world.listeners().get(ino).unwrap().process.unwrap().pid, own);
    assert_eq!(learnt(&mut world, ino), [true]);
    drop((missed, datagrams));
    look(&mut world, &mut now);
    assert!(world.listeners().get(ino).is_none() && world.listeners().get(gone).is_none());
    assert!(world.listeners().get(number(&before)).is_some(), "this one is there still");
    assert_eq!(learnt(&mut world, ino), [false]);
}

#[test]
fn who_says_it_once_more_changes_nothing() {
    let mut world = World::reliving(100);
    observe(&mut world, &record(EventKind::Listen, 5, 11, 80, 6, 1));
    let version = world.listeners().version();
    observe(&mut world, &record(EventKind::Listen, 5, 11, 80, 6, 1));
    assert_eq!(world.listeners().version(), version);
    observe(&mut world, &record(EventKind::Listen, 5, 11, 81, 6, 1));
    assert!(world.listeners().version() > version);
    assert_eq!(world.listeners().get(11).unwrap().port, 81);
}

/// A made-up host: process `n` lives in network namespace 1000 + `n`, in which socket 10000 + `n` listens.
struct Host(Scratch);

impl Host {
    fn new(places: u32) -> Self {
        let host = Self(Scratch::new("host"));
        for n in 1..=places {
            let tree = &host.0;
            tree.write(&format!("{n}/stat"), format!("{n} (s) S 0 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0\n"));
            tree.write(&format!("{n}/status"), "Name:\ts\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n");
            tree.link(&format!("{n}/ns/net"), format!("net:[{}]", 1_000 + n));
            host.sockets(n, &[10_000 + u64::from(n)]);
        }
        host
    }

    /// These sockets listen in the namespace of process `n`, and nothing else.
    fn sockets(&self, n: u32, sockets: &[u64]) {
        let row =
            |(at, ino): (usize, &u64)| format!("{at}: 0100007F:{:04X} 00000000:0000 0A 0:0 0:0 0 0 0 {ino}\n", at + 80);
        let rows: String = sockets.iter().enumerate().map(row).collect();
        self.0.write(&format!("{n}/net/tcp"), format!("head\n{rows}"));
    }

    fn world(&self) -> World {
        World::new(WorldOptions { proc_root: self.0.path().into(), ..WorldOptions::default() }).unwrap()
    }
}

#[test]
fn a_missed_socket_is_listed_however_many_namespaces_there_are() {
    const PLACES: u32 = 130;
    let host = Host::new(PLACES);
    let mut world = host.world();
    seed(&mut world);
    assert_eq!(world.listeners().len(), PLACES as usize, "those that were there");
    for n in 1..=PLACES {
        host.sockets(n, &[10_000 + u64::from(n), 20_000 + u64::from(n)]);
    }
    let suspects = |world: &World| {
        world.tables().into_iter().find_map(|(name, (entries, ..))| (name == "missed_listeners").then_some(entries))
    };
    let mut now = LOOK;
    // 64 namespaces each time: none is looked at twice before the fourth.
    for looks in 1..=6 {
        look(&mut world, &mut now);
        if looks == 2 {
            assert_eq!((world.listeners().len(), suspects(&world)), (PLACES as usize, Some(128)));
        }
    }
    assert_eq!((world.listeners().len(), suspects(&world)), (2 * PLACES as usize, Some(0)));
    assert_eq!(world.listeners().evicted(), 0);
}

#[test]
fn sockets_of_a_namespace_that_is_gone_go_with_it() {
    let host = Host::new(2);
    host.sockets(1, &(30_000..30_040).collect::<Vec<u64>>());
    let mut world = host.world();
    seed(&mut world);
    assert_eq!(world.listeners().len(), 41);
    // Each belongs to a process of its own, of which the host has none any more.
    for n in 0..40 {
        let socket = SocketId { ino: 30_000 + n, netns: 1_001, chosen: 1 };
        observe(&mut world, &record_of(500 + n as u32, EventKind::Listen, 1, socket, 80, 6));
    }
    std::fs::rename(host.0.path().join("1"), host.0.path().join("gone")).unwrap();
    let mut now = LOOK;
    look(&mut world, &mut now);
    let left: Vec<u64> = world.listeners().iter().map(|listening| listening.ino).collect();
    assert_eq!(left, [10_002]);
}

#[test]
fn what_is_told_of_while_somebody_looks_is_not_missed_by_them() {
    let host = Host::new(1);
    let mut world = host.world();
    seed(&mut world);
    world.refresh_listeners(2 * LOOK);
    // It was bound before, but its record waited; such a port counts only if the socket is known.
    let socket = SocketId { ino: 77, netns: 1_001, chosen: 1 };
    observe(&mut world, &record_of(7, EventKind::Bind, 1, socket, 40_000, 17));
    let mut now = 2 * LOOK;
    take(&mut world, now);
    assert!(world.listeners().get(77).is_some());
    look(&mut world, &mut now);
    assert!(world.listeners().get(77).is_none(), "known by now, and not there");
}
