//! Writes captures that sysdig from 0.29 on, Falco and our own reader read.
//!
//! Each call is told as captures do, when it begins and when it ends, with the events that sysdig 0.29 knows. Behind
//! them may stand the record itself, in an event of a number that no reader knows and all pass over: with these a
//! replay comes to the same findings as a live run, whatever captures have no room for. Byte by byte:
//! `docs/spec/scap.md`.
//!
//! **Never:** a file that ends within a block, or a table without a bound.

use std::fs::File;
use std::io;

use hashbrown::HashMap;
use tw_model::{Container, Event, ProcKey, Process};

mod calls;
mod known;
mod lists;
mod params;
mod sink;
mod sockets;

pub use lists::{HostFacts, OpenFile, OpenKind};

use known::Known;
use params::{Params, Stamp};
use sink::Sink;
use sockets::Sockets;

use super::flags;
use super::native::{self, Frame};

/// Most containers whose last words are remembered.
const MAX_CONTAINERS: usize = 16_384;
/// Flags of a thread: it shares descriptors, working directory and memory with its process.
const THREAD: u32 = 1 | 1 << 1 | flags::CLONE_THREAD | 1 << 15;
/// A container, as an object in JSON.
const CONTAINER: u16 = 272;

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Records that were given.
    pub records: u64,
    /// Events that were written for them.
    pub events: u64,
    /// Records whose calls captures have no event for: only our own records have them.
    pub without_event: u64,
    /// How often all that was told had to be forgotten, and was told again.
    pub forgotten: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes before compression.
    pub raw_bytes: u64,
}

/// One capture that is being written.
#[derive(Debug)]
pub struct CaptureWriter {
    sink: Sink,
    params: Params,
    known: Known,
    sockets: Sockets,
    /// Processes that were told since the last record, since they act.
    introduced: Vec<ProcKey>,
    /// What was told of containers, by id.
    containers: HashMap<String, u64, foldhash::fast::RandomState>,
    /// Container and state of knowledge that was looked at last.
    looked: (u64, u64),
    counts: Written,
    /// Room for what is put together.
    cgroups: Vec<u8>,
    path: Vec<u8>,
    path2: Vec<u8>,
}

impl CaptureWriter {
    /// Writes to an empty file; `packed`: gzip.
    pub fn new(file: File, packed: bool) -> Self {
        Self {
            sink: Sink::new(file, packed),
            params: Params::default(),
            known: Known::default(),
            sockets: Sockets::default(),
            introduced: Vec::new(),
            containers: HashMap::default(),
            looked: (u64::MAX, u64::MAX),
            counts: Written::default(),
            cgroups: Vec::new(),
            path: Vec::new(),
            path2: Vec::new(),
        }
    }

    /// What stands in front: the host, and who runs. Call it once, before anything else.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn begin<'p>(
        &mut self,
        host: &HostFacts,
        running: &mut dyn Iterator<Item = &'p Process>,
        container: &dyn Fn(u64) -> Option<&'p Container>,
        open: &mut dyn Iterator<Item = (u32, Vec<OpenFile>)>,
    ) -> io::Result<()> {
        lists::head(&mut self.sink, host)?;
        lists::interfaces(&mut self.sink, host)?;
        lists::users(&mut self.sink, host)?;
        let known = &mut self.known;
        let mut told = running.inspect(|process| known.add(process.key.pid, process.key));
        lists::processes(&mut self.sink, &mut told, container)?;
        for (pid, files) in open {
            lists::descriptors(&mut self.sink, pid, &files)?;
        }
        Ok(())
    }

    /// A record with its process and container. Whoever acts without having been told is told first; see
    /// [`Self::introduced`].
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn event(&mut self, event: &Event<'_>) -> io::Result<()> {
        self.counts.records += 1;
        self.introduced.clear();
        let header = event.raw.header;
        // The end of a process is told by its last thread, which readers may take for another.
        let ends = matches!(event.raw.body, tw_model::raw::Body::Exit(_));
        let tid = if ends { header.pid } else { header.tid };
        let stamp = Stamp { cpu: header.cpu, wall_ns: event.wall_ns, tid };
        if let Some(container) = event.container {
            let seen = (header.cgroup, event.context);
            if self.looked != seen {
                self.looked = seen;
                self.container(container, event.wall_ns)?;
            }
        }
        lists::cgroup_path(event.container, &mut self.cgroups);
        // Number 0: a record of no process.
        if header.pid != 0 && !self.known.has(tid, event.process.key) {
            self.introduce(event, stamp)?;
        }
        self.call(event, stamp)
    }

    /// Processes that were told with the last record, ancestors first.
    pub fn introduced(&self) -> &[ProcKey] {
        &self.introduced
    }

    #[cold]
    fn introduce(&mut self, event: &Event<'_>, stamp: Stamp) -> io::Result<()> {
        let process = event.process;
        let cgroups = std::mem::take(&mut self.cgroups);
        let mut line = vec![process];
        line.extend(event.processes.ancestors(process));
        let unknown = line.iter().take_while(|member| !self.known.has(member.key.pid, member.key)).count();
        for member in line.into_iter().take(unknown).rev() {
            self.known.end(member.key.pid);
            self.known.add(member.key.pid, member.key);
            self.introduced.push(member.key);
            let same = member.cgroup_id == process.cgroup_id;
            self.child((member.key.pid, member), 0, if same { &cgroups } else { b"cpuset=/\0" }, stamp)?;
        }
        if stamp.tid != process.key.pid {
            self.known.add(stamp.tid, process.key);
            self.child((stamp.tid, process), THREAD, &cgroups, stamp)?;
        }
        self.cgroups = cgroups;
        Ok(())
    }

    /// What a container is, if that was not told yet.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn container(&mut self, container: &Container, wall_ns: u64) -> io::Result<()> {
        let json = container_json(container);
        let digest = tw_model::finding::fnv1a(&[json.as_bytes()]);
        if self.containers.get(&container.id) == Some(&digest) {
            return Ok(());
        }
        if self.containers.len() >= MAX_CONTAINERS {
            self.containers.clear();
        }
        self.containers.insert(container.id.clone(), digest);
        self.counts.events += 1;
        self.params.text(json.as_bytes());
        self.params.event(&mut self.sink, CONTAINER, Stamp { cpu: 0, wall_ns, tid: 1 })
    }

    /// A frame of our own, which only our reader sees.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn native(&mut self, frame: Frame, payload: &[u8], wall_ns: u64) -> io::Result<()> {
        let mut parts = payload.chunks(native::PART).peekable();
        let stamp = Stamp { cpu: 0, wall_ns, tid: 0 };
        if parts.peek().is_none() {
            self.params.u8(frame.number()).bytes(b"");
            return self.params.event(&mut self.sink, native::EVENT, stamp);
        }
        while let Some(part) = parts.next() {
            let more = if parts.peek().is_some() { native::MORE } else { 0 };
            self.params.u8(frame.number() | more).bytes(part);
            self.params.event(&mut self.sink, native::EVENT, stamp)?;
        }
        Ok(())
    }

    /// Bytes of the file so far.
    pub fn bytes(&self) -> u64 {
        self.sink.bytes()
    }

    /// Writes what was gathered.
    ///
    /// # Errors
    /// If that fails: then the file ends with the last block that was written whole.
    pub fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }

    /// What was written so far.
    pub fn written(&self) -> Written {
        Written { bytes: self.sink.bytes(), raw_bytes: self.sink.raw(), forgotten: self.known.forgotten, ..self.counts }
    }

    /// Writes what is left and waits for the disk.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub fn finish(mut self) -> io::Result<Written> {
        self.sink.finish()?;
        Ok(self.written())
    }
}

/// Runtimes by number, as captures have them.
fn runtime(name: &str) -> u8 {
    match name {
        "containerd" => 7,
        "cri" => 6,
        "cri-o" => 8,
        "podman" => 11,
        _ => 0,
    }
}

/// A container in the words of captures.
fn container_json(container: &Container) -> String {
    let mounts: Vec<_> = container
        .mounts
        .iter()
        .map(|mount| {
            serde_json::json!({
                "Source": mount.source, "Destination": mount.dest, "Mode": mount.mode, "RW": mount.rdwr,
                "Propagation": mount.propagation,
            })
        })
        .collect();
    serde_json::json!({ "container": {
        "type": runtime(&container.runtime),
        "id": container.short_id(),
        "full_id": container.id,
        "name": container.name,
        "image": container.image,
        "imageid": container.image_id,
        "imagerepo": container.repository,
        "imagetag": container.tag,
        "imagedigest": container.digest,
        "privileged": container.privileged,
        "host_pid": container.host_pid,
        "host_network": container.host_network,
        "host_ipc": container.host_ipc,
        "is_pod_sandbox": false,
        "ip": if container.ip.is_empty() { "0.0.0.0" } else { &container.ip },
        "Mounts": mounts,
        "labels": container.labels,
        "created_time": container.started_ns / 1_000_000_000,
        "lookup_state": 1,
        "port_mappings": [],
        "env": [],
    }})
    .to_string()
}
