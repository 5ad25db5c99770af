//! The parameters of one event, put together in memory that is used again for each.

use std::io;

use tw_model::raw::{AF_INET, AF_INET6, AF_UNIX};

use super::sink::Sink;

/// Block of an event that says how many parameters it has.
const EVENT: u32 = 0x216;
/// Bytes of an event's header.
const HEADER: usize = 26;

/// When, where and by whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    pub cpu: u16,
    /// Nanoseconds since the epoch.
    pub wall_ns: u64,
    pub tid: u32,
}

/// Parameters in their order.
#[derive(Debug, Default)]
pub(super) struct Params {
    lengths: Vec<u16>,
    data: Vec<u8>,
}

/// One end of a connection.
pub(super) type End<'a> = (&'a [u8; 16], u16);

impl Params {
    /// Writes the event with the parameters that were given, and forgets them.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn event(&mut self, sink: &mut Sink, number: u16, stamp: Stamp) -> io::Result<()> {
        let length = HEADER + 2 * self.lengths.len() + self.data.len();
        let wrote = sink.block(EVENT, |out| {
            out.extend_from_slice(&stamp.cpu.to_le_bytes());
            out.extend_from_slice(&stamp.wall_ns.to_le_bytes());
            out.extend_from_slice(&u64::from(stamp.tid).to_le_bytes());
            out.extend_from_slice(&(length as u32).to_le_bytes());
            out.extend_from_slice(&number.to_le_bytes());
            out.extend_from_slice(&(self.lengths.len() as u32).to_le_bytes());
            for length in &self.lengths {
                out.extend_from_slice(&length.to_le_bytes());
            }
            out.extend_from_slice(&self.data);
        });
        self.clear();
        wrote
    }

    /// Forgets what was given.
    pub(super) fn clear(&mut self) {
        self.lengths.clear();
        self.data.clear();
    }

    fn end(&mut self, start: usize) -> &mut Self {
        self.lengths.push((self.data.len() - start) as u16);
        self
    }

    /// Bytes as they are, as many as a length can say.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        let start = self.data.len();
        self.data.extend_from_slice(bytes.get(..usize::from(u16::MAX)).unwrap_or(bytes));
        self.end(start)
    }

    /// A text up to its first NUL, and a NUL.
    pub(super) fn text(&mut self, text: &[u8]) -> &mut Self {
        let start = self.data.len();
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len()).min(usize::from(u16::MAX) - 1);
        self.data.extend_from_slice(text.get(..end).unwrap_or_default());
        self.data.push(0);
        self.end(start)
    }

    pub(super) fn u8(&mut self, number: u8) -> &mut Self {
        self.bytes(&[number])
    }

    pub(super) fn u16(&mut self, number: u16) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    pub(super) fn u32(&mut self, number: u32) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    pub(super) fn u64(&mut self, number: u64) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    pub(super) fn i64(&mut self, number: i64) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    /// A number behind a byte that says what it is.
    pub(super) fn variant(&mut self, what: u8, number: u64) -> &mut Self {
        let start = self.data.len();
        self.data.push(what);
        self.data.extend_from_slice(&number.to_le_bytes());
        self.end(start)
    }

    /// Both ends of a connection; empty for families that captures do not know.
    pub(super) fn tuple(&mut self, family: u16, from: End<'_>, to: End<'_>, path: &[u8]) -> &mut Self {
        let start = self.data.len();
        if let AF_INET | AF_INET6 | AF_UNIX = family {
            self.data.push(family as u8);
        }
        if let AF_INET | AF_INET6 = family {
            let width = if family == AF_INET { 4 } else { 16 };
            for (address, port) in [from, to] {
                self.data.extend_from_slice(address.get(..width).unwrap_or_default());
                self.data.extend_from_slice(&port.to_le_bytes());
            }
        } else if family == AF_UNIX {
            // Numbers of the two ends, which nobody knows.
            self.data.extend_from_slice(&[0; 16]);
            self.path(path);
        }
        self.end(start)
    }

    /// An address; empty for families that captures do not know.
    pub(super) fn address(&mut self, family: u16, (address, port): End<'_>, path: &[u8]) -> &mut Self {
        let start = self.data.len();
        match family {
            AF_INET | AF_INET6 => {
                let width = if family == AF_INET { 4 } else { 16 };
                self.data.push(family as u8);
                self.data.extend_from_slice(address.get(..width).unwrap_or_default());
                self.data.extend_from_slice(&port.to_le_bytes());
            }
            AF_UNIX => {
                self.data.push(family as u8);
                self.path(path);
            }
            _ => {}
        }
        self.end(start)
    }

    /// A path of a unix socket. Abstract ones begin with a NUL: readers take them for empty.
    fn path(&mut self, path: &[u8]) {
        let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
        self.data.extend_from_slice(path.get(..end).unwrap_or_default());
        self.data.push(0);
    }
}
