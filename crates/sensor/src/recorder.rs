//! The flight recorder: all raw records of the last hours on disk, within a budget, so that they can be replayed.
//!
//! The caller hands over *frames*: records, and whatever else it needs to understand them later. They are gathered in
//! blocks, which a thread of the recorder compresses and writes to segments: files that stand each for itself. The bytes
//! are specified in `docs/spec/recorder.md`.
//!
//! **Never:** makes the caller wait, or loses anything without counting it and saying so in the segment.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tw_model::status::RecorderStatus;

mod block;
mod error;
mod folder;
mod frame;
mod reader;
mod segment;
mod writer;

pub use error::RecorderError;
pub use frame::{FrameKind, Gap, MAX_PAYLOAD};
pub use reader::{Reading, SegmentFile, SegmentReader, Selection, segment_paths, segments};
pub use segment::{CgroupRecords, FORMAT, MAX_CGROUPS, SegmentIndex, SegmentMeta};

use folder::Folder;
use frame::Frames;
use writer::{Begin, Message, Shared, Writer};

/// After a loss, a new segment is wanted this long after the last one at the earliest; twice as long with each segment
/// in a row that something was lost from.
const RETELL_AFTER: Duration = Duration::from_secs(1);
/// Largest size of blocks. A frame that is larger gets a block of its own.
const MAX_BLOCK: usize = 1 << 20;

/// How the recorder works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecorderOptions {
    /// Folder of the segments. Nothing else should be in it.
    pub dir: PathBuf,
    /// Most bytes on disk.
    pub max_bytes: u64,
    /// Segments that hold nothing younger are deleted.
    pub max_age: Duration,
    /// Bytes on disk at which a new segment is wanted; at most a quarter of `max_bytes`.
    pub segment_bytes: u64,
    /// Age at which a new segment is wanted.
    pub segment_age: Duration,
    /// Bytes of frames in a block, before compression; at most 1 MiB.
    pub block_bytes: usize,
    /// Full blocks that may wait for the writer.
    pub queue_blocks: usize,
}

impl Default for RecorderOptions {
    fn default() -> Self {
        Self {
            dir: "/var/lib/tidewatch/agent/recorder".into(),
            max_bytes: 1 << 30,
            max_age: Duration::from_secs(24 * 3600),
            segment_bytes: 16 << 20,
            segment_age: Duration::from_secs(600),
            block_bytes: 256 << 10,
            queue_blocks: 16,
        }
    }
}

/// What was found on disk when the recorder began.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Segments.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Segments without an index: the agent was killed while it wrote them. They can be read.
    pub unfinished: u64,
    /// Segments that cannot be read, with the reason. They stay until it is their turn to be deleted.
    pub unreadable: Vec<RecorderError>,
}

/// The writing side, for one thread.
pub struct Recorder {
    shared: Arc<Shared>,
    full: SyncSender<Message>,
    empty: Receiver<Frames>,
    thread: JoinHandle<()>,
    block: Frames,
    /// What came back, the latest last: it is taken first, so that there are no more blocks than ever waited at once.
    empties: Vec<Frames>,
    /// Blocks that were not made yet.
    unmade: usize,
    block_bytes: usize,
    queue_blocks: usize,
    segment_age: Duration,
    begin: Option<Begin>,
    lost_before: Gap,
    lost_since: Gap,
    /// Counts the segments begun.
    sequence: u64,
    begun: Instant,
    /// Something was lost since the segment began.
    torn: bool,
    /// How old the segment must be before a loss asks for the next one.
    retell_after: Duration,
    lost: u64,
}

impl Recorder {
    /// Opens the folder, creating it if need be, and starts the writer. New segments are numbered on from what is there.
    ///
    /// # Errors
    /// [`RecorderError`] if the folder cannot be created or read, or the thread not be started.
    pub fn open(options: RecorderOptions) -> Result<(Self, Recovery), RecorderError> {
        let options = RecorderOptions {
            block_bytes: options.block_bytes.clamp(64, MAX_BLOCK).next_multiple_of(8),
            segment_bytes: options.segment_bytes.min(options.max_bytes / 4),
            queue_blocks: options.queue_blocks.max(1),
            ..options
        };
        let folder = Folder::open(&options.dir)?;
        let recovery = recover(&folder);
        let shared = Arc::new(Shared::default());
        shared.show(&folder);
        shared.set_bounds(options.max_bytes, options.max_age);
        // One block is the caller's, one the writer's, the others wait: full or empty.
        let (full, take_full) = sync_channel(options.queue_blocks);
        let (give_empty, empty) = sync_channel(options.queue_blocks + 2);
        let dir = options.dir.clone();
        let (block_bytes, queue_blocks) = (options.block_bytes, options.queue_blocks);
        let segment_age = options.segment_age;
        let writer = Writer::new(options, Arc::clone(&shared), folder)?;
        let thread = std::thread::Builder::new()
            .name("recorder".into())
            .spawn(move || writer.run(&take_full, &give_empty))
            .map_err(RecorderError::io("start the thread that writes to", dir))?;
        let recorder = Self {
            shared,
            full,
            empty,
            thread,
            block: Frames::with_room(block_bytes),
            empties: Vec::with_capacity(queue_blocks + 2),
            unmade: queue_blocks + 1,
            block_bytes,
            queue_blocks,
            segment_age,
            begin: None,
            lost_before: Gap::default(),
            lost_since: Gap::default(),
            sequence: 0,
            begun: Instant::now(),
            torn: false,
            retell_after: RETELL_AFTER,
            lost: 0,
        };
        Ok((recorder, recovery))
    }

    /// Appends a frame. Copies the payload; neither waits nor allocates, unless it is larger than a
    /// block or more blocks wait than ever before. If the
    /// writer is behind, what was gathered is dropped and counted.
    #[inline]
    pub fn append(&mut self, kind: FrameKind, payload: &[u8]) {
        if !self.block.push(kind as u8, payload) {
            self.append_to_next(kind, payload);
        }
    }

    #[cold]
    fn append_to_next(&mut self, kind: FrameKind, payload: &[u8]) {
        if payload.len() > MAX_PAYLOAD {
            let record = u64::from(kind == FrameKind::Record);
            self.count_lost(Gap { records: record, others: 1 - record });
            return;
        }
        self.hand_over();
        self.block.reserve(Frames::size_of(payload.len()));
        self.block.push(kind as u8, payload);
    }

    /// Says which container a cgroup is, for the index of this and the following segments. Say it again at the start of
    /// each segment, so that it can be read alone.
    pub fn note_container(&mut self, cgroup: u64, container: &str) {
        let mut payload = [0; 256];
        let id = container.as_bytes();
        let length = 8 + id.len().min(payload.len() - 8);
        payload[..8].copy_from_slice(&cgroup.to_le_bytes());
        payload[8..length].copy_from_slice(&id[..length - 8]);
        self.append(FrameKind::Note, &payload[..length]);
    }

    /// Whether the caller should begin a segment and tell its state: at the start, when the segment is large or old
    /// enough, and after a loss, as soon as the writer has caught up.
    pub fn wants_segment(&self) -> bool {
        if self.sequence == 0 || self.shared.large.load(Ordering::Relaxed) == self.sequence {
            return true;
        }
        let age = self.begun.elapsed();
        let caught_up = self.queued() <= self.queue_blocks / 4;
        age >= self.segment_age || (self.is_torn() && age >= self.retell_after && caught_up)
    }

    fn is_torn(&self) -> bool {
        self.torn || (self.sequence > 0 && self.shared.gap.load(Ordering::Relaxed) == self.sequence)
    }

    /// Counts a frame that the caller does not append, since there was no room for too long. The segment says so, and
    /// another one is wanted.
    pub fn give_up(&mut self, kind: FrameKind) {
        let record = u64::from(kind == FrameKind::Record);
        self.count_lost(Gap { records: record, others: 1 - record });
        self.torn = true;
    }

    /// Counts a record that the caller does not append by its own decision. The segment says so.
    pub fn pass_over(&mut self) {
        self.count_lost(Gap { records: 1, others: 0 });
    }

    /// Ends the segment and begins the next one, with the next frame.
    pub fn begin_segment(&mut self, meta: SegmentMeta) {
        self.hand_over();
        // Where a state does not fit through, telling it every second would only stall the caller.
        let longer = self.retell_after.saturating_mul(2).min(self.segment_age.max(RETELL_AFTER));
        self.retell_after = if self.is_torn() { longer } else { RETELL_AFTER };
        self.sequence += 1;
        if self.begin.replace(Begin { sequence: self.sequence, meta }).is_some() {
            // The segment before this one never came to be.
            self.lost_before.add(std::mem::take(&mut self.lost_since));
        }
        self.begun = Instant::now();
        self.torn = false;
    }

    /// Bytes that can be appended now without a loss. A caller with much state to tell spreads it over several turns.
    pub fn room(&self) -> usize {
        self.queue_blocks.saturating_sub(self.queued()) * self.block_bytes + self.block.room()
    }

    /// Hands over what was gathered. Called about once a second, a kill loses a second at most.
    pub fn flush(&mut self) {
        self.hand_over();
    }

    /// Changes how much and how long is kept; old segments go within seconds.
    pub fn set_bounds(&self, max_bytes: u64, max_age: Duration) {
        self.shared.set_bounds(max_bytes, max_age);
    }

    /// How it goes.
    pub fn status(&self) -> RecorderStatus {
        status_of(&self.shared, self.lost, self.thread.is_finished())
    }

    /// Writes everything that is left and the index, and says how it went. Waits for the disk.
    pub fn close(mut self) -> RecorderStatus {
        if self.block.used() > 0 || !self.lost_before.is_empty() || !self.lost_since.is_empty() {
            let block = std::mem::replace(&mut self.block, Frames::with_room(0));
            let message = self.message(block);
            self.shared.queued.fetch_add(1, Ordering::Relaxed);
            if let Err(unsent) = self.full.send(message) {
                self.lost += unsent.0.frames.as_gap().records;
            }
        }
        drop(self.full);
        let ended = self.thread.join().is_err();
        status_of(&self.shared, self.lost, ended)
    }

    fn queued(&self) -> usize {
        self.shared.queued.load(Ordering::Relaxed)
    }

    /// Gives the block to the writer and takes an empty one.
    fn hand_over(&mut self) {
        if self.block.used() == 0 {
            return;
        }
        self.empties.extend(self.empty.try_iter());
        // One block is ours, one the writer's, and there are as many as may wait: if none is empty, the queue is full.
        let Some(empty) = self.empties.pop().or_else(|| self.make_block()) else {
            self.drop_block();
            return;
        };
        let block = std::mem::replace(&mut self.block, empty);
        let message = self.message(block);
        // Counted before it is sent, lest the writer take it off first.
        self.shared.queued.fetch_add(1, Ordering::Relaxed);
        if let Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) = self.full.try_send(message) {
            self.shared.queued.fetch_sub(1, Ordering::Relaxed);
            (self.lost_before, self.begin, self.lost_since) = (message.lost_before, message.begin, message.lost_since);
            self.empties.push(std::mem::replace(&mut self.block, message.frames));
            self.drop_block();
        }
    }

    /// One more block, if there may be: each is made once.
    fn make_block(&mut self) -> Option<Frames> {
        self.unmade = self.unmade.checked_sub(1)?;
        Some(Frames::with_room(self.block_bytes))
    }

    fn message(&mut self, frames: Frames) -> Message {
        Message {
            frames,
            lost_before: std::mem::take(&mut self.lost_before),
            begin: self.begin.take(),
            lost_since: std::mem::take(&mut self.lost_since),
        }
    }

    fn drop_block(&mut self) {
        let gap = self.block.as_gap();
        self.block.clear(self.block_bytes);
        self.count_lost(gap);
        self.torn = true;
    }

    fn count_lost(&mut self, gap: Gap) {
        self.lost += gap.records;
        if self.begin.is_some() { self.lost_since.add(gap) } else { self.lost_before.add(gap) }
    }
}

fn status_of(shared: &Shared, lost: u64, ended: bool) -> RecorderStatus {
    RecorderStatus {
        bytes: shared.bytes.load(Ordering::Relaxed),
        max_bytes: shared.max_bytes.load(Ordering::Relaxed),
        segments: shared.segments.load(Ordering::Relaxed),
        records: shared.records.load(Ordering::Relaxed),
        lost: lost + shared.lost.load(Ordering::Relaxed),
        oldest_ns: shared.oldest_ns.load(Ordering::Relaxed),
        error: if ended { Some(RecorderError::WriterEnded.to_string()) } else { shared.error() },
    }
}

fn recover(folder: &Folder) -> Recovery {
    let mut recovery =
        Recovery { segments: folder.entries().len() as u64, bytes: folder.bytes(), ..Recovery::default() };
    for entry in folder.entries() {
        match SegmentReader::open(&entry.path) {
            Ok(segment) => recovery.unfinished += u64::from(!segment.is_complete()),
            Err(error) => recovery.unreadable.push(error),
        }
    }
    recovery
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    #[test]
    fn a_state_that_does_not_fit_through_is_told_ever_more_seldom() {
        let dir = tempfile::tempdir().unwrap();
        let options = RecorderOptions { dir: dir.path().into(), ..RecorderOptions::default() };
        let (mut recorder, _) = Recorder::open(options).unwrap();
        let mut waits = Vec::new();
        for torn in [true, true, true, true, false, true] {
            recorder.begin_segment(SegmentMeta::default());
            if torn {
                recorder.give_up(FrameKind::State);
            }
            let wait = (0..600).find(|_| {
                let wants = recorder.wants_segment();
                recorder.begun -= Duration::from_secs(1);
                wants
            });
            waits.push(wait);
        }
        assert_eq!(waits, [Some(1), Some(2), Some(4), Some(8), None, Some(1)]);
        let told = segments(dir.path()).unwrap();
        assert!(told.is_empty(), "nothing was appended");
        recorder.append(FrameKind::State, b"x");
        recorder.close();
        let mut gaps = Gap::default();
        for file in segments(dir.path()).unwrap() {
            let reading = SegmentReader::open(&file.path).unwrap().frames(|kind, payload| {
                if kind == FrameKind::Gap {
                    gaps.add(Gap::parse(payload).unwrap());
                }
                std::ops::ControlFlow::Continue(())
            });
            assert!(reading.error.is_none());
        }
        assert_eq!(gaps, Gap { records: 0, others: 5 });
    }
}
