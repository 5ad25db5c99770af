//! Which file systems are watched for opened files: those of the host, and of every mount namespace in which a program
//! runs, as `/proc/PID/mountinfo` shows them.
//!
//! What a container mounts is its own word: no path is followed outside its root, and no file system is asked for anything
//! whose answers come from a process or from another host.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};
use nix::sys::fanotify::{Fanotify, MarkFlags, MaskFlags};
use rustix::fs::OFlags;

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

/// The mount itself, if it is still the one that the table told of.
fn reach(pid: u32, mount: &Mount) -> Option<OwnedFd> {
    // The point may be under another mount by now, or lead elsewhere.
    let place = facts::open_inside(pid, mount.point.as_bytes(), b"", OFlags::PATH)?;
    let (text, _) = facts::read(&format!("/proc/self/fdinfo/{}", place.as_raw_fd()), 4096)?;
    let text = String::from_utf8_lossy(&text);
    let id = text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
    (id.trim().parse() == Ok(mount.id)).then_some(place)
}

/// A group of the kernel's, and what it asks to be told.
pub(super) struct Group<'g> {
    pub(super) group: &'g Fanotify,
    pub(super) mask: MaskFlags,
}

/// What is known of mounts.
#[derive(Default)]
pub(super) struct Mounts {
    /// The host's mounts at the last look.
    host: HashSet<Mount, foldhash::fast::RandomState>,
    /// When mounts were last looked at, and of which process; by mount namespace and cgroup, since the number of a namespace
    /// that is gone is soon used again.
    looked: HashMap<Place, (Instant, u32), foldhash::fast::RandomState>,
    /// Mounts that a table told of, and those that none did, with when that was.
    known: HashSet<u64, foldhash::fast::RandomState>,
    layers: HashMap<u64, Instant, foldhash::fast::RandomState>,
    /// File systems that could not be watched, or that were too many.
    pub(super) left_out: u64,
}

impl Mounts {
    /// Forgets everything, so that new groups are told all.
    pub(super) fn forget(&mut self) {
        self.host.clear();
        self.looked.clear();
    }

    /// Looks at the host's mounts, and marks those that are new: the root of a container lies among them before its first
    /// program runs.
    pub(super) fn host(&mut self, pid: u32, group: &Group<'_>) {
        let Some((table, _)) = facts::read(&format!("/proc/{pid}/mountinfo"), MAX_TABLE) else { return };
        self.learn(&table);
        let mut now = HashSet::default();
        for (mount, whole) in parse(&table) {
            if whole == Whole::FileSystem && !self.host.contains(&mount) {
                self.mark(pid, &mount, whole, group);
            }
            now.insert(mount);
        }
        self.host = now;
    }

    /// Looks at the mounts of a process's namespace. False if that was done a moment ago, so that it has to wait.
    pub(super) fn place(&mut self, pid: u32, place: Place, group: &Group<'_>) -> bool {
        let before = self.looked.get(&place).copied();
        if before.is_some_and(|(looked, _)| looked.elapsed() < LOOK_EVERY) {
            return false;
        }
        // A program that has ended shows nothing; the one before may still run there.
        let known = [Some(pid), before.map(|(_, pid)| pid)].into_iter().flatten();
        let table = |pid: u32| Some((pid, facts::read(&format!("/proc/{pid}/mountinfo"), MAX_TABLE)?.0));
        let mut there = known.filter(|pid| facts::namespace(*pid, "mnt") == Some(place.0));
        let Some((pid, table)) = there.find_map(table).filter(|(_, table)| !table.is_empty()) else { return true };
        if self.looked.len() >= MAX_PLACES {
            self.looked.clear();
        }
        self.looked.insert(place, (Instant::now(), pid));
        self.learn(&table);
        let mut devices = HashSet::<String, foldhash::fast::RandomState>::default();
        let mut marked = 0;
        for (mount, whole) in parse(&table) {
            if whole == Whole::FileSystem && !devices.insert(mount.device.clone()) {
                continue;
            }
            if marked >= MAX_OF_PLACE {
                self.left_out += 1;
                continue;
            }
            self.mark(pid, &mount, whole, group);
            marked += 1;
        }
        true
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

    fn mark(&mut self, pid: u32, mount: &Mount, whole: Whole, Group { group, mask }: &Group<'_>) {
        let Some(place) = reach(pid, mount) else { return };
        let link = format!("/proc/self/fd/{}", place.as_raw_fd());
        let what = match whole {
            Whole::FileSystem => MarkFlags::FAN_MARK_FILESYSTEM,
            Whole::Mount => MarkFlags::FAN_MARK_MOUNT,
        };
        if let Err(error) = group.mark(MarkFlags::FAN_MARK_ADD | what, *mask, rustix::fs::CWD, Some(link.as_str())) {
            tracing::debug!("{} of {pid} cannot be watched: {error}", mount.point);
            self.left_out += 1;
        }
    }
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
        assert!(reach(own, &root).is_some());
        assert!(reach(own, &Mount { id: root.id + 100_000, ..root.clone() }).is_none());
        assert!(reach(own, &Mount { point: "/proc/self/root".into(), ..root }).is_none(), "a link of another process");
    }

    proptest! {
        #[test]
        fn no_table_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), lines in "([0-9 :/-]{0,40}\n){0,4}") {
            let _ = (parse(&bytes), parse(lines.as_bytes()));
        }
    }
}
