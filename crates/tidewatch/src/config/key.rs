//! Every key there is, with its kind, range, default and meaning, read off the types of [`super::settings`].

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::settings::Config;
use super::yaml;

/// One key of the configuration.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its sections and name, such as `spool.max_mib`.
    pub path: String,
    /// What it means, in one or more sentences.
    pub doc: String,
    /// What values it takes.
    pub kind: Kind,
    /// Whether `null` is a value.
    pub nullable: bool,
    /// Whether it names a file or folder, or a list of them.
    pub is_path: bool,
    /// When a change takes effect.
    pub applies: Applies,
    /// Its value if nobody sets it.
    pub default: Value,
}

/// What values a key takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number between two (both included).
    Number(u64, u64),
    /// Text.
    Text,
    /// One of a few words, each with its meaning (may be empty).
    Choice(Vec<(String, String)>),
    /// A list of texts.
    List,
    /// A list of maps, each as this schema says.
    Items(Box<Value>),
}

/// When a change takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applies {
    /// At once.
    Live,
    /// After a restart of the agent.
    Agent,
    /// After a restart of the manager.
    Manager,
    /// After a restart of the service.
    Service,
}

impl Applies {
    /// For people: `at once`, or what must be restarted.
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "at once",
            Self::Agent => "restart of the agent",
            Self::Manager => "restart of the manager",
            Self::Service => "restart of the service",
        }
    }
}

impl Key {
    /// Name of the environment variable that sets it.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.path.replace('.', "__").to_uppercase())
    }
}

/// What the names of our environment variables begin with.
pub const PREFIX: &str = "TIDEWATCH_";

/// All keys, in the order of the sections.
pub fn keys() -> &'static [Key] {
    static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
        let schema = raw_schema();
        flatten(&Config::default())
            .into_iter()
            .map(|(path, default)| {
                let node = path.split('.').fold(&schema, |node, name| &node["properties"][name]);
                key(path, node, default)
            })
            .collect()
    });
    &KEYS
}

/// The key called `path`.
pub fn find(path: &str) -> Option<&'static Key> {
    keys().iter().find(|key| key.path == path)
}

/// Names of the keys and sections directly below a section (`""` is the top), in order.
pub fn names_below(section: &str) -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for key in keys() {
        let rest = match section {
            "" => Some(key.path.as_str()),
            _ => key.path.strip_prefix(section).and_then(|rest| rest.strip_prefix('.')),
        };
        if let Some(name) = rest.and_then(|rest| rest.split('.').next())
            && names.last() != Some(&name)
        {
            names.push(name);
        }
    }
    names
}

/// Whether there is a section of this name; `""` is the top.
pub fn is_section(path: &str) -> bool {
    find(path).is_none() && !names_below(path).is_empty()
}

/// `path` with one more name.
pub fn join(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

/// The values of a configuration by key, in the order of the sections. Without the password of the store.
pub fn flatten(config: &Config) -> Vec<(String, Value)> {
    // As text, since only that keeps the order.
    let text = serde_json::to_string(config).unwrap_or_default();
    let mut found = Vec::new();
    // JSON that serde wrote is YAML.
    if let Ok(Some(node)) = yaml::parse(&text) {
        collect("", &node, &mut found);
    }
    found
}

fn collect(prefix: &str, node: &yaml::Node, found: &mut Vec<(String, Value)>) {
    match &node.kind {
        yaml::Kind::Map(pairs) => {
            for (name, value) in pairs {
                collect(&join(prefix, name.text().unwrap_or_default()), value, found);
            }
        }
        _ => found.push((prefix.to_owned(), yaml::json(node))),
    }
}

/// JSON schema of the configuration (draft 7, which editors know best).
pub fn schema() -> Value {
    let mut schema = raw_schema();
    schema["title"] = json!("Tidewatch");
    finish("", &mut schema);
    schema
}

fn raw_schema() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<Config>().to_value()
}

/// Nothing is required; a section may be empty; defaults are those of the key, not of its type.
fn finish(path: &str, node: &mut Value) {
    let Some(node) = node.as_object_mut() else { return };
    if let Some(text) = node.get("description").and_then(Value::as_str) {
        let text = one_line(text);
        node.insert("description".into(), text.into());
    }
    node.remove("required");
    node.remove("default");
    if let Some(key) = find(path) {
        node.insert("default".into(), key.default.clone());
    }
    if let Some(properties) = node.get_mut("properties").and_then(Value::as_object_mut) {
        properties.iter_mut().for_each(|(name, child)| finish(&join(path, name), child));
        if !path.is_empty() {
            node.insert("type".into(), json!(["object", "null"]));
        }
    }
}

fn key(path: String, node: &Value, default: Value) -> Key {
    let text = |name: &str| node.get(name).and_then(Value::as_str).unwrap_or_default();
    let types: Vec<&str> = match &node["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let has = |name: &str| types.contains(&name);
    let choices = choices(node);
    let kind = if !choices.is_empty() {
        Kind::Choice(choices)
    } else if has("boolean") {
        Kind::Flag
    } else if has("integer") {
        // Ranges are written as whole numbers, but may come back as floating point.
        let bound = |name: &str| node[name].as_f64().map(|bound| bound as u64);
        Kind::Number(bound("minimum").unwrap_or(0), bound("maximum").unwrap_or(u64::from(u32::MAX)))
    } else if has("array") && node["items"]["type"] == "string" {
        Kind::List
    } else if has("array") {
        Kind::Items(Box::new(node["items"].clone()))
    } else {
        Kind::Text
    };
    let applies = match text("x-applies") {
        "live" => Applies::Live,
        "agent" => Applies::Agent,
        "manager" => Applies::Manager,
        _ => Applies::Service,
    };
    let is_path = text("format") == "path";
    let nullable = has("null");
    Key { doc: one_line(text("description")), kind, nullable, is_path, applies, default, path }
}

fn choices(node: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(names) = node["enum"].as_array() {
        return names.iter().map(|name| (text(name), String::new())).collect();
    }
    let several = node["oneOf"].as_array().map(Vec::as_slice).unwrap_or_default();
    several.iter().map(|one| (text(&one["const"]), one_line(&text(&one["description"])))).collect()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Puts flat values into sections.
pub fn nest<'a>(values: impl Iterator<Item = (&'a str, Value)>) -> Value {
    let mut root = Value::Object(Map::new());
    for (path, value) in values {
        // Sections are objects, as keys and sections have different names.
        let place = path.split('.').fold(&mut root, |node, name| &mut node[name]);
        *place = value;
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_kind_doc_and_time_of_effect() {
        let keys = keys();
        assert_eq!(keys.len(), 61, "{:?}", keys.iter().map(|key| &key.path).collect::<Vec<_>>());
        for key in keys {
            assert!(key.doc.ends_with('.') && key.doc.len() > 8, "{key:?}");
            let schema = raw_schema();
            let node = key.path.split('.').fold(&schema, |node, name| &node["properties"][name]);
            assert!(node["x-applies"].is_string(), "{key:?}");
            let fits = match (&key.kind, &key.default) {
                (_, Value::Null) => key.nullable,
                (Kind::Flag, Value::Bool(_)) | (Kind::Text, Value::String(_)) => true,
                (Kind::List | Kind::Items(_), Value::Array(_)) => true,
                (Kind::Number(min, max), value) => {
                    value.as_u64().is_some_and(|value| (*min..=*max).contains(&value)) && *min < *max
                }
                (Kind::Choice(names), Value::String(text)) => names.iter().any(|(name, _)| name == text),
                _ => false,
            };
            assert!(fits, "{key:?}");
        }
        assert_eq!(keys[0].path, "state_dir");
        assert_eq!(keys[keys.len() - 1].path, "log.keep");
    }

    #[test]
    fn numbers_without_a_range_are_found() {
        for key in keys() {
            assert!(
                !matches!(key.kind, Kind::Number(0, max) if max == u64::from(u32::MAX)),
                "{} needs a range",
                key.path
            );
        }
    }

    #[test]
    fn sections_are_told_from_keys() {
        assert!(is_section("") && is_section("store.retention") && !is_section("spool.max_mib") && !is_section("x"));
        assert_eq!(names_below("spool"), ["max_mib", "sync"]);
        assert_eq!(names_below("")[..4], ["state_dir", "run_dir", "rules", "agent"]);
        assert_eq!(
            find("store.retention.audit.max_rows").unwrap().variable(),
            "TIDEWATCH_STORE__RETENTION__AUDIT__MAX_ROWS"
        );
    }
}
