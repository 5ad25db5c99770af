//! YAML as a tree with the types of YAML 1.2, in which every node knows where it stands.
//!
//! The one reader of YAML: rules make texts of all scalars ([`super`]), the configuration checks types against its keys.

use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy, Spanned};

/// How large a document may get.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How deep lists and maps may be nested.
    pub depth: usize,
    /// How many nodes a file may have.
    pub nodes: usize,
    /// How many nodes all aliases may add up to.
    pub aliased: usize,
}

/// A node of a document.
#[derive(Clone, Debug)]
pub struct Node {
    /// Bytes of the source that it takes, without blanks behind it.
    pub span: Range<usize>,
    /// Byte behind those blanks, which are a part of some texts.
    pub end: usize,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Nothing, or a word for it.
    Null,
    /// `true` or `false`, with its spelling.
    Flag(bool, String),
    /// A whole number from 0, with its spelling.
    Number(u64, String),
    /// Any other number, as spelt.
    OddNumber(String),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in its order, repeated keys included.
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// A node that stands there.
    pub fn new(span: Range<usize>, kind: Kind) -> Self {
        Self { end: span.end, span, kind }
    }

    /// The text of a scalar: as written if it is a number or flag.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Flag(_, text) | Kind::Number(_, text) | Kind::OddNumber(text) | Kind::Text(text) => Some(text),
            Kind::Null | Kind::List(_) | Kind::Map(_) => None,
        }
    }
}

/// Why a text is not YAML.
#[derive(Debug, PartialEq, Eq)]
pub struct YamlError {
    /// What is wrong.
    pub message: String,
    /// Byte of the source.
    pub at: usize,
}

/// Reads all documents of `source`.
///
/// # Errors
/// [`YamlError`], also for texts that would become larger than `bounds`.
pub fn parse(source: &str, bounds: Bounds) -> Result<Vec<Node>, YamlError> {
    let options = serde_saphyr::options! {
        // Told by who reads the tree, with both places.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        strict_booleans: true,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_depth: bounds.depth,
            max_nodes: bounds.nodes,
            max_events: 4 * bounds.nodes,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: bounds.aliased,
            max_replay_stack_depth: bounds.depth,
        },
    };
    let documents: Vec<Spanned<Shape>> =
        serde_saphyr::from_multiple_with_options(source, options).map_err(|error| describe(source, &error))?;
    Ok(documents.into_iter().map(|document| build(source, document)).collect())
}

fn describe(source: &str, error: &serde_saphyr::Error) -> YamlError {
    let offset = error.location().map_or(0, |location| location.span().offset());
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    // The library counts characters here.
    let at = source.char_indices().nth(offset).map_or(source.len(), |(at, _)| at);
    let text = error.without_snippet().to_string();
    let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
    YamlError { message: format!("not valid YAML: {message}"), at }
}

fn build(source: &str, node: Spanned<Shape>) -> Node {
    let place = node.defined.span();
    let number = |value: Option<u64>| value.and_then(|value| usize::try_from(value).ok()).unwrap_or(0);
    let start = number(place.byte_offset()).min(source.len());
    let end = start.saturating_add(number(place.byte_len())).min(source.len());
    let raw = source.get(start..end).unwrap_or_default().trim_end();
    let kind = match node.value {
        Shape::Null => Kind::Null,
        Shape::Flag(flag) => Kind::Flag(flag, raw.to_owned()),
        Shape::Number(number) => Kind::Number(number, raw.to_owned()),
        Shape::OddNumber => Kind::OddNumber(raw.to_owned()),
        Shape::Text(text) => Kind::Text(text),
        Shape::List(items) => Kind::List(items.into_iter().map(|item| build(source, item)).collect()),
        Shape::Map(pairs) => {
            Kind::Map(pairs.into_iter().map(|(key, value)| (build(source, key), build(source, value))).collect())
        }
    };
    Node { span: start..start + raw.len(), end, kind }
}

/// What the library delivers.
enum Shape {
    Null,
    Flag(bool),
    Number(u64),
    OddNumber,
    Text(String),
    List(Vec<Spanned<Shape>>),
    Map(Vec<(Spanned<Shape>, Spanned<Shape>)>),
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any YAML")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_none<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Shape, E> {
        Ok(Shape::Flag(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Shape, E> {
        Ok(u64::try_from(number).map_or(Shape::OddNumber, Shape::Number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Shape, E> {
        Ok(Shape::Number(number))
    }

    fn visit_i128<E>(self, _: i128) -> Result<Shape, E> {
        Ok(Shape::OddNumber)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Shape, E> {
        Ok(Shape::OddNumber)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::OddNumber)
    }

    fn visit_str<E>(self, text: &str) -> Result<Shape, E> {
        Ok(Shape::Text(text.to_owned()))
    }

    fn visit_bytes<E: serde::de::Error>(self, _: &[u8]) -> Result<Shape, E> {
        Err(E::custom("binary data has no place here"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shape, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Shape::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Shape, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key()? {
            map.push((key, entries.next_value()?));
        }
        Ok(Shape::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { depth: 16, nodes: 100_000, aliased: 1_000 };

    fn one(source: &str) -> Node {
        parse(source, BOUNDS).unwrap().remove(0)
    }

    #[test]
    fn scalars_have_the_types_of_yaml_1_2() {
        let node = one("[1, -1, 1.5, 0x10, true, no, ~, null, '', '7', off, 99999999999999999999, .inf, 1_000]");
        let Kind::List(items) = node.kind else { panic!() };
        let shown: Vec<String> = items.iter().map(|item| format!("{:?}", item.kind)).collect();
        let expected = [
            "Number(1, \"1\")",
            "OddNumber(\"-1\")",
            "OddNumber(\"1.5\")",
            "Number(16, \"0x10\")",
            "Flag(true, \"true\")",
            "Text(\"no\")",
            "Null",
            "Null",
            "Text(\"\")",
            "Text(\"7\")",
            "Text(\"off\")",
            "OddNumber(\"99999999999999999999\")",
            "Text(\".inf\")",
            "Number(1000, \"1_000\")",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn names_and_values_have_places() {
        let source = "é: {k: 'x'} # c\n";
        let Kind::Map(pairs) = one(source).kind else { panic!() };
        assert_eq!(&source[pairs[0].0.span.clone()], "é");
        let Kind::Map(inner) = &pairs[0].1.kind else { panic!() };
        assert_eq!((&source[inner[0].0.span.clone()], &source[inner[0].1.span.clone()]), ("k", "'x'"));
    }

    #[test]
    fn several_documents_and_none() {
        assert_eq!(parse("", BOUNDS).unwrap().len(), 0);
        assert_eq!(parse("- a\n---\n- b\n", BOUNDS).unwrap().len(), 2);
    }

    #[test]
    fn errors_have_a_place() {
        let error = parse("- é: [1, 2\n- b: 3\n", BOUNDS).unwrap_err();
        assert!(error.at > 0 && error.message.starts_with("not valid YAML: "), "{error:?}");
    }

    #[test]
    fn bombs_are_refused_and_other_files_are_not_read() {
        let mut source = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            let alias = format!("*a{},", i - 1).repeat(10);
            source.push_str(&format!("a{i}: &a{i} [{alias}]\n"));
        }
        assert!(parse(&source, BOUNDS).is_err());
        assert!(parse(&"[".repeat(100_000), BOUNDS).is_err());
        let shown = format!("{:?}", parse("a: !include /etc/hostname\nb: ${HOME}\n", BOUNDS));
        assert!(!shown.contains("root") && (shown.contains("HOME") || shown.contains("Err")), "{shown}");
    }
}
