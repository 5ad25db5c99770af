//! What the tests of the flight recorder share: records as a host makes them, and a recording in a folder of its own.

#![allow(dead_code, reason = "no test needs all of it")]

use std::ops::ControlFlow;
use std::path::Path;

use tw_model::EventKind;
use tw_model::raw::{Encoder, ExecBody, FileBody, Header};
use tw_sensor::recorder::{FrameKind, Reading, RecorderOptions, SegmentReader, segments};

/// Options for small recordings in `dir`.
pub fn options(dir: &Path) -> RecorderOptions {
    RecorderOptions { dir: dir.into(), block_bytes: 1024, queue_blocks: 4096, ..RecorderOptions::default() }
}

fn header(kind: EventKind, number: u64, cgroup: u64) -> Header {
    let mut comm = [0; 16];
    comm[..5].copy_from_slice(b"nginx");
    Header {
        kind: kind as u16,
        cpu: (number % 4) as u16,
        time: 1_000_000_000 + number * 13_577,
        start: 900_000_000 + number / 50 * 1_000_003,
        cgroup,
        pid: 4000 + (number / 50) as u32,
        tid: 4000 + (number / 50) as u32,
        uid: 101,
        gid: 101,
        ret: (number % 40) as i64,
        comm,
        ..Header::default()
    }
}

/// The record of an openat of about 250 bytes.
pub fn open(number: u64, cgroup: u64) -> Vec<u8> {
    let mut out = Encoder::new(&header(EventKind::Openat, number, cgroup), size_of::<FileBody>());
    let path =
        format!("/usr/share/nginx/html/assets/{:x}/page-{number}.html", number.wrapping_mul(2_654_435_761) % 4096);
    let body = FileBody {
        ino: 1_000_000 + number.wrapping_mul(7919) % 100_000,
        fd: (number % 40) as i32,
        dirfd: -100,
        flags: 0o2_000_000,
        mode: 0,
        dev: 64_768,
        attrs: 64,
        path: out.text(path.as_bytes()),
        raw: out.text(path.as_bytes()),
        ..FileBody::default()
    };
    out.finish(&body)
}

/// The record of an execve of about 800 bytes.
pub fn exec(number: u64, cgroup: u64) -> Vec<u8> {
    let mut out = Encoder::new(&header(EventKind::Execve, number, cgroup), size_of::<ExecBody>());
    let args = format!("/usr/bin/curl\0-fsS\0https://api.example.org/v1/items/{number}\0--max-time\x0010\0");
    let env = format!(
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin\0HOSTNAME=web-{}\0LANG=C.UTF-8\0PWD=/srv/app\0\
         REQUEST_ID={:016x}\0HOME=/home/app\0KUBERNETES_SERVICE_HOST=10.96.0.1\0KUBERNETES_PORT=tcp://10.96.0.1:443\0",
        cgroup % 100,
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    );
    let body = ExecBody {
        ino: 55_001,
        ctime: 1_700_000_000_000_000_000,
        mtime: 1_700_000_000_000_000_000,
        dev: 64_768,
        mode: 0o100_755,
        ppid: 4000,
        vpid: 17 + number as u32 % 1000,
        exepath: out.text(b"/usr/bin/curl"),
        filename: out.text(b"/usr/bin/curl"),
        cwd: out.text(b"/srv/app"),
        args: out.text(args.as_bytes()),
        env: out.text(env.as_bytes()),
        ..ExecBody::default()
    };
    out.finish(&body)
}

/// Nine opens to one exec, of twenty cgroups.
pub fn mixed(number: u64) -> Vec<u8> {
    let cgroup = 7000 + number / 64 % 20;
    if number.is_multiple_of(10) { exec(number, cgroup) } else { open(number, cgroup) }
}

/// Bytes that cannot be compressed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A frame that outlives its reading.
pub type Owned = (FrameKind, Vec<u8>);

/// All frames of a segment, and how the reading went.
pub fn read(segment: &mut SegmentReader) -> (Vec<Owned>, Reading) {
    let mut frames = Vec::new();
    let reading = segment.frames(|kind, payload| {
        frames.push((kind, payload.to_vec()));
        ControlFlow::Continue(())
    });
    (frames, reading)
}

/// All frames of all segments in `dir`; every segment must be readable.
pub fn read_all(dir: &Path) -> Vec<Owned> {
    let mut all = Vec::new();
    for file in segments(dir).unwrap() {
        let (frames, reading) = read(&mut SegmentReader::open(&file.path).unwrap());
        assert!(reading.error.is_none(), "{:?}", reading.error);
        all.extend(frames);
    }
    all
}

/// The bytes of the only segment in `dir`.
pub fn only_segment(dir: &Path) -> Vec<u8> {
    let files = segments(dir).unwrap();
    assert_eq!(files.len(), 1);
    std::fs::read(&files[0].path).unwrap()
}
