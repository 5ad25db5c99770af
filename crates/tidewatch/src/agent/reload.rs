//! Rules and settings that change while the agent runs. The new set is made beside the old one, by a thread of its own,
//! and takes its place between two events; if it is broken the old one stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tw_detect::Notice;
use tw_model::Priority;
use tw_model::link::Call;
use tw_model::status::{RulesStatus, SpoolStatus};
use tw_report::spool::SpoolView;
use tw_report::uplink::Asked;
use tw_rules::RuleSet;

use super::Agent;
use crate::config::{Config, Sources};
use crate::log::LogLevel;
use crate::rules;

/// What a reload brought.
type Outcome = Result<Fresh, String>;

/// Where whoever asked waits for a sentence.
type Answer = SyncSender<Result<String, String>>;

struct Fresh {
    config: Config,
    rules: RuleSet,
    status: RulesStatus,
}

/// The agent's ear for reloads.
pub(super) struct Reload {
    sources: Sources,
    /// Set by SIGHUP.
    wanted: Arc<AtomicBool>,
    calls: Receiver<Asked>,
    done: Receiver<(Outcome, Vec<Answer>)>,
    send_done: SyncSender<(Outcome, Vec<Answer>)>,
    under_way: bool,
    level: LogLevel,
    /// A view, since whoever has the spool may wait for the disk.
    spool: Option<SpoolView>,
    /// Findings that were given up before this start.
    dropped_before: u64,
}

impl Reload {
    pub(super) fn new(
        sources: Sources,
        wanted: Arc<AtomicBool>,
        calls: Receiver<Asked>,
        level: LogLevel,
        spool: Option<SpoolView>,
    ) -> Self {
        let (send_done, done) = sync_channel(1);
        let dropped_before = spool.as_ref().map_or(0, |spool| dropped(&spool.status()));
        Self { sources, wanted, calls, done, send_done, under_way: false, level, spool, dropped_before }
    }

    /// State of the spool, if there is one.
    pub(super) fn spool_status(&self) -> Option<SpoolStatus> {
        self.spool.as_ref().map(SpoolView::status)
    }

    /// Findings that the spool gave up since this start; its own count goes back to when it was created.
    pub(super) fn dropped_since_start(&self, spool: &SpoolStatus) -> u64 {
        dropped(spool).saturating_sub(self.dropped_before)
    }

    fn begin(&mut self, waiting: Vec<Answer>) {
        self.under_way = true;
        let (sources, done) = (self.sources.clone(), self.send_done.clone());
        let started = std::thread::Builder::new().name("reload".into()).spawn(move || {
            // The agent takes it, or is gone.
            let _ = done.send((load(&sources), waiting));
        });
        if let Err(error) = started {
            self.under_way = false;
            tracing::error!("cannot load anew: {error}");
        }
    }
}

fn dropped(spool: &SpoolStatus) -> u64 {
    spool.lanes.iter().map(|lane| lane.dropped).sum()
}

fn load(sources: &Sources) -> Outcome {
    let loaded = Config::load(sources).map_err(|errors| errors.to_string())?;
    let config = loaded.config;
    let fresh = rules::load(&config.rules.files).map_err(|error| format!("{error:#}"))?;
    if fresh.errors() > 0 && !config.rules.skip_broken {
        let first = fresh.diagnostics.iter().find(|diagnostic| diagnostic.is_error());
        let first = first.map(|diagnostic| diagnostic.render(false)).unwrap_or_default();
        return Err(format!(
            "{} in the rules ({}), the first:\n{}",
            crate::screen::count(fresh.errors(), "error"),
            fresh.source,
            first.trim_end()
        ));
    }
    if fresh.rules.is_empty() {
        return Err(format!("no rule in {}", fresh.source));
    }
    let status = fresh.status();
    let mut rules = fresh.rules;
    rules.set_matching(super::boot::matching(&config));
    Ok(Fresh { config, rules, status })
}

impl Agent {
    /// Starts a reload if one is wanted, and takes what one brought.
    pub(super) fn take_reloaded(&mut self) {
        let mut waiting = Vec::new();
        while let Ok(asked) = self.reload.calls.try_recv() {
            match asked.call {
                Call::Reload => waiting.push(asked.answer),
            }
        }
        if self.reload.under_way {
            // One at a time: whoever asks meanwhile is told to ask again.
            for answer in waiting.drain(..) {
                let _ = answer.try_send(Err("a reload is under way already: try again in a moment".into()));
            }
        } else if self.reload.wanted.swap(false, Ordering::Relaxed) || !waiting.is_empty() {
            self.reload.begin(waiting);
        }
        let Ok((outcome, waiting)) = self.reload.done.try_recv() else { return };
        self.reload.under_way = false;
        let said = match outcome {
            Ok(fresh) => Ok(self.take_over(fresh)),
            Err(error) => {
                self.keep_the_old(&error);
                Err(error)
            }
        };
        for answer in waiting {
            // Whoever asked may have gone.
            let _ = answer.try_send(said.clone());
        }
    }

    fn take_over(&mut self, fresh: Fresh) -> String {
        let changes = self.config.changes(&fresh.config);
        let later: Vec<&str> = changes.iter().filter(|change| !change.live).map(|change| change.key.as_str()).collect();
        let unchanged = self.rules.digest == fresh.status.digest;
        let digest = fresh.status.digest.get(..12).unwrap_or_default();
        let mut said = format!(
            "{} in force, digest {digest}{}",
            crate::screen::count(fresh.status.enabled as usize, "rule"),
            if unchanged { " (unchanged)" } else { "" }
        );
        if !later.is_empty() {
            said += &format!("; these changes wait for a restart: {}", later.join(", "));
        }
        self.detector.set_rules(fresh.rules);
        self.costs.rules_changed();
        self.rules = fresh.status;
        if let Err(error) = self.reload.level.set(&fresh.config.log.level) {
            tracing::warn!("{error:#}");
        }
        if let Some(spool) = &self.reload.spool {
            spool.set_max_bytes(fresh.config.spool.max_mib << 20);
        }
        self.config.take_live(&fresh.config);
        if let Some(tape) = &mut self.tape
            && (tape.reconfigure(&self.config) || !unchanged)
        {
            // A segment names what was in force for all of it.
            tape.begin(&mut self.world, &self.node, &self.rules.digest);
        }
        tracing::info!("loaded anew: {said}");
        said
    }

    fn keep_the_old(&mut self, error: &str) {
        tracing::error!("not loaded anew, everything stays as it was: {error}");
        self.rules.last_error = Some(error.to_owned());
        self.say(Notice {
            name: "reload failed",
            priority: Priority::Error,
            message: format!("rules and settings were not loaded anew: {}", first_lines(error)),
            why: "What was changed is not in force. The watch goes on with what was in force before.",
            advice: "Mend what is named (tidewatch rules check FILE, tidewatch config check), then: tidewatch reload.",
            fields: Vec::new(),
        });
    }
}

/// What of an error fits into one line: an excerpt of the source does not.
fn first_lines(error: &str) -> String {
    error.lines().take_while(|line| !line.trim_start().starts_with('|')).map(str::trim).collect::<Vec<_>>().join(" ")
}
