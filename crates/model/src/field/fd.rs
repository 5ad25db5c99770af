//! Fields about the descriptor, file or connection that an event is about.

use std::io::Write as _;
use std::net::IpAddr;

use bumpalo::collections::Vec as BumpVec;

use super::Arg;
use super::container::container_id;
use crate::event::{Event, EventKind};
use crate::raw::{AF_INET, AF_INET6, AF_UNIX, Body, FileBody, SockBody, Str, attr, sock_attr};
use crate::services;
use crate::value::Value;

/// `O_DIRECTORY` of open.
const O_DIRECTORY: u32 = 0o200_000;

/// The body of an open, if the event is one.
pub(super) fn open_body<'e>(event: &Event<'e>) -> Option<&'e FileBody> {
    use EventKind::{Creat, Open, OpenByHandleAt, Openat, Openat2};
    match event.kind() {
        Open | Openat | Openat2 | Creat | OpenByHandleAt => event.raw.file(),
        _ => None,
    }
}

/// What decides most fields of an open; opens of the same file in the same way are equal in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened<'e> {
    /// Kind of the event, flags, mode and attributes, and whether the path is a resolved one.
    pub how: u128,
    /// The path: resolved by the kernel, or if it was not (the call failed), as the caller wrote it.
    pub path: &'e [u8],
}

impl<'e> Opened<'e> {
    /// Of an event; `None` if it is not an open, or one of a path that is relative to some directory.
    pub fn of(event: &Event<'e>) -> Option<Self> {
        let body = open_body(event)?;
        let (resolved, raw) = (event.raw.text(body.path), event.raw.text(body.raw));
        let (path, mark) = if resolved.is_empty() { (raw, 1 << 31) } else { (resolved, 0) };
        let numbers = [event.kind() as u32 | mark, body.flags, body.mode, body.attrs];
        let how = numbers.into_iter().fold(0, |how, number| how << 32 | u128::from(number));
        let one = mark == 0 || path.starts_with(b"/");
        (one && event.raw.text(body.raw2).is_empty()).then_some(Self { how, path })
    }
}

/// The path that a call on files is about: the kernel object's if there is one, else put together.
pub(super) fn file_path<'e>(event: &Event<'e>, body: &FileBody) -> &'e [u8] {
    let path = event.raw.text(body.path);
    if path.is_empty() { named(event, body.base, body.raw) } else { path }
}

/// The same as [`joined`], but for calls that may be given a descriptor and no path: then the descriptor's path.
pub(super) fn named<'e>(event: &Event<'e>, base: Str, raw: Str) -> &'e [u8] {
    use EventKind::{Fchownat, Fspick, Linkat, MountSetattr, MoveMount, OpenTree};
    let by_descriptor = matches!(event.kind(), MoveMount | OpenTree | MountSetattr | Fspick | Fchownat | Linkat);
    if by_descriptor && event.raw.text(raw).is_empty() { event.raw.text(base) } else { joined(event, base, raw) }
}

/// `raw` made absolute with `base` and freed of `.`, `..` and doubled slashes, as text: symbolic links are
/// not looked at.
pub(super) fn joined<'e>(event: &Event<'e>, base: Str, raw: Str) -> &'e [u8] {
    let raw = event.raw.text(raw);
    if raw.is_empty() {
        return raw;
    }
    let base = if raw.starts_with(b"/") { b"".as_slice() } else { event.raw.text(base) };
    if raw.len() > 1 && base.is_empty() && raw.starts_with(b"/") && is_plain(raw) {
        return raw;
    }
    let mut path = BumpVec::with_capacity_in(base.len() + raw.len() + 2, event.scratch);
    for component in base.split(|byte| *byte == b'/').chain(raw.split(|byte| *byte == b'/')) {
        match component {
            b"" | b"." => {}
            b".." => {
                let parent = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                path.truncate(parent);
            }
            name => {
                path.push(b'/');
                path.extend_from_slice_copy(name);
            }
        }
    }
    if path.is_empty() {
        path.push(b'/');
    }
    path.into_bump_slice()
}

/// Whether a path has no doubled slash, none at its end, and no component that begins with a dot.
fn is_plain(path: &[u8]) -> bool {
    if path.ends_with(b"/") {
        return false;
    }
    let next = path.get(1..).unwrap_or_default();
    // Without an early end, so that the compiler looks at many bytes at once.
    !path
        .iter()
        .zip(next)
        .fold(false, |odd, (byte, next)| odd | ((*byte == b'/') & ((*next == b'/') | (*next == b'.'))))
}

fn sock<'e>(event: &Event<'e>) -> Option<&'e SockBody> {
    event.raw.sock()
}

fn is_inet(body: &SockBody) -> bool {
    (body.family == AF_INET || body.family == AF_INET6) && !body.has(sock_attr::FILE)
}

/// Whether the process is the client, where the event tells; else guessed: the higher port is the client's.
fn is_client(body: &SockBody) -> bool {
    if body.has(sock_attr::CLIENT) {
        true
    } else if body.has(sock_attr::SERVER) {
        false
    } else {
        body.lport >= body.rport
    }
}

/// Client and server ends, each with its port.
fn ends(body: &SockBody) -> Option<((IpAddr, u16), (IpAddr, u16))> {
    let local = (body.local()?, body.lport);
    let remote = (body.remote()?, body.rport);
    Some(if is_client(body) { (local, remote) } else { (remote, local) })
}

fn write_end(text: &mut BumpVec<'_, u8>, (ip, port): (IpAddr, u16)) {
    // A vector's write cannot fail.
    let _ = match ip {
        IpAddr::V4(ip) => write!(text, "{ip}:{port}"),
        IpAddr::V6(ip) => write!(text, "{ip}:{port}"),
    };
}

pub(super) fn name<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    if let Some(body) = open_body(event) {
        return Some(Value::Text(file_path(event, body)));
    }
    match event.raw.body {
        Body::File(body) if matches!(event.kind(), EventKind::Fchmod | EventKind::Fchown | EventKind::Fchdir) => {
            Some(Value::Text(file_path(event, body)))
        }
        Body::Sock(body) if is_inet(body) => {
            let mut text = BumpVec::with_capacity_in(96, event.scratch);
            if event.kind().has_socket_id() {
                write_end(&mut text, (body.local()?, body.lport));
            } else {
                let (client, server) = ends(body)?;
                write_end(&mut text, client);
                text.extend_from_slice(b"->");
                write_end(&mut text, server);
            }
            Some(Value::Text(text.into_bump_slice()))
        }
        Body::Sock(body) => {
            let path = event.raw.text(body.path);
            Some(Value::Text(if path.is_empty() { event.raw.text(body.raw) } else { path }))
        }
        _ => None,
    }
}

pub(super) fn name_raw<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    if let Some(body) = open_body(event) {
        return Some(Value::Text(event.raw.text(body.raw)));
    }
    sock(event).filter(|body| body.family == AF_UNIX).map(|body| Value::Text(event.raw.text(body.raw)))
}

fn opened_path<'e>(event: &Event<'e>) -> Option<&'e [u8]> {
    open_body(event).map(|body| file_path(event, body))
}

pub(super) fn directory<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let path = opened_path(event)?;
    let slash = path.iter().rposition(|byte| *byte == b'/')?;
    Some(Value::Text(if slash == 0 { b"/" } else { &path[..slash] }))
}

pub(super) fn filename<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let body = open_body(event)?;
    if type_of_file(body) != b"file" {
        return None;
    }
    let path = file_path(event, body);
    Some(Value::Text(path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()))
}

pub(super) fn num<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let number = match event.raw.body {
        Body::File(_) if open_body(event).is_some() => event.raw.header.ret.max(-1),
        Body::File(body) if body.fd >= 0 => body.fd.into(),
        Body::Sock(body) if matches!(event.kind(), EventKind::Dup | EventKind::Dup2 | EventKind::Dup3) => {
            event.raw.header.ret.max(-1).max(if event.raw.header.ret < 0 { body.oldfd.into() } else { -1 })
        }
        Body::Sock(body) => body.fd.into(),
        _ => return None,
    };
    Some(Value::Int(number))
}

fn type_of_file(body: &FileBody) -> &'static [u8] {
    if body.attrs & attr::DIR != 0 || body.flags & O_DIRECTORY != 0 {
        b"directory"
    } else if body.attrs & attr::MEMFD != 0 {
        b"memfd"
    } else {
        b"file"
    }
}

pub(super) fn type_name<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let name: &'static [u8] = match event.raw.body {
        Body::File(body) if open_body(event).is_some() || body.fd >= 0 => type_of_file(body),
        Body::Sock(body) if body.has(sock_attr::FILE) => {
            let path = event.raw.text(body.path);
            if path.starts_with(b"pipe:") || path.is_empty() { b"pipe" } else { b"file" }
        }
        Body::Sock(body) => match body.family {
            AF_INET => b"ipv4",
            AF_INET6 => b"ipv6",
            AF_UNIX => b"unix",
            _ => return None,
        },
        _ => return None,
    };
    Some(Value::Text(name))
}

pub(super) fn type_char<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    let Some(Value::Text(name)) = type_name(event, arg) else { return None };
    Some(Value::Text(match name {
        b"directory" => b"d",
        b"memfd" => b"m",
        b"file" => b"f",
        b"pipe" => b"p",
        b"ipv4" => b"4",
        b"ipv6" => b"6",
        b"unix" => b"u",
        _ => b"o",
    }))
}

fn inet<'e>(event: &Event<'e>) -> Option<&'e SockBody> {
    sock(event).filter(|body| is_inet(body))
}

fn only_local(event: &Event<'_>) -> bool {
    event.kind().has_socket_id()
}

pub(super) fn any_ip<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let body = inet(event)?;
    let (client, server) = ends(body)?;
    Some(Value::Any(event.scratch.alloc([Value::Ip(client.0), Value::Ip(server.0)])))
}

pub(super) fn any_port<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let body = inet(event)?;
    Some(Value::Any(event.scratch.alloc([Value::Uint(body.lport.into()), Value::Uint(body.rport.into())])))
}

pub(super) fn client_ip<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let body = inet(event)?;
    if only_local(event) { None } else { Some(Value::Ip(ends(body)?.0.0)) }
}

pub(super) fn server_ip<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let body = inet(event)?;
    Some(Value::Ip(if only_local(event) { body.local()? } else { ends(body)?.1.0 }))
}

pub(super) fn local_ip<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    inet(event)?.local().map(Value::Ip)
}

pub(super) fn remote_ip<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let body = inet(event)?;
    if only_local(event) { None } else { body.remote().map(Value::Ip) }
}

pub(super) fn client_port<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let body = inet(event)?;
    if only_local(event) { None } else { Some(Value::Uint(ends(body)?.0.1.into())) }
}

pub(super) fn server_port<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let body = inet(event)?;
    Some(Value::Uint(if only_local(event) { body.lport } else { ends(body)?.1.1 }.into()))
}

pub(super) fn local_port<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    inet(event).map(|body| Value::Uint(body.lport.into()))
}

pub(super) fn remote_port<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let body = inet(event)?;
    if only_local(event) { None } else { Some(Value::Uint(body.rport.into())) }
}

fn service<'e>(event: &Event<'e>, port: Option<Value<'e>>) -> Option<Value<'e>> {
    let Some(Value::Uint(port)) = port else { return None };
    if let Some(name) = u16::try_from(port).ok().and_then(services::name) {
        return Some(Value::Text(name.as_bytes()));
    }
    let mut text = BumpVec::new_in(event.scratch);
    // A vector's write cannot fail.
    let _ = write!(text, "{port}");
    Some(Value::Text(text.into_bump_slice()))
}

pub(super) fn client_service<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    service(event, client_port(event, arg))
}

pub(super) fn server_service<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    service(event, server_port(event, arg))
}

pub(super) fn local_service<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    service(event, local_port(event, arg))
}

pub(super) fn remote_service<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    service(event, remote_port(event, arg))
}

pub(super) fn uid<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    let Some(Value::Int(number)) = num(event, arg) else { return None };
    let mut text = BumpVec::new_in(event.scratch);
    // A vector's write cannot fail.
    let _ = write!(text, "{}{number}", event.raw.header.tid);
    Some(Value::Text(text.into_bump_slice()))
}

fn in_container<'e>(event: &Event<'e>, name: Option<Value<'e>>) -> Option<Value<'e>> {
    let (Some(Value::Text(name)), Some(Value::Text(id))) = (name, container_id(event, &Arg::None)) else { return None };
    let mut text = BumpVec::with_capacity_in(id.len() + name.len() + 1, event.scratch);
    text.extend_from_slice(id);
    text.push(b':');
    text.extend_from_slice(name);
    Some(Value::Text(text.into_bump_slice()))
}

pub(super) fn container_name<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    in_container(event, name(event, arg))
}

pub(super) fn container_directory<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    in_container(event, directory(event, arg))
}

/// Names that are known without asking a resolver: those that the container looked up itself, and the API server's, from
/// the environment that Kubernetes gives each container.
fn ip_name<'e>(event: &Event<'e>, ip: Option<Value<'e>>) -> Option<Value<'e>> {
    let Some(Value::Ip(ip)) = ip else { return None };
    if let Some(name) = event.names.of(ip, event.raw.header.time) {
        return Some(Value::Text(name.as_bytes()));
    }
    let api_server = event.process.image.env().find_map(|var| var.strip_prefix(b"KUBERNETES_SERVICE_HOST="))?;
    let api_server: IpAddr = std::str::from_utf8(api_server).ok()?.parse().ok()?;
    (ip == api_server).then_some(Value::Text(b"kubernetes.default.svc.cluster.local"))
}

pub(super) fn client_ip_name<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    ip_name(event, client_ip(event, arg))
}

pub(super) fn server_ip_name<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    ip_name(event, server_ip(event, arg))
}

pub(super) fn local_ip_name<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    ip_name(event, local_ip(event, arg))
}

pub(super) fn remote_ip_name<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    ip_name(event, remote_ip(event, arg))
}

pub(super) fn l4proto<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let body = sock(event)?;
    Some(Value::Text(if is_inet(body) { protocol(body) } else { b"<NA>" }))
}

fn protocol(body: &SockBody) -> &'static [u8] {
    match (body.proto, body.type_) {
        (6, _) => b"tcp",
        (17, _) => b"udp",
        (1 | 58, _) => b"icmp",
        (_, 3) => b"raw",
        (0, 1) => b"tcp",
        (0, 2) => b"udp",
        _ => b"<NA>",
    }
}

pub(super) fn family<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    match sock(event)?.family {
        AF_INET | AF_INET6 => Some(Value::Text(b"ip")),
        AF_UNIX => Some(Value::Text(b"unix")),
        _ => None,
    }
}

pub(super) fn is_server<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    inet(event).map(|body| Value::Bool(!is_client(body)))
}

pub(super) fn connected<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    inet(event).map(|body| Value::Bool(body.has(sock_attr::CONNECTED)))
}

pub(super) fn name_changed<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let body = inet(event)?;
    let sends = matches!(event.kind(), EventKind::Sendto | EventKind::Sendmsg);
    Some(Value::Bool(!sends || !body.has(sock_attr::CONNECTED)))
}

pub(super) fn dev<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    open_body(event).filter(|_| event.raw.header.ret >= 0).map(|body| Value::Int(body.dev.into()))
}

/// Major number of the kernel's internal device encoding (12 bits major, 20 bits minor).
pub(super) fn dev_major<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    open_body(event).filter(|_| event.raw.header.ret >= 0).map(|body| Value::Int((body.dev >> 20).into()))
}

pub(super) fn dev_minor<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    open_body(event).filter(|_| event.raw.header.ret >= 0).map(|body| Value::Int((body.dev & 0xf_ffff).into()))
}

pub(super) fn ino<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    if let Some(socket) = event.raw.socket_id() {
        return Some(Value::Int(socket.ino as i64));
    }
    open_body(event).filter(|_| event.raw.header.ret >= 0).map(|body| Value::Int(body.ino as i64))
}

pub(super) fn upper_layer<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    open_body(event).map(|body| Value::Bool(body.attrs & attr::UPPER != 0))
}

pub(super) fn lower_layer<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    open_body(event).map(|body| Value::Bool(body.attrs & attr::LOWER != 0))
}

/// The one path of a call on a path, or the new one of a call with two.
pub(super) fn fs_path<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let body = event.raw.file()?;
    let two = event.kind() == EventKind::MoveMount || !event.raw.text(body.raw2).is_empty();
    Some(Value::Text(if two { named(event, body.base2, body.raw2) } else { file_path(event, body) }))
}

pub(super) fn fs_path_raw<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let body = event.raw.file()?;
    let raw2 = event.raw.text(body.raw2);
    Some(Value::Text(if raw2.is_empty() { event.raw.text(body.raw) } else { raw2 }))
}

fn source(event: &Event<'_>) -> Option<(Str, Str)> {
    use EventKind::{Link, Linkat, Mount, MoveMount, Rename, Renameat, Renameat2, Symlink, Symlinkat};
    let body = event.raw.file()?;
    match event.kind() {
        Rename | Renameat | Renameat2 | Link | Linkat | MoveMount => Some((body.base, body.raw)),
        Symlink | Symlinkat | Mount => Some((Str::default(), body.extra)),
        _ => None,
    }
}

pub(super) fn fs_source<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let (base, raw) = source(event)?;
    Some(Value::Text(named(event, base, raw)))
}

pub(super) fn fs_source_raw<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Text(event.raw.text(source(event)?.1)))
}

fn target(event: &Event<'_>) -> Option<(Str, Str)> {
    use EventKind::{Link, Linkat, Mount, MoveMount, Rename, Renameat, Renameat2, Symlink, Symlinkat};
    let body = event.raw.file()?;
    match event.kind() {
        Rename | Renameat | Renameat2 | Link | Linkat | MoveMount => Some((body.base2, body.raw2)),
        Symlink | Symlinkat | Mount => Some((body.base, body.raw)),
        _ => None,
    }
}

pub(super) fn fs_target<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let (base, raw) = target(event)?;
    Some(Value::Text(named(event, base, raw)))
}

pub(super) fn fs_target_raw<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Text(event.raw.text(target(event)?.1)))
}
