//! The end of loading: lists are put into each other, macros parsed, rules compiled.

use std::cell::Cell;
use std::collections::HashSet;

use tw_model::KindSet;

use super::rule::{RuleDef, SOURCE};
use super::{Compat, ListDef, Loader, Selection, addition, exception, lint, substitute};
use crate::ast::{Expr, Op, Operand, Right};
use crate::compile::{Compiler, Library, List, Macro, misspelt_list};
use crate::diagnostic::{Diagnostic, Problem, Severity, code};
use crate::lexer::Lexer;
use crate::node::Node;
use crate::parser::{self, ParseError};
use crate::ruleset::{NamedList, NamedMacro, Rule, RuleSet};
use crate::text::{Place, Text};

/// How many values all lists together may have with the lists in them.
const MAX_STEPS: usize = 1_000_000;

/// More is not told; errors go before warnings.
const MAX_DIAGNOSTICS: usize = 1000;

/// As many are kept until the end.
const MAX_KEPT: usize = 20_000;

/// Makes a rule set of what was collected.
pub(super) fn finish(mut loader: Loader) -> (RuleSet, Vec<Diagnostic>) {
    let mut problems = std::mem::take(&mut loader.problems);
    let mut library = Library::new(loader.compat);
    resolve_lists(&loader, &mut library, &mut problems);
    warn_of_misspelt(&loader, &library, &mut problems);
    parse_macros(&loader, &mut library, &mut problems);
    let (mut rules, mut places) = (Vec::new(), Vec::new());
    let severe = |rule: &&RuleDef| loader.least.is_none_or(|least| rule.priority <= least);
    for definition in loader.rules.items.iter().filter(severe) {
        if let Some(rule) = compile(&loader, definition, &library, &mut problems) {
            rules.push(rule);
            places.push(definition.place.clone());
        }
        keep_worst(&mut problems);
    }
    // Their keys were told of; here it is about their conditions and outputs.
    for definition in loader.broken.iter().filter(|rule| rule.source == SOURCE) {
        compile(&loader, definition, &library, &mut problems);
        keep_worst(&mut problems);
    }
    lint::warn(&rules, &places, &library, loader.matching, &mut problems);
    warn_of_unused(&loader, &library, &mut problems);
    let mut seen = HashSet::new();
    problems.retain(|problem| seen.insert(problem.clone()));
    problems.sort_by_key(|problem| problem.severity);
    problems.truncate(MAX_DIAGNOSTICS);
    problems.sort_by(|a, b| a.place.cmp(&b.place));
    let diagnostics = problems.into_iter().map(|problem| problem.locate(&loader.files)).collect();
    let (macros, lists) = named(&loader, library);
    let mut rules = RuleSet::new(rules, macros, lists);
    rules.set_matching(loader.matching);
    rules.compat = loader.compat;
    (rules, diagnostics)
}

/// Forgets warnings, and errors if there are still too many.
fn keep_worst(problems: &mut Vec<Problem>) {
    if problems.len() > MAX_KEPT {
        problems.sort_by_key(|problem| problem.severity);
        problems.truncate(MAX_DIAGNOSTICS);
    }
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

    fn list_named(&self, name: &str) -> Option<&ListDef> {
        self.lists.by_name.get(name).and_then(|index| self.lists.items.get(*index))
    }

    /// The list of this name, if it can stand in `outer`.
    fn list_in(&self, outer: &ListDef, name: &str) -> Option<&ListDef> {
        self.list_named(name).filter(|inner| inner.index < outer.visibility && inner.name != outer.name)
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
            if inner.is_none() {
                self.warn_of_late_list(source, item, text.as_str());
            }
            match inner {
                // So deep only a hostile file goes. Falco goes one level.
                Some(inner) if stack.len() < if self.loader.compat == Compat::Strict { 2 } else { 100 } => {
                    self.used.insert(inner.name.as_str());
                    stack.push(&inner.name);
                    self.put_in(inner, stack, list);
                    stack.pop();
                }
                _ if self.loader.compat == Compat::Strict => {
                    list.items.push((text.as_str().as_bytes().into(), item.place.clone()));
                    list.written.push(text);
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

impl<'l> ListResolver<'l, '_> {
    /// Warns of a value that is the name of a list which cannot be put in here. A list may hold its own name as a text.
    fn warn_of_late_list(&mut self, source: &'l ListDef, item: &crate::yaml::Node, name: &str) {
        if name == source.name || self.loader.compat == Compat::Strict || self.problems.len() > MAX_KEPT {
            return;
        }
        let Some(later) = self.loader.list_named(name) else { return };
        let (message, help) = if self.leads_to(later, &source.name) {
            let message =
                format!("the lists `{}` and `{name}` lead back to each other: `{name}` is taken as text", source.name);
            (message, "take one of them out of the other".to_owned())
        } else {
            let message = format!("the list `{name}` is defined behind the list that names it: it is taken as text");
            (message, format!("move its definition up; if the text is meant, write `'\"{name}\"'`"))
        };
        self.problems.push(Problem::warning(code::COMPILE_CONDITION, item.place.clone(), message).help(help));
    }

    /// Whether a list names another, be it through others.
    fn leads_to(&mut self, from: &'l ListDef, name: &str) -> bool {
        let (mut left, mut seen) = (vec![from], HashSet::new());
        while let Some(list) = left.pop() {
            if !seen.insert(list.name.as_str()) {
                continue;
            }
            for item in &list.items {
                self.steps += 1;
                match item.scalar() {
                    _ if self.steps >= MAX_STEPS => return false,
                    Some(value) if value == name => return true,
                    Some(value) => left.extend(self.loader.list_named(value)),
                    None => {}
                }
            }
        }
        false
    }
}

/// Warns of values of lists that are nearly the name of a list.
fn warn_of_misspelt(loader: &Loader, library: &Library, problems: &mut Vec<Problem>) {
    if loader.compat == Compat::Strict {
        return;
    }
    for item in loader.lists.items.iter().flat_map(|list| &list.items) {
        if let Some(word) = item.scalar()
            && let Some(list) = library.misspelt_list(word)
            && problems.len() < MAX_KEPT
        {
            problems.push(misspelt_list(item.place.clone(), word, list));
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

/// Parses a condition; also gives the text that its spans are in.
fn parse(loader: &Loader, library: &Library, condition: &Text) -> Result<(Text, Expr), Problem> {
    let mut text = condition.clone();
    if loader.compat == Compat::Strict {
        for (i, definition) in loader.lists.items.iter().enumerate() {
            let Some(list) = library.lists.get(&definition.name) else { continue };
            // To look for a name is cheap.
            if i % 16 == 0 && !library.spend(1 + text.as_str().len() / 1024) {
                let message = "the rules together grow too large with their lists put in";
                return Err(Problem::error(code::VALIDATE, condition.whole(), message));
            }
            if !text.as_str().contains(&definition.name) {
                continue;
            }
            let Some((put_in, used)) = substitute::put_in(&text, &definition.name, &list.written) else {
                let message = "the condition grows too large with its lists put in";
                return Err(Problem::error(code::VALIDATE, condition.whole(), message));
            };
            list.used.set(list.used.get() || used);
            library.spend(put_in.as_str().len().saturating_sub(text.as_str().len()) / 8);
            text = put_in;
        }
    }
    match parser::parse_as(text.as_str(), loader.compat) {
        Ok(expr) => Ok((text, expr)),
        Err(error) => Err(parse_problem(&text, error)),
    }
}

fn parse_macros(loader: &Loader, library: &mut Library, problems: &mut Vec<Problem>) {
    for definition in &loader.macros.items {
        let (text, expr) = match parse(loader, library, &definition.condition) {
            Ok((text, expr)) => (text, Some(expr)),
            Err(problem) => {
                problems.push(problem);
                (definition.condition.clone(), None)
            }
        };
        let definition = (
            definition.name.clone(),
            Macro { text, expr, index: definition.index, visibility: definition.visibility, used: Cell::new(false) },
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
    let parsed =
        exception::apply(&rule.condition, &rule.exceptions).and_then(|condition| parse(loader, library, &condition));
    if rule.source != SOURCE {
        let message = format!("the rule `{}` is for the source `{}`, which nothing supplies", rule.name, rule.source);
        problems.push(Problem::warning(code::UNKNOWN_SOURCE, rule.place.clone(), message));
        if let Ok((text, ast)) = &parsed {
            mark_used(ast, library);
            warn_of_na(text, ast, problems);
        }
        return None;
    }
    let (condition, ast) = match parsed {
        Ok(parsed) => parsed,
        Err(problem) => {
            problems.push(problem);
            return None;
        }
    };
    let mut found = exception::check_fields(&rule.exceptions);
    let mut node = Node::Const(false);
    if found.is_empty() {
        let mut compiler = Compiler::new(library, &condition);
        node = compiler.condition(&ast);
        found = std::mem::take(&mut compiler.problems);
    } else {
        mark_used(&ast, library);
    }
    let template = addition::template(rule, &loader.additions, &mut found);
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
    if rule.warn_evttypes && kinds.or(KindSet::measurements()) == KindSet::ALL {
        let message = format!("the rule `{}` is tried on every event", rule.name);
        let problem = Problem::warning(code::NO_EVTTYPE, rule.place.clone(), message);
        problems.push(problem.help("begin its condition with `evt.type in (…)`"));
    }
    let (file, line) = loader.file_and_line(&rule.place);
    let tags: Vec<String> = rule.tags.iter().cloned().collect();
    Some(Rule {
        enabled: Selection::decide(&loader.selections, rule.enabled, &rule.name, &tags),
        name: rule.name.clone(),
        desc: rule.desc.clone(),
        advice: rule.advice.clone(),
        priority: rule.priority,
        tags,
        source: rule.source.clone(),
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

/// Warns of comparisons with the text that Falco once had for null. Only old plugins' fields are compared so.
fn warn_of_na(text: &Text, expr: &Expr, problems: &mut Vec<Problem>) {
    match expr {
        Expr::And(terms, _) | Expr::Or(terms, _) => terms.iter().for_each(|term| warn_of_na(text, term, problems)),
        Expr::Not(term, _) => warn_of_na(text, term, problems),
        Expr::Macro(..) => {}
        Expr::Check(check) => {
            let Operand::Field { name, .. } = &check.left else { return };
            let words = match &check.right {
                Right::List(words, _) => words.as_slice(),
                Right::Word(word) => std::slice::from_ref(word),
                _ => &[],
            };
            let equality = matches!(check.op, Op::Eq | Op::Ne | Op::In | Op::Intersects | Op::PMatch);
            let old = name.starts_with("ka.") || name.starts_with("jevt.");
            if equality && old && words.iter().any(|word| word.bytes == b"<NA>") {
                let message = format!("`{name}` never has the text `<NA>`: it is null where there is no value");
                let problem = Problem::warning(code::UNSAFE_NA_CHECK, text.place(check.span), message);
                problems.push(problem.help(format!("write `not {name} exists`")));
            }
        }
    }
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
