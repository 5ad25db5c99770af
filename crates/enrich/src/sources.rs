//! Everybody who is asked about containers: runtimes through their sockets, and what they leave on disk.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use crate::bundle::{Announced, BundleReader};
use crate::runtime::RuntimeUpdate;
use crate::watcher::{Api, RuntimeWatcher};

/// Most updates taken from one source before the others have their turn, and the pipeline goes on.
const TURN: usize = 1_024;

/// Who is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeOptions {
    /// Socket of Docker Engine.
    pub docker: Option<PathBuf>,
    /// Socket of podman's service.
    pub podman: Option<PathBuf>,
    /// Socket of containerd.
    pub containerd: Option<PathBuf>,
    /// Socket of another runtime of Kubernetes, such as CRI-O.
    pub cri: Option<PathBuf>,
    /// Folders in which runtimes leave their state; empty: none is read.
    pub folders: Vec<PathBuf>,
}

impl RuntimeOptions {
    /// Where the runtimes are usually. Podman's service is left out: it would be started by being asked, and its files
    /// say nearly as much.
    pub fn usual() -> Self {
        Self {
            docker: Some(crate::docker::DEFAULT_SOCKET.into()),
            podman: None,
            containerd: Some("/run/containerd/containerd.sock".into()),
            cri: Some("/run/crio/crio.sock".into()),
            folders: crate::bundle::DEFAULT_FOLDERS.map(PathBuf::from).to_vec(),
        }
    }
}

/// How one of them is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeState {
    /// Which: `docker`, `podman`, `containerd`, `cri`, or `files` for what lies on disk.
    pub name: &'static str,
    /// Whether it answers.
    pub up: bool,
    /// Nothing is where it would listen, and never was: it is not installed.
    pub absent: bool,
    /// Its version, or why it does not answer.
    pub says: String,
}

/// One bit for each source.
pub(crate) type Mask = u8;

enum Handle {
    Watcher(RuntimeWatcher),
    Reader(BundleReader),
}

struct Source {
    handle: Handle,
    updates: Receiver<RuntimeUpdate>,
    state: RuntimeState,
    /// It said something of itself.
    met: bool,
    /// Its socket is where such sockets usually are: if nothing is there, it is not installed, which is no fault.
    usual: bool,
}

/// All sources.
#[derive(Default)]
pub(crate) struct Sources {
    all: Vec<Source>,
}

impl Sources {
    /// Starts to ask.
    pub fn start(options: &RuntimeOptions) -> io::Result<Self> {
        let mut all = Vec::new();
        let usual = RuntimeOptions::usual();
        let sockets = [
            ("docker", Api::Docker, &options.docker, usual.docker),
            ("podman", Api::Docker, &options.podman, usual.podman),
            ("containerd", Api::Containerd, &options.containerd, usual.containerd),
            ("cri", Api::Cri, &options.cri, usual.cri),
        ];
        for (name, api, socket, usual) in sockets {
            let Some(socket) = socket else { continue };
            let (watcher, updates) = RuntimeWatcher::start(api, socket.clone())?;
            let usual = usual.as_ref() == Some(socket);
            all.push(Source { usual, ..Source::new(name, Handle::Watcher(watcher), updates) });
        }
        if !options.folders.is_empty() {
            let mount = crate::cgroup::find_mount(std::path::Path::new("/proc"));
            let (reader, updates) = BundleReader::start(options.folders.clone(), mount)?;
            all.push(Source::new("files", Handle::Reader(reader), updates));
        }
        Ok(Self { all })
    }

    /// How each is.
    pub fn states(&self) -> impl Iterator<Item = &RuntimeState> {
        self.all.iter().map(|source| &source.state)
    }

    /// Whether any answers.
    pub fn any_up(&self) -> bool {
        self.all.iter().any(|source| source.state.up)
    }

    /// Takes what was said since the last call: by whom, and what.
    pub fn take(&self) -> Vec<(usize, RuntimeUpdate)> {
        let each = self.all.iter().enumerate();
        each.flat_map(|(at, source)| source.updates.try_iter().take(TURN).map(move |update| (at, update))).collect()
    }

    /// Waits until each said something of itself, and takes all that was said meanwhile.
    pub fn meet(&self, patience: Duration) -> Vec<(usize, RuntimeUpdate)> {
        let deadline = Instant::now() + patience;
        let mut taken = Vec::new();
        for (at, source) in self.all.iter().enumerate().filter(|(_, source)| !source.met) {
            let left = || deadline.saturating_duration_since(Instant::now());
            while let Ok(update) = source.updates.recv_timeout(left()) {
                let of_itself = is_of_itself(&update);
                taken.push((at, update));
                if of_itself || taken.len() >= TURN * self.all.len() {
                    break;
                }
            }
        }
        taken
    }

    /// Notes what a source says of itself. The state is given back if it changed.
    pub fn note(&mut self, at: usize, update: &RuntimeUpdate) -> Option<RuntimeState> {
        let source = self.all.get_mut(at)?;
        let was_up = source.state.up;
        let (up, absent, says) = match update {
            RuntimeUpdate::Available { version } => (true, false, version),
            RuntimeUpdate::Unavailable(reason) => (false, false, reason),
            RuntimeUpdate::Absent(reason) => (false, source.usual && !was_up, reason),
            _ => return None,
        };
        source.met = true;
        (source.state.up, source.state.absent, source.state.says) = (up, absent, says.clone());
        Some(source.state.clone())
    }

    /// Asks everybody who answers about a container, but for `except`. Gives those who took the question.
    pub fn ask(&self, id: &str, except: Option<usize>) -> Mask {
        let others = (0..self.all.len()).filter(|at| Some(*at) != except);
        others.fold(0, |asked, at| asked | self.ask_one(at, id))
    }

    /// Asks one of them, if it answers.
    pub fn ask_one(&self, at: usize, id: &str) -> Mask {
        let Some(source) = self.all.get(at).filter(|source| source.state.up) else { return 0 };
        let taken = match &source.handle {
            Handle::Watcher(watcher) => watcher.request(id),
            Handle::Reader(reader) => reader.request(id),
        };
        if taken { 1 << at } else { 0 }
    }

    /// Asks whose the cgroup at this path is. False if there is nobody to ask.
    pub fn look(&self, cgroup: u64, path: &str) -> bool {
        self.all.iter().any(|source| match &source.handle {
            Handle::Reader(reader) => source.state.up && reader.look(cgroup, path),
            Handle::Watcher(_) => false,
        })
    }

    /// Has a bundle read that somebody was seen to run. Gives who took it.
    pub fn announce(&self, announced: &Announced) -> Mask {
        let taken = self.all.iter().position(|source| match &source.handle {
            Handle::Reader(reader) => source.state.up && reader.announce(announced.clone()),
            Handle::Watcher(_) => false,
        });
        taken.map_or(0, |at| 1 << at)
    }

    /// Whether the source reads files.
    pub fn reads_files(&self, at: usize) -> bool {
        matches!(self.all.get(at).map(|source| &source.handle), Some(Handle::Reader(_)))
    }
}

impl Source {
    fn new(name: &'static str, handle: Handle, updates: Receiver<RuntimeUpdate>) -> Self {
        let state = RuntimeState { name, says: "no answer yet".into(), ..RuntimeState::default() };
        Self { handle, updates, state, met: false, usual: false }
    }
}

fn is_of_itself(update: &RuntimeUpdate) -> bool {
    matches!(update, RuntimeUpdate::Available { .. } | RuntimeUpdate::Unavailable(_) | RuntimeUpdate::Absent(_))
}
