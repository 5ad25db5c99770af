//! Flags as captures have them, and as Linux has them. Captures number some anew, so that they are the same everywhere.

/// One bit of a capture and what Linux has for it.
type Bits = &'static [(u32, u32)];

fn map(bits: Bits, flags: u32) -> u32 {
    bits.iter().filter(|(theirs, _)| flags & theirs != 0).fold(0, |all, (_, ours)| all | ours)
}

/// Bits of open that the drivers add: the file was created, it lies in the upper or in a lower layer.
pub(super) const CREATED: u32 = 1 << 14;
pub(super) const UPPER: u32 = 1 << 15;
pub(super) const LOWER: u32 = 1 << 16;
/// `O_CLOEXEC` of captures.
pub(super) const CLOEXEC: u32 = 1 << 12;

const OPEN: Bits = &[
    (1 << 2, 0o100),
    (1 << 3, 0o2000),
    (1 << 4, 0o10000),
    (1 << 5, 0o200),
    (1 << 6, 0o4000),
    (1 << 7, 0o4_010_000),
    (1 << 8, 0o1000),
    (1 << 9, 0o40000),
    (1 << 10, 0o200_000),
    (1 << 11, 0o100_000),
    (1 << 12, 0o2_000_000),
    (1 << 13, 0o20_200_000),
];

/// Flags of open. The access mode of captures is 1, 2 or 3.
pub(super) fn open(flags: u32) -> u32 {
    map(OPEN, flags) | (flags & 3).saturating_sub(1)
}

const CLONE: Bits = &[
    (1 << 0, 0x400),
    (1 << 1, 0x200),
    (1 << 2, 0x8000_0000),
    (1 << 3, 0x0800_0000),
    (1 << 4, 0x4000_0000),
    (1 << 5, 0x0002_0000),
    (1 << 6, 0x2000_0000),
    (1 << 7, 0x0400_0000),
    (1 << 12, 0x0004_0000),
    (1 << 13, 0x0001_0000),
    (1 << 15, 0x100),
    (1 << 20, 0x1000_0000),
    (1 << 28, 0x0200_0000),
];

/// `CLONE_FILES`, `CLONE_THREAD` of captures: one table of descriptors; a thread, no process.
pub(super) const CLONE_THREAD: u32 = 1 << 13;
/// The child is in another pid namespace than the host's: the number that its parent got is not the host's.
pub(super) const IN_PIDNS: u32 = 1 << 29;

/// Flags of clone, unshare and setns.
pub(super) fn clone(flags: u32) -> u32 {
    map(CLONE, flags)
}

/// Requests of ptrace from 1 on, in the order of captures, and what Linux calls them.
const PTRACE: [u32; 31] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 24, 0x4200, 0x4201, 0x4202, 0x4203, 0x4204, 0x4205, 0x4206, 0x4207, 0x4208,
    0x4209, 0x420a, 0x420b, 12, 13, 14, 15, 18, 19,
];

/// A request of ptrace; `u64::MAX` if it is not known.
pub(super) fn ptrace(request: u64) -> u64 {
    let known = usize::try_from(request).ok().and_then(|request| PTRACE.get(request.checked_sub(1)?));
    known.map_or(u64::MAX, |request| u64::from(*request))
}

/// A device number: as user space sees it, and as the kernel has it and we (12 bits major, 20 bits minor).
pub(super) fn device(number: u32) -> u32 {
    let (major, minor) = (number >> 8 & 0xfff, number & 0xff | number >> 12 & 0xf_ff00);
    major << 20 | minor
}

fn unmap(bits: Bits, flags: u32) -> u32 {
    bits.iter().filter(|(_, ours)| flags & ours == *ours).fold(0, |all, (theirs, _)| all | theirs)
}

/// Flags of open, and what the kernel half found, as captures have them.
pub(super) fn open_of(flags: u32, attrs: u32) -> u32 {
    use tw_model::raw::attr;
    let facts = [(attr::CREATED, CREATED), (attr::UPPER, UPPER), (attr::LOWER, LOWER)];
    unmap(OPEN, flags) | ((flags & 3) + 1).min(3) | unmap_facts(&facts, attrs)
}

fn unmap_facts(facts: &[(u32, u32)], attrs: u32) -> u32 {
    facts.iter().filter(|(ours, _)| attrs & ours != 0).fold(0, |all, (_, theirs)| all | theirs)
}

/// Flags of clone, unshare and setns as captures have them.
pub(super) fn clone_of(flags: u32) -> u32 {
    unmap(CLONE, flags)
}

/// A request of ptrace as captures have it; 0 if they do not know it.
pub(super) fn ptrace_of(request: u64) -> u16 {
    PTRACE.iter().position(|known| u64::from(*known) == request).map_or(0, |at| at as u16 + 1)
}

/// A device number as captures have it.
pub(super) fn device_of(number: u32) -> u32 {
    let (major, minor) = (number >> 20, number & 0xf_ffff);
    minor & 0xff | (major & 0xfff) << 8 | (minor & !0xff) << 12
}

/// Facts about an executed file as captures have them.
pub(super) fn exe_of(attrs: u32) -> u32 {
    use tw_model::raw::attr;
    let facts =
        [(attr::WRITABLE, EXE_WRITABLE), (attr::UPPER, EXE_UPPER), (attr::MEMFD, EXE_MEMFD), (attr::LOWER, EXE_LOWER)];
    unmap_facts(&facts, attrs)
}

/// Facts about an executed file.
pub(super) const EXE_WRITABLE: u32 = 1;
pub(super) const EXE_UPPER: u32 = 2;
pub(super) const EXE_MEMFD: u32 = 4;
pub(super) const EXE_LOWER: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use tw_model::flags::{CLONE as OUR_CLONE, OPEN as OUR_OPEN, PTRACE as OUR_PTRACE, name_of};

    #[test]
    fn flags_get_the_values_that_linux_gives_their_names() {
        // Names by bit, as the capture format calls them.
        let opens =
            ["CREAT", "APPEND", "", "EXCL", "NONBLOCK", "", "TRUNC", "DIRECT", "DIRECTORY", "LARGEFILE", "CLOEXEC"];
        for (bit, name) in opens.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            let ours = open(1 << (bit + 2));
            assert_eq!(name_of(OUR_OPEN, ours.into()), Some(&*format!("O_{name}")), "{name}");
        }
        assert_eq!((open(1), open(2), open(3), open(0)), (0, 1, 2, 0));
        let clones = [
            (3, "NEWIPC"),
            (4, "NEWNET"),
            (5, "NEWNS"),
            (6, "NEWPID"),
            (7, "NEWUTS"),
            (20, "NEWUSER"),
            (28, "NEWCGROUP"),
        ];
        for (bit, name) in clones {
            assert_eq!(name_of(OUR_CLONE, clone(1 << bit).into()), Some(&*format!("CLONE_{name}")), "{name}");
        }
        for (request, name) in [(1, "TRACEME"), (5, "POKETEXT"), (11, "ATTACH"), (20, "SEIZE"), (14, "SETOPTIONS")] {
            assert_eq!(name_of(OUR_PTRACE, ptrace(request)), Some(&*format!("PTRACE_{name}")), "{name}");
        }
        assert_eq!((ptrace(0), ptrace(999)), (u64::MAX, u64::MAX));
        assert_eq!(device(0x0080_0801), 8 << 20 | 0x801);
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for flags in [0, 1, 2, 0o100, 0o1101, 0o2_000_000, 0o200_000, 0o4_010_000, 0o2_302_102] {
            assert_eq!(open(open_of(flags, 0)), flags, "{flags:o}");
        }
        assert_eq!(open_of(0, tw_model::raw::attr::CREATED | tw_model::raw::attr::LOWER) & !3, CREATED | LOWER);
        for flag in [0x0002_0000, 0x1000_0000, 0x4000_0000, 0x7c02_0000] {
            assert_eq!(clone(clone_of(flag)), flag, "{flag:x}");
        }
        for request in [0, 16, 0x4206, 0x4200] {
            assert_eq!(ptrace(ptrace_of(request).into()), u64::from(request as u32), "{request}");
        }
        assert_eq!(ptrace_of(12_345), 0);
        for number in [8 << 20 | 0x801, 0xf_ffff, 0xfff0_0000, 0, 259 << 20 | 3] {
            assert_eq!(device(device_of(number)), number, "{number:x}");
        }
    }
}
