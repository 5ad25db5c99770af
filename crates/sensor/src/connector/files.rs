//! Files, where eBPF is refused: fanotify tells which process opened a file, and which closed one that it had opened to
//! write. Needs CAP_SYS_ADMIN beside what the connector needs.
//!
//! The kernel is only listened to: nobody waits for an answer. How a file was opened it does not say, so that an open is
//! told as one for reading, at once, and one for writing when the file is closed. Nor does it say when: before a file is
//! told of, everything that the connector has said is taken, so that it belongs to the program that opened it.

use std::collections::VecDeque;
use std::fs::File;
use std::hash::BuildHasher as _;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hashbrown::HashMap;
use nix::errno::Errno;
use nix::sys::fanotify::{EventFFlags, Fanotify, FanotifyEvent, InitFlags, MarkFlags, MaskFlags};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::OFlags;
use tw_model::coverage::Miss;
use tw_model::event::EventKind;

use super::Shared;
use super::ears::{Ears, Place};
use super::mounts::{Group, Mounts};
use crate::clock;
use crate::ebpf::SensorError;
use crate::facts::{self, Node};

/// From so many on, opens for reading are not sampled any more but given up: to hear of each and pass it over costs too
/// much.
const GIVEN_UP: u32 = 256;
/// How long a namespace that was looked at a moment ago waits to be looked at again.
const SOON: Duration = Duration::from_millis(250);
/// How often the kernel is asked in a row; each time it tells of some hundred files.
const READS: usize = 16;
/// Files that were told last, among which one that was opened through another layer is looked for, and within which time.
const RECENT: usize = 32;
const RECENT_NS: u64 = 20_000_000;

/// A file that a process opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) pid: u32,
    /// `O_RDONLY`, `O_WRONLY`, or `O_RDWR`, as far as that is known.
    pub(super) flags: u32,
    pub(super) path: Vec<u8>,
    pub(super) node: Node,
    /// When that was heard, boot time.
    pub(super) time: u64,
}

/// What fanotify told.
#[derive(Debug)]
pub(super) enum Heard {
    /// A file was opened, or one that had been opened to write was closed.
    Opened(Opened),
    /// A process opened a program to execute it.
    Begun(u32),
}

/// The right to hear of files, taken while that is still allowed. Nothing is told before the sensor starts.
pub struct FileWatch(Fanotify);

impl FileWatch {
    /// Opens it, after a try on the root directory with one that goes at once: nothing piles up before the start.
    ///
    /// # Errors
    /// [`SensorError::NoFiles`] without CAP_SYS_ADMIN, or on a kernel without fanotify.
    pub fn open() -> Result<Self, SensorError> {
        let whole = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_FILESYSTEM;
        let tried = group().and_then(|tried| tried.mark(whole, MaskFlags::FAN_CLOSE_WRITE, rustix::fs::CWD, Some("/")));
        let watch = tried.and_then(|()| Ok(Self(group()?)));
        watch.map_err(|error| SensorError::NoFiles(io::Error::from(error).to_string()))
    }
}

fn group() -> nix::Result<Fanotify> {
    let flags = InitFlags::FAN_CLASS_NOTIF | InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK;
    // Nobody's times of access change, and no pipe holds anybody up.
    let how = EventFFlags::O_RDONLY
        | EventFFlags::O_LARGEFILE
        | EventFFlags::O_CLOEXEC
        | EventFFlags::O_NONBLOCK
        | EventFFlags::O_NOATIME;
    Fanotify::init(flags, how)
}

/// The thread that hears of files.
pub(super) struct Listener {
    group: Fanotify,
    /// Whether opens are asked for, or only what was written.
    opens: bool,
    ears: Arc<Mutex<Ears>>,
    shared: Arc<Shared>,
    bell: Arc<OwnedFd>,
    mounts: Mounts,
    /// Whose mounts are the host's: the first process's, or else our own.
    host: u32,
    own: u32,
    /// Opens for reading so far, to take every so manyth of.
    passed: u32,
    /// Process, flags, path and device of what was told last, and when.
    recent: VecDeque<(u32, u32, u64, u32, u64)>,
    hasher: foldhash::fast::RandomState,
}

/// What wakes the listener.
pub(super) fn bell() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

impl Listener {
    /// Marks everything that there is, and starts the thread.
    pub(super) fn start(
        watch: FileWatch,
        ears: Arc<Mutex<Ears>>,
        shared: Arc<Shared>,
        bell: Arc<OwnedFd>,
    ) -> io::Result<()> {
        let own = std::process::id();
        // Some hosts let nobody look at their first process.
        let host = if facts::open_inside(1, b"/", b"", OFlags::PATH).is_some() { 1 } else { own };
        let table = File::open(format!("/proc/{host}/mountinfo"))?;
        let mut listener = Self {
            group: watch.0,
            opens: true,
            ears,
            shared,
            bell,
            mounts: Mounts::default(),
            host,
            own,
            passed: 0,
            recent: VecDeque::with_capacity(RECENT),
            hasher: foldhash::fast::RandomState::default(),
        };
        listener.mark_all();
        std::thread::Builder::new().name("fanotify".into()).spawn(move || listener.run(&table))?;
        Ok(())
    }

    fn run(&mut self, table: &File) {
        let mut waiting = HashMap::<Place, u32, foldhash::fast::RandomState>::default();
        loop {
            let soon = Timespec { tv_sec: 0, tv_nsec: i64::from(SOON.subsec_nanos()) };
            let patience = if waiting.is_empty() { None } else { Some(&soon) };
            let mut asked = [
                PollFd::new(&*self.bell, PollFlags::IN),
                PollFd::new(table, PollFlags::PRI),
                PollFd::new(&self.group, PollFlags::IN),
            ];
            let _ = poll(&mut asked, patience);
            let [rung, mounted, _] = asked.map(|asked| !asked.revents().is_empty());
            self.shared.busy_since.store(clock::boot_ns(), Ordering::Relaxed);
            if self.shared.ended.load(Ordering::Relaxed) {
                return;
            }
            if rung {
                let _ = rustix::io::read(&*self.bell, &mut [0; 8]);
                self.give_up_or_take_back();
            }
            if mounted {
                self.with_mounts(|mounts, host, group| mounts.host(host, group));
            }
            waiting.extend(super::locked(&self.ears).arrivals());
            if !waiting.is_empty() {
                let places = std::mem::take(&mut waiting);
                self.with_mounts(|mounts, _, group| {
                    waiting.extend(places.into_iter().filter(|(place, pid)| !mounts.place(*pid, *place, group)));
                });
            }
            let goes_on = self.hear();
            self.shared.left_out.store(self.mounts.left_out(), Ordering::Relaxed);
            self.shared.busy_since.store(0, Ordering::Relaxed);
            if !goes_on {
                return;
            }
        }
    }

    fn with_mounts(&mut self, look: impl FnOnce(&mut Mounts, u32, &Group<'_>)) {
        // Of an execution the kernel opens the file, too, and says so to who asks: what comes before it is of the program
        // before.
        let mask = MaskFlags::FAN_CLOSE_WRITE | MaskFlags::FAN_OPEN_EXEC;
        let mask = if self.opens { mask | MaskFlags::FAN_OPEN } else { mask };
        look(&mut self.mounts, self.host, &Group { group: &self.group, mask });
    }

    /// Marks the mounts of the host and of every namespace in which a process runs.
    fn mark_all(&mut self) {
        let home = [self.host, self.own].map(|pid| facts::namespace(pid, "mnt"));
        let processes = std::fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| {
            let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            Some((facts::namespace(pid, "mnt")?, pid))
        });
        let others: HashMap<u32, u32> = processes.filter(|(mounts, _)| !home.contains(&Some(*mounts))).collect();
        let places: Vec<(Place, u32)> = {
            let mut ears = super::locked(&self.ears);
            ears.home(home);
            others.into_iter().map(|(mounts, pid)| ((mounts, ears.people.cgroup_of(pid)), pid)).collect()
        };
        self.with_mounts(|mounts, host, group| {
            mounts.forget();
            mounts.host(host, group);
            for (place, pid) in places {
                mounts.place(pid, place, group);
            }
        });
    }

    /// Over the budget of CPU nothing is asked any more of opens for reading. The marks are changed where they are, so that
    /// writes are told all the while.
    fn give_up_or_take_back(&mut self) {
        let opens = self.shared.read_opens.load(Ordering::Relaxed) < GIVEN_UP;
        if opens != self.opens {
            self.opens = opens;
            self.mark_all();
            self.shared.reads_given_up.store(!opens, Ordering::Relaxed);
        }
    }

    /// Takes what there is, some thousand at most, after the connector was listened to: no program that began to be executed
    /// is overlooked. False if nobody takes records any more.
    fn hear(&mut self) -> bool {
        let (mut heard, mut left_out) = (Vec::new(), Vec::new());
        for _ in 0..READS {
            match self.group.read_events() {
                Ok(events) if events.is_empty() => break,
                Ok(events) => events.iter().for_each(|event| self.take(event, &mut heard, &mut left_out)),
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                // The file cannot be opened for us: gone on another host, or a security module forbids it.
                Err(_) => self.shared.lose(EventKind::Openat, None, Miss::NoBuffer, 1),
            }
        }
        let mut ears = super::locked(&self.ears);
        if !ears.listen(None) {
            return false;
        }
        for pid in left_out {
            let cgroup = ears.people.cgroup_of(pid);
            self.shared.lose(EventKind::Openat, Some(cgroup), Miss::Sampled, 1);
        }
        ears.tell(heard)
    }

    /// Takes one event; its descriptor is closed afterwards.
    fn take(&mut self, event: &FanotifyEvent, heard: &mut Vec<Heard>, left_out: &mut Vec<u32>) {
        let mask = event.mask();
        if mask.contains(MaskFlags::FAN_Q_OVERFLOW) {
            // The kernel does not say how many it could not keep.
            self.shared.lose(EventKind::Openat, None, Miss::RingFull, 1);
            return;
        }
        let Some(pid) = u32::try_from(event.pid()).ok().filter(|pid| *pid != 0 && *pid != self.own) else { return };
        let begun = mask.contains(MaskFlags::FAN_OPEN_EXEC);
        if begun {
            heard.push(Heard::Begun(pid));
        }
        // The connector tells of executions. What was not read yet the kernel adds to: opened and closed are one then.
        let flags = match (mask.contains(MaskFlags::FAN_OPEN) && !begun, mask.contains(MaskFlags::FAN_CLOSE_WRITE)) {
            (false, false) => return,
            (true, false) => libc::O_RDONLY,
            (false, true) => libc::O_WRONLY,
            (true, true) => libc::O_RDWR,
        };
        if flags == libc::O_RDONLY {
            self.passed = self.passed.wrapping_add(1);
            if !self.passed.is_multiple_of(self.shared.read_opens.load(Ordering::Relaxed).max(1)) {
                left_out.push(pid);
                return;
            }
        }
        let Some(fd) = event.fd() else { return };
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let (path, node) = (facts::link(&link), Node::read(&link).unwrap_or_default());
        let file = Opened { pid, flags: flags.cast_unsigned(), path, node, time: clock::boot_ns() };
        if !self.mounts.is_layer(pid, node.mount) && !self.was_told(&file) {
            heard.push(Heard::Opened(file));
        }
    }

    /// Whether the same file was just told as one of another device: of a layer, or of the overlay above it, by a process that
    /// ended before its mounts could be looked at.
    fn was_told(&mut self, file: &Opened) -> bool {
        let path = self.hasher.hash_one(&file.path);
        let same = |(pid, flags, known, device, time): &(u32, u32, u64, u32, u64)| {
            (*pid, *flags, *known) == (file.pid, file.flags, path)
                && *device != file.node.dev
                && file.time.saturating_sub(*time) < RECENT_NS
        };
        if self.recent.iter().any(same) {
            return true;
        }
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((file.pid, file.flags, path, file.node.dev, file.time));
        false
    }
}
