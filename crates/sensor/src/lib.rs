//! Where events come from: the kernel's rings, loaded and read in the order of time, with every loss counted.
//!
//! The only crate with unsafe code, and only in `ring`. What it delivers is bytes as `bpf/tidewatch.h` lays them out;
//! `tw_model::Raw` checks them.
//!
//! `recorder` keeps records on disk, `capture` makes them of the captures of others.
//!
//! **Never:** interpretation of events, names of containers, rules.

mod calls;
pub mod capture;
pub mod clock;
pub mod ebpf;
pub mod health;
mod missed;
pub mod recorder;
mod ring;
#[cfg(test)]
mod wire;

pub use ebpf::{Count, EbpfSensor, Options, SensorError};
pub use health::{Health, Hook};
pub use missed::{CGROUPS, KernelTable, Missing, Sampling};
