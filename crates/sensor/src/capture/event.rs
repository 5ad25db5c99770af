//! Events: a header, the lengths of the parameters, the parameters.

use super::block::EventForm;
use super::bytes::{Cursor, Order, text};

/// Most parameters of an event.
pub(super) const MAX_PARAMS: usize = 48;
/// Bytes of a header without the number of parameters.
const HEADER: usize = 22;

/// One event of a capture. Borrows from its block.
#[derive(Clone, Copy, Debug)]
pub(super) struct CaptureEvent<'a> {
    pub cpu: u16,
    /// Nanoseconds since the epoch.
    pub time_ns: u64,
    pub tid: u32,
    /// Row of the table of events.
    pub number: u16,
    form: EventForm,
    order: Order,
    /// How many parameters it says it has, if it says so.
    count: u32,
    /// Lengths and parameters.
    rest: &'a [u8],
}

impl<'a> CaptureEvent<'a> {
    /// `None` if the block is too short for what it says.
    #[inline]
    pub(super) fn read(content: &'a [u8], form: EventForm, order: Order) -> Option<Self> {
        let mut cursor = Cursor::new(content, order);
        let cpu = cursor.u16()?;
        if form.flags {
            cursor.u32()?;
        }
        let (time_ns, tid) = (cursor.u64()?, cursor.u64()?);
        let length = cursor.u32()? as usize;
        let number = cursor.u16()?;
        let (count, header) = if form.counted { (cursor.u32()?, HEADER + 4) } else { (0, HEADER) };
        let rest = cursor.take(length.checked_sub(header)?)?;
        let tid = u32::try_from(tid).unwrap_or_default();
        Some(Self { cpu, time_ns, tid, number, form, order, count, rest })
    }

    /// Its parameters; at most `most` if it does not say how many it has. `None` if their lengths do not fit.
    pub(super) fn params(&self, most: u8) -> Option<Params<'a>> {
        if self.form.counted {
            return self.split(self.count as usize).map(|(params, _)| params);
        }
        // Old writers did not tell: the number is the one with which lengths and parameters fill the event exactly.
        (0..=usize::from(most))
            .rev()
            .find_map(|count| self.split(count).filter(|(_, exact)| *exact).map(|(params, _)| params))
    }

    /// The parameters if there are `count`, and whether nothing is left behind them.
    fn split(&self, count: usize) -> Option<(Params<'a>, bool)> {
        let width = if self.form.large { 4 } else { 2 };
        if count > MAX_PARAMS {
            return None;
        }
        let (lengths, data) = self.rest.split_at_checked(count * width)?;
        let mut params = Params { data, order: self.order, count: count as u8, ends: [0; MAX_PARAMS] };
        let mut end = 0_u32;
        for (length, slot) in lengths.chunks_exact(width).zip(&mut params.ends) {
            end = end.checked_add(self.order.unsigned(length)? as u32)?;
            *slot = end;
        }
        (end as usize <= data.len()).then_some((params, end as usize == data.len()))
    }
}

/// The parameters of an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Params<'a> {
    data: &'a [u8],
    order: Order,
    count: u8,
    /// Where each ends in `data`.
    ends: [u32; MAX_PARAMS],
}

impl<'a> Params<'a> {
    pub(super) fn count(&self) -> usize {
        self.count.into()
    }

    pub(super) fn order(&self) -> Order {
        self.order
    }

    /// Parameter `index`; `None` if there is none, or it is empty.
    pub(super) fn get(&self, index: usize) -> Option<&'a [u8]> {
        if index >= self.count() {
            return None;
        }
        let start = if index == 0 { 0 } else { *self.ends.get(index - 1)? };
        let bytes = self.data.get(start as usize..*self.ends.get(index)? as usize)?;
        (!bytes.is_empty()).then_some(bytes)
    }

    /// Parameter `index` as a text; empty if there is none.
    pub(super) fn text(&self, index: usize) -> &'a [u8] {
        self.get(index).map_or(b"", text)
    }

    /// Parameter `index` as a number.
    pub(super) fn unsigned(&self, index: usize) -> Option<u64> {
        self.order.unsigned(self.get(index)?)
    }
}

/// The begin of a call, kept for its end.
#[derive(Debug, Default)]
pub(super) struct Begun {
    /// Row of the table of events; 0 if nothing is kept.
    pub number: u16,
    count: u8,
    ends: [u16; Self::MAX],
    data: Vec<u8>,
}

impl Begun {
    /// Most parameters that are kept.
    const MAX: usize = 6;
    /// Most bytes that are kept: two paths.
    const ROOM: usize = 8_448;

    /// Keeps the parameters of `event`. Returns by how many bytes its memory grew.
    pub(super) fn keep(&mut self, number: u16, params: &Params<'_>) -> usize {
        let before = self.data.capacity();
        (self.number, self.count) = (number, 0);
        self.data.clear();
        for index in 0..params.count().min(Self::MAX) {
            let bytes = params.get(index).unwrap_or_default();
            if self.data.len() + bytes.len() > Self::ROOM {
                break;
            }
            self.data.extend_from_slice(bytes);
            if let Some(end) = self.ends.get_mut(index) {
                *end = self.data.len() as u16;
            }
            self.count += 1;
        }
        self.data.capacity() - before
    }

    /// Bytes of its memory.
    pub(super) fn room(&self) -> usize {
        self.data.capacity()
    }

    /// Parameter `index` of the begin; `None` if there is none, or it is empty.
    pub(super) fn get(&self, index: usize) -> Option<&[u8]> {
        if index >= usize::from(self.count) {
            return None;
        }
        let start = if index == 0 { 0 } else { *self.ends.get(index - 1)? };
        let bytes = self.data.get(start.into()..usize::from(*self.ends.get(index)?))?;
        (!bytes.is_empty()).then_some(bytes)
    }
}
