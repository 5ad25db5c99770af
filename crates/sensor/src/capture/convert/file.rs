//! Calls on files.

use std::sync::Arc;

use tw_model::EventKind;
use tw_model::raw::{FileBody, attr};

use super::super::arguments::AT_FDCWD;
use super::super::descriptors::{Descriptor, Kind};
use super::super::flags;
use super::super::path::absolute;
use super::super::record::PATH;
use super::super::state::Process;
use super::super::table::Role;
use super::{Call, Converter, Item, Tell};

/// `O_DIRECTORY`
const O_DIRECTORY: u32 = 0o200_000;
/// `O_WRONLY | O_CREAT | O_TRUNC`, which creat stands for.
const CREAT: u32 = 0o1101;

/// The folder that `raw` is relative to; empty if it is absolute or not known.
fn base<'p>(process: &'p Process, dirfd: i32, raw: &[u8]) -> &'p [u8] {
    if raw.starts_with(b"/") || raw.is_empty() {
        b""
    } else if dirfd == AT_FDCWD {
        &process.cwd
    } else {
        process.descriptors.name(dirfd)
    }
}

impl Converter {
    pub(super) fn open(&mut self, kind: EventKind, call: &Call<'_>, tell: Tell<'_>) {
        let arguments = &call.arguments;
        let theirs = arguments.u32(Role::Flags);
        let opened = arguments.ret() >= 0;
        let raw = arguments.text(Role::Path);
        let full = arguments.text(Role::FullPath);
        let dirfd = arguments.dirfd(Role::Dirfd);
        let mut body = FileBody {
            fd: -1,
            dirfd,
            dirfd2: AT_FDCWD,
            flags: if kind == EventKind::Creat { CREAT } else { flags::open(theirs) },
            mode: arguments.u32(Role::Mode),
            ..FileBody::default()
        };
        let process = self.state.process(call.pid);
        let header = call.header(kind, process);
        self.record.begin(size_of::<FileBody>());
        if opened {
            for (theirs_bit, ours) in
                [(flags::CREATED, attr::CREATED), (flags::UPPER, attr::UPPER), (flags::LOWER, attr::LOWER)]
            {
                body.attrs |= if theirs & theirs_bit != 0 { ours } else { 0 };
            }
            let folder = body.flags & O_DIRECTORY != 0;
            body.attrs |= if folder { attr::DIR } else { 0 };
            body.ino = arguments.u64(Role::Ino);
            body.dev = flags::device(arguments.u32(Role::Dev));
            if full.starts_with(b"/") {
                self.path.clear();
                self.path.extend_from_slice(full);
            } else {
                absolute(base(process, dirfd, raw), raw, &mut self.path);
            }
            body.path = self.record.text(&self.path, PATH);
            let descriptor = Descriptor {
                kind: if folder { Kind::Directory } else { Kind::File },
                cloexec: theirs & flags::CLOEXEC != 0,
                ino: body.ino,
                ..Descriptor::default()
            };
            let fd = i32::try_from(arguments.ret()).unwrap_or(-1);
            Arc::make_mut(&mut process.descriptors).put(fd, descriptor, &self.path);
        } else {
            body.base = self.record.text(base(process, dirfd, raw), PATH);
        }
        body.raw = self.record.text(raw, PATH);
        self.counts.records += 1;
        tell(Item::Record { number: call.number, bytes: self.record.finish(&header, &body) });
    }

    pub(super) fn path(&mut self, kind: EventKind, call: &Call<'_>, tell: Tell<'_>) {
        let arguments = &call.arguments;
        let (raw, raw2) = (arguments.text(Role::Path), arguments.text(Role::Path2));
        let fd = arguments.fd(Role::Fd);
        let mut body = FileBody {
            fd,
            dirfd: arguments.dirfd(Role::Dirfd),
            dirfd2: arguments.dirfd(Role::Dirfd2),
            flags: arguments.u32(Role::Flags),
            mode: arguments.u32(Role::Mode),
            uid: arguments.u32(Role::Uid),
            gid: arguments.u32(Role::Gid),
            ..FileBody::default()
        };
        let process = self.state.process(call.pid);
        let header = call.header(kind, process);
        self.record.begin(size_of::<FileBody>());
        body.raw = self.record.text(raw, PATH);
        body.base = self.record.text(base(process, body.dirfd, raw), PATH);
        body.raw2 = self.record.text(raw2, PATH);
        body.base2 = self.record.text(base(process, body.dirfd2, raw2), PATH);
        body.extra = self.record.text(arguments.text(Role::Extra), PATH);
        if let Some(known) = process.descriptors.get(fd).filter(|_| fd >= 0) {
            body.ino = known.ino;
            body.attrs = if known.kind == Kind::Directory { attr::DIR } else { 0 };
            body.path = self.record.text(process.descriptors.name(fd), PATH);
        }
        if header.ret >= 0 {
            match kind {
                EventKind::Chdir => {
                    absolute(&process.cwd, raw, &mut self.path);
                    body.path = self.record.text(&self.path, PATH);
                    process.set_cwd(&self.path);
                }
                EventKind::Fchdir => {
                    self.path.clear();
                    self.path.extend_from_slice(process.descriptors.name(fd));
                    process.set_cwd(&self.path);
                }
                _ => {}
            }
        }
        self.counts.records += 1;
        tell(Item::Record { number: call.number, bytes: self.record.finish(&header, &body) });
    }

    pub(super) fn close(&mut self, call: &Call<'_>) {
        let fd = call.arguments.fd(Role::Fd);
        let process = self.state.process(call.pid);
        if call.arguments.ret() >= 0 && process.descriptors.get(fd).is_some() {
            Arc::make_mut(&mut process.descriptors).remove(fd);
        }
    }

    pub(super) fn pipe(&mut self, call: &Call<'_>) {
        use std::io::Write as _;
        if call.arguments.ret() < 0 {
            return;
        }
        let descriptor = Descriptor {
            kind: Kind::Pipe,
            cloexec: call.arguments.u32(Role::Flags) & flags::CLOEXEC != 0,
            ino: call.arguments.u64(Role::Ino),
            ..Descriptor::default()
        };
        self.path.clear();
        // A vector's write cannot fail.
        let _ = write!(self.path, "pipe:[{}]", descriptor.ino);
        let process = self.state.process(call.pid);
        let table = Arc::make_mut(&mut process.descriptors);
        for end in [Role::Fd, Role::Fd2] {
            table.put(call.arguments.fd(end), descriptor, &self.path);
        }
    }
}
