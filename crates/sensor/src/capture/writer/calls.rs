//! From a record to the begin and the end of a call, as captures have them.
//!
//! The numbers are those that sysdig 0.29 knows, wherever it has one for the call; later parameters stand behind the
//! older ones, where old readers do not look. Begins come from the same record as ends, so that both have its time.

use std::io;

use tw_model::event::EventKind as K;
use tw_model::raw::{AF_INET, AF_INET6, Body, CallBody, ExecBody, FileBody, SockBody, sock_attr};
use tw_model::{Event, Process};

use super::super::arguments::AT_FDCWD;
use super::super::flags;
use super::super::path::absolute;
use super::CaptureWriter;
use super::lists::arguments;
use super::params::Stamp;
use crate::calls::PR_SET_NAME;

/// A call that has no event: it is told by its name alone.
const GENERIC: u16 = 0;
const CLONE: u16 = 222;
const EXECVE: u16 = 292;
const EXECVEAT: u16 = 330;
const PROCEXIT: u16 = 186;

/// `-EINPROGRESS`
const IN_PROGRESS: i64 = -115;
/// `SOCK_DGRAM`
const DATAGRAM: u32 = 2;

/// Number of the begin of a call; the end's is one higher. `None`: captures have none.
pub(super) fn begin_of(kind: K) -> Option<u16> {
    Some(match kind {
        K::Clone => CLONE,
        K::Execve => EXECVE,
        K::Execveat => EXECVEAT,
        K::Procexit => PROCEXIT,
        K::Open => 2,
        K::Openat => 306,
        K::Openat2 => 326,
        K::Creat => 58,
        K::OpenByHandleAt => 336,
        K::Unlink => 300,
        K::Unlinkat => 302,
        K::Rmdir => 278,
        K::Rename => 174,
        K::Renameat => 176,
        K::Renameat2 => 318,
        K::Link => 308,
        K::Linkat => 310,
        K::Symlink => 178,
        K::Symlinkat => 180,
        K::Chmod => 314,
        K::Fchmod => 316,
        K::Fchmodat => 312,
        K::Chown => 378,
        K::Lchown => 380,
        K::Fchown => 382,
        K::Fchownat => 384,
        K::Mkdir => 276,
        K::Mkdirat => 304,
        K::Chdir => 94,
        K::Fchdir => 96,
        K::Mount => 256,
        K::Umount2 => 258,
        K::Chroot => 266,
        K::Socket => 18,
        K::Connect => 22,
        K::Accept => 246,
        K::Accept4 => 248,
        K::Bind => 20,
        K::Listen => 24,
        K::Sendto => 28,
        K::Sendmsg => 48,
        K::Write => 8,
        K::Dup | K::Dup2 | K::Dup3 => 124,
        K::Setuid => 198,
        K::Setgid => 200,
        K::Setresuid => 192,
        K::Setresgid => 194,
        K::Capset => 352,
        K::Setns => 240,
        K::Unshare => 284,
        K::Ptrace => 168,
        K::MemfdCreate => 404,
        K::Bpf => 296,
        K::InitModule => 410,
        K::FinitModule => 412,
        K::DeleteModule => 424,
        K::Userfaultfd => 320,
        K::IoUringSetup => 338,
        K::Kill => 128,
        K::Tkill => 130,
        K::Tgkill => 132,
        K::Seccomp => 298,
        K::Fsconfig => 372,
        K::Prctl => 400,
        K::PidfdGetfd => 406,
        K::PidfdOpen => 408,
        K::ProcessVmReadv => 420,
        K::ProcessVmWritev => 422,
        K::PivotRoot | K::Setreuid | K::Setregid => GENERIC,
        #[allow(unreachable_patterns, reason = "kinds that are added stay out of captures until they stand here")]
        _ => return None,
    })
}

/// Numbers of calls in captures, for those that have no event.
fn generic(kind: K) -> u16 {
    match kind {
        K::Setreuid => 123,
        K::Setregid => 124,
        K::PivotRoot => 137,
        _ => 0,
    }
}

impl CaptureWriter {
    /// The events of a record; its process was told.
    pub(super) fn call(&mut self, event: &Event<'_>, stamp: Stamp) -> io::Result<()> {
        let kind = event.kind();
        let Some(begin) = begin_of(kind) else {
            self.counts.without_event += 1;
            return Ok(());
        };
        if begin == GENERIC {
            let number = generic(kind);
            self.params.u16(number).u16(0);
            self.put(GENERIC, stamp)?;
            self.params.u16(number);
            return self.put(GENERIC + 1, stamp);
        }
        match event.raw.body {
            Body::Fork(body) => self.fork(event, body, stamp),
            Body::Exit(body) => self.exit(event, body.code, stamp),
            Body::Exec(body) => self.exec(event, body, stamp),
            Body::File(body) => self.file(event, body, begin, stamp),
            Body::Sock(body) => self.sock(event, body, begin, stamp),
            Body::Call(body) => self.plain(event, body, begin, stamp),
            #[allow(unreachable_patterns, reason = "as above")]
            _ => Ok(()),
        }
    }

    fn put(&mut self, number: u16, stamp: Stamp) -> io::Result<()> {
        self.counts.events += 1;
        self.params.event(&mut self.sink, number, stamp)
    }

    /// A new thread, as it says of itself. Readers take it for the start of the process.
    pub(super) fn child(
        &mut self,
        (tid, process): (u32, &Process),
        flags: u32,
        cgroups: &[u8],
        stamp: Stamp,
    ) -> io::Result<()> {
        self.clone_params(process, 0, (tid, process.key.pid), flags, cgroups);
        self.put(CLONE + 1, Stamp { tid, ..stamp })
    }

    fn clone_params(&mut self, process: &Process, ret: i64, (tid, pid): (u32, u32), flags: u32, cgroups: &[u8]) {
        let vpid = if process.vpid == 0 { pid } else { process.vpid };
        let vtid = if tid == pid { vpid } else { tid };
        let parent = process.parent.map_or(0, |parent| parent.pid);
        let params = &mut self.params;
        params.i64(ret).text(&process.image.exe).bytes(arguments(&process.image.argv));
        params.i64(tid.into()).i64(pid.into()).i64(parent.into()).text(&process.cwd);
        params.i64(1_024).u64(0).u64(0).u32(0).u32(0).u32(0);
        params.text(&process.comm).bytes(cgroups).u32(flags).u32(process.cred.uid).u32(process.cred.gid);
        params.i64(vtid.into()).i64(vpid.into());
    }

    /// The parent's half, then the child's.
    fn fork(&mut self, event: &Event<'_>, body: &tw_model::raw::ForkBody, stamp: Stamp) -> io::Result<()> {
        let child = tw_model::ProcKey { start_ns: body.child_start, pid: body.child_pid };
        let cgroups = std::mem::take(&mut self.cgroups);
        self.put(CLONE, stamp)?;
        let parent = event.process;
        // The number that the parent got: that of its namespace.
        let inside = parent.vpid != 0 && parent.vpid != parent.key.pid;
        let ret = if inside && body.child_vpid != 0 { body.child_vpid } else { body.child_pid };
        let flags = if inside { flags::IN_PIDNS } else { 0 };
        self.clone_params(parent, ret.into(), (stamp.tid, parent.key.pid), flags, &cgroups);
        // Of a child that has another parent than whom it was made by, the first half that is told decides.
        let childs_first = body.parent_pid != parent.key.pid;
        if !childs_first {
            self.put(CLONE + 1, stamp)?;
        }
        if let Some(child) = event.processes.get(child) {
            let halves = std::mem::take(&mut self.params);
            self.known.end(child.key.pid);
            self.known.add(child.key.pid, child.key);
            self.child((child.key.pid, child), flags, &cgroups, stamp)?;
            self.params = halves;
        }
        self.cgroups = cgroups;
        if childs_first { self.put(CLONE + 1, stamp) } else { Ok(()) }
    }

    fn exit(&mut self, event: &Event<'_>, code: u32, stamp: Stamp) -> io::Result<()> {
        let pid = event.process.key.pid;
        let others = self.known.end(pid);
        for tid in others.into_iter().chain([pid]) {
            let (ret, signal, core) = (code >> 8 & 0xff, code & 0x7f, code >> 7 & 1);
            self.params.i64(code.into()).i64(ret.into()).u8(signal as u8).u8(core as u8);
            self.put(PROCEXIT, Stamp { tid, ..stamp })?;
        }
        Ok(())
    }

    fn exec(&mut self, event: &Event<'_>, body: &ExecBody, stamp: Stamp) -> io::Result<()> {
        let (raw, process) = (&event.raw, event.process);
        let filename = raw.text(body.filename);
        let failed = raw.header.ret < 0;
        // Readers put the path of the program together from what was called; the kernel knows which it was.
        let path = raw.text(body.exepath);
        let called = if failed || path.is_empty() { filename } else { path };
        let begin = if failed && event.kind() == K::Execveat { EXECVEAT } else { EXECVE };
        if begin == EXECVEAT {
            self.params.i64(AT_FDCWD.into()).text(called).u32(0);
        } else {
            self.params.text(called);
        }
        self.put(begin, stamp)?;
        let (file, pid) = (process.image.file, process.key.pid);
        let parent = process.parent.map_or(0, |parent| parent.pid);
        let params = &mut self.params;
        params.i64(raw.header.ret).text(&process.image.exe).bytes(arguments(&process.image.argv));
        params.i64(stamp.tid.into()).i64(pid.into()).i64(parent.into()).text(&process.cwd);
        params.u64(1_024).u64(0).u64(0).u32(0).u32(0).u32(0);
        params.text(&process.comm).bytes(&self.cgroups);
        params.bytes(if failed { b"" } else { raw.text(body.env) });
        params.u32(process.tty).i64(process.vpgid.into()).u32(process.cred.loginuid).u32(flags::exe_of(body.attrs));
        params.u64(process.cred.cap_inheritable).u64(process.cred.cap_permitted).u64(process.cred.cap_effective);
        params.u64(file.ino).u64(file.ctime_ns).u64(file.mtime_ns).u32(process.cred.uid);
        params.text(&process.image.exepath).i64(process.pgid.into()).u32(process.cred.gid).text(filename);
        self.put(begin + 1, stamp)
    }

    fn file(&mut self, event: &Event<'_>, body: &FileBody, begin: u16, stamp: Stamp) -> io::Result<()> {
        let (raw, ret) = (&event.raw, event.raw.header.ret);
        let (dirfd, dirfd2, fd) = (i64::from(body.dirfd), i64::from(body.dirfd2), i64::from(body.fd));
        let resolved = raw.text(body.path);
        // Of a path relative to a descriptor readers know the folder only if they saw it opened.
        let mut whole = std::mem::take(&mut self.path);
        let mut whole2 = std::mem::take(&mut self.path2);
        path_of(raw.text(body.raw), raw.text(body.base), body.dirfd, &mut whole);
        path_of(raw.text(body.raw2), raw.text(body.base2), body.dirfd2, &mut whole2);
        let (name, name2, extra) = (whole.as_slice(), whole2.as_slice(), raw.text(body.extra));
        // The name of what was opened is the kernel's.
        let opened = if ret >= 0 && !resolved.is_empty() { resolved } else { name };
        let open_flags = flags::open_of(body.flags, body.attrs);
        let (mode, dev) = (body.mode, flags::device_of(body.dev));
        let mut wrote = Ok(());
        let mut begins = |writer: &mut Self| wrote = writer.put(begin, stamp);
        match event.kind() {
            K::Open => {
                self.params.text(opened).u32(open_flags).u32(mode);
                begins(self);
                self.params.i64(ret).text(opened).u32(open_flags).u32(mode).u32(dev).u64(body.ino);
            }
            K::Creat => {
                self.params.text(opened).u32(mode);
                begins(self);
                self.params.i64(ret).text(opened).u32(mode).u32(dev).u64(body.ino).u16(open_flags as u16);
            }
            K::Openat => {
                self.params.i64(dirfd).text(opened).u32(open_flags).u32(mode);
                begins(self);
                self.params.i64(ret).i64(dirfd).text(opened).u32(open_flags).u32(mode).u32(dev).u64(body.ino);
            }
            K::Openat2 => {
                self.params.i64(dirfd).text(opened).u32(open_flags).u32(mode).u32(0);
                begins(self);
                self.params.i64(ret).i64(dirfd).text(opened).u32(open_flags).u32(mode).u32(0).u32(dev).u64(body.ino);
            }
            K::OpenByHandleAt => {
                begins(self);
                self.params.i64(ret).i64(dirfd).u32(open_flags).text(opened).u32(dev).u64(body.ino);
            }
            K::Unlink | K::Rmdir | K::Chroot => {
                begins(self);
                self.params.i64(ret).text(name);
            }
            K::Chdir => {
                begins(self);
                self.params.i64(ret).text(opened);
            }
            K::Unlinkat => {
                begins(self);
                self.params.i64(ret).i64(dirfd).text(name).u32(body.flags);
            }
            K::Rename | K::Link => {
                begins(self);
                self.params.i64(ret).text(name).text(name2);
            }
            K::Renameat => {
                begins(self);
                self.params.i64(ret).i64(dirfd).text(name).i64(dirfd2).text(name2);
            }
            K::Renameat2 | K::Linkat => {
                begins(self);
                self.params.i64(ret).i64(dirfd).text(name).i64(dirfd2).text(name2).u32(body.flags);
            }
            K::Symlink => {
                begins(self);
                self.params.i64(ret).text(extra).text(name);
            }
            K::Symlinkat => {
                begins(self);
                self.params.i64(ret).text(extra).i64(dirfd).text(name);
            }
            K::Chmod => {
                begins(self);
                self.params.i64(ret).text(name).u32(mode);
            }
            K::Fchmod => {
                begins(self);
                self.params.i64(ret).i64(fd).u32(mode);
            }
            K::Fchmodat => {
                begins(self);
                self.params.i64(ret).i64(dirfd).text(name).u32(mode);
            }
            K::Chown | K::Lchown => {
                begins(self);
                self.params.i64(ret).text(name).u32(body.uid).u32(body.gid);
            }
            K::Fchown => {
                begins(self);
                self.params.i64(ret).i64(fd).u32(body.uid).u32(body.gid);
            }
            K::Fchownat => {
                begins(self);
                self.params.i64(ret).i64(dirfd).text(name).u32(body.uid).u32(body.gid).u32(body.flags);
            }
            K::Mkdir => {
                self.params.u32(mode);
                begins(self);
                self.params.i64(ret).text(name);
            }
            K::Mkdirat => {
                begins(self);
                self.params.i64(ret).i64(dirfd).text(name).u32(mode);
            }
            K::Fchdir => {
                self.params.i64(fd);
                begins(self);
                self.params.i64(ret);
            }
            K::Mount => {
                self.params.u32(body.flags);
                begins(self);
                self.params.i64(ret).text(extra).text(name).text(name2);
            }
            K::Umount2 => {
                self.params.u32(body.flags);
                begins(self);
                self.params.i64(ret).text(name);
            }
            _ => {}
        }
        (self.path, self.path2) = (whole, whole2);
        wrote?;
        self.put(begin + 1, stamp)
    }

    fn sock(&mut self, event: &Event<'_>, body: &SockBody, begin: u16, stamp: Stamp) -> io::Result<()> {
        let (raw, ret) = (&event.raw, event.raw.header.ret);
        let fd = i64::from(if body.fd < 0 { self.sockets.sends(event.process.key.pid, body) } else { body.fd });
        let (local, remote) = ((&body.laddr, body.lport), (&body.raddr, body.rport));
        let (path, wanted) = (raw.text(body.path), raw.text(body.raw));
        let named = if path.is_empty() { wanted } else { path };
        let size = u32::try_from(body.size).unwrap_or(u32::MAX);
        match event.kind() {
            K::Connect => {
                if ret == 0 || ret == IN_PROGRESS {
                    self.sockets.connected(body);
                }
                let asked = if wanted.is_empty() { path } else { wanted };
                self.params.i64(fd).address(body.family, remote, asked);
                self.put(begin, stamp)?;
                self.params.i64(ret).tuple(body.family, local, remote, named).i64(fd);
                self.params.address(body.family, remote, asked);
            }
            K::Accept | K::Accept4 => {
                if event.kind() == K::Accept4 {
                    self.params.u32(0);
                }
                self.put(begin, stamp)?;
                // The peer is the source of what comes in.
                self.params.i64(ret).tuple(body.family, remote, local, named).u8(0).u32(0).u32(0);
            }
            K::Bind => {
                self.params.i64(fd);
                self.put(begin, stamp)?;
                self.params.i64(ret).address(body.family, local, named).i64(fd);
            }
            K::Listen => {
                self.params.i64(fd).u32(body.backlog);
                self.put(begin, stamp)?;
                self.params.i64(ret).i64(fd).u32(body.backlog);
            }
            K::Sendto | K::Sendmsg => {
                let tuple = |writer: &mut Self| match body.family {
                    AF_INET | AF_INET6 if body.rport != 0 => {
                        writer.params.tuple(body.family, local, remote, b"");
                    }
                    _ => {
                        writer.params.bytes(b"");
                    }
                };
                self.params.i64(fd).u32(size);
                tuple(self);
                self.put(begin, stamp)?;
                self.params.i64(ret).bytes(raw.text(body.data)).i64(fd).u32(size);
                tuple(self);
            }
            K::Write => {
                self.params.i64(fd).u32(size);
                self.put(begin, stamp)?;
                self.params.i64(ret).bytes(raw.text(body.data)).i64(fd).u32(size);
            }
            // Readers take the result for the new descriptor.
            _ => {
                debug_assert!(body.has(sock_attr::FILE) || body.oldfd >= 0 || ret < 0);
                self.params.i64(body.oldfd.into());
                self.put(begin, stamp)?;
                self.params.i64(ret);
            }
        }
        self.put(begin + 1, stamp)
    }

    fn plain(&mut self, event: &Event<'_>, body: &CallBody, begin: u16, stamp: Stamp) -> io::Result<()> {
        let (ret, args) = (event.raw.header.ret, body.args);
        let text = event.raw.text(body.text);
        let number = |at: usize| args.get(at).copied().unwrap_or_default();
        let small = |at: usize| number(at) as u32;
        let fd = |at: usize| i64::from(small(at) as i32);
        match event.kind() {
            K::Socket => {
                if ret >= 0 && small(1) & 0xf == DATAGRAM {
                    self.sockets.made(event.process.key.pid, ret as i32);
                }
                self.params.u32(small(0)).u32(small(1)).u32(small(2));
                self.put(begin, stamp)?;
                self.params.i64(ret);
            }
            K::Setuid | K::Setgid => {
                self.params.u32(small(0));
                self.put(begin, stamp)?;
                self.params.i64(ret).u32(small(0));
            }
            K::Setresuid | K::Setresgid => {
                self.params.u32(small(0)).u32(small(1)).u32(small(2));
                self.put(begin, stamp)?;
                self.params.i64(ret).u32(small(0)).u32(small(1)).u32(small(2));
            }
            K::Capset => {
                self.put(begin, stamp)?;
                self.params.i64(ret).u64(body.cap_inheritable).u64(body.cap_permitted).u64(body.cap_effective);
            }
            K::Setns => {
                let kinds = flags::clone_of(small(1));
                self.params.i64(fd(0)).u32(kinds);
                self.put(begin, stamp)?;
                self.params.i64(ret).i64(fd(0)).u32(kinds);
            }
            K::Unshare => {
                let kinds = flags::clone_of(small(0));
                self.params.u32(kinds);
                self.put(begin, stamp)?;
                self.params.i64(ret).u32(kinds);
            }
            K::Ptrace => {
                let (request, pid) = (flags::ptrace_of(number(0)), i64::from(small(1) as i32));
                self.params.u16(request).i64(pid);
                self.put(begin, stamp)?;
                // 0: an address or data, as a number.
                self.params.i64(ret).variant(0, number(2)).variant(0, number(3)).u16(request).i64(pid);
            }
            K::Bpf => {
                self.params.u64(number(0));
                self.put(begin, stamp)?;
                // 1: a result, no descriptor.
                self.params.variant(u8::from(ret < 0), ret as u64);
            }
            K::MemfdCreate => {
                self.put(begin, stamp)?;
                self.params.i64(ret).text(text).u32(small(1));
            }
            K::InitModule => {
                self.put(begin, stamp)?;
                self.params.i64(ret).bytes(b"").u64(number(1)).text(text);
            }
            K::FinitModule => {
                self.put(begin, stamp)?;
                self.params.i64(ret).i64(fd(0)).text(text).u32(small(2));
            }
            K::DeleteModule => {
                self.put(begin, stamp)?;
                self.params.i64(ret).text(text).u32(small(1));
            }
            K::Userfaultfd => {
                self.put(begin, stamp)?;
                self.params.i64(ret).u32(flags::open_of(small(0), 0) & !3);
            }
            K::IoUringSetup => {
                self.put(begin, stamp)?;
                self.params.i64(ret).u32(small(0)).u32(0).u32(0).u32(small(1));
            }
            K::Seccomp => {
                self.params.u64(number(0)).u64(number(1));
                self.put(begin, stamp)?;
                self.params.i64(ret).u64(number(0)).u64(number(1));
            }
            K::Prctl => {
                self.put(begin, stamp)?;
                // A name is told as a text, anything else as a number.
                let second = if small(0) == PR_SET_NAME { 0 } else { number(1) };
                self.params.i64(ret).u32(small(0)).text(text).u64(second);
            }
            K::PidfdOpen => {
                self.put(begin, stamp)?;
                self.params.i64(ret).i64(fd(0)).u32(small(1));
            }
            K::PidfdGetfd => {
                self.put(begin, stamp)?;
                self.params.i64(ret).i64(fd(0)).i64(fd(1)).u32(small(2));
            }
            K::ProcessVmReadv | K::ProcessVmWritev => {
                self.put(begin, stamp)?;
                self.params.i64(ret).i64(fd(0)).bytes(b"");
            }
            K::Fsconfig => {
                self.put(begin, stamp)?;
                let value = event.raw.text(body.text2);
                self.params.i64(ret).i64(fd(0)).u32(small(1)).text(text).bytes(b"").text(value).u32(small(4));
            }
            K::Kill | K::Tkill | K::Tgkill => {
                self.signal(event.kind(), args);
                self.put(begin, stamp)?;
                // Newer readers look for the same behind the result.
                self.params.i64(ret);
                self.signal(event.kind(), args);
            }
            _ => self.put(begin, stamp)?,
        }
        self.put(begin + 1, stamp)
    }

    /// Whom a signal is for, as the caller's namespace numbers them, and which it is.
    fn signal(&mut self, kind: K, args: [u64; 6]) {
        let whom = |at: usize| i64::from(args[at] as i32);
        self.params.i64(whom(0));
        if kind == K::Tgkill {
            self.params.i64(whom(1));
        }
        self.params.u8(args[if kind == K::Tgkill { 2 } else { 1 }] as u8);
    }
}

/// The path that a reader is to see: as it was written, and absolute if it is relative to a descriptor.
fn path_of(raw: &[u8], base: &[u8], dirfd: i32, out: &mut Vec<u8>) {
    if raw.starts_with(b"/") || raw.is_empty() || dirfd == AT_FDCWD || base.is_empty() {
        out.clear();
        out.extend_from_slice(raw);
    } else {
        absolute(base, raw, out);
    }
}
