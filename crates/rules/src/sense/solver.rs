//! Finds contradictions: first those between literals of one operand, then those of all alternatives.

use std::collections::BTreeSet;

use super::{Form, Formula, Literal, Reason, Sense, Test};
use crate::ast::Op;

/// How many alternatives are tried within each other.
const DEPTH: usize = 1;

/// What a formula amounts to.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// It may be true and may be false, as far as one can see.
    Open,
    /// It is never true.
    Never(Option<Reason>),
    /// It is true of every event.
    Always,
}

/// Looks for contradictions within a bound on its work.
pub(crate) struct Solver<'s, 'l> {
    sense: &'s Sense<'l>,
    steps: usize,
    /// The first two literals that were found to contradict each other.
    conflict: Option<(Literal, Literal)>,
}

impl<'s, 'l> Solver<'s, 'l> {
    /// A solver that takes at most about so many steps.
    pub fn new(sense: &'s Sense<'l>, steps: usize) -> Self {
        Self { sense, steps, conflict: None }
    }

    /// How many steps are left.
    pub fn left(&self) -> usize {
        self.steps
    }

    /// What a formula, with its negation, amounts to.
    pub fn verdict(&mut self, formula: &Formula, negation: Option<&Form>) -> Verdict {
        if self.contradict(&[&formula.form]) {
            let reason = match self.conflict.take() {
                Some((a, b)) if matches!(formula.form, Form::And(_) | Form::Atom(_)) => Some(self.reason(&a, &b)),
                _ => formula.never.clone(),
            };
            return Verdict::Never(reason);
        }
        match negation {
            Some(negation) if self.contradict(&[negation]) => Verdict::Always,
            _ => Verdict::Open,
        }
    }

    fn reason(&self, a: &Literal, b: &Literal) -> Reason {
        let shown = |literal: &Literal| {
            let atom = self.sense.atoms.get(literal.atom as usize);
            let not = if literal.positive { "" } else { "not " };
            format!("`{not}{}`", atom.map_or("", |atom| atom.shown.as_str()))
        };
        let message = format!("{} and {} contradict each other", shown(a), shown(b));
        Reason { message, place: b.place.clone() }
    }

    /// Whether these forms cannot all be true.
    pub fn contradict(&mut self, forms: &[&Form]) -> bool {
        let (mut facts, mut choices) = (Vec::new(), Vec::new());
        let clash = forms.iter().any(|form| self.assume(form, &mut facts, &mut choices));
        clash || self.search(&mut facts, &choices, DEPTH)
    }

    /// Adds what `form` says for sure to the facts; true if that contradicts them. Its alternatives go to `choices`.
    fn assume<'f>(&mut self, form: &'f Form, facts: &mut Vec<&'f Literal>, choices: &mut Vec<&'f [Form]>) -> bool {
        match form {
            Form::Const(value) => !value,
            Form::Atom(literal) => {
                let clash = self.clashes(literal, facts);
                facts.push(literal);
                clash
            }
            Form::And(terms) => {
                // Facts first: they decide most.
                let (atoms, others): (Vec<_>, Vec<_>) = terms.iter().partition(|term| matches!(term, Form::Atom(_)));
                atoms.into_iter().chain(others).any(|term| self.assume(term, facts, choices))
            }
            Form::Or(terms) => {
                choices.push(terms);
                false
            }
        }
    }

    fn search<'f>(&mut self, facts: &mut Vec<&'f Literal>, choices: &[&'f [Form]], depth: usize) -> bool {
        for (i, choice) in choices.iter().enumerate() {
            let none = choice.iter().all(|alternative| {
                if self.steps == 0 {
                    return false;
                }
                let known = facts.len();
                let mut more = Vec::new();
                let mut clash = self.assume(alternative, facts, &mut more);
                if !clash && depth > 0 {
                    more.extend(choices.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, choice)| *choice));
                    clash = self.search(facts, &more, depth - 1);
                }
                facts.truncate(known);
                clash
            });
            if none {
                return true;
            }
        }
        false
    }

    /// Whether a literal contradicts the facts about its operand.
    fn clashes(&mut self, new: &Literal, facts: &[&Literal]) -> bool {
        self.steps = self.steps.saturating_sub(1 + facts.len() / 8);
        let Some(atom) = self.sense.atoms.get(new.atom as usize) else { return false };
        let Some(info) = self.sense.operands.get(atom.operand as usize) else { return false };
        let mut group: Vec<(&Test, bool)> = vec![(&atom.test, new.positive)];
        let mut last = None;
        for fact in facts {
            let Some(other) = self.sense.atoms.get(fact.atom as usize) else { continue };
            if other.operand != atom.operand {
                continue;
            }
            if fact.atom == new.atom && fact.positive != new.positive {
                self.conflict.get_or_insert(((*fact).clone(), new.clone()));
                return true;
            }
            group.push((&other.test, fact.positive));
            last = Some(*fact);
        }
        let Some(last) = last else { return false };
        self.steps = self.steps.saturating_sub(group.len());
        let clash = info.single && impossible(&group);
        if clash {
            self.conflict.get_or_insert((last.clone(), new.clone()));
        }
        clash
    }
}

/// Whether no single value fits all of this.
fn impossible(group: &[(&Test, bool)]) -> bool {
    let positive = || group.iter().filter(|(_, positive)| *positive).map(|(test, _)| *test);
    if positive().next().is_none() {
        // Null fits.
        return false;
    }
    if group.iter().any(|(test, positive)| !positive && **test == Test::Exists) {
        return true;
    }
    let sets = || positive().filter_map(|test| if let Test::Values(values) = test { Some(values) } else { None });
    if let Some(smallest) = sets().min_by_key(|values| values.len()) {
        let fits =
            |value: &Vec<u8>| group.iter().all(|(test, positive)| holds(test, value).is_none_or(|is| is == *positive));
        return !smallest.iter().any(fits);
    }
    let (mut low, mut high) = (i128::MIN, i128::MAX);
    let (mut prefix, mut suffix): (&[u8], &[u8]) = (b"", b"");
    for test in positive() {
        match test {
            Test::Order(Op::Lt, number) => high = high.min(number.saturating_sub(1)),
            Test::Order(Op::Le, number) => high = high.min(*number),
            Test::Order(Op::Gt, number) => low = low.max(number.saturating_add(1)),
            Test::Order(_, number) => low = low.max(*number),
            Test::Prefix(text) => {
                let (short, long) =
                    if text.len() < prefix.len() { (text.as_slice(), prefix) } else { (prefix, text.as_slice()) };
                if !long.starts_with(short) {
                    return true;
                }
                prefix = long;
            }
            Test::Suffix(text) => {
                let (short, long) =
                    if text.len() < suffix.len() { (text.as_slice(), suffix) } else { (suffix, text.as_slice()) };
                if !long.ends_with(short) {
                    return true;
                }
                suffix = long;
            }
            _ => {}
        }
    }
    let refused = |test: &Test| match test {
        Test::Prefix(text) => prefix.starts_with(text),
        Test::Suffix(text) => suffix.ends_with(text),
        Test::Contains(text) => {
            let part = |whole: &[u8]| memchr::memmem::find(whole, text).is_some();
            part(prefix) || part(suffix) || positive().any(|test| matches!(test, Test::Contains(whole) if part(whole)))
        }
        // Everything above the lower bound, or below the upper one, is refused.
        Test::Order(Op::Gt, number) => low > *number,
        Test::Order(Op::Ge, number) => low >= *number,
        Test::Order(Op::Lt, number) => high < *number,
        Test::Order(Op::Le, number) => high <= *number,
        _ => false,
    };
    low > high || group.iter().any(|(test, positive)| !positive && refused(test))
}

/// Whether a test holds for a value; `None` if it is not known.
fn holds(test: &Test, value: &[u8]) -> Option<bool> {
    Some(match test {
        Test::Exists => true,
        Test::Values(values) => values.contains(value),
        Test::Differs(values) => !values.contains(value),
        Test::Order(op, bound) => {
            let number = super::number(value)?;
            match op {
                Op::Lt => number < *bound,
                Op::Le => number <= *bound,
                Op::Gt => number > *bound,
                _ => number >= *bound,
            }
        }
        Test::Prefix(text) => value.starts_with(text),
        Test::Suffix(text) => value.ends_with(text),
        Test::Contains(text) => memchr::memmem::find(value, text).is_some(),
        Test::Other(_) => return None,
    })
}

/// What a test amounts to for a number that is at least 1.
pub(super) fn always(test: &Test) -> Option<bool> {
    let below =
        |values: &BTreeSet<Vec<u8>>| values.iter().all(|value| super::number(value).is_some_and(|number| number < 1));
    match test {
        Test::Values(values) if below(values) => Some(false),
        Test::Differs(values) if below(values) => Some(true),
        Test::Order(Op::Lt, number) if *number <= 1 => Some(false),
        Test::Order(Op::Le, number) if *number < 1 => Some(false),
        Test::Order(Op::Ge, number) if *number <= 1 => Some(true),
        Test::Order(Op::Gt, number) if *number < 1 => Some(true),
        _ => None,
    }
}
