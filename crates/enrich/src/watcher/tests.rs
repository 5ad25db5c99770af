//! Sockets that are absent, silent or senseless.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::time::Instant;

use super::*;
use crate::scratch::Scratch;

#[test]
fn a_missing_socket_is_told_once_and_the_handle_stops_at_once() {
    let folder = Scratch::new("nosocket");
    let (watcher, updates) = RuntimeWatcher::start(Api::Docker, folder.path().join("docker.sock")).unwrap();
    let first = updates.recv_timeout(Duration::from_secs(5)).unwrap();
    assert!(matches!(first, RuntimeUpdate::Absent(ref reason) if !reason.is_empty()), "{first:?}");
    assert!(updates.recv_timeout(Duration::from_millis(1_500)).is_err(), "told twice");
    let started = Instant::now();
    drop(watcher);
    assert!(started.elapsed() < Duration::from_secs(1));
    assert!(updates.recv().is_err());
}

#[test]
fn nonsense_from_the_socket_is_a_reason_not_a_panic() {
    let replies: [&[u8]; 5] = [
        b"",
        b"\x00\xff\xfe garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{\"a\":",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 24\r\n\r\n{\"ApiVersion\":\"nonsense\"}",
        b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
    ];
    for reply in replies {
        let folder = Scratch::new("nonsense");
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(reply);
        });
        let (_watcher, updates) = RuntimeWatcher::start(Api::Docker, socket).unwrap();
        let first = updates.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(matches!(first, RuntimeUpdate::Unavailable(_)), "{first:?}");
    }
}

#[test]
fn a_silent_daemon_runs_into_the_limit() {
    let folder = Scratch::new("silent");
    let socket = folder.path().join("s");
    let _listener = UnixListener::bind(&socket).unwrap();
    let started = Instant::now();
    let (watcher, updates) = RuntimeWatcher::start(Api::Docker, socket).unwrap();
    let first = updates.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(matches!(first, RuntimeUpdate::Unavailable(_)), "{first:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
    drop(watcher);
}

#[test]
fn only_ids_can_be_asked_for() {
    let folder = Scratch::new("ids");
    let (watcher, _updates) = RuntimeWatcher::start(Api::Docker, folder.path().join("docker.sock")).unwrap();
    for id in ["", "abc", "../../../images/x", "0123456789ab?all=1", &"a".repeat(65)] {
        assert!(!watcher.request(id), "{id}");
    }
    assert!(watcher.request(&"a".repeat(64)));
    let taken = (0..2 * REQUEST_QUEUE).filter(|_| watcher.request("0123456789ab")).count();
    assert!(taken <= REQUEST_QUEUE);
}

#[test]
fn runtimes_that_speak_grpc_may_be_silent_or_senseless_too() {
    let replies: [Option<&[u8]>; 4] = [
        None,
        Some(b""),
        Some(b"HTTP/1.1 400 Bad\r\n\r\n"),
        Some(b"\0\0\x12\x04\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff"),
    ];
    for api in [Api::Containerd, Api::Cri] {
        for reply in replies {
            let folder = Scratch::new("grpc");
            let socket = folder.path().join("s");
            let listener = UnixListener::bind(&socket).unwrap();
            std::thread::spawn(move || {
                let mut held = Vec::new();
                for mut stream in listener.incoming().flatten().take(3) {
                    if let Some(reply) = reply {
                        let _ = stream.write_all(reply);
                    } else {
                        held.push(stream);
                    }
                }
            });
            let started = Instant::now();
            let (watcher, updates) = RuntimeWatcher::start(api, socket).unwrap();
            let first = updates.recv_timeout(Duration::from_secs(10)).unwrap();
            assert!(matches!(first, RuntimeUpdate::Unavailable(_)), "{api:?} {reply:?} {first:?}");
            assert!(started.elapsed() < Duration::from_secs(5), "{api:?} {reply:?}");
            assert!(watcher.request("some.container-1") && !watcher.request("../x"));
            let stopping = Instant::now();
            drop(watcher);
            assert!(stopping.elapsed() < Duration::from_secs(1));
        }
    }
}
