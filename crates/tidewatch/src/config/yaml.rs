//! YAML of the configuration as a tree in which every node knows where it stands.

use std::ops::Range;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy, Spanned};

/// How deep lists and maps may be nested.
const MAX_DEPTH: usize = 16;
/// How many nodes a file may have.
const MAX_NODES: usize = 100_000;
/// How many nodes all aliases may add up to.
const MAX_ALIASED: usize = 1_000;

/// A node of a document.
#[derive(Clone, Debug)]
pub struct Node {
    /// Bytes of the source that it takes.
    pub span: Range<usize>,
    /// What it is.
    pub kind: Kind,
}

/// A key of a map.
#[derive(Clone, Debug)]
pub struct Name {
    /// Bytes of the source that it takes.
    pub span: Range<usize>,
    /// Its text as written.
    pub text: String,
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
    Map(Vec<(Name, Node)>),
}

impl Node {
    /// The text of a scalar: as written if it is a number or flag.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Flag(_, text) | Kind::Number(_, text) | Kind::OddNumber(text) | Kind::Text(text) => Some(text),
            Kind::Null | Kind::List(_) | Kind::Map(_) => None,
        }
    }

    /// The same in JSON; maps are `null`.
    pub fn json(&self) -> Value {
        match &self.kind {
            Kind::Null | Kind::Map(_) => Value::Null,
            Kind::Flag(flag, _) => (*flag).into(),
            Kind::Number(number, _) => (*number).into(),
            Kind::OddNumber(text) | Kind::Text(text) => text.as_str().into(),
            Kind::List(items) => items.iter().map(Self::json).collect(),
        }
    }
}

/// Why a text is not YAML, or not ours.
#[derive(Debug, PartialEq, Eq)]
pub struct YamlError {
    /// What is wrong.
    pub message: String,
    /// Byte of the source.
    pub at: usize,
}

/// Reads the one document of `source`; `None` if it is empty.
///
/// # Errors
/// [`YamlError`], also for texts that would become too large, and for more than one document.
pub fn parse(source: &str) -> Result<Option<Node>, YamlError> {
    let options = serde_saphyr::options! {
        // Told by ourselves, with both places.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        strict_booleans: true,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 4 * MAX_NODES,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_ALIASED,
            max_replay_stack_depth: MAX_DEPTH,
        },
    };
    let documents: Vec<Spanned<Shape>> =
        serde_saphyr::from_multiple_with_options(source, options).map_err(|error| describe(source, &error))?;
    let mut documents = documents.into_iter().map(|document| build(source, document));
    let first = documents.next();
    match documents.next() {
        None => Ok(first),
        Some(second) => Err(YamlError {
            message: "a second document begins here; the configuration is one: remove `---`".into(),
            at: second.span.start,
        }),
    }
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
    let (span, raw) = place(source, &node);
    let kind = match node.value {
        Shape::Null => Kind::Null,
        Shape::Flag(flag) => Kind::Flag(flag, raw.to_owned()),
        Shape::Number(number) => Kind::Number(number, raw.to_owned()),
        Shape::OddNumber => Kind::OddNumber(raw.to_owned()),
        Shape::Text(text) => Kind::Text(text),
        Shape::List(items) => Kind::List(items.into_iter().map(|item| build(source, item)).collect()),
        Shape::Map(pairs) => {
            Kind::Map(pairs.into_iter().map(|(key, value)| (name(source, key), build(source, value))).collect())
        }
    };
    Node { span, kind }
}

fn name(source: &str, node: Spanned<Shape>) -> Name {
    let (span, raw) = place(source, &node);
    let text = match node.value {
        Shape::Text(text) => text,
        _ => raw.to_owned(),
    };
    Name { span, text }
}

/// Where a node stands, without blanks behind it, and the source there.
fn place<'s>(source: &'s str, node: &Spanned<Shape>) -> (Range<usize>, &'s str) {
    let span = node.defined.span();
    let number = |value: Option<u64>| value.and_then(|value| usize::try_from(value).ok()).unwrap_or(0);
    let start = number(span.byte_offset()).min(source.len());
    let end = start.saturating_add(number(span.byte_len())).min(source.len());
    let raw = source.get(start..end).unwrap_or_default().trim_end();
    (start..start + raw.len(), raw)
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
        Err(E::custom("binary data has no place in a configuration"))
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
            if map.len() > MAX_NODES {
                return Err(A::Error::custom("too many entries"));
            }
        }
        Ok(Shape::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_have_the_types_of_yaml_1_2() {
        let node =
            parse("[1, -1, 1.5, 0x10, true, no, ~, null, '', '7', off, 99999999999999999999, .inf, 1_000]").unwrap();
        let Kind::List(items) = node.unwrap().kind else { panic!() };
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
        let Kind::Map(pairs) = parse(source).unwrap().unwrap().kind else { panic!() };
        assert_eq!(&source[pairs[0].0.span.clone()], "é");
        let Kind::Map(inner) = &pairs[0].1.kind else { panic!() };
        assert_eq!((&source[inner[0].0.span.clone()], &source[inner[0].1.span.clone()]), ("k", "'x'"));
    }

    #[test]
    fn nothing_and_several_documents() {
        assert!(parse("").unwrap().is_none_or(|node| matches!(node.kind, Kind::Null)));
        assert!(parse("# only a comment\n").unwrap().is_none_or(|node| matches!(node.kind, Kind::Null)));
        let error = parse("a: 1\n---\nb: 2\n").unwrap_err();
        assert_eq!((error.message.contains("second document"), error.at), (true, 9));
    }

    #[test]
    fn bombs_are_refused_and_other_files_are_not_read() {
        let mut source = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            let alias = format!("*a{},", i - 1).repeat(10);
            source.push_str(&format!("a{i}: &a{i} [{alias}]\n"));
        }
        assert!(parse(&source).is_err());
        assert!(parse(&"[".repeat(100_000)).is_err());
        let shown = format!("{:?}", parse("a: !include /etc/hostname\nb: ${HOME}\n"));
        assert!(!shown.contains("root") && (shown.contains("HOME") || shown.contains("Err")), "{shown}");
    }
}
