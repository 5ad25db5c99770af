//! The configuration: one YAML file, a folder of drop-ins, the environment and the command line, checked as a whole.
//!
//! [`Sources`] say where to look, [`Config::load`] reads, and [`Loaded`] is what came out: the typed [`Config`] and
//! where each value comes from. To reload, load the same sources again: if that fails, go on with what runs, else
//! apply [`Config::changes`].
//!
//! **Never:** an effect on anything outside: reading the configuration creates, changes and starts nothing.

mod diagnostic;
mod draft;
mod items;
mod key;
mod limits;
mod rule_options;
mod secret;
mod settings;
mod show;
mod source;
mod verbs;
mod yaml;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use diagnostic::{ConfigErrors, Diagnostic, Origin};
pub use key::Applies;
pub use rule_options::{AppendOutput, Compat, ExtraField, Select};
pub use secret::StoreUrl;
pub use settings::{Config, KubernetesChoice, LogFormat, Matching, SensorChoice, Stdout, Sync};
pub use source::Sources;
pub use verbs::{ConfigArgs, run};

/// The documented default file.
pub const DEFAULT: &str = include_str!("../../../deploy/tidewatch.yaml");

/// A configuration with what is known about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Where the value of each key comes from.
    pub origins: BTreeMap<String, Origin>,
    /// The files that were read, in order.
    pub files: Vec<PathBuf>,
    /// What is doubtful.
    pub warnings: Vec<Diagnostic>,
}

/// What a verb needs of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing that has to be right: where the service is asked, and that alone.
    Address,
    /// These sections or keys, and files that can be read.
    Keys(&'static [&'static str]),
    /// These sections or keys of the files that can be read: whoever asks may be nobody whom the host's configuration is
    /// for.
    Readable(&'static [&'static str]),
}

impl Needs {
    /// Whether nobody can do without what this error is about.
    fn has(self, error: &Diagnostic, sources: &Sources) -> bool {
        let named = |path: &PathBuf| error.code == diagnostic::code::READ && sources.file.as_ref() == Some(path);
        match (&error.origin, self) {
            (Origin::Option(_), _) => true,
            // Another service than the one that is meant would be asked.
            (Origin::File { path, .. }, _) if named(path) => true,
            (_, Self::Address) => false,
            (_, Self::Readable(_)) if error.code == diagnostic::code::READ => false,
            (_, Self::Keys(keys) | Self::Readable(keys)) => {
                let section = error.key.as_deref().map(|key| key.split('.').next().unwrap_or_default());
                match (section, &error.key) {
                    (Some(section), Some(key)) => keys.contains(&section) || keys.contains(&key.as_str()),
                    // What a text that is no YAML would have set nobody knows; no variable is a key.
                    _ => error.code != diagnostic::code::UNKNOWN_VARIABLE,
                }
            }
        }
    }
}

/// A key whose value differs between two configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key, such as `spool.max_mib`.
    pub key: String,
    /// Whether it takes effect without a restart.
    pub live: bool,
    /// What it takes to take effect.
    pub applies: Applies,
}

/// A value in YAML, on one line.
pub fn one_line(value: &serde_json::Value) -> String {
    show::scalar(value)
}

impl Config {
    /// Reads and checks all sources.
    ///
    /// # Errors
    /// [`ConfigErrors`] with everything that is wrong in any of them; nothing is used then.
    pub fn load(sources: &Sources) -> Result<Loaded, ConfigErrors> {
        draft::load(sources)
    }

    /// For a verb that needs these sections or keys alone: what can be read, and what is wrong besides.
    ///
    /// # Errors
    /// [`ConfigErrors`] if something is wrong with them, or with what the user has just typed.
    pub fn load_for(sources: &Sources, needs: Needs) -> Result<(Self, Option<ConfigErrors>), ConfigErrors> {
        match Self::load(sources) {
            Ok(loaded) => Ok((loaded.config, None)),
            Err(errors) if errors.0.iter().any(|error| error.is_error() && needs.has(error, sources)) => Err(errors),
            Err(errors) => Ok((draft::readable(sources), Some(errors))),
        }
    }

    /// Which keys have another value in `new`, in the order of the sections, and when that takes effect.
    pub fn changes(&self, new: &Self) -> Vec<Change> {
        let (old_values, new_values) = (key::flatten(self), key::flatten(new));
        let values = old_values.into_iter().zip(new_values).zip(key::keys());
        values
            // The store's address is compared itself: flat values do not tell passwords apart.
            .filter(|((old, changed), key)| {
                old != changed || (key.path == "store.url" && self.store.url != new.store.url)
            })
            .map(|(_, key)| Change { key: key.path.clone(), live: key.applies == Applies::Live, applies: key.applies })
            .collect()
    }

    /// Folder of the agent's state.
    pub fn agent_dir(&self) -> PathBuf {
        self.state_dir.join("agent")
    }

    /// Folder of findings that the store does not have yet.
    pub fn spool_dir(&self) -> PathBuf {
        self.agent_dir().join("spool")
    }

    /// Folder of the flight recorder.
    pub fn recorder_dir(&self) -> PathBuf {
        self.agent_dir().join("recorder")
    }

    /// Folder of the manager's state.
    pub fn manager_dir(&self) -> PathBuf {
        self.state_dir.join("manager")
    }

    /// Socket on which the manager answers root.
    pub fn control_socket(&self) -> PathBuf {
        self.run_dir.join("control.sock")
    }

    /// Socket on which the agent hands findings to the manager.
    pub fn agent_socket(&self) -> PathBuf {
        self.run_dir.join("agent.sock")
    }

    /// File in which the supervisor says how the processes are.
    pub fn supervisor_file(&self) -> PathBuf {
        self.run_dir.join("supervisor.json")
    }

    /// File in which the agent says that it watches: its number.
    pub fn ready_file(&self) -> PathBuf {
        self.run_dir.join("agent.ready")
    }

    /// Takes the values of `new` that take effect without a restart, as far as the agent is concerned.
    pub fn take_live(&mut self, new: &Self) {
        self.rules.clone_from(&new.rules);
        self.agent.priority = new.agent.priority;
        self.spool.max_mib = new.spool.max_mib;
        self.recorder.max_mib = new.recorder.max_mib;
        self.recorder.max_hours = new.recorder.max_hours;
        self.log.level.clone_from(&new.log.level);
    }

    /// Address of the store: `store.url`, or SQLite in the manager's folder.
    pub fn store_url(&self) -> StoreUrl {
        self.store.url.clone().unwrap_or_else(|| {
            let path = self.manager_dir().join("tidewatch.db").to_string_lossy().into_owned();
            // What has a meaning in an address.
            let path = path.replace('%', "%25").replace('?', "%3F").replace('#', "%23");
            StoreUrl::new(format!("sqlite://{path}"))
        })
    }
}
