//! What `/proc` says of a process, for sensors without a kernel half. Everything read is the container's or the
//! command's word as much as the kernel's: reads are bounded, and what cannot be read is left empty.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;

use rustix::fs::{AtFlags, StatxFlags};
use tw_model::process::TICK_NS;
use tw_model::raw::{COMM, Encoder, ExecBody, attr};

/// Most bytes of argv and of the environment in a record, as in the kernel half.
const MAX_ARGS: usize = 4096;
/// Longest path.
pub(crate) const MAX_PATH: usize = 4096;
/// Most bytes taken from any other file.
const MAX_FILE: usize = 16_384;
/// `CAP_DAC_OVERRIDE`: may write any file.
const CAP_DAC_OVERRIDE: u64 = 1 << 1;

/// A process's credentials as calls leave them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cred {
    /// Effective user and group.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) cap_effective: u64,
    pub(crate) cap_permitted: u64,
    pub(crate) cap_inheritable: u64,
}

/// What is taken from `/proc/PID/status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// The process that the thread belongs to.
    pub(crate) tgid: u32,
    pub(crate) ppid: u32,
    pub(crate) vpid: u32,
    pub(crate) vpgid: u32,
    pub(crate) cred: Cred,
}

/// What is taken from `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) ppid: u32,
    pub(crate) pgid: u32,
    pub(crate) sid: u32,
    pub(crate) tty: u32,
    /// Nanoseconds since boot, to the clock tick.
    pub(crate) start_ns: u64,
}

impl Status {
    pub(crate) fn read(pid: u32) -> Option<Self> {
        Self::parse(&read(&format!("/proc/{pid}/status"), MAX_FILE)?.0)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let mut status = Self::default();
        let mut known = false;
        for line in text.split(|byte| *byte == b'\n') {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let value = std::str::from_utf8(&line[colon + 1..]).unwrap_or_default();
            let nth = |n| value.split_ascii_whitespace().nth(n).and_then(|word| word.parse().ok()).unwrap_or(0);
            let last = || value.split_ascii_whitespace().last().and_then(|word| word.parse().ok()).unwrap_or(0);
            let mask = || u64::from_str_radix(value.trim(), 16).unwrap_or(0);
            // The kernel escapes line ends in `Name`, so a process cannot forge a later line.
            match &line[..colon] {
                b"Tgid" => (status.tgid, known) = (nth(0), true),
                b"PPid" => status.ppid = nth(0),
                b"Uid" => status.cred.uid = nth(1),
                b"Gid" => status.cred.gid = nth(1),
                b"NSpid" => status.vpid = last(),
                b"NSpgid" => status.vpgid = last(),
                b"CapInh" => status.cred.cap_inheritable = mask(),
                b"CapPrm" => status.cred.cap_permitted = mask(),
                b"CapEff" => status.cred.cap_effective = mask(),
                _ => {}
            }
        }
        known.then_some(status)
    }
}

impl Stat {
    pub(crate) fn read(pid: u32) -> Option<Self> {
        Self::parse(&read(&format!("/proc/{pid}/stat"), MAX_FILE)?.0)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        // The name may hold blanks and parentheses; only the last `)` of the line ends it.
        let close = text.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(&text[close + 1..]).ok()?;
        let words: Vec<&str> = rest.split_ascii_whitespace().collect();
        // Numbered as in proc(5); the third is the first behind the name.
        let field = |n: usize| words.get(n - 3).copied();
        let number = |n: usize| field(n).and_then(|word| word.parse().ok()).unwrap_or(0);
        Some(Self {
            ppid: number(4),
            pgid: number(5),
            sid: number(6),
            tty: field(7)?.parse::<i32>().unwrap_or(0).cast_unsigned(),
            start_ns: field(22)?.parse::<u64>().ok()?.checked_mul(TICK_NS)?,
        })
    }
}

/// At most `limit` bytes of a file, and whether there were more.
pub(crate) fn read(path: &str, limit: usize) -> Option<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(limit as u64 + 1).read_to_end(&mut bytes).ok()?;
    let more = bytes.len() > limit;
    bytes.truncate(limit);
    Some((bytes, more))
}

/// Where a link of `/proc` leads; empty if it cannot be read.
pub(crate) fn link(path: &str) -> Vec<u8> {
    std::fs::read_link(path).map(|target| target.into_os_string().into_vec()).unwrap_or_default()
}

/// Name of a thread, padded with NUL.
pub(crate) fn comm(tid: u32) -> [u8; COMM] {
    let mut comm = [0; COMM];
    if let Some((name, _)) = read(&format!("/proc/{tid}/comm"), COMM) {
        let name = name.strip_suffix(b"\n").unwrap_or(&name);
        let len = name.len().min(COMM - 1);
        comm[..len].copy_from_slice(&name[..len]);
    }
    comm
}

/// The root directory of a thread as we name it; empty for our own root.
pub(crate) fn root(tid: u32) -> Vec<u8> {
    let root = link(&format!("/proc/{tid}/root"));
    if root == b"/" { Vec::new() } else { root }
}

/// The number of a process's namespace.
pub(crate) fn namespace(pid: u32, name: &str) -> Option<u32> {
    // `mnt:[4026531841]`
    let text = link(&format!("/proc/{pid}/ns/{name}"));
    let digits = text.strip_suffix(b"]")?.rsplit(|byte| *byte == b'[').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A path as we name it, as a process with this root names it; as the kernel half tells files without a directory.
pub(crate) fn inside<'p>(root: &[u8], path: &'p [u8]) -> &'p [u8] {
    if path.starts_with(b"/memfd:") {
        return path[1..].strip_suffix(b" (deleted)").unwrap_or(&path[1..]);
    }
    match path.strip_prefix(root) {
        Some(rest) if !root.is_empty() && (rest.is_empty() || rest.starts_with(b"/")) => {
            if rest.is_empty() {
                b"/"
            } else {
                rest
            }
        }
        _ => path,
    }
}

/// What `statx` says of a file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Node {
    pub(crate) ino: u64,
    /// As the kernel's `s_dev`.
    pub(crate) dev: u32,
    pub(crate) mode: u32,
    /// The mount that it was found through; 0 where the kernel does not say.
    pub(crate) mount: u64,
    links: u32,
    uid: u32,
    gid: u32,
    ctime: u64,
    mtime: u64,
}

impl Node {
    /// Follows the link at `path`, which is one of `/proc` that leads to an open file.
    pub(crate) fn read(path: &str) -> Option<Self> {
        // Without a synchronisation of attributes: the file may lie on a file system that the process serves.
        let flags = AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
        let stat =
            rustix::fs::statx(rustix::fs::CWD, path, flags, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID).ok()?;
        let ns = |seconds: i64, rest: u32| {
            u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(u64::from(rest))
        };
        Some(Self {
            ino: stat.stx_ino,
            dev: stat.stx_dev_major << 20 | (stat.stx_dev_minor & 0xf_ffff),
            mode: u32::from(stat.stx_mode),
            mount: if stat.stx_mask & StatxFlags::MNT_ID.bits() == 0 { 0 } else { stat.stx_mnt_id },
            links: stat.stx_nlink,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            ctime: ns(stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
            mtime: ns(stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        })
    }

    /// Bits of [`attr`]; layers of an overlay do not show from here.
    pub(crate) fn attrs(&self, path: &[u8]) -> u32 {
        let kind = match self.mode & libc::S_IFMT {
            libc::S_IFDIR => attr::DIR,
            libc::S_IFREG => attr::REG,
            _ => 0,
        };
        match self.links {
            0 if path.starts_with(b"/memfd:") => kind | attr::MEMFD,
            0 if kind != 0 => kind | attr::DELETED,
            _ => kind,
        }
    }

    /// The path without the mark that the kernel puts behind the name of a file that was deleted.
    pub(crate) fn named<'p>(&self, path: &'p [u8]) -> &'p [u8] {
        if self.links == 0 { path.strip_suffix(b" (deleted)").unwrap_or(path) } else { path }
    }

    fn writable_by(&self, cred: &Cred) -> bool {
        let bit = if cred.uid == self.uid {
            0o200
        } else if cred.gid == self.gid {
            0o020
        } else {
            0o002
        };
        self.mode & bit != 0 || cred.cap_effective & CAP_DAC_OVERRIDE != 0
    }
}

/// Start of a process, nanoseconds since boot to the tick; 0 if it is gone.
pub(crate) fn start_of(pid: u32) -> u64 {
    if pid == 0 { 0 } else { Stat::read(pid).map_or(0, |stat| stat.start_ns) }
}

/// The body of an exec that happened, from what `/proc` says now, and the credentials of the process. `filename` is what
/// was given to the call, `known_root` the root directory of the process, if it is known.
pub(crate) fn exec(out: &mut Encoder, pid: u32, filename: &[u8], known_root: Option<&[u8]>) -> (ExecBody, Cred) {
    // What an end takes away comes first, should the process run on meanwhile.
    let (args, args_cut) = read(&format!("/proc/{pid}/cmdline"), MAX_ARGS).unwrap_or_default();
    let (env, env_cut) = read(&format!("/proc/{pid}/environ"), MAX_ARGS).unwrap_or_default();
    let exe = format!("/proc/{pid}/exe");
    let target = link(&exe);
    let node = Node::read(&exe).unwrap_or_default();
    let stat = Stat::read(pid).unwrap_or_default();
    let status = Status::read(pid).unwrap_or_default();
    let cred = &status.cred;
    let read_root;
    let root = match known_root {
        Some(root) => root,
        None => {
            read_root = self::root(pid);
            &read_root
        }
    };
    let ns = |name: &str| namespace(pid, name).unwrap_or(0);
    let loginuid = read(&format!("/proc/{pid}/loginuid"), 32);
    let loginuid = loginuid.and_then(|(text, _)| std::str::from_utf8(&text).ok()?.trim().parse().ok());
    let exepath = inside(root, node.named(&target));
    let mut attrs = node.attrs(&target);
    for (bit, is) in
        [(attr::WRITABLE, node.writable_by(cred)), (attr::ARGS_TRUNCATED, args_cut), (attr::ENV_TRUNCATED, env_cut)]
    {
        attrs |= if is { bit } else { 0 };
    }
    let cwd = link(&format!("/proc/{pid}/cwd"));
    let interp = interpreter(pid, filename, exepath, root);
    let body = ExecBody {
        parent_start: start_of(stat.ppid),
        cap_effective: cred.cap_effective,
        cap_permitted: cred.cap_permitted,
        cap_inheritable: cred.cap_inheritable,
        ino: node.ino,
        ctime: node.ctime,
        mtime: node.mtime,
        dev: node.dev,
        mode: node.mode,
        attrs,
        ppid: stat.ppid,
        vpid: status.vpid,
        pgid: stat.pgid,
        sid: stat.sid,
        vpgid: status.vpgid,
        tty: stat.tty,
        loginuid: loginuid.unwrap_or(u32::MAX),
        ns_mnt: ns("mnt"),
        ns_pid: ns("pid_for_children"),
        ns_net: ns("net"),
        ns_user: ns("user"),
        ns_uts: ns("uts"),
        ns_ipc: ns("ipc"),
        ns_cgroup: ns("cgroup"),
        exepath: out.text(exepath),
        filename: out.text(filename),
        interp: out.text(&interp),
        cwd: out.text(inside(root, &cwd)),
        args: out.text(&args),
        env: out.text(&env),
        ..ExecBody::default()
    };
    (body, status.cred)
}

/// The interpreter that a script names, as its first line says; empty if the file is no script. Only looked for where
/// what runs has another name than what was called: `argv[1]` of the new program is then the script, as the kernel puts
/// it there.
fn interpreter(pid: u32, filename: &[u8], exepath: &[u8], root: &[u8]) -> Vec<u8> {
    if filename.is_empty() || filename == exepath {
        return Vec::new();
    }
    let Some(head) = head_of(pid, filename, root) else { return Vec::new() };
    let Some(line) = head.strip_prefix(b"#!") else { return Vec::new() };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut words = line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
    words.next().unwrap_or_default().to_vec()
}

/// The first bytes of a file that a process names, found without leaving its root.
fn head_of(pid: u32, path: &[u8], root: &[u8]) -> Option<Vec<u8>> {
    let file = open_inside(pid, path, root, rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK)?;
    let file = File::from(file);
    // A pipe or a device would do something when it is read.
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut head = Vec::new();
    file.take(256).read_to_end(&mut head).ok()?;
    Some(head)
}

/// Opens what a process names by this path, relative to its working directory and never outside of its root.
pub(crate) fn open_inside(
    pid: u32,
    path: &[u8],
    root: &[u8],
    flags: rustix::fs::OFlags,
) -> Option<std::os::fd::OwnedFd> {
    open_inside_as(pid, path, root, flags, rustix::fs::ResolveFlags::empty())
}

/// The same, with `more` about the way there.
pub(crate) fn open_inside_as(
    pid: u32,
    path: &[u8],
    root: &[u8],
    flags: rustix::fs::OFlags,
    more: rustix::fs::ResolveFlags,
) -> Option<std::os::fd::OwnedFd> {
    use rustix::fs::{Mode, OFlags, ResolveFlags};
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open(format!("/proc/{pid}/root"), directory, Mode::empty()).ok()?;
    let mut whole = Vec::new();
    if !path.starts_with(b"/") {
        whole.extend_from_slice(inside(root, &link(&format!("/proc/{pid}/cwd"))));
        whole.push(b'/');
    }
    whole.extend_from_slice(path);
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
    // A path alone takes no other flag: unlike open(2), the kernel refuses it here.
    let own = if flags.contains(OFlags::PATH) { OFlags::CLOEXEC } else { OFlags::CLOEXEC | OFlags::NOCTTY };
    rustix::fs::openat2(top, whole.as_slice(), flags | own, Mode::empty(), resolve).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_read() {
        let pid = std::process::id();
        let status = Status::read(pid).unwrap();
        assert_eq!((status.tgid, status.cred.uid), (pid, rustix::process::geteuid().as_raw()));
        let stat = Stat::read(pid).unwrap();
        assert!(stat.start_ns > 0 && stat.start_ns.is_multiple_of(TICK_NS));
        assert_eq!(stat.ppid, status.ppid);
        assert!(root(pid).is_empty());
        assert!(Status::read(u32::MAX).is_none());
    }

    #[test]
    fn what_a_process_names_is_found_below_its_root() {
        use rustix::fs::OFlags;
        let find = |path: &str, flags| open_inside(std::process::id(), path.as_bytes(), b"", flags).is_some();
        for flags in [OFlags::PATH, OFlags::RDONLY] {
            assert!(find("/proc/../proc/self/stat", flags) && find(".", flags), "{flags:?}");
            assert!(!find("/proc/self/no-such", flags) && !find("/proc/self/root/proc", flags), "{flags:?}");
        }
    }

    #[test]
    fn a_name_cannot_forge_what_stands_behind_it() {
        let stat = b"7 (a) S 1 2 (b)) S 4 5 6 -1 0 0 0 0 0 0 0 0 0 0 0 0 1 0 99 0 0";
        let stat = Stat::parse(stat).unwrap();
        assert_eq!((stat.ppid, stat.sid, stat.tty, stat.start_ns), (4, 6, u32::MAX, 99 * TICK_NS));
        assert!(Stat::parse(b"7 (a) S 1").is_none() && Stat::parse(b"").is_none());
        assert!(Status::parse(b"Name:\tx\\nTgid:\t9\n").is_none());
    }

    #[test]
    fn paths_are_those_of_the_process() {
        for (root, path, expected) in [
            ("", "/etc/passwd", "/etc/passwd"),
            ("/jail", "/jail/etc", "/etc"),
            ("/jail", "/jail", "/"),
            ("/jail", "/jailer/x", "/jailer/x"),
            ("", "/memfd:x (deleted)", "memfd:x"),
            ("", "pipe:[5]", "pipe:[5]"),
        ] {
            assert_eq!(inside(root.as_bytes(), path.as_bytes()), expected.as_bytes(), "{root} {path}");
        }
    }
}
