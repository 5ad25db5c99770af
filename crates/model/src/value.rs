//! What a field of an event evaluates to.

use std::net::IpAddr;

/// The value of a field for one event, borrowed from the event or from its scratch arena.
///
/// "Null" (the field does not apply to this event) is `Option::None` at the getter, not a variant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'e> {
    /// A truth value.
    Bool(bool),
    /// A signed number; durations and absolute times are nanoseconds.
    Int(i64),
    /// An unsigned number; also ports and ids.
    Uint(u64),
    /// Bytes meant as text. Hostile: may hold control characters and invalid UTF-8.
    Text(&'e [u8]),
    /// One address.
    Ip(IpAddr),
    /// Several values of which a comparison needs one (all ancestors; both ends of a connection).
    Any(&'e [Value<'e>]),
    /// A list field (`in` needs every element, `intersects` one).
    List(&'e [Value<'e>]),
}

/// The type of a field, which decides the operators that it allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldType {
    /// `true` or `false`.
    Bool,
    /// Signed number.
    Int,
    /// Unsigned number.
    Uint,
    /// TCP or UDP port, compared with a number or a service name.
    Port,
    /// Nanoseconds since the epoch.
    Time,
    /// Nanoseconds.
    Duration,
    /// Text.
    Text,
    /// A path of a file.
    Path,
    /// Raw bytes.
    Bytes,
    /// An IPv4 or IPv6 address.
    Ip,
    /// An address, compared with networks in CIDR notation.
    Net,
    /// A list of texts.
    TextList,
}

impl FieldType {
    /// Whether values are numbers for comparison.
    pub fn is_numeric(self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Port | Self::Time | Self::Duration)
    }

    /// Whether values are byte strings meant as text.
    pub fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::Path)
    }

    /// The name shown to people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Port => "port",
            Self::Time => "time (ns)",
            Self::Duration => "duration (ns)",
            Self::Text => "text",
            Self::Path => "path",
            Self::Bytes => "bytes",
            Self::Ip => "address",
            Self::Net => "network",
            Self::TextList => "list of text",
        }
    }
}

/// Serde for byte strings that are text as a rule: valid UTF-8 as text, anything else as a list of numbers. Use with
/// `#[serde(with = "bytes_as_text")]`.
pub mod bytes_as_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Told {
        Text(String),
        Bytes(Vec<u8>),
    }

    /// Writes the bytes.
    ///
    /// # Errors
    /// Those of the serialiser.
    pub fn serialize<S: Serializer>(bytes: &impl AsRef<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(bytes.as_ref()) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => bytes.as_ref().serialize(serializer),
        }
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// If there is neither text nor a list of small numbers.
    pub fn deserialize<'de, D: Deserializer<'de>, B: From<Vec<u8>>>(deserializer: D) -> Result<B, D::Error> {
        Told::deserialize(deserializer).map(|told| match told {
            Told::Text(text) => text.into_bytes().into(),
            Told::Bytes(bytes) => bytes.into(),
        })
    }
}
