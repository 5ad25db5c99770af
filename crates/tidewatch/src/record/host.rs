//! What a capture tells of its host beside events: the machine, interfaces, users, and what was open at the start.
//!
//! **Never:** more of `/proc` than a bound, or a call that a container's file system could make wait.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use tw_model::ProcKey;
use tw_sensor::capture::{HostFacts, OpenFile, OpenKind};
use tw_sensor::clock;

/// Most bytes of a list of sockets, users or groups.
const MAX_LIST: u64 = 4 << 20;
/// Most descriptors of a process, and of all.
const MAX_OPEN: usize = 256;
const MAX_ALL: usize = 65_536;
/// Most users, groups and addresses.
const MAX_NAMES: usize = 65_536;
const MAX_ADDRESSES: usize = 1_024;

/// The machine.
pub(super) fn facts() -> HostFacts {
    let words = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let users = read("/etc/passwd");
    let groups = read("/etc/group");
    let user = |line: &str| match words(line).as_slice() {
        [name, _, uid, gid, _, home, shell] => {
            Some((uid.parse().ok()?, gid.parse().ok()?, name.clone(), home.clone(), shell.clone()))
        }
        _ => None,
    };
    let group = |line: &str| match words(line).as_slice() {
        [name, _, gid, _] => Some((gid.parse().ok()?, name.clone())),
        _ => None,
    };
    HostFacts {
        hostname: crate::agent::hostname(),
        boot_ns: clock::boot_to_wall_ns(),
        cpus: std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32),
        memory: rustix::system::sysinfo().totalram as u64,
        interfaces: interfaces(),
        users: users.lines().filter_map(user).take(MAX_NAMES).collect(),
        groups: groups.lines().filter_map(group).take(MAX_NAMES).collect(),
    }
}

fn interfaces() -> Vec<(String, IpAddr, IpAddr)> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let ip = |address: Option<nix::sys::socket::SockaddrStorage>| {
        let address = address?;
        let four = address.as_sockaddr_in().map(|four| IpAddr::V4(four.ip()));
        four.or_else(|| address.as_sockaddr_in6().map(|six| IpAddr::V6(six.ip())))
    };
    let known = |entry: nix::ifaddrs::InterfaceAddress| {
        let address = ip(entry.address)?;
        let mask = ip(entry.netmask).filter(|mask| mask.is_ipv4() == address.is_ipv4());
        let none = if address.is_ipv4() { Ipv4Addr::BROADCAST.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        Some((entry.interface_name, address, mask.unwrap_or(none)))
    };
    all.filter_map(known).take(MAX_ADDRESSES).collect()
}

/// A file up to a bound; empty if it cannot be read.
fn read(path: impl AsRef<Path>) -> String {
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(MAX_LIST).read_to_end(&mut bytes));
    if read.is_err() { String::new() } else { String::from_utf8_lossy(&bytes).into_owned() }
}

/// What these processes have open, as far as `/proc` tells without asking a file system.
pub(super) fn open_files(listed: &HashSet<ProcKey>) -> Vec<(u32, Vec<OpenFile>)> {
    let mut sockets: HashMap<Box<Path>, HashMap<u64, OpenKind>> = HashMap::new();
    let mut all = 0;
    let mut found = Vec::new();
    for pid in listed.iter().map(|key| key.pid) {
        let folder = format!("/proc/{pid}");
        let Ok(entries) = fs::read_dir(format!("{folder}/fd")) else { continue };
        let mut files = Vec::new();
        for entry in entries.filter_map(Result::ok).take(MAX_OPEN) {
            let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            let target = target.as_os_str().as_bytes();
            let (ino, what) = if let Some(ino) = number_in(target, b"socket:[") {
                let Ok(namespace) = fs::read_link(format!("{folder}/ns/net")) else { continue };
                let known = sockets.entry(namespace.into()).or_insert_with(|| sockets_of(&folder));
                match known.get(&ino) {
                    Some(socket) => (ino, socket.clone()),
                    None => continue,
                }
            } else if let Some(ino) = number_in(target, b"pipe:[") {
                (ino, OpenKind::Pipe(target.to_vec()))
            } else if target.starts_with(b"/") {
                (0, OpenKind::File(target.to_vec()))
            } else {
                continue;
            };
            files.push(OpenFile { fd, ino, what });
        }
        all += files.len();
        if all > MAX_ALL {
            break;
        }
        if !files.is_empty() {
            found.push((pid, files));
        }
    }
    found
}

/// The number in `socket:[123]`.
fn number_in(text: &[u8], before: &[u8]) -> Option<u64> {
    let number = text.strip_prefix(before)?.strip_suffix(b"]")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// Sockets of a network namespace by inode.
fn sockets_of(folder: &str) -> HashMap<u64, OpenKind> {
    let mut found = HashMap::new();
    for (name, protocol) in [("tcp", 6), ("tcp6", 6), ("udp", 17), ("udp6", 17)] {
        let list = read(format!("{folder}/net/{name}"));
        found.extend(list.lines().skip(1).filter_map(|line| inet(line, protocol)));
    }
    let list = read(format!("{folder}/net/unix"));
    found.extend(list.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace().skip(6);
        let ino = words.next()?.parse().ok()?;
        Some((ino, OpenKind::Unix(words.next().unwrap_or_default().as_bytes().to_vec())))
    }));
    found
}

/// A line of `/proc/net/tcp` and its like.
fn inet(line: &str, protocol: u8) -> Option<(u64, OpenKind)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (local, remote) = (end(words.get(1)?)?, end(words.get(2)?)?);
    Some((words.get(9)?.parse().ok()?, OpenKind::Inet { local, remote, protocol }))
}

/// An address and a port as the kernel lists them: words of four bytes in its own order.
fn end(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let mut bytes = Vec::with_capacity(16);
    for at in (0..address.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let address = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(four) => IpAddr::from(four),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?),
    };
    Some((address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_sockets_are_read() {
        let line = "   0: 0100007F:1F90 0200000A:0050 01 00000000:00000000 00:00000000 00000000  0  0 4711 1 0";
        let local = (Ipv4Addr::LOCALHOST.into(), 8_080);
        let remote = ("10.0.0.2".parse().unwrap(), 80);
        assert_eq!(inet(line, 6), Some((4_711, OpenKind::Inet { local, remote, protocol: 6 })));
        assert_eq!(end("00000000000000000000000001000000:0016"), Some((Ipv6Addr::LOCALHOST.into(), 22)));
        for broken in ["", "0: x y", "0100:1", "ééééé:1"] {
            assert_eq!(end(broken), None, "{broken}");
        }
        assert_eq!(number_in(b"socket:[12]", b"socket:["), Some(12));
        assert_eq!(number_in(b"socket:[x]", b"socket:["), None);
    }

    #[test]
    fn of_this_process_its_open_files_are_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let own = ProcKey { start_ns: 0, pid: std::process::id() };
        let found = open_files(&HashSet::from([own]));
        let files = &found.first().unwrap().1;
        let listens = |file: &OpenFile| matches!(&file.what, OpenKind::Inet { local, .. } if local.1 == port);
        assert!(files.iter().any(listens), "{files:?}");
        assert!(facts().users.iter().any(|user| user.2 == "root"));
    }
}
