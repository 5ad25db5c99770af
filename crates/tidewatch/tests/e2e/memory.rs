//! What the agent takes of memory when nothing happens. Its program's own pages are left out: how many of them a build
//! without optimisation has is of no interest.

use std::time::{Duration, Instant};

use crate::daemon::Daemon;
use crate::lab;

/// Most of its own memory, and most of the rings that is mapped at a time. Half of it is what was measured.
const OWN: u64 = 32 << 20;
const RINGS: u64 = 3 << 20;

/// Resident bytes of a process: what is its own alone, and what it has mapped of eBPF maps.
fn resident(pid: u32) -> (u64, u64) {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let (mut own, mut rings, mut ring) = (0, 0, false);
    for line in smaps.lines() {
        let size = |name| Some(line.strip_prefix(name)?.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10);
        if line.split(' ').next().is_some_and(|word| word.contains('-') && !word.ends_with(':')) {
            ring = line.ends_with("anon_inode:bpf-map");
        } else if let Some(size) = size("Anonymous:") {
            own += size;
        } else if let Some(size) = size("Rss:").filter(|_| ring) {
            rings += size;
        }
    }
    (own, rings)
}

#[test]
fn an_idle_agent_takes_little_memory() {
    if !lab::ready() {
        return;
    }
    // With the rules that everybody has.
    let daemon = Daemon::own(&[]);
    let agent = daemon.child_pid("agent").unwrap();
    let begun = Instant::now();
    let (mut own, mut rings) = resident(agent);
    while begun.elapsed() < Duration::from_secs(3) {
        std::thread::sleep(Duration::from_millis(100));
        (own, rings) = (own.max(resident(agent).0), rings.max(resident(agent).1));
    }
    eprintln!("{} KiB its own, {} KiB of the rings", own >> 10, rings >> 10);
    assert!(own > 1 << 20 && own < OWN, "{own} bytes of its own");
    assert!(rings > 0 && rings < RINGS, "{rings} bytes of the rings");
}
