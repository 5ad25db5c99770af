//! What a capture tells, as lines that a test can compare; and captures that several tests need.

#![allow(dead_code, reason = "no test needs all of it")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::fmt::Write as _;
use std::ops::ControlFlow;

use tw_model::raw::{Body, Raw};
use tw_sensor::capture::{Account, CaptureReader, Item, Reading};

use crate::capturing::{Form, P, Proc, Scap};

/// Everything that a capture tells, a line each, and how the reading went.
pub fn told(bytes: &[u8]) -> (Vec<String>, Reading) {
    let mut lines = Vec::new();
    let reading = CaptureReader::from_bytes("/x/y.scap", bytes.to_vec()).unwrap().read(&mut |item| {
        lines.push(line(&item));
        ControlFlow::Continue(())
    });
    (lines, reading)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', " ").trim_end().to_owned()
}

fn line(item: &Item<'_>) -> String {
    match item {
        Item::Record { number, bytes } => format!("{number} {}", record(&Raw::parse(bytes).unwrap())),
        Item::Process(p) => format!(
            "process {} of {:?}: {} = {} {} in {} as {}/{}/{}",
            p.key.pid,
            p.parent.map(|parent| parent.pid),
            text(p.exepath),
            text(p.comm),
            text(p.args),
            text(p.cwd),
            p.uid,
            p.gid,
            p.loginuid as i32,
        ),
        Item::Account(Account::User { uid, name, home, .. }) => format!("user {uid} {} {}", text(name), text(home)),
        Item::Account(Account::Group { gid, name, .. }) => format!("group {gid} {}", text(name)),
        Item::Place { container, .. } => format!("place {container}"),
        Item::Machine(machine) => format!("machine {} {}", machine.hostname, machine.boot_ns),
        Item::Interface(interface) => format!("interface {} {}", text(interface.name), interface.address),
        Item::Container(news) => format!("container {news:?}"),
        Item::Clock { boot_to_wall_ns } => format!("clock {boot_to_wall_ns}"),
        Item::Section => "section".to_owned(),
        Item::Native { frame, bytes } => format!("native {frame:?} {}", bytes.len()),
    }
}

fn record(raw: &Raw<'_>) -> String {
    let text = |place| text(raw.text(place));
    let header = raw.header;
    let mut out = format!("{} {}={} ", raw.kind().name(), header.pid, header.ret);
    let mut put = |key: &str, value: String| {
        if !["", "0", "0o0"].contains(&&*value) {
            let _ = write!(out, "{key}:{value} ");
        }
    };
    match raw.body {
        Body::Fork(b) => put("child", format!("{}/{}/{}", b.child_pid, b.child_vpid, b.parent_pid)),
        Body::Exec(b) => {
            put("comm", String::from_utf8_lossy(raw.comm()).into_owned());
            for (key, place) in
                [("exe", b.exepath), ("file", b.filename), ("args", b.args), ("cwd", b.cwd), ("env", b.env)]
            {
                put(key, text(place));
            }
            put("ppid", b.ppid.to_string());
            put("tty", b.tty.to_string());
        }
        Body::Exit(b) => put("code", b.code.to_string()),
        Body::Resource(b) => put("resource", format!("{b:?}")),
        Body::File(b) => {
            for (key, place) in [
                ("path", b.path),
                ("raw", b.raw),
                ("base", b.base),
                ("raw2", b.raw2),
                ("base2", b.base2),
                ("extra", b.extra),
            ] {
                put(key, text(place));
            }
            put("flags", format!("{:#o}", b.flags));
            put("mode", format!("{:#o}", b.mode));
            put("fd", b.fd.to_string());
        }
        Body::Sock(b) => {
            put("fd", b.fd.to_string());
            put("from", b.local().map_or(String::new(), |ip| format!("{ip}:{}", b.lport)));
            put("to", b.remote().map_or(String::new(), |ip| format!("{ip}:{}", b.rport)));
            put("path", text(b.path));
            put("data", text(b.data));
            put("attrs", b.attrs.to_string());
        }
        Body::Call(b) => {
            put("args", format!("{:?}", b.args));
            put("text", text(b.text));
            put("text2", text(b.text2));
        }
    }
    out.trim_end().to_owned()
}

/// The records of a capture, without numbers and without what is told beside them.
pub fn records(scap: &Scap) -> Vec<String> {
    let (lines, reading) = told(&scap.bytes);
    assert!(reading.error.is_none(), "{:?}", reading.error);
    assert_eq!(reading.conversion.malformed, 0);
    let numbered = lines.iter().filter(|line| line.starts_with(|first: char| first.is_ascii_digit()));
    numbered.map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
}

/// A capture of a host with one process of every version of every list.
pub fn host(form: Form, big: bool, processes: u8, lists: u8) -> Scap {
    let mut scap = Scap::in_order(form, big);
    scap.machine("web-1", 0);
    scap.interfaces(lists);
    scap.accounts(lists, &[(0, "root"), (33, "www")], &[(34, "www-group")]);
    scap.processes(processes, &[Proc::default(), Proc { tid: 101, ..Proc::default() }]);
    let (log, tcp) = (scap.file("/var/log/x.log"), scap.tcp4(([10, 0, 0, 1], 443), ([10, 0, 0, 9], 55_000)));
    scap.descriptors(lists, 100, &[(1, 16, log), (9, 3, tcp)]);
    scap
}

/// Numbers and parameters.
pub type Events = Vec<(u16, Vec<P>)>;

/// The same calls as old and as new writers tell them.
pub fn old_and_new() -> Vec<(Events, Events, &'static str)> {
    let res = || P::I64(0);
    let at = || P::I64(-100);
    vec![
        (
            vec![(102, vec![at(), P::Text("conf"), P::U32(1 << 2 | 2), P::U32(0o644)]), (103, vec![P::I64(5)])],
            vec![(
                307,
                vec![P::I64(5), at(), P::Text("conf"), P::U32(1 << 2 | 2), P::U32(0o644), P::U32(0x801), P::U64(9)],
            )],
            "openat 100=5 path:/srv/conf raw:conf flags:0o101 mode:0o644 fd:-1",
        ),
        (
            vec![(108, vec![P::Text("../x")]), (109, vec![res()])],
            vec![(300, vec![]), (301, vec![res(), P::Text("../x")])],
            "unlink 100=0 raw:../x base:/srv fd:-1",
        ),
        (
            vec![(106, vec![at(), P::Text("a"), P::I64(1), P::Text("b")]), (107, vec![res()])],
            vec![(311, vec![res(), at(), P::Text("a"), P::I64(1), P::Text("b"), P::U32(0)])],
            "linkat 100=0 raw:a base:/srv raw2:b base2:/var/log/x.log fd:-1",
        ),
        (
            vec![(98, vec![P::Text("d"), P::U32(0o700)]), (99, vec![res()])],
            vec![(276, vec![P::U32(0o700)]), (277, vec![res(), P::Text("d")])],
            "mkdir 100=0 raw:d base:/srv mode:0o700 fd:-1",
        ),
        (
            vec![(198, vec![P::U32(7)]), (199, vec![res()])],
            vec![(199, vec![res(), P::U32(7)])],
            "setuid 100=0 args:[7, 0, 0, 0, 0, 0]",
        ),
        (
            vec![(298, vec![P::U64(1), P::U64(2)]), (299, vec![res()])],
            vec![(299, vec![res(), P::U64(1), P::U64(2)])],
            "seccomp 100=0 args:[1, 2, 0, 0, 0, 0]",
        ),
        (
            vec![(240, vec![P::I64(4), P::U32(1 << 4)]), (241, vec![res()])],
            vec![(241, vec![res(), P::I64(4), P::U32(1 << 4)])],
            "setns 100=0 args:[4, 1073741824, 0, 0, 0, 0]",
        ),
        (
            vec![(168, vec![P::U32(11), P::I64(77)]), (169, vec![res(), P::Variant(0, 1), P::Variant(0, 2)])],
            vec![(169, vec![res(), P::Variant(0, 1), P::Variant(0, 2), P::U32(11), P::I64(77)])],
            "ptrace 100=0 args:[16, 77, 1, 2, 0, 0]",
        ),
        (
            vec![(296, vec![P::I64(5)]), (297, vec![P::Variant(0, 8)])],
            vec![(369, vec![P::I64(8), P::U32(5)])],
            "bpf 100=8 args:[5, 0, 0, 0, 0, 0]",
        ),
        (
            vec![
                (256, vec![P::U32(0x1000)]),
                (257, vec![res(), P::Text("/dev/sda"), P::Text("/mnt"), P::Text("ext4")]),
            ],
            vec![(257, vec![res(), P::Text("/dev/sda"), P::Text("/mnt"), P::Text("ext4"), P::U32(0x1000)])],
            "mount 100=0 raw:/mnt raw2:ext4 base2:/srv extra:/dev/sda flags:0o10000 fd:-1",
        ),
        (
            vec![(124, vec![P::I64(9)]), (125, vec![P::I64(0)])],
            vec![(363, vec![P::I64(0), P::I64(9), P::I64(0)])],
            "dup 100=0 from:10.0.0.1:443 to:10.0.0.9:55000 attrs:4",
        ),
        (
            vec![(24, vec![P::I64(9), P::U32(128)]), (25, vec![res()])],
            vec![(25, vec![res(), P::I64(9), P::U32(128)])],
            "listen 100=0 fd:9 from:10.0.0.1:443 to:10.0.0.9:55000 attrs:4",
        ),
        (
            vec![(56, vec![P::U32(0)]), (57, vec![P::I64(6), P::Tuple4([1, 2, 3, 4], 5, [6, 7, 8, 9], 10), P::U8(0)])],
            vec![(
                389,
                vec![
                    P::I64(6),
                    P::Tuple4([1, 2, 3, 4], 5, [6, 7, 8, 9], 10),
                    P::U8(0),
                    P::U32(0),
                    P::U32(0),
                    P::U32(0),
                ],
            )],
            "accept4 100=6 fd:6 from:6.7.8.9:10 to:1.2.3.4:5 attrs:6",
        ),
    ]
}

/// A capture with something of everything.
pub fn mixed(form: Form) -> Scap {
    let mut scap = host(form, false, 9, 2);
    for (at, (old, new, _)) in old_and_new().iter().enumerate() {
        for (number, params) in if at % 2 == 0 { old } else { new } {
            scap.event(100, *number, params);
        }
    }
    scap.fork([200, 100, 100, 1, 100], 0, "cpu=/\0");
    scap.exec(16, 200, 100, ["sh", "-c"], "cpu=/\0");
    scap.event(200, 324, &[P::Text(r#"{"container":{"id":"abc"}}"#)]);
    scap.event(200, 186, &[P::I64(0), P::I64(0), P::U8(0), P::U8(0)]);
    scap
}
