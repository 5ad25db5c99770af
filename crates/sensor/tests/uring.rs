//! Calls through io_uring on the real kernel: they must be told like the calls that they stand for.
//!
//! Needs root, eBPF, python3 and io_uring; without them the test says so and passes, unless `TIDEWATCH_REQUIRE_E2E` is set.

#![allow(clippy::unwrap_used, reason = "a test")]
#![cfg(target_arch = "x86_64")] // the script has call numbers

use std::process::Command;

use tw_model::event::EventKind;
use tw_model::raw::{F_PRESUMED, F_RING, Raw, attr, sock_attr};
use tw_sensor::{EbpfSensor, Options};

mod watching;
use watching::{Record, sensor, told};

/// One request after another through a ring of its own, each waited for.
const SCRIPT: &str = r"
import ctypes, mmap, os, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
SETUP = int(sys.argv[2])
params = ctypes.create_string_buffer(120)
struct.pack_into('I', params, 8, SETUP)
ring = libc.syscall(425, 8, params)
assert ring >= 0, os.strerror(ctypes.get_errno())
sq_head, sq_tail, sq_mask, sq_entries, sq_flags, _, sq_array = struct.unpack_from('7I', params, 40)
cq_head, cq_tail, cq_mask, cq_entries, _, cq_cqes = struct.unpack_from('6I', params, 80)
queue = mmap.mmap(ring, max(sq_array + 4 * sq_entries, cq_cqes + 16 * cq_entries))
sqes = mmap.mmap(ring, 64 * sq_entries, offset=0x10000000)
def word(at, value=None):
    if value is None: return struct.unpack_from('I', queue, at)[0]
    struct.pack_into('I', queue, at, value)
kept = []
def pointer(value):
    if isinstance(value, bytes):
        value = ctypes.create_string_buffer(value, len(value) + 1); kept.append(value)
        return ctypes.addressof(value)
    return value
def request(op, fd=0, off=0, addr=0, length=0, flags=0, sqe_flags=0, addr_len=0, wait=1):
    tail = word(sq_tail); slot = tail & word(sq_mask)
    sqe = struct.pack('BBHiQQIIQHHiQQ', op, sqe_flags, 0, fd, pointer(off), pointer(addr), length, flags, 7, 0, 0, addr_len, 0, 0)
    sqes[64 * slot:64 * slot + 64] = sqe
    word(sq_array + 4 * slot, slot); word(sq_tail, tail + 1)
    while True:
        done = libc.syscall(426, ring, 1, wait, (1 if wait else 0) | (2 if SETUP & 2 else 0), 0, 0)
        assert done >= 0, os.strerror(ctypes.get_errno())
        if not wait: return None
        head = word(cq_head)
        if word(cq_tail) != head: break
    res = struct.unpack_from('i', queue, cq_cqes + 16 * (head & word(cq_mask)) + 8)[0]
    word(cq_head, head + 1)
    return res
d = sys.argv[1].encode(); os.chdir(d); AT = -100
fd = request(18, AT, 0, b'made', 0o640, os.O_CREAT | os.O_RDWR); assert fd >= 0, fd
how = struct.pack('QQQ', 0, 0, 0)
assert request(28, AT, how, d + b'/made', len(how)) >= 0
assert request(18, AT, 0, b'/nonexistent/name', 0, 0) == -2
os.symlink('made', 'pointer'); assert request(18, AT, 0, b'pointer', 0, 0) >= 0
assert request(37, AT, 0, b'folder', 0o700) == 0
assert request(35, AT, b'renamed', b'made', AT & 0xffffffff) == 0
assert request(39, AT, b'linked', b'renamed', AT & 0xffffffff) == 0
assert request(38, AT, b'symbolic', b'/etc/shadow') == 0
assert request(36, AT, 0, b'folder', 0, 0x200) == 0
l = socket.socket(); l.bind(('127.0.0.1', 0)); l.listen(3)
s = request(45, socket.AF_INET, socket.SOCK_STREAM, 0, 0); assert s >= 0, s
to = struct.pack('<H', 2) + struct.pack('>H', l.getsockname()[1]) + socket.inet_aton('127.0.0.1') + bytes(8)
assert request(16, s, 16, to) == 0
accepted = request(13, l.fileno()); assert accepted >= 0, accepted
assert request(26, s, 0, b'through a ring', 14) == 14
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
to = struct.pack('<H', 2) + struct.pack('>H', 9 + SETUP) + socket.inet_aton('127.0.0.1') + bytes(8)
request(26, u.fileno(), to, b'datagram', 8, 0, addr_len=16)
v = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
to = struct.pack('<H', 2) + struct.pack('>H', 19 + SETUP) + socket.inet_aton('127.0.0.1') + bytes(8)
message = struct.pack('QIIQQQQQ', pointer(to), 16, 0, pointer(struct.pack('QQ', pointer(b'a message'), 9)), 1, 0, 0, 0)
request(9, v.fileno(), 0, message, 1)
# Sends that no socket asks about: of a connection that was told, and of no network.
assert request(26, s, 0, b'and more', 8) == 8
a, b = socket.socketpair(); assert request(26, a.fileno(), 0, b'here', 4) == 4
r = socket.socket(); r.bind(('127.0.0.1', 0)); assert request(57, r.fileno(), 0, 0, 5) in (0, -22)
# Without an answer unless it fails: once with success, once without.
request(37, AT, 0, b'silent', 0o700, sqe_flags=64, wait=0)
assert request(0) == 0
assert request(18, AT, 0, b'/nonexistent/silent', sqe_flags=64) == -2
";

fn run(sensor: &mut EbpfSensor, folder: &std::path::Path, setup: &str) -> Option<Vec<Record>> {
    let mut command = Command::new("timeout");
    let out = command.args(["20", "/usr/bin/python3", "-c", SCRIPT]).arg(folder).arg(setup).output().unwrap();
    let records = told(sensor);
    let error = String::from_utf8_lossy(&out.stderr).into_owned();
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").is_ok_and(|text| text.trim() != "0");
    if disabled && std::env::var_os("TIDEWATCH_REQUIRE_E2E").is_none() {
        eprintln!("skipped: kernel.io_uring_disabled is set on this host");
        return None;
    }
    assert!(out.status.success(), "{error}");
    Some(records)
}

#[test]
fn calls_through_a_ring_are_told_like_the_calls_that_they_stand_for() {
    let Some((mut sensor, _alone)) = sensor(&Options::default()) else { return };
    // Handed over by the caller, and taken by a thread of the kernel that polls (IORING_SETUP_SQPOLL).
    for setup in ["0", "2"] {
        let folder = std::env::temp_dir().join(format!("tidewatch-uring-{}-{setup}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let records = run(&mut sensor, &folder, setup);
        std::fs::remove_dir_all(&folder).unwrap();
        let Some(records) = records else { return };
        look(&records, &folder.display().to_string(), setup);
        let tables = sensor.tables();
        let sends = tables.iter().find(|table| table.name == "ring_sends").unwrap();
        assert_eq!(sends.entries, 0, "setup {setup}: what was answered is forgotten");
    }
}

fn look(records: &[Record], folder: &str, setup: &str) {
    let seen: Vec<Raw<'_>> = records.iter().map(Record::raw).collect();
    let ring: Vec<&Raw<'_>> = seen.iter().filter(|raw| raw.header.flags & F_RING != 0).collect();
    let text = |raw: &Raw<'_>, part| String::from_utf8_lossy(raw.text(part)).into_owned();
    let of = |kind: EventKind| ring.iter().filter(|raw| raw.kind() == kind).copied().collect::<Vec<_>>();
    let all: Vec<&str> = ring.iter().map(|raw| raw.info().name).collect();
    let caller = ring.first().unwrap_or_else(|| panic!("setup {setup}: nothing was told")).header.pid;
    assert!(ring.iter().all(|raw| raw.header.pid == caller), "one process, whatever thread");

    let opens = of(EventKind::Openat);
    assert_eq!(opens.len(), 5, "setup {setup}: {all:?}");
    let made = opens[0].file().unwrap();
    assert_eq!((text(opens[0], made.path), text(opens[0], made.raw)), (format!("{folder}/made"), "made".into()));
    assert_eq!((made.flags, made.mode, made.attrs & attr::CREATED), (0o102, 0o640, attr::CREATED));
    assert!(opens[0].header.ret >= 0);
    let missing = opens[1].file().unwrap();
    assert_eq!((opens[1].header.ret, text(opens[1], missing.raw)), (-2, "/nonexistent/name".into()));
    assert_eq!(text(opens[2], opens[2].file().unwrap().path), format!("{folder}/made"), "where the link leads");
    let how = of(EventKind::Openat2)[0];
    assert_eq!(text(how, how.file().unwrap().path), format!("{folder}/made"));
    let rename = of(EventKind::Renameat2)[0];
    let body = rename.file().unwrap();
    assert_eq!((text(rename, body.raw), text(rename, body.raw2)), ("made".into(), "renamed".into()));
    assert_eq!(text(rename, body.base), folder);
    let link = of(EventKind::Linkat)[0];
    assert_eq!(text(link, link.file().unwrap().raw2), "linked");
    let symbolic = of(EventKind::Symlinkat)[0];
    let body = symbolic.file().unwrap();
    assert_eq!((text(symbolic, body.extra), text(symbolic, body.raw)), ("/etc/shadow".into(), "symbolic".into()));
    let removed = of(EventKind::Unlinkat)[0];
    assert_eq!((text(removed, removed.file().unwrap().raw), removed.file().unwrap().flags), ("folder".into(), 0x200));

    let folders = of(EventKind::Mkdirat);
    let results: Vec<(i64, bool)> =
        folders.iter().map(|raw| (raw.header.ret, raw.header.flags & F_PRESUMED != 0)).collect();
    assert_eq!(results, [(0, false), (0, true)], "the second wanted no answer");
    assert_eq!(text(folders[1], folders[1].file().unwrap().raw), "silent");
    let failed: Vec<(i64, bool)> = opens
        .iter()
        .filter(|raw| text(raw, raw.file().unwrap().raw) == "/nonexistent/silent")
        .map(|raw| (raw.header.ret, raw.header.flags & F_PRESUMED != 0))
        .collect();
    assert_eq!(failed, [(0, true), (-2, false)], "presumed at first, then told");

    assert_eq!(of(EventKind::Socket)[0].call().unwrap().args[..2], [2, 1]);
    let connect = of(EventKind::Connect)[0].sock().unwrap();
    assert!(connect.has(sock_attr::CLIENT | sock_attr::CONNECTED) && connect.rport != 0);
    let accept = of(EventKind::Accept4)[0].sock().unwrap();
    assert!(accept.has(sock_attr::SERVER) && accept.lport == connect.rport && accept.rport == connect.lport);
    let first = of(EventKind::Write)[0];
    assert_eq!(text(first, first.sock().unwrap().data), "through a ring");
    let datagram = of(EventKind::Sendto)[0];
    let body = datagram.sock().unwrap();
    // Another port each time: the kernel may use a socket's memory again within the second that folds repetitions.
    assert_eq!((text(datagram, body.data), body.rport), ("datagram".into(), 9 + setup.parse::<u16>().unwrap()));
    let message = of(EventKind::Sendmsg)[0];
    let body = message.sock().unwrap();
    assert_eq!((text(message, body.data), body.rport), ("a message".into(), 19 + setup.parse::<u16>().unwrap()));
    // Since 6.11.
    for listen in of(EventKind::Listen).into_iter().filter(|raw| raw.header.ret == 0) {
        let (sock, socket) = (listen.sock().unwrap(), listen.socket_id().unwrap());
        let ends = seen.iter().filter(|raw| raw.kind() == EventKind::ListenEnd);
        assert_eq!(ends.filter(|raw| raw.socket_id().unwrap().ino == socket.ino).count(), 1);
        assert!(sock.backlog == 5 && sock.lport != 0, "{sock:?}");
    }
}
