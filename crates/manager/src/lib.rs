//! The manager: keeps what agents found, and answers questions about it.
//!
//! It runs under a user of its own, without any privilege. Findings come over the link, go into the store, and are
//! acknowledged when they are committed. The API and the metrics read the store and the agents' last status.
//!
//! **Never:** a decision about an event; anything that needs root.
#![forbid(unsafe_code)]

pub mod api;
mod keeper;
pub mod kubernetes;
mod link;
pub mod metrics;
mod outside;
pub mod retention;
mod state;
pub mod store;
pub mod usage;

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use outside::Outside;
use retention::Retention;
use state::State;
use store::Place;

/// What the manager is told at its start.
#[derive(Debug)]
pub struct Options {
    /// Where the store is: `sqlite:/absolute/path` or `postgres://user:password@host/database`.
    pub store_url: String,
    /// How long and how much is kept; may change.
    pub retention: tokio::sync::watch::Receiver<Retention>,
    /// Told when a reload was asked for and the agent did its part: then the settings here are to be read anew.
    pub reloaded: Arc<tokio::sync::Notify>,
    /// The agent's socket. It need not be there yet.
    pub agent_socket: PathBuf,
    /// Where the API is served: bound already.
    pub control: UnixListener,
    /// Where health and metrics are served as well.
    pub metrics: Option<Outside>,
    /// Pods of Kubernetes that are to be watched; none if there is no Kubernetes.
    pub kubernetes: Option<kubernetes::Options>,
    /// The file in which the supervisor says how it is.
    pub supervisor_file: Option<PathBuf>,
    /// Version of the program.
    pub version: String,
    /// How often the supervisor started this process again.
    pub restarts: u64,
}

/// Why the manager cannot run at all. What may pass, such as a store that is away, is no such reason.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// The store's URL makes no sense.
    #[error("{0}")]
    Url(String),
    /// A socket that was handed over cannot be used.
    #[error("cannot listen on the {0} socket: {1}")]
    Socket(&'static str, std::io::Error),
}

/// Runs until `shutdown` comes. The store is opened, and the agent connected to, however long that takes.
///
/// # Errors
/// See [`ManagerError`]; only at the start.
pub async fn run(options: Options, shutdown: impl Future<Output = ()>) -> Result<(), ManagerError> {
    let place = Place::parse(&options.store_url).map_err(ManagerError::Url)?;
    let mut state = State::new(place, options.retention, options.agent_socket, options.version);
    state.supervisor_file = options.supervisor_file;
    state.restarts = options.restarts;
    state.reloaded = options.reloaded;
    state.kubernetes = options.kubernetes.map(kubernetes::Kubernetes::new).map(Arc::new);
    let state = Arc::new(state);

    let unix = |error| ManagerError::Socket("control", error);
    options.control.set_nonblocking(true).map_err(unix)?;
    let control = tokio::net::UnixListener::from_std(options.control).map_err(unix)?;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(api::serve_unix(control, api::control(Arc::clone(&state))));
    if let Some(outside) = options.metrics {
        let place = outside::take(outside, &state)?;
        tasks.spawn(outside::serve(Arc::clone(&state), place, outside::RETRY));
    }
    tasks.spawn(keeper::keep(Arc::clone(&state)));
    tasks.spawn(keeper::retain(Arc::clone(&state)));
    tasks.spawn(link::follow(Arc::clone(&state)));
    if let Some(kubernetes) = state.kubernetes.clone() {
        tasks.spawn(async move { kubernetes.follow().await });
    }

    shutdown.await;
    // A commit that is cut off was not acknowledged: the agent sends it again.
    tasks.shutdown().await;
    if let Some(store) = state.store() {
        tokio::time::timeout(Duration::from_secs(2), store.close()).await.ok();
    }
    Ok(())
}
