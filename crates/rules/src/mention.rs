//! What conditions name: macros, lists and fields, and who names them.

use std::collections::BTreeSet;

use crate::ast::{Argument, Check, Expr, Operand, Right, Word};
use crate::ruleset::{NamedList, Rule, RuleSet};

/// The names in a condition or an output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mentions {
    /// Macros.
    pub macros: BTreeSet<String>,
    /// Lists.
    pub lists: BTreeSet<String>,
    /// Fields, with what they have in brackets.
    pub fields: BTreeSet<String>,
}

impl Mentions {
    /// What a condition names itself, without what is in its macros and lists.
    pub fn of(expr: &Expr, rules: &RuleSet) -> Self {
        let mut mentions = Self::default();
        mentions.add(expr, rules);
        mentions
    }

    /// The same with everything in its macros and lists.
    pub fn of_all(expr: &Expr, rules: &RuleSet) -> Self {
        let mut mentions = Self::of(expr, rules);
        let mut left: Vec<String> = mentions.macros.iter().cloned().collect();
        let mut seen = BTreeSet::new();
        while let Some(name) = left.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            if let Some(known) = rules.macro_named(&name) {
                let inner = Self::of(&known.ast, rules);
                left.extend(inner.macros.iter().cloned());
                mentions.macros.extend(inner.macros);
                mentions.lists.extend(inner.lists);
                mentions.fields.extend(inner.fields);
            }
        }
        let mut left: Vec<String> = mentions.lists.iter().cloned().collect();
        while let Some(name) = left.pop() {
            for inner in rules.list_named(&name).iter().flat_map(|list| &list.lists) {
                if mentions.lists.insert(inner.clone()) {
                    left.push(inner.clone());
                }
            }
        }
        mentions
    }

    fn add(&mut self, expr: &Expr, rules: &RuleSet) {
        match expr {
            Expr::And(terms, _) | Expr::Or(terms, _) => terms.iter().for_each(|term| self.add(term, rules)),
            Expr::Not(term, _) => self.add(term, rules),
            Expr::Macro(name, _) => {
                self.macros.insert(name.clone());
            }
            Expr::Check(check) => {
                self.fields.extend(sides(check).flat_map(fields).map(ToString::to_string));
                let words = match &check.right {
                    Right::List(words, _) => words.as_slice(),
                    Right::Name(word) | Right::Word(word) => std::slice::from_ref(word),
                    _ => &[],
                };
                self.lists.extend(words.iter().filter_map(|word| list(word, rules)).map(|list| list.name.clone()));
            }
        }
    }
}

/// Who names a macro or list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    /// Rules, in the order of definition.
    pub rules: Vec<String>,
    /// Macros, sorted.
    pub macros: Vec<String>,
    /// Lists, sorted.
    pub lists: Vec<String>,
}

impl Users {
    /// Those that name the macro.
    pub fn of_macro(name: &str, rules: &RuleSet) -> Self {
        Self::find(rules, |mentions| mentions.macros.contains(name))
    }

    /// Those that name the list.
    pub fn of_list(name: &str, rules: &RuleSet) -> Self {
        let lists = rules.lists().iter().filter(|list| list.lists.iter().any(|inner| inner == name));
        let lists = lists.map(|list| list.name.clone()).collect();
        Self { lists, ..Self::find(rules, |mentions| mentions.lists.contains(name)) }
    }

    fn find(rules: &RuleSet, names: impl Fn(&Mentions) -> bool) -> Self {
        let by_rule = |rule: &&Rule| names(&Mentions::of(&rule.ast, rules));
        let macros = rules.macros().iter().filter(|known| names(&Mentions::of(&known.ast, rules)));
        Self {
            rules: rules.rules().iter().filter(by_rule).map(|rule| rule.name.clone()).collect(),
            macros: macros.map(|known| known.name.clone()).collect(),
            lists: Vec::new(),
        }
    }
}

/// The list that a word stands for.
pub(crate) fn list<'r>(word: &Word, rules: &'r RuleSet) -> Option<&'r NamedList> {
    if word.quoted { None } else { rules.list_named(std::str::from_utf8(&word.bytes).ok()?) }
}

/// The sides of a comparison that are not literals.
pub(crate) fn sides(check: &Check) -> impl Iterator<Item = &Operand> {
    let right = match &check.right {
        Right::Value(operand) | Right::Call(operand) => Some(operand),
        _ => None,
    };
    std::iter::once(&check.left).chain(right)
}

/// The fields in a field or transformer.
pub(crate) fn fields(operand: &Operand) -> Vec<&Operand> {
    fn add<'o>(operand: &'o Operand, found: &mut Vec<&'o Operand>) {
        match operand {
            Operand::Field { .. } => found.push(operand),
            Operand::Call { args, .. } => args.iter().for_each(|item| argument(item, found)),
        }
    }
    fn argument<'o>(item: &'o Argument, found: &mut Vec<&'o Operand>) {
        match item {
            Argument::Operand(operand) => add(operand, found),
            Argument::List(items, _) => items.iter().for_each(|item| argument(item, found)),
            Argument::Number(..) | Argument::Text(_) => {}
        }
    }
    let mut found = Vec::new();
    add(operand, &mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::load;

    const RULES: &str = "\
- list: a
  items: [x, y]
- list: b
  items: [a, z]
- macro: inner
  condition: proc.name in (b) and proc.aname[2] = 'a'
- macro: outer
  condition: inner or concat(proc.pname, fd.name) = val(proc.exe)
- rule: R
  desc: d
  priority: INFO
  output: o
  condition: evt.type = execve and not outer
  exceptions:
    - {name: none, fields: proc.name}
    - {name: some, fields: proc.name, values: [a]}
    - {name: rows, fields: [proc.name, fd.name], values: [[m, n], [o, p]]}
";

    fn words(set: &BTreeSet<String>) -> String {
        set.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn names_are_found_where_they_stand_and_below() {
        let (rules, _) = load(RULES);
        let rule = &rules.rules()[0];
        let direct = Mentions::of(&rule.ast, &rules);
        assert_eq!((words(&direct.macros), words(&direct.lists)), ("outer".into(), "a".into()));
        assert_eq!(words(&direct.fields), "evt.type fd.name proc.name");
        let all = Mentions::of_all(&rule.ast, &rules);
        assert_eq!((words(&all.macros), words(&all.lists)), ("inner outer".into(), "a b".into()));
        assert_eq!(words(&all.fields), "evt.type fd.name proc.aname[2] proc.exe proc.name proc.pname");
    }

    #[test]
    fn users_are_those_that_name_it_themselves() {
        let (rules, _) = load(RULES);
        let users = Users::of_macro("inner", &rules);
        assert_eq!(users, Users { macros: vec!["outer".into()], ..Users::default() });
        let users = Users::of_list("a", &rules);
        // A quoted word is no list.
        assert_eq!(users, Users { rules: vec!["R".into()], lists: vec!["b".into()], ..Users::default() });
        assert_eq!(Users::of_list("b", &rules).macros, ["inner"]);
    }

    #[test]
    fn places_and_exceptions_are_known() {
        let (rules, _) = load(RULES);
        let list = rules.list_named("b").unwrap();
        assert_eq!((list.file.as_str(), list.line, list.lists.as_slice()), ("t.yaml", 3, ["a".to_owned()].as_slice()));
        assert_eq!(rules.macro_named("outer").unwrap().line, 7);
        let rule = &rules.rules()[0];
        assert_eq!(rule.exceptions, ["some", "rows"]);
        let Expr::And(terms, _) = &rule.ast else { panic!("{}", rule.ast) };
        assert_eq!(
            terms.last().unwrap().to_string(),
            "not (proc.name = m and fd.name = n or proc.name = o and fd.name = p)"
        );
    }
}
