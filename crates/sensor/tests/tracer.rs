//! The tracer on real programs: what it tells of them, and that it is what the kernel half tells of the same run.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::{Duration, Instant};

use tw_model::Mode;
use tw_model::event::{EVENTS, EventKind};
use tw_model::raw::{Body, Raw, attr};
use tw_sensor::Options;
use tw_sensor::tracer::{Step, TraceCounts, TraceOptions, Tracer};

mod watching;
use watching::{Record, sensor};

/// What a command did, and how it and its tracing went.
struct Run {
    records: Vec<Record>,
    status: i32,
    counts: TraceCounts,
    pid: u32,
}

impl Run {
    fn of(&self, kind: EventKind) -> Vec<Raw<'_>> {
        self.records.iter().map(Record::raw).filter(|raw| raw.kind() == kind).collect()
    }
}

fn trace(command: &[&str]) -> Run {
    // Threads that neither end nor stop would hold the tests for ever.
    let mut tracer = Tracer::start(&TraceOptions {
        program: command[0].into(),
        args: command[1..].iter().map(OsString::from).collect(),
        cgroup: 77,
    })
    .unwrap();
    let pid = tracer.root().pid;
    let mut records = Vec::new();
    let mut status = -1;
    let deadline = Instant::now() + Duration::from_secs(100);
    loop {
        assert!(Instant::now() < deadline, "{command:?} takes too long");
        match tracer.step(&mut |bytes| records.push(Record::of(bytes))).unwrap() {
            Step::Going => {}
            Step::CommandEnded { status: ended, .. } => status = ended,
            Step::Done => break,
        }
    }
    Run { records, status, counts: tracer.counts(), pid }
}

fn python(script: &str) -> Run {
    let run = trace(&["/usr/bin/python3", "-c", script]);
    assert_eq!(run.status, 0, "the script failed");
    run
}

fn text(raw: &Raw<'_>, what: tw_model::raw::Str) -> String {
    watching::text(raw, what).into_owned()
}

fn exec_of<'r>(raw: &Raw<'r>) -> &'r tw_model::raw::ExecBody {
    raw.exec().unwrap()
}

#[test]
fn a_pipeline_is_told_from_fork_to_exit() {
    let run = trace(&["sh", "-c", "cd /usr; cat /nonexistent/file | /bin/grep -c x; exit 5"]);
    assert_eq!(run.status >> 8 & 0xff, 5);
    let forks = run.of(EventKind::Clone);
    let first = forks.first().unwrap();
    assert_eq!(
        (first.header.pid, first.header.ret),
        (std::process::id(), i64::from(run.pid)),
        "the fork by us is first"
    );
    let execs = run.of(EventKind::Execve);
    let names: Vec<String> = execs
        .iter()
        .filter(|raw| raw.header.ret == 0)
        .map(|raw| text(raw, exec_of(raw).args).trim_end_matches('\0').replace('\0', " "))
        .collect();
    assert_eq!(names[0], "sh -c cd /usr; cat /nonexistent/file | /bin/grep -c x; exit 5");
    assert!(names.contains(&"cat /nonexistent/file".to_owned()) && names.contains(&"/bin/grep -c x".to_owned()));
    let grep = execs.iter().find(|raw| text(raw, exec_of(raw).args).starts_with("/bin/grep")).unwrap();
    let body = exec_of(grep);
    assert_eq!((text(grep, body.cwd).as_str(), text(grep, body.filename).as_str()), ("/usr", "/bin/grep"));
    assert_eq!((text(grep, body.exepath).as_str(), body.ppid), ("/usr/bin/grep", run.pid));
    assert_eq!(grep.comm(), b"grep");
    assert!(body.attrs & attr::REG != 0 && body.ns_pid != 0 && body.ino != 0);
    let failed = run
        .of(EventKind::Openat)
        .into_iter()
        .find(|raw| raw.header.ret < 0 && { text(raw, raw.file().unwrap().raw) == "/nonexistent/file" });
    assert_eq!(failed.unwrap().header.ret, -i64::from(libc::ENOENT));
    // Every process that began also ended, and each once.
    let ends = run.of(EventKind::Procexit);
    assert_eq!(ends.len(), forks.len());
    let last = ends.iter().find(|raw| raw.header.pid == run.pid).unwrap();
    let Body::Exit(body) = last.body else { panic!() };
    assert_eq!(body.code, 5 << 8);
    assert!(run.records.iter().all(|record| {
        let raw = record.raw();
        raw.header.cgroup == 77 && (raw.header.pid == std::process::id() || raw.header.start > 0)
    }));
    assert_eq!(run.counts.records.iter().sum::<u64>(), run.records.len() as u64);
}

#[test]
fn threads_are_one_process_and_an_exec_of_any_of_them_is_that_of_the_process() {
    let run = python(
        r#"
import os, threading, time
threads = [threading.Thread(target=lambda i=i: open('/proc/self/comm').close()) for i in range(20)]
[t.start() for t in threads]; [t.join() for t in threads]
# Another thread than the first one runs the next program, while a third sleeps.
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
threading.Thread(target=lambda: os.execv('/bin/sh', ['sh', '-c', ': > /tmp/tw-exec-of-thread; : >> /tmp/tw-exec-of-thread; rm /tmp/tw-exec-of-thread'])).start()
time.sleep(60)
"#,
    );
    let forks: Vec<_> = run.of(EventKind::Clone);
    assert!(forks.iter().all(|raw| raw.header.ret != i64::from(raw.header.pid)));
    // Ours, and that of rm.
    assert_eq!(forks.len(), 2, "threads are no processes");
    let tids: std::collections::BTreeSet<u32> =
        run.of(EventKind::Openat).iter().filter(|raw| raw.header.pid == run.pid).map(|raw| raw.header.tid).collect();
    assert!(tids.len() > 5, "calls are told by thread: {tids:?}");
    let shell = run.of(EventKind::Execve).into_iter().find(|raw| raw.comm() == b"sh").unwrap();
    assert_eq!((shell.header.pid, shell.header.tid), (run.pid, run.pid), "the thread has the number of the first now");
    assert_eq!(text(&shell, exec_of(&shell).filename), "/bin/sh");
    let opens = run.of(EventKind::Openat);
    let mut opens = opens
        .iter()
        .filter(|raw| raw.header.ret >= 0 && text(raw, raw.file().unwrap().raw) == "/tmp/tw-exec-of-thread")
        .map(|raw| raw.file().unwrap().attrs & attr::CREATED != 0);
    assert_eq!((opens.next(), opens.next()), (Some(true), Some(false)), "made by the first open alone");
    assert_eq!(run.of(EventKind::Procexit).iter().filter(|raw| raw.header.pid == run.pid).count(), 1);
}

#[test]
fn forks_by_any_call_are_followed_and_an_untraced_one_can_do_nothing_unseen() {
    let run = python(
        r#"
import ctypes, os, signal, subprocess
libc = ctypes.CDLL(None, use_errno=True)
subprocess.run(['/bin/true'])                     # vfork or posix_spawn
for flags in (signal.SIGCHLD, 0x8000 | signal.SIGCHLD): # fork; CLONE_PARENT
    pid = libc.syscall(56, flags, 0, 0, 0, 0)
    if pid == 0: os._exit(4)
    if flags < 0x8000: os.waitpid(pid, 0)
pid = libc.syscall(56, 0x00800000 | signal.SIGCHLD, 0, 0, 0, 0) # CLONE_UNTRACED
if pid == 0:
    fd = libc.syscall(257, -100, b'/etc/shadow', 0, 0)
    os._exit(0 if fd < 0 and ctypes.get_errno() == 38 else 1)
assert os.waitpid(pid, 0)[1] == 0, 'an open was not refused'
assert libc.syscall(101, 0, 0, 0, 0) == -1 and ctypes.get_errno() == 1, 'traced by another'
"#,
    );
    let forks = run.of(EventKind::Clone);
    assert_eq!(forks.len(), 4, "ours, true, fork, CLONE_PARENT");
    let Body::Fork(sibling) = forks.last().unwrap().body else { panic!() };
    assert_eq!((sibling.parent_pid, forks.last().unwrap().header.pid), (std::process::id(), run.pid));
    assert_eq!(run.of(EventKind::Procexit).len(), 4);
    assert_eq!(run.of(EventKind::Ptrace)[0].header.ret, -1);
    assert!(run.of(EventKind::Openat).iter().all(|raw| text(raw, raw.file().unwrap().raw) != "/etc/shadow"));
}

#[test]
fn ten_thousand_forks_are_all_told() {
    let run = python(
        "import os\nfor i in range(10000):\n  pid = os.fork()\n  if pid == 0: os._exit(i & 127)\n  os.waitpid(pid, 0)\n",
    );
    assert_eq!(run.of(EventKind::Clone).len(), 10_001);
    assert_eq!(run.of(EventKind::Procexit).len(), 10_001);
    assert_eq!(run.counts.unfinished, 0);
}

#[test]
fn a_process_that_is_killed_within_a_call_ends_all_the_same() {
    let run = trace(&["sh", "-c", "mkfifo /tmp/tw-fifo-$$; (sleep 0.3; kill -9 $$) & exec cat /tmp/tw-fifo-$$"]);
    assert_eq!(run.status, libc::SIGKILL);
    let _ = std::fs::remove_file(format!("/tmp/tw-fifo-{}", run.pid));
    let ends = run.of(EventKind::Procexit);
    let Body::Exit(body) = ends.iter().find(|raw| raw.header.pid == run.pid).unwrap().body else { panic!() };
    assert_eq!(body.code, 9);
    assert_eq!(run.counts.unfinished, 1, "the open of the pipe");
}

#[test]
fn a_jail_names_files_from_its_own_root() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let run = python(
        r#"
import os, tempfile
d = tempfile.mkdtemp(prefix='tw-jail-'); os.mkdir(d + '/etc'); open(d + '/etc/motd', 'w').close()
if os.fork() == 0:
    os.chroot(d); os.chdir('/etc'); os.close(os.open('motd', 0)); os.close(os.open('../../etc/motd', os.O_RDWR))
    os.unlink('/etc/motd'); os.rmdir('/etc'); os._exit(0)
os.wait(); os.rmdir(d)
"#,
    );
    let jailed: Vec<String> = run
        .of(EventKind::Openat)
        .iter()
        .filter(|raw| raw.header.pid != run.pid && text(raw, raw.file().unwrap().raw).ends_with("motd"))
        .map(|raw| text(raw, raw.file().unwrap().path))
        .collect();
    assert_eq!(jailed, ["/etc/motd", "/etc/motd"]);
}

/// The calls of the test of the kernel half.
fn everything() -> &'static str {
    let source = include_str!("events.rs");
    let (_, rest) = source.split_once("const EVERYTHING: &str = r#\"").unwrap();
    rest.split_once("\"#;").unwrap().0
}

/// A record as text, without what the two sensors know by different means.
fn told(raw: &Raw<'_>) -> String {
    let layers = attr::UPPER | attr::LOWER;
    let name = |what| text(raw, what);
    let body = match raw.body {
        Body::Fork(body) => format!("child {} parent {} vpid {}", body.child_pid, body.parent_pid, body.child_vpid),
        Body::Exit(body) => format!("code {}", body.code),
        Body::Exec(body) if raw.header.ret < 0 => format!("file {}", name(body.filename)),
        Body::Exec(body) => {
            let mut plain = *body;
            plain.attrs &= !layers;
            // To the tick, and where they lie.
            plain.parent_start = 0;
            let none = tw_model::raw::Str::default();
            for text in [
                &mut plain.exepath,
                &mut plain.filename,
                &mut plain.interp,
                &mut plain.cwd,
                &mut plain.args,
                &mut plain.env,
                &mut plain.cgroup_name,
            ] {
                *text = none;
            }
            format!(
                "{plain:?} {} {} {} {} {} {}",
                name(body.exepath),
                name(body.filename),
                name(body.interp),
                name(body.cwd),
                name(body.args),
                name(body.env).len()
            )
        }
        Body::File(body) => format!(
            "fd {} {} {} flags {:o} mode {:o} ino {} dev {} attrs {} ids {} {} path {} raw {} base {} raw2 {} base2 {} \
             extra {}",
            body.fd,
            body.dirfd,
            body.dirfd2,
            body.flags,
            body.mode,
            body.ino,
            body.dev,
            body.attrs & !layers,
            body.uid,
            body.gid,
            name(body.path),
            name(body.raw),
            name(body.base),
            name(body.raw2),
            name(body.base2),
            name(body.extra)
        ),
        Body::Sock(body) => format!(
            "size {} fd {} {} socket {} {} {} ports {} {} attrs {} backlog {} {:?} {:?} path {} raw {} data {}",
            body.size,
            body.fd,
            body.oldfd,
            body.family,
            body.type_,
            body.proto,
            body.lport,
            body.rport,
            body.attrs,
            body.backlog,
            body.local(),
            body.remote(),
            // What has no directory, such as a pipe, has a name for one of them only.
            Some(name(body.path)).filter(|path| path.len() > 1 && path.starts_with('/')).unwrap_or_default(),
            name(body.raw),
            // Which socket it is, the tracer does not tell.
            if raw.kind().has_socket_id() { String::new() } else { name(body.data) }
        ),
        Body::Call(body) => format!(
            "{:?} caps {:x} {:x} {:x} text {} {}",
            body.args,
            body.cap_effective,
            body.cap_permitted,
            body.cap_inheritable,
            name(body.text),
            // Of a mount that was made, the kernel half alone knows the source.
            Some(name(body.text2)).filter(|_| raw.kind() != EventKind::Fsmount).unwrap_or_default()
        ),
        #[allow(unreachable_patterns, reason = "bodies that only the kernel half makes")]
        _ => String::new(),
    };
    let header = raw.header;
    format!(
        "{} {} ret {} uid {} gid {} comm {} flags {} {body}",
        header.tid,
        raw.info().name,
        header.ret,
        header.uid,
        header.gid,
        String::from_utf8_lossy(raw.comm()),
        header.flags
    )
}

#[test]
fn both_sensors_tell_the_same_of_one_run() {
    let Some((mut sensor, _alone)) = sensor(&Options { fold_opens: false, ..Options::default() }) else { return };
    let run = python(everything());
    let family: std::collections::BTreeSet<u32> =
        run.of(EventKind::Clone).iter().map(|raw| raw.header.ret as u32).collect();
    let mut kernel: Vec<Record> = Vec::new();
    sensor.drain(|bytes| kernel.push(Record::of(bytes)));
    let of_family = |record: &&Record| {
        let raw = record.raw();
        let ours = raw.kind() == EventKind::Clone && raw.header.ret as u32 == run.pid;
        family.contains(&raw.header.pid) && !ours
    };
    // Some kinds are the kernel half's alone; before the first exec, calls are not yet the command's.
    let told_by = |records: &[Record]| -> Vec<String> {
        let began = |record: &&Record| record.raw().kind() == EventKind::Execve && record.raw().header.pid == run.pid;
        let records: Vec<&Record> = records.iter().filter(of_family).collect();
        let from = records.iter().position(began).unwrap();
        // Whether memory was written before it becomes executable is not seen from outside either.
        let was_written = |raw: &Raw<'_>| raw.kind() == EventKind::Mprotect && raw.call().unwrap().args[2] & 2 == 0;
        let kept = records[from..].iter().filter(|record| {
            let raw = record.raw();
            Mode::Wrap.kinds().contains(raw.kind()) && !was_written(&raw)
        });
        kept.map(|record| told(&record.raw())).collect()
    };
    let (kernel, tracer) = (told_by(&kernel), told_by(&run.records));
    let count = |told: &[String]| {
        let mut counts: BTreeMap<String, i64> = BTreeMap::new();
        told.iter().for_each(|line| *counts.entry(line.clone()).or_default() += 1);
        counts
    };
    let (of_kernel, of_tracer) = (count(&kernel), count(&tracer));
    let only = |these: &BTreeMap<String, i64>, those: &BTreeMap<String, i64>| -> Vec<String> {
        these.iter().filter(|(line, n)| those.get(*line) != Some(n)).map(|(line, _)| line.clone()).collect()
    };
    let (kernel_only, tracer_only) = (only(&of_kernel, &of_tracer), only(&of_tracer, &of_kernel));
    assert!(
        kernel_only.is_empty() && tracer_only.is_empty(),
        "of {} records, only the kernel half:\n{}\nonly the tracer:\n{}",
        kernel.len(),
        kernel_only.join("\n"),
        tracer_only.join("\n")
    );
    let kinds = EVENTS.iter().filter(|info| !run.of(info.kind).is_empty()).count();
    assert!(kinds >= 60, "{kinds} kinds of events were compared");
}
