//! The agent: the corridor from the kernel to the alert, in the order of the picture in ARCHITECTURE.md.

mod beat;
mod boot;
mod budget;
mod clean;
mod clock;
mod costs;
mod coverage;
mod first_rules;
mod first_settings;
mod identity;
mod last_good;
mod losses;
mod reload;
mod self_view;
mod sensing;
mod tape;
mod usage;
mod watch;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use bumpalo::Bump;
use tw_detect::{Detector, Notice};
use tw_enrich::World;
use tw_model::link::PodNews;
use tw_model::raw::from_words;
use tw_model::status::{Histogram, Node, RulesStatus};
use tw_model::{Finding, Priority, Raw};
use tw_report::redact::Redactor;
use tw_report::uplink::Board;
use tw_sensor::{Source, clock as kernel};

use crate::config::Config;
use crate::outlet::Outlet;
use crate::screen;
use beat::Pulse;
use budget::Budget;
use clock::WallClock;
use costs::Costs;
use losses::Losses;
use reload::Reload;
use tape::Tape;
use usage::Meter;

pub use clean::Clean;
pub use coverage::Cover;
pub use first_settings::settings;
pub use sensing::{Prepared, cannot_watch, options};
pub use tape::Settings;

pub use boot::{
    AgentOptions, end_with_supervisor, hostname, meet_runtimes, restarts, run, stop_flag, supervisor, without_secrets,
};

/// How often it looks after itself: losses, status, the recorder.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Everything between the rings and the outlet.
struct Agent {
    config: Config,
    node: Node,
    world: World,
    detector: Detector,
    outlet: Outlet,
    /// What the API of Kubernetes says of pods, by way of the manager.
    pods: Receiver<PodNews>,
    redactor: Option<Redactor>,
    tape: Option<Tape>,
    meter: Option<Meter>,
    reload: Reload,
    board: Arc<Board>,
    rules: RulesStatus,
    /// Why the settings are not those on disk, since the start; none if they are.
    settings_error: Option<String>,
    clock: WallClock,
    costs: Costs,
    losses: Losses,
    cover: Cover,
    budget: Budget,
    pulse: Pulse,
    /// Findings so far by priority, and how long they took.
    found: [u64; Priority::ALL.len()],
    latency: Histogram,
    scratch: Bump,
    started: Instant,
    started_ns: u64,
    looked: Option<Instant>,
    malformed: u64,
    /// Findings about the agent itself.
    notices: u64,
    containers_told: Option<u64>,
    listeners_told: Option<u64>,
    /// Rules that can find nothing in this mode, each with the reason; none if that is to be found out anew.
    mute: Option<Vec<String>>,
}

impl Agent {
    /// Takes what is in the rings; returns how many records that was.
    fn turn(&mut self, sensor: &mut dyn Source) -> usize {
        self.look_at_the_clock();
        self.take_reloaded(sensor);
        for notice in self.world.news(self.clock.offset_ns()) {
            boot::log_notice(&notice);
        }
        while let Ok(news) = self.pods.try_recv() {
            self.world.take_pods(news);
        }
        self.released(kernel::boot_ns());
        let taken = sensor.drain_giving_way(&mut |bytes, gives_way| match Raw::parse(bytes) {
            Ok(raw) if gives_way => self.cover.gave_way(&raw),
            Ok(raw) if self.world.admit(&raw) => self.inspect(raw),
            Ok(_) => {} // waits for its container's name
            Err(error) => {
                self.malformed += 1;
                self.cover.malformed(&mut self.world);
                tracing::debug!("{error}");
            }
        });
        self.cover.book(&mut self.world, sensor, false);
        while let Some(words) = self.meter.as_ref().and_then(Meter::next) {
            self.take_whole(&words);
        }
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
            let passed = self.looked.replace(Instant::now()).map(|looked| looked.elapsed());
            self.look_at_the_budget(sensor, passed.unwrap_or_default());
            self.look_after_itself(sensor, false);
        }
        taken
    }

    /// Records that waited for their container's name long enough by boot time `now_ns`.
    fn released(&mut self, now_ns: u64) {
        for words in self.world.release(now_ns) {
            self.take_whole(&words);
        }
    }

    /// A record that comes from elsewhere than the rings.
    fn take_whole(&mut self, words: &[u64]) {
        if let Ok(raw) = Raw::parse(from_words(words)) {
            self.inspect(raw);
        }
    }

    /// One record: secrets out, enrich, detect, report, record.
    fn inspect(&mut self, raw: Raw<'_>) {
        // Before anybody sees it: what is not in the agent cannot leave it.
        let clean = Clean::new(self.redactor.as_ref(), &raw);
        let seen = clean.instead_of(raw);
        let sampled = self.costs.is_sampled(self.detector.rules().len());
        let event = self.world.observe(seen, &self.scratch);
        let (outlet, costs, least) = (&self.outlet, RefCell::new(&mut self.costs), self.config.agent.priority);
        let (found, latency) = (&mut self.found, &mut self.latency);
        let now = kernel::boot_ns;
        let happened = seen.header.time;
        let mut report = |finding: Finding| {
            costs.borrow_mut().hit(finding.cause.name());
            if finding.priority <= least {
                found[finding.priority as usize] += 1;
                latency.observe(now().saturating_sub(happened) as f64 / 1e9);
                outlet.send(finding);
            }
        };
        if sampled {
            self.detector
                .inspect_measured(&event, &now, &mut report, &mut |place, ns| costs.borrow_mut().took(place, ns));
        } else {
            self.detector.inspect(&event, &mut report);
        }
        if let Some(tape) = &mut self.tape {
            if self.budget.records() {
                tape.record(&mut self.world, if self.config.recorder.redact { &seen } else { &raw });
            } else {
                tape.pass_over(&mut self.world);
            }
        }
        self.scratch.reset();
    }

    /// The agent's word about itself: a finding like any other.
    fn say(&mut self, notice: Notice<'_>) {
        self.notices += 1;
        let finding = tw_detect::of_sensor(self.node.session, self.notices, kernel::wall_ns(), notice);
        self.found[finding.priority as usize] += 1;
        if let Some(tape) = &mut self.tape {
            tape.said(&finding);
        }
        self.outlet.send(finding);
    }

    fn look_at_the_clock(&mut self) {
        let Some(jump) = self.clock.look(kernel::boot_to_wall_ns()) else { return };
        let seconds = jump as f64 / 1e9;
        let way = if jump < 0 { "back" } else { "forward" };
        tracing::warn!("the clock of this host jumped {way} by {:.1} s", seconds.abs());
        self.say(Notice {
            name: "clock jumped",
            priority: Priority::Notice,
            message: format!("the clock of this host jumped {way} by {:.1} s", seconds.abs()),
            why: "Times of alerts before and after cannot be compared. Somebody who wants to blur a trail sets the clock.",
            advice: "Find out who set it: time synchronisation, an administrator, or a container with CAP_SYS_TIME.",
            fields: vec![("seconds".to_owned(), tw_model::finding::Shown::Text(format!("{seconds:.3}")))],
        });
    }

    /// Gives something up if the agent takes more CPU than it may, or takes it back.
    fn look_at_the_budget(&mut self, sensor: &dyn Source, passed: Duration) {
        let (before, recorded) = (self.budget.level(), self.budget.records());
        if !self.budget.look(tw_manager::usage::own().cpu_ns, passed) {
            return;
        }
        if let Err(error) = sensor.sample(self.budget.sampling()) {
            tracing::error!("{error}");
        }
        if let Some(tape) = &mut self.tape
            && self.budget.records()
            && !recorded
        {
            tape.begin(&mut self.world, &self.node, &self.rules.digest);
        }
        let notice = budget::notice(&self.budget, before);
        tracing::warn!("{}", notice.message);
        self.say(notice);
    }

    /// The minute that is over, as events.
    fn tell_the_minute(&mut self, at_end: bool) {
        for words in self.cover.minute(&mut self.world, kernel::boot_ns(), at_end) {
            self.take_whole(&words);
        }
    }

    /// Once a second: losses, the recorder, the status for the manager.
    fn look_after_itself(&mut self, sensor: &mut dyn Source, at_end: bool) {
        self.world.refresh_users(kernel::boot_ns());
        self.world.refresh_listeners(kernel::boot_ns());
        self.tell_the_minute(at_end);
        if at_end {
            self.pulse.end(kernel::wall_ns());
        } else {
            self.pulse.beat(kernel::wall_ns());
        }
        if let Some(meter) = &mut self.meter {
            meter.look_after(&self.world);
        }
        let events = self_view::event_counts(sensor);
        let counts = self.outlet.counts();
        let others = [
            ("alerts", counts.lost_queue.load(Ordering::Relaxed)),
            ("alerts not kept", counts.lost_spool.load(Ordering::Relaxed)),
        ];
        if let Some(notice) = self.losses.look(&events, &others, at_end) {
            tracing::warn!("{}", notice.message);
            self.say(notice);
        }
        if let Some(tape) = &mut self.tape {
            tape.look_after(&mut self.world, &self.node, &self.rules.digest);
        }
        self.publish(sensor, events);
    }

    fn finish(mut self, sensor: &mut dyn Source) {
        // What happened before the signal still counts.
        self.turn(sensor);
        // Nor is there more to wait for: without a name is better than not at all.
        self.released(u64::MAX);
        self.cover.book(&mut self.world, sensor, true);
        self.look_after_itself(sensor, true);
        let counts = self.world.counts();
        let outlet = Arc::clone(self.outlet.counts());
        self.outlet.close();
        if let Some(tape) = self.tape.take() {
            tape.close();
        }
        let lost: u64 = sensor.counts().iter().map(|(_, count)| count.lost()).sum();
        let folded: u64 = sensor.counts().iter().map(|(_, count)| count.folded()).sum();
        tracing::info!(
            "watched for {:.0} s: {} events, {lost} lost, {folded} folded; {}, {} lost; \
             {} processes ({} inferred), {} containers, {} malformed records",
            self.started.elapsed().as_secs_f64(),
            self.world.events(),
            screen::count(outlet.sent.load(Ordering::Relaxed) as usize, "alert"),
            outlet.lost_queue.load(Ordering::Relaxed),
            counts.processes,
            counts.inferred,
            counts.membership.containers,
            self.malformed,
        );
    }
}
