//! Ctrl-C: a measurement ends with an error, so that whatever it started and made is taken away on the way out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

static WANTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Hears signals from now on; a second one ends at once.
pub fn listen() -> anyhow::Result<()> {
    let flag = WANTED.get_or_init(Arc::default);
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(flag))?;
        signal_hook::flag::register(signal, Arc::clone(flag))?;
    }
    Ok(())
}

/// An error if somebody wants the end.
pub fn check() -> anyhow::Result<()> {
    let wanted = WANTED.get().is_some_and(|flag| flag.load(Ordering::Relaxed));
    anyhow::ensure!(!wanted, "interrupted");
    Ok(())
}

/// Sleeps, unless somebody wants the end.
pub fn sleep(duration: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + duration;
    loop {
        check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(100)));
    }
}
