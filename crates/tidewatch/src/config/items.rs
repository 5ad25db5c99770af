//! Lists of maps in the configuration: each item is checked against the schema of its type, and every mistake in it has
//! its own place.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Map, Value};
use tw_rules::Loader;

use super::diagnostic::code;
use super::draft::{describe, list, near, quote};
use super::rule_options::{AppendOutput, example};
use super::yaml::{Kind, Node};
use crate::rules::addition;

/// Most items of a list.
const MAX_ITEMS: usize = 1_000;
/// Longest text, in bytes.
const MAX_TEXT: usize = 4_096;

/// A mistake in an item.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// Stable code, see [`code`].
    pub code: &'static str,
    /// What it is in, such as `rules.select[0].enable`.
    pub path: String,
    /// Where it stands; empty if it stands nowhere.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

/// Reads the list of a key; `schema` is that of an item.
///
/// # Errors
/// Every mistake.
pub fn read(key: &str, schema: &Value, node: &Node) -> Result<Value, Vec<Fault>> {
    let mut reader = Reader { key, faults: Vec::new(), spans: BTreeMap::new() };
    let value = reader.items(schema, node, key);
    if reader.faults.is_empty() && key == "rules.append_output" {
        reader.outputs(&value);
    }
    if reader.faults.is_empty() { Ok(value) } else { Err(reader.faults) }
}

/// What is marked of a node: of one without brackets its first name or item.
fn place(node: &Node) -> Range<usize> {
    match &node.kind {
        Kind::Map(pairs) if node.span.is_empty() => pairs.first().map(|(name, _)| place(name)),
        Kind::List(items) if node.span.is_empty() => items.first().map(place),
        _ => None,
    }
    .unwrap_or_else(|| node.span.clone())
}

struct Reader<'k> {
    key: &'k str,
    faults: Vec<Fault>,
    /// Where what is in it stands.
    spans: BTreeMap<String, Range<usize>>,
}

impl Reader<'_> {
    fn tell(&mut self, code: &'static str, path: &str, node: &Node, message: String, help: String) {
        self.faults.push(Fault { code, path: path.to_owned(), span: place(node), message, help });
    }

    fn items(&mut self, schema: &Value, node: &Node, path: &str) -> Value {
        let Kind::List(items) = &node.kind else {
            let message = format!("`{path}` must be a list, but is {}", describe(node));
            self.tell(code::TYPE, path, node, message, "write it in brackets: [first, second]".into());
            return Value::Null;
        };
        if items.len() > MAX_ITEMS {
            let message = format!("`{path}` has {} items; {MAX_ITEMS} are allowed", items.len());
            self.tell(code::VALUE, path, node, message, "say it with fewer".into());
            return Value::Null;
        }
        let items = items.iter().enumerate();
        items.map(|(index, item)| self.value(schema, item, &format!("{path}[{index}]"))).collect()
    }

    fn value(&mut self, schema: &Value, node: &Node, path: &str) -> Value {
        self.spans.insert(path.to_owned(), place(node));
        let several = ["oneOf", "anyOf"].into_iter().find_map(|name| schema[name].as_array());
        let shapes = several.map_or(std::slice::from_ref(schema), Vec::as_slice);
        let of = |kind: &str| shapes.iter().filter(|shape| shape["type"] == kind).collect::<Vec<_>>();
        let (maps, lists, texts, flags) = (of("object"), of("array"), of("string"), of("boolean"));
        match &node.kind {
            Kind::Map(pairs) if !maps.is_empty() => return self.map(&maps, pairs, node, path),
            Kind::List(_) if !lists.is_empty() => return self.items(&lists[0]["items"], node, path),
            Kind::Flag(flag, _) if !flags.is_empty() => return (*flag).into(),
            _ => {}
        }
        if let (Some(text), false) = (node.text(), texts.is_empty()) {
            return self.text(text, node, path);
        }
        let all = [(maps, "a map"), (lists, "a list"), (texts, "text"), (flags, "true or false")];
        let wanted: Vec<&str> = all.iter().filter(|(shapes, _)| !shapes.is_empty()).map(|(_, name)| *name).collect();
        let message = match &node.kind {
            Kind::Null => format!("`{path}` has no value"),
            _ => format!("`{path}` must be {}, but is {}", wanted.join(" or "), describe(node)),
        };
        self.tell(code::TYPE, path, node, message, self.expectation());
        Value::Null
    }

    fn text(&mut self, text: &str, node: &Node, path: &str) -> Value {
        // Of a folded text.
        let text = text.trim_end_matches('\n');
        let wrong = if text.trim().is_empty() {
            Some(("is empty".to_owned(), "leave the key out"))
        } else if text.len() > MAX_TEXT {
            Some((format!("has {} bytes; {MAX_TEXT} are allowed", text.len()), "shorten it"))
        } else if text.chars().any(char::is_control) {
            Some(("holds a control character".to_owned(), "remove it"))
        } else {
            None
        };
        if let Some((message, help)) = wrong {
            self.tell(code::VALUE, path, node, format!("`{path}` {message}"), help.into());
        }
        text.into()
    }

    fn map(&mut self, shapes: &[&Value], pairs: &[(Node, Node)], node: &Node, path: &str) -> Value {
        let mut known: Vec<(&str, &Value)> = Vec::new();
        for shape in shapes {
            let properties = shape["properties"].as_object().into_iter().flatten();
            known.extend(properties.map(|(name, schema)| (name.as_str(), schema)));
        }
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let any = shapes.iter().map(|shape| &shape["additionalProperties"]).find(|schema| schema.is_object());
        let mut found = Map::new();
        for (name, value) in pairs {
            let Some(written) = name.text().filter(|text| !text.is_empty()) else {
                let message = format!("a name in `{path}` is {}", describe(name));
                self.tell(code::TYPE, path, name, message, self.expectation());
                continue;
            };
            let below = format!("{path}.{}", quote(written));
            if found.contains_key(written) {
                let message = format!("`{below}` stands twice");
                self.tell(code::DUPLICATE_KEY, &below, name, message, "keep one of them".into());
                continue;
            }
            match known.iter().find(|(name, _)| *name == written).map(|(_, schema)| *schema).or(any) {
                Some(schema) => {
                    let value = self.value(schema, value, &below);
                    found.insert(written.to_owned(), value);
                }
                None => {
                    let message = format!("`{path}` has no key `{}`", quote(written));
                    let help = near(&written.to_lowercase(), names.iter().copied())
                        .unwrap_or_else(|| format!("the keys here are {}", list(&names)));
                    self.tell(code::UNKNOWN_KEY, &below, name, message, help);
                    found.insert(written.to_owned(), Value::Null);
                }
            }
        }
        let bound = |name: &str| shapes[0][name].as_u64();
        // Of several shapes, each with a key of its own, one is meant.
        let (least, most) =
            if shapes.len() > 1 { (Some(1), Some(1)) } else { (bound("minProperties"), bound("maxProperties")) };
        let count = found.len() as u64;
        if least.is_some_and(|least| count < least) {
            let message = format!("`{path}` says nothing");
            self.tell(code::VALUE, path, node, message, self.expectation());
        } else if most.is_some_and(|most| count > most) {
            let message = format!("`{path}` has {count} keys, but must have one");
            self.tell(code::VALUE, path, node, message, "make an item of each".into());
        }
        Value::Object(found)
    }

    /// Whether the outputs of additions mean something.
    fn outputs(&mut self, value: &Value) {
        // What does not fit the type was told.
        let additions: Vec<AppendOutput> = serde_json::from_value(value.clone()).unwrap_or_default();
        for (index, wanted) in additions.iter().enumerate() {
            let path = format!("{}[{index}]", self.key);
            if wanted.extra_output.is_empty() && wanted.extra_fields.is_empty() && !wanted.suggested_output {
                let span = self.spans.get(&path).cloned().unwrap_or_default();
                let message = format!("`{path}` adds nothing");
                let help = "give it extra_output, extra_fields or suggested_output".to_owned();
                self.faults.push(Fault { code: code::VALUE, path, span, message, help });
                continue;
            }
            let (_, diagnostics) = Loader::new().append_output(addition(wanted)).finish();
            for wrong in diagnostics.iter().filter(|diagnostic| diagnostic.is_error()) {
                let Some((_, part)) = wrong.file.split_once("].") else { continue };
                let mut path = format!("{path}.{part}");
                // What is shown under a name.
                let inner = format!("{path}.");
                if let Some((full, _)) =
                    self.spans.range(inner.clone()..).next().filter(|(full, _)| full.starts_with(&inner))
                {
                    path.clone_from(full);
                }
                let span = self.spans.get(&path).cloned().unwrap_or_default();
                let message = format!("`{path}`: {}", wrong.message);
                let help = wrong.help.clone().unwrap_or_else(|| "`tidewatch rules fields` lists the fields".into());
                self.faults.push(Fault { code: code::VALUE, path, span, message, help });
            }
        }
    }

    fn expectation(&self) -> String {
        format!("write it as in {}", example(self.key))
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::{self, find};
    use super::super::yaml;
    use super::*;

    /// What is wrong with a list: the text that is marked, what is said, and the help.
    fn faults(key: &str, text: &str) -> Vec<String> {
        let key::Kind::Items(schema) = &find(key).unwrap().kind else { panic!("{key} is no list of maps") };
        let node = yaml::parse(text).unwrap().unwrap();
        let faults = read(key, schema, &node).err().unwrap_or_default();
        faults.into_iter().map(|fault| format!("{}| {}; {}", &text[fault.span], fault.message, fault.help)).collect()
    }

    #[test]
    fn what_falco_takes_is_taken() {
        for (key, text) in [
            ("rules.select", "[]"),
            ("rules.select", "- disable:\n    tag: network\n- enable: {rule: Read *, tag: x}\n"),
            ("rules.append_output", "- match:\n    source: syscall\n  extra_output: '%proc.name'\n"),
            (
                "rules.append_output",
                "- extra_fields: [proc.pid, {who: '%proc.name/%user.uid'}]\n- suggested_output: true\n",
            ),
            ("rules.append_output", "- match: {}\n  extra_output: >\n    folded\n    text\n"),
        ] {
            assert_eq!(faults(key, text), [] as [&str; 0], "{text}");
        }
    }

    #[test]
    fn every_mistake_has_its_place_and_remedy() {
        let select = "write it as in [{disable: {rule: \"Read *\"}}, {enable: {tag: host}}]";
        for (text, expected) in [
            (
                "- disabel: {tag: x}",
                vec!["disabel| `rules.select[0]` has no key `disabel`; did you mean `disable`?".to_owned()],
            ),
            (
                "- enable: {rle: x}\n- 7",
                vec![
                    "rle| `rules.select[0].enable` has no key `rle`; did you mean `rule`?".to_owned(),
                    format!("7| `rules.select[1]` must be a map, but is the number 7; {select}"),
                ],
            ),
            ("- enable: {}", vec![format!("{{| `rules.select[0].enable` says nothing; {select}")]),
            (
                "- {enable: {tag: a}, disable: {tag: b}}",
                vec!["{| `rules.select[0]` has 2 keys, but must have one; make an item of each".to_owned()],
            ),
            (
                "- enable: {tag: [a]}",
                vec![format!("[| `rules.select[0].enable.tag` must be text, but is a list; {select}")],
            ),
            ("- enable: {tag: ''}", vec!["''| `rules.select[0].enable.tag` is empty; leave the key out".to_owned()]),
            (
                "- enable: {tag: a, tag: b}",
                vec!["tag| `rules.select[0].enable.tag` stands twice; keep one of them".to_owned()],
            ),
        ] {
            assert_eq!(faults("rules.select", text), expected, "{text}");
        }
    }

    #[test]
    fn outputs_are_checked_where_they_stand() {
        let found = faults(
            "rules.append_output",
            "- extra_output: by %proc.nmae\n- extra_fields: [proc.pid, fd.nope, {who: '%usr.name'}]\n- match: {tags: [x]}\n",
        );
        let begin: Vec<&str> = found.iter().map(|fault| fault.split(';').next().unwrap()).collect();
        assert_eq!(
            begin,
            [
                "by %proc.nmae| `rules.append_output[0].extra_output`: there is no field `proc.nmae`",
                "fd.nope| `rules.append_output[1].extra_fields[1]`: there is no field `fd.nope`",
                "'%usr.name'| `rules.append_output[1].extra_fields[2].who`: there is no field `usr.name`",
                "match| `rules.append_output[2]` adds nothing",
            ]
        );
    }
}
