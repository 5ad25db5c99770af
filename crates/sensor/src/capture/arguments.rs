//! The arguments of a call, from its end and its begin.

use super::bytes::text;
use super::event::{Begun, Params};
use super::table::{Role, Row};

/// `AT_FDCWD`
pub(super) const AT_FDCWD: i32 = -100;

/// The arguments of one call.
#[derive(Clone, Copy)]
pub(super) struct Arguments<'a> {
    pub row: &'static Row,
    pub end: Params<'a>,
    /// If the begin was seen and kept.
    pub begin: Option<&'a Begun>,
}

impl<'a> Arguments<'a> {
    /// The bytes of an argument; `None` if it is not told, or empty.
    pub(super) fn bytes(&self, role: Role) -> Option<&'a [u8]> {
        let place = self.row.place(role)?;
        self.end.get(place.end.into()).or_else(|| self.begin?.get(place.begin.into()))
    }

    pub(super) fn unsigned(&self, role: Role) -> Option<u64> {
        self.end.order().unsigned(self.bytes(role)?)
    }

    pub(super) fn signed(&self, role: Role) -> Option<i64> {
        self.end.order().signed(self.bytes(role)?)
    }

    /// A number of 32 bits, 0 if it is not told.
    pub(super) fn u32(&self, role: Role) -> u32 {
        self.signed(role).map_or(0, |number| number as u32)
    }

    /// A number of 64 bits, 0 if it is not told.
    pub(super) fn u64(&self, role: Role) -> u64 {
        self.unsigned(role).unwrap_or_default()
    }

    /// What the call returned; 0 if it is not told.
    pub(super) fn ret(&self) -> i64 {
        self.signed(Role::Ret).unwrap_or_default()
    }

    /// A descriptor; -1 if it is not told.
    pub(super) fn fd(&self, role: Role) -> i32 {
        self.signed(role).map_or(-1, |fd| fd as i32)
    }

    /// The descriptor of a folder; that of the working directory if it is not told.
    pub(super) fn dirfd(&self, role: Role) -> i32 {
        self.signed(role).map_or(AT_FDCWD, |fd| fd as i32)
    }

    /// A text; empty if it is not told.
    pub(super) fn text(&self, role: Role) -> &'a [u8] {
        self.bytes(role).map_or(b"", text)
    }

    /// A value behind a byte that says what it is; 0 if it is not told.
    pub(super) fn variant(&self, role: Role) -> u64 {
        let value = self.bytes(role).and_then(|bytes| bytes.get(1..));
        value.and_then(|bytes| self.end.order().signed(bytes)).map_or(0, |number| number as u64)
    }
}
