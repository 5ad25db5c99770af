//! What a flow's record holds beside the socket: `struct tw_flow` of bpf/tidewatch.h, in the place of data.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Raw;
use crate::event::EventKind;

/// Figures of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FlowFigures {
    /// Boot time of its first sight, nanoseconds.
    pub started: u64,
    /// Bytes of payload sent.
    pub bytes_out: u64,
    /// Bytes of payload received.
    pub bytes_in: u64,
    /// Segments or datagrams sent.
    pub packets_out: u64,
    /// Segments or datagrams received.
    pub packets_in: u64,
    /// One of [`FLOW_STATES`].
    pub state: u32,
    /// Unused.
    pub pad: u32,
}

/// Names of a flow's states: it goes on; both ends said that they are done; it ended otherwise; it never began; no
/// datagram for a while.
pub static FLOW_STATES: &[&str] = &["open", "closed", "reset", "refused", "idle"];

impl FlowFigures {
    /// Name of the state.
    pub fn state_name(&self) -> Option<&'static str> {
        FLOW_STATES.get(self.state as usize).copied()
    }
}

impl Raw<'_> {
    /// The figures of a `flow` event.
    pub fn flow(&self) -> Option<FlowFigures> {
        let body = self.sock().filter(|_| self.kind() == EventKind::Flow)?;
        FlowFigures::read_from_bytes(self.text(body.data)).ok()
    }
}
