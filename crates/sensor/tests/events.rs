//! The sensor on the real kernel: a child process makes every watched call once, and the records must tell it.
//!
//! Needs root and eBPF; without them the tests say so and pass, unless `TIDEWATCH_REQUIRE_E2E` is set.

#![allow(clippy::unwrap_used, reason = "a test")]
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused_imports, reason = "call numbers are those of x86"))]

use std::collections::BTreeMap;
use std::process::Command;

use tw_model::event::{EVENTS, EventKind, Lane};
use tw_model::raw::{Body, Raw, attr, sock_attr};
use tw_sensor::{EbpfSensor, Options};

mod watching;
use watching::{Record, sensor, text, watch};

/// Makes every call in the list once. A call that may fail still shows, with its error.
const EVERYTHING: &str = r#"
import ctypes, os, socket, tempfile, shutil, struct
libc = ctypes.CDLL(None, use_errno=True)
d = tempfile.mkdtemp(prefix='tw-sensor-')
os.chdir(d)
NR = dict(open=2, creat=85, openat2=437, unlink=87, rmdir=84, rename=82, renameat=264, renameat2=316, link=86, linkat=265,
  symlink=88, symlinkat=266, chmod=90, fchmodat=268, chown=92, lchown=94, fchownat=260, mkdir=83, mkdirat=258, unlinkat=263,
  chroot=161, pivot_root=155, dup=32, dup2=33, dup3=292, setuid=105, setgid=106, setreuid=113, setregid=114, setresuid=117,
  setresgid=119, capset=126, setns=308, unshare=272, ptrace=101, memfd=319, bpf=321, init_module=175, finit_module=313,
  delete_module=176, userfaultfd=323, uring=425, accept=43, open_by_handle_at=304, mount=165, umount2=166)
def call(name, *args): return libc.syscall(NR[name], *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
AT = -100
call('creat', b'a', 0o644); call('open', b'a', 2, 0); open('../' + os.path.basename(d) + '/a').close()
how = struct.pack('QQQ', 0o101, 0o600, 0)
call('openat2', AT, b'b', how, len(how))
call('open_by_handle_at', AT, b'\0' * 16, 0)
call('link', b'a', b'l1'); call('linkat', AT, b'a', AT, b'l2', 0)
call('symlink', b'/etc/shadow', b's1'); call('symlinkat', b'/etc/shadow', AT, b's2')
call('rename', b'l1', b'r1'); call('renameat', AT, b'l2', AT, b'r2'); call('renameat2', AT, b'r2', AT, b'r3', 0)
call('chmod', b'a', 0o4755); os.fchmod(os.open('a', 0), 0o600); call('fchmodat', AT, b'a', 0o755)
call('chown', b'a', 1, 2); call('lchown', b'a', 1, 2); os.fchown(os.open('a', 0), 3, 4); call('fchownat', AT, b'a', 5, 6, 0)
call('mkdir', b'm1', 0o755); call('mkdirat', AT, b'm2', 0o755); call('rmdir', b'm1'); call('unlinkat', AT, b'm2', 0x200)
call('unlink', b'r1'); os.fchdir(os.open('/', 0)); os.chdir(d)
l = socket.socket(); l.bind(('127.0.0.1', 0)); l.listen(7)
c = socket.create_connection(l.getsockname()); a, _ = l.accept()
c.sendall(b'first bytes'); c.sendall(b'second')
c2 = socket.create_connection(l.getsockname()); n = ctypes.c_long(0); call('accept', l.fileno(), 0, 0)
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.sendto(b'query', ('127.0.0.1', 53))
u.sendmsg([b'other'], [], 0, ('127.0.0.1', 54))
saved = [os.dup(0), os.dup(1), os.dup(2)]
call('dup2', c.fileno(), 0); call('dup3', c.fileno(), 1, 0); os.close(2); call('dup', c.fileno())
for i in range(3): os.dup2(saved[i], i)
call('memfd', b'secret', 0); call('userfaultfd', 1); call('uring', 0, 0); call('bpf', 5, 0, 0)
call('init_module', b'x', 1, b'arg=1'); call('finit_module', -1, b'arg=2', 0); call('delete_module', b'nosuch', 0)
call('setns', -1, 0x20000); call('ptrace', 16, 999999, 0, 0); call('capset', 0, 0)
call('mount', b'none', b'm1', b'tmpfs', 0, 0); call('umount2', b'nowhere', 0); call('chroot', b'nowhere')
call('pivot_root', b'nowhere', b'there'); call('unshare', 0)
pid = os.fork()
if pid == 0:
    call('setresgid', 7, 7, 7); call('setregid', 7, 7); call('setgid', 7)
    call('setresuid', 8, 8, 8); call('setreuid', 8, 8); call('setuid', 8)
    os._exit(3)
os.waitpid(pid, 0)
pid = os.fork()
if pid == 0:
    os.environ['LD_PRELOAD'] = ''
    try: os.execv('/nonexistent/program', ['x'])
    except OSError: pass
    os.execv('/bin/true', ['true', 'an argument', 'another'])
os.waitpid(pid, 0)
fd = os.open('/bin/true', 0)
pid = os.fork()
if pid == 0:
    libc.syscall(322, 9999, b'', 0, 0, 0x1000)
    argv = (ctypes.c_char_p * 2)(b'by-descriptor', None)
    libc.syscall(322, fd, b'', argv, 0, 0x1000)
    os._exit(1)
os.waitpid(pid, 0)
fd = os.open('/bin/true', 0)
script = os.path.join(d, 'script')
with open(script, 'w') as f: f.write('#!/bin/sh\nexit 4\n')
os.chmod(script, 0o755); os.system('./script')
MORE = dict(kill=62, tkill=200, tgkill=234, rt_sigqueueinfo=129, pidfd_send_signal=424, pidfd_open=434, pidfd_getfd=438,
  process_vm_readv=310, process_vm_writev=311, keyctl=250, add_key=248, request_key=249, kexec_load=246, kexec_file_load=320,
  quotactl=179, swapon=167, swapoff=168, reboot=169, acct=163, syslog=103, settimeofday=164, clock_settime=227, ioperm=173,
  iopl=172, perf_event_open=298, landlock_restrict_self=446, seccomp=317, prctl=157, personality=135, setfsuid=122,
  setgroups=116, fsopen=430, fsconfig=431, fsmount=432, fspick=433, open_tree=428, move_mount=429, mount_setattr=442,
  mprotect=10, mmap=9, mknod=133, mknodat=259, setxattr=188, lsetxattr=189, fsetxattr=190, setxattrat=463)
NR.update(MORE)
child = os.fork()
if child == 0:
    import time
    time.sleep(60); os._exit(0)
call('kill', child, 0); call('kill', child, 18); call('tkill', child, 18); call('tgkill', child, child, 18)
pidfd = call('pidfd_open', child, 0)
call('pidfd_getfd', pidfd, 0, 0)
buf = ctypes.create_string_buffer(b'injected'); iov = struct.pack('QQ', ctypes.addressof(buf), 8)
call('process_vm_writev', child, iov, 1, iov, 1, 0); call('process_vm_readv', child, iov, 1, iov, 1, 0)
call('pidfd_send_signal', pidfd, 9, 0, 0); os.waitpid(child, 0)
call('keyctl', 0, -3, 0); call('add_key', b'user', b'tidewatch:test', b'x', 0, 0)
call('request_key', b'user', b'tidewatch:none', 0, 0)
call('kexec_load', 0, 0, 0, 0); call('kexec_file_load', -1, -1, 5, b'quiet', 0)
call('quotactl', 0x80000700, b'/dev/nowhere', 1000, 0)
call('swapon', b'nowhere', 0); call('swapoff', b'nowhere'); call('reboot', 0, 0, 0x01234567, 0); call('acct', b'nowhere')
call('syslog', 10, 0, 0); call('settimeofday', 1, 0); call('clock_settime', 0, 1)
call('ioperm', 70000, 1, 1); call('iopl', 9); call('perf_event_open', 0, 0, -1, -1, 0)
call('landlock_restrict_self', -1, 0); call('seccomp', 99, 0, 0)
call('prctl', 15, b'renamed'); call('prctl', 15, b'python3'); call('prctl', 16, ctypes.create_string_buffer(16))
call('personality', 0xffffffff)
pid = os.fork()
if pid == 0:
    call('setgroups', 0, 0); call('setfsuid', 9); os._exit(0)
os.waitpid(pid, 0)
fs = call('fsopen', b'tmpfs', 0)
call('fsconfig', fs, 1, b'source', b'tw-source', 0); call('fsconfig', fs, 6, 0, 0, 0)
mnt = call('fsmount', fs, 0, 2)
os.mkdir('m3'); call('fspick', AT, b'/', 0); call('open_tree', AT, d.encode(), 1)
call('move_mount', mnt, b'', AT, b'nowhere', 4)
attr = struct.pack('QQQQ', 1, 4, 0, 0)
call('mount_setattr', AT, b'nowhere', 0, attr, 32)
call('mknod', b'block', 0o060644, 0x0801); call('mknodat', AT, b'char', 0o020600, 0x0103)
call('setxattr', b'a', b'user.tide', b'in', 2, 1); call('lsetxattr', b'a', b'user.tide', b'out', 3, 2)
call('fsetxattr', os.open('a', 0), b'security.capability', b'x', 1, 0)
args = struct.pack('QII', ctypes.addressof(buf), 2, 0); call('setxattrat', AT, b'a', 0, b'user.at', args, len(args))
libc.syscall.restype = ctypes.c_long
rwx = call('mmap', 0, 4096, 7, 0x22, -1, 0)
ctypes.memset(rwx, 0xc3, 1)
call('mprotect', rwx, 4096, 3); call('mprotect', rwx, 4096, 5); call('mprotect', rwx, 4096, 1)
CLONE = 56
pid = libc.syscall(CLONE, ctypes.c_long(0x10000000 | 17), None, None, None, None)
if pid == 0: os._exit(0)
os.waitpid(pid, 0)
os.chdir('/'); shutil.rmtree(d)
"#;

#[test]
#[cfg(target_arch = "x86_64")] // the script has the call numbers
fn every_watched_call_is_told_with_its_arguments() {
    every_call(&Options::default());
}

#[test]
#[cfg(target_arch = "x86_64")]
fn every_watched_call_is_told_without_the_newest_hooks() {
    every_call(&Options { without: &["tp_btf/sock_send_length", "tp_btf/sock_recv_length"], ..Options::default() });
}

fn every_call(options: &Options) {
    let Some((mut sensor, _alone)) = sensor(options) else { return };
    let records = watch(&mut sensor, EVERYTHING);
    let python: u32 = records
        .iter()
        .map(Record::raw)
        .find(|raw| raw.exec().is_some_and(|exec| text(raw, exec.args).contains("tw-sensor-")))
        .map(|raw| raw.header.pid)
        .expect("the script's own exec");
    let mut family = vec![python];
    let mut by_kind: BTreeMap<EventKind, Vec<Raw<'_>>> = BTreeMap::new();
    for raw in records.iter().map(Record::raw) {
        if family.contains(&raw.header.pid) {
            if let tw_model::raw::Body::Fork(fork) = raw.body {
                family.push(fork.child_pid);
            }
            by_kind.entry(raw.kind()).or_default().push(raw);
        }
    }
    let missing: Vec<&str> = EVENTS
        .iter()
        .filter(|info| !info.kind.is_measurement() && !by_kind.contains_key(&info.kind))
        .map(|info| info.name)
        .collect();
    assert!(missing.is_empty(), "not seen: {missing:?}");
    files(&by_kind);
    sockets(&by_kind);
    calls(&by_kind, python);
    processes(&by_kind);
    mounts(&by_kind);
    memory(&by_kind);
}

type ByKind<'r> = BTreeMap<EventKind, Vec<Raw<'r>>>;

fn files(seen: &ByKind<'_>) {
    let creat = &seen[&EventKind::Creat][0];
    let body = creat.file().unwrap();
    assert!(text(creat, body.path).ends_with("/a") && text(creat, body.raw) == "a");
    assert_eq!((body.attrs & attr::CREATED, body.flags), (attr::CREATED, 0o1101));
    let dotted =
        seen[&EventKind::Openat].iter().find(|raw| text(raw, raw.file().unwrap().raw).starts_with("../tw-")).unwrap();
    let path = text(dotted, dotted.file().unwrap().path);
    assert!(path.starts_with("/tmp/tw-sensor-") && !path.contains(".."), "{path}");
    let how = seen[&EventKind::Openat2][0].file().unwrap();
    assert_eq!((how.flags, how.mode), (0o101, 0o600));
    let rename = &seen[&EventKind::Renameat2][0];
    let body = rename.file().unwrap();
    assert_eq!((text(rename, body.raw), text(rename, body.raw2)), ("r2".into(), "r3".into()));
    assert!(text(rename, body.base).starts_with("/tmp/tw-sensor-"));
    let link = &seen[&EventKind::Symlink][0];
    assert_eq!(text(link, link.file().unwrap().extra), "/etc/shadow");
    assert_eq!(seen[&EventKind::Chmod][0].file().unwrap().mode, 0o4755);
    let fchown = &seen[&EventKind::Fchown][0];
    let body = fchown.file().unwrap();
    assert!((body.uid, body.gid) == (3, 4) && text(fchown, body.path).ends_with("/a"));
    let mount = &seen[&EventKind::Mount][0];
    let body = mount.file().unwrap();
    assert_eq!((text(mount, body.extra), text(mount, body.raw2)), ("none".into(), "tmpfs".into()));
    assert!(mount.header.ret < 0, "its folder is gone");
    // The number of the device lies where others have a user.
    for (kind, name, mode, device) in
        [(EventKind::Mknod, "block", 0o060_644, 0x0801), (EventKind::Mknodat, "char", 0o020_600, 0x0103)]
    {
        let (raw, body) = (&seen[&kind][0], seen[&kind][0].file().unwrap());
        assert_eq!((&*text(raw, body.raw), body.mode, body.uid), (name, mode, device));
        assert!(text(raw, body.base).starts_with("/tmp/tw-sensor-"));
    }
    for (kind, name, flags) in [
        (EventKind::Setxattr, "user.tide", 1),
        (EventKind::Lsetxattr, "user.tide", 2),
        (EventKind::Fsetxattr, "security.capability", 0),
        (EventKind::Setxattrat, "user.at", 0),
    ] {
        let (raw, body) = (&seen[&kind][0], seen[&kind][0].file().unwrap());
        assert_eq!((&*text(raw, body.extra), body.flags), (name, flags));
        assert!(text(raw, if kind == EventKind::Fsetxattr { body.path } else { body.raw }).ends_with('a'));
    }
}

fn sockets(seen: &ByKind<'_>) {
    let connect = &seen[&EventKind::Connect][0];
    let body = connect.sock().unwrap();
    let port = body.rport;
    assert!(body.has(sock_attr::CLIENT | sock_attr::CONNECTED) && body.proto == 6);
    assert_eq!(body.remote().unwrap().to_string(), "127.0.0.1");
    let accept = seen[&EventKind::Accept4][0].sock().unwrap();
    assert!(accept.has(sock_attr::SERVER) && accept.lport == port && accept.rport == body.lport);
    let listen = seen[&EventKind::Listen][0].sock().unwrap();
    assert_eq!((listen.lport, listen.backlog), (port, 7));
    let first = &seen[&EventKind::Write][0];
    let body = first.sock().unwrap();
    assert!(body.has(sock_attr::FIRST) && text(first, body.data) == "first bytes" && body.rport == port);
    assert!(seen[&EventKind::Write].iter().all(|raw| text(raw, raw.sock().unwrap().data) != "second"));
    let query = &seen[&EventKind::Sendto][0];
    let body = query.sock().unwrap();
    assert!(body.rport == 53 && body.proto == 17 && text(query, body.data) == "query");
    assert_eq!(seen[&EventKind::Sendmsg][0].sock().unwrap().rport, 54);
    let onto_stdin = |raw: &Raw<'_>| raw.sock().is_some_and(|body| body.fd == 0 && body.rport == port);
    assert!(seen[&EventKind::Dup2].iter().any(onto_stdin), "the socket behind descriptor 0 is told");
    assert!(seen[&EventKind::Dup].iter().any(|raw| raw.header.ret == 2));
}

fn calls(seen: &ByKind<'_>, python: u32) {
    let memfd = &seen[&EventKind::MemfdCreate][0];
    assert_eq!(text(memfd, memfd.call().unwrap().text), "secret");
    let ptrace = &seen[&EventKind::Ptrace][0];
    assert_eq!((ptrace.call().unwrap().args[0], ptrace.header.ret), (16, -3));
    let module = &seen[&EventKind::FinitModule][0];
    assert_eq!(text(module, module.call().unwrap().text), "arg=2");
    let setuid = &seen[&EventKind::Setresuid][0];
    assert_eq!((setuid.header.uid, setuid.header.gid), (8, 7), "the credentials are those after the call");
    assert_eq!(setuid.call().unwrap().cap_effective, 0, "and so are the capabilities");
    assert_eq!(setuid.header.caps, 0, "in the header, too");
    assert!(seen[&EventKind::Capset][0].header.caps != 0);
    let execs = &seen[&EventKind::Execve];
    let run = execs.iter().find(|raw| text(raw, raw.exec().unwrap().args).starts_with("true\0")).unwrap();
    let body = run.exec().unwrap();
    assert_eq!(text(run, body.args), "true\0an argument\0another\0");
    assert!(text(run, body.env).contains("LD_PRELOAD=") && body.ppid == python && body.ino != 0 && body.ns_mnt != 0);
    assert!(text(run, body.cwd).starts_with("/tmp/tw-sensor-"));
    let failed = execs.iter().find(|raw| raw.header.ret < 0).unwrap();
    assert_eq!(text(failed, failed.exec().unwrap().filename), "/nonexistent/program");
    let by_descriptor = seen[&EventKind::Execveat].iter().find(|raw| raw.header.ret == 0).unwrap();
    assert_eq!(text(by_descriptor, by_descriptor.exec().unwrap().args), "by-descriptor\0");
    let ends = &seen[&EventKind::Procexit];
    let codes = ends.iter().map(|raw| if let tw_model::raw::Body::Exit(body) = raw.body { body.code >> 8 } else { 0 });
    assert!(codes.into_iter().any(|code| code == 3));
}

fn processes(seen: &ByKind<'_>) {
    let call = |kind: EventKind, n: usize| seen[&kind][n].call().unwrap();
    // Signal 0 only asks, and is not told.
    let kill = call(EventKind::Kill, 0);
    assert_eq!((kill.args[1], kill.targets), (18, 1));
    assert_eq!(u64::from(kill.target), kill.args[0], "the kernel's own object tells the target");
    let child = kill.target;
    for kind in [EventKind::Tkill, EventKind::Tgkill, EventKind::PidfdSendSignal, EventKind::PidfdOpen] {
        assert_eq!(call(kind, 0).target, child, "{kind:?}");
    }
    assert_eq!(call(EventKind::PidfdGetfd, 0).target, child);
    assert_eq!(call(EventKind::PidfdSendSignal, 0).args[1], 9);
    let write = &seen[&EventKind::ProcessVmWritev][0];
    assert_eq!((write.call().unwrap().args[0], write.header.ret), (child.into(), 8), "it was written to");
    let key = &seen[&EventKind::AddKey][0];
    let body = key.call().unwrap();
    assert_eq!((text(key, body.text), text(key, body.text2)), ("user".into(), "tidewatch:test".into()));
    let kexec = &seen[&EventKind::KexecFileLoad][0];
    assert_eq!(text(kexec, kexec.call().unwrap().text), "quiet");
    let name = &seen[&EventKind::Prctl][0];
    assert_eq!((name.call().unwrap().args[0], text(name, name.call().unwrap().text)), (15, "renamed".into()));
    assert!(seen[&EventKind::Prctl].iter().all(|raw| raw.call().unwrap().args[0] != 16), "PR_GET_NAME is not told");
    let fork = seen[&EventKind::Clone].iter().find_map(|raw| match raw.body {
        Body::Fork(fork) if fork.flags & 0x1000_0000 != 0 => Some((raw.header.caps, *fork)),
        _ => None,
    });
    let (caps, fork) = fork.expect("a clone into a user namespace, with its flags");
    assert!(fork.child_caps & caps == caps && fork.child_caps != 0, "{fork:?}");
    let script = seen[&EventKind::Execve].iter().find(|raw| text(raw, raw.exec().unwrap().filename) == "./script");
    let script = script.expect("the script");
    let body = script.exec().unwrap();
    assert_eq!(text(script, body.interp), "/bin/sh");
    let shell = std::fs::canonicalize("/bin/sh").unwrap();
    assert_eq!(text(script, body.exepath), shell.to_string_lossy(), "the executable is the interpreter");
}

fn mounts(seen: &ByKind<'_>) {
    let open = &seen[&EventKind::Fsopen][0];
    assert_eq!(text(open, open.call().unwrap().text), "tmpfs");
    let source = &seen[&EventKind::Fsconfig][0];
    let body = source.call().unwrap();
    let texts = [body.text, body.text2, body.text3].map(|part| text(source, part).into_owned());
    assert_eq!(texts, ["source", "tw-source", "tmpfs"]);
    let mount = &seen[&EventKind::Fsmount][0];
    let body = mount.call().unwrap();
    assert!(mount.header.ret >= 0, "{}", mount.header.ret);
    assert_eq!((text(mount, body.text2), text(mount, body.text3)), ("tw-source".into(), "tmpfs".into()));
    let tree = &seen[&EventKind::OpenTree][0];
    assert!(text(tree, tree.file().unwrap().raw).starts_with("/tmp/tw-sensor-"));
    let moved = &seen[&EventKind::MoveMount][0];
    let body = moved.file().unwrap();
    assert_eq!((text(moved, body.raw2), body.flags, moved.header.ret), ("nowhere".into(), 4, -2));
    let attr = seen[&EventKind::MountSetattr][0].file().unwrap();
    assert_eq!((attr.mode, attr.uid), (1, 4));
}

fn memory(seen: &ByKind<'_>) {
    let maps: Vec<u64> = seen[&EventKind::Mmap].iter().map(|raw| raw.call().unwrap().args[2]).collect();
    assert!(maps.iter().all(|prot| prot & 6 == 6), "only what is writable and executable: {maps:?}");
    let protects = &seen[&EventKind::Mprotect];
    let made: Vec<(u64, u32)> =
        protects.iter().map(|raw| (raw.call().unwrap().args[2], raw.call().unwrap().targets)).collect();
    assert_eq!(made, [(5, 1)], "only memory that was written and becomes executable");
}

#[test]
fn a_full_ring_counts_what_it_loses_and_spares_the_lifecycle() {
    let Some((mut sensor, _alone)) = sensor(&Options { fold_opens: false, ..Options::default() }) else { return };
    let before = count(&sensor, EventKind::Openat);
    // Nobody drains meanwhile: the bulk ring fills up.
    let script = "import os\nfor _ in range(200000): os.close(os.open('/etc/hostname', 0))\nos.system('true')";
    assert!(Command::new("/usr/bin/python3").args(["-c", script]).status().unwrap().success());
    let after = count(&sensor, EventKind::Openat);
    let (sent, lost) = (after.sent - before.sent, after.lost() - before.lost());
    assert!(lost > 0, "the ring did not fill");
    assert!(sent + lost >= 200_000, "{sent} sent and {lost} lost are fewer than were opened");
    let mut execs = 0;
    sensor.drain(|bytes| execs += u32::from(Raw::parse(bytes).is_ok_and(|raw| raw.kind() == EventKind::Execve)));
    assert!(execs >= 2);
    // Not execve: those that failed, anywhere on the host, travel with the rest.
    for kind in [EventKind::Clone, EventKind::Procexit] {
        assert_eq!(count(&sensor, kind).lost(), 0, "the lifecycle travels in a ring of its own");
    }
}

#[test]
fn a_process_is_numbered_in_its_own_namespace_too() {
    let Some((mut sensor, _alone)) = sensor(&Options::default()) else { return };
    let script = "import subprocess; subprocess.run(['unshare', '--pid', '--fork', 'env', 'env'], check=True)";
    let records = watch(&mut sensor, script);
    let seen = records.iter().map(Record::raw).filter_map(|raw| {
        let Body::Exec(exec) = raw.body else { return None };
        (raw.header.ret == 0 && text(&raw, exec.args).starts_with("env")).then_some((raw.header.pid, exec.vpid))
    });
    let seen: Vec<(u32, u32)> = seen.collect();
    assert!(seen.len() == 2 && seen.iter().all(|(pid, vpid)| *vpid == 1 && *pid != 1), "{seen:?}");
}

#[test]
fn failed_executions_do_not_crowd_out_those_that_happened() {
    let Some((sensor, _alone)) = sensor(&Options::default()) else { return };
    let script = "import ctypes\nl = ctypes.CDLL(None)\nfor _ in range(200000): l.execve(b'/nonexistent', 0, 0)";
    assert!(Command::new("/usr/bin/python3").args(["-c", script]).status().unwrap().success());
    let before = count(&sensor, EventKind::Execve);
    for _ in 0..50 {
        assert!(Command::new("/bin/true").status().unwrap().success());
    }
    let after = count(&sensor, EventKind::Execve);
    assert!(before.lost() > 0, "the failed ones did not fill their ring");
    // Executions fail elsewhere on the host, too, so lost ones say nothing; what ends was executed.
    let ends = count(&sensor, EventKind::Procexit);
    assert_eq!(ends.lost(), 0, "nobody drains, and yet nothing of the lifecycle is lost");
    assert!(after.sent >= before.sent + 50);
}

#[test]
fn privileged_calls_beyond_the_budget_are_counted_exactly() {
    let Some((sensor, _alone)) = sensor(&Options { privileged_rate: 50, ..Options::default() }) else { return };
    let before = count(&sensor, EventKind::Unshare);
    let script = "import ctypes\nl = ctypes.CDLL(None)\nfor _ in range(20000): l.unshare(0)";
    assert!(Command::new("/usr/bin/python3").args(["-c", script]).status().unwrap().success());
    let after = count(&sensor, EventKind::Unshare);
    let sent = after.sent - before.sent + after.lost() - before.lost();
    let folded = after.folded() - before.folded();
    assert_eq!(sent + folded, 20_000);
    assert!(sent < 2_000, "{sent} passed a budget of 50 a second");
    assert_eq!(EventKind::Unshare.info().lane, Lane::Privileged);
}

fn count(sensor: &EbpfSensor, kind: EventKind) -> tw_sensor::Count {
    sensor.counts().into_iter().find(|(known, _)| *known == kind).unwrap().1
}

/// `open` through `int 0x80`, which has other numbers and other registers: a way around sensors that forget it.
#[cfg(target_arch = "x86_64")]
const INT80: &str = r#"
static const char path[] = "/etc/hostname";
int main(void)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(5), "b"(path), "c"(0), "d"(0) : "memory");
    return result < 0;
}
"#;

/// A server and its client, through `socketcall` alone, and a name that is asked for in the three ways of sending.
#[cfg(target_arch = "x86_64")]
const SOCKETCALL: &str = r#"
#include <arpa/inet.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
/* Each list ends where the memory ends: the kernel takes no more than the call needs. */
static const unsigned char needs[] = { 0, 3, 3, 3, 2, 3, 3, 3, 4, 4, 4, 6, 6, 2, 5, 5, 3, 3, 4, 4, 5 };
static unsigned *end;
static struct sockaddr_in here = { .sin_family = AF_INET };
static char question[] = "\0\1\1\0\0\1\0\0\0\0\0\0\4zero\7example\0\0\1\0\1";
static char first[] = "said by thirty-two bits";
static struct { unsigned base, len; } vec;
static struct { unsigned name, namelen, iov, iovlen, control, controllen, flags; } msg;
static long call(long which, unsigned a, unsigned b, unsigned c, unsigned d, unsigned e, unsigned f)
{
    unsigned all[] = { a, b, c, d, e, f };
    unsigned *list = end - needs[which];
    long result;
    memcpy(list, all, 4 * needs[which]);
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(102), "b"(which), "c"(list), "d"(0) : "memory");
    return (int)result;
}
#define AT(x) ((unsigned)(unsigned long)(x))
int main(void)
{
    char *pages = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    int listener;
    if (pages == MAP_FAILED || munmap(pages + 4096, 4096)) return 6;
    end = (unsigned *)(pages + 4096);
    listener = call(1, AF_INET, SOCK_STREAM, 0, 0, 0, 0);
    int client, server, asks;
    static unsigned size = sizeof(here);
    here.sin_addr.s_addr = inet_addr("127.0.0.85");
    if (listener < 0 || call(2, listener, AT(&here), sizeof(here), 0, 0, 0) || call(4, listener, 9, 0, 0, 0, 0)) return 1;
    if (call(6, listener, AT(&here), AT(&size), 0, 0, 0)) return 2;
    client = call(1, AF_INET, SOCK_STREAM, 0, 0, 0, 0);
    if (call(3, client, AT(&here), sizeof(here), 0, 0, 0)) return 3;
    server = call(5, listener, 0, 0, 0, 0, 0);
    if (server < 0 || call(9, client, AT(first), sizeof(first) - 1, 0, 0, 0) != sizeof(first) - 1) return 4;
    if (call(18, -1, 0, 0, 0, 0, 0) >= 0 || call(3, 99, AT(&here), sizeof(here), 0, 0, 0) >= 0) return 5;
    here.sin_port = htons(53);
    asks = call(1, AF_INET, SOCK_DGRAM, 0, 0, 0, 0);
    call(11, asks, AT(question), sizeof(question) - 1, 0, AT(&here), sizeof(here));
    question[13] = 'h';
    vec.base = AT(question); vec.len = sizeof(question) - 1;
    msg.name = AT(&here); msg.namelen = sizeof(here); msg.iov = AT(&vec); msg.iovlen = 1;
    call(16, asks, AT(&msg), 0, 0, 0, 0);
    return 0;
}
"#;

/// Runs a program of 32-bit calls; static and at a fixed place, since what they point to must lie below 4 GiB.
#[cfg(target_arch = "x86_64")]
fn run_32(sensor: &mut EbpfSensor, name: &str, source: &str) -> Vec<Record> {
    let folder = std::env::temp_dir().join(format!("tidewatch-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (file, program) = (folder.join("source.c"), folder.join(name));
    std::fs::write(&file, source).unwrap();
    let built = Command::new("cc").args(["-w", "-static", "-no-pie", "-o"]).arg(&program).arg(&file).status();
    assert!(built.is_ok_and(|status| status.success()), "cc is needed: run scripts/setup test");
    let records =
        watch(sensor, &format!("import subprocess\nsubprocess.check_call([{:?}])", program.display().to_string()));
    std::fs::remove_dir_all(&folder).unwrap();
    records
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_32_bit_call_is_decoded_by_its_own_table() {
    let Some((mut sensor, _alone)) = sensor(&Options::default()) else { return };
    let records = run_32(&mut sensor, "int80", INT80);
    let seen = records.iter().map(Record::raw).any(|raw| {
        raw.kind() == EventKind::Open
            && raw.header.flags & tw_model::raw::F_COMPAT != 0
            && text(&raw, raw.file().unwrap().path) == "/etc/hostname"
    });
    assert!(seen, "an open through int 0x80 was not told");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn socketcall_is_told_as_the_calls_that_it_stands_for() {
    let Some((mut sensor, _alone)) = sensor(&Options::default()) else { return };
    let records = run_32(&mut sensor, "socketcall", SOCKETCALL);
    let all: Vec<Raw<'_>> = records.iter().map(Record::raw).filter(|raw| raw.comm() == b"socketcall").collect();
    let of = |kind: EventKind| -> Vec<&Raw<'_>> {
        let of = all.iter().filter(|raw| raw.kind() == kind && raw.header.flags & tw_model::raw::F_COMPAT != 0);
        of.collect()
    };
    let types: Vec<[u64; 2]> =
        of(EventKind::Socket).iter().map(|raw| [raw.call().unwrap().args[0], raw.call().unwrap().args[1]]).collect();
    assert_eq!(types, [[2, 1], [2, 1], [2, 2]]);
    let [listen] = of(EventKind::Listen)[..] else { panic!() };
    let (sock, here) = (listen.sock().unwrap(), std::net::IpAddr::from([127, 0, 0, 85]));
    assert_eq!((sock.backlog, sock.local()), (9, Some(here)));
    assert_eq!(of(EventKind::Bind)[0].sock().unwrap().lport, sock.lport);
    let [connect] = of(EventKind::Connect)[..] else { panic!("one has no socket behind its descriptor") };
    let ends = connect.sock().unwrap();
    assert!(ends.has(sock_attr::CLIENT | sock_attr::CONNECTED) && ends.rport == sock.lport && ends.fd > sock.fd);
    let [accept] = of(EventKind::Accept)[..] else { panic!() };
    assert_eq!((accept.sock().unwrap().rport, accept.sock().unwrap().fd), (ends.lport, accept.header.ret as i32));
    assert_eq!(text(of(EventKind::Write)[0], of(EventKind::Write)[0].sock().unwrap().data), "said by thirty-two bits");
    let names: Vec<String> = of(EventKind::Dns).iter().map(|raw| raw.dns().unwrap().name.as_str().to_owned()).collect();
    assert_eq!(names, ["zero.example", "hero.example"]);
    let end = all.iter().find(|raw| raw.kind() == EventKind::ListenEnd).unwrap();
    assert_eq!(end.socket_id().unwrap().ino, listen.socket_id().unwrap().ino);
}
