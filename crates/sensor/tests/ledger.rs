//! The counts of the kernel half against a known number of calls, on real cgroups: what is seen and what is missed add up
//! to what was done, for each cgroup and class, while nobody reads and while somebody does.
//!
//! Needs root, eBPF and a C compiler; without root or eBPF the tests say so and pass, unless `TIDEWATCH_REQUIRE_E2E` is
//! set.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::time::Duration;

use tw_model::Raw;
use tw_model::coverage::{Class, Miss, Tally};
use tw_sensor::{EbpfSensor, Options, Sampling};

mod watching;
use watching::sensor;

/// The root of the unified hierarchy.
fn unified() -> PathBuf {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).expect("a cgroup2 mount");
    line.split(' ').nth(1).unwrap().into()
}

/// A cgroup of this test, removed at its end.
struct Cgroup {
    folder: PathBuf,
    /// Its id, as the kernel half tells it: the inode of its folder.
    id: u64,
}

impl Cgroup {
    fn new(name: &str) -> Self {
        let folder = unified().join(format!("tidewatch-ledger-{}-{name}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let id = std::fs::metadata(&folder).unwrap().ino();
        Self { folder, id }
    }

    /// Starts the program that makes these calls in the cgroup.
    fn load(&self, load: Load) -> Child {
        let numbers = [load.opens, load.setuids, load.mounts, load.forks, load.datagrams];
        let mut command = Command::new(program());
        command.args([self.folder.join("cgroup.procs"), unified().join("cgroup.procs")]);
        command.args(numbers.map(|n| n.to_string())).spawn().unwrap()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A process that left it may still be on its way out.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        eprintln!("note: {} stays", self.folder.display());
    }
}

/// How many calls of each sort.
#[derive(Clone, Copy, Default)]
struct Load {
    opens: u64,
    setuids: u64,
    mounts: u64,
    forks: u64,
    datagrams: u64,
}

impl Load {
    fn of(&self, class: Class) -> u64 {
        match class {
            Class::Lifecycle => 2 * self.forks,
            Class::Privileged => self.setuids + self.mounts,
            Class::File => self.opens,
            Class::Network => self.datagrams,
            Class::Other => 0,
        }
    }
}

/// The compiled load.c.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ledger-load");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/loading/load.c");
        let built = Command::new("cc").args(["-O1", "-o"]).arg(&program).arg(source).status();
        assert!(built.is_ok_and(|status| status.success()), "cc is needed: run scripts/setup test");
        program
    })
}

/// What was seen and missed, by cgroup and class.
#[derive(Default)]
struct Ledger {
    by_cgroup: BTreeMap<Option<u64>, BTreeMap<Class, Tally>>,
}

impl Ledger {
    fn take(&mut self, sensor: &mut EbpfSensor) -> usize {
        let taken = self.read(sensor, Duration::ZERO);
        sensor.missed(&mut |cgroup, missing| {
            for (class, why, n) in missing {
                self.by_cgroup.entry(cgroup).or_default().entry(*class).or_default().missed[*why as usize] += n;
            }
        });
        taken
    }

    /// Takes what is in the rings; each event that is looked at takes as long as `each`.
    fn read(&mut self, sensor: &mut EbpfSensor, each: Duration) -> usize {
        let by_cgroup = &mut self.by_cgroup;
        sensor.drain_giving_way(|bytes, gives_way| {
            let raw = Raw::parse(bytes).unwrap();
            let class = Class::of(raw.kind(), raw.header.ret);
            let tally = by_cgroup.entry(Some(raw.header.cgroup)).or_default().entry(class).or_default();
            if gives_way {
                tally.missed[Miss::GaveWay as usize] += 1;
                return;
            }
            tally.seen += 1;
            let start = std::time::Instant::now();
            while start.elapsed() < each {
                std::hint::spin_loop();
            }
        })
    }

    fn tally(&self, cgroup: &Cgroup, class: Class) -> Tally {
        self.by_cgroup.get(&Some(cgroup.id)).and_then(|classes| classes.get(&class)).copied().unwrap_or_default()
    }

    /// Asserts that nothing is missing in the sums and nothing is there twice.
    fn holds(&self, cgroup: &Cgroup, load: Load) {
        for class in Class::ALL {
            let tally = self.tally(cgroup, class);
            eprintln!("{} {class:?}: {} done, {} seen; {}", cgroup.id, load.of(class), tally.seen, tally.reasons());
            assert_eq!(tally.total(), load.of(class), "{class:?} of {}", cgroup.folder.display());
        }
    }
}

#[test]
fn while_nobody_reads_each_cgroup_and_class_adds_up() {
    let Some((mut sensor, _alone)) = sensor(&Options { privileged_rate: 100, ..each_open() }) else { return };
    let (a, b) = (Cgroup::new("a"), Cgroup::new("b"));
    let load_a = Load { opens: 120_000, setuids: 5_000, mounts: 3_000, forks: 300, datagrams: 10 };
    let load_b = Load { opens: 60_000, setuids: 7, mounts: 0, forks: 200, datagrams: 5_000 };
    let mut children = [a.load(load_a), b.load(load_b)];
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    let mut ledger = Ledger::default();
    while ledger.take(&mut sensor) > 0 {}
    ledger.holds(&a, load_a);
    ledger.holds(&b, load_b);
    let file = ledger.tally(&a, Class::File);
    assert!(file.missed(Miss::RingFull) > 0, "the ring did not fill");
    assert!(ledger.tally(&a, Class::Privileged).missed(Miss::Folded) > 2_000);
    assert!(ledger.tally(&b, Class::Network).missed(Miss::Repeated) > 4_900);
    assert_eq!(ledger.tally(&b, Class::Privileged).seen, 7, "another's flood costs it nothing");
    assert_eq!(ledger.tally(&a, Class::Lifecycle).lost() + ledger.tally(&b, Class::Lifecycle).lost(), 0);
    // The counts by kind are the same events from another side.
    for why in &Miss::ALL[..Miss::IN_KERNEL] {
        let by_kind: u64 = sensor.counts().iter().map(|(_, count)| count.of(*why)).sum();
        ledger.take(&mut sensor);
        let tallies = ledger.by_cgroup.values().flat_map(BTreeMap::values);
        let by_cgroup: u64 = tallies.map(|tally| tally.missed(*why)).sum();
        // The host goes on meanwhile; nothing else of it is lost, but it may repeat itself.
        let slack = if *why == Miss::RingFull { 0 } else { 50 };
        assert!(by_cgroup >= by_kind && by_cgroup <= by_kind + slack, "{why:?}: {by_cgroup} and {by_kind}");
    }
}

/// The load opens the same file again and again; here each open is told.
fn each_open() -> Options {
    Options { fold_opens: false, ..Options::default() }
}

#[test]
fn repeated_opens_are_counted_one_for_one() {
    let Some((mut sensor, _alone)) = sensor(&Options::default()) else { return };
    let (a, b) = (Cgroup::new("again-a"), Cgroup::new("again-b"));
    let load = Load { opens: 300_000, setuids: 3, mounts: 2, forks: 20, datagrams: 1 };
    let mut children = [a.load(load), b.load(load)];
    let mut ledger = Ledger::default();
    while children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
        ledger.take(&mut sensor);
    }
    while ledger.take(&mut sensor) > 0 {}
    for cgroup in [&a, &b] {
        ledger.holds(cgroup, load);
        let file = ledger.tally(cgroup, Class::File);
        assert!(file.seen > 0 && file.seen < load.opens / 50, "{} of {} were told", file.seen, load.opens);
        assert_eq!(file.missing(), 0, "what only says again what was told is not missing");
        assert_eq!(file.missed(Miss::Repeated), load.opens - file.seen);
    }
}

#[test]
fn forks_beyond_what_the_ring_takes_are_in_the_ledger() {
    let Some((mut sensor, _alone)) = sensor(&Options::default()) else { return };
    let cgroup = Cgroup::new("forks");
    let load = Load { forks: 30_000, ..Load::default() };
    assert!(cgroup.load(load).wait().unwrap().success());
    let mut ledger = Ledger::default();
    while ledger.take(&mut sensor) > 0 {}
    ledger.holds(&cgroup, load);
    assert!(ledger.tally(&cgroup, Class::Lifecycle).missed(Miss::RingFull) > 0, "the ring did not fill");
}

#[test]
fn a_slow_reader_gives_up_files_before_it_loses_a_fork() {
    let Some((mut sensor, _alone)) = sensor(&each_open()) else { return };
    let (storm, forks) = (Cgroup::new("storm"), Cgroup::new("forks"));
    let (opens, forked) = (Load { opens: 400_000, ..Load::default() }, Load { forks: 40_000, ..Load::default() });
    let mut children = [storm.load(opens), forks.load(forked)];
    let mut ledger = Ledger::default();
    loop {
        let running = children.iter_mut().any(|child| child.try_wait().unwrap().is_none());
        // Fifty microseconds an event: a reader of twenty thousand a second.
        let taken = ledger.read(&mut sensor, Duration::from_micros(50));
        if taken == 0 && !running {
            break;
        }
    }
    ledger.take(&mut sensor);
    ledger.holds(&storm, opens);
    ledger.holds(&forks, forked);
    assert_eq!(ledger.tally(&forks, Class::Lifecycle).missing(), 0, "a fork or an end was lost");
    assert!(ledger.tally(&storm, Class::File).missing() > 0, "the reader was not slow");
}

#[test]
fn a_sample_leaves_out_opens_for_reading_and_counts_them() {
    let Some((mut sensor, _alone)) = sensor(&each_open()) else { return };
    let cgroup = Cgroup::new("sample");
    sensor.sample(Sampling { failed_opens: 0, read_opens: 16 }).unwrap();
    let load = Load { opens: 16_000, setuids: 3, mounts: 2, forks: 20, datagrams: 1 };
    assert!(cgroup.load(load).wait().unwrap().success());
    let mut ledger = Ledger::default();
    while ledger.take(&mut sensor) > 0 {}
    ledger.holds(&cgroup, load);
    let seen = ledger.tally(&cgroup, Class::File).seen;
    assert!((700..1_300).contains(&seen), "{seen} of 16,000 are no sample of one in 16");
    for class in [Class::Lifecycle, Class::Privileged, Class::Network] {
        assert_eq!(ledger.tally(&cgroup, class).missing(), 0, "{class:?}");
    }
    sensor.sample(Sampling::default()).unwrap();
    assert!(cgroup.load(load).wait().unwrap().success());
    while ledger.take(&mut sensor) > 0 {}
    assert_eq!(ledger.tally(&cgroup, Class::File).seen, seen + 16_000, "it can be taken back");
}

#[test]
fn more_cgroups_than_there_is_room_for_keep_the_sums_exact() {
    let Some((mut sensor, _alone)) = sensor(&Options { privileged_rate: 1, ..Options::default() }) else { return };
    let many = tw_sensor::CGROUPS + 200;
    let load = Load { mounts: 5, ..Load::default() };
    let mut cgroups = Vec::new();
    for n in 0..many {
        let cgroup = Cgroup::new(&format!("many-{n}"));
        assert!(cgroup.load(load).wait().unwrap().success());
        cgroups.push(cgroup);
        if n % 500 == 0 {
            while sensor.drain(|_| ()) > 0 {}
        }
    }
    let (mut known, mut rest) = (0, 0);
    sensor.missed(&mut |cgroup, missing| {
        let folded = missing.iter().filter(|(class, why, _)| (*class, *why) == (Class::Privileged, Miss::Folded));
        let folded: u64 = folded.map(|(_, _, n)| n).sum();
        match cgroup {
            Some(id) if cgroups.iter().any(|cgroup| cgroup.id == id) => known += folded,
            Some(_) => {}
            None => rest += folded,
        }
    });
    // Of each cgroup the first call and a burst of twice the rate are told.
    assert_eq!(known + rest, 2 * many as u64);
    assert!(rest > 0 && rest <= 2 * 250, "{rest}");
    let table = sensor.tables().into_iter().find(|table| table.name == "missed").unwrap();
    assert!(table.entries <= table.capacity && table.evicted > 0, "{table:?}");
}
