//! The table of fields: nothing that Falco has is missing, and the fields say what they should.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;

use tw_model::field::{ArgRule, FIELDS, FieldFlag};
use tw_model::sample::{Sample, SampleArg, SampleContainer, SampleProcess};
use tw_model::{FieldRef, FieldType, Value};

/// The fields of Falco's libraries (0.63.0) and of its plugin `container`: name, type, flags.
const FALCO: &str = include_str!("falco_fields.txt");

fn is_type(ours: FieldType, falco: &str) -> bool {
    match falco {
        "charbuf" | "string" => ours.is_text() || ours == FieldType::TextList || ours == FieldType::Time,
        "bytebuf" => ours == FieldType::Bytes,
        "bool" => ours == FieldType::Bool,
        "ipaddr" => ours == FieldType::Ip,
        "ipnet" => ours == FieldType::Net,
        "port" => ours == FieldType::Port,
        _ => ours.is_numeric(),
    }
}

#[test]
fn every_field_of_falco_is_known_with_its_type_and_flags() {
    let mut count = 0;
    for line in FALCO.lines() {
        let mut words = line.split(' ');
        let (name, ty) = (words.next().unwrap(), words.next().unwrap());
        let flags: BTreeSet<&str> = words.collect();
        let field = FIELDS.iter().find(|field| field.name == name).unwrap_or_else(|| panic!("{name} is missing"));
        assert!(is_type(field.ty, ty), "{name} is {:?}, not {ty}", field.ty);
        for (flag, falco) in [
            (FieldFlag::NoRhs, "NO_RHS"),
            (FieldFlag::NoTransformer, "NO_TRANSFORMER"),
            (FieldFlag::FilterOnly, "FILTER_ONLY"),
            (FieldFlag::PrintOnly, "PRINT_ONLY"),
            (FieldFlag::TableOnly, "TABLE_ONLY"),
            (FieldFlag::Deprecated, "DEPRECATED"),
        ] {
            assert_eq!(field.is(flag), flags.contains(falco), "{name} {falco}");
        }
        // A bare `evt.abspath` is of use, too.
        let needed = flags.contains("ARG_REQUIRED") && name != "evt.abspath";
        assert_eq!(field.arg == ArgRule::Required, needed, "{name}");
        assert!(!flags.contains("ARG_ALLOWED") || field.arg != ArgRule::None, "{name}");
        assert_eq!(field.ty == FieldType::TextList, flags.contains("IS_LIST"), "{name}");
        count += 1;
    }
    assert_eq!(count, 232 + 61);
}

#[test]
fn names_are_distinct_and_explained() {
    let mut names = BTreeSet::new();
    for field in FIELDS {
        assert!(names.insert(field.name), "{} is there twice", field.name);
        assert!(field.doc.ends_with('.') && field.doc.len() > 5, "{}: {}", field.name, field.doc);
    }
    for name in ["baseline.first_seen", "baseline.rarity", "baseline.complete", "k8smeta.svc.name"] {
        let field = FIELDS.iter().find(|field| field.name == name).unwrap();
        assert!(field.get.is_none(), "{name} has no source yet");
    }
}

fn shown(value: Option<Value<'_>>) -> String {
    match value {
        None => "null".into(),
        Some(Value::Text(text)) => String::from_utf8_lossy(text).into_owned(),
        Some(Value::Int(number)) => number.to_string(),
        Some(Value::Uint(number)) => number.to_string(),
        Some(Value::Bool(value)) => value.to_string(),
        Some(Value::Ip(ip)) => ip.to_string(),
        Some(Value::Any(values) | Value::List(values)) => {
            values.iter().map(|value| shown(Some(*value))).collect::<Vec<_>>().join(",")
        }
    }
}

fn check(sample: &Sample, cases: &[(&str, Option<&str>, &str)]) {
    sample
        .inspect(1, |event| {
            for (name, arg, expected) in cases {
                let field = FieldRef::resolve(name, *arg).unwrap_or_else(|error| panic!("{name}: {error:?}"));
                assert_eq!(shown(field.get(event)), *expected, "{name} {arg:?}");
            }
        })
        .unwrap();
}

#[test]
fn fields_of_a_process_and_its_ancestors() {
    let process = |name: &str, env: &[&str]| SampleProcess {
        name: name.into(),
        env: env.iter().map(|variable| (*variable).into()).collect(),
        ..SampleProcess::default()
    };
    let sample = Sample {
        kind: "renameat".into(),
        proc: SampleProcess { vpid: 12, ..process("mv", &["A=own"]) },
        ancestors: vec![process("bash", &["A=1", "B=2"]), process("dash", &[]), process("sshd", &["C=3"])],
        path: "/d/old".into(),
        path2: "/d/new".into(),
        ..Sample::default()
    };
    check(
        &sample,
        &[
            ("proc.loginshellid", None, "101"),
            ("proc.aenv", Some("A"), "1"),
            ("proc.aenv", Some("C"), "3"),
            ("proc.aenv", Some("D"), "null"),
            ("proc.aenv", Some("1"), "A=1 B=2"),
            ("proc.aenv", Some("9"), "null"),
            ("thread.vtid", None, "12"),
            ("evt.abspath", None, "/d/old"),
            ("evt.abspath", Some("src"), "/d/old"),
            ("evt.abspath.dst", None, "/d/new"),
            ("evt.type.is.renameat", None, "1"),
            ("evt.type.is", Some("open"), "0"),
            ("evt.count", None, "1"),
            ("evt.count.error", None, "null"),
            ("evt.latency", None, "0"),
            ("evt.is_wait", None, "false"),
            ("proc.pidns_init_start_ts", None, "null"),
        ],
    );
    let failed = Sample { ret: Some(SampleArg::Name("EACCES".into())), ..sample };
    check(
        &failed,
        &[("evt.count.error", None, "1"), ("evt.count.error.file", None, "1"), ("evt.count.error.net", None, "null")],
    );
    for (name, arg) in [("evt.type.is.nope", None), ("evt.abspath.here", None), ("evt.type.is", Some("opne"))] {
        assert!(FieldRef::resolve(name, arg).is_err(), "{name}");
    }
}

#[test]
fn fields_of_a_connection_in_a_container() {
    let labels = [("app", "web"), ("io.kubernetes.pod.uid", "u-1"), ("io.kubernetes.sandbox.id", "0123456789abcdef")];
    let sample = Sample {
        kind: "connect".into(),
        container: Some(SampleContainer {
            id: Some("f".repeat(64)),
            mounts: vec!["/host:/in".into()],
            labels: labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            ..SampleContainer::default()
        }),
        local: "10.0.0.5:40000".into(),
        remote: "1.2.3.4:443".into(),
        fd: 5,
        ..Sample::default()
    };
    check(
        &sample,
        &[
            ("fd.sproto", None, "https"),
            ("fd.rproto", None, "https"),
            ("fd.cproto", None, "40000"),
            ("fd.lproto", None, "40000"),
            ("fd.proto", None, "40000,443"),
            ("fd.uid", None, "10005"),
            ("fd.containername", None, "ffffffffffff:10.0.0.5:40000->1.2.3.4:443"),
            ("fd.containerdirectory", None, "null"),
            ("container.label.app", None, "web"),
            ("container.label", Some("app"), "web"),
            ("container.labels", None, "app:web"),
            ("container.mount", Some("0"), "/host:/in::true:"),
            ("container.mount.propagation", Some("/in"), ""),
            ("k8s.pod.id", None, "u-1"),
            ("k8s.pod.sandbox_id", None, "0123456789ab"),
            ("k8s.pod.full_sandbox_id", None, "0123456789abcdef"),
            ("k8s.pod.ip", None, "null"),
            ("evt.is_syslog", None, "false"),
        ],
    );
}
