//! Sees that rule files changed, by looking at them every other second: that works on every file system, for files that
//! are replaced as for links that are turned, and costs one `stat` a file.
//!
//! What changed is taken once it has been quiet for a second, so that a file is not read while it is being written.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::rules::{self, Places};

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(2);
/// How long they must be quiet after a change.
const QUIET: Duration = Duration::from_secs(1);
/// How often they are looked at until then.
const RESTLESS: Duration = Duration::from_millis(250);

/// What tells one state of a file from another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    /// Also for copies that keep the time of modification.
    changed: (i64, i64),
}

/// The files as they were at one moment; none stands for one that cannot be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sight(Vec<(PathBuf, Option<Stamp>)>);

impl Sight {
    fn of(places: &Places) -> Self {
        let mut files = Vec::new();
        for path in places.files.iter().chain(&places.dropins) {
            match rules::inside(path) {
                Ok(inside) => files.extend(inside),
                Err(_) => files.push(path.clone()),
            }
        }
        Self(files.into_iter().map(|path| (path.clone(), stamp(&path))).collect())
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let data = std::fs::metadata(path).ok()?;
    Some(Stamp {
        file: (data.dev(), data.ino()),
        size: data.size(),
        modified: (data.mtime(), data.mtime_nsec()),
        changed: (data.ctime(), data.ctime_nsec()),
    })
}

/// What is watched, and how it was before it was read: what changes while it is read is seen afterwards.
#[derive(Clone, Debug, Default)]
pub(super) struct Watched {
    places: Option<Places>,
    known: Sight,
}

impl Watched {
    /// The rule files of a configuration as they are now; nothing if they are not to be watched.
    pub(super) fn now(config: &Config) -> Self {
        let places = config.rules.watch.then(|| Places::of(config));
        Self { known: places.as_ref().map(Sight::of).unwrap_or_default(), places }
    }
}

/// Waits for quiet after a change.
#[derive(Default)]
struct Settling(Option<(Sight, Instant)>);

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// As they are known.
    Same,
    /// Something changed, and may go on changing.
    Restless,
    /// Something changed, and has been quiet since.
    Changed,
}

impl Settling {
    fn judge(&mut self, known: &mut Sight, seen: Sight, now: Instant) -> Verdict {
        if seen == *known {
            self.0 = None;
            return Verdict::Same;
        }
        match self.0.take() {
            Some((before, since)) if before == seen => {
                if now.saturating_duration_since(since) >= QUIET {
                    *known = seen;
                    return Verdict::Changed;
                }
                self.0 = Some((before, since));
            }
            _ => self.0 = Some((seen, now)),
        }
        Verdict::Restless
    }
}

/// Watches, in a thread of its own, until the other end of what it returns is dropped; that takes what is to be watched
/// instead. A change sets `changed`.
///
/// # Errors
/// If the thread cannot be started.
pub(super) fn start(mut watched: Watched, changed: Arc<AtomicBool>) -> std::io::Result<Sender<Watched>> {
    let (sender, news) = channel();
    std::thread::Builder::new().name("rules-watch".into()).spawn(move || {
        let mut settling = Settling::default();
        let mut pause = EVERY;
        loop {
            match news.recv_timeout(pause) {
                Ok(instead) => {
                    watched = instead;
                    settling = Settling::default();
                    pause = EVERY;
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    let Some(places) = &watched.places else { continue };
                    let verdict = settling.judge(&mut watched.known, Sight::of(places), Instant::now());
                    if verdict == Verdict::Changed {
                        changed.store(true, Ordering::Relaxed);
                    }
                    pause = if verdict == Verdict::Restless { RESTLESS } else { EVERY };
                }
            }
        }
    })?;
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tidewatch-watch-{}-{name}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(path.join("rules.d")).unwrap();
            Self(path)
        }

        fn sight(&self) -> Sight {
            Sight::of(&Places { files: vec![self.0.join("a.yaml")], dropins: Some(self.0.join("rules.d")) })
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.0.join(name), text).unwrap();
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn every_change_of_a_rule_file_is_seen_and_nothing_else() {
        let folder = Folder::new("changes");
        let mut before = folder.sight();
        let mut differs = |what: &str| {
            let now = folder.sight();
            let differs = now != before;
            before = now;
            assert!(differs, "{what} is not seen");
        };
        folder.write("a.yaml", "1");
        differs("a file that comes");
        folder.write("new", "2");
        std::fs::rename(folder.0.join("new"), folder.0.join("a.yaml")).unwrap();
        differs("a file that is replaced");
        folder.write("a.yaml", "23");
        differs("a file that grows");
        let file = std::fs::File::options().write(true).open(folder.0.join("a.yaml")).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        differs("another time of modification");
        folder.write("rules.d/b.yml", "");
        differs("a drop-in that comes");
        folder.write("c.yaml", "3");
        std::os::unix::fs::symlink("../c.yaml", folder.0.join("rules.d/c.yaml")).unwrap();
        differs("a link that comes");
        folder.write("c.yaml", "34");
        differs("a change behind a link");
        std::fs::remove_file(folder.0.join("rules.d/b.yml")).unwrap();
        differs("a drop-in that goes");
        std::fs::remove_dir_all(folder.0.join("rules.d")).unwrap();
        differs("a folder that goes");
        let before = folder.sight();
        folder.write("other.yaml", "4");
        assert_eq!(folder.sight(), before);
    }

    #[test]
    fn a_change_is_taken_once_when_it_has_been_quiet() {
        let sight = |n: u64| {
            let stamp = Stamp { file: (0, n), size: n, modified: (0, 0), changed: (0, 0) };
            Sight(vec![("/r".into(), Some(stamp))])
        };
        let (start, mut known, mut settling) = (Instant::now(), sight(1), Settling::default());
        let mut look = |n, ms| settling.judge(&mut known, sight(n), start + Duration::from_millis(ms));
        assert_eq!(look(1, 0), Verdict::Same);
        assert_eq!(look(2, 100), Verdict::Restless);
        assert_eq!(look(2, 900), Verdict::Restless);
        assert_eq!(look(3, 1000), Verdict::Restless, "it goes on changing");
        assert_eq!(look(3, 1900), Verdict::Restless);
        assert_eq!(look(3, 2000), Verdict::Changed);
        assert_eq!(look(3, 4000), Verdict::Same);
        assert_eq!(look(4, 5000), Verdict::Restless);
        assert_eq!(look(3, 5200), Verdict::Same, "as if nothing had been");
    }
}
