//! Writes a configuration as YAML that can be read again, as JSON, and as the table of the documentation.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::key::{self, Key, Kind, keys};
use super::{Loaded, Origin, yaml};

/// Column of the comments behind values.
const COMMENT: usize = 44;

/// The settings as YAML: those that differ from the default, or all with their origin. Without passwords.
pub fn yaml(loaded: &Loaded, effective: bool) -> String {
    let mut out = String::new();
    let mut sections: Vec<&str> = Vec::new();
    let values = key::flatten(&loaded.config);
    for (key, (_, value)) in keys().iter().zip(&values) {
        if !effective && *value == key.default {
            continue;
        }
        let parts: Vec<&str> = key.path.split('.').collect();
        let Some((name, wanted)) = parts.split_last() else { continue };
        let same = sections.iter().zip(wanted).take_while(|(open, wanted)| open == wanted).count();
        sections.truncate(same);
        for section in &wanted[same..] {
            line(&mut out, sections.len(), &format!("{section}:"), None);
            sections.push(section);
        }
        let origin = loaded.origins.get(&key.path).filter(|_| effective);
        line(&mut out, sections.len(), &format!("{name}: {}", scalar(value)), origin);
    }
    out
}

fn line(out: &mut String, depth: usize, text: &str, origin: Option<&Origin>) {
    let text = format!("{}{text}", "  ".repeat(depth));
    // A string's write cannot fail.
    let _ = match origin {
        Some(origin) => writeln!(out, "{text:<COMMENT$} # {origin}"),
        None => writeln!(out, "{text}"),
    };
}

/// The settings as JSON: those that differ from the default, or all. Without passwords.
pub fn json(loaded: &Loaded, effective: bool) -> Value {
    let settings: Vec<Value> = keys()
        .iter()
        .zip(key::flatten(&loaded.config))
        .filter(|(key, (_, value))| effective || *value != key.default)
        .map(|(key, (_, value))| {
            let origin = loaded.origins.get(&key.path).map(Origin::json);
            json!({"key": key.path, "value": value, "default": key.default, "origin": origin,
                "applies": key.applies.name()})
        })
        .collect();
    let files: Vec<_> = loaded.files.iter().map(|file| file.to_string_lossy()).collect();
    json!({"files": files, "settings": settings})
}

/// A value in YAML, on one line.
pub fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => {
            // Plain only if it is read as the same text, also inside a list or map.
            let same = |node: &yaml::Node| matches!(&node.kind, yaml::Kind::Text(same) if same == text);
            let in_list = matches!(yaml::parse(&format!("[{text}]")), Ok(Some(node))
                if matches!(&node.kind, yaml::Kind::List(items) if matches!(&items[..], [item] if same(item))));
            let in_map = || {
                matches!(yaml::parse(&format!("{{{text}: {text}}}")), Ok(Some(node))
                if matches!(&node.kind, yaml::Kind::Map(pairs)
                    if matches!(&pairs[..], [(name, value)] if same(name) && same(value))))
            };
            if in_list && !text.contains(['\n', '\r']) && in_map() { text.clone() } else { value.to_string() }
        }
        Value::Object(pairs) => {
            let pairs =
                pairs.iter().map(|(name, value)| format!("{}: {}", scalar(&name.as_str().into()), scalar(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(scalar).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// The table of keys for `docs/configuration.md`.
pub fn table() -> String {
    let mut out = String::from("| Key | Default | Takes effect | Meaning |\n|---|---|---|---|\n");
    for key in keys() {
        // A string's write cannot fail.
        let _ = writeln!(
            out,
            "| `{}` | `{}` | {} | {} |",
            key.path,
            scalar(&key.default),
            key.applies.name(),
            meaning(key).replace('|', "\\|")
        );
    }
    out
}

/// What a key means and takes, in sentences.
fn meaning(key: &Key) -> String {
    match &key.kind {
        Kind::Number(min, max) => format!("{} {min} to {max}.", key.doc),
        Kind::Choice(choices) => {
            let choices: Vec<String> = choices
                .iter()
                .map(|(name, doc)| if doc.is_empty() { format!("`{name}`") } else { format!("`{name}`: {doc}") })
                .collect();
            format!("{} {}.", key.doc, choices.join("; "))
        }
        _ => key.doc.clone(),
    }
}
