//! Which container an event belongs to, and what is known of it; with a waiting room for events of containers
//! that no runtime has told about yet, so that no alert is anonymous.
//!
//! Several may tell of one container: what its runtime leaves on disk, first; the runtime itself, all of it. Events wait
//! until one has told the whole, or all that were asked have told what they can, or for so long.

mod pods;
mod waiting;

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use tw_model::{Container, Raw};

use crate::bundle::Announced;
use crate::cgroup::{Cgroups, unit_in_cgroup_path};
use crate::journal::{Context, Journal};
use crate::runtime::RuntimeUpdate;
use crate::sources::{Mask, RuntimeState, Sources};
use pods::Pods;
use waiting::{Room, Whose};

/// How long events of an unknown container wait for its name, in nanoseconds.
const PATIENCE_NS: u64 = 700_000_000;
/// Containers remembered; the longest gone make room.
const MAX_CONTAINERS: usize = 16_384;
/// Cgroups remembered.
const MAX_CGROUPS: usize = 65_536;
/// Paths of cgroups that were told; the first told make room.
const MAX_PATHS: usize = 16_384;
/// Top folders that hold the containers of a runtime, or everything.
const SHARED: [&str; 8] =
    ["docker", "kubepods", "default", "k8s.io", "libpod_parent", "machine", "init.scope", "system.slice"];
/// The root cgroup, where the host's own tasks live.
const ROOT_CGROUP: u64 = 1;

/// What an event of a cgroup has to do.
#[derive(Clone, Debug)]
enum Member {
    /// Not in a container; in this systemd unit, if in one.
    Host(Option<Arc<str>>),
    /// In the container with this id.
    Container(Arc<str>),
    /// Somebody was asked whose it is; events wait until this boot time. 0: none came yet.
    Asked(u64),
}

/// A container and whether its events still wait for more.
struct Entry {
    container: Arc<Container>,
    /// Boot time until which events wait; 0: they do not; [`u64::MAX`]: none came yet.
    wait_until: u64,
    /// Who was asked and has not told all that it can.
    pending: Mask,
}

impl Entry {
    fn waits(&self) -> bool {
        self.wait_until != 0 && (!self.container.complete || self.pending != 0)
    }
}

/// What the world learnt from a runtime that a person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It answers, or does not.
    Runtime(RuntimeState),
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

/// Cgroup → container → what the runtimes say of it.
pub struct Membership {
    cgroups: Cgroups,
    by_cgroup: HashMap<u64, Member, foldhash::fast::RandomState>,
    containers: HashMap<Arc<str>, Entry, foldhash::fast::RandomState>,
    /// Containers by the path of their cgroup, where their runtime told it.
    paths: HashMap<Box<str>, Arc<str>, foldhash::fast::RandomState>,
    /// Paths in the order in which they were told.
    path_order: VecDeque<Box<str>>,
    /// Containers that the runtime removed, longest gone first.
    gone: VecDeque<Arc<str>>,
    room: Room,
    pods: Pods,
    sources: Sources,
    /// Whether a runtime is asked and answers: else nothing waits.
    somebody_answers: bool,
    counts: MembershipCounts,
    /// Cgroups forgotten because the table was full.
    forgotten: u64,
    /// Grows with each change of what is known of containers and of which cgroups are theirs.
    version: u64,
    pub(crate) journal: Journal,
}

impl Membership {
    /// Nothing known yet. Without sources containers have ids only, and nothing waits.
    pub(crate) fn new(cgroups: Cgroups, sources: Sources) -> Self {
        Self {
            cgroups,
            by_cgroup: HashMap::default(),
            containers: HashMap::default(),
            paths: HashMap::default(),
            path_order: VecDeque::new(),
            gone: VecDeque::new(),
            room: Room::default(),
            pods: Pods::default(),
            sources,
            somebody_answers: false,
            counts: MembershipCounts::default(),
            forgotten: 0,
            version: 0,
            journal: Journal::default(),
        }
    }

    /// Those who are asked.
    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Grows with each change of what is known of containers and of which cgroups are theirs.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The container of a cgroup, as far as it is known.
    pub fn container(&self, cgroup: u64) -> Option<&Container> {
        match self.by_cgroup.get(&cgroup)? {
            Member::Host(_) | Member::Asked(_) => None,
            Member::Container(id) => self.containers.get(id).map(|entry| &*entry.container),
        }
    }

    /// The systemd unit of a cgroup that is in no container.
    pub fn unit(&self, cgroup: u64) -> Option<&str> {
        match self.by_cgroup.get(&cgroup)? {
            Member::Host(unit) => unit.as_deref(),
            Member::Container(_) | Member::Asked(_) => None,
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
    pub fn tables(&self) -> [(&'static str, (u64, u64, u64)); 4] {
        let row = |entries: usize, capacity: usize, evicted: u64| (entries as u64, capacity as u64, evicted);
        [
            ("containers", row(self.containers.len(), MAX_CONTAINERS, self.counts.evicted)),
            ("cgroups", row(self.by_cgroup.len(), MAX_CGROUPS, self.forgotten)),
            ("pods", self.pods.size()),
            ("waiting_bytes", row(self.room.bytes(), waiting::ROOM, self.counts.unnamed)),
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
            None => found.or_else(|| self.id_by_name(name?)),
        };
        self.make_room();
        if let Some(id) = id {
            self.put(cgroup, id);
            return;
        }
        let Some(path) = self.cgroups.path(cgroup) else {
            // A cgroup that was not found may yet be: remember only what is sure.
            if name.is_some() {
                self.by_cgroup.insert(cgroup, Member::Host(None));
            }
            return;
        };
        if may_be_a_containers(path) && self.sources.look(cgroup, path) {
            self.by_cgroup.insert(cgroup, Member::Asked(0));
            return;
        }
        self.put_on_host(cgroup);
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
            let entry = Entry { container: Arc::new(container), wait_until: u64::MAX, pending: 0 };
            self.remember(Arc::clone(&id), entry);
        }
        self.learn_pod_by_cgroup(cgroup, &id);
    }

    fn put_on_host(&mut self, cgroup: u64) {
        let unit = self.cgroups.path(cgroup).and_then(unit_in_cgroup_path).map(str::to_owned);
        self.put_host(cgroup, unit);
    }

    /// Says that a cgroup belongs to no container, but maybe to a systemd unit.
    pub(crate) fn put_host(&mut self, cgroup: u64, unit: Option<String>) {
        if let Some(unit) = &unit {
            self.version += 1;
            self.journal.note(|| Context::Unit { cgroup, unit: unit.clone() });
        }
        self.by_cgroup.insert(cgroup, Member::Host(unit.map(Arc::from)));
    }

    /// Puts back a container as it was told.
    pub(crate) fn restore(&mut self, container: Container) {
        self.revive(&container.id);
        let id = container.id.as_str().into();
        self.remember(id, Entry { container: Arc::new(container), wait_until: 0, pending: 0 });
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
            match member {
                Member::Container(id) => tell(Context::Place { cgroup: *cgroup, container: id.to_string() }),
                Member::Host(Some(unit)) => tell(Context::Unit { cgroup: *cgroup, unit: unit.to_string() }),
                Member::Host(None) | Member::Asked(_) => {}
            }
        }
    }

    /// A container may name a cgroup of its own after another container: the outermost that a runtime knows counts.
    fn outermost_known(&self, path: &str) -> Option<String> {
        for (end, _) in path.match_indices('/').skip(1).chain([(path.len(), "/")]) {
            let prefix = &path[..end];
            if let Some(id) = self.paths.get(prefix) {
                return Some(id.to_string());
            }
            let name = prefix.rsplit('/').next().and_then(Container::id_in_cgroup_path);
            if let Some(id) = name.filter(|id| self.containers.get(*id).is_some_and(|entry| entry.container.complete)) {
                return Some(id.to_owned());
            }
        }
        None
    }

    /// The container whose cgroup has this last component, as far as it can be told by that alone.
    fn id_by_name(&self, name: &str) -> Option<String> {
        if let Some(id) = Container::id_in_cgroup_path(name) {
            return Some(id.to_owned());
        }
        // runc and containerd name the cgroup after the container.
        self.containers.contains_key(name).then(|| name.to_owned())
    }

    fn remember(&mut self, id: Arc<str>, entry: Entry) {
        self.version += 1;
        while self.containers.len() >= MAX_CONTAINERS && !self.containers.contains_key(&id) {
            let oldest = self.gone.pop_front().or_else(|| self.containers.keys().next().cloned());
            let Some(oldest) = oldest else { break };
            self.containers.remove(&oldest);
            self.counts.evicted += 1;
        }
        self.containers.insert(id, entry);
    }

    /// A container with the id of one that is gone is another: runc and containerd let the user choose.
    fn revive(&mut self, id: &str) -> bool {
        let before = self.gone.len();
        self.gone.retain(|gone| &**gone != id);
        self.gone.len() != before
    }

    /// Takes news from the source with this number.
    pub fn apply(&mut self, source: usize, update: RuntimeUpdate) -> Option<Notice> {
        match update {
            RuntimeUpdate::Container(container) => self.told(source, *container),
            RuntimeUpdate::Path { path, id } => self.put_path(path, &id),
            RuntimeUpdate::Looked { cgroup } => {
                if matches!(self.by_cgroup.get(&cgroup), Some(Member::Asked(_))) {
                    match self.cgroups.path(cgroup).and_then(|path| self.outermost_known(path)) {
                        Some(id) => self.put(cgroup, id),
                        None => self.put_on_host(cgroup),
                    }
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
            RuntimeUpdate::NoMore(id) => self.settle(source, &id),
            RuntimeUpdate::Unavailable(_) | RuntimeUpdate::Absent(_) | RuntimeUpdate::Available { .. } => {
                let state = self.sources.note(source, &update)?;
                self.somebody_answers = self.sources.any_up();
                if state.up {
                    self.ask_newcomer(source);
                } else {
                    // Nobody waits for it any more.
                    let waiting = self.containers.iter().filter(|(_, entry)| entry.pending & (1 << source) != 0);
                    for id in waiting.map(|(id, _)| Arc::clone(id)).collect::<Vec<_>>() {
                        self.settle(source, &id);
                    }
                }
                return Some(Notice::Runtime(state));
            }
        }
        None
    }

    /// Somebody was seen to run a bundle: its container is known before its first event, by its id at least, which tells
    /// it from its cgroup's name even when that is gone.
    pub fn announce(&mut self, announced: &Announced) {
        let id: Arc<str> = announced.id.as_str().into();
        let known = self.containers.contains_key(&id);
        // It may be gone because this word comes late; then what is known must stay. If it is another of the same name,
        // what is read replaces it.
        if known && (!self.gone.contains(&id) || has_number(&id)) {
            return;
        }
        let pending = self.sources.announce(announced);
        if pending == 0 || known {
            return;
        }
        let container = Container { id: id.to_string(), ..Container::default() };
        self.remember(id, Entry { container: Arc::new(container), wait_until: u64::MAX, pending });
    }

    /// Asks a runtime that answers from now on about the containers whose images nobody could name.
    fn ask_newcomer(&mut self, source: usize) {
        if self.sources.reads_files(source) {
            return;
        }
        for (id, entry) in &mut self.containers {
            let nameless = entry.container.image.is_empty() && !self.gone.contains(id);
            if nameless && entry.pending & (1 << source) == 0 {
                let asked = self.sources.ask_one(source, id);
                if asked != 0 && entry.wait_until == 0 {
                    entry.wait_until = u64::MAX;
                }
                entry.pending |= asked;
            }
        }
    }

    fn put_path(&mut self, path: String, id: &str) {
        // A container that has the name of a folder in which runtimes put theirs does not get those.
        let name = path.strip_prefix('/').unwrap_or(&path);
        if name.is_empty() || name.ends_with(".slice") || SHARED.contains(&name) {
            return;
        }
        if self.paths.insert(path.clone().into(), id.into()).is_none() {
            self.path_order.push_back(path.into());
        }
        while self.path_order.len() > MAX_PATHS {
            if let Some(oldest) = self.path_order.pop_front() {
                self.paths.remove(&oldest);
            }
        }
    }

    /// A source told of a container.
    fn told(&mut self, source: usize, mut container: Container) {
        let id: Arc<str> = container.id.as_str().into();
        self.pods.join(&mut container);
        let again = self.revive(&id) && !has_number(&id);
        let known = self.containers.get(&id).filter(|_| !again);
        let (mut wait_until, mut pending) = known.map_or((u64::MAX, 0), |known| (known.wait_until, known.pending));
        if let Some(known) = known {
            if known.container.complete && !container.complete {
                // A first word has little; it must not replace more.
                let mut whole = (*known.container).clone();
                whole.fill_gaps(&container);
                container = whole;
            } else {
                container.fill_gaps(&known.container);
            }
            if container == *known.container {
                return;
            }
        }
        if container.complete {
            (wait_until, pending) = (0, 0);
        } else if known.is_none_or(|known| known.pending & !(1 << source) == 0 && known.wait_until != 0)
            && self.sources.reads_files(source)
        {
            // What lies on disk is there before the first event: the runtime is asked while there is time.
            pending |= self.sources.ask(&id, Some(source)) | (1 << source);
        }
        self.journal.note(|| Context::Container { container: Box::new(container.clone()) });
        self.remember(id, Entry { container: Arc::new(container), wait_until, pending });
    }

    /// A source has no more to tell of a container. If no other has, what is known is the whole.
    fn settle(&mut self, source: usize, id: &str) {
        let Some(entry) = self.containers.get_mut(id) else { return };
        entry.pending &= !(1 << source);
        if entry.pending != 0 {
            return;
        }
        entry.wait_until = 0;
        if !entry.container.complete && !entry.container.runtime.is_empty() {
            let container = Arc::make_mut(&mut entry.container);
            container.complete = true;
            self.version += 1;
            let container = Box::new(container.clone());
            self.journal.note(|| Context::Container { container });
        }
    }

    /// Whether it is known whose the cgroup is, and events of it need not wait.
    pub fn is_settled(&self, cgroup: u64) -> bool {
        match self.by_cgroup.get(&cgroup) {
            Some(Member::Host(_)) => true,
            Some(Member::Asked(_)) => false,
            Some(Member::Container(id)) => {
                self.containers.get(id).is_some_and(|entry| !entry.waits() || !self.somebody_answers)
            }
            None => cgroup == ROOT_CGROUP,
        }
    }

    /// Whether the event may go on. If not, its record is kept and comes back from [`Membership::release`].
    pub fn admit(&mut self, raw: &Raw<'_>) -> bool {
        if !self.somebody_answers {
            return true;
        }
        let cgroup = raw.header.cgroup;
        let whose = match self.by_cgroup.get_mut(&cgroup) {
            None | Some(Member::Host(_)) => return true,
            Some(Member::Asked(wait_until)) => {
                if *wait_until == 0 {
                    *wait_until = raw.header.time + PATIENCE_NS;
                }
                Whose::Cgroup(cgroup)
            }
            Some(Member::Container(id)) => {
                let Some(entry) = self.containers.get_mut(id).filter(|entry| entry.waits()) else { return true };
                if entry.wait_until == u64::MAX {
                    entry.wait_until = raw.header.time + PATIENCE_NS;
                    if entry.pending == 0 {
                        entry.pending = self.sources.ask(id, None);
                    }
                    if entry.pending == 0 && self.sources.states().next().is_some() {
                        entry.wait_until = 0;
                        return true;
                    }
                }
                Whose::Container(Arc::clone(id))
            }
        };
        if !self.room.take(whose.clone(), raw) {
            self.give_up(&whose);
            return true;
        }
        self.counts.waited += 1;
        false
    }

    /// Nobody waits for this any more.
    fn give_up(&mut self, whose: &Whose) {
        self.counts.unnamed += 1;
        match whose {
            Whose::Cgroup(cgroup) => self.put_on_host(*cgroup),
            Whose::Container(id) => {
                if let Some(entry) = self.containers.get_mut(id) {
                    entry.wait_until = 0;
                }
            }
        }
    }

    /// Records whose wait is over at boot time `now_ns`, in the order in which they came per container.
    pub fn release(&mut self, now_ns: u64) -> Vec<Vec<u64>> {
        if self.room.is_empty() {
            return Vec::new();
        }
        let mut released = Vec::new();
        for mut waiting in self.room.all() {
            // It was found out whose it is; what is known of that may still be little.
            if let Whose::Cgroup(cgroup) = waiting.whose
                && let Some(Member::Container(id)) = self.by_cgroup.get(&cgroup)
            {
                waiting.whose = Whose::Container(Arc::clone(id));
                if let Some(entry) = self.containers.get_mut(id).filter(|entry| entry.wait_until == u64::MAX) {
                    entry.wait_until = now_ns.saturating_add(PATIENCE_NS);
                    if entry.pending == 0 {
                        entry.pending = self.sources.ask(id, None);
                    }
                }
            }
            let wait_until = match &waiting.whose {
                Whose::Cgroup(cgroup) => match self.by_cgroup.get(cgroup) {
                    Some(Member::Asked(wait_until)) => Some(*wait_until),
                    _ => None,
                },
                Whose::Container(id) => {
                    self.containers.get(id).filter(|entry| entry.waits()).map(|entry| entry.wait_until)
                }
            };
            match wait_until.filter(|_| self.somebody_answers) {
                Some(wait_until) if now_ns < wait_until => self.room.put_back(waiting),
                Some(_) => {
                    self.give_up(&waiting.whose);
                    released.push(waiting.words);
                }
                None => released.push(waiting.words),
            }
        }
        released
    }
}

/// Whether the id is a number that no other container will ever have, rather than a name.
fn has_number(id: &str) -> bool {
    id.len() == 64 && Container::id_in_cgroup_path(id).is_some()
}

/// Whether a cgroup may be that of a container whose id is a name: those of services are not, and slices only hold
/// others.
fn may_be_a_containers(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let in_unit = unit_in_cgroup_path(path).is_some_and(|unit| unit != name || !name.ends_with(".scope"));
    !name.is_empty() && !name.ends_with(".slice") && !in_unit
}

#[cfg(test)]
mod tests;
