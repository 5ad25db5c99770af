//! The nouns of Tidewatch: raw records, events, processes, containers, findings, and the tables of event
//! kinds and fields that everything else is driven by.
//!
//! **Never:** input or output, a clock, a thread, async code, or unsafe code.
#![forbid(unsafe_code)]

pub mod container;
pub mod coverage;
pub mod dns;
pub mod event;
pub mod field;
pub mod finding;
pub mod first_bytes;
pub mod flags;
pub mod known_names;
pub mod link;
pub mod listener;
pub mod login;
pub mod mode;
pub mod process;
pub mod raw;
pub mod sample;
pub mod services;
pub mod status;
pub mod value;
pub mod workload;

pub use container::Container;
pub use event::{Event, EventKind, KindSet};
pub use field::FieldRef;
pub use finding::{Cause, Finding, FindingId, Priority};
pub use known_names::{KnownNames, Names, Place};
pub use login::Login;
pub use mode::Mode;
pub use process::{ProcKey, Process, ProcessTable};
pub use raw::Raw;
pub use value::{FieldType, Value};
pub use workload::{Workload, WorkloadRef};
