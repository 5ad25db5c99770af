//! How much of what happened was seen: the nouns of the coverage ledger.
//!
//! Every watched event is either seen (it went through the detectors) or missed for one reason. Counts are exact; what
//! was missed is known by container, class and reason, though not one by one.

use serde::{Deserialize, Serialize};

use crate::event::{EventKind, Lane};

/// Classes of events in the ledger; the order is that of `enum tw_class` in bpf/tidewatch.h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Class {
    /// fork, exec, exit.
    Lifecycle,
    /// Calls in the privileged lane.
    Privileged,
    /// Calls on files.
    File,
    /// Sockets, datagrams, first bytes of connections.
    Network,
    /// Everything else, such as executions that failed.
    #[default]
    Other,
}

impl Class {
    /// All classes, in their order.
    pub const ALL: [Self; 5] = [Self::Lifecycle, Self::Privileged, Self::File, Self::Network, Self::Other];

    /// Name for people, metrics and rules.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lifecycle => "lifecycle",
            Self::Privileged => "privileged",
            Self::File => "file",
            Self::Network => "network",
            Self::Other => "other",
        }
    }

    /// The class of a kind of event, as the kernel half is told it.
    pub fn of_kind(kind: EventKind) -> Self {
        let info = kind.info();
        match (info.lane, info.category) {
            (Lane::Lifecycle, _) => Self::Lifecycle,
            (Lane::Privileged, _) => Self::Privileged,
            (Lane::Bulk, "file") => Self::File,
            (Lane::Bulk, "net") => Self::Network,
            (Lane::Bulk, _) if matches!(kind, EventKind::Write | EventKind::Flow) => Self::Network,
            (Lane::Bulk, _) => Self::Other,
        }
    }

    /// The class of one event: an execution that failed is none. `ret` is what the call returned.
    pub fn of(kind: EventKind, ret: i64) -> Self {
        match Self::of_kind(kind) {
            Self::Lifecycle if ret < 0 => Self::Other,
            class => class,
        }
    }
}

/// Why an event was not seen; the order of the first five is that of `enum tw_miss` in bpf/tidewatch.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Miss {
    /// The ring of its lane was full.
    RingFull,
    /// No buffer was free to put it together in.
    NoBuffer,
    /// Over the budget of privileged calls of its cgroup.
    Folded,
    /// The same open for reading, or a datagram to the same peer, again: what it would have told was told less than a second
    /// before.
    Repeated,
    /// The agent wanted a sample only, to stay within its budget of CPU.
    Sampled,
    /// The record made no sense.
    Malformed,
    /// It was read, but left unseen, so that no fork, execution, end or privileged call was lost.
    GaveWay,
}

impl Miss {
    /// All reasons, in their order.
    pub const ALL: [Self; 7] =
        [Self::RingFull, Self::NoBuffer, Self::Folded, Self::Repeated, Self::Sampled, Self::Malformed, Self::GaveWay];
    /// Reasons that the kernel half counts: the first of [`Miss::ALL`].
    pub const IN_KERNEL: usize = 5;

    /// Name for metrics and rules.
    pub fn name(self) -> &'static str {
        match self {
            Self::RingFull => "ring_full",
            Self::NoBuffer => "no_buffer",
            Self::Folded => "folded",
            Self::Repeated => "repeated",
            Self::Sampled => "sampled",
            Self::Malformed => "malformed",
            Self::GaveWay => "gave_way",
        }
    }

    /// What happened to such events, for people.
    pub fn verb(self) -> &'static str {
        match self {
            Self::RingFull | Self::NoBuffer | Self::Malformed | Self::GaveWay => "lost",
            Self::Folded => "counted only",
            Self::Repeated => "repeated",
            Self::Sampled => "left out",
        }
    }

    /// Whether such an event is missing. One that only says again what was seen is not.
    pub fn counts(self) -> bool {
        self != Self::Repeated
    }
}

/// Counts of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Events that went through the detectors.
    pub seen: u64,
    /// Events that did not, by reason in the order of [`Miss::ALL`].
    pub missed: [u64; Miss::ALL.len()],
}

impl Tally {
    /// Number missed for this reason.
    pub fn missed(&self, why: Miss) -> u64 {
        self.missed[why as usize]
    }

    /// Lost for any reason.
    pub fn lost(&self) -> u64 {
        let lost = [Miss::RingFull, Miss::NoBuffer, Miss::Malformed, Miss::GaveWay];
        lost.iter().fold(0, |sum: u64, why| sum.saturating_add(self.missed(*why)))
    }

    /// Events that are missing: everything but what only repeats.
    pub fn missing(&self) -> u64 {
        let counted = Miss::ALL.iter().filter(|why| why.counts());
        counted.fold(0, |sum: u64, why| sum.saturating_add(self.missed(*why)))
    }

    /// Seen and missed together, repetitions too.
    pub fn total(&self) -> u64 {
        self.missed.iter().fold(self.seen, |sum, n| sum.saturating_add(*n))
    }

    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.seen = self.seen.saturating_add(other.seen);
        for (ours, theirs) in self.missed.iter_mut().zip(other.missed) {
            *ours = ours.saturating_add(theirs);
        }
    }

    /// What was missed, as `ring_full=3 folded=8`; empty if nothing was.
    pub fn reasons(&self) -> String {
        let parts = Miss::ALL.iter().filter(|why| self.missed(**why) > 0);
        parts.map(|why| format!("{}={}", why.name(), self.missed(*why))).collect::<Vec<_>>().join(" ")
    }
}

/// Counts by class, in the order of [`Class::ALL`].
pub type Tallies = [Tally; Class::ALL.len()];

/// Tenths of a percent of `seen` and `missing` that were seen, rounded down: 1000 only if nothing is missing.
pub fn permille(seen: u64, missing: u64) -> u64 {
    if missing == 0 {
        return 1000;
    }
    let all = u128::from(seen) + u128::from(missing);
    (u128::from(seen) * 1000 / all).min(999) as u64
}

/// Length of a slot of a [`Window`].
pub const SLOT_NS: u64 = 10_000_000_000;
/// Slots of a [`Window`]: the last minute, and what has begun of the next ten seconds.
pub const SLOTS: usize = 7;

/// The last minute of one container, in slots of ten seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    slots: [Tallies; SLOTS],
    /// Number of the slot that is filled now: boot time divided by [`SLOT_NS`].
    now: u64,
}

impl Window {
    /// Moves on to the slot of boot time `time_ns`; what is older than the window is forgotten. Never moves back.
    #[inline]
    pub fn turn(&mut self, time_ns: u64) {
        let now = time_ns / SLOT_NS;
        if now > self.now {
            self.turn_to(now);
        }
    }

    fn turn_to(&mut self, now: u64) {
        for passed in 0..(now - self.now).min(SLOTS as u64) {
            self.slots[((now - passed) % SLOTS as u64) as usize] = Tallies::default();
        }
        self.now = now;
    }

    /// The counts that are filled now.
    #[inline]
    pub fn current(&mut self) -> &mut Tallies {
        &mut self.slots[(self.now % SLOTS as u64) as usize]
    }

    /// Slots that hold something: their numbers and counts.
    pub fn filled(&self) -> impl Iterator<Item = (u64, &Tallies)> {
        let first = self.now.saturating_sub(SLOTS as u64 - 1);
        (first..=self.now)
            .map(|number| (number, &self.slots[(number % SLOTS as u64) as usize]))
            .filter(|(_, tallies)| tallies.iter().any(|tally| tally.total() > 0))
    }

    /// Number of the slot that is filled now.
    pub fn last(&self) -> u64 {
        self.now
    }

    /// Sums by class.
    pub fn sums(&self) -> Tallies {
        let mut sums = Tallies::default();
        for (_, tallies) in self.filled() {
            sums.iter_mut().zip(tallies).for_each(|(sum, tally)| sum.add(tally));
        }
        sums
    }

    /// What a finding says of it.
    pub fn coverage(&self) -> Coverage {
        Coverage::of(&self.sums())
    }
}

/// Events of one class that were missed for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// Class.
    pub class: Class,
    /// Reason.
    pub reason: Miss,
    /// How many.
    pub events: u64,
}

/// How much was seen of a finding's container in the minute before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Events seen.
    pub seen: u64,
    /// Events missed; empty if none were.
    pub missed: Vec<Missed>,
}

impl Coverage {
    /// Of counts by class.
    pub fn of(tallies: &Tallies) -> Self {
        let mut coverage = Self { seen: tallies.iter().map(|tally| tally.seen).sum(), missed: Vec::new() };
        for (class, tally) in Class::ALL.into_iter().zip(tallies) {
            for reason in Miss::ALL.into_iter().filter(|reason| reason.counts() && tally.missed(*reason) > 0) {
                coverage.missed.push(Missed { class, reason, events: tally.missed(reason) });
            }
        }
        coverage
    }

    /// Percent, rounded down to a tenth: 100 only if nothing was missed.
    pub fn percent(&self) -> f64 {
        let missing = self.missed.iter().fold(0, |sum: u64, missed| sum.saturating_add(missed.events));
        permille(self.seen, missing) as f64 / 10.0
    }

    /// For people: `100 % in the last minute`, or `99.2 % in the last minute: 812 file events lost`.
    pub fn words(&self) -> String {
        if self.missed.is_empty() {
            return "100 % in the last minute".to_owned();
        }
        // Reasons that mean the same to a reader are told as one.
        let mut parts: Vec<(u64, &str, &str)> = Vec::new();
        for missed in &self.missed {
            let (class, verb) = (missed.class.name(), missed.reason.verb());
            match parts.iter_mut().find(|(_, known, said)| (*known, *said) == (class, verb)) {
                Some((events, ..)) => *events = events.saturating_add(missed.events),
                None => parts.push((missed.events, class, verb)),
            }
        }
        let parts: Vec<String> = parts
            .into_iter()
            .map(|(n, class, verb)| format!("{n} {class} event{} {verb}", if n == 1 { "" } else { "s" }))
            .collect();
        format!("{:.1} % in the last minute: {}", self.percent(), parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EVENTS;

    fn missed(class: Class, reason: Miss, events: u64) -> Missed {
        Missed { class, reason, events }
    }

    #[test]
    fn a_whole_minute_is_100_percent_and_nothing_else_is() {
        assert_eq!(Coverage { seen: 0, missed: Vec::new() }.words(), "100 % in the last minute");
        let nearly = Coverage { seen: 10_000_000, missed: vec![missed(Class::File, Miss::RingFull, 1)] };
        assert_eq!(nearly.words(), "99.9 % in the last minute: 1 file event lost");
        let worse = Coverage {
            seen: 90,
            missed: vec![
                missed(Class::Privileged, Miss::Folded, 4),
                missed(Class::File, Miss::RingFull, 5),
                missed(Class::File, Miss::NoBuffer, 1),
            ],
        };
        assert_eq!(worse.words(), "90.0 % in the last minute: 4 privileged events counted only, 6 file events lost");
        assert_eq!(permille(0, 5), 0);
        assert_eq!(permille(u64::MAX, u64::MAX), 500);
    }

    #[test]
    fn what_repeats_is_counted_but_not_missing() {
        let mut tallies = Tallies::default();
        tallies[Class::Network as usize] = Tally { seen: 1, missed: [0, 0, 0, 99, 0, 0, 0] };
        assert_eq!((tallies[3].missing(), tallies[3].total()), (0, 100));
        assert_eq!(tallies[3].reasons(), "repeated=99");
        assert_eq!(Coverage::of(&tallies).words(), "100 % in the last minute");
    }

    #[test]
    fn a_window_forgets_what_is_older_than_a_minute_and_nothing_before() {
        let mut window = Window::default();
        for second in 0..200 {
            window.turn(second * 1_000_000_000);
            window.current()[0].seen += 1;
            let expected = (second + 1).min(60 + second % 10 + 1);
            assert_eq!(window.sums()[0].seen, expected, "at {second} s");
        }
        window.turn(190_000_000_000);
        assert_eq!(window.last(), 19, "time never goes back");
        window.turn(10_000_000_000_000);
        assert_eq!(window.sums(), Tallies::default());
        assert_eq!(window.filled().count(), 0);
    }

    #[test]
    fn every_kind_has_a_class_and_a_failed_execution_is_none() {
        for info in EVENTS {
            assert!(Class::ALL.contains(&Class::of_kind(info.kind)));
        }
        assert_eq!(Class::of(EventKind::Execve, 0), Class::Lifecycle);
        assert_eq!(Class::of(EventKind::Execve, -2), Class::Other);
        assert_eq!(Class::of(EventKind::Setuid, -1), Class::Privileged);
        assert_eq!(Class::of(EventKind::Openat, 3), Class::File);
        assert_eq!((Class::of(EventKind::Write, 3), Class::of(EventKind::Dup, 1)), (Class::Network, Class::Other));
    }
}
