//! In which ways to watch a rule can find something: by the events that it looks at, and by the fields without which it
//! never holds.

use tw_model::{EventKind, KindSet, Mode};

use crate::ast::{Check, Expr, Op, Operand, Right};
use crate::mention::{fields, sides};
use crate::ruleset::{Rule, RuleSet};

/// Macros within macros that are followed; the loader allows no circle, and nobody nests so deep.
const MAX_DEPTH: usize = 64;

/// What a rule can find in a mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Everything that it asks for.
    Whole,
    /// Not what it asks of these kinds of events.
    Part(Vec<EventKind>),
    /// Nothing.
    Nothing(Lack),
}

/// Why a rule can find nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// None of its kinds of events is delivered.
    Events,
    /// It never holds without this field, which has no source.
    Field(String),
}

impl std::fmt::Display for Lack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Events => f.write_str("no such events"),
            Self::Field(name) => write!(f, "no source for {name}"),
        }
    }
}

impl Reach {
    /// Whether it can find anything.
    pub fn is_any(&self) -> bool {
        !matches!(self, Self::Nothing(_))
    }

    /// For programs and tables: `yes`, `part`, `no`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Whole => "yes",
            Self::Part(_) => "part",
            Self::Nothing(_) => "no",
        }
    }
}

/// What `rule`, one of `rules`, can find in `mode`.
pub fn reach(rule: &Rule, rules: &RuleSet, mode: Mode) -> Reach {
    let delivered = mode.kinds();
    if rule.kinds.and(delivered) == KindSet::NONE && rule.kinds != KindSet::NONE {
        return Reach::Nothing(Lack::Events);
    }
    let mut asked = Asked { rules, mode, lack: None };
    if !asked.may(&rule.ast, true, 0) {
        return Reach::Nothing(asked.lack.map_or(Lack::Events, Lack::Field));
    }
    // What is told as something else that the rule looks at is not missing.
    let told = rule.kinds.and(delivered).iter().fold(delivered, |told, kind| told.or(mode.told_as(kind)));
    let missing: Vec<EventKind> = rule.kinds.and(told.not()).iter().collect();
    if missing.is_empty() { Reach::Whole } else { Reach::Part(missing) }
}

/// The enabled rules that can find nothing in `mode`, with the reason.
pub fn mute(rules: &RuleSet, mode: Mode) -> Vec<(&Rule, Lack)> {
    let enabled = rules.rules().iter().filter(|rule| rule.enabled);
    enabled
        .filter_map(|rule| match reach(rule, rules, mode) {
            Reach::Nothing(lack) => Some((rule, lack)),
            _ => None,
        })
        .collect()
}

struct Asked<'r> {
    rules: &'r RuleSet,
    mode: Mode,
    /// The last field without which something cannot hold.
    lack: Option<String>,
}

impl Asked<'_> {
    /// Whether the condition can come out as `wanted`, as far as fields without source decide.
    fn may(&mut self, expr: &Expr, wanted: bool, depth: usize) -> bool {
        match (expr, wanted) {
            (Expr::And(terms, _), true) | (Expr::Or(terms, _), false) => {
                terms.iter().all(|term| self.may(term, wanted, depth))
            }
            (Expr::And(terms, _), false) | (Expr::Or(terms, _), true) => {
                terms.iter().any(|term| self.may(term, wanted, depth))
            }
            (Expr::Not(term, _), _) => self.may(term, !wanted, depth),
            (Expr::Macro(name, _), _) => match self.rules.macro_named(name) {
                Some(known) if depth < MAX_DEPTH => self.may(&known.ast, wanted, depth + 1),
                _ => true,
            },
            (Expr::Check(check), _) => self.check(check, wanted),
        }
    }

    fn check(&mut self, check: &Check, wanted: bool) -> bool {
        let lacking = sides(check).flat_map(fields).find_map(|operand| match operand {
            Operand::Field { name, .. } if self.mode.lacks_field(name) => Some(name.clone()),
            _ => None,
        });
        let Some(name) = lacking else { return true };
        // Such a field is false or absent: that it is true, or is anything, is what never comes.
        let never = match (&check.right, check.op) {
            (Right::Word(word), Op::Eq) => word.bytes != b"false",
            (Right::Word(word), Op::Ne) => word.bytes == b"false",
            _ => true,
        };
        if wanted && never {
            self.lack = Some(name);
        }
        wanted != never
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::load;

    fn rule(condition: &str) -> String {
        format!("- rule: R\n  desc: d\n  priority: INFO\n  output: o\n  condition: {condition}\n")
    }

    #[test]
    fn a_rule_reaches_as_far_as_its_events_and_the_fields_it_cannot_do_without() {
        let upper = || Reach::Nothing(Lack::Field("proc.is_exe_upper_layer".into()));
        let written = || Reach::Nothing(Lack::Field("fd.is_upper_layer".into()));
        let made = || Reach::Nothing(Lack::Field("evt.is_open_create".into()));
        let writes = || Reach::Part(vec![EventKind::Write]);
        for (condition, wrap, fanotify, connector) in [
            ("evt.type = execve and proc.name = sh", Reach::Whole, Reach::Whole, Reach::Whole),
            ("evt.type in (execve, execveat) and proc.name = sh", Reach::Whole, Reach::Whole, Reach::Whole),
            ("evt.type = openat", Reach::Whole, Reach::Whole, Reach::Nothing(Lack::Events)),
            ("evt.type in (open, openat, openat2)", Reach::Whole, Reach::Whole, Reach::Nothing(Lack::Events)),
            ("evt.type = openat and fd.is_upper_layer = true", written(), written(), Reach::Nothing(Lack::Events)),
            ("evt.type = openat and evt.is_open_create = true", Reach::Whole, made(), Reach::Nothing(Lack::Events)),
            (
                "evt.type = write",
                Reach::Nothing(Lack::Events),
                Reach::Nothing(Lack::Events),
                Reach::Nothing(Lack::Events),
            ),
            ("evt.type in (execve, write)", writes(), writes(), writes()),
            ("evt.type = execve and proc.is_exe_upper_layer = true", upper(), upper(), upper()),
            ("evt.type = execve and not proc.is_exe_upper_layer = true", Reach::Whole, Reach::Whole, Reach::Whole),
            (
                "evt.type = execve and (proc.is_exe_upper_layer = true or proc.name = x)",
                Reach::Whole,
                Reach::Whole,
                Reach::Whole,
            ),
            ("evt.type = execve and proc.is_exe_upper_layer = false", Reach::Whole, Reach::Whole, Reach::Whole),
        ] {
            let (rules, _) = load(&rule(condition));
            let of = |mode| reach(&rules.rules()[0], &rules, mode);
            assert_eq!(of(Mode::Wrap), wrap, "{condition}");
            assert_eq!(of(Mode::Fanotify), fanotify, "{condition}");
            assert_eq!(of(Mode::Connector), connector, "{condition}");
            assert_eq!(of(Mode::Ebpf), Reach::Whole, "{condition}");
        }
    }

    #[test]
    fn macros_are_followed_and_mute_rules_are_told_with_the_reason() {
        let text = "- macro: drift\n  condition: proc.is_exe_upper_layer = true\n".to_owned()
            + &rule("evt.type = execve and drift");
        let (rules, _) = load(&text);
        let mute = mute(&rules, Mode::Wrap);
        assert_eq!(mute.len(), 1);
        assert_eq!(mute[0].1.to_string(), "no source for proc.is_exe_upper_layer");
        assert!(super::mute(&rules, Mode::Ebpf).is_empty());
    }
}
