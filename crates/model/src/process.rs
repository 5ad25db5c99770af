//! Processes: identity, image, credentials, and the table that holds the tree.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::login::{Door, Login};
use crate::value::bytes_as_text;

mod table;
pub use table::{MAX_ANCESTORS, ProcessTable};

/// Identity of a process that survives reuse of its number.
///
/// `start_ns` is the thread group leader's `start_boottime` in the kernel. Processes found in `/proc` at
/// start have it only to the clock tick (10 ms) until their first event tells it exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcKey {
    /// Nanoseconds since boot at which the process started.
    pub start_ns: u64,
    /// Process number (tgid) in the initial pid namespace.
    pub pid: u32,
}

/// The kernel's clock tick as seen in `/proc/PID/stat`, in nanoseconds (USER_HZ is 100 on Linux).
pub const TICK_NS: u64 = 10_000_000;

impl ProcKey {
    /// Whether both name the same process, allowing for one of them being known to the tick only.
    pub fn is_same(self, other: Self) -> bool {
        self.pid == other.pid
            && (self.start_ns == other.start_ns
                || (self.start_ns / TICK_NS == other.start_ns / TICK_NS
                    && (self.start_ns.is_multiple_of(TICK_NS) || other.start_ns.is_multiple_of(TICK_NS))))
    }
}

/// Facts about the file that a process executes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExeFile {
    /// Inode number.
    pub ino: u64,
    /// Device number as the kernel encodes it.
    pub dev: u32,
    /// Mode bits.
    pub mode: u32,
    /// Change time, nanoseconds since the epoch.
    pub ctime_ns: u64,
    /// Modification time, nanoseconds since the epoch.
    pub mtime_ns: u64,
    /// In the upper (written) layer of an overlay file system: not part of the image.
    pub upper_layer: bool,
    /// In a lower layer of an overlay file system: part of the image.
    pub lower_layer: bool,
    /// An anonymous file in memory.
    pub memfd: bool,
    /// The executing user may write the file.
    pub writable: bool,
    /// Its name had been removed when it was executed.
    pub deleted: bool,
}

/// What a process became by its last successful exec. Shared by its forks until they exec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Image {
    /// `argv[0]` as the process wrote it.
    #[serde(with = "bytes_as_text")]
    pub exe: Box<[u8]>,
    /// Resolved path of the executable, as its own mount namespace names it.
    #[serde(with = "bytes_as_text")]
    pub exepath: Box<[u8]>,
    /// All of argv, each element ended by NUL, up to the capture limit.
    #[serde(with = "bytes_as_text")]
    pub argv: Box<[u8]>,
    /// True if argv was longer than the capture limit.
    pub argv_truncated: bool,
    /// `NAME=value` elements, each ended by NUL, up to the capture limit.
    #[serde(with = "bytes_as_text")]
    pub env: Box<[u8]>,
    /// Path of the script, if the executable is its interpreter: the caller's text, made absolute. Else empty.
    #[serde(with = "bytes_as_text")]
    pub script: Box<[u8]>,
    /// argv from 1 on, joined by spaces.
    #[serde(with = "bytes_as_text")]
    pub args: Box<[u8]>,
    /// The file.
    pub file: ExeFile,
}

impl Image {
    /// Elements of argv, `argv[0]` first.
    pub fn argv(&self) -> impl Iterator<Item = &[u8]> {
        split_nul(&self.argv)
    }

    /// Elements of the environment, `NAME=value`.
    pub fn env(&self) -> impl Iterator<Item = &[u8]> {
        split_nul(&self.env)
    }

    /// Builds an image from the raw argv block; fills `exe` and `args`.
    pub fn from_argv(argv: &[u8]) -> Self {
        let mut elements = split_nul(argv);
        let exe = elements.next().unwrap_or_default().into();
        let mut args = Vec::with_capacity(argv.len());
        for (i, element) in elements.enumerate() {
            if i > 0 {
                args.push(b' ');
            }
            args.extend_from_slice(element);
        }
        Self { exe, argv: argv.into(), args: args.into(), ..Self::default() }
    }
}

/// Elements of a block of NUL-ended strings; a missing last NUL is tolerated.
fn split_nul(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    let block = block.strip_suffix(&[0]).unwrap_or(block);
    let empty = block.is_empty();
    block.split(|byte| *byte == 0).filter(move |_| !empty)
}

/// Credentials of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Credentials {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Audit login user; `u32::MAX` if never set.
    pub loginuid: u32,
    /// Effective capabilities, bit = capability number.
    pub cap_effective: u64,
    /// Permitted capabilities.
    pub cap_permitted: u64,
    /// Inheritable capabilities.
    pub cap_inheritable: u64,
}

/// Names for the numbers in [`Credentials`], from the user database the process lives with.
/// Empty where there is no entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserNames {
    /// Name of the effective user.
    pub user: Arc<str>,
    /// Home directory of the effective user.
    pub home: Arc<str>,
    /// Login shell of the effective user.
    pub shell: Arc<str>,
    /// Name of the effective group.
    pub group: Arc<str>,
    /// Name of the audit login user.
    pub login: Arc<str>,
}

/// Namespace inode numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespaces {
    /// Mount namespace.
    pub mnt: u32,
    /// Pid namespace (of children).
    pub pid: u32,
    /// Network namespace.
    pub net: u32,
    /// User namespace.
    pub user: u32,
    /// UTS namespace.
    pub uts: u32,
    /// IPC namespace.
    pub ipc: u32,
    /// Cgroup namespace.
    pub cgroup: u32,
}

/// Tells one state of a process from every other, of any process in any table: what was worked out about a process
/// holds as long as its stamp is the same. Given by the table; the default is that of a process in no table.
#[derive(Clone, Copy, Default)]
pub struct Stamp {
    number: u64,
    /// Another process in the table may have been forked by this one.
    has_children: bool,
}

impl Stamp {
    /// Takes a number that was never given before.
    pub(super) fn renew(&mut self) {
        static GIVEN: AtomicU64 = AtomicU64::new(0);
        self.number = GIVEN.fetch_add(1, Ordering::Relaxed) + 1;
    }

    /// The number; 0 in no table.
    pub fn number(self) -> u64 {
        self.number
    }
}

impl std::fmt::Debug for Stamp {
    /// Without the number, which says nothing of the process.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stamp")
    }
}

/// A process, alive or remembered because living ones descend from it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Changes with every change of what follows; given by the table.
    #[serde(skip)]
    pub stamp: Stamp,
    /// Identity.
    pub key: ProcKey,
    /// Identity of the process that forked it.
    pub parent: Option<ProcKey>,
    /// Kernel's name of the main thread (`comm`), at most 15 bytes.
    #[serde(with = "bytes_as_text")]
    pub comm: Box<[u8]>,
    /// What it executes.
    pub image: Arc<Image>,
    /// `comm`, a space, and the arguments from 1 on: Falco's `proc.cmdline`.
    #[serde(with = "bytes_as_text")]
    pub cmdline: Arc<[u8]>,
    /// Working directory, as its own mount namespace names it.
    #[serde(with = "bytes_as_text")]
    pub cwd: Box<[u8]>,
    /// Credentials.
    pub cred: Credentials,
    /// Names for the credentials.
    pub names: UserNames,
    /// Controlling terminal's device number, 0 if none.
    pub tty: u32,
    /// Session id.
    pub sid: u32,
    /// Process group id.
    pub pgid: u32,
    /// Number in its own pid namespace, 0 if unknown.
    pub vpid: u32,
    /// Process group id in its own pid namespace.
    pub vpgid: u32,
    /// Namespaces.
    pub ns: Namespaces,
    /// Id of its cgroup in the unified hierarchy.
    pub cgroup_id: u64,
    /// Boot time of the last exec in nanoseconds, 0 if none was seen.
    pub exec_ns: u64,
    /// Boot time of its end, `None` while it lives.
    pub exit_ns: Option<u64>,
    /// Effective user and capabilities before rights came from nowhere at an open: told at the next event of another kind.
    pub jumped_from: Option<(u32, u64)>,
    /// A thread other than the main one changed its credentials by itself: they are not those of the process.
    pub threads_differ: bool,
    /// Boot time of the last call that changed its credentials, in nanoseconds, 0 if none since its start or exec was seen.
    pub cred_ns: u64,
    /// The person behind it, if one is known.
    pub login: Option<Arc<Login>>,
    /// What it starts next is the session of a person.
    pub door: Option<Door>,
    /// It is in a container, and how it came there was looked at.
    pub entered: bool,
    /// True if it was found in `/proc` or made up for a missed event, so that fields may be incomplete.
    pub inferred: bool,
}

impl Process {
    /// Joins comm and arguments into [`Process::cmdline`]. Call after a change of comm or image.
    pub fn rebuild_cmdline(&mut self) {
        let mut line = Vec::with_capacity(self.comm.len() + 1 + self.image.args.len());
        line.extend_from_slice(&self.comm);
        if !self.image.args.is_empty() {
            line.push(b' ');
            line.extend_from_slice(&self.image.args);
        }
        self.cmdline = line.into();
    }

    /// Cuts long arguments of a process that ended: it matters as an ancestor only, and thousands of them must not
    /// fill the memory. Returns whether there was something to cut.
    pub(crate) fn shorten(&mut self) -> bool {
        if self.image.argv.len() <= REMEMBERED_ARGS {
            return false;
        }
        let file = self.image.file;
        let exepath = self.image.exepath.clone();
        let argv = &self.image.argv[..REMEMBERED_ARGS];
        let script = self.image.script.clone();
        self.image = Arc::new(Image { exepath, script, file, argv_truncated: true, ..Image::from_argv(argv) });
        self.rebuild_cmdline();
        true
    }
}

/// Bytes of arguments kept of a process that ended.
const REMEMBERED_ARGS: usize = 512;
