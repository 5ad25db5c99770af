//! What this process takes of the machine: asked by the manager of itself, and by the agent of itself.

use tw_model::status::Usage;

/// Memory and time of this process; no memory if `/proc` cannot be read.
pub fn own() -> Usage {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Usage {
        resident_bytes: pages * rustix::param::page_size() as u64,
        cpu_ns: time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_takes_memory_and_time() {
        let usage = super::own();
        assert!(usage.resident_bytes > 100_000 && usage.cpu_ns > 0, "{usage:?}");
    }
}
