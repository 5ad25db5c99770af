//! Which container an event belongs to, and what is known of it; with a waiting room for events of containers
//! that the runtime has not told about yet, so that no alert is anonymous.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use tw_model::raw::to_words;
use tw_model::{Container, Raw};

use crate::cgroup::Cgroups;
use crate::docker::DockerWatcher;
use crate::journal::{Context, Journal};
use crate::runtime::RuntimeUpdate;

/// How long events of an unknown container wait for its name, in nanoseconds.
const PATIENCE_NS: u64 = 700_000_000;
/// Bytes of records that may wait, over all containers; beyond that the oldest go on unnamed.
const ROOM: usize = 16 << 20;
/// Containers remembered; the longest gone make room.
const MAX_CONTAINERS: usize = 16_384;
/// Cgroups remembered.
const MAX_CGROUPS: usize = 65_536;
/// The root cgroup, where the host's own tasks live.
const ROOT_CGROUP: u64 = 1;

/// What an event of a cgroup has to do.
#[derive(Clone, Debug)]
enum Member {
    /// Not in a container.
    Host,
    /// In the container with this id.
    Container(Arc<str>),
}

/// A container and whether its events still wait for more.
struct Entry {
    container: Arc<Container>,
    /// Boot time until which events wait; 0: they do not.
    wait_until: u64,
}

/// A record in the waiting room.
struct Waiting {
    id: Arc<str>,
    /// The record, in words so that it stays aligned.
    words: Vec<u64>,
}

/// What the world learnt from the runtime that a person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The runtime answers.
    RuntimeAvailable {
        /// Its version.
        version: String,
    },
    /// The runtime does not answer: containers stay without name and image.
    RuntimeUnavailable {
        /// Why.
        reason: String,
    },
}

/// Counters of the membership tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MembershipCounts {
    /// Containers known.
    pub containers: usize,
    /// Events that had to wait for a container's name.
    pub waited: u64,
    /// Events that went on without it.
    pub unnamed: u64,
    /// Containers forgotten because the table was full.
    pub evicted: u64,
}

/// Cgroup → container → what the runtime says of it.
pub struct Membership {
    cgroups: Cgroups,
    by_cgroup: HashMap<u64, Member, foldhash::fast::RandomState>,
    containers: HashMap<Arc<str>, Entry, foldhash::fast::RandomState>,
    /// Containers that the runtime removed, longest gone first.
    gone: VecDeque<Arc<str>>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    watcher: Option<DockerWatcher>,
    runtime_answers: bool,
    counts: MembershipCounts,
    /// Cgroups forgotten because the table was full.
    forgotten: u64,
    /// Grows with each change of what is known of containers and of which cgroups are theirs.
    version: u64,
    pub(crate) journal: Journal,
}

impl Membership {
    /// Nothing known yet. Without a `watcher` containers have ids only, and nothing waits.
    pub fn new(cgroups: Cgroups, watcher: Option<DockerWatcher>) -> Self {
        Self {
            cgroups,
            by_cgroup: HashMap::default(),
            containers: HashMap::default(),
            gone: VecDeque::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            runtime_answers: watcher.is_some(),
            watcher,
            counts: MembershipCounts::default(),
            forgotten: 0,
            version: 0,
            journal: Journal::default(),
        }
    }

    /// Whether a runtime is asked and answers.
    pub fn runtime_answers(&self) -> bool {
        self.runtime_answers
    }

    /// Grows with each change of what is known of containers and of which cgroups are theirs.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The container of a cgroup, as far as it is known.
    pub fn container(&self, cgroup: u64) -> Option<&Container> {
        match self.by_cgroup.get(&cgroup)? {
            Member::Host => None,
            Member::Container(id) => self.containers.get(id).map(|entry| &*entry.container),
        }
    }

    /// All containers known and not gone.
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        self.containers
            .iter()
            .filter(|(id, entry)| entry.container.complete && !self.gone.contains(*id))
            .map(|(_, entry)| &*entry.container)
    }

    /// A container by its id.
    pub fn by_id(&self, id: &str) -> Option<&Container> {
        self.containers.get(id).map(|entry| &*entry.container)
    }

    /// The tables: name; entries, most entries, and how many made room.
    pub fn tables(&self) -> [(&'static str, (u64, u64, u64)); 3] {
        let row = |entries: usize, capacity: usize, evicted: u64| (entries as u64, capacity as u64, evicted);
        [
            ("containers", row(self.containers.len(), MAX_CONTAINERS, self.counts.evicted)),
            ("cgroups", row(self.by_cgroup.len(), MAX_CGROUPS, self.forgotten)),
            ("waiting_bytes", row(self.waiting_bytes, ROOM, self.counts.unnamed)),
        ]
    }

    /// Counters.
    pub fn counts(&self) -> MembershipCounts {
        MembershipCounts { containers: self.containers.len(), ..self.counts }
    }

    /// Finds out which container `cgroup` belongs to, if it is not known yet. `name` is the last component of
    /// its path, if the kernel told it. Reads the cgroup tree, once per cgroup.
    pub fn place(&mut self, cgroup: u64, name: Option<&str>) {
        if cgroup == ROOT_CGROUP || self.by_cgroup.contains_key(&cgroup) {
            return;
        }
        let found = self.cgroups.lookup(cgroup);
        let id = match self.cgroups.path(cgroup) {
            Some(path) => self.outermost_known(path).or(found),
            // Gone already, or hidden from us: what the kernel said is all there is.
            None => found.or_else(|| name.and_then(Container::id_in_cgroup_path).map(str::to_owned)),
        };
        self.make_room();
        let Some(id) = id else {
            // A cgroup that was not found may yet be: remember only what is sure.
            if self.cgroups.path(cgroup).is_some() || name.is_some() {
                self.by_cgroup.insert(cgroup, Member::Host);
            }
            return;
        };
        self.put(cgroup, id);
    }

    /// Forgets all cgroups if there are too many: they are looked up again.
    fn make_room(&mut self) {
        if self.by_cgroup.len() >= MAX_CGROUPS {
            self.forgotten += self.by_cgroup.len() as u64;
            self.by_cgroup.clear();
            self.version += 1;
        }
    }

    /// Says that a cgroup belongs to the container with this id.
    pub(crate) fn put(&mut self, cgroup: u64, id: String) {
        self.make_room();
        self.journal.note(|| Context::Place { cgroup, container: id.clone() });
        let id: Arc<str> = id.into();
        self.version += 1;
        self.by_cgroup.insert(cgroup, Member::Container(Arc::clone(&id)));
        if !self.containers.contains_key(&id) {
            let container = Container { id: id.to_string(), ..Container::default() };
            self.remember(id, container, u64::MAX);
        }
    }

    /// Puts back a container as it was told.
    pub(crate) fn restore(&mut self, container: Container) {
        self.version += 1;
        self.remember(container.id.as_str().into(), container, 0);
    }

    /// Tells everything known: containers, those that are gone in their order, cgroups.
    pub(crate) fn checkpoint(&self, tell: &mut dyn FnMut(Context)) {
        for entry in self.containers.values() {
            tell(Context::Container { container: Box::new((*entry.container).clone()) });
        }
        for id in &self.gone {
            tell(Context::Gone { id: id.to_string() });
        }
        for (cgroup, member) in &self.by_cgroup {
            if let Member::Container(id) = member {
                tell(Context::Place { cgroup: *cgroup, container: id.to_string() });
            }
        }
    }

    /// A container may name a cgroup of its own after another container: the outermost id that the runtime
    /// knows counts.
    fn outermost_known(&self, path: &str) -> Option<String> {
        path.split('/')
            .filter_map(Container::id_in_cgroup_path)
            .find(|id| self.containers.get(*id).is_some_and(|entry| entry.container.complete))
            .map(str::to_owned)
    }

    fn remember(&mut self, id: Arc<str>, container: Container, wait_until: u64) {
        while self.containers.len() >= MAX_CONTAINERS && !self.containers.contains_key(&id) {
            let oldest = self.gone.pop_front().or_else(|| self.containers.keys().next().cloned());
            let Some(oldest) = oldest else { break };
            self.containers.remove(&oldest);
            self.counts.evicted += 1;
        }
        self.containers.insert(id, Entry { container: Arc::new(container), wait_until });
    }

    /// Takes news from the runtime.
    pub fn apply(&mut self, update: RuntimeUpdate) -> Option<Notice> {
        match update {
            RuntimeUpdate::Container(container) => {
                let id: Arc<str> = container.id.as_str().into();
                let known = self.containers.get(&id);
                // The first word has only the name; it must not replace more.
                if container.complete || !known.is_some_and(|entry| entry.container.complete) {
                    let wait_until = match known {
                        _ if container.complete => 0,
                        Some(entry) => entry.wait_until,
                        None => u64::MAX,
                    };
                    self.journal.note(|| Context::Container { container: container.clone() });
                    self.version += 1;
                    self.remember(id, *container, wait_until);
                }
            }
            RuntimeUpdate::Gone(id) => {
                self.version += 1;
                self.journal.note(|| Context::Gone { id: id.clone() });
                let id: Arc<str> = id.into();
                if self.containers.contains_key(&id) && !self.gone.contains(&id) {
                    self.gone.push_back(id);
                }
                while self.gone.len() > 1024 {
                    if let Some(oldest) = self.gone.pop_front() {
                        self.containers.remove(&oldest);
                    }
                }
            }
            RuntimeUpdate::Unknown(id) => {
                if let Some(entry) = self.containers.get_mut(id.as_str()) {
                    entry.wait_until = 0;
                }
            }
            RuntimeUpdate::Unavailable(reason) => {
                self.runtime_answers = false;
                return Some(Notice::RuntimeUnavailable { reason });
            }
            RuntimeUpdate::Available { version } => {
                self.runtime_answers = true;
                return Some(Notice::RuntimeAvailable { version });
            }
        }
        None
    }

    /// Whether it is known whose the cgroup is, and events of it need not wait.
    pub fn is_settled(&self, cgroup: u64) -> bool {
        match self.by_cgroup.get(&cgroup) {
            Some(Member::Host) => true,
            Some(Member::Container(id)) => self.containers.get(id).is_some_and(|entry| self.is_ready(entry)),
            None => cgroup == ROOT_CGROUP,
        }
    }

    fn is_ready(&self, entry: &Entry) -> bool {
        entry.container.complete || entry.wait_until == 0 || !self.runtime_answers
    }

    /// Whether the event may go on. If not, its record is kept and comes back from [`Membership::release`].
    pub fn admit(&mut self, raw: &Raw<'_>) -> bool {
        let Some(Member::Container(id)) = self.by_cgroup.get(&raw.header.cgroup) else { return true };
        let id = Arc::clone(id);
        if self.containers.get(&id).is_none_or(|entry| self.is_ready(entry)) {
            return true;
        }
        let Some(entry) = self.containers.get_mut(&id) else { return true };
        if entry.wait_until == u64::MAX {
            entry.wait_until = raw.header.time + PATIENCE_NS;
            if let Some(watcher) = &self.watcher {
                watcher.request(&id);
            }
        }
        if self.waiting_bytes + raw.bytes().len() > ROOM {
            entry.wait_until = 0;
            self.counts.unnamed += 1;
            return true;
        }
        self.counts.waited += 1;
        let words = to_words(raw.bytes());
        self.waiting_bytes += words.len() * 8;
        self.waiting.push_back(Waiting { id, words });
        false
    }

    /// Records whose wait is over at boot time `now_ns`, in the order in which they came per container.
    pub fn release(&mut self, now_ns: u64) -> Vec<Vec<u64>> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let mut released = Vec::new();
        let mut kept = VecDeque::new();
        for waiting in std::mem::take(&mut self.waiting) {
            let ready = match self.containers.get_mut(&waiting.id) {
                Some(entry) if !entry.container.complete && entry.wait_until != 0 && self.runtime_answers => {
                    let over = now_ns >= entry.wait_until;
                    if over {
                        entry.wait_until = 0;
                        self.counts.unnamed += 1;
                    }
                    over
                }
                _ => true,
            };
            if ready {
                self.waiting_bytes -= waiting.words.len() * 8;
                released.push(waiting.words);
            } else {
                kept.push_back(waiting);
            }
        }
        self.waiting = kept;
        released
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const OTHER: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn named(id: &str) -> RuntimeUpdate {
        RuntimeUpdate::Container(Box::new(Container {
            id: id.into(),
            name: "web".into(),
            complete: true,
            ..Container::default()
        }))
    }

    fn membership(path: &str) -> Membership {
        let mut cgroups = Cgroups::at(None);
        cgroups.insert(7, path);
        let mut membership = Membership::new(cgroups, None);
        membership.runtime_answers = true;
        membership
    }

    fn record(time: u64) -> Vec<u64> {
        use tw_model::raw::{Encoder, ExitBody, Header};
        let kind = tw_model::EventKind::Procexit as u16;
        let header = Header { kind, time, cgroup: 7, ..Header::default() };
        to_words(&Encoder::new(&header, size_of::<ExitBody>()).finish(&ExitBody::default()))
    }

    fn admit(membership: &mut Membership, words: &[u64]) -> bool {
        membership.admit(&Raw::parse(tw_model::raw::from_words(words)).unwrap())
    }

    #[test]
    fn events_wait_for_the_name_and_keep_their_order() {
        let mut membership = membership(&format!("/docker/{ID}"));
        membership.place(7, None);
        assert!(!admit(&mut membership, &record(1)));
        assert!(!admit(&mut membership, &record(2)));
        assert!(membership.release(3).is_empty());
        membership.apply(named(ID));
        assert_eq!(membership.release(4), [record(1), record(2)]);
        assert!(admit(&mut membership, &record(5)));
        assert_eq!(membership.container(7).map(|c| c.name.as_str()), Some("web"));
    }

    #[test]
    fn the_wait_is_bounded_in_time_and_ends_when_nobody_knows_the_container() {
        let mut bounded = membership(&format!("/docker/{ID}"));
        bounded.place(7, None);
        assert!(!admit(&mut bounded, &record(1)));
        assert_eq!(bounded.release(1 + PATIENCE_NS).len(), 1);
        assert!(admit(&mut bounded, &record(2)), "one wait is enough");

        let mut unknown = membership(&format!("/docker/{ID}"));
        unknown.place(7, None);
        assert!(!admit(&mut unknown, &record(1)));
        unknown.apply(RuntimeUpdate::Unknown(ID.into()));
        assert_eq!(unknown.release(2).len(), 1);
    }

    #[test]
    fn room_is_given_back_whatever_the_length_of_a_record() {
        let mut membership = membership(&format!("/docker/{ID}"));
        membership.place(7, None);
        let mut odd = record(1);
        // The first two bytes are the record's size; the kernel writes sizes that are no multiple of 8.
        odd[0] = (odd[0] & !0xffff) | (odd.len() as u64 * 8 + 5);
        odd.push(0);
        assert!(!admit(&mut membership, &odd));
        membership.apply(named(ID));
        assert_eq!(membership.release(2), [odd]);
        assert_eq!(membership.waiting_bytes, 0);
    }

    #[test]
    fn a_container_cannot_pass_for_another_by_the_name_of_a_child_cgroup() {
        let mut membership = membership(&format!("/docker/{ID}/{OTHER}"));
        membership.apply(named(ID));
        membership.apply(named(OTHER));
        membership.place(7, Some(OTHER));
        assert_eq!(membership.container(7).map(|c| c.id.as_str()), Some(ID));
    }

    #[test]
    fn a_first_word_does_not_replace_the_whole() {
        let mut membership = membership(&format!("/docker/{ID}"));
        membership.apply(named(ID));
        membership.apply(RuntimeUpdate::Container(Box::new(Container { id: ID.into(), ..Container::default() })));
        membership.place(7, None);
        assert_eq!(membership.container(7).map(|c| c.name.as_str()), Some("web"));
    }
}
