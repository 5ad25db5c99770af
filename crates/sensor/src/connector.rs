//! The sensor for hosts that refuse eBPF: the kernel's process connector says who forked, executed, changed users, traced
//! another or ended, and `/proc` says what that is. Needs CAP_NET_ADMIN in the host's own namespaces. With CAP_SYS_ADMIN
//! fanotify says beside which files are opened: `files`.
//!
//! A thread of its own waits for each word and reads `/proc` at once: a program that ends within a few hundred
//! microseconds is told without its arguments, and counted. The kernel numbers what it says by CPU, so that every loss
//! shows.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::netlink::{CONNECTOR, SocketAddrNetlink};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, bind, send, socket_with, sockopt};
use tw_model::coverage::{Class, Miss};
use tw_model::event::{EVENTS, EventKind};
use tw_model::mode::Mode;
use tw_model::raw::from_words;

mod ears;
mod files;
mod message;
mod mounts;
mod people;

use crate::clock;
use crate::ebpf::{Count, SensorError};
use crate::health::{Health, Hook};
use crate::missed::{Missing, Sampling};
use crate::source::{Queue, Source};
use ears::Ears;
pub use files::FileWatch;

/// Bytes that may wait in the kernel.
const RECEIVE_BUFFER: usize = 8 << 20;
/// Records that may wait for the pipeline, and how many bytes they may have.
const MAX_RECORDS: usize = 65_536;
const MAX_BYTES: usize = 32 << 20;
/// Cgroups, classes and reasons of losses that are told apart between two looks; the others share an entry by class.
const APART: usize = 1024;
/// The group of process events, `CN_IDX_PROC`.
const GROUP: u32 = 1;
/// So long may it take to hear of some files. Longer, and one lies on a file system that somebody holds up.
const PATIENCE_NS: u64 = 5_000_000_000;

/// Of which cgroup, if that is known, of which class, and why.
type Lost = (Option<u64>, Class, Miss);

/// What the readers and the agent share.
#[derive(Default)]
struct Shared {
    /// By row of the table of events.
    sent: Vec<AtomicU64>,
    missed: Vec<[AtomicU64; Miss::IN_KERNEL]>,
    /// What was missed and not yet told, by cgroup.
    to_tell: Mutex<HashMap<Lost, u64>>,
    /// Programs that had ended before they could be looked at.
    unseen: AtomicU64,
    /// Records that wait, and their bytes.
    queued: AtomicUsize,
    waiting: AtomicUsize,
    ended: AtomicBool,
    /// Of how many opens for reading one is wanted; 0: all are.
    read_opens: AtomicU32,
    reads_given_up: AtomicBool,
    /// File systems that are not watched.
    left_out: AtomicU64,
    /// Since when whoever hears of files is at it, boot time; 0: he waits.
    busy_since: AtomicU64,
}

impl Shared {
    fn new() -> Self {
        let missed = || std::array::from_fn(|_| AtomicU64::new(0));
        Self {
            sent: EVENTS.iter().map(|_| AtomicU64::new(0)).collect(),
            missed: EVENTS.iter().map(|_| missed()).collect(),
            ..Self::default()
        }
    }

    fn sent(&self, kind: EventKind) {
        self.sent.get(kind as usize).map(|count| count.fetch_add(1, Ordering::Relaxed));
    }

    /// Counts what was not told; `cgroup` is none where that is not known.
    fn lose(&self, kind: EventKind, cgroup: Option<u64>, why: Miss, events: u64) {
        let count = self.missed.get(kind as usize).and_then(|counts| counts.get(why as usize));
        count.map(|count| count.fetch_add(events, Ordering::Relaxed));
        let mut to_tell = locked(&self.to_tell);
        let mut key = (cgroup, Class::of_kind(kind), why);
        if to_tell.len() >= APART && !to_tell.contains_key(&key) {
            key.0 = None;
        }
        *to_tell.entry(key).or_default() += events;
    }
}

/// What a thread that panicked left behind is still good.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The socket, opened while that is still allowed. Nothing is told before [`ConnectorSensor::start`].
pub struct ConnectorSocket(OwnedFd);

/// The running sensor.
pub struct ConnectorSensor {
    socket: Arc<OwnedFd>,
    records: Receiver<Vec<u64>>,
    shared: Arc<Shared>,
    health: Health,
    /// Wakes who hears of files, if anybody does.
    files: Option<Arc<OwnedFd>>,
}

impl ConnectorSocket {
    /// Opens the socket.
    ///
    /// # Errors
    /// [`SensorError::NotPermitted`] without CAP_NET_ADMIN, or in a network or user namespace that is not the host's.
    pub fn open() -> Result<Self, SensorError> {
        let refused = |what: &str, error: io::Error| SensorError::NoConnector(format!("{what}: {error}"));
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(CONNECTOR))
            .map_err(|error| refused("no socket to the process connector", error.into()))?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUP))
            .map_err(|error| refused("not allowed to listen to the process connector", error.into()))?;
        // What is not allowed beyond the host's limit has to do with that.
        if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
            let _ = sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
        }
        Ok(Self(socket))
    }
}

impl ConnectorSensor {
    /// Begins to listen; to files, too, if that is allowed.
    ///
    /// # Errors
    /// [`SensorError`] if the kernel does not answer: it needs CAP_NET_ADMIN, and the host's own pid namespace.
    pub fn start(socket: ConnectorSocket, files: Option<FileWatch>) -> Result<Self, SensorError> {
        let refused = |error: io::Error| SensorError::NoConnector(error.to_string());
        send(&socket.0, &message::wish(true), SendFlags::empty()).map_err(|error| refused(error.into()))?;
        let socket = Arc::new(socket.0);
        let shared = Arc::new(Shared::new());
        let (out, records) = sync_channel(MAX_RECORDS);
        let bell = if files.is_some() { Some(Arc::new(files::bell().map_err(refused)?)) } else { None };
        let ears = Ears::new(Arc::clone(&socket), out, Arc::clone(&shared), bell.clone());
        let ears = Arc::new(Mutex::new(ears));
        let mut sensor = Self { socket, records, shared, health: Health::default(), files: bell };
        sensor.health.hooks.push(hook("connector/proc", "forks, executions, users, ends"));
        let (answer, answered) = sync_channel(1);
        let reader =
            Reader { socket: Arc::clone(&sensor.socket), ears: Arc::clone(&ears), shared: Arc::clone(&sensor.shared) };
        std::thread::Builder::new().name("connector".into()).spawn(move || reader.run(&answer)).map_err(refused)?;
        // In another pid namespace than the host's the kernel keeps silent.
        match answered.recv_timeout(std::time::Duration::from_secs(2)) {
            Ok(0) => {}
            Ok(error) => return Err(refused(io::Error::from_raw_os_error(error.cast_signed()))),
            Err(_) => {
                let why = "the kernel does not answer: it talks to the host's own namespaces only";
                return Err(SensorError::NoConnector(why.into()));
            }
        }
        if let (Some(files), Some(bell)) = (files, &sensor.files) {
            files::Listener::start(files, ears, Arc::clone(&sensor.shared), Arc::clone(bell))
                .map_err(|error| SensorError::NoFiles(error.to_string()))?;
            sensor.health.hooks.push(hook(READS, "opens of files for reading"));
            sensor.health.hooks.push(hook(WRITES, "opens of files for writing"));
        }
        Ok(sensor)
    }

    /// What is wrong with hearing of files, now.
    fn look_at_files(&mut self) {
        let shared = &self.shared;
        let busy = shared.busy_since.load(Ordering::Relaxed);
        let held_up = busy != 0 && clock::boot_ns().saturating_sub(busy) > PATIENCE_NS;
        let left_out = shared.left_out.load(Ordering::Relaxed);
        let given_up = shared.reads_given_up.load(Ordering::Relaxed);
        for hook in &mut self.health.hooks {
            hook.problem = match hook.name {
                READS | WRITES if held_up => Some("a file system does not answer".into()),
                READS if given_up => Some("given up to stay within the budget of CPU".into()),
                READS | WRITES if left_out > 0 => Some(format!("{left_out} file systems could not be watched")),
                _ => None,
            };
            // Where the rest is heard of.
            let partly = left_out > 0 && !held_up && !(given_up && hook.name == READS);
            hook.instead = (partly && hook.problem.is_some()).then_some("not all files that are opened are seen");
        }
    }
}

const READS: &str = "fanotify/open";
const WRITES: &str = "fanotify/close_write";

fn hook(name: &'static str, serves: &'static str) -> Hook {
    Hook { name, serves, problem: None, instead: None }
}

impl Source for ConnectorSensor {
    fn mode(&self) -> Mode {
        if self.files.is_some() { Mode::Fanotify } else { Mode::Connector }
    }

    fn health(&self) -> &Health {
        &self.health
    }

    fn drain(&mut self, take: &mut dyn FnMut(&[u8])) -> usize {
        let mut taken = 0;
        // No more than there are now: whoever never stops to fork must not keep the agent here.
        while taken < MAX_RECORDS
            && let Ok(record) = self.records.try_recv()
        {
            self.shared.waiting.fetch_sub(record.len() * 8, Ordering::Relaxed);
            self.shared.queued.fetch_sub(1, Ordering::Relaxed);
            take(from_words(&record));
            taken += 1;
        }
        taken
    }

    fn missed(&mut self, tell: &mut dyn FnMut(Option<u64>, &[Missing])) {
        if self.files.is_some() {
            self.look_at_files();
        }
        let to_tell = std::mem::take(&mut *locked(&self.shared.to_tell));
        for ((cgroup, class, why), events) in to_tell {
            tell(cgroup, &[(class, why, events)]);
        }
    }

    fn sample(&self, sampling: Sampling) -> Result<(), SensorError> {
        self.shared.read_opens.store(sampling.read_opens, Ordering::Relaxed);
        self.ring();
        Ok(())
    }

    fn queues(&self) -> Vec<Queue> {
        let pending = self.shared.waiting.load(Ordering::Relaxed) as u64;
        vec![Queue { name: "connector", size: MAX_BYTES as u64, pending }]
    }

    fn counts(&self) -> Vec<(EventKind, Count)> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        EVENTS
            .iter()
            .zip(self.shared.sent.iter().zip(&self.shared.missed))
            .map(|(info, (sent, missed))| {
                (info.kind, Count { sent: read(sent), missed: std::array::from_fn(|why| read(&missed[why])) })
            })
            .collect()
    }

    fn unseen(&self) -> u64 {
        self.shared.unseen.load(Ordering::Relaxed)
    }
}

impl ConnectorSensor {
    fn ring(&self) {
        if let Some(bell) = &self.files {
            let _ = rustix::io::write(&**bell, &1_u64.to_ne_bytes());
        }
    }
}

impl Drop for ConnectorSensor {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.ring();
        // Wakes the reader, too. Older kernels go on to count us otherwise.
        let _ = send(&*self.socket, &message::wish(false), SendFlags::empty());
    }
}

/// The thread that listens.
struct Reader {
    socket: Arc<OwnedFd>,
    ears: Arc<Mutex<Ears>>,
    shared: Arc<Shared>,
}

impl Reader {
    fn run(&self, answer: &SyncSender<u32>) {
        while !self.shared.ended.load(Ordering::Relaxed) {
            let patience = Timespec { tv_sec: 0, tv_nsec: i64::from(ears::FILES_PATIENCE.subsec_nanos()) };
            let waiting = locked(&self.ears).is_waiting();
            let patience = if waiting { Some(&patience) } else { None };
            let _ = poll(&mut [PollFd::new(&self.socket.as_fd(), PollFlags::IN)], patience);
            let mut ears = locked(&self.ears);
            if !ears.listen(Some(answer)) || !ears.hurry() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missed_is_told_once_by_cgroup_and_the_table_of_them_is_bounded() {
        let shared = Shared::new();
        let all = || std::mem::take(&mut *locked(&shared.to_tell));
        shared.lose(EventKind::Clone, None, Miss::RingFull, 3);
        shared.lose(EventKind::Openat, Some(7), Miss::Sampled, 1);
        shared.lose(EventKind::Openat, Some(7), Miss::Sampled, 2);
        let expected =
            HashMap::from([((None, Class::Lifecycle, Miss::RingFull), 3), ((Some(7), Class::File, Miss::Sampled), 3)]);
        assert_eq!(all(), expected);
        assert!(all().is_empty());
        for cgroup in 0..2 * APART as u64 {
            shared.lose(EventKind::Ptrace, Some(cgroup), Miss::RingFull, 1);
        }
        let told = all();
        assert_eq!(told.len(), APART + 1);
        assert_eq!(told[&(None, Class::Privileged, Miss::RingFull)], APART as u64);
    }
}
