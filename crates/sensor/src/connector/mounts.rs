//! Which file systems are watched for opened files: those of the host, and of every mount namespace in which a program
//! runs, as `/proc/PID/mountinfo` shows them.
//!
//! What a container mounts is its own word: no path is followed outside its root, and no file system is asked for anything
//! whose answers come from a process or from another host. An overlay passes on what it is asked: one that was mounted
//! without rights over the host may lie above any such file system, and is left out. Whoever has these rights can put one
//! there all the same.

use std::hash::BuildHasher as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};
use nix::sys::fanotify::{Fanotify, MarkFlags, MaskFlags};
use rustix::fs::{OFlags, ResolveFlags};

use super::ears::Place;
use crate::facts;
use crate::resources::group::unescape;

/// Most bytes of a table of mounts.
const MAX_TABLE: usize = 8 << 20;
/// Most file systems that are watched because of one mount namespace other than the host's.
const MAX_OF_PLACE: usize = 128;
/// Mount namespaces whose last look is remembered; all are forgotten when there are more.
const MAX_PLACES: usize = 4096;
/// Mounts that are known to be one of some process; all are forgotten when there are more.
const MAX_KNOWN: usize = 65_536;
/// How often the mounts of one namespace are looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a table that looks as before is taken to be the same: numbers of mounts and devices are used again.
const SAME_FOR: Duration = Duration::from_secs(10);

/// File systems that are watched as a whole. An open of theirs asks nobody but the kernel.
const WATCHED: &[&str] = &[
    "bcachefs", "btrfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "iso9660", "jfs", "nilfs2", "ntfs3",
    "overlay", "ramfs", "squashfs", "tmpfs", "udf", "vfat", "xfs", "zfs",
];
/// Those that the agent itself reads all the time: of them the mounts of containers are watched, not the whole.
const OWN: &[&str] = &["cgroup", "cgroup2", "proc", "sysfs"];

/// A line of a table of mounts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Mount {
    id: u64,
    device: String,
    point: String,
    kind: String,
}

/// What a mark is put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whole {
    FileSystem,
    Mount,
}

/// The lines of a table that are of interest: those below what others serve are left out.
fn parse(table: &[u8]) -> Vec<(Mount, Whole)> {
    let table = String::from_utf8_lossy(table);
    let all: Vec<Mount> = table.lines().filter_map(line).collect();
    let foreign: Vec<&str> = all.iter().filter(|mount| is_foreign(&mount.kind)).map(|mount| &*mount.point).collect();
    let below = |point: &str| {
        foreign.iter().any(|top| point.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    };
    let whole = |mount: &Mount| {
        let is = |kinds: &[&str]| kinds.contains(&&*mount.kind);
        (is(WATCHED).then_some(Whole::FileSystem)).or(is(OWN).then_some(Whole::Mount))
    };
    let wanted = all.iter().filter_map(|mount| Some((mount, whole(mount)?)));
    wanted.filter(|(mount, _)| !below(&mount.point)).map(|(mount, whole)| (mount.clone(), whole)).collect()
}

fn line(line: &str) -> Option<Mount> {
    let (mount, source) = line.split_once(" - ")?;
    let mut words = mount.split(' ');
    let (id, device, point) = (words.next()?.parse().ok()?, words.nth(1)?.to_owned(), unescape(words.nth(1)?));
    Some(Mount { id, device, point, kind: source.split(' ').next()?.to_owned() })
}

/// Whether a look below it may ask a process or another host.
fn is_foreign(kind: &str) -> bool {
    const REMOTE: [&str; 12] =
        ["9p", "afs", "autofs", "ceph", "cifs", "coda", "glusterfs", "lustre", "ncpfs", "orangefs", "smb3", "virtiofs"];
    kind.starts_with("fuse") && kind != "fusectl" || kind.starts_with("nfs") || REMOTE.contains(&kind)
}

/// Opens the point of a mount. If it is `foreign`, nothing on the way is asked what the kernel does not know already: points of
/// mounts are known, but so much can change at once that a try fails.
fn reach(pid: u32, mount: &Mount, foreign: bool) -> Option<OwnedFd> {
    let (tries, how) = if foreign { (3, ResolveFlags::CACHED) } else { (1, ResolveFlags::empty()) };
    (0..tries).find_map(|_| facts::open_inside_as(pid, mount.point.as_bytes(), b"", OFlags::PATH, how))
}

/// Whether a point is that of the mount that the table told of: it may be under another one by now, or lead elsewhere.
fn is_of(place: &OwnedFd, mount: &Mount) -> bool {
    let text = facts::read(&format!("/proc/self/fdinfo/{}", place.as_raw_fd()), 4096);
    let text = text.map(|(text, _)| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("mnt_id:")).and_then(|id| id.trim().parse().ok()) == Some(mount.id)
}

/// A group of the kernel's, and what it asks to be told.
pub(super) struct Group<'g> {
    pub(super) group: &'g Fanotify,
    pub(super) mask: MaskFlags,
}

/// What a look at a namespace showed.
#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    /// A process there.
    pid: u32,
    /// The table's hash, and when all of it was gone through; none if the process may have ended meanwhile.
    table: Option<(u64, Instant)>,
    /// File systems there that are not watched.
    left_out: u64,
}

/// What is known of mounts.
#[derive(Default)]
pub(super) struct Mounts {
    /// The host's mounts at the last look, and whether each is watched.
    host: HashMap<Mount, bool, foldhash::fast::RandomState>,
    /// By mount namespace and cgroup, since the number of a namespace that is gone is soon used again.
    looked: HashMap<Place, Look, foldhash::fast::RandomState>,
    hasher: foldhash::fast::RandomState,
    /// Mounts that a table told of, and those that none did, with when that was.
    known: HashSet<u64, foldhash::fast::RandomState>,
    layers: HashMap<u64, Instant, foldhash::fast::RandomState>,
    /// File systems that are not watched, and when they were counted; none if that is to be done anew.
    left_out: Option<(u64, Instant)>,
}

impl Mounts {
    /// Forgets everything, so that new groups are told all.
    pub(super) fn forget(&mut self) {
        self.host.clear();
        self.looked.clear();
        self.left_out = None;
    }

    /// File systems that could not be watched, that were too many, or that may not be asked: of the host, and of namespaces
    /// that are still there.
    pub(super) fn left_out(&mut self) -> u64 {
        if let Some((count, at)) = self.left_out
            && at.elapsed() < LOOK_EVERY
        {
            return count;
        }
        self.looked
            .retain(|(mounts, _), look| look.left_out == 0 || facts::namespace(look.pid, "mnt") == Some(*mounts));
        let count = self.host.values().filter(|watched| !**watched).count() as u64
            + self.looked.values().map(|look| look.left_out).sum::<u64>();
        self.left_out = Some((count, Instant::now()));
        count
    }

    /// Looks at the host's mounts, and marks those that are new: the root of a container lies among them before its first
    /// program runs.
    pub(super) fn host(&mut self, pid: u32, group: &Group<'_>) {
        let Some((table, _)) = facts::read(&format!("/proc/{pid}/mountinfo"), MAX_TABLE) else { return };
        self.learn(&table);
        let of_host = parse(&table).into_iter().filter(|(_, whole)| *whole == Whole::FileSystem);
        let watched = |mount: &Mount| self.host.get(mount).copied();
        self.host = of_host
            .map(|(mount, whole)| {
                let watched = watched(&mount).unwrap_or_else(|| mark(pid, &mount, whole, false, group) != Some(false));
                (mount, watched)
            })
            .collect();
        self.left_out = None;
    }

    /// Looks at the mounts of a process's namespace. False if that was done a moment ago, so that it has to wait.
    pub(super) fn place(&mut self, pid: u32, place: Place, group: &Group<'_>) -> bool {
        let before = self.looked.get(&place).copied();
        if before.is_some_and(|before| before.at.elapsed() < LOOK_EVERY) {
            return false;
        }
        // A program that has ended shows nothing; the one before may still run there.
        let is_there = |pid: u32| facts::namespace(pid, "mnt") == Some(place.0);
        let known = [Some(pid), before.map(|before| before.pid)].into_iter().flatten();
        let table = |pid: u32| Some((pid, facts::read(&format!("/proc/{pid}/mountinfo"), MAX_TABLE)?.0));
        let mut there = known.filter(|pid| is_there(*pid));
        let Some((pid, table)) = there.find_map(table).filter(|(_, table)| !table.is_empty()) else { return true };
        if self.looked.len() >= MAX_PLACES {
            self.looked.clear();
        }
        let now = Instant::now();
        // Whoever is there the longest is remembered.
        let stays = before.map(|before| before.pid).filter(|pid| is_there(*pid)).unwrap_or(pid);
        let hash = self.hasher.hash_one(&table);
        let same = |(known, gone_through): (u64, Instant)| known == hash && gone_through.elapsed() < SAME_FOR;
        if let Some(before) = before.filter(|before| before.table.is_some_and(same)) {
            self.looked.insert(place, Look { at: now, pid: stays, ..before });
            return true;
        }
        self.learn(&table);
        // After the table was read: nobody gets back into the host's user namespace.
        let foreign = facts::namespace(pid, "user") != facts::namespace(std::process::id(), "user");
        let left_out = self.mark_all(pid, &table, foreign, group);
        // Of one that ended meanwhile nothing could be marked.
        let (table, left_out) = if is_there(pid) {
            (Some((hash, now)), left_out)
        } else {
            (None, before.map_or(0, |before| before.left_out))
        };
        self.looked.insert(place, Look { at: now, pid: stays, table, left_out });
        self.left_out = None;
        true
    }

    /// Marks what a table tells of, and returns how many file systems are left out.
    fn mark_all(&self, pid: u32, table: &[u8], foreign: bool, group: &Group<'_>) -> u64 {
        let of_host: HashSet<&str, foldhash::fast::RandomState> =
            self.host.keys().map(|mount| &*mount.device).collect();
        let mut devices = HashSet::<String, foldhash::fast::RandomState>::default();
        let (mut tried, mut left_out) = (0, 0);
        for (mount, whole) in parse(table) {
            // What the host has mounted itself is watched already.
            let known = devices.contains(&mount.device) || foreign && of_host.contains(&*mount.device);
            if whole == Whole::FileSystem && known {
                continue;
            }
            let done = if foreign && mount.kind == "overlay" || tried >= MAX_OF_PLACE {
                Some(false)
            } else {
                tried += 1;
                mark(pid, &mount, whole, foreign, group)
            };
            left_out += u64::from(done == Some(false));
            // Where no path leads to, another mount of the same may be reached.
            if done.is_some() {
                devices.insert(mount.device);
            }
        }
        left_out
    }

    /// Whether a file was opened through a mount that no process has: an overlay opens what lies in its layers so, and newer
    /// kernels tell of both.
    pub(super) fn is_layer(&mut self, pid: u32, mount: u64) -> bool {
        if mount == 0 || self.known.contains(&mount) {
            return false;
        }
        // Numbers are used again: what is new may have that of a layer that is gone.
        if self.layers.get(&mount).is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return true;
        }
        match facts::read(&format!("/proc/{pid}/mountinfo"), MAX_TABLE) {
            Some((table, _)) if !table.is_empty() => self.learn(&table),
            _ => return false,
        }
        let layer = !self.known.contains(&mount);
        if layer {
            if self.layers.len() >= MAX_PLACES {
                self.layers.clear();
            }
            self.layers.insert(mount, Instant::now());
        }
        layer
    }

    fn learn(&mut self, table: &[u8]) {
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        let ids = table
            .split(|byte| *byte == b'\n')
            .filter_map(|line| std::str::from_utf8(line.split(|byte| *byte == b' ').next()?).ok()?.parse::<u64>().ok());
        self.known.extend(ids.take(MAX_KNOWN));
    }
}

/// Marks a mount. False if it cannot be watched; none if no path leads to it any more.
fn mark(pid: u32, mount: &Mount, whole: Whole, foreign: bool, Group { group, mask }: &Group<'_>) -> Option<bool> {
    let Some(place) = reach(pid, mount, foreign) else {
        // No way through sysfs is known without asking it, which is where cgroups are.
        return (foreign && whole == Whole::FileSystem).then_some(false);
    };
    if !is_of(&place, mount) {
        return None;
    }
    let link = format!("/proc/self/fd/{}", place.as_raw_fd());
    let what = match whole {
        Whole::FileSystem => MarkFlags::FAN_MARK_FILESYSTEM,
        Whole::Mount => MarkFlags::FAN_MARK_MOUNT,
    };
    if !mask.contains(MaskFlags::FAN_OPEN) {
        // There is nothing to take back of what is new.
        let _ =
            group.mark(MarkFlags::FAN_MARK_REMOVE | what, MaskFlags::FAN_OPEN, rustix::fs::CWD, Some(link.as_str()));
    }
    let done = group.mark(MarkFlags::FAN_MARK_ADD | what, *mask, rustix::fs::CWD, Some(link.as_str()));
    Some(done.inspect_err(|error| tracing::debug!("{} of {pid} cannot be watched: {error}", mount.point)).is_ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn file_systems_that_others_serve_are_left_out_with_what_is_below() {
        let table = br"22 1 254:0 / / rw shared:1 - ext4 /dev/root rw
23 22 0:21 / /proc rw - proc proc rw
24 22 0:30 / /mnt/far rw - fuse.sshfs far rw
25 24 0:31 / /mnt/far/inner rw - tmpfs x rw
26 22 0:32 / /mnt/far\040off rw - tmpfs x rw
27 22 0:33 / /net rw master:7 - nfs4 x:/ rw
28 22 0:34 / /dev/mqueue rw - mqueue mqueue rw
broken";
        let found: Vec<_> = parse(table).into_iter().map(|(mount, whole)| (mount.id, mount.point, whole)).collect();
        assert_eq!(
            found,
            [
                (22, "/".into(), Whole::FileSystem),
                (23, "/proc".into(), Whole::Mount),
                (26, "/mnt/far off".into(), Whole::FileSystem)
            ]
        );
    }

    #[test]
    fn a_mount_is_reached_only_while_it_is_the_one_that_was_told_of() {
        let table = std::fs::read("/proc/self/mountinfo").unwrap();
        let (root, _) = parse(&table).into_iter().find(|(mount, _)| mount.point == "/").unwrap();
        let own = std::process::id();
        let reached = |mount: Mount| {
            [false, true].map(|foreign| reach(own, &mount, foreign).is_some_and(|at| is_of(&at, &mount)))
        };
        assert_eq!(reached(root.clone()), [true; 2]);
        assert_eq!(reached(Mount { id: root.id + 100_000, ..root.clone() }), [false; 2]);
        assert_eq!(reached(Mount { point: "/proc/self/root".into(), ..root }), [false; 2], "a link of another process");
    }

    proptest! {
        #[test]
        fn no_table_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), lines in "([0-9 :/-]{0,40}\n){0,4}") {
            let _ = (parse(&bytes), parse(lines.as_bytes()));
        }
    }
}
