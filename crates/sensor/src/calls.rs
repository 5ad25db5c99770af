//! Which system calls are watched, how the kernel half handles them, and where their arguments are.
//!
//! The kernel half has no list of calls: it gets these tables before it is loaded, by call number of the running
//! architecture, so that nothing in it depends on one.

use std::time::Duration;

use tw_model::coverage::Class;
use tw_model::event::{EVENTS, EventKind, Lane};
use zerocopy::{Immutable, IntoBytes};

use crate::ebpf::Options;

/// Call numbers that the tables have room for (`TW_CALLS`).
pub(crate) const CALLS: usize = 512;
/// Kinds of events that the tables have room for (`TW_KINDS`).
pub(crate) const KINDS: usize = 128;

/// Operations of io_uring that the table has room for (`TW_RING_OPS`).
const RING_OPS: usize = 64;

/// Operations of io_uring that are told, as the calls that they stand for (include/uapi/linux/io_uring.h).
const RING: &[(usize, EventKind)] = &[
    (9, EventKind::Sendmsg),
    (13, EventKind::Accept4),
    (16, EventKind::Connect),
    (18, EventKind::Openat),
    (26, EventKind::Sendto),
    (28, EventKind::Openat2),
    (35, EventKind::Renameat2),
    (36, EventKind::Unlinkat),
    (37, EventKind::Mkdirat),
    (38, EventKind::Symlinkat),
    (39, EventKind::Linkat),
    (45, EventKind::Socket),
    (47, EventKind::Sendto),
    (48, EventKind::Sendmsg),
    (56, EventKind::Bind),
    (57, EventKind::Listen),
];

/// What `socketcall` may be asked for that the table has room for (`TW_SOCKETCALLS`).
const SOCKETCALLS: usize = 24;

/// What is told of `socketcall`, as the calls that it stands for (include/uapi/linux/net.h).
const SOCKETCALL: &[(usize, EventKind)] = &[
    (1, EventKind::Socket),
    (2, EventKind::Bind),
    (3, EventKind::Connect),
    (4, EventKind::Listen),
    (5, EventKind::Accept),
    (18, EventKind::Accept4),
];

/// Its number, in the 32-bit table of x86.
const NR32_SOCKETCALL: u16 = 102;

/// `enum tw_handler` of bpf/tidewatch.h.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Handler {
    Open = 1,
    Path = 2,
    Sock = 3,
    Dup = 4,
    Call = 5,
    Exec = 6,
    Signal = 7,
    Memory = 8,
    Prctl = 9,
    FsContext = 10,
    Send = 11,
    Receive = 12,
    SocketCall = 13,
}

/// Calls that are watched where a hook of the kernel is missing that would tell more for less.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Instead {
    /// What sends.
    Sends,
    /// What receives.
    Receives,
}

impl Instead {
    fn calls(self) -> (&'static [i64], Handler) {
        match self {
            Self::Sends => (
                &[libc::SYS_write, libc::SYS_writev, libc::SYS_sendto, libc::SYS_sendmsg, libc::SYS_sendmmsg],
                Handler::Send,
            ),
            Self::Receives => (
                &[libc::SYS_read, libc::SYS_readv, libc::SYS_recvfrom, libc::SYS_recvmsg, libc::SYS_recvmmsg],
                Handler::Receive,
            ),
        }
    }
}

impl Handler {
    /// Those that a sensor without a kernel half has as well: not `socketcall`.
    const ALL: [Self; 12] = [
        Self::Open,
        Self::Path,
        Self::Sock,
        Self::Dup,
        Self::Call,
        Self::Exec,
        Self::Signal,
        Self::Memory,
        Self::Prctl,
        Self::FsContext,
        Self::Send,
        Self::Receive,
    ];
}

pub(crate) const CREAT: u8 = 1;
pub(crate) const OPEN_HOW: u8 = 2;
pub(crate) const CWD: u8 = 4;
const TARGET: u8 = 8;
const TARGET_RESULT: u8 = 16;
pub(crate) const MOUNT_ATTR: u8 = 32;
/// It changes the paths of what is there.
const MOVES: u8 = 64;

/// Peaceful programs make it often: it has a budget of its own.
const FREQUENT: u8 = 1;
/// It changes credentials: told beyond the budget, too.
const IDENTITY: u8 = 2;
/// It does so if its first argument has `CLONE_NEWUSER`.
const USER_NAMESPACE: u8 = 4;

/// Options of prctl that are told; as in bpf/probes/call.h.
pub(crate) const PRCTL_OPTIONS: [u32; 11] = [4, 8, 15, 22, 24, 28, 35, 36, 38, 47, 0x5961_6d61];
/// The option that has a text.
pub(crate) const PR_SET_NAME: u32 = 15;

/// `struct tw_args` of bpf/tidewatch.h: numbers of arguments from 1, 0 for none.
#[derive(Clone, Copy, Default, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct Args {
    pub(crate) dirfd: u8,
    pub(crate) path: u8,
    pub(crate) dirfd2: u8,
    pub(crate) path2: u8,
    pub(crate) fd: u8,
    pub(crate) flags: u8,
    pub(crate) mode: u8,
    pub(crate) uid: u8,
    pub(crate) gid: u8,
    pub(crate) extra: u8,
    pub(crate) implied: u8,
    pub(crate) size: u8,
    pub(crate) addr: u8,
    pub(crate) backlog: u8,
    pub(crate) oldfd: u8,
    pub(crate) budget: u8,
}

/// `struct tw_config` of bpf/tidewatch.h.
#[derive(Clone, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct Config {
    self_pid: u32,
    kind_clone: u16,
    kind_execve: u16,
    kind_exit: u16,
    kind_sendto: u16,
    kind_sendmsg: u16,
    kind_write: u16,
    nr_write: u16,
    nr_writev: u16,
    nr_sendto: u16,
    nr_sendmsg: u16,
    nr_sendmmsg: u16,
    kind_execveat: u16,
    kind_dns: u16,
    nr_read: u16,
    nr_readv: u16,
    nr_recvfrom: u16,
    nr_recvmsg: u16,
    nr_recvmmsg: u16,
    kind_flow: u16,
    kind_listen_end: u16,
    by_call: u16,
    pad2: u16,
    bucket_rate: u32,
    bucket_burst: u32,
    flow_tell_ms: u32,
    fold_opens: u32,
    flow_idle_ms: u32,
    handler: [u8; CALLS],
    kind: [u8; CALLS],
    handler32: [u8; CALLS],
    kind32: [u8; CALLS],
    lane: [u8; KINDS],
    class: [u8; KINDS],
    args: [Args; KINDS],
    ring_kind: [u8; RING_OPS],
    nr_ring: u16,
    ring_cqe: u16,
    socketcall: [u8; SOCKETCALLS],
    nr32_socketcall: u16,
    nr32_write: u16,
    nr32_sendto: u16,
    nr32_sendmsg: u16,
    nr32_read: u16,
    nr32_recvfrom: u16,
    nr32_recvmsg: u16,
    pad: u16,
}

/// One watched call: event kind, number here ([`NO_NUMBER`]: none), number in the 32-bit table of x86 (0: none), handler,
/// arguments. Rows of the same kind have the same arguments.
struct Call(EventKind, i64, u16, Handler, Args);

macro_rules! args {
    ($($name:ident $number:literal),*) => { Args { $($name: $number,)* ..NONE } };
}

/// The same of a call that changes the paths of what is there.
macro_rules! moves {
    ($($args:tt)*) => { Args { implied: MOVES, ..args!($($args)*) } };
}

const NONE: Args = Args {
    dirfd: 0,
    path: 0,
    dirfd2: 0,
    path2: 0,
    fd: 0,
    flags: 0,
    mode: 0,
    uid: 0,
    gid: 0,
    extra: 0,
    implied: 0,
    size: 0,
    addr: 0,
    backlog: 0,
    oldfd: 0,
    budget: 0,
};

/// Number of a call that only 32-bit programs have.
const NO_NUMBER: i64 = -1;

const IDENTITY_CALL: Args = Args { budget: IDENTITY, ..NONE };
const FREQUENT_CALL: Args = Args { budget: FREQUENT, ..NONE };
/// Signals: `flags` is the signal's number.
const SIGNAL_2: Args = Args { flags: 2, ..FREQUENT_CALL };
const SIGNAL_3: Args = Args { flags: 3, ..FREQUENT_CALL };
/// Keys: type and description.
const KEY: Args = Args { extra: 1, path2: 2, ..FREQUENT_CALL };

/// The calls that every architecture has. 32-bit numbers: arch/x86/entry/syscalls/syscall_32.tbl.
fn calls() -> Vec<Call> {
    use EventKind as K;
    use Handler::{Call as Plain, Dup, Exec, Open, Path, Sock};
    let mut calls = vec![
        Call(K::Execve, libc::SYS_execve, 11, Exec, args!(path 1)),
        Call(K::Execveat, libc::SYS_execveat, 358, Exec, args!(path 2)),
        Call(K::Openat, libc::SYS_openat, 295, Open, args!(dirfd 1, path 2, flags 3, mode 4)),
        Call(K::Openat2, libc::SYS_openat2, 437, Open, Args { implied: OPEN_HOW, ..args!(dirfd 1, path 2) }),
        Call(K::OpenByHandleAt, libc::SYS_open_by_handle_at, 342, Open, args!(dirfd 1, flags 3)),
        Call(K::Unlinkat, libc::SYS_unlinkat, 301, Path, args!(dirfd 1, path 2, flags 3)),
        Call(K::Renameat, libc::SYS_renameat, 302, Path, moves!(dirfd 1, path 2, dirfd2 3, path2 4)),
        Call(K::Renameat2, libc::SYS_renameat2, 353, Path, moves!(dirfd 1, path 2, dirfd2 3, path2 4, flags 5)),
        Call(K::Linkat, libc::SYS_linkat, 303, Path, args!(dirfd 1, path 2, dirfd2 3, path2 4, flags 5)),
        Call(K::Symlinkat, libc::SYS_symlinkat, 304, Path, args!(extra 1, dirfd 2, path 3)),
        Call(K::Fchmod, libc::SYS_fchmod, 94, Path, args!(fd 1, mode 2)),
        Call(K::Fchmodat, libc::SYS_fchmodat, 306, Path, args!(dirfd 1, path 2, mode 3)),
        // fchmodat2, the same numbers on every architecture; libc does not name it everywhere.
        Call(K::Fchmodat, 452, 452, Path, args!(dirfd 1, path 2, mode 3)),
        Call(K::Fchown, libc::SYS_fchown, 207, Path, args!(fd 1, uid 2, gid 3)),
        Call(K::Fchownat, libc::SYS_fchownat, 298, Path, args!(dirfd 1, path 2, uid 3, gid 4, flags 5)),
        Call(K::Mkdirat, libc::SYS_mkdirat, 296, Path, args!(dirfd 1, path 2, mode 3)),
        // The number of the device lies where others have a user.
        Call(K::Mknodat, libc::SYS_mknodat, 297, Path, args!(dirfd 1, path 2, mode 3, uid 4)),
        Call(K::Setxattr, libc::SYS_setxattr, 226, Path, args!(path 1, extra 2, flags 5)),
        Call(K::Lsetxattr, libc::SYS_lsetxattr, 227, Path, args!(path 1, extra 2, flags 5)),
        Call(K::Fsetxattr, libc::SYS_fsetxattr, 228, Path, args!(fd 1, extra 2, flags 5)),
        // The same number on every architecture; libc does not name it everywhere.
        Call(K::Setxattrat, 463, 463, Path, args!(dirfd 1, path 2, extra 4)),
        Call(K::Chdir, libc::SYS_chdir, 12, Path, Args { implied: CWD, ..args!(path 1) }),
        Call(K::Fchdir, libc::SYS_fchdir, 133, Path, args!(fd 1)),
        Call(K::Mount, libc::SYS_mount, 21, Path, moves!(extra 1, path 2, path2 3, flags 4)),
        Call(K::Umount2, libc::SYS_umount2, 52, Path, moves!(path 1, flags 2)),
        Call(K::Chroot, libc::SYS_chroot, 61, Path, args!(path 1)),
        Call(K::PivotRoot, libc::SYS_pivot_root, 217, Path, moves!(path 1, path2 2)),
        Call(K::Socket, libc::SYS_socket, 359, Plain, NONE),
        Call(K::Connect, libc::SYS_connect, 362, Sock, args!(fd 1, addr 2)),
        // `flags` marks that the address is the socket's own, not the peer's.
        Call(K::Bind, libc::SYS_bind, 361, Sock, args!(fd 1, addr 2, flags 1)),
        Call(K::Listen, libc::SYS_listen, 363, Sock, args!(fd 1, backlog 2)),
        Call(K::Accept, libc::SYS_accept, 0, Sock, NONE),
        Call(K::Accept4, libc::SYS_accept4, 364, Sock, NONE),
        Call(K::Dup, libc::SYS_dup, 41, Dup, NONE),
        Call(K::Dup3, libc::SYS_dup3, 330, Dup, NONE),
        Call(K::Setuid, libc::SYS_setuid, 213, Plain, IDENTITY_CALL),
        Call(K::Setgid, libc::SYS_setgid, 214, Plain, IDENTITY_CALL),
        Call(K::Setreuid, libc::SYS_setreuid, 203, Plain, IDENTITY_CALL),
        Call(K::Setregid, libc::SYS_setregid, 204, Plain, IDENTITY_CALL),
        Call(K::Setresuid, libc::SYS_setresuid, 208, Plain, IDENTITY_CALL),
        Call(K::Setresgid, libc::SYS_setresgid, 210, Plain, IDENTITY_CALL),
        Call(K::Capset, libc::SYS_capset, 185, Plain, IDENTITY_CALL),
        Call(K::Setns, libc::SYS_setns, 346, Plain, IDENTITY_CALL),
        Call(K::Unshare, libc::SYS_unshare, 310, Plain, Args { budget: USER_NAMESPACE, ..NONE }),
        Call(K::Ptrace, libc::SYS_ptrace, 26, Plain, NONE),
        Call(K::MemfdCreate, libc::SYS_memfd_create, 356, Plain, args!(extra 1)),
        Call(K::Bpf, libc::SYS_bpf, 357, Plain, NONE),
        Call(K::InitModule, libc::SYS_init_module, 128, Plain, args!(extra 3)),
        Call(K::FinitModule, libc::SYS_finit_module, 350, Plain, args!(extra 2)),
        Call(K::DeleteModule, libc::SYS_delete_module, 129, Plain, args!(extra 1)),
        Call(K::Userfaultfd, libc::SYS_userfaultfd, 374, Plain, NONE),
        Call(K::IoUringSetup, libc::SYS_io_uring_setup, 425, Plain, NONE),
    ];
    calls.extend(others());
    legacy(&mut calls);
    calls
}

/// Signals, other processes, keys, the machine, the mounts of 5.2, memory. Numbers above 423 are the same everywhere, and
/// libc does not name all of them.
fn others() -> Vec<Call> {
    use EventKind as K;
    use Handler::{Call as Plain, FsContext, Memory, Open, Path, Prctl, Signal};
    vec![
        Call(K::Kill, libc::SYS_kill, 37, Signal, SIGNAL_2),
        Call(K::Kill, libc::SYS_rt_sigqueueinfo, 178, Signal, SIGNAL_2),
        Call(K::Tkill, libc::SYS_tkill, 238, Signal, SIGNAL_2),
        Call(K::Tgkill, libc::SYS_tgkill, 270, Signal, SIGNAL_3),
        Call(K::Tgkill, libc::SYS_rt_tgsigqueueinfo, 335, Signal, SIGNAL_3),
        Call(K::PidfdSendSignal, 424, 424, Signal, Args { fd: 1, implied: TARGET, ..SIGNAL_2 }),
        Call(K::PidfdOpen, 434, 434, Plain, Args { implied: TARGET_RESULT, ..FREQUENT_CALL }),
        Call(K::PidfdGetfd, 438, 438, Plain, Args { fd: 1, implied: TARGET, ..NONE }),
        Call(K::ProcessVmReadv, libc::SYS_process_vm_readv, 347, Plain, FREQUENT_CALL),
        Call(K::ProcessVmWritev, libc::SYS_process_vm_writev, 348, Plain, NONE),
        Call(K::Keyctl, libc::SYS_keyctl, 288, Plain, FREQUENT_CALL),
        Call(K::AddKey, libc::SYS_add_key, 286, Plain, KEY),
        Call(K::RequestKey, libc::SYS_request_key, 287, Plain, KEY),
        Call(K::KexecLoad, libc::SYS_kexec_load, 283, Plain, NONE),
        Call(K::KexecFileLoad, libc::SYS_kexec_file_load, 0, Plain, args!(extra 4)),
        Call(K::Quotactl, libc::SYS_quotactl, 131, Plain, args!(extra 2)),
        Call(K::Swapon, libc::SYS_swapon, 87, Path, args!(path 1, flags 2)),
        Call(K::Swapoff, libc::SYS_swapoff, 115, Path, args!(path 1)),
        Call(K::Reboot, libc::SYS_reboot, 88, Plain, NONE),
        Call(K::Acct, libc::SYS_acct, 51, Path, args!(path 1)),
        Call(K::Syslog, libc::SYS_syslog, 103, Plain, FREQUENT_CALL),
        Call(K::Settimeofday, libc::SYS_settimeofday, 79, Plain, NONE),
        Call(K::ClockSettime, libc::SYS_clock_settime, 264, Plain, NONE),
        Call(K::ClockSettime, NO_NUMBER, 404, Plain, NONE),
        Call(K::PerfEventOpen, libc::SYS_perf_event_open, 336, Plain, FREQUENT_CALL),
        Call(K::LandlockRestrictSelf, 446, 446, Plain, FREQUENT_CALL),
        Call(K::Seccomp, libc::SYS_seccomp, 354, Plain, FREQUENT_CALL),
        Call(K::Prctl, libc::SYS_prctl, 172, Prctl, FREQUENT_CALL),
        Call(K::Personality, libc::SYS_personality, 136, Plain, FREQUENT_CALL),
        Call(K::Setfsuid, libc::SYS_setfsuid, 215, Plain, Args { budget: IDENTITY | FREQUENT, ..NONE }),
        Call(K::Setgroups, libc::SYS_setgroups, 206, Plain, FREQUENT_CALL),
        Call(K::OpenTree, 428, 428, Open, args!(dirfd 1, path 2, flags 3)),
        Call(K::OpenTree, 467, 467, Open, args!(dirfd 1, path 2, flags 3)),
        Call(K::MoveMount, 429, 429, Path, moves!(dirfd 1, path 2, dirfd2 3, path2 4, flags 5)),
        Call(K::Fsopen, 430, 430, Plain, args!(extra 1)),
        Call(K::Fsconfig, 431, 431, FsContext, args!(extra 3)),
        Call(K::Fsmount, 432, 432, FsContext, NONE),
        Call(K::Fspick, 433, 433, Path, args!(dirfd 1, path 2, flags 3)),
        Call(K::MountSetattr, 442, 442, Path, Args { implied: MOUNT_ATTR, ..args!(dirfd 1, path 2, flags 3) }),
        // `path` marks the calls on memory that is there already.
        Call(K::Mprotect, libc::SYS_mprotect, 125, Memory, Args { path: 1, ..FREQUENT_CALL }),
        Call(K::Mprotect, libc::SYS_pkey_mprotect, 380, Memory, Args { path: 1, ..FREQUENT_CALL }),
        Call(K::Mmap, libc::SYS_mmap, 192, Memory, FREQUENT_CALL),
    ]
}

/// Calls of older architectures that newer ones (arm64) have not.
#[cfg(target_arch = "x86_64")]
fn legacy(calls: &mut Vec<Call>) {
    use EventKind as K;
    use Handler::{Call as Plain, Dup, Open, Path};
    calls.extend([
        Call(K::Open, libc::SYS_open, 5, Open, args!(path 1, flags 2, mode 3)),
        Call(K::Creat, libc::SYS_creat, 8, Open, Args { implied: CREAT, ..args!(path 1, mode 2) }),
        Call(K::Unlink, libc::SYS_unlink, 10, Path, args!(path 1)),
        Call(K::Rmdir, libc::SYS_rmdir, 40, Path, args!(path 1)),
        Call(K::Rename, libc::SYS_rename, 38, Path, moves!(path 1, path2 2)),
        Call(K::Link, libc::SYS_link, 9, Path, args!(path 1, path2 2)),
        Call(K::Symlink, libc::SYS_symlink, 83, Path, args!(extra 1, path 2)),
        Call(K::Chmod, libc::SYS_chmod, 15, Path, args!(path 1, mode 2)),
        Call(K::Chown, libc::SYS_chown, 212, Path, args!(path 1, uid 2, gid 3)),
        Call(K::Lchown, libc::SYS_lchown, 198, Path, args!(path 1, uid 2, gid 3)),
        Call(K::Mknod, libc::SYS_mknod, 14, Path, args!(path 1, mode 2, uid 3)),
        Call(K::Mkdir, libc::SYS_mkdir, 39, Path, args!(path 1, mode 2)),
        Call(K::Dup2, libc::SYS_dup2, 63, Dup, NONE),
        Call(K::Ioperm, libc::SYS_ioperm, 101, Plain, NONE),
        Call(K::Iopl, libc::SYS_iopl, 110, Plain, NONE),
        // With numbers of 16 bits, and without flags: what the very first programs used, and still a way around.
        Call(K::Setuid, NO_NUMBER, 23, Plain, IDENTITY_CALL),
        Call(K::Setgid, NO_NUMBER, 46, Plain, IDENTITY_CALL),
        Call(K::Setreuid, NO_NUMBER, 70, Plain, IDENTITY_CALL),
        Call(K::Setregid, NO_NUMBER, 71, Plain, IDENTITY_CALL),
        Call(K::Setresuid, NO_NUMBER, 164, Plain, IDENTITY_CALL),
        Call(K::Setresgid, NO_NUMBER, 170, Plain, IDENTITY_CALL),
        Call(K::Setfsuid, NO_NUMBER, 138, Plain, Args { budget: IDENTITY | FREQUENT, ..NONE }),
        Call(K::Setgroups, NO_NUMBER, 81, Plain, FREQUENT_CALL),
        Call(K::Chown, NO_NUMBER, 182, Path, args!(path 1, uid 2, gid 3)),
        Call(K::Lchown, NO_NUMBER, 16, Path, args!(path 1, uid 2, gid 3)),
        Call(K::Fchown, NO_NUMBER, 95, Path, args!(fd 1, uid 2, gid 3)),
        Call(K::Umount2, NO_NUMBER, 22, Path, moves!(path 1, flags 2)),
    ]);
}

#[cfg(not(target_arch = "x86_64"))]
fn legacy(_: &mut Vec<Call>) {}

impl Config {
    /// The tables for this machine. As many privileged calls a second and cgroup as the options say are reported one by
    /// one, after a burst of twice as many; the rest is counted. `instead`: what stands in for hooks that are missing.
    pub(crate) fn new(self_pid: u32, options: &Options, instead: &[Instead]) -> Self {
        let rate = options.privileged_rate;
        let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        let mut config = Self {
            self_pid,
            kind_clone: EventKind::Clone as u16,
            kind_execve: EventKind::Execve as u16,
            kind_exit: EventKind::Procexit as u16,
            kind_sendto: EventKind::Sendto as u16,
            kind_sendmsg: EventKind::Sendmsg as u16,
            kind_write: EventKind::Write as u16,
            nr_write: libc::SYS_write as u16,
            nr_writev: libc::SYS_writev as u16,
            nr_sendto: libc::SYS_sendto as u16,
            nr_sendmsg: libc::SYS_sendmsg as u16,
            nr_sendmmsg: libc::SYS_sendmmsg as u16,
            kind_execveat: EventKind::Execveat as u16,
            kind_dns: EventKind::Dns as u16,
            nr_read: libc::SYS_read as u16,
            nr_readv: libc::SYS_readv as u16,
            nr_recvfrom: libc::SYS_recvfrom as u16,
            nr_recvmsg: libc::SYS_recvmsg as u16,
            nr_recvmmsg: libc::SYS_recvmmsg as u16,
            kind_flow: EventKind::Flow as u16,
            kind_listen_end: EventKind::ListenEnd as u16,
            by_call: u16::from(!instead.is_empty()),
            pad2: 0,
            bucket_rate: rate,
            bucket_burst: rate.saturating_mul(2),
            flow_tell_ms: millis(options.flow_told_every),
            fold_opens: options.fold_opens.into(),
            flow_idle_ms: millis(options.flow_idle_after),
            handler: [0; CALLS],
            kind: [0; CALLS],
            handler32: [0; CALLS],
            kind32: [0; CALLS],
            lane: [0; KINDS],
            class: [Class::Other as u8; KINDS],
            args: [NONE; KINDS],
            ring_kind: [0; RING_OPS],
            nr_ring: libc::SYS_io_uring_enter as u16,
            ring_cqe: 0,
            socketcall: [0; SOCKETCALLS],
            nr32_socketcall: NR32_SOCKETCALL,
            nr32_write: 4,
            nr32_sendto: 369,
            nr32_sendmsg: 370,
            nr32_read: 3,
            nr32_recvfrom: 371,
            nr32_recvmsg: 372,
            pad: 0,
        };
        for (which, kind) in SOCKETCALL {
            config.socketcall[*which] = *kind as u8;
        }
        if cfg!(target_arch = "x86_64") {
            config.handler32[usize::from(NR32_SOCKETCALL)] = Handler::SocketCall as u8;
        }
        for (op, kind) in RING {
            config.ring_kind[*op] = *kind as u8;
        }
        for info in EVENTS {
            config.lane[info.kind as usize] = Lane::ALL.iter().position(|lane| *lane == info.lane).unwrap_or(2) as u8;
        }
        for info in EVENTS {
            config.class[info.kind as usize] = Class::of_kind(info.kind) as u8;
        }
        for Call(kind, number, number32, handler, args) in calls() {
            config.args[kind as usize] = args;
            if let Some(slot) = usize::try_from(number).ok().filter(|number| *number < CALLS) {
                config.handler[slot] = handler as u8;
                config.kind[slot] = kind as u8;
            }
            if cfg!(target_arch = "x86_64") && number32 != 0 {
                config.handler32[usize::from(number32)] = handler as u8;
                config.kind32[usize::from(number32)] = kind as u8;
            }
        }
        for (numbers, handler) in instead.iter().map(|instead| instead.calls()) {
            for number in numbers {
                if let Some(slot) = config.handler.get_mut(*number as usize) {
                    *slot = handler as u8;
                }
            }
        }
        config
    }
}

/// A watched call as a sensor without a kernel half sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watched {
    pub(crate) kind: EventKind,
    pub(crate) handler: Handler,
    pub(crate) args: Args,
}

impl Config {
    /// What is watched under this number, of the 32-bit table of x86 if `compat`.
    pub(crate) fn watched(&self, compat: bool, number: u64) -> Option<Watched> {
        let slot = usize::try_from(number).ok()?;
        let (handlers, kinds) = if compat { (&self.handler32, &self.kind32) } else { (&self.handler, &self.kind) };
        let handler = Handler::ALL.into_iter().find(|handler| Some(&(*handler as u8)) == handlers.get(slot))?;
        let info = EVENTS.get(usize::from(*kinds.get(slot)?))?;
        Some(Watched { kind: info.kind, handler, args: self.args[info.kind as usize] })
    }

    /// How the tracepoint of an answer of io_uring gives it: as the entry of the queue, or in parts.
    pub(crate) fn ring_answers_in_entries(&mut self, entries: bool) {
        self.ring_cqe = entries.into();
    }

    /// Numbers that are watched, of the 32-bit table of x86 if `compat`.
    pub(crate) fn numbers(&self, compat: bool) -> impl Iterator<Item = u32> {
        let handlers = if compat { &self.handler32 } else { &self.handler };
        // What `watched` knows nothing of need not be seen.
        let known = |handler: u8| handler != 0 && handler != Handler::SocketCall as u8;
        (0_u32..).zip(handlers).filter(move |(_, handler)| known(**handler)).map(|(number, _)| number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_a_number_of_its_own() {
        let calls = calls();
        for (i, a) in calls.iter().enumerate() {
            for b in &calls[i + 1..] {
                assert!(a.1 == NO_NUMBER || a.1 != b.1, "{:?} and {:?}", a.0, b.0);
                assert!(a.2 == 0 || a.2 != b.2, "{:?} and {:?} in the 32-bit table", a.0, b.0);
            }
            assert!((a.1 == NO_NUMBER || (a.1 as usize) < CALLS) && usize::from(a.2) < CALLS);
        }
    }

    #[test]
    fn calls_of_one_kind_have_their_arguments_in_the_same_places() {
        let calls = calls();
        for a in &calls {
            for b in calls.iter().filter(|b| b.0 == a.0) {
                assert_eq!(a.4.as_bytes(), b.4.as_bytes(), "{:?}: one table by kind tells both", a.0);
            }
        }
    }

    #[test]
    fn every_event_has_a_source() {
        use EventKind as K;
        let calls = calls();
        // These come from hooks of their own, or are measured.
        let hooks = [K::Clone, K::Procexit, K::Sendto, K::Sendmsg, K::Write, K::Dns, K::Flow, K::ListenEnd];
        for info in EVENTS {
            let called = calls.iter().any(|call| call.0 == info.kind);
            assert!(called || hooks.contains(&info.kind) || info.kind.is_measurement(), "{} has no source", info.name);
        }
    }
}
