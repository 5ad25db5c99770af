//! The events of captures that are understood, by number, and where each has its arguments.
//!
//! Numbers and parameters: `driver/ppm_events_public.h`, `driver/event_table.c` and the converter's `table.cpp` of
//! falcosecurity/libs, of 2021 to 2025. Old events tell arguments when a call begins, newer ones when it ends, and the
//! newest have no begin: an argument has up to two places, the end's counts first.

use tw_model::EventKind as K;

/// What is done with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Not of our kinds.
    Other,
    /// A begin whose arguments the end needs.
    Begin,
    Open(K),
    Path(K),
    Socket,
    Connect,
    Accept(K),
    Bind,
    Listen,
    /// Datagrams are of this kind.
    Send(K),
    Dup(K),
    Call(K),
    Clone,
    Exec(K),
    Exit,
    /// These only change what is known.
    Close,
    Pipe,
    Pair,
    Fcntl,
    Setsid,
    Setpgid,
    /// A container, in the words of the oldest, of later and of the newest writers.
    ContainerWords,
    Container,
    Async,
    User,
    Group,
    /// The writer had to leave events out.
    Drop,
}

/// An argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Ret,
    Fd,
    Fd2,
    OldFd,
    Dirfd,
    Path,
    Dirfd2,
    Path2,
    /// Absolute, as the kernel resolved it.
    FullPath,
    Extra,
    Flags,
    Mode,
    Dev,
    Ino,
    Uid,
    Gid,
    Tuple,
    Addr,
    Size,
    Data,
    Backlog,
    A0,
    A1,
    A2,
    A3,
    Exe,
    Args,
    Tid,
    Pid,
    Ptid,
    Cwd,
    Comm,
    Cgroups,
    Env,
    Tty,
    Vpgid,
    Pgid,
    LoginUid,
    ExeFlags,
    CapInheritable,
    CapPermitted,
    CapEffective,
    Ctime,
    Mtime,
    ExePath,
    Filename,
    Vpid,
}

/// No place.
const NO: u8 = u8::MAX;

/// Where an argument is: number of the parameter of the end, and of the begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub role: Role,
    pub end: u8,
    pub begin: u8,
}

/// An event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub act: Act,
    /// Most parameters that it had while events did not say how many they have.
    pub most: u8,
    pub places: &'static [Place],
}

const OTHER: Row = Row { act: Act::Other, most: 0, places: &[] };

impl Row {
    /// The row of an event.
    pub(super) fn of(number: u16) -> &'static Self {
        ROWS.get(usize::from(number)).unwrap_or(&OTHER)
    }

    pub(super) fn place(&self, role: Role) -> Option<Place> {
        self.places.iter().find(|place| place.role == role).copied()
    }
}

/// Events up to this one are in the table.
const ROWS_LENGTH: usize = 426;

macro_rules! place {
    ($role:ident $end:literal) => {
        Place { role: Role::$role, end: $end, begin: NO }
    };
    ($role:ident $end:literal or $begin:literal) => {
        Place { role: Role::$role, end: $end, begin: $begin }
    };
    ($role:ident or $begin:literal) => {
        Place { role: Role::$role, end: NO, begin: $begin }
    };
}

macro_rules! rows {
    ($($number:literal $most:literal $act:expr, [$($role:ident $($end:literal)? $(or $begin:literal)?),*];)*) => {{
        let mut rows = [OTHER; ROWS_LENGTH];
        $(rows[$number] = Row { act: $act, most: $most, places: &[$(place!($role $($end)? $(or $begin)?)),*] };)*
        rows
    }};
}

/// By number: `number most act, [argument end or begin, …]`.
static ROWS: [Row; ROWS_LENGTH] = {
    use Act::{
        Accept, Bind, Call, Clone, Close, Connect, Dup, Exec, Exit, Fcntl, Listen, Open, Pair, Path, Pipe, Send,
        Setpgid, Setsid, Socket,
    };
    let mut rows = rows! {
        3 6 Open(K::Open), [Ret 0, Path 1, Flags 2, Mode 3, Dev 4, Ino 5];
        5 1 Close, [Ret 0, Fd 1 or 0];
        9 2 Send(K::Sendto), [Ret 0, Data 1, Fd 2 or 0, Size 3 or 1];
        13 8 Exec(K::Execve), [Ret 0, Exe 1, Args 2, Tid 3, Pid 4, Ptid 5, Cwd 6];
        15 11 Clone, [Ret 0, Exe 1, Args 2, Tid 3, Pid 4, Ptid 5, Cwd 6, Flags 8, Uid 9, Gid 10];
        16 0 Exit, [];
        19 1 Socket, [Ret 0, A0 1 or 0, A1 2 or 1, A2 3 or 2];
        21 2 Bind, [Ret 0, Addr 1, Fd 2 or 0];
        23 3 Connect, [Ret 0, Tuple 1, Fd 2 or 0, Addr 3 or 1];
        25 1 Listen, [Ret 0, Fd 1 or 0, Backlog 2 or 1];
        27 3 Accept(K::Accept), [Ret 0, Tuple 1];
        29 2 Send(K::Sendto), [Ret 0, Data 1, Fd 2 or 0, Size 3 or 1, Tuple 4];
        31 2 Send(K::Sendto), [Ret 0, Data 1, Fd 2 or 0, Size 3 or 1, Tuple 4 or 2];
        43 5 Pair, [Ret 0, Fd 1, Fd2 2, A0 5 or 0, A1 6 or 1];
        49 2 Send(K::Sendmsg), [Ret 0, Data 1, Fd 2 or 0, Size 3 or 1, Tuple 4 or 2];
        51 0 Send(K::Sendmsg), [Ret 0, Fd 1, Size 2, Data 3, Tuple 4];
        57 3 Accept(K::Accept4), [Ret 0, Tuple 1, Flags or 0];
        59 5 Open(K::Creat), [Ret 0, Path 1, Mode 2, Dev 3, Ino 4, Flags 5];
        61 4 Pipe, [Ret 0, Fd 1, Fd2 2, Ino 3];
        95 2 Path(K::Chdir), [Ret 0, Path 1];
        97 1 Path(K::Fchdir), [Ret 0, Fd 1 or 0];
        99 1 Path(K::Mkdir), [Ret 0, Path or 0, Mode or 1];
        101 1 Path(K::Rmdir), [Ret 0, Path or 0];
        103 1 Open(K::Openat), [Ret 0, Dirfd or 0, Path or 1, Flags or 2, Mode or 3];
        105 1 Path(K::Link), [Ret 0, Path or 0, Path2 or 1];
        107 1 Path(K::Linkat), [Ret 0, Dirfd or 0, Path or 1, Dirfd2 or 2, Path2 or 3];
        109 1 Path(K::Unlink), [Ret 0, Path or 0];
        111 1 Path(K::Unlinkat), [Ret 0, Dirfd or 0, Path or 1];
        119 2 Send(K::Sendto), [Ret 0, Data 1, Fd 2 or 0, Size 3 or 1];
        125 1 Dup(K::Dup), [Ret 0, OldFd or 0];
        129 1 Call(K::Kill), [Ret 0, A0 1 or 0, A1 2 or 1];
        131 1 Call(K::Tkill), [Ret 0, A0 1 or 0, A1 2 or 1];
        133 1 Call(K::Tgkill), [Ret 0, A0 1 or 0, A1 2 or 1, A2 3 or 2];
        148 1 Act::Drop, [];
        149 1 Act::Drop, [];
        151 1 Fcntl, [Ret 0, OldFd 1 or 0, A0 2 or 1];
        155 13 Exec(K::Execve), [Ret 0, Exe 1, Args 2, Tid 3, Pid 4, Ptid 5, Cwd 6];
        157 16 Clone, [Ret 0, Exe 1, Args 2, Tid 3, Pid 4, Ptid 5, Cwd 6, Flags 13, Uid 14, Gid 15];
        169 3 Call(K::Ptrace), [Ret 0, A2 1, A3 2, A0 3 or 0, A1 4 or 1];
        173 14 Exec(K::Execve), [Ret 0, Exe 1, Args 2, Tid 3, Pid 4, Ptid 5, Cwd 6, Env 13];
        175 3 Path(K::Rename), [Ret 0, Path 1, Path2 2];
        177 5 Path(K::Renameat), [Ret 0, Dirfd 1, Path 2, Dirfd2 3, Path2 4];
        179 3 Path(K::Symlink), [Ret 0, Extra 1, Path 2];
        181 4 Path(K::Symlinkat), [Ret 0, Extra 1, Dirfd 2, Path 3];
        183 16 Clone, [Ret 0, Exe 1, Args 2, Tid 3, Pid 4, Ptid 5, Cwd 6, Flags 13, Uid 14, Gid 15];
        185 16 Clone, [Ret 0, Exe 1, Args 2, Tid 3, Pid 4, Ptid 5, Cwd 6, Flags 13, Uid 14, Gid 15];
        186 4 Exit, [A0 0];
        193 1 Call(K::Setresuid), [Ret 0, A0 1 or 0, A1 2 or 1, A2 3 or 2];
        195 1 Call(K::Setresgid), [Ret 0, A0 1 or 0, A1 2 or 1, A2 3 or 2];
        199 1 Call(K::Setuid), [Ret 0, A0 1 or 0];
        201 1 Call(K::Setgid), [Ret 0, A0 1 or 0];
        215 15 Exec(K::Execve), [Ret 0, Exe 1, Args 2, Tid 3, Pid 4, Ptid 5, Cwd 6, Comm 13, Env 14];
        217 17 Clone, [Ret 0, Exe 1, Args 2, Tid 3, Pid 4, Ptid 5, Cwd 6, Comm 13, Flags 14, Uid 15, Gid 16];
        219 17 Clone, [Ret 0, Exe 1, Args 2, Tid 3, Pid 4, Ptid 5, Cwd 6, Comm 13, Flags 14, Uid 15, Gid 16];
        221 17 Clone, [Ret 0, Exe 1, Args 2, Tid 3, Pid 4, Ptid 5, Cwd 6, Comm 13, Flags 14, Uid 15, Gid 16];
        228 4 Act::ContainerWords, [];
        231 16 Exec(K::Execve), [Ret 0, Exe 1, Args 2, Tid 3, Pid 4, Ptid 5, Cwd 6, Comm 13, Cgroups 14, Env 15];
        241 1 Call(K::Setns), [Ret 0, A0 1 or 0, A1 2 or 1];
        247 5 Accept(K::Accept), [Ret 0, Tuple 1];
        249 5 Accept(K::Accept4), [Ret 0, Tuple 1, Flags or 0];
        257 4 Path(K::Mount), [Ret 0, Extra 1, Path 2, Path2 3, Flags 4 or 0];
        259 2 Path(K::Umount2), [Ret 0, Path 1, Flags or 0];
        267 2 Path(K::Chroot), [Ret 0, Path 1];
        272 1 Act::Container, [];
        275 1 Setsid, [Ret 0];
        277 2 Path(K::Mkdir), [Ret 0, Path 1, Mode 2 or 0];
        279 2 Path(K::Rmdir), [Ret 0, Path 1];
        285 1 Call(K::Unshare), [Ret 0, A0 1 or 0];
        295 1 Setpgid, [Ret 0, A0 1 or 0, A1 2 or 1];
        297 1 Call(K::Bpf), [Ret 0, A0 or 0];
        299 1 Call(K::Seccomp), [Ret 0, A0 1 or 0, A1 2 or 1];
        301 2 Path(K::Unlink), [Ret 0, Path 1];
        303 4 Path(K::Unlinkat), [Ret 0, Dirfd 1, Path 2, Flags 3];
        305 4 Path(K::Mkdirat), [Ret 0, Dirfd 1, Path 2, Mode 3];
        307 7 Open(K::Openat), [Ret 0, Dirfd 1, Path 2, Flags 3, Mode 4, Dev 5, Ino 6, FullPath 7];
        309 3 Path(K::Link), [Ret 0, Path 1, Path2 2];
        311 6 Path(K::Linkat), [Ret 0, Dirfd 1, Path 2, Dirfd2 3, Path2 4, Flags 5];
        313 4 Path(K::Fchmodat), [Ret 0, Dirfd 1, Path 2, Mode 3];
        315 3 Path(K::Chmod), [Ret 0, Path 1, Mode 2];
        317 3 Path(K::Fchmod), [Ret 0, Fd 1, Mode 2];
        319 6 Path(K::Renameat2), [Ret 0, Dirfd 1, Path 2, Dirfd2 3, Path2 4, Flags 5];
        321 2 Call(K::Userfaultfd), [Ret 0, A0 1];
        324 1 Act::Container, [];
        327 8 Open(K::Openat2), [Ret 0, Dirfd 1, Path 2, Flags 3, Mode 4, Dev 6, Ino 7, FullPath 8];
        337 6 Open(K::OpenByHandleAt), [Ret 0, Dirfd 1, Flags 2, FullPath 3, Dev 4, Ino 5];
        339 8 Call(K::IoUringSetup), [Ret 0, A0 1, A1 4];
        353 4 Call(K::Capset), [Ret 0, CapInheritable 1, CapPermitted 2, CapEffective 3];
        354 6 Act::User, [];
        358 3 Act::Group, [];
        363 3 Dup(K::Dup2), [Ret 0, OldFd 1];
        365 4 Dup(K::Dup3), [Ret 0, OldFd 1, Flags 3];
        367 2 Dup(K::Dup), [Ret 0, OldFd 1];
        369 2 Call(K::Bpf), [Ret 0, A0 1 or 0];
        373 7 Call(K::Fsconfig), [Ret 0, A0 1, A1 2, Extra 3, Path2 5, A2 6];
        379 4 Path(K::Chown), [Ret 0, Path 1, Uid 2, Gid 3];
        381 4 Path(K::Lchown), [Ret 0, Path 1, Uid 2, Gid 3];
        383 4 Path(K::Fchown), [Ret 0, Fd 1, Uid 2, Gid 3];
        385 6 Path(K::Fchownat), [Ret 0, Dirfd 1, Path 2, Uid 3, Gid 4, Flags 5];
        387 2 Path(K::Umount2), [Ret 0, Path 1];
        389 6 Accept(K::Accept4), [Ret 0, Tuple 1, Flags 5 or 0];
        391 3 Path(K::Umount2), [Ret 0, Path 1, Flags 2 or 0];
        393 5 Pipe, [Ret 0, Fd 1, Fd2 2, Ino 3, Flags 4];
        401 4 Call(K::Prctl), [Ret 0, A0 1, Extra 2, A1 3];
        402 3 Act::Async, [];
        405 3 Call(K::MemfdCreate), [Ret 0, Extra 1, A1 2];
        407 4 Call(K::PidfdGetfd), [Ret 0, A0 1, A1 2, A2 3];
        409 3 Call(K::PidfdOpen), [Ret 0, A0 1, A1 2];
        411 4 Call(K::InitModule), [Ret 0, A1 2, Extra 3];
        413 4 Call(K::FinitModule), [Ret 0, A0 1, Extra 2, A2 3];
        421 3 Call(K::ProcessVmReadv), [Ret 0, A0 1];
        423 3 Call(K::ProcessVmWritev), [Ret 0, A0 1];
        425 3 Call(K::DeleteModule), [Ret 0, Extra 1, A1 2];
    };
    // Begins, and how many parameters each has.
    const BEGINS: [(usize, u8); 46] = [
        (4, 1),
        (8, 2),
        (18, 3),
        (20, 1),
        (22, 2),
        (24, 2),
        (28, 2),
        (30, 3),
        (42, 3),
        (48, 3),
        (56, 1),
        (96, 1),
        (98, 2),
        (100, 1),
        (102, 4),
        (104, 2),
        (106, 4),
        (108, 1),
        (110, 2),
        (118, 2),
        (124, 1),
        (128, 2),
        (130, 2),
        (132, 3),
        (150, 2),
        (168, 2),
        (192, 3),
        (194, 3),
        (198, 1),
        (200, 1),
        (240, 2),
        (248, 1),
        (256, 1),
        (258, 1),
        (276, 1),
        (284, 1),
        (288, 1),
        (292, 1),
        (294, 2),
        (296, 1),
        (298, 2),
        (330, 3),
        (368, 1),
        (388, 1),
        (390, 1),
        (282, 0),
    ];
    let mut at = 0;
    while at < BEGINS.len() {
        rows[BEGINS[at].0] = Row { act: Act::Begin, most: BEGINS[at].1, places: &[] };
        at += 1;
    }
    // The same parameters in several versions.
    const FORK: &[Place] = &[
        place!(Ret 0),
        place!(Exe 1),
        place!(Args 2),
        place!(Tid 3),
        place!(Pid 4),
        place!(Ptid 5),
        place!(Cwd 6),
        place!(Comm 13),
        place!(Cgroups 14),
        place!(Flags 15),
        place!(Uid 16),
        place!(Gid 17),
        place!(Vpid 19),
    ];
    const FORKS: [usize; 4] = [223, 225, 227, 335];
    at = 0;
    while at < FORKS.len() {
        rows[FORKS[at]] = Row { act: Clone, most: 21, places: FORK };
        at += 1;
    }
    const EXEC_17: &[Place] = &[
        place!(Ret 0),
        place!(Exe 1),
        place!(Args 2),
        place!(Tid 3),
        place!(Pid 4),
        place!(Ptid 5),
        place!(Cwd 6),
        place!(Comm 13),
        place!(Cgroups 14),
        place!(Env 15),
        place!(Tty 16),
        place!(Filename or 0),
    ];
    rows[283] = Row { act: Exec(K::Execve), most: 17, places: EXEC_17 };
    rows[289] = Row { act: Exec(K::Execve), most: 17, places: EXEC_17 };
    const EXEC_19: &[Place] = &[
        place!(Ret 0),
        place!(Exe 1),
        place!(Args 2),
        place!(Tid 3),
        place!(Pid 4),
        place!(Ptid 5),
        place!(Cwd 6),
        place!(Comm 13),
        place!(Cgroups 14),
        place!(Env 15),
        place!(Tty 16),
        place!(Vpgid 17),
        place!(LoginUid 18),
        place!(ExeFlags 19),
        place!(CapInheritable 20),
        place!(CapPermitted 21),
        place!(CapEffective 22),
        place!(Ino 23),
        place!(Ctime 24),
        place!(Mtime 25),
        place!(Uid 26),
        place!(ExePath 27),
        place!(Pgid 28),
        place!(Gid 29),
        place!(Filename 30 or 0),
    ];
    rows[293] = Row { act: Exec(K::Execve), most: 31, places: EXEC_19 };
    // execveat has its path behind the folder's descriptor, and when it begins only.
    const EXECAT: &[Place] = &[
        place!(Ret 0),
        place!(Exe 1),
        place!(Args 2),
        place!(Tid 3),
        place!(Pid 4),
        place!(Ptid 5),
        place!(Cwd 6),
        place!(Comm 13),
        place!(Cgroups 14),
        place!(Env 15),
        place!(Tty 16),
        place!(Vpgid 17),
        place!(LoginUid 18),
        place!(ExeFlags 19),
        place!(CapInheritable 20),
        place!(CapPermitted 21),
        place!(CapEffective 22),
        place!(Ino 23),
        place!(Ctime 24),
        place!(Mtime 25),
        place!(Uid 26),
        place!(ExePath 27),
        place!(Pgid 28),
        place!(Gid 29),
        place!(Dirfd or 0),
        place!(Filename or 1),
    ];
    rows[331] = Row { act: Exec(K::Execveat), most: 31, places: EXECAT };
    rows
};

#[cfg(test)]
mod tests {
    use super::*;
    use tw_model::event::EVENTS;

    fn kind(act: Act) -> Option<K> {
        match act {
            Act::Open(kind)
            | Act::Path(kind)
            | Act::Accept(kind)
            | Act::Send(kind)
            | Act::Dup(kind)
            | Act::Call(kind)
            | Act::Exec(kind) => Some(kind),
            Act::Socket => Some(K::Socket),
            Act::Connect => Some(K::Connect),
            Act::Bind => Some(K::Bind),
            Act::Listen => Some(K::Listen),
            Act::Clone => Some(K::Clone),
            Act::Exit => Some(K::Procexit),
            _ => None,
        }
    }

    #[test]
    fn every_kind_that_captures_have_is_told() {
        // Captures tell these calls without arguments and result; DNS is in what is sent and received; a socket that ends
        // is closed. Measurements are ours alone.
        let absent = [K::PivotRoot, K::Setreuid, K::Setregid, K::Write, K::Dns, K::ListenEnd];
        // Of these captures have no event of their own, or tell all of what only some matters of (memory, quotas).
        let not_read = K::PidfdSendSignal as u16..=K::Mmap as u16;
        // Of these nobody reads what captures tell yet.
        let nor_these = K::Mknod as u16..=K::Setxattrat as u16;
        let read =
            [K::PidfdOpen, K::PidfdGetfd, K::ProcessVmReadv, K::ProcessVmWritev, K::Seccomp, K::Prctl, K::Fsconfig];
        for info in EVENTS.iter().filter(|info| !info.kind.is_measurement()) {
            let told = ROWS.iter().any(|row| kind(row.act) == Some(info.kind));
            let number = info.kind as u16;
            let meant = !absent.contains(&info.kind)
                && !nor_these.contains(&number)
                && (!not_read.contains(&number) || read.contains(&info.kind));
            assert_eq!(told, meant, "{}", info.name);
        }
    }

    #[test]
    fn arguments_of_a_begin_are_kept_and_ends_have_a_result() {
        for (number, row) in ROWS.iter().enumerate() {
            for place in row.places {
                assert!(place.begin == NO || ROWS[number - 1].act == Act::Begin, "{number} {place:?}");
                assert!(place.end != NO || place.begin != NO, "{number} {place:?}");
            }
            let mut roles: Vec<_> = row.places.iter().map(|place| place.role as u8).collect();
            roles.sort_unstable();
            assert!(roles.is_sorted_by(|a, b| a < b), "an argument twice in {number}");
            let ends = matches!(kind(row.act), Some(kind) if kind != K::Procexit);
            assert!(!ends || row.place(Role::Ret).is_some(), "{number}");
        }
    }
}
