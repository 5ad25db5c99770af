//! Names of addresses, as the answers said that processes got. Nobody is asked: what no process of a place looked up has
//! no name there.
//!
//! A name is a claim of the name server that the container chose. It says what the container asked for, not whose the
//! address is.

use std::collections::VecDeque;
use std::net::IpAddr;

use hashbrown::HashMap;

use crate::container::Container;
use crate::dns::Message;

/// Addresses remembered for one place; the one that was learnt first makes room.
const MAX_OF_PLACE: usize = 512;
/// Addresses remembered at all; the place with the most makes room.
const MAX: usize = 16_384;
/// Addresses taken from one answer.
const MAX_OF_ANSWER: usize = 16;
/// An answer holds at least so long, whatever it says: programs keep addresses longer than they may. Nanoseconds.
const LEAST_NS: u64 = 300 * 1_000_000_000;
/// And at most so long.
const MOST_NS: u64 = 86_400 * 1_000_000_000;

/// Who shares names: the processes of a container, or those of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place(pub u64);

impl Place {
    /// The place of a process in `container`; `None` is the host.
    pub fn of(container: Option<&Container>) -> Self {
        // FNV-1a over the id. Whoever starts a container may choose its id: two that collide share names, nothing else.
        let hash = |id: &str| {
            id.bytes()
                .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
        };
        Self(container.map_or(0, |container| hash(&container.id)))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: Box<str>,
    until_ns: u64,
}

#[derive(Debug, Default)]
struct OfPlace {
    entries: HashMap<IpAddr, Entry, foldhash::fast::RandomState>,
    /// As they were learnt, oldest first.
    order: VecDeque<IpAddr>,
}

/// What the answers said, by place.
#[derive(Debug, Default)]
pub struct KnownNames {
    places: HashMap<Place, OfPlace, foldhash::fast::RandomState>,
    len: usize,
    evicted: u64,
}

impl KnownNames {
    /// Most names that are remembered.
    pub const CAPACITY: usize = MAX;

    /// Takes what an answer that arrived at boot time `now_ns` says of addresses.
    pub fn learn(&mut self, place: Place, message: &Message<'_>, now_ns: u64) {
        if !message.is_answer() || message.rcode() != 0 {
            return;
        }
        let addresses = message.answers().filter_map(|answer| Some((answer.address()?, answer.ttl)));
        for (address, ttl) in addresses.take(MAX_OF_ANSWER) {
            let holds = (u64::from(ttl) * 1_000_000_000).clamp(LEAST_NS, MOST_NS);
            self.put(place, address, message.name.as_str(), now_ns.saturating_add(holds));
        }
    }

    /// Says that `address` has `name` in `place` until boot time `until_ns`.
    pub fn put(&mut self, place: Place, address: IpAddr, name: &str, until_ns: u64) {
        if let Some(known) = self.places.get_mut(&place).and_then(|of| of.entries.get_mut(&address)) {
            known.until_ns = until_ns;
            if *known.name != *name {
                known.name = name.into();
            }
            return;
        }
        if self.places.get(&place).is_some_and(|of| of.order.len() >= MAX_OF_PLACE) {
            self.drop_oldest(place);
        } else if self.len >= MAX
            && let Some(most) = self.places.iter().map(|(place, of)| (of.order.len(), *place)).max()
        {
            self.drop_oldest(most.1);
        }
        let of = self.places.entry(place).or_default();
        of.entries.insert(address, Entry { name: name.into(), until_ns });
        of.order.push_back(address);
        self.len += 1;
    }

    fn drop_oldest(&mut self, place: Place) {
        let Some(of) = self.places.get_mut(&place) else { return };
        if let Some(oldest) = of.order.pop_front() {
            of.entries.remove(&oldest);
            self.len -= 1;
            self.evicted += 1;
        }
        if of.order.is_empty() {
            self.places.remove(&place);
        }
    }

    /// The name of `address` in `place` at boot time `now_ns`.
    pub fn of(&self, place: Place, address: IpAddr, now_ns: u64) -> Option<&str> {
        let entry = self.places.get(&place)?.entries.get(&address)?;
        (now_ns <= entry.until_ns).then_some(&*entry.name)
    }

    /// Everything, also what holds no longer; those of one place in the order in which they were learnt.
    pub fn iter(&self) -> impl Iterator<Item = (Place, IpAddr, &str, u64)> {
        self.places.iter().flat_map(|(place, of)| {
            let entries = of.order.iter().filter_map(|address| Some((*address, of.entries.get(address)?)));
            entries.map(|(address, entry)| (*place, address, &*entry.name, entry.until_ns))
        })
    }

    /// Addresses remembered.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Addresses forgotten because there was no room.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

/// The names that an event may show.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names<'e> {
    known: Option<&'e KnownNames>,
    container: Option<&'e Container>,
}

impl<'e> Names<'e> {
    /// Those of the processes in `container`; `None` is the host.
    pub fn new(known: &'e KnownNames, container: Option<&'e Container>) -> Self {
        Self { known: Some(known), container }
    }

    /// The name of an address at boot time `now_ns`.
    pub fn of(&self, address: IpAddr, now_ns: u64) -> Option<&'e str> {
        // Few events are asked: the place is worked out here, not for each.
        self.known?.of(Place::of(self.container), address, now_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from(number).into()
    }

    #[test]
    fn a_name_holds_for_its_time_in_its_place_only() {
        let mut names = KnownNames::default();
        let mut bytes = vec![0, 1, 0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0];
        bytes.extend(b"\x04Pool\x03org\0\0\x01\0\x01");
        bytes.extend(b"\xc0\x0c\0\x01\0\x01\0\0\x0e\x10\0\x04\x0a\0\0\x07");
        bytes.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x01\0\x04\x0a\0\0\x08");
        names.learn(Place(5), &Message::parse(&bytes).unwrap(), 1_000);
        let (hour, short) = (IpAddr::from([10, 0, 0, 7]), IpAddr::from([10, 0, 0, 8]));
        assert_eq!(names.of(Place(5), hour, 3_600_000_001_000), Some("pool.org"));
        assert_eq!(names.of(Place(5), hour, 3_600_000_001_001), None);
        assert_eq!(names.of(Place(5), short, LEAST_NS), Some("pool.org"), "a second is too short to be useful");
        assert_eq!(names.of(Place(0), hour, 1_001), None);
        bytes[3] = 0x83;
        let mut none = KnownNames::default();
        none.learn(Place(5), &Message::parse(&bytes).unwrap(), 1_000);
        assert!(none.is_empty(), "an answer that says that there is no such name names nothing");
    }

    #[test]
    fn a_place_that_fills_the_table_pays_for_it_itself() {
        let mut names = KnownNames::default();
        names.put(Place(1), address(7), "shop.internal", u64::MAX);
        for place in 2..60 {
            for number in 0..2000 {
                names.put(Place(place), address(number), "x.example", u64::MAX);
            }
        }
        assert_eq!(names.len(), MAX);
        assert_eq!(names.of(Place(1), address(7), 0), Some("shop.internal"));
        assert!(names.evicted() > 58 * 1000);
        let counted: usize = names.places.values().map(|of| of.entries.len()).sum();
        assert_eq!(counted, names.len());
        assert_eq!(names.of(Place(59), address(1999), 0), Some("x.example"));
        assert_eq!(names.of(Place(59), address(0), 0), None, "the first that was learnt goes first");
    }

    #[test]
    fn what_is_told_gives_the_same_table_again() {
        let mut names = KnownNames::default();
        for number in 0..600 {
            names.put(Place(3), address(number), &format!("n{number}.example"), u64::from(number));
        }
        let mut again = KnownNames::default();
        for (place, address, name, until_ns) in names.iter() {
            again.put(place, address, name, until_ns);
        }
        assert_eq!(again.len(), MAX_OF_PLACE);
        assert_eq!(again.of(Place(3), address(300), 300), Some("n300.example"));
        assert_eq!(again.of(Place(3), address(300), 301), None);
        assert_eq!(again.places[&Place(3)].order, names.places[&Place(3)].order);
    }
}
