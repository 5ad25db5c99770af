//! From a call of a stopped thread to the record that the kernel half would have written: by the same table, at the exit,
//! with the names of kernel objects wherever the call left one.

use std::net::SocketAddr;

use hashbrown::HashMap;
use tw_model::event::EventKind;
use tw_model::raw::{
    AF_UNIX, COMM, CallBody, Encoder, ExecBody, ExitBody, F_COMPAT, F_TRUNCATED, FileBody, ForkBody, Header, SockBody,
    sock_attr, to_words,
};

use super::filter::COMPAT;
use super::socket::{self, Socket, TCP};
use super::stop::{self, Entry};
use crate::calls::{CREAT, CWD, Config, Handler, MOUNT_ATTR, OPEN_HOW, PR_SET_NAME, PRCTL_OPTIONS, Watched};
use crate::clock;
use crate::facts::{self, Cred, MAX_PATH, Node, Status};

const AT_FDCWD: i32 = libc::AT_FDCWD;
/// Most bytes of what was sent, as in the kernel half.
const MAX_DATA: usize = 256;
/// Datagrams to the same peer again within this time are counted only.
const PEER_QUIET_NS: u64 = 1_000_000_000;
/// Sockets whose last peer is remembered; all are forgotten when there are more.
const MAX_PEERS: usize = 4096;
/// `ERESTARTSYS` and its like: the call begins again, and nobody but the kernel sees this.
const RESTARTS: std::ops::RangeInclusive<i64> = -516..=-512;

/// `PROT_WRITE | PROT_EXEC`.
const WRITE_EXEC: u64 = 6;

/// `FSCONFIG_SET_STRING`, `_SET_PATH`, `_SET_PATH_EMPTY`: those whose value is a text.
const FSCONFIG_TEXTS: [u64; 3] = [1, 3, 4];

/// A record, in words so that it is aligned.
pub(super) type Record = Vec<u64>;

/// A thread, and what is known of it without looking.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) tid: u32,
    pub(super) tgid: u32,
    /// Start of its process, nanoseconds since boot to the tick.
    pub(super) start: u64,
    pub(super) cred: Cred,
    /// Its root directory as we name it; empty for ours.
    pub(super) root: Vec<u8>,
    /// Its name, as last read.
    pub(super) comm: [u8; COMM],
    /// The watched call that it is in.
    pub(super) call: Option<Pending>,
}

/// A watched call that has not returned.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    entry: Entry,
    what: What,
    /// Of an exec, the name that was given: the memory that holds it is gone afterwards.
    filename: Vec<u8>,
    /// Of an open that may create, whether there was something before.
    existed: bool,
}

impl Pending {
    /// What an exec that happened ran, as the kernel names it: by descriptor if it was given by one.
    fn exec_name(&self) -> Vec<u8> {
        let raw = &self.filename;
        let fd = self.entry.args[0] as i32;
        let by_fd = matches!(self.what, What::Watched(watched) if watched.kind == EventKind::Execveat);
        if !by_fd || fd == AT_FDCWD || raw.starts_with(b"/") {
            return raw.clone();
        }
        let slash = if raw.is_empty() { "" } else { "/" };
        [format!("/dev/fd/{fd}{slash}").as_bytes(), raw].concat()
    }
}

#[derive(Clone, Copy, Debug)]
enum What {
    Watched(Watched),
    /// Datagrams: not in the table, since the kernel half sees what is sent elsewhere.
    Sends(EventKind),
}

/// Makes records.
pub(super) struct Recorder {
    config: Box<Config>,
    /// The cgroup that all records are of.
    cgroup: u64,
    /// Last peer of datagram sockets, by process and descriptor.
    peers: HashMap<(u32, i32), (SocketAddr, u64), foldhash::fast::RandomState>,
    /// Datagrams that were counted only.
    pub(super) folded: u64,
}

impl Recorder {
    pub(super) fn new(config: Box<Config>, cgroup: u64) -> Self {
        Self { config, cgroup, peers: HashMap::default(), folded: 0 }
    }

    /// At the entry of a call: what must be remembered of it; `None` if nothing will be told.
    pub(super) fn enter(&self, task: &Task, entry: Entry) -> Option<Pending> {
        let compat = entry.arch == COMPAT;
        let what = match sends(&entry).filter(|_| !compat) {
            Some(kind) => What::Sends(kind),
            None => What::Watched(self.config.watched(compat, entry.nr)?),
        };
        let mut pending = Pending { entry, what, filename: Vec::new(), existed: true };
        if let What::Watched(watched) = what {
            let call = Call { task, entry: &pending.entry, args: &watched.args };
            match watched.handler {
                Handler::Exec => pending.filename = call.text(watched.args.path).0,
                Handler::Open if call.open_flags().0 as i32 & libc::O_CREAT != 0 => {
                    pending.existed = call.exists();
                }
                _ => {}
            }
        }
        Some(pending)
    }

    /// At the exit of a call: its record, if it has one. Credentials of the thread are brought up to date.
    pub(super) fn leave(&mut self, task: &mut Task, pending: &Pending, ret: i64) -> Option<Record> {
        if RESTARTS.contains(&ret) {
            return None;
        }
        let watched = match pending.what {
            What::Sends(kind) => return self.sent(task, pending, kind, ret),
            What::Watched(watched) => watched,
        };
        let moved =
            matches!(watched.kind, EventKind::Chroot | EventKind::PivotRoot | EventKind::Setns | EventKind::Unshare);
        if moved && ret >= 0 {
            task.root = facts::root(task.tid);
        }
        if watched.handler == Handler::Call && watched.kind != EventKind::Socket {
            task.cred = Status::read(task.tid).map_or(task.cred, |status| status.cred);
        }
        task.comm = facts::comm(task.tid);
        let header = self.header(task, watched.kind, pending, ret);
        let call = Call { task, entry: &pending.entry, args: &watched.args };
        match watched.handler {
            Handler::Open => Some(call.open(&header, pending.existed)),
            Handler::Path => Some(call.path(&header)),
            Handler::Call | Handler::FsContext => Some(call.plain(&header)),
            // Signal 0 asks only whether somebody is there.
            Handler::Signal => (call.arg(watched.args.flags, 0) as u32 != 0).then(|| call.plain(&header)),
            Handler::Memory => (call.arg(3, 0) & WRITE_EXEC == WRITE_EXEC).then(|| call.plain(&header)),
            Handler::Prctl => PRCTL_OPTIONS.contains(&(call.arg(1, 0) as u32)).then(|| call.plain(&header)),
            Handler::Sock => call.sock(&header),
            Handler::Dup => call.dup(&header),
            Handler::Exec if ret < 0 => {
                let mut out = Encoder::new(&header, size_of::<ExecBody>());
                let filename = out.text(&pending.filename);
                Some(to_words(&out.finish(&ExecBody { filename, ..ExecBody::default() })))
            }
            Handler::Exec => None, // told when it happened
            // Stand-ins of the kernel half, never in these tables.
            Handler::Send | Handler::Receive | Handler::SocketCall => None,
        }
    }

    /// A program was executed; `task` is as the new program finds it.
    pub(super) fn executed(&self, task: &mut Task) -> Record {
        let pending = task.call.as_ref();
        let filename = pending.map(Pending::exec_name).unwrap_or_default();
        let kind = match pending.map(|pending| pending.what) {
            Some(What::Watched(watched)) if watched.handler == Handler::Exec => watched.kind,
            _ => EventKind::Execve,
        };
        task.cred = Status::read(task.tid).map_or(task.cred, |status| status.cred);
        task.comm = facts::comm(task.tid);
        let header = self.plain_header(task, kind, 0);
        let mut out = Encoder::new(&header, size_of::<ExecBody>());
        let (body, _) = facts::exec(&mut out, task.tgid, &filename, Some(&task.root));
        to_words(&out.finish(&body))
    }

    /// `caller` made the process `child`, whose parent is `parent` by number and start.
    pub(super) fn forked(&self, caller: &Task, child: &Task, parent: (u32, u64), vpid: u32) -> Record {
        let header = self.plain_header(caller, EventKind::Clone, i64::from(child.tgid));
        let body = ForkBody {
            child_start: child.start,
            parent_start: parent.1,
            child_pid: child.tgid,
            parent_pid: parent.0,
            child_vpid: vpid,
            child_uid: child.cred.uid,
            child_caps: child.cred.cap_effective,
            ..ForkBody::default()
        };
        to_words(&Encoder::new(&header, size_of::<ForkBody>()).finish(&body))
    }

    /// The last thread of a process ended; `code` is as for wait(2).
    pub(super) fn ended(&self, task: &Task, code: u32) -> Record {
        let header = self.plain_header(task, EventKind::Procexit, 0);
        to_words(&Encoder::new(&header, size_of::<ExitBody>()).finish(&ExitBody { code, ..ExitBody::default() }))
    }

    fn header(&self, task: &Task, kind: EventKind, pending: &Pending, ret: i64) -> Header {
        let flags = if pending.entry.arch == COMPAT { F_COMPAT } else { 0 };
        Header { flags, ..self.plain_header(task, kind, ret) }
    }

    fn plain_header(&self, task: &Task, kind: EventKind, ret: i64) -> Header {
        Header {
            kind: kind as u16,
            time: clock::boot_ns(),
            start: task.start,
            cgroup: self.cgroup,
            pid: task.tgid,
            tid: task.tid,
            uid: task.cred.uid,
            gid: task.cred.gid,
            ret,
            caps: task.cred.cap_effective,
            comm: task.comm,
            ..Header::default()
        }
    }

    /// Datagrams to a peer that is another than before, or was not sent to for a while.
    fn sent(&mut self, task: &Task, pending: &Pending, kind: EventKind, ret: i64) -> Option<Record> {
        let [fd, first, len, _, addr, _] = pending.entry.args;
        let fd = fd as i32;
        let socket = socket::of(task.tgid, fd).filter(|socket| socket.body.family != AF_UNIX)?;
        if socket.body.proto == TCP {
            return None;
        }
        let (buffer, size, addr) = if kind == EventKind::Sendto { (first, len, addr) } else { message(task, first) };
        let mut body = SockBody { fd: -1, oldfd: -1, size, ..socket.body };
        body.attrs |= sock_attr::CLIENT;
        if body.rport == 0 {
            remote(task, addr, &mut body);
        }
        let now = clock::boot_ns();
        if let Some(ip) = body.remote() {
            let peer = SocketAddr::new(ip, body.rport);
            if self.peers.len() >= MAX_PEERS {
                self.peers.clear();
            }
            let last = self.peers.insert((task.tgid, fd), (peer, now));
            if let Some((known, at)) = last.filter(|(known, at)| *known == peer && now - at < PEER_QUIET_NS) {
                self.peers.insert((task.tgid, fd), (known, at));
                self.folded += 1;
                return None;
            }
        }
        let header = self.header(task, kind, pending, ret);
        let mut out = Encoder::new(&header, size_of::<SockBody>());
        let mut data = vec![0; usize::try_from(size).unwrap_or(MAX_DATA).min(MAX_DATA)];
        let read = stop::memory(task.tid, buffer, &mut data);
        body.data = out.text(&data[..read]);
        Some(to_words(&out.finish(&body)))
    }
}

/// The kind of a call that sends datagrams.
fn sends(entry: &Entry) -> Option<EventKind> {
    let nr = libc::c_long::try_from(entry.nr).ok()?;
    match nr {
        libc::SYS_sendto => Some(EventKind::Sendto),
        libc::SYS_sendmsg | libc::SYS_sendmmsg => Some(EventKind::Sendmsg),
        _ => None,
    }
}

/// First buffer, its length, and the address, of the `struct msghdr` at this place.
fn message(task: &Task, at: u64) -> (u64, u64, u64) {
    let msg = words::<4>(task, at);
    // msg_name, msg_namelen, msg_iov, msg_iovlen.
    let iov = words::<2>(task, msg[2]);
    (iov[0], iov[1], msg[0])
}

/// Words of a thread's memory; 0 where none can be read.
fn words<const N: usize>(task: &Task, at: u64) -> [u64; N] {
    let mut bytes = vec![0; 8 * N];
    stop::memory(task.tid, at, &mut bytes);
    std::array::from_fn(|i| {
        bytes.get(8 * i..8 * i + 8).and_then(|word| word.try_into().ok()).map_or(0, u64::from_ne_bytes)
    })
}

/// The remote end as the caller wrote it, where the socket does not hold it.
fn remote(task: &Task, addr: u64, body: &mut SockBody) {
    let mut bytes = [0; 28];
    let read = stop::memory(task.tid, addr, &mut bytes);
    if let Some((family, address)) = socket::written(&bytes[..read]) {
        body.family = family;
        socket::put(address, &mut body.raddr, &mut body.rport);
    }
}

/// A call at its entry or exit, with the places of its arguments.
struct Call<'c> {
    task: &'c Task,
    entry: &'c Entry,
    args: &'c crate::calls::Args,
}

impl Call<'_> {
    /// Argument number n, from 1; without number, `otherwise`.
    fn arg(&self, n: u8, otherwise: u64) -> u64 {
        match n.checked_sub(1) {
            Some(at) => self.entry.args.get(usize::from(at)).copied().unwrap_or(otherwise),
            None => otherwise,
        }
    }

    fn fd(&self, n: u8, otherwise: i32) -> i32 {
        self.arg(n, otherwise as u64) as i32
    }

    /// The text that an argument points to, and whether it was longer than a path may be.
    fn text(&self, n: u8) -> (Vec<u8>, bool) {
        text(self.task.tid, self.arg(n, 0))
    }

    fn add_text(&self, out: &mut Encoder, n: u8) -> (tw_model::raw::Str, Vec<u8>) {
        let (text, cut) = self.text(n);
        if cut {
            out.flag(F_TRUNCATED);
        }
        (out.text(&text), text)
    }

    fn proc(&self, what: &str) -> String {
        format!("/proc/{}/{what}", self.task.tid)
    }

    /// The path of an open file as its process names it, and what it is.
    fn file(&self, fd: i32) -> Option<(Vec<u8>, Node, u32)> {
        if fd < 0 {
            return None;
        }
        let link = self.proc(&format!("fd/{fd}"));
        let path = facts::link(&link);
        if path.is_empty() {
            return None;
        }
        let node = Node::read(&link).unwrap_or_default();
        let attrs = node.attrs(&path);
        Some((facts::inside(&self.task.root, node.named(&path)).to_vec(), node, attrs))
    }

    fn cwd(&self) -> Vec<u8> {
        facts::inside(&self.task.root, &facts::link(&self.proc("cwd"))).to_vec()
    }

    /// The directory that a path is relative to; empty if it is absolute.
    fn base(&self, raw: &[u8], dirfd: i32) -> Vec<u8> {
        if raw.starts_with(b"/") {
            Vec::new()
        } else if dirfd == AT_FDCWD {
            self.cwd()
        } else {
            self.file(dirfd).map(|(path, ..)| path).unwrap_or_default()
        }
    }

    /// Flags and mode of an open.
    fn open_flags(&self) -> (u32, u32) {
        if self.args.implied & CREAT != 0 {
            return (0o1101, self.arg(self.args.mode, 0) as u32); // O_WRONLY | O_CREAT | O_TRUNC
        }
        if self.args.implied & OPEN_HOW != 0 {
            let [flags, mode] = words::<2>(self.task, self.arg(3, 0));
            return (flags as u32, mode as u32);
        }
        (self.arg(self.args.flags, 0) as u32, self.arg(self.args.mode, 0) as u32)
    }

    /// Whether there is something under the path of an open now.
    fn exists(&self) -> bool {
        let (raw, _) = self.text(self.args.path);
        let dirfd = self.fd(self.args.dirfd, AT_FDCWD);
        let path = if raw.starts_with(b"/") || dirfd == AT_FDCWD {
            raw
        } else {
            [&self.base(&raw, dirfd), b"/".as_slice(), &raw].concat()
        };
        facts::open_inside(self.task.tid, &path, &self.task.root, rustix::fs::OFlags::PATH).is_some()
    }

    fn open(&self, header: &Header, existed: bool) -> Record {
        let mut out = Encoder::new(header, size_of::<FileBody>());
        let (flags, mode) = self.open_flags();
        let dirfd = self.fd(self.args.dirfd, AT_FDCWD);
        let mut body = FileBody { fd: -1, dirfd, dirfd2: AT_FDCWD, flags, mode, ..FileBody::default() };
        let mut raw = Vec::new();
        if self.args.path != 0 {
            (body.raw, raw) = self.add_text(&mut out, self.args.path);
        }
        if let Some((path, node, attrs)) = i32::try_from(header.ret).ok().and_then(|fd| self.file(fd)) {
            (body.ino, body.dev, body.attrs) = (node.ino, node.dev, attrs);
            if !existed {
                body.attrs |= tw_model::raw::attr::CREATED;
            }
            body.path = out.text(&path);
        } else if header.ret < 0 {
            body.base = out.text(&self.base(&raw, dirfd));
        }
        to_words(&out.finish(&body))
    }

    fn path(&self, header: &Header) -> Record {
        let mut out = Encoder::new(header, size_of::<FileBody>());
        let args = self.args;
        let mut body = FileBody {
            fd: self.fd(args.fd, -1),
            dirfd: self.fd(args.dirfd, AT_FDCWD),
            dirfd2: self.fd(args.dirfd2, AT_FDCWD),
            flags: self.arg(args.flags, 0) as u32,
            mode: self.arg(args.mode, 0) as u32,
            uid: self.arg(args.uid, 0) as u32,
            gid: self.arg(args.gid, 0) as u32,
            ..FileBody::default()
        };
        if args.implied & MOUNT_ATTR != 0 {
            let [set, clear, propagation] = words::<3>(self.task, self.arg(4, 0));
            (body.mode, body.uid, body.gid) = (set as u32, clear as u32, propagation as u32);
        }
        if args.path != 0 {
            let raw;
            (body.raw, raw) = self.add_text(&mut out, args.path);
            body.base = out.text(&self.base(&raw, body.dirfd));
        }
        if args.path2 != 0 {
            let raw;
            (body.raw2, raw) = self.add_text(&mut out, args.path2);
            body.base2 = out.text(&self.base(&raw, body.dirfd2));
        }
        if args.extra != 0 {
            (body.extra, _) = self.add_text(&mut out, args.extra);
        }
        if let Some((path, node, attrs)) = (args.fd != 0).then(|| self.file(body.fd)).flatten() {
            (body.ino, body.attrs) = (node.ino, attrs);
            body.path = out.text(&path);
        } else if args.implied & CWD != 0 && header.ret >= 0 {
            body.path = out.text(&self.cwd());
        }
        to_words(&out.finish(&body))
    }

    fn plain(&self, header: &Header) -> Record {
        let mut out = Encoder::new(header, size_of::<CallBody>());
        let cred = &self.task.cred;
        let mut body = CallBody {
            args: self.entry.args,
            cap_effective: cred.cap_effective,
            cap_permitted: cred.cap_permitted,
            cap_inheritable: cred.cap_inheritable,
            ..CallBody::default()
        };
        if self.args.extra != 0 {
            (body.text, _) = self.add_text(&mut out, self.args.extra);
        }
        // The second text: by the table, or where the first two arguments say that there is one.
        let kind = header.kind;
        let command = self.arg(2, 0);
        if self.args.path2 != 0 {
            (body.text2, _) = self.add_text(&mut out, self.args.path2);
        } else if kind == EventKind::Fsconfig as u16 && FSCONFIG_TEXTS.contains(&command) {
            (body.text2, _) = self.add_text(&mut out, 4);
        } else if kind == EventKind::Prctl as u16 && self.arg(1, 0) as u32 == PR_SET_NAME {
            (body.text, _) = self.add_text(&mut out, 2);
        }
        to_words(&out.finish(&body))
    }

    fn sock(&self, header: &Header) -> Option<Record> {
        // accept has its socket in the result, the others in the first argument.
        let accepts = self.args.fd == 0;
        if accepts && header.ret < 0 {
            return None; // nothing was accepted: servers ask all the time
        }
        let fd = if accepts { header.ret as i32 } else { self.fd(self.args.fd, -1) };
        let Socket { mut body, peer } = socket::of(self.task.tgid, fd)?;
        let mut out = Encoder::new(header, size_of::<SockBody>());
        (body.fd, body.oldfd) = (fd, -1);
        body.backlog = self.arg(self.args.backlog, 0) as u32;
        if accepts {
            body.attrs |= sock_attr::SERVER;
        }
        let addr = self.arg(self.args.addr, 0);
        if self.args.addr != 0 && self.args.flags == 0 {
            body.attrs |= sock_attr::CLIENT;
            if body.rport == 0 {
                remote(self.task, addr, &mut body);
            }
        }
        if body.family == AF_UNIX {
            if addr != 0 {
                body.raw = out.text(&text(self.task.tid, addr + 2).0);
            }
            body.path = out.text(&peer);
        }
        Some(to_words(&out.finish(&body)))
    }

    fn dup(&self, header: &Header) -> Option<Record> {
        let fd = i32::try_from(header.ret).ok().filter(|fd| (0..=2).contains(fd))?;
        let mut out = Encoder::new(header, size_of::<SockBody>());
        let oldfd = self.fd(1, -1);
        let body = match socket::of(self.task.tgid, fd) {
            Some(Socket { body, peer }) => SockBody { fd, oldfd, path: out.text(&peer), ..body },
            None => {
                let (path, ..) = self.file(fd)?;
                SockBody { fd, oldfd, attrs: sock_attr::FILE, path: out.text(&path), ..SockBody::default() }
            }
        };
        Some(to_words(&out.finish(&body)))
    }
}

/// The text at a place of a thread's memory, and whether it was cut.
fn text(tid: u32, at: u64) -> (Vec<u8>, bool) {
    /// Read in pieces that end where a page may end: what follows need not be there.
    const PIECE: u64 = 256;
    let mut text = Vec::new();
    let mut at = at;
    while at != 0 && text.len() < MAX_PATH {
        let mut piece = vec![0; (PIECE - at % PIECE) as usize];
        let read = stop::memory(tid, at, &mut piece);
        piece.truncate(read);
        if let Some(end) = piece.iter().position(|byte| *byte == 0) {
            text.extend_from_slice(&piece[..end]);
            text.truncate(MAX_PATH);
            return (text, false);
        }
        if read == 0 {
            return (text, false);
        }
        text.extend(piece);
        at = at.saturating_add(read as u64);
    }
    let cut = text.len() >= MAX_PATH;
    text.truncate(MAX_PATH);
    (text, cut)
}
