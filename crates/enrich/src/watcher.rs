//! Asks a container runtime through its socket: which containers there are, and what they are.
//!
//! One thread for each runtime follows its events and asks for details. Docker and containerd tell of a container
//! before its first process runs, so its name and image are known by then: they are passed on from the event itself at
//! once, and the rest as soon as the runtime answers, which may be late because a start locks the container. When the
//! runtime goes away, that is told once, and tried again with growing pauses.
//!
//! **Never:** a block of the pipeline, a panic on nonsense from the socket, a call without a limit in time.

pub(crate) mod inquiry;

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use hashbrown::HashMap;
use tokio::sync::{mpsc, oneshot};

use crate::runtime::{RuntimeUpdate, is_id};

/// How many updates may wait for the pipeline; beyond, the watcher waits, and the runtime's events with it.
pub const UPDATE_QUEUE: usize = 1_024;

/// How many requests may wait.
pub(crate) const REQUEST_QUEUE: usize = 256;
/// The first pause before a new attempt; doubles up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// How often a full update queue is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(5);
/// Limit in time of each call.
pub(crate) const CALL: Duration = Duration::from_secs(2);
/// Most bytes of a reason.
pub(crate) const MAX_REASON: usize = 200;

/// What is spoken on a runtime's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// Docker Engine's API, which podman's service speaks too.
    Docker,
    /// The API of containerd.
    Containerd,
    /// The Container Runtime Interface of Kubernetes, version 1.
    Cri,
}

impl Api {
    /// What it is called where people see it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Containerd => "containerd",
            Self::Cri => "cri",
        }
    }
}

/// Handle of the watching thread. Dropping it stops the thread and waits for it: milliseconds.
#[derive(Debug)]
pub struct RuntimeWatcher {
    api: Api,
    requests: mpsc::Sender<String>,
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl RuntimeWatcher {
    /// Starts the thread. Whether somebody answers shows in the updates: first [`RuntimeUpdate::Available`],
    /// [`RuntimeUpdate::Unavailable`] or [`RuntimeUpdate::Absent`]. The thread ends too when the receiver is dropped.
    ///
    /// # Errors
    /// When the system refuses a thread or its event queue.
    pub fn start(api: Api, socket: PathBuf) -> io::Result<(Self, Receiver<RuntimeUpdate>)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (update, updates) = sync_channel(UPDATE_QUEUE);
        let (requests, requested) = mpsc::channel(REQUEST_QUEUE);
        let (stop, stopped) = oneshot::channel();
        let line = Line { updates: Updates(update), requests: requested, known: Known::default() };
        let thread = std::thread::Builder::new().name(api.name().into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = watch(api, &socket, line) => {}
                }
            });
        })?;
        Ok((Self { api, requests, stop: Some(stop), thread: Some(thread) }, updates))
    }

    /// Asks for a container that the kernel showed but no update did; the answer comes as updates:
    /// [`RuntimeUpdate::Container`] if there is one, then [`RuntimeUpdate::NoMore`]. Never waits. False if it was not
    /// taken: too many requests wait already, or this is no id.
    pub fn request(&self, id: &str) -> bool {
        let valid = match self.api {
            Api::Docker => crate::docker::is_docker_id(id),
            Api::Containerd | Api::Cri => is_id(id),
        };
        valid && self.requests.try_send(id.to_owned()).is_ok()
    }
}

impl Drop for RuntimeWatcher {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic in there was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// Containers that the pipeline was told of, with the number of the question whose answer it has.
pub(crate) type Known = HashMap<String, u64>;

/// The pipeline's end of the thread is gone.
pub(crate) struct Closed;

/// The way to the pipeline.
pub(crate) struct Updates(SyncSender<RuntimeUpdate>);

impl Updates {
    /// Hands over one update; waits, without holding up the thread, while the queue is full.
    pub async fn send(&self, update: RuntimeUpdate) -> Result<(), Closed> {
        let mut update = update;
        loop {
            match self.0.try_send(update) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(_)) => return Err(Closed),
                Err(TrySendError::Full(back)) => update = back,
            }
            tokio::time::sleep(FULL_PAUSE).await;
        }
    }
}

/// What outlives one connection to the runtime.
pub(crate) struct Line {
    pub updates: Updates,
    pub requests: mpsc::Receiver<String>,
    pub known: Known,
}

/// Why a session ended.
pub(crate) enum End {
    /// The runtime went away or stopped to answer, and how.
    Lost(String),
    /// Nobody listens to the updates any more.
    Closed,
}

impl From<Closed> for End {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

/// One connection to a runtime, from the first answer until it is lost.
pub(crate) trait Session: Sized {
    /// Connects. Gives the runtime's version too, or the reason for the failure.
    async fn open(socket: &Path) -> Result<(Self, String), String>;

    /// Follows events, answers requests, keeps the pipeline informed; until the runtime is lost.
    async fn follow(self, line: &mut Line) -> End;
}

async fn watch(api: Api, socket: &Path, line: Line) {
    match api {
        Api::Docker => stay_connected::<crate::docker::Session>(api, socket, line).await,
        Api::Containerd => stay_connected::<crate::grpc::containerd::Session>(api, socket, line).await,
        Api::Cri => stay_connected::<crate::grpc::cri::Session>(api, socket, line).await,
    }
}

async fn stay_connected<S: Session>(api: Api, socket: &Path, mut line: Line) {
    let mut pause = FIRST_PAUSE;
    let mut told = false;
    loop {
        // A path that nothing is at means that the runtime is not installed, or not started yet.
        let absent = matches!(std::fs::metadata(socket), Err(error) if error.kind() == io::ErrorKind::NotFound);
        let reason = match S::open(socket).await {
            Ok((session, version)) => {
                (pause, told) = (FIRST_PAUSE, false);
                if line.updates.send(RuntimeUpdate::Available { version }).await.is_err() {
                    return;
                }
                // Numbers start again with each session; what was told before is older than any answer now.
                line.known.values_mut().for_each(|number| *number = 0);
                match session.follow(&mut line).await {
                    End::Lost(reason) => reason,
                    End::Closed => return,
                }
            }
            Err(reason) => reason,
        };
        if !told {
            told = true;
            tracing::debug!(runtime = api.name(), socket = %socket.display(), reason, "cannot be reached");
            let reason = format!("{}: {reason}", socket.display());
            let update = if absent { RuntimeUpdate::Absent(reason) } else { RuntimeUpdate::Unavailable(reason) };
            if line.updates.send(update).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// What is said of a call that took longer than [`CALL`].
pub(crate) fn too_late() -> String {
    format!("no answer in {} seconds", CALL.as_secs())
}

/// An error with its causes, in bounded length.
pub(crate) fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
        if text.len() > MAX_REASON {
            break;
        }
    }
    text.truncate(text.floor_char_boundary(MAX_REASON));
    text
}

#[cfg(test)]
mod tests;
