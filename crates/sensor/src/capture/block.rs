//! Blocks: a kind, a length, what is in it, and the length once more. A capture is nothing but blocks.

use super::bytes::Order;
use super::error::CaptureError;
use super::source::Source;

/// Kind of the block that begins a section; the same in either byte order.
const SECTION: u32 = 0x0a0d_0d0a;
/// What a section says first, in the byte order of its machine.
const MAGIC: u32 = 0x1a2b_3c4d;
/// The format that is known.
const MAJOR: u16 = 1;
/// Blocks that only captures of packets have: an interface, and packets. They begin with the same section.
const PACKETS: [u32; 4] = [1, 2, 3, 6];
/// Bytes of a block in front of its content.
const HEAD: usize = 8;
/// Bytes behind it.
const TAIL: usize = 4;
/// Most bytes of a block with an event.
const MAX_EVENT: usize = 16 << 20;
/// Most bytes of a block with a list: all processes of a host lie in one, with arguments and environment.
const MAX_LIST: usize = 128 << 20;

/// How an event lies in its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventForm {
    /// Four bytes of flags are in front of it.
    pub flags: bool,
    /// Its header says how many parameters it has.
    pub counted: bool,
    /// Lengths of parameters take four bytes instead of two.
    pub large: bool,
}

/// What is in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockKind {
    Section,
    Machine,
    /// Processes, in this version of the list.
    Processes(u8),
    /// Descriptors of a process, in this version of the list.
    Descriptors(u8),
    /// Interfaces, in this version of the list.
    Interfaces(u8),
    /// Users and groups, in this version of the list.
    Users(u8),
    Event(EventForm),
    Unknown,
}

impl BlockKind {
    /// Numbers above 0x8000_0000 are those of captures from before the first release.
    fn of(number: u32) -> Self {
        let event = |flags, counted, large| Self::Event(EventForm { flags, counted, large });
        match number {
            SECTION => Self::Section,
            0x201 | 0x8002_abcd => Self::Machine,
            0x202 | 0x8000_abcd => Self::Processes(1),
            0x207 | 0x8013_abcd => Self::Processes(2),
            0x209 | 0x8014_abcd => Self::Processes(3),
            0x210 => Self::Processes(4),
            0x211 => Self::Processes(5),
            0x212 => Self::Processes(6),
            0x213 => Self::Processes(7),
            0x214 => Self::Processes(8),
            0x215 => Self::Processes(9),
            0x203 | 0x8001_abcd => Self::Descriptors(1),
            0x218 => Self::Descriptors(2),
            0x205 | 0x8011_abcd => Self::Interfaces(1),
            0x219 => Self::Interfaces(2),
            0x206 | 0x8012_abcd => Self::Users(1),
            0x220 => Self::Users(2),
            0x204 | 0x8010_abcd => event(false, false, false),
            0x208 => event(true, false, false),
            0x216 => event(false, true, false),
            0x217 => event(true, true, false),
            0x221 => event(false, true, true),
            0x222 => event(true, true, true),
            _ => Self::Unknown,
        }
    }

    fn limit(self) -> usize {
        if matches!(self, Self::Event(_)) { MAX_EVENT } else { MAX_LIST }
    }
}

/// One block; its content lies at the front of the source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub kind: BlockKind,
    /// Where it begins.
    pub offset: u64,
    /// Bytes of the whole.
    length: usize,
}

impl Block {
    /// What is in it.
    pub(super) fn content(self, source: &Source) -> &[u8] {
        source.shown(self.length - TAIL).get(HEAD..).unwrap_or_default()
    }

    /// Goes on behind it.
    pub(super) fn pass(self, source: &mut Source) {
        source.skip(self.length);
    }
}

/// Walks over the blocks of a source.
#[derive(Default)]
pub(super) struct Blocks {
    order: Order,
    begun: bool,
}

impl Blocks {
    /// Byte order of the section.
    pub(super) fn order(&self) -> Order {
        self.order
    }

    /// The next block, whole; `None` at the end.
    pub(super) fn next(&mut self, source: &mut Source) -> Result<Option<Block>, CaptureError> {
        let offset = source.offset();
        let head = source.peek(HEAD)?;
        if head.is_empty() && self.begun {
            return Ok(None);
        }
        let Some((kind, length)) = words(head) else {
            return Err(if self.begun {
                truncated(source, offset, "a block ends in its head")
            } else {
                foreign(source)
            });
        };
        let section = u32::from_le_bytes(kind) == SECTION;
        if section {
            self.section(source, offset)?;
        } else if !self.begun {
            return Err(foreign(source));
        }
        let number = self.order.u32(kind);
        if PACKETS.contains(&number) {
            let what = "is a capture of packets (pcapng), which wireshark and tcpdump read";
            return Err(CaptureError::NotACapture { path: source.path().into(), what });
        }
        let kind = BlockKind::of(number);
        let length = self.order.u32(length) as usize;
        if length < HEAD + TAIL {
            return Err(damaged(source, offset, format!("a block of {length} bytes, less than its frame takes")));
        }
        if length > kind.limit() {
            let what = format!("a block of {length} bytes, more than {} are not believed", kind.limit());
            return Err(damaged(source, offset, what));
        }
        let bytes = source.peek(length)?;
        if bytes.len() < length {
            return Err(truncated(source, offset, "a block ends before its length"));
        }
        let tail = bytes.last_chunk().map(|tail| self.order.u32(*tail));
        if tail != Some(length as u32) {
            let what = format!("a block says {length} bytes at its start and {} at its end", tail.unwrap_or_default());
            return Err(damaged(source, offset, what));
        }
        Ok(Some(Block { kind, offset, length }))
    }

    /// Takes byte order and format of a section.
    fn section(&mut self, source: &mut Source, offset: u64) -> Result<(), CaptureError> {
        let bytes = source.peek(HEAD + 8)?;
        let magic = bytes.get(HEAD..HEAD + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        let major = bytes.get(HEAD + 4..HEAD + 6).and_then(|bytes| <[u8; 2]>::try_from(bytes).ok());
        let (Some(magic), Some(major)) = (magic, major) else {
            return Err(truncated(source, offset, "the section's head ends before its format"));
        };
        self.order = match [Order::Little, Order::Big].into_iter().find(|order| order.u32(magic) == MAGIC) {
            Some(order) => order,
            None if self.begun => return Err(damaged(source, offset, "a section without its magic number".into())),
            None => return Err(foreign(source)),
        };
        let major = self.order.u16(major);
        if major != MAJOR {
            return Err(CaptureError::Newer { path: source.path().into(), offset, major });
        }
        self.begun = true;
        Ok(())
    }
}

fn words(head: &[u8]) -> Option<([u8; 4], [u8; 4])> {
    let (kind, rest) = head.split_first_chunk()?;
    Some((*kind, *rest.first_chunk()?))
}

fn foreign(source: &Source) -> CaptureError {
    let what = match (source.is_packed(), source.shown(HEAD).len()) {
        (true, HEAD..) => "what is packed in it does not begin like one",
        (true, _) => "is cut off: what is packed in it ends before its first block",
        (false, HEAD..) => "does not begin like one",
        (false, 0) => "is empty",
        (false, _) => "is too short",
    };
    CaptureError::NotACapture { path: source.path().into(), what }
}

fn truncated(source: &Source, offset: u64, what: &'static str) -> CaptureError {
    CaptureError::Truncated { path: source.path().into(), offset, packed: source.is_packed(), what }
}

/// Bytes of `source` at `offset` are not what they should be.
pub(super) fn damaged(source: &Source, offset: u64, what: String) -> CaptureError {
    CaptureError::Damaged { path: source.path().into(), offset, packed: source.is_packed(), what }
}
