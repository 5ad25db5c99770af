//! Comparisons: which operators a type allows, and what each becomes.

use std::sync::Arc;

use tw_model::event::is_known_type;
use tw_model::field::{FieldFlag, Multi, nearest};
use tw_model::{EventKind, FieldType, KindSet};

use super::Compiler;
use super::literal::Literal;
use super::operand::{Side, measured_by};
use crate::ast::{Check, Modifier, Op, Operand, Right};
use crate::diagnostic::{Problem, code};
use crate::extract::Extract;
use crate::loader::Compat;
use crate::node::{Negation, Node, Test};
use crate::predicate::Pred;

/// Whether a type allows an operator.
fn is_allowed(op: Op, ty: FieldType) -> bool {
    use Op::{BContains, BStartsWith, Contains, EndsWith, Eq, Exists, Ge, Gt, In, Intersects, Le, Lt, Ne, StartsWith};
    match ty {
        FieldType::Text | FieldType::Path => !matches!(op, BContains | BStartsWith),
        FieldType::Bytes => matches!(
            op,
            Eq | Ne | Contains | StartsWith | EndsWith | BContains | BStartsWith | In | Intersects | Exists
        ),
        FieldType::TextList => matches!(op, In | Intersects | Exists),
        FieldType::Bool | FieldType::Ip | FieldType::Net => matches!(op, Eq | Ne | In | Intersects | Exists),
        FieldType::Int | FieldType::Uint | FieldType::Port | FieldType::Time | FieldType::Duration => {
            matches!(op, Eq | Ne | Lt | Le | Gt | Ge | In | Intersects | Exists)
        }
    }
}

/// Types that can be compared with each other.
fn is_comparable(left: FieldType, right: FieldType) -> bool {
    left == right || (left.is_numeric() && right.is_numeric()) || (left.is_text() && right.is_text())
}

impl Compiler<'_> {
    /// Compiles a comparison.
    pub(super) fn check(&mut self, check: &Check) -> Node {
        // A wrong part has left a problem, so that the rule is not used: the constant does not matter.
        self.try_check(check).unwrap_or(Node::Const(false))
    }

    fn try_check(&mut self, check: &Check) -> Option<Node> {
        let left = self.side(&check.left)?;
        if !is_allowed(check.op, left.ty) {
            let allowed: Vec<&str> =
                Op::ALL.iter().filter(|op| is_allowed(**op, left.ty)).map(|op| op.name()).collect();
            let message = format!(
                "`{}` cannot be used on `{}`, which is of type {}",
                check.op.name(),
                check.left,
                left.ty.name()
            );
            let problem = Problem::error(code::CONDITION, self.place(check.op_span), message);
            self.problems.push(problem.help(format!("it allows {}", allowed.join(" "))));
            return None;
        }
        let (negation, op) = match (check.op, left.multi) {
            (Op::Ne, Multi::EitherEnd) => (Negation::All, Op::Eq),
            (Op::Ne, _) => (Negation::Each, Op::Eq),
            (op, _) => (Negation::None, op),
        };
        let node = match &check.right {
            Right::None if left.is_event_type() => Node::Const(true),
            Right::None => test(&left, Pred::Exists, negation),
            Right::Value(operand) | Right::Call(operand) => {
                let (pred, has_source) = self.other(check, &left, op, operand)?;
                if has_source { test(&left, pred, negation) } else { Node::Const(false) }
            }
            right => self.with_literals(check, &left, op, negation, right)?,
        };
        if !left.has_source {
            return Some(Node::Const(false));
        }
        // Null everywhere else: said here, a rule need not say it again to be tried on measurements only.
        let measured = left.field_name().map_or(KindSet::NONE, measured_by);
        let exact = measured != KindSet::NONE && check.modifier.is_none();
        Some(if exact { Node::and(vec![Node::Kind(measured), node]) } else { node })
    }

    fn with_literals(&mut self, check: &Check, left: &Side, op: Op, negation: Negation, right: &Right) -> Option<Node> {
        let mut literals = self.literals(right)?;
        if self.library.compat == Compat::Strict && left.field_name() == Some("fd.net") && op == Op::In {
            // Falco looks at the first network only.
            literals.truncate(1);
        }
        if left.ty.is_text() {
            self.warn_of_lookalikes(&literals);
            if let Extract::Field(field) = &left.extract {
                self.warn_of_numbers(field, &literals);
            }
        }
        if left.is_event_type()
            && let Some(node) = self.event_type(check, op, negation, &literals)?
        {
            return Some(node);
        }
        let pred = match check.modifier {
            None => self.predicate(op, left.ty, &literals, check.span)?,
            // Membership in a set, and its opposite, need no look at each value.
            Some(Modifier::AnyOf) if op == Op::Eq && negation == Negation::None => {
                self.predicate(Op::In, left.ty, &literals, check.span)?
            }
            Some(Modifier::AllOf) if negation != Negation::None && !literals.is_empty() => {
                let pred = self.predicate(Op::In, left.ty, &literals, check.span)?;
                return Some(test(left, pred, negation));
            }
            Some(modifier) => {
                let preds: Vec<Option<Pred>> = literals
                    .iter()
                    .map(|literal| self.predicate(op, left.ty, std::slice::from_ref(literal), check.span))
                    .collect();
                let preds: Vec<Pred> = preds.into_iter().collect::<Option<_>>()?;
                let preds = preds.into_iter().map(Arc::new).collect();
                let pred = Pred::Many(modifier, preds, negation != Negation::None);
                return Some(test(left, pred, Negation::None));
            }
        };
        if left.field_name() == Some("evt.num")
            && let Pred::Number(order, number) = pred
            && let Some(value) = always(order, number)
        {
            return Some(Node::Const(value != (negation != Negation::None)));
        }
        Some(test(left, pred, negation))
    }

    /// A comparison with another field or a transformer.
    fn other(&mut self, check: &Check, left: &Side, op: Op, operand: &Operand) -> Option<(Pred, bool)> {
        let right = self.side(operand)?;
        let mut refuse = |message: String| {
            let place = self.text.place(operand.span());
            self.problems.push(Problem::error(code::CONDITION, place, message));
            None
        };
        if check.modifier.is_some() || matches!(op, Op::Regex | Op::PMatch) {
            return refuse(format!("`{}` takes only literals here", check.modifier.map_or(op.name(), Modifier::name)));
        }
        if left.is_event_type() || right.is_event_type() {
            return refuse("the event type can be compared with literals only".into());
        }
        let refused = right.multi != Multi::Single || right.is(FieldFlag::NoRhs);
        if left.ty == FieldType::Net || right.ty == FieldType::Net || refused {
            return refuse(format!("`{}` cannot be compared with `{operand}`", check.left));
        }
        let list = matches!(op, Op::In | Op::Intersects);
        let right_ty = if list && right.ty == FieldType::TextList { FieldType::Text } else { right.ty };
        let left_ty = if left.ty == FieldType::TextList { FieldType::Text } else { left.ty };
        if !is_comparable(left_ty, right_ty) {
            let (left_name, right_name) = (left.ty.name(), right.ty.name());
            return refuse(format!("a value of type {left_name} cannot be compared with one of type {right_name}"));
        }
        Some((Pred::Other(op, Box::new(right.extract)), right.has_source))
    }

    /// Comparisons of the event type become sets of kinds, where that is possible.
    fn event_type(&mut self, check: &Check, op: Op, negation: Negation, literals: &[Literal]) -> Option<Option<Node>> {
        let set = match (op, check.modifier) {
            (Op::Eq, None) | (Op::In | Op::Intersects, _) => true,
            (Op::Eq, Some(Modifier::AnyOf)) => negation == Negation::None,
            (Op::Eq, Some(Modifier::AllOf)) => negation != Negation::None && !literals.is_empty(),
            _ => false,
        };
        if !set && op != Op::Eq {
            return Some(None);
        }
        let mut kinds = KindSet::NONE;
        let mut known = true;
        for literal in literals {
            let name = String::from_utf8_lossy(&literal.bytes);
            match EventKind::from_name(&name) {
                Some(kind) => kinds = kinds.or(KindSet::one(kind)),
                None if is_known_type(&name) => {
                    let message = format!("nothing supplies events of the type `{name}` yet");
                    self.problems.push(Problem::warning(code::NO_SOURCE, literal.place.clone(), message));
                }
                None => {
                    known = false;
                    let near = nearest(&name, tw_model::event::known_types());
                    let message = format!("there is no event type `{name}`");
                    let problem = Problem::error(code::CONDITION, literal.place.clone(), message).near(&near);
                    self.problems.push(Problem { unknown: true, ..problem });
                }
            }
        }
        if !known {
            return None;
        }
        self.named = self.named.or(kinds);
        let node = Node::Kind(kinds);
        Some(set.then(|| if negation == Negation::None { node } else { node.negate() }))
    }
}

fn test(left: &Side, pred: Pred, negation: Negation) -> Node {
    Node::Test(Box::new(Test { left: left.extract.clone(), pred: Arc::new(pred), negation }))
}

/// Whether a comparison of the event's number, which is at least 1, has always the same result.
fn always(op: Op, number: i128) -> Option<bool> {
    match op {
        Op::Eq if number < 1 => Some(false),
        Op::Lt if number <= 1 => Some(false),
        Op::Le if number < 1 => Some(false),
        Op::Ge if number <= 1 => Some(true),
        Op::Gt if number < 1 => Some(true),
        _ => None,
    }
}
