//! Captures of sysdig and Falco: what comes out of old and new ones.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::ops::ControlFlow;

use tw_model::raw::{Raw, attr, sock_attr};
use tw_sensor::capture::{CaptureReader, Item};

mod capturing;
mod telling;
use capturing::{BEGIN, Form, P, Scap};
use telling::{host, old_and_new, records, told};

#[test]
fn every_version_of_the_lists_in_either_byte_order_tells_the_same_host() {
    for big in [false, true] {
        for version in 1..=9 {
            let lists = if version < 5 { 1 } else { 2 };
            let mut scap = host(Form::New, big, version, lists);
            scap.event(100, 317, &[P::I64(0), P::I64(1), P::U32(0o777)]);
            let (lines, reading) = told(&scap.bytes);
            assert!(reading.error.is_none(), "{:?}", reading.error);
            let exepath = if version >= 7 { "/usr/sbin/nginx" } else { "" };
            assert_eq!(
                lines,
                [
                    "machine web-1 0".to_owned(),
                    "interface eth0 10.0.0.79".to_owned(),
                    "interface eth0 fefe:fefe:fefe:fefe:fefe:fefe:fefe:fefe".to_owned(),
                    "user 0 root /home/root".to_owned(),
                    "user 33 www /home/www".to_owned(),
                    "group 34 www-group".to_owned(),
                    format!("process 100 of Some(1): {exepath} = nginx -g daemon off; in /srv as 33/34/-1"),
                    format!("clock {}", BEGIN + 1_000 - 1_000_000_000),
                    "1 fchmod 100=0 path:/var/log/x.log mode:0o777 fd:1".to_owned(),
                ],
                "version {version}, big {big}"
            );
        }
    }
}

#[test]
fn calls_of_newer_writers_are_told_and_a_new_name_is_known() {
    let mut scap = host(Form::New, false, 9, 2);
    let events: Vec<(u16, Vec<P>)> = vec![
        (401, vec![P::I64(0), P::U32(15), P::Text("renamed"), P::I64(0)]),
        (401, vec![P::I64(0), P::U32(3), P::Text(""), P::I64(0)]), // only asks
        (401, vec![P::I64(0), P::U32(38), P::Text(""), P::I64(1)]),
        (407, vec![P::I64(7), P::I64(5), P::I64(3), P::U32(0)]),
        (409, vec![P::I64(8), P::I64(4711), P::U32(0)]),
        (421, vec![P::I64(16), P::I64(4711), P::Bytes(b"what was read".to_vec())]),
        (423, vec![P::I64(-1), P::I64(4711), P::Bytes(Vec::new())]),
        (
            373,
            vec![
                P::I64(0),
                P::I64(9),
                P::U32(1),
                P::Text("source"),
                P::Bytes(Vec::new()),
                P::Text("/dev/sda"),
                P::U32(0),
            ],
        ),
    ];
    for (number, params) in &events {
        scap.event(100, number - 1, &[]);
        scap.event(100, *number, params);
    }
    let told = records(&scap);
    assert_eq!(
        told,
        [
            "prctl 100=0 args:[15, 0, 0, 0, 0, 0] text:renamed",
            "prctl 100=0 args:[38, 1, 0, 0, 0, 0]",
            "pidfd_getfd 100=7 args:[5, 3, 0, 0, 0, 0]",
            "pidfd_open 100=8 args:[4711, 0, 0, 0, 0, 0]",
            "process_vm_readv 100=16 args:[4711, 0, 0, 0, 0, 0]",
            "process_vm_writev 100=-1 args:[4711, 0, 0, 0, 0, 0]",
            "fsconfig 100=0 args:[9, 1, 0, 0, 0, 0] text:source text2:/dev/sda",
        ]
    );
    let mut names = Vec::new();
    let reading = CaptureReader::from_bytes("x.scap", scap.bytes.clone()).unwrap().read(&mut |item| {
        if let Item::Record { bytes, .. } = item {
            names.push(Raw::parse(bytes).unwrap().comm().to_vec());
        }
        std::ops::ControlFlow::Continue(())
    });
    assert!(reading.error.is_none() && names.len() == 7 && names.iter().all(|name| name == b"renamed"), "{names:?}");
}

#[test]
fn old_and_new_writers_tell_the_same_calls() {
    for (old, new, expected) in old_and_new() {
        for form in Form::ALL {
            // Events that tell more than they once did say how much that is.
            let forms = matches!(form, Form::Old | Form::OldWithFlags);
            for events in [Some(&old), (!forms).then_some(&new)].into_iter().flatten() {
                let mut scap = host(form, false, 5, 1);
                for (number, params) in events {
                    scap.event(100, *number, params);
                }
                // Only new writers tell dup2 from dup.
                let got: Vec<_> = records(&scap).iter().map(|line| line.replace("dup2", "dup")).collect();
                assert_eq!(got, [expected], "{form:?} {events:?}");
            }
        }
    }
}

#[test]
fn a_begin_belongs_to_the_end_of_its_own_thread() {
    let mut scap = host(Form::Old, false, 5, 1);
    scap.event(100, 108, &[P::Text("/of-100")]);
    scap.event(101, 108, &[P::Text("/of-101")]);
    scap.event(101, 109, &[P::I64(0)]);
    scap.event(100, 109, &[P::I64(-2)]);
    // Nobody saw this one begin.
    scap.event(100, 109, &[P::I64(0)]);
    let got = records(&scap);
    assert!(got[0].starts_with("unlink 100=0 raw:/of-101"), "{got:?}");
    assert!(got[1].starts_with("unlink 100=-2 raw:/of-100"), "{got:?}");
    assert!(got[2].eq("unlink 100=0 fd:-1"), "{got:?}");
}

#[test]
fn every_version_of_execve_tells_what_it_has() {
    for (version, form) in
        [(8, Form::Old), (13, Form::Old), (14, Form::Old), (15, Form::Old), (16, Form::New), (17, Form::New)]
    {
        let mut scap = host(form, false, 5, 1);
        scap.exec(version, 100, 1, ["/bin/sh", "-c"], "cpu=/\0");
        let env = if version >= 14 { " env:HOME=/root LANG=C" } else { "" };
        let tty = if version >= 17 { " tty:34816" } else { "" };
        let comm = if version == 15 { "/bin/sh" } else { "sh" };
        let expected = format!("execve 100=0 comm:{comm} exe:/bin/sh args:/bin/sh -c cwd:/root{env} ppid:1{tty}");
        assert_eq!(records(&scap), [expected], "version {version}");
    }
    let mut scap = host(Form::New, false, 9, 2);
    scap.event(100, 288, &[P::Text("./sh")]);
    scap.exec(18, 100, 1, ["sh", "-c"], "cpu=/\0");
    scap.event(100, 292, &[P::Text("./no")]);
    scap.event(100, 293, &[P::I64(-13)]);
    scap.exec(31, 100, 1, ["sh", "-c"], "cpu=/\0");
    assert_eq!(
        records(&scap),
        [
            "execve 100=0 comm:sh exe:/root/sh file:./sh args:sh -c cwd:/root env:HOME=/root LANG=C ppid:1 tty:34816",
            "execve 100=-13 comm:sh file:./no",
            "execve 100=0 comm:sh exe:/usr/bin/resolved file:./called args:sh -c cwd:/root env:HOME=/root LANG=C ppid:1 \
             tty:34816",
        ]
    );
    let (mut facts, mut creds) = (0, (0, 0, 0));
    let _ = CaptureReader::from_bytes("x", scap.bytes).unwrap().read(&mut |item| {
        if let Item::Record { bytes, .. } = item
            && let Some(body) = Raw::parse(bytes).unwrap().exec()
        {
            (facts, creds) = (body.attrs, (body.loginuid, body.cap_effective, body.mtime));
        }
        ControlFlow::Continue(())
    });
    assert_eq!((facts, creds), (attr::WRITABLE | attr::UPPER, (1000, 0x1ff, 77)));
}

#[test]
fn a_fork_is_told_once_whichever_half_comes_first_or_alone() {
    let parent = |scap: &mut Scap| {
        scap.fork([200, 100, 100, 1, 100], 0, "cpu=/\0");
    };
    let child = |scap: &mut Scap| {
        scap.fork([0, 200, 200, 100, 200], 0, "cpu=/\0");
    };
    type Half = fn(&mut Scap);
    let (parent, child): (Half, Half) = (parent, child);
    for halves in [vec![parent, child], vec![child, parent], vec![parent], vec![child]] {
        let mut scap = host(Form::New, false, 9, 2);
        for half in &halves {
            half(&mut scap);
        }
        scap.event(200, 186, &[P::I64(256), P::I64(1), P::U8(0), P::U8(0)]);
        assert_eq!(records(&scap), ["clone 100=200 child:200/200/100", "procexit 200=0 code:256"], "{}", halves.len());
    }
    // The parent's half comes when the child is gone already; then the number is given out again.
    let mut scap = host(Form::New, false, 9, 2);
    child(&mut scap);
    scap.event(200, 186, &[P::I64(0), P::I64(0), P::U8(0), P::U8(0)]);
    parent(&mut scap);
    scap.time += 120_000_000_000;
    parent(&mut scap);
    let got = records(&scap);
    assert_eq!(got.iter().filter(|line| line.starts_with("clone")).count(), 2, "{got:?}");
}

#[test]
fn in_a_namespace_only_the_child_says_its_number() {
    const IN_PIDNS: u32 = 1 << 29;
    let id = "cd".repeat(32);
    let cgroups = format!("cpu=/docker/{id}\0");
    let mut scap = host(Form::New, false, 9, 2);
    // runc starts a container: its child is number 1 in there.
    scap.fork([200, 100, 100, 1, 100], IN_PIDNS, &cgroups);
    scap.fork([0, 200, 200, 100, 1], IN_PIDNS, &cgroups);
    // Number 1 forks: it gets 7, the host calls it 300.
    scap.fork([7, 200, 200, 100, 1], 0, &cgroups);
    scap.fork([0, 300, 300, 200, 7], 0, &cgroups);
    let (lines, _) = told(&scap.bytes);
    assert_eq!(
        lines[lines.len() - 3..],
        [
            "2 clone 100=200 child:200/1/100".to_owned(),
            format!("place {id}"),
            "4 clone 200=300 child:300/7/200".to_owned(),
        ]
    );
}

#[test]
fn a_process_ends_with_its_last_thread() {
    const THREAD: u32 = 1 << 13;
    let mut scap = host(Form::New, false, 9, 2);
    let end = [P::I64(9), P::I64(0), P::U8(9), P::U8(0)];
    // 101 is in the list, 102 is made now; the first thread ends first.
    scap.fork([102, 100, 100, 1, 100], THREAD, "");
    scap.fork([0, 102, 100, 1, 100], THREAD, "");
    scap.event(100, 186, &end);
    scap.event(102, 186, &[P::I64(0), P::I64(0), P::U8(0), P::U8(0)]);
    scap.event(101, 301, &[P::I64(0), P::Text("/last")]);
    scap.event(101, 186, &[P::I64(0), P::I64(0), P::U8(0), P::U8(0)]);
    let got = records(&scap);
    assert_eq!(got.len(), 2, "{got:?}");
    assert_eq!(got[1], "procexit 100=0 code:9");
}

#[test]
fn descriptors_are_followed_through_copies_forks_and_execs() {
    let mut scap = host(Form::New, false, 9, 2);
    let chmod = |scap: &mut Scap, pid, fd| {
        scap.event(pid, 317, &[P::I64(0), P::I64(fd), P::U32(0o777)]);
    };
    const CLOEXEC: u32 = 1 << 12;
    scap.event(100, 3, &[P::I64(5), P::Text("a"), P::U32(1), P::U32(0)]);
    scap.event(100, 3, &[P::I64(6), P::Text("b"), P::U32(1 | CLOEXEC), P::U32(0)]);
    scap.event(100, 365, &[P::I64(7), P::I64(5), P::I64(7), P::U32(0)]);
    scap.event(100, 150, &[P::I64(6), P::U8(1)]);
    scap.event(100, 151, &[P::I64(8)]);
    scap.fork([200, 100, 100, 1, 100], 0, "");
    scap.event(100, 4, &[P::I64(5)]);
    scap.event(100, 5, &[P::I64(0)]);
    scap.event(100, 95, &[P::I64(0), P::Text("../etc")]);
    chmod(&mut scap, 100, 5);
    chmod(&mut scap, 100, 7);
    chmod(&mut scap, 200, 5);
    scap.exec(16, 200, 100, ["sh", "-c"], "");
    chmod(&mut scap, 200, 6);
    chmod(&mut scap, 200, 8);
    scap.event(100, 97, &[P::I64(0), P::I64(7)]);
    scap.event(100, 307, &[P::I64(4), P::I64(7), P::Text("c"), P::U32(1), P::U32(0)]);
    let got: Vec<_> = records(&scap).into_iter().skip(3).collect();
    assert_eq!(
        got,
        [
            "chdir 100=0 path:/etc raw:../etc base:/srv fd:-1",
            "fchmod 100=0 mode:0o777 fd:5",
            "fchmod 100=0 path:/srv/a mode:0o777 fd:7",
            "fchmod 200=0 path:/srv/a mode:0o777 fd:5",
            "execve 200=0 comm:sh args:sh -c cwd:/root env:HOME=/root LANG=C ppid:100",
            "fchmod 200=0 mode:0o777 fd:6",
            "fchmod 200=0 path:/srv/b mode:0o777 fd:8",
            "fchdir 100=0 path:/srv/a fd:7",
            "openat 100=4 path:/srv/a/c raw:c fd:-1",
        ]
    );
}

#[test]
fn connections_have_both_ends_and_their_first_bytes_as_live() {
    let mut scap = host(Form::New, false, 9, 2);
    let (here, there) = ([10, 0, 0, 1], [9, 9, 9, 9]);
    scap.event(100, 18, &[P::U32(2), P::U32(1), P::U32(0)]);
    scap.event(100, 19, &[P::I64(3)]);
    scap.event(100, 22, &[P::I64(3), P::Addr4(there, 443)]);
    scap.event(100, 23, &[P::I64(-115), P::Tuple4(here, 5_000, there, 443)]);
    for data in ["GET /1", "GET /2"] {
        scap.event(100, 9, &[P::I64(6), P::Bytes(data.as_bytes().to_vec()), P::I64(3), P::U32(6)]);
    }
    // Files are written to as well.
    scap.event(100, 9, &[P::I64(3), P::Bytes(b"log".to_vec()), P::I64(1), P::U32(3)]);
    // Datagrams: the same peer is told once a second.
    scap.event(100, 19, &[P::I64(4), P::U32(2), P::U32(2), P::U32(0)]);
    for (pause, port) in [(0, 53), (0, 53), (0, 54), (2_000_000_000, 54)] {
        scap.time += pause;
        let tuple = P::Tuple4(here, 5_001, there, port);
        scap.event(100, 31, &[P::I64(2), P::Bytes(b"q?".to_vec()), P::I64(4), P::U32(2), tuple]);
    }
    scap.event(100, 19, &[P::I64(5), P::U32(1), P::U32(1), P::U32(0)]);
    scap.event(100, 23, &[P::I64(-2), P::TupleUnix("/run/docker.sock"), P::I64(5), P::AddrUnix("/run/docker.sock")]);
    scap.event(100, 21, &[P::I64(0), P::Addr4([0; 4], 80), P::I64(3)]);
    let (client, first) = (sock_attr::CLIENT, sock_attr::CLIENT | sock_attr::FIRST);
    assert_eq!(
        records(&scap),
        [
            "socket 100=3 args:[2, 1, 0, 0, 0, 0]".to_owned(),
            format!("connect 100=-115 fd:3 from:10.0.0.1:5000 to:9.9.9.9:443 attrs:{client}"),
            format!("write 100=6 fd:3 from:10.0.0.1:5000 to:9.9.9.9:443 data:GET /1 attrs:{first}"),
            "socket 100=4 args:[2, 2, 0, 0, 0, 0]".to_owned(),
            format!("sendto 100=2 fd:4 from:10.0.0.1:5001 to:9.9.9.9:53 data:q? attrs:{client}"),
            format!("sendto 100=2 fd:4 from:10.0.0.1:5001 to:9.9.9.9:54 data:q? attrs:{client}"),
            format!("sendto 100=2 fd:4 from:10.0.0.1:5001 to:9.9.9.9:54 data:q? attrs:{client}"),
            "socket 100=5 args:[1, 1, 0, 0, 0, 0]".to_owned(),
            format!("connect 100=-2 fd:5 path:/run/docker.sock attrs:{client}"),
            format!("bind 100=0 fd:3 from:0.0.0.0:80 to:9.9.9.9:443 attrs:{client}"),
        ]
    );
}

#[test]
fn numbers_and_times_are_those_of_the_capture() {
    let mut scap = Scap::new(Form::New);
    scap.machine("old", BEGIN - 5_000);
    scap.event(100, 6, &[P::I64(1), P::U32(1)]); // a begin of a kind that is not ours
    scap.event(100, 301, &[P::I64(0), P::Text("/x")]);
    let mut seen = Vec::new();
    let reading = CaptureReader::from_bytes("x", scap.bytes.clone()).unwrap().read(&mut |item| {
        match item {
            Item::Clock { boot_to_wall_ns } => seen.push((0, boot_to_wall_ns)),
            Item::Record { number, bytes } => seen.push((number, Raw::parse(bytes).unwrap().header.time)),
            _ => {}
        }
        ControlFlow::Continue(())
    });
    assert_eq!(seen, [(0, BEGIN - 5_000), (2, 7_000)]);
    let of = reading.conversion;
    assert_eq!((of.events, of.records, of.begins, of.others), (2, 1, 1, 0));
    let survey = CaptureReader::from_bytes("x", scap.bytes).unwrap().survey();
    assert_eq!((survey.events, survey.first_ns, survey.last_ns), (2, BEGIN + 1_000, BEGIN + 2_000));
    assert_eq!((&*survey.machine.hostname, survey.machine.arch), ("old", "x86_64"));
}
