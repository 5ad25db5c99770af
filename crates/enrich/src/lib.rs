//! Who did it: processes, the containers they live in, and the images those run.
//!
//! [`World`] is the state of the host as events tell it. Independent sources feed it: [`procfs`] for processes that
//! started before us, [`users`] for the names behind user numbers, [`cgroup`] from a cgroup to a container id; from the id
//! to a name, an image and a pod [`bundle`], what runtimes leave on disk, and [`watcher`], what they say when asked.
//!
//! **Never:** unsafe code; trust in a path, a file or an answer that a container can shape.
#![forbid(unsafe_code)]

mod bounded;
pub mod bundle;
pub mod cgroup;
pub mod docker;
mod grpc;
pub mod journal;
mod launch;
pub mod ledger;
pub mod listeners;
pub mod membership;
mod oci;
pub mod procfs;
pub mod runtime;
pub mod sources;
pub mod users;
pub mod watcher;
pub mod world;

pub use bundle::BundleReader;
pub use cgroup::Cgroups;
pub use journal::Context;
pub use ledger::Ledger;
pub use membership::Notice;
pub use runtime::RuntimeUpdate;
pub use sources::{RuntimeOptions, RuntimeState};
pub use users::UserDb;
pub use watcher::{Api, RuntimeWatcher};
pub use world::{World, WorldOptions};

#[cfg(test)]
mod scratch;
