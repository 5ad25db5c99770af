//! What each process gives up before it reads its first hostile byte: capabilities, system calls, files.
//!
//! The agent is root, since it reads other processes; of root's powers it keeps four, it cannot open a network socket
//! and cannot start a program. The manager has a user of its own and no power at all: it reaches its folder, its
//! sockets and its database, and makes only the calls on a list.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use caps::{CapSet, Capability, CapsHashSet};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, NetPort, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus,
};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use tw_model::Mode;

/// What the agent needs while it watches through eBPF: that, tracing, and reading what belongs to others.
pub const AGENT: &[Capability] =
    &[Capability::CAP_BPF, Capability::CAP_PERFMON, Capability::CAP_SYS_PTRACE, Capability::CAP_DAC_READ_SEARCH];

/// The same while it watches through the process connector: to listen to it takes the right over the network, which
/// without sockets it can do nothing else with.
pub const CONNECTOR_AGENT: &[Capability] =
    &[Capability::CAP_NET_ADMIN, Capability::CAP_SYS_PTRACE, Capability::CAP_DAC_READ_SEARCH];

/// The same while fanotify tells of files beside: to watch a file system takes the right over everything. What it could do
/// else is denied by call.
pub const FANOTIFY_AGENT: &[Capability] = &[
    Capability::CAP_NET_ADMIN,
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_DAC_READ_SEARCH,
];

/// What the supervisor needs beside: to make folders for the manager, to start it as another user, to end it.
pub const SUPERVISOR: &[Capability] = &[
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_KILL,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_SETPCAP,
];

/// System calls that an agent has no use for. Those that change the host, start programs or hide from seccomp.
const AGENT_DENIED: &[libc::c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_writev,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_bind,
];

// Of Linux 6.13 and 6.15, with the same numbers on all architectures; the library does not name them yet.
const SYS_SETXATTRAT: libc::c_long = 463;
const SYS_REMOVEXATTRAT: libc::c_long = 466;
const SYS_OPEN_TREE_ATTR: libc::c_long = 467;

/// What the right over everything would allow beside, to an agent that has it.
const ADMIN_DENIED: &[libc::c_long] = &[
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_fsconfig,
    libc::SYS_fspick,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_setdomainname,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    SYS_SETXATTRAT,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    SYS_REMOVEXATTRAT,
    SYS_OPEN_TREE_ATTR,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_pidfd_getfd,
];

/// System calls that a manager may make: memory, threads, time, files, sockets.
const MANAGER_ALLOWED: &[libc::c_long] = &[
    // Memory, threads, signals, the process itself.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_msync,
    libc::SYS_membarrier,
    libc::SYS_rseq,
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_getcpu,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    // Time.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    // Files.
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_clone,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    libc::SYS_umask,
    libc::SYS_utimensat,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_ioctl,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    // Sockets.
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept4,
    libc::SYS_accept,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
];

/// The calls of the same kinds that only x86-64 has.
#[cfg(target_arch = "x86_64")]
const MANAGER_ALLOWED_HERE: &[libc::c_long] = &[
    libc::SYS_arch_prctl,
    libc::SYS_access,
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_chmod,
    libc::SYS_readlink,
    libc::SYS_dup2,
    libc::SYS_poll,
    libc::SYS_epoll_wait,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const MANAGER_ALLOWED_HERE: &[libc::c_long] = &[];

/// Gives up every capability that is not in `keep`, for good: it cannot come back by starting a program either.
/// Must be called before any other thread starts.
///
/// # Errors
/// If the kernel refuses.
pub fn keep_capabilities(keep: &[Capability]) -> anyhow::Result<()> {
    let kept = |set: CapSet| -> anyhow::Result<CapsHashSet> {
        let has = caps::read(None, set)?;
        Ok(has.into_iter().filter(|capability| keep.contains(capability)).collect())
    };
    let may_lower = caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)?;
    if may_lower {
        for capability in caps::read(None, CapSet::Bounding)? {
            if !keep.contains(&capability) {
                caps::drop(None, CapSet::Bounding, capability)
                    .with_context(|| format!("cannot give up {capability} for programs that are started"))?;
            }
        }
    }
    caps::clear(None, CapSet::Ambient).context("cannot clear the ambient capabilities")?;
    for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &kept(set)?).with_context(|| format!("cannot lower the {set:?} capabilities"))?;
    }
    Ok(())
}

/// What an agent needs that watches in this mode.
pub fn of_agent(mode: Mode) -> &'static [Capability] {
    match mode {
        Mode::Fanotify => FANOTIFY_AGENT,
        Mode::Connector => CONNECTOR_AGENT,
        Mode::Ebpf | Mode::Wrap => AGENT,
    }
}

/// The agent's share: four capabilities at most, no network, no program. Must be called before any other thread starts.
///
/// # Errors
/// If the kernel refuses; then the agent must not go on.
pub fn enter_agent(mode: Mode) -> anyhow::Result<()> {
    keep_capabilities(of_agent(mode))?;
    let only_unix = SeccompRule::new(vec![SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Ne,
        libc::AF_UNIX as u64,
    )?])?;
    let more = if mode == Mode::Fanotify { ADMIN_DENIED } else { &[] };
    let mut denied: BTreeMap<i64, Vec<SeccompRule>> =
        AGENT_DENIED.iter().chain(more).map(|call| (*call, Vec::new())).collect();
    denied.insert(libc::SYS_socket, vec![only_unix]);
    install(denied, SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32))
}

/// Everything but writing to what is open already: for who has all that it needs.
///
/// # Errors
/// If the kernel refuses; then the caller must not go on.
pub fn enter_nothing() -> anyhow::Result<()> {
    keep_capabilities(&[])?;
    let mut denied: BTreeMap<i64, Vec<SeccompRule>> = AGENT_DENIED.iter().map(|call| (*call, Vec::new())).collect();
    denied.insert(libc::SYS_socket, Vec::new());
    install(denied, SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32))
}

/// What a manager may reach beside its own sockets.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Folders and files to read.
    pub read: Vec<PathBuf>,
    /// Folders to read and write.
    pub write: Vec<PathBuf>,
    /// TCP ports that it may connect to: the database's, if it is on the network.
    pub connect: Vec<u16>,
    /// TCP ports that it may listen on later: that of metrics, if somebody else had it at the start.
    pub bind: Vec<u16>,
}

/// The manager's share: no capability, the files in `reach`, the calls on the list. Must be called before any other
/// thread starts. Returns what the kernel could not do, for the log.
///
/// # Errors
/// If the kernel refuses what it knows; then the manager must not go on.
pub fn enter_manager(reach: &Reach) -> anyhow::Result<Option<String>> {
    keep_capabilities(&[])?;
    let doubt = limit_files(reach)?;
    let allowed = MANAGER_ALLOWED.iter().chain(MANAGER_ALLOWED_HERE).map(|call| (*call, Vec::new())).collect();
    install(allowed, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow)?;
    Ok(doubt)
}

fn limit_files(reach: &Reach) -> anyhow::Result<Option<String>> {
    // The newest version that this was written against; an older kernel does as much of it as it can.
    let abi = ABI::V5;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .create()
        .context("cannot make a landlock rule set")?;
    let paths = reach.read.iter().map(|path| (path, AccessFs::from_read(abi)));
    for (path, access) in paths.chain(reach.write.iter().map(|path| (path, AccessFs::from_all(abi)))) {
        // What is not there need not be reached.
        let Ok(place) = PathFd::new(path) else { continue };
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(abi) };
        rules = rules.add_rule(PathBeneath::new(place, access))?;
    }
    for port in &reach.connect {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    for port in &reach.bind {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
    }
    let status = rules.restrict_self().context("cannot enter the landlock rule set")?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => None,
        RulesetStatus::PartiallyEnforced => Some("this kernel knows only a part of landlock".to_owned()),
        RulesetStatus::NotEnforced => Some("this kernel has no landlock: files are kept by permissions alone".into()),
    })
}

fn install(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> anyhow::Result<()> {
    // Cores and debuggers would show what redaction took out.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let architecture = std::env::consts::ARCH.try_into().context("seccomp on this architecture")?;
    let program: BpfProgram = SeccompFilter::new(rules, otherwise, matched, architecture)?.try_into()?;
    seccompiler::apply_filter(&program).context("cannot enter the seccomp filter")
}
