//! Which socket it is that listens or is bound: `struct tw_listener` of bpf/tidewatch.h, in the place of data.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Raw;
use crate::event::EventKind;

/// A socket of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SocketId {
    /// Its number, as links in `/proc/PID/fd` show it.
    pub ino: u64,
    /// Number of its network namespace.
    pub netns: u32,
    /// Not 0 if whoever bound it named the port; else the kernel chose one.
    pub chosen: u32,
}

impl Raw<'_> {
    /// The socket of a `listen` or `bind` that succeeded, or of a `listen_end`. Nobody but the kernel half tells it.
    pub fn socket_id(&self) -> Option<SocketId> {
        let body = self.sock().filter(|_| self.kind().has_socket_id())?;
        SocketId::read_from_bytes(self.text(body.data)).ok()
    }
}

impl EventKind {
    /// Whether the place of data holds a [`SocketId`], if anything.
    pub fn has_socket_id(self) -> bool {
        matches!(self, Self::Bind | Self::Listen | Self::ListenEnd)
    }
}
