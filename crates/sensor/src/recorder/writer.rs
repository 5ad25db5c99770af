//! The writer thread: compresses, writes, and keeps the folder within its budget.
//!
//! **Never:** makes the caller wait. When the disk refuses, it drops what it holds, counts it, and goes on.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use zstd::bulk::Compressor;

use super::RecorderOptions;
use super::block::{BlockHead, MAX_STORED};
use super::error::RecorderError;
use super::folder::Folder;
use super::frame::{FrameKind, Frames, Gap, parse_note, walk};
use super::segment::{SegmentMeta, Tally, write_head, write_index};
use crate::clock;

/// Fast, and still a third to a tenth of the size.
const LEVEL: i32 = 1;
/// How long the thread sleeps at most before it looks at the ages of segments.
const TIDY_EVERY: Duration = Duration::from_secs(5);
/// Most containers remembered for the index.
const MAX_CONTAINERS: usize = 16_384;
/// How much more than the block itself is freed on a full disk before the block is given up.
const SPARE: u64 = 256 << 10;

/// A block on its way to the disk.
pub(super) struct Message {
    pub frames: Frames,
    /// Lost before this block, and before the new segment, if it begins one.
    pub lost_before: Gap,
    /// A new segment begins with this block.
    pub begin: Option<Begin>,
    /// Lost since the new segment began.
    pub lost_since: Gap,
}

/// A new segment.
pub(super) struct Begin {
    /// Counts the caller's segments, from 1.
    pub sequence: u64,
    pub meta: SegmentMeta,
}

/// What the writer tells the caller.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Blocks that wait for the writer.
    pub queued: AtomicUsize,
    /// The caller's segment that is large enough.
    pub large: AtomicU64,
    /// The caller's segment in which something is missing that the next one should tell anew.
    pub gap: AtomicU64,
    pub bytes: AtomicU64,
    pub segments: AtomicU64,
    pub oldest_ns: AtomicU64,
    pub records: AtomicU64,
    pub lost: AtomicU64,
    pub max_bytes: AtomicU64,
    max_age_ns: AtomicU64,
    error: Mutex<Option<String>>,
}

impl Shared {
    pub fn set_bounds(&self, max_bytes: u64, max_age: Duration) {
        self.max_bytes.store(max_bytes, Ordering::Relaxed);
        self.max_age_ns.store(u64::try_from(max_age.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn max_bytes(&self) -> u64 {
        self.max_bytes.load(Ordering::Relaxed)
    }

    fn max_age(&self) -> Duration {
        Duration::from_nanos(self.max_age_ns.load(Ordering::Relaxed))
    }

    pub fn error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_error(&self, error: Option<String>) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    pub fn show(&self, folder: &Folder) {
        self.bytes.store(folder.bytes(), Ordering::Relaxed);
        self.segments.store(folder.entries().len() as u64, Ordering::Relaxed);
        self.oldest_ns.store(folder.entries().front().map_or(0, |entry| entry.created_ns), Ordering::Relaxed);
    }
}

/// The segment that is written to.
struct Open {
    file: File,
    path: PathBuf,
    length: u64,
    tally: Tally,
    meta: SegmentMeta,
}

pub(super) struct Writer {
    options: RecorderOptions,
    shared: Arc<Shared>,
    folder: Folder,
    compressor: Compressor<'static>,
    /// Compressed data, and the whole block: reused.
    data: Vec<u8>,
    out: Vec<u8>,
    head: BlockHead,
    open: Option<Open>,
    /// Description of the caller's segment, kept in case its file must be created anew.
    meta: SegmentMeta,
    sequence: u64,
    /// Lost, and not told in a segment yet.
    gap: Gap,
    /// Something of the caller's segment is lost since it began.
    torn: bool,
    containers: BTreeMap<u64, String>,
}

impl Writer {
    pub fn new(options: RecorderOptions, shared: Arc<Shared>, folder: Folder) -> Result<Self, RecorderError> {
        let compressor = Compressor::new(LEVEL).map_err(RecorderError::io("set up compression for", folder.path()))?;
        Ok(Self {
            data: Vec::with_capacity(zstd::zstd_safe::compress_bound(options.block_bytes)),
            out: Vec::new(),
            options,
            shared,
            folder,
            compressor,
            head: BlockHead::default(),
            open: None,
            meta: SegmentMeta::default(),
            sequence: 0,
            gap: Gap::default(),
            torn: false,
            containers: BTreeMap::new(),
        })
    }

    /// Serves until the caller is gone; then closes the segment.
    pub fn run(mut self, full: &Receiver<Message>, empty: &SyncSender<Frames>) {
        self.tidy();
        let mut tidied = std::time::Instant::now();
        loop {
            match full.recv_timeout(TIDY_EVERY) {
                Ok(message) => {
                    self.shared.queued.fetch_sub(1, Ordering::Relaxed);
                    let mut frames = self.take(message);
                    frames.clear(self.options.block_bytes);
                    // There is room for all blocks that exist; without a caller nobody wants it back.
                    let _ = empty.try_send(frames);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if tidied.elapsed() >= TIDY_EVERY {
                self.tidy();
                tidied = std::time::Instant::now();
            }
        }
        if !self.gap.is_empty() {
            let _ = self.tell_gap();
        }
        self.finish_segment();
        self.shared.show(&self.folder);
    }

    /// Deletes what is too old or too much.
    fn tidy(&mut self) {
        let mut done = self.folder.expire(clock::wall_ns(), self.shared.max_age());
        while done.is_ok() && self.folder.bytes() > self.shared.max_bytes() {
            match self.folder.unlink_oldest(1) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => done = Err(error),
            }
        }
        if let Err(error) = done {
            tracing::warn!("flight recorder: {error}");
            self.shared.set_error(Some(error.to_string()));
        }
        self.shared.show(&self.folder);
    }

    fn take(&mut self, message: Message) -> Frames {
        self.gap.add(message.lost_before);
        if let Some(Begin { sequence, meta }) = message.begin {
            if self.open.is_some() && !self.gap.is_empty() {
                // What the old segment cannot be told is told to the new one.
                let _ = self.tell_gap();
            }
            self.finish_segment();
            (self.sequence, self.meta, self.torn) = (sequence, meta, false);
        }
        self.gap.add(message.lost_since);
        if message.frames.used() > 0 {
            self.store(message.frames.bytes());
        }
        self.shared.show(&self.folder);
        message.frames
    }

    /// Writes frames as a block, with what was lost before them as one of its own; or counts them as lost.
    fn store(&mut self, frames: &[u8]) {
        self.remember_containers(frames);
        let told = if self.gap.is_empty() { Ok(()) } else { self.tell_gap() };
        match told.and_then(|()| self.write_block(frames)) {
            Ok(()) => {
                if std::mem::take(&mut self.torn) {
                    self.shared.gap.store(self.sequence, Ordering::Relaxed);
                }
                if self.shared.error().is_some() {
                    tracing::info!("flight recorder: writes again");
                    self.shared.set_error(None);
                }
                self.shared.records.fetch_add(u64::from(self.head.records), Ordering::Relaxed);
            }
            Err(error) => {
                if self.shared.error().is_none() {
                    tracing::warn!("flight recorder: {error}");
                }
                let remedy = if matches!(error, RecorderError::Io { .. }) && error.is_no_space() {
                    ": free space, or lower recorder.max_mib"
                } else {
                    ""
                };
                self.shared.set_error(Some(format!("{error}{remedy}")));
                self.drop_frames(frames);
            }
        }
    }

    fn drop_frames(&mut self, frames: &[u8]) {
        let mut lost = Gap::default();
        for (kind, _) in walk(frames).map_while(Result::ok) {
            if kind == FrameKind::Record as u8 {
                lost.records += 1;
            } else {
                lost.others += 1;
            }
        }
        self.gap.add(lost);
        self.shared.lost.fetch_add(lost.records, Ordering::Relaxed);
        self.torn = true;
    }

    fn tell_gap(&mut self) -> Result<(), RecorderError> {
        let mut frames = Frames::with_room(Frames::size_of(16));
        frames.push(FrameKind::Gap as u8, &self.gap.payload());
        self.write_block(frames.bytes())?;
        self.gap = Gap::default();
        Ok(())
    }

    fn remember_containers(&mut self, frames: &[u8]) {
        for (kind, payload) in walk(frames).map_while(Result::ok) {
            if kind != FrameKind::Note as u8 {
                continue;
            }
            let Some((cgroup, id)) = parse_note(payload) else { continue };
            if self.containers.len() >= MAX_CONTAINERS && !self.containers.contains_key(&cgroup) {
                // The ids of cgroups only grow: the first is the oldest.
                self.containers.pop_first();
            }
            self.containers.insert(cgroup, id.to_owned());
        }
    }

    fn write_block(&mut self, frames: &[u8]) -> Result<(), RecorderError> {
        self.data.clear();
        self.data.reserve(zstd::zstd_safe::compress_bound(frames.len()).min(MAX_STORED));
        self.compressor
            .compress_to_buffer(frames, &mut self.data)
            .map_err(RecorderError::io("compress for", self.folder.path()))?;
        self.head.take_stock(frames);
        self.out.clear();
        self.head.write(&self.data, &mut self.out);
        if self.open.is_none() {
            self.begin_segment()?;
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        append(&mut self.folder, self.shared.max_bytes(), &open.file, &open.path, open.length, &self.out)?;
        open.length += self.out.len() as u64;
        open.tally.add(&self.head);
        if open.length >= self.options.segment_bytes {
            self.shared.large.store(self.sequence, Ordering::Relaxed);
        }
        Ok(())
    }

    fn begin_segment(&mut self) -> Result<(), RecorderError> {
        let now_ns = clock::wall_ns();
        let mut meta = self.meta.clone();
        meta.complete(self.folder.next_number(), now_ns);
        let head = write_head(&meta);
        let (file, path) = loop {
            match self.folder.create(now_ns) {
                // A disk may be out of names rather than of bytes: one segment less is one name more.
                Err(error) if error.is_no_space() && self.folder.unlink_oldest(1)?.is_some() => {}
                created => break created?,
            }
        };
        if let Err(error) = append(&mut self.folder, self.shared.max_bytes(), &file, &path, 0, &head) {
            self.folder.discard_newest();
            return Err(error);
        }
        self.open = Some(Open { file, path, length: head.len() as u64, tally: Tally::default(), meta });
        Ok(())
    }

    /// Writes the index. A segment without one can still be read, so a full disk is no error here.
    fn finish_segment(&mut self) {
        let Some(open) = self.open.take() else { return };
        let index = write_index(&open.tally.index(&open.meta.events, &self.containers), open.length);
        let done = append(&mut self.folder, self.shared.max_bytes(), &open.file, &open.path, open.length, &index);
        if let Err(error) = done {
            tracing::warn!("flight recorder: the segment keeps no index: {error}");
        }
    }
}

/// Writes `bytes` at `offset`, the end of the newest segment. Old segments make way, first for the budget, then if the
/// disk is full. If it fails, the file is as long as before.
fn append(
    folder: &mut Folder,
    max_bytes: u64,
    file: &File,
    path: &std::path::Path,
    offset: u64,
    bytes: &[u8],
) -> Result<(), RecorderError> {
    let length = bytes.len() as u64;
    while folder.bytes() + length > max_bytes {
        if folder.unlink_oldest(1)?.is_none() {
            return Err(RecorderError::Budget { path: folder.path().into(), max: max_bytes });
        }
    }
    let mut freed = 0;
    loop {
        let Err(source) = file.write_all_at(bytes, offset) else {
            folder.newest_has(offset + length);
            return Ok(());
        };
        // What was written of it must not be taken for a block that was cut.
        let _ = file.set_len(offset);
        let error = RecorderError::io("write", path)(source);
        // If somebody else fills the disk, the whole history would not be enough.
        if !error.is_no_space() || freed > length + SPARE {
            return Err(error);
        }
        match folder.unlink_oldest(1)? {
            Some(bytes) => freed += bytes,
            None => return Err(error),
        }
    }
}
