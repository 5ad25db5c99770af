//! `replay`: the same pipeline over what was recorded: segments of the flight recorder, and captures of sysdig and Falco.
//! With the rules that were in force a segment gives what was found live, to the byte.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::ops::{ControlFlow, RangeInclusive};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bumpalo::Bump;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sha2::{Digest as _, Sha256};
use tw_detect::Detector;
use tw_enrich::World;
use tw_model::{Event, Finding, Raw};
use tw_report::redact::{Redactor, load_or_make_salt};
use tw_sensor::capture::looks_like_capture;
use tw_sensor::recorder::{SegmentReader, segment_paths};

use crate::agent::Clean;
use crate::cli::ReplayArgs;
use crate::config::Config;
use crate::screen::print_stdout;
use crate::{rules, when};

mod capture;
mod list;
mod segment;
mod stats;
#[cfg(test)]
mod tests;

pub use segment::{Kinds, Translated};
use stats::Stats;

/// Sections and keys of the configuration that a replay depends on.
pub const NEEDS: &[&str] = &["state_dir", "rules", "agent", "redaction", "recorder"];

/// Replays what is named, or the whole recording of this host.
///
/// # Errors
/// If a file is not there, the rules are broken, or standard output is closed. A damaged file is replayed as far as it
/// can be read, and told; one that cannot be read at all is told and left out. Then it ends with a failure.
pub fn run(args: &ReplayArgs, config: &Config) -> anyhow::Result<ExitCode> {
    when::in_order(args.since.as_deref(), args.until.as_deref())?;
    let files = files(&args.paths, config)?;
    if args.list {
        return list::list(&files, args.json);
    }
    let loaded = rules::in_force(config)?;
    let now = jiff::Timestamp::now();
    let time = |text: &Option<String>, otherwise| text.as_ref().map_or(Ok(otherwise), |text| when::parse(text, now));
    let period = time(&args.since, 0)?..=time(&args.until, u64::MAX)?;
    let digest = loaded.status().digest;
    let mut replay = Replay {
        period,
        json: args.json,
        progress: progress(files.iter().map(|file| size(file)).sum()),
        ..Replay::new(Detector::new(loaded.rules), Redactors::new(config), config)
    };
    let mut whole = true;
    for file in &files {
        let before = replay.progress.position();
        whole &= replay.file(file, &digest)?;
        replay.progress.set_position(before + size(file));
    }
    replay.progress.finish_and_clear();
    if whole && !args.json && !args.stats && replay.stats.is_quiet() {
        anstream::eprintln!(
            "nothing found{}",
            if replay.stats.events == 0 { ": no event was read; --list says what there is" } else { "" }
        );
    }
    if args.stats {
        replay.stats.show(args.json)?;
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Looks at an event, and says whether to go on.
pub type Look<'l> = &'l mut dyn FnMut(&Event<'_>) -> ControlFlow<()>;

/// Shows every event of what was recorded to `look`, in order, until it breaks; no rule is asked. Tells how many there
/// were.
///
/// # Errors
/// If a file is not there. A damaged file is read as far as it can be, and told.
pub fn events(paths: &[PathBuf], config: &Config, look: Look<'_>) -> anyhow::Result<u64> {
    let mut replay = Replay {
        look: Some(look),
        ..Replay::new(Detector::new(tw_rules::RuleSet::default()), Redactors::new(config), config)
    };
    for file in files(paths, config)? {
        replay.file(&file, "")?;
        if replay.over {
            break;
        }
    }
    Ok(replay.stats.events)
}

/// The files that were named; of a folder all segments, oldest first, then all captures.
fn files(paths: &[PathBuf], config: &Config) -> anyhow::Result<Vec<PathBuf>> {
    let recording = [config.recorder_dir()];
    let paths = if paths.is_empty() { recording.as_slice() } else { paths };
    let mut files = Vec::new();
    for path in paths {
        let what = std::fs::metadata(path).map_err(|error| {
            let remedy = match error.kind() {
                io::ErrorKind::PermissionDenied => "recordings are root's: try with sudo",
                _ => "name a segment (*.twrec), a capture (*.scap), or a folder of them",
            };
            anyhow::anyhow!("cannot look at {}: {error}; {remedy}", path.display())
        })?;
        if what.is_dir() {
            let before = files.len();
            files.extend(segment_paths(path)?);
            // Those of other names than the recorder gives were put there by somebody.
            let named = ending(path, &[".twrec"])?.into_iter().filter(|file| !files[before..].contains(file));
            let named: Vec<PathBuf> = named.collect();
            files.extend(named);
            files.extend(ending(path, CAPTURES)?);
            anyhow::ensure!(files.len() > before, "no segment or capture in {}: has the recorder run?", path.display());
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

/// The segments among what is named, or of the recording of this host.
///
/// # Errors
/// If a file is not there, or none of them is a segment.
pub fn segments(paths: &[PathBuf], config: &Config) -> anyhow::Result<Vec<PathBuf>> {
    let (captures, segments): (Vec<_>, Vec<_>) = files(paths, config)?.into_iter().partition(|file| is_capture(file));
    for capture in &captures {
        tracing::warn!("{} is a capture already: it is left out", capture.display());
    }
    anyhow::ensure!(!segments.is_empty(), "there is no segment of the flight recorder in what was named");
    Ok(segments)
}

/// What the names of captures end with.
const CAPTURES: &[&str] = &[".scap", ".scap.gz"];

fn ends(path: &Path, endings: &[&str]) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    endings.iter().any(|ending| name.ends_with(ending))
}

/// The files of a folder whose names end so, by name.
fn ending(folder: &Path, endings: &[&str]) -> io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)?.filter_map(Result::ok);
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| ends(path, endings)).collect();
    found.sort();
    Ok(found)
}

/// Whether a file is to be read as a capture: it begins like one, or is called one and is no segment.
fn is_capture(path: &Path) -> bool {
    let mut head = Vec::new();
    // A pipe under this name must not make us wait.
    let is_file = std::fs::metadata(path).is_ok_and(|what| what.is_file());
    let begins = is_file
        && File::open(path).and_then(|file| file.take(4).read_to_end(&mut head)).is_ok()
        && looks_like_capture(&head);
    begins || (is_file && ends(path, CAPTURES) && SegmentReader::open(path).is_err())
}

fn size(file: &Path) -> u64 {
    std::fs::metadata(file).map_or(0, |data| data.len())
}

fn progress(bytes: u64) -> ProgressBar {
    let bar = ProgressBar::new(bytes);
    // Nobody wants a bar between alerts on one terminal.
    if io::stdout().is_terminal() || !io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes}  {eta} left") {
        bar.set_style(style);
    }
    bar
}

/// Where events come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Secrets were taken out before it was written.
    Segment,
    /// Whoever wrote it took nothing out.
    Capture,
}

/// Take secrets out.
#[derive(Default)]
struct Redactors {
    /// With the salt of this host equal secrets get equal digests. Without it, free text keeps what was recorded.
    segment: Option<Redactor>,
    /// Of captures, if secrets are taken out; see [`Replay::capture`].
    capture: Option<Redactor>,
}

impl Redactors {
    fn new(config: &Config) -> Self {
        if !config.redaction.enabled {
            return Self::default();
        }
        let path = config.agent_dir().join("redaction-salt");
        let salt = if path.exists() { Some(load_or_make_salt(&path)) } else { None };
        let salt = match salt {
            Some(Ok(salt)) => Some(salt),
            Some(Err(error)) => {
                tracing::warn!(
                    "without the salt of this host digests of secrets are not those of the live run: {error}"
                );
                None
            }
            None => None,
        };
        Self { segment: salt.map(Redactor::new), capture: salt.map(Redactor::new) }
    }

    fn of(&self, origin: Origin) -> Option<&Redactor> {
        match origin {
            Origin::Segment => self.segment.as_ref(),
            Origin::Capture => self.capture.as_ref(),
        }
    }
}

/// A salt for a capture where this host has none: the same again for the same file, and known to nobody who has not got
/// the file, in which the secrets are.
fn salt_of(path: &Path) -> io::Result<[u8; 32]> {
    let mut head = Vec::new();
    File::open(path)?.take(1 << 20).read_to_end(&mut head)?;
    Ok(Sha256::digest(&head).into())
}

/// The pipeline, with files in the kernel's place.
struct Replay<'c> {
    detector: Detector,
    redactors: Redactors,
    /// Findings of this time are told, nanoseconds since the epoch.
    period: RangeInclusive<u64>,
    config: &'c Config,
    json: bool,
    scratch: Bump,
    found: Vec<Finding>,
    stats: Stats,
    hostname: String,
    /// Whoever looks at the events instead of the rules.
    look: Option<Look<'c>>,
    /// They have seen enough.
    over: bool,
    /// Standard output is closed.
    failed: Option<io::Error>,
    /// Bytes of all files.
    progress: ProgressBar,
}

impl<'c> Replay<'c> {
    /// Tells every finding as JSON, and no progress.
    fn new(detector: Detector, redactors: Redactors, config: &'c Config) -> Self {
        Self {
            detector,
            redactors,
            period: 0..=u64::MAX,
            config,
            json: true,
            scratch: Bump::new(),
            found: Vec::new(),
            stats: Stats::default(),
            hostname: String::new(),
            look: None,
            over: false,
            failed: None,
            progress: ProgressBar::hidden(),
        }
    }
}

impl Replay<'_> {
    /// One file; false if it could not be read, or not to its end.
    fn file(&mut self, path: &Path, digest: &str) -> anyhow::Result<bool> {
        if is_capture(path) { self.capture(path, digest) } else { self.segment(path, digest) }
    }

    /// Whether to go on reading.
    fn flow(&self) -> ControlFlow<()> {
        if self.over || self.failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// One record: the world takes it, the rules look at it.
    fn inspect(&mut self, world: &mut World, raw: Raw<'_>, origin: Origin) {
        let clean = Clean::new(self.redactors.of(origin), &raw);
        let raw = clean.instead_of(raw);
        let mut found = std::mem::take(&mut self.found);
        let event = world.observe(raw, &self.scratch);
        match &mut self.look {
            Some(look) => self.over |= look(&event).is_break(),
            None => self.detector.inspect(&event, &mut |finding| found.push(finding)),
        }
        self.scratch.reset();
        for finding in found.drain(..).filter(|finding| finding.priority <= self.config.agent.priority) {
            self.report(finding, origin);
        }
        self.found = found;
    }

    fn report(&mut self, mut finding: Finding, origin: Origin) {
        if self.look.is_some() || !self.period.contains(&finding.time_ns) {
            return;
        }
        if let Some(redactor) = self.redactors.of(origin) {
            redactor.finding(&mut finding);
        }
        self.stats.hit(finding.cause.name());
        let shown = if self.json {
            print_stdout(&(tw_report::json::line(&finding, &self.hostname) + "\n"))
        } else {
            let block = tw_report::terminal::block(&finding) + "\n";
            anstream::AutoStream::auto(io::stdout()).write_all(block.as_bytes())
        };
        if let Err(error) = shown {
            self.failed = Some(error);
        }
    }
}
