//! What the descriptors of a process are. Forks share a table until one of them changes it.
//!
//! Names lie one behind the other in one text, so that a table is copied at once and a name costs no memory of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashMap;
use tw_model::raw::{AF_INET, AF_INET6};

/// Most descriptors of a process that are remembered.
const MAX_DESCRIPTORS: usize = 65_536;
/// Longest name in bytes.
const MAX_NAME: usize = 4_096;
/// Bytes of names of a process at which it is looked whether many are dead.
const TIDY: usize = 16 << 10;
/// Most bytes of all tables together.
const BUDGET: usize = 256 << 20;
/// `IPPROTO_TCP`
pub(super) const TCP: u16 = 6;

/// What a descriptor names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Unknown,
    File,
    Directory,
    Memfd,
    Pipe,
    Socket,
    Other,
}

/// What is known of a descriptor, beside its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub kind: Kind,
    /// Closed by the next exec.
    pub cloexec: bool,
    /// A TCP connection on which nothing was sent since its connect.
    pub fresh: bool,
    pub family: u16,
    pub type_: u16,
    pub proto: u16,
    pub lport: u16,
    pub rport: u16,
    /// Bits of [`tw_model::raw::sock_attr`].
    pub attrs: u16,
    pub laddr: [u8; 16],
    pub raddr: [u8; 16],
    pub ino: u64,
    /// Whom the last datagram that was told went to, and when.
    pub told: (u64, u64),
}

/// A descriptor, and where its name is.
#[derive(Clone, Copy, Debug)]
struct Slot {
    descriptor: Descriptor,
    at: u32,
    length: u16,
}

impl Descriptor {
    /// The capture's number of a protocol.
    pub fn set_protocol(&mut self, number: u8) {
        (self.type_, self.proto) = match number {
            2 => (1, TCP),
            3 => (2, 17),
            4 => (3, 1),
            5 => (3, 255),
            _ => (0, 0),
        };
    }

    pub fn is_inet(&self) -> bool {
        self.kind == Kind::Socket && (self.family == AF_INET || self.family == AF_INET6)
    }
}

/// Bytes that all tables of a capture take.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger(Arc<AtomicUsize>);

impl Ledger {
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// The descriptors of a process.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    by_number: HashMap<i32, Slot, foldhash::fast::RandomState>,
    names: Vec<u8>,
    /// Bytes of names that nobody has any more.
    dead: usize,
    /// Bytes that are written in the ledger.
    noted: usize,
    ledger: Ledger,
}

impl Clone for Descriptors {
    fn clone(&self) -> Self {
        let mut copy = Self {
            by_number: self.by_number.clone(),
            names: self.names.clone(),
            dead: self.dead,
            noted: 0,
            ledger: self.ledger.clone(),
        };
        copy.note();
        copy
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        self.ledger.0.fetch_sub(self.noted, Ordering::Relaxed);
    }
}

impl Descriptors {
    pub fn new(ledger: &Ledger) -> Self {
        Self { by_number: HashMap::default(), names: Vec::new(), dead: 0, noted: 0, ledger: ledger.clone() }
    }

    /// What `fd` is.
    pub fn get(&self, fd: i32) -> Option<&Descriptor> {
        self.by_number.get(&fd).map(|slot| &slot.descriptor)
    }

    /// What `fd` is, to change. The name stays.
    pub fn get_mut(&mut self, fd: i32) -> Option<&mut Descriptor> {
        self.by_number.get_mut(&fd).map(|slot| &mut slot.descriptor)
    }

    /// Name of `fd`; empty if it is not known.
    pub fn name(&self, fd: i32) -> &[u8] {
        self.by_number.get(&fd).map_or(b"", |slot| self.name_of(slot))
    }

    fn name_of(&self, slot: &Slot) -> &[u8] {
        let at = slot.at as usize;
        self.names.get(at..at + usize::from(slot.length)).unwrap_or_default()
    }

    /// Says what `fd` is from now on. If there is no room, it is not known.
    pub fn put(&mut self, fd: i32, descriptor: Descriptor, name: &[u8]) {
        self.remove(fd);
        if fd < 0 || self.by_number.len() >= MAX_DESCRIPTORS || self.ledger.bytes() > BUDGET {
            return;
        }
        let name = name.get(..MAX_NAME).unwrap_or(name);
        let at = self.names.len() as u32;
        self.names.extend_from_slice(name);
        self.by_number.insert(fd, Slot { descriptor, at, length: name.len() as u16 });
        self.note();
    }

    /// `to` becomes what `from` is; false if that is not known.
    pub fn duplicate(&mut self, from: i32, to: i32, cloexec: bool) -> bool {
        let Some(&slot) = self.by_number.get(&from) else {
            self.remove(to);
            return false;
        };
        if from != to {
            let name = self.name_of(&slot).to_vec();
            self.put(to, Descriptor { cloexec, ..slot.descriptor }, &name);
        }
        true
    }

    /// `fd` is closed.
    pub fn remove(&mut self, fd: i32) {
        if let Some(closed) = self.by_number.remove(&fd) {
            self.forget(&closed);
        }
    }

    /// Whether an exec closes any of them.
    pub fn any_closes_on_exec(&self) -> bool {
        self.by_number.values().any(|slot| slot.descriptor.cloexec)
    }

    /// Those that an exec closes go.
    pub fn exec(&mut self) {
        let mut dead = 0;
        self.by_number.retain(|_, slot| {
            dead += if slot.descriptor.cloexec { usize::from(slot.length) } else { 0 };
            !slot.descriptor.cloexec
        });
        self.dead += dead;
        self.tidy();
    }

    fn forget(&mut self, closed: &Slot) {
        let length = usize::from(closed.length);
        if closed.at as usize + length == self.names.len() {
            self.names.truncate(closed.at as usize);
        } else {
            self.dead += length;
            self.tidy();
        }
    }

    fn tidy(&mut self) {
        if self.names.len() < TIDY || self.dead < self.names.len() / 2 {
            return;
        }
        let old = std::mem::take(&mut self.names);
        for slot in self.by_number.values_mut() {
            let at = slot.at as usize;
            let name = old.get(at..at + usize::from(slot.length)).unwrap_or_default();
            slot.at = self.names.len() as u32;
            self.names.extend_from_slice(name);
        }
        self.dead = 0;
        self.note();
    }

    /// Brings the ledger up to date.
    fn note(&mut self) {
        let bytes = self.names.capacity() + self.by_number.capacity() * size_of::<(i32, Slot)>();
        if bytes != self.noted {
            self.ledger.0.fetch_add(bytes, Ordering::Relaxed);
            self.ledger.0.fetch_sub(self.noted, Ordering::Relaxed);
            self.noted = bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(table: &mut Descriptors, fd: i32, name: &str) {
        table.put(fd, Descriptor { kind: Kind::File, ..Descriptor::default() }, name.as_bytes());
    }

    #[test]
    fn copies_are_their_own_and_the_ledger_knows_all() {
        let ledger = Ledger::default();
        let mut table = Descriptors::new(&ledger);
        file(&mut table, 3, "/a");
        let mut copy = table.clone();
        file(&mut copy, 3, "/b");
        assert!(copy.duplicate(3, 0, false) && !copy.duplicate(9, 3, false));
        assert_eq!((table.name(3), copy.name(3), copy.name(0)), (b"/a".as_slice(), b"".as_slice(), b"/b".as_slice()));
        assert!(ledger.bytes() > 0);
        drop((table, copy));
        assert_eq!(ledger.bytes(), 0);
    }

    #[test]
    fn names_of_the_closed_make_room_and_the_others_keep_theirs() {
        let ledger = Ledger::default();
        let mut table = Descriptors::new(&ledger);
        file(&mut table, 1, "/kept");
        for round in 0..100_000 {
            file(&mut table, 3 + round % 7, &format!("/folder/of/the/round/{round}"));
        }
        assert!(table.names.capacity() < 4 * TIDY, "{}", table.names.capacity());
        assert_eq!(table.name(1), b"/kept");
        assert_eq!(table.name(3 + 99_999 % 7), b"/folder/of/the/round/99999");
        table.get_mut(1).unwrap().cloexec = true;
        table.exec();
        assert_eq!((table.get(1), table.by_number.len()), (None, 7));
    }

    #[test]
    fn no_table_and_not_all_of_them_grow_without_bound() {
        let ledger = Ledger::default();
        let mut table = Descriptors::new(&ledger);
        for fd in -5..80_000 {
            table.put(fd, Descriptor::default(), b"");
        }
        assert_eq!(table.by_number.len(), MAX_DESCRIPTORS);
        table.put(1, Descriptor::default(), &[b'x'; 9_000]);
        assert_eq!(table.name(1).len(), MAX_NAME);
        ledger.0.fetch_add(BUDGET, Ordering::Relaxed);
        table.put(2, Descriptor::default(), b"y");
        assert_eq!(table.get(2), None);
        ledger.0.fetch_sub(BUDGET, Ordering::Relaxed);
    }
}
