//! Segments: what stands at the start of a file, and the index at its end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tw_model::event::EVENTS;
use tw_model::status::Node;

use super::block::BlockHead;

/// The newest format that this version reads, and the one that it writes.
pub const FORMAT: u16 = 1;

/// What a segment begins with.
const MAGIC: [u8; 8] = *b"TWsegmt\n";
/// What its index begins with.
pub(super) const INDEX_MAGIC: [u8; 8] = *b"TWindex\n";
/// What its last bytes are.
const END_MAGIC: [u8; 8] = *b"TWend  \n";
/// Bytes before the description.
pub(super) const HEAD: usize = 24;
/// Bytes behind the index.
pub(super) const TRAILER: usize = 24;
/// Longest description or index in bytes.
pub(super) const MAX_JSON: usize = 4 << 20;
/// Most cgroups in the index of a segment.
pub const MAX_CGROUPS: usize = 4096;

/// What a segment says of itself: written at its start as JSON. The caller fills what it knows; the recorder fills
/// `number`, `arch`, `events`, and `started_ns` if it is 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SegmentMeta {
    /// Number of the segment: decides the order.
    pub number: u64,
    /// Version of the program.
    pub version: String,
    /// Whose recording it is.
    pub node: Node,
    /// When it began, nanoseconds since the epoch.
    pub started_ns: u64,
    /// What to add to a record's time to get nanoseconds since the epoch, as of its start.
    pub boot_to_wall_ns: u64,
    /// Number of the first event that follows.
    pub first_event: u64,
    /// Digest of the rules in force.
    pub rules_digest: String,
    /// Architecture of the machine: records are in its byte order.
    pub arch: String,
    /// Names of the kinds of events, by number, as of the version that wrote it.
    pub events: Vec<String>,
    /// Whatever else the caller wants to be found here.
    pub extra: serde_json::Value,
}

impl SegmentMeta {
    pub(super) fn complete(&mut self, number: u64, now_ns: u64) {
        self.number = number;
        if self.started_ns == 0 {
            self.started_ns = now_ns;
        }
        self.arch = std::env::consts::ARCH.into();
        self.events = EVENTS.iter().map(|event| event.name.to_owned()).collect();
    }

    /// Whether this version numbers every kind of event as the one that wrote the segment did, so that its records can
    /// be parsed as they are.
    pub fn kinds_are_ours(&self) -> bool {
        self.events.len() <= EVENTS.len() && self.events.iter().zip(EVENTS).all(|(name, event)| *name == event.name)
    }
}

/// Records of one cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CgroupRecords {
    /// Id of the cgroup.
    pub cgroup: u64,
    /// Records.
    pub records: u64,
    /// Id of its container; empty if it has none or is not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub container: String,
}

/// What is in a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SegmentIndex {
    /// Earliest time of a record, nanoseconds since boot; 0 without records.
    pub first_ns: u64,
    /// Latest time of a record, nanoseconds since boot.
    pub last_ns: u64,
    /// Blocks.
    pub blocks: u64,
    /// Frames.
    pub frames: u64,
    /// Records among them.
    pub records: u64,
    /// Records that were lost.
    pub lost: u64,
    /// Bytes before compression.
    pub raw_bytes: u64,
    /// Records by name of the event.
    pub events: BTreeMap<String, u64>,
    /// Records by cgroup, at most [`MAX_CGROUPS`], ascending by cgroup.
    pub cgroups: Vec<CgroupRecords>,
    /// Records of cgroups that are not listed.
    pub others: u64,
}

/// Adds up the heads of a segment's blocks.
#[derive(Debug, Default)]
pub(super) struct Tally {
    index: SegmentIndex,
    by_kind: BTreeMap<u8, u64>,
    by_cgroup: BTreeMap<u64, u64>,
}

impl Tally {
    pub fn add(&mut self, head: &BlockHead) {
        let index = &mut self.index;
        if !head.kinds.is_empty() {
            index.first_ns = if self.by_kind.is_empty() { head.first } else { index.first_ns.min(head.first) };
            index.last_ns = index.last_ns.max(head.last);
        }
        index.blocks += 1;
        index.frames += u64::from(head.frames);
        index.records += u64::from(head.records);
        // The numbers of a file from elsewhere may be anything.
        index.lost = index.lost.saturating_add(head.lost);
        index.raw_bytes += u64::from(head.raw);
        index.others += u64::from(head.others);
        for (kind, count) in &head.kinds {
            *self.by_kind.entry(*kind).or_default() += u64::from(*count);
        }
        for (cgroup, count) in &head.cgroups {
            if self.by_cgroup.len() < MAX_CGROUPS || self.by_cgroup.contains_key(cgroup) {
                *self.by_cgroup.entry(*cgroup).or_default() += u64::from(*count);
            } else {
                index.others += u64::from(*count);
            }
        }
    }

    /// The index, with the names that the file gives to kinds, and the containers that are known.
    pub fn index(&self, events: &[String], containers: &BTreeMap<u64, String>) -> SegmentIndex {
        let name = |kind: u8| events.get(usize::from(kind)).cloned().unwrap_or_else(|| format!("event-{kind}"));
        let cgroups = self.by_cgroup.iter().map(|(cgroup, records)| CgroupRecords {
            cgroup: *cgroup,
            records: *records,
            container: containers.get(cgroup).cloned().unwrap_or_default(),
        });
        SegmentIndex {
            events: self.by_kind.iter().map(|(kind, count)| (name(*kind), *count)).collect(),
            cgroups: cgroups.collect(),
            ..self.index.clone()
        }
    }
}

/// Why the start of a file cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHead {
    Foreign(&'static str),
    Newer(u16),
}

/// The start of a file: 24 bytes that stay the same in every format, and the description.
pub(super) fn write_head(meta: &SegmentMeta) -> Vec<u8> {
    let json = serde_json::to_vec(meta).unwrap_or_default();
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&0_u16.to_le_bytes());
    out.extend_from_slice(&(json.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(&json).to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
    out.extend_from_slice(&json);
    out
}

/// Length and CRC32C of the description.
pub(super) fn read_head(head: &[u8; HEAD]) -> Result<(usize, u32), BadHead> {
    if !head.starts_with(&MAGIC) {
        return Err(BadHead::Foreign("begins with something else"));
    }
    if crc32c::crc32c(&head[..20]) != number(&head[20..]) {
        return Err(BadHead::Foreign("its first bytes have a wrong checksum"));
    }
    let format = number(&head[8..]) as u16;
    if format > FORMAT {
        return Err(BadHead::Newer(format));
    }
    let length = number(&head[12..]) as usize;
    if length > MAX_JSON {
        return Err(BadHead::Foreign("its description is too long"));
    }
    Ok((length, number(&head[16..])))
}

/// The end of a file whose blocks end at `offset`.
pub(super) fn write_index(index: &SegmentIndex, offset: u64) -> Vec<u8> {
    let mut out = INDEX_MAGIC.to_vec();
    out.extend(serde_json::to_vec(index).unwrap_or_default());
    let crc = crc32c::crc32c(&out);
    let trailer = out.len();
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(&out[trailer..]).to_le_bytes());
    out.extend_from_slice(&END_MAGIC);
    out
}

/// Where the index begins, and its CRC32C, from the last bytes of a file of `length` bytes; `None` if they are no end.
pub(super) fn read_trailer(trailer: &[u8; TRAILER], length: u64) -> Option<(u64, u32)> {
    let sound = trailer.ends_with(&END_MAGIC) && crc32c::crc32c(&trailer[..12]) == number(&trailer[12..]);
    let offset = u64::from(number(trailer)) | u64::from(number(&trailer[4..])) << 32;
    let size = length.checked_sub(TRAILER as u64)?.checked_sub(offset)?;
    (sound && size <= MAX_JSON as u64).then(|| (offset, number(&trailer[8..])))
}

/// The index between `offset` and the trailer; `None` if it is not what was written.
pub(super) fn read_index(bytes: &[u8], crc: u32) -> Option<SegmentIndex> {
    if crc32c::crc32c(bytes) != crc {
        return None;
    }
    serde_json::from_slice(bytes.strip_prefix(&INDEX_MAGIC)?).ok()
}

fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_is_read_back_and_every_bit_counts() {
        let mut meta = SegmentMeta { version: "0.1.0".into(), ..SegmentMeta::default() };
        meta.complete(7, 8);
        assert!(meta.kinds_are_ours());
        let bytes = write_head(&meta);
        let head: &[u8; HEAD] = bytes.first_chunk().unwrap();
        let (length, crc) = read_head(head).unwrap();
        assert_eq!((length, crc), (bytes.len() - HEAD, crc32c::crc32c(&bytes[HEAD..])));
        assert_eq!(serde_json::from_slice::<SegmentMeta>(&bytes[HEAD..]).unwrap(), meta);
        for bit in 0..HEAD * 8 {
            let mut bad = *head;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(read_head(&bad), Err(BadHead::Foreign(_))), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_format_is_told_by_its_number() {
        let mut head = *write_head(&SegmentMeta::default()).first_chunk::<HEAD>().unwrap();
        head[8] = 9;
        let crc = crc32c::crc32c(&head[..20]);
        head[20..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(read_head(&head), Err(BadHead::Newer(9)));
    }

    #[test]
    fn the_index_is_read_back_and_every_bit_counts() {
        let index = SegmentIndex { records: 5, others: 1, ..SegmentIndex::default() };
        let bytes = write_index(&index, 1000);
        let read = |bytes: &[u8]| {
            let (offset, crc) = read_trailer(bytes.last_chunk()?, 1000 + bytes.len() as u64)?;
            read_index(bytes.get((offset as usize).checked_sub(1000)?..bytes.len() - TRAILER)?, crc)
        };
        assert_eq!(read(&bytes), Some(index));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&bad), None, "bit {bit}");
        }
    }

    #[test]
    fn cgroups_beyond_the_bound_are_counted_together() {
        let mut tally = Tally::default();
        for cgroup in 0..MAX_CGROUPS as u64 + 5 {
            let head = BlockHead { cgroups: vec![(cgroup, 2)], records: 2, ..BlockHead::default() };
            tally.add(&head);
        }
        let index = tally.index(&[], &BTreeMap::from([(3, "abc".to_owned())]));
        assert_eq!((index.cgroups.len(), index.others), (MAX_CGROUPS, 10));
        assert_eq!((index.cgroups[3].container.as_str(), index.cgroups[4].container.as_str()), ("abc", ""));
    }
}
