//! Sockets that listen, by container: events tell of most, [`look`] of those that were there before, and of those that went
//! without an event.
//!
//! A socket is its number: a descriptor shows it, `/proc/PID/net` shows it, and the kernel half tells it.

pub(crate) mod look;
pub(crate) mod suspects;

use std::collections::BTreeMap;
use std::net::IpAddr;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use tw_model::ProcKey;

/// Sockets remembered; the container that has the most makes room.
pub const MAX: usize = 8_192;
/// Sockets remembered of one container, or of the host; the one that began first makes room.
const MAX_OF_OWNER: usize = 1_024;

/// A socket that listens, or is bound to a port for datagrams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// Its number.
    pub ino: u64,
    /// Number of its network namespace.
    pub netns: u32,
    /// Protocol of IP.
    pub protocol: u16,
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// The process that began; none if unknown.
    pub process: Option<ProcKey>,
    /// Its name then.
    pub name: String,
    /// Id of its container; empty: on the host.
    pub container: String,
    /// Boot time of its beginning, nanoseconds; 0: before anybody looked.
    pub since_ns: u64,
}

/// The table.
#[derive(Debug, Default)]
pub struct Listeners {
    sockets: HashMap<u64, (Listening, u64), foldhash::fast::RandomState>,
    /// Numbers of sockets by container, and by the order in which they began.
    owners: BTreeMap<String, BTreeMap<u64, u64>>,
    begun: u64,
    evicted: u64,
    version: u64,
}

impl Listeners {
    /// A socket listens. What was known under its number is forgotten: it is another.
    pub fn begin(&mut self, listening: Listening) {
        self.end(listening.ino);
        if self.owners.get(&listening.container).is_some_and(|of_it| of_it.len() >= MAX_OF_OWNER) {
            self.make_room(&listening.container.clone());
        } else if self.sockets.len() >= MAX
            && let Some((_, most)) = self.owners.iter().map(|(owner, of_it)| (of_it.len(), owner)).max()
        {
            self.make_room(&most.clone());
        }
        self.version += 1;
        self.begun += 1;
        self.owners.entry(listening.container.clone()).or_default().insert(self.begun, listening.ino);
        self.sockets.insert(listening.ino, (listening, self.begun));
    }

    /// The socket with this number listens no more; returns whether it was known.
    pub fn end(&mut self, ino: u64) -> bool {
        let Some((listening, number)) = self.sockets.remove(&ino) else { return false };
        self.version += 1;
        if let Some(of_it) = self.owners.get_mut(&listening.container) {
            of_it.remove(&number);
            if of_it.is_empty() {
                self.owners.remove(&listening.container);
            }
        }
        true
    }

    /// A container is gone, and with it all that listened in it.
    pub fn container_gone(&mut self, id: &str) {
        for ino in self.owners.remove(id).unwrap_or_default().into_values() {
            self.end(ino);
        }
    }

    fn make_room(&mut self, owner: &str) {
        if let Some((_, ino)) = self.owners.get(owner).and_then(BTreeMap::first_key_value) {
            self.end(*ino);
            self.evicted += 1;
        }
    }

    /// The socket with this number.
    pub fn get(&self, ino: u64) -> Option<&Listening> {
        self.sockets.get(&ino).map(|(listening, _)| listening)
    }

    /// All, by container (the host first) and in the order in which they began.
    pub fn iter(&self) -> impl Iterator<Item = &Listening> {
        self.owners.values().flat_map(BTreeMap::values).filter_map(|ino| self.get(*ino))
    }

    /// Sockets remembered.
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Sockets that were forgotten while they listened, since there was no room.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Grows with each change.
    pub fn version(&self) -> u64 {
        self.version
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(ino: u64, container: &str) -> Listening {
        Listening {
            ino,
            netns: 7,
            protocol: 6,
            address: [127, 0, 0, 1].into(),
            port: ino as u16,
            process: Some(ProcKey { start_ns: 1, pid: 2 }),
            name: "server".into(),
            container: container.into(),
            since_ns: ino,
        }
    }

    #[test]
    fn a_container_that_fills_the_table_pays_for_it_itself() {
        let mut table = Listeners::default();
        table.begin(listening(1, "shop"));
        for (owner, name) in ["a", "b", "c", "d", "e", "f", "g", "h", "i"].iter().enumerate() {
            for ino in 0..2_000 {
                table.begin(listening(10_000 * (owner as u64 + 1) + ino, name));
            }
        }
        assert_eq!(table.len(), MAX);
        assert!(table.get(1).is_some(), "whoever has one keeps it");
        assert_eq!((table.get(10_000), table.get(91_999).is_some()), (None, true), "the oldest goes first");
        assert_eq!(table.evicted(), 18_001 - MAX as u64);
        assert_eq!((table.iter().count(), table.owners.values().map(BTreeMap::len).sum::<usize>()), (MAX, MAX));
        for name in ["a", "b", "c", "d", "e", "f", "g", "h", "i"] {
            table.container_gone(name);
        }
        let left: Vec<u64> = table.iter().map(|listening| listening.ino).collect();
        assert_eq!((left, table.len(), table.owners.len()), (vec![1], 1, 1));
    }

    #[test]
    fn a_number_that_is_used_again_is_another_socket() {
        let mut table = Listeners::default();
        table.begin(listening(5, "shop"));
        table.begin(listening(5, ""));
        assert_eq!((table.len(), table.get(5).unwrap().container.as_str()), (1, ""));
        let version = table.version();
        assert!(table.end(5) && !table.end(5) && table.is_empty() && table.owners.is_empty());
        assert_eq!((table.version() - version, table.evicted()), (1, 0));
    }
}
