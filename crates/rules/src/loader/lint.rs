//! Warnings about rules that are in order and make no sense all the same.

use std::collections::HashMap;

use tw_model::KindSet;

use crate::compile::Library;
use crate::diagnostic::{Problem, code};
use crate::ruleset::{Matching, Rule};
use crate::sense::{Form, Formula, Reason, Sense, Solver, Verdict};
use crate::text::Place;

/// Work per rule.
const RULE_STEPS: usize = 20_000;
/// Work per pair of rules.
const PAIR_STEPS: usize = 2_000;
/// Work for all pairs.
const ALL_PAIRS_STEPS: usize = 3_000_000;
/// Atoms of all rules together that are kept for the pairs.
const MAX_KEPT: usize = 200_000;

/// A rule that may be covered by an earlier one or cover a later one.
struct Kept<'r> {
    rule: &'r Rule,
    place: &'r Place,
    formula: Formula,
    negation: Option<Form>,
}

/// Looks at all enabled rules; `places` are those of their names.
pub(super) fn warn(
    rules: &[Rule],
    places: &[Place],
    library: &Library,
    matching: Matching,
    problems: &mut Vec<Problem>,
) {
    let mut sense = Sense::new(library);
    let mut kept = Vec::new();
    let mut size = 0;
    for (rule, place) in rules.iter().zip(places).filter(|(rule, _)| rule.enabled) {
        let Some(formula) = sense.formula(&rule.ast, &rule.condition) else { continue };
        let negation = sense.negation(&rule.ast, &rule.condition);
        match Solver::new(&sense, RULE_STEPS).verdict(&formula, negation.as_ref()) {
            Verdict::Never(reason) => problems.push(never(rule, place, reason)),
            Verdict::Always if rule.kinds.or(KindSet::measurements()) == KindSet::ALL => {
                // One of the two warnings is enough.
                problems.retain(|problem| problem.code != code::NO_EVTTYPE || problem.place != *place);
                let message = format!("the rule `{}` matches every event", rule.name);
                let problem = Problem::warning(code::ALWAYS_MATCHES, place.clone(), message);
                problems.push(problem.help("begin its condition with `evt.type in (…)` and say what is out of order"));
            }
            _ if size + formula.size <= MAX_KEPT => {
                size += formula.size;
                kept.push(Kept { rule, place, formula, negation });
            }
            _ => {}
        }
    }
    match matching {
        Matching::All => warn_of_equal(&kept, problems),
        Matching::First => warn_of_covered(&sense, &kept, problems),
    }
}

fn never(rule: &Rule, place: &Place, reason: Option<Reason>) -> Problem {
    let (message, place) = match reason {
        Some(reason) => (format!("the rule `{}` can never match: {}", rule.name, reason.message), reason.place),
        None => {
            (format!("the rule `{}` can never match: each alternative contradicts itself", rule.name), place.clone())
        }
    };
    Problem::warning(code::NEVER_MATCHES, place, message).help("if that is meant so, set `enabled: false`")
}

fn shadowed(earlier: &Kept<'_>, later: &Kept<'_>, message: &str, help: &str) -> Problem {
    let earlier = format!("`{}` ({}:{})", earlier.rule.name, earlier.rule.file, earlier.rule.line);
    let message = format!("the rule `{}` {message} {earlier}", later.rule.name);
    Problem::warning(code::SHADOWED_RULE, later.place.clone(), message).help(help)
}

/// Where all rules speak, a wider rule in front of a narrower one is common; only the same twice is not.
fn warn_of_equal(kept: &[Kept<'_>], problems: &mut Vec<Problem>) {
    let mut seen: HashMap<String, &Kept<'_>> = HashMap::new();
    for later in kept {
        match seen.entry(later.formula.form.canon()) {
            std::collections::hash_map::Entry::Occupied(earlier) => {
                problems.push(shadowed(
                    earlier.get(),
                    later,
                    "has the same condition as the earlier rule",
                    "remove one of them",
                ));
            }
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(later);
            }
        }
    }
}

fn warn_of_covered(sense: &Sense<'_>, kept: &[Kept<'_>], problems: &mut Vec<Problem>) {
    let mut left = ALL_PAIRS_STEPS;
    for (i, later) in kept.iter().enumerate() {
        for earlier in kept.get(..i).unwrap_or_default() {
            if left == 0 {
                return;
            }
            if later.rule.kinds.and(earlier.rule.kinds) != later.rule.kinds {
                continue;
            }
            let Some(negation) = &earlier.negation else { continue };
            let steps = PAIR_STEPS.min(left);
            let mut solver = Solver::new(sense, steps);
            let covered = solver.contradict(&[negation, &later.formula.form]);
            left -= (steps - solver.left()).max(1).min(left);
            if covered {
                let help = "only the first match speaks: move this rule in front of it, or narrow the earlier one";
                problems.push(shadowed(
                    earlier,
                    later,
                    "never speaks: wherever it matches, so does the earlier rule",
                    help,
                ));
                break;
            }
        }
    }
}
