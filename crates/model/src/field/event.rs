//! Fields about the event itself: its type, time, result and parameters.

use std::io::Write as _;

use bumpalo::collections::Vec as BumpVec;

use super::{Arg, call, fd, flow, network};
use crate::event::{Event, EventKind};
use crate::flags;
use crate::raw::{Body, F_PRESUMED, F_RING, Str, attr};
use crate::value::Value;

pub(super) fn num<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Uint(event.num))
}

pub(super) fn time<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Int(event.wall_ns as i64))
}

pub(super) fn time_s<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Int((event.wall_ns / 1_000_000_000) as i64))
}

pub(super) fn time_ns<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Int((event.wall_ns % 1_000_000_000) as i64))
}

pub(super) fn source<'e>(_: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Text(b"syscall"))
}

pub(super) fn is_async<'e>(_: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Bool(false))
}

/// Enter events do not exist.
pub(super) fn dir<'e>(_: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Text(b"<"))
}

pub(super) fn kind<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Text(event.kind().name().as_bytes()))
}

pub(super) fn category<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Text(event.raw.info().category.as_bytes()))
}

pub(super) fn cpu<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Int(event.raw.header.cpu.into()))
}

fn has_result(event: &Event<'_>) -> bool {
    event.kind() != EventKind::Procexit
}

pub(super) fn res<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let ret = event.raw.header.ret;
    if !has_result(event) {
        None
    } else if ret >= 0 {
        Some(Value::Text(b"SUCCESS"))
    } else {
        Some(Value::Text(errno(event, ret)))
    }
}

fn errno<'e>(event: &Event<'e>, ret: i64) -> &'e [u8] {
    match flags::name_of(flags::ERRNO, ret.unsigned_abs()) {
        Some(name) => name.as_bytes(),
        None => decimal(event, ret),
    }
}

pub(super) fn decimal<'e>(event: &Event<'e>, number: i64) -> &'e [u8] {
    let mut text = BumpVec::new_in(event.scratch);
    // A vector's write cannot fail.
    let _ = write!(text, "{number}");
    text.into_bump_slice()
}

pub(super) fn raw_res<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    has_result(event).then_some(Value::Int(event.raw.header.ret))
}

pub(super) fn failed<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Bool(has_result(event) && event.raw.header.ret < 0))
}

pub(super) fn one<'e>(_: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Uint(1))
}

/// Opens like this one that were counted only.
pub(super) fn repeated<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let opens = matches!(event.raw.kind(), EventKind::Open | EventKind::Openat | EventKind::Openat2);
    let folded = event.raw.file().filter(|_| opens).map(|body| body.uid.into());
    folded.map(Value::Uint)
}

/// Latencies: there are no enter events to count from.
pub(super) fn zero<'e>(_: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Int(0))
}

fn failed_as<'e>(event: &Event<'e>, is_class: impl FnOnce(&str) -> bool) -> Option<Value<'e>> {
    let failed = has_result(event) && event.raw.header.ret < 0;
    (failed && is_class(event.raw.info().category)).then_some(Value::Uint(1))
}

pub(super) fn error<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    failed_as(event, |_| true)
}

pub(super) fn file_error<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    failed_as(event, |class| class == "file")
}

pub(super) fn net_error<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    failed_as(event, |class| class == "net")
}

pub(super) fn memory_error<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    failed_as(event, |class| class == "memory")
}

pub(super) fn other_error<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    failed_as(event, |class| !matches!(class, "file" | "net" | "memory"))
}

pub(super) fn is_wait<'e>(_: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Bool(false))
}

pub(super) fn is_syslog<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let to_log = event.raw.sock().filter(|_| sent(event)).is_some_and(|body| {
        let log = |path: Str| matches!(event.raw.text(path), b"/dev/log" | b"/run/systemd/journal/dev-log");
        log(body.path) || log(body.raw)
    });
    Some(Value::Bool(to_log))
}

/// `evt.type.is.NAME`
pub(super) fn type_is<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    let Arg::Key(name) = arg else { return None };
    Some(Value::Uint((EventKind::from_name(name) == Some(event.kind())).into()))
}

/// `evt.abspath`, and `.src` and `.dst` of calls with two paths.
pub(super) fn abspath<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    use EventKind::{
        Fchmodat, Fchownat, Linkat, Mkdirat, Mknodat, OpenByHandleAt, Openat, Openat2, Renameat, Renameat2, Setxattrat,
        Symlinkat, Unlinkat,
    };
    let body = event.raw.file()?;
    let part = if let Arg::Key(part) = arg { Some(&**part) } else { None };
    let path = match (event.kind(), part) {
        (Openat | Openat2 | OpenByHandleAt, None) => fd::file_path(event, body),
        (Unlinkat | Mkdirat | Mknodat | Fchmodat | Fchownat | Symlinkat | Setxattrat, None)
        | (Renameat | Renameat2 | Linkat, None | Some("src")) => fd::joined(event, body.base, body.raw),
        (Renameat | Renameat2 | Linkat, Some("dst")) => fd::joined(event, body.base2, body.raw2),
        _ => return None,
    };
    Some(Value::Text(path))
}

pub(super) fn is_open_read<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    fd::open_body(event).map(|body| Value::Bool(matches!(body.flags & 3, 0 | 2)))
}

pub(super) fn is_open_write<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    fd::open_body(event).map(|body| Value::Bool(matches!(body.flags & 3, 1 | 2)))
}

pub(super) fn is_open_create<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    fd::open_body(event).map(|body| Value::Bool(body.attrs & attr::CREATED != 0))
}

pub(super) fn is_open_exec<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    fd::open_body(event).map(|body| Value::Bool(body.attrs & attr::CREATED != 0 && body.mode & 0o111 != 0))
}

fn sent(event: &Event<'_>) -> bool {
    matches!(event.kind(), EventKind::Sendto | EventKind::Sendmsg | EventKind::Write)
}

pub(super) fn is_io_uring<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Bool(event.raw.header.flags & F_RING != 0))
}

pub(super) fn is_io<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Bool(sent(event)))
}

pub(super) fn is_io_read<'e>(_: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Bool(false))
}

pub(super) fn io_dir<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    sent(event).then_some(Value::Text(b"write"))
}

pub(super) fn buffer<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let body = event.raw.sock().filter(|_| sent(event))?;
    Some(Value::Text(event.raw.text(body.data)))
}

pub(super) fn buflen<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    event.raw.sock().filter(|_| sent(event)).map(|body| Value::Uint(body.size))
}

/// `evt.arg.NAME` and `evt.arg[n]`: the text form.
pub(super) fn arg<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    param(event, arg).map(|value| Value::Text(value.text(event)))
}

/// `evt.rawarg.NAME`: the number or the bytes.
pub(super) fn raw_arg<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    Some(match param(event, arg)? {
        Param::Number(number) | Param::Result(number) | Param::Octal(number) => Value::Int(number),
        Param::Named(number, _) => Value::Int(number as i64),
        Param::Descriptor(number) => Value::Int(number.into()),
        Param::Text(text) => Value::Text(text),
    })
}

/// `name=value` for each parameter, joined by blanks.
pub(super) fn args<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let mut text = BumpVec::new_in(event.scratch);
    for name in event.raw.info().params {
        let Some(value) = by_name(event, name) else { continue };
        if !text.is_empty() {
            text.push(b' ');
        }
        text.extend_from_slice(name.as_bytes());
        text.push(b'=');
        let named = value.text(event);
        match value {
            Param::Named(number, _) => {
                let _ = write!(text, "{number}(");
                text.extend_from_slice(named);
                text.push(b')');
            }
            _ => text.extend_from_slice(named),
        }
    }
    Some(Value::Text(text.into_bump_slice()))
}

/// A parameter of an event.
pub(super) enum Param<'e> {
    Number(i64),
    /// A result: errno names for negative numbers.
    Result(i64),
    /// A number with the text that it stands for.
    Named(u64, &'e [u8]),
    Octal(i64),
    Descriptor(i32),
    Text(&'e [u8]),
}

impl<'e> Param<'e> {
    fn text(&self, event: &Event<'e>) -> &'e [u8] {
        match *self {
            Self::Number(number) => decimal(event, number),
            Self::Result(number) if number < 0 => errno(event, number),
            Self::Result(number) => decimal(event, number),
            Self::Named(_, text) | Self::Text(text) => text,
            Self::Octal(number) => {
                let mut text = BumpVec::new_in(event.scratch);
                let _ = write!(text, "0{number:o}");
                text.into_bump_slice()
            }
            Self::Descriptor(number) => descriptor(event, number),
        }
    }
}

/// `<f>/path` if the event tells what the descriptor is, else its number.
fn descriptor<'e>(event: &Event<'e>, number: i32) -> &'e [u8] {
    match (fd::type_char(event, &Arg::None), fd::name(event, &Arg::None)) {
        (Some(Value::Text(kind)), Some(Value::Text(name))) if !name.is_empty() => {
            let mut text = BumpVec::with_capacity_in(name.len() + 3, event.scratch);
            text.push(b'<');
            text.extend_from_slice(kind);
            text.push(b'>');
            text.extend_from_slice(name);
            text.into_bump_slice()
        }
        _ => decimal(event, number.into()),
    }
}

fn param<'e>(event: &Event<'e>, arg: &Arg) -> Option<Param<'e>> {
    match arg {
        Arg::Key(name) => by_name(event, name),
        Arg::Index(n) => by_name(event, event.raw.info().params.get(*n as usize)?),
        Arg::None => None,
    }
}

fn by_name<'e>(event: &Event<'e>, name: &str) -> Option<Param<'e>> {
    if !event.raw.info().params.contains(&name) {
        return None;
    }
    let header = event.raw.header;
    match name {
        "res" => return Some(Param::Result(header.ret)),
        "pid" if !matches!(event.raw.body, Body::Call(_)) => return Some(Param::Number(header.pid.into())),
        "tid" if !matches!(event.raw.body, Body::Call(_)) => return Some(Param::Number(header.tid.into())),
        _ => {}
    }
    match event.raw.body {
        Body::Fork(_) | Body::Exec(_) => process_param(event, name),
        Body::Exit(body) => Some(Param::Number(match name {
            "ret" => (body.code >> 8 & 0xff).into(),
            "sig" => (body.code & 0x7f).into(),
            "core" => (body.code >> 7 & 1).into(),
            _ => body.code.into(),
        })),
        Body::File(_) => file_param(event, name),
        Body::Sock(_) => sock_param(event, name),
        Body::Call(_) => call_param(event, name),
        Body::Resource(body) => super::resource::param(body, name).map(|number| Param::Number(number as i64)),
    }
}

fn process_param<'e>(event: &Event<'e>, name: &str) -> Option<Param<'e>> {
    let process = event.process;
    let image = &process.image;
    let text = |bytes: &'e [u8]| Some(Param::Text(bytes));
    let body = event.raw.exec();
    match name {
        "exe" => text(&image.exe),
        "args" => text(&image.args),
        "cwd" => text(&process.cwd),
        "comm" => text(&process.comm),
        "env" => text(&image.env),
        "trusted_exepath" => text(&image.exepath),
        "filename" => text(event.raw.text(body?.filename)),
        "flags" if body.is_none() => {
            let Body::Fork(fork) = event.raw.body else { return None };
            text(flags::join_bits(event.scratch, flags::CLONE, fork.flags))
        }
        "flags" => {
            let mut names = BumpVec::new_in(event.scratch);
            let file = &image.file;
            for (set, name) in [
                (file.writable, "EXE_WRITABLE"),
                (file.upper_layer, "EXE_UPPER_LAYER"),
                (file.memfd, "EXE_FROM_MEMFD"),
                (file.lower_layer, "EXE_LOWER_LAYER"),
            ] {
                if set {
                    flags::push_name(&mut names, name);
                }
            }
            if names.is_empty() {
                names.push(b'0');
            }
            text(names.into_bump_slice())
        }
        "uid" => Some(Param::Named(process.cred.uid.into(), user(event, process.cred.uid.into()))),
        "cap_effective" => text(flags::join_capabilities(event.scratch, process.cred.cap_effective)),
        "cap_permitted" => text(flags::join_capabilities(event.scratch, process.cred.cap_permitted)),
        "cap_inheritable" => text(flags::join_capabilities(event.scratch, process.cred.cap_inheritable)),
        "ptid" => Some(Param::Number(process.parent?.pid.into())),
        "gid" => Some(Param::Number(process.cred.gid.into())),
        "tty" => Some(Param::Number(process.tty.into())),
        "pgid" => Some(Param::Number(process.pgid.into())),
        "vpgid" => Some(Param::Number(process.vpgid.into())),
        "vpid" => Some(Param::Number(process.vpid.into())),
        "loginuid" => Some(Param::Number(i64::from(process.cred.loginuid as i32))),
        "exe_ino" => Some(Param::Number(image.file.ino as i64)),
        "exe_ino_ctime" => Some(Param::Number(image.file.ctime_ns as i64)),
        "exe_ino_mtime" => Some(Param::Number(image.file.mtime_ns as i64)),
        _ => None,
    }
}

/// The name of a user, known for root and for the user that the process runs as.
pub(super) fn user<'e>(event: &Event<'e>, uid: u64) -> &'e [u8] {
    let names = &event.process.names;
    if uid == u64::from(event.process.cred.uid) && !names.user.is_empty() {
        names.user.as_bytes()
    } else if uid == 0 {
        b"root"
    } else {
        b"<NA>"
    }
}

fn file_param<'e>(event: &Event<'e>, name: &str) -> Option<Param<'e>> {
    use EventKind::{
        Chmod, Creat, Fchmod, Fchmodat, Fsetxattr, Lsetxattr, Mknod, Mknodat, Mount, MountSetattr, MoveMount,
        OpenByHandleAt, OpenTree, PivotRoot, Setxattr, Setxattrat, Umount2,
    };
    let body = event.raw.file()?;
    let kind = event.kind();
    let joined = |base: Str, raw: Str| Some(Param::Text(fd::named(event, base, raw)));
    let bits = |names, bits: u32| Param::Named(bits.into(), flags::join_bits(event.scratch, names, bits.into()));
    match name {
        "fd" if matches!(event.kind(), Fchmod | Fsetxattr | EventKind::Fchown | EventKind::Fchdir) => {
            Some(Param::Descriptor(body.fd))
        }
        "fd" if event.raw.header.ret < 0 || event.raw.header.flags & F_PRESUMED != 0 => {
            Some(Param::Result(event.raw.header.ret))
        }
        "fd" => Some(Param::Descriptor(event.raw.header.ret as i32)),
        "dirfd" | "olddirfd" | "olddir" | "linkdirfd" | "mountfd" => Some(Param::Number(body.dirfd.into())),
        "newdirfd" | "newdir" => Some(Param::Number(body.dirfd2.into())),
        "target" | "dev" if !event.raw.text(body.extra).is_empty() => Some(Param::Text(event.raw.text(body.extra))),
        "dev" if matches!(kind, Mknod | Mknodat) => Some(Param::Number(body.uid.into())),
        "dev" => Some(Param::Number(body.dev.into())),
        "ino" => Some(Param::Number(body.ino as i64)),
        "type" => Some(Param::Text(event.raw.text(body.raw2))),
        "newpath" if kind == PivotRoot => joined(body.base, body.raw),
        "oldpath" if kind == PivotRoot => joined(body.base2, body.raw2),
        "newpath" => joined(body.base2, body.raw2),
        "path" if kind == OpenByHandleAt => Some(Param::Text(event.raw.text(body.path))),
        "path" if kind == OpenTree => Some(Param::Text(fd::file_path(event, body))),
        "attr_set" => Some(bits(flags::MOUNT_ATTR, body.mode)),
        "attr_clr" => Some(bits(flags::MOUNT_ATTR, body.uid)),
        "propagation" => Some(bits(flags::MOUNT, body.gid)),
        "flags" if kind == MoveMount => Some(bits(flags::MOVE_MOUNT, body.flags)),
        "flags" if matches!(kind, OpenTree | MountSetattr) => Some(bits(flags::TREE, body.flags)),
        "name" if matches!(kind, Setxattr | Lsetxattr | Fsetxattr | Setxattrat) => {
            Some(Param::Text(event.raw.text(body.extra)))
        }
        "name" | "path" | "filename" | "pathname" | "oldpath" | "linkpath" | "dir" => joined(body.base, body.raw),
        "mode" if matches!(kind, Chmod | Fchmod | Fchmodat) => {
            Some(Param::Named(body.mode.into(), flags::join_bits(event.scratch, flags::MODE, body.mode.into())))
        }
        "mode" if matches!(kind, Mknod | Mknodat) => Some(Param::Named(body.mode.into(), node_mode(event, body.mode))),
        "mode" => Some(Param::Octal(body.mode.into())),
        "flags" if kind == Mount => {
            Some(Param::Named(body.flags.into(), flags::join_bits(event.scratch, flags::MOUNT, body.flags.into())))
        }
        "flags" if kind == EventKind::Unlinkat && body.flags & 0x200 != 0 => {
            Some(Param::Named(body.flags.into(), b"AT_REMOVEDIR"))
        }
        "flags" if fd::open_body(event).is_some() => Some(Param::Named(body.flags.into(), open_flags(event, body))),
        "creat_flags" if kind == Creat && body.attrs & attr::CREATED != 0 => Some(Param::Text(b"O_F_CREATED")),
        "flags" if kind == Umount2 => Some(Param::Number(body.flags.into())),
        "flags" | "creat_flags" => Some(Param::Number(body.flags.into())),
        "uid" => Some(Param::Named(body.uid.into(), user(event, body.uid.into()))),
        "gid" => Some(Param::Number(body.gid.into())),
        _ => None,
    }
}

/// What a node is, and its permissions: `S_IFBLK|S_IRUSR`.
fn node_mode<'e>(event: &Event<'e>, mode: u32) -> &'e [u8] {
    let kind = match mode & 0o170_000 {
        0o010_000 => "S_IFIFO",
        0o020_000 => "S_IFCHR",
        0o060_000 => "S_IFBLK",
        0o140_000 => "S_IFSOCK",
        // Without a kind it is a plain file.
        0 | 0o100_000 => "S_IFREG",
        _ => "0",
    };
    let mut text = BumpVec::new_in(event.scratch);
    text.extend_from_slice(kind.as_bytes());
    let rights = mode & 0o7777;
    if rights != 0 {
        text.push(b'|');
        text.extend_from_slice(flags::join_bits(event.scratch, flags::MODE, rights.into()));
    }
    text.into_bump_slice()
}

fn open_flags<'e>(event: &Event<'e>, body: &crate::raw::FileBody) -> &'e [u8] {
    let mut text = BumpVec::new_in(event.scratch);
    flags::push_open(&mut text, body.flags);
    for (bit, name) in
        [(attr::CREATED, "O_F_CREATED"), (attr::UPPER, "FD_UPPER_LAYER"), (attr::LOWER, "FD_LOWER_LAYER")]
    {
        if body.attrs & bit != 0 {
            flags::push_name(&mut text, name);
        }
    }
    text.into_bump_slice()
}

fn sock_param<'e>(event: &Event<'e>, name: &str) -> Option<Param<'e>> {
    let body = event.raw.sock()?;
    match name {
        "fd" => Some(Param::Descriptor(body.fd)),
        "oldfd" => Some(Param::Number(body.oldfd.into())),
        "newfd" => Some(Param::Number(body.fd.into())),
        "backlog" => Some(Param::Number(body.backlog.into())),
        "size" => Some(Param::Number(body.size as i64)),
        "data" => Some(Param::Text(event.raw.text(body.data))),
        "tuple" | "addr" => match fd::name(event, &Arg::None)? {
            Value::Text(text) => Some(Param::Text(text)),
            _ => None,
        },
        "flags" => Some(Param::Number(0)),
        "state" => text_param(flow::state(event, &Arg::None)),
        "bytes_out" => Some(Param::Number(event.raw.flow()?.bytes_out as i64)),
        "bytes_in" => Some(Param::Number(event.raw.flow()?.bytes_in as i64)),
        "packets_out" => Some(Param::Number(event.raw.flow()?.packets_out as i64)),
        "packets_in" => Some(Param::Number(event.raw.flow()?.packets_in as i64)),
        "answers" => network::dns_answers_text(event).map(Param::Text),
        "name" => text_param(network::dns_name(event, &Arg::None)),
        "type" => text_param(network::dns_type(event, &Arg::None)),
        "rcode" => text_param(network::dns_rcode(event, &Arg::None)),
        _ => None,
    }
}

fn coverage_param<'e>(event: &Event<'e>, name: &str) -> Option<Param<'e>> {
    let field = format!("coverage.{name}");
    let row = super::FIELDS.iter().find(|row| row.name == field)?;
    match (row.get?)(event, &Arg::None)? {
        Value::Uint(number) => Some(Param::Number(number as i64)),
        Value::Text(text) => Some(Param::Text(text)),
        _ => None,
    }
}

fn text_param(value: Option<Value<'_>>) -> Option<Param<'_>> {
    if let Some(Value::Text(text)) = value { Some(Param::Text(text)) } else { None }
}

fn call_param<'e>(event: &Event<'e>, name: &str) -> Option<Param<'e>> {
    let body = event.raw.call()?;
    let ret = event.raw.header.ret;
    let args = &body.args;
    // Users and groups are 32-bit; -1 means "keep".
    let id = |value: u64| Param::Number(i64::from(value as i32));
    let named = |names: flags::Names, value: u64| {
        let text = flags::name_of(names, value).map_or_else(|| decimal(event, value as i64), str::as_bytes);
        Some(Param::Named(value, text))
    };
    Some(match (event.kind(), name) {
        (EventKind::Coverage, _) => return coverage_param(event, name),
        (EventKind::Setuid, "uid") => Param::Named(args[0], user(event, args[0])),
        (EventKind::Setgid, "gid") | (EventKind::Setreuid | EventKind::Setresuid, "ruid") => id(args[0]),
        (EventKind::Setregid | EventKind::Setresgid, "rgid") => id(args[0]),
        (_, "euid" | "egid") => id(args[1]),
        (_, "suid" | "sgid") => id(args[2]),
        (EventKind::Unshare, "flags") => Param::Named(args[0], flags::join_bits(event.scratch, flags::CLONE, args[0])),
        (EventKind::Setns, "nstype") => Param::Named(args[1], flags::join_bits(event.scratch, flags::CLONE, args[1])),
        (EventKind::Setns | EventKind::FinitModule, "fd") => Param::Number(args[0] as i64),
        (EventKind::Ptrace, "request") => return named(flags::PTRACE, args[0]),
        (EventKind::Ptrace, "pid") => Param::Number(args[1] as i64),
        (EventKind::Ptrace, "addr") => Param::Number(args[2] as i64),
        (EventKind::Ptrace, "data") => Param::Number(args[3] as i64),
        (EventKind::Bpf, "cmd") => return named(flags::BPF, args[0]),
        (EventKind::Socket, "domain") => return named(flags::FAMILY, args[0]),
        (EventKind::Socket, "type") => Param::Number((args[1] & 0xf) as i64),
        (EventKind::Socket, "proto") => Param::Number(args[2] as i64),
        (_, "fd") => Param::Result(ret),
        (EventKind::MemfdCreate | EventKind::DeleteModule, "name") | (_, "uargs") => {
            Param::Text(event.raw.text(body.text))
        }
        (EventKind::InitModule, "length") | (EventKind::MemfdCreate | EventKind::DeleteModule, "flags") => {
            Param::Number(args[1] as i64)
        }
        (EventKind::FinitModule, "flags") => Param::Number(args[2] as i64),
        (EventKind::Userfaultfd, "flags") | (EventKind::IoUringSetup, "entries") => Param::Number(args[0] as i64),
        (EventKind::Capset, "cap_effective") => {
            Param::Text(flags::join_capabilities(event.scratch, event.process.cred.cap_effective))
        }
        (EventKind::Capset, "cap_permitted") => {
            Param::Text(flags::join_capabilities(event.scratch, event.process.cred.cap_permitted))
        }
        (EventKind::Capset, "cap_inheritable") => {
            Param::Text(flags::join_capabilities(event.scratch, event.process.cred.cap_inheritable))
        }
        _ => return call::param(event, name),
    })
}
