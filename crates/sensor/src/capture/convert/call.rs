//! Calls whose arguments are told as they are: credentials, namespaces, ptrace, bpf, modules.

use std::sync::Arc;

use tw_model::EventKind;
use tw_model::raw::CallBody;

use super::super::descriptors::{Descriptor, Kind};
use super::super::flags;
use super::super::record::PATH;
use super::super::state::Process;
use super::super::table::Role;
use super::{Call, Converter, Item, Tell};
use crate::calls::{PR_SET_NAME, PRCTL_OPTIONS};

/// "As it is" of setresuid and its like.
const KEEP: u32 = u32::MAX;

impl Converter {
    pub(super) fn plain(&mut self, kind: EventKind, call: &Call<'_>, tell: Tell<'_>) {
        let arguments = &call.arguments;
        let number = |role| arguments.signed(role).map_or(0, |number| number as u64);
        let mut args = [number(Role::A0), number(Role::A1), number(Role::A2), number(Role::A3), 0, 0];
        let mut ret = arguments.ret();
        match kind {
            EventKind::Ptrace => {
                args = [flags::ptrace(arguments.u64(Role::A0)), args[1], arguments.variant(Role::A2), 0, 0, 0];
                args[3] = arguments.variant(Role::A3);
            }
            EventKind::Setns => args[1] = flags::clone(arguments.u32(Role::A1)).into(),
            EventKind::Unshare => args[0] = flags::clone(arguments.u32(Role::A0)).into(),
            EventKind::Userfaultfd => args[0] = flags::open(arguments.u32(Role::A0)).into(),
            // Its value and what stands behind it are the fourth and fifth argument; the fourth is a text.
            EventKind::Fsconfig => args = [args[0], args[1], 0, 0, args[2], 0],
            // As live: others ask, or change nothing that matters.
            EventKind::Prctl if !PRCTL_OPTIONS.contains(&(args[0] as u32)) => return,
            // The older of its two events has a byte in front of the result.
            EventKind::Bpf if arguments.bytes(Role::Ret).is_some_and(|bytes| bytes.len() == 9) => {
                ret = arguments.variant(Role::Ret) as i64;
            }
            _ => {}
        }
        let process = self.state.process(call.pid);
        // Of the main thread, which has the name that the process goes by.
        if kind == EventKind::Prctl && args[0] as u32 == PR_SET_NAME && ret >= 0 && call.event.tid == call.pid {
            process.set_comm(arguments.text(Role::Extra));
        }
        if ret >= 0 {
            change(kind, &args, process);
            if kind == EventKind::Capset {
                process.cap_inheritable = arguments.u64(Role::CapInheritable);
                process.cap_permitted = arguments.u64(Role::CapPermitted);
                process.cap_effective = arguments.u64(Role::CapEffective);
            }
            if kind == EventKind::MemfdCreate {
                let descriptor = Descriptor { kind: Kind::Memfd, ..Descriptor::default() };
                self.path.clear();
                self.path.extend_from_slice(b"/memfd:");
                self.path.extend_from_slice(arguments.text(Role::Extra));
                Arc::make_mut(&mut process.descriptors).put(ret as i32, descriptor, &self.path);
            }
        }
        let mut header = call.header(kind, process);
        header.ret = ret;
        self.record.begin(size_of::<CallBody>());
        let body = CallBody {
            args,
            cap_effective: process.cap_effective,
            cap_permitted: process.cap_permitted,
            cap_inheritable: process.cap_inheritable,
            text: self.record.text(arguments.text(Role::Extra), PATH),
            text2: self.record.text(arguments.text(Role::Path2), PATH),
            ..CallBody::default()
        };
        self.counts.records += 1;
        tell(Item::Record { number: call.number, bytes: self.record.finish(&header, &body) });
    }

    pub(super) fn setsid(&mut self, call: &Call<'_>) {
        let ret = call.arguments.ret();
        if ret > 0 {
            let process = self.state.process(call.pid);
            // The result is the number in its namespace; a new session has the number of its process.
            (process.sid, process.pgid, process.vpgid) = (call.pid, call.pid, ret as u32);
        }
    }

    pub(super) fn setpgid(&mut self, call: &Call<'_>) {
        let (pid, pgid) = (call.arguments.u32(Role::A0), call.arguments.u32(Role::A1));
        let process = self.state.process(call.pid);
        // Of others, and in another namespace, nobody knows who is meant.
        if call.arguments.ret() >= 0 && (pid == 0 || pid == call.pid) && process.vpid == call.pid {
            process.pgid = if pgid == 0 { call.pid } else { pgid };
            process.vpgid = process.pgid;
        }
    }
}

/// What a call that succeeded changes.
fn change(kind: EventKind, args: &[u64; 6], process: &mut Process) {
    let effective = match kind {
        EventKind::Setuid | EventKind::Setgid => args[0],
        EventKind::Setresuid | EventKind::Setresgid => args[1],
        _ => return,
    } as u32;
    if effective == KEEP {
        return;
    }
    match kind {
        EventKind::Setgid | EventKind::Setresgid => process.gid = effective,
        _ => {
            // The kernel takes root's capabilities with root's number.
            if process.uid == 0 && effective != 0 {
                (process.cap_effective, process.cap_permitted) = (0, 0);
            }
            process.uid = effective;
        }
    }
}
