//! Watches Docker: which containers there are, and what they are.
//!
//! One thread follows the daemon's events and asks for details. Docker sends `create` before a container's
//! first process runs, so its name and image are known by then: they are passed on from the event itself at
//! once, and the rest as soon as the daemon answers, which may be late because `start` locks the container.
//! When the daemon goes away, that is told once, and tried again with growing pauses.
//!
//! **Never:** a block of the pipeline, a panic on nonsense from the socket, a call without a limit in time.

mod answer;
mod session;

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use hashbrown::HashMap;
use tokio::sync::{mpsc, oneshot};

use crate::runtime::RuntimeUpdate;
use session::{End, Session};

/// Where Docker listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// How many updates may wait for the pipeline; beyond, the watcher waits, and Docker's events with it.
pub const UPDATE_QUEUE: usize = 1_024;

/// How many requests may wait.
const REQUEST_QUEUE: usize = 256;
/// The first pause before a new attempt; doubles up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// How often a full update queue is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// Handle of the watching thread. Dropping it stops the thread and waits for it: milliseconds.
#[derive(Debug)]
pub struct DockerWatcher {
    requests: mpsc::Sender<String>,
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl DockerWatcher {
    /// Starts the thread. Whether there is a daemon shows in the updates: first [`RuntimeUpdate::Available`]
    /// or [`RuntimeUpdate::Unavailable`]. The thread ends too when the receiver is dropped.
    ///
    /// # Errors
    /// When the system refuses a thread or its event queue.
    pub fn start(socket: PathBuf) -> io::Result<(Self, Receiver<RuntimeUpdate>)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (update, updates) = sync_channel(UPDATE_QUEUE);
        let (requests, requested) = mpsc::channel(REQUEST_QUEUE);
        let (stop, stopped) = oneshot::channel();
        let watcher = Watcher { socket, updates: Updates(update), requests: requested, known: Known::default() };
        let thread = std::thread::Builder::new().name("docker".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = watcher.run() => {}
                }
            });
        })?;
        Ok((Self { requests, stop: Some(stop), thread: Some(thread) }, updates))
    }

    /// Asks for a container that the kernel showed but no update did; the answer comes as an update,
    /// [`RuntimeUpdate::Container`] or [`RuntimeUpdate::Unknown`]. Never waits. False if it was not taken:
    /// too many requests wait already, or this is no id (12 to 64 hexadecimal digits).
    pub fn request(&self, id: &str) -> bool {
        (12..=64).contains(&id.len()) && answer::is_hex(id) && self.requests.try_send(id.to_owned()).is_ok()
    }
}

impl Drop for DockerWatcher {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic in there was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// Containers that the pipeline was told of, with the number of the question whose answer it has.
type Known = HashMap<String, u64>;

/// The pipeline's end of the thread is gone.
struct Closed;

/// The way to the pipeline.
struct Updates(SyncSender<RuntimeUpdate>);

impl Updates {
    /// Hands over one update; waits, without holding up the thread, while the queue is full.
    async fn send(&self, update: RuntimeUpdate) -> Result<(), Closed> {
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

/// What outlives one connection to the daemon.
struct Watcher {
    socket: PathBuf,
    updates: Updates,
    requests: mpsc::Receiver<String>,
    known: Known,
}

impl Watcher {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        let mut told = false;
        loop {
            let reason = match Session::open(&self.socket).await {
                Ok((session, version)) => {
                    (pause, told) = (FIRST_PAUSE, false);
                    if self.updates.send(RuntimeUpdate::Available { version }).await.is_err() {
                        return;
                    }
                    match session.follow(&mut self).await {
                        End::Lost(reason) => reason,
                        End::Closed => return,
                    }
                }
                Err(reason) => reason,
            };
            if !told {
                told = true;
                tracing::warn!(socket = %self.socket.display(), reason, "Docker cannot be reached");
                if self.updates.send(RuntimeUpdate::Unavailable(reason)).await.is_err() {
                    return;
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::time::Instant;

    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_missing_socket_is_told_once_and_the_handle_stops_at_once() {
        let folder = Scratch::new("nosocket");
        let (watcher, updates) = DockerWatcher::start(folder.path().join("docker.sock")).unwrap();
        let first = updates.recv_timeout(Duration::from_secs(5)).unwrap();
        assert!(matches!(first, RuntimeUpdate::Unavailable(ref reason) if !reason.is_empty()), "{first:?}");
        assert!(updates.recv_timeout(Duration::from_millis(1_500)).is_err(), "told twice");
        let started = Instant::now();
        drop(watcher);
        assert!(started.elapsed() < Duration::from_secs(1));
        assert!(updates.recv().is_err());
    }

    #[test]
    fn nonsense_from_the_socket_is_a_reason_not_a_panic() {
        let replies: [&[u8]; 5] = [
            b"",
            b"\x00\xff\xfe garbage\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{\"a\":",
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 24\r\n\r\n{\"ApiVersion\":\"nonsense\"}",
            b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
        ];
        for reply in replies {
            let folder = Scratch::new("nonsense");
            let socket = folder.path().join("s");
            let listener = UnixListener::bind(&socket).unwrap();
            std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(reply);
            });
            let (_watcher, updates) = DockerWatcher::start(socket).unwrap();
            let first = updates.recv_timeout(Duration::from_secs(10)).unwrap();
            assert!(matches!(first, RuntimeUpdate::Unavailable(_)), "{first:?}");
        }
    }

    #[test]
    fn a_silent_daemon_runs_into_the_limit() {
        let folder = Scratch::new("silent");
        let socket = folder.path().join("s");
        let _listener = UnixListener::bind(&socket).unwrap();
        let started = Instant::now();
        let (watcher, updates) = DockerWatcher::start(socket).unwrap();
        let first = updates.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(matches!(first, RuntimeUpdate::Unavailable(_)), "{first:?}");
        assert!(started.elapsed() < Duration::from_secs(5));
        drop(watcher);
    }

    #[test]
    fn only_ids_can_be_asked_for() {
        let folder = Scratch::new("ids");
        let (watcher, _updates) = DockerWatcher::start(folder.path().join("docker.sock")).unwrap();
        for id in ["", "abc", "../../../images/x", "0123456789ab?all=1", &"a".repeat(65)] {
            assert!(!watcher.request(id), "{id}");
        }
        assert!(watcher.request(&"a".repeat(64)));
        let taken = (0..2 * REQUEST_QUEUE).filter(|_| watcher.request("0123456789ab")).count();
        assert!(taken <= REQUEST_QUEUE);
    }
}
