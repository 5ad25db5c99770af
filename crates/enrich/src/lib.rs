//! Who did it: processes, the containers they live in, and the images those run.
//!
//! Four independent sources of knowledge: [`procfs`] for processes that started before us, [`users`] for the
//! names behind user numbers, [`cgroup`] from a cgroup to a container id, [`docker`] from the id to a name
//! and an image.
//!
//! **Never:** unsafe code; trust in a path, a file or an answer that a container can shape.
#![forbid(unsafe_code)]

pub mod cgroup;
pub mod docker;
pub mod procfs;
pub mod runtime;
pub mod users;

pub use cgroup::Cgroups;
pub use docker::DockerWatcher;
pub use runtime::RuntimeUpdate;
pub use users::UserDb;

#[cfg(test)]
mod scratch;
