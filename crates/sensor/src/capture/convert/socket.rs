//! Calls on sockets, dup, and what is sent.

use std::sync::Arc;

use tw_model::EventKind;
use tw_model::raw::{AF_INET, AF_INET6, AF_UNIX, CallBody, SockBody, sock_attr};

use super::super::arguments::Arguments;
use super::super::bytes::Cursor;
use super::super::descriptors::{Descriptor, Kind, TCP};
use super::super::record::{DATA, PATH};
use super::super::table::Role;
use super::{Address, Call, Converter, Item, Tell};

/// `-EINPROGRESS`
const IN_PROGRESS: i64 = -115;
/// `SOCK_CLOEXEC` and `O_CLOEXEC`
const SOCK_CLOEXEC: u32 = 0o2_000_000;
/// `F_DUPFD` and `F_DUPFD_CLOEXEC` of captures.
const F_DUPFD: u32 = 1;
const F_DUPFD_CLOEXEC: u32 = 26;
/// Datagrams to the same peer are told once in this time.
const QUIET_NS: u64 = 1_000_000_000;

/// Both ends of a connection.
#[derive(Clone, Copy, Debug, Default)]
struct Tuple<'a> {
    family: u16,
    source: ([u8; 16], u16),
    destination: ([u8; 16], u16),
    path: &'a [u8],
}

impl<'a> Tuple<'a> {
    fn of(arguments: &Arguments<'a>) -> Option<Self> {
        let mut cursor = Cursor::new(arguments.bytes(Role::Tuple)?, arguments.end.order());
        let family = u16::from(cursor.u8()?);
        let mut tuple = Self { family, ..Self::default() };
        match family {
            AF_INET => {
                tuple.source = (cursor.address4()?, cursor.u16()?);
                tuple.destination = (cursor.address4()?, cursor.u16()?);
            }
            AF_INET6 => {
                tuple.source = (cursor.address()?, cursor.u16()?);
                tuple.destination = (cursor.address()?, cursor.u16()?);
            }
            AF_UNIX => {
                cursor.take(16)?; // numbers of the two ends
                tuple.path = cursor.rest_text();
            }
            _ => return None,
        }
        Some(tuple)
    }
}

/// A body that says what the socket is.
fn body_of(fd: i32, socket: &Descriptor) -> SockBody {
    SockBody {
        fd,
        oldfd: -1,
        family: socket.family,
        type_: socket.type_,
        proto: socket.proto,
        lport: socket.lport,
        rport: socket.rport,
        attrs: socket.attrs,
        laddr: socket.laddr,
        raddr: socket.raddr,
        ..SockBody::default()
    }
}

impl Converter {
    pub(super) fn socket(&mut self, call: &Call<'_>, tell: Tell<'_>) {
        let arguments = &call.arguments;
        let (domain, type_, proto) = (arguments.u32(Role::A0), arguments.u32(Role::A1), arguments.u32(Role::A2));
        let process = self.state.process(call.pid);
        let header = call.header(EventKind::Socket, process);
        if header.ret >= 0 {
            let kind = type_ as u16 & 0xf;
            let proto = match (proto as u16, domain as u16, kind) {
                (0, AF_INET | AF_INET6, 1) => TCP,
                (0, AF_INET | AF_INET6, 2) => 17,
                (proto, ..) => proto,
            };
            let descriptor = Descriptor {
                kind: Kind::Socket,
                cloexec: type_ & SOCK_CLOEXEC != 0,
                family: domain as u16,
                type_: kind,
                proto,
                ..Descriptor::default()
            };
            Arc::make_mut(&mut process.descriptors).put(header.ret as i32, descriptor, b"");
        }
        self.record.begin(size_of::<CallBody>());
        let body = CallBody {
            args: [domain.into(), type_.into(), proto.into(), 0, 0, 0],
            cap_effective: process.cap_effective,
            cap_permitted: process.cap_permitted,
            cap_inheritable: process.cap_inheritable,
            ..CallBody::default()
        };
        self.counts.records += 1;
        tell(Item::Record { number: call.number, bytes: self.record.finish(&header, &body) });
    }

    pub(super) fn connect(&mut self, call: &Call<'_>, tell: Tell<'_>) {
        let arguments = &call.arguments;
        let fd = arguments.fd(Role::Fd);
        let tuple = Tuple::of(arguments);
        let address = arguments.bytes(Role::Addr).and_then(|bytes| Address::read(bytes, arguments.end.order()));
        let process = self.state.process(call.pid);
        let header = call.header(EventKind::Connect, process);
        let mut socket = process.descriptors.get(fd).copied().unwrap_or_default();
        socket.kind = Kind::Socket;
        if let Some(tuple) = tuple {
            socket.family = tuple.family;
            (socket.laddr, socket.lport) = tuple.source;
            (socket.raddr, socket.rport) = tuple.destination;
        } else if let Some(address) = address {
            socket.family = address.family;
            (socket.raddr, socket.rport) = (address.ip, address.port);
        }
        if !matches!(socket.family, AF_INET | AF_INET6 | AF_UNIX) {
            return;
        }
        socket.attrs = sock_attr::CLIENT;
        if header.ret == 0 || (socket.proto != TCP && header.ret >= 0) {
            socket.attrs |= sock_attr::CONNECTED;
        }
        socket.fresh = socket.proto == TCP && (header.ret == 0 || header.ret == IN_PROGRESS);
        let path = tuple.map_or(b"".as_slice(), |tuple| tuple.path);
        let raw = address.map_or(b"".as_slice(), |address| address.path);
        if header.ret == 0 || header.ret == IN_PROGRESS {
            Arc::make_mut(&mut process.descriptors).put(fd, socket, path);
        }
        self.record.begin(size_of::<SockBody>());
        let mut body = body_of(fd, &socket);
        if socket.family == AF_UNIX {
            body.path = self.record.text(path, PATH);
            body.raw = self.record.text(if raw.is_empty() { path } else { raw }, PATH);
        }
        self.counts.records += 1;
        tell(Item::Record { number: call.number, bytes: self.record.finish(&header, &body) });
    }

    pub(super) fn accept(&mut self, kind: EventKind, call: &Call<'_>, tell: Tell<'_>) {
        let arguments = &call.arguments;
        if arguments.ret() < 0 {
            return; // nothing was accepted: servers ask all the time
        }
        let tuple = Tuple::of(arguments).unwrap_or_default();
        let process = self.state.process(call.pid);
        let header = call.header(kind, process);
        let fd = header.ret as i32;
        // The peer is the source of what comes in.
        let socket = Descriptor {
            kind: Kind::Socket,
            cloexec: arguments.u32(Role::Flags) & SOCK_CLOEXEC != 0,
            family: tuple.family,
            type_: 1,
            proto: if matches!(tuple.family, AF_INET | AF_INET6) { TCP } else { 0 },
            laddr: tuple.destination.0,
            lport: tuple.destination.1,
            raddr: tuple.source.0,
            rport: tuple.source.1,
            attrs: sock_attr::SERVER | if tuple.family == AF_UNIX { 0 } else { sock_attr::CONNECTED },
            ..Descriptor::default()
        };
        Arc::make_mut(&mut process.descriptors).put(fd, socket, tuple.path);
        self.record.begin(size_of::<SockBody>());
        let mut body = body_of(fd, &socket);
        body.path = self.record.text(tuple.path, PATH);
        self.counts.records += 1;
        tell(Item::Record { number: call.number, bytes: self.record.finish(&header, &body) });
    }

    pub(super) fn bind(&mut self, call: &Call<'_>, tell: Tell<'_>) {
        let arguments = &call.arguments;
        let fd = arguments.fd(Role::Fd);
        let address = arguments.bytes(Role::Addr).and_then(|bytes| Address::read(bytes, arguments.end.order()));
        let process = self.state.process(call.pid);
        let header = call.header(EventKind::Bind, process);
        let mut socket = process.descriptors.get(fd).copied().unwrap_or_default();
        socket.kind = Kind::Socket;
        let mut raw: &[u8] = b"";
        if let Some(address) = address {
            (socket.family, socket.laddr, socket.lport) = (address.family, address.ip, address.port);
            raw = address.path;
        }
        if !matches!(socket.family, AF_INET | AF_INET6 | AF_UNIX) {
            return;
        }
        if header.ret >= 0 {
            Arc::make_mut(&mut process.descriptors).put(fd, socket, raw);
        }
        self.record.begin(size_of::<SockBody>());
        let mut body = body_of(fd, &socket);
        body.raw = self.record.text(raw, PATH);
        self.counts.records += 1;
        tell(Item::Record { number: call.number, bytes: self.record.finish(&header, &body) });
    }

    pub(super) fn listen(&mut self, call: &Call<'_>, tell: Tell<'_>) {
        let fd = call.arguments.fd(Role::Fd);
        let process = self.state.process(call.pid);
        let header = call.header(EventKind::Listen, process);
        let socket = process.descriptors.get(fd).copied().unwrap_or_default();
        self.record.begin(size_of::<SockBody>());
        let mut body = body_of(fd, &socket);
        body.backlog = call.arguments.u32(Role::Backlog);
        self.counts.records += 1;
        tell(Item::Record { number: call.number, bytes: self.record.finish(&header, &body) });
    }

    /// As live: of a TCP connection that this process made, the first bytes; datagrams to another peer than the last
    /// one, or a second later.
    pub(super) fn send(&mut self, kind: EventKind, call: &Call<'_>, tell: Tell<'_>) {
        let arguments = &call.arguments;
        let fd = arguments.fd(Role::Fd);
        let Some(process) = self.state.processes.get_mut(&call.pid) else { return };
        let known = process.descriptors.get(fd).filter(|socket| socket.is_inet());
        // Files and pipes are written to most of the time.
        if known.is_none() && process.descriptors.get(fd).is_some_and(|other| other.kind != Kind::Unknown) {
            return;
        }
        let mut socket = match known {
            Some(socket) => *socket,
            // Only these say whom they send to.
            None => Descriptor { kind: Kind::Socket, ..Descriptor::default() },
        };
        let tcp = socket.proto == TCP;
        if tcp && !socket.fresh || arguments.ret() < 0 {
            return;
        }
        if let Some(tuple) = Tuple::of(arguments).filter(|_| !tcp) {
            socket.family = tuple.family;
            (socket.laddr, socket.lport) = tuple.source;
            (socket.raddr, socket.rport) = tuple.destination;
        }
        if !socket.is_inet() {
            return;
        }
        if tcp {
            socket.fresh = false;
            if arguments.ret() == 0 {
                return;
            }
        } else {
            let peer = peer(&socket);
            if socket.told.0 == peer && call.time.saturating_sub(socket.told.1) < QUIET_NS {
                return;
            }
            socket.told = (peer, call.time);
        }
        if process.descriptors.get(fd).is_some()
            && let Some(place) = Arc::make_mut(&mut process.descriptors).get_mut(fd)
        {
            (place.fresh, place.told) = (socket.fresh, socket.told);
        } else if fd >= 0 {
            Arc::make_mut(&mut process.descriptors).put(fd, socket, b"");
        }
        let header = call.header(if tcp { EventKind::Write } else { kind }, process);
        self.record.begin(size_of::<SockBody>());
        let mut body = body_of(fd, &socket);
        body.size = arguments.u64(Role::Size);
        body.attrs |= sock_attr::CLIENT | if tcp { sock_attr::FIRST } else { 0 };
        body.data = self.record.text(arguments.bytes(Role::Data).unwrap_or_default(), DATA);
        self.counts.records += 1;
        tell(Item::Record { number: call.number, bytes: self.record.finish(&header, &body) });
    }

    pub(super) fn dup(&mut self, kind: EventKind, call: &Call<'_>, tell: Tell<'_>) {
        let old = call.arguments.fd(Role::OldFd);
        let cloexec = call.arguments.u32(Role::Flags) & super::super::flags::CLOEXEC != 0;
        let process = self.state.process(call.pid);
        let header = call.header(kind, process);
        if header.ret < 0 {
            return;
        }
        let fd = header.ret as i32;
        Arc::make_mut(&mut process.descriptors).duplicate(old, fd, cloexec);
        if fd > 2 {
            return;
        }
        let known = process.descriptors.get(fd).copied().unwrap_or_default();
        self.record.begin(size_of::<SockBody>());
        let mut body = SockBody { oldfd: old, ..body_of(fd, &known) };
        if known.kind != Kind::Unknown {
            body.path = self.record.text(process.descriptors.name(fd), PATH);
            body.attrs |= if known.kind == Kind::Socket { 0 } else { sock_attr::FILE };
        }
        self.counts.records += 1;
        tell(Item::Record { number: call.number, bytes: self.record.finish(&header, &body) });
    }

    pub(super) fn fcntl(&mut self, call: &Call<'_>) {
        let command = call.arguments.u32(Role::A0);
        let ret = call.arguments.ret();
        if ret >= 0 && matches!(command, F_DUPFD | F_DUPFD_CLOEXEC) {
            let process = self.state.process(call.pid);
            let old = call.arguments.fd(Role::OldFd);
            Arc::make_mut(&mut process.descriptors).duplicate(old, ret as i32, command == F_DUPFD_CLOEXEC);
        }
    }

    pub(super) fn pair(&mut self, call: &Call<'_>) {
        if call.arguments.ret() < 0 {
            return;
        }
        let type_ = call.arguments.u32(Role::A1);
        let descriptor = Descriptor {
            kind: Kind::Socket,
            cloexec: type_ & SOCK_CLOEXEC != 0,
            family: AF_UNIX,
            type_: type_ as u16 & 0xf,
            ..Descriptor::default()
        };
        let process = self.state.process(call.pid);
        let table = Arc::make_mut(&mut process.descriptors);
        for end in [Role::Fd, Role::Fd2] {
            table.put(call.arguments.fd(end), descriptor, b"");
        }
    }
}

/// A number for whom a datagram goes to; not 0.
fn peer(socket: &Descriptor) -> u64 {
    let (low, high) = socket.raddr.split_at(8);
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_ne_bytes);
    (word(low) ^ word(high) ^ u64::from(socket.rport) << 48) | 1
}
