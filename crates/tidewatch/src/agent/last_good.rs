//! The rules that were in force last, kept on disk: an agent that starts while the rules that it is to take are broken
//! goes on with these.
//!
//! One file: a line `tidewatch-rules 1 DIGEST`, then JSON, of which DIGEST is the SHA-256. It is written beside the old
//! one, synced, and put in its place by rename: whenever the agent is killed, there is a whole one.

use std::fs::{File, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::rules::{Places, RuleTexts};

/// What the first line begins with.
const MARK: &str = "tidewatch-rules 1 ";
/// Largest copy in bytes.
const MAX: u64 = 256 << 20;

/// Where the copy lies.
#[derive(Clone, Debug)]
pub(super) struct LastGood {
    file: PathBuf,
}

/// A copy of rules that were in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Where they came from.
    pub places: Places,
    /// What they were.
    pub texts: RuleTexts,
}

/// Why there is no use in a copy.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeptError {
    /// It cannot be read.
    #[error("the copy of the last good rules {0} cannot be read: {1}")]
    Read(PathBuf, std::io::Error),
    /// It is not what was written.
    #[error("the copy of the last good rules {0} is damaged: {1}")]
    Damaged(PathBuf, &'static str),
}

impl LastGood {
    /// In the folder of the agent's state.
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self { file: folder.join("last-good-rules") }
    }

    /// Keeps these rules instead of those before, unless they are the same.
    ///
    /// # Errors
    /// If the disk does not take them; those before are kept then.
    pub(super) fn keep(&self, places: &Places, texts: &RuleTexts) -> std::io::Result<()> {
        let kept = Kept { places: places.clone(), texts: texts.clone() };
        let body = serde_json::to_vec(&kept)?;
        let mut bytes = format!("{MARK}{}\n", digest(&body)).into_bytes();
        bytes.extend(body);
        if bytes.len() as u64 > MAX {
            return Err(std::io::Error::other(format!("they are larger than {MAX} bytes")));
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
    pub(super) fn read(&self) -> Result<Option<(Kept, u64)>, KeptError> {
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
        let kept = serde_json::from_slice(body).map_err(|_| damaged("it is no copy of rules"))?;
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

    fn place(name: &str) -> (LastGood, PathBuf) {
        let folder = std::env::temp_dir().join(format!("tidewatch-last-good-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        (LastGood::in_folder(&folder), folder)
    }

    fn pack() -> (Places, RuleTexts) {
        (Places { files: vec!["/r.yaml".into()], dropins: None }, RuleTexts::pack())
    }

    #[test]
    fn what_was_kept_comes_back_and_the_same_is_not_written_again() {
        let (last, folder) = place("back");
        assert!(last.read().unwrap().is_none());
        let (places, texts) = pack();
        last.keep(&places, &texts).unwrap();
        let (kept, made) = last.read().unwrap().unwrap();
        assert_eq!((&kept.places, &kept.texts), (&places, &texts));
        assert!(made > 0 && kept.texts.load().enabled() > 0);
        assert_eq!(std::fs::metadata(&last.file).unwrap().permissions().mode() & 0o777, 0o600);
        last.keep(&places, &texts).unwrap();
        assert_eq!(last.read().unwrap().unwrap().1, made);
        last.keep(&places, &RuleTexts { source: "other".into(), ..texts }).unwrap();
        assert_eq!(last.read().unwrap().unwrap().0.texts.source, "other");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_damaged_copy_is_told_and_never_taken() {
        let (last, folder) = place("damaged");
        let (places, texts) = pack();
        last.keep(&places, &texts).unwrap();
        let whole = std::fs::read(&last.file).unwrap();
        for at in (0..whole.len()).step_by(whole.len() / 97) {
            std::fs::write(&last.file, &whole[..at]).unwrap();
            assert!(last.read().is_err(), "cut at {at}");
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&last.file, bytes).unwrap();
            assert!(last.read().is_err(), "byte {at}");
        }
        let text = "tidewatch-rules 1 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n";
        std::fs::write(&last.file, text).unwrap();
        assert!(last.read().unwrap_err().to_string().contains("no copy of rules"));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_disk_that_does_not_take_it_leaves_the_one_before() {
        let (last, folder) = place("refused");
        let (places, texts) = pack();
        last.keep(&places, &texts).unwrap();
        std::fs::create_dir(last.file.with_extension("new")).unwrap();
        assert!(last.keep(&places, &RuleTexts::default()).is_err());
        assert_eq!(last.read().unwrap().unwrap().0.texts, texts);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
