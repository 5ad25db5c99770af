//! Explanations of the default pack: what they say at the root is what the engine says, over made-up events.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::select;
use tw_model::event::EVENTS;
use tw_model::sample::{Sample, SampleArg, SampleContainer, SampleProcess};
use tw_rules::ast::{Expr, Right};
use tw_rules::explain::{Explained, Explainer, Part, Verdict};
use tw_rules::{Loader, RuleSet};

static PACK: LazyLock<RuleSet> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rules");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let add = |loader: Loader, file: &PathBuf| {
        loader.add_file(file.display().to_string(), std::fs::read_to_string(file).unwrap())
    };
    files.iter().fold(Loader::new(), add).finish().0
});

/// Every literal that the pack compares something with: events made of them come near its rules.
static WORDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    fn add(expr: &Expr, words: &mut Vec<String>) {
        match expr {
            Expr::And(terms, _) | Expr::Or(terms, _) => terms.iter().for_each(|term| add(term, words)),
            Expr::Not(term, _) => add(term, words),
            Expr::Macro(..) => {}
            Expr::Check(check) => match &check.right {
                Right::Word(word) | Right::Name(word) => words.push(word.lossy().into_owned()),
                Right::List(list, _) => words.extend(list.iter().map(|word| word.lossy().into_owned())),
                _ => {}
            },
        }
    }
    let mut words = vec![String::new(), "/tmp/x".to_owned(), "app".to_owned()];
    PACK.rules().iter().for_each(|rule| add(&rule.ast, &mut words));
    PACK.macros().iter().for_each(|known| add(&known.ast, &mut words));
    for list in PACK.lists() {
        words.extend(list.items.iter().map(|item| String::from_utf8_lossy(item).into_owned()));
    }
    words.sort();
    words.dedup();
    words
});

fn word() -> impl Strategy<Value = String> {
    select(WORDS.as_slice())
}

fn process() -> impl Strategy<Value = SampleProcess> {
    let flags = (any::<bool>(), any::<bool>(), select(vec![0_u32, 1, 1000]), select(vec![0_u32, 1, 55]));
    (word(), word(), proptest::collection::vec(word(), 0..3), flags).prop_map(
        |(name, exepath, args, (upper_layer, memfd, uid, vpid))| SampleProcess {
            name,
            exepath: Some(exepath),
            args,
            uid,
            vpid,
            upper_layer,
            memfd,
            caps: if uid == 0 { "CAP_SYS_ADMIN".into() } else { String::new() },
            ..SampleProcess::default()
        },
    )
}

fn container() -> impl Strategy<Value = Option<SampleContainer>> {
    let made = (word(), any::<bool>()).prop_map(|(image, privileged)| SampleContainer {
        name: "c".into(),
        image,
        privileged,
        mounts: vec!["/:/host".into()],
        ..SampleContainer::default()
    });
    proptest::option::weighted(0.8, made)
}

fn sample() -> impl Strategy<Value = Sample> {
    let kind = (0..EVENTS.len()).prop_map(|index| EVENTS[index].name.to_owned());
    let call = (select(vec!["", "O_WRONLY|O_CREAT", "O_RDONLY"]), select(vec![-13_i64, -1, 0, 3]), any::<bool>());
    let ends = (select(vec!["tcp", "udp", "unix"]), select(vec!["1.2.3.4:443", "10.0.0.1:6443", "169.254.169.254:80"]));
    let texts = (word(), word(), word(), word());
    (kind, process(), proptest::collection::vec(process(), 0..3), container(), call, ends, texts).prop_map(
        |(kind, proc, ancestors, container, call, ends, (path, path2, data, target))| Sample {
            kind,
            proc,
            ancestors,
            container,
            flags: call.0.into(),
            ret: Some(SampleArg::Number(call.1)),
            created: call.2,
            proto: ends.0.into(),
            remote: if ends.0 == "unix" { String::new() } else { ends.1.into() },
            path,
            path2,
            data,
            target,
            fd: 3,
            ..Sample::default()
        },
    )
}

/// Whether each node follows from its children, read from left to right.
fn follows(node: &Explained) -> bool {
    let Some(verdict) = node.verdict else { return false };
    let children: Vec<_> = node.children.iter().filter_map(|child| child.verdict).collect();
    let until = |settling, otherwise| {
        let reached = children.iter().position(|child| *child == settling);
        let looked_at = reached.map_or(children.len(), |at| at + 1);
        let rest_is_skipped = children[looked_at..].iter().all(|child| *child == Verdict::NotLookedAt);
        rest_is_skipped && verdict == if reached.is_some() { settling } else { otherwise }
    };
    let own = match (verdict, node.part) {
        (Verdict::NotLookedAt, _) => {
            children.iter().all(|child| *child == Verdict::NotLookedAt) && node.values.is_empty()
        }
        (_, Part::And) => until(Verdict::False, Verdict::True),
        (_, Part::Or) => until(Verdict::True, Verdict::False),
        (_, Part::Not) => children.len() == 1 && children[0] != verdict,
        (_, Part::Macro) => children == [verdict],
        (_, Part::Check) => children.is_empty() && !node.values.is_empty(),
    };
    own && node.children.iter().all(follows)
}

proptest! {
    #[test]
    fn the_root_says_what_the_engine_says(sample in sample()) {
        let explainer = Explainer::new(&PACK);
        let wrong = sample.inspect(1, |event| {
            PACK.rules().iter().find_map(|rule| {
                let explained = explainer.rule(rule, Some(event));
                let said = explained.verdict == Some(Verdict::True);
                (said != rule.matches(event) || !follows(&explained)).then(|| (rule.name.clone(), explained))
            })
        });
        // Some flags and addresses do not go with some events.
        if let Ok(wrong) = wrong {
            prop_assert!(wrong.is_none(), "{wrong:#?}");
        }
    }
}

#[test]
fn made_up_events_are_found_and_missed() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut made, mut found) = (0, 0);
    for _ in 0..2000 {
        let sample = sample().new_tree(&mut runner).unwrap().current();
        if let Ok(hits) = sample.inspect(1, |event| PACK.rules().iter().filter(|rule| rule.matches(event)).count()) {
            made += 1;
            found += usize::from(hits > 0);
        }
    }
    assert!(made > 1000 && found > 10 && found < made, "{found} of {made} events match a rule");
}

#[test]
fn conditions_of_the_pack_are_laid_out_without_a_change() {
    let rules = PACK.rules().iter().map(|rule| (&rule.name, &rule.ast));
    for (name, ast) in rules.chain(PACK.macros().iter().map(|known| (&known.name, &known.ast))) {
        for width in [20, 80] {
            let laid_out = tw_rules::layout::condition(ast, width);
            assert_eq!(tw_rules::parser::parse(&laid_out).unwrap().to_string(), ast.to_string(), "{name}");
        }
    }
}
