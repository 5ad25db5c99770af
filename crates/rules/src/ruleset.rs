//! The loaded rules, and which of them an event matches.

use tw_model::event::EVENTS;
use tw_model::finding::{Priority, Shown};
use tw_model::{Event, EventKind, KindSet};

use crate::ast::Expr;
use crate::loader::Compat;
use crate::node::Node;
use crate::output::Template;
use crate::text::Text;

/// How many rules may speak of one event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Matching {
    /// Every rule that matches.
    #[default]
    All,
    /// Only the first in the order of definition.
    First,
}

/// A rule.
#[derive(Debug)]
pub struct Rule {
    /// Name.
    pub name: String,
    /// What it finds and why that matters.
    pub desc: String,
    /// What to do about it; empty if the rule does not say.
    pub advice: String,
    /// How bad it is.
    pub priority: Priority,
    /// Tags, sorted.
    pub tags: Vec<String>,
    /// Source of events; always `syscall` today.
    pub source: String,
    /// Whether it is tried at all.
    pub enabled: bool,
    /// Kinds of events that it can match.
    pub kinds: KindSet,
    /// File of its definition.
    pub file: String,
    /// Line of its definition, from 1.
    pub line: usize,
    /// Its condition as written, with appended parts and exceptions.
    pub condition: Text,
    /// Its output as written.
    pub output: Text,
    /// Its condition parsed; macros and lists are still names, see [`RuleSet::macros`] and [`RuleSet::lists`].
    pub ast: Expr,
    /// Names of its exceptions that have values. Each is the opposite of one of the last terms of [`Rule::ast`], in this
    /// order.
    pub exceptions: Vec<String>,
    pub(crate) node: Node,
    pub(crate) template: Template,
}

impl Rule {
    /// Whether the event matches. Does not look at [`Rule::enabled`].
    pub fn matches(&self, event: &Event<'_>) -> bool {
        self.kinds.contains(event.kind()) && self.node.holds(event)
    }

    /// The message for an event, without time and priority. Control characters of values are still in it.
    pub fn message(&self, event: &Event<'_>) -> String {
        self.template.message(event)
    }

    /// The fields that the output names, each once, with their values.
    pub fn fields(&self, event: &Event<'_>) -> Vec<(String, Shown)> {
        self.template.fields(event)
    }
}

/// A macro as written.
#[derive(Debug)]
pub struct NamedMacro {
    /// Name.
    pub name: String,
    /// File of its definition.
    pub file: String,
    /// Line of its definition, from 1.
    pub line: usize,
    /// Its condition.
    pub condition: Text,
    /// The same parsed.
    pub ast: Expr,
}

/// A list with the lists in it put in.
#[derive(Debug)]
pub struct NamedList {
    /// Name.
    pub name: String,
    /// File of its definition.
    pub file: String,
    /// Line of its definition, from 1.
    pub line: usize,
    /// Names of the lists that stand in it.
    pub lists: Vec<String>,
    /// Values; bytes, as they are compared.
    pub items: Vec<Box<[u8]>>,
}

/// All rules that are in order.
#[derive(Debug, Default)]
pub struct RuleSet {
    rules: Vec<Rule>,
    macros: Vec<NamedMacro>,
    lists: Vec<NamedList>,
    matching: Matching,
    /// How the conditions were read.
    pub(crate) compat: Compat,
    /// For each kind of event the enabled rules that it may match, in the order of definition.
    by_kind: Vec<Box<[u32]>>,
}

impl RuleSet {
    pub(crate) fn new(rules: Vec<Rule>, mut macros: Vec<NamedMacro>, mut lists: Vec<NamedList>) -> Self {
        macros.sort_by(|a, b| a.name.cmp(&b.name));
        lists.sort_by(|a, b| a.name.cmp(&b.name));
        let mut set = Self { rules, macros, lists, ..Self::default() };
        set.index();
        set
    }

    /// The rules in the order of definition.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Number of rules.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rule of this name.
    pub fn get(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.name == name)
    }

    /// The macro of this name.
    pub fn macro_named(&self, name: &str) -> Option<&NamedMacro> {
        self.macros.binary_search_by(|known| known.name.as_str().cmp(name)).ok().map(|index| &self.macros[index])
    }

    /// The macros, sorted by name.
    pub fn macros(&self) -> &[NamedMacro] {
        &self.macros
    }

    /// The list of this name.
    pub fn list_named(&self, name: &str) -> Option<&NamedList> {
        self.lists.binary_search_by(|known| known.name.as_str().cmp(name)).ok().map(|index| &self.lists[index])
    }

    /// The lists, sorted by name.
    pub fn lists(&self) -> &[NamedList] {
        &self.lists
    }

    /// Says how many rules may speak of one event.
    pub fn set_matching(&mut self, matching: Matching) {
        self.matching = matching;
    }

    /// Enables the rules for which `is_enabled` is true and disables the others.
    pub fn enable(&mut self, mut is_enabled: impl FnMut(&Rule) -> bool) {
        for rule in &mut self.rules {
            rule.enabled = is_enabled(rule);
        }
        self.index();
    }

    /// Kinds of events that the enabled rules can match.
    pub fn kinds(&self) -> KindSet {
        let enabled = self.rules.iter().filter(|rule| rule.enabled);
        enabled.fold(KindSet::NONE, |kinds, rule| kinds.or(rule.kinds))
    }

    /// How many rules may speak of one event.
    pub fn matching(&self) -> Matching {
        self.matching
    }

    /// The enabled rules that an event of this kind may match, in the order of definition, by their places.
    pub(crate) fn candidates(&self, kind: EventKind) -> &[u32] {
        self.by_kind.get(kind as usize).map_or(&[], |candidates| candidates)
    }

    /// Calls `hit` for each enabled rule that the event matches, in the order of definition. Tries one after the other
    /// and remembers nothing; [`crate::Engine`] finds the same, faster.
    pub fn inspect(&self, event: &Event<'_>, hit: &mut dyn FnMut(&Rule)) {
        let Some(candidates) = self.by_kind.get(event.kind() as usize) else { return };
        for index in candidates {
            let Some(rule) = self.rules.get(*index as usize) else { continue };
            if rule.node.holds(event) {
                hit(rule);
                if self.matching == Matching::First {
                    return;
                }
            }
        }
    }

    /// The same as [`RuleSet::inspect`], and tells `cost` what each rule that was tried took: its place in
    /// [`RuleSet::rules`] and the difference of two readings of `now`. The caller brings the clock.
    pub fn inspect_measured(
        &self,
        event: &Event<'_>,
        now: &dyn Fn() -> u64,
        hit: &mut dyn FnMut(&Rule),
        cost: &mut dyn FnMut(usize, u64),
    ) {
        let Some(candidates) = self.by_kind.get(event.kind() as usize) else { return };
        let mut before = now();
        for index in candidates {
            let Some(rule) = self.rules.get(*index as usize) else { continue };
            let holds = rule.node.holds(event);
            let after = now();
            cost(*index as usize, after.saturating_sub(before));
            before = after;
            if holds {
                hit(rule);
                if self.matching == Matching::First {
                    return;
                }
                before = now();
            }
        }
    }

    fn index(&mut self) {
        let candidates = |kind| {
            let rules = (0_u32..).zip(&self.rules);
            rules.filter(|(_, rule)| rule.enabled && rule.kinds.contains(kind)).map(|(index, _)| index).collect()
        };
        self.by_kind = EVENTS.iter().map(|info| candidates(info.kind)).collect();
    }
}
