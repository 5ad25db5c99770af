//! Processes: identity, image, credentials, and the table that holds the tree.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::{HashMap, HashSet};
use serde::{Deserialize, Serialize};

use crate::value::bytes_as_text;

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
    fn renew(&mut self) {
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
    fn shorten(&mut self) -> bool {
        if self.image.argv.len() <= REMEMBERED_ARGS {
            return false;
        }
        let file = self.image.file;
        let exepath = self.image.exepath.clone();
        let argv = &self.image.argv[..REMEMBERED_ARGS];
        self.image = Arc::new(Image { exepath, file, argv_truncated: true, ..Image::from_argv(argv) });
        self.rebuild_cmdline();
        true
    }
}

/// Bytes of arguments kept of a process that ended.
const REMEMBERED_ARGS: usize = 512;

/// All processes by number, bounded: the dead stay while a living process may name them as ancestor, and
/// the longest dead go first when the table is full.
pub struct ProcessTable {
    by_key: HashMap<ProcKey, Process, foldhash::fast::RandomState>,
    by_pid: HashMap<u32, ProcKey, foldhash::fast::RandomState>,
    dead: std::collections::VecDeque<ProcKey>,
    capacity: usize,
    evicted: u64,
    epoch: u64,
}

/// How far a walk over ancestors goes.
pub const MAX_ANCESTORS: usize = 64;

impl ProcessTable {
    /// An empty table that holds at most `capacity` processes.
    pub fn new(capacity: usize) -> Self {
        Self {
            by_key: HashMap::default(),
            by_pid: HashMap::default(),
            dead: std::collections::VecDeque::new(),
            capacity: capacity.max(1),
            evicted: 0,
            epoch: 0,
        }
    }

    /// Grows when a process that may have descendants changes, comes or goes. As long as it is the same, the ancestors
    /// of every process are.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What the ancestors of `process` are like, as one number: with equal numbers they are the same, in the same
    /// state (but for a collision of 64-bit hashes).
    pub fn lineage(&self, process: &Process) -> u64 {
        let mix = |hash: u64, ancestor: &Process| {
            (hash.rotate_left(5) ^ ancestor.stamp.number()).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        };
        self.ancestors(process).fold(1, mix)
    }

    /// Number of processes held, living and dead.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether the table is empty.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// How many living processes were dropped because the table was full.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The process with this identity.
    pub fn get(&self, key: ProcKey) -> Option<&Process> {
        self.by_key.get(&key).or_else(|| {
            let known = *self.by_pid.get(&key.pid)?;
            if known.is_same(key) { self.by_key.get(&known) } else { None }
        })
    }

    /// The process with this identity, to change.
    pub fn get_mut(&mut self, key: ProcKey) -> Option<&mut Process> {
        let process = Self::find_mut(&mut self.by_key, &self.by_pid, key)?;
        process.stamp.renew();
        self.epoch += u64::from(process.stamp.has_children);
        Some(process)
    }

    fn find_mut<'t>(
        by_key: &'t mut HashMap<ProcKey, Process, foldhash::fast::RandomState>,
        by_pid: &HashMap<u32, ProcKey, foldhash::fast::RandomState>,
        key: ProcKey,
    ) -> Option<&'t mut Process> {
        if by_key.contains_key(&key) {
            return by_key.get_mut(&key);
        }
        let known = *by_pid.get(&key.pid)?;
        if known.is_same(key) { by_key.get_mut(&known) } else { None }
    }

    /// The latest process that had this number.
    pub fn by_pid(&self, pid: u32) -> Option<&Process> {
        self.by_key.get(self.by_pid.get(&pid)?)
    }

    /// Replaces an identity known to the clock tick by the exact one of the same process.
    pub fn rekey(&mut self, exact: ProcKey) {
        let Some(known) = self.by_pid.get(&exact.pid).copied().filter(|known| known.is_same(exact)) else { return };
        if let Some(mut process) = self.by_key.remove(&known) {
            process.key = exact;
            process.stamp.renew();
            self.epoch += u64::from(process.stamp.has_children);
            if process.exit_ns.is_some()
                && let Some(place) = self.dead.iter_mut().find(|key| **key == known)
            {
                *place = exact;
            }
            self.by_pid.insert(exact.pid, exact);
            self.by_key.insert(exact, process);
        }
    }

    /// Forgets the process that `/proc` showed under this number, for which an exact one is about to come.
    pub fn remove_pid(&mut self, pid: u32) {
        if let Some(known) = self.by_pid.get(&pid).copied().filter(|known| known.start_ns.is_multiple_of(TICK_NS)) {
            self.remove(known);
        }
    }

    /// Adds or replaces a process; makes room first if the table is full.
    pub fn insert(&mut self, mut process: Process) {
        // It may be the ancestor that others had lacked.
        self.epoch += 1;
        process.stamp.has_children = true;
        self.put(process);
    }

    /// Adds a process that was forked just now, so that nobody descends from it yet.
    pub fn insert_forked(&mut self, mut process: Process) {
        process.stamp.has_children = false;
        self.put(process);
    }

    fn put(&mut self, mut process: Process) {
        while self.by_key.len() >= self.capacity && !self.by_key.contains_key(&process.key) {
            self.evict_one();
        }
        process.stamp.renew();
        if let Some(parent) = process.parent
            && let Some(parent) = Self::find_mut(&mut self.by_key, &self.by_pid, parent)
        {
            parent.stamp.has_children = true;
        }
        self.by_pid.insert(process.key.pid, process.key);
        if let Some(before) = self.by_key.get(&process.key).filter(|before| before.stamp.has_children) {
            // Who descends from it still does.
            process.stamp.has_children = before.stamp.has_children;
            self.epoch += 1;
        }
        self.by_key.insert(process.key, process);
    }

    /// Marks a process as ended. It stays as an ancestor until the table needs room.
    pub fn end(&mut self, key: ProcKey, at_ns: u64) {
        let Some(process) = Self::find_mut(&mut self.by_key, &self.by_pid, key) else { return };
        if process.exit_ns.replace(at_ns).is_none() {
            // No field asks whether it ended, so that its stamp may stay.
            if process.shorten() {
                process.stamp.renew();
                self.epoch += u64::from(process.stamp.has_children);
            }
            let key = process.key;
            self.dead.push_back(key);
        }
        // The dead are worth remembering, but they must not crowd out the living.
        while self.dead.len() > self.capacity / 2 {
            self.evict_one();
        }
    }

    /// The processes that ended and are still remembered, longest dead first.
    pub fn dead(&self) -> impl Iterator<Item = &Process> {
        self.dead.iter().filter_map(|key| self.by_key.get(key))
    }

    /// Identities of processes that an event may still show: those that live or ended after boot time `since_ns`, and
    /// all their ancestors.
    pub fn needed(&self, since_ns: u64) -> HashSet<ProcKey> {
        let mut found = HashSet::new();
        for process in self.iter().filter(|process| process.exit_ns.is_none_or(|exit_ns| exit_ns > since_ns)) {
            let mut next = Some(process);
            // Without a bound on the way, whoever was found has all ancestors found.
            while let Some(process) = next.filter(|process| found.insert(process.key)) {
                next = process.parent.and_then(|parent| self.get(parent));
            }
        }
        found
    }

    /// Puts back a process as it was told: one that ended goes behind those that ended before it.
    pub fn restore(&mut self, process: Process) {
        let known_dead = self.by_key.get(&process.key).is_some_and(|known| known.exit_ns.is_some());
        if process.exit_ns.is_some() && !known_dead {
            self.dead.push_back(process.key);
        }
        self.insert(process);
    }

    /// All processes, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Process> {
        self.by_key.values()
    }

    /// Ancestors of `process`, the parent first, at most [`MAX_ANCESTORS`].
    pub fn ancestors<'t>(&'t self, process: &Process) -> impl Iterator<Item = &'t Process> + use<'t> {
        let mut next = process.parent;
        std::iter::from_fn(move || {
            let process = self.get(next?)?;
            next = process.parent;
            Some(process)
        })
        .take(MAX_ANCESTORS)
    }

    /// Ancestor number `generation`: 0 is the process itself, 1 its parent.
    pub fn ancestor<'t>(&'t self, process: &'t Process, generation: usize) -> Option<&'t Process> {
        match generation {
            0 => Some(process),
            n => self.ancestors(process).nth(n - 1),
        }
    }

    fn evict_one(&mut self) {
        while let Some(key) = self.dead.pop_front() {
            if self.remove(key) {
                return;
            }
        }
        // Nobody is dead: an attacker filled the table with living processes, or it is too small. Any one goes.
        let Some(key) = self.by_key.keys().next().copied() else { return };
        self.remove(key);
        self.evicted += 1;
    }

    fn remove(&mut self, key: ProcKey) -> bool {
        if self.by_pid.get(&key.pid) == Some(&key) {
            self.by_pid.remove(&key.pid);
        }
        let removed = self.by_key.remove(&key);
        self.epoch += u64::from(removed.as_ref().is_some_and(|process| process.stamp.has_children));
        removed.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent: Option<u32>) -> Process {
        let key = |pid| ProcKey { start_ns: u64::from(pid) + 1, pid };
        Process {
            key: key(pid),
            parent: parent.map(key),
            comm: format!("p{pid}").into_bytes().into(),
            ..Process::default()
        }
    }

    #[test]
    fn argv_is_split_and_joined() {
        let image = Image::from_argv(b"sh\0-c\0echo a  b\0\0");
        assert_eq!(&*image.exe, b"sh");
        assert_eq!(&*image.args, b"-c echo a  b ");
        assert_eq!(image.argv().count(), 4, "an empty argument is one too");
        assert_eq!(Image::from_argv(b"").argv().count(), 0);
        assert_eq!(&*Image::from_argv(b"no-nul").exe, b"no-nul");
    }

    #[test]
    fn ancestors_end_in_a_loop_and_at_the_limit() {
        let mut table = ProcessTable::new(1000);
        table.insert(process(1, Some(2)));
        table.insert(process(2, Some(1)));
        let first = table.by_pid(1).unwrap();
        assert_eq!(table.ancestors(first).count(), MAX_ANCESTORS);
        assert!(table.ancestor(first, 1).is_some_and(|parent| parent.key.pid == 2));
    }

    #[test]
    fn all_that_an_event_may_still_show_is_needed() {
        let mut table = ProcessTable::new(1000);
        for pid in 1..=200 {
            table.insert(process(pid, (pid > 1).then_some(pid - 1)));
        }
        table.insert(process(300, None));
        table.insert(process(301, Some(300)));
        let pids: Vec<u32> = (1..=200).chain([300, 301]).filter(|pid| ![80, 140, 200].contains(pid)).collect();
        for pid in pids {
            let key = table.by_pid(pid).unwrap().key;
            table.end(key, if pid == 301 { 50 } else { 5 });
        }
        // 140 lives and is met at once or from 200, whichever comes first: its ancestors are needed all the same.
        assert_eq!(table.needed(50).len(), 200, "a long line is needed as a whole, and nobody else");
        assert_eq!(table.needed(49).len(), 202, "who ended a moment ago is, with its parent");
    }

    #[test]
    fn a_process_that_ended_keeps_its_place_among_the_dead_under_its_exact_start() {
        let mut table = ProcessTable::new(10);
        let tick = ProcKey { start_ns: 3 * TICK_NS, pid: 9 };
        let exact = ProcKey { start_ns: 3 * TICK_NS + 5, pid: 9 };
        table.insert(Process { key: tick, ..Process::default() });
        table.end(tick, 7);
        table.rekey(exact);
        let mut again = ProcessTable::new(10);
        table.dead().for_each(|process| again.restore(process.clone()));
        table.dead().for_each(|process| again.restore(process.clone()));
        let keys = |table: &ProcessTable| table.dead().map(|process| process.key).collect::<Vec<_>>();
        assert_eq!((keys(&table), keys(&again)), (vec![exact], vec![exact]));
    }

    #[test]
    fn stamps_and_epochs_tell_of_every_change() {
        let mut table = ProcessTable::new(1000);
        table.insert(process(1, None));
        table.insert_forked(process(2, Some(1)));
        table.insert_forked(process(3, Some(2)));
        let key = |pid| process(pid, None).key;
        let state = |table: &ProcessTable, pid| {
            let process = table.get(key(pid)).unwrap();
            (process.stamp.number(), table.lineage(process))
        };
        let (two, three, epoch) = (state(&table, 2), state(&table, 3), table.epoch());
        assert_ne!(two.0, three.0);
        // A change of one without descendants concerns nobody else.
        table.get_mut(key(3)).unwrap().tty = 1;
        assert_ne!(state(&table, 3).0, three.0);
        assert_eq!((state(&table, 2), table.epoch()), (two, epoch));
        // A change of an ancestor is seen in the lineage of its descendants, and in the epoch.
        let three = state(&table, 3);
        table.get_mut(key(1)).unwrap().tty = 1;
        assert!(table.epoch() > epoch);
        assert_eq!((state(&table, 2).0, state(&table, 3).0), (two.0, three.0));
        assert_ne!(state(&table, 2).1, two.1);
        assert_ne!(state(&table, 3).1, three.1);
        // An end changes nothing that a field asks for; that an ancestor is forgotten does.
        let (three, epoch) = (state(&table, 3), table.epoch());
        table.end(key(2), 9);
        assert_eq!((state(&table, 3), table.epoch()), (three, epoch));
        table.remove(key(2));
        assert!(table.epoch() > epoch);
        assert_ne!(state(&table, 3).1, three.1);
        // One that had been missing, and comes late.
        let (three, epoch) = (state(&table, 3), table.epoch());
        table.insert(process(2, Some(1)));
        assert!(table.epoch() > epoch);
        assert_ne!(state(&table, 3).1, three.1);
    }

    #[test]
    fn the_dead_keep_little_memory() {
        let mut table = ProcessTable::new(10);
        let mut long = process(5, None);
        long.image = Arc::new(Image::from_argv(&[b'x'; 4000]));
        long.rebuild_cmdline();
        let key = long.key;
        table.insert(long);
        table.end(key, 9);
        let dead = table.get(key).unwrap();
        assert!(dead.cmdline.len() <= 600 && dead.image.argv_truncated && dead.exit_ns == Some(9));
    }

    #[test]
    fn a_start_known_to_the_tick_matches_the_exact_one() {
        let tick = ProcKey { start_ns: 50_000_000, pid: 9 };
        assert!(tick.is_same(ProcKey { start_ns: 50_000_123, pid: 9 }));
        assert!(!tick.is_same(ProcKey { start_ns: 60_000_000, pid: 9 }));
        assert!(!ProcKey { start_ns: 50_000_001, pid: 9 }.is_same(ProcKey { start_ns: 50_000_123, pid: 9 }));
    }
}
