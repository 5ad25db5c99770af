//! Lifecycle: fork, exec, exit.

use std::sync::Arc;

use tw_model::EventKind;
use tw_model::raw::{ExecBody, ExitBody, ForkBody, attr};

use super::super::flags;
use super::super::lists::number;
use super::super::path::absolute;
use super::super::record::{ARGS, PATH};
use super::super::state::{Awaits, Process};
use super::super::table::Role;
use super::{Call, Converter, Item, Tell};

impl Converter {
    /// Captures tell a fork twice: to the parent, with the child's number as the result, and to the child, with 0. The
    /// first of them is told, as the parent's. A parent in a pid namespace gets a number that means nothing outside:
    /// there the child's counts.
    pub(super) fn clone_process(&mut self, call: &Call<'_>, tell: Tell<'_>) {
        let arguments = &call.arguments;
        let (ret, theirs) = (arguments.ret(), arguments.u32(Role::Flags));
        if ret < 0 {
            return;
        }
        if ret == 0 {
            self.child(call, theirs, tell);
        } else if theirs & flags::IN_PIDNS == 0 && !self.is_inside(call.pid) {
            self.parent(call, theirs, ret as u32, tell);
        }
    }

    /// Whether a process has another number in its namespace.
    fn is_inside(&self, pid: u32) -> bool {
        self.state.processes.get(&pid).is_some_and(|process| process.vpid != 0 && process.vpid != pid)
    }

    /// The parent's half.
    fn parent(&mut self, call: &Call<'_>, theirs: u32, tid: u32, tell: Tell<'_>) {
        if theirs & flags::CLONE_THREAD != 0 {
            self.add_thread(tid, call.pid);
            return;
        }
        if let Some(child) = self.state.processes.get_mut(&tid)
            && child.expects(Awaits::Parent, call.time)
        {
            child.awaits = Awaits::Nothing;
            return;
        }
        self.fork(call, call.pid, tid, Awaits::Child, tell);
    }

    /// The child's half: the event is of the child's thread.
    fn child(&mut self, call: &Call<'_>, theirs: u32, tell: Tell<'_>) {
        let arguments = &call.arguments;
        let tid = call.event.tid;
        let told = |role| number(arguments.u64(role));
        let pid = if told(Role::Pid) == 0 { tid } else { told(Role::Pid) };
        if theirs & flags::CLONE_THREAD != 0 || pid != tid {
            if pid != tid {
                // Made up a moment ago, when nobody knew whose thread it is.
                self.state.processes.remove(&tid);
            }
            self.add_thread(tid, pid);
            return;
        }
        let known = self.state.processes.get(&pid).is_some_and(|process| process.expects(Awaits::Child, call.time));
        if !known {
            let parent = self.state.known_pid(told(Role::Ptid));
            self.fork(call, parent, pid, Awaits::Parent, tell);
        }
        let (cgroup, new) = match arguments.bytes(Role::Cgroups) {
            Some(paths) => {
                let (cgroup, new) = self.state.cgroup(paths);
                (Some(cgroup), new)
            }
            None => (None, None),
        };
        self.tell_cgroup(new, tell);
        let process = self.state.process(pid);
        if known {
            process.awaits = Awaits::Nothing;
        }
        // What the child says of itself is surer than what it had from its parent.
        process.cgroup = cgroup.unwrap_or(process.cgroup);
        if let Some(uid) = arguments.signed(Role::Uid) {
            process.uid = uid as u32;
        }
        if let Some(gid) = arguments.signed(Role::Gid) {
            process.gid = gid as u32;
        }
        if told(Role::Vpid) != 0 {
            process.vpid = told(Role::Vpid);
        }
        for (role, set) in [(Role::Comm, Process::set_comm as fn(&mut Process, &[u8])), (Role::Cwd, Process::set_cwd)] {
            let text = arguments.text(role);
            if !text.is_empty() {
                set(process, text);
            }
        }
    }

    /// A new process `pid` of `parent`.
    fn fork(&mut self, call: &Call<'_>, parent: u32, pid: u32, awaits: Awaits, tell: Tell<'_>) {
        let process = self.state.process(parent);
        let in_child = call.pid == pid;
        let child = Process {
            start: call.time,
            ppid: parent,
            vpid: if in_child { number(call.arguments.u64(Role::Vpid)) } else { pid },
            others: 0,
            leaderless: None,
            ended: false,
            awaits,
            // Shared until one of them changes it.
            descriptors: Arc::clone(&process.descriptors),
            ..process.clone()
        };
        let mut header = call.header(EventKind::Clone, process);
        header.ret = pid.into();
        (header.pid, header.tid) = (parent, if in_child { parent } else { call.event.tid });
        let body = ForkBody {
            child_start: child.start,
            parent_start: process.start,
            child_pid: pid,
            parent_pid: parent,
            child_vpid: child.vpid,
            child_uid: child.uid,
            child_caps: child.cap_effective,
            flags: flags::clone(call.arguments.u32(Role::Flags)).into(),
        };
        self.state.add_thread(pid, pid);
        self.state.add(pid, child);
        self.record.begin(size_of::<ForkBody>());
        self.counts.records += 1;
        tell(Item::Record { number: call.number, bytes: self.record.finish(&header, &body) });
    }

    pub(super) fn exec(&mut self, kind: EventKind, call: &Call<'_>, tell: Tell<'_>) {
        let arguments = &call.arguments;
        let filename = arguments.text(Role::Filename);
        if arguments.ret() < 0 {
            let header = call.header(kind, self.state.process(call.pid));
            self.record.begin(size_of::<ExecBody>());
            let body = ExecBody { filename: self.record.text(filename, PATH), ..ExecBody::default() };
            self.counts.records += 1;
            tell(Item::Record { number: call.number, bytes: self.record.finish(&header, &body) });
            return;
        }
        let told = number(arguments.u64(Role::Pid));
        let pid = if told == 0 { call.pid } else { told };
        let call = &Call { pid, ..*call };
        self.state.add_thread(call.event.tid, pid);
        let (cgroup, new) = match arguments.bytes(Role::Cgroups) {
            Some(paths) => self.state.cgroup(paths),
            None => (self.state.process(pid).cgroup, None),
        };
        self.tell_cgroup(new, tell);
        let ppid = match number(arguments.u64(Role::Ptid)) {
            0 => self.state.process(pid).ppid,
            ptid => self.state.known_pid(ptid),
        };
        let parent_start = self.state.processes.get(&ppid).map_or(0, |parent| parent.start);
        let process = self.state.process(pid);
        process.cgroup = cgroup;
        process.ppid = ppid;
        // All other threads are gone.
        (process.others, process.leaderless) = (0, None);
        self.exec_changes(call);
        self.tell_exec(kind, call, filename, parent_start, tell);
    }

    /// What an exec changes of its process.
    fn exec_changes(&mut self, call: &Call<'_>) {
        let arguments = &call.arguments;
        let process = self.state.process(call.pid);
        let exe = arguments.text(Role::Exe);
        let comm = arguments.text(Role::Comm);
        // The oldest events do not tell the name: it is the file's.
        let file = if exe.is_empty() { arguments.text(Role::Filename) } else { exe };
        process.set_comm(if comm.is_empty() {
            file.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
        } else {
            comm
        });
        let cwd = arguments.text(Role::Cwd);
        if !cwd.is_empty() {
            process.set_cwd(cwd);
        }
        let take = |role, place: &mut u32| {
            if let Some(number) = arguments.signed(role) {
                *place = number as u32;
            }
        };
        take(Role::Uid, &mut process.uid);
        take(Role::Gid, &mut process.gid);
        take(Role::LoginUid, &mut process.loginuid);
        take(Role::Tty, &mut process.tty);
        take(Role::Vpgid, &mut process.vpgid);
        take(Role::Pgid, &mut process.pgid);
        let take = |role, place: &mut u64| *place = arguments.unsigned(role).unwrap_or(*place);
        take(Role::CapEffective, &mut process.cap_effective);
        take(Role::CapPermitted, &mut process.cap_permitted);
        take(Role::CapInheritable, &mut process.cap_inheritable);
        if process.descriptors.any_closes_on_exec() {
            Arc::make_mut(&mut process.descriptors).exec();
        }
    }

    fn tell_exec(&mut self, kind: EventKind, call: &Call<'_>, filename: &[u8], parent_start: u64, tell: Tell<'_>) {
        let arguments = &call.arguments;
        let process = self.state.process(call.pid);
        let (exe, args) = (arguments.text(Role::Exe), arguments.bytes(Role::Args).unwrap_or_default());
        let env = arguments.bytes(Role::Env).unwrap_or_default();
        self.record.begin(size_of::<ExecBody>());
        let mut body = ExecBody {
            parent_start,
            cap_effective: process.cap_effective,
            cap_permitted: process.cap_permitted,
            cap_inheritable: process.cap_inheritable,
            ino: arguments.u64(Role::Ino),
            ctime: arguments.u64(Role::Ctime),
            mtime: arguments.u64(Role::Mtime),
            ppid: process.ppid,
            vpid: process.vpid,
            pgid: process.pgid,
            sid: process.sid,
            vpgid: process.vpgid,
            tty: process.tty,
            loginuid: process.loginuid,
            ..ExecBody::default()
        };
        let file = arguments.u32(Role::ExeFlags);
        for (theirs, ours) in [
            (flags::EXE_WRITABLE, attr::WRITABLE),
            (flags::EXE_UPPER, attr::UPPER),
            (flags::EXE_LOWER, attr::LOWER),
            (flags::EXE_MEMFD, attr::MEMFD),
        ] {
            body.attrs |= if file & theirs != 0 { ours } else { 0 };
        }
        body.attrs |= if exe.len() + 1 + args.len() > ARGS { attr::ARGS_TRUNCATED } else { 0 };
        body.attrs |= if env.len() > ARGS { attr::ENV_TRUNCATED } else { 0 };
        // The newest events have the path as the kernel resolved it; with the others it is the one that was called.
        let resolved = arguments.text(Role::ExePath);
        self.path.clear();
        if resolved.is_empty() {
            let called = if filename.is_empty() { exe } else { filename };
            if called.contains(&b'/') {
                let base = match arguments.row.place(Role::Dirfd) {
                    Some(_) if arguments.dirfd(Role::Dirfd) >= 0 => {
                        process.descriptors.name(arguments.dirfd(Role::Dirfd))
                    }
                    _ => process.cwd.as_slice(),
                };
                absolute(base, called, &mut self.path);
            }
        } else {
            self.path.extend_from_slice(resolved);
        }
        body.exepath = self.record.text(&self.path, PATH);
        body.filename = self.record.text(filename, PATH);
        body.cwd = self.record.text(&process.cwd, PATH);
        body.args =
            if exe.is_empty() && args.is_empty() { body.args } else { self.record.joined([exe, b"\0", args], ARGS) };
        body.env = self.record.text(env, ARGS);
        let header = call.header(kind, process);
        self.counts.records += 1;
        tell(Item::Record { number: call.number, bytes: self.record.finish(&header, &body) });
    }

    /// Captures tell the end of every thread; a process ends with its last.
    pub(super) fn exit(&mut self, call: &Call<'_>, tell: Tell<'_>) {
        let (tid, pid) = (call.event.tid, call.pid);
        let code = call.arguments.u32(Role::A0);
        self.state.remove_thread(tid);
        let process = self.state.process(pid);
        if tid == pid {
            if process.others > 0 {
                process.leaderless = Some(code);
                return;
            }
        } else {
            process.others = process.others.saturating_sub(1);
            if process.others > 0 || process.leaderless.is_none() {
                return;
            }
        }
        let code = process.leaderless.unwrap_or(code);
        let header = call.header(EventKind::Procexit, process);
        self.state.end(pid);
        self.record.begin(size_of::<ExitBody>());
        self.counts.records += 1;
        let bytes = self.record.finish(&header, &ExitBody { code, pad: 0 });
        tell(Item::Record { number: call.number, bytes });
    }
}
