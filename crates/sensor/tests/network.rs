//! What the sensor tells of the network, on the real kernel: DNS as libraries speak it, and flows.
//!
//! Needs root and eBPF; without them the tests say so and pass, unless `TIDEWATCH_REQUIRE_E2E` is set.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::Command;
use std::time::Duration;

use tw_model::event::EventKind;
use tw_model::raw::{Raw, sock_attr};
use tw_sensor::Options;

mod watching;
use watching::{Record, sensor, text, told, watch};

/// A name server on loopback, asked in all the ways in which libraries ask.
const NAMES: &str = r#"
import ctypes, os, socket, struct, threading
libc = ctypes.CDLL(None, use_errno=True)
os.system('true')
def query(number, name, kind=1):
    return struct.pack('>6H', number, 0x100, 1, 0, 0, 0) + b''.join(
        bytes([len(l)]) + l for l in name.split(b'.')) + b'\0' + struct.pack('>2H', kind, 1)
def answer(asked):
    return asked[:2] + b'\x81\x80' + asked[4:6] + b'\0\1' + asked[8:] + b'\xc0\x0c\0\1\0\1\0\0\1\x2c\0\4\xc0\0\2\x09'
HERE = ('127.0.0.77', 53)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(HERE)
tcp = socket.socket(); tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); tcp.bind(HERE); tcp.listen(4)
def serve():
    for _ in range(5):
        asked, peer = udp.recvfrom(2000)
        udp.sendto(answer(asked), peer)
    c, _ = tcp.accept()
    asked = c.recv(2000)
    told = answer(asked[2:])
    c.sendall(struct.pack('>H', len(told)) + told)
    c.recv(1); c.close()
served = threading.Thread(target=serve); served.start()
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)                 # without a peer
s.sendto(query(1, b'sendto.example'), HERE); s.recvfrom(2000)
s.sendmsg([query(2, b'sendmsg.example')], [], 0, HERE); s.recvmsg(2000)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(HERE)  # with one
os.write(s.fileno(), query(3, b'write.example', 28)); os.read(s.fileno(), 2000)
class Vec(ctypes.Structure): _fields_ = [('base', ctypes.c_char_p), ('len', ctypes.c_size_t)]
class Msg(ctypes.Structure): _fields_ = [('name', ctypes.c_void_p), ('namelen', ctypes.c_int), ('iov', ctypes.POINTER(Vec)),
    ('iovlen', ctypes.c_size_t), ('control', ctypes.c_void_p), ('controllen', ctypes.c_size_t), ('flags', ctypes.c_int)]
class MMsg(ctypes.Structure): _fields_ = [('msg', Msg), ('len', ctypes.c_uint)]
two = (MMsg * 2)()
asks = [query(4, b'first.example'), query(5, b'second.example')]     # as the C library asks for A and AAAA
vecs = [Vec(ask, len(ask)) for ask in asks]
for m, vec in zip(two, vecs): m.msg.iov, m.msg.iovlen = ctypes.pointer(vec), 1
assert libc.sendmmsg(s.fileno(), two, 2, 0) == 2
s.recv(2000); s.recv(2000)
t = socket.create_connection(HERE)                                     # the length by itself when it comes back
ask = query(6, b'stream.example')
os.writev(t.fileno(), [struct.pack('>H', len(ask)), ask])
length, = struct.unpack('>H', t.recv(2)); assert len(t.recv(length)) == length
t.close(); served.join()
o = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); o.sendto(b'SSH-2.0-tunnel', HERE)
"#;

#[test]
fn dns_is_told_however_a_library_asks() {
    dns(&Options::default());
}

#[test]
fn dns_is_told_without_the_newest_hooks() {
    dns(&Options { without: &["tp_btf/sock_send_length", "tp_btf/sock_recv_length"], ..Options::default() });
}

fn dns(options: &Options) {
    let Some((mut sensor, _alone)) = sensor(options) else { return };
    let records = watch(&mut sensor, NAMES);
    let told: Vec<(String, bool, bool, bool, u64)> = records
        .iter()
        .map(Record::raw)
        .filter(|raw| raw.kind() == EventKind::Dns && raw.comm() == b"python3")
        .filter(|raw| {
            raw.sock()
                .unwrap()
                .local()
                .into_iter()
                .chain(raw.sock().unwrap().remote())
                .any(|ip| ip == std::net::IpAddr::from([127, 0, 0, 77]))
        })
        .map(|raw| {
            let sock = raw.sock().unwrap();
            let name = raw
                .dns()
                .map_or_else(|| text(&raw, sock.data).into_owned(), |m| format!("{} {}", m.name.as_str(), m.qtype));
            let answers = raw.dns().map_or(0, |m| m.answers().filter(|a| a.address().is_some()).count()) as u64;
            (
                name,
                raw.dns().is_some_and(|m| m.is_answer()),
                sock.has(sock_attr::RECEIVED),
                sock.has(sock_attr::CLIENT),
                answers,
            )
        })
        .collect();
    for name in [
        "sendto.example 1",
        "sendmsg.example 1",
        "write.example 28",
        "first.example 1",
        "second.example 1",
        "stream.example 1",
    ] {
        for (answer, received, client) in
            [(false, false, true), (false, true, false), (true, false, false), (true, true, true)]
        {
            let expected = (name.to_owned(), answer, received, client, u64::from(answer));
            assert!(told.contains(&expected), "{expected:?} is missing in {told:#?}");
        }
    }
    assert!(told.iter().any(|one| one.0 == "SSH-2.0-tunnel"), "what is no DNS on its port is told too");
    let asked = records
        .iter()
        .map(Record::raw)
        .filter(|raw| raw.kind() == EventKind::Dns && raw.sock().unwrap().has(sock_attr::CLIENT));
    let servers = asked
        .filter(|raw| raw.comm() == b"python3")
        .map(|raw| (raw.sock().unwrap().remote(), raw.sock().unwrap().rport));
    assert!(servers.clone().count() > 10);
    assert!(
        servers.into_iter().all(|server| server == (Some([127, 0, 0, 77].into()), 53)),
        "also where the socket has no peer"
    );
}

/// A connection of known size, one that is broken off, and datagrams.
const FLOWS: &str = r#"
import os, socket, struct
os.system('true')
l = socket.socket(); l.bind(('127.0.0.78', 0)); l.listen(4)
c = socket.create_connection(l.getsockname()); a, _ = l.accept()
def all(s, n):
    while n: n -= len(s.recv(n))
c.sendall(b'x' * 1000); all(a, 1000); a.sendall(b'y' * 70000); all(c, 70000)
c.close(); a.recv(1); a.close()
c = socket.create_connection(l.getsockname()); a, _ = l.accept()
c.sendall(b'z' * 10); all(a, 10)
c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); c.close()
try: a.recv(1)
except ConnectionResetError: pass
a.close()
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('127.0.0.78', 0))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(3): u.sendto(b'd' * 100, s.getsockname()); s.recv(200)
kept = socket.create_connection(l.getsockname()); b, _ = l.accept(); kept.sendall(b'open'); all(b, 4)
import time; time.sleep(4)
"#;

#[test]
fn flows_are_told_with_what_went_over_them_and_whose_they_are() {
    let second = Duration::from_secs(1);
    let options = Options { flow_told_every: second, flow_idle_after: second, ..Options::default() };
    let Some((mut sensor, _alone)) = sensor(&options) else { return };
    let mut child = Command::new("/usr/bin/python3").args(["-c", FLOWS]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(2800));
    sensor.sweep().unwrap();
    let mut records: Vec<Record> = Vec::new();
    let mut take = |bytes: &[u8]| records.push(Record::of(bytes));
    sensor.drain(&mut take);
    let pid = child.id();
    assert!(child.wait().unwrap().success());
    std::thread::sleep(Duration::from_millis(200));
    sensor.drain(&mut take);
    let flows = records.iter().map(Record::raw).filter(|raw| raw.kind() == EventKind::Flow && raw.header.pid == pid);
    let told: Vec<(&str, bool, u64, u64, u16)> = flows
        .map(|raw| {
            let (sock, flow) = (raw.sock().unwrap(), raw.flow().unwrap());
            assert_eq!((raw.comm(), raw.header.tid), (b"python3".as_slice(), pid));
            assert!(flow.started > 0 && flow.started <= raw.header.time);
            let here = std::net::IpAddr::from([127, 0, 0, 78]);
            let client = sock.has(sock_attr::CLIENT);
            let end = if client { sock.remote() } else { sock.local() };
            assert_eq!(end, Some(here), "{sock:?}");
            assert!(
                sock.proto != 6 || (sock.lport != 0 && sock.rport != 0),
                "whoever ended: {} {sock:?}",
                flow.state_name().unwrap()
            );
            assert!(flow.packets_out + flow.packets_in >= 3, "{flow:?}");
            (flow.state_name().unwrap(), client, flow.bytes_out, flow.bytes_in, sock.proto)
        })
        .collect();
    for expected in [
        ("closed", true, 1000, 70_000, 6),
        ("closed", false, 70_000, 1000, 6),
        ("reset", true, 10, 0, 6),
        ("reset", false, 0, 10, 6),
        ("idle", true, 300, 0, 17),
        ("idle", false, 0, 300, 17),
        ("open", true, 4, 0, 6),
    ] {
        assert!(told.contains(&expected), "{expected:?} is missing in {told:#?}");
    }
}

/// Sockets that listen, by one way and another, and how they end.
const LISTENERS: &str = r#"
import os, socket, sys
def tcp(family, address):
    s = socket.socket(family); s.bind(address); return s
closed = tcp(socket.AF_INET, ('127.0.0.80', 7081)); closed.listen(3); closed.listen(9)
shut = tcp(socket.AF_INET6, ('::1', 7082)); shut.listen(3)
chosen = socket.socket(); chosen.listen(1)                             # the kernel chooses a port
taken = tcp(socket.AF_INET, ('127.0.0.80', 7083))                      # bound, never listens
mp = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262); mp.bind(('127.0.0.80', 7084)); mp.listen(1)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(('127.0.0.80', 7085))
any = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); any.bind(('127.0.0.80', 0))
kept = tcp(socket.AF_INET, ('127.0.0.80', 7086)); kept.listen(1)       # in two processes, until the second ends
for s in (closed, shut, chosen, taken, mp, udp, any, kept):
    print(os.fstat(s.fileno()).st_ino, s.getsockname()[1], file=sys.stderr)
netns = os.stat('/proc/self/ns/net').st_ino
print(netns, 0, file=sys.stderr)
closed.close(); shut.shutdown(socket.SHUT_RDWR); chosen.close(); taken.close(); mp.close()
pid = os.fork()
if not pid:
    import time; time.sleep(0.1); os._exit(0)
kept.close(); os.waitpid(pid, 0)
print(pid, 0, file=sys.stderr)
"#;

#[test]
fn listening_sockets_are_told_from_their_beginning_to_their_end() {
    let Some((mut sensor, _alone)) = sensor(&Options::default()) else { return };
    let out = Command::new("/usr/bin/python3").args(["-c", LISTENERS]).output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.success(), "{said}");
    let numbers: Vec<(u64, u16)> = said
        .lines()
        .map(|line| {
            let (ino, port) = line.split_once(' ').unwrap();
            (ino.parse().unwrap(), port.parse().unwrap())
        })
        .collect();
    let [closed, shut, chosen, taken, mptcp, udp, any, kept, netns, child] = numbers.as_slice() else {
        panic!("{said}")
    };
    let records = told(&mut sensor);
    let of = |kind: EventKind, ino: u64| -> Vec<Raw<'_>> {
        let raws = records.iter().map(Record::raw).filter(|raw| raw.kind() == kind);
        raws.filter(|raw| raw.socket_id().is_some_and(|socket| socket.ino == ino)).collect()
    };
    for ((ino, port), begins) in [(closed, 2), (shut, 1), (chosen, 1), (mptcp, 1), (kept, 1)] {
        let (begun, ended) = (of(EventKind::Listen, *ino), of(EventKind::ListenEnd, *ino));
        assert_eq!((begun.len(), ended.len()), (begins, 1), "port {port}");
        for raw in begun.iter().chain(&ended) {
            let (sock, socket) = (raw.sock().unwrap(), raw.socket_id().unwrap());
            assert_eq!((sock.lport, u64::from(socket.netns)), (*port, netns.0));
            assert!(sock.has(sock_attr::SERVER) || raw.kind() == EventKind::Listen);
            assert_eq!(raw.comm(), b"python3");
        }
        assert_eq!(begun[0].sock().unwrap().local(), ended[0].sock().unwrap().local());
    }
    let end = &of(EventKind::ListenEnd, kept.0)[0];
    assert_eq!(u64::from(end.header.pid), child.0, "whoever had it last");
    for (ino, port) in [taken, udp, any] {
        assert!(of(EventKind::Listen, *ino).is_empty() && of(EventKind::ListenEnd, *ino).is_empty(), "{port}");
        let bound = &of(EventKind::Bind, *ino)[0];
        assert_eq!((bound.sock().unwrap().lport, bound.socket_id().unwrap().chosen != 0), (*port, ino != &any.0));
    }
}
