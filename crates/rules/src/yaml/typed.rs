//! Values of Rust types out of nodes, with errors that point at the node that is wrong.

use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use tw_model::field::nearest;

use super::{Kind, Node};
use crate::diagnostic::did_you_mean;
use crate::text::Place;

/// Why a node is no value of a type.
#[derive(Debug)]
pub(crate) struct TypedError {
    /// What is wrong.
    pub message: String,
    /// The probable remedy.
    pub help: Option<String>,
    /// The innermost node that it is about.
    pub place: Option<Place>,
    /// Something is not there.
    pub is_missing: bool,
}

impl TypedError {
    fn at(mut self, place: &Place) -> Self {
        self.place.get_or_insert_with(|| place.clone());
        self
    }
}

impl std::fmt::Display for TypedError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TypedError {}

impl de::Error for TypedError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), help: None, place: None, is_missing: false }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let near = did_you_mean(&nearest(field, expected.iter().copied()));
        let help = near.unwrap_or_else(|| format!("there are {}", expected.join(", ")));
        Self { help: Some(help), ..Self::custom(format!("there is no key `{field}` here")) }
    }

    fn missing_field(field: &'static str) -> Self {
        Self { is_missing: true, ..Self::custom(format!("`{field}` is missing")) }
    }
}

/// Reads a value.
///
/// # Errors
/// [`TypedError`] if the node has another shape.
pub(crate) fn read<T: de::DeserializeOwned>(node: &Node) -> Result<T, TypedError> {
    T::deserialize(Typed(node))
}

/// So many mistakes of one value are told.
const MAX_MISTAKES: usize = 10;

/// Reads a value; of several mistakes all are told, within reason.
///
/// # Errors
/// At least one [`TypedError`] if the node has another shape.
pub(crate) fn read_all<T: de::DeserializeOwned>(node: &Node) -> Result<T, Vec<TypedError>> {
    let mut errors = match read(node) {
        Ok(value) => return Ok(value),
        Err(error) => vec![error],
    };
    // Without the part that is wrong, the next mistake shows.
    let mut rest = node.clone();
    while let Some(place) = errors.last().and_then(|error| error.place.clone())
        && errors.len() < MAX_MISTAKES
        && take_out(&mut rest, &place)
        && let Err(error) = read::<T>(&rest)
        // What is missing now may be what was taken out.
        && !error.is_missing
    {
        errors.push(error);
    }
    Err(errors)
}

/// Takes the innermost parts at a place out of a node; false if there is none below it.
fn take_out(node: &mut Node, place: &Place) -> bool {
    match &mut node.kind {
        Kind::List(items) => {
            let mut inner = false;
            for item in items.iter_mut() {
                inner |= take_out(item, place);
            }
            let before = items.len();
            if !inner {
                items.retain(|item| item.place != *place);
            }
            inner || items.len() < before
        }
        Kind::Map(pairs) => {
            let mut inner = false;
            for (_, value) in pairs.iter_mut() {
                inner |= take_out(value, place);
            }
            let before = pairs.len();
            if !inner {
                pairs.retain(|(key, value)| key.place != *place && value.place != *place);
            }
            inner || pairs.len() < before
        }
        _ => false,
    }
}

/// What a scalar without quotes means where the type does not say.
enum Plain {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Text,
}

fn plain(text: &str) -> Plain {
    let radix = |prefix: &str, radix| text.strip_prefix(prefix).map(|digits| u64::from_str_radix(digits, radix));
    match text {
        "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "true" | "True" | "TRUE" => return Plain::Bool(true),
        "false" | "False" | "FALSE" => return Plain::Bool(false),
        _ => {}
    }
    if let Some(Ok(number)) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return Plain::Unsigned(number);
    }
    match (text.parse(), text.parse()) {
        (Ok(number), _) => Plain::Signed(number),
        (_, Ok(number)) => Plain::Unsigned(number),
        _ => Plain::Text,
    }
}

/// A node as a source of values.
#[derive(Clone, Copy)]
struct Typed<'de>(&'de Node);

impl<'de> Typed<'de> {
    fn plain(self) -> Plain {
        match &self.0.kind {
            Kind::Null => Plain::Null,
            Kind::Scalar { value, raw } if !raw.starts_with(['"', '\'']) => plain(value),
            _ => Plain::Text,
        }
    }

    fn any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypedError> {
        match &self.0.kind {
            Kind::Null => visitor.visit_unit(),
            Kind::Scalar { value, .. } => match self.plain() {
                Plain::Null => visitor.visit_unit(),
                Plain::Bool(truth) => visitor.visit_bool(truth),
                Plain::Signed(number) => visitor.visit_i64(number),
                Plain::Unsigned(number) => visitor.visit_u64(number),
                Plain::Text => visitor.visit_borrowed_str(value),
            },
            Kind::List(items) => visitor.visit_seq(Items(items.iter())),
            Kind::Map(pairs) => visitor.visit_map(Entries { pairs: pairs.iter(), value: None }),
        }
    }

    /// A scalar as it is written, whatever it looks like.
    fn text<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypedError> {
        match &self.0.kind {
            Kind::Scalar { value, .. } => visitor.visit_borrowed_str(value),
            _ => self.any(visitor),
        }
    }
}

impl<'de> Deserializer<'de> for Typed<'de> {
    type Error = TypedError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypedError> {
        self.any(visitor).map_err(|error| error.at(&self.0.place))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypedError> {
        if matches!(self.plain(), Plain::Null) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypedError> {
        self.text(visitor).map_err(|error| error.at(&self.0.place))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypedError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypedError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypedError> {
        // Values in a row, without names, would be taken otherwise.
        if matches!(self.0.kind, Kind::List(_)) {
            let error: TypedError = de::Error::invalid_type(de::Unexpected::Seq, &"a map");
            return Err(error.at(&self.0.place));
        }
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct newtype_struct seq
        tuple tuple_struct map enum ignored_any
    }
}

impl<'de> IntoDeserializer<'de, TypedError> for Typed<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

struct Items<'de>(std::slice::Iter<'de, Node>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = TypedError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, TypedError> {
        self.0.next().map(|node| seed.deserialize(Typed(node))).transpose()
    }
}

struct Entries<'de> {
    pairs: std::slice::Iter<'de, (Node, Node)>,
    value: Option<&'de Node>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = TypedError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, TypedError> {
        let Some((key, value)) = self.pairs.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(Typed(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, TypedError> {
        let node = self.value.take().ok_or_else(|| <TypedError as de::Error>::custom("a key has no value"))?;
        seed.deserialize(Typed(node)).map_err(|error| error.at(&node.place))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use tw_model::sample::{Sample, SampleArg};

    use super::*;
    use crate::text::FileId;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Known {
        name: String,
        number: Option<u32>,
        #[serde(default)]
        flag: bool,
        #[serde(default)]
        more: BTreeMap<String, Vec<i64>>,
    }

    fn typed<T: de::DeserializeOwned>(source: &str) -> Result<T, (String, String)> {
        let documents = super::super::parse(FileId(0), source).unwrap();
        read(&documents[0]).map_err(|error| {
            let place = error.place.unwrap();
            (error.message, source[place.start..place.end].to_owned())
        })
    }

    #[test]
    fn scalars_become_what_the_type_asks_for() {
        let known: Known = typed("{name: 007, number: 0x1f, flag: true, more: {a: [-1, 2]}}").unwrap();
        let more = BTreeMap::from([("a".to_owned(), vec![-1, 2])]);
        assert_eq!(known, Known { name: "007".into(), number: Some(31), flag: true, more });
        let known: Known = typed("name: null\nnumber: ~\n").unwrap();
        assert_eq!((known.name.as_str(), known.number), ("null", None));
    }

    #[test]
    fn quotes_keep_numbers_texts() {
        let sample: Sample = typed("{type: setuid, args: [1, '1', CAP_KILL], ret: -1}").unwrap();
        assert!(matches!(sample.args.as_slice(), [SampleArg::Number(1), SampleArg::Name(_), SampleArg::Name(_)]));
        assert!(matches!(sample.ret, Some(SampleArg::Number(-1))));
    }

    /// Lists and maps have the place of their beginning.
    #[test]
    fn errors_point_at_the_innermost_node() {
        for (source, wrong) in [
            ("{name: a, nubmer: 3}", "nubmer"),
            ("{name: a, number: '3'}", "'3'"),
            ("{name: [1]}", "["),
            ("{number: 3}", "{"),
            ("{name: a, more: {x: [1, y]}}", "y"),
            ("[1, 2, 3]", "["),
        ] {
            assert_eq!(typed::<Known>(source).unwrap_err().1, wrong, "{source}");
        }
        let told = |source: &str| {
            let errors = read_all::<Known>(&super::super::parse(FileId(0), source).unwrap()[0]).unwrap_err();
            let place = |error: &TypedError| error.place.clone().map(|place| source[place.start..place.end].to_owned());
            errors.iter().map(|error| place(error).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(told("{nmae: a, number: x, more: {x: [1, y, z], w: 3}}"), ["nmae", "x", "y", "z", "3"]);
        // That the name is missing follows from its being wrong.
        assert_eq!(told("{name: [1], flag: 7}"), ["[", "7"]);
        assert_eq!(told("name:\n  - 1\nflag: 7\n"), ["", "7"]);
        assert_eq!(told("{number: x, flag: 7}"), ["x", "7"]);
        assert_eq!(told(&format!("{{name: a, more: {{x: [{}]}}}}", "y, ".repeat(100))).len(), MAX_MISTAKES);
        let error = read::<Known>(&super::super::parse(FileId(0), "{name: a, nubmer: 3}").unwrap()[0]).unwrap_err();
        assert_eq!(error.help.as_deref(), Some("did you mean `number`?"));
    }
}
