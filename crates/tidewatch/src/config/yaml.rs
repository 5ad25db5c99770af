//! YAML of the configuration: one document, of a bounded size.

use serde_json::Value;
use tw_rules::yaml::tree::{self, Bounds};

pub use tw_rules::yaml::tree::{Kind, Node, YamlError};

/// How large a file may get.
const BOUNDS: Bounds = Bounds { depth: 16, nodes: 100_000, aliased: 1_000 };

/// Reads the one document of `source`; `None` if it is empty.
///
/// # Errors
/// [`YamlError`], also for more than one document.
pub fn parse(source: &str) -> Result<Option<Node>, YamlError> {
    let mut documents = tree::parse(source, BOUNDS)?.into_iter();
    let first = documents.next();
    match documents.next() {
        None => Ok(first),
        Some(second) => Err(YamlError {
            message: "a second document begins here; the configuration is one: remove `---`".into(),
            at: second.span.start,
        }),
    }
}

/// A key of a map in `source`: as written, if it is no text.
pub fn name(key: &Node, source: &str) -> String {
    let written = || source.get(key.span.clone()).unwrap_or_default();
    key.text().unwrap_or_else(written).to_owned()
}

/// A node as JSON; keys of maps that are no text are left out.
pub fn json(node: &Node) -> Value {
    match &node.kind {
        Kind::Null => Value::Null,
        Kind::Map(pairs) => {
            let pairs = pairs.iter().filter_map(|(name, value)| Some((name.text()?.to_owned(), json(value))));
            Value::Object(pairs.collect())
        }
        Kind::Flag(flag, _) => (*flag).into(),
        Kind::Number(number, _) => (*number).into(),
        Kind::OddNumber(text) | Kind::Text(text) => text.as_str().into(),
        Kind::List(items) => items.iter().map(json).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_and_several_documents() {
        assert!(parse("").unwrap().is_none_or(|node| matches!(node.kind, Kind::Null)));
        assert!(parse("# only a comment\n").unwrap().is_none_or(|node| matches!(node.kind, Kind::Null)));
        let error = parse("a: 1\n---\nb: 2\n").unwrap_err();
        assert_eq!((error.message.contains("second document"), error.at), (true, 9));
    }
}
