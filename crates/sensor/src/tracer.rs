//! A sensor around one command, without any right: a seccomp filter stops its threads at the calls of interest, ptrace
//! tells what they were and how they went, and records are made of that as the kernel half makes them.
//!
//! The calling thread waits for stops and makes the records; the command runs no further in a watched call until its
//! record was taken. So nothing is ever lost, and a slow reader slows the command down.
//!
//! **Never:** a change of what the command does, but for what ptrace and a filter themselves bring: docs/wrap.md lists it.

use std::ffi::OsString;
use std::io;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use tw_model::ProcKey;
use tw_model::event::EVENTS;
use tw_model::raw::from_words;

mod filter;
mod record;
mod signals;
mod socket;
mod start;
mod stop;

use crate::calls::Config;
use crate::clock;
use crate::ebpf::Options;
use crate::facts::{self, Stat, Status};
use record::{Record, Recorder, Task};
use signals::Signals;
use stop::{Go, Stop};

/// Number of the capability, include/uapi/linux/capability.h.
const CAP_SYS_ADMIN: u64 = 21;

/// Why a command cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// There is no such program.
    #[error("{}: not found", .0.to_string_lossy())]
    NotFound(OsString),
    /// A NUL byte in the program or an argument.
    #[error("an argument holds a NUL byte")]
    Nul,
    /// ptrace is not allowed.
    #[error("tracing is not permitted here: {0}")]
    Refused(io::Error),
    /// Anything else.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What to watch, and as what.
#[derive(Clone, Debug)]
pub struct TraceOptions {
    /// The program, as a shell would find it.
    pub program: OsString,
    /// Its arguments, without its name.
    pub args: Vec<OsString>,
    /// The cgroup that its records are of.
    pub cgroup: u64,
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Go on.
    Going,
    /// The command ended, with this status of wait(2); so many processes that descend from it are left.
    CommandEnded {
        /// Status as for wait(2).
        status: i32,
        /// Number of processes.
        left: usize,
    },
    /// All have ended.
    Done,
}

/// What was done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceCounts {
    /// Records made, by row of [`EVENTS`].
    pub records: Vec<u64>,
    /// Times that a thread was stopped.
    pub stops: u64,
    /// Watched calls that ended with their thread, or whose facts could not be read.
    pub unfinished: u64,
    /// Datagrams to the same peer again, counted only.
    pub folded: u64,
    /// How long the tracer worked, while the thread that it worked for stood still.
    pub busy: Duration,
}

/// A command that is watched. Dropping it kills what is left of it.
pub struct Tracer {
    root: i32,
    root_status: Option<i32>,
    started: start::Started,
    recorder: Recorder,
    tasks: HashMap<i32, Task, foldhash::fast::RandomState>,
    signals: Signals,
    counts: TraceCounts,
    /// Whether the first record, of the fork that made the command, is still to come.
    introduced: bool,
}

impl Tracer {
    /// Starts the command, stopped until the first [`Tracer::step`]. All steps must be made by the same thread.
    ///
    /// # Errors
    /// [`TraceError`] if there is no such program, or tracing is not to be had.
    pub fn start(options: &TraceOptions) -> Result<Self, TraceError> {
        let config = Box::new(Config::new(std::process::id(), &Options::default(), &[]));
        let filter = filter::program(&config);
        // Who may load a filter without it need not take privileges from programs of set-user-id.
        let me = Status::read(std::process::id()).unwrap_or_default();
        let privileged = me.cred.cap_effective >> CAP_SYS_ADMIN & 1 == 1;
        let started = start::start(&options.program, &options.args, &filter, privileged)?;
        let pid = started.pid.cast_unsigned();
        let task = Task {
            tid: pid,
            tgid: pid,
            start: facts::start_of(pid),
            cred: me.cred,
            root: facts::root(pid),
            comm: facts::comm(pid),
            call: None,
        };
        let signals = Signals::forward_to(started.pid)?;
        Ok(Self {
            root: started.pid,
            root_status: None,
            started,
            recorder: Recorder::new(config, options.cgroup),
            tasks: HashMap::from_iter([(task.tid.cast_signed(), task)]),
            signals,
            counts: TraceCounts { records: vec![0; EVENTS.len()], ..TraceCounts::default() },
            introduced: false,
        })
    }

    /// The command's first process.
    pub fn root(&self) -> ProcKey {
        let pid = self.root.cast_unsigned();
        ProcKey { start_ns: self.tasks.get(&self.root).map_or(0, |task| task.start), pid }
    }

    /// Why the command could not be run at all, once it has ended.
    pub fn why_not(&self) -> Option<io::Error> {
        self.root_status?;
        self.started.why_not()
    }

    /// What was done so far.
    pub fn counts(&self) -> TraceCounts {
        TraceCounts { folded: self.recorder.folded, ..self.counts.clone() }
    }

    /// Kills what is left of the command.
    pub fn kill_rest(&self) {
        self.tasks.values().filter(|task| task.tid == task.tgid).for_each(|task| {
            stop::kill(task.tid.cast_signed(), libc::SIGKILL);
        });
    }

    /// Waits for a thread to stop, hands what it did to `take`, and lets it go on.
    ///
    /// # Errors
    /// If the kernel will not say what happens; then the command is better killed.
    pub fn step(&mut self, take: &mut dyn FnMut(&[u8])) -> Result<Step, TraceError> {
        if !self.introduced {
            self.introduced = true;
            self.introduce(take);
            self.started.release()?;
        }
        let (tid, stop) = match stop::wait() {
            Ok(Some(stopped)) => stopped,
            Ok(None) => return Ok(Step::Done),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                if self.root_status.is_some() && self.signals.wants_end() {
                    self.kill_rest();
                }
                return Ok(Step::Going);
            }
            Err(error) => return Err(error.into()),
        };
        let began = Instant::now();
        self.counts.stops += 1;
        let step = self.stopped(tid, stop, take);
        self.counts.busy += began.elapsed();
        Ok(step)
    }

    /// The fork that made the command: by us, before anybody traced.
    fn introduce(&mut self, take: &mut dyn FnMut(&[u8])) {
        let own = std::process::id();
        let status = Status::read(own).unwrap_or_default();
        let us = Task {
            tid: own,
            tgid: own,
            start: facts::start_of(own),
            cred: status.cred,
            root: Vec::new(),
            comm: facts::comm(own),
            call: None,
        };
        if let Some(command) = self.tasks.get(&self.root) {
            let vpid = Status::read(command.tid).map_or(command.tid, |status| status.vpid);
            let record = self.recorder.forked(&us, command, (own, us.start), vpid);
            self.give(&record, take);
        }
    }

    fn give(&mut self, record: &Record, take: &mut dyn FnMut(&[u8])) {
        let bytes = from_words(record);
        let kind = bytes.get(2..4).and_then(|kind| kind.try_into().ok()).map_or(0, u16::from_ne_bytes);
        if let Some(count) = self.counts.records.get_mut(usize::from(kind)) {
            *count += 1;
        }
        take(bytes);
    }

    fn stopped(&mut self, tid: i32, stop: Stop, take: &mut dyn FnMut(&[u8])) -> Step {
        if let Stop::Ended(status) = stop {
            return self.ended(tid, status, take);
        }
        // A new thread may stop before whoever made it says so.
        self.adopt(tid, None, take);
        let mut how = Go::On;
        let mut signal = 0;
        match stop {
            Stop::Call => {
                let entry = stop::entry(tid);
                if let Some(task) = self.tasks.get_mut(&tid) {
                    task.call = entry.and_then(|entry| self.recorder.enter(task, entry));
                }
            }
            Stop::Return => self.returned(tid, take),
            Stop::Child(child) => self.adopt(child, Some(tid), take),
            Stop::Exec(former) => self.executed(tid, former, take),
            Stop::Signal(number) => signal = number,
            Stop::Group(number) => {
                how = Go::Listen;
                if tid == self.root {
                    // The shell that we run under waits for us, not for the command. The command already stands still;
                    // whoever lets the job go on lets both go on.
                    self.signals.stop_with(number, stop::group(tid));
                }
            }
            Stop::Pause | Stop::Ended(_) => {}
        }
        if how == Go::On && self.tasks.get(&tid).is_some_and(|task| task.call.is_some()) {
            how = Go::ThroughCall;
        }
        stop::go(tid, how, signal);
        Step::Going
    }

    fn returned(&mut self, tid: i32, take: &mut dyn FnMut(&[u8])) {
        let result = stop::result(tid);
        let Some(task) = self.tasks.get_mut(&tid) else { return };
        let Some(pending) = task.call.take() else { return };
        match result {
            Some(result) => {
                if let Some(record) = self.recorder.leave(task, &pending, result) {
                    self.give(&record, take);
                }
            }
            None => self.counts.unfinished += 1,
        }
    }

    /// Takes a thread that is not known yet, with the record of its fork if it is a process. `caller` is who made it, if
    /// that is known.
    fn adopt(&mut self, tid: i32, caller: Option<i32>, take: &mut dyn FnMut(&[u8])) {
        if self.tasks.contains_key(&tid) {
            return;
        }
        let number = tid.cast_unsigned();
        let status = Status::read(number);
        let (tgid, ppid) = status.map_or((number, 0), |status| (status.tgid, status.ppid));
        let is_process = tgid == number;
        let of = if is_process { ppid } else { tgid };
        let known = caller.and_then(|caller| self.tasks.get(&caller)).or_else(|| self.tasks.get(&of.cast_signed()));
        // Before anything is known of it, it is as who made it.
        let base = known.cloned();
        let start = match (&base, is_process) {
            (Some(base), false) => base.start,
            // One that was killed already can only be dated by now.
            _ => Stat::read(number).map_or_else(clock::boot_ns, |stat| stat.start_ns),
        };
        let task = Task {
            tid: number,
            tgid,
            start,
            cred: base.as_ref().map_or_else(|| status.unwrap_or_default().cred, |base| base.cred),
            root: base.as_ref().map_or_else(|| facts::root(number), |base| base.root.clone()),
            comm: facts::comm(number),
            call: None,
        };
        let record = base.filter(|_| is_process).map(|base| {
            let parent = match self.tasks.get(&ppid.cast_signed()) {
                Some(parent) if ppid != base.tgid => (ppid, parent.start),
                _ if ppid == base.tgid || ppid == 0 => (base.tgid, base.start),
                _ => (ppid, facts::start_of(ppid)),
            };
            self.recorder.forked(&base, &task, parent, status.map_or(number, |status| status.vpid))
        });
        self.tasks.insert(tid, task);
        if let Some(record) = record {
            self.give(&record, take);
        }
    }

    /// A thread runs another program. If it was not the first of its process it now has that one's number, and all other
    /// threads of the process are gone or going.
    fn executed(&mut self, tid: i32, former: i32, take: &mut dyn FnMut(&[u8])) {
        let caller = if former == tid { None } else { self.tasks.remove(&former) };
        let Some(task) = self.tasks.get_mut(&tid) else { return };
        if let Some(caller) = caller {
            *task = Task { tid: tid.cast_unsigned(), ..caller };
        }
        let record = self.recorder.executed(task);
        self.give(&record, take);
    }

    fn ended(&mut self, tid: i32, status: i32, take: &mut dyn FnMut(&[u8])) -> Step {
        let Some(task) = self.tasks.remove(&tid) else { return Step::Going };
        if task.call.is_some() {
            self.counts.unfinished += 1;
        }
        // The kernel tells the end of a first thread last.
        if task.tid == task.tgid {
            let record = self.recorder.ended(&task, status.cast_unsigned());
            self.give(&record, take);
        }
        if tid != self.root {
            return Step::Going;
        }
        self.signals.nobody();
        self.root_status = Some(status);
        let left = self.tasks.values().filter(|task| task.tid == task.tgid).count();
        Step::CommandEnded { status, left }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.kill_rest();
    }
}
