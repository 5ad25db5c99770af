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

const WEB: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const LOOK: u64 = 30_000_000_000;

fn record(kind: EventKind, cgroup: u64, ino: u64, port: u16, proto: u16, chosen: u32) -> Vec<u64> {
    let mut comm = [0; 16];
    comm[..6].copy_from_slice(b"server");
    let header =
        Header { kind: kind as u16, pid: 7, tid: 7, start: 70, time: 1_000, cgroup, comm, ..Header::default() };
    let mut out = Encoder::new(&header, size_of::<SockBody>());
    let type_ = if proto == 17 { 2 } else { 1 };
    let data = out.text(SocketId { ino, netns: 1, chosen }.as_bytes());
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
    let deadline = Instant::now() + Duration::from_secs(20);
    *now += LOOK;
    world.refresh_listeners(*now);
    loop {
        // Nothing is due yet: this only takes what was seen.
        world.refresh_listeners(*now + 1);
        if !world.is_looking() {
            return;
        }
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn those_that_were_there_are_found_and_those_that_went_unseen_are_forgotten() {
    let before = TcpListener::bind("127.0.0.83:0").unwrap();
    let datagrams = (21_000..21_100).find_map(|port| UdpSocket::bind(("127.0.0.83", port)).ok()).unwrap();
    let mut world = World::new(WorldOptions::default()).unwrap();
    world.keep_journal();
    let (_, all) = world.seed(|_| {});
    assert!(all);
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
