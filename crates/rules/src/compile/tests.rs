//! Tests of the module above.

use proptest::prelude::*;
use tw_model::sample::Sample;

use crate::testing::{check_all, codes, complaint, file_sample, load, rule_with, socket_sample};

#[test]
fn text_operators() {
    check_all(
        &file_sample(),
        &[
            ("proc.name = cat", true),
            ("proc.name == dog", false),
            ("proc.name != dog", true),
            ("proc.name in (dog, cat)", true),
            ("proc.name in ()", false),
            ("not proc.name in ()", true),
            ("proc.name intersects (cat)", true),
            ("fd.name contains shad", true),
            ("fd.name contains ''", true),
            ("fd.name icontains SHAD", true),
            ("fd.name startswith /etc", true),
            ("fd.name endswith shadow", true),
            ("fd.name glob '/*w'", true),
            ("fd.name glob '/ETC/*'", false),
            ("fd.name iglob '/ETC/*'", true),
            ("fd.name regex '/etc/[a-z]+'", true),
            ("fd.name regex 'etc'", false),
            ("fd.name regex '/etc|/etc/shadow'", true),
            ("fd.name regex '/etc|shadow'", false),
            ("fd.name pmatch (/usr, /etc)", true),
            ("fd.name pmatch (/et)", false),
            ("proc.name exists", true),
            ("fd.directory = /etc", true),
            ("proc.name > 3", true),
            ("proc.name < 3", false),
        ],
    );
}

#[test]
fn modifiers() {
    check_all(
        &file_sample(),
        &[
            ("fd.name startswith anyof (/x, /etc)", true),
            ("fd.name startswith allof (/e, /etc)", true),
            ("fd.name startswith allof (/x, /etc)", false),
            ("fd.name startswith oneof (/x, /etc)", true),
            ("fd.name startswith oneof (/e, /etc)", false),
            ("fd.name startswith anyof ()", false),
            ("fd.name startswith allof ()", false),
            ("proc.name = anyof (cat, dog)", true),
            ("proc.name != allof (cow, dog)", true),
            ("proc.name != allof (cat, dog)", false),
            ("proc.name != anyof (cat, dog)", true),
            ("proc.name != allof ()", false),
        ],
    );
}

#[test]
fn numbers_and_truth_values() {
    check_all(
        &file_sample(),
        &[
            ("fd.num = 3", true),
            ("fd.num != 3", false),
            ("fd.num >= 3", true),
            ("fd.num > 3", false),
            ("fd.num <= 3", true),
            ("fd.num < 3", false),
            ("fd.num in (1, 3)", true),
            ("fd.num = 0x3", true),
            ("fd.num in ()", false),
            ("evt.num = 0", false),
            ("evt.num >= 1", true),
            ("evt.num = 1", true),
            ("evt.is_open_read = true", true),
            ("evt.is_open_read != true", false),
            ("evt.is_open_write = true", false),
            ("evt.is_open_read in (true, false)", true),
            ("proc.tty = 34816", true),
        ],
    );
}

#[test]
fn null_makes_a_comparison_false_and_its_negation_true() {
    check_all(
        &file_sample(),
        &[
            ("fd.sip = \"1.2.3.4\"", false),
            ("fd.sip != \"1.2.3.4\"", false),
            ("not fd.sip = \"1.2.3.4\"", true),
            ("fd.sport > 0", false),
            ("fd.sip exists", false),
            ("not fd.sip exists", true),
            ("proc.aname[9] = x", false),
            ("proc.aname[9] != x", false),
            ("proc.name = val(container.image)", false),
            ("not proc.name = val(container.image)", true),
            ("tolower(container.image) = x", false),
            ("container.id = host", true),
        ],
    );
    let orphan = Sample { ancestors: Vec::new(), ..file_sample() };
    check_all(&orphan, &[("proc.pname exists", false), ("not proc.pname exists", true), ("proc.pname != x", false)]);
}

#[test]
fn ancestors_are_matched_by_any() {
    check_all(
        &file_sample(),
        &[
            ("proc.aname = sshd", true),
            ("proc.aname = cat", false),
            ("proc.aname in (x, bash)", true),
            ("proc.aname != sshd", true),
            ("not proc.aname = sshd", false),
            ("proc.aname[1] = bash", true),
            ("proc.aname[2] = sshd", true),
            ("proc.aname[2] != sshd", false),
            ("proc.aname startswith ss", true),
            ("proc.pname = bash", true),
        ],
    );
}

#[test]
fn either_end() {
    check_all(
        &socket_sample(),
        &[
            ("fd.ip = \"1.2.3.4\"", true),
            ("fd.ip = \"10.0.0.5\"", true),
            ("fd.ip != \"10.0.0.5\"", false),
            ("fd.ip != \"10.0.0.6\"", true),
            ("fd.ip in (\"9.9.9.9\", \"1.2.3.4\")", true),
            ("fd.port = 443", true),
            ("fd.port = https", true),
            ("fd.port = 40000", true),
            ("fd.port != 443", false),
            ("fd.port in (ssh, https)", true),
            ("fd.port > 30000", true),
            ("fd.net = \"10.0.0.0/8\"", true),
            ("fd.net != \"10.0.0.0/8\"", false),
            ("fd.net != \"127.0.0.0/8\"", true),
            ("fd.net in (\"127.0.0.0/8\", \"1.0.0.0/8\")", true),
            ("fd.snet = \"1.2.3.0/24\"", true),
            ("fd.cnet in (\"10.0.0.0/8\")", true),
            ("fd.sip = \"1.2.3.4\"", true),
            ("fd.sip != \"::1\"", true),
            ("fd.sip = \"::ffff:1.2.3.4\"", true),
            ("fd.sport = 443", true),
            ("fd.rip = val(fd.sip)", true),
            ("fd.lport = val(fd.sport)", false),
        ],
    );
}

#[test]
fn transformers_and_right_hand_fields() {
    check_all(
        &file_sample(),
        &[
            ("toupper(proc.name) = CAT", true),
            ("tolower(toupper(proc.name)) = cat", true),
            ("basename(fd.name) = shadow", true),
            ("len(proc.name) = 3", true),
            ("len(proc.name) >= 4", false),
            ("b64(proc.name) exists", true),
            ("concat(proc.name, \"-\", proc.pname) = cat-bash", true),
            ("join(\"/\", (proc.name, proc.pname)) = cat/bash", true),
            ("getopt((\"-a\", \"-b\", \"x\", \"-cd\"), \"ab:c\")[b] = x", true),
            ("getopt((\"-a\", \"-b\", \"x\", \"-cd\"), \"ab:c\") intersects (\"?\")", true),
            ("getopt((\"-a\", \"--\", \"-b\"), \"ab\")[b] exists", false),
            ("(len(proc.name) = val(fd.num))", true),
            ("fd.name contains val(fd.filename)", true),
            ("fd.name endswith basename(fd.name)", true),
            ("proc.name = val(proc.pname)", false),
            ("proc.pname != val(proc.name)", true),
            ("fd.name pmatch (/etc) and tolower(proc.name) in (a, cat)", true),
        ],
    );
}

#[test]
fn event_types_decide_the_kinds() {
    for (condition, kinds) in [
        ("evt.type = execve", &["execve"][..]),
        ("evt.type in (open, openat) and proc.name = x", &["open", "openat"]),
        ("evt.type = open or evt.type = execve", &["execve", "open"]),
        ("evt.type in (open, execve) and not evt.type = open", &["execve"]),
        ("evt.type in (open, execve) and evt.type != open", &["execve"]),
        ("evt.type in (open, execve) and not (evt.type = open or proc.name = x)", &["execve"]),
        ("evt.type = open and evt.num = 0", &[]),
        ("evt.type = open and not evt.num = 0", &["open"]),
        ("evt.type = fork", &["clone"]),
        ("syscall.type = open", &["open"]),
        ("evt.type = anyof (open, creat)", &["open", "creat"]),
        ("evt.type in (open, read)", &["open"]),
        ("evt.type = open and evt.type exists", &["open"]),
    ] {
        let (rules, _) = load(&rule_with(condition));
        let found: Vec<&str> = rules.rules()[0].kinds.iter().map(|kind| kind.name()).collect();
        assert_eq!(found, kinds, "{condition}");
    }
    check_all(
        &file_sample(),
        &[
            ("evt.type = openat", true),
            ("evt.type != openat", false),
            ("evt.type startswith open", true),
            ("evt.type in (open, openat)", true),
            ("not evt.type in (open, openat)", false),
            ("evt.type = oneof (open, openat)", true),
        ],
    );
}

#[test]
fn near_parameters_are_proposed_as_one_writes_them() {
    for (condition, help) in [
        ("evt.arg.pth = x", "did you mean `evt.arg.path`?"),
        ("evt.rawarg.flgs = 1", "did you mean `evt.rawarg.flags` or `evt.rawarg.args`?"),
        // `fd` is as near as it is short.
        ("evt.arg.foo = x", "docs/events.md lists what each event has"),
        ("evt.type.is[exeve] = 1", "did you mean `execve`?"),
    ] {
        let text = format!("- rule: R\n  desc: d\n  condition: {condition}\n  output: o\n  priority: INFO\n");
        let (_, diagnostics) = crate::testing::load(&text);
        let found: Vec<Option<&str>> =
            diagnostics.iter().filter(|one| one.is_error()).map(|one| one.help.as_deref()).collect();
        assert_eq!(found, [Some(help)], "{condition}");
    }
}

#[test]
fn errors() {
    for (condition, message) in [
        ("proc.nmae = x", "there is no field `proc.nmae`"),
        ("proc.name[1] = x", "the field `proc.name` does not take this in brackets"),
        ("container.mount.dest = x", "the field `container.mount.dest` needs something in brackets"),
        ("evt.arg.nope = x", "no event has the parameter that `evt.arg.nope` names"),
        ("nope", "there is no macro `nope`"),
        ("evt.type = opne", "there is no event type `opne`"),
        ("fd.sip > 3", "`>` cannot be used on `fd.sip`, which is of type address"),
        ("fd.num contains 3", "`contains` cannot be used on `fd.num`, which is of type int"),
        ("fd.num = x", "`x` is not a whole number"),
        ("fd.num = 1.5", "`1.5` is not a whole number"),
        ("user.uid = -1", "`-1` is outside of what the type uint can hold"),
        ("fd.sport = 70000", "`70000` is outside of what the type port can hold"),
        ("fd.sport = htttp", "`htttp` is neither a port number nor a known service"),
        ("fd.sport > https", "expected a number"),
        ("fd.sip = x", "`x` is not an IPv4 or IPv6 address"),
        ("fd.net = \"1.2.3.4\"", "`1.2.3.4` is not a network"),
        ("fd.net = \"1.2.3.4/33\"", "`1.2.3.4/33` is not a network"),
        ("evt.is_open_read = 1", "`1` is neither `true` nor `false`"),
        ("proc.name in nope", "there is no list `nope`"),
        ("fd.name = \"a\\x00\"", "a value cannot hold a NUL byte"),
        ("evt.buffer bcontains xyz", "`xyz` is not a row of bytes in hexadecimal"),
        ("fd.name = val(fd.num)", "a value of type path cannot be compared with one of type int"),
        ("proc.name = val(proc.aname)", "`proc.name` cannot be compared with `proc.aname`"),
        ("proc.name regex val(proc.pname)", "`regex` takes only literals here"),
        ("tolower(proc.aname) = x", "`proc.aname` can have several values and cannot be transformed"),
        ("tolower(evt.type) = x", "the event type cannot be transformed"),
        ("tolower(fd.sip.name) = x", "`fd.sip.name` cannot be transformed"),
        ("proc.name = val(fd.sip.name)", "`proc.name` cannot be compared with `fd.sip.name`"),
        ("evt.outputtime = x", "the field `evt.outputtime` can only be shown, not compared"),
        ("evt.type.is.nope = 1", "no event has the parameter that `evt.type.is.nope` names"),
        ("evt.type = val(proc.name)", "the event type can be compared with literals only"),
        ("tolower(fd.num) = x", "`tolower()` cannot be used on a value of type int"),
        ("concat(proc.name) = x", "`concat()` takes two or more texts"),
        ("tolower(proc.name)[1] = x", "`tolower()` takes nothing in brackets"),
    ] {
        assert_eq!(complaint(condition), message, "{condition}");
    }
    assert!(complaint("fd.name regex '['").starts_with("not a usable regular expression: "));
    assert!(complaint("fd.name regex 'a)|(b'").starts_with("not a usable regular expression: "));
    let huge = format!("fd.name regex '{}'", "[a-z]{1000}".repeat(30));
    assert!(complaint(&huge).starts_with("not a usable regular expression: "));
}

#[test]
fn warnings() {
    for (condition, expected) in [
        ("proc.name = proc.pname", "`proc.pname` is compared as text, although it is a field"),
        ("proc.name = \"tolower(x)\"", "`tolower(x)` is compared as text, although it looks like a transformer"),
        ("fd.name regex '.*abc.*'", "this regular expression holds only plain text"),
        ("proc.name > 3", "`>` compares texts byte by byte here, not numbers"),
        ("user.name = 0", "`user.name` is a name, but `0` is a number"),
        ("evt.type = bpf and evt.arg.cmd in (BPF_PROG_LOAD, 5)", "`evt.arg.cmd` is a name, but `5` is a number"),
        ("fd.num = 1 or evt.arg.vm_size = 3", "nothing supplies the field `evt.arg.vm_size` yet: it is always null"),
        ("fd.num = 1 or proc.nchilds = 3", "nothing supplies the field `proc.nchilds` yet: it is always null"),
        ("evt.dir = <", "the field `evt.dir` is deprecated"),
        ("evt.latency > 3", "the field `evt.latency` is deprecated"),
        ("evt.type in (open, read)", "nothing supplies events of the type `read` yet"),
    ] {
        assert_eq!(complaint(condition), expected, "{condition}");
        let (rules, _) = load(&rule_with(condition));
        assert_eq!(rules.len(), 1, "{condition}");
    }
    check_all(
        &file_sample(),
        &[
            ("proc.nchilds = 3", false),
            ("proc.nchilds != 3", false),
            ("not proc.nchilds = 3", true),
            ("proc.nchilds exists", false),
            ("proc.pid = val(proc.nchilds)", false),
        ],
    );
}

#[test]
fn macros_are_units_and_loops_are_errors() {
    let rule = |macros: &str| {
        let (rules, diagnostics) = load(&format!("{macros}{}", rule_with("m and proc.name = cat")));
        (rules, codes(&diagnostics))
    };
    let (rules, _) = rule("- macro: m\n  condition: proc.name = x or proc.name = cat\n");
    assert!(file_sample().inspect(1, |event| rules.rules()[0].matches(event)).unwrap());
    let (_, diagnostics) = load(&format!("- macro: m\n  condition: n\n- macro: n\n  condition: m\n{}", rule_with("m")));
    assert_eq!(diagnostics[0].message, "the macros `m` and `n` lead back to each other");
    let (rules, found) =
        rule("- macro: m\n  condition: n\n- macro: n\n  condition: a\n- macro: a\n  condition: fd.num = 1\n");
    assert_eq!((rules.len(), found), (0, vec!["LOAD_ERR_VALIDATE 2:14".to_owned()]));
    let looped = "- macro: n\n  condition: fd.num = 1\n- macro: m\n  condition: n\n- macro: n\n  condition: m\n";
    assert_eq!(rule(looped).1, ["LOAD_ERR_VALIDATE 6:14"]);
    let (rules, found) = rule("- macro: m\n  condition: (a\n");
    assert_eq!(
        (rules.len(), found),
        (0, vec!["LOAD_ERR_COMPILE_CONDITION 2:14".into(), "LOAD_ERR_VALIDATE 8:15".into()])
    );
}

#[test]
fn conditions_do_not_explode() {
    let mut text = String::from("- macro: m0\n  condition: proc.name = x\n");
    for i in 1..60 {
        text.push_str(&format!("- macro: m{i}\n  condition: m{0} or m{0}\n", i - 1));
    }
    let (rules, diagnostics) = load(&format!("{text}{}", rule_with("m59")));
    assert_eq!(rules.len(), 0);
    assert_eq!(diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count(), 1);

    let mut text = String::from("- macro: m0\n  condition: proc.name = x\n");
    for i in 1..5000 {
        text.push_str(&format!("- macro: m{i}\n  condition: m{}\n", i - 1));
    }
    let (rules, diagnostics) = load(&format!("{text}{}", rule_with("m4999")));
    assert_eq!(rules.len(), 0);
    assert!(diagnostics.iter().any(|diagnostic| diagnostic.message.contains("too deep")));
}

// --- compiled against naive evaluation -----------------------------------------------------------------

mod naive {
    //! Evaluation straight from the tree as written, for texts and numbers only.

    use tw_model::field::Multi;
    use tw_model::{Event, FieldRef, Value};

    use crate::ast::{Check, Expr, Modifier, Op, Operand, Right, Word};

    pub(super) fn holds(expr: &Expr, event: &Event<'_>) -> bool {
        match expr {
            Expr::And(terms, _) => terms.iter().all(|term| holds(term, event)),
            Expr::Or(terms, _) => terms.iter().any(|term| holds(term, event)),
            Expr::Not(term, _) => !holds(term, event),
            Expr::Macro(..) => false,
            Expr::Check(check) => check_holds(check, event),
        }
    }

    fn check_holds(check: &Check, event: &Event<'_>) -> bool {
        let Operand::Field { name, arg, .. } = &check.left else { return false };
        let field = FieldRef::resolve(name, arg.as_deref()).unwrap();
        let Some(value) = field.get(event) else { return false };
        let one = |value: &Value<'_>, op: Op| {
            let test = |word: &Word| compare(value, op, &word.bytes);
            match (&check.right, check.modifier) {
                (Right::None, _) => true,
                (Right::Word(word), _) => test(word),
                (Right::List(words, _), None) => words.iter().any(test),
                (Right::List(words, _), Some(Modifier::AnyOf)) => words.iter().any(test),
                (Right::List(words, _), Some(Modifier::AllOf)) => !words.is_empty() && words.iter().all(test),
                (Right::List(words, _), Some(Modifier::OneOf)) => words.iter().filter(|word| test(word)).count() == 1,
                _ => false,
            }
        };
        match value {
            Value::Any(values) if field.field.multi == Multi::EitherEnd && check.op == Op::Ne => {
                !values.iter().any(|value| one(value, Op::Eq))
            }
            Value::Any(values) => values.iter().any(|value| one(value, check.op)),
            value => one(&value, check.op),
        }
    }

    fn compare(value: &Value<'_>, op: Op, literal: &[u8]) -> bool {
        let text = String::from_utf8_lossy(literal).into_owned();
        if let Value::Text(value) = value {
            let value = String::from_utf8_lossy(value).into_owned();
            return match op {
                Op::Eq | Op::In | Op::Intersects => value == text,
                Op::Ne => value != text,
                Op::Contains => value.contains(&text),
                Op::IContains => value.to_ascii_lowercase().contains(&text.to_ascii_lowercase()),
                Op::StartsWith => value.starts_with(&text),
                Op::EndsWith => value.ends_with(&text),
                _ => panic!("{op:?}"),
            };
        }
        let value = match value {
            Value::Int(value) => i128::from(*value),
            Value::Uint(value) => i128::from(*value),
            other => panic!("{other:?}"),
        };
        let number: i128 = text.parse().unwrap();
        match op {
            Op::Eq | Op::In | Op::Intersects => value == number,
            Op::Ne => value != number,
            Op::Lt => value < number,
            Op::Le => value <= number,
            Op::Gt => value > number,
            Op::Ge => value >= number,
            _ => panic!("{op:?}"),
        }
    }
}

pub(crate) fn random_condition() -> impl Strategy<Value = String> {
    let word = || proptest::sample::select(&["cat", "bash", "sshd", "c", "a", "/etc/shadow", "curl", "SH", "\"\""][..]);
    let words = || proptest::collection::vec(word(), 0..3).prop_map(|words| format!("({})", words.join(", ")));
    let texts = &["proc.name", "proc.pname", "proc.aname", "proc.aname[1]", "fd.name", "fd.filename"][..];
    let text = || proptest::sample::select(texts);
    let text_op = proptest::sample::select(&["=", "!=", "contains", "icontains", "startswith", "endswith"][..]);
    let number = || proptest::sample::select(&["0", "1", "3", "443", "40000"][..]);
    let numbers = || proptest::collection::vec(number(), 0..3).prop_map(|numbers| format!("({})", numbers.join(", ")));
    let numeric = || proptest::sample::select(&["fd.num", "fd.sport", "fd.port", "evt.num", "proc.tty"][..]);
    let leaf = prop_oneof![
        text().prop_map(|field| format!("{field} exists")),
        (text(), text_op.clone(), word()).prop_map(|(field, op, word)| format!("{field} {op} {word}")),
        (text(), text_op, proptest::sample::select(&["anyof", "allof", "oneof"][..]), words())
            .prop_map(|(field, op, modifier, words)| format!("{field} {op} {modifier} {words}")),
        (text(), words()).prop_map(|(field, words)| format!("{field} in {words}")),
        (numeric(), proptest::sample::select(&["=", "!=", "<", "<=", ">", ">="][..]), number())
            .prop_map(|(field, op, number)| format!("{field} {op} {number}")),
        (numeric(), numbers()).prop_map(|(field, numbers)| format!("{field} in {numbers}")),
        proptest::sample::select(&["=", "!="][..]).prop_map(|op| format!("evt.type {op} openat")),
        Just("evt.type in (connect, execve)".to_owned()),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        let joined = |word| move |terms: Vec<String>| format!("({})", terms.join(word));
        prop_oneof![
            proptest::collection::vec(inner.clone(), 2..4).prop_map(joined(" and ")),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(joined(" or ")),
            inner.prop_map(|term| format!("not ({term})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn compiled_conditions_agree_with_naive_evaluation(condition in random_condition()) {
        let (rules, diagnostics) = load(&rule_with(&condition));
        let rule = rules.get("R").ok_or_else(|| TestCaseError::fail(format!("{diagnostics:?}")))?;
        for sample in [file_sample(), socket_sample(), Sample { ancestors: Vec::new(), ..file_sample() }] {
            let (found, expected) =
                sample.inspect(1, |event| (rule.matches(event), naive::holds(&rule.ast, event))).unwrap();
            prop_assert_eq!(found, expected, "{}", condition);
        }
    }
}

#[test]
fn what_grows_too_large_is_shown_where_the_outermost_macro_is_named() {
    let mut text = "- macro: a0\n  condition: proc.name=x\n".to_owned();
    for i in 1..20 {
        let before = i - 1;
        text.push_str(&format!("- macro: a{i}\n  condition: a{before} or a{before} or a{before}\n"));
    }
    let lines = text.lines().count();
    let (_, diagnostics) = load(&format!("{text}{}", rule_with("fd.num = 1 and a19")));
    let found = diagnostics.iter().find(|diagnostic| diagnostic.is_error()).unwrap();
    assert!(found.line > lines && found.message.contains("grows too large"), "{found:?}");
}
