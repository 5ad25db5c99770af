//! The folder of segments: their names, their order, and which of them go.
//!
//! **Never:** deletes a file that is not named as a segment, or the newest one.

use std::collections::VecDeque;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::error::RecorderError;

/// What the name of a segment ends with.
const ENDING: &str = ".twrec";
const TIME: &str = "%Y%m%dT%H%M%SZ";

/// A segment as its name and size tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub number: u64,
    /// When it was created as the name says, nanoseconds since the epoch, in whole seconds.
    pub created_ns: u64,
    pub path: PathBuf,
    pub bytes: u64,
}

/// Name of segment `number`, created at `ns` since the epoch.
pub(super) fn name_of(number: u64, ns: u64) -> String {
    let time = Timestamp::from_nanosecond(ns.into()).unwrap_or_default();
    format!("{number:010}-{}{ENDING}", time.strftime(TIME))
}

/// Number and time of creation; `None` if this is not the name of a segment.
pub(super) fn parse_name(name: &str) -> Option<(u64, u64)> {
    let (number, time) = name.strip_suffix(ENDING)?.split_once('-')?;
    if number.len() < 10 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let time = TimeZone::UTC.to_timestamp(DateTime::strptime(TIME, time).ok()?).ok()?;
    Some((number.parse().ok()?, time.as_nanosecond().try_into().unwrap_or(0)))
}

/// The segments in `path`, oldest first. Files of other names are left out.
pub(super) fn scan(path: &Path) -> Result<VecDeque<Entry>, RecorderError> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path).map_err(RecorderError::io("read the folder", path))? {
        let entry = entry.map_err(RecorderError::io("read the folder", path))?;
        let Some((number, created_ns)) = entry.file_name().to_str().and_then(parse_name) else { continue };
        // Gone in the meantime: another process may be tidying up.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_file() {
            entries.push(Entry { number, created_ns, path: entry.path(), bytes: metadata.len() });
        }
    }
    entries.sort_by(|a, b| (a.number, &a.path).cmp(&(b.number, &b.path)));
    Ok(entries.into())
}

/// How many of the oldest segments hold nothing younger than `max_age`. `created` are their times of creation in the
/// order of their numbers, as the wall clock told them. That clock may have been wrong:
///
/// - A time in the future says nothing. The segment is taken to be as old as the next one that says something, or new.
/// - No segment is taken to be older than the one before it: the clock was behind when it was created.
///
/// A segment goes on until the next begins, so it is the next one's time that counts, and the newest always stays.
pub(super) fn expired(created: impl DoubleEndedIterator<Item = u64> + Clone, now_ns: u64, max_age: Duration) -> usize {
    let max_age = u64::try_from(max_age.as_nanos()).unwrap_or(u64::MAX);
    let mut latest = 0;
    let mut gone = 0;
    for (place, time) in created.enumerate() {
        if time > now_ns {
            continue;
        }
        latest = latest.max(time);
        if now_ns - latest <= max_age {
            break;
        }
        gone = place;
    }
    gone
}

/// The folder while it is written to.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    entries: VecDeque<Entry>,
    bytes: u64,
}

impl Folder {
    /// Creates it if it is not there, for nobody but us.
    pub fn open(path: &Path) -> Result<Self, RecorderError> {
        make(path)?;
        let entries = scan(path)?;
        Ok(Self { path: path.into(), bytes: entries.iter().map(|entry| entry.bytes).sum(), entries })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn entries(&self) -> &VecDeque<Entry> {
        &self.entries
    }

    /// Number that the next segment gets.
    pub fn next_number(&self) -> u64 {
        self.entries.back().map_or(1, |entry| entry.number.saturating_add(1))
    }

    /// Creates the next segment, empty.
    pub fn create(&mut self, now_ns: u64) -> Result<(File, PathBuf), RecorderError> {
        let number = self.next_number();
        let path = self.path.join(name_of(number, now_ns));
        let open = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = match open() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                make(&self.path)?;
                open()
            }
            other => other,
        };
        let file = file.map_err(RecorderError::io("create", &path))?;
        // Read back from the name, so that it is the same after a restart.
        let created_ns = path.file_name().and_then(|name| parse_name(name.to_str()?)).map_or(now_ns, |(_, time)| time);
        self.entries.push_back(Entry { number, created_ns, path: path.clone(), bytes: 0 });
        Ok((file, path))
    }

    /// Takes back the newest segment, because nothing could be written to it.
    pub fn discard_newest(&mut self) {
        if let Some(entry) = self.entries.pop_back() {
            self.bytes = self.bytes.saturating_sub(entry.bytes);
            let _ = std::fs::remove_file(entry.path);
        }
    }

    /// The newest segment is now this long.
    pub fn newest_has(&mut self, bytes: u64) {
        if let Some(entry) = self.entries.back_mut() {
            self.bytes = self.bytes - entry.bytes + bytes;
            entry.bytes = bytes;
        }
    }

    /// Deletes the oldest segment and says how many bytes that freed; `None` if only `keep` of the newest are left.
    pub fn unlink_oldest(&mut self, keep: usize) -> Result<Option<u64>, RecorderError> {
        if self.entries.len() <= keep {
            return Ok(None);
        }
        let Some(entry) = self.entries.front() else { return Ok(None) };
        match std::fs::remove_file(&entry.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(RecorderError::io("delete", &entry.path)(error)),
            _ => {
                let bytes = entry.bytes;
                self.bytes -= bytes;
                self.entries.pop_front();
                Ok(Some(bytes))
            }
        }
    }

    /// Deletes segments that are too old.
    pub fn expire(&mut self, now_ns: u64, max_age: Duration) -> Result<(), RecorderError> {
        for _ in 0..expired(self.entries.iter().map(|entry| entry.created_ns), now_ns, max_age) {
            self.unlink_oldest(1)?;
        }
        Ok(())
    }
}

fn make(path: &Path) -> Result<(), RecorderError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(RecorderError::io("create the folder", path))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o700))
        .map_err(RecorderError::io("close to others the folder", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600 * 1_000_000_000;

    fn gone(created: &[u64], now: u64) -> usize {
        expired(created.iter().map(|hour| hour * HOUR), now * HOUR, Duration::from_nanos(24 * HOUR))
    }

    #[test]
    fn names_are_read_back() {
        let name = name_of(42, 1_795_518_245_123_456_789);
        assert_eq!(name, "0000000042-20261124T110405Z.twrec");
        assert_eq!(parse_name(&name), Some((42, 1_795_518_245_000_000_000)));
        assert_eq!(parse_name(&name_of(u64::MAX, u64::MAX)).map(|(number, _)| number), Some(u64::MAX));
        for bad in
            ["", "x.twrec", "0000000042-.twrec", "42-20261124T095045Z.twrec", "0000000042-20261324T095045Z.twrec"]
        {
            assert_eq!(parse_name(bad), None, "{bad}");
        }
        assert_eq!(parse_name("00000000+2-20261124T095045Z.twrec"), None);
    }

    #[test]
    fn a_segment_goes_when_the_next_one_is_too_old() {
        assert_eq!(gone(&[], 100), 0);
        assert_eq!(gone(&[1], 100), 0, "the newest stays");
        assert_eq!(gone(&[1, 80, 90], 100), 0, "the first goes on until 80");
        assert_eq!(gone(&[1, 70, 90], 100), 1);
        assert_eq!(gone(&[1, 2, 3, 4], 100), 3);
    }

    #[test]
    fn a_clock_that_was_wrong_deletes_nothing_young_and_keeps_nothing_forever() {
        assert_eq!(gone(&[5000, 5001, 90, 95], 100), 0, "times in the future are no reason");
        assert_eq!(gone(&[5000, 5001, 70, 95], 100), 2, "what follows shows that they are old");
        assert_eq!(gone(&[5000, 5001, 5002], 100), 0);
        assert_eq!(gone(&[80, 90, 0, 99], 100), 0, "the third was created after the second, whatever its clock said");
        assert_eq!(gone(&[70, 75, 0, 99], 100), 2, "and may go when the second may");
        assert_eq!(gone(&[90, 95], 10), 0, "the clock jumped back since");
    }
}
