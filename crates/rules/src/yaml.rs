//! YAML as a tree in which every node knows where it stands.

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy, Spanned};

use crate::text::{FileId, Place, Text, place};

pub(crate) mod typed;

/// How deep lists and maps of a rule file may be nested.
const MAX_DEPTH: usize = 32;
/// How many nodes a rule file may have; Falco's largest has some ten thousand.
const MAX_NODES: usize = 1_000_000;
/// How many bytes all aliases of a rule file may add up to.
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
}

/// Reads all documents of a file.
///
/// # Errors
/// [`YamlError`], also for files that would become too large.
pub(crate) fn parse(file: FileId, source: &str) -> Result<Vec<Node>, YamlError> {
    let options = serde_saphyr::options! {
        // Told by ourselves, so that the other items are still loaded.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
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
        serde_saphyr::from_multiple_with_options(source, options).map_err(|error| describe(file, source, &error))?;
    Ok(documents.into_iter().map(|document| build(file, source, document)).collect())
}

fn describe(file: FileId, source: &str, error: &serde_saphyr::Error) -> YamlError {
    let offset = error.location().map_or(0, |location| location.span().offset());
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    // The library counts characters here.
    let start = source.char_indices().nth(offset).map_or(source.len(), |(at, _)| at);
    let text = error.without_snippet().to_string();
    let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
    YamlError { message: format!("not valid YAML: {message}"), place: place(file, start..start) }
}

fn build(file: FileId, source: &str, node: Spanned<Shape>) -> Node {
    let span = node.defined.span();
    let number = |value: Option<u64>| value.and_then(|value| usize::try_from(value).ok()).unwrap_or(0);
    let start = number(span.byte_offset()).min(source.len());
    let end = start.saturating_add(number(span.byte_len())).min(source.len());
    let raw = source.get(start..end).unwrap_or_default();
    let scalar = |value: &str| Kind::Scalar { value: value.to_owned(), raw: raw.to_owned() };
    let kind = match node.value {
        Shape::Null if matches!(raw.trim(), "") => Kind::Null,
        // Words such as `null` and `1e3` are texts to rules.
        Shape::Null | Shape::Typed => scalar(raw.trim().trim_matches(['"', '\''])),
        Shape::Text(value) => scalar(&value),
        Shape::List(items) => Kind::List(items.into_iter().map(|item| build(file, source, item)).collect()),
        Shape::Map(pairs) => Kind::Map(
            pairs.into_iter().map(|(key, value)| (build(file, source, key), build(file, source, value))).collect(),
        ),
    };
    Node { place: place(file, start..start + raw.trim_end().len()), kind }
}

/// What the library delivers.
enum Shape {
    Null,
    Typed,
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

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Typed)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Typed)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::Typed)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Shape, E> {
        Ok(Shape::Typed)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Shape, E> {
        Ok(Shape::Typed)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Typed)
    }

    fn visit_str<E>(self, text: &str) -> Result<Shape, E> {
        Ok(Shape::Text(text.to_owned()))
    }

    fn visit_bytes<E: serde::de::Error>(self, _: &[u8]) -> Result<Shape, E> {
        Err(E::custom("binary data has no place in rules"))
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
            let value = entries.next_value()?;
            map.push((key, value));
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
