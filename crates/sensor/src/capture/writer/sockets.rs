//! Descriptors of sockets that are sent on. The kernel half tells what is sent by the socket and not by its descriptor,
//! which readers of captures go by.

use hashbrown::HashMap;
use tw_model::raw::SockBody;

/// Most connections, and most processes, that are remembered; then all are forgotten.
const MAX: usize = 16_384;

/// Both ends.
type Tuple = ([u8; 16], u16, [u8; 16], u16);

/// What is known of descriptors.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    connections: HashMap<Tuple, i32, foldhash::fast::RandomState>,
    /// The latest socket for datagrams of a process.
    datagrams: HashMap<u32, i32, foldhash::fast::RandomState>,
}

fn tuple(body: &SockBody) -> Tuple {
    (body.laddr, body.lport, body.raddr, body.rport)
}

impl Sockets {
    /// A connection was made.
    pub(super) fn connected(&mut self, body: &SockBody) {
        if self.connections.len() >= MAX {
            self.connections.clear();
        }
        self.connections.insert(tuple(body), body.fd);
    }

    /// A process made a socket for datagrams.
    pub(super) fn made(&mut self, pid: u32, fd: i32) {
        if self.datagrams.len() >= MAX {
            self.datagrams.clear();
        }
        self.datagrams.insert(pid, fd);
    }

    /// The descriptor that a process sends on: of this connection, else its latest for datagrams; -1: not known.
    pub(super) fn sends(&self, pid: u32, body: &SockBody) -> i32 {
        let connected = self.connections.get(&tuple(body));
        connected.or_else(|| self.datagrams.get(&pid)).copied().unwrap_or(-1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_found_by_its_ends_and_tables_are_bounded() {
        let mut sockets = Sockets::default();
        let body = SockBody { fd: 5, lport: 1, rport: 2, ..SockBody::default() };
        sockets.connected(&body);
        sockets.made(7, 9);
        assert_eq!(sockets.sends(8, &body), 5);
        let other = SockBody { rport: 3, ..body };
        assert_eq!((sockets.sends(7, &other), sockets.sends(8, &other)), (9, -1));
        for pid in 0..=MAX as u32 {
            sockets.made(pid, 3);
            sockets.connected(&SockBody { raddr: [(pid >> 8) as u8; 16], rport: pid as u16, ..body });
        }
        assert!(sockets.datagrams.len() <= MAX && sockets.connections.len() <= MAX);
    }
}
