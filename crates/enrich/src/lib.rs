//! Who did it: processes, the containers they live in, and the images those run.
//!
//! [`World`] is the state of the host as events tell it. Four independent sources feed it: [`procfs`] for processes that started before us, [`users`] for the
//! names behind user numbers, [`cgroup`] from a cgroup to a container id, [`docker`] from the id to a name
//! and an image.
//!
//! **Never:** unsafe code; trust in a path, a file or an answer that a container can shape.
#![forbid(unsafe_code)]

pub mod cgroup;
pub mod docker;
pub mod journal;
pub mod ledger;
pub mod membership;
pub mod procfs;
pub mod runtime;
pub mod users;
pub mod world;

pub use cgroup::Cgroups;
pub use docker::DockerWatcher;
pub use journal::Context;
pub use ledger::Ledger;
pub use membership::Notice;
pub use runtime::RuntimeUpdate;
pub use users::UserDb;
pub use world::{World, WorldOptions};

#[cfg(test)]
mod scratch;
