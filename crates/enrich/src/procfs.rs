//! Processes that started before we looked, read from `/proc`.
//!
//! Everything about one process is read relative to one handle of its folder, so that a number that is
//! reused half-way gives an error and never a mixture of two processes.
//!
//! Paths: `/proc/PID/exe` and `/proc/PID/cwd` print a path relative to the root of the *mount namespace* of
//! the file, unless our own root lies above it. Found by experiment (kernel 6.18, Docker): for a container
//! process they read `/bin/busybox` and `/tmp`, nothing of the host's overlay folder, although
//! `/proc/PID/root` reads `/`, as for a host process. For a process that called chroot, in a container or on
//! the host, they keep the chroot's path in front (`/tmp/c/bin/busybox`, root `/tmp/c`). Both are the path as the
//! process's own mount namespace names it, which is what [`Process`] asks for and what the kernel side
//! computes by walking dentries and mounts: so nothing is added and nothing is stripped, not even the
//! ` (deleted)` that the kernel appends for an unlinked file.
//!
//! **Never:** more than a bounded number of bytes of anything that the process can shape.

use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use tw_model::process::{Credentials, ExeFile, Image, Namespaces, TICK_NS};
use tw_model::{ProcKey, Process};

use crate::cgroup::find_mount;

/// Names of the environment variables that are kept; all others are dropped unread.
pub const ENV_NAMES: [&str; 20] = [
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "LD_AUDIT",
    "GLIBC_TUNABLES",
    "PATH",
    "HOME",
    "USER",
    "SHELL",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "KUBERNETES_SERVICE_HOST",
    "HISTFILE",
    "PYTHONPATH",
    "NODE_OPTIONS",
    "JAVA_TOOL_OPTIONS",
    "SSH_CONNECTION",
    "SSH_CLIENT",
    "SUDO_USER",
    "SUDO_COMMAND",
    "CONTAINER_ID",
];

/// Most bytes of argv kept.
pub const MAX_ARGV: usize = 4_096;
/// Most bytes of the environment looked at.
pub const MAX_ENVIRON: usize = 65_536;
/// Most processes that [`Procfs::read_all`] returns.
pub const MAX_PROCESSES: usize = 262_144;

/// Most bytes taken from any other file.
const MAX_FILE: usize = 16_384;
/// `CAP_DAC_OVERRIDE`: may write any file.
const CAP_DAC_OVERRIDE: u64 = 1 << 1;

/// Keeps the `NAME=value` elements of a NUL-separated block whose name is in [`ENV_NAMES`], each ended by
/// NUL. The result is never more than one byte longer than the block.
pub fn keep_env(block: &[u8]) -> Vec<u8> {
    // As much as most processes have of these.
    let mut kept = Vec::with_capacity(block.len().min(256));
    let mut rest = block;
    while !rest.is_empty() {
        let (element, behind) = rest.split_at(memchr::memchr(0, rest).unwrap_or(rest.len()));
        rest = behind.get(1..).unwrap_or_default();
        let is_of = |name: &&str| element.get(name.len()) == Some(&b'=') && element.starts_with(name.as_bytes());
        if element.first().is_some_and(|first| ENV_INITIALS >> (first & 127) & 1 != 0) && ENV_NAMES.iter().any(is_of) {
            kept.extend_from_slice(element);
            kept.push(0);
        }
    }
    kept
}

/// The letters that the names in [`ENV_NAMES`] begin with, as bits.
const ENV_INITIALS: u128 = {
    let (mut initials, mut at) = (0, 0);
    while at < ENV_NAMES.len() {
        initials |= 1 << ENV_NAMES[at].as_bytes()[0];
        at += 1;
    }
    initials
};

/// Reads one process. Prefer [`Procfs`] for more than one: it looks for the cgroup mount only once.
///
/// # Errors
/// `NotFound` or `ESRCH` when there is no such process (any more), `InvalidData` when its `stat` makes no sense.
pub fn read_process(proc_root: &Path, pid: u32) -> io::Result<Process> {
    Procfs::new(proc_root).read(pid)
}

/// Reads all processes, parents before children; see [`Procfs::read_all`].
pub fn read_all(proc_root: &Path) -> Vec<Process> {
    Procfs::new(proc_root).read_all()
}

/// A `/proc` tree and the cgroup hierarchy that belongs to it.
#[derive(Clone, Debug)]
pub struct Procfs {
    root: PathBuf,
    cgroup_mount: Option<PathBuf>,
}

impl Procfs {
    /// Uses the tree at `proc_root`, as a rule `/proc`.
    pub fn new(proc_root: &Path) -> Self {
        Self { root: proc_root.into(), cgroup_mount: find_mount(proc_root) }
    }

    /// Reads one process. Of a field whose source cannot be read, the value is empty or 0.
    ///
    /// The parent's start time is known to the clock tick, like the process's own. Names of users are left
    /// empty: they are [`crate::UserDb`]'s.
    ///
    /// # Errors
    /// `NotFound` or `ESRCH` when there is no such process (any more), `InvalidData` when its `stat` or
    /// `status` makes no sense.
    pub fn read(&self, pid: u32) -> io::Result<Process> {
        let (mut process, stat) = self.read_without_parent(pid)?;
        let parent = self.open(stat.ppid).and_then(|folder| Stat::read(&folder));
        process.parent = parent.ok().and_then(|parent| key_of_parent(&process, stat.ppid, parent.start_ns));
        Ok(process)
    }

    /// Reads all processes that can be read, parents before children, kernel threads too. Those that vanish
    /// meanwhile are skipped, and so are zombies: they have ended already, and no event will say so again.
    pub fn read_all(&self) -> Vec<Process> {
        let Ok(entries) = std::fs::read_dir(&self.root) else { return Vec::new() };
        let mut found: Vec<(Process, u32)> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(|pid| self.read_without_parent(pid).ok())
            .filter(|(_, stat)| !stat.ended())
            .map(|(process, stat)| (process, stat.ppid))
            .take(MAX_PROCESSES)
            .collect();
        let starts: HashMap<u32, u64> =
            found.iter().map(|(process, _)| (process.key.pid, process.key.start_ns)).collect();
        for (process, ppid) in &mut found {
            process.parent = starts.get(ppid).and_then(|start| key_of_parent(process, *ppid, *start));
        }
        parents_first(found.into_iter().map(|(process, _)| process).collect())
    }

    /// Path of the process's cgroup in the unified hierarchy; `None` if it has none.
    ///
    /// # Errors
    /// `NotFound` or `ESRCH` when there is no such process (any more).
    pub fn cgroup_path(&self, pid: u32) -> io::Result<Option<String>> {
        Ok(cgroup_path(&self.open(pid)?))
    }

    fn open(&self, pid: u32) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::open(self.root.join(pid.to_string()), flags, Mode::empty())?)
    }

    fn read_without_parent(&self, pid: u32) -> io::Result<(Process, Stat)> {
        let folder = self.open(pid)?;
        let stat = Stat::read(&folder)?;
        let status = Status::read(&folder)?;
        let mut cred = status.cred;
        cred.loginuid = read_bounded(&folder, "loginuid", 32).ok().and_then(|t| number(&t.0)).unwrap_or(u32::MAX);
        let mut process = Process {
            key: ProcKey { start_ns: stat.start_ns, pid },
            comm: stat.comm.as_slice().into(),
            image: Arc::new(read_image(&folder, &cred)),
            cwd: link(&folder, "cwd").into(),
            tty: stat.tty,
            sid: stat.sid,
            pgid: stat.pgid,
            vpid: status.vpid,
            vpgid: status.vpgid,
            ns: namespaces(&folder),
            cgroup_id: cgroup_path(&folder).map_or(0, |path| self.cgroup_id(&path)),
            inferred: true,
            cred,
            ..Process::default()
        };
        process.rebuild_cmdline();
        Ok((process, stat))
    }

    /// Inode number of the cgroup's folder, 0 if it cannot be found.
    fn cgroup_id(&self, path: &str) -> u64 {
        // A `..` shows a cgroup outside our own cgroup namespace: no folder of ours has that name.
        let Some(mount) = self.cgroup_mount.as_ref().filter(|_| !path.split('/').any(|part| part == "..")) else {
            return 0;
        };
        let folder = mount.join(path.trim_start_matches('/'));
        rustix::fs::stat(&folder).map_or(0, |stat| stat.st_ino)
    }
}

/// The parent's key, unless the parent is younger: then its number was reused between two reads.
fn key_of_parent(process: &Process, pid: u32, start_ns: u64) -> Option<ProcKey> {
    (pid != 0 && start_ns <= process.key.start_ns).then_some(ProcKey { start_ns, pid })
}

/// Orders so that each process comes behind its parent, wherever the parent is among them.
fn parents_first(mut processes: Vec<Process>) -> Vec<Process> {
    // A parent is at least as old as its child, but both may be of the same tick, in any order of numbers.
    processes.sort_by_key(|process| process.key);
    let keys: HashSet<ProcKey> = processes.iter().map(|process| process.key).collect();
    let mut done: HashSet<ProcKey> = HashSet::with_capacity(keys.len());
    let mut ordered = Vec::with_capacity(processes.len());
    while !processes.is_empty() {
        let before = processes.len();
        let mut waiting = Vec::new();
        for process in processes {
            if process.parent.is_some_and(|parent| keys.contains(&parent) && !done.contains(&parent)) {
                waiting.push(process);
            } else {
                done.insert(process.key);
                ordered.push(process);
            }
        }
        if waiting.len() == before {
            ordered.append(&mut waiting); // A circle: only a made-up tree has one.
        }
        processes = waiting;
    }
    ordered
}

/// What we take from `/proc/PID/stat`.
#[derive(Debug)]
struct Stat {
    comm: Vec<u8>,
    state: u8,
    ppid: u32,
    pgid: u32,
    sid: u32,
    tty: u32,
    threads: u32,
    start_ns: u64,
}

impl Stat {
    fn read(folder: &OwnedFd) -> io::Result<Self> {
        let (text, _) = read_bounded(folder, "stat", MAX_FILE)?;
        Self::parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unreadable stat"))
    }

    fn parse(text: &[u8]) -> Option<Self> {
        // The name may hold blanks and parentheses; only the last `)` of the line ends it.
        let open = text.iter().position(|byte| *byte == b'(')?;
        let close = text.iter().rposition(|byte| *byte == b')').filter(|close| *close > open)?;
        let rest: Vec<&[u8]> = text[close + 1..].split(u8::is_ascii_whitespace).filter(|f| !f.is_empty()).collect();
        let field = |n: usize| rest.get(n - 3).and_then(|field| std::str::from_utf8(field).ok());
        Some(Self {
            comm: text[open + 1..close].to_vec(),
            state: *field(3)?.as_bytes().first()?,
            ppid: field(4)?.parse().ok()?,
            pgid: field(5)?.parse().unwrap_or(0),
            sid: field(6)?.parse().unwrap_or(0),
            tty: field(7)?.parse::<i32>().unwrap_or(0).cast_unsigned(),
            threads: field(20)?.parse().unwrap_or(1),
            start_ns: field(22)?.parse::<u64>().ok()?.checked_mul(TICK_NS)?,
        })
    }

    /// A zombie or dead, with no thread that lives on behind its leader.
    fn ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x') && self.threads <= 1
    }
}

/// What we take from `/proc/PID/status`.
#[derive(Debug, Default)]
struct Status {
    cred: Credentials,
    vpid: u32,
    vpgid: u32,
}

impl Status {
    fn read(folder: &OwnedFd) -> io::Result<Self> {
        let (text, _) = read_bounded(folder, "status", MAX_FILE)?;
        Self::parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unreadable status"))
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let mut status = Self::default();
        let (mut uid, mut gid) = (None, None);
        for line in text.split(|byte| *byte == b'\n') {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let value = std::str::from_utf8(&line[colon + 1..]).unwrap_or_default();
            let nth = |n| value.split_ascii_whitespace().nth(n).and_then(|number: &str| number.parse().ok());
            let last = || value.split_ascii_whitespace().last().and_then(|number| number.parse().ok()).unwrap_or(0);
            let mask = || u64::from_str_radix(value.trim(), 16).unwrap_or(0);
            match &line[..colon] {
                // The kernel escapes line ends in `Name`, so a process cannot forge a later line.
                b"Uid" => uid = nth(1),
                b"Gid" => gid = nth(1),
                b"NSpid" => status.vpid = last(),
                b"NSpgid" => status.vpgid = last(),
                b"CapInh" => status.cred.cap_inheritable = mask(),
                b"CapPrm" => status.cred.cap_permitted = mask(),
                b"CapEff" => status.cred.cap_effective = mask(),
                _ => {}
            }
        }
        (status.cred.uid, status.cred.gid) = (uid?, gid?);
        Some(status)
    }
}

fn read_image(folder: &OwnedFd, cred: &Credentials) -> Image {
    let (argv, argv_truncated) = read_bounded(folder, "cmdline", MAX_ARGV).unwrap_or_default();
    let (environ, _) = read_bounded(folder, "environ", MAX_ENVIRON).unwrap_or_default();
    let exepath = link(folder, "exe");
    let file = exe_file(folder, &exepath, cred);
    Image { exepath: exepath.into(), argv_truncated, env: keep_env(&environ).into(), file, ..Image::from_argv(&argv) }
}

/// Facts about the executable. Layers of an overlay cannot be told apart from here; both flags stay false.
fn exe_file(folder: &OwnedFd, exepath: &[u8], cred: &Credentials) -> ExeFile {
    // Without a synchronisation of attributes: the file may lie on a file system that the container serves.
    let flags = AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let Ok(stat) = rustix::fs::statx(folder, "exe", flags, StatxFlags::BASIC_STATS) else {
        return ExeFile::default();
    };
    let nanoseconds = |seconds: i64, rest: u32| {
        u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(u64::from(rest))
    };
    let mode = u32::from(stat.stx_mode);
    let bit = if cred.uid == stat.stx_uid {
        0o200
    } else if cred.gid == stat.stx_gid {
        0o020
    } else {
        0o002
    };
    ExeFile {
        ino: stat.stx_ino,
        dev: stat.stx_dev_major << 20 | (stat.stx_dev_minor & 0xf_ffff),
        mode,
        ctime_ns: nanoseconds(stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        mtime_ns: nanoseconds(stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        memfd: exepath.starts_with(b"/memfd:") && stat.stx_nlink == 0,
        writable: mode & bit != 0 || cred.cap_effective & CAP_DAC_OVERRIDE != 0,
        ..ExeFile::default()
    }
}

fn namespaces(folder: &OwnedFd) -> Namespaces {
    let ns = |name: &str| {
        // `mnt:[4026531841]`
        let text = link(folder, &format!("ns/{name}"));
        let digits = text.strip_suffix(b"]").and_then(|text| text.rsplit(|byte| *byte == b'[').next());
        digits.and_then(number).unwrap_or(0)
    };
    let pid = match ns("pid_for_children") {
        0 => ns("pid"), // Made, but without a first process yet.
        inode => inode,
    };
    Namespaces {
        mnt: ns("mnt"),
        pid,
        net: ns("net"),
        user: ns("user"),
        uts: ns("uts"),
        ipc: ns("ipc"),
        cgroup: ns("cgroup"),
    }
}

/// Path in the unified hierarchy: the line `0::/path`.
fn cgroup_path(folder: &OwnedFd) -> Option<String> {
    let (text, truncated) = read_bounded(folder, "cgroup", MAX_FILE).ok()?;
    let line = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
    // Cut off or removed meanwhile: half a name is worse than none.
    if (truncated && text.ends_with(line)) || line.ends_with(b" (deleted)") {
        return None;
    }
    String::from_utf8(line.to_vec()).ok()
}

fn link(folder: &OwnedFd, name: &str) -> Vec<u8> {
    rustix::fs::readlinkat(folder, name, Vec::new()).map(CString::into_bytes).unwrap_or_default()
}

/// At most `limit` bytes of a file, and whether there were more.
fn read_bounded(folder: &OwnedFd, name: &str, limit: usize) -> io::Result<(Vec<u8>, bool)> {
    let file = rustix::fs::openat(folder, name, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())?;
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(limit as u64 + 1).read_to_end(&mut bytes)?;
    let more = bytes.len() > limit;
    bytes.truncate(limit);
    Ok((bytes, more))
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

#[cfg(test)]
#[path = "procfs_tests.rs"]
mod tests;
