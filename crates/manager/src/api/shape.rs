//! Schemas of the nouns that come from the agent, read off examples: what the nouns are is said in `tidewatch-model`,
//! and a field that is new there shows up in the API's document by itself.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value, json};
use tw_model::container::Mount;
use tw_model::coverage::{Class, Coverage, Miss, Missed};
use tw_model::finding::{ContainerSummary, ProcessSummary, Shown};
use tw_model::link::{ChildStatus, SupervisorStatus as Supervisor};
use tw_model::login::ContainerExec;
use tw_model::status::{self, AgentStatus as Agent};
use tw_model::{Cause, FindingId, Login, Priority, ProcKey};
use utoipa::openapi::{Object, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Members that may be null.
const NULLABLE: &[&str] = &[
    "problem",
    "last_error",
    "copy_error",
    "error",
    "spool",
    "recorder",
    "container",
    "coverage",
    "unwatched",
    "login",
    "address",
    "exec",
];

macro_rules! nouns {
    ($($doc:literal $name:ident = $example:expr;)*) => {
        $(
            #[doc = $doc]
            pub(super) struct $name;

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    described($doc, &$example)
                }
            }

            impl ToSchema for $name {
                fn name() -> Cow<'static, str> {
                    Cow::Borrowed(stringify!($name))
                }
            }
        )*
    };
}

/// The schema of an example, with a description.
fn described(description: &str, example: &impl Serialize) -> RefOr<Schema> {
    let mut schema = shape(&serde_json::to_value(example).unwrap_or_default());
    schema["description"] = description.into();
    serde_json::from_value(schema).unwrap_or_else(|_| RefOr::T(Schema::Object(Object::new())))
}

fn shape(example: &Value) -> Value {
    match example {
        Value::Null => json!({}),
        Value::Bool(_) => json!({"type": "boolean"}),
        Value::Number(number) if number.is_f64() => json!({"type": "number"}),
        Value::Number(_) => json!({"type": "integer", "format": "int64"}),
        Value::String(_) => json!({"type": "string"}),
        Value::Array(items) => {
            let mut shapes: Vec<_> = items.iter().map(shape).collect();
            shapes.dedup();
            // A pair, such as a name and a count: anything, as far as this format can say it.
            let items = if let [one] = shapes.as_slice() { one.clone() } else { json!({}) };
            json!({"type": "array", "items": items})
        }
        Value::Object(members) if members.contains_key(ANY_KEY) => {
            json!({"type": "object", "additionalProperties": {"type": "string"}})
        }
        Value::Object(members) => {
            let mut properties = Map::new();
            for (name, value) in members {
                let mut property = shape(value);
                if NULLABLE.contains(&name.as_str()) {
                    property["type"] = json!([property["type"], "null"]);
                }
                properties.insert(name.clone(), property);
            }
            let required: Vec<_> = members.keys().filter(|name| !NULLABLE.contains(&name.as_str())).collect();
            json!({"type": "object", "properties": properties, "required": required})
        }
    }
}

/// Marks an example of a map.
const ANY_KEY: &str = "any key";

fn problem() -> status::Problem {
    status::Problem::default()
}

fn finding() -> tw_model::Finding {
    let text = String::new;
    let key = ProcKey { start_ns: 1, pid: 1 };
    tw_model::Finding {
        id: FindingId::nil(),
        time_ns: 0,
        event_num: 0,
        cause: Cause::Rule { name: text() },
        priority: Priority::Warning,
        source: "syscall".into(),
        message: text(),
        why: text(),
        advice: text(),
        tags: vec![text()],
        fields: vec![(text(), Shown::Int(0))],
        event: "execve".into(),
        lineage: vec![ProcessSummary { key, ..ProcessSummary::default() }],
        container: Some(ContainerSummary::default()),
        workload: String::new(),
        login: Some(login()),
        coverage: Some(coverage()),
        fingerprint: 0,
    }
}

fn login() -> Login {
    let address = Some([127, 0, 0, 1].into());
    Login { address, exec: Some(ContainerExec::default()), ..Login::default() }
}

fn coverage() -> Coverage {
    Coverage { seen: 0, missed: vec![Missed { class: Class::File, reason: Miss::RingFull, events: 0 }] }
}

fn container() -> tw_model::Container {
    tw_model::Container {
        mounts: vec![Mount::default()],
        labels: [(ANY_KEY.to_owned(), String::new())].into(),
        ..tw_model::Container::default()
    }
}

fn agent() -> Agent {
    let some = || Some(String::new());
    let latency = status::Histogram::new(&[0.5]);
    Agent {
        coverage: status::CoverageStatus {
            classes: vec![status::ClassCoverage { missed: vec![(Miss::RingFull, 0)], ..Default::default() }],
            minute: coverage(),
            worst: vec![status::ContainerCoverage { coverage: coverage(), ..Default::default() }],
            unwatched: Some(status::Unwatched::default()),
        },
        tables: vec![Default::default()],
        budget: status::BudgetStatus { given_up: vec![String::new()], ..Default::default() },
        hooks: vec![status::HookStatus { problem: some(), instead: some(), ..Default::default() }],
        rings: vec![Default::default()],
        events: vec![Default::default()],
        rules: status::RulesStatus {
            options: vec![String::new()],
            files: vec![Default::default()],
            last_error: some(),
            copy_error: some(),
            ..Default::default()
        },
        rule_costs: vec![Default::default()],
        findings: status::FindingStatus { by_priority: vec![(Priority::Warning, 0)], latency, ..Default::default() },
        runtimes: vec![Default::default()],
        resources: Some(Default::default()),
        spool: Some(status::SpoolStatus { lanes: vec![Default::default()], error: some(), ..Default::default() }),
        recorder: Some(status::RecorderStatus { error: some(), ..Default::default() }),
        redactions: vec![(String::new(), 0)],
        problems: vec![problem()],
        ..Agent::default()
    }
}

nouns! {
    "A finding, complete in itself." Finding = finding();
    "A container as its runtime describes it." Container = container();
    "Everything an agent says of itself, as of one moment." AgentStatus = agent();
    "The supervisor's word on both processes." SupervisorStatus = Supervisor { children: vec![ChildStatus::default()], problems: vec![problem()], pid: 0 };
    "Something that is not as it should be, with its remedy." Problem = problem();
    "What a process takes of the machine." Usage = status::Usage::default();
}
