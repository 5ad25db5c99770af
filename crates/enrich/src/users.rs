//! Names behind user and group numbers: the host's, and each container's own.
//!
//! A container owns its `/etc/passwd` and may make it anything: a link to a file of the host, a FIFO or
//! device that blocks its reader, a file system of its own, gigabytes. So the path is resolved inside the
//! container's root and on its root mount only, the result must be a regular file before it is opened for
//! reading, and reading and parsing are bounded.
//!
//! **Never:** a block on a container's file; a path that leaves the container's root.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use tw_model::process::UserNames;

/// Most bytes read of one database file; lines behind are ignored.
pub const MAX_FILE: u64 = 1 << 20;
/// Most entries kept of one database file.
pub const MAX_ENTRIES: usize = 4_096;
/// Most bytes of a user's or group's name.
pub const MAX_NAME: usize = 64;
/// Shortest time between two looks at the host's files, nanoseconds.
pub const REFRESH_NS: u64 = 5_000_000_000;

/// Most bytes of a home directory or shell.
const MAX_PATH: usize = 128;
/// Most bytes read of a map of user numbers, and of a mount table.
const MAX_MAP: u64 = 1 << 20;
/// What the kernel says for "never logged in".
const NO_LOGIN: u32 = u32::MAX;

type Map<V> = HashMap<u32, V, foldhash::fast::RandomState>;

#[derive(Clone, Debug, Default)]
struct User {
    name: Arc<str>,
    home: Arc<str>,
    shell: Arc<str>,
}

/// One range of a user namespace's map: `count` numbers from `outside` on are `inside` and on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    inside: u32,
    outside: u32,
    count: u32,
}

/// What tells whether a file changed: inode, size, modification time.
type Stamp = (u64, i64, i64, u64);

/// Where the host's files are, and how they were when they were last read.
#[derive(Debug)]
struct Watched {
    root: PathBuf,
    stamps: [Option<Stamp>; 2],
    looked_ns: u64,
}

/// A user database: names for numbers.
#[derive(Debug)]
pub struct UserDb {
    users: Arc<Map<User>>,
    groups: Map<Arc<str>>,
    /// The host's users, for login names: the login happened there.
    logins: Arc<Map<User>>,
    uid_map: Vec<Range>,
    gid_map: Vec<Range>,
    watched: Option<Watched>,
    empty: Arc<str>,
    root: Arc<str>,
}

impl UserDb {
    /// Reads the host's `/etc/passwd` and `/etc/group`. What cannot be read is empty.
    pub fn host() -> Self {
        Self::host_at(Path::new("/"))
    }

    /// The same for a host whose root is mounted at `root`.
    pub fn host_at(root: &Path) -> Self {
        let mut db = Self::empty(Arc::default());
        db.watched = Some(Watched { root: root.into(), stamps: [None; 2], looked_ns: 0 });
        db.reload();
        db
    }

    /// Reads the database of a container through its root, as a rule `/proc/PID/root`, with login names from
    /// `host` as it is now. What cannot be read safely is empty.
    pub fn for_root(root: &Path, host: &Self) -> Self {
        let mut db = Self::empty(Arc::clone(&host.users));
        // Only what lies on the root's own mount: a container may mount a file system that never answers.
        let flags = ResolveFlags::NO_XDEV;
        db.users = Arc::new(read_file(root, "etc/passwd", flags).map(|text| parse_users(&text)).unwrap_or_default());
        db.groups = read_file(root, "etc/group", flags).map(|text| parse_groups(&text)).unwrap_or_default();
        db
    }

    /// Like [`UserDb::for_root`] for the container that process `pid` lives in. Knows the numbers of its user
    /// namespace, and keeps away from a root that a process of the container may serve (FUSE).
    pub fn for_process(proc_root: &Path, pid: u32, host: &Self) -> Self {
        let folder = proc_root.join(pid.to_string());
        let root = folder.join("root");
        let mut db =
            if root_may_block(&folder) { Self::empty(Arc::clone(&host.users)) } else { Self::for_root(&root, host) };
        db.uid_map = read_map(&folder.join("uid_map"));
        db.gid_map = read_map(&folder.join("gid_map"));
        db
    }

    /// Names for a user, a group and a login user, all as the host numbers them. Empty where there is no
    /// entry, but a root without entry is `root`.
    pub fn names(&self, uid: u32, gid: u32, loginuid: u32) -> UserNames {
        let inside_uid = to_inside(&self.uid_map, uid);
        let inside_gid = to_inside(&self.gid_map, gid);
        let user = inside_uid.and_then(|uid| self.users.get(&uid));
        let group = inside_gid.and_then(|gid| self.groups.get(&gid));
        UserNames {
            user: self.or_root(user.map(|user| &user.name), inside_uid == Some(0)),
            home: self.or_root(user.map(|user| &user.home), false),
            shell: self.or_root(user.map(|user| &user.shell), false),
            group: self.or_root(group, inside_gid == Some(0)),
            login: match loginuid {
                NO_LOGIN => Arc::clone(&self.empty),
                uid => self.or_root(self.logins.get(&uid).map(|user| &user.name), uid == 0),
            },
        }
    }

    /// Reads the host's files again if they changed and the last look is [`REFRESH_NS`] ago. Says whether it
    /// did; names given out before stay as they are. `now_ns` is any clock that does not go back. Does nothing
    /// on a container's database.
    pub fn refresh(&mut self, now_ns: u64) -> bool {
        let Some(watched) = &mut self.watched else { return false };
        if now_ns.saturating_sub(watched.looked_ns) < REFRESH_NS {
            return false;
        }
        watched.looked_ns = now_ns;
        if watched.stamps == stamps(&watched.root) {
            return false;
        }
        self.reload();
        true
    }

    fn empty(logins: Arc<Map<User>>) -> Self {
        Self {
            users: Arc::default(),
            groups: Map::default(),
            logins,
            uid_map: Vec::new(),
            gid_map: Vec::new(),
            watched: None,
            empty: Arc::default(),
            root: "root".into(),
        }
    }

    fn reload(&mut self) {
        let Some(watched) = &mut self.watched else { return };
        // Stamps first: a change while we read shows as a difference at the next look.
        watched.stamps = stamps(&watched.root);
        let flags = ResolveFlags::empty();
        let users = read_file(&watched.root, "etc/passwd", flags).map(|text| parse_users(&text));
        self.users = Arc::new(users.unwrap_or_default());
        self.logins = Arc::clone(&self.users);
        let groups = read_file(&watched.root, "etc/group", flags).map(|text| parse_groups(&text));
        self.groups = groups.unwrap_or_default();
    }

    fn or_root(&self, name: Option<&Arc<str>>, is_root: bool) -> Arc<str> {
        Arc::clone(name.unwrap_or(if is_root { &self.root } else { &self.empty }))
    }
}

fn stamps(root: &Path) -> [Option<Stamp>; 2] {
    ["etc/passwd", "etc/group"].map(|name| {
        let stat = rustix::fs::stat(root.join(name)).ok()?;
        Some((stat.st_ino, stat.st_size, stat.st_mtime, stat.st_mtime_nsec))
    })
}

/// Reads at most [`MAX_FILE`] bytes of a regular file below `root`; links are resolved as if `root` were `/`.
fn read_file(root: &Path, name: &str, flags: ResolveFlags) -> io::Result<Vec<u8>> {
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, folder, Mode::empty())?;
    let flags = flags | ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // First only a handle: to open a FIFO or a device, even without waiting, can have effects.
    let handle = rustix::fs::openat2(&root, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), flags)?;
    if FileType::from_raw_mode(rustix::fs::fstat(&handle)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut text = Vec::new();
    std::fs::File::from(reopen(&handle)?).take(MAX_FILE).read_to_end(&mut text)?;
    if text.len() as u64 == MAX_FILE {
        // Cut off: the last line may be half a line, and half a number is a wrong number.
        let end = text.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
        text.truncate(end);
    }
    Ok(text)
}

/// Opens for reading exactly the file that the handle stands for.
fn reopen(handle: &OwnedFd) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn parse_users(text: &[u8]) -> Map<User> {
    let mut shells: HashSet<Arc<str>> = HashSet::new();
    let mut users = Map::default();
    for [name, _, uid, _, _, home, shell] in lines(text) {
        let Some(uid) = parse_number(uid) else { continue };
        if users.len() >= MAX_ENTRIES {
            break;
        }
        // Most users share one of three shells.
        let shell = Arc::clone(shells.get_or_insert(cut(shell, MAX_PATH).into()));
        users.entry(uid).or_insert_with(|| User {
            name: cut(name, MAX_NAME).into(),
            home: cut(home, MAX_PATH).into(),
            shell,
        });
    }
    users
}

fn parse_groups(text: &[u8]) -> Map<Arc<str>> {
    let mut groups = Map::default();
    for [name, _, gid] in lines(text) {
        let Some(gid) = parse_number(gid) else { continue };
        if groups.len() >= MAX_ENTRIES {
            break;
        }
        groups.entry(gid).or_insert_with(|| cut(name, MAX_NAME).into());
    }
    groups
}

/// The first `N` fields of each line; the missing last ones are empty.
fn lines<const N: usize>(text: &[u8]) -> impl Iterator<Item = [&[u8]; N]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && line[0] != b'#').map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        std::array::from_fn(|_| fields.next().unwrap_or_default())
    })
}

fn parse_number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The text, lossy, cut to at most `limit` bytes at a character's border.
fn cut(text: &[u8], limit: usize) -> String {
    // A lossy character grows to three bytes at most, never shrinks: so many bytes in are enough.
    let mut text = String::from_utf8_lossy(&text[..text.len().min(limit)]).into_owned();
    text.truncate(text.floor_char_boundary(limit));
    text
}

/// The number inside a user namespace; without a map it is the same.
fn to_inside(map: &[Range], outside: u32) -> Option<u32> {
    if map.is_empty() {
        return Some(outside);
    }
    map.iter().find_map(|range| {
        let offset = outside.checked_sub(range.outside).filter(|offset| *offset < range.count)?;
        range.inside.checked_add(offset)
    })
}

/// A namespace's map as the kernel prints it: `inside outside count` on each line, outside as we see it.
fn read_map(path: &Path) -> Vec<Range> {
    let text = read_text(path);
    text.lines()
        .filter_map(|line| {
            let mut numbers = line.split_ascii_whitespace().map(|number| number.parse().ok());
            Some(Range { inside: numbers.next()??, outside: numbers.next()??, count: numbers.next()?? })
        })
        .collect()
}

/// Whether the process's root lies on a file system whose answers may come from a process (FUSE), so that
/// even to look up a name could take for ever. Without an entry for the root: yes.
fn root_may_block(folder: &Path) -> bool {
    // Mount points are printed relative to the process's root, and only those below it. So the root's own
    // line says `/`, and the last such line covers the others; a chroot into a plain folder has none.
    // 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw
    let table = read_text(&folder.join("mountinfo"));
    let mut roots = table.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        (left.split(' ').nth(4)? == "/").then(|| right.split(' ').next())?
    });
    table.len() as u64 >= MAX_MAP || roots.next_back().is_none_or(|kind| kind.starts_with("fuse"))
}

fn read_text(path: &Path) -> String {
    let mut text = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        let _ = file.take(MAX_MAP).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    const PASSWD: &str = "# comment\nroot:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/var/www:/bin/sh\n\
        twice:x:33:1::/:\nshort:x:7\nbad:x:-1:0::/:\nbad:x:99999999999:0::/:\n\n:::::::\n";
    const GROUP: &str = "root:x:0:\nwww-data:x:33:a,b\n";

    fn tree(passwd: &[u8], group: &[u8]) -> Scratch {
        let tree = Scratch::new("users");
        tree.write("etc/passwd", passwd);
        tree.write("etc/group", group);
        tree
    }

    fn no_host() -> UserDb {
        UserDb::empty(Arc::default())
    }

    fn user(db: &UserDb, uid: u32) -> String {
        db.names(uid, 0, NO_LOGIN).user.to_string()
    }

    #[test]
    fn entries_are_found_and_the_first_wins() {
        let tree = tree(PASSWD.as_bytes(), GROUP.as_bytes());
        let db = UserDb::host_at(tree.path());
        let names = db.names(33, 33, 7);
        assert_eq!((&*names.user, &*names.home, &*names.shell), ("www", "/var/www", "/bin/sh"));
        assert_eq!((&*names.group, &*names.login), ("www-data", "short"));
        let again = db.names(33, 33, 7);
        assert!(Arc::ptr_eq(&names.user, &again.user) && Arc::ptr_eq(&names.group, &again.group));
        assert!(Arc::ptr_eq(&db.names(0, 0, 0).shell, &names.shell));
        assert_eq!(db.names(12_345, 12_345, 12_345), UserNames::default());
        assert_eq!(db.users.len(), 3);
    }

    #[test]
    fn root_has_a_name_without_a_file() {
        let tree = Scratch::new("nousers");
        let db = UserDb::for_root(tree.path(), &no_host());
        assert_eq!((&*db.names(0, 0, 0).user, &*db.names(0, 0, 0).group), ("root", "root"));
        assert_eq!(user(&db, 5), "");
        assert_eq!(&*db.names(0, 0, NO_LOGIN).login, "");
    }

    #[test]
    fn login_names_are_the_hosts() {
        let host = tree(b"alice:x:1000:0::/:/x\n", b"");
        let container = tree(b"mallory:x:1000:0::/:/x\n", b"");
        let host = UserDb::host_at(host.path());
        let names = UserDb::for_root(container.path(), &host).names(1000, 0, 1000);
        assert_eq!((&*names.user, &*names.login), ("mallory", "alice"));
    }

    #[test]
    fn links_stay_inside_the_root() {
        let outside = Scratch::new("outside");
        outside.write("secret", "stolen:x:1:1::/:/\n");
        let secret = outside.path().join("secret");
        let jail = Scratch::new("jail");
        jail.link("etc/passwd", &secret);
        assert_eq!(user(&UserDb::for_root(jail.path(), &no_host()), 1), "", "an absolute link");
        let up = Scratch::new("up");
        up.link("etc/passwd", format!("../../../../../../../..{}", secret.display()));
        assert_eq!(user(&UserDb::for_root(up.path(), &no_host()), 1), "", "a relative link");
        let folder = Scratch::new("folder");
        folder.link("etc", outside.path());
        outside.write("passwd", "stolen:x:1:1::/:/\n");
        assert_eq!(user(&UserDb::for_root(folder.path(), &no_host()), 1), "", "a folder");
        let magic = Scratch::new("magic");
        let file = std::fs::File::open(&secret).unwrap();
        magic.link("etc/passwd", format!("/proc/self/fd/{}", file.as_raw_fd()));
        assert_eq!(user(&UserDb::for_root(magic.path(), &no_host()), 1), "", "a magic link");
        let good = Scratch::new("good");
        good.link("etc/passwd", "/usr/passwd");
        good.write("usr/passwd", "kept:x:1:1::/:/\n");
        assert_eq!(user(&UserDb::for_root(good.path(), &no_host()), 1), "kept", "a link inside works");
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        let tree = Scratch::new("kinds");
        tree.write("etc/x", "");
        let fifo = tree.path().join("etc/passwd");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        std::fs::create_dir(tree.path().join("etc/group")).unwrap();
        let started = std::time::Instant::now();
        let db = UserDb::for_root(tree.path(), &no_host());
        assert!(started.elapsed() < std::time::Duration::from_secs(1));
        assert!(db.users.is_empty() && db.groups.is_empty());
        std::fs::remove_file(&fifo).unwrap();
        std::os::unix::fs::symlink("passwd", &fifo).unwrap();
        assert!(UserDb::for_root(tree.path(), &no_host()).users.is_empty(), "a circle of links");
    }

    #[test]
    fn sizes_are_bounded() {
        let line = "someone-with-a-name:x:0000:0::/:/\n";
        let mut big = b"first:x:1:1::/:/\n".to_vec();
        while big.len() < 2 << 20 {
            big.extend_from_slice(line.as_bytes());
        }
        big.extend_from_slice(b"last:x:2:2::/:/\n");
        let db = UserDb::for_root(tree(&big, b"").path(), &no_host());
        assert_eq!((user(&db, 1), user(&db, 2)), ("first".into(), String::new()));
        let db = UserDb::for_root(tree(&vec![b'a'; 10 << 20], &vec![b':'; 10 << 20]).path(), &no_host());
        assert!(db.users.is_empty() && db.groups.is_empty());
        let many: String = (0..50_000).map(|n| format!("u:x:{n}:0::/:/\n")).collect();
        assert_eq!(UserDb::for_root(tree(many.as_bytes(), b"").path(), &no_host()).users.len(), MAX_ENTRIES);
        let long = format!("{}\u{20ac}\u{20ac}:x:1:1::/:/\n", "n".repeat(62));
        let db = UserDb::for_root(tree(long.as_bytes(), b"").path(), &no_host());
        assert!(user(&db, 1).len() <= MAX_NAME && user(&db, 1).starts_with("nnn"));
        let db = UserDb::for_root(tree(b"\xff\xfe:x:1:1::/\xff:/\n", b"g\xff:x:1:\n").path(), &no_host());
        assert_eq!((user(&db, 1).as_str(), &*db.names(1, 1, 1).group), ("\u{fffd}\u{fffd}", "g\u{fffd}"));
    }

    #[test]
    fn changes_on_the_host_are_seen_after_a_while() {
        let tree = tree(b"old:x:1:1::/:/\n", b"");
        let mut db = UserDb::host_at(tree.path());
        assert!(!db.refresh(REFRESH_NS), "nothing changed");
        tree.write("etc/passwd", "newer:x:1:1::/:/\n");
        assert!(!db.refresh(REFRESH_NS + 1), "too early");
        assert_eq!(user(&db, 1), "old");
        assert!(db.refresh(2 * REFRESH_NS));
        assert_eq!(user(&db, 1), "newer");
        assert!(!db.refresh(3 * REFRESH_NS));
    }

    #[test]
    fn user_namespaces_are_translated() {
        let tree = tree(PASSWD.as_bytes(), GROUP.as_bytes());
        let mut db = UserDb::for_root(tree.path(), &no_host());
        tree.write("map", "         0     100000      65536\n     70000  5  1\nnonsense\n4294967295 300000 5\n");
        db.uid_map = read_map(&tree.path().join("map"));
        assert_eq!(db.uid_map.len(), 3);
        assert_eq!(user(&db, 100_033), "www");
        assert_eq!(user(&db, 33), "", "not in the map");
        assert_eq!(user(&db, 300_004), "", "no overflow");
        assert_eq!(user(&db, 100_000), "root");
    }

    #[test]
    fn a_served_root_is_left_alone() {
        let tree = tree(PASSWD.as_bytes(), GROUP.as_bytes());
        let info = |text: &str| tree.write("1/mountinfo", text);
        tree.link("1/root", tree.path());
        info("1 0 0:1 / / rw - ext4 /dev/x rw\n");
        assert_eq!(user(&UserDb::for_process(tree.path(), 1, &no_host()), 33), "www");
        info("1 0 0:1 / / rw - ext4 x rw\n2 1 0:2 / /mnt rw - fuse.fine x rw\n");
        assert_eq!(user(&UserDb::for_process(tree.path(), 1, &no_host()), 33), "www");
        info("1 0 0:1 / / rw - ext4 x rw\n2 1 0:2 / / rw shared:2 - fuse.evil x rw\n");
        assert_eq!(user(&UserDb::for_process(tree.path(), 1, &no_host()), 33), "");
        info("");
        assert_eq!(user(&UserDb::for_process(tree.path(), 1, &no_host()), 33), "");
        assert_eq!(user(&UserDb::for_process(tree.path(), 2, &no_host()), 33), "");
    }

    #[test]
    fn this_host_knows_root() {
        let mut db = UserDb::host();
        assert_eq!(&*db.names(0, 0, 0).user, "root");
        db.refresh(REFRESH_NS);
        let me = UserDb::for_process(Path::new("/proc"), std::process::id(), &db);
        assert_eq!(&*me.names(0, 0, 0).login, "root");
    }
}
