//! What is remembered of processes: which comparisons hold for them, and which rules that leaves.

use hashbrown::HashMap;
use tw_model::Event;
use tw_model::event::EVENTS;
use tw_model::raw::COMM;

/// Processes remembered; a power of two.
const SLOTS: usize = 4096;
/// Classes remembered; beyond that all are forgotten and found again.
const CLASSES: usize = 2048;

/// Processes for which the same comparisons hold.
pub(super) struct Class {
    /// The truths of its processes.
    pub truth: Box<[u64]>,
    /// What is left to do for each kind of event, once it was asked for.
    pub plans: Box<[Option<Box<Plan>>]>,
}

/// What is left to do for events of one kind by processes of one class.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Rules to try for each event.
    pub always: Box<[u32]>,
    /// Groups in which a comparison may bring up a rule.
    pub groups: Box<[u16]>,
    /// One bit for each rule that may be brought up.
    pub alive: Box<[u64]>,
}

/// A process as it was when its class was found.
#[derive(Clone, Copy, Default)]
struct Slot {
    stamp: u64,
    comm: [u8; COMM],
    cgroup: u64,
    context: u64,
    epoch: u64,
    lineage: u64,
    class: u32,
}

/// Classes, and which process is of which.
pub(super) struct Memory {
    slots: Box<[Slot]>,
    classes: Vec<Class>,
    by_truth: HashMap<Box<[u64]>, u32, foldhash::fast::RandomState>,
}

impl Memory {
    pub fn new() -> Self {
        Self { slots: vec![Slot::default(); SLOTS].into(), classes: Vec::new(), by_truth: HashMap::default() }
    }

    /// The class with this number.
    pub fn class(&mut self, number: u32) -> Option<&mut Class> {
        self.classes.get_mut(number as usize)
    }

    /// Number of the class of the event's process. `find` fills in its truths if they are not remembered.
    pub fn class_of<'f>(&mut self, event: &Event<'_>, find: impl FnOnce() -> &'f [u64]) -> u32 {
        let now = Slot {
            stamp: event.process.stamp.number(),
            comm: event.raw.header.comm,
            cgroup: event.raw.header.cgroup,
            context: event.context,
            epoch: event.processes.epoch(),
            lineage: 0,
            class: 0,
        };
        if now.stamp == 0 {
            // In no table: nobody would tell of changes.
            return self.class_with(find());
        }
        let place = now.place();
        let lineage = || event.processes.lineage(event.process);
        if let Some(slot) = self.slots.get_mut(place).filter(|slot| slot.is_of(&now)) {
            if slot.epoch == now.epoch {
                return slot.class;
            }
            if slot.lineage == lineage() {
                slot.epoch = now.epoch;
                return slot.class;
            }
        }
        let class = self.class_with(find());
        if let Some(slot) = self.slots.get_mut(place) {
            *slot = Slot { lineage: lineage(), class, ..now };
        }
        class
    }

    fn class_with(&mut self, truth: &[u64]) -> u32 {
        if let Some(class) = self.by_truth.get(truth) {
            return *class;
        }
        if self.classes.len() >= CLASSES {
            self.classes.clear();
            self.by_truth.clear();
            self.slots.fill(Slot::default());
        }
        let number = self.classes.len() as u32;
        let plans = EVENTS.iter().map(|_| None).collect();
        self.classes.push(Class { truth: truth.into(), plans });
        self.by_truth.insert(truth.into(), number);
        number
    }
}

impl Slot {
    fn is_of(&self, now: &Self) -> bool {
        self.stamp == now.stamp && self.context == now.context && self.cgroup == now.cgroup && self.comm == now.comm
    }

    /// Threads of one process with different names have different places.
    fn place(&self) -> usize {
        let (head, tail) = self.comm.split_at(8);
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_ne_bytes);
        let mixed = (self.stamp ^ word(head) ^ word(tail).rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 40) as usize & (SLOTS - 1)
    }
}
