//! What the connector says becomes records, whoever asks for it: the thread that waits for its words, or the one that hears
//! of files, which must not overtake them.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};
use rustix::net::{RecvFlags, recv};
use tw_model::coverage::Miss;
use tw_model::event::{EventKind, Lane};

use super::files::Heard;
use super::message::Word;
use super::people::{People, Told};
use super::{MAX_BYTES, MAX_RECORDS, Shared};

/// Most words that are taken at once.
const MAX_WORDS: usize = 4096;
/// How long a record waits at most for files that were opened before, and how many wait.
pub(super) const FILES_PATIENCE: Duration = Duration::from_millis(5);
const MAX_WAITING: usize = 4096;
/// Processes that began to execute something, whose execution is to come; all are forgotten when there are more.
const MAX_BEGUN: usize = 4096;
/// Mount namespaces in which something was executed that wait to be looked at; more are looked at with the next execution.
const MAX_ARRIVALS: usize = 1024;

/// A mount namespace, and a cgroup in it.
pub(super) type Place = (u32, u64);

/// The connector's socket, and who is known.
pub(super) struct Ears {
    socket: Arc<OwnedFd>,
    pub(super) people: People,
    out: SyncSender<Vec<u64>>,
    shared: Arc<Shared>,
    buffer: Vec<u8>,
    /// Wakes who looks at mounts, if anybody does.
    bell: Option<Arc<OwnedFd>>,
    home: [Option<u32>; 2],
    /// Records that wait for files, and since when.
    waiting: VecDeque<Told>,
    since: Option<Instant>,
    /// Processes that opened a file to execute it, and of which no execution was told yet.
    begun: HashSet<u32, foldhash::fast::RandomState>,
    arrivals: HashMap<Place, u32, foldhash::fast::RandomState>,
}

impl Ears {
    pub(super) fn new(
        socket: Arc<OwnedFd>,
        out: SyncSender<Vec<u64>>,
        shared: Arc<Shared>,
        bell: Option<Arc<OwnedFd>>,
    ) -> Self {
        Self {
            socket,
            people: People::default(),
            out,
            shared,
            buffer: vec![0; 16 << 10],
            bell,
            home: [None; 2],
            waiting: VecDeque::new(),
            since: None,
            begun: HashSet::default(),
            arrivals: HashMap::default(),
        }
    }

    /// The mount namespaces whose mounts are looked at without an execution in them.
    pub(super) fn home(&mut self, home: [Option<u32>; 2]) {
        self.home = home;
    }

    /// A process of each mount namespace in which something was executed since the last call.
    pub(super) fn arrivals(&mut self) -> Vec<(Place, u32)> {
        self.arrivals.drain().collect()
    }

    /// Takes what the connector said. False if it says nothing any more, or nobody takes records.
    pub(super) fn listen(&mut self, answer: Option<&SyncSender<u32>>) -> bool {
        for _ in 0..MAX_WORDS {
            let bytes = match recv(self.socket.as_fd(), &mut *self.buffer, RecvFlags::DONTWAIT) {
                Ok((read, _)) => self.buffer.get(..read).unwrap_or_default(),
                Err(rustix::io::Errno::AGAIN) => return true,
                // Something was lost; how much, the next number tells.
                Err(rustix::io::Errno::NOBUFS | rustix::io::Errno::INTR) => continue,
                Err(error) => {
                    tracing::error!("the process connector cannot be read any more: {error}");
                    return false;
                }
            };
            let (word, missed) = self.people.numbers.read(bytes);
            if missed > 0 {
                // What never came could have been of any kind: it is counted where most are.
                self.shared.lose(EventKind::Clone, None, Miss::RingFull, missed);
            }
            match word {
                Some(Word::Answer(error)) => {
                    let _ = answer.map(|answer| answer.try_send(error));
                }
                Some(word) => {
                    let Some(told) = self.people.record(word) else { continue };
                    if told.unseen {
                        self.shared.unseen.fetch_add(1, Ordering::Relaxed);
                    }
                    self.arrived(&told);
                    if self.bell.is_none() {
                        if !self.give(told) {
                            return false;
                        }
                        continue;
                    }
                    self.waiting.push_back(told);
                    if self.since.is_none() {
                        self.since = Some(Instant::now());
                        self.ring();
                    }
                    if self.waiting.len() >= MAX_WAITING && !self.tell(Vec::new()) {
                        return false;
                    }
                }
                None => {}
            }
        }
        true
    }

    fn arrived(&mut self, told: &Told) {
        let (Some(_), Some((pid, _))) = (&self.bell, &told.before) else { return };
        let is_new = told.mounts != 0 && !self.home.contains(&Some(told.mounts));
        if is_new && (self.arrivals.len() < MAX_ARRIVALS || self.arrivals.contains_key(&(told.mounts, told.cgroup))) {
            self.arrivals.insert((told.mounts, told.cgroup), *pid);
            self.ring();
        }
    }

    fn ring(&self) {
        let _ = self.bell.as_ref().map(|bell| rustix::io::write(&**bell, &1_u64.to_ne_bytes()));
    }

    /// Tells what waits too long for files. False if nobody takes records any more.
    pub(super) fn hurry(&mut self) -> bool {
        self.since.is_none_or(|since| since.elapsed() < FILES_PATIENCE) || self.tell(Vec::new())
    }

    /// Whether something waits for files.
    pub(super) fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// Tells what waits and the files that were heard of, each in front of the execution that it came before. Everything that
    /// the connector said before these files was taken. False if nobody takes records any more.
    pub(super) fn tell(&mut self, heard: Vec<Heard>) -> bool {
        self.since = None;
        // How far the files of a process belong to the program before its execution: up to where it opened the new one.
        let mut executed: HashMap<u32, usize, foldhash::fast::RandomState> = HashMap::default();
        for (pid, _) in self.waiting.iter().filter_map(|told| told.before.as_ref()) {
            let until = if self.begun.remove(pid) { 0 } else { heard.len() };
            executed.insert(*pid, until);
        }
        for (at, heard) in heard.iter().enumerate() {
            let Heard::Begun(pid) = heard else { continue };
            if let Some(until) = executed.get_mut(pid) {
                *until = at;
            } else {
                if self.begun.len() >= MAX_BEGUN {
                    self.begun.clear();
                }
                self.begun.insert(*pid);
            }
        }
        let mut early: HashMap<u32, Vec<_>, foldhash::fast::RandomState> = HashMap::default();
        let mut late = Vec::with_capacity(heard.len());
        for (at, heard) in heard.into_iter().enumerate() {
            let Heard::Opened(file) = heard else { continue };
            match executed.get(&file.pid) {
                Some(until) if at < *until => early.entry(file.pid).or_default().push(file),
                _ => late.push(file),
            }
        }
        while let Some(told) = self.waiting.pop_front() {
            if let Some((pid, before)) = &told.before {
                for file in early.remove(pid).unwrap_or_default() {
                    let file = self.people.opened(&file, Some(before));
                    if !file.is_none_or(|file| self.give(file)) {
                        return false;
                    }
                }
            }
            if !self.give(told) {
                return false;
            }
        }
        late.iter().all(|file| {
            let told = self.people.opened(file, None);
            told.is_none_or(|told| self.give(told))
        })
    }

    /// Hands a record over. False if nobody takes records any more.
    pub(super) fn give(&self, told: Told) -> bool {
        let size = told.words.len() * 8;
        // Of the room for records, files may take half, so that they never cost an execution.
        let share = if told.kind.info().lane == Lane::Bulk { 2 } else { 1 };
        let (bytes, records) =
            (self.shared.waiting.load(Ordering::Relaxed) + size, self.shared.queued.load(Ordering::Relaxed));
        let lost = || self.shared.lose(told.kind, Some(told.cgroup), Miss::RingFull, 1);
        if bytes > MAX_BYTES / share || records >= MAX_RECORDS / share {
            lost();
            return true;
        }
        self.shared.waiting.fetch_add(size, Ordering::Relaxed);
        self.shared.queued.fetch_add(1, Ordering::Relaxed);
        match self.out.try_send(told.words) {
            Ok(()) => {
                self.shared.sent(told.kind);
                true
            }
            Err(error) => {
                self.shared.waiting.fetch_sub(size, Ordering::Relaxed);
                self.shared.queued.fetch_sub(1, Ordering::Relaxed);
                lost();
                matches!(error, TrySendError::Full(_))
            }
        }
    }
}
