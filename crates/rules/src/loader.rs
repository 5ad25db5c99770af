//! Reads rule files: lists, macros, rules, their redefinition and override, in the order of loading.
//!
//! **Never:** stops at the first error. What is wrong is told and left out, the rest is loaded.

use std::collections::HashMap;

use crate::diagnostic::{Diagnostic, Problem, code};
use crate::ruleset::RuleSet;
use crate::text::{FileId, Files, Place, Text};
use crate::yaml::{self, Kind, Node};

mod exception;
mod finish;
mod item;
mod rule;
mod version;

pub use version::ENGINE_VERSION;

use item::{Item, Overrides};
use rule::RuleDef;

/// Definitions of one kind: in order, and by name.
struct Named<T> {
    items: Vec<T>,
    by_name: HashMap<String, usize>,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self { items: Vec::new(), by_name: HashMap::new() }
    }
}

impl<T> Named<T> {
    fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        let index = *self.by_name.get(name)?;
        self.items.get_mut(index)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// Adds a definition, or puts it in the place of the earlier one.
    fn define(&mut self, name: &str, item: T) {
        match self.get_mut(name) {
            Some(earlier) => *earlier = item,
            None => {
                self.by_name.insert(name.to_owned(), self.items.len());
                self.items.push(item);
            }
        }
    }
}

struct ListDef {
    name: String,
    place: Place,
    items: Vec<Node>,
    index: usize,
    visibility: usize,
}

struct MacroDef {
    name: String,
    place: Place,
    condition: Text,
    index: usize,
    visibility: usize,
}

/// Collects rule files and makes a [`RuleSet`] of them.
#[derive(Default)]
pub struct Loader {
    files: Files,
    problems: Vec<Problem>,
    lists: Named<ListDef>,
    macros: Named<MacroDef>,
    rules: Named<RuleDef>,
    /// Position of the next definition.
    next: usize,
}

impl Loader {
    /// A loader without files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the text of a file; `name` is what diagnostics call it. Later files see earlier ones.
    #[must_use]
    pub fn add_file(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        let file = self.files.add(name.into(), text.into());
        match yaml::parse(file, self.files.text(file)) {
            Ok(documents) => documents.iter().for_each(|document| self.document(document)),
            Err(error) => self.problems.push(Problem::error(code::YAML_PARSE, error.place, error.message)),
        }
        self
    }

    /// The rules that are in order, and what there is to say about all files.
    pub fn finish(self) -> (RuleSet, Vec<Diagnostic>) {
        finish::finish(self)
    }

    fn document(&mut self, document: &Node) {
        match &document.kind {
            Kind::Null => {}
            Kind::List(items) => items.iter().for_each(|item| self.item(item)),
            _ => {
                let message = format!("a rule file is a list of items, but this is {}", document.kind_name());
                let problem = Problem::error(code::YAML_VALIDATE, document.place.clone(), message);
                self.problems.push(problem.help("begin each item with `- rule:`, `- macro:` or `- list:`"));
            }
        }
    }

    fn item(&mut self, node: &Node) {
        if matches!(node.kind, Kind::Null) {
            return;
        }
        let result = match Item::new(node) {
            Ok(item) => self.known_item(&item),
            Err(problem) => Err(problem),
        };
        self.problems.extend(result.err());
    }

    fn known_item(&mut self, item: &Item<'_>) -> Result<(), Problem> {
        item.warn_of_unknown_keys(&mut self.problems);
        match item.kind {
            "required_engine_version" => version::check_engine(item),
            "required_plugin_versions" => version::check_plugins(item),
            "list" => self.list(item),
            "macro" => self.macro_item(item),
            "rule" => self.rule(item),
            "test" => item.check_test(),
            _ => {
                let message = "this item is neither a rule nor a macro, list or test";
                self.problems.push(Problem::warning(code::UNKNOWN_ITEM, item.place.clone(), message));
                Ok(())
            }
        }
    }

    fn position(&mut self) -> usize {
        self.next += 1;
        self.next
    }

    fn warn_of_append(&mut self, item: &Item<'_>) {
        let place = item.get("append").map_or(item.place.clone(), |node| node.place.clone());
        let problem = Problem::warning(code::DEPRECATED_ITEM, place, "`append` is deprecated");
        self.problems.push(problem.help("write `override: {KEY: append}`"));
    }

    fn list(&mut self, item: &Item<'_>) -> Result<(), Problem> {
        let (name, place) = item.name()?;
        if !name.bytes().all(crate::ast::is_bare) {
            let message = format!("the list's name `{name}` cannot be written in a condition");
            self.problems.push(Problem::warning(code::INVALID_LIST_NAME, place.clone(), message));
        }
        let items = item.list("items")?.ok_or_else(|| item.missing("items"))?;
        if let Some(bad) = items.iter().find(|value| value.scalar().is_none() && !matches!(value.kind, Kind::Null)) {
            let message = format!("a list holds single values, but this is {}", bad.kind_name());
            return Err(Problem::error(code::YAML_VALIDATE, bad.place.clone(), message));
        }
        let items: Vec<Node> = items.iter().filter(|value| value.scalar().is_some()).cloned().collect();
        let overrides = Overrides::read(item, &["items"], &["items"])?;
        if item.flag("append")?.unwrap_or(false) {
            self.warn_of_append(item);
        }
        let index = self.position();
        match self.lists.get_mut(&name) {
            None if item.appends(&overrides)? || overrides.is_some() => Err(item.no_target(&name, self.lists.names())),
            Some(list) if item.appends(&overrides)? => {
                list.items.extend(items);
                list.visibility = index;
                Ok(())
            }
            earlier => {
                let first = earlier.map_or(index, |list| list.index);
                self.lists.define(&name.clone(), ListDef { name, place, items, index: first, visibility: index });
                Ok(())
            }
        }
    }

    fn macro_item(&mut self, item: &Item<'_>) -> Result<(), Problem> {
        let (name, place) = item.name()?;
        let identifier = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
            && name.bytes().all(crate::lexer::is_name_byte);
        if !identifier {
            let message = format!("the macro's name `{name}` cannot be written in a condition");
            self.problems.push(Problem::warning(code::INVALID_MACRO_NAME, place.clone(), message));
        }
        let condition = item.text("condition")?.ok_or_else(|| item.missing("condition"))?;
        let overrides = Overrides::read(item, &["condition"], &["condition"])?;
        if item.flag("append")?.unwrap_or(false) {
            self.warn_of_append(item);
        }
        let index = self.position();
        match self.macros.get_mut(&name) {
            None if item.appends(&overrides)? || overrides.is_some() => Err(item.no_target(&name, self.macros.names())),
            Some(earlier) if item.appends(&overrides)? => {
                earlier.condition.append(&condition);
                earlier.visibility = index;
                Ok(())
            }
            earlier => {
                let first = earlier.map_or(index, |earlier| earlier.index);
                let definition = MacroDef { name: name.clone(), place, condition, index: first, visibility: index };
                self.macros.define(&name, definition);
                Ok(())
            }
        }
    }

    /// The file that was loaded under this number.
    fn file_name(&self, file: FileId) -> &str {
        self.files.name(file)
    }
}

#[cfg(test)]
mod tests;
