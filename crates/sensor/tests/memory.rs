//! What the rings take of this process's memory. Needs root and eBPF; without, the test says so and passes, unless
//! `TIDEWATCH_REQUIRE_E2E` is set.

#![allow(clippy::unwrap_used, reason = "a test")]

use tw_sensor::{EbpfSensor, Options};

mod watching;
use watching::{sensor, watch};

/// Resident bytes of mappings whose name has `part` in it.
fn resident(part: &str) -> u64 {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut inside, mut sum) = (false, 0);
    for line in smaps.lines() {
        if line.split(' ').next().is_some_and(|first| first.contains('-') && !first.ends_with(':')) {
            inside = line.contains(part);
        } else if let Some(size) = line.strip_prefix("Rss:").filter(|_| inside) {
            sum += size.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10;
        }
    }
    sum
}

#[test]
fn of_the_rings_only_what_is_being_read_is_resident() {
    let Some((mut sensor, _alone)) = sensor(&Options { fold_opens: false, ..Options::default() }) else { return };
    let all: usize = EbpfSensor::ring_sizes().iter().sum();
    assert!(all >= 16 << 20, "{all}");
    let opened = |sensor: &mut EbpfSensor| {
        let before = sensor.counts().iter().map(|(_, count)| count.sent).sum::<u64>();
        // More than the window, again and again; less than the ring.
        let records = watch(sensor, "for i in range(20000):\n try: open('/nonexistent')\n except OSError: pass");
        let after = sensor.counts().iter().map(|(_, count)| count.sent).sum::<u64>();
        assert!(records.len() >= 20_000 && after - before >= 20_000, "{} of {}", records.len(), after - before);
    };
    for _ in 0..3 {
        opened(&mut sensor);
        let rings = resident("bpf-map");
        assert!(rings > 0 && rings < 2 << 20, "{rings} bytes of the rings are resident");
    }
}
