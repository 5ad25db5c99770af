//! Finds rules, macros and lists by name.

use super::{Places, RuleOptions, RuleTexts};
use crate::config::Config;
use tw_model::field::nearest;
use tw_report::escape;
use tw_rules::{NamedList, NamedMacro};
use tw_rules::{Rule, RuleSet};

/// Names that are told when none fits.
const TOLD: usize = 5;

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub enum Found<'r> {
    Rule(&'r Rule),
    Macro(&'r NamedMacro),
    List(&'r NamedList),
}

impl<'r> Found<'r> {
    /// Its name.
    pub fn name(self) -> &'r str {
        match self {
            Self::Rule(rule) => &rule.name,
            Self::Macro(known) => &known.name,
            Self::List(list) => &list.name,
        }
    }

    /// What it is.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Rule(_) => "rule",
            Self::Macro(_) => "macro",
            Self::List(_) => "list",
        }
    }
}

/// What to say where nothing is found of a rule of this name, if there is none among those of the configuration.
pub fn no_such_rule(config: &Config, name: &str) -> Option<String> {
    let loaded = RuleTexts::read(&Places::of(config)).ok()?.load(&RuleOptions::of(config));
    match find(&loaded.rules, name, &["rule"]) {
        Ok(found) if found.iter().any(|found| found.name() == name) => None,
        Ok(found) => Some(format!("names are exact: did you mean {:?}?", found.first()?.name())),
        Err(error) => Some(error.to_string()),
    }
}

/// Everything with this name; if there is nothing, what differs in case only.
///
/// # Errors
/// If there is neither: names that are near, or how to list all.
pub fn find<'r>(rules: &'r RuleSet, name: &str, kinds: &[&str]) -> anyhow::Result<Vec<Found<'r>>> {
    let all = rules
        .rules()
        .iter()
        .map(Found::Rule)
        .chain(rules.macros().iter().map(Found::Macro))
        .chain(rules.lists().iter().map(Found::List));
    let all: Vec<Found<'_>> = all.filter(|found| kinds.contains(&found.kind())).collect();
    let exact: Vec<_> = all.iter().copied().filter(|found| found.name() == name).collect();
    if !exact.is_empty() {
        return Ok(exact);
    }
    let lower = name.to_lowercase();
    let alike: Vec<_> = all.iter().copied().filter(|found| found.name().to_lowercase() == lower).collect();
    if !alike.is_empty() {
        return Ok(alike);
    }
    let mut near: Vec<&str> = Vec::new();
    let holds = all.iter().map(|found| found.name()).filter(|known| known.to_lowercase().contains(&lower));
    for known in nearest(name, all.iter().map(|found| found.name())).into_iter().chain(holds) {
        if !near.contains(&known) {
            near.push(known);
        }
    }
    let what = match kinds {
        [others @ .., last] if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => kinds.concat(),
    };
    let name = escape::short(name, 80);
    if near.is_empty() {
        anyhow::bail!("there is no {what} with the name `{name}`; `tidewatch rules list` shows all rules");
    }
    let more = if near.len() > TOLD { ", and more" } else { "" };
    let near: Vec<_> = near.into_iter().take(TOLD).map(|near| format!("`{}`", escape::line(near))).collect();
    anyhow::bail!("there is no {what} with the name `{name}`; did you mean {}{more}?", near.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 3] = ["rule", "macro", "list"];

    #[test]
    fn names_are_found_or_near_ones_told() {
        let loaded = crate::rules::RuleTexts::pack().load(&crate::rules::RuleOptions::default());
        let names = |name: &str| {
            let found = find(&loaded.rules, name, &ALL);
            found.map(|found| found.iter().map(|found| (found.kind(), found.name().to_owned())).collect::<Vec<_>>())
        };
        let first = loaded.rules.rules()[0].name.clone();
        assert_eq!(names(&first).unwrap(), [("rule", first.clone())]);
        assert_eq!(names(&first.to_uppercase()).unwrap(), [("rule", first.clone())]);
        let told = names(&first[1..]).unwrap_err().to_string();
        assert!(told.contains(&format!("did you mean `{first}`")), "{told}");
        let told = names("zzzzzzzzzzzzzzzz\u{1b}").unwrap_err().to_string();
        assert!(told.ends_with("shows all rules") && !told.contains('\u{1b}'), "{told}");
        assert!(find(&loaded.rules, &first, &["macro"]).is_err());
    }
}
