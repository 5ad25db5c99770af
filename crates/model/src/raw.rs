//! Records as the sensor writes them: a header, one body, a tail of bytes. Mirrors `bpf/tidewatch.h`.
//!
//! [`Raw::parse`] checks a record once; after that every accessor is infallible and borrows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::dns::Message;
use crate::event::{EVENTS, EventInfo, EventKind, Shape};
use crate::process::ProcKey;

mod encoder;
mod flow;
mod listener;
mod resource;
mod rewrite;
pub use encoder::{Encoder, from_words, to_words};
pub use flow::{FLOW_STATES, FlowFigures};
pub use listener::SocketId;
pub use resource::{ResourceBody, part};
pub use rewrite::Slot;

/// Longest kernel process name, with its final NUL.
pub const COMM: usize = 16;
/// A 32-bit call on a 64-bit kernel.
pub const F_COMPAT: u16 = 1;
/// A string of the record was longer than its limit.
pub const F_TRUNCATED: u16 = 2;

/// Asked for through io_uring.
pub const F_RING: u16 = 4;
/// The result is not told: the caller wanted no answer unless the request fails.
pub const F_PRESUMED: u16 = 8;

/// [`Header::caps`] of sources that do not tell capabilities with each event.
pub const CAPS_UNKNOWN: u64 = u64::MAX;

/// Attribute bits of files ([`ExecBody::attrs`], [`FileBody::attrs`]).
pub mod attr {
    /// In the upper layer of an overlay file system.
    pub const UPPER: u32 = 1;
    /// In a lower layer of an overlay file system.
    pub const LOWER: u32 = 2;
    /// An anonymous file in memory.
    pub const MEMFD: u32 = 4;
    /// The caller may write it.
    pub const WRITABLE: u32 = 8;
    /// Created by this call.
    pub const CREATED: u32 = 16;
    /// A directory.
    pub const DIR: u32 = 32;
    /// A regular file.
    pub const REG: u32 = 64;
    /// argv was cut.
    pub const ARGS_TRUNCATED: u32 = 128;
    /// The environment was cut.
    pub const ENV_TRUNCATED: u32 = 256;
    /// Its name was removed.
    pub const DELETED: u32 = 512;
}

/// Attribute bits of sockets ([`SockBody::attrs`]).
pub mod sock_attr {
    /// The process called `connect` or sent first.
    pub const CLIENT: u16 = 1;
    /// The process accepted or listens.
    pub const SERVER: u16 = 2;
    /// The socket has a peer.
    pub const CONNECTED: u16 = 4;
    /// Not a socket: the path names a file (dup).
    pub const FILE: u16 = 8;
    /// First bytes sent on a new connection.
    pub const FIRST: u16 = 16;
    /// The data was received; else it was sent.
    pub const RECEIVED: u16 = 32;
}

/// A piece of the record's tail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Str {
    /// Offset from the start of the record.
    pub off: u16,
    /// Length in bytes.
    pub len: u16,
}

/// What every record starts with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// Bytes of the whole record.
    pub size: u16,
    /// Row of [`EVENTS`].
    pub kind: u16,
    /// [`F_COMPAT`], [`F_TRUNCATED`], [`F_RING`], [`F_PRESUMED`].
    pub flags: u16,
    /// CPU that wrote it.
    pub cpu: u16,
    /// Nanoseconds since boot (`CLOCK_BOOTTIME`).
    pub time: u64,
    /// Start of the process, nanoseconds since boot.
    pub start: u64,
    /// Id of the cgroup in the unified hierarchy.
    pub cgroup: u64,
    /// Process number.
    pub pid: u32,
    /// Thread number.
    pub tid: u32,
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Result of the call; negative: errno.
    pub ret: i64,
    /// Effective capabilities, bit = capability number; or [`CAPS_UNKNOWN`].
    pub caps: u64,
    /// Name of the thread, padded with NUL.
    pub comm: [u8; COMM],
}

/// Body of a fork. The header is the caller's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ForkBody {
    /// Start of the child, nanoseconds since boot.
    pub child_start: u64,
    /// Start of the child's parent (not the caller with `CLONE_PARENT`).
    pub parent_start: u64,
    /// Number of the child.
    pub child_pid: u32,
    /// Number of the child's parent.
    pub parent_pid: u32,
    /// Number of the child in its own pid namespace.
    pub child_vpid: u32,
    /// Effective user of the child.
    pub child_uid: u32,
    /// Effective capabilities of the child.
    pub child_caps: u64,
    /// Flags of clone, as the kernel took them.
    pub flags: u64,
}

/// Body of an exec. For a failed call only `filename` is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs, reason = "named as the fields of Process and ExeFile that they fill")]
pub struct ExecBody {
    pub parent_start: u64,
    pub cap_effective: u64,
    pub cap_permitted: u64,
    pub cap_inheritable: u64,
    pub ino: u64,
    pub ctime: u64,
    pub mtime: u64,
    pub dev: u32,
    pub mode: u32,
    pub attrs: u32,
    pub ppid: u32,
    pub vpid: u32,
    pub pgid: u32,
    pub sid: u32,
    pub vpgid: u32,
    pub tty: u32,
    pub loginuid: u32,
    pub ns_mnt: u32,
    pub ns_pid: u32,
    pub ns_net: u32,
    pub ns_user: u32,
    pub ns_uts: u32,
    pub ns_ipc: u32,
    pub ns_cgroup: u32,
    pub pad: u32,
    pub exepath: Str,
    pub filename: Str,
    pub interp: Str,
    pub cwd: Str,
    pub args: Str,
    pub env: Str,
    pub cgroup_name: Str,
    pub pad_str: Str,
}

/// Body of a process's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ExitBody {
    /// As for wait(2): exit status in bits 8 to 15, signal in bits 0 to 6, core flag in bit 7.
    pub code: u32,
    /// Unused.
    pub pad: u32,
}

/// Body of a call on files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FileBody {
    /// Inode.
    pub ino: u64,
    /// Descriptor that the call got or returned, -1 if none.
    pub fd: i32,
    /// Directory descriptor of `raw`.
    pub dirfd: i32,
    /// Directory descriptor of `raw2`.
    pub dirfd2: i32,
    /// Flags argument.
    pub flags: u32,
    /// Mode argument.
    pub mode: u32,
    /// Device.
    pub dev: u32,
    /// Bits of [`attr`].
    pub attrs: u32,
    /// User argument (chown). Of an open: how many like it were counted only since the last one that was told.
    pub uid: u32,
    /// Group argument (chown).
    pub gid: u32,
    /// What lies before `path`, where the caller's root is not that of its mount namespace (chroot).
    pub root: Str,
    /// Resolved path, if the call left a kernel object.
    pub path: Str,
    /// Path as the caller wrote it.
    pub raw: Str,
    /// Directory that `raw` is relative to; empty if it is absolute.
    pub base: Str,
    /// Second path as the caller wrote it.
    pub raw2: Str,
    /// Directory that `raw2` is relative to.
    pub base2: Str,
    /// Target of a symbolic link, source of a mount.
    pub extra: Str,
}

/// Body of a call on sockets, and of dup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SockBody {
    /// Bytes asked to be sent.
    pub size: u64,
    /// Descriptor.
    pub fd: i32,
    /// Descriptor that was duplicated.
    pub oldfd: i32,
    /// `AF_*`.
    pub family: u16,
    /// `SOCK_*`.
    pub type_: u16,
    /// `IPPROTO_*`.
    pub proto: u16,
    /// Local port, host order.
    pub lport: u16,
    /// Remote port, host order.
    pub rport: u16,
    /// Bits of [`sock_attr`].
    pub attrs: u16,
    /// Backlog argument of listen.
    pub backlog: u32,
    /// Local address; IPv4 in the first four bytes.
    pub laddr: [u8; 16],
    /// Remote address; IPv4 in the first four bytes.
    pub raddr: [u8; 16],
    /// Bound path of the unix peer, or path of the file.
    pub path: Str,
    /// Unix path as the caller wrote it.
    pub raw: Str,
    /// First bytes sent.
    pub data: Str,
    /// Unused.
    pub pad_str: Str,
}

/// Body of any other call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CallBody {
    /// The six arguments of the system call.
    pub args: [u64; 6],
    /// Effective capabilities after the call.
    pub cap_effective: u64,
    /// Permitted capabilities after the call.
    pub cap_permitted: u64,
    /// Inheritable capabilities after the call.
    pub cap_inheritable: u64,
    /// Number of the process that the call is about, if a kernel object told it; else 0.
    pub target: u32,
    /// Processes that were signalled; of mprotect 1 if the memory had been written to.
    pub targets: u32,
    /// A text argument, such as the name of a memfd.
    pub text: Str,
    /// A second one.
    pub text2: Str,
    /// Type of the file system (fsconfig, fsmount).
    pub text3: Str,
    /// Unused.
    pub pad_str: Str,
}

/// The body of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// A process forked.
    Fork(&'a ForkBody),
    /// A process executed a file, or failed to.
    Exec(&'a ExecBody),
    /// A process ended.
    Exit(&'a ExitBody),
    /// A call on files.
    File(&'a FileBody),
    /// A call on sockets.
    Sock(&'a SockBody),
    /// Another call.
    Call(&'a CallBody),
    /// What a container used.
    Resource(&'a ResourceBody),
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawError {
    /// Shorter than its header, body or declared size.
    Short,
    /// A kind that this version does not know.
    UnknownKind(u16),
    /// Not aligned to 8 bytes.
    Misaligned,
    /// A string lies outside the record.
    BadString,
}

impl std::fmt::Display for RawError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Short => f.write_str("record is shorter than it says"),
            Self::UnknownKind(kind) => write!(f, "record has unknown kind {kind}"),
            Self::Misaligned => f.write_str("record is not aligned to 8 bytes"),
            Self::BadString => f.write_str("record has a string outside its bounds"),
        }
    }
}

impl std::error::Error for RawError {}

/// One checked record.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a> {
    bytes: &'a [u8],
    info: &'static EventInfo,
    /// The header.
    pub header: &'a Header,
    /// The body.
    pub body: Body<'a>,
}

impl<'a> Raw<'a> {
    /// Checks `bytes` as one record. Bytes past the declared size are ignored.
    ///
    /// # Errors
    /// [`RawError`] if the record is short, misaligned, of unknown kind, or points outside itself.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RawError> {
        if !(bytes.as_ptr() as usize).is_multiple_of(8) {
            return Err(RawError::Misaligned);
        }
        let (header, _) = Header::ref_from_prefix(bytes).map_err(|_| RawError::Short)?;
        let bytes = bytes.get(..header.size.into()).ok_or(RawError::Short)?;
        let rest = bytes.get(size_of::<Header>()..).ok_or(RawError::Short)?;
        let info = EVENTS.get(usize::from(header.kind)).ok_or(RawError::UnknownKind(header.kind))?;
        let raw = Self { bytes, info, header, body: Body::parse(info.shape, rest)? };
        // Without an early end, which costs more than it saves.
        let outside = |text: &Str| usize::from(text.off) + usize::from(text.len) > bytes.len();
        if raw.strings().iter().fold(false, |any, text| any | outside(text)) {
            return Err(RawError::BadString);
        }
        Ok(raw)
    }

    /// The row of the event table.
    pub fn info(&self) -> &'static EventInfo {
        self.info
    }

    /// The kind of event.
    pub fn kind(&self) -> EventKind {
        self.info.kind
    }

    /// The whole record.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Identity of the process that acted.
    pub fn key(&self) -> ProcKey {
        ProcKey { start_ns: self.header.start, pid: self.header.pid }
    }

    /// Name of the thread that acted.
    pub fn comm(&self) -> &'a [u8] {
        let end = self.header.comm.iter().position(|byte| *byte == 0).unwrap_or(COMM);
        &self.header.comm[..end]
    }

    /// A string of the tail; empty if absent.
    pub fn text(&self, text: Str) -> &'a [u8] {
        let start = usize::from(text.off);
        self.bytes.get(start..start + usize::from(text.len)).unwrap_or_default()
    }

    /// The body of a call on files.
    pub fn file(&self) -> Option<&'a FileBody> {
        if let Body::File(body) = self.body { Some(body) } else { None }
    }

    /// The body of a call on sockets.
    pub fn sock(&self) -> Option<&'a SockBody> {
        if let Body::Sock(body) = self.body { Some(body) } else { None }
    }

    /// The message of a `dns` event, as far as it can be read.
    pub fn dns(&self) -> Option<Message<'a>> {
        let body = self.sock().filter(|_| self.kind() == EventKind::Dns)?;
        let bytes = self.text(body.data);
        if body.proto == IPPROTO_TCP {
            Message::parse_stream(bytes, self.header.ret.max(0) as u64)
        } else {
            Message::parse(bytes)
        }
    }

    /// The body of an exec.
    pub fn exec(&self) -> Option<&'a ExecBody> {
        if let Body::Exec(body) = self.body { Some(body) } else { None }
    }

    /// The body of any other call.
    pub fn call(&self) -> Option<&'a CallBody> {
        if let Body::Call(body) = self.body { Some(body) } else { None }
    }

    /// The body of a measurement.
    pub fn resource(&self) -> Option<&'a ResourceBody> {
        if let Body::Resource(body) = self.body { Some(body) } else { None }
    }

    #[inline(always)]
    fn strings(&self) -> [Str; 7] {
        let none = Str::default();
        match self.body {
            Body::Fork(_) | Body::Exit(_) | Body::Resource(_) => [none; 7],
            Body::Exec(b) => [b.exepath, b.filename, b.interp, b.cwd, b.args, b.env, b.cgroup_name],
            Body::File(b) => [b.path, b.raw, b.base, b.raw2, b.base2, b.extra, b.root],
            Body::Sock(b) => [b.path, b.raw, b.data, none, none, none, none],
            Body::Call(b) => [b.text, b.text2, b.text3, none, none, none, none],
        }
    }
}

impl<'a> Body<'a> {
    fn parse(shape: Shape, bytes: &'a [u8]) -> Result<Self, RawError> {
        fn read<T: FromBytes + KnownLayout + Immutable>(bytes: &[u8]) -> Result<&T, RawError> {
            T::ref_from_prefix(bytes).map(|(body, _)| body).map_err(|_| RawError::Short)
        }
        Ok(match shape {
            Shape::Fork => Body::Fork(read(bytes)?),
            Shape::Exec => Body::Exec(read(bytes)?),
            Shape::Exit => Body::Exit(read(bytes)?),
            Shape::File => Body::File(read(bytes)?),
            Shape::Sock => Body::Sock(read(bytes)?),
            Shape::Call => Body::Call(read(bytes)?),
            Shape::Resource => Body::Resource(read(bytes)?),
        })
    }
}

impl SockBody {
    /// Local address, for IPv4 and IPv6 sockets.
    pub fn local(&self) -> Option<IpAddr> {
        address(self.family, &self.laddr)
    }

    /// Remote address, for IPv4 and IPv6 sockets.
    pub fn remote(&self) -> Option<IpAddr> {
        address(self.family, &self.raddr)
    }

    /// Whether all bits of `mask` ([`sock_attr`]) are set.
    pub fn has(&self, mask: u16) -> bool {
        self.attrs & mask == mask
    }
}

/// `AF_UNIX`.
pub const AF_UNIX: u16 = 1;
/// `AF_INET`.
pub const AF_INET: u16 = 2;
/// `IPPROTO_TCP`.
pub const IPPROTO_TCP: u16 = 6;
/// `AF_INET6`.
pub const AF_INET6: u16 = 10;

/// IPv4 addresses written as IPv6 are returned as IPv4: rules and threat lists name them so.
fn address(family: u16, bytes: &[u8; 16]) -> Option<IpAddr> {
    match family {
        AF_INET => Some(IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))),
        AF_INET6 => Some(IpAddr::V6(Ipv6Addr::from(*bytes)).to_canonical()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_encoded_is_read_back() {
        let header = Header { kind: EventKind::Openat as u16, pid: 7, ret: -2, ..Header::default() };
        let mut out = Encoder::new(&header, size_of::<FileBody>());
        let body =
            FileBody { flags: 0o101, path: out.text(b"/etc/x"), raw: out.text(b"\xff\0"), ..FileBody::default() };
        let words = to_words(&out.finish(&body));
        let raw = Raw::parse(words.as_bytes()).unwrap();
        let file = raw.file().unwrap();
        assert_eq!((raw.kind(), raw.header.pid, raw.header.ret), (EventKind::Openat, 7, -2));
        assert_eq!((raw.text(file.path), raw.text(file.raw)), (b"/etc/x".as_slice(), b"\xff\0".as_slice()));
        assert_eq!(raw.text(file.base), b"");
    }

    #[test]
    fn bad_records_are_refused_with_the_reason() {
        let header = Header { kind: EventKind::Procexit as u16, ..Header::default() };
        let good = to_words(&Encoder::new(&header, size_of::<ExitBody>()).finish(&ExitBody::default()));
        assert!(Raw::parse(good.as_bytes()).is_ok());
        assert_eq!(Raw::parse(&good.as_bytes()[..40]).err(), Some(RawError::Short));
        assert_eq!(Raw::parse(&good.as_bytes()[1..]).err(), Some(RawError::Misaligned));
        let unknown = Header { kind: 9999, ..header };
        let unknown = to_words(&Encoder::new(&unknown, size_of::<ExitBody>()).finish(&ExitBody::default()));
        assert_eq!(Raw::parse(unknown.as_bytes()).err(), Some(RawError::UnknownKind(9999)));
        let header = Header { kind: EventKind::Unlink as u16, ..header };
        let body = FileBody { path: Str { off: 65_000, len: 3 }, ..FileBody::default() };
        let outside = to_words(&Encoder::new(&header, size_of::<FileBody>()).finish(&body));
        assert_eq!(Raw::parse(outside.as_bytes()).err(), Some(RawError::BadString));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(kind in 0_u16..140, size in 0_u16..600, tail in proptest::collection::vec(any::<u8>(), 0..700)) {
            let mut bytes = size.to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(tail);
            let words = to_words(&bytes);
            if let Ok(raw) = Raw::parse(words.as_bytes()) {
                let texts: usize = raw.strings().iter().map(|text| raw.text(*text).len()).sum();
                prop_assert!(texts <= 7 * raw.bytes().len());
            }
        }
    }
}
