//! Versions that rule files ask for.

use std::collections::HashSet;

use super::item::Item;
use crate::diagnostic::{Problem, code};
use crate::yaml::{Kind, Node};

/// The Falco engine version that this engine is compatible with.
pub const ENGINE_VERSION: (u32, u32, u32) = (0, 63, 0);

/// Reads `N` (meaning 0.N.0) or `A.B.C`.
fn parse(text: &str) -> Option<(u32, u32, u32)> {
    if let Ok(minor) = text.parse() {
        return Some((0, minor, 0));
    }
    // What is behind `-` or `+` does not matter here.
    let core = text.split(['-', '+']).next()?;
    let mut parts = core.split('.');
    let version = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(version)
}

/// `required_engine_version`
pub(super) fn check_engine(item: &Item<'_>) -> Result<(), Problem> {
    let text = item.string("required_engine_version")?.ok_or_else(|| item.missing("required_engine_version"))?;
    let wrong = |message: String| Err(Problem::error(code::VALIDATE, item.place.clone(), message));
    let Some(required) = parse(&text) else {
        return wrong(format!("`{text}` is no engine version: write `0.57.0`"));
    };
    if required.0 != ENGINE_VERSION.0 || required > ENGINE_VERSION {
        let (major, minor, patch) = ENGINE_VERSION;
        return wrong(format!("the file needs engine version {text}, this engine is {major}.{minor}.{patch}"));
    }
    Ok(())
}

fn key<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    let Kind::Map(pairs) = &node.kind else { return None };
    pairs.iter().find(|(key, _)| key.scalar() == Some(name)).map(|(_, value)| value)
}

/// `required_plugin_versions`: the container plugin is built in; rules of sources that others would bring are
/// told of one by one.
pub(super) fn check_plugins(item: &Item<'_>) -> Result<(), Problem> {
    let plugins = item.list("required_plugin_versions")?.unwrap_or_default();
    for plugin in plugins {
        let mut names = HashSet::new();
        let mut all = vec![plugin];
        if let Some(Node { kind: Kind::List(alternatives), .. }) = key(plugin, "alternatives") {
            all.extend(alternatives);
        }
        for plugin in all {
            let wrong = |message: &str| Err(Problem::error(code::YAML_VALIDATE, plugin.place.clone(), message));
            let (Some(name), Some(version)) =
                (key(plugin, "name").and_then(Node::scalar), key(plugin, "version").and_then(Node::scalar))
            else {
                return wrong("a required plugin has a `name` and a `version`");
            };
            if parse(version).is_none() {
                let place = key(plugin, "version").map_or(&plugin.place, |node| &node.place).clone();
                let message = "the version of a plugin is written as `0.4.0`";
                return Err(Problem::error(code::YAML_VALIDATE, place, message));
            }
            if !names.insert(name) {
                return wrong("this plugin is named twice");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_version_of_a_plugin_is_shown_where_it_stands() {
        let text = "- required_plugin_versions:\n    - name: json\n      version: 1.0\n";
        let (_, diagnostics) = crate::testing::load(text);
        assert_eq!((diagnostics.len(), diagnostics[0].line, diagnostics[0].column), (1, 3, 16));
    }

    #[test]
    fn versions() {
        assert_eq!(parse("31"), Some((0, 31, 0)));
        assert_eq!(parse("0.57.0"), Some((0, 57, 0)));
        assert_eq!(parse("0.4.0-rc1"), Some((0, 4, 0)));
        assert_eq!(parse("0.57"), None);
        assert_eq!(parse("x"), None);
    }
}
