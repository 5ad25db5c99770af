//! Paths on the real kernel: across bind mounts, overlays, removed files, chroot, pivot_root and renamed directories, in a
//! mount namespace of their own.
//!
//! Needs root, eBPF and python3; without them the test says so and passes, unless `TIDEWATCH_REQUIRE_E2E` is set.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::process::Command;

use tw_model::event::EventKind;
use tw_model::raw::attr;
use tw_sensor::Options;

mod watching;
use watching::{Record, sensor, told};

/// Makes each trick, and opens a file whose name in `raw` says which; `/proc` is not needed inside.
const TRICKS: &str = r"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def ok(result): assert result == 0, os.strerror(ctypes.get_errno())
def mount(source, at, kind, flags, data=None): ok(libc.mount(source, at, kind, flags, data))
REC, BIND, PRIVATE = 0x4000, 0x1000, 0x40000
ok(libc.unshare(0x20000)); mount(b'none', b'/', None, REC | PRIVATE)
d = sys.argv[1].encode(); os.chdir(d)
mount(b'tw', d, b'tmpfs', 0); os.chdir(d)
for name in 'source there lower upper work merged jail jail/etc new new/old a a/b'.split(): os.mkdir(name)
def write(name): open(name, 'w').close()
write('source/bound'); write('lower/kept'); write('lower/changed'); write('gone'); write('secret'); write('a/b/moved')
def look(name, flags=0): os.close(os.open(name, flags))
mount(b'source', b'there', None, BIND); look('there/bound')
mount(b'overlay', b'merged', b'overlay', 0, b'lowerdir=lower,upperdir=upper,workdir=work')
look('merged/kept'); look('merged/changed', os.O_WRONLY); look(d + b'/merged/made', os.O_CREAT | os.O_WRONLY)
fd = os.open('gone', 0); os.unlink('gone'); look(b'/proc/self/fd/%d' % fd)
os.symlink('secret', 'link'); look(d + b'/link'); look('./a/../secret')
inner = os.open('a/b', 0); os.rename('a/b', 'a/renamed'); look('a/renamed/moved')
os.close(os.open('moved', 0, dir_fd=inner))
try: os.open('missing', 0, dir_fd=inner)
except OSError: pass
os.chdir('a/renamed'); os.rename('../renamed', '../again'); os.close(os.open('moved', os.O_NONBLOCK)); os.chdir(d)
write('jail/etc/jailed')
if os.fork() == 0:
    os.chroot('jail'); os.chdir('/'); look('/etc/jailed'); os._exit(0)
os.wait()
write('new/pivoted'); mount(b'new', b'new', None, BIND); os.chdir('new')
if os.fork() == 0:
    ok(libc.unshare(0x20000)); ok(libc.syscall(155, b'.', b'old')); os.chroot('.'); os.chdir('/')
    look('/pivoted'); look('/old' + sys.argv[1] + '/secret', os.O_NONBLOCK); os._exit(0)
os.wait()
";

struct Seen {
    path: String,
    root: String,
    attrs: u32,
    ret: i64,
    base: String,
}

#[test]
#[cfg(target_arch = "x86_64")] // the script has a call number
fn paths_are_right_whatever_lies_between() {
    let Some((mut sensor, _alone)) = sensor(&Options::default()) else { return };
    let folder = std::env::temp_dir().join(format!("tidewatch-paths-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let top = folder.display().to_string();
    let out = Command::new("/usr/bin/python3").args(["-c", TRICKS, &top]).output().unwrap();
    let records = told(&mut sensor);
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let mut seen: BTreeMap<String, Vec<Seen>> = BTreeMap::new();
    for raw in records.iter().map(Record::raw) {
        if raw.comm() != b"python3" || raw.kind() != EventKind::Openat {
            continue;
        }
        let body = raw.file().unwrap();
        let text = |part| String::from_utf8_lossy(raw.text(part)).into_owned();
        let entry = Seen {
            path: text(body.path),
            root: text(body.root),
            attrs: body.attrs,
            ret: raw.header.ret,
            base: text(body.base),
        };
        seen.entry(text(body.raw)).or_default().push(entry);
    }
    let one = |raw: &str, n: usize| seen.get(raw).and_then(|all| all.get(n)).unwrap_or_else(|| panic!("{raw} [{n}]"));
    let path = |raw: &str, n: usize| one(raw, n).path.clone();
    let below = |rest: &str| format!("{top}/{rest}");

    assert_eq!(path("there/bound", 0), below("there/bound"), "a bind mount: as it is named there");
    assert_eq!(path("merged/kept", 0), below("merged/kept"));
    let layer = |raw: &str| one(raw, 0).attrs & (attr::LOWER | attr::UPPER);
    assert_eq!(layer("merged/kept"), attr::LOWER);
    assert_eq!(layer("merged/changed"), attr::UPPER, "opening for writing copied it up");
    assert_eq!(layer(&below("merged/made")), attr::UPPER);
    let gone = seen.iter().find(|(raw, _)| raw.starts_with("/proc/self/fd/")).map(|(_, all)| &all[0]).unwrap();
    assert_eq!(gone.path, below("gone"), "the name that it had");
    assert!(gone.attrs & attr::DELETED != 0);
    assert_eq!(path(&below("link"), 0), below("secret"), "a symbolic link: where it leads");
    assert!(one(&below("link"), 0).attrs & attr::DELETED == 0);
    assert_eq!(path("./a/../secret", 0), below("secret"));
    assert_eq!(path("a/renamed/moved", 0), below("a/renamed/moved"));
    assert_eq!(path("moved", 0), below("a/renamed/moved"), "through a descriptor of a directory renamed meanwhile");
    let missing = one("missing", 0);
    assert_eq!(
        (missing.ret, missing.base.clone()),
        (-2, below("a/renamed")),
        "a failed call: the directory as it is now"
    );
    assert_eq!(path("moved", 1), below("a/again/moved"), "from a working directory renamed meanwhile");
    let jailed = one("/etc/jailed", 0);
    assert_eq!((jailed.path.as_str(), jailed.root.as_str()), ("/etc/jailed", below("jail").as_str()), "chroot");
    let pivoted = one("/pivoted", 0);
    assert_eq!(
        (pivoted.path.as_str(), pivoted.root.as_str()),
        ("/pivoted", ""),
        "pivot_root: the namespace's own root"
    );
    let outside = format!("/old{top}/secret");
    assert_eq!(path(&outside, 0), outside, "through the old root that is still mounted");
    assert!(seen.values().flatten().filter(|seen| seen.path != "/etc/jailed").all(|seen| seen.root.is_empty()));
}
