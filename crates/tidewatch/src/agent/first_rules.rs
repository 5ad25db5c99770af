//! The rules that an agent starts with: those that the configuration names. If these are broken, an agent that watched
//! before goes on with what was in force last: a host without its watch is worse than one with yesterday's rules.

use tw_detect::Notice;
use tw_model::Priority;
use tw_model::finding::Shown;
use tw_model::status::{RulesOrigin, RulesStatus};
use tw_rules::RuleSet;

use super::last_good::{self, LastGood};
use super::watch::Watched;
use crate::config::Config;
use crate::rules::{self, Loaded, Places, Refusal, RuleOptions, RuleTexts};

/// What to do about rules that are not taken.
pub(super) const REMEDY: &str =
    "Mend what is named (tidewatch config check shows it). It is loaded when it changes, or with: tidewatch reload.";

/// The first rules of an agent.
pub(super) struct FirstRules {
    /// The rules.
    pub rules: RuleSet,
    /// What is told of them.
    pub status: RulesStatus,
    /// What is to be watched, as it was before it was read.
    pub watched: Watched,
    /// The alert, if others stand in for those that were wanted.
    pub notice: Option<Notice<'static>>,
    /// Their texts, if they are to be kept.
    texts: Option<RuleTexts>,
}

impl FirstRules {
    /// Keeps them for a later start. Only for whoever has the agent's state to itself.
    pub(super) fn keep(&mut self, config: &Config) {
        let Some(texts) = self.texts.take() else { return };
        self.status.copy_error = last_good::keep(config, texts).err().map(|error| error.to_string());
    }
}

/// Chooses them. With broken rules, and neither started again (`restarted`) nor with a copy of rules from the same
/// places, an agent does not start: somebody is there who can mend them.
///
/// # Errors
/// If the rules are broken and nothing may stand in for them.
pub(super) fn choose(config: &Config, restarted: bool) -> anyhow::Result<FirstRules> {
    let places = Places::of(config);
    let watched = Watched::now(config);
    let first = |loaded: Loaded, status| FirstRules {
        rules: loaded.rules,
        status,
        watched: watched.clone(),
        notice: None,
        texts: None,
    };
    let refusal = match RuleTexts::read(&places) {
        Ok(texts) => {
            let loaded = texts.load(&RuleOptions::of(config));
            rules::show(&loaded.diagnostics, false);
            loaded.tell_doubts();
            match loaded.refusal(config.rules.skip_broken) {
                None => {
                    let status = loaded.status();
                    return Ok(FirstRules { texts: Some(texts), ..first(loaded, status) });
                }
                Some(refusal) => refusal,
            }
        }
        Err(error) => Refusal::new(format!("{error:#}")),
    };
    let Some((loaded, origin, why)) = stand_in(config, &places, restarted) else {
        let what = match refusal.place {
            Some(_) => format!(
                "{refusal}. Nothing is watched: mend what is shown above, or start with --skip-broken-rules to watch \
                 with the rules that are in order"
            ),
            None => format!("{refusal}. Nothing is watched"),
        };
        anyhow::bail!(what);
    };
    let notice = notice(&refusal, origin, &why, &loaded.source);
    tracing::error!("{}. {REMEDY}", notice.message);
    let mut status = loaded.status();
    status.origin = origin;
    status.last_error = Some(refusal.detail().to_owned());
    Ok(FirstRules { notice: Some(notice), ..first(loaded, status) })
}

/// What stands in for broken rules, and why not something better.
fn stand_in(config: &Config, places: &Places, restarted: bool) -> Option<(Loaded, RulesOrigin, String)> {
    let why = match LastGood::rules(&config.agent_dir()).read() {
        Ok(Some((kept, made))) if restarted || kept.places == *places => {
            let mut loaded = kept.texts.load(&kept.options);
            if loaded.enabled() > 0 {
                let made = tw_report::iso_time(made).get(..19)?.replace('T', " ");
                loaded.source = format!("the copy made {made} UTC of {}", kept.texts.source);
                return Some((loaded, RulesOrigin::LastGood, String::new()));
            }
            "of the last good rules this version takes none".to_owned()
        }
        // Whoever starts it with other rules than last time is there to mend them.
        Ok(_) if !restarted => return None,
        Ok(_) => "there is no copy of rules that were in force before".to_owned(),
        Err(error) => error.to_string(),
    };
    let pack = RuleTexts::pack();
    let mut loaded = pack.load(&RuleOptions::of(config));
    if loaded.refusal(false).is_some() {
        loaded = pack.load(&RuleOptions::default());
    }
    Some((loaded, RulesOrigin::Pack, why))
}

fn notice(refusal: &Refusal, origin: RulesOrigin, why: &str, source: &str) -> Notice<'static> {
    let (name, priority, message) = match origin {
        RulesOrigin::Pack => (
            "built-in rules stand in",
            Priority::Critical,
            format!("the rules do not load, and {why}: the built-in rules are in force instead; {refusal}"),
        ),
        _ => (
            "last good rules stand in",
            Priority::Error,
            format!("the rules do not load: those that were in force last stand in ({source}); {refusal}"),
        ),
    };
    Notice {
        name,
        priority,
        message,
        why: "The agent started with other rules than those on disk. What these would find is not found.",
        advice: REMEDY,
        fields: fields(refusal),
    }
}

/// Where the mistake is, for programs.
pub(super) fn fields(refusal: &Refusal) -> Vec<(String, Shown)> {
    let Some((file, line)) = &refusal.place else { return Vec::new() };
    vec![("rules.file".to_owned(), Shown::Text(file.clone())), ("rules.line".to_owned(), Shown::Text(line.to_string()))]
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const RULE: &str = "- rule: mine\n  desc: d\n  condition: evt.type = chroot\n  output: o\n  priority: INFO\n";

    struct Host(Config);

    impl Host {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tidewatch-first-{}-{name}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(path.join("agent")).unwrap();
            let mut config = Config { state_dir: path.clone(), ..Config::default() };
            config.rules.files = vec![path.join("mine.yaml")];
            config.rules.dropins = None;
            Self(config)
        }

        fn rules(&self, text: &str) {
            std::fs::write(&self.0.rules.files[0], text).unwrap();
        }

        fn copy(&self) -> PathBuf {
            self.0.agent_dir().join("last-good-rules")
        }

        /// Starts once with good rules, which are broken afterwards.
        fn watched_once(&self) {
            self.rules(RULE);
            let mut first = choose(&self.0, false).unwrap();
            first.keep(&self.0);
            assert!(first.notice.is_none() && first.status.origin == RulesOrigin::Configured);
            assert_eq!(first.status.copy_error, None);
            self.rules("- rule: mine\n  condition: evt.tipe = x\n");
        }
    }

    impl Drop for Host {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0.state_dir);
        }
    }

    fn names(first: &FirstRules) -> Vec<&str> {
        first.rules.rules().iter().map(|rule| rule.name.as_str()).collect()
    }

    #[test]
    fn broken_rules_are_refused_to_a_person_who_starts_for_the_first_time() {
        let host = Host::new("refused");
        host.rules("- rule: mine\n  condition: evt.tipe = x\n");
        let error = choose(&host.0, false).err().unwrap().to_string();
        assert!(error.contains("mine.yaml:1:") && error.contains("--skip-broken-rules"), "{error}");
        host.rules("# none\n");
        let error = choose(&host.0, false).err().unwrap().to_string();
        assert!(error.contains("no rule in") && error.contains("built-in pack"), "{error}");
        std::fs::remove_file(&host.0.rules.files[0]).unwrap();
        let error = choose(&host.0, false).err().unwrap().to_string();
        assert!(error.contains("cannot read the rule file") && error.contains("Nothing is watched"), "{error}");
    }

    #[test]
    fn the_last_good_rules_stand_in_for_broken_ones_and_that_is_said() {
        let host = Host::new("stand-in");
        host.watched_once();
        for restarted in [false, true] {
            let first = choose(&host.0, restarted).unwrap();
            assert_eq!(names(&first), ["mine"]);
            assert_eq!(first.status.origin, RulesOrigin::LastGood);
            assert!(first.status.last_error.as_ref().is_some_and(|error| error.contains("mine.yaml:1:")));
            let notice = first.notice.unwrap();
            assert!(
                notice.message.contains("mine.yaml:1:") && notice.message.contains("stand in"),
                "{}",
                notice.message
            );
            assert_eq!(notice.fields[0].0, "rules.file");
        }
        // A missing file is as bad.
        std::fs::remove_file(&host.0.rules.files[0]).unwrap();
        assert_eq!(choose(&host.0, true).unwrap().status.origin, RulesOrigin::LastGood);
    }

    #[test]
    fn what_stands_in_is_read_with_the_options_that_it_was_good_with() {
        use crate::config::Compat;
        let mut host = Host::new("options");
        host.rules(&RULE.replace("chroot", "chroot and fd.num != 0x3"));
        choose(&host.0, false).unwrap().keep(&host.0);
        host.0.rules.compat = Compat::Falco;
        let first = choose(&host.0, false).unwrap();
        assert_eq!((first.status.origin, first.status.enabled), (RulesOrigin::LastGood, 1));
        // The built-in rules are there in either way.
        std::fs::remove_file(host.copy()).unwrap();
        let first = choose(&host.0, true).unwrap();
        assert_eq!((first.status.origin, first.status.broken), (RulesOrigin::Pack, 0));
        assert_eq!(first.status.options, ["rules.compat: falco"]);
    }

    #[test]
    fn a_copy_of_other_rules_stands_in_only_where_nobody_is_there_to_mend() {
        let mut host = Host::new("others");
        host.watched_once();
        host.0.rules.dropins = Some("/nowhere".into());
        assert!(choose(&host.0, false).is_err());
        assert_eq!(names(&choose(&host.0, true).unwrap()), ["mine"]);
    }

    #[test]
    fn without_a_sound_copy_the_built_in_rules_stand_in() {
        let host = Host::new("pack");
        host.rules("- rule: mine\n  condition: evt.tipe = x\n");
        let first = choose(&host.0, true).unwrap();
        assert!(first.status.origin == RulesOrigin::Pack && first.status.enabled > 10);
        host.watched_once();
        std::fs::write(host.copy(), "tidewatch-copy 1 00\n{}").unwrap();
        for restarted in [false, true] {
            let first = choose(&host.0, restarted).unwrap();
            assert!(first.status.origin == RulesOrigin::Pack && first.status.enabled > 10);
            let notice = first.notice.unwrap();
            assert!(
                notice.priority == Priority::Critical && notice.message.contains("is damaged"),
                "{}",
                notice.message
            );
        }
    }
}
