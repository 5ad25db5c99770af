//! Event → finding.
//!
//! Detectors run in a fixed order; today there is one, the rules. [`Detector::inspect`] is pure: what it says depends
//! on the event and its context alone, and time comes from the event.
//!
//! **Never:** input or output, a clock, a thread.
#![forbid(unsafe_code)]

mod finding;

use tw_model::{Event, Finding};
use tw_rules::RuleSet;

/// All detectors with what they know.
pub struct Detector {
    rules: RuleSet,
}

impl Detector {
    /// A detector for these rules.
    pub fn new(rules: RuleSet) -> Self {
        Self { rules }
    }

    /// Tells `found` what there is to say of the event. Allocates only if there is something.
    pub fn inspect(&self, event: &Event<'_>, found: &mut dyn FnMut(Finding)) {
        self.rules.inspect(event, &mut |rule| found(finding::of_rule(rule, event)));
    }

    /// The rules.
    pub fn rules(&self) -> &RuleSet {
        &self.rules
    }
}

/// A finding of the agent about itself: losses, hooks that failed. `time_ns` is wall-clock time.
pub use finding::of_sensor;
