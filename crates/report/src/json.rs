//! One alert a line, in the format of Falco's `json_output` (docs of Falco 0.44: keys `time`, `rule`, `priority`,
//! `source`, `hostname`, `output`, `output_fields`, `tags`), with what Falco has not under the key `tidewatch`.
//!
//! `output` and `message` are for people, who may well print them on a terminal (`jq -r .output`): they are escaped as
//! [`crate::escape`] does. `output_fields` hold what was seen, untouched but for invalid UTF-8.

use serde::Serialize;
use serde_json::{Map, Value};
use tw_model::coverage::{Coverage, Missed};
use tw_model::finding::{ContainerSummary, ProcessSummary, Shown};
use tw_model::{Cause, Finding, Login};

#[derive(Serialize)]
struct Line<'f> {
    hostname: &'f str,
    output: String,
    output_fields: Map<String, Value>,
    priority: &'static str,
    rule: &'f str,
    source: &'f str,
    tags: &'f [String],
    time: String,
    tidewatch: Extra<'f>,
}

#[derive(Serialize)]
struct Extra<'f> {
    id: tw_model::FindingId,
    message: &'f str,
    why: &'f str,
    advice: &'f str,
    event: &'f str,
    event_num: u64,
    fingerprint: String,
    container: Option<&'f ContainerSummary>,
    workload: &'f str,
    #[serde(skip_serializing_if = "Option::is_none")]
    login: Option<LoginOf<'f>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    coverage: Option<CoverageOf<'f>>,
    lineage: &'f [ProcessSummary],
}

/// The person behind the process.
#[derive(Serialize)]
struct LoginOf<'f> {
    #[serde(flatten)]
    login: &'f Login,
    text: String,
}

/// How much was seen in the minute before.
#[derive(Serialize)]
struct CoverageOf<'f> {
    percent: f64,
    seen: u64,
    missed: &'f [Missed],
    text: String,
}

impl<'f> CoverageOf<'f> {
    fn new(coverage: &'f Coverage) -> Self {
        Self { percent: coverage.percent(), seen: coverage.seen, missed: &coverage.missed, text: coverage.words() }
    }
}

/// The line for a finding, without a newline.
pub fn line(finding: &Finding, hostname: &str) -> String {
    let mut output_fields: Map<String, Value> =
        finding.fields.iter().map(|(name, shown)| (name.clone(), value(shown))).collect();
    output_fields.insert("evt.time".into(), finding.time_ns.into());
    if matches!(finding.cause, Cause::Rule { .. }) {
        // What Falco's container plugin suggests for every output.
        let container = finding.container.as_ref();
        let id = container.map_or("host", |c| c.id.as_str());
        let name = container.map_or("host", |c| c.name.as_str());
        let image = container.map(|c| tw_model::container::split_image(&c.image));
        for (field, text) in [
            ("container.id", Some(id)),
            ("container.name", Some(name).filter(|name| !name.is_empty())),
            ("container.image.repository", image.map(|(repository, _, _)| repository).filter(|text| !text.is_empty())),
            ("container.image.tag", image.map(|(_, tag, _)| tag).filter(|text| !text.is_empty())),
        ] {
            output_fields.entry(field).or_insert_with(|| text.map_or(Value::Null, Value::from));
        }
    }
    let message = crate::escape::line(&finding.message);
    let line = Line {
        hostname,
        output: format!("{}: {} {message}", crate::clock_time(finding.time_ns, 9), finding.priority.name()),
        output_fields,
        priority: finding.priority.name(),
        rule: finding.cause.name(),
        source: &finding.source,
        tags: &finding.tags,
        time: crate::iso_time(finding.time_ns),
        tidewatch: Extra {
            id: finding.id,
            message: &message,
            why: finding.why.trim(),
            advice: finding.advice.trim(),
            event: &finding.event,
            event_num: finding.event_num,
            fingerprint: format!("{:016x}", finding.fingerprint),
            container: finding.container.as_ref(),
            workload: &finding.workload,
            login: finding
                .login
                .as_ref()
                .map(|login| LoginOf { login, text: crate::escape::line(&login.words()).into() }),
            coverage: finding.coverage.as_ref().map(CoverageOf::new),
            lineage: &finding.lineage,
        },
    };
    // Maps with text keys and plain values always serialise.
    serde_json::to_string(&line).unwrap_or_default()
}

fn value(shown: &Shown) -> Value {
    match shown {
        Shown::Null => Value::Null,
        Shown::Bool(value) => (*value).into(),
        Shown::Int(value) => (*value).into(),
        Shown::Uint(value) => (*value).into(),
        Shown::Text(value) => value.as_str().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tw_model::Priority;
    use tw_model::coverage::{Class, Miss};

    fn finding() -> Finding {
        Finding {
            id: tw_model::FindingId::nil(),
            time_ns: 1_767_225_600_123_456_789,
            event_num: 3,
            cause: Cause::Rule { name: "Shell".into() },
            priority: Priority::Informational,
            source: "syscall".into(),
            message: "a shell \u{1b}[31m\nrm".into(),
            why: "because\n".into(),
            advice: String::new(),
            tags: vec!["T1059".into()],
            fields: vec![("proc.tty".into(), Shown::Uint(0)), ("fd.name".into(), Shown::Null)],
            event: "execve".into(),
            lineage: Vec::new(),
            container: Some(ContainerSummary {
                id: "3f2a91b0c6de".into(),
                name: "web".into(),
                image: "registry:5000/nginx:1.27".into(),
                digest: String::new(),
            }),
            workload: String::new(),
            login: Some(Login { user: "an\u{1b}na".into(), ..Login::default() }),
            coverage: Some(Coverage {
                seen: 992,
                missed: vec![Missed { class: Class::File, reason: Miss::RingFull, events: 8 }],
            }),
            fingerprint: 0xab,
        }
    }

    #[test]
    fn a_line_has_the_keys_that_consumers_of_falco_read() {
        let line = line(&finding(), "host-1");
        assert!(!line.contains('\n') && !line.contains('\u{1b}'));
        let parsed: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(parsed["rule"], "Shell");
        assert_eq!(parsed["priority"], "Informational");
        assert_eq!(parsed["source"], "syscall");
        assert_eq!(parsed["hostname"], "host-1");
        assert_eq!(parsed["time"], "2026-01-01T00:00:00.123456789Z");
        assert_eq!(parsed["tags"][0], "T1059");
        let coverage = &parsed["tidewatch"]["coverage"];
        assert_eq!((&coverage["percent"], &coverage["missed"][0]["reason"]), (&99.2.into(), &"ring_full".into()));
        assert_eq!(coverage["text"], "99.2 % in the last minute: 8 file events lost");
        assert_eq!(parsed["tidewatch"]["login"]["source"], "exec");
        assert_eq!(parsed["tidewatch"]["login"]["text"], "an\\x1bna");
        let fields = &parsed["output_fields"];
        assert_eq!(fields["evt.time"], 1_767_225_600_123_456_789_u64);
        assert_eq!(fields["container.image.repository"], "registry:5000/nginx");
        assert_eq!(fields["container.image.tag"], "1.27");
        assert_eq!(fields["fd.name"], Value::Null);
        assert!(parsed["output"].as_str().unwrap().ends_with(": Informational a shell \\x1b[31m\\nrm"));
    }
}
