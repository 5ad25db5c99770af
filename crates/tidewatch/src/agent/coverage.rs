//! The agent's hand on the coverage ledger: what the sensor missed goes in, minutes come out as events that rules can
//! match.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tw_enrich::World;
use tw_enrich::ledger::{Missing, Owner};
use tw_model::coverage::{Class, Miss, Tallies, Tally, Window};
use tw_model::field::coverage as place;
use tw_model::raw::{CallBody, Encoder, Header, to_words};
use tw_model::status::{ClassCoverage, ContainerCoverage, CoverageStatus, Unwatched};
use tw_model::{EventKind, ProcKey, Raw};
use tw_sensor::Source;

/// How often the sensor is asked what it missed.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// Length of a minute, by boot time.
const MINUTE_NS: u64 = 60_000_000_000;
/// Cgroups whose records gave way that are told apart between two looks; the others share one entry.
const APART: usize = 1024;
/// Containers shown in the status.
const SHOWN: usize = 16;

/// What the ledger needs of the agent.
#[derive(Default)]
pub struct Cover {
    asked: Option<Instant>,
    /// Records that gave way since the last look.
    gave_way: HashMap<(Option<u64>, Class), u64>,
    /// Number of the last minute that was told.
    minute: Option<u64>,
    /// The agent as a process: who tells.
    own: ProcKey,
    unwatched: Option<Unwatched>,
}

impl Cover {
    /// With what is known of the time before the start.
    pub fn after(unwatched: Option<Unwatched>) -> Self {
        Self { unwatched, ..Self::default() }
    }

    /// The time before the start in which nobody watched, if there was an agent before.
    pub fn unwatched(&self) -> Option<&Unwatched> {
        self.unwatched.as_ref()
    }

    /// Counts a record that gave way.
    pub fn gave_way(&mut self, raw: &Raw<'_>) {
        let class = Class::of(raw.kind(), raw.header.ret);
        let mut key = (Some(raw.header.cgroup), class);
        if self.gave_way.len() >= APART && !self.gave_way.contains_key(&key) {
            key.0 = None;
        }
        *self.gave_way.entry(key).or_default() += 1;
    }

    /// Counts a record that made no sense: not even its cgroup is known.
    pub fn malformed(&self, world: &mut World) {
        world.missed(None, &[(Class::Other, Miss::Malformed, 1)]);
    }

    /// Books what was missed since the last time, ten times a second at most; at the end at once.
    pub fn book(&mut self, world: &mut World, sensor: &mut dyn Source, at_end: bool) {
        if !at_end && self.asked.is_some_and(|asked| asked.elapsed() < ASK_EVERY) {
            return;
        }
        self.asked = Some(Instant::now());
        sensor.missed(&mut |cgroup, missing: &[Missing]| world.missed(cgroup, missing));
        for ((cgroup, class), events) in self.gave_way.drain() {
            world.missed(cgroup, &[(class, Miss::GaveWay, events)]);
        }
    }

    /// Records of the minute that is over: one for each container and class of which something is missing, and the
    /// summary of the host. Empty while the minute lasts. `now_ns` is boot time.
    pub fn minute(&mut self, world: &mut World, now_ns: u64, at_end: bool) -> Vec<Vec<u64>> {
        let minute = now_ns / MINUTE_NS;
        let over = self.minute.is_some_and(|known| minute > known);
        self.minute = Some(minute);
        if !over && !at_end {
            return Vec::new();
        }
        if self.own.pid == 0 {
            let own = world.processes().by_pid(std::process::id()).map(|process| process.key);
            self.own = own.unwrap_or(ProcKey { start_ns: 0, pid: std::process::id() });
        }
        let (mut records, mut all) = (Vec::new(), Tally::default());
        let own = self.own;
        world.ledger_mut().close_minute(&mut |account| {
            for (class, tally) in Class::ALL.into_iter().zip(&account.minute) {
                all.add(tally);
                if tally.missing() > 0 {
                    records.push(record(own, now_ns, account.cgroup, class.name(), tally));
                }
            }
        });
        records.push(record(own, now_ns, 1, "all", &all));
        records
    }

    /// What the status says.
    pub fn status(&self, world: &World) -> CoverageStatus {
        let ledger = world.ledger();
        let totals = ledger.totals();
        let classes = Class::ALL.into_iter().zip(&totals).map(|(class, tally)| ClassCoverage {
            class,
            seen: tally.seen,
            missed: Miss::ALL.iter().map(|why| (*why, tally.missed(*why))).collect(),
        });
        let mut minute = Tallies::default();
        let mut worst = Vec::new();
        // A window that nothing has touched for long still holds what was its last minute.
        let newest = ledger.accounts().map(|account| account.window.last()).max().unwrap_or(0);
        let fresh = |window: &&Window| window.last() + tw_model::coverage::SLOTS as u64 > newest;
        for account in ledger.accounts().filter(|account| fresh(&&account.window)) {
            let sums = account.window.sums();
            minute.iter_mut().zip(&sums).for_each(|(sum, tally)| sum.add(tally));
            let missing: u64 = sums.iter().map(Tally::missing).sum();
            if missing > 0 {
                worst.push((missing, account));
            }
        }
        // There may be thousands, and this is done once a second.
        let most = |(missing, _): &(u64, _)| std::cmp::Reverse(*missing);
        if worst.len() > SHOWN {
            worst.select_nth_unstable_by_key(SHOWN, most);
            worst.truncate(SHOWN);
        }
        worst.sort_unstable_by_key(most);
        let shown = worst.into_iter().map(|(_, account)| ContainerCoverage {
            id: account.owner.name().chars().take(12).collect(),
            name: match &account.owner {
                Owner::Container(id) => world.container(id).map(|known| known.name.clone()).unwrap_or_default(),
                Owner::Host | Owner::Others => String::new(),
            },
            coverage: account.window.coverage(),
        });
        CoverageStatus {
            classes: classes.collect(),
            minute: tw_model::coverage::Coverage::of(&minute),
            worst: shown.collect(),
            unwatched: self.unwatched.clone(),
        }
    }
}

/// A minute of one class of one container as an event.
fn record(own: ProcKey, time: u64, cgroup: u64, class: &str, tally: &Tally) -> Vec<u64> {
    let mut header = Header {
        kind: EventKind::Coverage as u16,
        time,
        start: own.start_ns,
        cgroup,
        pid: own.pid,
        tid: own.pid,
        ..Header::default()
    };
    header.comm[..9].copy_from_slice(b"tidewatch");
    let mut out = Encoder::new(&header, size_of::<CallBody>());
    let reasons = tally.reasons();
    let mut body =
        CallBody { text: out.text(format!("{class} {reasons}").trim_end().as_bytes()), ..CallBody::default() };
    body.args[place::SEEN] = tally.seen;
    body.args[place::LOST] = tally.lost();
    body.args[place::FOLDED] = tally.missed(Miss::Folded);
    body.args[place::SAMPLED] = tally.missed(Miss::Sampled);
    body.args[place::REPEATED] = tally.missed(Miss::Repeated);
    to_words(&out.finish(&body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bumpalo::Bump;
    use tw_model::raw::from_words;

    #[test]
    fn a_minute_is_told_once_by_container_and_class_and_as_a_whole() {
        let mut world = World::reliving(16);
        let mut cover = Cover::default();
        assert!(cover.minute(&mut world, MINUTE_NS / 2, false).is_empty());
        world.missed(Some(7), &[(Class::File, Miss::RingFull, 812), (Class::Network, Miss::Repeated, 9)]);
        world.missed(None, &[(Class::Privileged, Miss::Folded, 5)]);
        let records = cover.minute(&mut world, MINUTE_NS + 1, false);
        let scratch = Bump::new();
        let shown: Vec<String> = records
            .iter()
            .map(|words| {
                let event = world.observe(Raw::parse(from_words(words)).unwrap(), &scratch);
                ["percent", "class", "lost", "folded", "repeated", "reason"]
                    .map(|name| {
                        let field = tw_model::FieldRef::resolve(&format!("coverage.{name}"), None).unwrap();
                        match field.get(&event).unwrap() {
                            tw_model::Value::Uint(number) => number.to_string(),
                            tw_model::Value::Text(text) => String::from_utf8_lossy(text).into_owned(),
                            other => panic!("{other:?}"),
                        }
                    })
                    .join(" ")
            })
            .collect();
        assert_eq!(
            shown,
            [
                "0 file 812 0 0 ring_full=812",
                "0 privileged 0 5 0 folded=5",
                "0 all 812 5 9 ring_full=812 folded=5 repeated=9"
            ]
        );
        assert!(cover.minute(&mut world, MINUTE_NS + 2, false).is_empty());
        assert_eq!(cover.minute(&mut world, 2 * MINUTE_NS, false).len(), 1, "a quiet minute has a summary");
        assert_eq!(world.ledger().totals()[Class::File as usize].seen, 0, "the ledger's own events are not counted");
    }

    #[test]
    fn the_status_shows_those_of_whom_most_is_missing() {
        let mut world = World::reliving(16);
        for n in 1..=5 * SHOWN as u64 {
            let id = format!("{n:064}");
            world.relive(tw_enrich::Context::Place { cgroup: n + 1, container: id });
            // Not in their order.
            world.missed(Some(n + 1), &[(Class::File, Miss::RingFull, 1 + n * 7 % 83)]);
        }
        let status = Cover::default().status(&world);
        let missing = |shown: &ContainerCoverage| shown.coverage.missed.iter().map(|missed| missed.events).sum::<u64>();
        let shown: Vec<u64> = status.worst.iter().map(missing).collect();
        let mut expected: Vec<u64> = (1..=5 * SHOWN as u64).map(|n| 1 + n * 7 % 83).collect();
        expected.sort_unstable_by_key(|n| std::cmp::Reverse(*n));
        assert_eq!(shown, expected[..SHOWN]);
    }

    #[test]
    fn records_that_gave_way_are_booked_for_their_cgroups_and_their_table_is_bounded() {
        let mut cover = Cover::default();
        for cgroup in 0..3 * APART as u64 {
            let header = Header { kind: EventKind::Unshare as u16, cgroup, ..Header::default() };
            let words = to_words(&Encoder::new(&header, size_of::<CallBody>()).finish(&CallBody::default()));
            cover.gave_way(&Raw::parse(from_words(&words)).unwrap());
        }
        assert_eq!(cover.gave_way.len(), APART + 1);
        assert_eq!(cover.gave_way[&(None, Class::Privileged)], 2 * APART as u64);
    }
}
