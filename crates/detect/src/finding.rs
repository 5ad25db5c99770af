//! Puts findings together: what happened, to whom, by which lineage.

use tw_model::coverage::Window;
use tw_model::finding::{ContainerSummary, ProcessSummary, Shown, finding_id, fnv1a};
use tw_model::{Cause, Event, Finding, Priority, Process, WorkloadRef};
use tw_rules::Rule;

/// Ancestors shown with a finding.
const LINEAGE: usize = 12;

/// What a rule found in an event.
pub(crate) fn of_rule(rule: &Rule, event: &Event<'_>, session: u64) -> Finding {
    let workload = workload(event);
    let lineage = std::iter::once(event.process).chain(event.processes.ancestors(event.process));
    Finding {
        id: finding_id(session, event.wall_ns, event.num, &rule.name),
        time_ns: event.wall_ns,
        event_num: event.num,
        cause: Cause::Rule { name: rule.name.clone() },
        priority: rule.priority,
        source: "syscall".into(),
        message: rule.message(event),
        why: rule.desc.clone(),
        advice: rule.advice.clone(),
        tags: rule.tags.clone(),
        fields: rule.fields(event),
        event: event.kind().name().into(),
        lineage: lineage.take(LINEAGE).map(summary).collect(),
        container: event.container.map(|container| ContainerSummary {
            id: container.short_id().to_owned(),
            name: container.name.clone(),
            image: container.image.clone(),
            digest: container.digest.clone(),
        }),
        login: event.process.login.as_deref().cloned(),
        coverage: event.coverage.map(Window::coverage),
        fingerprint: fnv1a(&[rule.name.as_bytes(), workload.as_bytes(), &event.process.image.exepath]),
        workload,
    }
}

/// What the agent has to say of itself.
#[derive(Clone, Debug)]
pub struct Notice<'n> {
    /// Short name of the condition, such as `events lost`.
    pub name: &'n str,
    /// How bad.
    pub priority: Priority,
    /// What happened.
    pub message: String,
    /// Why it matters.
    pub why: &'n str,
    /// What to do.
    pub advice: &'n str,
    /// Numbers that belong to it.
    pub fields: Vec<(String, Shown)>,
}

/// A finding of the agent about itself. `time_ns` is wall-clock time; `session` and `number` make its identity.
pub fn of_sensor(session: u64, number: u64, time_ns: u64, notice: Notice<'_>) -> Finding {
    let name = format!("Tidewatch internal: {}", notice.name);
    Finding {
        id: finding_id(session, time_ns, number, &name),
        time_ns,
        event_num: 0,
        priority: notice.priority,
        source: "internal".into(),
        why: notice.why.to_owned(),
        advice: notice.advice.to_owned(),
        tags: Vec::new(),
        fields: notice.fields,
        event: "internal".into(),
        lineage: Vec::new(),
        container: None,
        workload: String::new(),
        login: None,
        coverage: None,
        fingerprint: fnv1a(&[name.as_bytes()]),
        message: notice.message,
        cause: Cause::Sensor { name },
    }
}

fn summary(process: &Process) -> ProcessSummary {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ProcessSummary {
        key: process.key,
        name: text(&process.comm),
        cmdline: text(&process.cmdline),
        exepath: text(&process.image.exepath),
        user: if process.names.user.is_empty() { process.cred.uid.to_string() } else { process.names.user.to_string() },
    }
}

/// Whose process it was, in the sense of "the same again".
fn workload(event: &Event<'_>) -> String {
    match (event.container, event.unit) {
        (Some(container), _) => WorkloadRef::of(container).key(),
        (None, Some(unit)) => format!("unit/{unit}"),
        (None, None) => "host".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Detector;
    use tw_model::sample::Sample;

    fn findings(rules: &str, sample: &str) -> Vec<Finding> {
        let (rules, problems) = tw_rules::Loader::new().add_file("test.yaml", rules).finish();
        assert!(problems.is_empty(), "{problems:?}");
        let mut detector = Detector::new(rules);
        let sample: Sample = serde_saphyr::from_str(sample).unwrap();
        let mut found = Vec::new();
        sample.inspect(7, |event| detector.inspect(event, &mut |finding| found.push(finding))).unwrap();
        found
    }

    const RULE: &str = "
- rule: Shell
  desc: A shell.
  advice: Look.
  condition: evt.type=execve and proc.name=sh
  output: shell %proc.cmdline in %container.name
  priority: WARNING
  tags: [T1059, container]
";

    #[test]
    fn a_finding_is_complete_in_itself() {
        let found = findings(
            RULE,
            "{type: execve, proc: {name: sh, args: [sh, -c, id]}, ancestors: [{name: nginx}, {name: shim}],
              container: {name: web, image: 'nginx:1.27'}}",
        );
        let [finding] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(finding.message, "shell sh -c id in web");
        assert_eq!(finding.lineage.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["sh", "nginx", "shim"]);
        assert_eq!(finding.container.as_ref().map(|c| c.image.as_str()), Some("nginx:1.27"));
        assert_eq!((finding.why.as_str(), finding.advice.as_str()), ("A shell.", "Look."));
        assert_eq!(finding.fields[0], ("proc.cmdline".into(), Shown::Text("sh -c id".into())));
        assert_eq!(finding.event_num, 7);
    }

    #[test]
    fn the_fingerprint_knows_the_workload_but_not_the_arguments() {
        let of = |image: &str, arg: &str| {
            let sample = format!(
                "{{type: execve, proc: {{name: sh, args: [sh, {arg}]}}, container: {{name: x, image: '{image}'}}}}"
            );
            findings(RULE, &sample)[0].fingerprint
        };
        assert_eq!(of("nginx:1", "a"), of("nginx:2", "b"));
        assert_ne!(of("nginx:1", "a"), of("redis:1", "a"));
    }

    #[test]
    fn nothing_to_say_of_other_events() {
        assert!(findings(RULE, "{type: execve, proc: {name: ls}}").is_empty());
    }
}
