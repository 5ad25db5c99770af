//! The table of metrics: what is served and what the document says.

/// What kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How values are spread.
    Histogram,
}

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Name; a counter's ends in `_total`.
    pub name: &'static str,
    /// Kind.
    pub kind: Type,
    /// Labels, always all of them.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($kind:ident $name:literal [$($label:literal)*] $help:literal)*) => {
        &[$(Metric { name: $name, kind: Type::$kind, labels: &[$($label),*], help: $help }),*]
    };
}

/// All metrics.
pub const METRICS: &[Metric] = metrics! {
    Gauge "tidewatch_build_info" ["version"] "Version of the manager; always 1."
    Gauge "tidewatch_up" ["process"] "Whether a process runs (agent, manager)."
    Gauge "tidewatch_start_time_seconds" ["process"] "When a process began, seconds since the epoch."
    Counter "tidewatch_restarts_total" ["process"] "How often the supervisor started a process again."
    Gauge "tidewatch_resident_memory_bytes" ["process"] "Resident memory."
    Counter "tidewatch_cpu_seconds_total" ["process"] "User and system time."

    Counter "tidewatch_events_total" ["event"] "Records that the kernel half delivered."
    Counter "tidewatch_events_lost_total" ["event" "reason"] "Records lost in the kernel: ring_full or no_buffer."
    Counter "tidewatch_events_folded_total" ["event"] "Events that were counted only."
    Counter "tidewatch_events_sampled_total" ["event"] "Events left out of a sample, to stay within the budget of CPU."
    Counter "tidewatch_coverage_events_total" ["class" "outcome"] "Events by class and what became of them: seen, or the reason why they were not (ring_full, no_buffer, folded, repeated, sampled, malformed, gave_way)."
    Gauge "tidewatch_coverage_ratio" [] "Share of the last minute's events that the detectors saw, over all containers; 1 only if none is missing."
    Gauge "tidewatch_coverage_containers_incomplete" [] "Containers of which something is missing in the last minute; counts to 16."
    Gauge "tidewatch_unwatched_seconds" [] "Time before this start of the agent in which nobody watched; absent at the first start."
    Gauge "tidewatch_table_entries" ["table"] "What a bounded table holds."
    Gauge "tidewatch_table_capacity" ["table"] "Most that it holds."
    Counter "tidewatch_table_evictions_total" ["table"] "What made room in it, or found none."
    Gauge "tidewatch_cpu_budget_cores" [] "Cores that the agent may take; 0 for no bound."
    Gauge "tidewatch_cpu_used_cores" [] "Cores that the agent took over the last seconds."
    Gauge "tidewatch_cpu_budget_level" [] "Rung of the ladder of what is given up for the budget; 0 for nothing."
    Counter "tidewatch_cpu_budget_changes_total" [] "Changes of the rung."
    Counter "tidewatch_events_inspected_total" [] "Events that went through detection."
    Counter "tidewatch_records_malformed_total" [] "Records that made no sense."
    Gauge "tidewatch_ring_pending_bytes" ["lane"] "Bytes that waited in a ring when it was last looked at."
    Gauge "tidewatch_ring_size_bytes" ["lane"] "Size of a ring."

    Counter "tidewatch_findings_total" ["priority"] "Findings that the agent made."
    Counter "tidewatch_findings_lost_total" ["reason"] "Findings lost in the agent: queue_full or spool_failed."
    Gauge "tidewatch_findings_queued" [] "Findings that wait for the outputs."
    Gauge "tidewatch_findings_queue_capacity" [] "Findings that can wait for the outputs."
    Histogram "tidewatch_detection_seconds" [] "Time from event to finding."

    Gauge "tidewatch_rules_enabled" [] "Rules that are tried."
    Gauge "tidewatch_rules_broken" [] "Rules that are broken and left out."
    Gauge "tidewatch_rules_info" ["digest" "source"] "The rules in force; always 1."
    Gauge "tidewatch_rules_file_info" ["file" "digest"] "A rule file in force, with the SHA-256 of its bytes; always 1."
    Gauge "tidewatch_rules_loaded_time_seconds" [] "When the rules came into force, seconds since the epoch."
    Gauge "tidewatch_rules_stand_in" [] "1 if others are in force than those that the configuration names, which did not load at the start."
    Gauge "tidewatch_rules_reload_failed" [] "1 if the last attempt to load others failed."
    Counter "tidewatch_rule_hits_total" ["rule"] "Events that a rule matched."
    Counter "tidewatch_rule_sampled_evaluations_total" ["rule"] "Evaluations of a rule whose cost was measured: a sample."
    Counter "tidewatch_rule_sampled_seconds_total" ["rule"] "Time that the measured evaluations took."

    Gauge "tidewatch_processes" [] "Processes remembered."
    Counter "tidewatch_processes_inferred_total" [] "Processes whose start was not seen."
    Counter "tidewatch_processes_evicted_total" [] "Living processes forgotten because the table was full."
    Gauge "tidewatch_containers" [] "Containers that run."
    Gauge "tidewatch_listeners" [] "Sockets that listen for connections, or wait on a port for datagrams, on the host and in containers."
    Counter "tidewatch_events_waited_total" [] "Events that waited for their container's name."
    Counter "tidewatch_events_unnamed_total" [] "Events that went on without their container's name."
    Gauge "tidewatch_runtime_up" ["runtime"] "Whether a container runtime answers."

    Counter "tidewatch_resource_measurements_total" [] "Measurements of what containers use."
    Counter "tidewatch_resource_measurements_dropped_total" [] "Measurements that came faster than they could be looked at."
    Gauge "tidewatch_resource_containers" [] "Containers measured in the last round."
    Gauge "tidewatch_resource_containers_left_out" [] "Containers that are too many to be measured."
    Gauge "tidewatch_resource_interval_seconds" [] "Time between the last two rounds of measurements; grows when a round takes long."
    Gauge "tidewatch_resource_round_seconds" [] "Processor time that the last round of measurements took."

    Gauge "tidewatch_spool_bytes" ["lane"] "Bytes of the spool on disk."
    Gauge "tidewatch_spool_max_bytes" [] "Most bytes that the spool may take."
    Gauge "tidewatch_spool_unacknowledged" ["lane"] "Findings in the spool that the store does not have yet."
    Counter "tidewatch_spool_dropped_total" ["lane"] "Findings given up because the spool was over its bound."
    Counter "tidewatch_spool_corrupt_total" ["lane"] "Records of the spool that could not be read back."
    Gauge "tidewatch_spool_failed" [] "1 if the spool cannot be written."

    Gauge "tidewatch_recorder_bytes" [] "Bytes of the flight recorder on disk."
    Gauge "tidewatch_recorder_max_bytes" [] "Most bytes that the flight recorder may take."
    Gauge "tidewatch_recorder_segments" [] "Segments of the flight recorder on disk."
    Counter "tidewatch_recorder_records_total" [] "Records that the flight recorder wrote."
    Counter "tidewatch_recorder_lost_total" [] "Records that the flight recorder lost because the disk was slow or full."
    Gauge "tidewatch_recorder_oldest_seconds" [] "Age of the oldest segment; absent if there is none."
    Gauge "tidewatch_recorder_failed" [] "1 if the flight recorder cannot write."

    Gauge "tidewatch_link_up" [] "Whether the agent is connected to the manager."
    Gauge "tidewatch_store_up" [] "Whether the store is open and takes findings."
    Gauge "tidewatch_store_bytes" [] "Bytes that the store takes."
    Gauge "tidewatch_store_rows" ["kind"] "Rows in the store."
    Histogram "tidewatch_store_commit_seconds" [] "Time that a commit of findings took."
    Histogram "tidewatch_event_to_store_seconds" [] "Time from event to committed finding."
    Counter "tidewatch_store_failures_total" ["reason"] "Attempts that the store failed."
    Counter "tidewatch_store_deleted_total" ["kind" "reason"] "Rows that retention deleted, for their age, the rows' number or their bytes."
    Counter "tidewatch_findings_stored_total" [] "Findings that the store took in."
    Counter "tidewatch_findings_redelivered_total" [] "Findings that came again and were in the store already."

    Gauge "tidewatch_kubernetes_up" [] "Whether the pods of this node are watched through the API of Kubernetes; absent if they are not to be."
    Gauge "tidewatch_kubernetes_pods" [] "Pods of this node that the API told of."
    Gauge "tidewatch_kubernetes_pods_left_out" [] "Pods for which there was no room since all were listed last."
    Gauge "tidewatch_kubernetes_heard_time_seconds" [] "When the API last told of pods, seconds since the epoch; absent if it never did."
    Counter "tidewatch_kubernetes_lists_total" [] "How often all pods of the node were listed."
    Counter "tidewatch_kubernetes_failures_total" ["reason"] "Connections to the API that ended: config, unreachable, certificate, unauthorized, forbidden, refused, nonsense, or expired, after which all is listed anew."

    Counter "tidewatch_redactions_total" ["pattern"] "Secrets taken out."
    Counter "tidewatch_clock_jumps_total" [] "Jumps of the wall clock by more than a second."
    Gauge "tidewatch_problems" ["code" "failed"] "Problems by code; failed says whether a part of the service does not work."
    Counter "tidewatch_api_requests_total" ["path" "status"] "Requests to the API."
};
