//! Metrics in the OpenMetrics text format: what the manager counts, and what the agent last said.
//!
//! Names are stable. What the agent said is left out when it is older than 30 seconds: a gap is a fact, an old value
//! that looks like a new one is not.

mod samples;
mod table;

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use tw_model::status::Histogram;

use crate::state::State;

pub use table::{METRICS, Metric, Type};

/// A value of a series.
#[derive(Clone, Debug, PartialEq)]
enum Sample {
    Number(f64),
    Histogram(Histogram),
}

type Labels = Vec<(&'static str, String)>;

/// All series of one moment, by metric and labels: none comes twice, whatever an agent says.
#[derive(Clone, Debug, Default)]
struct Samples(BTreeMap<&'static str, BTreeMap<Labels, Sample>>);

impl Samples {
    fn put(&mut self, name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        let labels = labels.iter().map(|(name, value)| (*name, label(value))).collect();
        self.0.entry(name).or_default().insert(labels, Sample::Number(value));
    }

    fn put_histogram(&mut self, name: &'static str, histogram: &Histogram) {
        let ascending = histogram.bounds.is_sorted_by(|a, b| a < b) && histogram.bounds.iter().all(|b| b.is_finite());
        if ascending && histogram.counts.len() == histogram.bounds.len() + 1 && histogram.sum.is_finite() {
            let sample = Sample::Histogram(histogram.clone());
            self.0.entry(name).or_default().insert(Vec::new(), sample);
        }
    }
}

/// The encoder escapes quotes and line breaks; other control characters, and endless names, are not for it.
fn label(text: &str) -> String {
    text.chars().take(256).map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

impl Collector for Samples {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        for metric in METRICS {
            let Some(series) = self.0.get(metric.name) else { continue };
            let (name, kind) = match metric.kind {
                // The encoder puts the ending of counters itself.
                Type::Counter => (metric.name.trim_end_matches("_total"), MetricType::Counter),
                Type::Gauge => (metric.name, MetricType::Gauge),
                Type::Histogram => (metric.name, MetricType::Histogram),
            };
            let mut encoder = encoder.encode_descriptor(name, metric.help, None, kind)?;
            for (labels, sample) in series {
                if labels.is_empty() {
                    write(&mut encoder, metric.kind, sample)?;
                } else {
                    write(&mut encoder.encode_family(labels)?, metric.kind, sample)?;
                }
            }
        }
        Ok(())
    }
}

fn write(encoder: &mut MetricEncoder, kind: Type, sample: &Sample) -> fmt::Result {
    match sample {
        Sample::Number(value) if kind == Type::Counter => encoder.encode_counter::<NoLabelSet, f64, f64>(value, None),
        Sample::Number(value) => encoder.encode_gauge(value),
        Sample::Histogram(histogram) => {
            let bounds = histogram.bounds.iter().copied().chain([f64::INFINITY]);
            let buckets: Vec<_> = bounds.zip(histogram.counts.iter().copied()).collect();
            encoder.encode_histogram::<NoLabelSet>(histogram.sum, histogram.count(), &buckets, None)
        }
    }
}

/// The whole text.
pub(crate) fn exposition(state: &State) -> String {
    text(samples::of(state))
}

fn text(samples: Samples) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(samples));
    let mut text = String::new();
    if prometheus_client::encoding::text::encode(&mut text, &registry).is_err() {
        return "# EOF\n".into();
    }
    text
}

/// The page about metrics, in Markdown.
pub fn document() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Made from the table in `crates/manager/src/metrics/table.rs`; a test keeps it so (`UPDATE_GOLDEN=1` writes \
         it anew).\n\n\
         They are served at `http://127.0.0.1:9465/metrics` and on the control socket, in the OpenMetrics text format. \
         Names are stable.\nWhat the agent counts begins anew when the agent does, and is left out while its last word \
         is older than 30 seconds:\nthen `tidewatch_link_up` is 0.\n\n\
         | Name | Type | Labels | Meaning |\n|---|---|---|---|\n",
    );
    for metric in METRICS {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let kind = format!("{:?}", metric.kind).to_lowercase();
        page.push_str(&format!("| `{}` | {kind} | {} | {} |\n", metric.name, labels.join(", "), metric.help));
    }
    page
}

#[cfg(test)]
mod tests;
