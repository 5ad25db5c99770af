//! The budget of CPU, and the ladder of what is given up for it: rung by rung, and taken back when there is room again.
//!
//! Forks, executions, ends of processes and privileged calls are never given up, nor opens for writing, nor connections.

use std::time::Duration;

use tw_detect::Notice;
use tw_model::Priority;
use tw_model::finding::Shown;
use tw_model::status::BudgetStatus;
use tw_sensor::Sampling;

/// One look a second; this many in a row over the budget lead a rung up.
const UP_AFTER: u32 = 5;
/// This many in a row below half of it lead a rung down.
const DOWN_AFTER: u32 = 30;
/// Longest wait before a rung is left again, if leaving it did not last. Looks.
const LONGEST: u32 = 600;
/// The start is not counted: loading rules and programs takes its time once. Looks.
const GRACE: u32 = 10;
/// Weight of one look in the average.
const WEIGHT: f64 = 0.2;

/// A rung: what is given up on it, besides what is given up on those below.
struct Rung {
    /// In words, as in "gives up …".
    what: &'static str,
    nap: Duration,
    records: bool,
    sampling: Sampling,
}

const NAP: Duration = Duration::from_millis(10);
const LONG_NAP: Duration = Duration::from_millis(50);
const ALL: Sampling = Sampling { failed_opens: 0, read_opens: 0 };

/// The ladder. The first rung is the ground.
const LADDER: [Rung; 6] = [
    Rung { what: "nothing", nap: NAP, records: true, sampling: ALL },
    Rung { what: "promptness: alerts come up to 50 ms later", nap: LONG_NAP, records: true, sampling: ALL },
    Rung {
        what: "15 of 16 opens for reading that fail",
        nap: LONG_NAP,
        records: true,
        sampling: Sampling { failed_opens: 16, read_opens: 0 },
    },
    Rung {
        what: "the flight recorder",
        nap: LONG_NAP,
        records: false,
        sampling: Sampling { failed_opens: 16, read_opens: 0 },
    },
    Rung {
        what: "15 of 16 opens for reading",
        nap: LONG_NAP,
        records: false,
        sampling: Sampling { failed_opens: 16, read_opens: 16 },
    },
    Rung {
        what: "255 of 256 opens for reading",
        nap: LONG_NAP,
        records: false,
        sampling: Sampling { failed_opens: 256, read_opens: 256 },
    },
];

/// Where on the ladder the agent stands.
#[derive(Debug)]
pub struct Budget {
    cores: f64,
    /// CPU time at the last look, nanoseconds.
    known_ns: Option<u64>,
    used: f64,
    level: usize,
    looks: u32,
    over: u32,
    under: u32,
    down_after: u32,
    /// Looks since the last step down.
    since_down: u32,
    /// A step down was the last: whether it lasted is not known yet.
    left: bool,
    changes: u64,
}

impl Budget {
    /// `percent` of the host's cores, one core at most; 0: no budget.
    pub fn new(percent: u32, cpus: usize) -> Self {
        let cores = (f64::from(percent) / 100.0 * cpus as f64).min(1.0);
        Self {
            cores,
            known_ns: None,
            used: 0.0,
            level: 0,
            looks: 0,
            over: 0,
            under: 0,
            down_after: DOWN_AFTER,
            since_down: u32::MAX,
            left: false,
            changes: 0,
        }
    }

    /// A look: the agent's CPU time so far, and what went by since the last look. True if the rung changed.
    pub fn look(&mut self, cpu_ns: u64, passed: Duration) -> bool {
        let Some(known) = self.known_ns.replace(cpu_ns) else { return false };
        let used = cpu_ns.saturating_sub(known) as f64 / (passed.as_nanos() as f64).max(1.0);
        self.looks = self.looks.saturating_add(1);
        self.since_down = self.since_down.saturating_add(1);
        if self.looks <= GRACE {
            self.used = used;
            return false;
        }
        self.used += (used - self.used) * WEIGHT;
        if self.cores == 0.0 {
            return false;
        }
        self.over = if self.used > self.cores { self.over + 1 } else { 0 };
        self.under = if self.used < self.cores / 2.0 { self.under + 1 } else { 0 };
        if self.over >= UP_AFTER && self.level + 1 < LADDER.len() {
            // What did not last is tried again later. However many rungs it leads up again, that is once.
            if std::mem::take(&mut self.left) {
                let soon = self.since_down <= 2 * DOWN_AFTER;
                self.down_after = if soon { (self.down_after * 2).min(LONGEST) } else { DOWN_AFTER };
            }
            return self.step(self.level + 1);
        }
        if self.under >= self.down_after && self.level > 0 {
            (self.since_down, self.left) = (0, true);
            return self.step(self.level - 1);
        }
        false
    }

    fn step(&mut self, level: usize) -> bool {
        (self.level, self.over, self.under) = (level, 0, 0);
        self.changes += 1;
        true
    }

    fn rung(&self) -> &'static Rung {
        &LADDER[self.level]
    }

    /// How long to sleep when there is nothing to do.
    pub fn nap(&self) -> Duration {
        self.rung().nap
    }

    /// Whether the flight recorder records.
    pub fn records(&self) -> bool {
        self.rung().records
    }

    /// What only a sample is wanted of.
    pub fn sampling(&self) -> Sampling {
        self.rung().sampling
    }

    /// The rung; 0: nothing is given up.
    pub fn level(&self) -> usize {
        self.level
    }

    /// What is given up, in words.
    pub fn given_up(&self) -> Vec<String> {
        LADDER[1..=self.level].iter().map(|rung| rung.what.to_owned()).collect()
    }

    /// What the status says.
    pub fn status(&self) -> BudgetStatus {
        BudgetStatus {
            cores: self.cores,
            used: self.used,
            level: self.level as u64,
            given_up: self.given_up(),
            changes: self.changes,
        }
    }
}

/// What there is to say of a change.
pub fn notice(budget: &Budget, before: usize) -> Notice<'static> {
    let up = budget.level > before;
    let used = format!("{:.0} % of a core", budget.used * 100.0);
    let allowed = format!("{:.0} %", budget.cores * 100.0);
    let message = match (up, budget.given_up().as_slice()) {
        (true, [.., last]) => format!("the agent takes {used}, its budget is {allowed}: it gives up {last}"),
        (_, []) => format!("the agent takes {used}, its budget is {allowed}: nothing is given up any more"),
        (_, all) => {
            format!("the agent takes {used}, its budget is {allowed}: given up are {} and less", all[all.len() - 1])
        }
    };
    Notice {
        name: "budget of CPU",
        priority: if up { Priority::Warning } else { Priority::Notice },
        message,
        why: "Something on this host makes more events than the agent may spend time on. What is left out is counted by \
              container (coverage), but nobody looks at it.",
        advice: "Find the container with the most events (tidewatch status, coverage), or raise agent.cpu_budget.",
        fields: vec![
            ("budget.level".to_owned(), Shown::Uint(budget.level as u64)),
            ("budget.given_up".to_owned(), Shown::Text(budget.given_up().join("; "))),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Looks with the agent taking so much of a core; the rungs after each.
    fn run(budget: &mut Budget, now: &mut u64, cores: f64, looks: u32) -> usize {
        for _ in 0..looks {
            *now += (cores * 1e9) as u64;
            budget.look(*now, SECOND);
        }
        budget.level()
    }

    #[test]
    fn the_ladder_is_climbed_slowly_and_left_more_slowly() {
        let (mut budget, mut now) = (Budget::new(5, 4), 0);
        assert_eq!(run(&mut budget, &mut now, 0.9, GRACE), 0, "a start is allowed to cost");
        assert_eq!(run(&mut budget, &mut now, 0.05, 30), 0);
        assert_eq!(run(&mut budget, &mut now, 0.9, 3), 0, "a burst is not much");
        assert_eq!(run(&mut budget, &mut now, 0.9, 5), 1);
        assert!(budget.nap() > NAP && budget.records() && budget.sampling() == ALL);
        assert_eq!(run(&mut budget, &mut now, 0.9, 20), 5, "the last rung");
        assert_eq!(run(&mut budget, &mut now, 0.9, 100), 5);
        assert_eq!(budget.given_up().len(), 5);
        assert!(run(&mut budget, &mut now, 0.01, 30) >= 4);
        assert_eq!(run(&mut budget, &mut now, 0.01, 200), 0, "all is taken back");
        assert_eq!(run(&mut budget, &mut now, 0.15, 1000), 0, "between half and whole nothing changes");
        assert_eq!(budget.status().changes, 10);
    }

    #[test]
    fn what_did_not_last_is_tried_again_later() {
        let (mut budget, mut now) = (Budget::new(5, 4), 0);
        run(&mut budget, &mut now, 0.9, 12);
        let mut waits = Vec::new();
        for _ in 0..4 {
            // The last rung: the average lags behind, and would climb from any other while the load ends already.
            while run(&mut budget, &mut now, 0.9, 1) < 5 {}
            let mut looks = 0;
            while run(&mut budget, &mut now, 0.01, 1) == 5 {
                looks += 1;
            }
            waits.push(looks);
        }
        assert!(waits.is_sorted() && waits[3] > 4 * waits[0], "{waits:?}");
    }

    #[test]
    fn a_relapse_over_many_rungs_is_one_relapse() {
        let (mut budget, mut now) = (Budget::new(5, 4), 0);
        run(&mut budget, &mut now, 0.9, 12);
        while run(&mut budget, &mut now, 0.9, 1) < 5 {}
        while run(&mut budget, &mut now, 0.01, 1) > 0 {}
        while run(&mut budget, &mut now, 0.9, 1) < 5 {}
        assert_eq!(budget.down_after, 2 * DOWN_AFTER);
    }

    #[test]
    fn a_budget_is_a_core_at_most_and_none_is_none() {
        assert_eq!(Budget::new(5, 2).cores, 0.1);
        assert_eq!(Budget::new(5, 96).cores, 1.0);
        let (mut budget, mut now) = (Budget::new(0, 4), 0);
        assert_eq!(run(&mut budget, &mut now, 4.0, 100), 0);
    }
}
