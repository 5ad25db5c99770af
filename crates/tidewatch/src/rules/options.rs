//! What the settings change of rules, for every place that loads them.

use serde::{Deserialize, Serialize};
use tw_rules::{Compat, Loader, Matching, OutputAddition, Rule, RuleSet, Selection};

use crate::config::{self, AppendOutput, Config, ExtraField, Select};

/// What the settings change of rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuleOptions {
    /// How they are read.
    pub compat: config::Compat,
    /// Which of them speak.
    pub matching: config::Matching,
    /// Which are enabled and disabled.
    pub select: Vec<Select>,
    /// What is added to their outputs.
    pub append_output: Vec<AppendOutput>,
    /// Where the configuration sets `select` and `append_output`, if that is known: `tidewatch.yaml:12`.
    #[serde(skip)]
    places: [Option<String>; 2],
}

impl RuleOptions {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Self {
        let rules = &config.rules;
        Self {
            compat: rules.compat,
            matching: rules.matching,
            select: rules.select.clone(),
            append_output: rules.append_output.clone(),
            places: [None, None],
        }
    }

    /// The same, with what is known of their places.
    pub fn placed(loaded: &config::Loaded) -> Self {
        let place = |key: &str| loaded.origins.get(key).map(ToString::to_string);
        let places = ["rules.select", "rules.append_output"].map(place);
        Self { places, ..Self::of(&loaded.config) }
    }

    /// A loader with these options and without files.
    pub fn loader(&self) -> Loader {
        let compat = match self.compat {
            config::Compat::Tidewatch => Compat::Normal,
            config::Compat::Falco => Compat::Strict,
        };
        let matching = match self.matching {
            config::Matching::All => Matching::All,
            config::Matching::First => Matching::First,
        };
        let loader = Loader::new().compat(compat).matching(matching).select(self.select.iter().map(selection));
        self.append_output.iter().map(addition).fold(loader, Loader::append_output)
    }

    /// What differs from the defaults, as in the configuration: `rules.compat: falco`.
    pub fn told(&self) -> Vec<String> {
        let mut told = self.texts();
        if self.matching == config::Matching::First {
            told.insert(0, "rules.matching: first".to_owned());
        }
        told
    }

    /// What differs from the defaults and makes other rules of the same files.
    pub(super) fn texts(&self) -> Vec<String> {
        let default = Self::default();
        let mut told = Vec::new();
        let mut tell = |name: &str, value: serde_json::Value| {
            told.push(format!("rules.{name}: {}", config::one_line(&value)));
        };
        if self.compat != default.compat {
            tell("compat", serde_json::json!(self.compat));
        }
        if self.select != default.select {
            tell("select", serde_json::json!(self.select));
        }
        if self.append_output != default.append_output {
            tell("append_output", serde_json::json!(self.append_output));
        }
        told
    }

    /// Which entries change no rule of these, in sentences with the key and its place.
    pub(super) fn doubts(&self, rules: &RuleSet) -> Vec<String> {
        let place = |index: usize| match self.places.get(index) {
            Some(Some(place)) => format!(" ({place})"),
            _ => String::new(),
        };
        let mut doubts = Vec::new();
        for (index, select) in self.select.iter().enumerate() {
            if !Selection::idle(&[selection(select)], rules).is_empty() {
                let (place, what) = (place(0), select.selected());
                doubts.push(format!("rules.select[{index}]{place} changes nothing: no rule has {what}"));
            }
        }
        for (index, wanted) in self.append_output.iter().enumerate() {
            let of = &wanted.rules;
            let fits = |rule: &Rule| {
                of.rule.as_ref().is_none_or(|name| *name == rule.name)
                    && of.source.as_ref().is_none_or(|source| *source == rule.source)
                    && of.tags.iter().all(|tag| rule.tags.contains(tag))
            };
            if !rules.rules().iter().any(fits) {
                let place = place(1);
                doubts.push(format!("rules.append_output[{index}]{place} adds nothing: no rule fits its `match`"));
            }
        }
        doubts
    }
}

fn selection(select: &Select) -> Selection {
    let selected = select.selected();
    Selection { enable: matches!(select, Select::Enable(_)), rule: selected.rule.clone(), tag: selected.tag.clone() }
}

/// What is added, in the words of the loader.
pub fn addition(wanted: &AppendOutput) -> OutputAddition {
    let extra_fields = wanted.extra_fields.iter().map(|field| match field {
        ExtraField::Name(name) => tw_rules::ExtraField::Field(name.clone()),
        ExtraField::Format((key, format)) => tw_rules::ExtraField::Format { key: key.clone(), format: format.clone() },
    });
    OutputAddition {
        rule: wanted.rules.rule.clone(),
        source: wanted.rules.source.clone(),
        tags: wanted.rules.tags.clone(),
        extra_output: wanted.extra_output.clone(),
        extra_fields: extra_fields.collect(),
        suggested_output: wanted.suggested_output,
    }
}

#[cfg(test)]
mod tests {
    use tw_detect::Detector;
    use tw_model::sample::Sample;

    use super::super::Loaded;
    use super::super::texts::{RuleText, RuleTexts};
    use super::*;

    const RULES: &str = "\
- rule: Root Changed
  desc: d
  condition: evt.type = chroot
  output: o
  priority: INFO
  tags: [host]
- rule: Folder Changed
  desc: d
  condition: evt.type = chdir
  output: o
  priority: INFO
  enabled: false
";

    fn options(text: &str) -> RuleOptions {
        let rules: crate::config::Config = serde_saphyr::from_str(&format!("rules: {text}")).unwrap();
        RuleOptions::of(&rules)
    }

    fn loaded(text: &str, options: &RuleOptions) -> Loaded {
        let file = RuleText { name: "r.yaml".into(), text: text.into() };
        RuleTexts { source: "r.yaml".into(), files: vec![file], doubts: Vec::new() }.load(options)
    }

    #[test]
    fn what_is_added_is_in_the_message_and_the_fields_of_a_finding() {
        let options = options(
            "{append_output: [{match: {tags: [host], source: syscall}, extra_output: by %proc.name, \
             extra_fields: [proc.pid, {who: '%proc.name!'}]}, {match: {rule: Other}, extra_output: never}]}",
        );
        let loaded = loaded(RULES, &options);
        assert_eq!(loaded.doubts, ["rules.append_output[1] adds nothing: no rule fits its `match`"]);
        let sample: Sample = serde_saphyr::from_str("{type: chroot, path: /a, proc: {name: sh}}").unwrap();
        let mut detector = Detector::new(loaded.rules);
        let mut found = Vec::new();
        sample.inspect(1, |event| detector.inspect(event, &mut |finding| found.push(finding))).unwrap();
        let finding = &found[0];
        assert_eq!(finding.message, "o by sh");
        let names: Vec<&str> = finding.fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["proc.name", "proc.pid", "who"]);
        assert_eq!(finding.fields[2].1, tw_model::finding::Shown::Text("sh!".into()));
        // As Falco writes it.
        let json: serde_json::Value = serde_json::from_str(&tw_report::json::line(finding, "host")).unwrap();
        assert_eq!(json["output_fields"]["who"], "sh!");
    }

    #[test]
    fn rules_are_selected_and_idle_selections_told() {
        let options = options(
            "{select: [{disable: {tag: host}}, {enable: {rule: 'Folder *'}}, {disable: {rule: Foldr Changed, tag: hots}}]}",
        );
        let loaded = loaded(RULES, &options);
        let enabled: Vec<bool> = loaded.rules.rules().iter().map(|rule| rule.enabled).collect();
        assert_eq!(enabled, [false, true]);
        assert_eq!(
            loaded.doubts,
            ["rules.select[2] changes nothing: no rule has the name `Foldr Changed` or the tag `hots`"]
        );
        assert_eq!(loaded.warnings(), loaded.diagnostics.len() + 1);
    }

    #[test]
    fn quirks_are_there_if_asked_for() {
        let text = RULES.replace("evt.type = chdir", "fd.num = 0x3");
        assert_eq!(loaded(&text, &options("{}")).errors(), 0);
        assert_eq!(loaded(&text, &options("{compat: falco}")).errors(), 1);
    }

    #[test]
    fn an_option_makes_another_digest_and_is_told() {
        let plain = loaded(RULES, &options("{}")).status();
        assert!(plain.options.is_empty());
        let mut digests = vec![plain.digest];
        for (text, told) in [
            ("{compat: falco}", "rules.compat: falco"),
            ("{select: [{disable: {rule: 'Folder *'}}]}", "rules.select: [{disable: {rule: Folder *}}]"),
            ("{append_output: [{extra_output: 'a, b'}]}", "rules.append_output: [{extra_output: \"a, b\"}]"),
        ] {
            let status = loaded(RULES, &options(text)).status();
            assert_eq!(status.options, [told]);
            assert!(!digests.contains(&status.digest), "{text}");
            digests.push(status.digest);
        }
        let status = loaded(RULES, &options("{matching: first}")).status();
        assert_eq!((status.options, &status.digest), (vec!["rules.matching: first".to_owned()], &digests[0]));
    }
}
