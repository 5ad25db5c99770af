//! Reads what runtimes leave on disk of each container ([`layout`]): names within microseconds, without asking anybody,
//! also of a container that is gone before a daemon would have answered.
//!
//! One thread watches the folders. A runtime writes a container's bundle before its first process runs, so it is read by
//! the time that the first event comes; what is not there yet is looked at again every other millisecond.
//!
//! **Never:** a block of the pipeline, a panic on nonsense in a file, an unbounded read or table.

mod file;
mod layout;

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

use crate::runtime::{RuntimeUpdate, is_id};
use crate::watcher::UPDATE_QUEUE;
use file::Found;
use layout::Layout;

/// Where runtimes keep their state unless told otherwise: containerd, runc, crun, podman and CRI-O (two), Docker.
pub const DEFAULT_FOLDERS: [&str; 6] = [
    "/run/containerd",
    "/run/runc",
    "/run/crun",
    "/var/lib/containers/storage",
    "/run/containers/storage",
    "/var/lib/docker",
];

/// How many questions may wait.
const REQUEST_QUEUE: usize = 1_024;
/// How often something half written is looked at again.
const AGAIN: Duration = Duration::from_millis(2);
/// For how long.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most things looked at again at a time; beyond, what is half written counts as not there.
const MAX_HALF: usize = 1_024;
/// How often folders are looked for that were not there, or that could not be watched.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Most folders watched.
const MAX_WATCHES: usize = 512;
/// Most containers told of and not gone.
const MAX_TOLD: usize = 16_384;
/// Most components of a cgroup's path that are taken for the name of a container.
const MAX_DEPTH: usize = 16;

/// How long a container that was seen to be run has until its runtime holds it.
const HELD_AFTER: Duration = Duration::from_secs(2);
/// Most of those looked after at a time.
const MAX_ANNOUNCED: usize = 4_096;

/// Somebody was seen to run a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Id of the container.
    pub id: String,
    /// Name of the program: `runc` or `crun`.
    pub runtime: &'static str,
    /// The bundle.
    pub bundle: PathBuf,
    /// Folder in which the program keeps its state.
    pub root: PathBuf,
}

/// A question.
#[derive(Debug)]
enum Ask {
    /// What is this?
    Bundle(Announced),
    /// What is known of the container with this id?
    Id(String),
    /// Is the cgroup at this path that of a container?
    Cgroup { cgroup: u64, path: String },
}

/// Handle of the reading thread. Dropping it stops the thread and waits for it: milliseconds.
#[derive(Debug)]
pub struct BundleReader {
    asks: SyncSender<Ask>,
    bell: Arc<OwnedFd>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl BundleReader {
    /// Starts the thread; the containers that are there follow as updates. `mount` is where the unified hierarchy is
    /// mounted.
    ///
    /// # Errors
    /// When the system refuses a thread or a descriptor.
    pub fn start(folders: Vec<PathBuf>, mount: Option<PathBuf>) -> io::Result<(Self, Receiver<RuntimeUpdate>)> {
        let (update, updates) = sync_channel(UPDATE_QUEUE);
        let (asks, asked) = sync_channel(REQUEST_QUEUE);
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let stop = Arc::new(AtomicBool::new(false));
        let reader = Reader {
            roots: folders,
            mount,
            // Without it new containers are found when they are asked for.
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok(),
            watches: HashMap::new(),
            folders: Vec::new(),
            half: Vec::new(),
            told: HashMap::new(),
            announced: Vec::new(),
            update,
            asked,
            bell: Arc::clone(&bell),
            stop: Arc::clone(&stop),
        };
        let thread = std::thread::Builder::new().name("bundles".into()).spawn(move || {
            let _closed = reader.run();
        })?;
        Ok((Self { asks, bell, stop, thread: Some(thread) }, updates))
    }

    /// Asks for a container; [`RuntimeUpdate::NoMore`] ends the answer. Never waits. False if it was not taken.
    pub fn request(&self, id: &str) -> bool {
        is_id(id) && self.ask(Ask::Id(id.to_owned()))
    }

    /// Asks whether the cgroup at this path of the unified hierarchy is a container's; [`RuntimeUpdate::Looked`] ends
    /// the answer. Never waits. False if it was not taken.
    pub fn look(&self, cgroup: u64, path: &str) -> bool {
        self.ask(Ask::Cgroup { cgroup, path: path.to_owned() })
    }

    /// Tells that somebody runs a bundle: it is read before it can be gone. [`RuntimeUpdate::NoMore`] ends the answer.
    /// Never waits. False if it was not taken.
    pub fn announce(&self, announced: Announced) -> bool {
        is_id(&announced.id) && self.ask(Ask::Bundle(announced))
    }

    fn ask(&self, ask: Ask) -> bool {
        let taken = self.asks.try_send(ask).is_ok();
        // A bell that cannot ring rings already.
        let _ = rustix::io::write(&*self.bell, &1u64.to_ne_bytes());
        taken
    }
}

impl Drop for BundleReader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = rustix::io::write(&*self.bell, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            // A panic in there was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// Nobody listens any more.
struct Closed;

/// Something to look at again.
struct Half {
    what: Wanted,
    until: Instant,
}

enum Wanted {
    /// Something of this container is in this folder.
    Container { folder: PathBuf, layout: Layout, id: String },
    /// Whose cgroup is it?
    Cgroup { cgroup: u64, path: String },
}

struct Reader {
    roots: Vec<PathBuf>,
    mount: Option<PathBuf>,
    inotify: Option<OwnedFd>,
    /// Folders by the number of their watch.
    watches: HashMap<i32, PathBuf>,
    /// Folders that hold containers.
    folders: Vec<(PathBuf, Layout)>,
    half: Vec<Half>,
    /// In which folder a container is.
    told: HashMap<String, PathBuf>,
    /// Where the state of a container is or was to be, and when to look.
    announced: Vec<(String, PathBuf, Instant)>,
    update: SyncSender<RuntimeUpdate>,
    asked: Receiver<Ask>,
    bell: Arc<OwnedFd>,
    stop: Arc<AtomicBool>,
}

impl Reader {
    fn run(mut self) -> Result<(), Closed> {
        self.look_around()?;
        self.send(RuntimeUpdate::Available { version: self.describe() })?;
        let mut looked = Instant::now();
        loop {
            self.wait();
            if self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let changed = self.changes()?;
            let mut drained = [0; 8];
            let _ = rustix::io::read(&*self.bell, &mut drained);
            while let Ok(ask) = self.asked.try_recv() {
                self.answer(ask)?;
            }
            self.look_again()?;
            self.look_after_announced()?;
            if changed || looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                self.look_around()?;
            }
        }
    }

    /// Which folders there are.
    fn describe(&self) -> String {
        let there: Vec<String> =
            self.roots.iter().filter(|root| root.is_dir()).map(|root| root.display().to_string()).collect();
        if there.is_empty() { "no folder of a runtime".into() } else { there.join(", ") }
    }

    fn wait(&self) {
        let patience = if self.half.is_empty() { LOOK_EVERY } else { AGAIN };
        let timeout = Timespec::try_from(patience).ok();
        let mut fds = vec![PollFd::new(&*self.bell, PollFlags::IN)];
        fds.extend(self.inotify.as_ref().map(|inotify| PollFd::new(inotify, PollFlags::IN)));
        if poll(&mut fds, timeout.as_ref()).is_err() {
            // Interrupted; or something that will not get better by itself.
            std::thread::sleep(AGAIN);
        }
    }

    /// Finds folders that hold containers and were not known, watches them, and reads what is in them.
    fn look_around(&mut self) -> Result<(), Closed> {
        for root in self.roots.clone() {
            if !root.is_dir() {
                // It will appear in what there is of its path.
                if let Some(parent) = root.ancestors().skip(1).find(|parent| parent.is_dir()) {
                    self.watch(parent);
                }
                continue;
            }
            for parent in layout::parents(&root) {
                self.watch(&parent);
            }
            for (folder, layout) in layout::folders(&root) {
                let known = self.folders.iter().any(|(known, _)| *known == folder);
                if !known && self.folders.len() >= MAX_WATCHES {
                    continue;
                }
                // One that was removed and made again is known, but has lost its watch.
                let watched = self.watch(&folder);
                if !known {
                    self.folders.push((folder.clone(), layout));
                }
                if watched || !known {
                    self.read_all(&folder, layout)?;
                }
            }
        }
        self.folders.retain(|(folder, _)| folder.is_dir());
        Ok(())
    }

    fn read_all(&mut self, folder: &Path, layout: Layout) -> Result<(), Closed> {
        for name in file::folders(folder, MAX_TOLD) {
            if let Some(id) = name.to_str().filter(|id| is_id(id) && !self.told.contains_key(*id))
                && layout::holds(folder, layout, id)
            {
                self.read(folder, layout, id)?;
            }
        }
        Ok(())
    }

    /// Watches a folder. True if it was not watched before.
    fn watch(&mut self, folder: &Path) -> bool {
        let Some(inotify) = &self.inotify else { return false };
        if self.watches.len() >= MAX_WATCHES || self.watches.values().any(|known| known == folder) {
            return false;
        }
        let what = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE | WatchFlags::MOVED_FROM;
        let Ok(number) = inotify::add_watch(inotify, folder, what | WatchFlags::ONLYDIR) else { return false };
        self.watches.insert(number, folder.to_owned());
        true
    }

    /// Takes what changed in the folders. True if there may be folders that are not known.
    fn changes(&mut self) -> Result<bool, Closed> {
        let mut changes = Vec::new();
        let mut overflow = false;
        if let Some(inotify) = &self.inotify {
            let mut buffer = [MaybeUninit::uninit(); 16 << 10];
            let mut reader = inotify::Reader::new(inotify, &mut buffer);
            while let Ok(event) = reader.next() {
                overflow |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                if event.events().contains(ReadFlags::IGNORED) {
                    self.watches.remove(&event.wd());
                } else if let Some(folder) = self.watches.get(&event.wd())
                    && event.events().contains(ReadFlags::ISDIR)
                    && let Some(name) = event.file_name().and_then(|name| name.to_str().ok())
                {
                    let gone = event.events().intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM);
                    changes.push((folder.clone(), name.to_owned(), gone));
                }
                if changes.len() >= MAX_TOLD {
                    break;
                }
            }
        }
        if overflow {
            // Something was missed: everything counts as new, and what is not there any more is gone.
            self.folders.clear();
            let gone: Vec<String> =
                self.told.extract_if(|id, folder| !folder.join(id).exists()).map(|(id, _)| id).collect();
            for id in gone {
                self.send(RuntimeUpdate::Gone(id))?;
            }
        }
        let mut unknown = overflow;
        for (folder, name, gone) in changes {
            let layout = self.folders.iter().find(|(known, _)| *known == folder).map(|(_, layout)| *layout);
            match layout {
                Some(_) if gone => {
                    if self.told.get(&name) == Some(&folder) {
                        self.told.remove(&name);
                        self.send(RuntimeUpdate::Gone(name))?;
                    }
                }
                Some(layout) if is_id(&name) => {
                    self.read(&folder, layout, &name)?;
                    // A root holds other folders too.
                    unknown |= layout == Layout::State;
                }
                _ => unknown |= !gone,
            }
        }
        Ok(unknown)
    }

    fn answer(&mut self, ask: Ask) -> Result<(), Closed> {
        match ask {
            Ask::Bundle(Announced { id, runtime, bundle, root }) => match layout::announced(&bundle, &id, runtime) {
                Found::Whole(read) if self.told.contains_key(&id) => self.send_all(read),
                Found::Whole(read) => {
                    if self.announced.len() < MAX_ANNOUNCED {
                        self.announced.push((id, root, Instant::now() + HELD_AFTER));
                    }
                    self.send_all(read)
                }
                Found::Half | Found::Nothing => self.send(RuntimeUpdate::NoMore(id)),
            },
            Ask::Id(id) => {
                let holding = self.folders.iter().find(|(folder, layout)| layout::holds(folder, *layout, &id)).cloned();
                match holding {
                    Some((folder, layout)) => self.read(&folder, layout, &id),
                    None => self.send(RuntimeUpdate::NoMore(id)),
                }
            }
            Ask::Cgroup { cgroup, path } => {
                if self.find(&path)? && self.half.len() < MAX_HALF {
                    self.half.push(Half { what: Wanted::Cgroup { cgroup, path }, until: Instant::now() + PATIENCE });
                    return Ok(());
                }
                self.send(RuntimeUpdate::Looked { cgroup })
            }
        }
    }

    /// Looks for the container of a cgroup by the names on its path. True if it is worth to look again.
    fn find(&mut self, path: &str) -> Result<bool, Closed> {
        let mut half = false;
        for (end, _) in path.match_indices('/').skip(1).chain([(path.len(), "/")]).take(MAX_DEPTH) {
            let prefix = &path[..end];
            let name = prefix.rsplit('/').next().unwrap_or_default();
            let stem = name.strip_suffix(".scope").unwrap_or(name);
            let suffixes = stem.match_indices('-').map(|(at, _)| &stem[at + 1..]).take(8);
            let candidates: Vec<String> =
                [stem].into_iter().chain(suffixes).filter(|id| is_id(id)).map(str::to_owned).collect();
            for id in candidates {
                for (folder, layout) in self.folders.clone() {
                    if !matches!(layout, Layout::State | Layout::Tasks) || !folder.join(&id).is_dir() {
                        continue;
                    }
                    match layout::read(&folder, layout, &id, self.mount.as_deref()) {
                        Found::Whole(read) if read.cgroup.as_deref() == Some(prefix) => {
                            self.tell(&folder, read)?;
                            return Ok(false);
                        }
                        Found::Half => half = true,
                        Found::Whole(_) | Found::Nothing => {}
                    }
                }
            }
        }
        Ok(half)
    }

    /// Reads a container; if somebody is still writing it, again soon.
    fn read(&mut self, folder: &Path, layout: Layout, id: &str) -> Result<(), Closed> {
        match layout::read(folder, layout, id, self.mount.as_deref()) {
            Found::Whole(read) => self.tell(folder, read),
            Found::Half if self.half.len() < MAX_HALF => {
                let is_it = |half: &Half| matches!(&half.what, Wanted::Container { id: known, .. } if known == id);
                if !self.half.iter().any(is_it) {
                    let what = Wanted::Container { folder: folder.to_owned(), layout, id: id.to_owned() };
                    self.half.push(Half { what, until: Instant::now() + PATIENCE });
                }
                Ok(())
            }
            Found::Half | Found::Nothing => self.send(RuntimeUpdate::NoMore(id.to_owned())),
        }
    }

    fn look_again(&mut self) -> Result<(), Closed> {
        for half in std::mem::take(&mut self.half) {
            let over = Instant::now() >= half.until;
            match half.what {
                Wanted::Container { folder, layout, id } => {
                    match layout::read(&folder, layout, &id, self.mount.as_deref()) {
                        Found::Whole(read) => self.tell(&folder, read)?,
                        Found::Half if !over => {
                            self.half.push(Half { what: Wanted::Container { folder, layout, id }, until: half.until });
                        }
                        Found::Half | Found::Nothing => self.send(RuntimeUpdate::NoMore(id))?,
                    }
                }
                Wanted::Cgroup { cgroup, path } => {
                    if self.find(&path)? && !over {
                        self.half.push(Half { what: Wanted::Cgroup { cgroup, path }, until: half.until });
                    } else {
                        self.send(RuntimeUpdate::Looked { cgroup })?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What was seen to be run is gone when its runtime does not hold it.
    fn look_after_announced(&mut self) -> Result<(), Closed> {
        let now = Instant::now();
        for (id, root, at) in std::mem::take(&mut self.announced) {
            if now < at {
                self.announced.push((id, root, at));
            } else if root.join(&id).is_dir() {
                self.announced.push((id, root, now + HELD_AFTER));
            } else if !self.told.contains_key(&id) {
                self.send(RuntimeUpdate::Gone(id))?;
            }
        }
        Ok(())
    }

    fn tell(&mut self, folder: &Path, read: layout::Read) -> Result<(), Closed> {
        if self.told.len() < MAX_TOLD {
            self.told.insert(read.container.id.clone(), folder.to_owned());
        }
        self.send_all(read)
    }

    fn send_all(&self, read: layout::Read) -> Result<(), Closed> {
        let id = read.container.id.clone();
        if let Some(path) = read.cgroup {
            self.send(RuntimeUpdate::Path { path, id: id.clone() })?;
        }
        self.send(RuntimeUpdate::Container(Box::new(read.container)))?;
        self.send(RuntimeUpdate::NoMore(id))
    }

    /// Hands over one update; waits while the queue is full.
    fn send(&self, update: RuntimeUpdate) -> Result<(), Closed> {
        let mut update = update;
        loop {
            match self.update.try_send(update) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(_)) => return Err(Closed),
                Err(TrySendError::Full(back)) => update = back,
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(Closed);
            }
            std::thread::sleep(AGAIN);
        }
    }
}

#[cfg(test)]
mod tests;
