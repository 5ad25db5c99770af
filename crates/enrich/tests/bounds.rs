//! Containers, cgroups and processes without end: no table grows past its bound, and the ledger's sums stay exact.

#![allow(clippy::unwrap_used, reason = "a test")]

use bumpalo::Bump;
use tw_enrich::{Context, World};
use tw_model::coverage::{Class, Miss, Tally};
use tw_model::raw::{Encoder, ForkBody, Header, from_words, to_words};
use tw_model::{Container, EventKind, Raw};

const CONTAINERS: u64 = 100_000;
const PROCESSES: usize = 4096;

/// A fork in a cgroup of its own.
fn fork(n: u64) -> Vec<u64> {
    let pid = n as u32 + 10;
    let start = n * 1_000_000_000;
    let header = Header {
        kind: EventKind::Clone as u16,
        time: n * 1_000_000,
        start,
        cgroup: 1000 + n,
        pid,
        tid: pid,
        ..Header::default()
    };
    let body = ForkBody { child_start: start + 1, child_pid: pid + 1_000_000, parent_pid: pid, ..ForkBody::default() };
    to_words(&Encoder::new(&header, size_of::<ForkBody>()).finish(&body))
}

#[test]
fn containers_without_end_stay_within_the_tables() {
    let mut world = World::reliving(PROCESSES);
    let mut scratch = Bump::new();
    for n in 0..CONTAINERS {
        let id = format!("{n:064x}");
        let container = Container { id: id.clone(), name: format!("c{n}"), complete: true, ..Container::default() };
        world.relive(Context::Container { container: Box::new(container) });
        world.relive(Context::Place { cgroup: 1000 + n, container: id.clone() });
        let words = fork(n);
        let event = world.observe(Raw::parse(from_words(&words)).unwrap(), &scratch);
        assert_eq!(event.container.map(|known| known.name.as_str()), Some(format!("c{n}").as_str()));
        world.missed(Some(1000 + n), &[(Class::File, Miss::RingFull, 2)]);
        if n % 3 == 0 {
            world.relive(Context::Gone { id });
        }
        scratch.reset();
    }
    for (table, (entries, capacity, evicted)) in world.tables() {
        assert!(entries <= capacity, "{table}: {entries} of {capacity}");
        let grows = ["processes", "containers", "cgroups", "ledger_accounts"].contains(&table);
        assert!(!grows || evicted > 0, "{table} was not filled");
    }
    let totals = world.ledger().totals();
    assert_eq!(totals[Class::Lifecycle as usize].seen, CONTAINERS);
    assert_eq!(totals[Class::File as usize].lost(), 2 * CONTAINERS);
    let (mut minute, mut told) = (Tally::default(), 0);
    world.ledger_mut().close_minute(&mut |account| {
        told += 1;
        account.minute.iter().for_each(|tally| minute.add(tally));
    });
    assert_eq!((minute.seen, minute.lost()), (CONTAINERS, 2 * CONTAINERS));
    assert!(told <= tw_enrich::ledger::MAX_ACCOUNTS);
}
