//! Writes captures as sysdig and Falco do, old ones and new ones, for tests.

#![allow(dead_code, reason = "no test needs all of it")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::Write as _;

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Without a number of parameters.
    Old,
    /// The same behind flags.
    OldWithFlags,
    New,
    NewWithFlags,
    /// With lengths of four bytes.
    Large,
    LargeWithFlags,
}

impl Form {
    pub const ALL: [Self; 6] =
        [Self::Old, Self::OldWithFlags, Self::New, Self::NewWithFlags, Self::Large, Self::LargeWithFlags];

    fn block(self) -> u32 {
        match self {
            Self::Old => 0x204,
            Self::OldWithFlags => 0x208,
            Self::New => 0x216,
            Self::NewWithFlags => 0x217,
            Self::Large => 0x221,
            Self::LargeWithFlags => 0x222,
        }
    }
}

/// A parameter of an event.
#[derive(Clone, Debug)]
pub enum P {
    /// Nothing.
    Empty,
    U8(u8),
    U32(u32),
    U64(u64),
    I64(i64),
    /// A text with its NUL.
    Text(&'static str),
    Owned(String),
    /// Bytes as they are.
    Bytes(Vec<u8>),
    /// Both ends, IPv4.
    Tuple4([u8; 4], u16, [u8; 4], u16),
    /// Both ends, IPv6.
    Tuple6([u8; 16], u16, [u8; 16], u16),
    /// A path of a unix socket.
    TupleUnix(&'static str),
    /// An address, IPv4.
    Addr4([u8; 4], u16),
    /// An address of a unix socket.
    AddrUnix(&'static str),
    /// A byte that says what it is, and a number.
    Variant(u8, u64),
}

/// A process of the list.
#[derive(Clone, Debug)]
pub struct Proc {
    pub tid: u64,
    pub pid: u64,
    pub ptid: u64,
    pub comm: &'static str,
    pub exe: &'static str,
    pub exepath: &'static str,
    pub args: &'static str,
    pub cwd: &'static str,
    pub uid: u32,
    pub gid: u32,
    pub env: &'static str,
    pub vpid: i64,
    pub cgroups: String,
    pub loginuid: u32,
    pub cap_effective: u64,
    pub tty: u32,
}

impl Default for Proc {
    fn default() -> Self {
        Self {
            tid: 100,
            pid: 100,
            ptid: 1,
            comm: "nginx",
            exe: "nginx",
            exepath: "/usr/sbin/nginx",
            args: "-g\0daemon off;\0",
            cwd: "/srv/",
            uid: 33,
            gid: 34,
            env: "LANG=C\0",
            vpid: 100,
            cgroups: "cpu=/\0".to_owned(),
            loginuid: u32::MAX,
            cap_effective: 0x20,
            tty: 0,
        }
    }
}

/// A capture that is being written.
#[derive(Clone, Debug)]
pub struct Scap {
    pub bytes: Vec<u8>,
    big: bool,
    pub form: Form,
    /// Time of the next event.
    pub time: u64,
}

/// When captures begin.
pub const BEGIN: u64 = 1_700_000_000_000_000_000;

impl Scap {
    pub fn new(form: Form) -> Self {
        Self::in_order(form, false)
    }

    /// `big`: as a machine with the other byte order writes it.
    pub fn in_order(form: Form, big: bool) -> Self {
        let mut scap = Self { bytes: Vec::new(), big, form, time: BEGIN };
        scap.section(1);
        scap
    }

    pub fn section(&mut self, major: u16) {
        let mut content = self.u32(0x1a2b_3c4d).to_vec();
        content.extend(self.u16(major));
        content.extend(self.u16(2));
        content.extend(self.u64(u64::MAX));
        self.block(0x0a0d_0d0a, &content);
    }

    pub fn u16(&self, number: u16) -> [u8; 2] {
        if self.big { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    pub fn u32(&self, number: u32) -> [u8; 4] {
        if self.big { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    pub fn u64(&self, number: u64) -> [u8; 8] {
        if self.big { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    /// Any block, padded to four bytes.
    pub fn block(&mut self, kind: u32, content: &[u8]) {
        let length = content.len().next_multiple_of(4) + 12;
        let (kind, length32) = (self.u32(kind), self.u32(length as u32));
        let start = self.bytes.len();
        self.bytes.extend(kind);
        self.bytes.extend(length32);
        self.bytes.extend(content);
        self.bytes.resize(start + length - 4, 0);
        self.bytes.extend(length32);
    }

    pub fn machine(&mut self, hostname: &str, boot_ns: u64) {
        let mut content = self.u32(4).to_vec();
        content.extend(self.u64(8 << 30));
        content.extend(self.u64(4_194_304));
        let mut name = hostname.as_bytes().to_vec();
        name.resize(128, 0);
        content.extend(name);
        content.extend(self.u64(boot_ns));
        content.extend(self.u64(2 << 56));
        content.extend([0; 16]);
        self.block(0x201, &content);
    }

    pub fn interfaces(&mut self, version: u8) {
        let mut content = Vec::new();
        for (kind, address, speed) in [(1_u16, vec![10, 0, 0, 79], true), (4, vec![0xfe; 16], false)] {
            let mut entry = self.u16(kind).to_vec();
            entry.extend(self.u16(4));
            entry.extend(&address);
            entry.extend(vec![0; 2 * address.len()]);
            entry.extend(if speed { vec![0; 8] } else { vec![] });
            entry.extend(b"eth0");
            if version == 2 {
                content.extend(self.u32(entry.len() as u32));
            }
            content.extend(entry);
        }
        self.block(if version == 2 { 0x219 } else { 0x205 }, &content);
    }

    fn text(&self, text: &str) -> Vec<u8> {
        let mut out = self.u16(text.len() as u16).to_vec();
        out.extend(text.as_bytes());
        out
    }

    /// An entry that says how long it is, if the version does.
    fn sized(&self, sized: bool, entry: Vec<u8>) -> Vec<u8> {
        let mut out = if sized { self.u32(entry.len() as u32 + 4).to_vec() } else { Vec::new() };
        out.extend(entry);
        out
    }

    /// Users and groups by number, each with a name.
    pub fn accounts(&mut self, version: u8, users: &[(u32, &str)], groups: &[(u32, &str)]) {
        let mut content = Vec::new();
        for (uid, name) in users {
            let mut entry = vec![0];
            entry.extend(self.u32(*uid));
            entry.extend(self.u32(*uid));
            for text in [name, &*format!("/home/{name}"), "/bin/sh"] {
                entry.extend(self.text(text));
            }
            content.extend(self.sized(version == 2, entry));
        }
        for (gid, name) in groups {
            let mut entry = vec![1];
            entry.extend(self.u32(*gid));
            entry.extend(self.text(name));
            content.extend(self.sized(version == 2, entry));
        }
        self.block(if version == 2 { 0x220 } else { 0x206 }, &content);
    }

    /// The list of processes in one of its nine versions.
    pub fn processes(&mut self, version: u8, list: &[Proc]) {
        let mut content = Vec::new();
        for proc in list {
            let mut entry = Vec::new();
            for number in [proc.tid, proc.pid, proc.ptid] {
                entry.extend(self.u64(number));
            }
            if version >= 6 {
                entry.extend(self.u64(proc.pid));
            }
            if version >= 8 {
                entry.extend(self.u64(proc.pid));
            }
            entry.extend(self.text(proc.comm));
            entry.extend(self.text(proc.exe));
            if version >= 7 {
                entry.extend(self.text(proc.exepath));
            }
            entry.extend(self.text(proc.args));
            entry.extend(self.text(proc.cwd));
            entry.extend(self.u64(1024));
            entry.extend(self.u32(0));
            entry.extend(self.u32(proc.uid));
            entry.extend(self.u32(proc.gid));
            if version >= 2 {
                entry.extend([7; 28]);
            }
            if version >= 3 {
                entry.extend(self.text(proc.env));
            }
            if version >= 4 {
                entry.extend(self.u64(proc.vpid as u64));
                entry.extend(self.u64(proc.vpid as u64));
                entry.extend(self.text(&proc.cgroups));
            }
            if version >= 5 {
                entry.extend(self.text("/"));
            }
            if version >= 9 {
                entry.extend(self.u64(0));
                entry.extend(self.u32(proc.tty));
                entry.extend(self.u32(proc.loginuid));
                entry.push(1);
                for caps in [0, proc.cap_effective, proc.cap_effective] {
                    entry.extend(self.u64(caps));
                }
                entry.push(1);
                for number in [55, 66, 77] {
                    entry.extend(self.u64(number));
                }
                entry.extend([0, 0, 9, 9, 9]);
            }
            content.extend(self.sized(version >= 9, entry));
        }
        let kinds = [0x202, 0x207, 0x209, 0x210, 0x211, 0x212, 0x213, 0x214, 0x215];
        self.block(kinds[usize::from(version) - 1], &content);
    }

    /// Descriptors of a thread: number, kind, and what the kind needs.
    pub fn descriptors(&mut self, version: u8, tid: u64, list: &[(u64, u8, Vec<u8>)]) {
        let mut content = self.u64(tid).to_vec();
        for (fd, kind, rest) in list {
            let mut entry = self.u64(*fd).to_vec();
            entry.extend(self.u64(4242));
            entry.push(*kind);
            entry.extend(rest);
            content.extend(self.sized(version == 2, entry));
        }
        self.block(if version == 2 { 0x218 } else { 0x203 }, &content);
    }

    /// What a file needs in the list of descriptors.
    pub fn file(&self, name: &str) -> Vec<u8> {
        let mut out = self.u32(1).to_vec();
        out.extend(self.text(name));
        out
    }

    /// What a TCP connection over IPv4 needs in the list of descriptors.
    pub fn tcp4(&self, local: ([u8; 4], u16), remote: ([u8; 4], u16)) -> Vec<u8> {
        let mut out = local.0.to_vec();
        out.extend(remote.0);
        out.extend(self.u16(local.1));
        out.extend(self.u16(remote.1));
        out.push(2);
        out
    }

    fn param(&self, param: &P) -> Vec<u8> {
        match param {
            P::Empty => Vec::new(),
            P::U8(number) => vec![*number],
            P::U32(number) => self.u32(*number).to_vec(),
            P::U64(number) => self.u64(*number).to_vec(),
            P::I64(number) => self.u64(*number as u64).to_vec(),
            P::Text(text) => [text.as_bytes(), b"\0"].concat(),
            P::Owned(text) => [text.as_bytes(), b"\0"].concat(),
            P::Bytes(bytes) => bytes.clone(),
            P::Tuple4(source, sport, destination, dport) => {
                [&[2][..], source, &self.u16(*sport), destination, &self.u16(*dport)].concat()
            }
            P::Tuple6(source, sport, destination, dport) => {
                [&[10][..], source, &self.u16(*sport), destination, &self.u16(*dport)].concat()
            }
            P::TupleUnix(path) => [&[1][..], &[0; 16], path.as_bytes(), b"\0"].concat(),
            P::Addr4(ip, port) => [&[2][..], ip, &self.u16(*port)].concat(),
            P::AddrUnix(path) => [&[1][..], path.as_bytes(), b"\0"].concat(),
            P::Variant(what, number) => [&[*what][..], &self.u64(*number)].concat(),
        }
    }

    /// An event, a microsecond after the one before.
    pub fn event(&mut self, tid: u64, number: u16, params: &[P]) -> &mut Self {
        self.time += 1_000;
        let (flags, counted, large) = match self.form {
            Form::Old => (false, false, false),
            Form::OldWithFlags => (true, false, false),
            Form::New => (false, true, false),
            Form::NewWithFlags => (true, true, false),
            Form::Large => (false, true, true),
            Form::LargeWithFlags => (true, true, true),
        };
        let mut lengths = Vec::new();
        let mut data = Vec::new();
        for param in params {
            let bytes = self.param(param);
            if large {
                lengths.extend(self.u32(bytes.len() as u32));
            } else {
                lengths.extend(self.u16(bytes.len() as u16));
            }
            data.extend(bytes);
        }
        let length = 22 + if counted { 4 } else { 0 } + lengths.len() + data.len();
        let mut content = self.u16(3).to_vec();
        if flags {
            content.extend(self.u32(0));
        }
        content.extend(self.u64(self.time));
        content.extend(self.u64(tid));
        content.extend(self.u32(length as u32));
        content.extend(self.u16(number));
        if counted {
            content.extend(self.u32(params.len() as u32));
        }
        content.extend(lengths);
        content.extend(data);
        self.block(self.form.block(), &content);
        self
    }

    /// The end of a clone of version 20: result, thread, process, parent, number in its namespace; and its flags.
    pub fn fork(&mut self, numbers: [i64; 5], flags: u32, cgroups: &str) -> &mut Self {
        let [ret, tid, pid, ptid, vpid] = numbers;
        let params = [
            P::I64(ret),
            P::Text("bash"),
            P::Bytes(b"-c\0".to_vec()),
            P::I64(tid),
            P::I64(pid),
            P::I64(ptid),
            P::Text("/root"),
            P::I64(1024),
            P::U64(0),
            P::U64(0),
            P::U32(0),
            P::U32(0),
            P::U32(0),
            P::Text("bash"),
            P::Bytes(cgroups.as_bytes().to_vec()),
            P::U32(flags),
            P::U32(0),
            P::U32(0),
            P::I64(vpid),
            P::I64(vpid),
        ];
        self.event(tid as u64, 223, &params)
    }

    /// The end of an execve of one of its versions: 8, 13, 14, 15, 16, 17, 18, or 31 for the newest.
    pub fn exec(&mut self, version: u8, pid: i64, ptid: i64, argv: [&'static str; 2], cgroups: &str) -> &mut Self {
        let mut params = vec![
            P::I64(0),
            P::Text(argv[0]),
            P::Owned(argv[1].to_owned()),
            P::I64(pid),
            P::I64(pid),
            P::I64(ptid),
            P::Text("/root/"),
            P::U64(1024),
        ];
        if version >= 13 {
            params.extend([P::U64(0), P::U64(0), P::U32(0), P::U32(0), P::U32(0)]);
        }
        let env = P::Bytes(b"HOME=/root\0LANG=C\0".to_vec());
        match version {
            8 | 13 => {}
            14 => params.push(env),
            15 => params.extend([P::Text(argv[0]), env]),
            _ => {
                let comm = P::Text(argv[0].rsplit('/').next().unwrap());
                params.extend([comm, P::Bytes(cgroups.as_bytes().to_vec()), env]);
            }
        }
        if version >= 17 {
            params.push(P::U32(34_816));
        }
        if version == 31 {
            params.extend([
                P::I64(pid),
                P::U32(1000),
                P::U32(0b11),
                P::U64(0),
                P::U64(0x1ff),
                P::U64(0x1ff),
                P::U64(55),
                P::U64(66),
                P::U64(77),
                P::U32(0),
                P::Text("/usr/bin/resolved"),
                P::I64(pid),
                P::U32(0),
                P::Text("./called"),
            ]);
        }
        let number = match version {
            8 => 13,
            13 => 155,
            14 => 173,
            15 => 215,
            16 => 231,
            17 => 283,
            18 => 289,
            _ => 293,
        };
        self.event(pid as u64, number, &params)
    }

    /// The capture, compressed.
    pub fn gzip(&self) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(&self.bytes).unwrap();
        out.finish().unwrap()
    }
}
