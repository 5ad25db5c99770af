//! Conditions as trees with macros unfolded; and for an event, why each part of them holds or does not.
//!
//! Each comparison is compiled and evaluated by the same code as the rule itself. Only the walk over `and`, `or` and
//! `not` is made here, from left to right, until the result is known.
//!
//! **Never:** another verdict than [`Rule::matches`].

use std::fmt::Write as _;

use serde::Serialize;
use tw_model::finding::Shown;
use tw_model::{Event, FieldRef};

use crate::ast::{Check, Expr, Op, Operand, Right};
use crate::compile::{Compiler, Library, List, Macro, Operands};
use crate::diagnostic::{Severity, code};
use crate::mention;
use crate::output::show;
use crate::ruleset::{Rule, RuleSet};
use crate::text::Text;

/// So many values of a list are written out; of longer ones only the number is told.
const LISTED: usize = 8;
/// More nodes a tree does not get; the rest is told as left out. Conditions of loaded rules stay below.
const MAX_NODES: usize = 250_000;
/// How deep macros and parentheses may be nested.
const MAX_DEPTH: usize = 500;

/// What a node of the tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// All children hold.
    And,
    /// A child holds.
    Or,
    /// The child does not hold.
    Not,
    /// The child, under the name of a macro.
    Macro,
    /// A comparison.
    Check,
}

/// How a node came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// The result was known before it was reached.
    NotLookedAt,
}

/// The value of a side of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SideValue {
    /// The side as written.
    pub name: String,
    /// What it is for this event. Control characters are still in it.
    pub value: Shown,
}

/// A node of the tree.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explained {
    /// What it is.
    pub part: Part,
    /// The comparison with lists abbreviated, the name of the macro, or the word of the connective.
    pub text: String,
    /// How it came out; nothing without an event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// What its sides are for the event: left, then right, if that is a field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<SideValue>,
    /// What else there is to know, such as the list that holds the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What it is made of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Explained>,
}

/// Explains conditions of a set of rules.
pub struct Explainer<'r> {
    rules: &'r RuleSet,
    library: Library,
}

impl<'r> Explainer<'r> {
    /// An explainer of these rules, their macros and lists.
    pub fn new(rules: &'r RuleSet) -> Self {
        let lists = rules.lists().iter().map(|list| {
            let items = list.items.iter().map(|item| (item.clone(), Default::default())).collect();
            (list.name.clone(), List { items, ..List::default() })
        });
        let macros = rules.macros().iter().map(|known| {
            let (text, expr) = (known.condition.clone(), Some(known.ast.clone()));
            // Order was checked when they were loaded.
            let definition = Macro { text, expr, index: 0, visibility: usize::MAX, used: Default::default() };
            (known.name.clone(), definition)
        });
        let mut library = Library::new(rules.compat);
        library.lists = lists.collect();
        library.macros = macros.collect();
        Self { rules, library }
    }

    /// The condition of a rule; with an event also why it holds or does not.
    pub fn rule(&self, rule: &Rule, event: Option<&Event<'_>>) -> Explained {
        let mut explained = self.condition(&rule.ast, &rule.condition, event);
        if let (Part::And, Some(own)) = (explained.part, explained.children.len().checked_sub(rule.exceptions.len())) {
            for (child, name) in explained.children[own..].iter_mut().zip(&rule.exceptions) {
                child.note = Some(format!("exception {name}"));
            }
        }
        if event.is_some_and(|event| !rule.kinds.contains(event.kind())) {
            explained.note = Some("the rule is not tried on events of this type".to_owned());
        }
        explained
    }

    /// A condition written in `text`, such as that of a macro.
    pub fn condition(&self, expr: &Expr, text: &Text, event: Option<&Event<'_>>) -> Explained {
        self.library.refresh();
        let mut walk = Walk { explainer: self, event, stack: Vec::new(), nodes: 0, depth: 0 };
        walk.expr(expr, text, true)
    }
}

struct Walk<'w, 'e> {
    explainer: &'w Explainer<'w>,
    event: Option<&'w Event<'e>>,
    /// Macros that the walk is in.
    stack: Vec<&'w str>,
    nodes: usize,
    depth: usize,
}

fn node(part: Part, text: impl Into<String>) -> Explained {
    Explained { part, text: text.into(), verdict: None, values: Vec::new(), note: None, children: Vec::new() }
}

impl<'w> Walk<'w, '_> {
    /// `asked`: the engine would come here.
    fn expr(&mut self, expr: &'w Expr, text: &'w Text, asked: bool) -> Explained {
        self.nodes += 1;
        if self.nodes > MAX_NODES || self.depth >= MAX_DEPTH {
            return Explained { note: Some("too large: left out".to_owned()), ..node(Part::Check, "…") };
        }
        self.depth += 1;
        let mut explained = match expr {
            Expr::And(terms, _) => self.chain(Part::And, terms, text, asked),
            Expr::Or(terms, _) => self.chain(Part::Or, terms, text, asked),
            Expr::Not(term, _) => {
                let child = self.expr(term, text, asked);
                let verdict = child.verdict.map(|verdict| match verdict {
                    Verdict::True => Verdict::False,
                    Verdict::False => Verdict::True,
                    Verdict::NotLookedAt => Verdict::NotLookedAt,
                });
                Explained { verdict, children: vec![child], ..node(Part::Not, "not") }
            }
            Expr::Macro(name, _) => self.unfold(name, asked),
            Expr::Check(check) => self.check(check, expr, text, asked),
        };
        self.depth -= 1;
        if self.event.is_some() && !asked {
            explained.verdict = Some(Verdict::NotLookedAt);
        }
        explained
    }

    fn chain(&mut self, part: Part, terms: &'w [Expr], text: &'w Text, asked: bool) -> Explained {
        // The verdict of one term that settles the matter.
        let (word, settling) = match part {
            Part::And => ("and", Verdict::False),
            _ => ("or", Verdict::True),
        };
        let (mut children, mut settled) = (Vec::with_capacity(terms.len()), false);
        for term in terms {
            let child = self.expr(term, text, asked && !settled);
            settled |= child.verdict == Some(settling);
            children.push(child);
        }
        let verdict = self.event.map(|_| match (settling, settled) {
            (settling, true) => settling,
            (Verdict::False, false) => Verdict::True,
            _ => Verdict::False,
        });
        Explained { verdict, children, ..node(part, word) }
    }

    fn unfold(&mut self, name: &'w str, asked: bool) -> Explained {
        let unfolded = node(Part::Macro, name);
        if self.stack.contains(&name) {
            return Explained { note: Some("leads back to itself".to_owned()), ..unfolded };
        }
        let Some(known) = self.explainer.rules.macro_named(name) else {
            return Explained { note: Some("there is no such macro".to_owned()), ..unfolded };
        };
        self.stack.push(name);
        let child = self.expr(&known.ast, &known.condition, asked);
        self.stack.pop();
        Explained { verdict: child.verdict, children: vec![child], ..unfolded }
    }

    fn check(&mut self, check: &'w Check, expr: &'w Expr, text: &'w Text, asked: bool) -> Explained {
        let explained = node(Part::Check, self.explainer.abbreviated(check));
        if self.event.is_some() && !asked {
            return explained;
        }
        let mut compiler = Compiler::new(&self.explainer.library, text);
        let compiled = compiler.expr(expr);
        let broken = compiler.problems.into_iter().find(|problem| problem.severity == Severity::Error);
        let lacking = || unsupplied(check).map(|field| format!("nothing supplies {field} yet: it is always null"));
        let note = broken.map(|problem| problem.message).or_else(lacking);
        let Some(event) = self.event else { return Explained { note, ..explained } };
        let verdict = if compiled.holds(event) { Verdict::True } else { Verdict::False };
        let mut values = vec![value(&check.left, text, event)];
        if let Right::Value(operand) | Right::Call(operand) = &check.right {
            values.push(value(operand, text, event));
        }
        let is_null = values.iter().any(|side| side.value == Shown::Null);
        let note = note.or_else(|| match verdict {
            Verdict::True => self.explainer.found_in(check, &values[0].value),
            _ if is_null => Some("a comparison with null never holds".to_owned()),
            _ => None,
        });
        Explained { verdict: Some(verdict), values, note, ..explained }
    }
}

impl Explainer<'_> {
    /// A comparison as written, but with what lists hold counted.
    fn abbreviated(&self, check: &Check) -> String {
        let words = match &check.right {
            Right::List(words, _) => words.as_slice(),
            Right::Name(word) => std::slice::from_ref(word),
            _ => return check.to_string(),
        };
        let mut text = format!("{} {}", check.left, check.op.name());
        // A string's write cannot fail.
        if let Some(modifier) = check.modifier {
            let _ = write!(text, " {}", modifier.name());
        }
        text.push_str(" (");
        for (i, word) in words.iter().enumerate() {
            if i > 0 {
                text.push_str(", ");
            }
            match mention::list(word, self.rules) {
                Some(list) => {
                    let _ = write!(text, "{word}: {}", counted(list.items.len()));
                }
                None if i >= LISTED && words.len() > LISTED + 1 => {
                    let _ = write!(text, "…{} in all", counted(words.len()));
                    break;
                }
                None => {
                    let _ = write!(text, "{word}");
                }
            }
        }
        text.push(')');
        text
    }

    /// Which list of several holds the value.
    fn found_in(&self, check: &Check, value: &Shown) -> Option<String> {
        let (Op::In, None, Right::List(words, _), Shown::Text(value)) = (check.op, check.modifier, &check.right, value)
        else {
            return None;
        };
        let list = words.iter().filter_map(|word| mention::list(word, self.rules));
        let mut holding = list.filter(|list| list.items.iter().any(|item| **item == *value.as_bytes()));
        holding.next().filter(|_| words.len() > 1).map(|list| format!("it is in {}", list.name))
    }
}

fn counted(values: usize) -> String {
    format!("{values} value{}", if values == 1 { "" } else { "s" })
}

/// What a side is for this event.
fn value(operand: &Operand, text: &Text, event: &Event<'_>) -> SideValue {
    let mut operands = Operands { text, code: code::CONDITION, problems: Vec::new() };
    let value = operands.side(operand).map_or(Shown::Null, |side| show(&side.extract, side.ty, event));
    SideValue { name: operand.to_string(), value }
}

/// A field of the comparison that is always null.
fn unsupplied(check: &Check) -> Option<&str> {
    let mut fields = mention::sides(check).flat_map(mention::fields).filter_map(|operand| match operand {
        Operand::Field { name, arg, .. } => Some((name.as_str(), arg.as_deref())),
        Operand::Call { .. } => None,
    });
    let lacking = fields.find(|(name, arg)| FieldRef::resolve(name, *arg).is_ok_and(|field| field.field.get.is_none()));
    lacking.map(|(name, _)| name)
}

#[cfg(test)]
mod tests;
