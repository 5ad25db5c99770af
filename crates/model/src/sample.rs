//! Events written by hand, for tests and for the examples inside rule files and documents.
//!
//! A [`Sample`] is one event with its process, ancestors and container, as a person would write it in YAML.
//! [`Sample::inspect`] turns it into the same record and the same [`Event`] that a sensor would give.

use std::sync::Arc;

use bumpalo::Bump;
use serde::Deserialize;

use crate::container::{Container, Mount, split_image};
use crate::event::{Event, EventKind, Prior, Shape};
use crate::field::call;
use crate::flags;
use crate::known_names::{KnownNames, Names, Place};
use crate::login::Login;
use crate::process::{Credentials, ExeFile, Image, ProcKey, Process, ProcessTable, UserNames};
use crate::raw::{
    AF_INET, AF_INET6, AF_UNIX, CallBody, Encoder, ExecBody, ExitBody, F_RING, FileBody, ForkBody, Header, Raw,
    SockBody, attr, from_words, sock_attr, to_words,
};

mod network;
mod resource;
pub use network::SampleDns;
pub use resource::SampleResource;

/// Boot time at which samples happen, in nanoseconds.
const NOW_NS: u64 = 1_000_000_000_000;
/// Wall-clock time at which samples happen: 2026-01-01T00:00:00Z.
const WALL_NS: u64 = 1_767_225_600_000_000_000;

/// A process of a sample. What is left out has a harmless default.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SampleProcess {
    /// Kernel's name.
    pub name: String,
    /// `argv[0]`; default: the first of `args`, else the name.
    pub exe: Option<String>,
    /// Path of the executable; default: `/usr/bin/NAME`.
    pub exepath: Option<String>,
    /// argv, `argv[0]` first.
    pub args: Vec<String>,
    /// `NAME=value` elements.
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: String,
    /// Effective user.
    pub uid: u32,
    /// Its name; default `root` for 0.
    pub user: Option<String>,
    /// Audit login user.
    pub loginuid: Option<u32>,
    /// Controlling terminal.
    pub tty: u32,
    /// Process number.
    pub pid: Option<u32>,
    /// Number in its pid namespace.
    pub vpid: u32,
    /// Effective and permitted capabilities, such as `CAP_SYS_ADMIN|CAP_NET_RAW`.
    pub caps: String,
    /// Path of the script that it interprets.
    pub script: String,
    /// The name of the executable was removed.
    pub deleted: bool,
    /// The executable was written in the container.
    pub upper_layer: bool,
    /// The executable is in memory only.
    pub memfd: bool,
    /// The person behind it.
    pub login: Option<Login>,
    /// Age in milliseconds.
    pub age_ms: u64,
}

impl Default for SampleProcess {
    fn default() -> Self {
        Self {
            name: "app".into(),
            exe: None,
            exepath: None,
            args: Vec::new(),
            env: Vec::new(),
            cwd: "/".into(),
            uid: 0,
            user: None,
            loginuid: None,
            tty: 0,
            pid: None,
            vpid: 0,
            caps: String::new(),
            upper_layer: false,
            memfd: false,
            script: String::new(),
            deleted: false,
            login: None,
            age_ms: 60_000,
        }
    }
}

/// The container of a sample.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SampleContainer {
    /// Id; default: made up.
    pub id: Option<String>,
    /// Name.
    pub name: String,
    /// Image reference.
    pub image: String,
    /// Runs privileged.
    pub privileged: bool,
    /// Shares the host's process numbers.
    pub host_pid: bool,
    /// Shares the host's IPC.
    pub host_ipc: bool,
    /// Age in milliseconds; 0: not known.
    pub age_ms: u64,
    /// `source:dest` pairs.
    pub mounts: Vec<String>,
    /// Labels.
    pub labels: std::collections::BTreeMap<String, String>,
}

/// A number, or the name of a flag or value of the argument.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum SampleArg {
    /// A number.
    Number(i64),
    /// Names joined by `|`.
    Name(String),
}

/// One event with its context.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sample {
    /// Event type, such as `execve`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The process that acts.
    pub proc: SampleProcess,
    /// Its ancestors, the parent first.
    pub ancestors: Vec<SampleProcess>,
    /// Its container; absent: the host.
    pub container: Option<SampleContainer>,
    /// What the call returned: a number, or the name of an error such as `EPERM`.
    pub ret: Option<SampleArg>,
    /// Resolved path.
    pub path: String,
    /// Path as the caller wrote it; default: `path`.
    pub raw: Option<String>,
    /// Directory that `raw` is relative to.
    pub base: String,
    /// Second path or text (rename, link, fsconfig), or file system type (mount).
    pub path2: String,
    /// Target of a symbolic link, source of a mount, type of a file system (fsconfig, fsmount), or name of an attribute
    /// (setxattr).
    pub target: String,
    /// Flags of the call, such as `O_WRONLY|O_CREAT`.
    pub flags: String,
    /// Mode bits.
    pub mode: u32,
    /// Number of a device, as `mknod` takes it.
    pub device: u32,
    /// The file was made by this call.
    pub created: bool,
    /// The path is a directory.
    pub directory: bool,
    /// Local end, `ip:port`.
    pub local: String,
    /// Remote end, `ip:port`.
    pub remote: String,
    /// `tcp` (default), `udp` (default of `dns`) or `unix`.
    pub proto: String,
    /// First bytes sent.
    pub data: String,
    /// In the place of `data`: a TLS hello that asks for this server.
    pub sni: String,
    /// In the place of `data`: a DNS message.
    pub dns: Option<SampleDns>,
    /// Names under which the container looked addresses up before, by address.
    pub names: std::collections::BTreeMap<std::net::IpAddr, String>,
    /// Descriptor.
    pub fd: i32,
    /// Arguments of the call; for `procexit` one, the wait status: the signal, or 256 times the exit code.
    pub args: Vec<SampleArg>,
    /// A text argument, such as the name of a memfd.
    pub text: String,
    /// The process that the call is aimed at: who is signalled, traced, written to.
    pub victim: Option<SampleProcess>,
    /// The call was made through io_uring.
    pub ring: bool,
    /// The name of the opened file was removed.
    pub deleted: bool,
    /// Who the process was before the event; absent: the same.
    pub before: Option<SampleBefore>,
    /// What the container used, for `resource`.
    pub resource: SampleResource,
}

/// Credentials before an event.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SampleBefore {
    /// Effective user.
    pub uid: u32,
    /// Effective capabilities, such as `CAP_SYS_ADMIN|CAP_NET_RAW`.
    pub caps: String,
    /// Nothing that was seen gave the process what it has now.
    pub jumped: bool,
}

/// Number of the process that a sample's call is aimed at.
const VICTIM_PID: u32 = 4000;

/// Why a sample is not an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SampleError {
    /// The event type is not one that the sensor delivers.
    UnknownType(String),
    /// A name is not a flag or value of this call.
    UnknownName(String),
    /// Not `ip:port`.
    BadAddress(String),
}

impl std::fmt::Display for SampleError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownType(name) => write!(f, "`{name}` is no event type that the sensor delivers"),
            Self::UnknownName(name) => write!(f, "`{name}` is no flag or value of this call"),
            Self::BadAddress(text) => write!(f, "`{text}` is not ip:port"),
        }
    }
}

impl std::error::Error for SampleError {}

impl Sample {
    /// Builds the event and hands it to `look`. `num` is its number.
    ///
    /// # Errors
    /// [`SampleError`] if a name in the sample is unknown.
    pub fn inspect<R>(&self, num: u64, look: impl FnOnce(&Event<'_>) -> R) -> Result<R, SampleError> {
        let mut table = ProcessTable::new(1024);
        let mut parent = None;
        for (i, ancestor) in self.ancestors.iter().enumerate().rev() {
            let start_ns = 1_000_001 + (self.ancestors.len() - i) as u64;
            let key = ProcKey { start_ns, pid: ancestor.pid.unwrap_or(100 + i as u32) };
            table.insert(ancestor.build(key, parent)?);
            parent = Some(key);
        }
        let key = ProcKey {
            start_ns: NOW_NS.saturating_sub(self.proc.age_ms.saturating_mul(1_000_000)),
            pid: self.proc.pid.unwrap_or(1000),
        };
        let process = self.proc.build(key, parent)?;
        if let Some(victim) = &self.victim {
            let pid = victim.pid.unwrap_or(VICTIM_PID);
            let mut victim = victim.build(ProcKey { start_ns: 1_000_000, pid }, None)?;
            victim.cgroup_id = self.cgroup();
            table.insert(victim);
        }
        let prior = match &self.before {
            Some(before) => Prior {
                uid: before.uid,
                gid: before.uid,
                cap_effective: capabilities(&before.caps)?,
                jumped: before.jumped,
            },
            None => Prior {
                uid: process.cred.uid,
                gid: process.cred.gid,
                cap_effective: process.cred.cap_effective,
                jumped: false,
            },
        };
        let bytes = self.encode(&process)?;
        let words = to_words(&bytes);
        let raw = Raw::parse(from_words(&words)).map_err(|error| SampleError::UnknownType(error.to_string()))?;
        let container = self.container.as_ref().map(SampleContainer::build);
        let scratch = Bump::new();
        let mut names = KnownNames::default();
        let place = Place::of(container.as_ref());
        self.names.iter().for_each(|(address, name)| names.put(place, *address, name, u64::MAX));
        Ok(look(&Event {
            raw,
            num,
            wall_ns: WALL_NS,
            process: &process,
            processes: &table,
            container: container.as_ref(),
            unit: None,
            context: 0,
            coverage: None,
            prior,
            names: Names::new(&names, container.as_ref()),
            scratch: &scratch,
        }))
    }

    fn cgroup(&self) -> u64 {
        if self.container.is_some() { 4242 } else { 1 }
    }

    fn encode(&self, process: &Process) -> Result<Vec<u8>, SampleError> {
        let kind = EventKind::from_name(&self.kind).ok_or_else(|| SampleError::UnknownType(self.kind.clone()))?;
        let mut header = Header {
            kind: kind as u16,
            time: NOW_NS,
            start: process.key.start_ns,
            cgroup: self.cgroup(),
            flags: if self.ring { F_RING } else { 0 },
            caps: process.cred.cap_effective,
            pid: process.key.pid,
            tid: process.key.pid,
            uid: process.cred.uid,
            gid: process.cred.gid,
            ret: self.result(kind)?,
            ..Header::default()
        };
        let comm = &process.comm[..process.comm.len().min(15)];
        header.comm[..comm.len()].copy_from_slice(comm);
        Ok(match kind.info().shape {
            Shape::Fork => {
                let flags = self.bits(flags::CLONE)?;
                let body = ForkBody { child_pid: header.ret as u32, flags, ..ForkBody::default() };
                Encoder::new(&header, size_of::<ForkBody>()).finish(&body)
            }
            Shape::Exec => self.encode_exec(&header, process),
            Shape::Exit => {
                let code = match self.args.first() {
                    Some(SampleArg::Number(status)) => *status as u32,
                    Some(SampleArg::Name(name)) => return Err(SampleError::UnknownName(name.clone())),
                    None => 0,
                };
                Encoder::new(&header, size_of::<ExitBody>()).finish(&ExitBody { code, ..ExitBody::default() })
            }
            Shape::File => self.encode_file(&header)?,
            Shape::Sock => self.encode_sock(&header, kind)?,
            Shape::Call => self.encode_call(&header, kind)?,
            Shape::Resource => self.resource.encode(&header),
        })
    }

    fn result(&self, kind: EventKind) -> Result<i64, SampleError> {
        match &self.ret {
            Some(SampleArg::Number(number)) => Ok(*number),
            Some(SampleArg::Name(name)) => flags::ERRNO
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, number)| -(*number as i64))
                .ok_or_else(|| SampleError::UnknownName(name.clone())),
            None if kind.info().params.first() == Some(&"fd") => Ok(3),
            None => Ok(0),
        }
    }

    fn encode_exec(&self, header: &Header, process: &Process) -> Vec<u8> {
        let mut out = Encoder::new(header, size_of::<ExecBody>());
        let body = ExecBody {
            exepath: out.text(&process.image.exepath),
            filename: out.text(self.raw.as_deref().map_or(&*process.image.exepath, str::as_bytes)),
            cwd: out.text(&process.cwd),
            args: out.text(&process.image.argv),
            env: out.text(&process.image.env),
            loginuid: process.cred.loginuid,
            ..ExecBody::default()
        };
        out.finish(&body)
    }

    fn encode_file(&self, header: &Header) -> Result<Vec<u8>, SampleError> {
        let mut out = Encoder::new(header, size_of::<FileBody>());
        let flags = self.bits(match self.kind.as_str() {
            "mount" => flags::MOUNT,
            "move_mount" => flags::MOVE_MOUNT,
            "open_tree" | "mount_setattr" => flags::TREE,
            _ => flags::OPEN,
        })?;
        let attrs = [
            (self.created, attr::CREATED),
            (self.directory, attr::DIR),
            (!self.directory, attr::REG),
            (self.deleted, attr::DELETED),
        ];
        let body = FileBody {
            ino: 1,
            fd: if self.fd == 0 { -1 } else { self.fd },
            dirfd: -100,
            dirfd2: -100,
            flags: flags as u32,
            mode: self.mode,
            uid: self.device,
            attrs: attrs.iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum(),
            path: out.text(if header.ret < 0 { b"" } else { self.path.as_bytes() }),
            raw: out.text(self.raw.as_ref().unwrap_or(&self.path).as_bytes()),
            base: out.text(self.base.as_bytes()),
            raw2: out.text(self.path2.as_bytes()),
            extra: out.text(self.target.as_bytes()),
            ..FileBody::default()
        };
        Ok(out.finish(&body))
    }

    /// The flags of the sample, by these names.
    fn bits(&self, names: flags::Names) -> Result<u64, SampleError> {
        flags::parse_bits(names, &self.flags).ok_or_else(|| SampleError::UnknownName(self.flags.clone()))
    }

    fn encode_sock(&self, header: &Header, kind: EventKind) -> Result<Vec<u8>, SampleError> {
        let mut out = Encoder::new(header, size_of::<SockBody>());
        let data = match &self.dns {
            Some(dns) => dns.encode()?,
            None if !self.sni.is_empty() => network::hello(&self.sni),
            None => self.data.as_bytes().to_vec(),
        };
        let mut body = SockBody { fd: self.fd, size: data.len() as u64, ..SockBody::default() };
        for (text, address, port) in
            [(&self.local, &mut body.laddr, &mut body.lport), (&self.remote, &mut body.raddr, &mut body.rport)]
        {
            if text.is_empty() {
                continue;
            }
            let (ip, number) = network::parse_end(text).ok_or_else(|| SampleError::BadAddress(text.clone()))?;
            *port = number;
            match ip {
                std::net::IpAddr::V4(ip) => {
                    body.family = AF_INET;
                    address[..4].copy_from_slice(&ip.octets());
                }
                std::net::IpAddr::V6(ip) => {
                    body.family = AF_INET6;
                    *address = ip.octets();
                }
            }
        }
        (body.type_, body.proto) = match self.proto.as_str() {
            "udp" => (2, 17),
            "" if kind == EventKind::Dns => (2, 17),
            "unix" => (1, 0),
            _ => (1, 6),
        };
        body.attrs = match kind {
            EventKind::Connect => sock_attr::CLIENT | sock_attr::CONNECTED,
            EventKind::Accept | EventKind::Accept4 => sock_attr::SERVER | sock_attr::CONNECTED,
            EventKind::Bind | EventKind::Listen | EventKind::ListenEnd => sock_attr::SERVER,
            EventKind::Write => sock_attr::CLIENT | sock_attr::CONNECTED | sock_attr::FIRST,
            EventKind::Sendto | EventKind::Sendmsg => sock_attr::CLIENT,
            EventKind::Dns if self.dns.as_ref().is_some_and(SampleDns::is_answer) => {
                sock_attr::CLIENT | sock_attr::RECEIVED
            }
            EventKind::Dns => sock_attr::CLIENT,
            _ => 0,
        };
        if !self.path.is_empty() || self.proto == "unix" {
            if self.proto == "unix" {
                body.family = AF_UNIX;
            } else {
                body.attrs |= sock_attr::FILE;
            }
            body.path = out.text(self.path.as_bytes());
            body.raw = out.text(self.raw.as_ref().unwrap_or(&self.path).as_bytes());
        }
        body.data = out.text(&data);
        Ok(out.finish(&body))
    }

    fn encode_call(&self, header: &Header, kind: EventKind) -> Result<Vec<u8>, SampleError> {
        let names = |index| match kind {
            EventKind::Ptrace => flags::PTRACE,
            EventKind::Bpf => flags::BPF,
            EventKind::Socket => flags::FAMILY,
            _ => call::names_of(kind, index).unwrap_or(flags::CLONE),
        };
        let mut out = Encoder::new(header, size_of::<CallBody>());
        let mut body = CallBody {
            text: out.text(self.text.as_bytes()),
            text2: out.text(self.path2.as_bytes()),
            text3: out.text(self.target.as_bytes()),
            target: self.victim.as_ref().map_or(0, |victim| victim.pid.unwrap_or(VICTIM_PID)),
            targets: self.victim.is_some().into(),
            ..CallBody::default()
        };
        for (index, (slot, arg)) in body.args.iter_mut().zip(&self.args).enumerate() {
            *slot = match arg {
                SampleArg::Number(number) => *number as u64,
                SampleArg::Name(name) => {
                    flags::parse_bits(names(index), name).ok_or_else(|| SampleError::UnknownName(name.clone()))?
                }
            };
        }
        Ok(out.finish(&body))
    }
}

/// The mask of capabilities given by names.
fn capabilities(names: &str) -> Result<u64, SampleError> {
    names.split(['|', ' ']).filter(|name| !name.is_empty()).try_fold(0, |mask, name| {
        let known = flags::CAPABILITY.iter().find(|(known, _)| *known == name);
        Ok(mask | 1_u64 << known.ok_or_else(|| SampleError::UnknownName(name.into()))?.1)
    })
}

fn nul_joined(elements: &[String]) -> Vec<u8> {
    elements.iter().flat_map(|element| element.bytes().chain([0])).collect()
}

impl SampleProcess {
    fn build(&self, key: ProcKey, parent: Option<ProcKey>) -> Result<Process, SampleError> {
        let argv = if self.args.is_empty() { vec![self.name.clone()] } else { self.args.clone() };
        let caps = capabilities(&self.caps)?;
        let mut image = Image {
            exepath: self.exepath.clone().unwrap_or_else(|| format!("/usr/bin/{}", self.name)).into_bytes().into(),
            env: nul_joined(&self.env).into(),
            script: self.script.as_bytes().into(),
            file: ExeFile {
                ino: 7,
                upper_layer: self.upper_layer,
                lower_layer: !self.upper_layer && !self.memfd,
                memfd: self.memfd,
                deleted: self.deleted,
                mode: 0o755,
                ..ExeFile::default()
            },
            ..Image::from_argv(&nul_joined(&argv))
        };
        if let Some(exe) = &self.exe {
            image.exe = exe.as_bytes().into();
        }
        let user = self.user.clone().unwrap_or_else(|| if self.uid == 0 { "root".into() } else { String::new() });
        let mut process = Process {
            key,
            parent,
            comm: self.name.as_bytes().into(),
            image: Arc::new(image),
            cwd: self.cwd.as_bytes().into(),
            cred: Credentials {
                uid: self.uid,
                gid: self.uid,
                loginuid: self.loginuid.unwrap_or(u32::MAX),
                cap_effective: caps,
                cap_permitted: caps,
                cap_inheritable: 0,
            },
            names: UserNames { user: user.into(), ..UserNames::default() },
            tty: self.tty,
            sid: key.pid,
            pgid: key.pid,
            vpid: self.vpid,
            login: self.login.clone().map(Arc::new),
            ..Process::default()
        };
        process.rebuild_cmdline();
        Ok(process)
    }
}

impl SampleContainer {
    fn build(&self) -> Container {
        let (repository, tag, digest) = split_image(&self.image);
        Container {
            id: self.id.clone().unwrap_or_else(|| "c0ffee".repeat(11)[..64].to_owned()),
            runtime: "docker".into(),
            name: self.name.clone(),
            image: self.image.clone(),
            repository: repository.into(),
            tag: tag.into(),
            digest: digest.into(),
            privileged: self.privileged,
            host_pid: self.host_pid,
            host_ipc: self.host_ipc,
            started_ns: if self.age_ms == 0 {
                0
            } else {
                WALL_NS.saturating_sub(self.age_ms.saturating_mul(1_000_000))
            },
            mounts: self
                .mounts
                .iter()
                .filter_map(|mount| mount.split_once(':'))
                .map(|(source, dest)| Mount {
                    source: source.into(),
                    dest: dest.into(),
                    rdwr: true,
                    ..Mount::default()
                })
                .collect(),
            labels: self.labels.clone(),
            complete: true,
            ..Container::default()
        }
    }
}
