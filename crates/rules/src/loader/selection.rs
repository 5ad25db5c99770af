//! Rules switched on and off from outside of their files.

use crate::ruleset::{Rule, RuleSet};

/// Rules to enable or to disable: those whose name fits, and those that have the tag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Enables them, else disables them.
    pub enable: bool,
    /// A rule's name, in which `*` stands for any text.
    pub rule: Option<String>,
    /// A tag, exactly.
    pub tag: Option<String>,
}

impl Selection {
    /// Whether a rule of this name and these tags is meant.
    pub fn covers(&self, name: &str, tags: &[String]) -> bool {
        self.rule.as_ref().is_some_and(|pattern| fits(pattern.as_bytes(), name.as_bytes()))
            || self.tag.as_ref().is_some_and(|tag| tags.contains(tag))
    }

    /// Whether a rule is enabled in the end: the last selection that covers it says so, else its file.
    pub fn decide(selections: &[Self], enabled: bool, name: &str, tags: &[String]) -> bool {
        let last = selections.iter().rev().find(|selection| selection.covers(name, tags));
        last.map_or(enabled, |selection| selection.enable)
    }

    /// Enables and disables rules of a set that was loaded already.
    pub fn apply(selections: &[Self], rules: &mut RuleSet) {
        rules.enable(|rule: &Rule| Self::decide(selections, rule.enabled, &rule.name, &rule.tags));
    }

    /// The selections that cover no rule, which are probably mistakes.
    pub fn idle<'s>(selections: &'s [Self], rules: &RuleSet) -> Vec<&'s Self> {
        let covers = |selection: &Self| rules.rules().iter().any(|rule| selection.covers(&rule.name, &rule.tags));
        selections.iter().filter(|selection| !covers(selection)).collect()
    }
}

/// Whether all of `text` fits a pattern in which only `*` is special. Time is bounded by the product of the lengths.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let mut parts = pattern.split(|byte| *byte == b'*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match memchr::memmem::find(rest, part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_star_is_special() {
        for (pattern, text, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "abc", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXcYb", false),
            ("ab*ba", "aba", false),
            ("a?", "ab", false),
            ("[a]", "a", false),
            ("**", "x", true),
        ] {
            assert_eq!(fits(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }
}
