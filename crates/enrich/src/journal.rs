//! What the world learnt besides records, in the order in which it mattered: with it and the records, a later run comes
//! to the same events without asking anybody.
//!
//! While a [`Journal`] is kept, each change that did not come from a record is noted in it. [`World::checkpoint`] tells
//! the whole state in the same words, so that a recording can begin at any time; [`World::relive`] takes them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use tw_model::process::UserNames;
use tw_model::{Container, Place, ProcKey, Process};

use crate::ledger::{Missing, Slot};
use crate::listeners::Listening;
use crate::world::World;

/// Records of a process may come this long after that of its end: another CPU's ring was read later, or they waited for
/// a container's name. Nanoseconds.
pub(crate) const LATE_NS: u64 = 2_000_000_000;

/// One thing learnt.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "context", rename_all = "snake_case")]
pub enum Context {
    /// Events were counted up to here.
    Events {
        /// Number of the last event.
        count: u64,
    },
    /// What to add to a boot time to get the wall-clock time.
    Clock {
        /// Nanoseconds.
        boot_to_wall_ns: u64,
    },
    /// A cgroup belongs to a container.
    Place {
        /// Id of the cgroup.
        cgroup: u64,
        /// Id of the container.
        container: String,
    },
    /// A cgroup of the host belongs to a systemd unit.
    Unit {
        /// Id of the cgroup.
        cgroup: u64,
        /// Name of the unit.
        unit: String,
    },
    /// A container, as far as it is known.
    Container {
        /// The container.
        container: Box<Container>,
    },
    /// The runtime removed a container.
    Gone {
        /// Its id.
        id: String,
    },
    /// Names behind numbers.
    Names {
        /// Id of the container whose user list it was; empty: the host's.
        container: String,
        /// Effective user.
        uid: u32,
        /// Effective group.
        gid: u32,
        /// Login user.
        loginuid: u32,
        /// Their names.
        names: UserNames,
    },
    /// Events of a cgroup were missed; without a cgroup: of one that is not known.
    Missed {
        /// Id of the cgroup.
        cgroup: Option<u64>,
        /// Class, reason and number.
        missing: Vec<Missing>,
    },
    /// What the coverage ledger holds of the last minute for one owner.
    Coverage {
        /// Id of the container, `host` or `others`.
        owner: String,
        /// A cgroup of it.
        cgroup: u64,
        /// Slot of ten seconds since boot, class, counts.
        counts: Vec<Slot>,
    },
    /// A name under which an address was looked up, at the start of a segment; later ones come from records.
    Address {
        /// Number of the place ([`Place`]) that it holds for.
        place: u64,
        /// The address.
        address: IpAddr,
        /// Its name.
        name: String,
        /// Boot time until which it holds, nanoseconds.
        until_ns: u64,
    },
    /// A socket that listens, found by looking; at the start of a segment, every one that does.
    Listening {
        /// The socket.
        listening: Box<Listening>,
    },
    /// One that listens no more, found by looking.
    ListeningEnded {
        /// Its number.
        ino: u64,
    },
    /// A process that an event may still show: it is alive or just ended, or one of these descends from it.
    Process {
        /// The process.
        process: Box<Process>,
    },
    /// A process that ended and that no event will show: it only takes its place in the table.
    Dead {
        /// Its identity.
        key: ProcKey,
        /// Boot time of its end, nanoseconds.
        exit_ns: u64,
    },
}

/// Notes of what was learnt, until somebody takes them. Off unless switched on: then nothing is noted.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    on: bool,
    notes: Vec<Context>,
}

impl Journal {
    pub(crate) fn switch_on(&mut self) {
        self.on = true;
    }

    /// Notes what `context` gives, if anybody wants to know.
    pub(crate) fn note(&mut self, context: impl FnOnce() -> Context) {
        if self.on {
            self.notes.push(context());
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.notes.is_empty()
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Context> {
        self.notes.drain(..)
    }
}

impl World {
    /// Tells the whole state. What is taken by [`World::relive`] in this order gives the same state again.
    pub fn checkpoint(&self, tell: &mut dyn FnMut(Context)) {
        tell(Context::Events { count: self.events });
        tell(Context::Clock { boot_to_wall_ns: self.boot_to_wall_ns });
        self.membership.checkpoint(tell);
        self.ledger.checkpoint(&mut |account, counts| {
            tell(Context::Coverage { owner: account.owner.name().to_owned(), cgroup: account.cgroup, counts });
        });
        for (place, address, name, until_ns) in self.known_names.iter() {
            tell(Context::Address { place: place.0, address, name: name.to_owned(), until_ns });
        }
        for listening in self.listeners.iter() {
            tell(Context::Listening { listening: Box::new(listening.clone()) });
        }
        let table = &self.processes;
        let needed = table.needed(self.latest_ns.saturating_sub(LATE_NS));
        for process in table.dead() {
            if needed.contains(&process.key) {
                tell(Context::Process { process: Box::new(process.clone()) });
            } else if let Some(exit_ns) = process.exit_ns {
                tell(Context::Dead { key: process.key, exit_ns });
            }
        }
        for process in table.iter().filter(|process| process.exit_ns.is_none()) {
            tell(Context::Process { process: Box::new(process.clone()) });
        }
    }

    /// Takes something that was learnt when the records were made.
    pub fn relive(&mut self, context: Context) {
        match context {
            Context::Events { count } => self.events = count,
            Context::Clock { boot_to_wall_ns } => self.boot_to_wall_ns = boot_to_wall_ns,
            Context::Place { cgroup, container } => self.membership.put(cgroup, container),
            Context::Unit { cgroup, unit } => self.membership.put_host(cgroup, Some(unit)),
            Context::Container { container } => self.membership.restore(*container),
            Context::Gone { id } => {
                self.listeners.container_gone(&id);
                self.membership.apply(0, crate::RuntimeUpdate::Gone(id));
            }
            Context::Names { container, uid, gid, loginuid, names } => {
                self.told_names.insert((container.into(), uid, gid, loginuid), names);
            }
            Context::Missed { cgroup, missing } => self.missed(cgroup, &missing),
            Context::Coverage { owner, cgroup, counts } => self.ledger.restore(&owner, cgroup, &counts),
            Context::Address { place, address, name, until_ns } => {
                self.known_names.put(Place(place), address, &name, until_ns);
            }
            Context::Listening { listening } => self.listeners.begin(*listening),
            Context::ListeningEnded { ino } => {
                self.listeners.end(ino);
            }
            Context::Process { process } => self.processes.restore(*process),
            Context::Dead { key, exit_ns } => {
                self.processes.restore(Process { key, exit_ns: Some(exit_ns), ..Process::default() });
            }
        }
    }
}
