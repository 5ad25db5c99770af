//! From the state to series.

use std::collections::BTreeMap;

use tw_model::link::SupervisorStatus;
use tw_model::status::{AgentStatus, CoverageStatus, RecorderStatus, RulesOrigin, SpoolStatus, Usage};

use super::Samples;
use crate::kubernetes::Kubernetes;
use crate::state::{State, now_ns};
use crate::usage;

const NANO: f64 = 1e-9;

fn truth(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

/// All series as of now.
pub(super) fn of(state: &State) -> Samples {
    let supervisor = state.supervisor();
    let problems = state.problems(supervisor.as_ref());
    let mut samples = Samples::default();
    let inner = state.lock();
    let put = &mut samples;
    put.put("tidewatch_build_info", &[("version", &state.version)], 1.0);
    put.put("tidewatch_up", &[("process", "manager")], 1.0);
    put.put("tidewatch_start_time_seconds", &[("process", "manager")], state.started_ns as f64 * NANO);
    process(put, "manager", &usage::own(), restarts(supervisor.as_ref(), "manager").unwrap_or(state.restarts));
    put.put("tidewatch_link_up", &[], truth(inner.link.up));
    put.put("tidewatch_store_up", &[], truth(inner.store.is_some() && inner.fault.is_none()));
    put.put("tidewatch_store_bytes", &[], inner.bytes as f64);
    for (kind, rows) in &inner.rows {
        put.put("tidewatch_store_rows", &[("kind", kind.name())], *rows as f64);
    }
    let counters = inner.counters.clone();
    let fresh = inner.link.fresh().cloned();
    let up = inner.link.up;
    drop(inner);

    put.put_histogram("tidewatch_store_commit_seconds", &counters.commit);
    put.put_histogram("tidewatch_event_to_store_seconds", &counters.event_to_store);
    put.put("tidewatch_findings_stored_total", &[], counters.stored as f64);
    put.put("tidewatch_findings_redelivered_total", &[], counters.redelivered as f64);
    for (reason, n) in &counters.failures {
        put.put("tidewatch_store_failures_total", &[("reason", reason)], *n as f64);
    }
    for ((kind, reason), n) in &counters.deleted {
        let labels = [("kind", kind.name()), ("reason", reason.name())];
        put.put("tidewatch_store_deleted_total", &labels, *n as f64);
    }
    for ((path, status), n) in &counters.requests {
        let labels = [("path", path.as_str()), ("status", &status.to_string())];
        put.put("tidewatch_api_requests_total", &labels, *n as f64);
    }
    if let Some(kubernetes) = &state.kubernetes {
        of_kubernetes(put, kubernetes);
    }
    let mut codes: BTreeMap<(&str, bool), u64> = BTreeMap::new();
    for problem in &problems {
        *codes.entry((&problem.code, problem.failed)).or_insert(0) += 1;
    }
    for ((code, failed), n) in codes {
        let labels = [("code", code), ("failed", if failed { "true" } else { "false" })];
        put.put("tidewatch_problems", &labels, n as f64);
    }

    let runs = supervisor.as_ref().and_then(|supervisor| child(supervisor, "agent")).map(|agent| agent.pid != 0);
    put.put("tidewatch_up", &[("process", "agent")], truth(runs.unwrap_or(up)));
    if let Some(agent) = fresh {
        process(put, "agent", &agent.usage, restarts(supervisor.as_ref(), "agent").unwrap_or(agent.restarts));
        of_agent(put, &agent);
    }
    samples
}

fn of_kubernetes(put: &mut Samples, kubernetes: &Kubernetes) {
    let standing = kubernetes.standing();
    put.put("tidewatch_kubernetes_up", &[], truth(standing.up));
    put.put("tidewatch_kubernetes_pods", &[], kubernetes.known() as f64);
    put.put("tidewatch_kubernetes_pods_left_out", &[], standing.left_out as f64);
    if standing.heard_ns > 0 {
        put.put("tidewatch_kubernetes_heard_time_seconds", &[], standing.heard_ns as f64 * NANO);
    }
    put.put("tidewatch_kubernetes_lists_total", &[], standing.lists as f64);
    for (reason, n) in &standing.failures {
        put.put("tidewatch_kubernetes_failures_total", &[("reason", reason)], *n as f64);
    }
}

fn child<'a>(supervisor: &'a SupervisorStatus, name: &str) -> Option<&'a tw_model::link::ChildStatus> {
    supervisor.children.iter().find(|child| child.name == name)
}

fn restarts(supervisor: Option<&SupervisorStatus>, name: &str) -> Option<u64> {
    child(supervisor?, name).map(|child| child.restarts)
}

fn process(put: &mut Samples, name: &'static str, usage: &Usage, restarts: u64) {
    let labels = [("process", name)];
    put.put("tidewatch_restarts_total", &labels, restarts as f64);
    put.put("tidewatch_resident_memory_bytes", &labels, usage.resident_bytes as f64);
    put.put("tidewatch_cpu_seconds_total", &labels, usage.cpu_ns as f64 * NANO);
}

fn of_agent(put: &mut Samples, agent: &AgentStatus) {
    put.put("tidewatch_start_time_seconds", &[("process", "agent")], agent.started_ns as f64 * NANO);
    for event in &agent.events {
        let label = ("event", event.event.as_str());
        put.put("tidewatch_events_total", &[label], event.seen as f64);
        put.put("tidewatch_events_lost_total", &[label, ("reason", "ring_full")], event.lost_ring as f64);
        put.put("tidewatch_events_lost_total", &[label, ("reason", "no_buffer")], event.lost_scratch as f64);
        put.put("tidewatch_events_folded_total", &[label], event.folded as f64);
        put.put("tidewatch_events_sampled_total", &[label], event.sampled as f64);
    }
    of_coverage(put, &agent.coverage);
    for table in &agent.tables {
        let label = [("table", table.table.as_str())];
        put.put("tidewatch_table_entries", &label, table.entries as f64);
        put.put("tidewatch_table_capacity", &label, table.capacity as f64);
        put.put("tidewatch_table_evictions_total", &label, table.evicted as f64);
    }
    put.put("tidewatch_cpu_budget_cores", &[], agent.budget.cores);
    put.put("tidewatch_cpu_used_cores", &[], agent.budget.used);
    put.put("tidewatch_cpu_budget_level", &[], agent.budget.level as f64);
    put.put("tidewatch_cpu_budget_changes_total", &[], agent.budget.changes as f64);
    put.put("tidewatch_events_inspected_total", &[], agent.inspected as f64);
    put.put("tidewatch_records_malformed_total", &[], agent.malformed as f64);
    for ring in &agent.rings {
        let label = ("lane", ring.lane.as_str());
        put.put("tidewatch_ring_pending_bytes", &[label], ring.pending as f64);
        put.put("tidewatch_ring_size_bytes", &[label], ring.size as f64);
    }
    let findings = &agent.findings;
    for (priority, n) in &findings.by_priority {
        put.put("tidewatch_findings_total", &[("priority", &priority.name().to_lowercase())], *n as f64);
    }
    put.put("tidewatch_findings_lost_total", &[("reason", "queue_full")], findings.lost_queue as f64);
    let lost = agent.spool.as_ref().map_or(0, |spool| spool.lost);
    put.put("tidewatch_findings_lost_total", &[("reason", "spool_failed")], lost as f64);
    put.put("tidewatch_findings_queued", &[], findings.queued as f64);
    put.put("tidewatch_findings_queue_capacity", &[], findings.queue_capacity as f64);
    put.put_histogram("tidewatch_detection_seconds", &findings.latency);
    let rules = &agent.rules;
    put.put("tidewatch_rules_enabled", &[], rules.enabled as f64);
    put.put("tidewatch_rules_broken", &[], rules.broken as f64);
    put.put("tidewatch_rules_info", &[("digest", &rules.digest), ("source", &rules.source)], 1.0);
    for file in &rules.files {
        put.put("tidewatch_rules_file_info", &[("file", &file.name), ("digest", &file.digest)], 1.0);
    }
    put.put("tidewatch_rules_loaded_time_seconds", &[], rules.loaded_ns as f64 * NANO);
    put.put("tidewatch_rules_stand_in", &[], truth(rules.origin != RulesOrigin::Configured));
    put.put("tidewatch_rules_reload_failed", &[], truth(rules.last_error.is_some()));
    for cost in &agent.rule_costs {
        let label = ("rule", cost.rule.as_str());
        put.put("tidewatch_rule_hits_total", &[label], cost.hits as f64);
        put.put("tidewatch_rule_sampled_evaluations_total", &[label], cost.sampled as f64);
        put.put("tidewatch_rule_sampled_seconds_total", &[label], cost.sampled_ns as f64 * NANO);
    }
    let world = &agent.world;
    put.put("tidewatch_processes", &[], world.processes as f64);
    put.put("tidewatch_processes_inferred_total", &[], world.inferred as f64);
    put.put("tidewatch_processes_evicted_total", &[], world.evicted as f64);
    put.put("tidewatch_containers", &[], world.containers as f64);
    put.put("tidewatch_listeners", &[], world.listeners as f64);
    put.put("tidewatch_events_waited_total", &[], world.waited as f64);
    put.put("tidewatch_events_unnamed_total", &[], world.unnamed as f64);
    for runtime in &agent.runtimes {
        put.put("tidewatch_runtime_up", &[("runtime", &runtime.name)], truth(runtime.up));
    }
    if let Some(resources) = &agent.resources {
        put.put("tidewatch_resource_measurements_total", &[], resources.measured as f64);
        put.put("tidewatch_resource_measurements_dropped_total", &[], resources.dropped as f64);
        put.put("tidewatch_resource_containers", &[], resources.containers as f64);
        put.put("tidewatch_resource_containers_left_out", &[], resources.left_out as f64);
        put.put("tidewatch_resource_interval_seconds", &[], resources.interval_ms as f64 / 1e3);
        put.put("tidewatch_resource_round_seconds", &[], resources.round_us as f64 / 1e6);
    }
    if let Some(spool) = &agent.spool {
        of_spool(put, spool);
    }
    if let Some(recorder) = &agent.recorder {
        of_recorder(put, recorder);
    }
    for (pattern, n) in &agent.redactions {
        put.put("tidewatch_redactions_total", &[("pattern", pattern)], *n as f64);
    }
    put.put("tidewatch_clock_jumps_total", &[], agent.clock_jumps as f64);
}

fn of_spool(put: &mut Samples, spool: &SpoolStatus) {
    for lane in &spool.lanes {
        let label = ("lane", lane.lane.name());
        put.put("tidewatch_spool_bytes", &[label], lane.bytes as f64);
        put.put("tidewatch_spool_unacknowledged", &[label], lane.newest.saturating_sub(lane.acked) as f64);
        put.put("tidewatch_spool_dropped_total", &[label], lane.dropped as f64);
        put.put("tidewatch_spool_corrupt_total", &[label], lane.corrupt as f64);
    }
    put.put("tidewatch_spool_max_bytes", &[], spool.max_bytes as f64);
    put.put("tidewatch_spool_failed", &[], truth(spool.error.is_some()));
}

fn of_coverage(put: &mut Samples, coverage: &CoverageStatus) {
    for class in &coverage.classes {
        let label = ("class", class.class.name());
        put.put("tidewatch_coverage_events_total", &[label, ("outcome", "seen")], class.seen as f64);
        for (why, events) in &class.missed {
            put.put("tidewatch_coverage_events_total", &[label, ("outcome", why.name())], *events as f64);
        }
    }
    put.put("tidewatch_coverage_ratio", &[], coverage.minute.percent() / 100.0);
    put.put("tidewatch_coverage_containers_incomplete", &[], coverage.worst.len() as f64);
    if let Some(gap) = &coverage.unwatched {
        put.put("tidewatch_unwatched_seconds", &[], gap.until_ns.saturating_sub(gap.from_ns) as f64 * NANO);
    }
}

fn of_recorder(put: &mut Samples, recorder: &RecorderStatus) {
    put.put("tidewatch_recorder_bytes", &[], recorder.bytes as f64);
    put.put("tidewatch_recorder_max_bytes", &[], recorder.max_bytes as f64);
    put.put("tidewatch_recorder_segments", &[], recorder.segments as f64);
    put.put("tidewatch_recorder_records_total", &[], recorder.records as f64);
    put.put("tidewatch_recorder_lost_total", &[], recorder.lost as f64);
    if recorder.oldest_ns > 0 {
        let age = now_ns().saturating_sub(recorder.oldest_ns) as f64 * NANO;
        put.put("tidewatch_recorder_oldest_seconds", &[], age);
    }
    put.put("tidewatch_recorder_failed", &[], truth(recorder.error.is_some()));
}
