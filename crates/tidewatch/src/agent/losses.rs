//! A gap is a fact, never silence: what was lost, and what of it was said.

use std::time::{Duration, Instant};

use tw_detect::Notice;
use tw_model::Priority;
use tw_model::finding::Shown;
use tw_model::status::EventCount;

/// How often losses are reported at most.
const REPORT_EVERY: Duration = Duration::from_secs(30);

/// What was lost, and what of it was said.
#[derive(Default)]
pub struct Losses {
    said: Option<Instant>,
    known: u64,
}

impl Losses {
    /// Something to say if more was lost since the last time and it is time to say so; at the end it always is.
    /// `others` are losses beside events: what, and how many.
    pub fn look(&mut self, events: &[EventCount], others: &[(&str, u64)], at_end: bool) -> Option<Notice<'static>> {
        let lost = |event: &EventCount| event.lost_ring + event.lost_scratch;
        let total = events.iter().map(lost).sum::<u64>() + others.iter().map(|(_, lost)| lost).sum::<u64>();
        if total <= self.known || (!at_end && self.said.is_some_and(|said| said.elapsed() < REPORT_EVERY)) {
            return None;
        }
        self.said = Some(Instant::now());
        let new = total - self.known;
        self.known = total;
        let mut classes: Vec<(u64, &str)> = events.iter().map(|event| (lost(event), event.event.as_str())).collect();
        classes.sort_unstable_by(|a, b| b.cmp(a));
        let others = others.iter().map(|(what, lost)| (*lost, *what));
        let shown: Vec<String> = classes
            .into_iter()
            .take(5)
            .chain(others)
            .filter(|(lost, _)| *lost > 0)
            .map(|(lost, name)| format!("{name} {lost}"))
            .collect();
        Some(Notice {
            name: "events lost",
            priority: Priority::Warning,
            message: format!("{new} events lost since the last report; since start: {}", shown.join(", ")),
            why: "Tidewatch did not see everything: an absence of alerts is no proof of peace for this time.",
            advice: "Look for a container that repeats one call at full speed (tidewatch's log names the event classes), \
                     or give the agent more CPU.",
            fields: vec![("n_lost".to_owned(), Shown::Uint(new))],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_loss_is_told_once_and_the_last_at_the_end() {
        let lost = |n| vec![EventCount { event: "openat".into(), lost_ring: n, ..EventCount::default() }];
        let mut losses = Losses::default();
        assert!(losses.look(&lost(0), &[("alerts", 0)], false).is_none());
        let notice = losses.look(&lost(3), &[("alerts", 2)], false).unwrap();
        assert_eq!(notice.message, "5 events lost since the last report; since start: openat 3, alerts 2");
        assert!(losses.look(&lost(9), &[("alerts", 2)], false).is_none(), "too soon");
        let last = losses.look(&lost(9), &[("alerts", 2)], true).unwrap();
        assert_eq!(last.fields, [("n_lost".to_owned(), Shown::Uint(6))]);
        assert!(losses.look(&lost(9), &[("alerts", 2)], true).is_none());
        assert!(losses.look(&lost(1), &[("alerts", 2)], true).is_none(), "a counter that begins anew is no loss");
    }
}
