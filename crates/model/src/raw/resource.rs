//! What a container used: a measurement, made in user space, in the shape of a record so that rules, the flight
//! recorder and models treat it like any other event.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bits of [`ResourceBody::known`]: which groups of members were measured. What is not, is 0 and means nothing.
pub mod part {
    /// Processor time.
    pub const CPU: u64 = 1;
    /// Limit of processor time, and how often it was hit.
    pub const CPU_LIMIT: u64 = 2;
    /// Memory in use.
    pub const MEMORY: u64 = 4;
    /// What memory is used for.
    pub const MEMORY_KINDS: u64 = 8;
    /// Kills for want of memory.
    pub const OOM: u64 = 16;
    /// Bytes to and from disks.
    pub const DISK: u64 = 32;
    /// Bytes to and from networks.
    pub const NET: u64 = 64;
    /// Number of processes and threads.
    pub const PROCESSES: u64 = 128;
    /// Number of open descriptors.
    pub const DESCRIPTORS: u64 = 256;
    /// Time in which something waited for want of a resource.
    pub const PRESSURE: u64 = 512;
    /// Limit of memory; absent: none.
    pub const MEMORY_LIMIT: u64 = 1024;
    /// Limit of processes and threads; absent: none.
    pub const PROCESS_LIMIT: u64 = 2048;
}

/// Body of a measurement. What counts up is what was added since the measurement before; what is a state is as of now.
///
/// Sources: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/ of the kernel, `/proc/PID/net/dev`, `/proc/PID/fd`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ResourceBody {
    /// Nanoseconds since the measurement before.
    pub interval_ns: u64,
    /// Which groups are known: bits of [`part`].
    pub known: u64,
    /// Processor time used, nanoseconds.
    pub cpu_ns: u64,
    /// Of it in user mode, nanoseconds.
    pub cpu_user_ns: u64,
    /// Most processor time that it may use, in thousandths of a core; 0: no limit.
    pub cpu_limit_milli: u64,
    /// Time in which it was held back by that limit, nanoseconds (summed over cores).
    pub throttled_ns: u64,
    /// Memory in use, bytes.
    pub memory: u64,
    /// Most memory that it may use, bytes.
    pub memory_limit: u64,
    /// Memory of processes (not of files), bytes.
    pub memory_anon: u64,
    /// Memory of files that are kept because they were read or written, bytes.
    pub memory_file: u64,
    /// Memory that was swapped out, bytes.
    pub swap: u64,
    /// Processes killed for want of memory.
    pub oom_kills: u64,
    /// Times that its limit was reached and something had to be freed first.
    pub memory_limit_hits: u64,
    /// Bytes read from disks.
    pub read_bytes: u64,
    /// Bytes written to disks.
    pub written_bytes: u64,
    /// Reads from disks.
    pub reads: u64,
    /// Writes to disks.
    pub writes: u64,
    /// Bytes received, all interfaces but loopback.
    pub received_bytes: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Packets received.
    pub received_packets: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Packets dropped or in error, both ways.
    pub failed_packets: u64,
    /// Processes and threads.
    pub processes: u64,
    /// Most of them that there may be.
    pub process_limit: u64,
    /// Open descriptors of all its processes.
    pub descriptors: u64,
    /// Time in which something of it waited for a processor, nanoseconds.
    pub cpu_pressure_ns: u64,
    /// Time in which something of it waited for memory, nanoseconds.
    pub memory_pressure_ns: u64,
    /// Time in which something of it waited for a disk, nanoseconds.
    pub disk_pressure_ns: u64,
}

impl ResourceBody {
    /// Whether the group of members is known.
    pub fn knows(&self, part: u64) -> bool {
        self.known & part == part
    }

    /// `amount` in `whole`, in per cent, rounded; `None` if `whole` is 0.
    fn percent(amount: u64, whole: u64) -> Option<u64> {
        let share = (u128::from(amount) * 100 + u128::from(whole) / 2).checked_div(whole.into())?;
        Some(share.min(u64::MAX.into()) as u64)
    }

    /// What was added, for each second.
    pub fn rate(&self, amount: u64) -> Option<u64> {
        let rate = (u128::from(amount) * 1_000_000_000).checked_div(self.interval_ns.into())?;
        Some(rate.min(u64::MAX.into()) as u64)
    }

    /// Share of the interval, in per cent: for times.
    pub fn share(&self, ns: u64) -> Option<u64> {
        Self::percent(ns, self.interval_ns)
    }

    /// Use of processors in per cent of one core: two full cores are 200.
    pub fn cpu_percent(&self) -> Option<u64> {
        self.knows(part::CPU).then(|| self.share(self.cpu_ns))?
    }

    /// Use of processors in per cent of the limit; `None` without one.
    pub fn cpu_of_limit(&self) -> Option<u64> {
        let whole = u128::from(self.interval_ns) * u128::from(self.cpu_limit_milli) / 1000;
        if !self.knows(part::CPU | part::CPU_LIMIT) {
            return None;
        }
        Self::percent(self.cpu_ns, u64::try_from(whole).ok()?)
    }

    /// Memory in per cent of the limit; `None` without one.
    pub fn memory_of_limit(&self) -> Option<u64> {
        self.knows(part::MEMORY | part::MEMORY_LIMIT).then(|| Self::percent(self.memory, self.memory_limit))?
    }

    /// Processes in per cent of the limit; `None` without one.
    pub fn processes_of_limit(&self) -> Option<u64> {
        self.knows(part::PROCESSES | part::PROCESS_LIMIT).then(|| Self::percent(self.processes, self.process_limit))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_rates_are_of_the_interval() {
        let body = ResourceBody {
            interval_ns: 2_000_000_000,
            known: part::CPU | part::CPU_LIMIT | part::MEMORY | part::MEMORY_LIMIT,
            cpu_ns: 3_000_000_000,
            cpu_limit_milli: 2000,
            memory: 75,
            memory_limit: 300,
            received_bytes: 5_000,
            ..ResourceBody::default()
        };
        assert_eq!((body.cpu_percent(), body.cpu_of_limit(), body.memory_of_limit()), (Some(150), Some(75), Some(25)));
        assert_eq!((body.rate(body.received_bytes), body.processes_of_limit()), (Some(2500), None));
        let unlimited = ResourceBody { cpu_limit_milli: 0, ..body };
        assert_eq!(unlimited.cpu_of_limit(), None);
    }

    #[test]
    fn no_number_panics() {
        for n in [0, 1, u64::MAX] {
            let body = ResourceBody {
                interval_ns: n,
                known: u64::MAX,
                cpu_ns: u64::MAX,
                cpu_limit_milli: n,
                memory: u64::MAX,
                memory_limit: n,
                processes: u64::MAX,
                process_limit: n,
                ..ResourceBody::default()
            };
            let told = [body.cpu_percent(), body.cpu_of_limit(), body.memory_of_limit(), body.processes_of_limit()];
            assert_eq!(told[0].is_none(), n == 0);
            assert_eq!(body.rate(u64::MAX).is_none(), n == 0);
        }
    }
}
