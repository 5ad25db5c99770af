//! `rules bench`: what each rule costs, and how often it hits.
//!
//! First all rules are tried together, as the service does it, once on each event. Then each is tried alone, several times
//! in a row, so that the reading of the clock weighs little; what is in the processor's caches by then makes it cheaper
//! than it would be in life. These figures are there to compare rules with each other.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Instant;

use anstyle::Style;
use anyhow::Context as _;
use serde_json::json;
use tw_model::Event;
use tw_model::process::ProcessTable;
use tw_report::escape;
use tw_rules::suite::{PlacedEvent, read_events};
use tw_rules::{Engine, Rule, RuleSet};

use super::choice::{Configure, for_reading, loaded};
use super::explain;
use crate::cli::RulesBenchArgs;
use crate::replay;
use crate::screen::{self, print_stdout};

const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();

/// The built-in events.
const MIX: &str = include_str!("mix.yaml");
/// How often the built-in events, and those of a file, are gone through.
const ROUNDS: usize = 50;
/// How often a rule is tried on an event in a row, and how often that is done: the shortest counts, since the others may
/// have been interrupted.
const TRIES: u32 = 4;
const ROWS: usize = 3;
/// Whatever takes longer than this was interrupted, nanoseconds.
const INTERRUPTED: f64 = 1e6;
/// Rules that are listed without `--all`.
const LISTED: usize = 25;

/// Measures the rules.
///
/// # Errors
/// If rules or events cannot be read, there is no event, or nobody reads standard output any more.
pub fn run(args: &RulesBenchArgs, configure: Configure<'_>) -> anyhow::Result<ExitCode> {
    let loaded = loaded(&args.from.rules, configure)?;
    super::show(&loaded.diagnostics, false);
    let mut bench = Bench::new(&loaded.rules, args.limit.unwrap_or(u64::MAX));
    let about = if !args.captures.is_empty() {
        let config = for_reading(configure);
        replay::events(&args.captures, &config, &mut |event| bench.together(event))?;
        // What is wrong with them is told by now.
        tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::default(), || {
            replay::events(&args.captures, &config, &mut |event| bench.one_by_one(event))
        })?;
        args.captures.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    } else {
        let (name, text) = match &args.events {
            Some(path) => (path.display().to_string(), explain::read(&path.to_string_lossy())?),
            None => ("the built-in mix".to_owned(), MIX.to_owned()),
        };
        let (events, diagnostics) = read_events(&name, &text);
        super::show(&diagnostics, false);
        anyhow::ensure!(diagnostics.is_empty(), "{name} has {}", screen::count(diagnostics.len(), "error"));
        go_through(&events, &mut |event| {
            // Its process has done something before, as most have.
            bench.engine.inspect(&loaded.rules, event, &mut |_| {});
            bench.together(event)
        })?;
        go_through(&events, &mut |event| bench.one_by_one(event))?;
        name
    };
    anyhow::ensure!(bench.events > 0, "there is no event in {about}");
    if args.json {
        print_stdout(&format!("{}\n", bench.as_json(&about, &loaded.source)))?;
    } else {
        bench.write(&mut anstream::AutoStream::auto(io::stdout()), &about, args.all)?;
    }
    Ok(if loaded.errors() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows made-up events to `look`, each by a process that the table knows.
fn go_through(events: &[PlacedEvent], look: replay::Look<'_>) -> anyhow::Result<()> {
    let mut number = 0;
    for _ in 0..ROUNDS {
        for event in events {
            number += 1;
            let flow = event.sample.inspect(number, |raised| {
                let mut processes = ProcessTable::new(1024);
                raised.processes.iter().chain([raised.process]).for_each(|process| processes.insert(process.clone()));
                let process = processes.get(raised.process.key).unwrap_or(raised.process);
                look(&Event { raw: raised.raw, process, processes: &processes, ..*raised })
            });
            if flow.context("the event cannot be made")?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// What a rule took.
#[derive(Clone, Copy, Default)]
struct Cost {
    /// Events that it was tried on.
    evaluations: u64,
    /// Nanoseconds that all of them took, each counted once.
    ns: f64,
    hits: u64,
}

impl Cost {
    fn per_evaluation(&self) -> f64 {
        self.ns / self.evaluations.max(1) as f64
    }
}

struct Bench<'r> {
    rules: &'r RuleSet,
    engine: Engine,
    /// What reading the clock takes, nanoseconds.
    clock: f64,
    limit: u64,
    /// Events that all rules were tried on together, and one by one.
    events: u64,
    seen: u64,
    hits: u64,
    /// All rules together, nanoseconds, on so many events without an interruption.
    together: f64,
    timed: u64,
    /// By the place of the rule.
    costs: Vec<Cost>,
}

impl<'r> Bench<'r> {
    fn new(rules: &'r RuleSet, limit: u64) -> Self {
        let costs = vec![Cost::default(); rules.len()];
        Self {
            engine: Engine::new(rules),
            rules,
            clock: clock(),
            limit,
            events: 0,
            seen: 0,
            hits: 0,
            together: 0.0,
            timed: 0,
            costs,
        }
    }

    /// All rules on one event, as the service tries them.
    fn together(&mut self, event: &Event<'_>) -> ControlFlow<()> {
        if self.events >= self.limit {
            return ControlFlow::Break(());
        }
        self.events += 1;
        let (rules, engine, hits) = (self.rules, &mut self.engine, &mut self.hits);
        let took = measured(self.clock, 1, || engine.inspect(rules, event, &mut |_| *hits += 1));
        if took < INTERRUPTED {
            self.together += took;
            self.timed += 1;
        }
        ControlFlow::Continue(())
    }

    /// Each rule on one event.
    fn one_by_one(&mut self, event: &Event<'_>) -> ControlFlow<()> {
        if self.seen >= self.limit {
            return ControlFlow::Break(());
        }
        self.seen += 1;
        for (rule, cost) in self.rules.rules().iter().zip(&mut self.costs) {
            if !rule.enabled || !rule.kinds.contains(event.kind()) {
                continue;
            }
            let mut matches = false;
            let mut once = || matches = std::hint::black_box(rule).matches(std::hint::black_box(event));
            cost.ns += (0..ROWS).map(|_| measured(self.clock, TRIES, &mut once)).fold(f64::INFINITY, f64::min);
            cost.evaluations += 1;
            cost.hits += u64::from(matches);
        }
        ControlFlow::Continue(())
    }

    /// Enabled rules with their costs, the dearest first.
    fn sorted(&self) -> Vec<(&Rule, Cost)> {
        let all = self.rules.rules().iter().zip(self.costs.iter().copied());
        let mut sorted: Vec<_> = all.filter(|(rule, _)| rule.enabled).collect();
        sorted.sort_by(|(_, a), (_, b)| b.ns.total_cmp(&a.ns));
        sorted
    }

    /// Nanoseconds of all rules together for each event.
    fn per_event(&self) -> f64 {
        self.together / self.timed.max(1) as f64
    }

    fn alone(&self) -> f64 {
        self.costs.iter().map(|cost| cost.ns).sum()
    }

    fn share(&self, cost: Cost) -> f64 {
        100.0 * cost.ns / self.alone().max(1e-9)
    }

    fn as_json(&self, about: &str, source: &str) -> serde_json::Value {
        let events = self.events as f64;
        let round = |number: f64| (number * 10.0).round() / 10.0;
        let rows: Vec<_> = self
            .sorted()
            .into_iter()
            .map(|(rule, cost)| {
                json!({"name": rule.name, "evaluations": cost.evaluations, "ns": round(cost.ns),
                    "ns_per_evaluation": round(cost.per_evaluation()), "share": round(self.share(cost)),
                    "hits": cost.hits})
            })
            .collect();
        json!({"events": self.events, "of": about, "source": source, "tries": TRIES,
            "together": {"ns_per_event": round(self.per_event()), "hits": self.hits},
            "alone": {"ns_per_event": round(self.alone() / events)}, "rules": rows})
    }

    fn write(&self, out: &mut dyn Write, about: &str, all: bool) -> io::Result<()> {
        let events = self.events as f64;
        let number = screen::count(usize::try_from(self.events).unwrap_or(usize::MAX), "event");
        writeln!(out, "{number} of {}", escape::line(about))?;
        let (together, alone) = (self.per_event(), self.alone() / events);
        let rate = 1e3 / together.max(1e-9);
        writeln!(out, "together    {BOLD}{together:.0} ns{BOLD:#} for each event, {rate:.1} million a second")?;
        writeln!(out, "one by one  {alone:.0} ns for each event\n")?;
        writeln!(out, "{DIM}{:>8} {:>7} {:>11} {:>9}  RULE, TRIED ALONE{DIM:#}", "NS EACH", "SHARE", "TRIED", "HITS")?;
        let sorted = self.sorted();
        let listed = if all { sorted.len() } else { sorted.len().min(LISTED) };
        for (rule, cost) in &sorted[..listed] {
            writeln!(
                out,
                "{:>8.0} {:>6.1}% {:>11} {:>9}  {}",
                cost.per_evaluation(),
                self.share(*cost),
                cost.evaluations,
                cost.hits,
                escape::short(&rule.name, 60)
            )?;
        }
        if listed < sorted.len() {
            writeln!(out, "{DIM}and {} that cost less (--all){DIM:#}", screen::count(sorted.len() - listed, "rule"))?;
        }
        Ok(())
    }
}

/// Nanoseconds of one of `tries`; `clock` is what reading the clock takes.
fn measured(clock: f64, tries: u32, mut once: impl FnMut()) -> f64 {
    let started = Instant::now();
    (0..tries).for_each(|_| once());
    let took = started.elapsed().as_nanos() as f64;
    (took - clock).max(0.0) / f64::from(tries)
}

/// What two readings of the clock in a row are apart, nanoseconds: the median of many.
fn clock() -> f64 {
    let mut gaps: Vec<u128> = (0..1001).map(|_| Instant::now().elapsed().as_nanos()).collect();
    gaps.sort_unstable();
    gaps[gaps.len() / 2] as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_mix_is_peaceful_and_can_be_made() {
        let (events, diagnostics) = read_events("mix.yaml", MIX);
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        let rules = crate::rules::RuleTexts::pack().load(&crate::rules::RuleOptions::default()).rules;
        let mut hits = Vec::new();
        for event in &events {
            let tell =
                |raised: &Event<'_>| rules.inspect(raised, &mut |rule| hits.push((event.line, rule.name.clone())));
            event.sample.inspect(1, tell).unwrap();
        }
        assert!(hits.is_empty(), "{hits:?}");
    }

    #[test]
    fn every_try_is_counted_once() {
        let rules =
            "- rule: R\n  desc: d\n  priority: INFO\n  output: o\n  condition: evt.type = chdir and fd.num = 0\n";
        let (rules, _) = tw_rules::Loader::new().add_file("r", rules).finish();
        let (events, _) = read_events("e", "- type: chdir\n- type: chroot\n- {type: chdir, ret: 0}\n");
        let mut bench = Bench::new(&rules, 7);
        go_through(&events, &mut |event| bench.together(event)).unwrap();
        go_through(&events, &mut |event| bench.one_by_one(event)).unwrap();
        let cost = bench.costs[0];
        assert_eq!((bench.events, cost.evaluations, cost.hits), (7, 5, bench.hits));
        assert!(cost.ns > 0.0 && bench.together > 0.0);
    }
}
