//! Names for the arguments of calls on signals, memory, keys, mounts and rights. Sources: the kernel's headers under
//! include/uapi, named at each table.

use super::Names;

/// Signals (asm/signal.h; x86 and arm64 agree).
pub const SIGNAL: Names = &[
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGILL", 4),
    ("SIGTRAP", 5),
    ("SIGABRT", 6),
    ("SIGBUS", 7),
    ("SIGFPE", 8),
    ("SIGKILL", 9),
    ("SIGUSR1", 10),
    ("SIGSEGV", 11),
    ("SIGUSR2", 12),
    ("SIGPIPE", 13),
    ("SIGALRM", 14),
    ("SIGTERM", 15),
    ("SIGSTKFLT", 16),
    ("SIGCHLD", 17),
    ("SIGCONT", 18),
    ("SIGSTOP", 19),
    ("SIGTSTP", 20),
    ("SIGTTIN", 21),
    ("SIGTTOU", 22),
    ("SIGURG", 23),
    ("SIGXCPU", 24),
    ("SIGXFSZ", 25),
    ("SIGVTALRM", 26),
    ("SIGPROF", 27),
    ("SIGWINCH", 28),
    ("SIGIO", 29),
    ("SIGPWR", 30),
    ("SIGSYS", 31),
];

/// Protection of memory (asm-generic/mman-common.h).
pub const PROT: Names = &[("PROT_READ", 1), ("PROT_WRITE", 2), ("PROT_EXEC", 4)];

/// Flags of mmap (linux/mman.h, asm-generic/mman.h).
pub const MAP: Names = &[
    ("MAP_SHARED", 1),
    ("MAP_PRIVATE", 2),
    ("MAP_FIXED", 0x10),
    ("MAP_ANONYMOUS", 0x20),
    ("MAP_GROWSDOWN", 0x100),
    ("MAP_DENYWRITE", 0x800),
    ("MAP_LOCKED", 0x2000),
    ("MAP_NORESERVE", 0x4000),
    ("MAP_POPULATE", 0x8000),
    ("MAP_STACK", 0x2_0000),
    ("MAP_HUGETLB", 0x4_0000),
];

/// Options of prctl that are told (linux/prctl.h).
pub const PRCTL: Names = &[
    ("PR_SET_DUMPABLE", 4),
    ("PR_SET_KEEPCAPS", 8),
    ("PR_SET_NAME", 15),
    ("PR_SET_SECCOMP", 22),
    ("PR_CAPBSET_DROP", 24),
    ("PR_SET_SECUREBITS", 28),
    ("PR_SET_MM", 35),
    ("PR_SET_CHILD_SUBREAPER", 36),
    ("PR_SET_NO_NEW_PRIVS", 38),
    ("PR_CAP_AMBIENT", 47),
    ("PR_SET_PTRACER", 0x5961_6d61),
];

/// Operations of keyctl (linux/keyctl.h).
pub const KEYCTL: Names = &[
    ("KEYCTL_GET_KEYRING_ID", 0),
    ("KEYCTL_JOIN_SESSION_KEYRING", 1),
    ("KEYCTL_UPDATE", 2),
    ("KEYCTL_REVOKE", 3),
    ("KEYCTL_CHOWN", 4),
    ("KEYCTL_SETPERM", 5),
    ("KEYCTL_DESCRIBE", 6),
    ("KEYCTL_CLEAR", 7),
    ("KEYCTL_LINK", 8),
    ("KEYCTL_UNLINK", 9),
    ("KEYCTL_SEARCH", 10),
    ("KEYCTL_READ", 11),
    ("KEYCTL_INSTANTIATE", 12),
    ("KEYCTL_NEGATE", 13),
    ("KEYCTL_SET_REQKEY_KEYRING", 14),
    ("KEYCTL_SET_TIMEOUT", 15),
    ("KEYCTL_ASSUME_AUTHORITY", 16),
    ("KEYCTL_GET_SECURITY", 17),
    ("KEYCTL_SESSION_TO_PARENT", 18),
    ("KEYCTL_REJECT", 19),
    ("KEYCTL_INSTANTIATE_IOV", 20),
    ("KEYCTL_INVALIDATE", 21),
    ("KEYCTL_GET_PERSISTENT", 22),
    ("KEYCTL_MOVE", 30),
];

/// Operations of seccomp (linux/seccomp.h).
pub const SECCOMP: Names = &[
    ("SECCOMP_SET_MODE_STRICT", 0),
    ("SECCOMP_SET_MODE_FILTER", 1),
    ("SECCOMP_GET_ACTION_AVAIL", 2),
    ("SECCOMP_GET_NOTIF_SIZES", 3),
];

/// Flags of seccomp (linux/seccomp.h).
pub const SECCOMP_FLAGS: Names = &[
    ("SECCOMP_FILTER_FLAG_TSYNC", 1),
    ("SECCOMP_FILTER_FLAG_LOG", 2),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", 4),
    ("SECCOMP_FILTER_FLAG_NEW_LISTENER", 8),
    ("SECCOMP_FILTER_FLAG_TSYNC_ESRCH", 16),
];

/// Commands of fsconfig (linux/mount.h).
pub const FSCONFIG: Names = &[
    ("FSCONFIG_SET_FLAG", 0),
    ("FSCONFIG_SET_STRING", 1),
    ("FSCONFIG_SET_BINARY", 2),
    ("FSCONFIG_SET_PATH", 3),
    ("FSCONFIG_SET_PATH_EMPTY", 4),
    ("FSCONFIG_SET_FD", 5),
    ("FSCONFIG_CMD_CREATE", 6),
    ("FSCONFIG_CMD_RECONFIGURE", 7),
    ("FSCONFIG_CMD_CREATE_EXCL", 8),
];

/// Attributes of mounts: fsmount, mount_setattr (linux/mount.h).
pub const MOUNT_ATTR: Names = &[
    ("MOUNT_ATTR_RDONLY", 1),
    ("MOUNT_ATTR_NOSUID", 2),
    ("MOUNT_ATTR_NODEV", 4),
    ("MOUNT_ATTR_NOEXEC", 8),
    ("MOUNT_ATTR_NOATIME", 0x10),
    ("MOUNT_ATTR_STRICTATIME", 0x20),
    ("MOUNT_ATTR_NODIRATIME", 0x80),
    ("MOUNT_ATTR_IDMAP", 0x10_0000),
    ("MOUNT_ATTR_NOSYMFOLLOW", 0x20_0000),
];

/// Flags of move_mount (linux/mount.h).
pub const MOVE_MOUNT: Names = &[
    ("MOVE_MOUNT_F_SYMLINKS", 1),
    ("MOVE_MOUNT_F_AUTOMOUNTS", 2),
    ("MOVE_MOUNT_F_EMPTY_PATH", 4),
    ("MOVE_MOUNT_T_SYMLINKS", 0x10),
    ("MOVE_MOUNT_T_AUTOMOUNTS", 0x20),
    ("MOVE_MOUNT_T_EMPTY_PATH", 0x40),
    ("MOVE_MOUNT_SET_GROUP", 0x100),
    ("MOVE_MOUNT_BENEATH", 0x200),
];

/// Flags of open_tree and mount_setattr (linux/mount.h, linux/fcntl.h).
pub const TREE: Names = &[
    ("OPEN_TREE_CLONE", 1),
    ("AT_SYMLINK_NOFOLLOW", 0x100),
    ("AT_NO_AUTOMOUNT", 0x800),
    ("AT_EMPTY_PATH", 0x1000),
    ("AT_RECURSIVE", 0x8000),
    ("OPEN_TREE_CLOEXEC", 0o2_000_000),
];

/// Actions of syslog (include/linux/syslog.h).
pub const SYSLOG: Names = &[
    ("SYSLOG_ACTION_CLOSE", 0),
    ("SYSLOG_ACTION_OPEN", 1),
    ("SYSLOG_ACTION_READ", 2),
    ("SYSLOG_ACTION_READ_ALL", 3),
    ("SYSLOG_ACTION_READ_CLEAR", 4),
    ("SYSLOG_ACTION_CLEAR", 5),
    ("SYSLOG_ACTION_CONSOLE_OFF", 6),
    ("SYSLOG_ACTION_CONSOLE_ON", 7),
    ("SYSLOG_ACTION_CONSOLE_LEVEL", 8),
    ("SYSLOG_ACTION_SIZE_UNREAD", 9),
    ("SYSLOG_ACTION_SIZE_BUFFER", 10),
];

/// Commands of reboot (linux/reboot.h).
pub const REBOOT: Names = &[
    ("LINUX_REBOOT_CMD_RESTART", 0x0123_4567),
    ("LINUX_REBOOT_CMD_HALT", 0xcdef_0123),
    ("LINUX_REBOOT_CMD_CAD_ON", 0x89ab_cdef),
    ("LINUX_REBOOT_CMD_CAD_OFF", 0),
    ("LINUX_REBOOT_CMD_POWER_OFF", 0x4321_fedc),
    ("LINUX_REBOOT_CMD_RESTART2", 0xa1b2_c3d4),
    ("LINUX_REBOOT_CMD_SW_SUSPEND", 0xd000_fce2),
    ("LINUX_REBOOT_CMD_KEXEC", 0x4558_4543),
];

/// Commands of quotactl, without the type of the quota (linux/quota.h, linux/dqblk_xfs.h).
pub const QUOTA: Names = &[
    ("Q_SYNC", 0x80_0001),
    ("Q_QUOTAON", 0x80_0002),
    ("Q_QUOTAOFF", 0x80_0003),
    ("Q_GETFMT", 0x80_0004),
    ("Q_GETINFO", 0x80_0005),
    ("Q_SETINFO", 0x80_0006),
    ("Q_GETQUOTA", 0x80_0007),
    ("Q_SETQUOTA", 0x80_0008),
    ("Q_GETNEXTQUOTA", 0x80_0009),
    ("Q_XQUOTAON", 0x5801),
    ("Q_XQUOTAOFF", 0x5802),
    ("Q_XGETQUOTA", 0x5803),
    ("Q_XSETQLIM", 0x5804),
];

/// Types of quotas (linux/quota.h).
pub const QUOTA_TYPE: Names = &[("USRQUOTA", 0), ("GRPQUOTA", 1), ("PRJQUOTA", 2)];

/// Bits of personality that matter (linux/personality.h).
pub const PERSONALITY: Names = &[
    ("ADDR_NO_RANDOMIZE", 0x004_0000),
    ("MMAP_PAGE_ZERO", 0x010_0000),
    ("ADDR_COMPAT_LAYOUT", 0x020_0000),
    ("READ_IMPLIES_EXEC", 0x040_0000),
    ("ADDR_LIMIT_32BIT", 0x080_0000),
    ("ADDR_LIMIT_3GB", 0x800_0000),
];

/// Clocks (linux/time.h).
pub const CLOCK: Names = &[("CLOCK_REALTIME", 0), ("CLOCK_MONOTONIC", 1), ("CLOCK_BOOTTIME", 7), ("CLOCK_TAI", 11)];
