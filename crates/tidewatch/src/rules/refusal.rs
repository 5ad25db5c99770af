//! Why a set of rules is not taken: one judgement for `run`, reloads and `config check`.

use std::fmt;

use super::load::Loaded;
use super::options::RuleOptions;
use super::texts::{Places, RuleTexts, read, sentences};
use crate::config::Config;
use crate::screen;

/// Rules that are not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong, in one line, with `file:line:column` where there is one.
    what: String,
    /// The same at length, with an excerpt of the source.
    detail: String,
    /// The file to mend and the line in it, from 1, if it is about a place.
    pub place: Option<(String, usize)>,
}

impl Refusal {
    /// Something that is wrong with no line of a rule file, in as many lines as it takes.
    pub fn new(detail: impl Into<String>) -> Self {
        let detail = detail.into();
        // An excerpt of the source does not fit into one line.
        let lines = detail.lines().take_while(|line| !line.trim_start().starts_with('|')).map(str::trim);
        Self { what: lines.collect::<Vec<_>>().join(" "), detail, place: None }
    }

    /// What is wrong at length, in several lines.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Loaded {
    /// Why these rules are not taken, if so: something is broken, and not to be left out (`skip_broken`), or none of
    /// them would be tried.
    pub fn refusal(&self, skip_broken: bool) -> Option<Refusal> {
        let first = self.diagnostics.iter().find(|diagnostic| diagnostic.is_error());
        if let (Some(first), false) = (first, skip_broken) {
            let errors = screen::count(self.errors(), "error");
            let help = first.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
            return Some(Refusal {
                what: format!("{errors} in the rules ({}), the first: {first}{help}", self.source),
                detail: format!(
                    "{errors} in the rules ({}), the first:\n{}",
                    self.source,
                    first.render(false).trim_end()
                ),
                place: Some((first.file.clone(), first.line)),
            });
        }
        if self.enabled() > 0 {
            return None;
        }
        let left = if self.rules.is_empty() { "no rule" } else { "no rule that is enabled" };
        Some(Refusal::new(format!(
            "{left} in {}: nothing to watch for; add one, or leave rules.files empty for the built-in pack",
            self.source
        )))
    }
}

/// Reads and loads the rules that a configuration names, and judges them.
///
/// # Errors
/// [`Refusal`].
pub fn take(config: &Config) -> Result<(RuleTexts, Loaded), Refusal> {
    let (texts, unreadable) =
        RuleTexts::read_most(&Places::of(config), read).map_err(|error| Refusal::new(format!("{error:#}")))?;
    let loaded = texts.load(&RuleOptions::of(config));
    if !unreadable.is_empty() {
        // What else is wrong is told with it, so that all can be mended in one go.
        let also = if loaded.errors() > 0 { loaded.refusal(false) } else { None };
        let also = also.map(|also| format!("; also {}", also.detail())).unwrap_or_default();
        return Err(Refusal::new(format!("{}{also}", sentences(&unreadable))));
    }
    match loaded.refusal(config.rules.skip_broken) {
        Some(refusal) => Err(refusal),
        None => Ok((texts, loaded)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::texts::RuleText;
    use super::*;

    fn loaded(text: &str) -> Loaded {
        let file = RuleText { name: "r.yaml".into(), text: text.into() };
        RuleTexts { source: "r.yaml".into(), files: vec![file], doubts: Vec::new() }.load(&RuleOptions::default())
    }

    #[test]
    fn broken_rules_are_refused_with_their_place_and_remedy_unless_they_may_be_left_out() {
        let good = "- rule: a\n  desc: d\n  condition: evt.type = chroot\n  output: o\n  priority: INFO\n";
        assert_eq!(loaded(good).refusal(false), None);
        let broken =
            format!("{good}- rule: b\n  desc: d\n  condition: evt.tipe = chroot\n  output: o\n  priority: INFO\n");
        let refusal = loaded(&broken).refusal(false).unwrap();
        assert_eq!(refusal.place, Some(("r.yaml".into(), 8)));
        let said = refusal.to_string();
        assert!(said.contains("r.yaml:8:14: error[") && said.contains("evt.type"), "{said}");
        assert!(refusal.detail().contains("^^^^"), "{}", refusal.detail());
        assert_eq!(loaded(&broken).refusal(true), None);
    }

    #[test]
    fn a_missing_file_is_told_with_what_is_wrong_in_the_others() {
        let folder = std::env::temp_dir().join(format!("tidewatch-refusal-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let broken = folder.join("broken.yaml");
        std::fs::write(&broken, "- rule: b\n  desc: d\n").unwrap();
        let mut config = Config::default();
        config.rules.files = vec![broken, folder.join("absent.yaml")];
        config.rules.dropins = None;
        // Not even with `skip_broken` is a file left out that somebody named.
        config.rules.skip_broken = true;
        let said = take(&config).err().unwrap().to_string();
        let _ = std::fs::remove_dir_all(&folder);
        assert!(said.starts_with("cannot read the rule file") && said.contains("absent.yaml"), "{said}");
        assert!(
            said.contains("; also 1 error in the rules") && said.contains("this rule has no `condition`"),
            "{said}"
        );
    }

    #[test]
    fn an_alert_gets_one_line() {
        let refusal = Refusal::new("error[X]: no\n --> a.yaml:1:2\n  |\n1 | x\n");
        assert_eq!(refusal.to_string(), "error[X]: no --> a.yaml:1:2");
    }

    #[test]
    fn rules_that_watch_for_nothing_are_refused() {
        for (text, said) in [
            ("# nothing yet\n", "no rule in r.yaml"),
            (
                "- rule: a\n  desc: d\n  condition: evt.type = chroot\n  output: o\n  priority: INFO\n  enabled: false\n",
                "no rule that is enabled in r.yaml",
            ),
        ] {
            let refusal = loaded(text).refusal(true).unwrap().to_string();
            assert!(refusal.starts_with(said) && refusal.contains("built-in pack"), "{refusal}");
        }
    }
}
