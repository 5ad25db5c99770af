//! The seccomp filter that stops a thread at the calls of interest and lets all others run at full speed.
//!
//! Written out by hand since two tables of calls are in one filter: that of the machine, and on x86-64 that of 32-bit
//! programs. For every other call the kernel finds out once that the answer never depends on arguments, and asks no more
//! (Linux 5.11).

use libc::sock_filter;

use crate::calls::{Config, Handler, PRCTL_OPTIONS};

/// `AUDIT_ARCH_*` of include/uapi/linux/audit.h.
#[cfg(target_arch = "x86_64")]
pub(super) const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
pub(super) const NATIVE: u32 = 0xc000_00b7;
/// That of 32-bit programs whose calls are understood; none on other machines.
pub(super) const COMPAT: u32 = 0x4000_0003;

/// Calls of this number and above are those of the x32 table.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
#[cfg(target_arch = "x86_64")]
const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const HAS: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Places in `struct seccomp_data`.
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

const PROT_WRITE: u32 = 2;
const PROT_EXEC: u32 = 4;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const TRACE: u32 = libc::SECCOMP_RET_TRACE;
/// No such call.
const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// The filter for these tables.
pub(super) fn program(config: &Config) -> Vec<sock_filter> {
    let native = table(config, false);
    // A table may be longer than a condition can jump.
    let mut filter = vec![step(LOAD, ARCH), jump(EQUAL, NATIVE, 1, 0), go_over(native.len())];
    filter.extend(native);
    if cfg!(target_arch = "x86_64") {
        let compat = table(config, true);
        filter.extend([jump(EQUAL, COMPAT, 1, 0), go_over(compat.len())]);
        filter.extend(compat);
    }
    filter.push(step(RETURN, REFUSE));
    filter
}

/// What is done with the calls of one table; ends in a return whatever the call.
fn table(config: &Config, compat: bool) -> Vec<sock_filter> {
    let mut filter = vec![step(LOAD, NR)];
    #[cfg(target_arch = "x86_64")]
    if !compat {
        filter.extend([jump(AT_LEAST, X32, 0, 1), step(RETURN, REFUSE)]);
    }
    if !compat {
        #[cfg(target_arch = "x86_64")]
        unless_standard(&mut filter, libc::SYS_dup2, 1);
        unless_standard(&mut filter, libc::SYS_dup3, 1);
        // Only with an address is it more than a write.
        filter.extend([
            jump(EQUAL, libc::SYS_sendto as u32, 0, 6),
            step(LOAD, low(4)),
            jump(EQUAL, 0, 0, 3),
            step(LOAD, high(4)),
            jump(EQUAL, 0, 0, 1),
            step(RETURN, ALLOW),
            step(RETURN, TRACE),
        ]);
        for nr in [libc::SYS_sendmsg, libc::SYS_sendmmsg] {
            filter.extend([jump(EQUAL, nr as u32, 0, 1), step(RETURN, TRACE)]);
        }
    }
    for nr in config.numbers(compat) {
        match config.watched(compat, nr.into()).map(|watched| watched.handler) {
            // Every library that is loaded makes these; only what is writable and executable at once is told.
            Some(Handler::Memory) => filter.extend([
                jump(EQUAL, nr, 0, 5),
                step(LOAD, low(2)),
                jump(HAS, PROT_WRITE, 0, 2),
                jump(HAS, PROT_EXEC, 0, 1),
                step(RETURN, TRACE),
                step(RETURN, ALLOW),
            ]),
            Some(Handler::Prctl) => {
                let options = PRCTL_OPTIONS.len() as u8;
                filter.extend([jump(EQUAL, nr, 0, 3 + options), step(LOAD, low(0))]);
                for (n, option) in (0..).zip(PRCTL_OPTIONS) {
                    filter.push(jump(EQUAL, option, options - n, 0));
                }
                filter.extend([step(RETURN, ALLOW), step(RETURN, TRACE)]);
            }
            _ => filter.extend([jump(EQUAL, nr, 0, 1), step(RETURN, TRACE)]),
        }
    }
    filter.push(step(RETURN, ALLOW));
    filter
}

/// Lets this call run if the descriptor in its argument `n` (from 0) is none of the standard ones.
fn unless_standard(filter: &mut Vec<sock_filter>, nr: libc::c_long, n: u32) {
    const ABOVE: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
    filter.extend([
        jump(EQUAL, nr as u32, 0, 4),
        step(LOAD, low(n)),
        jump(ABOVE, 2, 0, 1),
        step(RETURN, ALLOW),
        step(RETURN, TRACE),
    ]);
}

/// Places of the halves of an argument.
fn low(n: u32) -> u32 {
    ARGS + 8 * n + if cfg!(target_endian = "big") { 4 } else { 0 }
}

fn high(n: u32) -> u32 {
    ARGS + 8 * n + if cfg!(target_endian = "big") { 0 } else { 4 }
}

fn step(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn go_over(steps: usize) -> sock_filter {
    step((libc::BPF_JMP | libc::BPF_JA) as u16, steps as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ebpf::Options;

    /// Runs the filter as the kernel does.
    fn verdict(filter: &[sock_filter], arch: u32, nr: u32, args: [u64; 6]) -> u32 {
        let (mut at, mut a) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = filter[at];
            at += 1;
            let mut branch = |holds: bool| at += usize::from(if holds { jt } else { jf });
            match u32::from(code) {
                c if c == u32::from(LOAD) => {
                    a = match k {
                        NR => nr,
                        ARCH => arch,
                        k => {
                            (args[(k - ARGS) as usize / 8] >> (if (k - ARGS).is_multiple_of(8) { 0 } else { 32 }))
                                as u32
                        }
                    }
                }
                c if c == u32::from(EQUAL) => branch(a == k),
                c if c == u32::from(HAS) => branch(a & k != 0),
                c if c == u32::from((libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16) => branch(a >= k),
                c if c == u32::from((libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16) => branch(a > k),
                c if c == u32::from((libc::BPF_JMP | libc::BPF_JA) as u16) => at += k as usize,
                c if c == u32::from(RETURN) => return k,
                code => panic!("code {code}"),
            }
        }
    }

    #[test]
    fn watched_calls_stop_and_all_others_run() {
        let config = Config::new(0, &Options::default(), &[]);
        let filter = program(&config);
        assert!(filter.len() < 4096, "the kernel takes no more");
        let native = |nr: libc::c_long, args| verdict(&filter, NATIVE, nr as u32, args);
        for nr in config.numbers(false) {
            // Some stop by their arguments only: memory that is writable and executable, an option that matters.
            let args = match config.watched(false, nr.into()).map(|watched| watched.handler) {
                Some(Handler::Memory) => [0, 0, 7, 0, 0, 0],
                Some(Handler::Prctl) => [PRCTL_OPTIONS[10].into(), 0, 0, 0, 0, 0],
                _ => [0; 6],
            };
            assert_eq!(verdict(&filter, NATIVE, nr, args), TRACE, "{nr}");
        }
        for option in PRCTL_OPTIONS {
            assert_eq!(native(libc::SYS_prctl, [option.into(), 0, 0, 0, 0, 0]), TRACE);
        }
        assert_eq!(native(libc::SYS_prctl, [16, 0, 0, 0, 0, 0]), ALLOW);
        for prot in [0, 1, 3, 5_u64] {
            assert_eq!(native(libc::SYS_mprotect, [0, 0, prot, 0, 0, 0]), ALLOW, "{prot}");
        }
        for nr in [libc::SYS_read, libc::SYS_write, libc::SYS_getpid, libc::SYS_mmap, libc::SYS_clone] {
            assert_eq!(native(nr, [0; 6]), ALLOW);
        }
        assert_eq!(native(libc::SYS_dup3, [5, 2, 0, 0, 0, 0]), TRACE);
        assert_eq!(native(libc::SYS_dup3, [5, 3, 0, 0, 0, 0]), ALLOW);
        assert_eq!(native(libc::SYS_sendto, [5, 3, 1, 0, 0, 0]), ALLOW);
        assert_eq!(native(libc::SYS_sendto, [5, 3, 1, 0, 1 << 40, 16]), TRACE);
        assert_eq!(native(libc::SYS_sendto, [5, 3, 1, 0, 4096, 16]), TRACE);
        assert_eq!(native(libc::SYS_sendmsg, [0; 6]), TRACE);
        // A table that we do not know could do anything unseen.
        assert_eq!(verdict(&filter, 0x1234, 1, [0; 6]), REFUSE);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn calls_of_32_bit_programs_have_their_own_numbers_and_those_of_x32_are_refused() {
        let filter = program(&Config::new(0, &Options::default(), &[]));
        assert_eq!(verdict(&filter, COMPAT, 5, [0; 6]), TRACE, "open");
        assert_eq!(verdict(&filter, COMPAT, 3, [0; 6]), ALLOW, "read");
        assert_eq!(verdict(&filter, NATIVE, X32 | 1, [0; 6]), REFUSE);
    }
}
