//! The page of diagnostics is true: every code is on it, with its meaning, its remedy, and an example that gives it.

#![allow(clippy::unwrap_used, reason = "a test")]

use tw_rules::Loader;
use tw_rules::diagnostic::code::{ALL, EXTENSION, PAGE};
use tw_rules::suite::Suite;

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Words with one blank between them: how lines are broken does not matter.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_code_is_explained_by_an_example_that_gives_it() {
    let page = read(PAGE);
    let mut sections = page.split("\n## ").skip(1);
    for info in ALL {
        let section = sections.next().unwrap_or_default();
        let (heading, rest) = section.split_once('\n').unwrap();
        assert_eq!(heading, info.code, "the sections are in the order of the codes");
        let (prose, remedy) = rest.split_once("**Remedy:**").unwrap();
        assert!(words(prose).starts_with(info.meaning), "{}: {prose}", info.code);
        assert!(words(remedy).starts_with(info.remedy), "{}: {remedy}", info.code);
        let example = prose.split_once("```yaml\n").and_then(|(_, rest)| rest.split_once("```"));
        let Some((example, _)) = example else {
            assert_eq!(info.code, "LOAD_ERR_FILE_READ", "only a file that is not there has no example");
            continue;
        };
        let diagnostics = match info.code {
            EXTENSION => Suite::parse("example.yaml", example).1,
            _ => Loader::new().add_file("example.yaml", example).finish().1,
        };
        let found = diagnostics.iter().find(|diagnostic| diagnostic.code == info.code);
        let found = found.unwrap_or_else(|| panic!("{}: {diagnostics:#?}", info.code));
        assert_eq!(found.severity, info.severity, "{}", info.code);
        let others: Vec<&str> = diagnostics.iter().map(|d| d.code).filter(|code| *code != info.code).collect();
        let expected = |code: &&str| code.starts_with("LOAD_UNUSED") || *code == "LOAD_UNKNOWN_SOURCE";
        assert!(others.iter().all(expected), "{}: {others:?}", info.code);
    }
    assert_eq!(sections.next(), None);
}

/// The fenced blocks of a document behind a heading.
fn blocks<'t>(text: &'t str, heading: &str) -> Vec<&'t str> {
    let rest = text.split_once(heading).unwrap().1;
    rest.split("```").skip(1).step_by(2).map(|block| block.split_once('\n').unwrap().1).collect()
}

#[test]
fn errors_look_as_the_documents_say() {
    let text = read("docs/rules.md");
    let blocks = blocks(&text, "\n## How errors look\n");
    let (_, diagnostics) = Loader::new().add_file("broken.yaml", blocks[0]).finish();
    let (errors, warnings): (Vec<_>, Vec<_>) = diagnostics.iter().partition(|diagnostic| diagnostic.is_error());
    let shown: String =
        errors.into_iter().chain(warnings).map(|d| format!("{}\n\n", d.render(false).trim_end())).collect();
    assert!(blocks[1].starts_with(&shown), "docs/rules.md should show:\n{shown}");
}

#[test]
fn the_documents_count_the_fields_without_a_source() {
    let all = tw_model::field::FIELDS.len();
    let without = tw_model::field::FIELDS.iter().filter(|field| field.get.is_none()).count();
    let text = words(&read("docs/rules.md"));
    assert!(text.contains(&format!("{without} of {all} fields")), "it is {without} of {all}");
}
