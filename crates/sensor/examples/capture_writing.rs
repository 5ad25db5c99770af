//! How fast captures are written, and how large they are: `cargo run --release -p tidewatch-sensor --example
//! capture_writing`. The records are a mix: of ten, six opens, a rename, a connection, a fork, an exec.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use bumpalo::Bump;
use tw_model::process::{Image, Process};
use tw_model::raw::{Encoder, ExecBody, FileBody, ForkBody, Header, SockBody, from_words, to_words};
use tw_model::{Container, Event, EventKind, ProcKey, ProcessTable, Raw};
use tw_sensor::capture::{CaptureWriter, Frame, HostFacts};

const RECORDS: u64 = 1_000_000;

fn record(number: u64, pid: u32) -> Vec<u64> {
    let kind = match number % 10 {
        0..=5 => EventKind::Openat,
        6 => EventKind::Renameat2,
        7 => EventKind::Connect,
        8 => EventKind::Clone,
        _ => EventKind::Execve,
    };
    let header = Header {
        kind: kind as u16,
        pid,
        tid: pid,
        start: u64::from(pid),
        time: 1_000_000_000 + number * 1_000,
        cgroup: 5,
        ret: 3,
        ..Header::default()
    };
    to_words(&match kind {
        EventKind::Clone => {
            let child = 100_000 + (number % 1_000) as u32;
            let body = ForkBody { child_pid: child, child_start: number, parent_pid: pid, ..ForkBody::default() };
            Encoder::new(&header, size_of::<ForkBody>()).finish(&body)
        }
        EventKind::Execve => {
            let mut out = Encoder::new(&Header { ret: 0, ..header }, size_of::<ExecBody>());
            let body = ExecBody {
                filename: out.text(b"/usr/bin/python3"),
                exepath: out.text(b"/usr/bin/python3.11"),
                args: out.text(b"python3\0-m\0http.server\0--bind\0::\0"),
                env: out.text(
                    &b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin\0LANG=C.UTF-8\0HOME=/root\0".repeat(4),
                ),
                cwd: out.text(b"/srv/www"),
                ..ExecBody::default()
            };
            out.finish(&body)
        }
        EventKind::Connect => {
            let mut out = Encoder::new(&Header { ret: 0, ..header }, size_of::<SockBody>());
            let body = SockBody {
                fd: 5,
                family: 2,
                type_: 1,
                proto: 6,
                lport: number as u16,
                rport: 443,
                raw: out.text(b""),
                ..SockBody::default()
            };
            out.finish(&body)
        }
        _ => {
            let path = format!("/srv/www/assets/{:06}/index.html", number * 7_919 % 100_000);
            let mut out = Encoder::new(&header, size_of::<FileBody>());
            let body = FileBody {
                fd: 3,
                dirfd: -100,
                dirfd2: -100,
                ino: number,
                path: out.text(path.as_bytes()),
                raw: out.text(path.as_bytes()),
                raw2: out.text(b"/srv/www/other"),
                ..FileBody::default()
            };
            out.finish(&body)
        }
    })
}

fn main() -> io::Result<()> {
    let container = Container {
        id: "0123456789abcdef".repeat(4),
        name: "web".into(),
        image: "example/web:1".into(),
        ..Container::default()
    };
    let mut table = ProcessTable::new(4_096);
    for pid in 1_000..1_100 {
        table.insert(Process {
            key: ProcKey { start_ns: pid.into(), pid },
            comm: (*b"python3").into(),
            image: Arc::new(Image {
                exepath: (*b"/usr/bin/python3.11").into(),
                ..Image::from_argv(b"python3\0-m\0http.server\0")
            }),
            cwd: (*b"/srv/www").into(),
            ..Process::default()
        });
    }
    let processes: Vec<Process> = table.iter().cloned().collect();
    let records: Vec<Vec<u64>> = (0..RECORDS).map(|number| record(number, 1_000 + (number % 100) as u32)).collect();
    let scratch = Bump::new();
    for (what, native, packed) in [
        ("for others alone", false, false),
        ("with our own records", true, false),
        ("for others alone, gzip", false, true),
        ("with our own records, gzip", true, true),
    ] {
        let path = std::env::temp_dir().join(format!("tidewatch-writing-{}", std::process::id()));
        let file = std::fs::File::create(&path)?;
        std::fs::remove_file(&path)?;
        let mut writer = CaptureWriter::new(file, packed);
        writer.begin(&HostFacts::default(), &mut processes.iter(), &|_| Some(&container), &mut std::iter::empty())?;
        let started = Instant::now();
        for (number, words) in records.iter().enumerate() {
            let Ok(raw) = Raw::parse(from_words(words)) else { continue };
            let Some(process) = table.get(raw.key()) else { continue };
            let wall_ns = 1_700_000_000_000_000_000 + raw.header.time;
            let event = Event {
                raw,
                num: number as u64 + 1,
                wall_ns,
                process,
                processes: &table,
                container: Some(&container),
                unit: None,
                coverage: None,
                context: 1,
                prior: tw_model::event::Prior::default(),
                names: Default::default(),
                scratch: &scratch,
            };
            writer.event(&event)?;
            if native {
                writer.native(Frame::Record, raw.bytes(), wall_ns)?;
            }
        }
        let written = writer.finish()?;
        let seconds = started.elapsed().as_secs_f64();
        eprintln!(
            "{what:<28} {:.2} million records a second, {:.0} MB for a million records ({:.0} MB before packing)",
            written.records as f64 / seconds / 1e6,
            written.bytes as f64 / 1e6,
            written.raw_bytes as f64 / 1e6
        );
    }
    Ok(())
}
