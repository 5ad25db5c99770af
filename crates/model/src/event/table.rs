//! The table of event kinds: the one place that says which events exist, how they travel and what they carry.
//! The kernel half is told the numbers by the sensor, so that nothing depends on an architecture's call numbers.

use super::names::OTHER_TYPES;
#[cfg(test)]
use super::names::PARAMS;

/// The ring that an event travels in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// fork, exec, exit: never shared with anything that a container can repeat cheaply.
    Lifecycle,
    /// Privileged calls, limited per cgroup by a token bucket, the rest counted.
    Privileged,
    /// Everything that is frequent.
    Bulk,
}

impl Lane {
    /// All lanes, in ring order.
    pub const ALL: [Self; 3] = [Self::Lifecycle, Self::Privileged, Self::Bulk];

    /// Name for people and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lifecycle => "lifecycle",
            Self::Privileged => "privileged",
            Self::Bulk => "bulk",
        }
    }
}

/// The body that a record of a kind has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// [`crate::raw::ForkBody`]
    Fork,
    /// [`crate::raw::ExecBody`]
    Exec,
    /// [`crate::raw::ExitBody`]
    Exit,
    /// [`crate::raw::FileBody`]
    File,
    /// [`crate::raw::SockBody`]
    Sock,
    /// [`crate::raw::CallBody`]
    Call,
    /// [`crate::raw::ResourceBody`]
    Resource,
}

/// One row of [`EVENTS`].
#[derive(Debug, PartialEq, Eq)]
pub struct EventInfo {
    /// The kind; its number is the row.
    pub kind: EventKind,
    /// Name in rules (`evt.type`).
    pub name: &'static str,
    /// Lane.
    pub lane: Lane,
    /// Body.
    pub shape: Shape,
    /// Parameters for `evt.arg`, in Falco's order.
    pub params: &'static [&'static str],
    /// Falco's `evt.category`.
    pub category: &'static str,
}

macro_rules! events {
    ($($(#[$doc:meta])* $kind:ident $name:literal $lane:ident $shape:ident $category:literal [$($param:literal)*];)*) => {
        /// A kind of event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum EventKind { $($(#[$doc])* #[doc = concat!("`", $name, "`")] $kind,)* }

        /// Every kind of event, in the order of [`EventKind`].
        pub static EVENTS: &[EventInfo] = &[$(EventInfo {
            kind: EventKind::$kind, name: $name, lane: Lane::$lane, shape: Shape::$shape,
            params: &[$($param),*], category: $category,
        },)*];
    };
}

events! {
    /// A process forked; seen from the caller.
    Clone "clone" Lifecycle Fork "process" ["res" "exe" "args" "tid" "pid" "ptid" "cwd" "comm" "flags" "uid" "gid" "vpid"];
    /// A process executed a file.
    Execve "execve" Lifecycle Exec "process" ["res" "exe" "args" "tid" "pid" "ptid" "cwd" "comm" "env" "tty" "vpgid" "loginuid" "flags" "cap_inheritable" "cap_permitted" "cap_effective" "exe_ino" "exe_ino_ctime" "exe_ino_mtime" "uid" "trusted_exepath" "pgid" "gid" "filename"];
    /// The same by descriptor.
    Execveat "execveat" Lifecycle Exec "process" ["res" "exe" "args" "tid" "pid" "ptid" "cwd" "comm" "env" "tty" "vpgid" "loginuid" "flags" "cap_inheritable" "cap_permitted" "cap_effective" "exe_ino" "exe_ino_ctime" "exe_ino_mtime" "uid" "trusted_exepath" "pgid" "gid"];
    /// The last thread of a process ended.
    Procexit "procexit" Lifecycle Exit "process" ["status" "ret" "sig" "core"];

    Open "open" Bulk File "file" ["fd" "name" "flags" "mode" "dev" "ino"];
    Openat "openat" Bulk File "file" ["fd" "dirfd" "name" "flags" "mode" "dev" "ino"];
    Openat2 "openat2" Bulk File "file" ["fd" "dirfd" "name" "flags" "mode" "dev" "ino"];
    Creat "creat" Bulk File "file" ["fd" "name" "mode" "dev" "ino" "creat_flags"];
    OpenByHandleAt "open_by_handle_at" Bulk File "file" ["fd" "mountfd" "flags" "path" "dev" "ino"];
    Unlink "unlink" Bulk File "file" ["res" "path"];
    Unlinkat "unlinkat" Bulk File "file" ["res" "dirfd" "name" "flags"];
    Rmdir "rmdir" Bulk File "file" ["res" "path"];
    Rename "rename" Bulk File "file" ["res" "oldpath" "newpath"];
    Renameat "renameat" Bulk File "file" ["res" "olddirfd" "oldpath" "newdirfd" "newpath"];
    Renameat2 "renameat2" Bulk File "file" ["res" "olddirfd" "oldpath" "newdirfd" "newpath" "flags"];
    Link "link" Bulk File "file" ["res" "oldpath" "newpath"];
    Linkat "linkat" Bulk File "file" ["res" "olddir" "oldpath" "newdir" "newpath" "flags"];
    Symlink "symlink" Bulk File "file" ["res" "target" "linkpath"];
    Symlinkat "symlinkat" Bulk File "file" ["res" "target" "linkdirfd" "linkpath"];
    Chmod "chmod" Bulk File "file" ["res" "filename" "mode"];
    Fchmod "fchmod" Bulk File "file" ["res" "fd" "mode"];
    Fchmodat "fchmodat" Bulk File "file" ["res" "dirfd" "filename" "mode"];
    Chown "chown" Bulk File "file" ["res" "path" "uid" "gid"];
    Lchown "lchown" Bulk File "file" ["res" "path" "uid" "gid"];
    Fchown "fchown" Bulk File "file" ["res" "fd" "uid" "gid"];
    Fchownat "fchownat" Bulk File "file" ["res" "dirfd" "pathname" "uid" "gid" "flags"];
    Mkdir "mkdir" Bulk File "file" ["res" "path" "mode"];
    Mkdirat "mkdirat" Bulk File "file" ["res" "dirfd" "path" "mode"];
    Chdir "chdir" Bulk File "file" ["res" "path"];
    Fchdir "fchdir" Bulk File "file" ["res" "fd"];
    Mount "mount" Privileged File "file" ["res" "dev" "dir" "type" "flags"];
    Umount2 "umount2" Privileged File "file" ["res" "name" "flags"];
    Chroot "chroot" Privileged File "process" ["res" "path"];
    PivotRoot "pivot_root" Privileged File "file" ["res" "newpath" "oldpath"];

    Socket "socket" Bulk Call "net" ["fd" "domain" "type" "proto"];
    Connect "connect" Bulk Sock "net" ["res" "tuple" "fd" "addr"];
    Accept "accept" Bulk Sock "net" ["fd" "tuple"];
    Accept4 "accept4" Bulk Sock "net" ["fd" "tuple" "flags"];
    Bind "bind" Bulk Sock "net" ["res" "addr" "fd"];
    Listen "listen" Bulk Sock "net" ["res" "fd" "backlog"];
    Sendto "sendto" Bulk Sock "net" ["res" "data" "fd" "size" "tuple"];
    Sendmsg "sendmsg" Bulk Sock "net" ["res" "data" "fd" "size" "tuple"];
    /// Only the first bytes of a new connection.
    Write "write" Bulk Sock "IO" ["res" "data" "fd" "size"];
    /// Only onto descriptors 0, 1 and 2.
    Dup "dup" Bulk Sock "IO" ["res" "oldfd"];
    /// Only onto descriptors 0, 1 and 2.
    Dup2 "dup2" Bulk Sock "IO" ["res" "oldfd" "newfd"];
    /// Only onto descriptors 0, 1 and 2.
    Dup3 "dup3" Bulk Sock "IO" ["res" "oldfd" "newfd" "flags"];

    Setuid "setuid" Privileged Call "user" ["res" "uid"];
    Setgid "setgid" Privileged Call "user" ["res" "gid"];
    Setreuid "setreuid" Privileged Call "user" ["res" "ruid" "euid"];
    Setregid "setregid" Privileged Call "user" ["res" "rgid" "egid"];
    Setresuid "setresuid" Privileged Call "user" ["res" "ruid" "euid" "suid"];
    Setresgid "setresgid" Privileged Call "user" ["res" "rgid" "egid" "sgid"];
    Capset "capset" Privileged Call "process" ["res" "cap_inheritable" "cap_permitted" "cap_effective"];
    Setns "setns" Privileged Call "process" ["res" "fd" "nstype"];
    Unshare "unshare" Privileged Call "process" ["res" "flags"];
    Ptrace "ptrace" Privileged Call "process" ["res" "addr" "data" "request" "pid"];
    MemfdCreate "memfd_create" Privileged Call "memory" ["fd" "name" "flags"];
    Bpf "bpf" Privileged Call "system" ["fd" "cmd"];
    InitModule "init_module" Privileged Call "system" ["res" "length" "uargs"];
    FinitModule "finit_module" Privileged Call "system" ["res" "fd" "uargs" "flags"];
    DeleteModule "delete_module" Privileged Call "system" ["res" "name" "flags"];
    Userfaultfd "userfaultfd" Privileged Call "memory" ["res" "flags"];
    IoUringSetup "io_uring_setup" Privileged Call "IO" ["res" "entries" "flags"];

    // Signals, and other processes.
    Kill "kill" Privileged Call "signal" ["res" "pid" "sig"];
    Tkill "tkill" Privileged Call "signal" ["res" "tid" "sig"];
    Tgkill "tgkill" Privileged Call "signal" ["res" "pid" "tid" "sig"];
    PidfdSendSignal "pidfd_send_signal" Privileged Call "signal" ["res" "pid_fd" "sig" "flags"];
    PidfdOpen "pidfd_open" Privileged Call "process" ["fd" "pid" "flags"];
    PidfdGetfd "pidfd_getfd" Privileged Call "process" ["fd" "pid_fd" "target_fd" "flags"];
    ProcessVmReadv "process_vm_readv" Privileged Call "ipc" ["res" "pid"];
    ProcessVmWritev "process_vm_writev" Privileged Call "ipc" ["res" "pid"];
    // Keys.
    Keyctl "keyctl" Privileged Call "other" ["res" "option" "key"];
    AddKey "add_key" Privileged Call "other" ["res" "type" "name"];
    RequestKey "request_key" Privileged Call "other" ["res" "type" "name"];
    // The machine.
    KexecLoad "kexec_load" Privileged Call "system" ["res" "entries" "flags"];
    KexecFileLoad "kexec_file_load" Privileged Call "system" ["res" "fd" "uargs" "flags"];
    Quotactl "quotactl" Privileged Call "system" ["res" "cmd" "type" "id" "special"];
    Swapon "swapon" Privileged File "system" ["res" "path" "flags"];
    Swapoff "swapoff" Privileged File "system" ["res" "path"];
    Reboot "reboot" Privileged Call "system" ["res" "cmd"];
    Acct "acct" Privileged File "system" ["res" "path"];
    Syslog "syslog" Privileged Call "system" ["res" "option"];
    Settimeofday "settimeofday" Privileged Call "time" ["res"];
    ClockSettime "clock_settime" Privileged Call "time" ["res" "id"];
    Ioperm "ioperm" Privileged Call "system" ["res" "offset" "length" "flags"];
    Iopl "iopl" Privileged Call "system" ["res" "level"];
    PerfEventOpen "perf_event_open" Privileged Call "system" ["fd" "pid" "cpu" "flags"];
    // What a process does to its own rights.
    LandlockRestrictSelf "landlock_restrict_self" Privileged Call "process" ["res" "fd" "flags"];
    Seccomp "seccomp" Privileged Call "process" ["res" "op" "flags"];
    /// Only options that change rights, the name or the memory map.
    Prctl "prctl" Privileged Call "process" ["res" "option" "arg2_str" "arg2_int"];
    Personality "personality" Privileged Call "process" ["res" "persona"];
    Setfsuid "setfsuid" Privileged Call "user" ["res" "uid"];
    Setgroups "setgroups" Privileged Call "user" ["res" "length"];
    // Mounts since 5.2.
    Fsopen "fsopen" Privileged Call "file" ["fd" "name" "flags"];
    Fsconfig "fsconfig" Privileged Call "file" ["res" "fd" "cmd" "key" "value_charbuf" "aux" "type"];
    Fsmount "fsmount" Privileged Call "file" ["fd" "fs_fd" "flags" "attr_flags" "type" "source"];
    Fspick "fspick" Privileged File "file" ["fd" "dirfd" "path" "flags"];
    OpenTree "open_tree" Privileged File "file" ["fd" "dirfd" "path" "flags"];
    MoveMount "move_mount" Privileged File "file" ["res" "olddirfd" "oldpath" "newdirfd" "newpath" "flags"];
    MountSetattr "mount_setattr" Privileged File "file" ["res" "dirfd" "path" "flags" "attr_set" "attr_clr" "propagation"];
    // Memory.
    /// Only memory that becomes executable and is, or was, writable.
    Mprotect "mprotect" Privileged Call "memory" ["res" "addr" "length" "prot"];
    /// Only memory that is writable and executable at once.
    Mmap "mmap" Privileged Call "memory" ["res" "addr" "length" "prot" "flags" "fd" "offset"];

    // Measurements: no system calls.

    /// What a container used since the last look. The process is the container's first.
    Resource "resource" Bulk Resource "metric" ["cpu" "memory" "read" "written" "received" "sent" "processes" "descriptors"];

    // The network.
    /// A DNS message was sent or received, by a client or by a server.
    Dns "dns" Bulk Sock "net" ["res" "name" "type" "rcode" "answers" "size" "tuple"];
    /// What went over a connection or a socket of datagrams: at its end, and now and then before.
    Flow "flow" Bulk Sock "metric" ["res" "state" "bytes_out" "bytes_in" "packets_out" "packets_in" "tuple"];

    /// A minute of one class of events of one container, of which something was missed; or of the whole host.
    Coverage "coverage" Bulk Call "metric" ["percent" "class" "seen" "lost" "folded" "sampled" "repeated" "reason"];

    /// A socket listens no more. The process is the one that gave it up.
    ListenEnd "listen_end" Bulk Sock "net" ["addr"];

    // Files that are no plain files, and what is written beside a file.
    Mknod "mknod" Bulk File "file" ["res" "path" "mode" "dev"];
    Mknodat "mknodat" Bulk File "file" ["res" "dirfd" "path" "mode" "dev"];
    Setxattr "setxattr" Bulk File "file" ["res" "path" "name" "flags"];
    Lsetxattr "lsetxattr" Bulk File "file" ["res" "path" "name" "flags"];
    Fsetxattr "fsetxattr" Bulk File "file" ["res" "fd" "name" "flags"];
    Setxattrat "setxattrat" Bulk File "file" ["res" "dirfd" "path" "name"];
}

impl EventKind {
    /// The row of the table.
    pub fn info(self) -> &'static EventInfo {
        &EVENTS[self as usize]
    }

    /// Whether it is a measurement: no act of a process, so that only rules that name it by `evt.type` are tried on it.
    pub fn is_measurement(self) -> bool {
        self.info().category == "metric"
    }

    /// Whether the agent tells it of itself: the process is the agent's, whatever the container.
    pub fn is_internal(self) -> bool {
        matches!(self, Self::Coverage)
    }

    /// Whether the kernel half tells it: what is lost of such is counted there.
    pub fn is_from_kernel(self) -> bool {
        !self.is_measurement() || self == Self::Flow
    }

    /// Name in rules.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// The kind of this name. Spellings of one call that Falco knows by several names are folded.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = match name {
            "clone3" | "fork" | "vfork" => "clone",
            "umount" => "umount2",
            "fchmodat2" => "fchmodat",
            "sendmmsg" => "sendmsg",
            "writev" => "write",
            "rt_sigqueueinfo" => "kill",
            "rt_tgsigqueueinfo" => "tgkill",
            "pkey_mprotect" => "mprotect",
            "mmap2" => "mmap",
            "quotactl_fd" => "quotactl",
            other => other,
        };
        EVENTS.iter().find(|info| info.name == name).map(|info| info.kind)
    }
}

/// Whether `evt.type` may be compared with `name`, even if nothing delivers such events yet.
pub fn is_known_type(name: &str) -> bool {
    EventKind::from_name(name).is_some() || OTHER_TYPES.binary_search(&name).is_ok()
}

/// All names that `evt.type` may be compared with.
pub fn known_types() -> impl Iterator<Item = &'static str> {
    EVENTS.iter().map(|info| info.name).chain(OTHER_TYPES.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_the_order_of_the_kinds_and_fit_a_kind_set() {
        for (row, info) in EVENTS.iter().enumerate() {
            assert_eq!(info.kind as usize, row);
        }
        assert!(EVENTS.len() <= 128);
    }

    #[test]
    fn every_parameter_can_be_named_in_a_rule() {
        for info in EVENTS {
            for param in info.params {
                assert!(PARAMS.contains(param), "{}.{param} is missing in PARAMS", info.name);
            }
        }
    }

    #[test]
    fn other_types_are_sorted_for_the_search_and_not_ours() {
        assert!(OTHER_TYPES.is_sorted());
        assert_eq!(OTHER_TYPES.iter().find(|name| EventKind::from_name(name).is_some()), None);
    }
}
