//! The world as records change it: processes, lineage, credentials, working directories.

#![allow(clippy::unwrap_used, reason = "a test")]

use bumpalo::Bump;
use tw_enrich::{World, WorldOptions};
use tw_model::raw::{CallBody, Encoder, ExecBody, ExitBody, FileBody, ForkBody, Header, from_words, to_words};
use tw_model::{Event, EventKind, ProcKey, Raw};

fn world() -> World {
    World::new(WorldOptions { max_processes: 64, ..WorldOptions::default() }).unwrap()
}

fn header(kind: EventKind, pid: u32, time: u64) -> Header {
    let mut comm = [0; 16];
    comm[..4].copy_from_slice(b"test");
    // A start of 7 ns past a tick: exact, as the kernel tells it.
    let start = u64::from(pid) * 10_000_000 + 7;
    Header { kind: kind as u16, pid, tid: pid, start, time, cgroup: 1, comm, ..Header::default() }
}

fn fork(parent: u32, child: u32, time: u64) -> Vec<u64> {
    let body = ForkBody {
        child_start: u64::from(child) * 10_000_000 + 7,
        parent_start: u64::from(parent) * 10_000_000 + 7,
        child_pid: child,
        parent_pid: parent,
        ..ForkBody::default()
    };
    to_words(&Encoder::new(&header(EventKind::Clone, parent, time), size_of::<ForkBody>()).finish(&body))
}

fn exec(pid: u32, name: &str, args: &[u8], time: u64) -> Vec<u64> {
    let mut header = header(EventKind::Execve, pid, time);
    header.comm = [0; 16];
    header.comm[..name.len()].copy_from_slice(name.as_bytes());
    let mut out = Encoder::new(&header, size_of::<ExecBody>());
    let body = ExecBody {
        exepath: out.text(format!("/bin/{name}").as_bytes()),
        args: out.text(args),
        cwd: out.text(b"/srv"),
        env: out.text(b"LD_PRELOAD=/tmp/x.so\0SECRET_NOBODY_NEEDS=1\0"),
        cap_effective: 1 << 21,
        ..ExecBody::default()
    };
    to_words(&out.finish(&body))
}

fn exit(pid: u32, time: u64) -> Vec<u64> {
    to_words(&Encoder::new(&header(EventKind::Procexit, pid, time), size_of::<ExitBody>()).finish(&ExitBody::default()))
}

fn feed<R>(world: &mut World, record: &[u64], look: impl FnOnce(&Event<'_>) -> R) -> R {
    let scratch = Bump::new();
    let raw = Raw::parse(from_words(record)).unwrap();
    assert!(world.admit(&raw));
    look(&world.observe(raw, &scratch))
}

fn key(pid: u32) -> ProcKey {
    ProcKey { start_ns: u64::from(pid) * 10_000_000 + 7, pid }
}

#[test]
fn a_child_is_its_parent_until_it_executes() {
    let mut world = world();
    feed(&mut world, &exec(10, "nginx", b"nginx\0-g\0daemon off;\0", 1), |_| ());
    feed(&mut world, &fork(10, 11, 2), |_| ());
    let child = world.processes().get(key(11)).unwrap();
    assert_eq!((&*child.comm, &*child.cmdline), (b"nginx".as_slice(), b"nginx -g daemon off;".as_slice()));
    feed(&mut world, &exec(11, "sh", b"sh\0-c\0id\0", 3), |event| {
        assert_eq!(&*event.process.cmdline, b"sh -c id");
        assert_eq!(&*event.process.image.exepath, b"/bin/sh");
        let parent = event.processes.ancestor(event.process, 1).unwrap();
        assert_eq!(&*parent.comm, b"nginx");
    });
}

#[test]
fn lineage_outlives_the_parent() {
    let mut world = world();
    feed(&mut world, &exec(10, "nginx", b"nginx\0", 1), |_| ());
    feed(&mut world, &fork(10, 11, 2), |_| ());
    feed(&mut world, &fork(11, 12, 3), |_| ());
    feed(&mut world, &exit(11, 4), |_| ());
    feed(&mut world, &exec(12, "miner", b"miner\0", 5), |event| {
        let names: Vec<&[u8]> = event.processes.ancestors(event.process).map(|p| &*p.comm).collect();
        assert_eq!(names, [b"nginx".as_slice(), b"nginx"], "the daemon's trick of dying does not hide who started it");
    });
}

#[test]
fn a_reused_number_is_another_process() {
    let mut world = world();
    feed(&mut world, &exec(10, "old", b"old\0", 1), |_| ());
    feed(&mut world, &exit(10, 2), |_| ());
    let mut reused = header(EventKind::Procexit, 10, 3);
    reused.start += 5_000_000_000;
    let record = to_words(&Encoder::new(&reused, size_of::<ExitBody>()).finish(&ExitBody::default()));
    feed(&mut world, &record, |event| {
        assert!(event.process.inferred);
        assert_eq!(&*event.process.comm, b"test");
    });
    assert_eq!(&*world.processes().get(key(10)).unwrap().comm, b"old");
}

#[test]
fn credentials_and_working_directory_follow_the_calls() {
    let mut world = world();
    feed(&mut world, &exec(10, "su", b"su\0", 1), |event| {
        assert_eq!(event.process.cred.cap_effective, 1 << 21);
        assert_eq!(&*event.process.cwd, b"/srv");
    });
    let mut setuid = header(EventKind::Setuid, 10, 2);
    setuid.uid = 65534;
    let record = to_words(&Encoder::new(&setuid, size_of::<CallBody>()).finish(&CallBody::default()));
    feed(&mut world, &record, |event| {
        assert_eq!((event.process.cred.uid, event.process.cred.cap_effective), (65534, 0));
        assert_eq!(&*event.process.names.user, "nobody");
    });
    let mut denied = header(EventKind::Setuid, 10, 3);
    denied.ret = -1;
    denied.uid = 65534;
    let record = to_words(&Encoder::new(&denied, size_of::<CallBody>()).finish(&CallBody::default()));
    feed(&mut world, &record, |event| assert_eq!(event.process.cred.uid, 65534, "a failed call changes nothing"));
    let chdir = header(EventKind::Chdir, 10, 4);
    let mut out = Encoder::new(&chdir, size_of::<FileBody>());
    let body = FileBody { path: out.text(b"/tmp/x"), ..FileBody::default() };
    feed(&mut world, &to_words(&out.finish(&body)), |event| assert_eq!(&*event.process.cwd, b"/tmp/x"));
}

#[test]
fn only_variables_that_matter_are_kept() {
    let mut world = world();
    feed(&mut world, &exec(10, "sh", b"sh\0", 1), |event| {
        assert_eq!(event.process.image.env().collect::<Vec<_>>(), [b"LD_PRELOAD=/tmp/x.so".as_slice()]);
    });
}

#[test]
fn the_table_is_bounded_and_forgets_the_dead_first() {
    let mut world = world();
    feed(&mut world, &exec(10, "keep", b"keep\0", 1), |_| ());
    for n in 0..1000 {
        feed(&mut world, &fork(10, 1000 + n, 10 + u64::from(n)), |_| ());
        feed(&mut world, &exit(1000 + n, 11 + u64::from(n)), |_| ());
    }
    let counts = world.counts();
    assert!(counts.processes <= 64, "{}", counts.processes);
    assert_eq!(counts.evicted, 0, "no living process had to go");
    assert!(world.processes().get(key(10)).is_some());
}

#[test]
fn a_process_found_in_proc_is_the_same_when_its_exact_start_is_told() {
    let mut world = World::new(WorldOptions::default()).unwrap();
    let (found, whole) = world.seed(|_| {});
    assert!(found > 0 && whole);
    let me = world.processes().by_pid(std::process::id()).unwrap().clone();
    let before = world.processes().len();
    let mut exact = header(EventKind::Procexit, me.key.pid, 1);
    exact.start = me.key.start_ns + 1234;
    exact.kind = EventKind::Unshare as u16;
    let record = to_words(&Encoder::new(&exact, size_of::<CallBody>()).finish(&CallBody::default()));
    feed(&mut world, &record, |event| {
        assert_eq!(event.process.image.exepath, me.image.exepath);
        assert_eq!(event.process.key.start_ns, exact.start);
    });
    assert_eq!(world.processes().len(), before, "it is not there twice");
}

/// A record of an ordinary call with these rights.
fn with_rights(kind: EventKind, pid: u32, time: u64, uid: u32, caps: u64) -> Vec<u64> {
    let header = Header { uid, gid: uid, caps, ..header(kind, pid, time) };
    match kind {
        EventKind::Openat => to_words(&Encoder::new(&header, size_of::<FileBody>()).finish(&FileBody::default())),
        EventKind::Execve => to_words(
            &Encoder::new(&header, size_of::<ExecBody>())
                .finish(&ExecBody { cap_effective: caps, ..ExecBody::default() }),
        ),
        _ => {
            let body = CallBody { cap_effective: caps, cap_permitted: caps, ..CallBody::default() };
            to_words(&Encoder::new(&header, size_of::<CallBody>()).finish(&body))
        }
    }
}

fn jump(world: &mut World, record: &[u64]) -> (bool, u32) {
    feed(world, record, |event| (event.prior.jumped, event.prior.uid))
}

#[test]
fn rights_that_come_from_nowhere_are_told_once() {
    let mut world = world();
    let other = |time, uid, caps| with_rights(EventKind::Prctl, 10, time, uid, caps);
    let open = |time, uid, caps| with_rights(EventKind::Openat, 10, time, uid, caps);
    feed(&mut world, &with_rights(EventKind::Execve, 10, 1, 1000, 0), |_| ());
    assert_eq!(jump(&mut world, &other(2, 1000, 0)), (false, 1000));
    assert_eq!(jump(&mut world, &other(3, 0, 0x1ff)), (true, 1000), "root, without any call");
    assert_eq!(jump(&mut world, &other(4, 0, 0x1ff)), (false, 0), "told once");
    assert_eq!(world.processes().get(key(10)).unwrap().cred.uid, 0);
    // In a container that runs as root the user stays; what comes is capabilities.
    assert!(!jump(&mut world, &open(5, 0, 0x3ff)).0, "not at an open");
    assert!(!jump(&mut world, &open(6, 0, 0x3ff)).0);
    assert!(
        jump(&mut world, &with_rights(EventKind::Execve, 10, 7, 0, 0x3ff)).0,
        "at the next event, whatever it gives"
    );
    assert!(!jump(&mut world, &other(8, 0, 0x1)).0, "fewer is no jump");
}

#[test]
fn rights_that_a_call_or_an_exec_gave_are_no_jump() {
    let mut world = world();
    feed(&mut world, &with_rights(EventKind::Execve, 10, 1, 0, 0x1ff), |_| ());
    // As su and sshd do: away from root and back.
    assert_eq!(jump(&mut world, &with_rights(EventKind::Setresuid, 10, 2, 1000, 0)), (false, 0));
    assert_eq!(jump(&mut world, &with_rights(EventKind::Setresuid, 10, 3, 0, 0x1ff)), (false, 1000), "the user before");
    assert!(!jump(&mut world, &with_rights(EventKind::Unshare, 10, 4, 0, u64::MAX >> 23)).0, "a user namespace");
    assert!(!jump(&mut world, &with_rights(EventKind::Openat, 10, 5, 0, u64::MAX >> 23)).0);
    // A setuid program gives root, another does not.
    for (mode, jumped) in [(0o104_755, false), (0o100_755, true)] {
        feed(&mut world, &with_rights(EventKind::Setuid, 10, 6, 1000, 0), |_| ());
        let header = Header { uid: 0, caps: 0x1ff, ..header(EventKind::Execve, 10, 7) };
        let body = ExecBody { mode, cap_effective: 0x1ff, ..ExecBody::default() };
        let exec = to_words(&Encoder::new(&header, size_of::<ExecBody>()).finish(&body));
        assert_eq!(jump(&mut world, &exec).0, jumped, "{mode:o}");
    }
}

#[test]
fn a_thread_that_went_its_own_way_is_no_jump_and_its_child_is_itself() {
    let mut world = world();
    feed(&mut world, &with_rights(EventKind::Execve, 10, 1, 1000, 0), |_| ());
    let as_thread = |mut words: Vec<u64>| {
        // The thread's number is the upper half of the word behind the cgroup.
        words[4] = (words[4] & 0xffff_ffff) | 11 << 32;
        words
    };
    assert!(!jump(&mut world, &as_thread(with_rights(EventKind::Setuid, 10, 2, 0, 0x1ff))).0);
    assert!(!jump(&mut world, &as_thread(with_rights(EventKind::Openat, 10, 3, 0, 0x1ff))).0);
    assert!(!jump(&mut world, &with_rights(EventKind::Openat, 10, 4, 1000, 0)).0);
    let header = Header { uid: 0, caps: 0x1ff, tid: 11, ..header(EventKind::Clone, 10, 5) };
    let body = ForkBody { child_start: 20 * 10_000_000 + 7, child_pid: 20, child_caps: 0x1ff, ..ForkBody::default() };
    feed(&mut world, &to_words(&Encoder::new(&header, size_of::<ForkBody>()).finish(&body)), |_| ());
    assert!(!jump(&mut world, &with_rights(EventKind::Openat, 20, 6, 0, 0x1ff)).0);
    assert!(jump(&mut world, &with_rights(EventKind::Prctl, 20, 7, 0, 0x3ff)).0, "the child is judged again");
}

#[test]
fn an_older_record_and_a_thread_that_kept_its_rights_are_no_jump() {
    let mut world = world();
    let as_thread = |mut words: Vec<u64>| {
        words[4] = (words[4] & 0xffff_ffff) | 11 << 32;
        words
    };
    feed(&mut world, &with_rights(EventKind::Execve, 10, 1, 0, 0x1ff), |_| ());
    feed(&mut world, &with_rights(EventKind::Capset, 10, 5, 0, 0x1), |_| ());
    assert!(
        !jump(&mut world, &with_rights(EventKind::Prctl, 10, 4, 0, 0x1ff)).0,
        "before the call, from a slower ring"
    );
    assert!(jump(&mut world, &with_rights(EventKind::Prctl, 10, 6, 0, 0x1ff)).0, "after it");
    feed(&mut world, &with_rights(EventKind::Capset, 10, 7, 0, 0x1), |_| ());
    assert!(!jump(&mut world, &as_thread(with_rights(EventKind::Prctl, 10, 8, 0, 0x1ff))).0, "another thread");
}

#[test]
fn a_script_is_told_beside_its_interpreter() {
    let mut world = world();
    for (given, interpreter, script) in [
        ("./run.sh", "/bin/sh", "/srv/run.sh"),
        ("/opt/../etc/job", "/usr/bin/python3", "/etc/job"),
        ("/bin/ls", "", ""),
    ] {
        let header = header(EventKind::Execve, 10, 1);
        let mut out = Encoder::new(&header, size_of::<ExecBody>());
        let (cwd, filename) = (out.text(b"/srv"), out.text(given.as_bytes()));
        let body = ExecBody { cwd, filename, interp: out.text(interpreter.as_bytes()), ..ExecBody::default() };
        let exec = to_words(&out.finish(&body));
        feed(&mut world, &exec, |event| assert_eq!(&*event.process.image.script, script.as_bytes()));
    }
}
