//! What an event costs in instructions, counted by callgrind: a count does not depend on what else runs on the host.
//!
//! The test runs itself once more under valgrind, with few events and with many; the difference is theirs.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::Command;

use bumpalo::Bump;
use tw_detect::Detector;
use tw_enrich::{World, WorldOptions};
use tw_model::raw::{Encoder, ExecBody, FileBody, ForkBody, Header, SockBody, from_words, to_words};
use tw_model::{EventKind, Raw};
use tw_rules::{Loader, RuleSet};

#[path = "../../../bench/src/made_up.rs"]
mod made_up;

/// Most instructions for an event, enrichment and all: some 15 % above what was counted when this was written. In a
/// build without optimisation they are many more, but as steady.
const BUDGETS: [(&str, u64, u64); 2] = [("pack", PACK, PACK_DEBUG), ("1000", MANY, MANY_DEBUG)];
const PACK: u64 = 4_000;
const PACK_DEBUG: u64 = 39_500;
const MANY: u64 = 2_080;
const MANY_DEBUG: u64 = 24_500;

/// How many times the cost of ten rules a thousand may have.
const GROWTH: f64 = 1.5;

/// Events in one round: jobs of a shell, each a fork, an exec, twelve opens, a connection and an end.
fn round(number: u64) -> Vec<Vec<u64>> {
    let mut records = Vec::new();
    for job in 0..20 {
        let pid = 1000 + (number * 20 + job) as u32;
        let start = number * 1_000_000 + job * 1000 + 5_000_000_000;
        let header = |kind: EventKind, ret: i64| Header {
            kind: kind as u16,
            time: start + 10,
            start,
            cgroup: 1,
            pid,
            tid: pid,
            ret,
            comm: *b"grep\0\0\0\0\0\0\0\0\0\0\0\0",
            ..Header::default()
        };
        let shell = Header { pid: 900, tid: 900, start: 77, ..header(EventKind::Clone, i64::from(pid)) };
        let body = ForkBody {
            child_start: start,
            parent_start: 77,
            child_pid: pid,
            parent_pid: 900,
            child_vpid: pid,
            ..ForkBody::default()
        };
        records.push(to_words(&Encoder::new(&shell, size_of::<ForkBody>()).finish(&body)));
        let mut out = Encoder::new(&header(EventKind::Execve, 0), size_of::<ExecBody>());
        let body = ExecBody {
            exepath: out.text(b"/usr/bin/grep"),
            filename: out.text(b"/usr/bin/grep"),
            args: out.text(format!("grep\0-c\0word{job}\0/srv/data/{job}\0").as_bytes()),
            env: out.text(b"PATH=/usr/bin\0HOME=/root\0LANG=C\0"),
            cwd: out.text(b"/srv"),
            ..ExecBody::default()
        };
        records.push(to_words(&out.finish(&body)));
        for file in 0..12_u64 {
            let path = match file {
                0 => "/etc/ld.so.cache".to_owned(),
                1 => "/usr/lib/x86_64-linux-gnu/libc.so.6".to_owned(),
                2..8 => format!("/usr/share/locale/de/LC_MESSAGES/part{file}.mo"),
                _ => format!("/srv/data/{}/{file}", number % 50 * 20 + job),
            };
            let mut out = Encoder::new(&header(EventKind::Openat, 3), size_of::<FileBody>());
            let place = out.text(path.as_bytes());
            let flags = if file == 11 { 0o1101 } else { 0 };
            let body = FileBody { path: place, raw: place, flags, mode: 0o644, fd: 3, ..FileBody::default() };
            records.push(to_words(&out.finish(&body)));
        }
        let body = SockBody {
            family: 2,
            proto: 6,
            type_: 1,
            attrs: 5,
            rport: 443,
            raddr: [10, 0, 0, job as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            ..SockBody::default()
        };
        records.push(to_words(&Encoder::new(&header(EventKind::Connect, 0), size_of::<SockBody>()).finish(&body)));
        let body = tw_model::raw::ExitBody::default();
        let end = header(EventKind::Procexit, 0);
        records.push(to_words(&Encoder::new(&end, size_of_val(&body)).finish(&body)));
    }
    records
}

fn rules(name: &str) -> RuleSet {
    let loader = match name.parse() {
        Ok(count) => Loader::new().add_file("made-up.yaml", made_up::made_up(count)),
        Err(_) => {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rules");
            let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
            files.sort();
            files
                .iter()
                .filter(|file| file.extension().is_some_and(|end| end == "yaml"))
                .fold(Loader::new(), |loader, file| {
                    loader.add_file(file.display().to_string(), std::fs::read_to_string(file).unwrap())
                })
        }
    };
    let (rules, diagnostics) = loader.finish();
    assert!(!diagnostics.iter().any(tw_rules::Diagnostic::is_error), "{diagnostics:?}");
    rules
}

/// What runs under callgrind; `TIDEWATCH_COUNT` says with which rules, and for how many rounds.
#[test]
#[ignore = "is run by the others, under callgrind"]
fn work() {
    let Ok(wanted) = std::env::var("TIDEWATCH_COUNT") else { return };
    let (name, rounds) = wanted.split_once(' ').unwrap();
    let mut detector = Detector::new(rules(name));
    let mut world = World::new(WorldOptions::default()).unwrap();
    let mut scratch = Bump::new();
    // All are made, so that making them does not count.
    let records: Vec<_> = (0..40).flat_map(round).collect();
    let each = records.len() / 40;
    for record in &records[..each * rounds.parse::<usize>().unwrap()] {
        let raw = Raw::parse(from_words(record)).unwrap();
        assert!(world.admit(&raw));
        let event = world.observe(raw, &scratch);
        detector.inspect(&event, &mut |finding| panic!("{finding:?}"));
        scratch.reset();
    }
}

/// Instructions of so many rounds, start and all; `None` without valgrind.
fn count(name: &str, rounds: u64) -> Option<u64> {
    let out = std::env::temp_dir().join(format!("tidewatch-callgrind-{}-{name}-{rounds}", std::process::id()));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", &format!("--callgrind-out-file={}", out.display())])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "work", "--test-threads=1"])
        .env("TIDEWATCH_COUNT", format!("{name} {rounds}"))
        .env("RUST_BACKTRACE", "0")
        .output();
    let _ = std::fs::remove_file(&out);
    let said = match output {
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout),
        Err(error) => {
            assert!(std::env::var_os("TIDEWATCH_REQUIRE_E2E").is_none(), "valgrind is needed: {error}");
            eprintln!("skipped: valgrind does not run ({error}): install it (apt-get install valgrind)");
            return None;
        }
    };
    assert!(said.contains("1 passed"), "{said}");
    let line = said.lines().find_map(|line| line.split_once("Collected : ")).expect("callgrind tells its count");
    Some(line.1.trim().parse().unwrap())
}

/// Instructions for an event.
fn for_an_event(name: &str) -> Option<u64> {
    let events = round(0).len() as u64 * 30;
    Some((count(name, 40)? - count(name, 10)?) / events)
}

#[test]
fn an_event_stays_within_its_budget_and_rules_cost_little_by_their_number() {
    let Some(ten) = for_an_event("10") else { return };
    let mut last = 0;
    for (name, budget, budget_debug) in BUDGETS {
        let Some(cost) = for_an_event(name) else { return };
        eprintln!("{name}: {cost} instructions an event");
        let budget = if cfg!(debug_assertions) { budget_debug } else { budget };
        assert!(cost <= budget, "{name} rules: {cost} instructions an event, the budget is {budget}");
        last = cost;
    }
    let growth = last as f64 / ten as f64;
    eprintln!("10: {ten} instructions an event; 1000 rules cost {growth:.2} times as much");
    assert!(growth < GROWTH, "a thousand rules cost {growth:.2} times as much as ten");
}
