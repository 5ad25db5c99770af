//! Where findings leave the agent: a thread of its own behind a bounded queue, so that a slow terminal or a full
//! disk never holds up the events.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use anyhow::Context as _;
use tw_model::Finding;

/// Findings that may wait to be written.
const QUEUE: usize = 8192;

/// How findings are shown.
#[derive(Clone, Debug)]
pub struct OutletOptions {
    /// JSON lines on standard output instead of blocks.
    pub json: bool,
    /// Append JSON lines here too.
    pub alerts_file: Option<PathBuf>,
    /// Name of this host.
    pub hostname: String,
}

/// The agent's end of the queue.
pub struct Outlet {
    queue: Option<SyncSender<Finding>>,
    writer: Option<JoinHandle<()>>,
    lost: AtomicU64,
    sent: AtomicU64,
    closed: Arc<AtomicBool>,
}

impl Outlet {
    /// Opens the outputs and starts to write.
    ///
    /// # Errors
    /// If the alerts file cannot be opened.
    pub fn open(options: OutletOptions) -> anyhow::Result<Self> {
        let file = options.alerts_file.as_deref().map(open_append).transpose()?;
        let (queue, findings) = sync_channel(QUEUE);
        let closed = Arc::new(AtomicBool::new(false));
        let writer = Writer { options, file, file_failed: false, closed: Arc::clone(&closed) };
        let writer = std::thread::Builder::new().name("outlet".into()).spawn(move || writer.run(&findings))?;
        Ok(Self { queue: Some(queue), writer: Some(writer), lost: AtomicU64::new(0), sent: AtomicU64::new(0), closed })
    }

    /// Hands a finding over. Never waits: if the queue is full the finding is lost, and counted.
    pub fn send(&self, finding: Finding) {
        let Some(queue) = &self.queue else { return };
        match queue.try_send(finding) {
            Ok(()) => self.sent.fetch_add(1, Ordering::Relaxed),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.lost.fetch_add(1, Ordering::Relaxed),
        };
    }

    /// Findings handed over, and findings lost because the outputs were too slow.
    pub fn counts(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.lost.load(Ordering::Relaxed))
    }

    /// Whether nobody reads standard output any more.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Writes what is left and ends.
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
    options: OutletOptions,
    file: Option<File>,
    file_failed: bool,
    closed: Arc<AtomicBool>,
}

impl Writer {
    fn run(mut self, findings: &Receiver<Finding>) {
        for finding in findings {
            let line = (self.options.json || self.file.is_some())
                .then(|| tw_report::json::line(&finding, &self.options.hostname) + "\n");
            if let Some(line) = &line {
                self.append(line);
            }
            let shown = match line {
                Some(line) if self.options.json => write_flushed(&mut io::stdout(), &line),
                _ => {
                    let block = tw_report::terminal::block(&finding) + "\n";
                    write_flushed(&mut anstream::AutoStream::auto(io::stdout()), &block)
                }
            };
            if let Err(error) = shown
                && !self.closed.swap(true, Ordering::Relaxed)
                && error.kind() != io::ErrorKind::BrokenPipe
            {
                tracing::error!("cannot write alerts to standard output: {error}");
            }
        }
    }

    /// A full disk is said once, and tried again with each finding.
    fn append(&mut self, line: &str) {
        let Some(file) = &mut self.file else { return };
        match file.write_all(line.as_bytes()) {
            Ok(()) if self.file_failed => {
                self.file_failed = false;
                tracing::info!("the alerts file can be written again");
            }
            Ok(()) => {}
            Err(error) => {
                if !std::mem::replace(&mut self.file_failed, true) {
                    tracing::error!("cannot write the alerts file: {error}; alerts go on on standard output");
                }
            }
        }
    }
}

fn write_flushed(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.flush()
}
