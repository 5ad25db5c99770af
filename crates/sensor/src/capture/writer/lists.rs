//! What stands in front of the events: the machine, its interfaces and users, and who runs.

use std::io;
use std::net::IpAddr;

use tw_model::{Container, Process};

use super::sink::Sink;

const SECTION: u32 = 0x0a0d_0d0a;
const MACHINE: u32 = 0x201;
const PROCESSES: u32 = 0x215;
const INTERFACES: u32 = 0x219;
const USERS: u32 = 0x220;
const DESCRIPTORS: u32 = 0x218;
/// Longest text of an entry.
const MAX_TEXT: usize = 4_096;
/// Most bytes in a list of processes before the next one begins: readers bound a block.
const MAX_LIST: usize = 8 << 20;

/// What is known of the host.
#[derive(Clone, Debug, Default)]
pub struct HostFacts {
    /// Its name.
    pub hostname: String,
    /// When it was started, nanoseconds since the epoch.
    pub boot_ns: u64,
    /// Processors.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// Names of interfaces, address, mask.
    pub interfaces: Vec<(String, IpAddr, IpAddr)>,
    /// Users: number, group, name, home, shell.
    pub users: Vec<(u32, u32, String, String, String)>,
    /// Groups: number, name.
    pub groups: Vec<(u32, String)>,
}

/// A descriptor that was open when the capture began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFile {
    /// Its number.
    pub fd: u32,
    /// Inode; 0 if it is not known.
    pub ino: u64,
    /// What it is.
    pub what: OpenKind,
}

/// What a descriptor is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenKind {
    /// A file with a path.
    File(Vec<u8>),
    /// A pipe, named as the kernel does.
    Pipe(Vec<u8>),
    /// A connection or a server: local and remote end, protocol number.
    Inet {
        /// Local address and port.
        local: (IpAddr, u16),
        /// Remote address and port; port 0 if there is none.
        remote: (IpAddr, u16),
        /// 6: TCP, 17: UDP.
        protocol: u8,
    },
    /// A unix socket and its path.
    Unix(Vec<u8>),
}

/// A text with its length, cut to what a reader takes.
fn text(out: &mut Vec<u8>, text: &[u8]) {
    let text = text.get(..MAX_TEXT).unwrap_or(text);
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    block(out, text.get(..end).unwrap_or_default());
}

/// The same with NULs in it.
fn block(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = bytes.get(..MAX_TEXT).unwrap_or(bytes);
    out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// An entry behind its length, which counts itself.
fn sized(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    fill(out);
    let length = ((out.len() - start) as u32).to_le_bytes();
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length);
    }
}

/// The section and the machine.
pub(super) fn head(sink: &mut Sink, host: &HostFacts) -> io::Result<()> {
    sink.block(SECTION, |out| {
        out.extend_from_slice(&0x1a2b_3c4d_u32.to_le_bytes());
        out.extend_from_slice(&1_u16.to_le_bytes());
        out.extend_from_slice(&2_u16.to_le_bytes());
        out.extend_from_slice(&u64::MAX.to_le_bytes());
    })?;
    sink.block(MACHINE, |out| {
        out.extend_from_slice(&host.cpus.to_le_bytes());
        out.extend_from_slice(&host.memory.to_le_bytes());
        out.extend_from_slice(&(1_u64 << 22).to_le_bytes());
        let name = host.hostname.as_bytes();
        let name = name.get(..127).unwrap_or(name);
        out.extend_from_slice(name);
        out.resize(out.len() + 128 - name.len(), 0);
        out.extend_from_slice(&host.boot_ns.to_le_bytes());
        let arch: u64 = if cfg!(target_arch = "x86_64") { 2 } else { 3 };
        out.extend_from_slice(&(arch << 56).to_le_bytes());
        out.extend_from_slice(&[0; 16]);
    })
}

/// Path of a cgroup, of which readers tell the container.
pub(super) fn cgroup_path(container: Option<&Container>, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(b"cpuset=/");
    if let Some(container) = container {
        let (before, behind) = match &*container.runtime {
            "podman" => ("libpod-", ".scope"),
            "containerd" | "cri" => ("kubepods/cri-containerd-", ".scope"),
            "cri-o" => ("kubepods/crio-", ".scope"),
            _ => ("docker/", ""),
        };
        for part in [before, &container.id, behind] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    out.push(0);
}

/// Who runs. `container` says what a cgroup is.
pub(super) fn processes<'p>(
    sink: &mut Sink,
    processes: &mut dyn Iterator<Item = &'p Process>,
    container: &dyn Fn(u64) -> Option<&'p Container>,
) -> io::Result<()> {
    let mut list = Vec::new();
    let mut cgroups = Vec::new();
    for process in processes {
        cgroup_path(container(process.cgroup_id), &mut cgroups);
        sized(&mut list, |out| process_entry(out, process, &cgroups));
        if list.len() >= MAX_LIST {
            sink.block(PROCESSES, |out| out.extend_from_slice(&list))?;
            list.clear();
        }
    }
    sink.block(PROCESSES, |out| out.extend_from_slice(&list))
}

fn process_entry(out: &mut Vec<u8>, process: &Process, cgroups: &[u8]) {
    let pid = u64::from(process.key.pid);
    let parent = process.parent.map_or(0, |parent| u64::from(parent.pid));
    for number in [pid, pid, parent, process.sid.into(), process.vpgid.into()] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    let image = &process.image;
    text(out, &process.comm);
    text(out, &image.exe);
    text(out, &image.exepath);
    block(out, arguments(&image.argv));
    text(out, &process.cwd);
    out.extend_from_slice(&1_024_u64.to_le_bytes()); // most descriptors: not known
    for number in [0, process.cred.uid, process.cred.gid, 0, 0, 0] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&[0; 16]); // page faults
    block(out, &image.env);
    let vpid = if process.vpid == 0 { pid } else { process.vpid.into() };
    for number in [vpid, vpid] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    block(out, cgroups);
    text(out, b"/");
    // No more than these: newer readers tell by the length that none of their later numbers stand between.
    out.extend_from_slice(&process.cred.loginuid.to_le_bytes());
    out.push(u8::from(image.file.writable));
    for set in [process.cred.cap_inheritable, process.cred.cap_permitted, process.cred.cap_effective] {
        out.extend_from_slice(&set.to_le_bytes());
    }
}

/// argv from 1 on.
pub(super) fn arguments(argv: &[u8]) -> &[u8] {
    let first = argv.iter().position(|byte| *byte == 0).map_or(argv.len(), |at| at + 1);
    argv.get(first..).unwrap_or_default()
}

/// Descriptors of one process.
pub(super) fn descriptors(sink: &mut Sink, pid: u32, open: &[OpenFile]) -> io::Result<()> {
    sink.block(DESCRIPTORS, |out| {
        out.extend_from_slice(&u64::from(pid).to_le_bytes());
        for file in open {
            sized(out, |out| {
                out.extend_from_slice(&u64::from(file.fd).to_le_bytes());
                out.extend_from_slice(&file.ino.to_le_bytes());
                open_entry(out, &file.what);
            });
        }
    })
}

fn open_entry(out: &mut Vec<u8>, what: &OpenKind) {
    match what {
        OpenKind::File(path) => {
            out.push(1);
            text(out, path);
        }
        OpenKind::Pipe(name) => {
            out.push(7);
            text(out, name);
        }
        OpenKind::Inet { local, remote, protocol } => {
            let server = remote.1 == 0;
            out.push(3 + 2 * u8::from(server) + u8::from(local.0.is_ipv6()));
            for (address, _) in [local, remote].into_iter().take(2 - usize::from(server)) {
                match address {
                    IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
                    IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
                }
            }
            for (_, port) in [local, remote].into_iter().take(2 - usize::from(server)) {
                out.extend_from_slice(&port.to_le_bytes());
            }
            // Captures number protocols anew.
            out.push(match protocol {
                6 => 2,
                17 => 3,
                _ => 0,
            });
        }
        OpenKind::Unix(path) => {
            out.push(8);
            out.extend_from_slice(&[0; 16]);
            text(out, path);
        }
    }
}

/// Addresses of the host.
pub(super) fn interfaces(sink: &mut Sink, host: &HostFacts) -> io::Result<()> {
    sink.block(INTERFACES, |out| {
        for (name, address, mask) in &host.interfaces {
            let mut entry = Vec::new();
            let name = name.as_bytes();
            let name = name.get(..64).unwrap_or(name);
            let octets = |address: &IpAddr| match address {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            let kind: u16 = if address.is_ipv4() { 1 } else { 2 };
            entry.extend_from_slice(&kind.to_le_bytes());
            entry.extend_from_slice(&(name.len() as u16).to_le_bytes());
            entry.extend(octets(address));
            entry.extend(octets(mask));
            entry.extend(octets(address)); // broadcast: not known
            entry.extend_from_slice(&0_u64.to_le_bytes()); // speed
            entry.extend_from_slice(name);
            out.extend_from_slice(&(entry.len() as u32).to_le_bytes());
            out.extend(entry);
        }
    })
}

/// Users and groups of the host.
pub(super) fn users(sink: &mut Sink, host: &HostFacts) -> io::Result<()> {
    sink.block(USERS, |out| {
        for (uid, gid, name, home, shell) in &host.users {
            sized(out, |out| {
                out.push(0);
                out.extend_from_slice(&uid.to_le_bytes());
                out.extend_from_slice(&gid.to_le_bytes());
                for word in [name, home, shell] {
                    text(out, word.as_bytes());
                }
            });
        }
        for (gid, name) in &host.groups {
            sized(out, |out| {
                out.push(1);
                out.extend_from_slice(&gid.to_le_bytes());
                text(out, name.as_bytes());
            });
        }
    })
}
