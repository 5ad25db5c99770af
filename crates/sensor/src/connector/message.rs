//! Words of the process connector as bytes: `struct nlmsghdr`, `struct cn_msg` and `struct proc_event` of
//! include/uapi/linux/{netlink,connector,cn_proc}.h.

/// Length of the two headers.
const HEADERS: usize = 16 + 20;
/// Most CPUs whose numbers are remembered.
const MAX_CPUS: usize = 8192;

/// `PROC_EVENT_*`.
const FORK: u32 = 1;
const EXEC: u32 = 2;
const UID: u32 = 4;
const GID: u32 = 0x40;
const PTRACE: u32 = 0x100;
const EXIT: u32 = 0x8000_0000;

/// What the kernel said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// To our wish to listen: 0, or the number of an error.
    Answer(u32),
    /// A process was made.
    Fork { parent: u32, child: u32, at: u64 },
    /// A process runs another program.
    Exec { pid: u32, at: u64 },
    /// A process has other users or groups: real and effective.
    Users { pid: u32, tid: u32, groups: bool, real: u32, effective: u32, at: u64 },
    /// A process traces another.
    Trace { pid: u32, tracer: u32, at: u64 },
    /// A process ended; code as for wait(2).
    Exit { pid: u32, code: u32, at: u64 },
}

/// The wish to hear, or not to hear any more.
pub(super) fn wish(listen: bool) -> Vec<u8> {
    let what: u32 = if listen { 1 } else { 2 }; // PROC_CN_MCAST_LISTEN, PROC_CN_MCAST_IGNORE
    let len = (HEADERS + 4) as u32;
    let mut bytes = Vec::with_capacity(HEADERS + 4);
    bytes.extend(len.to_ne_bytes());
    bytes.extend(3_u16.to_ne_bytes()); // NLMSG_DONE
    bytes.extend([0; 10]); // flags, sequence, port
    for word in [1_u32, 1, 0, 0] {
        bytes.extend(word.to_ne_bytes()); // CN_IDX_PROC, CN_VAL_PROC, sequence, acknowledgement
    }
    bytes.extend(4_u16.to_ne_bytes()); // length
    bytes.extend([0; 2]); // flags
    bytes.extend(what.to_ne_bytes());
    bytes
}

/// The numbers that each CPU gives to what it says.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    next: Vec<Option<u32>>,
}

impl Numbers {
    /// What a message says, if it is of interest, and how many before it never came.
    pub(super) fn read(&mut self, bytes: &[u8]) -> (Option<Word>, u64) {
        let Some(body) = bytes.get(HEADERS..) else { return (None, 0) };
        let number = |at: usize| number(body, at);
        let (Some(what), Some(cpu), Some(at)) = (number(0), number(4), long(body, 8)) else { return (None, 0) };
        if what == 0 {
            return (number(16).map(Word::Answer), 0);
        }
        let missed = self::number(bytes, 24).map_or(0, |sequence| self.missed(cpu, sequence));
        (word(what, at, number), missed)
    }

    fn missed(&mut self, cpu: u32, sequence: u32) -> u64 {
        let Some(cpu) = usize::try_from(cpu).ok().filter(|cpu| *cpu < MAX_CPUS) else { return 0 };
        if self.next.len() <= cpu {
            self.next.resize(cpu + 1, None);
        }
        let wanted = self.next[cpu].replace(sequence.wrapping_add(1));
        // A number from before the one that is wanted is no gap of four billions.
        wanted.map(|wanted| sequence.wrapping_sub(wanted)).filter(|gap| *gap < 1 << 31).map_or(0, u64::from)
    }
}

fn word(what: u32, at: u64, number: impl Fn(usize) -> Option<u32>) -> Option<Word> {
    let (first, second, third, fourth) = (number(16)?, number(20)?, number(24), number(28));
    match what {
        // Parent's thread and process, child's thread and process.
        FORK => (third? == fourth?).then_some(Word::Fork { parent: second, child: fourth?, at }),
        EXEC => Some(Word::Exec { pid: second, at }),
        UID | GID => {
            Some(Word::Users { pid: second, tid: first, groups: what == GID, real: third?, effective: fourth?, at })
        }
        PTRACE => fourth.filter(|tracer| *tracer != 0).map(|tracer| Word::Trace { pid: second, tracer, at }),
        EXIT => (first == second).then_some(Word::Exit { pid: second, code: third?, at }),
        _ => None,
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(sequence: u32, cpu: u32, what: u32, words: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; HEADERS];
        bytes[24..28].copy_from_slice(&sequence.to_ne_bytes());
        bytes.extend(what.to_ne_bytes());
        bytes.extend(cpu.to_ne_bytes());
        bytes.extend(99_u64.to_ne_bytes());
        words.iter().for_each(|word| bytes.extend(word.to_ne_bytes()));
        bytes
    }

    #[test]
    fn words_are_read_and_those_of_threads_passed_over() {
        let mut numbers = Numbers::default();
        let mut read = |what, words: &[u32]| numbers.read(&message(0, 0, what, words)).0;
        assert_eq!(read(FORK, &[1, 1, 7, 7]), Some(Word::Fork { parent: 1, child: 7, at: 99 }));
        assert_eq!(read(FORK, &[1, 1, 8, 7]), None, "a thread");
        assert_eq!(read(EXEC, &[7, 7]), Some(Word::Exec { pid: 7, at: 99 }));
        assert_eq!(read(EXIT, &[7, 7, 256, 17]), Some(Word::Exit { pid: 7, code: 256, at: 99 }));
        assert_eq!(read(EXIT, &[8, 7, 0, 17]), None, "a thread");
        assert_eq!(read(PTRACE, &[7, 7, 0, 0]), None, "an end of tracing");
        assert_eq!(read(0, &[1]), Some(Word::Answer(1)));
    }

    #[test]
    fn what_never_came_is_counted_by_cpu() {
        let mut numbers = Numbers::default();
        let mut missed = |sequence, cpu| numbers.read(&message(sequence, cpu, EXEC, &[7, 7])).1;
        assert_eq!((missed(5, 0), missed(6, 0), missed(9, 0)), (0, 0, 2));
        assert_eq!((missed(100, 1), missed(10, 0)), (0, 0));
        assert_eq!((missed(u32::MAX, 2), missed(0, 2), missed(0, 2)), (0, 0, 0));
        assert_eq!(missed(0, u32::MAX), 0);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut numbers = Numbers::default();
            let _ = numbers.read(&bytes);
        }
    }
}
