//! What containers use: processors, memory, disks, networks, processes, descriptors; measured by a thread of its own.
//!
//! Each measurement is a record like those of the kernel half (`resource`, [`tw_model::raw::ResourceBody`]): rules,
//! recorder and replay treat it like any other event.
//!
//! **Never:** more than [`SHARE`] of a core; whoever has too many containers for that is measured less often.

pub(crate) mod group;
mod totals;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tw_model::EventKind;
use tw_model::raw::{COMM, Encoder, Header, ResourceBody, to_words};

use group::{Files, Hierarchies};
use totals::{Reader, Totals};

/// One part in so many of a core is the most that measuring may take.
pub const SHARE: u32 = 50;
/// Measurements that may wait to be taken.
const QUEUE: usize = 4096;
/// Most containers that are measured.
const MAX_TARGETS: usize = 16_384;

/// A container to be measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Id of the container.
    pub id: String,
    /// Its cgroup in the unified hierarchy, which its measurements name.
    pub cgroup: u64,
    /// Its first process, which its measurements name.
    pub pid: u32,
    /// Start of that process, nanoseconds since boot.
    pub start_ns: u64,
    /// Name of that process, padded with NUL.
    pub comm: [u8; COMM],
    /// Effective user of that process.
    pub uid: u32,
    /// Effective group of that process.
    pub gid: u32,
    /// Has network interfaces of its own.
    pub own_network: bool,
}

/// How to measure.
#[derive(Clone, Debug)]
pub struct ResourceOptions {
    /// Time between two measurements of a container.
    pub interval: Duration,
    /// Where `/proc` of the host is.
    pub proc_root: PathBuf,
}

/// Counters of the measuring.
#[derive(Debug, Default)]
pub struct ResourceCounts {
    /// Measurements so far.
    pub measured: AtomicU64,
    /// Measurements that nobody took in time.
    pub dropped: AtomicU64,
    /// Containers measured in the last round.
    pub containers: AtomicU64,
    /// Containers beyond the most that are measured.
    pub left_out: AtomicU64,
    /// Processor time that the last round took, nanoseconds.
    pub round_ns: AtomicU64,
    /// Time between the last two rounds, nanoseconds: grows beyond what is asked for when rounds take long.
    pub interval_ns: AtomicU64,
}

/// The running thread. It ends when this is dropped.
pub struct Resources {
    targets: Arc<Mutex<Option<Vec<Target>>>>,
    records: Receiver<Vec<u64>>,
    counts: Arc<ResourceCounts>,
    _stop: Sender<()>,
}

impl Resources {
    /// Starts to measure; nothing is measured before [`Resources::watch`] names containers.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(options: ResourceOptions) -> std::io::Result<Self> {
        let (send, records) = sync_channel(QUEUE);
        let (stop, stopped) = channel();
        let (targets, counts) = (Arc::default(), Arc::<ResourceCounts>::default());
        let round = Round {
            options,
            hierarchies: Hierarchies::default(),
            tracked: HashMap::new(),
            reader: Reader::default(),
            send,
            news: Arc::clone(&targets),
            counts: Arc::clone(&counts),
        };
        std::thread::Builder::new().name("resources".into()).spawn(move || round.run(&stopped))?;
        Ok(Self { targets, records, counts, _stop: stop })
    }

    /// Names the containers that are to be measured from now on.
    pub fn watch(&self, targets: Vec<Target>) {
        *self.targets.lock().unwrap_or_else(PoisonError::into_inner) = Some(targets);
    }

    /// The next measurement that was made: a record in words. Never waits.
    pub fn next(&self) -> Option<Vec<u64>> {
        self.records.try_recv().ok()
    }

    /// Counters.
    pub fn counts(&self) -> &ResourceCounts {
        &self.counts
    }
}

/// A container and what is known of it from last time.
struct Tracked {
    target: Target,
    files: Files,
    last: Option<(u64, Totals)>,
}

/// What the thread works with.
struct Round {
    options: ResourceOptions,
    hierarchies: Hierarchies,
    tracked: HashMap<String, Tracked>,
    reader: Reader,
    send: SyncSender<Vec<u64>>,
    news: Arc<Mutex<Option<Vec<Target>>>>,
    counts: Arc<ResourceCounts>,
}

impl Round {
    fn run(mut self, stopped: &Receiver<()>) {
        self.hierarchies = Hierarchies::read(&self.options.proc_root);
        let (mut wait, mut began) = (self.options.interval, Instant::now());
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(wait) {
            let now = Instant::now();
            self.counts.interval_ns.store(nanoseconds(now - began), Ordering::Relaxed);
            began = now;
            let used = crate::clock::thread_cpu();
            self.take_news();
            let measured = self.measure_all();
            // Processor time, not the clock: on a busy host the thread waits for its turn, which costs nobody.
            let took = crate::clock::thread_cpu().saturating_sub(used);
            self.counts.containers.store(measured, Ordering::Relaxed);
            self.counts.round_ns.store(nanoseconds(took), Ordering::Relaxed);
            wait = self.options.interval.max(took * SHARE).saturating_sub(began.elapsed());
        }
    }

    fn take_news(&mut self) {
        let news = self.news.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut targets) = news else { return };
        self.counts.left_out.store(targets.len().saturating_sub(MAX_TARGETS) as u64, Ordering::Relaxed);
        targets.truncate(MAX_TARGETS);
        let mut old = std::mem::take(&mut self.tracked);
        for target in targets {
            let tracked = match old.remove(&target.id) {
                // The same container, perhaps started anew: then its counters begin anew too.
                Some(known) if known.target.pid == target.pid => Tracked { target, ..known },
                _ => {
                    let files = self.hierarchies.files(&self.options.proc_root, target.pid, &target.id);
                    Tracked { target, files, last: None }
                }
            };
            self.tracked.insert(tracked.target.id.clone(), tracked);
        }
    }

    fn measure_all(&mut self) -> u64 {
        let mut measured = 0;
        for tracked in self.tracked.values_mut() {
            let now = crate::clock::boot_ns();
            let totals = self.reader.read(&self.options.proc_root, &tracked.files, &tracked.target);
            // The first look only says where the counters stand; nothing at all means that the container has ended.
            let Some(totals) = totals else { continue };
            if let Some((then, before)) = tracked.last.replace((now, totals)) {
                let body = totals.since(&before, now.saturating_sub(then));
                measured += 1;
                self.counts.measured.fetch_add(1, Ordering::Relaxed);
                if let Err(TrySendError::Full(_)) = self.send.try_send(record(&tracked.target, now, &body)) {
                    self.counts.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        measured
    }
}

fn record(target: &Target, now: u64, body: &ResourceBody) -> Vec<u64> {
    let header = Header {
        kind: EventKind::Resource as u16,
        time: now,
        start: target.start_ns,
        cgroup: target.cgroup,
        pid: target.pid,
        tid: target.pid,
        uid: target.uid,
        gid: target.gid,
        comm: target.comm,
        ..Header::default()
    };
    to_words(&Encoder::new(&header, size_of::<ResourceBody>()).finish(body))
}

fn nanoseconds(time: Duration) -> u64 {
    time.as_nanos().min(u64::MAX.into()) as u64
}
