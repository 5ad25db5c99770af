//! Settings that change rules from outside of their files, in the words of the configuration.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// How rules are read where Falco does what looks like an accident.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Compat {
    /// as they mean
    #[default]
    Tidewatch,
    /// as Falco does, quirks and all
    Falco,
}

/// Rules that are enabled or disabled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Select {
    /// Enables them.
    Enable(Selected),
    /// Disables them.
    Disable(Selected),
}

impl Select {
    /// Which rules.
    pub fn selected(&self) -> &Selected {
        match self {
            Self::Enable(selected) | Self::Disable(selected) => selected,
        }
    }
}

/// Which rules an entry is about: those whose name fits, and those that have the tag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("minProperties" = 1))]
pub struct Selected {
    /// Name of a rule, in which * stands for any text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub rule: Option<String>,
    /// A tag, exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub tag: Option<String>,
}

impl fmt::Display for Selected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.rule, &self.tag) {
            (Some(rule), Some(tag)) => write!(f, "the name `{rule}` or the tag `{tag}`"),
            (Some(rule), None) => write!(f, "the name `{rule}`"),
            (None, tag) => write!(f, "the tag `{}`", tag.as_deref().unwrap_or_default()),
        }
    }
}

/// Something that is added to the outputs of rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("minProperties" = 1))]
pub struct AppendOutput {
    /// Which rules; all of what is given must fit. Without: all rules.
    #[serde(rename = "match", skip_serializing_if = "is_default")]
    pub rules: RulesOf,
    /// Text behind the output, in the language of outputs.
    #[serde(skip_serializing_if = "is_default")]
    pub extra_output: String,
    /// Fields beside those that the output names: each a name, or a map of one name and what is shown under it.
    #[serde(skip_serializing_if = "is_default")]
    pub extra_fields: Vec<ExtraField>,
    /// Add the fields of the container and its pod, too.
    #[serde(skip_serializing_if = "is_default")]
    pub suggested_output: bool,
}

/// Which rules something is added to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RulesOf {
    /// Name of the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub rule: Option<String>,
    /// Source of the rules, such as syscall.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub source: Option<String>,
    /// Tags, all of which the rules have.
    #[serde(skip_serializing_if = "is_default")]
    pub tags: Vec<String>,
}

/// A field beside those that an output names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ExtraField {
    /// A field under its own name.
    Name(String),
    /// What is shown under a name.
    Format(#[serde(with = "pair")] (String, String)),
}

impl JsonSchema for ExtraField {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ExtraField".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"type": "string"},
            {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1, "maxProperties": 1},
        ]})
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A map of one name.
mod pair {
    use std::collections::BTreeMap;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>((name, text): &(String, String), serializer: S) -> Result<S::Ok, S::Error> {
        BTreeMap::from([(name, text)]).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(String, String), D::Error> {
        let map = BTreeMap::<String, String>::deserialize(deserializer)?;
        let one = (map.len() == 1).then(|| map.into_iter().next()).flatten();
        one.ok_or_else(|| D::Error::custom("a map of one name is wanted"))
    }
}

/// How a list of maps is written, for the key of this path.
pub fn example(path: &str) -> &'static str {
    match path {
        "rules.select" => "[{disable: {rule: \"Read *\"}}, {enable: {tag: host}}]",
        _ => "[{match: {tags: [host]}, extra_output: \"by %user.name\", extra_fields: [proc.pid]}]",
    }
}
