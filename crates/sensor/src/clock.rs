//! The kernel's clock and the wall clock.

/// Nanoseconds to add to a time since boot to get nanoseconds since the epoch, as of now.
///
/// Read anew now and then: the wall clock may be set, the time since boot never jumps.
pub fn boot_to_wall_ns() -> u64 {
    wall_ns().saturating_sub(boot_ns())
}

/// Nanoseconds since boot, with the time asleep (`CLOCK_BOOTTIME`).
pub fn boot_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Nanoseconds since the epoch.
pub fn wall_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
