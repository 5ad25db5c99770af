//! Numbers and texts out of the bytes of a capture, in the byte order of the machine that wrote it.

/// Byte order of a section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    #[default]
    Little,
    Big,
}

impl Order {
    pub(super) fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    pub(super) fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    pub(super) fn u64(self, bytes: [u8; 8]) -> u64 {
        match self {
            Self::Little => u64::from_le_bytes(bytes),
            Self::Big => u64::from_be_bytes(bytes),
        }
    }

    /// A number of one, two, four or eight bytes; `None` for any other length.
    pub(super) fn unsigned(self, bytes: &[u8]) -> Option<u64> {
        match *bytes {
            [a] => Some(a.into()),
            [a, b] => Some(self.u16([a, b]).into()),
            [a, b, c, d] => Some(self.u32([a, b, c, d]).into()),
            _ => Some(self.u64(bytes.try_into().ok()?)),
        }
    }

    /// The same with a sign.
    pub(super) fn signed(self, bytes: &[u8]) -> Option<i64> {
        let number = self.unsigned(bytes)?;
        Some(match bytes.len() {
            1 => (number as i8).into(),
            2 => (number as i16).into(),
            4 => (number as i32).into(),
            _ => number as i64,
        })
    }
}

/// Walks over bytes. Every step gives `None` where the bytes end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    order: Order,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], order: Order) -> Self {
        Self { rest: bytes, order }
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(|bytes| self.order.u16(bytes))
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(|bytes| self.order.u32(bytes))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(|bytes| self.order.u64(bytes))
    }

    /// Sixteen bytes as they are: addresses are in the order of the network.
    pub(super) fn address(&mut self) -> Option<[u8; 16]> {
        self.array()
    }

    /// Four bytes as they are, in front of twelve zeros.
    pub(super) fn address4(&mut self) -> Option<[u8; 16]> {
        let [a, b, c, d] = self.array()?;
        Some([a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    /// A text behind its length of two bytes, up to its first NUL.
    pub(super) fn text(&mut self) -> Option<&'a [u8]> {
        self.block().map(text)
    }

    /// Bytes behind their length of two bytes.
    pub(super) fn block(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }

    /// What is left, up to its first NUL.
    pub(super) fn rest_text(&self) -> &'a [u8] {
        text(self.rest)
    }

    /// A part of what is left as a cursor of its own.
    pub(super) fn part(&mut self, length: usize) -> Option<Self> {
        let order = self.order;
        self.take(length).map(|bytes| Self::new(bytes, order))
    }
}

/// The bytes up to the first NUL. Drivers write `<NA>` where they could not read a text.
pub(super) fn text(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    match &bytes[..end] {
        b"<NA>" => b"",
        text => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_order_of_their_machine_and_a_sign_where_they_should() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8];
        let mut little = Cursor::new(&bytes, Order::Little);
        assert_eq!((little.u16(), little.u32(), little.left()), (Some(0x0201), Some(0x0605_0403), 2));
        let mut big = Cursor::new(&bytes, Order::Big);
        assert_eq!((big.u64(), big.u8()), (Some(0x0102_0304_0506_0708), None));
        assert_eq!(Order::Little.signed(&[0xfe, 0xff, 0xff, 0xff]), Some(-2));
        assert_eq!(Order::Big.signed(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x9c]), Some(-100));
        assert_eq!((Order::Little.signed(&[0xff]), Order::Little.unsigned(&[0xff])), (Some(-1), Some(255)));
        assert_eq!((Order::Big.unsigned(&[1, 2]), Order::Big.unsigned(&[])), (Some(258), None));
        assert_eq!(Order::Big.unsigned(&[1, 2, 3]), None);
    }

    #[test]
    fn texts_end_at_their_nul_and_unreadable_ones_are_empty() {
        let mut cursor = Cursor::new(b"\x05\0ab\0cd\x04\0<NA>\x09\0x", Order::Little);
        assert_eq!((cursor.text(), cursor.text(), cursor.text()), (Some(b"ab".as_slice()), Some(b"".as_slice()), None));
    }
}
