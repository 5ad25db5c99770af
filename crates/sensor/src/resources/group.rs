//! Where the control group files of a container are, in version 1, version 2 and both side by side.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Longest file that is read, bytes.
const MOST: u64 = 256 << 10;
/// Controllers of version 1 that are read.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuacct", "memory", "blkio", "pids"];

/// Where the hierarchies are mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hierarchies {
    v1: HashMap<&'static str, PathBuf>,
    v2: Option<PathBuf>,
}

/// The folders of one container. What is absent is not measured there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// In the unified hierarchy.
    pub unified: Option<PathBuf>,
    /// By controller of version 1.
    pub cpu: Option<PathBuf>,
    /// See [`Files::cpu`].
    pub cpuacct: Option<PathBuf>,
    /// See [`Files::cpu`].
    pub memory: Option<PathBuf>,
    /// See [`Files::cpu`].
    pub blkio: Option<PathBuf>,
    /// See [`Files::cpu`].
    pub pids: Option<PathBuf>,
}

impl Hierarchies {
    /// Reads the mount table.
    pub fn read(proc_root: &Path) -> Self {
        Self::parse(&read_file(&proc_root.join("self/mounts")).unwrap_or_default())
    }

    /// Where the unified hierarchy is.
    pub fn unified(&self) -> Option<&Path> {
        self.v2.as_deref()
    }

    fn parse(mounts: &[u8]) -> Self {
        let mut found = Self::default();
        for line in String::from_utf8_lossy(mounts).lines() {
            let mut words = line.split(' ');
            let (Some(point), Some(kind), Some(options)) = (words.nth(1), words.next(), words.next()) else { continue };
            let point = PathBuf::from(unescape(point));
            match kind {
                "cgroup2" => found.v2 = found.v2.or(Some(point)),
                "cgroup" => {
                    for controller in CONTROLLERS {
                        if options.split(',').any(|option| option == controller) {
                            found.v1.entry(controller).or_insert_with(|| point.clone());
                        }
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// The folders of the container `id`, found through its first process `pid`.
    pub fn files(&self, proc_root: &Path, pid: u32, id: &str) -> Files {
        self.of(&read_file(&proc_root.join(format!("{pid}/cgroup"))).unwrap_or_default(), id)
    }

    fn of(&self, table: &[u8], id: &str) -> Files {
        let mut files = Files::default();
        for line in String::from_utf8_lossy(table).lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
            let Some(path) = folder(path, id) else { continue };
            if controllers.is_empty() {
                files.unified = self.v2.as_ref().map(|mount| mount.join(path));
            }
            for controller in controllers.split(',') {
                let place = match controller {
                    "cpu" => &mut files.cpu,
                    "cpuacct" => &mut files.cpuacct,
                    "memory" => &mut files.memory,
                    "blkio" => &mut files.blkio,
                    "pids" => &mut files.pids,
                    _ => continue,
                };
                *place = self.v1.get(controller).map(|mount| mount.join(path));
            }
        }
        files
    }
}

/// The container's own folder, relative to the mount: the path down to the part that names it. A container may move its
/// processes into groups below, or try to name others; one that the container is not named in is not its own.
fn folder<'p>(path: &'p str, id: &str) -> Option<&'p str> {
    if id.is_empty() || path.split('/').any(|part| part == "..") {
        return None;
    }
    let at = path.find(id)? + id.len();
    let end = path[at..].find('/').map_or(path.len(), |slash| at + slash);
    Some(path[..end].trim_start_matches('/'))
}

/// Undoes the kernel's `\ooo` for blanks and the like in mount tables.
pub(crate) fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

/// A small file of the kernel; `None` if it is not there or cannot be read.
pub(super) fn read_file(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(MOST).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn folders_are_found_on_hosts_of_every_kind() {
        let hybrid = Hierarchies::parse(
            b"tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
              cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0\n\
              cgroup /sys/fs/cgroup/my\\040memory cgroup rw,memory 0 0\n\
              cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n garbage\n",
        );
        let table = format!("4:memory:/docker/{ID}\n3:cpu,cpuacct:/docker/{ID}/deep\n2:pids:/\n0::/docker/{ID}/init\n");
        let files = hybrid.of(table.as_bytes(), ID);
        assert_eq!(files.unified, Some(format!("/sys/fs/cgroup/unified/docker/{ID}").into()));
        assert_eq!(files.cpu, Some(format!("/sys/fs/cgroup/cpu,cpuacct/docker/{ID}").into()));
        assert_eq!((&files.cpuacct, &files.pids, &files.blkio), (&files.cpu, &None, &None));
        assert_eq!(files.memory, Some(format!("/sys/fs/cgroup/my memory/docker/{ID}").into()));
        let pure = Hierarchies::parse(b"cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n");
        let scope = format!("0::/system.slice/docker-{ID}.scope/init.scope\n");
        let files = pure.of(scope.as_bytes(), ID);
        assert_eq!(files.unified, Some(format!("/sys/fs/cgroup/system.slice/docker-{ID}.scope").into()));
    }

    #[test]
    fn the_groups_of_others_are_not_taken() {
        let pure = Hierarchies::parse(b"cgroup2 /c cgroup2 rw 0 0\n");
        for path in ["/", "/system.slice", &format!("/../{ID}"), &format!("/docker/{ID}/../..")] {
            assert_eq!(pure.of(format!("0::{path}\n").as_bytes(), ID), Files::default(), "{path}");
        }
        assert_eq!(pure.of(b"0::/docker/x\n", ""), Files::default());
        assert_eq!(pure.of(b"\xff::\n::\n0:\n", ID), Files::default());
    }
}
