//! The eBPF sensor: loads the kernel half, attaches it, and reads its rings in the order of time.

use std::os::fd::AsFd as _;

use libbpf_rs::btf::{Btf, BtfType, ReferencesType as _, types};
use libbpf_rs::{Link, MapCore as _, Object, ObjectBuilder, PrintLevel};
use tw_model::event::{EVENTS, EventKind};
use zerocopy::{FromBytes, Immutable, IntoBytes as _, KnownLayout};

use crate::calls::Config;
use crate::health::{Health, Hook};
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
    /// Loading failed.
    #[error("cannot load the eBPF programs: {0}")]
    Load(String),
    /// A ring cannot be mapped.
    #[error("cannot map ring {name}: {error}")]
    Ring {
        /// Which.
        name: &'static str,
        /// Why.
        error: std::io::Error,
    },
}

/// Where and what to attach: program, hook as a person knows it, and what is lost without it.
const HOOKS: &[(&str, &str, &str, bool)] = &[
    ("on_sys_exit", "tp_btf/sys_exit", "files, sockets, privileged calls", true),
    ("on_fork", "tp_btf/task_newtask", "process tree", true),
    ("on_exec", "tp_btf/sched_process_exec", "executions", true),
    ("on_exit", "tp_btf/sched_process_exit", "ends of processes", true),
    ("on_signal", "tp_btf/signal_generate", "whom a signal went to", false),
    ("on_ring_submit", "tp_btf/io_uring_submit_req", "names in calls through io_uring", false),
    ("on_ring_complete", "tp_btf/io_uring_complete", "calls through io_uring", false),
    ("on_send", "tp_btf/sock_send_length", "datagrams, first bytes of connections, DNS queries", false),
    ("on_receive", "tp_btf/sock_recv_length", "DNS answers, names of addresses", false),
];

/// Tracepoints that had another name in earlier kernels (6.0 to 6.2), with the same first argument.
const EARLIER_NAMES: &[(&str, &str)] = &[("io_uring_submit_req", "io_uring_submit_sqe")];

/// The rings, in the order of [`tw_model::event::Lane`], with their sizes in bytes (bpf/maps.h).
const RINGS: [(&str, usize); 3] = [("ring_life", 4 << 20), ("ring_priv", 1 << 20), ("ring_bulk", 16 << 20)];

/// How many records are taken before their room is given back.
const PUBLISH_EVERY: usize = 64;

/// Options of the sensor.
#[derive(Clone, Debug)]
pub struct Options {
    /// Privileged calls a second and cgroup that are reported one by one.
    pub privileged_rate: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { privileged_rate: 1000 }
    }
}

/// Counters of one kind of event, since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Count {
    /// Records written to a ring.
    pub sent: u64,
    /// Records lost because the ring was full.
    pub lost_ring: u64,
    /// Records lost because no scratch buffer was free.
    pub lost_scratch: u64,
    /// Events that were counted only: over the cgroup's budget, or the same datagram peer again.
    pub folded: u64,
}

impl Count {
    /// Everything lost.
    pub fn lost(&self) -> u64 {
        self.lost_ring + self.lost_scratch
    }
}

/// The running sensor. Dropping it detaches everything.
pub struct EbpfSensor {
    rings: [Ring; 3],
    object: Object,
    links: Vec<Link>,
    health: Health,
}

impl EbpfSensor {
    /// Loads and attaches the kernel half. Events flow into the rings from then on.
    ///
    /// # Errors
    /// [`SensorError`] if a hook that everything hangs on cannot be had. A hook that is only good to have is missing
    /// in [`EbpfSensor::health`] instead.
    pub fn start(options: &Options) -> Result<Self, SensorError> {
        quiet_libbpf();
        let btf = Btf::from_vmlinux().map_err(|_| {
            if rustix::process::geteuid().is_root() { SensorError::NoBtf } else { not_permitted("not root") }
        })?;
        let mut hooks = Vec::new();
        let mut open =
            ObjectBuilder::default().open_memory(OBJECT).map_err(|error| SensorError::Load(error.to_string()))?;
        for &(program, name, serves, needed) in HOOKS {
            let tracepoint = name.strip_prefix("tp_btf/").unwrap_or(name);
            let mut hook = Hook { name, serves, problem: None };
            let mut why = None;
            if program.starts_with("on_ring") && btf.type_by_name::<BtfType<'_>>("io_cmd_data").is_none() {
                why = Some("this kernel describes requests of io_uring otherwise: Linux 6.0 or later is needed".into());
            } else if !has_tracepoint(&btf, tracepoint) {
                match EARLIER_NAMES.iter().find(|(now, before)| *now == tracepoint && has_tracepoint(&btf, before)) {
                    Some((_, before)) => {
                        for mut prog in open.progs_mut().filter(|prog| prog.name() == program) {
                            prog.set_attach_target(0, Some((*before).to_owned()))
                                .map_err(|error| SensorError::Load(error.to_string()))?;
                        }
                    }
                    None => why = Some(format!("this kernel has no tracepoint {tracepoint}")),
                }
            }
            if let Some(why) = why {
                if needed {
                    return Err(SensorError::Load(why));
                }
                hook.problem = Some(why);
                open.progs_mut().filter(|prog| prog.name() == program).for_each(|mut prog| {
                    prog.set_autoload(false);
                });
            }
            hooks.push(hook);
        }
        let mut config = Config::new(std::process::id(), options.privileged_rate);
        // Ring, request, entry; before, the parts of the entry each by itself.
        config.ring_answers_in_entries(arguments(&btf, "io_uring_complete") == Some(3));
        for mut map in open.maps_mut() {
            if map.name() == ".rodata.config" {
                map.set_initial_value(config.as_bytes()).map_err(|error| SensorError::Load(error.to_string()))?;
            }
        }
        let object = open.load().map_err(|error| match error.kind() {
            libbpf_rs::ErrorKind::PermissionDenied => not_permitted(&error.to_string()),
            _ => SensorError::Load(format!("{error:#}")),
        })?;
        let links = attach(&object, &mut hooks)?;
        let rings = map_rings(&object)?;
        Ok(Self { rings, object, links, health: Health { hooks } })
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
        for ring in self.rings.iter_mut().rev() {
            ring.refresh();
        }
        let mut taken = 0;
        loop {
            let mut oldest: Option<(usize, u64)> = None;
            for (i, ring) in self.rings.iter_mut().enumerate() {
                match ring.peek() {
                    Next::Record(bytes) => {
                        let time = time_of(bytes);
                        if oldest.is_none_or(|(_, known)| time < known) {
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
                take(bytes);
                self.rings[i].advance(len);
            }
            taken += 1;
            if taken.is_multiple_of(PUBLISH_EVERY) {
                self.publish();
            }
        }
        self.publish();
        taken
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
        let Some(map) = self.object.maps().find(|map| map.name() == "counts") else { return Vec::new() };
        EVENTS
            .iter()
            .map(|info| {
                let key = u32::from(info.kind as u16);
                let cpus = map.lookup_percpu(&key.to_ne_bytes(), libbpf_rs::MapFlags::ANY).ok().flatten();
                let total = cpus.unwrap_or_default().iter().filter_map(|cpu| Count::read_from_prefix(cpu).ok()).fold(
                    Count::default(),
                    |sum, (cpu, _)| Count {
                        sent: sum.sent + cpu.sent,
                        lost_ring: sum.lost_ring + cpu.lost_ring,
                        lost_scratch: sum.lost_scratch + cpu.lost_scratch,
                        folded: sum.folded + cpu.folded,
                    },
                );
                (info.kind, total)
            })
            .collect()
    }

    /// Number of attached programs.
    pub fn attached(&self) -> usize {
        self.links.len()
    }
}

fn has_tracepoint(btf: &Btf<'_>, name: &str) -> bool {
    btf.type_by_name::<BtfType<'_>>(&format!("btf_trace_{name}")).is_some()
}

/// Number of arguments that a tracepoint gives to its programs.
fn arguments(btf: &Btf<'_>, tracepoint: &str) -> Option<usize> {
    let named: types::Typedef<'_> = btf.type_by_name(&format!("btf_trace_{tracepoint}"))?;
    let pointer = types::Ptr::try_from(named.referenced_type()).ok()?;
    let function = types::FuncProto::try_from(pointer.referenced_type()).ok()?;
    // The first is libbpf's own.
    function.len().checked_sub(1)
}

fn time_of(bytes: &[u8]) -> u64 {
    bytes.get(8..16).and_then(|time| time.try_into().ok()).map_or(0, u64::from_ne_bytes)
}

fn not_permitted(why: &str) -> SensorError {
    SensorError::NotPermitted(why.to_owned())
}

fn attach(object: &Object, hooks: &mut [Hook]) -> Result<Vec<Link>, SensorError> {
    let mut links = Vec::new();
    for (&(program, name, _, needed), hook) in HOOKS.iter().zip(hooks) {
        if hook.problem.is_some() {
            continue;
        }
        let Some(prog) = object.progs_mut().find(|prog| prog.name() == program) else {
            return Err(SensorError::Load(format!("program {program} is missing in the object")));
        };
        match prog.attach_trace() {
            Ok(link) => links.push(link),
            Err(error) if needed => return Err(SensorError::Load(format!("cannot attach {name}: {error}"))),
            Err(error) => hook.problem = Some(error.to_string()),
        }
    }
    Ok(links)
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

/// libbpf's own messages go to our log.
fn quiet_libbpf() {
    fn log(level: PrintLevel, message: String) {
        let message = message.trim_end();
        match level {
            PrintLevel::Warn => tracing::warn!(target: "libbpf", "{message}"),
            PrintLevel::Info => tracing::debug!(target: "libbpf", "{message}"),
            PrintLevel::Debug => tracing::trace!(target: "libbpf", "{message}"),
        }
    }
    libbpf_rs::set_print(Some((PrintLevel::Debug, log)));
}
