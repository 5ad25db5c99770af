//! Fields of measurements: what a container used.

use super::Arg;
use crate::event::Event;
use crate::raw::{ResourceBody, part};
use crate::value::Value;

macro_rules! measured {
    ($($name:ident: $body:expr;)*) => {$(
        pub(super) fn $name<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
            let body: fn(&ResourceBody) -> Option<u64> = $body;
            body(event.raw.resource()?).map(Value::Uint)
        }
    )*};
}

measured! {
    cpu: ResourceBody::cpu_percent;
    cpu_limit: |body| (body.knows(part::CPU_LIMIT) && body.cpu_limit_milli != 0).then_some(body.cpu_limit_milli / 10);
    cpu_of_limit: ResourceBody::cpu_of_limit;
    cpu_throttled: |body| if body.knows(part::CPU_LIMIT) { body.share(body.throttled_ns) } else { None };
    memory: |body| body.knows(part::MEMORY).then_some(body.memory);
    memory_limit: |body| body.knows(part::MEMORY_LIMIT).then_some(body.memory_limit);
    memory_of_limit: ResourceBody::memory_of_limit;
    memory_anon: |body| body.knows(part::MEMORY_KINDS).then_some(body.memory_anon);
    memory_file: |body| body.knows(part::MEMORY_KINDS).then_some(body.memory_file);
    swap: |body| body.knows(part::MEMORY_KINDS).then_some(body.swap);
    oom_kills: |body| body.knows(part::OOM).then_some(body.oom_kills);
    memory_limit_hits: |body| body.knows(part::OOM).then_some(body.memory_limit_hits);
    read: |body| if body.knows(part::DISK) { body.rate(body.read_bytes) } else { None };
    written: |body| if body.knows(part::DISK) { body.rate(body.written_bytes) } else { None };
    received: |body| if body.knows(part::NET) { body.rate(body.received_bytes) } else { None };
    sent: |body| if body.knows(part::NET) { body.rate(body.sent_bytes) } else { None };
    received_packets: |body| if body.knows(part::NET) { body.rate(body.received_packets) } else { None };
    sent_packets: |body| if body.knows(part::NET) { body.rate(body.sent_packets) } else { None };
    processes: |body| body.knows(part::PROCESSES).then_some(body.processes);
    processes_of_limit: ResourceBody::processes_of_limit;
    descriptors: |body| body.knows(part::DESCRIPTORS).then_some(body.descriptors);
    cpu_pressure: |body| if body.knows(part::PRESSURE) { body.share(body.cpu_pressure_ns) } else { None };
    memory_pressure: |body| if body.knows(part::PRESSURE) { body.share(body.memory_pressure_ns) } else { None };
    disk_pressure: |body| if body.knows(part::PRESSURE) { body.share(body.disk_pressure_ns) } else { None };
}

pub(super) fn interval<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    event.raw.resource().map(|body| Value::Int(body.interval_ns.min(i64::MAX as u64) as i64))
}

/// A parameter (`evt.arg`) of a measurement.
pub(super) fn param(body: &ResourceBody, name: &str) -> Option<u64> {
    let measured = |part: u64, value: Option<u64>| if body.knows(part) { value } else { None };
    match name {
        "cpu" => body.cpu_percent(),
        "memory" => measured(part::MEMORY, Some(body.memory)),
        "read" => measured(part::DISK, Some(body.read_bytes)),
        "written" => measured(part::DISK, Some(body.written_bytes)),
        "received" => measured(part::NET, Some(body.received_bytes)),
        "sent" => measured(part::NET, Some(body.sent_bytes)),
        "processes" => measured(part::PROCESSES, Some(body.processes)),
        "descriptors" => measured(part::DESCRIPTORS, Some(body.descriptors)),
        _ => None,
    }
}
