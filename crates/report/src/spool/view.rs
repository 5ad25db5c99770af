//! What may be asked of a spool, and set, while its writer waits for the disk.
//!
//! **Never:** a file, nor a lock that is held while a file is written.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tw_model::status::{SpoolLane, SpoolStatus};

use super::LEAST_BYTES;
use super::ledger::Shared;

/// A spool's state and bound. Cheap to clone; every clone shows the same spool.
#[derive(Clone, Debug)]
pub struct SpoolView(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    urgent: Arc<Shared>,
    routine: Arc<Shared>,
    max_bytes: AtomicU64,
    error: Mutex<Option<String>>,
}

impl SpoolView {
    pub(super) fn new(urgent: Arc<Shared>, routine: Arc<Shared>, max_bytes: u64) -> Self {
        Self(Arc::new(Inner { urgent, routine, max_bytes: AtomicU64::new(max_bytes), error: Mutex::new(None) }))
    }

    /// Numbers and bytes. `dropped` and `corrupt` count since the spool was created; `lost` is the caller's.
    pub fn status(&self) -> SpoolStatus {
        let of = |lane: SpoolLane| match lane {
            SpoolLane::Urgent => self.0.urgent.ledger().status(lane),
            SpoolLane::Routine => self.0.routine.ledger().status(lane),
        };
        let error = self.0.error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        SpoolStatus { lanes: SpoolLane::ALL.map(of).into(), max_bytes: self.max_bytes(), error, lost: 0 }
    }

    /// Most bytes that the spool may take.
    pub fn max_bytes(&self) -> u64 {
        self.0.max_bytes.load(Ordering::Relaxed)
    }

    /// Changes how much the spool may take, from the next batch on; not below [`LEAST_BYTES`].
    pub fn set_max_bytes(&self, max_bytes: u64) {
        self.0.max_bytes.store(max_bytes.max(LEAST_BYTES), Ordering::Relaxed);
    }

    pub(super) fn set_error(&self, error: Option<String>) {
        *self.0.error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }
}
