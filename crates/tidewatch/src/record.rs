//! `record`: what happens, or happened, into a file that others read: `.scap` for sysdig, Falco and `replay`, `.pcapng`
//! for Wireshark.
//!
//! **Never:** a file that others may read, one that stands in the place of another unasked, or one that does not end
//! with a whole block.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tw_model::{Container, Finding};
use tw_sensor::capture::Written;

use crate::cli::RecordArgs;
use crate::config::Config;
use crate::screen;

mod excerpt;
mod host;
mod live;
mod packets;
mod tape;

/// Sections of the configuration that a recording depends on.
pub const NEEDS: &[&str] = &["state_dir", "rules", "agent", "redaction", "recorder"];
/// How often the line on the terminal changes.
const SHOW_EVERY: Duration = Duration::from_millis(250);

/// Records until it is told to stop, or what was kept.
///
/// # Errors
/// If the file is there already or cannot be written, or there is nothing to record from.
pub fn run(args: &RecordArgs, config: &Config) -> anyhow::Result<ExitCode> {
    match &args.from_recorder {
        Some(paths) => excerpt::run(args, paths, config),
        None if args.packets => packets::run(args, config),
        None => live::run(args, config),
    }
}

/// Makes the file: new, for its owner alone.
fn create(path: &Path, force: bool) -> anyhow::Result<File> {
    let open = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let made = match open() {
        Err(error) if force && error.kind() == io::ErrorKind::AlreadyExists => {
            // A link, too, goes itself and not what it leads to; a folder stays.
            std::fs::remove_file(path).and_then(|()| open())
        }
        made => made,
    };
    made.map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::AlreadyExists => "; --force replaces it",
            io::ErrorKind::NotFound => ": there is no such folder",
            _ => "",
        };
        anyhow::anyhow!("cannot make {}: {error}{remedy}", path.display())
    })
}

/// Whose records are wanted.
#[derive(Clone, Debug, Default)]
struct Whose(Option<String>);

impl Whose {
    /// Least digits of an id that stand for a container.
    const DIGITS: usize = 4;

    /// Whether everything is wanted.
    fn is_everybody(&self) -> bool {
        self.0.is_none()
    }

    fn wants(&self, container: Option<&Container>) -> bool {
        let Some(wanted) = &self.0 else { return true };
        container.is_some_and(|container| {
            container.name == *wanted || (wanted.len() >= Self::DIGITS && container.id.starts_with(&**wanted))
        })
    }

    fn wants_finding(&self, finding: &Finding) -> bool {
        let Some(wanted) = &self.0 else { return true };
        finding.container.as_ref().is_some_and(|container| {
            container.name == *wanted || (wanted.len() >= Self::DIGITS && container.id.starts_with(&**wanted))
        })
    }
}

/// The line on the terminal while it goes on.
struct Show {
    bar: ProgressBar,
    started: Instant,
    shown: Option<Instant>,
}

impl Show {
    fn new() -> Self {
        // Standard error, and nothing where that is no terminal.
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        Self { bar, started: Instant::now(), shown: None }
    }

    /// Says where there is no line that moves that what happens from now on is recorded.
    fn begins(&self, args: &RecordArgs) {
        if !std::io::stderr().is_terminal() {
            anstream::eprintln!("recording into {}; Ctrl-C (SIGINT) ends it", args.output.display());
        }
    }

    fn look(&mut self, what: impl FnOnce(u64) -> String) {
        if self.shown.is_none_or(|shown| shown.elapsed() >= SHOW_EVERY) {
            self.shown = Some(Instant::now());
            self.bar.set_message(what(self.started.elapsed().as_secs()));
            self.bar.tick();
        }
    }

    fn end(self) -> f64 {
        self.bar.finish_and_clear();
        self.started.elapsed().as_secs_f64()
    }
}

/// What is told at the end.
struct End<'a> {
    args: &'a RecordArgs,
    written: Written,
    seconds: f64,
    /// Records that never came here.
    lost: u64,
    /// Why it ended, if nobody asked for it.
    why: Option<String>,
}

impl End<'_> {
    fn tell(&self) -> anyhow::Result<ExitCode> {
        let (written, file) = (&self.written, self.args.output.display());
        if self.args.json {
            screen::print_stdout(&format!(
                "{}\n",
                serde_json::json!({
                    "file": self.args.output, "records": written.records, "events": written.events,
                    "bytes": written.bytes, "raw_bytes": written.raw_bytes, "seconds": self.seconds,
                    "lost": self.lost, "without_event": written.without_event, "ended": self.why,
                })
            ))?;
        } else {
            let why = self.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
            anstream::eprintln!(
                "{file}: {} in {:.1} s, {}, {} lost{why}",
                screen::count(usize::try_from(written.records).unwrap_or(usize::MAX), "record"),
                self.seconds,
                screen::bytes(written.bytes),
                self.lost
            );
            if written.records == 0 {
                anstream::eprintln!("nothing of that happened: `tidewatch replay --list` says what was recorded");
            } else {
                anstream::eprintln!("read it with: sysdig -r {file}   or: tidewatch replay {file}");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What is told when the file cannot be written on.
fn broken(args: &RecordArgs, written: &Written, error: &io::Error) -> anyhow::Error {
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room, or name a file elsewhere with --output"
        }
        _ => "look at the disk",
    };
    anyhow::anyhow!(
        "cannot write {}: {error}; it can be read up to there, {} of {} records at most; {remedy}",
        args.output.display(),
        screen::bytes(written.bytes),
        written.records
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_is_its_owners_and_replaces_another_only_if_asked() {
        let folder = std::env::temp_dir().join(format!("tidewatch-record-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (file, other) = (folder.join("a.scap"), folder.join("other"));
        create(&file, false).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let said = create(&file, false).unwrap_err().to_string();
        assert!(said.contains("--force"), "{said}");
        std::fs::write(&other, "precious").unwrap();
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink(&other, &file).unwrap();
        assert!(create(&file, false).is_err());
        create(&file, true).unwrap();
        assert_eq!(std::fs::read(&other).unwrap(), b"precious", "a link is not followed");
        assert!(create(&folder, true).is_err());
        assert!(create(&folder.join("no/such.scap"), false).unwrap_err().to_string().contains("no such folder"));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_container_is_meant_by_name_or_by_the_first_digits_of_its_id() {
        let container = Container { id: "abcdef0123456789".into(), name: "web".into(), ..Container::default() };
        let wants = |text: &str| Whose(Some(text.into())).wants(Some(&container));
        assert!(wants("web") && wants("abcdef012345") && wants("abcd"));
        assert!(!wants("we") && !wants("abc") && !wants("bcdef") && !Whose(Some("web".into())).wants(None));
        assert!(Whose(None).wants(None) && Whose(None).is_everybody());
    }
}
