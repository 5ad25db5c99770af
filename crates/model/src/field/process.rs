//! Fields about the process, its ancestors, its user and its group.

use bumpalo::collections::Vec as BumpVec;

use super::Arg;
use crate::event::Event;
use crate::flags;
use crate::process::{Process, TICK_NS};
use crate::value::Value;

/// A text of a process, for the process itself, its parent or any ancestor.
type Text = for<'p> fn(&'p Process) -> &'p [u8];

fn comm(process: &Process) -> &[u8] {
    &process.comm
}
fn exe(process: &Process) -> &[u8] {
    &process.image.exe
}
fn exepath(process: &Process) -> &[u8] {
    &process.image.exepath
}
fn cmdline(process: &Process) -> &[u8] {
    &process.cmdline
}

fn parent<'e>(event: &Event<'e>) -> Option<&'e Process> {
    event.processes.ancestor(event.process, 1)
}

fn leader<'e>(event: &Event<'e>, pid: u32) -> Option<&'e Process> {
    if pid == 0 { None } else { event.processes.by_pid(pid) }
}

/// `[n]`: that ancestor. No index: every ancestor, the parent first.
fn ancestors<'e>(event: &Event<'e>, arg: &Arg, text: Text) -> Option<Value<'e>> {
    if let Arg::Index(generation) = arg {
        return event.processes.ancestor(event.process, *generation as usize).map(|p| Value::Text(text(p)));
    }
    let mut all = BumpVec::new_in(event.scratch);
    all.extend(event.processes.ancestors(event.process).map(|p| Value::Text(text(p))));
    if all.is_empty() { None } else { Some(Value::Any(all.into_bump_slice())) }
}

pub(super) fn name<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let acting = event.raw.comm();
    Some(Value::Text(if acting.is_empty() { &event.process.comm } else { acting }))
}

pub(super) fn proc_exe<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Text(exe(event.process)))
}

pub(super) fn proc_exepath<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Text(exepath(event.process)))
}

pub(super) fn proc_cmdline<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Text(cmdline(event.process)))
}

pub(super) fn pname<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    parent(event).map(|p| Value::Text(comm(p)))
}

pub(super) fn pexe<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    parent(event).map(|p| Value::Text(exe(p)))
}

pub(super) fn pexepath<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    parent(event).map(|p| Value::Text(exepath(p)))
}

pub(super) fn pcmdline<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    parent(event).map(|p| Value::Text(cmdline(p)))
}

pub(super) fn aname<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    ancestors(event, arg, comm)
}

pub(super) fn aexe<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    ancestors(event, arg, exe)
}

pub(super) fn aexepath<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    ancestors(event, arg, exepath)
}

pub(super) fn acmdline<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    ancestors(event, arg, cmdline)
}

pub(super) fn apid<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    if let Arg::Index(generation) = arg {
        let process = event.processes.ancestor(event.process, *generation as usize)?;
        return Some(Value::Int(process.key.pid.into()));
    }
    let mut all = BumpVec::new_in(event.scratch);
    all.extend(event.processes.ancestors(event.process).map(|p| Value::Int(p.key.pid.into())));
    if all.is_empty() { None } else { Some(Value::Any(all.into_bump_slice())) }
}

/// Without index: all arguments behind `argv[0]`. An index behind the end gives the empty text, as in Falco.
fn args_of<'e>(process: &'e Process, arg: &Arg) -> Option<Value<'e>> {
    Some(Value::Text(match arg {
        Arg::None => &process.image.args,
        Arg::Index(n) => process.image.argv().nth(*n as usize + 1).unwrap_or_default(),
        Arg::Key(_) => return None,
    }))
}

pub(super) fn args<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    args_of(event.process, arg)
}

pub(super) fn aargs<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    let Arg::Index(generation) = arg else { return None };
    args_of(event.processes.ancestor(event.process, *generation as usize)?, &Arg::None)
}

pub(super) fn cmd_n_args<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Uint(event.process.image.argv().count().saturating_sub(1) as u64))
}

pub(super) fn cmd_len_args<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Uint(event.process.image.argv().skip(1).map(<[u8]>::len).sum::<usize>() as u64))
}

pub(super) fn exeline<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let image = &event.process.image;
    let mut line = BumpVec::with_capacity_in(image.exe.len() + image.args.len() + 1, event.scratch);
    line.extend_from_slice_copy(&image.exe);
    if !image.args.is_empty() {
        line.push(b' ');
        line.extend_from_slice_copy(&image.args);
    }
    Some(Value::Text(line.into_bump_slice()))
}

fn env_of<'e>(event: &Event<'e>, process: &'e Process, arg: &Arg) -> Option<Value<'e>> {
    Some(Value::Text(match arg {
        Arg::Key(name) => process
            .image
            .env()
            .find_map(|var| var.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
            .unwrap_or_default(),
        Arg::Index(n) => process.image.env().nth(*n as usize).unwrap_or_default(),
        Arg::None => {
            let mut all = BumpVec::with_capacity_in(process.image.env.len(), event.scratch);
            for (i, var) in process.image.env().enumerate() {
                if i > 0 {
                    all.push(b' ');
                }
                all.extend_from_slice_copy(var);
            }
            all.into_bump_slice()
        }
    }))
}

pub(super) fn env<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    env_of(event, event.process, arg)
}

/// How far up a variable is looked for.
const ENV_GENERATIONS: usize = 20;

pub(super) fn aenv<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    match arg {
        Arg::Index(generation) => {
            env_of(event, event.processes.ancestor(event.process, *generation as usize)?, &Arg::None)
        }
        Arg::Key(name) => {
            let mut near = event.processes.ancestors(event.process).take(ENV_GENERATIONS);
            near.find_map(|process| {
                let mut variables = process.image.env();
                variables.find_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
            })
            .map(Value::Text)
        }
        Arg::None => {
            let mut all = BumpVec::new_in(event.scratch);
            for process in event.processes.ancestors(event.process) {
                all.extend(env_of(event, process, &Arg::None));
            }
            if all.is_empty() { None } else { Some(Value::Any(all.into_bump_slice())) }
        }
    }
}

/// A shell is what is called so.
pub(super) fn login_shell<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let line = std::iter::once(event.process).chain(event.processes.ancestors(event.process));
    line.filter(|process| process.comm.ends_with(b"sh")).last().map(|shell| Value::Int(shell.key.pid.into()))
}

pub(super) fn cwd<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    // Falco ends a directory with a slash, and stock rules count on it (`proc.cwd startswith /dev/shm/`).
    let cwd = &event.process.cwd;
    if cwd.is_empty() {
        return None;
    }
    let mut text = BumpVec::with_capacity_in(cwd.len() + 1, event.scratch);
    text.extend_from_slice_copy(cwd);
    if !cwd.ends_with(b"/") {
        text.push(b'/');
    }
    Some(Value::Text(text.into_bump_slice()))
}

pub(super) fn tty<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Uint(event.process.tty.into()))
}

pub(super) fn pid<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Int(event.process.key.pid.into()))
}

pub(super) fn ppid<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    event.process.parent.map(|parent| Value::Int(parent.pid.into()))
}

pub(super) fn vpid<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    number(event.process.vpid)
}

pub(super) fn pvpid<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    number(parent(event)?.vpid)
}

fn number<'e>(known: u32) -> Option<Value<'e>> {
    (known != 0).then_some(Value::Int(known.into()))
}

pub(super) fn sid<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Int(event.process.sid.into()))
}

pub(super) fn sname<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    leader(event, event.process.sid).map(|p| Value::Text(comm(p)))
}

pub(super) fn sid_exe<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    leader(event, event.process.sid).map(|p| Value::Text(exe(p)))
}

pub(super) fn sid_exepath<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    leader(event, event.process.sid).map(|p| Value::Text(exepath(p)))
}

pub(super) fn pgid<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Int(event.process.pgid.into()))
}

pub(super) fn vpgid<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    number(event.process.vpgid)
}

pub(super) fn pgid_name<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    leader(event, event.process.pgid).map(|p| Value::Text(comm(p)))
}

pub(super) fn pgid_exe<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    leader(event, event.process.pgid).map(|p| Value::Text(exe(p)))
}

pub(super) fn pgid_exepath<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    leader(event, event.process.pgid).map(|p| Value::Text(exepath(p)))
}

pub(super) fn is_sid_leader<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Bool(event.process.sid == event.process.key.pid))
}

pub(super) fn is_pgid_leader<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Bool(event.process.pgid == event.process.key.pid))
}

pub(super) fn is_vpgid_leader<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Bool(event.process.vpgid != 0 && event.process.vpgid == event.process.vpid))
}

/// Wall-clock time of a moment since boot.
fn wall(event: &Event<'_>, boot_ns: u64) -> u64 {
    event.wall_ns.saturating_sub(event.raw.header.time).saturating_add(boot_ns)
}

fn age(event: &Event<'_>, process: &Process) -> Option<i64> {
    (process.key.start_ns != 0).then(|| event.raw.header.time.saturating_sub(process.key.start_ns) as i64)
}

pub(super) fn duration<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    age(event, event.process).map(Value::Int)
}

pub(super) fn pduration<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    age(event, parent(event)?).map(Value::Int)
}

/// Boot time of the start of the pid namespace's first process: the container's, or the host's.
fn pidns_boot_ns(event: &Event<'_>) -> Option<u64> {
    let first = match event.container {
        Some(container) if container.host_pid => 1,
        Some(container) => container.pid,
        None => 1,
    };
    leader(event, first).map(|process| process.key.start_ns)
}

pub(super) fn pidns_start<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    pidns_boot_ns(event).map(|start| Value::Int(wall(event, start) as i64))
}

pub(super) fn exe_ctime_before_pidns<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let start = wall(event, pidns_boot_ns(event)?) as i64;
    Some(Value::Int(start.saturating_sub(event.process.image.file.ctime_ns as i64)))
}

pub(super) fn start_time<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Int(wall(event, event.process.key.start_ns) as i64))
}

pub(super) fn pstart_time<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Int(wall(event, parent(event)?.key.start_ns) as i64))
}

macro_rules! exe_file {
    ($($name:ident: $body:expr;)*) => {$(
        pub(super) fn $name<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
            let body: fn(&Event<'e>, &crate::process::ExeFile) -> Value<'e> = $body;
            Some(body(event, &event.process.image.file))
        }
    )*};
}

exe_file! {
    is_exe_writable: |_, file| Value::Bool(file.writable);
    is_exe_upper_layer: |_, file| Value::Bool(file.upper_layer);
    is_exe_lower_layer: |_, file| Value::Bool(file.lower_layer);
    is_exe_from_memfd: |_, file| Value::Bool(file.memfd);
    is_exe_deleted: |_, file| Value::Bool(file.deleted);
    exe_ino: |_, file| Value::Int(file.ino as i64);
    exe_ctime: |_, file| Value::Int(file.ctime_ns as i64);
    exe_mtime: |_, file| Value::Int(file.mtime_ns as i64);
    exe_ctime_before_start: |event, file| {
        let start = wall(event, event.process.key.start_ns.next_multiple_of(TICK_NS));
        Value::Int((start as i64).saturating_sub(file.ctime_ns as i64))
    };
}

pub(super) fn cap_permitted<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Text(flags::join_capabilities(event.scratch, event.process.cred.cap_permitted)))
}

pub(super) fn cap_effective<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Text(flags::join_capabilities(event.scratch, event.process.cred.cap_effective)))
}

pub(super) fn cap_inheritable<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Text(flags::join_capabilities(event.scratch, event.process.cred.cap_inheritable)))
}

pub(super) fn script<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let script = &event.process.image.script;
    (!script.is_empty()).then_some(Value::Text(script))
}

pub(super) fn cred_jump<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Bool(event.prior.jumped))
}

pub(super) fn prior_uid<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Uint(event.prior.uid.into()))
}

pub(super) fn prior_gid<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Uint(event.prior.gid.into()))
}

pub(super) fn prior_cap_effective<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Text(flags::join_capabilities(event.scratch, event.prior.cap_effective)))
}

pub(super) fn tid<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Int(event.raw.header.tid.into()))
}

pub(super) fn is_main_thread<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Bool(event.raw.header.tid == event.raw.header.pid))
}

/// Only the main thread's number inside the namespace is known: the process's.
pub(super) fn vtid<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    if event.raw.header.tid == event.raw.header.pid { number(event.process.vpid) } else { None }
}

pub(super) fn uid<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Uint(event.process.cred.uid.into()))
}

/// The text that Falco shows where there is no name.
fn or_na(name: &str) -> &[u8] {
    if name.is_empty() { b"<NA>" } else { name.as_bytes() }
}

pub(super) fn user_name<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Text(or_na(&event.process.names.user)))
}

pub(super) fn user_home<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Text(or_na(&event.process.names.home)))
}

pub(super) fn user_shell<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Text(or_na(&event.process.names.shell)))
}

pub(super) fn login_uid<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let uid = event.process.cred.loginuid;
    Some(Value::Int(if uid == u32::MAX { -1 } else { uid.into() }))
}

pub(super) fn login_name<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Text(or_na(&event.process.names.login)))
}

pub(super) fn gid<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Uint(event.process.cred.gid.into()))
}

pub(super) fn group_name<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Text(or_na(&event.process.names.group)))
}
