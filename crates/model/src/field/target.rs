//! Fields about the process that a call is aimed at: who is signalled, traced, read or written.

use super::Arg;
use crate::event::{Event, EventKind};
use crate::process::Process;
use crate::value::Value;

/// Number of the target in the initial namespace: from the kernel object where the call had one, else found by the number
/// that the caller used.
fn number(event: &Event<'_>) -> Option<u32> {
    use EventKind as K;
    let body = event.raw.call()?;
    let named = match event.kind() {
        K::Kill | K::Tgkill | K::Tkill | K::ProcessVmReadv | K::ProcessVmWritev | K::PidfdOpen => body.args[0],
        K::Ptrace | K::PerfEventOpen => body.args[1],
        K::PidfdSendSignal | K::PidfdGetfd => 0,
        _ => return None,
    } as i32;
    if body.target != 0 {
        return Some(body.target);
    }
    let named = u32::try_from(named).ok().filter(|number| *number != 0)?;
    let caller = event.process;
    // In the initial namespace numbers are what they are.
    if caller.vpid == 0 || caller.vpid == caller.key.pid {
        return Some(named);
    }
    event.processes.by_vpid(caller.ns.pid, named).map(|process| process.key.pid)
}

fn target<'e>(event: &Event<'e>) -> Option<&'e Process> {
    event.processes.by_pid(number(event)?)
}

pub(super) fn pid<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    number(event).map(|number| Value::Int(number.into()))
}

pub(super) fn name<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    target(event).map(|process| Value::Text(&process.comm))
}

pub(super) fn exepath<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    target(event).map(|process| Value::Text(&process.image.exepath))
}

pub(super) fn cmdline<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    target(event).map(|process| Value::Text(&process.cmdline))
}

pub(super) fn uid<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    target(event).map(|process| Value::Uint(process.cred.uid.into()))
}

pub(super) fn same_cgroup<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    target(event).map(|process| Value::Bool(process.cgroup_id == event.raw.header.cgroup))
}

pub(super) fn is_self<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    number(event).map(|number| Value::Bool(number == event.raw.header.pid || number == event.raw.header.tid))
}

pub(super) fn is_child<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let target = target(event)?;
    Some(Value::Bool(event.processes.ancestors(target).any(|ancestor| ancestor.key == event.process.key)))
}

pub(super) fn count<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    use EventKind::{Kill, PidfdSendSignal, Tgkill, Tkill};
    let body = event.raw.call().filter(|_| matches!(event.kind(), Kill | Tkill | Tgkill | PidfdSendSignal))?;
    Some(Value::Uint(body.targets.into()))
}
