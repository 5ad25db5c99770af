//! What this process takes of the machine.

use tw_model::status::Usage;

/// Of this process; zeros if `/proc` cannot be read.
pub(crate) fn own() -> Usage {
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
        statm.split(' ').nth(1)?.parse::<u64>().ok()
    };
    let ticks = || {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // Behind the name, which may hold anything.
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    };
    let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
    Usage {
        resident_bytes: resident().unwrap_or(0) * rustix::param::page_size() as u64,
        cpu_ns: ticks().unwrap_or(0) * tick_ns,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_takes_something() {
        let begin = std::time::Instant::now();
        while super::own().cpu_ns == 0 && begin.elapsed().as_secs() < 10 {}
        let usage = super::own();
        assert!(usage.resident_bytes > 100_000 && usage.cpu_ns > 0, "{usage:?}");
    }
}
