//! Where findings leave the agent: threads of their own behind bounded queues, so that a slow terminal or a full disk
//! never holds up the events, and a terminal never holds up the disk.
//!
//! One thread puts each finding into the spool and the alerts file; only then another shows it on standard output, so
//! that what was shown is what the manager will have.

mod display;
mod hold;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::Context as _;
use tw_model::Finding;
use tw_report::redact::Redactor;
use tw_report::spool::Spool;
use tw_report::uplink::Bell;

use display::{Display, Screen};
use hold::{Hold, RETRY};

/// Findings that may wait to be written, and as many again to be shown.
pub const QUEUE: usize = 8192;
/// Findings that are taken out of the queue together at most.
const BATCH: usize = 256;

/// How findings are shown on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// Blocks for people.
    #[default]
    Text,
    /// JSON lines.
    Json,
    /// Not at all.
    Nothing,
}

/// Where findings go.
pub struct OutletOptions {
    /// Standard output.
    pub stdout: Shape,
    /// Append JSON lines here too.
    pub file: Option<PathBuf>,
    /// Name of this host.
    pub hostname: String,
    /// Takes secrets out.
    pub redactor: Option<Redactor>,
    /// Keeps findings for the manager.
    pub spool: Option<Arc<Mutex<Spool>>>,
    /// Rung when the spool has more.
    pub bell: Bell,
}

/// Counters of the outlet.
#[derive(Debug, Default)]
pub struct OutletCounts {
    /// Findings handed over.
    pub sent: AtomicU64,
    /// Findings taken out of the queue.
    pub taken: AtomicU64,
    /// Findings lost because the queue was full.
    pub lost_queue: AtomicU64,
    /// Findings shown but not kept: the spool could not be written for too long, or they do not fit into it.
    pub lost_spool: AtomicU64,
    /// Findings not shown on standard output, because it was not read or could not be written.
    pub not_shown: AtomicU64,
    /// Whether standard output is so slow that findings are not shown.
    pub stalled: AtomicBool,
    /// Why the spool cannot be written.
    pub spool_error: Mutex<Option<String>>,
    /// Why standard output cannot be written.
    pub display_error: Mutex<Option<String>>,
    /// Why the alerts file cannot be written.
    pub output_error: Mutex<Option<String>>,
}

/// A finding in a queue. Boxed, since a queue has its room from the start: 8,192 findings, or as many pointers.
type Waiting = Box<Finding>;

/// The agent's end of the queue.
pub struct Outlet {
    queue: Option<SyncSender<Waiting>>,
    writer: Option<JoinHandle<()>>,
    counts: Arc<OutletCounts>,
    closed: Arc<AtomicBool>,
}

impl Outlet {
    /// Opens the outputs and starts to write.
    ///
    /// # Errors
    /// If the alerts file cannot be opened.
    pub fn open(options: OutletOptions) -> anyhow::Result<Self> {
        let screen = Screen::of_this_process(options.stdout);
        Self::onto(screen, options)
    }

    fn onto(screen: Option<Screen>, options: OutletOptions) -> anyhow::Result<Self> {
        let file = options.file.as_deref().map(open_append).transpose()?;
        let (queue, findings) = sync_channel(QUEUE);
        let closed = Arc::new(AtomicBool::new(false));
        let counts = Arc::<OutletCounts>::default();
        let display = match screen {
            Some(screen) => Some(Display::start(screen, &options.hostname, Arc::clone(&counts), Arc::clone(&closed))?),
            None => None,
        };
        let writer = Writer {
            hold: Hold::new(options.spool, options.bell, Arc::clone(&counts)),
            display,
            redactor: options.redactor,
            hostname: options.hostname,
            file,
            file_failed: false,
            counts: Arc::clone(&counts),
        };
        let writer = std::thread::Builder::new().name("outlet".into()).spawn(move || writer.run(&findings))?;
        Ok(Self { queue: Some(queue), writer: Some(writer), counts, closed })
    }

    /// Hands a finding over. Never waits: if the queue is full the finding is lost, and counted.
    pub fn send(&self, finding: Finding) {
        let Some(queue) = &self.queue else { return };
        match queue.try_send(Box::new(finding)) {
            Ok(()) => self.counts.sent.fetch_add(1, Ordering::Relaxed),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.counts.lost_queue.fetch_add(1, Ordering::Relaxed)
            }
        };
    }

    /// Its counters.
    pub fn counts(&self) -> &Arc<OutletCounts> {
        &self.counts
    }

    /// Whether nobody reads standard output any more.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Writes what is left and ends. For a standard output that nobody reads it waits a second at most.
    pub fn close(mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

fn open_append(path: &Path) -> anyhow::Result<File> {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot open the alerts file {}", path.display()))
}

struct Writer {
    hold: Hold,
    display: Option<Display>,
    redactor: Option<Redactor>,
    hostname: String,
    file: Option<File>,
    file_failed: bool,
    counts: Arc<OutletCounts>,
}

impl Writer {
    fn run(mut self, findings: &Receiver<Waiting>) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            match findings.recv_timeout(RETRY) {
                Ok(finding) => batch.push(finding),
                Err(RecvTimeoutError::Timeout) => {
                    self.hold.keep(&[]);
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            while batch.len() < BATCH
                && let Ok(finding) = findings.try_recv()
            {
                batch.push(finding);
            }
            self.counts.taken.fetch_add(batch.len() as u64, Ordering::Relaxed);
            if let Some(redactor) = &self.redactor {
                batch.iter_mut().for_each(|finding| redactor.finding(finding));
            }
            self.hold.keep(batch.iter().map(AsRef::as_ref));
            for finding in batch.drain(..) {
                self.append(&finding);
                if let Some(display) = &self.display {
                    display.show(finding);
                }
            }
        }
        self.hold.close();
        if let Some(display) = self.display {
            display.close();
        }
    }

    /// A full disk is said once, and tried again with each finding.
    fn append(&mut self, finding: &Finding) {
        let Some(file) = &mut self.file else { return };
        let line = tw_report::json::line(finding, &self.hostname) + "\n";
        match file.write_all(line.as_bytes()) {
            Ok(()) if self.file_failed => {
                self.file_failed = false;
                set(&self.counts.output_error, None);
                tracing::info!("the alerts file can be written again");
            }
            Ok(()) => {}
            Err(error) => {
                set(&self.counts.output_error, Some(format!("cannot write the alerts file: {error}")));
                if !std::mem::replace(&mut self.file_failed, true) {
                    tracing::error!("cannot write the alerts file: {error}; alerts go on on standard output");
                }
            }
        }
    }
}

fn set(place: &Mutex<Option<String>>, value: Option<String>) {
    *place.lock().unwrap_or_else(PoisonError::into_inner) = value;
}

#[cfg(test)]
mod tests;
