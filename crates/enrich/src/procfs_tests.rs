//! Tests of `procfs` on made-up trees and on the real one.

use super::*;
use crate::scratch::Scratch;

const STATUS: &str = "Name:\tsh\nUid:\t1000\t1001\t1002\t1003\nGid:\t5\t6\t7\t8\nNSpid:\t70\t7\t1\nNSpgid:\t70\t7\t2\n\
    CapInh:\t0000000000000001\nCapPrm:\t00000000a80425fb\nCapEff:\t0000000000000400\n";

fn stat(pid: u32, comm: &str, ppid: u32, ticks: u64) -> String {
    format!("{pid} ({comm}) S {ppid} 71 72 34816 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {ticks} 0 0\n")
}

fn add(tree: &Scratch, pid: u32, comm: &str, ppid: u32, ticks: u64) {
    tree.write(&format!("{pid}/stat"), stat(pid, comm, ppid, ticks));
    tree.write(&format!("{pid}/status"), STATUS);
}

#[test]
fn every_field_comes_from_its_file() {
    let tree = Scratch::new("proc");
    add(&tree, 1, "init", 0, 1);
    add(&tree, 70, "a) (b", 1, 91_111);
    tree.write("70/cmdline", "/bin/sh\0-c\0echo hi\0");
    tree.write("70/environ", "PATH=/bin\0SECRET=x\0LD_PRELOAD=/tmp/e.so\0PATHX=1\0=\0\0HOME");
    tree.write("70/loginuid", "1000");
    tree.write("70/cgroup", "9:cpu:/v1\n0::/docker/abc\n");
    tree.write("exe-file", "x");
    tree.link("70/exe", tree.path().join("exe-file"));
    tree.link("70/cwd", "/work dir");
    tree.link("70/ns/mnt", "mnt:[4026532178]");
    tree.link("70/ns/pid", "pid:[4026532181]");
    tree.link("70/ns/net", "net:[nonsense]");
    tree.write("mount/docker/abc/x", "");
    tree.write("mounts", format!("cgroup2 {} cgroup2 rw 0 0\n", tree.path().join("mount").display()));
    let process = read_process(tree.path(), 70).unwrap();
    assert_eq!(process.key, ProcKey { start_ns: 911_110_000_000, pid: 70 });
    assert_eq!(process.parent, Some(ProcKey { start_ns: 10_000_000, pid: 1 }));
    assert_eq!(&*process.comm, b"a) (b");
    assert_eq!(&*process.cmdline, b"a) (b -c echo hi");
    assert_eq!(&*process.image.exe, b"/bin/sh");
    assert_eq!(&*process.image.env, b"PATH=/bin\0LD_PRELOAD=/tmp/e.so\0");
    assert_eq!(&*process.cwd, b"/work dir");
    assert_eq!((process.pgid, process.sid, process.tty, process.vpid, process.vpgid), (71, 72, 34_816, 1, 2));
    assert_eq!((process.cred.uid, process.cred.gid, process.cred.loginuid), (1001, 6, 1000));
    assert_eq!(
        (process.cred.cap_inheritable, process.cred.cap_permitted, process.cred.cap_effective),
        (1, 0xa804_25fb, 0x400)
    );
    assert_eq!((process.ns.mnt, process.ns.pid, process.ns.net), (4_026_532_178, 4_026_532_181, 0));
    let ino = rustix::fs::stat(tree.path().join("mount/docker/abc")).unwrap().st_ino;
    assert_eq!(process.cgroup_id, ino);
    let real = rustix::fs::stat(tree.path().join("exe-file")).unwrap();
    let file = process.image.file;
    assert_eq!((file.ino, file.mode, file.memfd), (real.st_ino, real.st_mode, false));
    assert_eq!(u64::from(file.dev >> 20), u64::from(rustix::fs::major(real.st_dev)));
    assert!(file.mtime_ns > 1_000_000_000_000_000_000);
    assert!(process.inferred);
    assert_eq!(Procfs::new(tree.path()).cgroup_path(70).unwrap().as_deref(), Some("/docker/abc"));
}

#[test]
fn long_blocks_are_cut_and_say_so() {
    let tree = Scratch::new("long");
    add(&tree, 5, "x", 0, 1);
    tree.write("5/cmdline", vec![b'a'; MAX_ARGV + 1]);
    let mut environ = b"A=".to_vec();
    environ.resize(MAX_ENVIRON, b'b');
    environ.extend_from_slice(b"\0PATH=/late\0");
    tree.write("5/environ", environ);
    let image = read_process(tree.path(), 5).unwrap().image;
    assert_eq!((image.argv.len(), image.argv_truncated), (MAX_ARGV, true));
    assert!(image.env.is_empty());
    tree.write("5/cmdline", vec![b'a'; MAX_ARGV]);
    assert!(!read_process(tree.path(), 5).unwrap().image.argv_truncated);
}

#[test]
fn truncated_and_senseless_files_are_errors_not_panics() {
    let whole = stat(3, "a) (b", 1, 7);
    assert!(Stat::parse(whole.as_bytes()).is_some());
    for cut in 0..whole.len() - 6 {
        assert!(Stat::parse(&whole.as_bytes()[..cut]).is_none(), "{cut}");
    }
    for text in ["", ")(", "3 )x( S 1", "3 (x)", "3 (x) S -1 0 0 0", "\u{fffd} () \u{fffd}"] {
        assert!(Stat::parse(text.as_bytes()).is_none(), "{text}");
    }
    assert!(Stat::parse(stat(3, "x", 1, u64::MAX).as_bytes()).is_none(), "the time does not overflow");
    for cut in 0..STATUS.len() {
        let _ = Status::parse(&STATUS.as_bytes()[..cut]);
    }
    assert!(Status::parse(b"Uid:\t0\nGid:\t\n").is_none());
    let tree = Scratch::new("broken");
    tree.write("9/stat", "9 (x");
    assert_eq!(read_process(tree.path(), 9).unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(read_process(tree.path(), 10).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(read_all(tree.path()).is_empty());
    assert!(read_all(&tree.path().join("absent")).is_empty());
}

#[test]
fn parents_come_before_children_and_zombies_not_at_all() {
    let tree = Scratch::new("order");
    add(&tree, 1, "init", 0, 1);
    add(&tree, 300, "parent", 1, 50);
    add(&tree, 200, "child of the same tick", 300, 50);
    add(&tree, 100, "grandchild", 200, 50);
    add(&tree, 400, "orphan", 77, 60);
    add(&tree, 20, "parent's number was reused", 500, 40);
    add(&tree, 500, "young", 1, 90);
    add(&tree, 600, "circle", 601, 95);
    add(&tree, 601, "circle", 600, 95);
    tree.write("700/stat", stat(700, "zombie", 1, 99).replace(") S", ") Z"));
    tree.write("700/status", STATUS);
    tree.write("self", "");
    let all = read_all(tree.path());
    let pids: Vec<u32> = all.iter().map(|process| process.key.pid).collect();
    assert_eq!(pids, [1, 20, 300, 400, 500, 200, 100, 600, 601]);
    let parent = |pid| all.iter().find(|process| process.key.pid == pid).unwrap().parent.map(|parent| parent.pid);
    assert_eq!((parent(100), parent(400), parent(20)), (Some(200), None, None));
    assert!(read_process(tree.path(), 700).is_ok());
}

#[test]
fn a_cgroup_that_cannot_be_named_has_no_number() {
    let tree = Scratch::new("cg");
    add(&tree, 1, "x", 0, 1);
    tree.write("mounts", format!("cgroup2 {} cgroup2 rw 0 0\n", tree.path().display()));
    for text in ["0::/../../etc\n", "0::/gone (deleted)\n", "1:cpu:/x\n", "", "0::/absent\n", "\u{fffd}"] {
        tree.write("1/cgroup", text);
        assert_eq!(read_process(tree.path(), 1).unwrap().cgroup_id, 0, "{text}");
    }
}

#[test]
fn only_named_variables_are_kept() {
    assert_eq!(keep_env(b"HOME=/root\0HOMEX=1\0home=2\0USER="), b"HOME=/root\0USER=\0");
    assert!(keep_env(b"").is_empty());
    assert!(keep_env(&[0; 100]).is_empty());
}

#[test]
fn the_real_tree_holds_this_process() {
    let pid = std::process::id();
    let all = read_all(Path::new("/proc"));
    let me = all.iter().find(|process| process.key.pid == pid).unwrap();
    assert_eq!(&*me.cwd, std::env::current_dir().unwrap().as_os_str().as_encoded_bytes());
    assert_eq!(&*me.image.exepath, std::env::current_exe().unwrap().as_os_str().as_encoded_bytes());
    assert!(me.ns.mnt != 0 && me.ns.pid != 0 && me.ns.cgroup != 0);
    assert_eq!(me.vpid, pid);
    assert!(all.iter().any(|process| Some(process.key) == me.parent));
    let mut seen = HashSet::new();
    for process in &all {
        if let Some(parent) = process.parent {
            assert!(seen.contains(&parent), "{process:?}");
        }
        seen.insert(process.key);
    }
}
