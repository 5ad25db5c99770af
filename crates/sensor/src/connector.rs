//! The sensor for hosts that refuse eBPF: the kernel's process connector says who forked, executed, changed users, traced
//! another or ended, and `/proc` says what that is. Needs CAP_NET_ADMIN in the host's own namespaces.
//!
//! A thread of its own waits for each word and reads `/proc` at once: a program that ends within a few hundred
//! microseconds is told without its arguments, and counted. The kernel numbers what it says by CPU, so that every loss
//! shows.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use rustix::net::netlink::{CONNECTOR, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with, sockopt,
};
use tw_model::coverage::{Class, Miss};
use tw_model::event::{EVENTS, EventKind};
use tw_model::mode::Mode;
use tw_model::raw::from_words;

mod message;
mod people;

use crate::ebpf::{Count, SensorError};
use crate::health::{Health, Hook};
use crate::missed::Missing;
use crate::source::{Queue, Source};
use message::Word;
use people::People;

/// Bytes that may wait in the kernel.
const RECEIVE_BUFFER: usize = 8 << 20;
/// Records that may wait for the pipeline, and how many bytes they may have.
const MAX_RECORDS: usize = 65_536;
const MAX_BYTES: usize = 32 << 20;
/// The group of process events, `CN_IDX_PROC`.
const GROUP: u32 = 1;

/// What the reader and the agent share.
#[derive(Default)]
struct Shared {
    /// By row of the table of events.
    sent: Vec<AtomicU64>,
    lost: Vec<AtomicU64>,
    /// Words of the kernel that never came: which kind of event they were is not known.
    missed: AtomicU64,
    /// Programs that had ended before they could be looked at.
    unseen: AtomicU64,
    /// Bytes of records that wait.
    waiting: AtomicUsize,
}

impl Shared {
    /// Tells what was missed and not told yet. Whose it was is not known.
    fn missing(&self, told: &mut (Vec<u64>, u64), tell: &mut dyn FnMut(Missing)) {
        let mut more = |class, count: &AtomicU64, told: &mut u64| {
            let now = count.load(Ordering::Relaxed);
            let new = now.saturating_sub(std::mem::replace(told, now));
            if new > 0 {
                tell((class, Miss::RingFull, new));
            }
        };
        // Words that never came are of the lifecycle, nearly all.
        more(Class::Lifecycle, &self.missed, &mut told.1);
        for (info, (count, told)) in EVENTS.iter().zip(self.lost.iter().zip(&mut told.0)) {
            more(Class::of(info.kind, 0), count, told);
        }
    }
}

/// The socket, opened while that is still allowed. Nothing is told before [`ConnectorSensor::start`].
pub struct ConnectorSocket(OwnedFd);

/// The running sensor.
pub struct ConnectorSensor {
    socket: Arc<OwnedFd>,
    records: Receiver<Vec<u64>>,
    shared: Arc<Shared>,
    health: Health,
    /// What was told of as missed, by row of the table of events, and of words that never came.
    told: (Vec<u64>, u64),
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
    /// Begins to listen.
    ///
    /// # Errors
    /// [`SensorError`] if the kernel does not answer: it needs CAP_NET_ADMIN, and the host's own pid namespace.
    pub fn start(socket: ConnectorSocket) -> Result<Self, SensorError> {
        let refused = |error: io::Error| SensorError::NoConnector(error.to_string());
        send(&socket.0, &message::wish(true), SendFlags::empty()).map_err(|error| refused(error.into()))?;
        let socket = Arc::new(socket.0);
        let counters = || EVENTS.iter().map(|_| AtomicU64::new(0)).collect();
        let shared = Arc::new(Shared { sent: counters(), lost: counters(), ..Shared::default() });
        let (out, records) = sync_channel(MAX_RECORDS);
        let (answer, answered) = sync_channel(1);
        let mut reader =
            Reader { socket: Arc::clone(&socket), out, shared: Arc::clone(&shared), people: People::default() };
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
        let health = Health {
            hooks: vec![Hook {
                name: "connector/proc",
                serves: "forks, executions, users, ends",
                problem: None,
                instead: None,
            }],
        };
        Ok(Self { socket, records, shared, health, told: (vec![0; EVENTS.len()], 0) })
    }
}

impl Source for ConnectorSensor {
    fn mode(&self) -> Mode {
        Mode::Connector
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
            take(from_words(&record));
            taken += 1;
        }
        taken
    }

    fn missed(&mut self, tell: &mut dyn FnMut(Option<u64>, &[Missing])) {
        self.shared.missing(&mut self.told, &mut |missing| tell(None, &[missing]));
    }

    fn queues(&self) -> Vec<Queue> {
        let pending = self.shared.waiting.load(Ordering::Relaxed) as u64;
        vec![Queue { name: "connector", size: MAX_BYTES as u64, pending }]
    }

    fn counts(&self) -> Vec<(EventKind, Count)> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        EVENTS
            .iter()
            .zip(self.shared.sent.iter().zip(&self.shared.lost))
            .map(|(info, (sent, lost))| {
                // What never came could have been of any kind: it is counted where most are.
                let missed = if info.kind == EventKind::Clone { read(&self.shared.missed) } else { 0 };
                let mut count = Count { sent: read(sent), ..Count::default() };
                count.missed[Miss::RingFull as usize] = read(lost) + missed;
                (info.kind, count)
            })
            .collect()
    }

    fn unseen(&self) -> u64 {
        self.shared.unseen.load(Ordering::Relaxed)
    }
}

impl Drop for ConnectorSensor {
    fn drop(&mut self) {
        // Wakes the reader too, which then finds nobody to write to. Older kernels go on to count us otherwise.
        let _ = send(&*self.socket, &message::wish(false), SendFlags::empty());
    }
}

/// The thread that listens.
struct Reader {
    socket: Arc<OwnedFd>,
    out: SyncSender<Vec<u64>>,
    shared: Arc<Shared>,
    people: People,
}

impl Reader {
    fn run(&mut self, answer: &SyncSender<u32>) {
        let mut buffer = vec![0_u8; 16 << 10];
        loop {
            let bytes = match recv(self.socket.as_fd(), &mut *buffer, RecvFlags::empty()) {
                Ok((read, _)) => buffer.get(..read).unwrap_or_default(),
                // Something was lost; how much, the next number tells.
                Err(rustix::io::Errno::NOBUFS | rustix::io::Errno::INTR) => continue,
                Err(error) => {
                    tracing::error!("the process connector cannot be read any more: {error}");
                    return;
                }
            };
            let (word, missed) = self.people.numbers.read(bytes);
            self.shared.missed.fetch_add(missed, Ordering::Relaxed);
            match word {
                Some(Word::Answer(error)) => {
                    let _ = answer.try_send(error);
                }
                Some(word) => {
                    let Some(record) = self.people.record(word) else { continue };
                    if record.unseen {
                        self.shared.unseen.fetch_add(1, Ordering::Relaxed);
                    }
                    if !self.give(record.kind, record.words) {
                        return;
                    }
                }
                None => {}
            }
        }
    }

    /// False if nobody takes records any more.
    fn give(&self, kind: EventKind, words: Vec<u64>) -> bool {
        let (row, size) = (kind as usize, words.len() * 8);
        let lost = || self.shared.lost.get(row).map(|count| count.fetch_add(1, Ordering::Relaxed));
        if self.shared.waiting.load(Ordering::Relaxed) + size > MAX_BYTES {
            lost();
            return true;
        }
        self.shared.waiting.fetch_add(size, Ordering::Relaxed);
        match self.out.try_send(words) {
            Ok(()) => {
                self.shared.sent.get(row).map(|count| count.fetch_add(1, Ordering::Relaxed));
                true
            }
            Err(error) => {
                self.shared.waiting.fetch_sub(size, Ordering::Relaxed);
                lost();
                matches!(error, TrySendError::Full(_))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missed_is_told_once() {
        let counters = || EVENTS.iter().map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        let shared = Shared { lost: counters(), ..Shared::default() };
        let mut told = (vec![0; EVENTS.len()], 0);
        let mut all = || {
            let mut all = Vec::new();
            shared.missing(&mut told, &mut |missing| all.push(missing));
            all
        };
        assert_eq!(all(), []);
        shared.missed.fetch_add(3, Ordering::Relaxed);
        shared.lost[EventKind::Ptrace as usize].fetch_add(2, Ordering::Relaxed);
        assert_eq!(all(), [(Class::Lifecycle, Miss::RingFull, 3), (Class::Privileged, Miss::RingFull, 2)]);
        shared.missed.fetch_add(1, Ordering::Relaxed);
        assert_eq!(all(), [(Class::Lifecycle, Miss::RingFull, 1)]);
    }
}
