//! Reads rule files: lists, macros, rules, their redefinition and override, in the order of loading.
//!
//! **Never:** stops at the first error. What is wrong is told and left out, the rest is loaded.

use std::collections::HashMap;

use tw_model::Priority;

use crate::diagnostic::{Diagnostic, Problem, Severity, code};
use crate::ruleset::{Matching, RuleSet};
use crate::suite::is_test;
use crate::text::{FileId, Files, Place, Text};
use crate::yaml::{self, Kind, Node};

mod addition;
mod exception;
mod finish;
mod item;
mod lint;
mod rule;
mod selection;
mod substitute;
mod version;

pub use addition::{ExtraField, OutputAddition};
pub use selection::Selection;
pub use version::ENGINE_VERSION;

use addition::Addition;
use item::{Item, Overrides};
use rule::RuleDef;

/// Whether behaviours of Falco that look like accidents are reproduced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compat {
    /// They are not: the language means what it says.
    #[default]
    Normal,
    /// They are: lists are put into conditions as text and one level deep, quotes are read as Falco reads them,
    /// hexadecimal numbers are errors, and `fd.net in (…)` looks at the first network only.
    Strict,
}

/// With more problems no further item is read.
const MAX_PROBLEMS: usize = 20_000;
/// How many bytes all changes of rules together may copy.
const MAX_COPIED: usize = 1 << 30;

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
    /// Rules with wrong keys: not loaded, but what is wrong with their conditions is told as well.
    broken: Vec<RuleDef>,
    /// Position of the next definition.
    next: usize,
    compat: Compat,
    matching: Matching,
    least: Option<Priority>,
    selections: Vec<Selection>,
    additions: Vec<Addition>,
    /// Bytes that changes of rules copied.
    copied: usize,
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
            Err(error) => self.problems.push(error.problem()),
        }
        self
    }

    /// Says whether Falco's quirks are wished for.
    #[must_use]
    pub fn compat(self, compat: Compat) -> Self {
        Self { compat, ..self }
    }

    /// Says how many rules may speak of one event: the set is made so, and where only the first may, rules that never
    /// would are told of.
    #[must_use]
    pub fn matching(self, matching: Matching) -> Self {
        Self { matching, ..self }
    }

    /// Leaves out rules that are less severe than this.
    #[must_use]
    pub fn least_priority(self, least: Priority) -> Self {
        Self { least: Some(least), ..self }
    }

    /// Enables or disables rules, whatever the files say; later selections overrule earlier ones.
    #[must_use]
    pub fn select(mut self, selections: impl IntoIterator<Item = Selection>) -> Self {
        self.selections.extend(selections);
        self
    }

    /// Adds to the outputs of rules; several additions are made in their order. What is wrong with one is told as of
    /// the file `append_output[N]`, and the addition left out.
    #[must_use]
    pub fn append_output(mut self, addition: OutputAddition) -> Self {
        self.additions.push(Addition::new(addition, self.additions.len(), &mut self.files, &mut self.problems));
        self
    }

    /// The rules that are in order, and what there is to say about all files.
    pub fn finish(self) -> (RuleSet, Vec<Diagnostic>) {
        finish::finish(self)
    }

    fn document(&mut self, document: &Node) {
        match &document.kind {
            Kind::Null => {}
            Kind::List(items) => {
                for item in items {
                    if self.problems.len() > MAX_PROBLEMS {
                        let message = "too much is wrong with the items before this one: the rest is not read";
                        self.problems.push(Problem::error(code::YAML_VALIDATE, item.place.clone(), message));
                        return;
                    }
                    self.item(item);
                }
            }
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
        // A test has no part in what the rules do: whoever runs it is told of an error.
        let of_test = |problem| Problem { severity: Severity::Warning, code: code::WARNING_EXTENSION, ..problem };
        self.problems.extend(result.err().map(|problem| if is_test(node) { of_test(problem) } else { problem }));
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

    /// What a list or macro overrides; the last of several problems is the error.
    fn overrides(&mut self, item: &Item<'_>, keys: &[&str]) -> Result<Option<Overrides>, Problem> {
        let mut wrong = Vec::new();
        let overrides = Overrides::read(item, keys, keys, &mut wrong);
        let last = wrong.pop();
        self.problems.append(&mut wrong);
        last.map_or(Ok(overrides), Err)
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
        let overrides = self.overrides(item, &["items"])?;
        if item.flag("append")?.unwrap_or(false) {
            self.warn_of_append(item);
        }
        let index = self.position();
        match self.lists.get_mut(&name) {
            None if item.appends(&overrides)? => Err(item.no_target(&name, self.lists.names())),
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
        let overrides = self.overrides(item, &["condition"])?;
        if item.flag("append")?.unwrap_or(false) {
            self.warn_of_append(item);
        }
        let index = self.position();
        match self.macros.get_mut(&name) {
            None if item.appends(&overrides)? => Err(item.no_target(&name, self.macros.names())),
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
mod lint_tests;
#[cfg(test)]
mod options_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod told_tests;
