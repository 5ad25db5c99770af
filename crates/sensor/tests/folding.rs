//! Opens that only say again what was told are counted, and everything that differs is told.
//!
//! That the counts are exact is shown by `repeated_opens_are_counted_one_for_one` in ledger.rs. Needs root, eBPF and python3;
//! without root or eBPF the tests say so and pass, unless `TIDEWATCH_REQUIRE_E2E` is set.

#![allow(clippy::unwrap_used, reason = "a test")]

use tw_model::event::EventKind;
use tw_model::raw::Raw;
use tw_sensor::Options;

mod watching;
use watching::{Record, sensor, text, watch};

/// `again(NAME)` opens a file thirty times, `once(NAME)` once, both relative to a folder that is this process's own.
const START: &str = "
import ctypes, os, sys, threading
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
libc = ctypes.CDLL(None, use_errno=True)
def once(name, flags=0, at=None):
    try: os.close(os.open(name, flags, dir_fd=at))
    except OSError: pass
def again(name, flags=0, at=None):
    for _ in range(30): once(name, flags, at)
def make(name):
    with open(os.getcwd() + '/' + name, 'x'): pass
folder = f'/tmp/tidewatch-fold-{os.getpid()}'
os.mkdir(folder); os.chdir(folder); os.mkdir('in'); os.mkdir('other'); make('file'); make('in/file')
";

const END: &str = "
os.chdir('/'); import shutil; shutil.rmtree(folder, ignore_errors=True)
";

/// Records of opens of such a script, its own and those of its children.
fn opens<'r>(records: &'r [Record], name: &str) -> Vec<Raw<'r>> {
    let raws = records.iter().map(Record::raw);
    let opens = raws.filter(|raw| matches!(raw.kind(), EventKind::Open | EventKind::Openat));
    opens.filter(|raw| raw.file().is_some_and(|file| text(raw, file.raw) == name)).collect()
}

fn run(options: &Options, middle: &str) -> Option<Vec<Record>> {
    let (mut sensor, _alone) = sensor(options)?;
    Some(watch(&mut sensor, &format!("{START}{middle}{END}")))
}

#[test]
fn the_same_open_again_is_told_once_and_says_how_many_there_were() {
    // Another process on the same CPU may take the place of the first: not often.
    for _ in 0..10 {
        let middle = "again('file')\nagain('missing')\nimport time; time.sleep(1.1)\nonce('file')\nonce('missing')";
        let Some(records) = run(&Options::default(), middle) else { return };
        let told: Vec<_> = ["file", "missing"].into_iter().map(|name| opens(&records, name)).collect();
        assert!(
            told.iter().all(|told| told.len() >= 2),
            "first and last are told: {}, {}",
            told[0].len(),
            told[1].len()
        );
        let counts = told.iter().map(|told| (told.len(), told.iter().map(|raw| raw.file().unwrap().uid).sum::<u32>()));
        let counts: Vec<_> = counts.collect();
        if counts == [(2, 29), (2, 29)] {
            let last = told[0][1].file().unwrap();
            assert!(text(&told[0][1], last.path).ends_with("/file"));
            assert_eq!((told[1][1].header.ret, told[1][1].file().unwrap().uid), (-2, 29));
            return;
        }
        eprintln!("told, and told to have been folded: {counts:?}");
    }
    panic!("thirty opens at a time were not folded");
}

#[test]
fn a_move_elsewhere_has_the_open_told_again_with_its_count() {
    for _ in 0..10 {
        let Some(records) = run(&Options::default(), "again('file')\nos.rename('in/file', 'moved')\nonce('file')")
        else {
            return;
        };
        let told = opens(&records, "file");
        let counts: Vec<u32> = told.iter().map(|raw| raw.file().unwrap().uid).collect();
        assert!(counts.len() >= 2, "told again behind the move: {counts:?}");
        if counts == [0, 29] {
            return;
        }
        eprintln!("told to have been folded: {counts:?}");
    }
    panic!("what was folded before a move was forgotten");
}

#[test]
fn each_open_is_told_if_that_is_wanted() {
    let Some(records) = run(&Options { fold_opens: false, ..Options::default() }, "again('file')") else { return };
    let told = opens(&records, "file");
    assert_eq!(told.len(), 30);
    assert!(told.iter().all(|raw| raw.file().unwrap().uid == 0));
}

#[test]
fn opens_that_write_or_make_are_told_each() {
    let middle = "again('file', os.O_WRONLY)\nagain('in/file', os.O_RDONLY | os.O_TRUNC)\nagain('new', os.O_CREAT)";
    let Some(records) = run(&Options::default(), middle) else { return };
    for name in ["file", "in/file", "new"] {
        assert_eq!(opens(&records, name).len(), 30, "{name}");
    }
}

/// After thirty opens, one that differs in one thing. Each must be told although it is the same name.
#[test]
fn whatever_differs_is_told() {
    let middle = r"
again('file'); once('file', os.O_NOFOLLOW)
again('./file')
os.link('file', 'hard'); again('hard')
again('gone'); make('gone'); once('gone')
again('in/file'); os.rename('file', 'in/file'); once('in/file')
at = os.open('in', os.O_DIRECTORY)
again('file', at=at); os.rename('in', 'moved'); once('file', at=at)
again('nothing'); os.chdir('other'); once('nothing'); os.chdir('..')
again('moved/file')
if os.fork() == 0:
    once('moved/file'); os._exit(0)
os.wait()
thread = threading.Thread(target=once, args=('moved/file',)); thread.start(); thread.join()
make('identity'); os.chmod('identity', 0o644); os.chmod('.', 0o755)
again('identity')
os.seteuid(65534); once('identity'); os.seteuid(0)
os.setegid(65534); once('identity'); os.setegid(0)
libc.prctl(15, b'renamed', 0, 0, 0); once('identity')
make('tw-exec')
again(folder + '/tw-exec')
if os.fork() == 0:
    again(folder + '/tw-exec')
    os.execv(sys.executable, [sys.executable, '-c', 'import os, sys; os.open(sys.argv[1], os.O_CLOEXEC)', folder + '/tw-exec'])
os.wait()
if os.fork() == 0:
    os.mkdir('root'); make('root/inside'); at = os.open('root', os.O_DIRECTORY); again('inside', at=at)
    os.chroot('root'); once('inside', at=at); os._exit(0)
os.wait()
if os.fork() == 0:
    make('space'); again('space'); libc.unshare(0x00020000); once('space'); os._exit(0)
os.wait()
";
    let Some(records) = run(&Options::default(), middle) else { return };
    let path = |raw: &Raw<'_>| text(raw, raw.file().unwrap().path).into_owned();
    let file = opens(&records, "file");
    assert!(file.iter().any(|raw| raw.file().unwrap().flags & 0o400_000 != 0), "other flags");
    assert!(!opens(&records, "./file").is_empty() && !opens(&records, "hard").is_empty(), "another name");
    let gone: Vec<bool> = opens(&records, "gone").iter().map(|raw| raw.header.ret >= 0).collect();
    assert!(gone.contains(&false) && gone.contains(&true), "it is there now");
    let replaced: std::collections::BTreeSet<u64> =
        opens(&records, "in/file").iter().map(|raw| raw.file().unwrap().ino).collect();
    assert_eq!(replaced.len(), 2, "another file under the same name");
    for place in ["/in/file", "/moved/file"] {
        assert!(file.iter().any(|raw| path(raw).ends_with(place)), "the folder was renamed to {place}");
    }
    let bases: std::collections::BTreeSet<String> =
        opens(&records, "nothing").iter().map(|raw| text(raw, raw.file().unwrap().base).into_owned()).collect();
    assert_eq!(bases.len(), 2, "another working folder: {bases:?}");
    let who: std::collections::BTreeSet<(u32, u32)> =
        opens(&records, "moved/file").iter().map(|raw| (raw.header.pid, raw.header.tid)).collect();
    assert_eq!(who.len(), 3, "a child and a thread are others");
    let identity = opens(&records, "identity");
    assert!(identity.iter().any(|raw| raw.header.uid == 65534), "another user");
    assert!(identity.iter().any(|raw| raw.header.gid == 65534), "another group");
    assert!(identity.iter().any(|raw| raw.header.comm.starts_with(b"renamed\0")), "another name of the thread");
    let is_exec = |raw: &Raw<'_>| raw.file().is_some_and(|body| text(raw, body.raw).ends_with("/tw-exec"));
    let child = records.iter().map(Record::raw).rfind(is_exec).unwrap().header.pid;
    let of_child = records.iter().map(Record::raw).filter(|raw| raw.header.pid == child);
    let mut from_exec = of_child.skip_while(|raw| raw.kind() != EventKind::Execve);
    assert!(from_exec.any(|raw| is_exec(&raw)), "another program in the same process");
    let inside = opens(&records, "inside");
    assert!(inside.iter().any(|raw| raw.file().unwrap().root.len > 0), "another root");
    assert!(opens(&records, "space").len() >= 2, "another mount namespace");
}
