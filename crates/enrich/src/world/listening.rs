//! Which sockets listen, kept up to date by events, and now and then by a look at `/proc`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use tw_model::listener::{Listener, protocol_name};
use tw_model::raw::SocketId;
use tw_model::{EventKind, Raw};

use super::World;
use crate::journal::Context;
use crate::listeners::look::{Found, Sight, TCP, Task};
use crate::listeners::suspects::Suspects;
use crate::listeners::{Listeners, Listening};

/// How often somebody looks.
const LOOK_EVERY_NS: u64 = 30_000_000_000;
/// Namespaces that are looked at each time, in turn: on a host with many connections each takes a millisecond.
const PLACES: usize = 64;
/// Namespaces that are looked at first.
const FIRST_PLACES: usize = 4_096;
/// `IPPROTO_MPTCP`.
const MPTCP: u16 = 262;
/// `SOCK_DGRAM`.
const DATAGRAMS: u16 = 2;

/// What is under way.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// When the last one began, boot time; 0: the first one.
    begun_ns: u64,
    sight: Option<Receiver<Sight>>,
    /// The namespace that was looked at last.
    last: u32,
    pub(super) suspects: Suspects,
}

impl World {
    /// Takes what a record says of a socket that listens.
    pub(super) fn listening(&mut self, raw: &Raw<'_>) {
        let (Some(socket), Some(body)) = (raw.socket_id(), raw.sock()) else { return };
        let Some(address) = body.local() else { return };
        let SocketId { ino, netns, chosen } = socket;
        match raw.kind() {
            EventKind::ListenEnd => {
                self.listeners.end(ino);
                return;
            }
            // A socket of datagrams serves if whoever bound it named the port; else it waits for an answer.
            EventKind::Bind if body.type_ != DATAGRAMS || chosen == 0 || body.lport == 0 => return,
            _ => {}
        }
        let process = Some(raw.key());
        // Said once more: nothing is new, and nothing may be allocated.
        let told = (netns, body.proto, address, body.lport, process);
        let is_told = |of: &Listening| (of.netns, of.protocol, of.address, of.port, of.process) == told;
        if self.listeners.get(ino).is_some_and(is_told) {
            return;
        }
        self.listeners.begin(Listening {
            ino,
            netns,
            protocol: body.proto,
            address,
            port: body.lport,
            process,
            name: String::from_utf8_lossy(raw.comm()).into_owned(),
            container: self.membership.container(raw.header.cgroup).map_or_else(String::new, |of| of.id.clone()),
            since_ns: raw.header.time,
        });
    }

    /// Begins to look for the sockets that listen already; [`World::refresh_listeners`] takes what is found.
    pub(super) fn seed_listeners(&mut self) {
        self.begin_look(0, FIRST_PLACES);
    }

    /// Looks now and then, at boot time `now_ns`, for sockets that went without an event, or came without one. Never waits.
    pub fn refresh_listeners(&mut self, now_ns: u64) {
        match self.looks.sight.as_ref().map(Receiver::try_recv) {
            Some(Ok(sight)) => {
                self.looks.sight = None;
                self.take_sight(&sight);
            }
            Some(Err(TryRecvError::Empty)) => return,
            Some(Err(TryRecvError::Disconnected)) => self.looks.sight = None,
            None => {}
        }
        if now_ns.saturating_sub(self.looks.begun_ns) >= LOOK_EVERY_NS {
            self.begin_look(now_ns, PLACES);
        }
    }

    fn begin_look(&mut self, now_ns: u64, most: usize) {
        self.looks.begun_ns = now_ns;
        let mut places: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for process in self.processes.iter().filter(|process| process.exit_ns.is_none() && process.ns.net != 0) {
            places.entry(process.ns.net).or_default().insert(process.key.pid);
        }
        for listening in self.listeners.iter() {
            // Its process may have come to the namespace without an event that says so.
            places.entry(listening.netns).or_default().extend(listening.process.map(|key| key.pid));
        }
        self.looks.suspects.keep(|netns| places.contains_key(&netns));
        // In turn: those behind the last one, then from the beginning.
        let last = self.looks.last;
        let (before, behind): (Vec<_>, Vec<_>) = places.into_iter().partition(|(netns, _)| *netns <= last);
        let places: Vec<(u32, BTreeSet<u32>)> = behind.into_iter().chain(before).take(most).collect();
        self.looks.last = places.last().map_or(0, |(netns, _)| *netns);
        let known = self.listeners.iter().map(|listening| listening.ino).collect();
        let task = Task { root: self.options.proc_root.clone(), places, known };
        let (send, sight) = channel();
        let thread = std::thread::Builder::new().name("tidewatch-look".into());
        if thread.spawn(move || send.send(task.look()).ok()).is_ok() {
            self.looks.sight = Some(sight);
        }
    }

    fn take_sight(&mut self, sight: &Sight) {
        let seen: HashSet<u64> = sight.found.iter().map(|found| found.ino).collect();
        let begun_ns = self.looks.begun_ns;
        let is_gone = |listening: &&Listening| {
            // A socket of MPTCP stands in the table of TCP, under the same number.
            let protocol = if listening.protocol == MPTCP { TCP } else { listening.protocol };
            let looked = sight.whole.contains(&(listening.netns, protocol));
            // What began meanwhile may not have been there yet, and what was told of meanwhile may not have counted.
            listening.since_ns < begun_ns
                && sight.known.contains(&listening.ino)
                && ((looked && !seen.contains(&listening.ino)) || sight.left.contains(&listening.netns))
        };
        let gone: Vec<u64> = self.listeners.iter().filter(is_gone).map(|listening| listening.ino).collect();
        for ino in gone {
            self.listeners.end(ino);
            self.membership.journal.note(|| Context::ListeningEnded { ino });
        }
        // Once is not enough, but for what was there before: an event that tells of it, or of its end, may be on its way.
        let suspects: HashMap<u32, HashSet<u64>> =
            sight.looked.iter().map(|netns| (*netns, self.looks.suspects.take(*netns))).collect();
        let is_believed =
            |found: &Found| begun_ns == 0 || suspects.get(&found.netns).is_some_and(|of_it| of_it.contains(&found.ino));
        for found in &sight.found {
            if self.listeners.get(found.ino).is_some() {
                continue;
            }
            if is_believed(found) {
                self.found(found);
            } else {
                self.looks.suspects.add(found.netns, found.ino);
            }
        }
    }

    fn found(&mut self, found: &Found) {
        let owner = found.owner.and_then(|pid| self.processes.by_pid(pid));
        // Without an owner, it is at least known where it is.
        let near = owner.or_else(|| self.processes.by_pid(found.neighbour));
        let container = near.and_then(|process| self.membership.container(process.cgroup_id));
        let listening = Listening {
            ino: found.ino,
            netns: found.netns,
            protocol: found.protocol,
            address: found.address,
            port: found.port,
            process: owner.map(|process| process.key),
            name: owner.map(|process| String::from_utf8_lossy(&process.comm).into_owned()).unwrap_or_default(),
            container: container.map_or_else(String::new, |of| of.id.clone()),
            since_ns: 0,
        };
        let told = listening.clone();
        self.membership.journal.note(|| Context::Listening { listening: Box::new(told) });
        self.listeners.begin(listening);
    }

    /// Whether a look is under way.
    pub fn is_looking(&self) -> bool {
        self.looks.sight.is_some()
    }

    /// The sockets that listen.
    pub fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    /// The same as they are told to others: by container, the host first.
    pub fn listeners_told(&self) -> Vec<Listener> {
        let told = |listening: &Listening| Listener {
            container: listening.container.clone(),
            protocol: protocol_name(listening.protocol),
            address: listening.address,
            port: listening.port,
            process: listening.name.clone(),
            pid: listening.process.map_or(0, |key| key.pid),
            since_ns: match listening.since_ns {
                0 => 0,
                since_ns => self.boot_to_wall_ns.saturating_add(since_ns),
            },
        };
        self.listeners.iter().map(told).collect()
    }
}
