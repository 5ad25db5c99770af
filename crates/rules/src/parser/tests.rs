//! Tests of the parser.

use proptest::prelude::*;

use super::*;

fn shape(text: &str) -> String {
    match parse(text) {
        Ok(expr) => draw(&expr),
        Err(error) => format!("error {}..{}: {}", error.span.start, error.span.end, error.message),
    }
}

/// The tree with all its parentheses.
fn draw(expr: &Expr) -> String {
    let all = |terms: &[Expr], word: &str| {
        let terms: Vec<String> = terms.iter().map(draw).collect();
        format!("({})", terms.join(word))
    };
    match expr {
        Expr::And(terms, _) => all(terms, " & "),
        Expr::Or(terms, _) => all(terms, " | "),
        Expr::Not(term, _) => format!("!{}", draw(term)),
        Expr::Macro(name, _) => name.clone(),
        Expr::Check(check) => format!("<{check}>"),
    }
}

#[test]
fn precedence_and_parentheses() {
    for (text, expected) in [
        ("a", "a"),
        ("a and b or c", "((a & b) | c)"),
        ("a or b and c", "(a | (b & c))"),
        ("a and (b or c)", "(a & (b | c))"),
        ("(a)and(b)", "(a & b)"),
        ("a and(b)or(c)", "((a & b) | c)"),
        ("not a and b", "(!a & b)"),
        ("not (a and b)", "!(a & b)"),
        ("not(a)", "!a"),
        ("not not a", "a"),
        ("not not not a", "!a"),
        ("not (not a)", "!!a"),
        ("a and b and c", "(a & b & c)"),
        ("a and (b and c)", "(a & (b & c))"),
        (" \t\r\n( a )\n", "a"),
        ("not_a and order", "(not_a & order)"),
    ] {
        assert_eq!(shape(text), expected, "{text}");
    }
}

#[test]
fn comparisons() {
    for (text, expected) in [
        ("proc.name=cat", "<proc.name = cat>"),
        ("proc.name == cat", "<proc.name = cat>"),
        ("proc.name!=\"a b\"", "<proc.name != \"a b\">"),
        ("fd.num>=0", "<fd.num >= 0>"),
        ("fd.num<-1", "<fd.num < -1>"),
        ("fd.num=-1", "<fd.num = -1>"),
        ("proc.aname[2]=x", "<proc.aname[2] = x>"),
        ("proc.env[\"A B\"] exists", "<proc.env[\"A B\"] exists>"),
        ("proc.pname exists and x", "(<proc.pname exists> & x)"),
        ("proc.name in(a,b)", "<proc.name in (a, b)>"),
        ("proc.name in (runc:[0:PARENT], 'x y')", "<proc.name in (runc:[0:PARENT], \"x y\")>"),
        ("proc.name in ()", "<proc.name in ()>"),
        ("proc.name in shells", "<proc.name in shells>"),
        ("fd.name pmatch (/etc)", "<fd.name pmatch (/etc)>"),
        ("fd.name startswith anyof (/a, /b)", "<fd.name startswith anyof (/a, /b)>"),
        ("fd.name startswith oneof paths", "<fd.name startswith oneof paths>"),
        ("fd.name = anyof", "<fd.name = anyof>"),
        ("fd.name = anyof and x", "(<fd.name = anyof> & x)"),
        ("fd.name contains val(proc.name)", "<fd.name contains val(proc.name)>"),
        ("tolower(proc.name) = x", "<tolower(proc.name) = x>"),
        ("proc.name = tolower( proc.pname )", "<proc.name = tolower(proc.pname)>"),
        ("join(\",\", (proc.name, \"x\")) = a", "<join(\",\", (proc.name, \"x\")) = a>"),
        ("getopt(fd.types, \"ab:\")[b] = x", "<getopt(fd.types, \"ab:\")[b] = x>"),
        ("len(proc.name) > 3", "<len(proc.name) > 3>"),
        ("proc.args startswith \"-e\"", "<proc.args startswith \"-e\">"),
        ("evt.arg.flags contains O_CREAT", "<evt.arg.flags contains O_CREAT>"),
        ("fd.name bstartswith cafe", "<fd.name bstartswith cafe>"),
        ("tolower = x", "error 8..9: expected `and` or `or`"),
    ] {
        assert_eq!(shape(text), expected, "{text}");
    }
}

#[test]
fn errors_point_at_the_place() {
    for (text, expected) in [
        ("", "error 0..0: the condition is empty"),
        ("  ", "error 0..2: the condition is empty"),
        ("a b", "error 2..3: expected `and` or `or`"),
        ("a)", "error 1..2: there is a `)` too many"),
        ("(a", "error 0..1: this `(` is not closed"),
        ("(a b)", "error 3..4: expected `and`, `or` or `)`"),
        ("a and", "error 5..5: expected something behind `and`, but the text ends here"),
        ("and a", "error 0..3: expected a field, a macro or `(`"),
        ("proc.name", "error 9..9: expected an operator, but the text ends here"),
        ("proc.name and x", "error 10..13: expected an operator"),
        ("proc.name contain x", "error 10..17: there is no operator `contain`"),
        ("proc.name =", "error 11..11: expected a value, but the text ends here"),
        ("proc.name = (a)", "error 12..13: `=` takes one value"),
        ("fd.num > x", "error 9..10: expected a number"),
        ("fd.num > 1x", "error 10..11: this is not part of a number"),
        ("proc.name in", "error 12..12: expected a list behind `in`, but the text ends here"),
        ("proc.name in (a b)", "error 16..17: expected `,` or `)`"),
        ("proc.name in (a,)", "error 16..17: expected a value in the list"),
        ("proc.name in (a", "error 13..14: this `(` is not closed"),
        ("proc.name = 'x", "error 12..14: the quoted text has no end"),
        ("proc.name = \"\\q\"", "error 13..15: there is no such escape"),
        ("lower(proc.name) = x", "error 0..5: there is no transformer `lower`"),
        ("proc.aname[2 = x", "error 12..13: expected `]`"),
        ("proc.name = val(x)", "error 16..17: expected a field in `val()`"),
        ("proc.name = é\u{a0}x and", "error 21..21: expected something behind `and`, but the text ends here"),
    ] {
        assert_eq!(shape(text), expected, "{text}");
    }
}

#[test]
fn near_names_are_offered() {
    let error = parse("proc.name startwith x").unwrap_err();
    assert!(error.help.unwrap().starts_with("did you mean `startswith`"));
    assert_eq!(error.code, "LOAD_ERR_COMPILE_CONDITION");
}

#[test]
fn depth_is_limited() {
    let deep = |n: usize| format!("{}a{}", "(".repeat(n), ")".repeat(n));
    assert!(parse(&deep(MAX_DEPTH)).is_ok());
    assert!(parse(&deep(MAX_DEPTH + 1)).is_err());
    assert!(parse(&"(".repeat(1_000_000)).is_err());
    assert!(parse(&"not ".repeat(1_000_000)).is_err());
    assert!(parse(&"tolower(".repeat(1_000_000)).is_err());
    assert!(parse(&format!("join({}", "(".repeat(1_000_000))).is_err());
    assert!(parse(&vec!["a"; 100_000].join(" and ")).is_ok());
}

#[test]
fn spans_cover_the_nodes() {
    let text = "a and not proc.name in (x, 'y z')";
    let Ok(Expr::And(terms, span)) = parse(text) else { panic!() };
    assert_eq!(&text[span.start..span.end], text);
    assert_eq!(&text[terms[1].span().start..terms[1].span().end], "not proc.name in (x, 'y z')");
    let Expr::Not(inner, _) = &terms[1] else { panic!() };
    let Expr::Check(check) = &**inner else { panic!() };
    assert_eq!(&text[check.op_span.start..check.op_span.end], "in");
    let Right::List(words, span) = &check.right else { panic!() };
    assert_eq!(&text[span.start..span.end], "(x, 'y z')");
    assert_eq!(&text[words[1].span.start..words[1].span.end], "'y z'");
}

// --- random trees ----------------------------------------------------------------------------------

const NOWHERE: Span = Span { start: 0, end: 0 };

/// Sets all spans to nothing, so that trees can be compared.
fn erase(expr: &mut Expr) {
    match expr {
        Expr::And(terms, span) | Expr::Or(terms, span) => {
            *span = NOWHERE;
            terms.iter_mut().for_each(erase);
        }
        Expr::Not(term, span) => {
            *span = NOWHERE;
            erase(term);
        }
        Expr::Macro(_, span) => *span = NOWHERE,
        Expr::Check(check) => {
            (check.span, check.op_span) = (NOWHERE, NOWHERE);
            erase_operand(&mut check.left);
            match &mut check.right {
                Right::None => {}
                Right::Word(word) | Right::Name(word) => word.span = NOWHERE,
                Right::List(words, span) => {
                    *span = NOWHERE;
                    words.iter_mut().for_each(|word| word.span = NOWHERE);
                }
                Right::Value(operand) | Right::Call(operand) => erase_operand(operand),
            }
        }
    }
}

fn erase_operand(operand: &mut Operand) {
    match operand {
        Operand::Field { span, .. } => *span = NOWHERE,
        Operand::Call { span, args, .. } => {
            *span = NOWHERE;
            args.iter_mut().for_each(erase_argument);
        }
    }
}

fn erase_argument(argument: &mut Argument) {
    match argument {
        Argument::Number(_, span) => *span = NOWHERE,
        Argument::Text(word) => word.span = NOWHERE,
        Argument::List(items, span) => {
            *span = NOWHERE;
            items.iter_mut().for_each(erase_argument);
        }
        Argument::Operand(operand) => erase_operand(operand),
    }
}

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z][a-zA-Z0-9_]{0,6}".prop_filter("a keyword", |name| {
        !["and", "or", "not", "in", "exists", "val"].contains(&name.as_str()) && Transformer::from_name(name).is_none()
    })
}

fn word() -> impl Strategy<Value = Word> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..8).prop_map(|bytes| Word { bytes, quoted: true, span: NOWHERE }),
        "[a-zA-Z0-9/_.:*@|<>\\[\\]é-]{1,8}"
            .prop_filter("a modifier", |text| { !Modifier::ALL.iter().any(|modifier| modifier.name() == text) })
            .prop_map(|text| Word { bytes: text.into_bytes(), quoted: false, span: NOWHERE }),
    ]
}

fn field() -> impl Strategy<Value = Operand> {
    let field_name = (name(), name()).prop_map(|(a, b)| format!("{a}.{b}"));
    (field_name, proptest::option::of("[a-z0-9 /\"\\\\.-]{1,5}")).prop_map(|(name, arg)| Operand::Field {
        name,
        arg,
        span: NOWHERE,
    })
}

fn operand() -> impl Strategy<Value = Operand> {
    field().prop_recursive(3, 8, 3, |inner| {
        let argument = prop_oneof![
            inner.prop_map(Argument::Operand),
            word().prop_map(|word| Argument::Text(Word { quoted: true, ..word })),
            any::<i32>().prop_map(|number| Argument::Number(number.to_string(), NOWHERE)),
        ];
        let argument = prop_oneof![
            3 => argument.clone(),
            1 => proptest::collection::vec(argument, 0..3).prop_map(|items| Argument::List(items, NOWHERE)),
        ];
        (proptest::sample::select(Transformer::ALL), proptest::collection::vec(argument, 0..3))
            .prop_map(|(name, args)| Operand::Call { name, args, arg: None, span: NOWHERE })
    })
}

fn check() -> impl Strategy<Value = Expr> {
    let words = || proptest::collection::vec(word(), 0..4).prop_map(|words| Right::List(words, NOWHERE));
    let list_name =
        name().prop_map(|name| Right::Name(Word { bytes: name.into_bytes(), quoted: false, span: NOWHERE }));
    let computed = || {
        operand().prop_map(|operand| match operand {
            field @ Operand::Field { .. } => Right::Value(field),
            call @ Operand::Call { .. } => Right::Call(call),
        })
    };
    let number = any::<i64>()
        .prop_map(|number| Right::Word(Word { bytes: number.to_string().into(), quoted: false, span: NOWHERE }));
    let single = proptest::sample::select(&[Op::Eq, Op::Ne, Op::Glob, Op::Contains, Op::EndsWith, Op::Regex][..]);
    let right = prop_oneof![
        Just((Op::Exists, None, Right::None)),
        (single.clone(), word()).prop_map(|(op, word)| (op, None, Right::Word(word))),
        (single.clone(), computed()).prop_map(|(op, right)| (op, None, right)),
        (single, proptest::sample::select(Modifier::ALL), words()).prop_map(|(op, m, right)| (op, Some(m), right)),
        (
            proptest::sample::select(&[Op::In, Op::Intersects, Op::PMatch][..]),
            prop_oneof![words(), list_name, computed()]
        )
            .prop_map(|(op, right)| (op, None, right)),
        (proptest::sample::select(&[Op::Lt, Op::Le, Op::Gt, Op::Ge][..]), prop_oneof![number, computed()])
            .prop_map(|(op, right)| (op, None, right)),
    ];
    (operand(), right).prop_map(|(left, (op, modifier, right))| {
        Expr::Check(Box::new(Check { left, op, op_span: NOWHERE, modifier, right, span: NOWHERE }))
    })
}

fn expr() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![check(), name().prop_map(|name| Expr::Macro(name, NOWHERE))];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 2..4).prop_map(|terms| Expr::And(terms, NOWHERE)),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(|terms| Expr::Or(terms, NOWHERE)),
            inner.prop_map(|term| Expr::Not(Box::new(term), NOWHERE)),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same(tree in expr()) {
        let text = tree.to_string();
        let mut parsed = parse(&text).map_err(|error| TestCaseError::fail(format!("{error:?}: {text}")))?;
        erase(&mut parsed);
        prop_assert_eq!(parsed, tree, "{}", text);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC*") {
        let _ = parse(&text);
    }

    #[test]
    fn no_text_of_known_words_makes_the_parser_panic(
        words in proptest::collection::vec(proptest::sample::select(&[
            "and", "or", "not", "(", ")", "proc.name", "=", "!=", "in", "a", "'", "\"", "\\", ",", "[", "]", "val(",
            "tolower(", "anyof", "exists", " ", "é", "1", ">=", "contains", "\u{8}", "\\x4",
        ][..]), 0..20),
        joint in proptest::sample::select(&["", " "][..]),
    ) {
        if let Err(error) = parse(&words.join(joint)) {
            prop_assert!(error.span.start <= error.span.end && error.span.end <= words.join(joint).len());
        }
    }
}

#[test]
fn what_joins_nothing_has_help() {
    for (condition, help) in [
        ("proc.name = a && proc.name = b", "it is written `and`"),
        ("proc.name = a AND proc.name = b", "it is written `and`"),
        ("(proc.name = a || proc.name = b)", "it is written `or`"),
        ("proc.name = a and container = true", "`container` is read as a macro, which is not compared"),
        ("container != host", "`container` is read as a macro, which is not compared"),
        ("proc.cmdline contains a=b", "a value with = in it needs quotes"),
    ] {
        let found = parse(condition).unwrap_err().help.unwrap_or_default();
        assert!(found.starts_with(help), "{condition}: {found}");
    }
}
