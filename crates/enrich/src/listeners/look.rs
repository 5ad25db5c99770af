//! A look at the sockets that listen, as `/proc` shows them: which there are in each network namespace, and whose.
//!
//! **Never:** more than a bounded number of bytes and links; waiting for anybody (it runs in a thread of its own).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// Most bytes that are read of one table.
const MAX_TABLE: usize = 1 << 20;
/// Descriptors of one process that are looked at: those with the lowest numbers.
const MAX_DESCRIPTORS: usize = 1_024;
/// Descriptors of all processes.
const MAX_LINKS: usize = 131_072;
/// States in the tables of `/proc`: of connections, and of datagrams without a peer.
const LISTENS: &str = "0A";
const UNCONNECTED: &str = "07";
/// Ports that the kernel gives to whoever names none, as it is configured by default. A socket of datagrams that has one
/// of these waits for an answer, as a rule.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;

pub(crate) const TCP: u16 = 6;
const UDP: u16 = 17;

/// What is to be looked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Task {
    /// Where `/proc` is.
    pub root: PathBuf,
    /// Network namespaces with the numbers of processes that live there.
    pub places: Vec<(u32, BTreeSet<u32>)>,
    /// Sockets that are known: nobody need be found for them, and one of datagrams counts whatever its port.
    pub known: HashSet<u64>,
}

/// A socket as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub ino: u64,
    pub netns: u32,
    pub protocol: u16,
    pub address: IpAddr,
    pub port: u16,
    /// A process that holds it; none if none was found.
    pub owner: Option<u32>,
    /// A process of its namespace.
    pub neighbour: u32,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sight {
    pub found: Vec<Found>,
    /// Namespaces that were to be looked at.
    pub looked: Vec<u32>,
    /// Namespaces and protocols of which everything was read.
    pub whole: HashSet<(u32, u16)>,
    /// Namespaces in which no process lives any more.
    pub left: HashSet<u32>,
    /// The sockets that were known when the look began: only these can be found to be gone.
    pub known: HashSet<u64>,
}

impl Task {
    /// Looks.
    pub(crate) fn look(self) -> Sight {
        let mut sight = Sight::default();
        let mut links = MAX_LINKS;
        for (netns, pids) in &self.places {
            let living = |pid: &&u32| self.number_of(**pid, "ns/net", "net:[") == Some(u64::from(*netns));
            sight.looked.push(*netns);
            let Some(pid) = pids.iter().find(living) else {
                sight.left.insert(*netns);
                continue;
            };
            let first = sight.found.len();
            for (protocol, tables, state) in [(TCP, ["tcp", "tcp6"], LISTENS), (UDP, ["udp", "udp6"], UNCONNECTED)] {
                let whole = tables.map(|table| self.read(*netns, *pid, table, protocol, state, &mut sight.found));
                if whole == [true, true] {
                    sight.whole.insert((*netns, protocol));
                }
            }
            let new = sight.found.get_mut(first..).unwrap_or_default();
            self.find_owners(pids, new, &mut links);
        }
        sight.known = self.known;
        sight
    }

    /// Reads one table; returns whether all of it that matters was read.
    fn read(&self, netns: u32, pid: u32, table: &str, protocol: u16, state: &str, found: &mut Vec<Found>) -> bool {
        let path = self.root.join(pid.to_string()).join("net").join(table);
        let mut text = Vec::new();
        // One that does not exist holds nothing: IPv6 may be switched off.
        let Ok(file) = File::open(&path) else { return Path::new(&self.root).join(pid.to_string()).exists() };
        let mut file = file.take(MAX_TABLE as u64);
        let mut piece = [0; 4096];
        loop {
            match file.read(&mut piece) {
                Ok(0) => break,
                Ok(n) => text.extend_from_slice(piece.get(..n).unwrap_or_default()),
                Err(_) => return false,
            }
            // Those that listen come first, and behind them every connection of the host.
            if protocol == TCP && last_whole_row(&text).is_some_and(|row| row.state != LISTENS) {
                break;
            }
        }
        let cut = text.len() >= MAX_TABLE;
        for row in String::from_utf8_lossy(&text).lines().filter_map(Row::parse) {
            let counts = row.state == state && row.remote_port == 0 && row.ino != 0;
            let chosen = protocol == TCP || !EPHEMERAL.contains(&row.port) || self.known.contains(&row.ino);
            if counts && chosen {
                let (address, port, ino) = (row.address, row.port, row.ino);
                found.push(Found { ino, netns, protocol, address, port, owner: None, neighbour: pid });
            }
        }
        !cut
    }

    /// Finds for each socket that is not known a process that holds it.
    fn find_owners(&self, pids: &BTreeSet<u32>, found: &mut [Found], links: &mut usize) {
        let mut wanted: HashMap<u64, &mut Found> =
            found.iter_mut().filter(|found| !self.known.contains(&found.ino)).map(|found| (found.ino, found)).collect();
        for pid in pids {
            if wanted.is_empty() || *links == 0 {
                return;
            }
            let Ok(folder) = std::fs::read_dir(self.root.join(pid.to_string()).join("fd")) else { continue };
            for entry in folder.flatten().take(MAX_DESCRIPTORS) {
                *links = links.saturating_sub(1);
                let link = std::fs::read_link(entry.path());
                let ino = link.ok().and_then(|link| number_in(link.to_str()?, "socket:["));
                if let Some(found) = ino.and_then(|ino| wanted.remove(&ino)) {
                    found.owner = Some(*pid);
                }
            }
        }
    }

    fn number_of(&self, pid: u32, link: &str, kind: &str) -> Option<u64> {
        let target = std::fs::read_link(self.root.join(pid.to_string()).join(link)).ok()?;
        number_in(target.to_str()?, kind)
    }
}

/// The number in `socket:[4711]`.
fn number_in(link: &str, kind: &str) -> Option<u64> {
    link.strip_prefix(kind)?.strip_suffix(']')?.parse().ok()
}

/// The last row that is whole.
fn last_whole_row(text: &[u8]) -> Option<Row> {
    let end = text.iter().rposition(|byte| *byte == b'\n')?;
    let rows = text.get(..end)?;
    let start = rows.iter().rposition(|byte| *byte == b'\n')?;
    Row::parse(&String::from_utf8_lossy(rows.get(start + 1..)?))
}

/// A row of a table of sockets in `/proc/PID/net`.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    address: IpAddr,
    port: u16,
    remote_port: u16,
    state: String,
    ino: u64,
}

impl Row {
    /// `0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 …`
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_ascii_whitespace().take(10).collect();
        let &[_, local, remote, state, _, _, _, _, _, ino] = words.as_slice() else { return None };
        let (address, port) = end(local)?;
        let (_, remote_port) = end(remote)?;
        Some(Self { address, port, remote_port, state: state.to_owned(), ino: ino.parse().ok()? })
    }
}

/// `0100007F:1F90`: words of four bytes as the machine stores them, then the port.
fn end(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let mut bytes = Vec::with_capacity(16);
    for at in (0..address.len().min(32)).step_by(8) {
        bytes.extend(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let address = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        16 => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical(),
        _ => return None,
    };
    Some((address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn here(known: HashSet<u64>) -> Sight {
        let netns = std::fs::read_link("/proc/self/ns/net").unwrap();
        let netns = number_in(netns.to_str().unwrap(), "net:[").unwrap() as u32;
        Task { root: "/proc".into(), places: vec![(netns, [std::process::id()].into())], known }.look()
    }

    fn number(socket: &impl std::os::fd::AsRawFd) -> u64 {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
        number_in(link.to_str().unwrap(), "socket:[").unwrap()
    }

    #[test]
    fn sockets_of_this_process_are_found_and_those_that_do_not_listen_are_not() {
        let (four, six) = (TcpListener::bind("127.0.0.81:0").unwrap(), TcpListener::bind("[::1]:0").unwrap());
        let connected = std::net::TcpStream::connect(four.local_addr().unwrap()).unwrap();
        let low = (20_000..20_100).find_map(|port| UdpSocket::bind(("127.0.0.81", port)).ok()).unwrap();
        let high = UdpSocket::bind("127.0.0.81:0").unwrap();
        let sight = here(HashSet::new());
        for (ino, protocol, end) in [
            (number(&four), TCP, four.local_addr().unwrap()),
            (number(&six), TCP, six.local_addr().unwrap()),
            (number(&low), UDP, low.local_addr().unwrap()),
        ] {
            let found = sight.found.iter().find(|found| found.ino == ino).unwrap();
            assert_eq!((found.protocol, found.address, found.port), (protocol, end.ip(), end.port()));
            assert_eq!(found.owner, Some(std::process::id()));
        }
        assert_eq!(sight.whole.len(), 2);
        let seen = |ino: u64, sight: &Sight| sight.found.iter().any(|found| found.ino == ino);
        assert!(!seen(number(&connected), &sight) && !seen(number(&high), &sight));
        // The same one counts if it is known; then nobody is looked for.
        let known = here([number(&high)].into());
        assert!(seen(number(&high), &known));
    }

    #[test]
    fn a_namespace_without_processes_is_left() {
        // However many processes lived there.
        let pids = (5_000_000..5_000_020).chain([std::process::id()]).collect();
        let task = Task { root: "/proc".into(), places: vec![(1, pids)], known: [5].into() };
        let sight = task.look();
        assert!(sight.found.is_empty() && sight.left.contains(&1));
        assert_eq!((sight.looked, sight.known), (vec![1], [5].into()));
    }

    #[test]
    fn rows_are_read_as_far_as_they_make_sense() {
        let row =
            "   1: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 77 1";
        let parsed = Row::parse(row).unwrap();
        assert_eq!((parsed.address, parsed.port, parsed.ino), ("::1".parse().unwrap(), 22, 77));
        for broken in [
            "",
            "sl local",
            "1: 0100007F 0:0 0A 0 0 0 0 0 7",
            "1: ä:1 0:0 0A 0 0 0 0 0 7",
            "1: 01:1 0:0 0A 0 0 0 0 0 7",
        ] {
            assert_eq!(Row::parse(broken), None, "{broken}");
        }
        let text = b"head\n   0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 0 0 5\n   1: 01000";
        assert_eq!(last_whole_row(text).unwrap().ino, 5);
        assert_eq!(last_whole_row(b"head\n"), None);
    }
}
