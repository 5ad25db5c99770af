//! The settings that an agent starts with: those that are there. If they are broken, an agent that the supervisor started
//! again goes on with those that were in force last, as it does with rules.

use std::path::PathBuf;

use tw_detect::Notice;
use tw_model::Priority;
use tw_model::status::Problem;

use super::last_good::LastGood;
use crate::config::{Config, Sources};
use crate::rules::Refusal;

/// What to do about settings that are not taken.
const REMEDY: &str = "Mend what is named (tidewatch config check shows it), then: tidewatch reload.";

/// Reads the settings, and says why they are those of before, if they are.
///
/// # Errors
/// If they are broken and nothing stands in: it was not started again, or there is no sound copy.
pub fn settings(sources: &Sources) -> anyhow::Result<(Config, Option<String>)> {
    choose(sources, super::boot::restarts() > 0)
}

fn choose(sources: &Sources, restarted: bool) -> anyhow::Result<(Config, Option<String>)> {
    let errors = match Config::load(sources) {
        Ok(loaded) => return Ok((loaded.config, None)),
        Err(errors) => errors.to_string(),
    };
    let folder = state_dir(sources).filter(|_| restarted).map(|folder| folder.join("agent"));
    match folder.map(|folder| LastGood::<Config>::settings(&folder).read()) {
        Some(Ok(Some((config, _)))) => Ok((config, Some(errors))),
        Some(Err(error)) => anyhow::bail!("{errors}\n{error}"),
        _ => anyhow::bail!(errors),
    }
}

/// The folder of state as the supervisor names it on the command line: the only source that is sure to be in order.
fn state_dir(sources: &Sources) -> Option<PathBuf> {
    let set = sources.overrides.iter().rev().find(|set| set.key == "state_dir")?;
    Some(serde_json::from_str::<String>(&set.value).unwrap_or_else(|_| set.value.clone()).into())
}

/// The alert that they stand in.
pub(super) fn notice(errors: &str) -> Notice<'static> {
    Notice {
        name: "last good settings stand in",
        priority: Priority::Error,
        message: format!("the settings are broken: those that were in force last stand in; {}", Refusal::new(errors)),
        why: "The agent was started again with other settings than those on disk.",
        advice: REMEDY,
        fields: Vec::new(),
    }
}

/// The problem, as long as they stand in.
pub(super) fn problem(errors: &str) -> Problem {
    Problem {
        code: "settings-last-good".into(),
        failed: true,
        what: format!("the settings are broken: since its start the agent goes on with the last good ones: {errors}"),
        remedy: REMEDY.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_good_settings_stand_in_for_broken_ones_after_a_restart_alone() {
        let folder = std::env::temp_dir().join(format!("tidewatch-first-settings-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("agent")).unwrap();
        let mut sources = Sources { file: Some(folder.join("t.yaml")), ..Sources::default() };
        sources.set("--set", "state_dir", serde_json::Value::from(folder.to_string_lossy()).to_string());
        std::fs::write(folder.join("t.yaml"), "agent: {priority: error}\n").unwrap();
        let (config, error) = choose(&sources, true).unwrap();
        assert!(error.is_none() && config.state_dir == folder);

        std::fs::write(folder.join("t.yaml"), "agent: {prority: error}\n").unwrap();
        assert!(choose(&sources, true).unwrap_err().to_string().contains("prority"), "there is no copy");
        LastGood::settings(&config.agent_dir()).keep(&config).unwrap();
        let (kept, error) = choose(&sources, true).unwrap();
        let error = error.unwrap();
        assert!(kept == config && error.contains("did you mean `priority`?"), "{error}");
        assert!(notice(&error).message.contains("t.yaml:1:9"), "{}", notice(&error).message);
        assert!(choose(&sources, false).is_err(), "a person is there to mend it");
        std::fs::write(folder.join("agent/last-good-settings"), "nonsense").unwrap();
        assert!(choose(&sources, true).unwrap_err().to_string().contains("is damaged"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
