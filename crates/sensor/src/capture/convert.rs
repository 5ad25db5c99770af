//! From what a capture tells to what the kernel half would have told: records, and what is known beside them.
//!
//! Like the kernel half, it tells a call when it ends, a datagram to the same peer once a second, of a TCP connection the
//! first bytes, and of dup what becomes standard input, output or error.

use std::sync::Arc;

use tw_model::raw::{CAPS_UNKNOWN, Header};
use tw_model::{EventKind, ProcKey};

use super::arguments::Arguments;
use super::bytes::Cursor;
use super::descriptors::{Descriptor, Descriptors};
use super::event::{CaptureEvent, Params};
use super::lists::Entry;
use super::machine::Account;
use super::native::{self, Assembly, Made};
use super::record::RecordBuffer;
use super::state::{NewCgroup, Process, State};
use super::table::{Act, Row};
use super::{ContainerNews, Item, Listed};

mod call;
mod file;
mod process;
mod socket;

/// Whom news are told.
pub(super) type Tell<'t> = &'t mut dyn FnMut(Item<'_>);

/// A call that ended.
#[derive(Clone, Copy)]
struct Call<'a> {
    event: CaptureEvent<'a>,
    arguments: Arguments<'a>,
    pid: u32,
    /// Nanoseconds since boot.
    time: u64,
    /// Number of the event in the capture.
    number: u64,
}

impl Call<'_> {
    /// A header for `process`, with the result of the call.
    fn header(&self, kind: EventKind, process: &Process) -> Header {
        Header {
            kind: kind as u16,
            cpu: self.event.cpu,
            time: self.time,
            start: process.start,
            cgroup: process.cgroup,
            pid: self.pid,
            tid: self.event.tid,
            uid: process.uid,
            gid: process.gid,
            ret: self.arguments.ret(),
            caps: CAPS_UNKNOWN,
            comm: process.comm,
            ..Header::default()
        }
    }
}

/// What became of the events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conversion {
    /// Events in the capture.
    pub events: u64,
    /// Records that were made of them.
    pub records: u64,
    /// Begins of calls: what they tell shows in the record of the end.
    pub begins: u64,
    /// Ends of calls that are not of our kinds, and what is no call.
    pub others: u64,
    /// Calls that the kernel half does not tell either (datagrams to the same peer, dup onto other descriptors …), and
    /// news that only change what is known.
    pub silent: u64,
    /// Events whose lengths do not fit, and frames of our own that make no sense.
    pub malformed: u64,
    /// Times that the capture says that events were left out.
    pub dropped: u64,
    /// Frames of our own. Their events are not counted, unless they are malformed.
    pub native: u64,
}

/// Knows who runs and what is open, and makes records.
pub(super) struct Converter {
    state: State,
    record: RecordBuffer,
    /// Room for paths that are put together.
    path: Vec<u8>,
    /// Added to a boot time to get the wall-clock time; set by the first event.
    boot_to_wall: Option<u64>,
    /// When the machine says that it was started; 0 if it does not.
    boot_ns: u64,
    /// Frames of our own.
    assembly: Assembly,
    pub counts: Conversion,
}

impl Converter {
    pub(super) fn new() -> Self {
        Self {
            state: State::default(),
            record: RecordBuffer::new(),
            path: Vec::new(),
            boot_to_wall: None,
            boot_ns: 0,
            assembly: Assembly::default(),
            counts: Conversion::default(),
        }
    }

    /// Another section begins: another machine, or another time.
    pub(super) fn section(&mut self) {
        self.state = State::default();
        self.boot_to_wall = None;
        self.boot_ns = 0;
        self.assembly = Assembly::default();
    }

    /// The machine says when it was started.
    pub(super) fn booted(&mut self, boot_ns: u64) {
        self.boot_ns = boot_ns;
    }

    /// A thread that runs already. Tell all of a list with [`Self::thread`] first.
    pub(super) fn listed(&mut self, entry: &Entry<'_>, tell: Tell<'_>) {
        if entry.tid != entry.pid || entry.pid == 0 {
            return;
        }
        let (cgroup, new) = self.state.cgroup(entry.cgroups);
        self.tell_cgroup(new, tell);
        let ppid = self.state.known_pid(entry.ptid);
        let others = self.state.process(entry.pid).others;
        let mut process = Process {
            cgroup,
            uid: entry.uid,
            gid: entry.gid,
            loginuid: entry.loginuid,
            cap_effective: entry.cap_effective,
            cap_permitted: entry.cap_permitted,
            cap_inheritable: entry.cap_inheritable,
            descriptors: Arc::new(Descriptors::new(&self.state.ledger)),
            ppid,
            vpid: entry.vpid,
            pgid: 0,
            vpgid: entry.vpgid,
            sid: entry.sid,
            tty: entry.tty,
            others,
            ..Process::default()
        };
        process.set_comm(entry.comm);
        process.set_cwd(entry.cwd);
        let parent = (ppid != 0 && ppid != entry.pid).then_some(ProcKey { start_ns: 0, pid: ppid });
        tell(Item::Process(&Listed {
            key: ProcKey { start_ns: 0, pid: entry.pid },
            parent,
            comm: entry.comm,
            exe: entry.exe,
            args: entry.args,
            exepath: entry.exepath,
            env: entry.env,
            cwd: &process.cwd,
            uid: entry.uid,
            gid: entry.gid,
            loginuid: entry.loginuid,
            cap_effective: entry.cap_effective,
            cap_permitted: entry.cap_permitted,
            cap_inheritable: entry.cap_inheritable,
            tty: entry.tty,
            sid: entry.sid,
            vpid: entry.vpid,
            vpgid: entry.vpgid,
            cgroup,
            ino: entry.ino,
            ctime_ns: entry.ctime,
            mtime_ns: entry.mtime,
            writable: entry.writable,
            upper_layer: entry.upper_layer,
            lower_layer: entry.lower_layer,
            memfd: entry.memfd,
        }));
        self.state.add(entry.pid, process);
    }

    /// A thread that runs already, and its process.
    pub(super) fn thread(&mut self, entry: &Entry<'_>) {
        self.add_thread(entry.tid, entry.pid);
    }

    /// A thread of a process; it counts once.
    fn add_thread(&mut self, tid: u32, pid: u32) {
        let known = self.state.threads.get(&tid).is_some_and(|thread| thread.pid == pid);
        self.state.add_thread(tid, pid);
        if !known && tid != pid {
            self.state.process(pid).others += 1;
        }
    }

    /// A descriptor that is open already.
    pub(super) fn descriptor(&mut self, tid: u32, fd: i32, descriptor: Descriptor, name: &[u8]) {
        let pid = self.state.known_pid(tid);
        // Threads share the table of their process; it is listed once.
        if let Some(process) = self.state.processes.get_mut(&pid) {
            Arc::make_mut(&mut process.descriptors).put(fd, descriptor, name);
        }
    }

    /// One event. Whatever it says, nothing but the counters and what is known changes.
    #[inline]
    pub(super) fn event(&mut self, event: Option<CaptureEvent<'_>>, tell: Tell<'_>) {
        if let Some(event) = event.filter(|event| event.number == native::EVENT) {
            self.native(&event, tell);
            return;
        }
        self.counts.events += 1;
        let Some(event) = event else {
            self.counts.malformed += 1;
            return;
        };
        let row = Row::of(event.number);
        if row.act == Act::Other {
            // Begins have even numbers.
            if event.number.is_multiple_of(2) {
                self.counts.begins += 1
            } else {
                self.counts.others += 1
            }
            return;
        }
        self.known(event, row, tell);
    }

    /// A frame of our own. Other readers do not count its events; so it is here.
    fn native(&mut self, event: &CaptureEvent<'_>, tell: Tell<'_>) {
        let params = event.params(2);
        let number = params.as_ref().and_then(|params| params.get(0)?.first().copied());
        let made = match (number, &params) {
            // A frame may be empty, but not without a number.
            (Some(number), Some(params)) => self.assembly.take(number, params.get(1).unwrap_or_default()),
            _ => Made::Broken,
        };
        match made {
            Made::Part => {}
            Made::Frame(frame, bytes) => {
                self.counts.native += 1;
                tell(Item::Native { frame, bytes });
            }
            Made::Broken => {
                self.counts.events += 1;
                self.counts.malformed += 1;
            }
        }
    }

    /// An event of the table.
    fn known(&mut self, event: CaptureEvent<'_>, row: &'static Row, tell: Tell<'_>) {
        let Some(params) = event.params(row.most) else {
            self.counts.malformed += 1;
            return;
        };
        let time = self.boot_time(event.time_ns, tell);
        match row.act {
            Act::Begin => {
                self.counts.begins += 1;
                self.state.begin(event.tid, event.number, &params);
            }
            Act::ContainerWords | Act::Container | Act::Async | Act::User | Act::Group => {
                self.counts.silent += 1;
                news(row.act, &params, tell);
            }
            Act::Drop => {
                self.counts.dropped += 1;
                self.counts.silent += 1;
            }
            _ => {
                let pid = self.state.pid_of(event.tid);
                let begun = self.state.take_begun(event.tid, event.number);
                let arguments = Arguments { row, end: params, begin: begun.as_ref() };
                let call = Call { event, arguments, pid, time, number: self.counts.events };
                let before = self.counts.records;
                self.call(&call, tell);
                if self.counts.records == before {
                    self.counts.silent += 1;
                }
                if let Some(begun) = begun {
                    self.state.give_back(event.tid, begun);
                }
            }
        }
    }

    fn call(&mut self, call: &Call<'_>, tell: Tell<'_>) {
        match call.arguments.row.act {
            Act::Open(kind) => self.open(kind, call, tell),
            Act::Path(kind) => self.path(kind, call, tell),
            Act::Socket => self.socket(call, tell),
            Act::Connect => self.connect(call, tell),
            Act::Accept(kind) => self.accept(kind, call, tell),
            Act::Bind => self.bind(call, tell),
            Act::Listen => self.listen(call, tell),
            Act::Send(kind) => self.send(kind, call, tell),
            Act::Dup(kind) => self.dup(kind, call, tell),
            Act::Call(kind) => self.plain(kind, call, tell),
            Act::Clone => self.clone_process(call, tell),
            Act::Exec(kind) => self.exec(kind, call, tell),
            Act::Exit => self.exit(call, tell),
            Act::Close => self.close(call),
            Act::Pipe => self.pipe(call),
            Act::Pair => self.pair(call),
            Act::Fcntl => self.fcntl(call),
            Act::Setsid => self.setsid(call),
            Act::Setpgid => self.setpgid(call),
            Act::Other | Act::Begin | Act::Drop => {}
            Act::ContainerWords | Act::Container | Act::Async | Act::User | Act::Group => {}
        }
    }

    /// The boot time of a wall-clock time. The first event says how they relate if the machine did not.
    fn boot_time(&mut self, wall_ns: u64, tell: Tell<'_>) -> u64 {
        let boot_to_wall = match self.boot_to_wall {
            Some(known) => known,
            None => {
                let boot_to_wall = if self.boot_ns == 0 || self.boot_ns > wall_ns {
                    // Times of 0 mean that something is not known.
                    wall_ns.saturating_sub(1_000_000_000)
                } else {
                    self.boot_ns
                };
                self.boot_to_wall = Some(boot_to_wall);
                tell(Item::Clock { boot_to_wall_ns: boot_to_wall });
                boot_to_wall
            }
        };
        wall_ns.saturating_sub(boot_to_wall)
    }

    fn tell_cgroup(&mut self, new: Option<NewCgroup<'_>>, tell: Tell<'_>) {
        if let Some(NewCgroup { id, container: Some(container) }) = new {
            tell(Item::Place { cgroup: id, container });
        }
    }
}

/// What is told of containers, users and groups.
fn news(act: Act, params: &Params<'_>, tell: Tell<'_>) {
    let number = |index| params.unsigned(index).unwrap_or_default() as u32;
    match act {
        Act::ContainerWords => tell(Item::Container(ContainerNews::Words {
            id: params.text(0),
            kind: number(1),
            name: params.text(2),
            image: params.text(3),
        })),
        Act::Container => tell(Item::Container(ContainerNews::Json(params.text(0)))),
        // The newest writers have a plugin that tells containers; other plugins tell other things.
        Act::Async if params.text(1).starts_with(b"container") => {
            let json = params.text(2);
            let gone = params.text(1).ends_with(b"removed");
            tell(Item::Container(if gone { ContainerNews::Gone(json) } else { ContainerNews::Json(json) }));
        }
        Act::User => tell(Item::Account(Account::User {
            uid: number(0),
            name: params.text(2),
            home: params.text(3),
            shell: params.text(4),
            container: params.text(5),
        })),
        Act::Group => {
            tell(Item::Account(Account::Group { gid: number(0), name: params.text(1), container: params.text(2) }));
        }
        _ => {}
    }
}

/// An address with a port, or a path, as parameters have it: family first.
#[derive(Clone, Copy, Debug, Default)]
struct Address<'a> {
    family: u16,
    ip: [u8; 16],
    port: u16,
    path: &'a [u8],
}

impl<'a> Address<'a> {
    fn read(bytes: &'a [u8], order: super::bytes::Order) -> Option<Self> {
        let mut cursor = Cursor::new(bytes, order);
        let family = u16::from(cursor.u8()?);
        Some(match family {
            tw_model::raw::AF_INET => Self { family, ip: cursor.address4()?, port: cursor.u16()?, path: b"" },
            tw_model::raw::AF_INET6 => Self { family, ip: cursor.address()?, port: cursor.u16()?, path: b"" },
            tw_model::raw::AF_UNIX => Self { family, path: cursor.rest_text(), ..Self::default() },
            _ => return None,
        })
    }
}
