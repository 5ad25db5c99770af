//! The state of the host as the events tell it: who runs, as whom, in which container.
//!
//! [`World::observe`] is the one place where a raw record becomes an [`Event`]: first the record changes the world,
//! then the event is shown with the world as it is after it.
//!
//! **Never:** files or sockets of a container on this path, except its user list, once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use bumpalo::Bump;
use hashbrown::HashMap;
use tw_model::coverage::Class;
use tw_model::event::{EventKind, Prior};
use tw_model::process::{Credentials, ExeFile, Image, Namespaces, UserNames};
use tw_model::raw::{Body, CAPS_UNKNOWN, ExecBody, ForkBody, attr};
use tw_model::{Container, Event, KnownNames, Names, ProcKey, Process, ProcessTable, Raw};

use crate::cgroup::Cgroups;
use crate::journal::{Context, LATE_NS};
use crate::launch::launched;
use crate::ledger::{Ledger, Missing};
use crate::listeners::{self, Listeners};
use crate::membership::{Membership, MembershipCounts, Notice};
use crate::procfs::{Procfs, keep_env};
use crate::runtime::RuntimeUpdate;
use crate::sources::{RuntimeOptions, RuntimeState, Sources};
use crate::users::UserDb;

mod credentials;
mod listening;
mod login;
mod names;

/// User lists of containers kept at the same time.
const MAX_USER_LISTS: usize = 1024;
/// How long the first look at `/proc` may take: a process can make a read of its memory wait for ever.
const SEED_PATIENCE: Duration = Duration::from_secs(3);

/// Set in the mode of a file that runs with the rights of its owner.
const SETUID: u32 = 0o4000;

/// Settings of a [`World`].
#[derive(Clone, Debug)]
pub struct WorldOptions {
    /// Where `/proc` of the host is.
    pub proc_root: PathBuf,
    /// Who is asked about containers; nobody by default.
    pub runtimes: RuntimeOptions,
    /// Most processes remembered, living and dead.
    pub max_processes: usize,
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self { proc_root: "/proc".into(), runtimes: RuntimeOptions::default(), max_processes: 32_768 }
    }
}

/// Counters of the world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorldCounts {
    /// Processes remembered.
    pub processes: usize,
    /// Processes that had to be made up because their start was not seen.
    pub inferred: u64,
    /// Living processes dropped because the table was full.
    pub evicted: u64,
    /// Containers.
    pub membership: MembershipCounts,
    /// Addresses with a name that a process looked up.
    pub known_names: usize,
    /// Such addresses forgotten because the table was full.
    pub names_evicted: u64,
}

/// Everything known of the host.
pub struct World {
    options: WorldOptions,
    pub(crate) processes: ProcessTable,
    pub(crate) membership: Membership,
    pub(crate) ledger: Ledger,
    pub(crate) known_names: KnownNames,
    pub(crate) listeners: Listeners,
    looks: listening::Looks,
    host_users: UserDb,
    container_users: HashMap<Box<str>, UserDb, foldhash::fast::RandomState>,
    /// Added to a boot time to get the wall-clock time.
    pub(crate) boot_to_wall_ns: u64,
    pub(crate) events: u64,
    /// Boot time of the latest record.
    pub(crate) latest_ns: u64,
    inferred: u64,
    user_lists_evicted: u64,
    /// Names as they were told, when events are lived again: by container, user, group and login user. Then nobody
    /// else is asked.
    pub(crate) told_names: HashMap<NameKey, UserNames, foldhash::fast::RandomState>,
    reliving: bool,
}

/// What names are asked for: id of the container (empty: the host), user, group, login user.
type NameKey = (Box<str>, u32, u32, u32);

impl World {
    /// An empty world; starts to listen to the container runtimes.
    ///
    /// # Errors
    /// If a thread that listens cannot be started. A runtime that does not answer is no error: see
    /// [`World::news`].
    pub fn new(options: WorldOptions) -> std::io::Result<Self> {
        let sources = Sources::start(&options.runtimes)?;
        Ok(Self {
            processes: ProcessTable::new(options.max_processes),
            membership: Membership::new(Cgroups::new(), sources),
            ledger: Ledger::default(),
            known_names: KnownNames::default(),
            listeners: Listeners::default(),
            looks: listening::Looks::default(),
            host_users: UserDb::host_at(Path::new("/")),
            container_users: HashMap::default(),
            boot_to_wall_ns: 0,
            events: 0,
            latest_ns: 0,
            inferred: 0,
            user_lists_evicted: 0,
            told_names: HashMap::default(),
            reliving: false,
            options,
        })
    }

    /// A world that learns from records and from what is told by [`World::relive`] alone: it reads no file, asks
    /// nobody and reads no clock.
    pub fn reliving(max_processes: usize) -> Self {
        Self {
            processes: ProcessTable::new(max_processes),
            membership: Membership::new(Cgroups::at(None), Sources::default()),
            ledger: Ledger::default(),
            known_names: KnownNames::default(),
            listeners: Listeners::default(),
            looks: listening::Looks::default(),
            host_users: UserDb::host_at(Path::new("/nonexistent")),
            container_users: HashMap::default(),
            boot_to_wall_ns: 0,
            events: 0,
            latest_ns: 0,
            inferred: 0,
            user_lists_evicted: 0,
            told_names: HashMap::default(),
            reliving: true,
            options: WorldOptions { proc_root: "/nonexistent".into(), max_processes, ..WorldOptions::default() },
        }
    }

    /// Notes from now on what is learnt besides records; take it with [`World::learnt`] before each record is kept.
    pub fn keep_journal(&mut self) {
        self.membership.journal.switch_on();
    }

    /// Whether something was learnt since it was last taken.
    pub fn has_learnt(&self) -> bool {
        !self.membership.journal.is_empty()
    }

    /// What was learnt since the last call, oldest first. Empty without [`World::keep_journal`].
    pub fn learnt(&mut self) -> impl Iterator<Item = Context> {
        self.membership.journal.drain()
    }

    /// Number of events so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Grows with each change of what is known of containers.
    pub fn containers_version(&self) -> u64 {
        self.membership.version()
    }

    /// How those are who are asked about containers.
    pub fn runtimes(&self) -> impl Iterator<Item = &RuntimeState> {
        self.membership.sources().states()
    }

    /// Reads the processes that run already. Returns how many were found, and whether all could be read in time.
    /// Call it when the sensor is attached: what happens meanwhile is in its rings and follows.
    /// `adjust` may change each before it is taken.
    pub fn seed(&mut self, adjust: impl Fn(&mut Process)) -> (usize, bool) {
        let root = self.options.proc_root.clone();
        let (send, found) = channel();
        // A thread of its own, left behind if a hostile process makes it wait.
        std::thread::spawn(move || {
            let procfs = Procfs::new(&root);
            let _ = send.send(procfs.read_all());
        });
        let deadline = Instant::now() + SEED_PATIENCE;
        let processes = match found.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(processes) => processes,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return (0, false),
        };
        let count = processes.len();
        let mut keys = Vec::with_capacity(count);
        for mut process in processes {
            self.membership.place(process.cgroup_id, None);
            process.names = self.names(process.cgroup_id, process.key.pid, &process.cred);
            adjust(&mut process);
            keys.push(process.key);
            self.processes.insert(process);
        }
        self.seed_logins(&keys);
        self.seed_listeners();
        (count, true)
    }

    /// Takes what the runtime said since the last call, and the wall clock's offset.
    pub fn news(&mut self, boot_to_wall_ns: u64) -> Vec<Notice> {
        if self.boot_to_wall_ns != boot_to_wall_ns {
            self.boot_to_wall_ns = boot_to_wall_ns;
            self.membership.journal.note(|| Context::Clock { boot_to_wall_ns });
        }
        let taken = self.membership.sources().take();
        self.take(taken)
    }

    /// Waits up to `patience` for the first word of each runtime, so that running containers have names from the first
    /// event on.
    pub fn await_runtimes(&mut self, patience: Duration) -> Vec<Notice> {
        let taken = self.membership.sources().meet(patience);
        self.take(taken)
    }

    fn take(&mut self, updates: Vec<(usize, RuntimeUpdate)>) -> Vec<Notice> {
        let mut notices = Vec::new();
        for (source, update) in updates {
            if let RuntimeUpdate::Gone(id) = &update {
                self.container_users.remove(id.as_str());
                self.listeners.container_gone(id);
            }
            notices.extend(self.membership.apply(source, update));
        }
        notices
    }

    /// Whether the record may be observed now; if not, it waits for its container's name and comes back from
    /// [`World::release`].
    pub fn admit(&mut self, raw: &Raw<'_>) -> bool {
        if self.membership.is_settled(raw.header.cgroup) {
            return true;
        }
        let name = match raw.body {
            Body::Exec(body) => std::str::from_utf8(raw.text(body.cgroup_name)).ok().filter(|name| !name.is_empty()),
            _ => None,
        };
        self.membership.place(raw.header.cgroup, name);
        self.membership.admit(raw)
    }

    /// Records whose wait is over at boot time `now_ns`.
    pub fn release(&mut self, now_ns: u64) -> Vec<Vec<u64>> {
        self.membership.release(now_ns)
    }

    /// Brings the world up to date with the record and shows the event in it.
    pub fn observe<'e>(&'e mut self, raw: Raw<'e>, scratch: &'e Bump) -> Event<'e> {
        self.events = self.events.saturating_add(1);
        self.latest_ns = self.latest_ns.max(raw.header.time);
        let key = raw.key();
        // A measurement is no sign of life of the process that it names.
        let prior = if raw.kind().is_measurement() {
            Prior::default()
        } else {
            self.ensure(&raw);
            self.prior(&raw)
        };
        match raw.body {
            Body::Fork(body) => self.fork(&raw, body),
            Body::Exec(body) if raw.header.ret >= 0 => self.exec(&raw, body),
            Body::File(body) if raw.header.ret >= 0 => {
                if matches!(raw.kind(), EventKind::Chdir | EventKind::Fchdir)
                    && let Some(process) = self.processes.get_mut(key)
                {
                    process.cwd = raw.text(body.path).into();
                }
            }
            Body::Call(body) if raw.header.ret >= 0 => self.credentials(&raw, body),
            Body::Exit(_) => self.processes.end(key, raw.header.time),
            Body::Sock(_) if raw.kind() == EventKind::Dns => self.learn_names(&raw),
            Body::Sock(_) if raw.kind().has_socket_id() => self.listening(&raw),
            Body::Sock(_) if matches!(raw.kind(), EventKind::Accept | EventKind::Accept4) => self.accepted(&raw),
            _ => {}
        }
        let (cgroup, version) = (raw.header.cgroup, self.membership.version());
        let container = || self.membership.container(cgroup);
        let account = if !raw.kind().is_from_kernel() {
            self.ledger.of(cgroup, version, container)
        } else {
            let class = Class::of(raw.kind(), raw.header.ret);
            self.ledger.seen((cgroup, class, raw.header.time), version, container)
        };
        let process = match self.processes.get(key) {
            // A connection can outlive its process, and what is known of it then is not in a recording.
            Some(process) if raw.kind() == EventKind::Flow && is_forgotten(process, raw.header.time) => {
                unknown_process()
            }
            Some(process) => process,
            // Cannot be, since `ensure` put it there; a table of one process could still have dropped it.
            None => unknown_process(),
        };
        let container = self.membership.container(raw.header.cgroup);
        Event {
            raw,
            num: self.events,
            wall_ns: self.boot_to_wall_ns.saturating_add(raw.header.time),
            process,
            processes: &self.processes,
            container,
            unit: self.membership.unit(raw.header.cgroup),
            context: self.membership.version(),
            coverage: Some(self.ledger.window(account)),
            prior,
            names: Names::new(&self.known_names, container),
            scratch,
        }
    }

    /// Makes sure that the acting process is in the table, and known by its exact start.
    fn ensure(&mut self, raw: &Raw<'_>) {
        let key = raw.key();
        if let Some(known) = self.processes.get(key) {
            if known.key != key {
                self.processes.rekey(key);
            }
            return;
        }
        self.inferred += 1;
        let caps = if raw.header.caps == CAPS_UNKNOWN { 0 } else { raw.header.caps };
        let cred = Credentials {
            uid: raw.header.uid,
            gid: raw.header.gid,
            loginuid: u32::MAX,
            cap_effective: caps,
            cap_permitted: caps,
            cap_inheritable: 0,
        };
        let mut process = Process {
            key,
            comm: raw.comm().into(),
            names: self.names(raw.header.cgroup, key.pid, &cred),
            cred,
            cgroup_id: raw.header.cgroup,
            entered: self.membership.container(raw.header.cgroup).is_some(),
            inferred: true,
            ..Process::default()
        };
        process.rebuild_cmdline();
        self.processes.insert(process);
    }

    fn fork(&mut self, raw: &Raw<'_>, body: &ForkBody) {
        let key = ProcKey { start_ns: body.child_start, pid: body.child_pid };
        let Some(caller) = self.processes.get(raw.key()) else { return };
        let mut child = caller.clone();
        child.key = key;
        child.parent = Some(ProcKey { start_ns: body.parent_start, pid: body.parent_pid });
        child.vpid = body.child_vpid;
        child.cgroup_id = raw.header.cgroup;
        child.exec_ns = 0;
        child.exit_ns = None;
        // Its only thread has the credentials of the thread that forked, or those of a new user namespace.
        child.threads_differ = false;
        child.cred_ns = 0;
        child.jumped_from = None;
        if raw.header.caps != CAPS_UNKNOWN {
            child.cred.cap_effective = body.child_caps;
            child.cred.cap_permitted |= body.child_caps;
            child.cred.uid = body.child_uid;
        }
        self.processes.remove_pid(key.pid);
        self.processes.insert_forked(child);
    }

    fn exec(&mut self, raw: &Raw<'_>, body: &ExecBody) {
        if raw.header.uid == 0
            && self.membership.container(raw.header.cgroup).is_none()
            && let Some(launched) = launched(raw.text(body.exepath), raw.text(body.args), raw.text(body.cwd))
        {
            self.membership.announce(&launched);
        }
        let cred = Credentials {
            uid: raw.header.uid,
            gid: raw.header.gid,
            loginuid: body.loginuid,
            cap_effective: body.cap_effective,
            cap_permitted: body.cap_permitted,
            cap_inheritable: body.cap_inheritable,
        };
        let names = self.names_if_new(raw, &cred);
        let image = Image {
            exepath: raw.text(body.exepath).into(),
            argv_truncated: body.attrs & attr::ARGS_TRUNCATED != 0,
            env: keep_env(raw.text(body.env)).into(),
            file: ExeFile {
                ino: body.ino,
                dev: body.dev,
                mode: body.mode,
                ctime_ns: body.ctime,
                mtime_ns: body.mtime,
                upper_layer: body.attrs & attr::UPPER != 0,
                lower_layer: body.attrs & attr::LOWER != 0,
                memfd: body.attrs & attr::MEMFD != 0,
                writable: body.attrs & attr::WRITABLE != 0,
                deleted: body.attrs & attr::DELETED != 0,
            },
            script: script(raw, body).into(),
            ..Image::from_argv(raw.text(body.args))
        };
        let login = self.login_after(raw, &image, names.as_ref());
        let Some(process) = self.processes.get_mut(raw.key()) else { return };
        process.image = Arc::new(image);
        if let Some(found) = login {
            (process.login, process.door, process.entered) = (found.login, found.door, found.entered);
        }
        process.comm = raw.comm().into();
        process.cwd = raw.text(body.cwd).into();
        process.cred = cred;
        process.threads_differ = false;
        process.cred_ns = 0;
        if let Some(names) = names {
            process.names = names;
        }
        process.tty = body.tty;
        process.sid = body.sid;
        process.pgid = body.pgid;
        process.vpid = body.vpid;
        process.vpgid = body.vpgid;
        process.ns = Namespaces {
            mnt: body.ns_mnt,
            pid: body.ns_pid,
            net: body.ns_net,
            user: body.ns_user,
            uts: body.ns_uts,
            ipc: body.ns_ipc,
            cgroup: body.ns_cgroup,
        };
        process.cgroup_id = raw.header.cgroup;
        process.exec_ns = raw.header.time;
        process.inferred = false;
        // The parent by fork stays the parent: one that ended is still the one that did it. Only where no fork was
        // seen does the kernel's present parent stand in.
        if process.parent.is_none() && body.ppid != 0 {
            process.parent = Some(ProcKey { start_ns: body.parent_start, pid: body.ppid });
        }
        process.rebuild_cmdline();
    }

    /// Books what was missed of a cgroup; `None`: of one that is not known.
    pub fn missed(&mut self, cgroup: Option<u64>, missing: &[Missing]) {
        if let Some(cgroup) = cgroup
            && !self.reliving
        {
            // Everything that a container did may have been missed, so that no event told of it.
            self.membership.place(cgroup, None);
        }
        // Behind the place, which a replay must know first.
        self.membership.journal.note(|| Context::Missed { cgroup, missing: missing.to_vec() });
        let (version, membership) = (self.membership.version(), &self.membership);
        self.ledger.missed(cgroup, missing, version, || membership.container(cgroup?));
    }

    /// The coverage ledger.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The same, to end its minutes.
    pub fn ledger_mut(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// Containers known and not gone.
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        self.membership.containers()
    }

    /// The container that a cgroup belongs to, if that is known.
    pub fn container_of(&self, cgroup: u64) -> Option<&Container> {
        self.membership.container(cgroup)
    }

    /// Processes known.
    pub fn processes(&self) -> &ProcessTable {
        &self.processes
    }

    /// Counters.
    pub fn counts(&self) -> WorldCounts {
        WorldCounts {
            processes: self.processes.len(),
            inferred: self.inferred,
            evicted: self.processes.evicted(),
            membership: self.membership.counts(),
            known_names: self.known_names.len(),
            names_evicted: self.known_names.evicted(),
        }
    }

    /// Tables that grow with what containers do: name; entries, most entries, and how many made room.
    pub fn tables(&self) -> Vec<(&'static str, (u64, u64, u64))> {
        let (accounts, evicted) = self.ledger.size();
        let missed = &self.looks.suspects;
        let row = |entries: usize, capacity: usize, evicted: u64| (entries as u64, capacity as u64, evicted);
        let mut tables = vec![
            ("processes", row(self.processes.len(), self.options.max_processes, self.processes.evicted())),
            ("user_lists", row(self.container_users.len(), MAX_USER_LISTS, self.user_lists_evicted)),
            ("address_names", row(self.known_names.len(), KnownNames::CAPACITY, self.known_names.evicted())),
            ("listeners", row(self.listeners.len(), listeners::MAX, self.listeners.evicted())),
            ("missed_listeners", row(missed.len(), listeners::suspects::MAX, missed.evicted())),
            ("ledger_accounts", row(accounts, crate::ledger::MAX_ACCOUNTS, evicted)),
        ];
        tables.extend(self.membership.tables());
        tables
    }

    /// A container by its id.
    pub fn container(&self, id: &str) -> Option<&Container> {
        self.membership.by_id(id)
    }

    /// Looks for changes of the host's user list, now and then; `now_ns` is the boot time.
    pub fn refresh_users(&mut self, now_ns: u64) {
        self.host_users.refresh(now_ns);
    }
}

/// Whether a process ended so long ago that a new segment of a recording would not tell it.
fn is_forgotten(process: &Process, now_ns: u64) -> bool {
    process.exit_ns.is_some_and(|exit_ns| exit_ns.saturating_add(LATE_NS) <= now_ns)
}

/// Path of the script that was executed, made absolute; empty if the executable is no interpreter of one.
fn script(raw: &Raw<'_>, body: &ExecBody) -> Vec<u8> {
    let (given, interpreter) = (raw.text(body.filename), raw.text(body.interp));
    if interpreter.is_empty() || interpreter == given {
        return Vec::new();
    }
    let base = if given.starts_with(b"/") { b"" } else { raw.text(body.cwd) };
    let mut path: Vec<&[u8]> = Vec::new();
    for part in base.split(|byte| *byte == b'/').chain(given.split(|byte| *byte == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => drop(path.pop()),
            part => path.push(part),
        }
    }
    [b"/", path.join(&b'/').as_slice()].concat()
}

fn unknown_process() -> &'static Process {
    static UNKNOWN: std::sync::OnceLock<Process> = std::sync::OnceLock::new();
    UNKNOWN.get_or_init(Process::default)
}
