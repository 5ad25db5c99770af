//! Where events come from: the kernel's rings, loaded and read in the order of time, with every loss counted.
//!
//! The only crate with unsafe code: in `ring`, in `packets`, in `memory`, and in `tracer` around ptrace. What it delivers
//! is bytes as `bpf/tidewatch.h` lays them out; `tw_model::Raw` checks them.
//!
//! `recorder` keeps records on disk, `capture` makes them of the captures of others, `resources` measures containers.
//!
//! **Never:** interpretation of events, names of containers, rules.

mod calls;
pub mod capture;
pub mod clock;
pub mod connector;
pub mod ebpf;
mod facts;
pub mod health;
mod hooks;
pub mod memory;
mod missed;
pub mod packets;
pub mod recorder;
pub mod resources;
mod ring;
pub mod source;
pub mod tracer;
#[cfg(test)]
mod wire;

pub use connector::{ConnectorSensor, ConnectorSocket, FileWatch};
pub use ebpf::{Count, EbpfSensor, Options, SensorError};
pub use health::{Health, Hook};
pub use missed::{CGROUPS, KernelTable, Missing, Sampling};
pub use source::{Queue, Source};
pub use tracer::{TraceError, TraceOptions, Tracer};
