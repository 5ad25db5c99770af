//! ptrace(2) and wait(2) in safe words: a stopped thread, why it stopped, and how it goes on.
//!
//! Every call names a thread that is traced by the calling thread or is refused by the kernel with ESRCH: a thread that
//! was killed meanwhile is no error here, its end is told by [`wait`].

use std::io;
use std::ptr;

/// Bits of the status that wait(2) gives for the event of a stop.
const EVENT: i32 = 16;
/// The mark of a stop at a system call, in the signal's place (`PTRACE_O_TRACESYSGOOD`).
const CALL_STOP: i32 = libc::SIGTRAP | 0x80;
/// `PTRACE_EVENT_STOP`.
const EVENT_STOP: i32 = 128;
/// `PTRACE_GET_SYSCALL_INFO`, Linux 5.3.
const GET_SYSCALL_INFO: libc::c_uint = 0x420e;
const INFO_EXIT: u8 = 2;
const INFO_SECCOMP: u8 = 3;

/// Why a thread does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// About to make a call that the filter watches.
    Call,
    /// Just behind the call that it was sent into.
    Return,
    /// Made another thread or process, with this number.
    Child(i32),
    /// Runs another program; the number that this thread had before.
    Exec(i32),
    /// Got this signal, which it has not seen yet.
    Signal(i32),
    /// Stopped by this signal as a whole, as job control does.
    Group(i32),
    /// Nothing to do but to go on: the first stop of a new thread, the end of a stop as a whole.
    Pause,
    /// Ended, with the status of wait(2).
    Ended(i32),
}

/// A call as its thread is about to make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// `AUDIT_ARCH_*` of the table that the number is of.
    pub(super) arch: u32,
    pub(super) nr: u64,
    pub(super) args: [u64; 6],
}

/// `struct ptrace_syscall_info` of include/uapi/linux/ptrace.h, with the longest member of its union.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct SyscallInfo {
    op: u8,
    pad: [u8; 3],
    arch: u32,
    instruction_pointer: u64,
    stack_pointer: u64,
    /// Number of the call; at the exit its result.
    first: u64,
    args: [u64; 6],
    ret_data: u64,
}

/// How the kernel is to go on with a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Go {
    /// To the next watched call.
    On,
    /// To the end of the call that it is in.
    ThroughCall,
    /// Not at all, until job control says so.
    Listen,
}

fn ptrace(request: libc::c_uint, pid: i32, addr: usize, data: usize) -> io::Result<libc::c_long> {
    // SAFETY: the requests made here read and write no memory of ours but what `data` points to, which the callers give
    // room for; the kernel refuses a thread that is not traced by us.
    let result = unsafe { libc::ptrace(request as _, pid, addr, data) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Begins to trace a process and what descends from it; all of it is killed when the caller ends.
pub(super) fn seize(pid: i32) -> io::Result<()> {
    let options = libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACESECCOMP
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEEXEC
        | libc::PTRACE_O_EXITKILL;
    ptrace(libc::PTRACE_SEIZE as _, pid, 0, options as usize).map(drop)
}

/// Lets a stopped thread go on; `signal` is delivered to it unless it is 0. One that was killed is passed over.
pub(super) fn go(pid: i32, how: Go, signal: i32) {
    let request = match how {
        Go::On => libc::PTRACE_CONT,
        Go::ThroughCall => libc::PTRACE_SYSCALL,
        Go::Listen => libc::PTRACE_LISTEN,
    };
    if let Err(error) = ptrace(request as _, pid, 0, signal as usize)
        && error.raw_os_error() != Some(libc::ESRCH)
    {
        tracing::warn!("thread {pid} cannot go on: {error}");
    }
}

/// Waits for the next stop or end of a thread traced by the calling thread; `None` if there is none any more. A signal
/// handler that ran ends the wait as [`io::ErrorKind::Interrupted`].
pub(super) fn wait() -> io::Result<Option<(i32, Stop)>> {
    let mut status = 0;
    // Of this thread only: other threads of the program may have children of their own.
    let flags = libc::__WALL | libc::__WNOTHREAD;
    // SAFETY: `status` is ours and lives through the call.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, flags) };
    if pid < 0 {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::ECHILD) { Ok(None) } else { Err(error) };
    }
    Ok(Some((pid, reason(pid, status))))
}

fn reason(pid: i32, status: i32) -> Stop {
    if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
        return Stop::Ended(status);
    }
    let signal = libc::WSTOPSIG(status);
    match status >> EVENT {
        libc::PTRACE_EVENT_SECCOMP => Stop::Call,
        libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
            message(pid).map_or(Stop::Pause, Stop::Child)
        }
        libc::PTRACE_EVENT_EXEC => Stop::Exec(message(pid).unwrap_or(pid)),
        EVENT_STOP if signal == libc::SIGTRAP => Stop::Pause,
        EVENT_STOP => Stop::Group(signal),
        0 if signal == CALL_STOP => Stop::Return,
        0 => Stop::Signal(signal),
        _ => Stop::Pause,
    }
}

/// The number that belongs to the event of this stop.
fn message(pid: i32) -> Option<i32> {
    let mut message: libc::c_ulong = 0;
    ptrace(libc::PTRACE_GETEVENTMSG as _, pid, 0, (&raw mut message) as usize).ok()?;
    i32::try_from(message).ok()
}

fn syscall_info(pid: i32) -> Option<SyscallInfo> {
    let mut info = SyscallInfo::default();
    ptrace(GET_SYSCALL_INFO, pid, size_of::<SyscallInfo>(), (&raw mut info) as usize).ok()?;
    Some(info)
}

/// The call at a [`Stop::Call`].
pub(super) fn entry(pid: i32) -> Option<Entry> {
    let info = syscall_info(pid).filter(|info| info.op == INFO_SECCOMP)?;
    Some(Entry { arch: info.arch, nr: info.first, args: info.args })
}

/// What the call returned, at a [`Stop::Return`].
pub(super) fn result(pid: i32) -> Option<i64> {
    let info = syscall_info(pid).filter(|info| info.op == INFO_EXIT)?;
    Some(info.first.cast_signed())
}

/// Bytes of a thread's memory; fewer where no more is mapped.
pub(super) fn memory(tid: u32, addr: u64, into: &mut [u8]) -> usize {
    if addr == 0 || into.is_empty() {
        return 0;
    }
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = libc::iovec { iov_base: ptr::without_provenance_mut(addr as usize), iov_len: into.len() };
    // SAFETY: the kernel writes at most `into.len()` bytes to `into`; the other address is the thread's, never ours.
    let read = unsafe { libc::process_vm_readv(tid.cast_signed(), &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(read).unwrap_or_else(|_| {
        use std::os::unix::fs::FileExt as _;
        // Some containers forbid the call, but not this file.
        let file = std::fs::File::open(format!("/proc/{tid}/mem"));
        file.and_then(|file| file.read_at(into, addr)).unwrap_or(0)
    })
}

/// Sends a signal to a process.
pub(super) fn kill(pid: i32, signal: i32) {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(pid, signal) };
}

/// Process group of a process; 0 if it is gone.
pub(super) fn group(pid: i32) -> i32 {
    // SAFETY: no memory is involved.
    unsafe { libc::getpgid(pid) }.max(0)
}
