//! From a cgroup's number to the container that lives in it.
//!
//! The kernel names a cgroup by the inode number of its folder in the unified (cgroup2) hierarchy. Known
//! numbers come from a cache; unknown ones from a walk over the folders where runtimes put containers, and
//! as a last resort over the whole tree. Walks are rationed by a counter of misses, since any container may
//! make up as many cgroups as it likes.
//!
//! **Never:** an unbounded walk or table.

use std::collections::VecDeque;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::HashMap;
use tw_model::Container;

/// Most cgroups remembered.
pub const MAX_KNOWN: usize = 16_384;
/// Most numbers remembered as not found.
pub const MAX_MISSING: usize = 4_096;
/// Most folders visited by one walk over the whole tree.
pub const MAX_WALK: usize = 50_000;

/// Most folders visited by one walk over the places where runtimes put containers.
const MAX_SHORT_WALK: usize = 8_192;
/// How many lookups of any kind a "not found" stays valid for.
const MISSING_TTL: u64 = 4_096;
/// One walk over the whole tree for this many misses.
const MISSES_PER_WALK: u64 = 64;
/// After this many searches in a row that found nothing, only every [`MISSES_PER_SEARCH`]th miss searches.
const PATIENCE: u64 = 32;
/// See [`PATIENCE`].
const MISSES_PER_SEARCH: u64 = 8;
/// Longest cgroup path taken from anywhere, bytes (the kernel's own limit).
const MAX_PATH: usize = 4_096;
/// Top folders that are looked into last: those of sessions hold many cgroups and few containers.
const LAST: [&str; 2] = ["user.slice", "init.scope"];

type Map<V> = HashMap<u64, V, foldhash::fast::RandomState>;

struct Known {
    path: Arc<str>,
    container: Option<Box<str>>,
    /// Used since the eviction hand last passed.
    used: bool,
}

/// Cache and search over the unified cgroup hierarchy.
pub struct Cgroups {
    mount: Option<PathBuf>,
    known: Map<Known>,
    /// Ids in `known`, the next candidate for eviction first. May name ids that were removed meanwhile.
    order: VecDeque<u64>,
    /// Ids that were not found, with the lookup count at which that was.
    missing: Map<u64>,
    lookups: u64,
    misses: u64,
    /// Searches in a row that found nothing.
    fruitless: u64,
    last_walk: Option<u64>,
    evicted: u64,
}

impl Cgroups {
    /// Finds the hierarchy through `/proc/mounts`. Without one, only [`Cgroups::insert`] makes things known.
    pub fn new() -> Self {
        Self::at(find_mount(Path::new("/proc")))
    }

    /// Uses the hierarchy mounted at `mount`.
    pub fn at(mount: Option<PathBuf>) -> Self {
        Self {
            mount,
            known: Map::default(),
            order: VecDeque::new(),
            missing: Map::default(),
            lookups: 0,
            misses: 0,
            fruitless: 0,
            last_walk: None,
            evicted: 0,
        }
    }

    /// Where the unified hierarchy is mounted.
    pub fn mount(&self) -> Option<&Path> {
        self.mount.as_deref()
    }

    /// How many remembered cgroups had to make room for others.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Id of the container that the cgroup belongs to; `None` for the host's own and for unknown cgroups.
    pub fn lookup(&mut self, cgroup_id: u64) -> Option<String> {
        self.lookups += 1;
        if self.find(cgroup_id) {
            let known = self.known.get_mut(&cgroup_id)?;
            known.used = true;
            return known.container.as_deref().map(str::to_owned);
        }
        None
    }

    /// Path of a cgroup in the hierarchy (`/` is its root), if it is known already.
    pub fn path(&self, cgroup_id: u64) -> Option<&str> {
        self.known.get(&cgroup_id).map(|known| &*known.path)
    }

    /// Makes a cgroup known whose path (or last component) somebody told.
    pub fn insert(&mut self, cgroup_id: u64, path: &str) {
        if path.len() > MAX_PATH {
            return;
        }
        self.missing.remove(&cgroup_id);
        let container = Container::id_in_cgroup_path(path).map(Box::from);
        let known = Known { path: path.into(), container, used: false };
        if self.known.insert(cgroup_id, known).is_none() {
            self.order.push_back(cgroup_id);
        }
        while self.known.len() > MAX_KNOWN {
            self.evict_one();
        }
        // Removed ids leave their place in line behind; without this a mkdir/rmdir loop would grow the line.
        if self.order.len() > 2 * MAX_KNOWN {
            let mut seen = Map::default();
            let known = &self.known;
            self.order.retain(|id| known.contains_key(id) && seen.insert(*id, ()).is_none());
        }
    }

    /// Forgets a cgroup whose folder was removed.
    pub fn remove(&mut self, cgroup_id: u64) {
        self.known.remove(&cgroup_id);
    }

    /// Whether the cgroup is known, after a search if need be.
    fn find(&mut self, cgroup_id: u64) -> bool {
        if self.known.contains_key(&cgroup_id) {
            return true;
        }
        // 0 is no cgroup, 1 is the root of the hierarchy on every 64-bit kernel: the host.
        if cgroup_id <= 1 {
            return false;
        }
        if self.missing.get(&cgroup_id).is_some_and(|at| self.lookups.saturating_sub(*at) < MISSING_TTL) {
            return false;
        }
        self.misses += 1;
        if self.fruitless > PATIENCE && !self.misses.is_multiple_of(MISSES_PER_SEARCH) {
            return false;
        }
        if self.search(cgroup_id) {
            self.fruitless = 0;
            return true;
        }
        self.fruitless += 1;
        if self.missing.len() >= MAX_MISSING {
            let lookups = self.lookups;
            self.missing.retain(|_, at| lookups.saturating_sub(*at) < MISSING_TTL);
            if self.missing.len() >= MAX_MISSING {
                self.missing.clear();
            }
        }
        self.missing.insert(cgroup_id, self.lookups);
        false
    }

    fn search(&mut self, cgroup_id: u64) -> bool {
        let Some(mount) = self.mount.clone() else { return false };
        // The top first: runc, and containerd outside of Kubernetes, put containers at or below it.
        let mut parents: Vec<PathBuf> = Vec::new();
        for (ino, name) in folders(&mount) {
            if ino == cgroup_id {
                self.insert(ino, &format!("/{name}"));
                return true;
            }
            if !LAST.contains(&name.as_str()) {
                parents.push(name.into());
            }
        }
        if self.walk(&mount, parents, MAX_SHORT_WALK, cgroup_id) {
            return true;
        }
        if self.last_walk.is_some_and(|at| self.misses - at < MISSES_PER_WALK) {
            return false;
        }
        self.last_walk = Some(self.misses);
        self.walk(&mount, vec![PathBuf::new()], MAX_WALK, cgroup_id)
    }

    /// Walks breadth first below `start` (relative to the mount); remembers what it sees while there is room.
    fn walk(&mut self, mount: &Path, start: Vec<PathBuf>, budget: usize, wanted: u64) -> bool {
        let mut queue: VecDeque<PathBuf> = start.into();
        let mut budget = budget;
        while let Some(parent) = queue.pop_front() {
            for (ino, name) in folders(&mount.join(&parent)) {
                if budget == 0 {
                    return false;
                }
                budget -= 1;
                let path = parent.join(name);
                if ino == wanted || (self.known.len() < MAX_KNOWN / 2 && !self.known.contains_key(&ino)) {
                    self.insert(ino, &format!("/{}", path.display()));
                }
                if ino == wanted {
                    return true;
                }
                queue.push_back(path);
            }
        }
        false
    }

    fn evict_one(&mut self) {
        // Second chance: what was used since the hand last passed goes to the back of the line, once.
        while let Some(id) = self.order.pop_front() {
            match self.known.get_mut(&id) {
                Some(known) if known.used => {
                    known.used = false;
                    self.order.push_back(id);
                }
                Some(_) => {
                    self.known.remove(&id);
                    self.evicted += 1;
                    return;
                }
                None => {}
            }
        }
    }
}

impl Default for Cgroups {
    fn default() -> Self {
        Self::new()
    }
}

/// Folders in a folder: inode number and name. Empty if it cannot be read. kernfs puts the cgroup's number
/// into the directory entry, so that no folder needs a `stat`.
fn folders(path: &Path) -> Vec<(u64, String)> {
    use std::os::unix::fs::DirEntryExt;
    let Ok(entries) = std::fs::read_dir(path) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| Some((entry.ino(), entry.file_name().into_string().ok()?)))
        .take(MAX_WALK)
        .collect()
}

/// Mount point of the unified hierarchy according to `proc_root/mounts`: `/sys/fs/cgroup` on a pure cgroup2
/// host, `/sys/fs/cgroup/unified` on a hybrid one. `None` if there is none.
pub fn find_mount(proc_root: &Path) -> Option<PathBuf> {
    let mounts = std::fs::read(proc_root.join("mounts")).ok()?;
    mounts.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let point = fields.nth(1)?;
        (fields.next()? == b"cgroup2").then(|| PathBuf::from(std::ffi::OsString::from_vec(unescape(point))))
    })
}

/// The systemd unit that a cgroup belongs to: the innermost service or scope on its path.
pub fn unit_in_cgroup_path(path: &str) -> Option<&str> {
    let is_unit =
        |name: &&str| [".service", ".scope", ".socket", ".mount", ".swap"].iter().any(|end| name.ends_with(end));
    path.rsplit('/').find(is_unit)
}

/// Undoes the kernel's `\ooo` escapes for blanks and backslashes in mount tables.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|digits| first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match octal {
            Some(digits) => {
                out.push(digits.iter().fold(0u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')));
                rest = &tail[3..];
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::scratch::Scratch;

    fn id(digit: char) -> String {
        digit.to_string().repeat(64)
    }

    fn mkdir(tree: &Scratch, path: &str) -> u64 {
        let path = tree.path().join(path);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::metadata(path).unwrap().ino()
    }

    #[test]
    fn mounts_of_hybrid_and_pure_hosts_are_found() {
        let tree = Scratch::new("mounts");
        tree.write("mounts", "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n");
        assert_eq!(find_mount(tree.path()), None);
        tree.write("mounts", "cgroup /x cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n");
        assert_eq!(find_mount(tree.path()), Some("/sys/fs/cgroup/unified".into()));
        tree.write("mounts", b"garbage\n\n \xff\ncgroup2 /a\\040b\\134c cgroup2 rw 0 0");
        assert_eq!(find_mount(tree.path()), Some("/a b\\c".into()));
        assert_eq!(find_mount(&tree.path().join("absent")), None);
    }

    #[test]
    fn containers_are_found_in_every_usual_place() {
        let tree = Scratch::new("cgroups");
        let host = mkdir(&tree, "system.slice/sshd.service");
        let plain = mkdir(&tree, &format!("docker/{}", id('a')));
        let nested = mkdir(&tree, &format!("docker/{}/init.scope/deep", id('a')));
        let systemd = mkdir(&tree, &format!("system.slice/docker-{}.scope", id('b')));
        let pod =
            format!("kubepods.slice/kubepods-besteffort.slice/kubepods-pod1.slice/cri-containerd-{}.scope", id('c'));
        let pod = mkdir(&tree, &pod);
        let elsewhere = mkdir(&tree, &format!("user.slice/user-0.slice/libpod-{}.scope", id('d')));
        let mut cgroups = Cgroups::at(Some(tree.path().into()));
        assert_eq!(cgroups.lookup(plain), Some(id('a')));
        assert_eq!(cgroups.lookup(nested), Some(id('a')));
        assert_eq!(cgroups.lookup(systemd), Some(id('b')));
        assert_eq!(cgroups.lookup(pod), Some(id('c')));
        assert_eq!(cgroups.lookup(elsewhere), Some(id('d')));
        assert_eq!(cgroups.lookup(host), None);
        assert_eq!(cgroups.path(host), Some("/system.slice/sshd.service"));
        assert_eq!(cgroups.lookup(0), None);
        assert_eq!(cgroups.lookup(1), None);
    }

    #[test]
    fn told_names_win_and_are_forgotten_on_removal() {
        let mut cgroups = Cgroups::at(None);
        assert_eq!(cgroups.lookup(77), None);
        cgroups.insert(77, &format!("/docker/{}", id('e')));
        assert_eq!(cgroups.lookup(77), Some(id('e')), "a told name overrides an earlier miss");
        cgroups.insert(78, &id('f'));
        assert_eq!(cgroups.lookup(78), Some(id('f')), "the last component is enough");
        cgroups.remove(77);
        assert_eq!(cgroups.lookup(77), None);
        cgroups.insert(79, &"x".repeat(MAX_PATH + 1));
        assert_eq!(cgroups.path(79), None);
    }

    #[test]
    fn a_miss_expires_and_late_folders_are_found() {
        let tree = Scratch::new("late");
        let late = mkdir(&tree, &format!("docker/{}", id('a')));
        let away = tree.path().join("docker");
        let hidden = tree.path().parent().unwrap().join(format!("tw-hidden-{}", std::process::id()));
        std::fs::rename(&away, &hidden).unwrap();
        let mut cgroups = Cgroups::at(Some(tree.path().into()));
        assert_eq!(cgroups.lookup(late), None);
        std::fs::rename(&hidden, &away).unwrap();
        assert_eq!(cgroups.lookup(late), None, "still remembered as missing");
        for _ in 0..MISSING_TTL {
            cgroups.lookup(1);
        }
        assert_eq!(cgroups.lookup(late), Some(id('a')));
    }

    #[test]
    fn tables_stay_bounded_and_the_used_survive() {
        let mut cgroups = Cgroups::at(None);
        cgroups.insert(5, &format!("/docker/{}", id('a')));
        for n in 0..(3 * MAX_KNOWN as u64) {
            cgroups.insert(1_000 + n, "/x");
            assert_eq!(cgroups.lookup(5), Some(id('a')));
        }
        assert_eq!(cgroups.known.len(), MAX_KNOWN);
        assert!(cgroups.order.len() <= 2 * MAX_KNOWN);
        assert_eq!(cgroups.evicted(), 2 * MAX_KNOWN as u64 + 1);
        for n in 0..(3 * MAX_KNOWN as u64) {
            cgroups.insert(1_000_000 + n, "/x");
            cgroups.remove(1_000_000 + n);
            cgroups.lookup(9_000_000 + n);
        }
        assert!(cgroups.order.len() <= 2 * MAX_KNOWN + 1);
        assert!(cgroups.missing.len() <= MAX_MISSING);
    }

    #[test]
    fn numbers_on_the_real_hierarchy_match_stat() {
        let Some(mount) = find_mount(Path::new("/proc")) else {
            eprintln!("skipped: no cgroup2 mount");
            return;
        };
        for (ino, name) in folders(&mount) {
            let Ok(stat) = std::fs::metadata(mount.join(&name)) else { continue };
            assert_eq!(stat.ino(), ino, "{name}");
        }
    }
}
