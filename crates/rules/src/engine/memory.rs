//! What is remembered of processes: which comparisons hold for them, and which rules that leaves.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;
use tw_model::event::EVENTS;
use tw_model::raw::COMM;
use tw_model::{Event, EventKind};

use super::condition::Condition;

/// Processes remembered; a power of two.
const SLOTS: usize = 4096;
/// Classes remembered; beyond that all are forgotten and found again.
const CLASSES: usize = 2048;
/// Parts of conditions in all plans, some 40 bytes each; beyond that all are forgotten as well.
const PARTS: usize = 400_000;

/// If so many rules would ask the same of a process for each event, it is asked before they are tried: so what a new
/// process costs does not grow with the number of rules.
const MANY_ASK: usize = 8;

/// Processes for which the same comparisons hold.
struct Class {
    /// The truths of its processes.
    truth: Box<[u64]>,
    /// What is left to do for each kind of event, once it was asked for.
    plans: Box<[Option<Box<Plan>>]>,
}

/// What is left to do for events of one kind by processes of one class.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Rules that can still match, in the order of definition: their places in the set, and what is left of their
    /// conditions.
    pub rules: Box<[(u32, Condition)]>,
    /// Of these, by their places here, those to try for each event.
    pub always: Box<[u32]>,
    /// A group of the process to ask first: then there is less left to do.
    pub ask: Option<u16>,
    /// Groups in which a comparison may bring up a rule.
    pub groups: Box<[u16]>,
    /// Words of the event's truths with the bits that rules wait for.
    pub waited: Box<[(u32, u64)]>,
    /// Bits with the rules that wait for them, by their places here; sorted.
    pub waiting: Box<[(u32, u32)]>,
}

impl Plan {
    /// What is left of these rules for processes with these truths.
    pub fn new(candidates: &[u32], kind: EventKind, process: &[u64], conditions: &[Condition]) -> Self {
        let mut plan = Self::default();
        let (mut rules, mut always, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
        let mut groups = BTreeSet::new();
        let mut waited = BTreeMap::<u32, u64>::new();
        let mut asked = BTreeMap::<u16, usize>::new();
        for rule in candidates {
            let Some(condition) = conditions.get(*rule as usize) else { continue };
            let left = condition.left(kind, process);
            if matches!(left, Condition::Const(false)) {
                continue;
            }
            let place = rules.len() as u32;
            match left.needs() {
                Some(atoms) => {
                    for atom in atoms {
                        groups.insert(atom.group);
                        *waited.entry(atom.bit / 64).or_default() |= 1 << (atom.bit % 64);
                        waiting.push((atom.bit, place));
                    }
                }
                None => {
                    always.push(place);
                    if let Some(group) = left.asks() {
                        *asked.entry(group).or_default() += 1;
                    }
                }
            }
            rules.push((*rule, left));
        }
        waiting.sort_unstable();
        plan.ask = asked.into_iter().find(|(_, rules)| *rules >= MANY_ASK).map(|(group, _)| group);
        plan.rules = rules.into();
        plan.always = always.into();
        plan.groups = groups.into_iter().collect();
        plan.waited = waited.into_iter().collect();
        plan.waiting = waiting.into();
        plan
    }

    /// Adds the rules that wait for a bit that is set, by their places.
    pub fn raise(&self, truths: &[u64], raised: &mut Vec<u32>) {
        for (word, waited) in &self.waited {
            let mut bits = truths.get(*word as usize).map_or(0, |truth| truth & waited);
            while bits != 0 {
                let bit = word * 64 + bits.trailing_zeros();
                bits &= bits - 1;
                let first = self.waiting.partition_point(|(waits, _)| *waits < bit);
                let rules = self.waiting.get(first..).unwrap_or_default();
                raised.extend(rules.iter().take_while(|(waits, _)| *waits == bit).map(|(_, rule)| rule));
            }
        }
    }

    fn size(&self) -> usize {
        self.rules.iter().map(|(_, condition)| condition.size()).sum::<usize>() + self.waiting.len()
    }
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
    class: u64,
}

/// Classes, and which process is of which.
pub(super) struct Memory {
    slots: Box<[Slot]>,
    classes: Vec<Class>,
    /// Number of the first of `classes`: none is given twice, so that what was noted of one that is forgotten means no
    /// other.
    first: u64,
    by_truth: HashMap<Box<[u64]>, u64, foldhash::fast::RandomState>,
    parts: usize,
}

impl Memory {
    pub fn new() -> Self {
        Self {
            slots: vec![Slot::default(); SLOTS].into(),
            classes: Vec::new(),
            first: 0,
            by_truth: HashMap::default(),
            parts: 0,
        }
    }

    /// What is left to do for this kind of event and this class, and the truths of the class.
    pub fn plan(
        &mut self,
        class: u64,
        kind: EventKind,
        candidates: &[u32],
        conditions: &[Condition],
    ) -> Option<(&Plan, &[u64])> {
        let class = self.classes.get_mut(class.checked_sub(self.first)? as usize)?;
        let plan = class.plans.get_mut(kind as usize)?;
        if plan.is_none() {
            let made = Plan::new(candidates, kind, &class.truth, conditions);
            self.parts += made.size();
            *plan = Some(Box::new(made));
        }
        Some((plan.as_deref()?, &class.truth))
    }

    /// Number of the class of the event's process. `find` fills in its truths if they are not remembered.
    pub fn class_of<'f>(&mut self, event: &Event<'_>, find: impl FnOnce() -> &'f [u64]) -> u64 {
        let now = Slot::of(event);
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

    /// Moves the event's process to the class with these truths, of which more are known than before.
    pub fn refine(&mut self, event: &Event<'_>, truth: &[u64]) -> u64 {
        let now = Slot::of(event);
        let class = self.class_with(truth);
        if now.stamp != 0
            && let Some(slot) = self.slots.get_mut(now.place()).filter(|slot| slot.is_of(&now))
        {
            slot.class = class;
        }
        class
    }

    fn class_with(&mut self, truth: &[u64]) -> u64 {
        if let Some(class) = self.by_truth.get(truth) {
            return *class;
        }
        if self.classes.len() >= CLASSES || self.parts >= PARTS {
            self.parts = 0;
            self.first += self.classes.len() as u64;
            self.classes.clear();
            self.by_truth.clear();
            self.slots.fill(Slot::default());
        }
        let number = self.first + self.classes.len() as u64;
        let plans = EVENTS.iter().map(|_| None).collect();
        self.classes.push(Class { truth: truth.into(), plans });
        self.by_truth.insert(truth.into(), number);
        number
    }
}

impl Slot {
    fn of(event: &Event<'_>) -> Self {
        Self {
            stamp: event.process.stamp.number(),
            comm: event.raw.header.comm,
            cgroup: event.raw.header.cgroup,
            context: event.context,
            epoch: event.processes.epoch(),
            lineage: 0,
            class: 0,
        }
    }

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
