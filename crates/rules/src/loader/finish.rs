//! The end of loading: lists are put into each other, macros parsed, rules compiled.

use std::cell::Cell;
use std::collections::HashSet;

use tw_model::event::EVENTS;

use super::rule::{RuleDef, SOURCE};
use super::{ListDef, Loader, exception};
use crate::ast::{Expr, Right};
use crate::compile::{Compiler, Library, List, Macro};
use crate::diagnostic::{Diagnostic, Problem, Severity, code};
use crate::lexer::Lexer;
use crate::output::Template;
use crate::parser::{self, ParseError};
use crate::ruleset::{NamedList, NamedMacro, Rule, RuleSet};
use crate::text::{Place, Text};

/// How many values all lists together may have with the lists in them.
const MAX_STEPS: usize = 1_000_000;

/// More is not told; errors go before warnings.
const MAX_DIAGNOSTICS: usize = 1000;

/// Makes a rule set of what was collected.
pub(super) fn finish(mut loader: Loader) -> (RuleSet, Vec<Diagnostic>) {
    let mut problems = std::mem::take(&mut loader.problems);
    let mut library = Library::default();
    resolve_lists(&loader, &mut library, &mut problems);
    parse_macros(&loader, &mut library, &mut problems);
    let mut rules = Vec::new();
    for definition in &loader.rules.items {
        rules.extend(compile(&loader, definition, &library, &mut problems));
    }
    warn_of_unused(&loader, &library, &mut problems);
    let mut seen = HashSet::new();
    problems.retain(|problem| seen.insert(problem.clone()));
    problems.sort_by_key(|problem| problem.severity);
    problems.truncate(MAX_DIAGNOSTICS);
    problems.sort_by(|a, b| a.place.cmp(&b.place));
    let diagnostics = problems.into_iter().map(|problem| problem.locate(&loader.files)).collect();
    let (macros, lists) = named(&loader, library);
    (RuleSet::new(rules, macros, lists), diagnostics)
}

/// Macros and lists as they are shown to people.
fn named(loader: &Loader, mut library: Library) -> (Vec<NamedMacro>, Vec<NamedList>) {
    let macros = loader.macros.items.iter().filter_map(|definition| {
        let known = library.macros.remove(&definition.name)?;
        let (file, line) = loader.file_and_line(&definition.place);
        Some(NamedMacro { name: definition.name.clone(), file, line, condition: known.text, ast: known.expr? })
    });
    let lists = loader.lists.items.iter().filter_map(|definition| {
        let known = library.lists.remove(&definition.name)?;
        let (file, line) = loader.file_and_line(&definition.place);
        let inner = definition.items.iter().filter_map(|item| loader.list_in(definition, item.text()?.as_str()));
        let lists = inner.map(|inner| inner.name.clone()).collect();
        let items = known.items.into_iter().map(|(bytes, _)| bytes).collect();
        Some(NamedList { name: definition.name.clone(), file, line, lists, items })
    });
    (macros.collect(), lists.collect())
}

impl Loader {
    /// File and line of a place.
    fn file_and_line(&self, place: &Place) -> (String, usize) {
        (self.file_name(place.file).to_owned(), self.files.line_column(place.file, place.start).0)
    }

    /// The list of this name, if it can stand in `outer`.
    fn list_in(&self, outer: &ListDef, name: &str) -> Option<&ListDef> {
        let inner = self.lists.by_name.get(name).and_then(|index| self.lists.items.get(*index));
        inner.filter(|inner| inner.index < outer.visibility && inner.name != outer.name)
    }
}

fn parse_problem(text: &Text, error: ParseError) -> Problem {
    let problem = Problem::error(error.code, text.place(error.span), error.message);
    Problem { help: error.help, ..problem }
}

fn resolve_lists(loader: &Loader, library: &mut Library, problems: &mut Vec<Problem>) {
    let mut resolver = ListResolver { loader, problems, used: HashSet::new(), steps: 0 };
    for definition in &loader.lists.items {
        let mut list = List::default();
        resolver.put_in(definition, &mut vec![definition.name.as_str()], &mut list);
        if resolver.steps >= MAX_STEPS {
            let message = format!("the list `{}` is too large with the lists in it", definition.name);
            resolver.problems.push(Problem::error(code::VALIDATE, definition.place.clone(), message));
            list = List { broken: true, ..List::default() };
        }
        library.lists.insert(definition.name.clone(), list);
    }
    for name in resolver.used {
        if let Some(list) = library.lists.get(name) {
            list.used.set(true);
        }
    }
}

struct ListResolver<'l, 'p> {
    loader: &'l Loader,
    problems: &'p mut Vec<Problem>,
    used: HashSet<&'l str>,
    /// Items looked at so far, of all lists: what bounds the work.
    steps: usize,
}

impl<'l> ListResolver<'l, '_> {
    /// Adds the values of `source` to `list`, with those of lists in it that were defined before it.
    fn put_in(&mut self, source: &'l ListDef, stack: &mut Vec<&'l str>, list: &mut List) {
        for item in &source.items {
            self.steps += 1;
            if self.steps >= MAX_STEPS {
                return;
            }
            let Some(text) = item.text() else { continue };
            let inner = self.loader.list_in(source, text.as_str());
            let inner = inner.filter(|inner| !stack.contains(&inner.name.as_str()));
            match inner {
                // So deep only a hostile file goes.
                Some(inner) if stack.len() < 100 => {
                    self.used.insert(inner.name.as_str());
                    stack.push(&inner.name);
                    self.put_in(inner, stack, list);
                    stack.pop();
                }
                _ => match list_value(&text) {
                    Ok(bytes) => list.items.push((bytes, item.place.clone())),
                    Err(error) => {
                        list.broken = true;
                        self.problems.push(parse_problem(&text, error));
                    }
                },
            }
        }
    }
}

/// What an item of a list means: quotes in it are those of the condition language.
fn list_value(text: &Text) -> Result<Box<[u8]>, ParseError> {
    let value = text.as_str();
    if value.starts_with(['"', '\'']) {
        let mut lexer = Lexer::new(value, 0);
        if let Some(word) = lexer.quoted()?
            && lexer.rest().is_empty()
        {
            return Ok(word.bytes.into());
        }
    }
    Ok(value.as_bytes().into())
}

fn parse_macros(loader: &Loader, library: &mut Library, problems: &mut Vec<Problem>) {
    for definition in &loader.macros.items {
        let expr = match parser::parse(definition.condition.as_str()) {
            Ok(expr) => Some(expr),
            Err(error) => {
                problems.push(parse_problem(&definition.condition, error));
                None
            }
        };
        let definition = (
            definition.name.clone(),
            Macro {
                text: definition.condition.clone(),
                expr,
                index: definition.index,
                visibility: definition.visibility,
                used: Cell::new(false),
            },
        );
        library.macros.insert(definition.0, definition.1);
    }
    for definition in library.macros.values() {
        definition.expr.iter().for_each(|expr| mark_used(expr, library));
    }
}

/// Marks what a macro names as used, so that only the ends of unused chains are told of.
fn mark_used(expr: &Expr, library: &Library) {
    match expr {
        Expr::And(terms, _) | Expr::Or(terms, _) => terms.iter().for_each(|term| mark_used(term, library)),
        Expr::Not(term, _) => mark_used(term, library),
        Expr::Macro(name, _) => {
            if let Some(definition) = library.macros.get(name) {
                definition.used.set(true);
            }
        }
        Expr::Check(check) => {
            let words = match &check.right {
                Right::List(words, _) => words.as_slice(),
                Right::Name(word) | Right::Word(word) => std::slice::from_ref(word),
                _ => &[],
            };
            for word in words.iter().filter(|word| !word.quoted) {
                if let Some(list) = library.lists.get(&*word.lossy()) {
                    list.used.set(true);
                }
            }
        }
    }
}

fn compile(loader: &Loader, rule: &RuleDef, library: &Library, problems: &mut Vec<Problem>) -> Option<Rule> {
    if rule.source != SOURCE {
        let message = format!("the rule `{}` is for the source `{}`, which nothing supplies", rule.name, rule.source);
        problems.push(Problem::warning(code::UNKNOWN_SOURCE, rule.place.clone(), message));
        return None;
    }
    let parsed = exception::apply(&rule.condition, &rule.exceptions).and_then(|condition| {
        match parser::parse(condition.as_str()) {
            Ok(ast) => Ok((condition, ast)),
            Err(error) => Err(parse_problem(&condition, error)),
        }
    });
    let (condition, ast) = match parsed {
        Ok(parsed) => parsed,
        Err(problem) => {
            problems.push(problem);
            return None;
        }
    };
    let mut compiler = Compiler::new(library, &condition);
    let node = compiler.expr(&ast);
    let mut found = std::mem::take(&mut compiler.problems);
    let template = Template::compile(&rule.output, &mut found);
    let errors = || found.iter().filter(|problem| problem.severity == Severity::Error);
    if rule.skip_if_unknown && errors().count() > 0 && errors().all(|problem| problem.unknown) {
        let names: Vec<&str> = errors().map(|problem| problem.message.as_str()).collect();
        let message = format!("the rule `{}` was skipped, as it asked: {}", rule.name, names.join("; "));
        problems.push(Problem::warning(code::UNKNOWN_FILTER, rule.place.clone(), message));
        return None;
    }
    let broken = errors().count() > 0;
    problems.append(&mut found);
    if broken {
        return None;
    }
    let kinds = node.kinds();
    if rule.warn_evttypes && EVENTS.iter().all(|info| kinds.contains(info.kind)) {
        let message = format!("the rule `{}` is tried on every event", rule.name);
        let problem = Problem::warning(code::NO_EVTTYPE, rule.place.clone(), message);
        problems.push(problem.help("begin its condition with `evt.type in (…)`"));
    }
    let (file, line) = loader.file_and_line(&rule.place);
    Some(Rule {
        name: rule.name.clone(),
        desc: rule.desc.clone(),
        advice: rule.advice.clone(),
        priority: rule.priority,
        tags: rule.tags.iter().cloned().collect(),
        source: rule.source.clone(),
        enabled: rule.enabled,
        kinds,
        file,
        line,
        output: rule.output.clone(),
        condition,
        ast,
        exceptions: exception::applied(&rule.exceptions).map(str::to_owned).collect(),
        node,
        template,
    })
}

fn warn_of_unused(loader: &Loader, library: &Library, problems: &mut Vec<Problem>) {
    for list in &loader.lists.items {
        if library.lists.get(&list.name).is_some_and(|known| !known.used.get()) {
            let message = format!("the list `{}` is not used", list.name);
            problems.push(Problem::warning(code::UNUSED_LIST, list.place.clone(), message));
        }
    }
    for definition in &loader.macros.items {
        if library.macros.get(&definition.name).is_some_and(|known| !known.used.get()) {
            let message = format!("the macro `{}` is not used", definition.name);
            problems.push(Problem::warning(code::UNUSED_MACRO, definition.place.clone(), message));
        }
    }
}
