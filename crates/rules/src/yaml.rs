//! YAML of rule files: every scalar is a text, whatever it looks like.

pub mod tree;

use crate::diagnostic::{Problem, code};
use crate::text::{FileId, Place, Text, place};

pub(crate) mod typed;

/// How deep lists and maps of a rule file may be nested.
const MAX_DEPTH: usize = 32;
/// How many nodes a rule file may have; Falco's largest has some ten thousand.
const MAX_NODES: usize = 1_000_000;
/// How many nodes all aliases of a rule file may add up to.
const MAX_ALIASED: usize = 100_000;

/// A node of a document.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Where it stands.
    pub place: Place,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// Nothing, or a word for it.
    Null,
    /// A scalar of any type: its text, and how it stands in the file.
    Scalar {
        /// What it means.
        value: String,
        /// The bytes in the file.
        raw: String,
    },
    /// A list.
    List(Vec<Node>),
    /// A map.
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// The text of a scalar.
    pub fn scalar(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { value, .. } => Some(value),
            _ => None,
        }
    }

    /// The text of a scalar, with places.
    pub fn text(&self) -> Option<Text> {
        match &self.kind {
            Kind::Scalar { value, raw } => Some(Text::of_scalar(value, raw, &self.place)),
            _ => None,
        }
    }

    /// Bytes that a copy takes, about.
    pub fn size(&self) -> usize {
        64 + match &self.kind {
            Kind::Null => 0,
            Kind::Scalar { value, raw } => value.len() + raw.len(),
            Kind::List(items) => items.iter().map(Self::size).sum(),
            Kind::Map(pairs) => pairs.iter().map(|(key, value)| key.size() + value.size()).sum(),
        }
    }

    /// Name of the kind, for messages.
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Null => "nothing",
            Kind::Scalar { .. } => "a single value",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
        }
    }
}

/// Why a file is not YAML.
#[derive(Debug)]
pub(crate) struct YamlError {
    /// What is wrong.
    pub message: String,
    /// Where.
    pub place: Place,
    /// What to do about it, for what is often wrong.
    pub help: Option<&'static str>,
}

impl YamlError {
    /// The same as a problem of a rule file.
    pub fn problem(self) -> Problem {
        let problem = Problem::error(code::YAML_PARSE, self.place, self.message);
        Problem { help: self.help.map(str::to_owned), ..problem }
    }
}

/// What is wrong with the tree of a file, where, and what to do about it.
fn told(file: FileId, source: &str, error: tree::YamlError) -> YamlError {
    let mut at = error.at..error.at;
    let mut help = None;
    if error.message.contains("found a tab") {
        // The scanner tells the end of the line before.
        let behind = source.get(error.at..).unwrap_or_default();
        if let Some(tab) = behind.find('\t').filter(|tab| behind[..*tab].trim().len() < 2) {
            at = error.at + tab..error.at + tab + 1;
        }
        help = Some("indent with blanks, not with tabs");
    } else if error.message.contains("mapping values are not allowed") {
        help = Some("put a text with `: ` in it in quotes, or indent the key as its neighbours are");
    } else if error.message.contains("unexpected character") {
        help = Some("put a text that begins with this character in quotes");
    }
    YamlError { message: error.message, place: place(file, at), help }
}

/// Reads all documents of a file.
///
/// # Errors
/// [`YamlError`], also for files that would become too large.
pub(crate) fn parse(file: FileId, source: &str) -> Result<Vec<Node>, YamlError> {
    let bounds = tree::Bounds { depth: MAX_DEPTH, nodes: MAX_NODES, aliased: MAX_ALIASED };
    let documents = tree::parse(source, bounds).map_err(|error| told(file, source, error))?;
    Ok(documents.into_iter().map(|document| build(file, source, document)).collect())
}

fn build(file: FileId, source: &str, node: tree::Node) -> Node {
    let raw = source.get(node.span.start..node.end).unwrap_or_default();
    let scalar = |value: &str| Kind::Scalar { value: value.to_owned(), raw: raw.to_owned() };
    let kind = match node.kind {
        tree::Kind::Null if raw.trim().is_empty() => Kind::Null,
        // Words such as `null` and `1e3` are texts to rules.
        tree::Kind::Null | tree::Kind::Flag(..) | tree::Kind::Number(..) | tree::Kind::OddNumber(_) => {
            scalar(raw.trim().trim_matches(['"', '\'']))
        }
        tree::Kind::Text(value) => scalar(&value),
        tree::Kind::List(items) => Kind::List(items.into_iter().map(|item| build(file, source, item)).collect()),
        tree::Kind::Map(pairs) => Kind::Map(
            pairs.into_iter().map(|(key, value)| (build(file, source, key), build(file, source, value))).collect(),
        ),
    };
    Node { place: place(file, node.span), kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(source: &str) -> Vec<Option<String>> {
        let documents = parse(FileId(0), source).unwrap();
        let Kind::List(items) = &documents[0].kind else { panic!("no list: {documents:?}") };
        items.iter().map(|item| item.scalar().map(str::to_owned)).collect()
    }

    #[test]
    fn scalars_keep_their_text() {
        let expected =
            ["0.10", "0x10", "true", "no", "~", "null", "1e3", ".inf", "a b", "0777", "99999999999999999999"];
        let found = list("[0.10, 0x10, true, no, ~, null, 1e3, .inf, 'a b', 0777, 99999999999999999999]");
        assert_eq!(found, expected.map(|text| Some(text.to_owned())));
    }

    #[test]
    fn places_are_bytes() {
        let source = "- é\n- {k: 'x'}\n";
        let documents = parse(FileId(0), source).unwrap();
        let Kind::List(items) = &documents[0].kind else { panic!() };
        let Kind::Map(pairs) = &items[1].kind else { panic!() };
        let value = &pairs[0].1.place;
        assert_eq!(&source[value.start..value.end], "'x'");
    }

    #[test]
    fn errors_have_a_place() {
        let error = parse(FileId(0), "- é: [1, 2\n- b: 3\n").unwrap_err();
        assert!(error.place.start > 0, "{error:?}");
        assert!(error.message.starts_with("not valid YAML: "), "{error:?}");
    }

    #[test]
    fn what_is_often_wrong_has_help() {
        for (source, at, help) in [
            ("- rule: x\n\tdesc: d\n", 10, "indent with blanks"),
            ("- rule: x\n  desc: d: e\n", 19, "put a text with `: ` in it in quotes"),
            ("- rule: x\n  output: %proc.name\n", 20, "put a text that begins with this character in quotes"),
        ] {
            let error = parse(FileId(0), source).unwrap_err();
            assert_eq!(error.place.start, at, "{source}: {error:?}");
            assert!(error.help.is_some_and(|found| found.starts_with(help)), "{error:?}");
        }
    }

    #[test]
    fn bombs_are_refused() {
        let mut source = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            let alias = format!("*a{},", i - 1).repeat(10);
            source.push_str(&format!("a{i}: &a{i} [{alias}]\n"));
        }
        assert!(parse(FileId(0), &source).is_err());
        assert!(parse(FileId(0), &"[".repeat(100_000)).is_err());
    }

    #[test]
    fn several_documents_and_none() {
        assert_eq!(parse(FileId(0), "").unwrap().len(), 0);
        assert_eq!(parse(FileId(0), "- a\n---\n- b\n").unwrap().len(), 2);
    }
}
