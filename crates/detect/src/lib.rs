//! Event → finding.
//!
//! Detectors run in a fixed order; today there is one, the rules. [`Detector::inspect`] is pure: what it says depends
//! on the event and its context alone, and time comes from the event.
//!
//! **Never:** input or output, a clock, a thread.
#![forbid(unsafe_code)]

mod finding;

use tw_model::{Event, Finding};
use tw_rules::{Engine, RuleSet};

/// All detectors with what they know.
pub struct Detector {
    rules: RuleSet,
    engine: Engine,
    session: u64,
}

impl Detector {
    /// A detector for these rules.
    pub fn new(rules: RuleSet) -> Self {
        Self { engine: Engine::new(&rules), rules, session: 0 }
    }

    /// A detector whose findings belong to this session; it is part of their identity.
    #[must_use]
    pub fn in_session(mut self, session: u64) -> Self {
        self.set_session(session);
        self
    }

    /// Says which session the findings belong to from now on.
    pub fn set_session(&mut self, session: u64) {
        self.session = session;
    }

    /// Puts another detector, made beside this one, in its place from the next event on; the session stays. Returns the
    /// one that was in force.
    pub fn replace_by(&mut self, other: Self) -> Self {
        let session = self.session;
        std::mem::replace(self, other.in_session(session))
    }

    /// Tells `found` what there is to say of the event. Allocates only if there is something, or if the process is of
    /// a kind not seen before.
    pub fn inspect(&mut self, event: &Event<'_>, found: &mut dyn FnMut(Finding)) {
        let session = self.session;
        if event.kind().is_internal() {
            // Its process is the agent, in whichever container: nothing of it may be remembered.
            return self.rules.inspect(event, &mut |rule| found(finding::of_rule(rule, event, session)));
        }
        self.engine.inspect(&self.rules, event, &mut |rule| found(finding::of_rule(rule, event, session)));
    }

    /// The same, rule by rule: tells `cost` what each took, as [`RuleSet::inspect_measured`] does. Much slower.
    pub fn inspect_measured(
        &self,
        event: &Event<'_>,
        now: &dyn Fn() -> u64,
        found: &mut dyn FnMut(Finding),
        cost: &mut dyn FnMut(usize, u64),
    ) {
        self.rules.inspect_measured(event, now, &mut |rule| found(finding::of_rule(rule, event, self.session)), cost);
    }

    /// The rules.
    pub fn rules(&self) -> &RuleSet {
        &self.rules
    }
}

pub use finding::{Notice, of_sensor};
