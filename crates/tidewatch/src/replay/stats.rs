//! What a replay read, how fast, and what each rule found.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::time::Duration;

use tw_sensor::capture::Conversion;

use crate::screen;

/// Counters of a replay.
#[derive(Default)]
pub(super) struct Stats {
    pub segments: u64,
    pub captures: u64,
    /// Time that it took to go through them.
    pub took: Duration,
    /// Records that the rules looked at.
    pub events: u64,
    /// Records that the recorder had lost, or that could not be read.
    pub lost: u64,
    pub unknown: u64,
    pub malformed: u64,
    /// What became of the events of captures.
    pub conversion: Conversion,
    hits: BTreeMap<String, u64>,
}

impl Stats {
    pub fn hit(&mut self, rule: &str) {
        match self.hits.get_mut(rule) {
            Some(hits) => *hits += 1,
            None => {
                self.hits.insert(rule.to_owned(), 1);
            }
        }
    }

    /// Whether no rule found anything.
    pub fn is_quiet(&self) -> bool {
        self.hits.is_empty()
    }

    /// Adds what became of the events of one capture.
    pub fn add(&mut self, of: &Conversion) {
        let sum = &mut self.conversion;
        for (sum, number) in [
            (&mut sum.events, of.events),
            (&mut sum.records, of.records),
            (&mut sum.begins, of.begins),
            (&mut sum.others, of.others),
            (&mut sum.silent, of.silent),
            (&mut sum.dropped, of.dropped),
            (&mut sum.malformed, of.malformed),
        ] {
            *sum += number;
        }
        self.malformed += of.malformed;
    }

    /// Events that were read: those of captures whether or not they are of our kinds.
    fn read(&self) -> u64 {
        self.events - self.conversion.records.min(self.events) + self.conversion.events
    }

    pub fn show(&self, json: bool) -> io::Result<()> {
        let took = self.took;
        let rate = self.read() as f64 / took.as_secs_f64().max(1e-9);
        if json {
            // Findings are on standard output; what is said about them is not.
            let of = &self.conversion;
            let line = serde_json::json!({
                "segments": self.segments, "captures": self.captures, "events": self.events, "read": self.read(),
                "seconds": took.as_secs_f64(), "events_per_second": rate.round(), "lost": self.lost,
                "unknown": self.unknown, "malformed": self.malformed, "hits": self.hits,
                "capture": {
                    "events": of.events, "records": of.records, "begins": of.begins, "others": of.others,
                    "silent": of.silent, "malformed": of.malformed, "dropped": of.dropped,
                },
            });
            return writeln!(io::stderr(), "{line}");
        }
        let mut out = anstream::AutoStream::auto(io::stderr());
        let count = |number: u64, noun| screen::count(usize::try_from(number).unwrap_or(usize::MAX), noun);
        let mut sources = Vec::new();
        if self.segments > 0 || self.captures == 0 {
            sources.push(count(self.segments, "segment"));
        }
        if self.captures > 0 {
            sources.push(count(self.captures, "capture"));
        }
        writeln!(
            out,
            "{}, {} in {}: {rate:.0} a second; {} lost, {} of unknown kinds, {} malformed",
            sources.join(" and "),
            count(self.read(), "event"),
            time(took),
            self.lost,
            self.unknown,
            self.malformed
        )?;
        if self.captures > 0 && self.conversion.events > 0 {
            let of = &self.conversion;
            writeln!(
                out,
                "of the captures' events {} were looked at; {} are begins of calls, {} are not of our kinds, {} say nothing new",
                of.records, of.begins, of.others, of.silent
            )?;
            if of.dropped > 0 {
                writeln!(out, "the captures say {} that events were left out", count(of.dropped, "time"))?;
            }
        }
        for (rule, hits) in &self.hits {
            writeln!(out, "{hits:>8}  {}", tw_report::escape::line(rule))?;
        }
        Ok(())
    }
}

/// A time in the unit that fits it: `3.2 s`, `41 ms`, `0.8 ms`.
fn time(took: Duration) -> String {
    let ms = took.as_secs_f64() * 1e3;
    match ms {
        1000.0.. => format!("{:.1} s", ms / 1e3),
        10.0.. => format!("{ms:.0} ms"),
        _ => format!("{ms:.1} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_times_are_not_called_none() {
        let shown = [3_210, 41, 2].map(|ms| time(Duration::from_millis(ms)));
        assert_eq!(shown, ["3.2 s", "41 ms", "2.0 ms"]);
        assert_eq!(time(Duration::from_micros(80)), "0.1 ms");
    }

    #[test]
    fn begins_count_as_read_and_records_once() {
        let mut stats = Stats { events: 7, ..Stats::default() };
        stats.add(&Conversion { events: 20, records: 5, begins: 10, others: 5, ..Conversion::default() });
        assert_eq!(stats.read(), 22);
    }
}
