//! From conditions as written to compiled ones: macros and lists are resolved, fields looked up, types checked.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};

use regex::bytes::Regex;
use tw_model::KindSet;
use tw_model::field::{nearest, nearest_within};

use crate::ast::Expr;
use crate::diagnostic::{Problem, Severity, code};
use crate::loader::Compat;
use crate::node::Node;
use crate::text::{Place, Span, Text};

mod check;
mod falco;
mod literal;
mod operand;

pub(crate) use literal::misspelt_list;
pub(crate) use operand::{Operands, field_problem};

/// How deep macros and parentheses together may be nested.
const MAX_DEPTH: usize = 250;
/// How many comparisons and macros a condition may have with all its macros put in.
const MAX_CHECKS: usize = 100_000;

/// How many values and comparisons all conditions together may have with their macros and lists put in.
const MAX_WORK: usize = 2_000_000;
/// What a regular expression that was not met before costs of it.
const REGEX_WORK: usize = 1000;
/// How many names are looked for among macros and lists, for what may have been meant.
const MAX_SEARCHES: usize = 500;
/// How many macros or lists are looked at for that.
const MAX_NAMES: usize = 5000;
/// How many names of lists are looked at for words that may be misspelt ones.
const MAX_LOOKS: usize = 1_000_000;
/// How many parts of conditions are looked at for a loop of macros.
const MAX_LOOP_STEPS: usize = 2000;
/// More errors of one condition are not told.
const MAX_PROBLEMS: usize = 100;

const TOO_LARGE: &str = "the condition grows too large with its macros put in";
const ALL_TOO_LARGE: &str = "the rules together grow too large with their macros and lists put in";

/// A list with all lists in it put in.
#[derive(Debug, Default)]
pub(crate) struct List {
    /// Values, each with its place.
    pub items: Vec<(Box<[u8]>, Place)>,
    /// The same as written, where they are put into conditions as text.
    pub written: Vec<Text>,
    /// A value in it is wrong.
    pub broken: bool,
    /// A condition or another list names it.
    pub used: Cell<bool>,
}

/// A macro.
#[derive(Debug)]
pub(crate) struct Macro {
    /// Its condition as written.
    pub text: Text,
    /// The same parsed; `None` if it could not be.
    pub expr: Option<Expr>,
    /// Position of its first definition.
    pub index: usize,
    /// Macros defined before this position can be named in it.
    pub visibility: usize,
    /// A condition names it.
    pub used: Cell<bool>,
}

/// What conditions may name.
#[derive(Debug, Default)]
pub(crate) struct Library {
    /// Lists by name.
    pub lists: HashMap<String, List>,
    /// Macros by name.
    pub macros: HashMap<String, Macro>,
    /// Whether Falco's quirks are wished for. Lists have been put in as text then.
    pub compat: Compat,
    /// What was spent of [`MAX_WORK`].
    work: Cell<usize>,
    /// How often names were looked for, and how many were looked at for what looks like one.
    searches: Cell<usize>,
    looks: Cell<usize>,
    /// Regular expressions that were compiled, by their text.
    regexes: RefCell<HashMap<String, Regex>>,
}

impl Library {
    /// An empty library.
    pub fn new(compat: Compat) -> Self {
        Self { compat, ..Self::default() }
    }

    /// Spends some of the work that all conditions together may make; false if there is none left.
    pub fn spend(&self, work: usize) -> bool {
        self.work.set(self.work.get().saturating_add(work));
        self.work.get() <= MAX_WORK
    }

    /// Begins anew to count what is spent, for conditions that have passed once.
    pub fn refresh(&self) {
        self.work.set(0);
        self.searches.set(0);
        self.looks.set(0);
    }

    /// The list that a word was probably meant to name, which is a slip of the finger away.
    pub fn misspelt_list(&self, word: &str) -> Option<&str> {
        if word.len() < 5
            || self.lists.contains_key(word)
            || !word.bytes().all(|byte| byte == b'_' || byte == b'-' || byte.is_ascii_alphanumeric())
        {
            return None;
        }
        self.looks.set(self.looks.get().saturating_add(self.lists.len()));
        if self.looks.get() > MAX_LOOKS {
            return None;
        }
        // A list may well hold a word that is nearly its own name, as `shells` and `shell`.
        let holds = |name: &&str| {
            let list = self.lists.get(*name);
            list.is_some_and(|list| list.items.iter().any(|(bytes, _)| **bytes == *word.as_bytes()))
        };
        nearest_within(word, self.lists.keys().map(String::as_str), 1).into_iter().find(|name| !holds(name))
    }

    /// Names that are near, as long as not too many were looked for.
    pub fn near<'n>(&self, name: &str, known: impl Iterator<Item = &'n String>) -> Vec<&'n str> {
        self.searches.set(self.searches.get() + 1);
        if self.searches.get() > MAX_SEARCHES {
            return Vec::new();
        }
        let mut near = nearest(name, known.take(MAX_NAMES).map(String::as_str));
        near.dedup();
        near
    }
}

/// A compiler of one condition.
pub(crate) struct Compiler<'l> {
    library: &'l Library,
    /// The text that the nodes at hand have their spans in.
    text: &'l Text,
    /// Macros that the walk is in.
    stack: Vec<&'l str>,
    /// Where the outermost of them is named.
    outermost: Option<Place>,
    depth: usize,
    checks: usize,
    /// How many problems were looked at, and how many of them are errors.
    counted: usize,
    errors: usize,
    /// Kinds of events that the condition names.
    named: KindSet,
    /// What was wrong.
    pub problems: Vec<Problem>,
}

impl<'l> Compiler<'l> {
    /// A compiler of a condition written in `text`.
    pub fn new(library: &'l Library, text: &'l Text) -> Self {
        Self {
            library,
            text,
            stack: Vec::new(),
            outermost: None,
            depth: 0,
            checks: 0,
            counted: 0,
            errors: 0,
            named: KindSet::NONE,
            problems: Vec::new(),
        }
    }

    /// Compiles the condition of a rule. Measurements are no acts: it is tried only on those that it names.
    pub fn condition(&mut self, expr: &'l Expr) -> Node {
        let node = self.expr(expr);
        let unasked = KindSet::measurements().and(self.named.not());
        if node.kinds().and(unasked) == KindSet::NONE { node } else { Node::and(vec![Node::Kind(unasked.not()), node]) }
    }

    /// Compiles a condition. Where something is wrong there is a problem more, and the part is constant.
    pub fn expr(&mut self, expr: &'l Expr) -> Node {
        let new = self.problems.get(self.counted..).unwrap_or_default();
        self.errors += new.iter().filter(|problem| problem.severity == Severity::Error).count();
        self.counted = self.problems.len();
        if self.errors >= MAX_PROBLEMS {
            return Node::Const(false);
        }
        if self.depth >= MAX_DEPTH {
            self.error_once(expr.span(), "the macros in this condition are nested too deep");
            return Node::Const(false);
        }
        self.depth += 1;
        let node = match expr {
            Expr::And(terms, _) => Node::and(terms.iter().map(|term| self.expr(term)).collect()),
            Expr::Or(terms, _) => Node::or(terms.iter().map(|term| self.expr(term)).collect()),
            Expr::Not(term, _) => self.expr(term).negate(),
            Expr::Macro(name, span) => self.macro_call(name, *span),
            Expr::Check(check) => {
                self.checks += 1;
                if self.checks > MAX_CHECKS {
                    self.error_once(check.span, TOO_LARGE);
                    Node::Const(false)
                } else if !self.library.spend(1) {
                    self.error_once(check.span, ALL_TOO_LARGE);
                    Node::Const(false)
                } else {
                    self.check(check)
                }
            }
        };
        self.depth -= 1;
        node
    }

    fn macro_call(&mut self, name: &str, span: Span) -> Node {
        let Some((name, definition)) = self.library.macros.get_key_value(name) else {
            let near = self.library.near(name, self.library.macros.keys());
            let problem = Problem::error(code::VALIDATE, self.place(span), format!("there is no macro `{name}`"));
            self.problems.push(match (falco::instead_of(name), near.is_empty()) {
                (Some(instead), _) => problem.help(format!("only Falco's own rule files define it; {instead}")),
                (None, true) => problem.help("a field's name has a dot, as in `proc.name`"),
                (None, false) => problem.near(&near),
            });
            return Node::Const(false);
        };
        definition.used.set(true);
        self.checks += 1;
        if self.stack.contains(&name.as_str()) {
            self.error(code::VALIDATE, span, format!("the macro `{name}` leads back to itself"));
            return Node::Const(false);
        }
        let outer = self.stack.last().and_then(|outer| self.library.macros.get(*outer));
        if outer.is_some_and(|outer| definition.index >= outer.visibility) {
            let outer = self.stack.last().copied().unwrap_or_default();
            if self.leads_to(name, outer) {
                let message = format!("the macros `{outer}` and `{name}` lead back to each other");
                let problem = Problem::error(code::VALIDATE, self.place(span), message);
                self.problems.push(problem.help("take one of them out of the condition of the other"));
                return Node::Const(false);
            }
            let message = format!("the macro `{name}` is defined behind the macro that names it");
            let problem = Problem::error(code::VALIDATE, self.place(span), message);
            self.problems.push(problem.help("move its definition up"));
            return Node::Const(false);
        }
        if self.checks > MAX_CHECKS {
            self.error_once(span, TOO_LARGE);
            return Node::Const(false);
        }
        let Some(expr) = &definition.expr else {
            self.error(code::VALIDATE, span, format!("the macro `{name}` has an error"));
            return Node::Const(false);
        };
        if self.stack.is_empty() {
            self.outermost = Some(self.place(span));
        }
        let text = std::mem::replace(&mut self.text, &definition.text);
        self.stack.push(name);
        let node = self.expr(expr);
        self.stack.pop();
        self.text = text;
        node
    }

    /// Whether a macro names another, be it through others; of very large ones that is not known.
    fn leads_to(&self, from: &'l str, name: &str) -> bool {
        let (mut names, mut seen, mut steps) = (vec![from], HashSet::new(), 0);
        while let Some(from) = names.pop().filter(|_| steps < MAX_LOOP_STEPS) {
            let expr = self.library.macros.get(from).and_then(|definition| definition.expr.as_ref());
            let mut left: Vec<&Expr> = expr.filter(|_| seen.insert(from)).into_iter().collect();
            while let Some(expr) = left.pop().filter(|_| steps < MAX_LOOP_STEPS) {
                steps += 1;
                match expr {
                    Expr::And(terms, _) | Expr::Or(terms, _) => left.extend(terms),
                    Expr::Not(term, _) => left.push(term),
                    Expr::Macro(named, _) if named == name => return true,
                    Expr::Macro(named, _) => names.push(named),
                    Expr::Check(_) => {}
                }
            }
        }
        false
    }

    fn place(&self, span: Span) -> Place {
        self.text.place(span)
    }

    fn error(&mut self, code: &'static str, span: Span, message: impl Into<String>) {
        let place = self.place(span);
        self.problems.push(Problem::error(code, place, message));
    }

    fn error_once(&mut self, span: Span, message: &str) {
        if !self.problems.iter().any(|problem| problem.message == message) {
            // No part of a macro is at fault for what grows with all of them.
            let outermost = self.outermost.clone().filter(|_| !self.stack.is_empty());
            let place = outermost.unwrap_or_else(|| self.place(span));
            self.problems.push(Problem::error(code::VALIDATE, place, message));
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::random_condition;
