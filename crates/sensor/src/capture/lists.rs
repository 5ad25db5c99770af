//! The processes that ran when the capture began, and their descriptors.

use super::bytes::{Cursor, Order, text};
use super::descriptors::{Descriptor, Kind};
use super::machine::sized;

/// Bytes at the end of an entry of the first writers with a length: login user, writable, three sets of capabilities.
/// Later ones put two numbers in front of these.
const EARLY_TAIL: usize = 4 + 1 + 3 * 8;

/// A thread as the list has it. What a version does not tell is 0 or empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub tid: u32,
    pub pid: u32,
    /// The thread that started it.
    pub ptid: u32,
    pub sid: u32,
    pub vpgid: u32,
    pub vpid: u32,
    pub comm: &'a [u8],
    /// `argv[0]`
    pub exe: &'a [u8],
    pub exepath: &'a [u8],
    /// argv from 1 on, each ended by NUL.
    pub args: &'a [u8],
    pub cwd: &'a [u8],
    pub uid: u32,
    pub gid: u32,
    pub env: &'a [u8],
    /// `controller=path`, each ended by NUL.
    pub cgroups: &'a [u8],
    pub tty: u32,
    pub loginuid: u32,
    pub cap_inheritable: u64,
    pub cap_permitted: u64,
    pub cap_effective: u64,
    pub ino: u64,
    pub ctime: u64,
    pub mtime: u64,
    pub writable: bool,
    pub upper_layer: bool,
    pub memfd: bool,
    pub lower_layer: bool,
}

/// Reads a list of processes; false if it breaks off.
pub(super) fn read_processes<'a>(
    content: &'a [u8],
    order: Order,
    version: u8,
    take: &mut impl FnMut(&Entry<'a>),
) -> bool {
    let mut list = Cursor::new(content, order);
    while list.left() >= 4 {
        let Some(entry) = read_process(&mut list, version) else { return false };
        take(&entry);
    }
    true
}

fn read_process<'a>(list: &mut Cursor<'a>, version: u8) -> Option<Entry<'a>> {
    let mut from = if version < 9 { *list } else { sized(list)? };
    let mut entry = Entry { loginuid: u32::MAX, ..Entry::default() };
    entry.tid = number(from.u64()?);
    entry.pid = number(from.u64()?);
    entry.ptid = number(from.u64()?);
    if version >= 6 {
        entry.sid = number(from.u64()?);
    }
    if version >= 8 {
        entry.vpgid = number(from.u64()?);
    }
    entry.comm = from.text()?;
    entry.exe = from.text()?;
    if version >= 7 {
        entry.exepath = from.text()?;
    }
    entry.args = from.block()?;
    entry.cwd = from.text()?;
    from.u64()?; // the most descriptors it may have
    from.u32()?; // flags
    entry.uid = from.u32()?;
    entry.gid = from.u32()?;
    if version >= 2 {
        from.take(3 * 4 + 2 * 8)?; // memory, page faults
    }
    if version >= 3 {
        entry.env = from.block()?;
    }
    entry.vpid = entry.pid;
    if version >= 4 {
        from.u64()?; // number of the thread in its namespace
        entry.vpid = number(from.u64()?);
        entry.cgroups = from.block()?;
    }
    if version >= 5 {
        from.text()?; // its root
    }
    if version < 9 {
        *list = from;
    } else {
        // Every further number is there or not: newer writers have more.
        let _ = read_tail(&mut from, &mut entry);
    }
    Some(entry)
}

fn read_tail(from: &mut Cursor<'_>, entry: &mut Entry<'_>) -> Option<()> {
    if from.left() > EARLY_TAIL {
        from.u64()?; // start of the first process of its namespace
        entry.tty = from.u32()?;
    }
    entry.loginuid = from.u32()?;
    entry.writable = from.u8()? != 0;
    entry.cap_inheritable = from.u64()?;
    entry.cap_permitted = from.u64()?;
    entry.cap_effective = from.u64()?;
    entry.upper_layer = from.u8()? != 0;
    entry.ino = from.u64()?;
    entry.ctime = from.u64()?;
    entry.mtime = from.u64()?;
    entry.memfd = from.u8()? != 0;
    entry.lower_layer = from.u8()? != 0;
    Some(())
}

/// Numbers of processes take eight bytes, unknown ones are -1.
pub(super) fn number(number: u64) -> u32 {
    u32::try_from(number).unwrap_or_default()
}

/// Reads the descriptors of one thread; false if the list breaks off.
pub(super) fn read_descriptors<'a>(
    content: &'a [u8],
    order: Order,
    version: u8,
    take: &mut impl FnMut(u32, i32, Descriptor, &'a [u8]),
) -> bool {
    let mut list = Cursor::new(content, order);
    let Some(tid) = list.u64() else { return false };
    while list.left() >= 4 {
        let Some((fd, descriptor, name)) = read_descriptor(&mut list, version) else { return false };
        if let Some(fd) = fd {
            take(number(tid), fd, descriptor, name);
        }
    }
    true
}

fn read_descriptor<'a>(list: &mut Cursor<'a>, version: u8) -> Option<(Option<i32>, Descriptor, &'a [u8])> {
    let mut from = if version == 1 { *list } else { sized(list)? };
    let fd = i32::try_from(from.u64()?).ok();
    let ino = from.u64()?;
    let kind = from.u8()?;
    let mut descriptor = Descriptor { ino, ..Descriptor::default() };
    let mut name: &[u8] = b"";
    match kind {
        3 | 4 => {
            descriptor.kind = Kind::Socket;
            (descriptor.family, descriptor.laddr, descriptor.raddr) = if kind == 3 {
                (tw_model::raw::AF_INET, from.address4()?, from.address4()?)
            } else {
                (tw_model::raw::AF_INET6, from.address()?, from.address()?)
            };
            (descriptor.lport, descriptor.rport) = (from.u16()?, from.u16()?);
            descriptor.set_protocol(from.u8()?);
            descriptor.attrs = if descriptor.rport == 0 { 0 } else { tw_model::raw::sock_attr::CONNECTED };
        }
        5 | 6 => {
            descriptor.kind = Kind::Socket;
            (descriptor.family, descriptor.laddr) = if kind == 5 {
                (tw_model::raw::AF_INET, from.address4()?)
            } else {
                (tw_model::raw::AF_INET6, from.address()?)
            };
            descriptor.lport = from.u16()?;
            descriptor.set_protocol(from.u8()?);
        }
        8 => {
            descriptor.kind = Kind::Socket;
            descriptor.family = tw_model::raw::AF_UNIX;
            from.take(16)?; // numbers of the two ends
            name = from.text()?;
        }
        16 => {
            descriptor.kind = Kind::File;
            from.u32()?; // flags of open
            name = from.text()?;
        }
        1 => (descriptor.kind, name) = (Kind::File, from.text()?),
        2 => (descriptor.kind, name) = (Kind::Directory, from.text()?),
        7 => (descriptor.kind, name) = (Kind::Pipe, from.text()?),
        9..=15 | 17..=21 => (descriptor.kind, name) = (Kind::Other, from.text()?),
        // Without a length nobody knows where the next one begins.
        _ if version == 1 => return None,
        _ => {}
    }
    if version == 1 {
        *list = from;
    }
    Some((fd, descriptor, text(name)))
}
