//! What rules find, and what they cost: hits of all events, time of a sample.

use std::collections::HashMap;

use tw_model::status::RuleCost;
use tw_rules::RuleSet;

/// One event of so many is measured, or one of [`SAMPLE_A_RULE`] for each rule if that is more: a measured event tries
/// every rule by itself, and must stay rare enough to cost nothing.
const SAMPLE: u64 = 256;
const SAMPLE_A_RULE: u64 = 4;

/// Hits and costs since the rules came into force.
#[derive(Default)]
pub struct Costs {
    events: u64,
    /// By place in the rule set: events measured, nanoseconds.
    taken: Vec<(u64, u64)>,
    hits: HashMap<String, u64>,
}

impl Costs {
    /// Whether the event that comes now is one to measure, with so many rules.
    pub fn is_sampled(&mut self, rules: usize) -> bool {
        self.events += 1;
        self.events.is_multiple_of(SAMPLE.max(SAMPLE_A_RULE * rules as u64))
    }

    /// A rule took so long.
    pub fn took(&mut self, place: usize, ns: u64) {
        if self.taken.len() <= place {
            self.taken.resize(place + 1, (0, 0));
        }
        let (events, sum) = &mut self.taken[place];
        *events += 1;
        *sum += ns;
    }

    /// A rule matched.
    pub fn hit(&mut self, rule: &str) {
        match self.hits.get_mut(rule) {
            Some(hits) => *hits += 1,
            None => {
                self.hits.insert(rule.to_owned(), 1);
            }
        }
    }

    /// Places mean other rules from now on; hits go on by name.
    pub fn rules_changed(&mut self) {
        self.taken.clear();
    }

    /// Of all enabled rules.
    pub fn of(&self, rules: &RuleSet) -> Vec<RuleCost> {
        let cost = |(place, rule): (usize, &tw_rules::Rule)| {
            let (sampled, sampled_ns) = self.taken.get(place).copied().unwrap_or_default();
            let hits = self.hits.get(&rule.name).copied().unwrap_or_default();
            RuleCost { rule: rule.name.clone(), hits, sampled, sampled_ns }
        };
        rules.rules().iter().enumerate().filter(|(_, rule)| rule.enabled).map(cost).collect()
    }
}
