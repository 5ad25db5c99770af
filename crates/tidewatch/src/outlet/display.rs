//! Findings on standard output. It may be a terminal that was stopped, or a pipe that nobody reads: then what does not
//! fit into the queue is not shown, and counted.
//!
//! **Never:** a word to the log while standard output is stuck, from any thread but the one that is stuck with it: the
//! log may go to the same terminal.

use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use rustix::io::Errno;
use tw_model::Finding;

use super::{OutletCounts, QUEUE, Shape, Waiting, set};

/// How long the end waits for what is not shown yet.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where findings are shown, and how.
pub(super) struct Screen {
    /// Takes the text.
    pub(super) out: Box<dyn Write + Send>,
    /// JSON lines instead of blocks.
    pub(super) json: bool,
    /// Whether it is one that can be hung up.
    pub(super) terminal: bool,
}

impl Screen {
    /// Standard output; none if nothing is to be shown.
    pub(super) fn of_this_process(shape: Shape) -> Option<Self> {
        let terminal = io::stdout().is_terminal();
        let (out, json): (Box<dyn Write + Send>, bool) = match shape {
            Shape::Nothing => return None,
            Shape::Json => (Box::new(io::stdout()), true),
            Shape::Text => (Box::new(anstream::AutoStream::auto(io::stdout())), false),
        };
        Some(Self { out, json, terminal })
    }

    fn show(&mut self, finding: &Finding, hostname: &str) -> io::Result<()> {
        let text = match self.json {
            true => tw_report::json::line(finding, hostname),
            false => tw_report::terminal::block(finding),
        };
        self.out.write_all((text + "\n").as_bytes())?;
        self.out.flush()
    }

    /// Whether it is gone for good: nobody reads the pipe, or the terminal was closed.
    fn is_gone(&self, error: &io::Error) -> bool {
        let hung_up = self.terminal && error.raw_os_error() == Some(Errno::IO.raw_os_error());
        hung_up || error.kind() == io::ErrorKind::BrokenPipe
    }
}

/// The end of the queue at which findings come in.
pub(super) struct Display {
    queue: SyncSender<Waiting>,
    /// Hangs up when everything is shown.
    done: Receiver<()>,
    counts: Arc<OutletCounts>,
}

impl Display {
    /// Starts to show. Sets `closed` once nobody can see it any more.
    pub(super) fn start(
        screen: Screen,
        hostname: &str,
        counts: Arc<OutletCounts>,
        closed: Arc<AtomicBool>,
    ) -> io::Result<Self> {
        let (queue, findings) = sync_channel(QUEUE);
        let (showing, done) = sync_channel(0);
        let shower =
            Shower { screen, hostname: hostname.to_owned(), counts: Arc::clone(&counts), closed, failed: false };
        std::thread::Builder::new().name("display".into()).spawn(move || {
            shower.run(&findings);
            drop(showing);
        })?;
        Ok(Self { queue, done, counts })
    }

    /// Shows a finding soon. Never waits.
    pub(super) fn show(&self, finding: Waiting) {
        if self.queue.try_send(finding).is_err() {
            self.counts.not_shown.fetch_add(1, Ordering::Relaxed);
            self.counts.stalled.store(true, Ordering::Relaxed);
        }
    }

    /// Waits until everything is shown, but not for long: what is stuck ends with the process.
    pub(super) fn close(self) {
        let Self { queue, done, .. } = self;
        drop(queue);
        if done.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            self.counts.stalled.store(true, Ordering::Relaxed);
        }
    }
}

struct Shower {
    screen: Screen,
    hostname: String,
    counts: Arc<OutletCounts>,
    closed: Arc<AtomicBool>,
    /// The last one could not be written.
    failed: bool,
}

impl Shower {
    fn run(mut self, findings: &Receiver<Waiting>) {
        loop {
            let finding = match findings.try_recv() {
                Ok(finding) => finding,
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => {
                    self.caught_up();
                    let Ok(finding) = findings.recv() else { return };
                    finding
                }
            };
            self.show(&finding);
        }
    }

    fn caught_up(&self) {
        if self.counts.stalled.swap(false, Ordering::Relaxed) {
            let not_shown = self.counts.not_shown.load(Ordering::Relaxed);
            tracing::warn!("standard output was not read for a while: {not_shown} alerts since the start not shown");
        }
    }

    /// An error is said once, and tried again with each finding.
    fn show(&mut self, finding: &Finding) {
        match self.screen.show(finding, &self.hostname) {
            Ok(()) => {
                if std::mem::replace(&mut self.failed, false) {
                    set(&self.counts.display_error, None);
                    tracing::info!("alerts can be shown on standard output again");
                }
            }
            Err(error) => {
                self.counts.not_shown.fetch_add(1, Ordering::Relaxed);
                if self.screen.is_gone(&error) {
                    self.closed.store(true, Ordering::Relaxed);
                    return;
                }
                set(&self.counts.display_error, Some(format!("cannot write alerts to standard output: {error}")));
                if !std::mem::replace(&mut self.failed, true) {
                    tracing::error!(
                        "cannot write alerts to standard output: {error}; they are kept, and it is tried again"
                    );
                }
            }
        }
    }
}
