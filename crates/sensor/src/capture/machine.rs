//! What a capture tells of its machine: the machine itself, its interfaces, its users and groups.

use std::net::IpAddr;

use super::bytes::{Cursor, Order, text};

/// Bytes of a machine's name.
const HOSTNAME: usize = 128;

/// The machine that was captured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Its name.
    pub hostname: String,
    /// Processors.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// When it was started, nanoseconds since the epoch; 0 if it is not told.
    pub boot_ns: u64,
    /// Architecture; empty if it is not told.
    pub arch: &'static str,
}

impl Machine {
    /// `None` if the block is too short.
    pub(super) fn read(content: &[u8], order: Order) -> Option<Self> {
        let mut cursor = Cursor::new(content, order);
        let (cpus, memory) = (cursor.u32()?, cursor.u64()?);
        cursor.u64()?; // the highest process number
        let hostname = String::from_utf8_lossy(text(cursor.take(HOSTNAME)?)).into_owned();
        let boot_ns = cursor.u64()?;
        let arch = match cursor.u64()? >> 56 {
            1 => "x86",
            2 => "x86_64",
            3 => "aarch64",
            _ => "",
        };
        Some(Self { hostname, cpus, memory, boot_ns, arch })
    }
}

/// An address of an interface of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface<'a> {
    /// Name of the interface.
    pub name: &'a [u8],
    /// One of its addresses.
    pub address: IpAddr,
}

/// Reads a list of interfaces; false if it breaks off or has a kind that is not known.
pub(super) fn read_interfaces<'a>(
    content: &'a [u8],
    order: Order,
    version: u8,
    take: &mut impl FnMut(Interface<'a>),
) -> bool {
    let mut list = Cursor::new(content, order);
    while list.left() >= 4 {
        let Some(interface) = read_interface(&mut list, version) else { return false };
        take(interface);
    }
    true
}

fn read_interface<'a>(list: &mut Cursor<'a>, version: u8) -> Option<Interface<'a>> {
    let mut entry = match version {
        1 => *list,
        _ => {
            let length = list.u32()?;
            list.part(length as usize)?
        }
    };
    let kind = entry.u16()?;
    let length = entry.u16()?;
    // Address, mask and broadcast; with the kinds 1 and 2 a speed of eight bytes.
    let (address, others, speed) = match kind {
        1 => (IpAddr::from(ipv4(&mut entry)?), 8, 8),
        2 => (IpAddr::from(entry.address()?), 32, 8),
        3 => (IpAddr::from(ipv4(&mut entry)?), 8, 0),
        4 => (IpAddr::from(entry.address()?), 32, 0),
        _ => return None,
    };
    entry.take(others + speed)?;
    let name = text(entry.take(length.into())?);
    if version == 1 {
        *list = entry;
    }
    Some(Interface { name, address })
}

fn ipv4(entry: &mut Cursor<'_>) -> Option<[u8; 4]> {
    let [a, b, c, d, ..] = entry.address4()?;
    Some([a, b, c, d])
}

/// An entry that says how long it is, these four bytes included, so that newer ones may have more.
pub(super) fn sized<'a>(list: &mut Cursor<'a>) -> Option<Cursor<'a>> {
    let length = list.u32()?;
    list.part((length as usize).checked_sub(4)?)
}

/// A user or a group of the machine, or of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account<'a> {
    /// A user.
    User {
        /// Number.
        uid: u32,
        /// Name.
        name: &'a [u8],
        /// Home directory.
        home: &'a [u8],
        /// Login shell.
        shell: &'a [u8],
        /// Id of the container that knows it so; empty: the host.
        container: &'a [u8],
    },
    /// A group.
    Group {
        /// Number.
        gid: u32,
        /// Name.
        name: &'a [u8],
        /// Id of the container that knows it so; empty: the host.
        container: &'a [u8],
    },
}

/// Reads a list of users and groups; false if it breaks off.
pub(super) fn read_accounts<'a>(
    content: &'a [u8],
    order: Order,
    version: u8,
    take: &mut impl FnMut(Account<'a>),
) -> bool {
    let mut list = Cursor::new(content, order);
    while list.left() >= 4 {
        let Some(account) = read_account(&mut list, version) else { return false };
        take(account);
    }
    true
}

fn read_account<'a>(list: &mut Cursor<'a>, version: u8) -> Option<Account<'a>> {
    let mut entry = if version == 1 { *list } else { sized(list)? };
    let account = if entry.u8()? == 0 {
        let uid = entry.u32()?;
        entry.u32()?; // its group
        let (name, home, shell) = (entry.text()?, entry.text()?, entry.text()?);
        Account::User { uid, name, home, shell, container: b"" }
    } else {
        Account::Group { gid: entry.u32()?, name: entry.text()?, container: b"" }
    };
    if version == 1 {
        *list = entry;
    }
    Some(account)
}
