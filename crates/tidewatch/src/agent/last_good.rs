//! The rules and settings that were in force last, kept on disk: an agent that starts while those that it is to take are
//! broken goes on with these.
//!
//! One file each: a line `tidewatch-copy 1 DIGEST`, then JSON, of which DIGEST is the SHA-256. It is written beside the
//! old one, synced, and put in its place by rename: whenever the agent is killed, there is a whole one.

use std::fs::{File, Permissions};
use std::io::{Read as _, Write as _};
use std::marker::PhantomData;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::config::Config;
use crate::rules::{Places, RuleOptions, RuleTexts};

/// What the first line begins with.
const MARK: &str = "tidewatch-copy 1 ";
/// Largest copy in bytes.
const MAX: u64 = 256 << 20;

/// Where a copy of a `T` lies.
#[derive(Clone, Debug)]
pub(super) struct LastGood<T> {
    file: PathBuf,
    of: PhantomData<fn() -> T>,
}

/// A copy of rules that were in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Where they came from.
    pub places: Places,
    /// What they were.
    pub texts: RuleTexts,
    /// With what options they were loaded.
    #[serde(default)]
    pub options: RuleOptions,
}

/// Why there is no use in a copy.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeptError {
    /// It cannot be read.
    #[error("the copy {0} cannot be read: {1}")]
    Read(PathBuf, std::io::Error),
    /// It is not what was written.
    #[error("the copy {0} is damaged: {1}")]
    Damaged(PathBuf, &'static str),
}

impl LastGood<Kept> {
    /// Of rules, in the folder of the agent's state.
    pub(super) fn rules(folder: &Path) -> Self {
        Self { file: folder.join("last-good-rules"), of: PhantomData }
    }
}

impl LastGood<Config> {
    /// Of settings, in the folder of the agent's state. They are without the password of the store.
    pub(super) fn settings(folder: &Path) -> Self {
        Self { file: folder.join("last-good-settings"), of: PhantomData }
    }
}

/// Keeps rules and the settings that named them for a later start.
///
/// # Errors
/// If the disk does not take them; those before are kept then.
pub(super) fn keep(config: &Config, texts: RuleTexts) -> std::io::Result<()> {
    let folder = config.agent_dir();
    LastGood::rules(&folder).keep(&Kept { places: Places::of(config), texts, options: RuleOptions::of(config) })?;
    LastGood::settings(&folder).keep(config)
}

impl<T: Serialize + DeserializeOwned> LastGood<T> {
    /// Keeps this instead of what was kept before, unless it is the same.
    ///
    /// # Errors
    /// If the disk does not take it; what was kept before is kept then.
    pub(super) fn keep(&self, what: &T) -> std::io::Result<()> {
        let body = serde_json::to_vec(what)?;
        let mut bytes = format!("{MARK}{}\n", digest(&body)).into_bytes();
        bytes.extend(body);
        if bytes.len() as u64 > MAX {
            return Err(std::io::Error::other(format!("it would be larger than {MAX} bytes")));
        }
        if std::fs::read(&self.file).is_ok_and(|before| before == bytes) {
            return Ok(());
        }
        let fresh = self.file.with_extension("new");
        let mut file = File::options().create(true).write(true).truncate(true).mode(0o600).open(&fresh)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&fresh, &self.file)?;
        match self.file.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }

    /// The copy, and when it was made in nanoseconds since the epoch; none if there never was one.
    ///
    /// # Errors
    /// If there is one that is of no use.
    pub(super) fn read(&self) -> Result<Option<(T, u64)>, KeptError> {
        let failed = |error| KeptError::Read(self.file.clone(), error);
        let damaged = |what| KeptError::Damaged(self.file.clone(), what);
        let file = match File::open(&self.file) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let made = file.metadata().and_then(|data| data.modified()).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(|| damaged("it has no first line"))?;
        let (head, body) = (&bytes[..end], &bytes[end + 1..]);
        let said = head.strip_prefix(MARK.as_bytes()).ok_or_else(|| damaged("it begins with another mark"))?;
        if said != digest(body).as_bytes() {
            return Err(damaged("its digest does not fit"));
        }
        let kept = serde_json::from_slice(body).map_err(|_| damaged("it is of another kind"))?;
        let made = made.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        Ok(Some((kept, u64::try_from(made).unwrap_or(u64::MAX))))
    }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> (LastGood<Kept>, PathBuf) {
        let folder = std::env::temp_dir().join(format!("tidewatch-last-good-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        (LastGood::rules(&folder), folder)
    }

    fn pack() -> Kept {
        Kept {
            places: Places { files: vec!["/r.yaml".into()], dropins: None },
            texts: RuleTexts::pack(),
            options: RuleOptions::default(),
        }
    }

    #[test]
    fn what_was_kept_comes_back_and_the_same_is_not_written_again() {
        let (last, folder) = place("back");
        assert!(last.read().unwrap().is_none());
        let rules = pack();
        last.keep(&rules).unwrap();
        let (kept, made) = last.read().unwrap().unwrap();
        assert_eq!(kept, rules);
        assert!(made > 0 && kept.texts.load(&kept.options).enabled() > 0);
        assert_eq!(std::fs::metadata(&last.file).unwrap().permissions().mode() & 0o777, 0o600);
        last.keep(&rules).unwrap();
        assert_eq!(last.read().unwrap().unwrap().1, made);
        last.keep(&Kept { texts: RuleTexts { source: "other".into(), ..rules.texts }, ..rules }).unwrap();
        assert_eq!(last.read().unwrap().unwrap().0.texts.source, "other");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_damaged_copy_is_told_and_never_taken() {
        let (last, folder) = place("damaged");
        last.keep(&pack()).unwrap();
        let whole = std::fs::read(&last.file).unwrap();
        for at in (0..whole.len()).step_by(whole.len() / 97) {
            std::fs::write(&last.file, &whole[..at]).unwrap();
            assert!(last.read().is_err(), "cut at {at}");
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&last.file, bytes).unwrap();
            assert!(last.read().is_err(), "byte {at}");
        }
        let text = "tidewatch-copy 1 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n";
        std::fs::write(&last.file, text).unwrap();
        assert!(last.read().unwrap_err().to_string().contains("of another kind"));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_disk_that_does_not_take_it_leaves_the_one_before() {
        let (last, folder) = place("refused");
        last.keep(&pack()).unwrap();
        std::fs::create_dir(last.file.with_extension("new")).unwrap();
        assert!(last.keep(&Kept { texts: RuleTexts::default(), ..pack() }).is_err());
        assert_eq!(last.read().unwrap().unwrap().0, pack());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn settings_come_back_without_the_password_of_the_store() {
        let (_, folder) = place("settings");
        let last = LastGood::settings(&folder);
        let mut config = Config { state_dir: folder.clone(), ..Config::default() };
        config.rules.dropins = None;
        config.agent.priority = tw_model::Priority::Error;
        last.keep(&config).unwrap();
        assert_eq!(last.read().unwrap().unwrap().0, config);
        config.store.url = Some(crate::config::StoreUrl::new("postgres://u:secret@h/d"));
        last.keep(&config).unwrap();
        assert!(last.read().unwrap().is_some());
        assert!(!std::fs::read_to_string(&last.file).unwrap().contains("secret"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
