//! The eBPF sensor: loads the kernel half, attaches it, and reads its rings in the order of time.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use libbpf_rs::{Link, MapCore as _, Object, ProgramInput};
use tw_model::coverage::Miss;
use tw_model::event::{EVENTS, EventKind};
use zerocopy::{FromBytes, Immutable, IntoBytes as _, KnownLayout};

use crate::calls::Config;
use crate::health::Health;
use crate::hooks;
use crate::missed::{self, KernelTable, Missed, Missing, Sampling};
use crate::ring::{Next, Ring};

/// The compiled kernel half.
pub(crate) static OBJECT: &[u8] = aligned::OBJECT;

mod aligned {
    /// ELF wants the alignment of its widest member.
    #[repr(align(16))]
    struct Aligned<T: ?Sized>(T);
    static BYTES: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/tidewatch.bpf.o")));
    pub(super) static OBJECT: &[u8] = &BYTES.0;
}

/// Why the sensor cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SensorError {
    /// Not allowed to load eBPF programs.
    #[error("eBPF is not permitted: {0}")]
    NotPermitted(String),
    /// The kernel does not describe its types.
    #[error(
        "the kernel has no type information (/sys/kernel/btf/vmlinux): it must be built with CONFIG_DEBUG_INFO_BTF"
    )]
    NoBtf,
    /// The kernel's memory may not be read, not even by root's programs.
    #[error("eBPF is not permitted: the kernel is locked down for confidentiality (kernel_lockdown(7))")]
    LockedDown,
    /// Loading failed.
    #[error("cannot load the eBPF programs: {0}")]
    Load(String),
    /// The process connector is not to be had.
    #[error("the process connector is not to be had: {0}")]
    NoConnector(String),
    /// Opened files are not to be heard of.
    #[error("fanotify is not to be had: {0}")]
    NoFiles(String),
    /// A ring cannot be mapped.
    #[error("cannot map ring {name}: {error}")]
    Ring {
        /// Which.
        name: &'static str,
        /// Why.
        error: std::io::Error,
    },
}

/// The rings, in the order of [`tw_model::event::Lane`], with their sizes in bytes (bpf/maps.h).
const RINGS: [(&str, usize); 3] = [("ring_life", 4 << 20), ("ring_priv", 1 << 20), ("ring_bulk", 16 << 20)];

/// The lane that gives way.
const BULK: usize = 2;

/// How many records are taken before their room is given back.
const PUBLISH_EVERY: usize = 64;

/// How often the kernel half is asked to tell of flows that go on for long, or of datagrams that stopped.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// Options of the sensor.
#[derive(Clone, Debug)]
pub struct Options {
    /// Privileged calls a second and cgroup that are reported one by one.
    pub privileged_rate: u32,
    /// A flow that goes on is told so often; whole seconds are enough.
    pub flow_told_every: Duration,
    /// Without a datagram for so long, a flow of them is over.
    pub flow_idle_after: Duration,
    /// Whether opens for reading that only say again what was told within a second are counted, not told.
    pub fold_opens: bool,
    /// Hooks that are not to be used, as if the kernel had none of that name: to try what stands in.
    pub without: &'static [&'static str],
}

impl Default for Options {
    fn default() -> Self {
        Self {
            privileged_rate: 1000,
            flow_told_every: Duration::from_secs(60),
            flow_idle_after: Duration::from_secs(30),
            fold_opens: true,
            without: &[],
        }
    }
}

/// Counters of one kind of event, since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Count {
    /// Records written to a ring.
    pub sent: u64,
    /// Events without a record, by reason in the order of [`Miss::ALL`].
    pub missed: [u64; Miss::IN_KERNEL],
}

impl Count {
    /// Number missed for this reason.
    pub fn of(&self, why: Miss) -> u64 {
        self.missed.get(why as usize).copied().unwrap_or(0)
    }

    /// Everything lost.
    pub fn lost(&self) -> u64 {
        self.of(Miss::RingFull) + self.of(Miss::NoBuffer)
    }

    /// Everything that was counted only: over a budget, or the same datagram peer again.
    pub fn folded(&self) -> u64 {
        self.of(Miss::Folded) + self.of(Miss::Repeated)
    }

    fn and(self, other: Self) -> Self {
        let missed = std::array::from_fn(|why| self.missed[why] + other.missed[why]);
        Self { sent: self.sent + other.sent, missed }
    }
}

/// The running sensor. Dropping it detaches everything.
pub struct EbpfSensor {
    rings: [Ring; 3],
    object: Object,
    links: Vec<Link>,
    health: Health,
    swept: Instant,
    missed: Missed,
}

impl EbpfSensor {
    /// Loads and attaches the kernel half. Events flow into the rings from then on.
    ///
    /// # Errors
    /// [`SensorError`] if a hook that everything hangs on cannot be had. A hook that is only good to have is missing
    /// in [`EbpfSensor::health`] instead.
    pub fn start(options: &Options) -> Result<Self, SensorError> {
        hooks::quiet_libbpf();
        let btf = hooks::types_of_the_kernel()?;
        let mut hooks = hooks::look(&btf, options.without)?;
        let object = hooks::load(OBJECT, &btf, &mut hooks, |open, present| {
            let mut config = Config::new(std::process::id(), options, &hooks::stand_ins(present));
            // Ring, request, entry; before, the parts of the entry each by itself.
            config.ring_answers_in_entries(hooks::arguments(&btf, "io_uring_complete") == Some(3));
            for mut map in open.maps_mut().filter(|map| map.name() == ".rodata.config") {
                map.set_initial_value(config.as_bytes()).map_err(|error| SensorError::Load(error.to_string()))?;
            }
            Ok(())
        })?;
        let links = hooks::attach(&object, &mut hooks)?;
        let rings = map_rings(&object)?;
        Ok(Self { rings, object, links, health: Health { hooks }, swept: Instant::now(), missed: Missed::default() })
    }

    /// Whether loading has a chance, found out without attaching anything: the kernel describes its types, and lets us
    /// make a map.
    ///
    /// # Errors
    /// [`SensorError`] says what is in the way.
    pub fn probe() -> Result<(), SensorError> {
        if !std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
            return Err(SensorError::NoBtf);
        }
        if hooks::is_locked_down() {
            return Err(SensorError::LockedDown);
        }
        let options = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
            ..Default::default()
        };
        libbpf_rs::MapHandle::create(libbpf_rs::MapType::RingBuf, Some("tidewatch_probe"), 0, 0, 4096, &options)
            .map(drop)
            .map_err(|error| not_permitted(&error.to_string()))
    }

    /// State of each hook.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Hands every record that is there to `take`, oldest first, and returns how many there were.
    ///
    /// The rings are looked at in the order bulk, privileged, lifecycle: whatever a process did, its fork was written
    /// before, so a fork is never seen later than what follows from it.
    pub fn drain(&mut self, mut take: impl FnMut(&[u8])) -> usize {
        self.drain_giving_way(|bytes, _| take(bytes))
    }

    /// The same for a reader that may be slow: `take` is told whether the record gives way. While the ring of lifecycle
    /// or privileged events is more than half full, those of the bulk lane do: each must be counted and cost nothing
    /// else, so that the reader gets to the others before they are lost.
    pub fn drain_giving_way(&mut self, mut take: impl FnMut(&[u8], bool)) -> usize {
        if self.swept.elapsed() >= SWEEP_EVERY {
            self.swept = Instant::now();
            if let Err(error) = self.sweep() {
                tracing::debug!("flows that go on are not told: {error}");
            }
        }
        // The rings are looked at one after the other. What happened since is left for the next time: else the end of a
        // process could be seen before what it did just before.
        let horizon = crate::clock::boot_ns();
        for ring in self.rings.iter_mut().rev() {
            ring.refresh();
        }
        let mut taken = 0;
        let mut crowded = self.is_crowded();
        loop {
            let mut oldest: Option<(usize, u64)> = None;
            for (i, ring) in self.rings.iter_mut().enumerate() {
                match ring.peek() {
                    Next::Record(bytes) => {
                        let time = time_of(bytes);
                        if time <= horizon && oldest.is_none_or(|(_, known)| time < known) {
                            oldest = Some((i, time));
                        }
                    }
                    // What a half-written fork or exec is about is not known: nothing may overtake it.
                    Next::Busy if i == 0 => {
                        self.publish();
                        return taken;
                    }
                    Next::Busy | Next::Empty => {}
                }
            }
            let Some((i, _)) = oldest else { break };
            if let Next::Record(bytes) = self.rings[i].peek() {
                let len = bytes.len();
                take(bytes, crowded && i == BULK);
                self.rings[i].advance(len);
            }
            taken += 1;
            if taken.is_multiple_of(PUBLISH_EVERY) {
                self.publish();
                // A long drain must notice what comes meanwhile; records that are newer are taken in their turn.
                self.rings[..BULK].iter_mut().for_each(Ring::refresh);
                crowded = self.is_crowded();
            }
        }
        self.publish();
        taken
    }

    /// Has the flows told that are due.
    ///
    /// # Errors
    /// The kernel's, if it does not run the program.
    pub fn sweep(&self) -> Result<(), SensorError> {
        let Some(sweep) = self.object.progs_mut().find(|prog| prog.name() == "sweep_flows") else { return Ok(()) };
        sweep.test_run(ProgramInput::default()).map(drop).map_err(|error| SensorError::Load(error.to_string()))
    }

    /// Whether a ring that must not lose anything is more than half full.
    fn is_crowded(&self) -> bool {
        self.rings[..BULK].iter().zip(RINGS).any(|(ring, (_, size))| ring.pending() > size as u64 / 2)
    }

    fn publish(&self) {
        self.rings.iter().for_each(Ring::publish);
    }

    /// Bytes that wait in each ring, as of the last drain, in the order of the lanes.
    pub fn pending(&self) -> [u64; 3] {
        std::array::from_fn(|i| self.rings[i].pending())
    }

    /// Sizes of the rings in bytes, in the order of the lanes.
    pub fn ring_sizes() -> [usize; 3] {
        RINGS.map(|(_, size)| size)
    }

    /// Counters by kind, summed over all CPUs.
    pub fn counts(&self) -> Vec<(EventKind, Count)> {
        let of = |kind: EventKind| missed::percpu(&self.object, "counts", kind as u32, Count::and);
        EVENTS.iter().filter(|info| info.kind.is_from_kernel()).map(|info| (info.kind, of(info.kind))).collect()
    }

    /// Tells what the kernel half missed since the last call, by cgroup (`None`: one of those for which there was no room
    /// in its table). Everything is told once; sums are exact. Costs one call to the kernel if nothing was missed.
    pub fn missed(&mut self, tell: &mut dyn FnMut(Option<u64>, &[Missing])) {
        self.missed.read(&self.object, crate::clock::boot_ns(), tell);
    }

    /// The tables that the kernel half fills by itself.
    pub fn tables(&self) -> Vec<KernelTable> {
        self.missed.tables(&self.object)
    }

    /// Says from now on what only a sample is wanted of. What is left out is counted.
    ///
    /// # Errors
    /// [`SensorError::Load`] if the kernel does not take it.
    pub fn sample(&self, sampling: Sampling) -> Result<(), SensorError> {
        missed::set_sampling(&self.object, sampling)
    }

    /// Number of attached programs.
    pub fn attached(&self) -> usize {
        self.links.len()
    }
}

fn time_of(bytes: &[u8]) -> u64 {
    bytes.get(8..16).and_then(|time| time.try_into().ok()).map_or(0, u64::from_ne_bytes)
}

pub(crate) fn not_permitted(why: &str) -> SensorError {
    SensorError::NotPermitted(why.to_owned())
}

fn map_rings(object: &Object) -> Result<[Ring; 3], SensorError> {
    let mut rings = Vec::with_capacity(RINGS.len());
    for (name, size) in RINGS {
        let Some(map) = object.maps().find(|map| map.name() == name) else {
            return Err(SensorError::Load(format!("map {name} is missing in the object")));
        };
        rings.push(Ring::map(map.as_fd(), size).map_err(|error| SensorError::Ring { name, error })?);
    }
    rings.try_into().map_err(|_| SensorError::Load("wrong number of rings".into()))
}
