//! Who the numbers are: processes as `/proc` showed them last, and the records made of that and of the files that they opened.

use std::path::{Path, PathBuf};

use hashbrown::HashMap;
use tw_model::event::EventKind;
use tw_model::raw::{
    CAPS_UNKNOWN, COMM, CallBody, Encoder, ExecBody, ExitBody, F_PRESUMED, FileBody, ForkBody, Header, Str, to_words,
};

use super::files::Opened;
use super::message::{Numbers, Word};
use crate::clock;
use crate::facts::{self, Cred, Stat, Status};
use crate::resources::group::Hierarchies;

/// Processes remembered; all are forgotten when there are more, and read anew.
const MAX_PROCESSES: usize = 65_536;
/// Processes that ended and are remembered: files that they opened may be told later. All are forgotten when there are more.
const MAX_ENDED: usize = 8192;
/// `PTRACE_ATTACH`.
const ATTACH: u64 = 16;
/// An argument that leaves things as they are.
const UNCHANGED: u64 = u32::MAX as u64;
/// The root cgroup.
const ROOT_CGROUP: u64 = 1;

/// A process as it was last seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Person {
    start: u64,
    cred: Cred,
    comm: [u8; COMM],
    cgroup: u64,
    /// Its number in its own pid namespace.
    vpid: u32,
    /// Its root directory as we name it; empty for that of its mount namespace.
    root: Vec<u8>,
}

/// A record, and whether the program that it tells of could not be looked at.
pub(super) struct Told {
    pub(super) kind: EventKind,
    pub(super) words: Vec<u64>,
    pub(super) unseen: bool,
    pub(super) cgroup: u64,
    /// Of an execution: in which mount namespace; 0 where that is not known.
    pub(super) mounts: u32,
    /// Of an execution: the process's number, and what it was before.
    pub(super) before: Option<(u32, Box<Person>)>,
}

/// Everybody known.
#[derive(Default)]
pub(super) struct People {
    pub(super) numbers: Numbers,
    known: HashMap<u32, Person, foldhash::fast::RandomState>,
    ended: HashMap<u32, Person, foldhash::fast::RandomState>,
    /// Where the unified hierarchy of cgroups is.
    mount: Option<Option<PathBuf>>,
}

impl People {
    /// The record of what was said.
    pub(super) fn record(&mut self, word: Word) -> Option<Told> {
        match word {
            Word::Answer(_) => None,
            Word::Fork { parent, child, at } => Some(self.fork(parent, child, at)),
            Word::Exec { pid, at } => Some(self.exec(pid, at)),
            Word::Users { pid, tid, groups, real, effective, at } => {
                let kind = if groups { EventKind::Setresgid } else { EventKind::Setresuid };
                let status = Status::read(tid);
                let person = self.person(pid);
                person.cred = status.map_or(person.cred, |status| status.cred);
                *(if groups { &mut person.cred.gid } else { &mut person.cred.uid }) = effective;
                let args = [u64::from(real), u64::from(effective), UNCHANGED, 0, 0, 0];
                Some(self.call(kind, pid, tid, at, args))
            }
            Word::Trace { pid, tracer, at } => {
                Some(self.call(EventKind::Ptrace, tracer, tracer, at, [ATTACH, u64::from(pid), 0, 0, 0, 0]))
            }
            Word::Exit { pid, code, at } => {
                let header = self.header(EventKind::Procexit, pid, pid, 0, at);
                if let Some(person) = self.known.remove(&pid) {
                    if self.ended.len() >= MAX_ENDED {
                        self.ended.clear();
                    }
                    self.ended.insert(pid, person);
                }
                let body = ExitBody { code, ..ExitBody::default() };
                Some(told(EventKind::Procexit, &header, &Encoder::new(&header, size_of::<ExitBody>()).finish(&body)))
            }
        }
    }

    fn fork(&mut self, parent: u32, child: u32, at: u64) -> Told {
        let mut person = self.person(parent).clone();
        let parent_start = person.start;
        // One that has ended already can only be dated by when the kernel said so.
        person.start = Stat::read(child).map_or_else(|| boot_time(at), |stat| stat.start_ns);
        let vpid = Status::read(child).map_or(child, |status| status.vpid);
        person.vpid = vpid;
        let body = ForkBody {
            child_start: person.start,
            parent_start,
            child_pid: child,
            parent_pid: parent,
            child_vpid: vpid,
            ..ForkBody::default()
        };
        self.remember(child, person);
        let header = self.header(EventKind::Clone, parent, parent, i64::from(child), at);
        told(EventKind::Clone, &header, &Encoder::new(&header, size_of::<ForkBody>()).finish(&body))
    }

    fn exec(&mut self, pid: u32, at: u64) -> Told {
        // What goes first is gone first: the arguments are read before anything else.
        let header = Header { kind: EventKind::Execve as u16, ..Header::default() };
        let mut out = Encoder::new(&header, size_of::<ExecBody>());
        let (mut body, cred) = facts::exec(&mut out, pid, b"", None);
        let root = facts::root(pid);
        // As the kernel half has it: without a name of its own the file is what was called.
        body.filename = body.exepath;
        let unseen = body.args.len == 0 && body.ino == 0;
        let (cgroup, name) = self.cgroup(pid);
        body.cgroup_name = out.text(name.as_bytes());
        let person = self.person(pid);
        let before = Some((pid, Box::new(person.clone())));
        if !unseen {
            (person.cred, person.root, person.vpid) = (cred, root, body.vpid);
        }
        let comm = facts::comm(pid);
        if comm[0] != 0 {
            person.comm = comm;
        }
        if let Some(cgroup) = cgroup {
            person.cgroup = cgroup;
        }
        let header = self.header(EventKind::Execve, pid, pid, 0, at);
        out.set_header(&header);
        Told { unseen, mounts: body.ns_mnt, before, ..told(EventKind::Execve, &header, &out.finish(&body)) }
    }

    /// The record of a file that was opened, and in which cgroup. How it was opened is known only of one that was opened for
    /// writing; the number that it got, and what the caller wrote, are not. None of what a process looks at of itself.
    /// `before` is the process as it was then, if it runs another program since.
    pub(super) fn opened(&mut self, file: &Opened, before: Option<&Person>) -> Option<Told> {
        let person = match before {
            Some(before) => before,
            None => self.person_or_ended(file.pid),
        };
        let header = Header {
            kind: EventKind::Openat as u16,
            flags: F_PRESUMED,
            time: file.time,
            ..of_person(person, file.pid)
        };
        let mut out = Encoder::new(&header, size_of::<FileBody>());
        let path = facts::inside(&person.root, file.node.named(&file.path));
        if is_own(path, person.vpid) {
            return None;
        }
        let body = FileBody {
            ino: file.node.ino,
            dev: file.node.dev,
            attrs: file.node.attrs(&file.path),
            fd: -1,
            dirfd: libc::AT_FDCWD,
            dirfd2: libc::AT_FDCWD,
            flags: file.flags,
            root: if path.len() < file.path.len() { out.text(&person.root) } else { Str::default() },
            path: out.text(path),
            ..FileBody::default()
        };
        Some(told(EventKind::Openat, &header, &out.finish(&body)))
    }

    /// The cgroup of a process.
    pub(super) fn cgroup_of(&mut self, pid: u32) -> u64 {
        self.person_or_ended(pid).cgroup
    }

    fn person_or_ended(&mut self, pid: u32) -> &Person {
        if self.known.contains_key(&pid) || !self.ended.contains_key(&pid) {
            return self.person(pid);
        }
        self.ended.entry(pid).or_default()
    }

    fn call(&mut self, kind: EventKind, pid: u32, tid: u32, at: u64, args: [u64; 6]) -> Told {
        let header = self.header(kind, pid, tid, 0, at);
        let cred = self.person(pid).cred;
        let body = CallBody {
            args,
            cap_effective: cred.cap_effective,
            cap_permitted: cred.cap_permitted,
            cap_inheritable: cred.cap_inheritable,
            ..CallBody::default()
        };
        told(kind, &header, &Encoder::new(&header, size_of::<CallBody>()).finish(&body))
    }

    fn header(&mut self, kind: EventKind, pid: u32, tid: u32, ret: i64, at: u64) -> Header {
        let person = self.person(pid);
        Header { kind: kind as u16, time: boot_time(at), tid, ret, ..of_person(person, pid) }
    }

    /// What is known of a process; read now if nothing is.
    fn person(&mut self, pid: u32) -> &mut Person {
        if !self.known.contains_key(&pid) {
            let status = Status::read(pid).unwrap_or_default();
            let person = Person {
                start: facts::start_of(pid),
                vpid: status.vpid,
                cred: status.cred,
                comm: facts::comm(pid),
                cgroup: self.cgroup(pid).0.unwrap_or(ROOT_CGROUP),
                root: facts::root(pid),
            };
            self.remember(pid, person);
        }
        self.known.entry(pid).or_default()
    }

    fn remember(&mut self, pid: u32, person: Person) {
        if self.known.len() >= MAX_PROCESSES {
            self.known.clear();
        }
        self.ended.remove(&pid);
        self.known.insert(pid, person);
    }

    /// The cgroup of a process in the unified hierarchy: the number that the kernel half tells, and the last part of its
    /// path.
    fn cgroup(&mut self, pid: u32) -> (Option<u64>, String) {
        let find = || Hierarchies::read(Path::new("/proc")).unified().map(Path::to_owned);
        let mount = self.mount.get_or_insert_with(find).as_deref();
        let Some((text, _)) = facts::read(&format!("/proc/{pid}/cgroup"), 16_384) else { return (None, String::new()) };
        let text = String::from_utf8_lossy(&text);
        let Some(path) = text.lines().find_map(|line| line.strip_prefix("0::")) else { return (None, String::new()) };
        // A `..` shows a cgroup outside our own namespace: no folder of ours has that name.
        if path.split('/').any(|part| part == "..") {
            return (None, String::new());
        }
        let folder = mount.map(|mount| mount.join(path.trim_start_matches('/')));
        let number = folder.and_then(|folder| rustix::fs::stat(folder).ok()).map(|stat| stat.st_ino);
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        (if path == "/" { Some(ROOT_CGROUP) } else { number }, name)
    }
}

/// Whether a path is one below `/proc/self`, which leads to the process's own number.
fn is_own(path: &[u8], vpid: u32) -> bool {
    let number = path.strip_prefix(b"/proc/").and_then(|rest| rest.split(|byte| *byte == b'/').next());
    let number = number.and_then(|number| std::str::from_utf8(number).ok()?.parse::<u32>().ok());
    number.is_some_and(|number| number == vpid)
}

fn of_person(person: &Person, pid: u32) -> Header {
    Header {
        start: person.start,
        cgroup: person.cgroup,
        pid,
        tid: pid,
        uid: person.cred.uid,
        gid: person.cred.gid,
        // What is known of capabilities is in the bodies.
        caps: CAPS_UNKNOWN,
        comm: person.comm,
        ..Header::default()
    }
}

fn told(kind: EventKind, header: &Header, bytes: &[u8]) -> Told {
    Told { kind, words: to_words(bytes), unseen: false, cgroup: header.cgroup, mounts: 0, before: None }
}

/// The kernel's time of an event, which leaves out the time asleep, as nanoseconds since boot.
fn boot_time(at: u64) -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
    clock::boot_ns().saturating_sub(now.saturating_sub(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_looks_at_of_itself_is_told_apart() {
        for (path, own) in [
            ("/proc/7/environ", true),
            ("/proc/7", true),
            ("/proc/71/environ", false),
            ("/proc/1/environ", false),
            ("/proc/sys/kernel/core_pattern", false),
            ("/host/proc/7/environ", false),
            ("", false),
        ] {
            assert_eq!(is_own(path.as_bytes(), 7), own, "{path}");
        }
    }
}
