//! What a container of a sample used.

use serde::Deserialize;

use crate::raw::{Encoder, Header, ResourceBody, part};

/// A measurement. What is left out was not measured.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SampleResource {
    /// Milliseconds since the measurement before; default 1,000.
    pub interval_ms: Option<u64>,
    /// Use of processors, in per cent of one core.
    pub cpu: Option<u64>,
    /// Limit of processors, in per cent of one core.
    pub cpu_limit: Option<u64>,
    /// Memory in use, bytes.
    pub memory: Option<u64>,
    /// Limit of memory, bytes.
    pub memory_limit: Option<u64>,
    /// Processes killed for want of memory.
    pub oom_kills: Option<u64>,
    /// Bytes read from disks, in the whole interval.
    pub read: Option<u64>,
    /// Bytes written to disks.
    pub written: Option<u64>,
    /// Bytes received.
    pub received: Option<u64>,
    /// Bytes sent.
    pub sent: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Limit of processes and threads.
    pub process_limit: Option<u64>,
    /// Open descriptors.
    pub descriptors: Option<u64>,
}

impl SampleResource {
    pub(super) fn encode(&self, header: &Header) -> Vec<u8> {
        let interval_ns = self.interval_ms.unwrap_or(1000).saturating_mul(1_000_000);
        let mut body = ResourceBody { interval_ns, ..ResourceBody::default() };
        let mut known = 0;
        let mut put = |part: u64, place: &mut u64, value: Option<u64>| {
            if let Some(value) = value {
                *place = value;
                known |= part;
            }
        };
        let times = |percent: Option<u64>| percent.map(|percent| interval_ns.saturating_mul(percent) / 100);
        put(part::CPU, &mut body.cpu_ns, times(self.cpu));
        put(part::CPU_LIMIT, &mut body.cpu_limit_milli, self.cpu_limit.map(|percent| percent.saturating_mul(10)));
        put(part::MEMORY, &mut body.memory, self.memory);
        put(part::MEMORY_LIMIT, &mut body.memory_limit, self.memory_limit);
        put(part::OOM, &mut body.oom_kills, self.oom_kills);
        put(part::DISK, &mut body.read_bytes, self.read);
        put(part::DISK, &mut body.written_bytes, self.written);
        put(part::NET, &mut body.received_bytes, self.received);
        put(part::NET, &mut body.sent_bytes, self.sent);
        put(part::PROCESSES, &mut body.processes, self.processes);
        put(part::PROCESS_LIMIT, &mut body.process_limit, self.process_limit);
        put(part::DESCRIPTORS, &mut body.descriptors, self.descriptors);
        body.known = known;
        Encoder::new(header, size_of::<ResourceBody>()).finish(&body)
    }
}
