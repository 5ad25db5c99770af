//! A folder for one test, and how tests look at a spool.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use tw_model::status::{SpoolLane, SpoolLaneStatus};
use tw_report::spool::{Recovery, Spool, SpoolOptions, SpoolSync};

/// A folder that goes with the value.
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new, empty one. In memory if that can be: thousands of them are made.
    pub fn new(name: &str) -> Self {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { Self::below(memory, name) } else { Self::on_disk(name) }
    }

    /// A new, empty one on a disk.
    pub fn on_disk(name: &str) -> Self {
        Self::below(&std::env::temp_dir(), name)
    }

    fn below(folder: &Path, name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("tw-spool-{name}-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Small segments, no syncs.
    pub fn options(&self) -> SpoolOptions {
        let mut options = SpoolOptions::new(self.0.join("spool"));
        (options.max_bytes, options.segment_bytes, options.sync) = (64 << 10, 1 << 10, SpoolSync::None);
        options
    }

    pub fn open(&self) -> (Spool, Recovery) {
        Spool::open(self.options()).unwrap()
    }

    /// Opens, and nothing may be amiss.
    pub fn open_intact(&self) -> Spool {
        let (spool, recovery) = self.open();
        assert_eq!(recovery.damage().collect::<Vec<_>>(), Vec::<&tw_report::spool::Damage>::new());
        spool
    }

    pub fn cursor(&self, lane: SpoolLane) -> PathBuf {
        self.0.join("spool").join(lane.name()).join("cursor")
    }

    /// Segments of a lane, oldest first.
    pub fn segments(&self, lane: SpoolLane) -> Vec<PathBuf> {
        let folder = self.0.join("spool").join(lane.name());
        let mut found: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        found.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
        found.sort();
        found
    }

    /// Changes a file's bytes.
    pub fn damage(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = std::fs::read(path).unwrap();
        change(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Everything that a reader gives behind a number.
pub fn read(spool: &Spool, lane: SpoolLane, after: u64) -> Vec<(u64, Vec<u8>)> {
    let mut reader = spool.reader(lane, after);
    std::iter::from_fn(|| reader.read().unwrap()).collect()
}

/// The numbers that a reader gives behind a number.
pub fn numbers(spool: &Spool, lane: SpoolLane, after: u64) -> Vec<u64> {
    read(spool, lane, after).into_iter().map(|(seq, _)| seq).collect()
}

pub fn status(spool: &Spool, lane: SpoolLane) -> SpoolLaneStatus {
    spool.status().lanes.into_iter().find(|status| status.lane == lane).unwrap()
}

/// A payload of `length` bytes that shows its number.
pub fn payload(number: u64, length: usize) -> Vec<u8> {
    let mut bytes = format!("{{\"number\":{number}}}").into_bytes();
    bytes.resize(length.max(bytes.len()), b' ');
    bytes
}

/// Skips a test, or fails it if skipping is not allowed.
pub fn skip(reason: &str) {
    assert!(std::env::var_os("TIDEWATCH_REQUIRE_E2E").is_none_or(|value| value != "1"), "may not be skipped: {reason}");
    eprintln!("skipped: {reason}");
}
