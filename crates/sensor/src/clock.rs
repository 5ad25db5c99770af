//! The kernel's clock and the wall clock.

/// Two readings of the time since boot that are this close leave no room for doubt. Nanoseconds.
const CLOSE_NS: u64 = 20_000;
/// Readings before the best of them has to do.
const TRIES: usize = 8;

/// Nanoseconds to add to a time since boot to get nanoseconds since the epoch, as of now.
///
/// Read anew now and then: the wall clock may be set, the time since boot never jumps.
pub fn boot_to_wall_ns() -> u64 {
    offset_ns(|| (boot_ns(), wall_ns(), boot_ns()))
}

/// The offset by readings of the time since boot, the wall clock, and the time since boot again: whoever is kept from
/// running between them would else see the clock jump.
fn offset_ns(mut read: impl FnMut() -> (u64, u64, u64)) -> u64 {
    let (mut best, mut offset) = (u64::MAX, 0);
    for _ in 0..TRIES {
        let (before, wall, after) = read();
        let apart = after.saturating_sub(before);
        if apart < best {
            (best, offset) = (apart, wall.saturating_sub(before.saturating_add(apart / 2)));
        }
        if apart <= CLOSE_NS {
            break;
        }
    }
    offset
}

/// Nanoseconds since boot, with the time asleep (`CLOCK_BOOTTIME`).
pub fn boot_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Processor time that the calling thread has used.
pub fn thread_cpu() -> std::time::Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    std::time::Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Nanoseconds since the epoch.
pub fn wall_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_that_was_interrupted_is_no_jump() {
        const OFFSET: u64 = 1_700_000_000_000_000_000;
        let second = 1_000_000_000;
        let mut readings = [
            // Interrupted behind the first reading, and behind the second.
            (10, OFFSET + 10 + 5 * second, 10 + 5 * second),
            (20 * second, OFFSET + 20 * second, 23 * second),
            (30 * second, OFFSET + 30 * second + 100, 30 * second + 200),
            (40 * second, 0, 40 * second),
        ]
        .into_iter();
        assert_eq!(offset_ns(|| readings.next().unwrap_or_default()), OFFSET);
        assert_eq!(readings.len(), 1, "a good one ends it");
        let busy = offset_ns(|| (second, OFFSET + second + 50_000, second + 100_000));
        assert_eq!(busy, OFFSET, "where none is good, the best has to do");
    }
}
