//! What is known of a socket of another process: from a copy of its descriptor, or else from the tables in its `/proc`.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::{SocketAddrAny, SocketAddrUnix, getpeername, getsockname, sockopt};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use tw_model::raw::{AF_INET, AF_INET6, AF_UNIX, SockBody, sock_attr};

use crate::facts;

/// `IPPROTO_TCP`, `IPPROTO_UDP`.
pub(super) const TCP: u16 = 6;
const UDP: u16 = 17;
/// Most bytes of a table of sockets that are looked through.
const MAX_TABLE: usize = 4 << 20;
/// `TCP_ESTABLISHED` in those tables.
const ESTABLISHED: &str = "01";

/// A socket as a record tells it.
#[derive(Clone, Debug, Default)]
pub(super) struct Socket {
    pub(super) body: SockBody,
    /// Name that the peer of a unix socket is bound to.
    pub(super) peer: Vec<u8>,
}

/// The socket behind descriptor `fd` of process `tgid`; `None` if it is none, or of a family that is not told.
pub(super) fn of(tgid: u32, fd: i32) -> Option<Socket> {
    match copy(tgid, fd) {
        Some(socket) => by_copy(&socket),
        None => by_tables(tgid, fd),
    }
}

fn copy(tgid: u32, fd: i32) -> Option<OwnedFd> {
    let process = pidfd_open(Pid::from_raw(tgid.cast_signed())?, PidfdFlags::empty()).ok()?;
    pidfd_getfd(process, fd, PidfdGetfdFlags::empty()).ok()
}

fn by_copy(socket: &OwnedFd) -> Option<Socket> {
    let family = sockopt::socket_domain(socket).ok()?.as_raw();
    let mut found = Socket {
        body: SockBody {
            family,
            type_: sockopt::socket_type(socket).map_or(0, |kind| kind.as_raw() as u16),
            proto: sockopt::socket_protocol(socket).ok().flatten().map_or(0, |proto| proto.as_raw().get() as u16),
            ..SockBody::default()
        },
        peer: Vec::new(),
    };
    let peer = getpeername(socket).ok().flatten();
    match family {
        AF_UNIX => {
            let name = peer.and_then(|peer| SocketAddrUnix::try_from(peer).ok());
            found.peer = name.and_then(|name| Some(name.path()?.to_bytes().to_vec())).unwrap_or_default();
        }
        AF_INET | AF_INET6 => {
            if let Some(local) = getsockname(socket).ok().and_then(address) {
                put(local, &mut found.body.laddr, &mut found.body.lport);
            }
            if let Some(peer) = peer.and_then(address) {
                put(peer, &mut found.body.raddr, &mut found.body.rport);
                found.body.attrs |= sock_attr::CONNECTED;
            }
        }
        _ => return None,
    }
    Some(found)
}

fn address(any: SocketAddrAny) -> Option<SocketAddr> {
    SocketAddr::try_from(any).ok()
}

/// Puts an address where records have it.
pub(super) fn put(address: SocketAddr, bytes: &mut [u8; 16], port: &mut u16) {
    match address {
        SocketAddr::V4(address) => bytes[..4].copy_from_slice(&address.ip().octets()),
        SocketAddr::V6(address) => *bytes = address.ip().octets(),
    }
    *port = address.port();
}

/// An address as a process gives it to a call.
pub(super) fn written(bytes: &[u8]) -> Option<(u16, SocketAddr)> {
    let family = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    let ip = match family {
        AF_INET => <[u8; 4]>::try_from(bytes.get(4..8)?).ok()?.into(),
        AF_INET6 => <[u8; 16]>::try_from(bytes.get(8..24)?).ok()?.into(),
        _ => return None,
    };
    Some((family, SocketAddr::new(ip, port)))
}

/// Where copies of descriptors are forbidden: the number of the socket, looked for in the tables of its namespace.
fn by_tables(tgid: u32, fd: i32) -> Option<Socket> {
    let link = facts::link(&format!("/proc/{tgid}/fd/{fd}"));
    let inode = std::str::from_utf8(&link).ok()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned();
    let table = |name: &str| {
        let (bytes, _) = facts::read(&format!("/proc/{tgid}/net/{name}"), MAX_TABLE)?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    for (name, family, type_, proto) in [
        ("tcp", AF_INET, libc::SOCK_STREAM, TCP),
        ("tcp6", AF_INET6, libc::SOCK_STREAM, TCP),
        ("udp", AF_INET, libc::SOCK_DGRAM, UDP),
        ("udp6", AF_INET6, libc::SOCK_DGRAM, UDP),
    ] {
        let body = SockBody { family, type_: type_ as u16, proto, ..SockBody::default() };
        if let Some(found) = table(name).and_then(|table| inet_row(&table, &inode, body)) {
            return Some(found);
        }
    }
    let bound = table("unix")
        .is_some_and(|table| table.lines().any(|line| line.split_ascii_whitespace().nth(6) == Some(inode.as_str())));
    bound.then(|| Socket { body: SockBody { family: AF_UNIX, ..SockBody::default() }, peer: Vec::new() })
}

/// The row of this inode in a table of `/proc/net`.
fn inet_row(table: &str, inode: &str, mut body: SockBody) -> Option<Socket> {
    for line in table.lines().skip(1) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let &[_, local, remote, state, _, _, _, _, _, number, ..] = words.as_slice() else { continue };
        if number != inode {
            continue;
        }
        put(hex_address(local)?, &mut body.laddr, &mut body.lport);
        put(hex_address(remote)?, &mut body.raddr, &mut body.rport);
        if body.rport != 0 && (body.proto != TCP || state == ESTABLISHED) {
            body.attrs |= sock_attr::CONNECTED;
        }
        return Some(Socket { body, peer: Vec::new() });
    }
    None
}

/// `0100007F:1F90`: words of four bytes as the machine stores them, then the port.
fn hex_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let mut bytes = Vec::with_capacity(16);
    for at in (0..ip.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let port = u16::from_str_radix(port, 16).ok()?;
    match bytes.len() {
        4 => Some(SocketAddr::new(<[u8; 4]>::try_from(bytes).ok()?.into(), port)),
        16 => Some(SocketAddr::new(<[u8; 16]>::try_from(bytes).ok()?.into(), port)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn both_ways_tell_the_same_of_a_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let datagrams = UdpSocket::bind("[::1]:0").unwrap();
        for fd in [listener.as_raw_fd(), stream.as_raw_fd(), datagrams.as_raw_fd()] {
            let pid = std::process::id();
            let (copied, read) = (of(pid, fd).unwrap(), by_tables(pid, fd).unwrap());
            assert_eq!(copied.body, read.body);
        }
        let body = of(std::process::id(), stream.as_raw_fd()).unwrap().body;
        assert_eq!((body.family, body.proto, body.attrs), (AF_INET, TCP, sock_attr::CONNECTED));
        assert_eq!(body.rport, listener.local_addr().unwrap().port());
        assert!(of(std::process::id(), 9999).is_none());
    }

    #[test]
    fn addresses_are_read_as_far_as_they_are_there() {
        let v4 = [2, 0, 0, 53, 127, 0, 0, 1];
        assert_eq!(written(&v4), Some((AF_INET, "127.0.0.1:53".parse().unwrap())));
        assert_eq!(written(&v4[..7]), None);
        assert_eq!(written(&[1, 0, b'/', b'a']), None);
        assert_eq!(hex_address("0100007F:1F90"), Some("127.0.0.1:8080".parse().unwrap()));
        assert_eq!(hex_address("01"), None);
        assert_eq!(hex_address("ä100007F:1"), None);
    }
}
