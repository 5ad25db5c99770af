//! Who runs in a capture, as far as it tells: threads, processes, what they are in, what is open.
//!
//! **Never:** a table without a bound.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use tw_model::Container;
use tw_model::raw::COMM;

use super::descriptors::{Descriptors, Ledger};
use super::event::{Begun, Params};

/// Most threads.
pub(super) const MAX_THREADS: usize = 131_072;
/// Most processes.
pub(super) const MAX_PROCESSES: usize = 65_536;
/// Ended processes that are still known, since their parent's half of a fork may come late.
const MAX_ENDED: usize = 1_024;
/// Most cgroups that are told apart.
const MAX_CGROUPS: usize = 16_384;
/// Longest paths of a cgroup, of all controllers together; writers have less.
const MAX_PATHS: usize = 8_192;
/// Most bytes of begins that are kept.
const BEGUN: usize = 64 << 20;
/// How long the second half of a fork may take.
const HALF_NS: u64 = 60_000_000_000;
/// Longest working directory.
const MAX_CWD: usize = 4_096;

type Map<V> = HashMap<u32, V, foldhash::fast::RandomState>;

/// Half of a fork that is still to come: captures tell it to the parent and to the child.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Awaits {
    #[default]
    Nothing,
    Parent,
    Child,
}

/// A process.
#[derive(Clone, Debug, Default)]
pub(super) struct Process {
    /// Boot time of its start in nanoseconds; 0: it ran before the capture.
    pub start: u64,
    pub cgroup: u64,
    pub uid: u32,
    pub gid: u32,
    pub loginuid: u32,
    pub cap_effective: u64,
    pub cap_permitted: u64,
    pub cap_inheritable: u64,
    pub comm: [u8; COMM],
    pub cwd: Vec<u8>,
    pub descriptors: Arc<Descriptors>,
    pub ppid: u32,
    pub vpid: u32,
    pub pgid: u32,
    pub vpgid: u32,
    pub sid: u32,
    pub tty: u32,
    /// Living threads beside the first.
    pub others: u32,
    /// The first thread ended, with this code, and others live on.
    pub leaderless: Option<u32>,
    pub ended: bool,
    pub awaits: Awaits,
}

impl Process {
    /// Whether this half of its fork is still to come. After a minute it was lost, and the number may be another's.
    pub fn expects(&self, half: Awaits, now: u64) -> bool {
        self.awaits == half && now.saturating_sub(self.start) < HALF_NS
    }

    /// Takes the name of the executable.
    pub fn set_comm(&mut self, name: &[u8]) {
        self.comm = [0; COMM];
        let name = name.get(..COMM - 1).unwrap_or(name);
        if let Some(place) = self.comm.get_mut(..name.len()) {
            place.copy_from_slice(name);
        }
    }

    /// Takes a working directory, in memory that is there already.
    pub fn set_cwd(&mut self, cwd: &[u8]) {
        // Captures end it with a slash; the kernel half does not.
        let cwd = match cwd.strip_suffix(b"/") {
            Some(b"") | None => cwd,
            Some(stripped) => stripped,
        };
        self.cwd.clear();
        self.cwd.extend_from_slice(cwd.get(..MAX_CWD).unwrap_or(cwd));
    }
}

#[derive(Debug, Default)]
pub(super) struct Thread {
    pub pid: u32,
    begun: Begun,
}

/// A cgroup that was not known before.
pub(super) struct NewCgroup<'a> {
    pub id: u64,
    /// Id of the container in its path.
    pub container: Option<&'a str>,
}

/// Everything that is known.
#[derive(Debug, Default)]
pub(super) struct State {
    pub processes: Map<Process>,
    pub threads: Map<Thread>,
    ended: VecDeque<u32>,
    cgroups: HashMap<Box<[u8]>, u64, foldhash::fast::RandomState>,
    pub ledger: Ledger,
    begun: usize,
}

impl State {
    /// The process of a thread; one that is not known is the only thread of its process.
    pub fn pid_of(&mut self, tid: u32) -> u32 {
        match self.threads.get(&tid) {
            Some(thread) => thread.pid,
            None => {
                self.add_thread(tid, tid);
                self.process(tid);
                tid
            }
        }
    }

    /// The process of a thread, if it is known; else its own number.
    pub fn known_pid(&self, tid: u32) -> u32 {
        self.threads.get(&tid).map_or(tid, |thread| thread.pid)
    }

    /// Adds or moves a thread.
    pub fn add_thread(&mut self, tid: u32, pid: u32) {
        if self.threads.len() >= MAX_THREADS && !self.threads.contains_key(&tid) {
            // Any one goes: a capture of that many living threads was made up, or lost their ends.
            if let Some(victim) = self.threads.keys().next().copied() {
                self.remove_thread(victim);
            }
        }
        self.threads.entry(tid).or_default().pid = pid;
    }

    /// Forgets a thread.
    pub fn remove_thread(&mut self, tid: u32) {
        if let Some(thread) = self.threads.remove(&tid) {
            self.begun -= thread.begun.room();
        }
    }

    /// Adds or replaces a process.
    pub fn add(&mut self, pid: u32, process: Process) {
        if !self.processes.contains_key(&pid) {
            self.make_room();
        }
        self.processes.insert(pid, process);
    }

    fn make_room(&mut self) {
        if self.processes.len() >= MAX_PROCESSES
            && let Some(victim) = self.processes.keys().next().copied()
        {
            self.processes.remove(&victim);
        }
    }

    /// The process; made up if it was forgotten.
    pub fn process(&mut self, pid: u32) -> &mut Process {
        if !self.processes.contains_key(&pid) {
            self.make_room();
        }
        let ledger = &self.ledger;
        self.processes.entry(pid).or_insert_with(|| Process {
            loginuid: u32::MAX,
            descriptors: Arc::new(Descriptors::new(ledger)),
            ..Process::default()
        })
    }

    /// Marks a process as ended. It is forgotten a little later.
    pub fn end(&mut self, pid: u32) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        process.ended = true;
        process.descriptors = Arc::new(Descriptors::new(&self.ledger));
        self.ended.push_back(pid);
        if self.ended.len() > MAX_ENDED
            && let Some(oldest) = self.ended.pop_front()
            // Its number may belong to another by now.
            && self.processes.get(&oldest).is_some_and(|process| process.ended)
        {
            self.processes.remove(&oldest);
        }
    }

    /// Keeps the begin of a call for its end.
    pub fn begin(&mut self, tid: u32, number: u16, params: &Params<'_>) {
        self.pid_of(tid);
        let full = self.begun > BEGUN;
        let Some(thread) = self.threads.get_mut(&tid) else { return };
        if full {
            thread.begun.number = 0;
        } else {
            self.begun += thread.begun.keep(number, params);
        }
    }

    /// Takes the begin that belongs to the end `number`. Give it back.
    pub fn take_begun(&mut self, tid: u32, number: u16) -> Option<Begun> {
        let thread = self.threads.get_mut(&tid)?;
        (thread.begun.number != 0 && thread.begun.number + 1 == number).then(|| std::mem::take(&mut thread.begun))
    }

    /// Gives back the memory of a begin.
    pub fn give_back(&mut self, tid: u32, mut begun: Begun) {
        begun.number = 0;
        match self.threads.get_mut(&tid) {
            Some(thread) => thread.begun = begun,
            None => self.begun -= begun.room(),
        }
    }

    /// Number of the cgroup that a process is in, by its `controller=path` texts. Numbers are made up: captures have
    /// none.
    pub fn cgroup<'a>(&mut self, paths: &'a [u8]) -> (u64, Option<NewCgroup<'a>>) {
        if let Some(id) = self.cgroups.get(paths) {
            return (*id, None);
        }
        if self.cgroups.len() >= MAX_CGROUPS || paths.len() > MAX_PATHS {
            return (0, None);
        }
        // 1 is the root of the hierarchy.
        let id = self.cgroups.len() as u64 + 2;
        self.cgroups.insert(paths.into(), id);
        let container = paths.split(|byte| *byte == 0).find_map(|text| {
            let text = std::str::from_utf8(text).ok()?;
            Container::id_in_cgroup_path(text.split_once('=').map_or(text, |(_, path)| path))
        });
        (id, Some(NewCgroup { id, container }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_and_processes_stay_bounded() {
        let mut state = State::default();
        for tid in 1..(MAX_THREADS as u32 + 500) {
            state.pid_of(tid);
        }
        assert_eq!((state.threads.len(), state.processes.len()), (MAX_THREADS, MAX_PROCESSES));
        for pid in 1..(MAX_PROCESSES as u32) {
            state.end(pid);
        }
        assert!(state.processes.values().filter(|process| process.ended).count() <= MAX_ENDED);
    }

    #[test]
    fn a_container_is_found_in_whichever_controller_names_it() {
        let mut state = State::default();
        let id = "ab".repeat(32);
        let paths = format!("cpuset=/\0cpu=/docker/{id}\0name=systemd=/x\0");
        let (cgroup, new) = state.cgroup(paths.as_bytes());
        assert_eq!(new.unwrap().container, Some(&*id));
        let (again, new) = state.cgroup(paths.as_bytes());
        assert!(again == cgroup && new.is_none());
        let (host, new) = state.cgroup(b"cpuset=/\0memory=/user.slice\0");
        assert!(host != cgroup && new.unwrap().container.is_none());
    }

    #[test]
    fn working_directories_have_no_slash_at_their_end() {
        let mut process = Process::default();
        for (told, kept) in [("/root/", "/root"), ("/", "/"), ("/tmp", "/tmp"), ("", "")] {
            process.set_cwd(told.as_bytes());
            assert_eq!(process.cwd, kept.as_bytes());
        }
        process.set_comm(b"a-name-longer-than-fifteen");
        assert_eq!(&process.comm, b"a-name-longer-t\0");
    }
}
