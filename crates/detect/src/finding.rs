//! Puts findings together: what happened, to whom, by which lineage.

use tw_model::finding::{ContainerSummary, ProcessSummary, Shown};
use tw_model::{Cause, Container, Event, Finding, Priority, Process};
use tw_rules::Rule;

/// Ancestors shown with a finding.
const LINEAGE: usize = 12;

/// What a rule found in an event.
pub(crate) fn of_rule(rule: &Rule, event: &Event<'_>) -> Finding {
    let lineage = std::iter::once(event.process).chain(event.processes.ancestors(event.process));
    Finding {
        time_ns: event.wall_ns,
        event_num: event.num,
        cause: Cause::Rule { name: rule.name.clone() },
        priority: rule.priority,
        source: "syscall",
        message: rule.message(event),
        why: rule.desc.clone(),
        advice: rule.advice.clone(),
        tags: rule.tags.clone(),
        fields: rule.fields(event),
        event: event.kind().name(),
        lineage: lineage.take(LINEAGE).map(summary).collect(),
        container: event.container.map(|container| ContainerSummary {
            id: container.short_id().to_owned(),
            name: container.name.clone(),
            image: container.image.clone(),
            digest: container.digest.clone(),
        }),
        fingerprint: fingerprint(&[
            rule.name.as_bytes(),
            event.container.map_or(b"host", workload),
            &event.process.image.exepath,
        ]),
    }
}

/// What the agent has to say of itself.
pub fn of_sensor(
    time_ns: u64,
    name: &str,
    priority: Priority,
    message: String,
    fields: Vec<(String, Shown)>,
) -> Finding {
    Finding {
        time_ns,
        event_num: 0,
        cause: Cause::Sensor { name: name.to_owned() },
        priority,
        source: "internal",
        why: "Tidewatch did not see everything: an absence of alerts is no proof of peace for this time.".to_owned(),
        advice: "Look for a container that repeats one call at full speed (tidewatch's log names the event classes), \
                 or give the agent more CPU."
            .to_owned(),
        tags: Vec::new(),
        fields,
        event: "internal",
        lineage: Vec::new(),
        container: None,
        fingerprint: fingerprint(&[name.as_bytes()]),
        message,
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

/// What "the same workload" is until workloads are known: the image, else the container.
fn workload(container: &Container) -> &[u8] {
    if container.repository.is_empty() { container.id.as_bytes() } else { container.repository.as_bytes() }
}

/// FNV-1a over the parts, each ended by a byte that none of them holds as its last.
fn fingerprint(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter().copied().chain([0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Detector;
    use tw_model::sample::Sample;

    fn findings(rules: &str, sample: &str) -> Vec<Finding> {
        let (rules, problems) = tw_rules::Loader::new().add_file("test.yaml", rules).finish();
        assert!(problems.is_empty(), "{problems:?}");
        let detector = Detector::new(rules);
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
