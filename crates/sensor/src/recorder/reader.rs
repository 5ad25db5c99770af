//! Reading segments: whole, or only what is asked for.
//!
//! A file may be cut, damaged, or made by somebody who means harm. Everything that can be read is delivered, what
//! cannot is told with its place. **Never:** trusts a length before it is checked, or panics.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tw_model::KindSet;
use tw_model::event::EVENTS;
use zerocopy::IntoBytes;
use zstd::bulk::Decompressor;

use super::block::{BlockHead, FIXED, MAGIC, MAX_HEAD, NoHead, record_header};
use super::error::RecorderError;
use super::folder::scan;
use super::frame::{FrameKind, Gap, parse_note, walk};
use super::segment::{
    BadHead, FORMAT, HEAD, INDEX_MAGIC, SegmentIndex, SegmentMeta, TRAILER, Tally, read_head, read_index, read_trailer,
};

/// How far is looked at once for the next block behind a damaged place.
const STRIDE: usize = 64 << 10;
/// Most places of damage that are listed.
const MAX_DAMAGES: usize = 64;

/// Which records to deliver. The default is all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Not before this time, nanoseconds since boot.
    pub from_ns: u64,
    /// Not after this time, nanoseconds since boot.
    pub to_ns: u64,
    /// Only of these kinds.
    pub kinds: KindSet,
    /// Only of this cgroup.
    pub cgroup: Option<u64>,
    /// Whether blocks with frames that are not records are opened for their sake. In blocks that are opened anyway,
    /// such frames are always delivered.
    pub context: bool,
}

impl Default for Selection {
    fn default() -> Self {
        Self { from_ns: 0, to_ns: u64::MAX, kinds: KindSet::ALL, cgroup: None, context: true }
    }
}

/// How a reading went.
#[derive(Debug, Default)]
#[must_use]
pub struct Reading {
    /// Frames delivered.
    pub frames: u64,
    /// Records among them.
    pub records: u64,
    /// Blocks opened.
    pub blocks: u64,
    /// Blocks passed over because nothing in them was asked for.
    pub passed: u64,
    /// Frames of kinds that this version does not know: not delivered.
    pub unknown: u64,
    /// Places that could not be read.
    pub damaged: u64,
    /// The first 64 of these: offset in the file and what is wrong.
    pub damages: Vec<(u64, &'static str)>,
    /// What kept the segment from being read as a whole, if anything did: the first damage, or how it ends.
    pub error: Option<RecorderError>,
}

impl Reading {
    fn damage(&mut self, path: &Path, offset: u64, what: &'static str) {
        self.damaged += 1;
        if self.damages.len() < MAX_DAMAGES {
            self.damages.push((offset, what));
        }
        self.error.get_or_insert_with(|| RecorderError::Damaged { path: path.into(), offset, what });
    }

    /// Delivers a Gap in the place of what cannot be read.
    fn missing(&mut self, gap: Gap, take: &mut impl FnMut(FrameKind, &[u8]) -> ControlFlow<()>) -> ControlFlow<()> {
        if gap.is_empty() {
            return ControlFlow::Continue(());
        }
        self.frames += 1;
        take(FrameKind::Gap, &gap.payload())
    }
}

/// A segment in the folder.
#[derive(Debug)]
pub struct SegmentFile {
    /// The file.
    pub path: PathBuf,
    /// Number, as its name says: decides the order.
    pub number: u64,
    /// When it was created, as its name says: nanoseconds since the epoch.
    pub created_ns: u64,
    /// Its size.
    pub bytes: u64,
    /// What it says of itself, or why it cannot be read.
    pub content: Result<(SegmentMeta, SegmentIndex), RecorderError>,
}

/// All segments in `dir`, oldest first.
///
/// # Errors
/// [`RecorderError`] if the folder cannot be read. A segment that cannot be read is listed with its reason.
pub fn segments(dir: &Path) -> Result<Vec<SegmentFile>, RecorderError> {
    let list = scan(dir)?.into_iter().map(|entry| {
        let content = SegmentReader::open(&entry.path).map(|segment| (segment.meta, segment.index));
        SegmentFile {
            path: entry.path,
            number: entry.number,
            created_ns: entry.created_ns,
            bytes: entry.bytes,
            content,
        }
    });
    Ok(list.collect())
}

/// Where the segments in `dir` are, oldest first; none of them is opened.
///
/// # Errors
/// [`RecorderError`] if the folder cannot be read.
pub fn segment_paths(dir: &Path) -> Result<Vec<PathBuf>, RecorderError> {
    Ok(scan(dir)?.into_iter().map(|entry| entry.path).collect())
}

#[derive(Debug)]
enum Source {
    File(File),
    Bytes(Vec<u8>),
}

impl Source {
    /// Reads exactly this much; the caller knows that it is there.
    fn read(&self, path: &Path, at: u64, out: &mut [u8]) -> Result<(), RecorderError> {
        let read = match self {
            Self::File(file) => file.read_exact_at(out, at),
            Self::Bytes(bytes) => match bytes.get(at as usize..).and_then(|rest| rest.get(..out.len())) {
                Some(part) => {
                    out.copy_from_slice(part);
                    Ok(())
                }
                None => Err(std::io::ErrorKind::UnexpectedEof.into()),
            },
        };
        read.map_err(RecorderError::io("read", path))
    }
}

/// What is at a place of the file.
enum Place {
    Block(BlockHead, u64),
    /// A place that is no block, and where the next one begins.
    Damaged(u64, &'static str, u64),
    End(Option<RecorderError>),
}

/// One segment, open for reading.
pub struct SegmentReader {
    path: PathBuf,
    source: Source,
    length: u64,
    /// Where the first block begins, and where the last one ends.
    start: u64,
    end: u64,
    meta: SegmentMeta,
    index: SegmentIndex,
    complete: bool,
    decompressor: Decompressor<'static>,
    head: Vec<u8>,
    stored: Vec<u8>,
    raw: Vec<u64>,
}

impl SegmentReader {
    /// Opens a segment and reads its description and index. If it has no index, that is made from the heads of its
    /// blocks.
    ///
    /// # Errors
    /// [`RecorderError`] if it cannot be read, is no segment, or of a newer format.
    pub fn open(path: &Path) -> Result<Self, RecorderError> {
        // A pipe under this name must not make us wait.
        let flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
        let open = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let file = open.map_err(RecorderError::io("open", path))?;
        let metadata = file.metadata().map_err(RecorderError::io("look at", path))?;
        if !metadata.is_file() {
            return Err(RecorderError::NotASegment { path: path.into(), offset: 0, what: "is not a file" });
        }
        Self::new(path.into(), Source::File(file), metadata.len())
    }

    /// The same for a segment in memory; `name` stands for its path in errors.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_bytes(name: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<Self, RecorderError> {
        let length = bytes.len() as u64;
        Self::new(name.into(), Source::Bytes(bytes), length)
    }

    fn new(path: PathBuf, source: Source, length: u64) -> Result<Self, RecorderError> {
        let bad = |offset, what| RecorderError::NotASegment { path: path.clone(), offset, what };
        if length < HEAD as u64 {
            return Err(bad(0, "is too short"));
        }
        let mut head = [0; HEAD];
        source.read(&path, 0, &mut head)?;
        let (size, crc) = read_head(&head).map_err(|error| match error {
            BadHead::Foreign(what) => bad(0, what),
            BadHead::Newer(found) => RecorderError::Newer { path: path.clone(), found, known: FORMAT },
        })?;
        let start = (HEAD + size) as u64;
        if start > length {
            return Err(bad(HEAD as u64, "its description is cut"));
        }
        let mut json = vec![0; size];
        source.read(&path, HEAD as u64, &mut json)?;
        if crc32c::crc32c(&json) != crc {
            return Err(bad(HEAD as u64, "its description has a wrong checksum"));
        }
        let meta = serde_json::from_slice(&json).map_err(|_| bad(HEAD as u64, "its description makes no sense"))?;
        let decompressor = Decompressor::new().map_err(RecorderError::io("set up decompression for", &path))?;
        let mut segment = Self {
            path,
            source,
            length,
            start,
            end: length,
            meta,
            index: SegmentIndex::default(),
            complete: false,
            decompressor,
            head: Vec::new(),
            stored: Vec::new(),
            raw: Vec::new(),
        };
        match segment.stored_index()? {
            Some((index, end)) => (segment.index, segment.end, segment.complete) = (index, end, true),
            None => segment.index = segment.rebuilt_index()?,
        }
        Ok(segment)
    }

    /// What the segment says of itself.
    pub fn meta(&self) -> &SegmentMeta {
        &self.meta
    }

    /// What is in it.
    pub fn index(&self) -> &SegmentIndex {
        &self.index
    }

    /// Whether it was closed with an index. If not, it is being written, the agent was killed, or the file was cut.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Delivers every frame in order, until `take` breaks. The payload of records is aligned for [`tw_model::Raw::parse`].
    /// In the place of what cannot be read there is a Gap frame, as far as heads and index say how much that is.
    pub fn frames(&mut self, take: impl FnMut(FrameKind, &[u8]) -> ControlFlow<()>) -> Reading {
        self.frames_where(&Selection::default(), take)
    }

    /// Delivers the records that are selected, and frames of other kinds, in order, until `take` breaks. Blocks that
    /// hold nothing of it are passed over.
    pub fn frames_where(
        &mut self,
        selection: &Selection,
        mut take: impl FnMut(FrameKind, &[u8]) -> ControlFlow<()>,
    ) -> Reading {
        let mut reading = Reading::default();
        let kinds = self.kinds_of_file(selection.kinds);
        let mut at = self.start;
        let mut headless = false;
        loop {
            match self.place(at) {
                Err(error) | Ok(Place::End(Some(error))) => {
                    reading.error.get_or_insert(error);
                    return reading;
                }
                Ok(Place::End(None)) => return reading,
                Ok(Place::Damaged(offset, what, next)) => {
                    // Blocks without a head: the index alone knows what was in all of them together. It counts for the
                    // first.
                    let first = !std::mem::replace(&mut headless, true);
                    let gap = if first { self.unheaded() } else { Gap::default() };
                    reading.damage(&self.path, offset, what);
                    if reading.missing(gap, &mut take).is_break() {
                        return reading;
                    }
                    at = next;
                }
                Ok(Place::Block(head, data)) => {
                    let next = data + u64::from(head.stored);
                    if selection.wants(&head, kinds) {
                        match self.open_block(&head, data) {
                            Ok(raw) => {
                                reading.blocks += 1;
                                let mut seen = Gap::default();
                                match deliver(raw, selection, kinds, &mut reading, &mut seen, &mut take) {
                                    Ok(ControlFlow::Continue(())) => {}
                                    Ok(ControlFlow::Break(())) => return reading,
                                    Err(()) => {
                                        reading.damage(&self.path, at, "a frame in a block breaks off");
                                        if reading.missing(head.as_gap().without(seen), &mut take).is_break() {
                                            return reading;
                                        }
                                    }
                                }
                            }
                            Err(what) => {
                                reading.damage(&self.path, at, what);
                                if reading.missing(head.as_gap(), &mut take).is_break() {
                                    return reading;
                                }
                            }
                        }
                    } else {
                        reading.passed += 1;
                    }
                    at = next;
                }
            }
        }
    }

    /// What the index says more than the heads of all blocks: it was in blocks whose heads are damaged.
    fn unheaded(&mut self) -> Gap {
        if !self.complete {
            return Gap::default();
        }
        let of = |index: &SegmentIndex| Gap {
            records: index.records.saturating_add(index.lost),
            others: index.frames.saturating_sub(index.records),
        };
        let all = of(&self.index);
        self.rebuilt_index().map_or(Gap::default(), |heads| all.without(of(&heads)))
    }

    /// The set with the numbers that the file gives to kinds.
    fn kinds_of_file(&self, kinds: KindSet) -> KindSet {
        if kinds == KindSet::ALL || self.meta.kinds_are_ours() {
            return kinds;
        }
        let numbered = self.meta.events.iter().take(128).enumerate();
        let wanted = numbered
            .filter(|(_, name)| EVENTS.iter().any(|event| event.name == name.as_str() && kinds.contains(event.kind)));
        KindSet(wanted.fold(0, |set, (number, _)| set | 1 << number))
    }

    /// The index at the end, and where the blocks end; `None` if there is none.
    fn stored_index(&self) -> Result<Option<(SegmentIndex, u64)>, RecorderError> {
        let Some(trailer_at) = self.length.checked_sub(TRAILER as u64).filter(|at| *at >= self.start) else {
            return Ok(None);
        };
        let mut trailer = [0; TRAILER];
        self.source.read(&self.path, trailer_at, &mut trailer)?;
        let Some((offset, crc)) = read_trailer(&trailer, self.length).filter(|(offset, _)| *offset >= self.start)
        else {
            return Ok(None);
        };
        let mut bytes = vec![0; (trailer_at - offset) as usize];
        self.source.read(&self.path, offset, &mut bytes)?;
        Ok(read_index(&bytes, crc).map(|index| (index, offset)))
    }

    fn rebuilt_index(&mut self) -> Result<SegmentIndex, RecorderError> {
        let mut tally = Tally::default();
        let mut containers = BTreeMap::new();
        let mut at = self.start;
        loop {
            match self.place(at)? {
                Place::End(_) => return Ok(tally.index(&self.meta.events, &containers)),
                Place::Damaged(_, _, next) => at = next,
                Place::Block(head, data) => {
                    tally.add(&head);
                    if head.has_notes {
                        for (kind, payload) in walk(self.open_block(&head, data).unwrap_or(&[])).map_while(Result::ok) {
                            if kind == FrameKind::Note as u8
                                && let Some((cgroup, id)) = parse_note(payload)
                            {
                                containers.insert(cgroup, id.to_owned());
                            }
                        }
                    }
                    at = data + u64::from(head.stored);
                }
            }
        }
    }

    /// What begins at `at`.
    fn place(&mut self, at: u64) -> Result<Place, RecorderError> {
        if at >= self.end {
            let end = RecorderError::Unfinished { path: self.path.clone(), offset: self.end };
            return Ok(Place::End((!self.complete).then_some(end)));
        }
        let truncated = |path: &Path, what| RecorderError::Truncated { path: path.into(), offset: at, what };
        match self.head_at(at)? {
            Ok((head, data)) if data + u64::from(head.stored) <= self.end => Ok(Place::Block(head, data)),
            Ok(_) => Ok(Place::End(Some(truncated(&self.path, "a block is cut")))),
            Err(NoHead::Short) => Ok(Place::End(Some(truncated(&self.path, "the head of a block is cut")))),
            Err(NoHead::Foreign) => {
                let begun = self.head.len().min(INDEX_MAGIC.len());
                if self.head.get(..begun) == INDEX_MAGIC.get(..begun) {
                    return Ok(Place::End(Some(truncated(&self.path, "the index is cut or damaged"))));
                }
                let next = self.next_block(at + 1)?;
                Ok(Place::Damaged(at, "is not the block that should be here", next))
            }
        }
    }

    /// The head at `at`, and where its data begins. Leaves the bytes in `self.head`.
    fn head_at(&mut self, at: u64) -> Result<Result<(BlockHead, u64), NoHead>, RecorderError> {
        let size = (self.end - at).min(MAX_HEAD as u64) as usize;
        self.head.resize(size, 0);
        self.source.read(&self.path, at, &mut self.head)?;
        Ok(BlockHead::read(&self.head).map(|(head, length)| (head, at + length as u64)))
    }

    /// Where the next sound block, or the index, begins from `at` on; the end if there is none.
    fn next_block(&mut self, mut at: u64) -> Result<u64, RecorderError> {
        let mut window = vec![0; STRIDE + MAGIC.len() - 1];
        while at < self.end {
            let size = (self.end - at).min(window.len() as u64) as usize;
            let part = window.get_mut(..size).unwrap_or_default();
            self.source.read(&self.path, at, part)?;
            for (place, bytes) in part.windows(MAGIC.len()).enumerate() {
                let here = at + place as u64;
                if bytes == INDEX_MAGIC || (bytes == MAGIC && self.head_at(here)?.is_ok()) {
                    return Ok(here);
                }
            }
            at += STRIDE as u64;
        }
        Ok(self.end)
    }

    /// The frames of a block.
    fn open_block(&mut self, head: &BlockHead, data: u64) -> Result<&[u8], &'static str> {
        // Both lengths were bounded when the head was read.
        self.stored.resize(head.stored as usize, 0);
        self.source.read(&self.path, data, &mut self.stored).map_err(|_| "a block cannot be read")?;
        if crc32c::crc32c(&self.stored) != head.data_crc {
            return Err("a block has a wrong checksum");
        }
        self.raw.resize((head.raw as usize).div_ceil(8), 0);
        let out = self.raw.as_mut_bytes().get_mut(..head.raw as usize).unwrap_or_default();
        match self.decompressor.decompress_to_buffer(&self.stored, out) {
            Ok(length) if length == head.raw as usize => Ok(out),
            _ => Err("a block cannot be decompressed"),
        }
    }
}

impl Selection {
    /// Whether every record is wanted, even one that makes no sense.
    fn is_everything(&self) -> bool {
        Self { context: true, ..*self } == Self::default()
    }

    fn wants(&self, head: &BlockHead, kinds: KindSet) -> bool {
        if (self.context && head.context() > 0) || self.is_everything() {
            return true;
        }
        let in_time = head.first <= self.to_ns && head.last >= self.from_ns;
        let of_kind = head.kinds.iter().any(|(kind, _)| kinds.0 >> kind & 1 != 0);
        in_time && of_kind && self.cgroup.is_none_or(|cgroup| head.may_hold(cgroup))
    }

    fn wants_record(&self, payload: &[u8], kinds: KindSet) -> bool {
        if self.is_everything() {
            return true;
        }
        record_header(payload).is_some_and(|header| {
            (self.from_ns..=self.to_ns).contains(&header.time)
                && header.kind < 128
                && kinds.0 >> header.kind & 1 != 0
                && self.cgroup.is_none_or(|cgroup| header.cgroup == cgroup)
        })
    }
}

/// Hands out the frames of a block. `Err` if they break off.
fn deliver(
    raw: &[u8],
    selection: &Selection,
    kinds: KindSet,
    reading: &mut Reading,
    seen: &mut Gap,
    take: &mut impl FnMut(FrameKind, &[u8]) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, ()> {
    for frame in walk(raw) {
        let (number, payload) = frame.map_err(|_| ())?;
        seen.count(number, payload);
        let Some(kind) = FrameKind::from_number(number) else {
            reading.unknown += 1;
            continue;
        };
        if kind == FrameKind::Record {
            if !selection.wants_record(payload, kinds) {
                continue;
            }
            reading.records += 1;
        }
        reading.frames += 1;
        if take(kind, payload).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// A head is at least this long: shorter rests are not looked at.
const _: () = assert!(FIXED > MAGIC.len() && MAX_HEAD < STRIDE);
