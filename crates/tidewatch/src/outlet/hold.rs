//! Findings on their way into the spool, held in memory while it cannot be written.
//!
//! **Never:** the same batch for ever: what can never be kept is given up, counted and said.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tw_model::Finding;
use tw_model::status::SpoolLane;
use tw_report::spool::{Spool, SpoolError};
use tw_report::uplink::Bell;

use super::{OutletCounts, set};

/// How often a spool that cannot be written is tried again.
pub(super) const RETRY: Duration = Duration::from_secs(1);
/// Findings held while the spool cannot be written.
const HELD: usize = 8192;
/// Their bytes.
const HELD_BYTES: usize = 16 << 20;
/// Findings that are kept together at most.
const CHUNK: usize = 256;
/// Bytes of findings that are kept together, about.
const CHUNK_BYTES: usize = 1 << 20;

/// What is not in the spool yet.
pub(super) struct Hold {
    spool: Option<Arc<Mutex<Spool>>>,
    bell: Bell,
    /// Per lane, oldest first.
    waiting: [VecDeque<Vec<u8>>; SpoolLane::ALL.len()],
    bytes: usize,
    /// When the spool was tried in vain.
    tried: Option<Instant>,
    counts: Arc<OutletCounts>,
}

impl Hold {
    /// Holds nothing yet. Without a spool it never does.
    pub(super) fn new(spool: Option<Arc<Mutex<Spool>>>, bell: Bell, counts: Arc<OutletCounts>) -> Self {
        Self { spool, bell, waiting: Default::default(), bytes: 0, tried: None, counts }
    }

    /// Puts findings into the spool; holds them while it cannot be written.
    pub(super) fn keep<'f>(&mut self, findings: impl IntoIterator<Item = &'f Finding>) {
        let Some(spool) = self.spool.clone() else { return };
        for finding in findings {
            match serde_json::to_vec(finding) {
                Ok(bytes) => {
                    self.bytes += bytes.len();
                    self.waiting[SpoolLane::of(finding.priority) as usize].push_back(bytes);
                }
                // Findings hold text and numbers: they always serialise.
                Err(error) => self.give_up(&error.to_string()),
            }
        }
        if self.held() > 0 && self.tried.is_none_or(|tried| tried.elapsed() >= RETRY) {
            self.drain(&spool);
        }
        self.bound();
    }

    /// The last chance for what could not be kept.
    pub(super) fn close(mut self) {
        self.tried = None;
        self.keep(&[]);
        let lost = self.held();
        if lost > 0 {
            self.counts.lost_spool.fetch_add(lost as u64, Ordering::Relaxed);
            tracing::error!("{lost} findings are lost to the manager: the spool could not be written until the end");
        }
    }

    fn held(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    fn drain(&mut self, spool: &Mutex<Spool>) {
        let (before, mut failure) = (self.held(), None);
        for lane in SpoolLane::ALL {
            // One lane may fail where the other does not.
            if let Err(error) = self.drain_lane(spool, lane) {
                failure.get_or_insert(error);
            }
        }
        if self.held() < before {
            self.bell.ring();
        }
        match failure {
            Some(error) => {
                if self.tried.replace(Instant::now()).is_none() {
                    tracing::error!("{error}; findings are shown, and {HELD} of them held until it can be written");
                }
                set(&self.counts.spool_error, Some(error.to_string()));
            }
            None if self.tried.take().is_some() => {
                set(&self.counts.spool_error, None);
                let lost = self.counts.lost_spool.load(Ordering::Relaxed);
                tracing::info!("the spool can be written again; {lost} findings were lost to it since the start");
            }
            None => {}
        }
    }

    /// Keeps what waits of a lane, a chunk at a time. An error can be tried again.
    fn drain_lane(&mut self, spool: &Mutex<Spool>, lane: SpoolLane) -> Result<(), SpoolError> {
        let mut one_by_one = 0_usize;
        loop {
            let waiting = &self.waiting[lane as usize];
            let most = if one_by_one > 0 { 1 } else { CHUNK };
            let mut bytes = 0;
            let fits = |finding: &&Vec<u8>| {
                let first = bytes == 0;
                bytes += finding.len();
                first || bytes <= CHUNK_BYTES
            };
            let chunk: Vec<&Vec<u8>> = waiting.iter().take(most).take_while(fits).collect();
            if chunk.is_empty() {
                return Ok(());
            }
            let count = chunk.len();
            // Locked anew for each chunk, so that an acknowledgement comes in between.
            let result = spool.lock().unwrap_or_else(PoisonError::into_inner).append(lane, &chunk);
            match result {
                Ok(_) => self.forget(lane, count),
                Err(error @ (SpoolError::TooLong(_) | SpoolError::Batch { .. })) if count == 1 => {
                    self.forget(lane, 1);
                    self.give_up(&error.to_string());
                }
                Err(SpoolError::TooLong(_) | SpoolError::Batch { .. }) => {
                    one_by_one = count;
                    continue;
                }
                Err(error) => return Err(error),
            }
            one_by_one = one_by_one.saturating_sub(count);
        }
    }

    /// The oldest of a lane need not be held any more.
    fn forget(&mut self, lane: SpoolLane, count: usize) {
        let kept = self.waiting[lane as usize].drain(..count);
        self.bytes -= kept.map(|finding| finding.len()).sum::<usize>();
    }

    fn give_up(&self, error: &str) {
        self.counts.lost_spool.fetch_add(1, Ordering::Relaxed);
        tracing::error!("a finding is shown, but never reaches the manager: {error}");
    }

    fn bound(&mut self) {
        while self.held() > HELD || self.bytes > HELD_BYTES {
            // The least urgent first.
            let routine = !self.waiting[SpoolLane::Routine as usize].is_empty();
            self.forget(if routine { SpoolLane::Routine } else { SpoolLane::Urgent }, 1);
            self.counts.lost_spool.fetch_add(1, Ordering::Relaxed);
        }
    }
}
