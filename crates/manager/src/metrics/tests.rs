//! The text is read back with a small parser.

use std::collections::{BTreeMap, BTreeSet};

use tw_model::Priority;
use tw_model::status::*;

use super::*;
use crate::kubernetes;
use crate::retention::Retention;
use crate::store::{Kind, Place, Reason, StoreError};

const HOSTILE: &str = "a \"rule\"\\ with\na line, and {braces}=\u{1b}";

/// One of everything, twice where it might come twice.
fn full() -> AgentStatus {
    let lanes = SpoolLane::ALL.map(|lane| SpoolLaneStatus { lane, newest: 9, acked: 2, ..Default::default() });
    let mut latency = Histogram::new(&[0.001, 0.1]);
    latency.observe(0.01);
    latency.observe(5.0);
    let event = EventCount { event: "execve".into(), seen: 3, ..Default::default() };
    AgentStatus {
        coverage: CoverageStatus {
            classes: vec![ClassCoverage {
                missed: vec![(tw_model::coverage::Miss::RingFull, 3)],
                ..Default::default()
            }],
            unwatched: Some(Unwatched::default()),
            ..Default::default()
        },
        tables: vec![TableStatus { table: "processes".into(), ..Default::default() }],
        rings: vec![RingStatus { lane: "bulk".into(), ..Default::default() }],
        events: vec![event.clone(), event],
        rules: RulesStatus {
            files: vec![RuleFile { name: "/etc/tidewatch/rules.d/a.yaml".into(), digest: "ab12".into() }],
            origin: RulesOrigin::LastGood,
            ..Default::default()
        },
        rule_costs: vec![RuleCost { rule: HOSTILE.into(), hits: 1, sampled: 2, sampled_ns: 3_000_000_000 }],
        findings: FindingStatus { by_priority: vec![(Priority::Warning, 4)], latency, ..Default::default() },
        runtimes: vec![RuntimeStatus { name: "docker".into(), up: true, says: String::new() }],
        resources: Some(Default::default()),
        spool: Some(SpoolStatus { lanes: lanes.to_vec(), ..Default::default() }),
        recorder: Some(RecorderStatus { oldest_ns: 1, ..Default::default() }),
        redactions: vec![("password".into(), 2)],
        problems: vec![Problem { code: "spool-full".into(), ..Default::default() }; 2],
        ..AgentStatus::default()
    }
}

fn state() -> State {
    let place = Place::parse("sqlite:/nowhere").unwrap();
    let mut state = State::new(
        place.clone(),
        tokio::sync::watch::channel(Retention::default()).1,
        "/nowhere".into(),
        "1.2.3".into(),
    );
    state.store_failed(&StoreError::Full { place: place.shown(), reason: String::new() });
    let mut inner = state.lock();
    inner.rows.insert(Kind::Findings, 7);
    inner.counters.deleted.insert((Kind::Findings, Reason::Age), 1);
    inner.counters.requests.insert(("/metrics".into(), 200), 1);
    drop(inner);
    let options = kubernetes::Options {
        access: kubernetes::Access::Pod,
        node: "node-1".into(),
        pace: kubernetes::Pace::default(),
    };
    state.kubernetes = Some(kubernetes::Kubernetes::that_failed(options).into());
    state
}

/// Series by name and labels, after checking what the format demands.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let (mut series, mut helps, mut types) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
    assert!(text.ends_with("# EOF\n"));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(helps.insert(rest.split_once(' ').unwrap().0.to_owned()), "{line} comes twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{line} comes twice");
        } else if line != "# EOF" {
            let (key, value) = line.rsplit_once(' ').unwrap();
            let name = key.split('{').next().unwrap();
            let family = ["_total", "_bucket", "_sum", "_count"]
                .iter()
                .filter_map(|ending| name.strip_suffix(ending))
                .find(|family| types.contains_key(*family))
                .unwrap_or(name);
            let kind = types.get(family).unwrap_or_else(|| panic!("{line} has no TYPE"));
            assert!(helps.contains(family), "{line} has no HELP");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            if let Some(labels) = key.strip_prefix(name).filter(|labels| !labels.is_empty()) {
                check_labels(labels);
            }
            let value: f64 = value.parse().unwrap();
            assert!(series.insert(key.to_owned(), value).is_none(), "{key} comes twice");
        }
    }
    series
}

fn check_labels(text: &str) {
    let mut rest = text.strip_prefix('{').unwrap();
    loop {
        let (name, behind) = rest.split_once("=\"").unwrap_or_else(|| panic!("{text}"));
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{text}");
        let mut escape = false;
        let end = behind.char_indices().find(|(_, c)| {
            let closes = *c == '"' && !escape;
            escape = *c == '\\' && !escape;
            closes
        });
        rest = &behind[end.unwrap_or_else(|| panic!("{text}")).0 + 1..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => break,
        }
    }
    assert_eq!(rest, "}", "{text}");
}

#[test]
fn every_metric_is_served_and_the_text_is_well_formed() {
    let state = state();
    state.agent_says(full());
    let text = exposition(&state);
    let series = parse(&text);
    for metric in METRICS {
        let found = series.keys().any(|key| {
            let name = key.split('{').next().unwrap();
            name == metric.name || metric.kind == Type::Histogram && name == format!("{}_count", metric.name)
        });
        assert!(found, "{} is not served", metric.name);
        assert_eq!(metric.kind == Type::Counter, metric.name.ends_with("_total"), "{}", metric.name);
        assert!(!metric.help.contains(['\n', '|']));
    }
    for (name, all) in &samples::of(&state).0 {
        let metric = METRICS.iter().find(|metric| metric.name == *name);
        let metric = metric.unwrap_or_else(|| panic!("{name} is not in the table"));
        for labels in all.keys() {
            assert_eq!(labels.iter().map(|(label, _)| *label).collect::<Vec<_>>(), metric.labels, "{name}");
        }
    }
    let file = "tidewatch_rules_file_info{file=\"/etc/tidewatch/rules.d/a.yaml\",digest=\"ab12\"}";
    assert_eq!((series[file], series["tidewatch_rules_stand_in"]), (1.0, 1.0));
    assert_eq!(series["tidewatch_spool_unacknowledged{lane=\"urgent\"}"], 7.0);
    assert_eq!(series["tidewatch_detection_seconds_bucket{le=\"0.1\"}"], 1.0);
    assert_eq!(series["tidewatch_detection_seconds_bucket{le=\"+Inf\"}"], 2.0);
    assert_eq!(series["tidewatch_problems{code=\"spool-full\",failed=\"false\"}"], 2.0);
    assert_eq!(series["tidewatch_store_failures_total{reason=\"store-full\"}"], 1.0);
    assert!(text.contains(r#"rule="a \"rule\"\\ with\na line, and {braces}="#), "{text}");
}

#[test]
fn what_the_agent_said_long_ago_is_left_out() {
    let state = state();
    state.agent_says(full());
    state.lock().link.heard = std::time::Instant::now().checked_sub(crate::state::FRESH);
    let series = parse(&exposition(&state));
    assert_eq!(series["tidewatch_link_up"], 0.0);
    assert_eq!(series["tidewatch_up{process=\"agent\"}"], 0.0);
    assert!(series.keys().all(|key| !key.starts_with("tidewatch_events")), "{series:?}");
}

#[test]
fn a_histogram_that_makes_no_sense_is_left_out() {
    let mut samples = Samples::default();
    for broken in [
        Histogram { bounds: vec![2.0, 1.0], counts: vec![0; 3], sum: 0.0 },
        Histogram { bounds: vec![1.0], counts: vec![0; 3], sum: 0.0 },
        Histogram { bounds: vec![f64::NAN], counts: vec![0; 2], sum: 0.0 },
        Histogram { bounds: vec![1.0], counts: vec![0; 2], sum: f64::NAN },
    ] {
        samples.put_histogram("tidewatch_detection_seconds", &broken);
    }
    assert!(samples.0.is_empty());
}
