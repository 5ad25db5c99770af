//! What the agent says of itself, put together once a second for the manager and the command line.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use tw_manager::usage;
use tw_model::coverage::Miss;
use tw_model::status::{
    AgentStatus, ContainerCoverage, EventCount, FindingStatus, HookStatus, Problem, RingStatus, RulesOrigin,
    RuntimeStatus, TableStatus, WorldStatus,
};
use tw_model::{Mode, Priority};
use tw_sensor::{Source, clock};

use super::Agent;
use super::usage::Meter;
use crate::outlet::QUEUE;

/// Counts of the types of events that occurred.
pub fn event_counts(sensor: &dyn Source) -> Vec<EventCount> {
    let counts = sensor.counts().into_iter().map(|(kind, count)| EventCount {
        event: kind.name().to_owned(),
        seen: count.sent,
        lost_ring: count.of(Miss::RingFull),
        lost_scratch: count.of(Miss::NoBuffer),
        folded: count.folded(),
        sampled: count.of(Miss::Sampled),
    });
    counts
        .filter(|count| count.seen + count.lost_ring + count.lost_scratch + count.folded + count.sampled > 0)
        .collect()
}

impl Agent {
    /// Puts the state up where the uplink finds it.
    pub(super) fn publish(&mut self, sensor: &dyn Source, events: Vec<EventCount>) {
        self.mute(sensor.mode());
        let version = self.world.containers_version();
        if self.containers_told != Some(version) {
            self.containers_told = Some(version);
            let containers = self.world.containers().filter(|container| container.pid != 0).cloned().collect();
            *self.board.containers.lock().unwrap_or_else(PoisonError::into_inner) = (version, containers);
        }
        let version = self.world.listeners().version();
        if self.listeners_told != Some(version) {
            self.listeners_told = Some(version);
            let listeners = self.world.listeners_told();
            *self.board.listeners.lock().unwrap_or_else(PoisonError::into_inner) = (version, listeners);
        }
        let status = self.status(sensor, events);
        *self.board.status.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }

    fn status(&self, sensor: &dyn Source, events: Vec<EventCount>) -> AgentStatus {
        let world = self.world.counts();
        let outlet = self.outlet.counts();
        let sent = outlet.sent.load(Ordering::Relaxed);
        let text =
            |place: &std::sync::Mutex<Option<String>>| place.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut status = AgentStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: sensor.mode().name().to_owned(),
            mute_rules: self.mute.clone().unwrap_or_default(),
            unseen_programs: sensor.unseen(),
            node: self.node.clone(),
            pid: std::process::id(),
            restarts: super::boot::restarts(),
            started_ns: self.started_ns,
            time_ns: clock::wall_ns(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            hooks: sensor.health().hooks.iter().map(hook).collect(),
            rings: rings(sensor),
            events,
            coverage: self.cover.status(&self.world),
            tables: self.tables(sensor),
            budget: self.budget.status(),
            inspected: self.world.events(),
            malformed: self.malformed,
            rules: self.rules.clone(),
            rule_costs: self.costs.of(self.detector.rules()),
            findings: FindingStatus {
                by_priority: Priority::ALL.iter().map(|level| (*level, self.found[*level as usize])).collect(),
                lost_queue: outlet.lost_queue.load(Ordering::Relaxed),
                queued: sent.saturating_sub(outlet.taken.load(Ordering::Relaxed)),
                queue_capacity: QUEUE as u64,
                latency: self.latency.clone(),
            },
            world: WorldStatus {
                processes: world.processes as u64,
                inferred: world.inferred,
                evicted: world.evicted,
                containers: self.world.containers().filter(|container| container.pid != 0).count() as u64,
                listeners: self.world.listeners().len() as u64,
                waited: world.membership.waited,
                unnamed: world.membership.unnamed,
            },
            runtimes: self.runtimes(),
            resources: self.meter.as_ref().map(Meter::status),
            spool: self.reload.spool_status().map(|mut spool| {
                spool.error = text(&outlet.spool_error).or(spool.error);
                spool.lost = outlet.lost_spool.load(Ordering::Relaxed);
                spool
            }),
            recorder: self.tape.as_ref().map(super::Tape::status),
            redactions: self.redactor.as_ref().map(redactions).unwrap_or_default(),
            clock_jumps: self.clock.jumps,
            usage: usage::own(),
            problems: Vec::new(),
        };
        let dropped = status.spool.as_ref().map_or(0, |spool| self.reload.dropped_since_start(spool));
        status.problems = problems(&status, dropped);
        for error in [text(&outlet.output_error), text(&outlet.display_error)].into_iter().flatten() {
            status.problems.push(output_failed(error));
        }
        status.problems.extend(self.settings_error.as_deref().map(super::first_settings::problem));
        if outlet.stalled.load(Ordering::Relaxed) {
            status.problems.push(output_stalled(outlet.not_shown.load(Ordering::Relaxed)));
        }
        status
    }

    /// Rules that can find nothing in this mode, each with the reason: found out when rules changed.
    pub(super) fn mute(&mut self, mode: Mode) -> &[String] {
        self.mute.get_or_insert_with(|| {
            let mute = tw_rules::reach::mute(self.detector.rules(), mode).into_iter();
            mute.map(|(rule, lack)| format!("{}: {lack}", rule.name)).collect()
        })
    }

    /// Every table that grows with what containers do.
    fn tables(&self, sensor: &dyn Source) -> Vec<TableStatus> {
        let row = |table: &str, (entries, capacity, evicted): (u64, u64, u64)| TableStatus {
            table: table.to_owned(),
            entries,
            capacity,
            evicted,
        };
        let kernel = sensor.tables().into_iter();
        let kernel =
            kernel.map(|table| row(&format!("kernel_{}", table.name), (table.entries, table.capacity, table.evicted)));
        kernel.chain(self.world.tables().into_iter().map(|(table, use_of)| row(table, use_of))).collect()
    }

    fn runtimes(&self) -> Vec<RuntimeStatus> {
        let status = |runtime: &tw_enrich::RuntimeState| RuntimeStatus {
            name: runtime.name.to_owned(),
            up: runtime.up,
            says: runtime.says.clone(),
        };
        self.world.runtimes().filter(|runtime| !runtime.absent).map(status).collect()
    }
}

fn hook(hook: &tw_sensor::Hook) -> HookStatus {
    HookStatus {
        name: hook.name.to_owned(),
        serves: hook.serves.to_owned(),
        problem: hook.problem.clone(),
        instead: hook.problem.as_ref().and(hook.instead).map(str::to_owned),
    }
}

fn rings(sensor: &dyn Source) -> Vec<RingStatus> {
    let queue =
        |queue: tw_sensor::Queue| RingStatus { lane: queue.name.to_owned(), size: queue.size, pending: queue.pending };
    sensor.queues().into_iter().map(queue).collect()
}

fn redactions(redactor: &tw_report::redact::Redactor) -> Vec<(String, u64)> {
    redactor.counts().into_iter().filter(|(_, n)| *n > 0).map(|(name, n)| (name.to_owned(), n)).collect()
}

fn runtime_remedy(name: &str) -> &'static str {
    match name {
        "docker" => "start it, set agent.docker_socket, or set agent.docker to false",
        "containerd" => "start it, or set runtimes.containerd to its socket or to null",
        "podman" => "start its service, or set runtimes.podman to its socket or to null",
        _ => "start it, or set runtimes.cri to its socket or to null",
    }
}

fn output_failed(what: String) -> Problem {
    let remedy = "free room, mend the path in output.file, or look where standard output goes".to_owned();
    Problem { code: "output-failed".to_owned(), failed: true, what, remedy }
}

fn output_stalled(not_shown: u64) -> Problem {
    Problem {
        code: "output-stalled".to_owned(),
        failed: false,
        what: format!("standard output is not read: {not_shown} alerts were not shown there since the start"),
        remedy: "let the terminal go on (Ctrl-Q) or mend what reads the pipe; the alerts are kept all the same"
            .to_owned(),
    }
}

/// Below so many percent in the last minute, coverage is a problem.
const LOW: f64 = 90.0;

/// What people call it.
fn name_of(container: &ContainerCoverage) -> &str {
    if container.name.is_empty() { &container.id } else { &container.name }
}

/// What is not as it should be, each with its remedy. `dropped` counts what the spool gave up since the start.
fn problems(status: &AgentStatus, dropped: u64) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut add = |code: &str, failed: bool, what: String, remedy: &str| {
        found.push(Problem { code: code.to_owned(), failed, what, remedy: remedy.to_owned() });
    };
    for hook in &status.hooks {
        if let Some(problem) = &hook.problem {
            let lost = hook.instead.clone().unwrap_or_else(|| format!("no {}", hook.serves));
            let what = format!("without {}: {lost} ({problem})", hook.name);
            add("hook-missing", false, what, "use a newer kernel if these events matter to you");
        }
    }
    if !status.mute_rules.is_empty() {
        let what = format!(
            "{} rules can find nothing, since this host is watched by {} and not by eBPF",
            status.mute_rules.len(),
            status.mode
        );
        add("rules-mute", false, what, "tidewatch doctor says what eBPF takes here; tidewatch rules list shows which");
    }
    if status.unseen_programs > 0 {
        let what = format!(
            "{} programs ended before they could be looked at: no rule could say anything of them",
            status.unseen_programs
        );
        add("programs-unseen", false, what, "eBPF sees them: tidewatch doctor says what it takes here");
    }
    for runtime in status.runtimes.iter().filter(|runtime| !runtime.up) {
        let what = format!(
            "{} does not answer: of its new containers only what is on disk is known ({})",
            runtime.name, runtime.says
        );
        add("runtime-down", false, what, runtime_remedy(&runtime.name));
    }
    if let Some(error) = &status.rules.last_error {
        let (code, what) = match status.rules.origin {
            RulesOrigin::Configured => {
                ("rules-reload", "rules and settings could not be loaded again, those from before are in force")
            }
            RulesOrigin::LastGood => {
                ("rules-last-good", "the rules do not load: since its start the agent goes on with the last good ones")
            }
            RulesOrigin::Pack => (
                "rules-built-in",
                "the rules do not load, nor a copy of the last good ones: the built-in ones stand in",
            ),
        };
        add(code, true, format!("{what}: {error}"), super::first_rules::REMEDY);
    }
    if let Some(error) = &status.rules.copy_error {
        let what = format!("no copy of the rules in force could be kept for the next start: {error}");
        add("rules-copy", false, what, "free room below state_dir, then: tidewatch reload");
    }
    if status.rules.broken > 0 {
        let what = format!("{} rules are broken and left out", status.rules.broken);
        add("rules-broken", false, what, "tidewatch rules check FILE says what is wrong");
    }
    if let Some(spool) = &status.spool {
        if let Some(error) = &spool.error {
            let what = format!("findings cannot be kept on disk: {error}");
            add(
                "spool-failed",
                true,
                what,
                "free room below state_dir; up to 8,192 findings (16 MiB) are held meanwhile",
            );
        }
        let bytes: u64 = spool.lanes.iter().map(|lane| lane.bytes).sum();
        if bytes * 10 >= spool.max_bytes * 8 && spool.max_bytes > 0 {
            let what =
                format!("the spool is {} % full: the manager does not take findings", bytes * 100 / spool.max_bytes);
            add("spool-filling", false, what, "look why the manager is away or slow, or raise spool.max_mib");
        }
        if dropped > 0 {
            let what = format!("{dropped} findings were given up because the spool was full");
            add("spool-dropped", true, what, "raise spool.max_mib; they are still in the alerts file, if there is one");
        }
    }
    if let Some(error) = status.recorder.as_ref().and_then(|recorder| recorder.error.as_ref()) {
        add(
            "recorder-failed",
            true,
            format!("the flight recorder cannot write: {error}"),
            "free room, or lower recorder.max_mib",
        );
    }
    let lost: u64 = status.events.iter().map(|event| event.lost_ring + event.lost_scratch).sum();
    if lost > 0 {
        let what = format!("{lost} events were lost since the agent's start, of {} seen", status.inspected);
        add("events-lost", false, what, "look for a container that floods one call, or give the agent more CPU");
    }
    let percent = status.coverage.minute.percent();
    if percent < LOW {
        let worst: Vec<&str> = status.coverage.worst.iter().take(3).map(name_of).collect();
        let of = if worst.is_empty() { String::new() } else { format!("; most is missing of {}", worst.join(", ")) };
        let what = format!("of what this host did, rules saw {}{of}", status.coverage.minute.words());
        let remedy = "look what floods there and limit it, give the agent more CPU (agent.cpu_budget), or raise \
                      agent.privileged_rate; docs/coverage-ledger.md explains the words";
        add("coverage-low", false, what, remedy);
    }
    if status.budget.level > 0 {
        let what = format!(
            "the agent takes {:.0} % of a core, its budget is {:.0} %; given up: {}",
            status.budget.used * 100.0,
            status.budget.cores * 100.0,
            status.budget.given_up.join("; ")
        );
        add("over-budget", false, what, "look which container makes so many events, or raise agent.cpu_budget");
    }
    let unrecorded = status.recorder.as_ref().map_or(0, |recorder| recorder.lost);
    if unrecorded > 0 {
        let what = format!("{unrecorded} records are missing in the flight recorder: a replay lacks them");
        let remedy = "if the agent is over its budget, see there; if the disk was full (the log says so), free room or lower recorder.max_mib; else give the agent a \
                      faster disk or more CPU; findings are not concerned";
        add("recorder-lost", false, what, remedy);
    }
    for ring in status.rings.iter().filter(|ring| ring.pending * 2 > ring.size) {
        let what = format!("the {} ring is more than half full", ring.lane);
        add("ring-filling", false, what, "give the agent more CPU, or look for a container that floods it");
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use tw_model::status::{RulesStatus, SpoolLaneStatus, SpoolStatus};

    #[test]
    fn each_problem_names_its_remedy_and_a_sound_agent_has_none() {
        assert!(problems(&AgentStatus::default(), 0).is_empty());
        let status = AgentStatus {
            runtimes: vec![RuntimeStatus { name: "docker".into(), up: false, says: "no socket".into() }],
            spool: Some(SpoolStatus {
                lanes: vec![SpoolLaneStatus { bytes: 90, dropped: 3, ..SpoolLaneStatus::default() }],
                max_bytes: 100,
                error: Some("no space left".into()),
                lost: 0,
            }),
            ..AgentStatus::default()
        };
        let mut found = problems(&status, 3);
        found.extend([output_failed("cannot write the alerts file".into()), output_stalled(7)]);
        let codes: Vec<&str> = found.iter().map(|problem| problem.code.as_str()).collect();
        assert_eq!(
            codes,
            ["runtime-down", "spool-failed", "spool-filling", "spool-dropped", "output-failed", "output-stalled"]
        );
        assert!(found.iter().all(|problem| !problem.remedy.is_empty()));
        // What was given up before this start is history.
        assert!(problems(&status, 0).iter().all(|problem| problem.code != "spool-dropped"));
    }

    #[test]
    fn low_coverage_is_a_problem_that_names_who() {
        use tw_model::coverage::{Class, Coverage, Missed};
        use tw_model::status::CoverageStatus;

        let of = |seen, events| {
            let missed = vec![Missed { class: Class::Privileged, reason: Miss::Folded, events }];
            let worst = ContainerCoverage { name: "shop".into(), ..ContainerCoverage::default() };
            let coverage =
                CoverageStatus { minute: Coverage { seen, missed }, worst: vec![worst], ..CoverageStatus::default() };
            problems(&AgentStatus { coverage, ..AgentStatus::default() }, 0)
        };
        assert!(of(900, 100).is_empty());
        let found = of(899, 101).remove(0);
        assert!(found.code == "coverage-low" && !found.failed, "{found:?}");
        assert!(found.what.contains("89.9 %") && found.what.contains("shop"), "{}", found.what);
    }

    #[test]
    fn rules_that_are_not_what_was_wanted_are_a_failure() {
        let of = |origin| {
            let rules = RulesStatus { origin, last_error: Some("r.yaml:1:1: no".into()), ..RulesStatus::default() };
            problems(&AgentStatus { rules, ..AgentStatus::default() }, 0).remove(0)
        };
        for (origin, code) in [
            (RulesOrigin::Configured, "rules-reload"),
            (RulesOrigin::LastGood, "rules-last-good"),
            (RulesOrigin::Pack, "rules-built-in"),
        ] {
            let problem = of(origin);
            assert_eq!(problem.code, code);
            assert!(problem.failed && problem.what.contains("r.yaml:1:1"), "{problem:?}");
        }
        let rules = RulesStatus { copy_error: Some("no space".into()), ..RulesStatus::default() };
        assert_eq!(problems(&AgentStatus { rules, ..AgentStatus::default() }, 0)[0].code, "rules-copy");
    }
}
