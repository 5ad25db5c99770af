//! Tests of the module above.

use tw_model::finding::Shown;

use super::*;
use crate::testing::{file_sample, load, socket_sample};
use crate::text::{FileId, place};

fn template(text: &str) -> (Template, Vec<Problem>) {
    let mut problems = Vec::new();
    let text = Text::of_scalar(text, text, &place(FileId(0), 0..text.len()));
    let template = Template::compile(&text, &mut problems);
    (template, problems)
}

#[test]
fn messages() {
    file_sample()
        .inspect(7, |event| {
            for (text, expected) in [
                ("plain", "plain"),
                ("a=%proc.name b=%fd.name", "a=cat b=/etc/shadow"),
                ("%proc.name.", "cat."),
                ("%proc.name...x", "cat...x"),
                ("(%proc.name)", "(cat)"),
                ("%proc.aname[2]!", "sshd!"),
                ("%proc.aname", "bash sshd"),
                ("%proc.aname[9] %fd.sip", "<NA> <NA>"),
                ("[%5proc.name]", "[cat  ]"),
                ("[%2proc.name]", "[ca]"),
                ("%toupper(proc.name) %len(proc.name)", "CAT 3"),
                ("%evt.num %fd.num %evt.is_open_read", "7 3 true"),
                ("%fd.dev %fd.ino", "0 1"),
                ("%getopt((\"-a\", \"-b\"), \"ab\")", "(a,b)"),
                ("%evt.time", "2026-01-01T00:00:00.000000000Z"),
                ("%evt.rawtime", "1767225600000000000"),
                ("x%container.info y", "x y"),
                ("%user.name[%user.uid]", "root[0]"),
                ("%proc.name%proc.pname", "catbash"),
                ("é %proc.name é", "é cat é"),
                ("%thread.cgroups", "<NA>"),
            ] {
                let (template, problems) = template(text);
                let errors: Vec<_> = problems.iter().filter(|problem| problem.code == code::OUTPUT).collect();
                assert!(errors.is_empty(), "{text}: {errors:?}");
                assert_eq!(template.message(event), expected, "{text}");
            }
        })
        .unwrap();
}

#[test]
fn fields_are_typed_and_named_once() {
    let (template, _) =
        template("%fd.sport %fd.sip %proc.name %proc.name %toupper(proc.name) %fd.connected %proc.aname[1] %evt.time");
    let fields = socket_sample().inspect(1, |event| template.fields(event)).unwrap();
    let expected = [
        ("fd.sport", Shown::Uint(443)),
        ("fd.sip", Shown::Text("1.2.3.4".into())),
        ("proc.name", Shown::Text("curl".into())),
        ("fd.connected", Shown::Bool(true)),
        ("proc.aname[1]", Shown::Null),
    ];
    assert_eq!(fields[..5], expected.map(|(name, value)| (name.to_owned(), value)));
    assert_eq!(fields[5].0, "evt.time");
    assert!(matches!(fields[5].1, Shown::Int(_) | Shown::Uint(_)));
    assert_eq!(fields.len(), 6);
}

#[test]
fn errors_and_warnings() {
    for (text, expected) in [
        ("100%", "there is no field behind this `%`"),
        ("% proc.name", "there is no field behind this `%`"),
        ("%proc.nmae", "there is no field `proc.nmae`"),
        ("%nope", "there is no field `nope`"),
        ("%evt.arg", "the field `evt.arg` needs something in brackets"),
        ("%lower(proc.name)", "there is no field `lower`"),
        ("%fd.ip", "the field `fd.ip` can only be compared, not shown"),
        ("%evt.dir", "the field `evt.dir` is deprecated"),
        ("%tolower(proc.name", "this `(` is not closed"),
        (
            "%container.image.tga",
            "there is no field `container.image.tga`: this shows `container.image`, then the rest as text",
        ),
        ("%thread.cgroups", "nothing supplies the field `thread.cgroups` yet: it is always null"),
    ] {
        let (_, problems) = template(text);
        assert_eq!(problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>(), [expected], "{text}");
    }
}

#[test]
fn an_error_in_the_output_has_its_place() {
    let (rules, diagnostics) = load(
        "- rule: R\n  desc: d\n  priority: INFO\n  condition: evt.type = open\n  output: >\n    a %proc.name\n    b %proc.nmae c\n",
    );
    assert!(rules.is_empty());
    assert_eq!(diagnostics[0].to_string(), "t.yaml:7:8: error[LOAD_ERR_COMPILE_OUTPUT]: there is no field `proc.nmae`");
}

#[test]
fn dates() {
    let date = |ns| {
        let mut text = String::new();
        write_time(ns, &mut text).unwrap();
        text
    };
    assert_eq!(date(0), "1970-01-01T00:00:00.000000000Z");
    assert_eq!(date(-1), "1969-12-31T23:59:59.999999999Z");
    assert_eq!(date(951_782_400_000_000_000), "2000-02-29T00:00:00.000000000Z");
    assert_eq!(date(1_795_478_399_123_456_789), "2026-11-23T23:59:59.123456789Z");
    assert_eq!(date(4_107_542_400_000_000_000), "2100-03-01T00:00:00.000000000Z");
}
