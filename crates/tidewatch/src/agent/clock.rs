//! The wall clock as the agent takes it: an offset to the time since boot that changes only when the clock does.

use tw_sensor::clock;

/// Readings of the two clocks differ by their own duration; only more than this is a change. Nanoseconds.
const NOISE_NS: u64 = 1_000_000;
/// A change of more than this is a jump, and told. Nanoseconds.
const JUMP_NS: u64 = 1_000_000_000;

/// Offset from the time since boot to the wall clock.
#[derive(Debug)]
pub struct WallClock {
    offset_ns: u64,
    /// How often it jumped.
    pub jumps: u64,
}

impl WallClock {
    /// The offset as of now.
    pub fn read() -> Self {
        Self { offset_ns: clock::boot_to_wall_ns(), jumps: 0 }
    }

    /// Nanoseconds to add to a time since boot.
    pub fn offset_ns(&self) -> u64 {
        self.offset_ns
    }

    /// Takes a new reading; returns by how many nanoseconds the clock jumped, if it did.
    pub fn look(&mut self, now: u64) -> Option<i64> {
        let change = now.abs_diff(self.offset_ns);
        if change <= NOISE_NS {
            return None;
        }
        let jumped = (change > JUMP_NS).then(|| now.wrapping_sub(self.offset_ns).cast_signed());
        self.jumps += u64::from(jumped.is_some());
        self.offset_ns = now;
        jumped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_ignored_slewing_followed_and_a_jump_told() {
        let mut clock = WallClock { offset_ns: 10 * JUMP_NS, jumps: 0 };
        assert_eq!(clock.look(10 * JUMP_NS + 500), None);
        assert_eq!(clock.offset_ns(), 10 * JUMP_NS);
        assert_eq!(clock.look(10 * JUMP_NS + 2 * NOISE_NS), None);
        assert_eq!(clock.offset_ns(), 10 * JUMP_NS + 2 * NOISE_NS);
        let back = 4 * JUMP_NS;
        assert_eq!(clock.look(back), Some(-((6 * JUMP_NS + 2 * NOISE_NS) as i64)));
        assert_eq!((clock.jumps, clock.offset_ns()), (1, back));
    }
}
