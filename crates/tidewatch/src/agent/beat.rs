//! Signs of life on disk, so that the next start can say from when to when nobody watched.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tw_detect::Notice;
use tw_model::Priority;
use tw_model::finding::Shown;
use tw_model::status::{LastEnd, Unwatched};

/// Longest beat, in bytes; each is padded to it, so that one write replaces the other.
const LENGTH: usize = 160;

/// One sign of life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Beat {
    /// Wall-clock time, nanoseconds since the epoch.
    time_ns: u64,
    boot_id: String,
    /// The agent ended because it was told to.
    ended: bool,
}

/// How long the agent waits at its end for its last sign of life to be written.
const LAST: Duration = Duration::from_secs(1);

/// The file with the last sign of life, and the thread that writes it: a disk that hangs holds up nobody else.
pub struct Pulse {
    beats: Option<SyncSender<Beat>>,
    /// Hangs up when the thread has written all.
    written: Receiver<()>,
    boot_id: String,
}

impl Pulse {
    /// Opens the file, and says what it tells of the agent before; `None` at the first start, or if it makes no sense.
    /// A file that cannot be opened is no reason not to watch: then the next start knows nothing of this one. `now_ns` is
    /// wall-clock time.
    pub fn open(path: &Path, boot_id: &str, now_ns: u64) -> (Self, Option<Unwatched>) {
        let (beats, taken) = sync_channel::<Beat>(1);
        let (done, written) = sync_channel(1);
        let mut options = File::options();
        let opened = options.create(true).truncate(false).read(true).write(true).mode(0o600).open(path);
        let started = opened.and_then(|file| {
            let before = Beat::read(&file);
            std::thread::Builder::new().name("beat".into()).spawn(move || {
                let _done = done;
                let mut complained = false;
                for beat in taken {
                    if let Err(error) = beat.write(&file)
                        && !std::mem::replace(&mut complained, true)
                    {
                        tracing::warn!("cannot write a sign of life: {error}");
                    }
                }
            })?;
            Ok(before)
        });
        let before = started.unwrap_or_else(|error| {
            tracing::warn!("no signs of life are written, {}: {error}", path.display());
            None
        });
        let unwatched = before.map(|beat| Unwatched {
            from_ns: beat.time_ns.min(now_ns),
            until_ns: now_ns,
            end: match beat {
                Beat { ended: true, .. } => LastEnd::Asked,
                Beat { boot_id: known, .. } if known != boot_id => LastEnd::HostStarted,
                Beat { .. } => LastEnd::Killed,
            },
        });
        (Self { beats: Some(beats), written, boot_id: boot_id.to_owned() }, unwatched)
    }

    /// Has a sign of life written, if the one before is.
    pub fn beat(&self, time_ns: u64) {
        if let Some(beats) = &self.beats {
            // One that is still being written says nearly the same.
            let _ = beats.try_send(Beat { time_ns, boot_id: self.boot_id.clone(), ended: false });
        }
    }

    /// The last one. Waits until it is written, but not for long.
    pub fn end(&mut self, time_ns: u64) {
        let Some(beats) = self.beats.take() else { return };
        let mut last = Beat { time_ns, boot_id: self.boot_id.clone(), ended: true };
        let deadline = Instant::now() + LAST;
        while let Err(TrySendError::Full(back)) = beats.try_send(last) {
            if Instant::now() >= deadline {
                return;
            }
            last = back;
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(beats);
        let _ = self.written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

impl Beat {
    fn read(file: &File) -> Option<Self> {
        let mut bytes = [0; LENGTH];
        let read = file.read_at(&mut bytes, 0).unwrap_or(0);
        serde_json::from_slice(bytes.get(..read)?).ok()
    }

    /// Not synced: after a crash of the host its boot id tells enough.
    fn write(&self, file: &File) -> io::Result<()> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.resize(LENGTH - 1, b' ');
        line.push(b'\n');
        file.write_all_at(&line, 0)
    }
}

/// Longest time without a watch that is not worth an alert if the agent was told to end. Nanoseconds.
const SHORT_NS: u64 = 60_000_000_000;

/// What there is to say of the time before the start: always after a kill, else if it was long.
pub fn notice(gap: &Unwatched) -> Option<Notice<'static>> {
    let ns = gap.until_ns.saturating_sub(gap.from_ns);
    let (priority, how) = match gap.end {
        LastEnd::Asked if ns < SHORT_NS => return None,
        LastEnd::Asked => (Priority::Notice, "it had been told to end"),
        LastEnd::Killed => (Priority::Warning, "it had been killed, or crashed"),
        LastEnd::HostStarted => (Priority::Notice, "the host was started anew"),
    };
    let (from, until) = (tw_report::iso_time(gap.from_ns), tw_report::iso_time(gap.until_ns));
    let seconds = ns as f64 / 1e9;
    Some(Notice {
        name: "not watched",
        priority,
        message: format!("nobody watched for {seconds:.1} s, from {from} to {until}: {how}"),
        why: "What happened in that time is not known. Processes that run now were read from /proc; those that began and \
              ended meanwhile left no trace.",
        advice: "If nobody ended it on purpose, find out who did: the log of the service and of the kernel (out of memory?) \
                 around that time.",
        fields: vec![
            ("unwatched.from".to_owned(), Shown::Text(from)),
            ("unwatched.until".to_owned(), Shown::Text(until)),
            ("unwatched.seconds".to_owned(), Shown::Text(format!("{seconds:.3}"))),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_start_knows_how_the_last_watch_ended() {
        let path = std::env::temp_dir().join(format!("tidewatch-beat-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let open = |boot_id: &str, now| Pulse::open(&path, boot_id, now);
        // As if killed: whatever was taken is written.
        let killed = |mut pulse: Pulse, at| {
            pulse.beat(at);
            drop(pulse.beats.take());
            let _ = pulse.written.recv();
        };
        let (pulse, before) = open("boot-1", 10);
        assert_eq!(before, None, "the first start");
        killed(pulse, 20);
        let (mut pulse, before) = open("boot-1", 50);
        assert_eq!(before, Some(Unwatched { from_ns: 20, until_ns: 50, end: LastEnd::Killed }));
        assert!(notice(&before.unwrap()).unwrap().message.contains("killed"));
        pulse.beat(55);
        pulse.end(60);
        let (pulse, before) = open("boot-1", 70);
        assert_eq!(before.as_ref().unwrap().end, LastEnd::Asked);
        assert!(notice(&before.unwrap()).is_none(), "a restart on purpose is no news");
        killed(pulse, 80);
        let (_, before) = open("boot-2", 70);
        let before = before.unwrap();
        assert_eq!(before, Unwatched { from_ns: 70, until_ns: 70, end: LastEnd::HostStarted }, "the clock went back");
        std::fs::write(&path, "nonsense").unwrap();
        assert_eq!(open("boot-2", 90).1, None);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn no_file_and_a_disk_that_hangs_hold_up_nobody() {
        let (mut pulse, before) = Pulse::open(Path::new("/nonexistent/beat"), "boot", 1);
        assert_eq!(before, None);
        pulse.beat(2);
        pulse.end(3);
        // The thread is busy for good: nobody takes what is sent.
        let ((beats, _taken), (_done, written)) = (sync_channel(1), sync_channel(1));
        let mut pulse = Pulse { beats: Some(beats), written, boot_id: String::new() };
        let started = Instant::now();
        (0..1000).for_each(|at| pulse.beat(at));
        assert!(started.elapsed() < LAST / 2);
        pulse.end(1001);
        assert!(started.elapsed() < 3 * LAST);
    }
}
