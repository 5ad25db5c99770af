//! `replay`: the same pipeline over segments of the flight recorder. With the rules that were in force it finds what was
//! found live, to the byte.

use std::io::{self, IsTerminal as _, Write as _};
use std::ops::{ControlFlow, RangeInclusive};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bumpalo::Bump;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tw_detect::Detector;
use tw_enrich::{Context, World, WorldOptions};
use tw_model::raw::{from_words, to_words};
use tw_model::{EventKind, Finding, Raw};
use tw_report::redact::{Redactor, load_or_make_salt};
use tw_sensor::recorder::{FrameKind, Gap, RecorderError, SegmentMeta, SegmentReader, segments};

use crate::agent::{Clean, Settings};
use crate::cli::ReplayArgs;
use crate::config::Config;
use crate::screen::{self, print_stdout};
use crate::{agent, rules, when};

/// Replays what is named, or the whole recording of this host.
///
/// # Errors
/// If a file is not there, the rules are broken, or standard output is closed. A damaged segment is replayed as far as it
/// can be read, and told; one that cannot be read at all is told and left out. Then it ends with a failure.
pub fn run(args: &ReplayArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let files = files(&args.paths, config)?;
    if args.list {
        return list(&files, args.json);
    }
    let loaded = rules::RuleTexts::read(&rules::Places::of(config))?.load();
    rules::show(&loaded.diagnostics, false);
    anyhow::ensure!(
        loaded.errors() == 0 || config.rules.skip_broken,
        "{} in the rules ({}): mend what is shown above, or use --skip-broken-rules",
        screen::count(loaded.errors(), "error"),
        loaded.source
    );
    let now = jiff::Timestamp::now();
    let time = |text: &Option<String>, otherwise| text.as_ref().map_or(Ok(otherwise), |text| when::parse(text, now));
    let period = time(&args.since, 0)?..=time(&args.until, u64::MAX)?;
    let digest = loaded.status().digest;
    let mut rules = loaded.rules;
    rules.set_matching(agent::matching(config));
    let mut replay = Replay {
        detector: Detector::new(rules),
        redactor: redactor(config),
        period,
        config,
        json: args.json,
        scratch: Bump::new(),
        stats: Stats::default(),
        hostname: String::new(),
        failed: None,
    };
    let bytes = files.iter().filter_map(|file| std::fs::metadata(file).ok()).map(|data| data.len()).sum();
    let progress = progress(bytes);
    let started = Instant::now();
    let mut whole = true;
    for file in &files {
        whole &= replay.segment(file, &digest)?;
        progress.inc(std::fs::metadata(file).map_or(0, |data| data.len()));
    }
    progress.finish_and_clear();
    if args.stats {
        replay.stats.show(started.elapsed(), args.json)?;
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The segments that were named; of a folder all, oldest first.
fn files(paths: &[PathBuf], config: &Config) -> anyhow::Result<Vec<PathBuf>> {
    let recording = [config.recorder_dir()];
    let paths = if paths.is_empty() { recording.as_slice() } else { paths };
    let mut files = Vec::new();
    for path in paths {
        let what = std::fs::metadata(path).map_err(|error| {
            let remedy = match error.kind() {
                io::ErrorKind::PermissionDenied => "recordings are root's: try with sudo",
                _ => "name a segment (*.twrec) or a folder of them",
            };
            anyhow::anyhow!("cannot look at {}: {error}; {remedy}", path.display())
        })?;
        if what.is_dir() {
            let found = segments(path)?;
            anyhow::ensure!(!found.is_empty(), "no segment in {}: has the recorder run?", path.display());
            files.extend(found.into_iter().map(|segment| segment.path));
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

/// With the salt of this host equal secrets get equal digests. Without it, free text keeps what was recorded.
fn redactor(config: &Config) -> Option<Redactor> {
    let salt = config.agent_dir().join("redaction-salt");
    if !config.redaction.enabled || !salt.exists() {
        return None;
    }
    match load_or_make_salt(&salt) {
        Ok(salt) => Some(Redactor::new(salt)),
        Err(error) => {
            tracing::warn!("without the salt of this host digests of secrets are not those of the live run: {error}");
            None
        }
    }
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

/// The pipeline, with segments in the kernel's place.
struct Replay<'c> {
    detector: Detector,
    redactor: Option<Redactor>,
    /// Findings of this time are told, nanoseconds since the epoch.
    period: RangeInclusive<u64>,
    config: &'c Config,
    json: bool,
    scratch: Bump,
    stats: Stats,
    hostname: String,
    /// Standard output is closed.
    failed: Option<io::Error>,
}

impl Replay<'_> {
    /// One segment; false if it could not be read, or not to its end.
    fn segment(&mut self, path: &Path, digest: &str) -> anyhow::Result<bool> {
        let mut reader = match SegmentReader::open(path) {
            Ok(reader) => reader,
            // The others are worth replaying all the same.
            Err(error) => {
                tracing::error!("{error}; it is left out");
                return Ok(false);
            }
        };
        let meta = reader.meta().clone();
        // A segment knows all it needs: one that lies outside of the period need not be read.
        let index = reader.index();
        let last = index.last_ns.max(index.first_ns).saturating_add(meta.boot_to_wall_ns);
        if meta.started_ns > *self.period.end() || (index.records > 0 && last < *self.period.start()) {
            return Ok(true);
        }
        if meta.rules_digest != digest {
            tracing::warn!(
                "{}: other rules were in force then (digest {}, now {}): findings may differ from those of that time",
                path.display(),
                meta.rules_digest.get(..12).unwrap_or("unknown"),
                digest.get(..12).unwrap_or_default()
            );
        }
        let changed = Settings::read(&meta).map(|then| then.differences(&Settings::of(self.config)));
        if let Some(changed) = changed.filter(|changed| !changed.is_empty()) {
            tracing::warn!("{}: settings were others then ({changed}): findings may differ", path.display());
        }
        let kinds = Kinds::of(&meta);
        self.hostname.clone_from(&meta.node.hostname);
        self.detector.set_session(meta.node.session);
        let mut world = World::reliving(WorldOptions::default().max_processes);
        // The state says so too, but it may be lost.
        world.relive(Context::Events { count: meta.first_event.saturating_sub(1) });
        let reading = reader.frames(|kind, payload| {
            self.frame(&mut world, &kinds, kind, payload);
            if self.failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if let Some(error) = self.failed.take() {
            return Err(error.into());
        }
        self.stats.segments += 1;
        if let Some(error @ RecorderError::Unfinished { .. }) = &reading.error {
            tracing::info!("{error}");
            return Ok(true);
        }
        if let Some(error) = &reading.error {
            let more =
                if reading.damaged > 1 { format!(" ({} places in all)", reading.damaged) } else { String::new() };
            tracing::error!("{error}{more}; everything that could be read was replayed");
        }
        Ok(reading.error.is_none())
    }

    fn frame(&mut self, world: &mut World, kinds: &Kinds, kind: FrameKind, payload: &[u8]) {
        match kind {
            FrameKind::Record => self.record(world, kinds, payload),
            FrameKind::Finding => match serde_json::from_slice(payload) {
                Ok(finding) => self.report(finding),
                Err(error) => tracing::warn!("a finding in the segment cannot be read: {error}"),
            },
            FrameKind::Gap => {
                let lost = Gap::parse(payload).map_or(0, |gap| gap.records);
                self.stats.lost = self.stats.lost.saturating_add(lost);
                count_unseen(world, lost);
            }
            FrameKind::State | FrameKind::Place | FrameKind::Container | FrameKind::Names | FrameKind::Clock => {
                match serde_json::from_slice(payload) {
                    Ok(context) => world.relive(context),
                    Err(error) => tracing::warn!("a piece of context cannot be read: {error}"),
                }
            }
            _ => {}
        }
    }

    fn record(&mut self, world: &mut World, kinds: &Kinds, payload: &[u8]) {
        let renamed = kinds.translate(payload);
        let payload = match &renamed {
            Translated::AsIs => payload,
            Translated::Renamed(words) => from_words(words),
            Translated::Unknown => {
                self.stats.unknown += 1;
                count_unseen(world, 1);
                return;
            }
        };
        let Ok(raw) = Raw::parse(payload) else {
            self.stats.malformed += 1;
            count_unseen(world, 1);
            return;
        };
        let clean = Clean::new(self.redactor.as_ref(), &raw);
        let raw = clean.instead_of(raw);
        self.stats.events += 1;
        let mut found = Vec::new();
        let event = world.observe(raw, &self.scratch);
        self.detector.inspect(&event, &mut |finding| found.push(finding));
        self.scratch.reset();
        for finding in found.into_iter().filter(|finding| finding.priority <= self.config.agent.priority) {
            self.report(finding);
        }
    }

    fn report(&mut self, mut finding: Finding) {
        if !self.period.contains(&finding.time_ns) {
            return;
        }
        if let Some(redactor) = &self.redactor {
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

/// Events that were counted live, but that the replay does not see: those behind them keep their numbers.
fn count_unseen(world: &mut World, events: u64) {
    world.relive(Context::Events { count: world.events().saturating_add(events) });
}

/// Numbers of kinds of events change between versions; names do not.
struct Kinds {
    /// Number now, by number then; `None` if all are the same.
    now: Option<Vec<Option<u16>>>,
}

enum Translated {
    AsIs,
    Renamed(Vec<u64>),
    Unknown,
}

impl Kinds {
    fn of(meta: &SegmentMeta) -> Self {
        if meta.kinds_are_ours() {
            return Self { now: None };
        }
        let number = |name: &String| EventKind::from_name(name).map(|kind| kind as u16);
        Self { now: Some(meta.events.iter().map(number).collect()) }
    }

    fn translate(&self, record: &[u8]) -> Translated {
        let Some(now) = &self.now else { return Translated::AsIs };
        let mut words = to_words(record);
        // Bytes 2 and 3 of a record are its kind.
        let Some(first) = words.first_mut() else { return Translated::Unknown };
        let mut bytes = first.to_ne_bytes();
        let then = usize::from(u16::from_ne_bytes([bytes[2], bytes[3]]));
        let Some(Some(kind)) = now.get(then) else { return Translated::Unknown };
        bytes[2..4].copy_from_slice(&kind.to_ne_bytes());
        *first = u64::from_ne_bytes(bytes);
        Translated::Renamed(words)
    }
}

#[derive(Default)]
struct Stats {
    segments: u64,
    events: u64,
    /// Records that the recorder had lost, or that could not be read.
    lost: u64,
    unknown: u64,
    malformed: u64,
    hits: std::collections::BTreeMap<String, u64>,
}

impl Stats {
    fn hit(&mut self, rule: &str) {
        *self.hits.entry(rule.to_owned()).or_default() += 1;
    }

    fn show(&self, took: Duration, json: bool) -> io::Result<()> {
        let rate = self.events as f64 / took.as_secs_f64().max(1e-9);
        if json {
            // Findings are on standard output; what is said about them is not.
            let line = serde_json::json!({
                "segments": self.segments, "events": self.events, "seconds": took.as_secs_f64(),
                "events_per_second": rate.round(), "lost": self.lost, "unknown": self.unknown,
                "malformed": self.malformed, "hits": self.hits,
            });
            return writeln!(io::stderr(), "{line}");
        }
        let mut out = anstream::AutoStream::auto(io::stderr());
        writeln!(
            out,
            "{}, {} in {:.1} s: {rate:.0} a second; {} lost, {} of unknown kinds, {} malformed",
            screen::count(self.segments as usize, "segment"),
            screen::count(self.events as usize, "event"),
            took.as_secs_f64(),
            self.lost,
            self.unknown,
            self.malformed
        )?;
        for (rule, hits) in &self.hits {
            writeln!(out, "{hits:>8}  {}", tw_report::escape::line(rule))?;
        }
        Ok(())
    }
}

/// What segments there are.
fn list(files: &[PathBuf], json: bool) -> anyhow::Result<ExitCode> {
    let mut rows = Vec::new();
    for file in files {
        let size = std::fs::metadata(file).with_context(|| format!("cannot look at {}", file.display()))?.len();
        match SegmentReader::open(file) {
            Ok(reader) => {
                let (meta, index) = (reader.meta(), reader.index());
                rows.push(serde_json::json!({
                    "file": file, "bytes": size, "hostname": meta.node.hostname, "started_ns": meta.started_ns,
                    "complete": reader.is_complete(), "index": index,
                }));
                if !json {
                    let containers = index.cgroups.iter().filter(|cgroup| !cgroup.container.is_empty()).count();
                    print_stdout(&format!(
                        "{}  {:>9}  {:>10} records  {containers:>4} containers  {}\n",
                        tw_report::iso_time(meta.started_ns).get(..19).unwrap_or_default(),
                        screen::bytes(size),
                        index.records,
                        file.display()
                    ))?;
                }
            }
            Err(error) => {
                rows.push(serde_json::json!({"file": file, "bytes": size, "error": error.to_string()}));
                if !json {
                    print_stdout(&format!("unreadable            {}: {error}\n", file.display()))?;
                }
            }
        }
    }
    if json {
        print_stdout(&format!("{}\n", serde_json::Value::from(rows)))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tw_model::raw::{Encoder, ExitBody, Header};
    use tw_sensor::recorder::{Recorder, RecorderOptions};

    fn replay(config: &Config) -> Replay<'_> {
        Replay {
            detector: Detector::new(tw_rules::RuleSet::default()),
            redactor: None,
            period: 0..=u64::MAX,
            config,
            json: true,
            scratch: Bump::new(),
            stats: Stats::default(),
            hostname: String::new(),
            failed: None,
        }
    }

    fn record(pid: u32) -> Vec<u8> {
        let header =
            Header { kind: EventKind::Procexit as u16, pid, tid: pid, start: 7, time: u64::MAX, ..Header::default() };
        Encoder::new(&header, size_of::<ExitBody>()).finish(&ExitBody::default())
    }

    #[test]
    fn one_unreadable_segment_does_not_keep_the_others_from_being_replayed() {
        let folder = std::env::temp_dir().join(format!("tidewatch-replay-{}", std::process::id()));
        let (mut recorder, _) =
            Recorder::open(RecorderOptions { dir: folder.clone(), ..RecorderOptions::default() }).unwrap();
        // Numbers as somebody might have made them up.
        let meta = SegmentMeta { boot_to_wall_ns: u64::MAX, first_event: u64::MAX, ..SegmentMeta::default() };
        recorder.begin_segment(meta);
        recorder.append(FrameKind::Record, &record(10));
        recorder.append(FrameKind::Record, &record(11));
        recorder.close();
        let broken = folder.join("0000000000-20260101T000000Z.twrec");
        std::fs::write(&broken, "no segment at all, but long enough for a head").unwrap();

        let config = Config::default();
        let mut replay = replay(&config);
        let files = files(std::slice::from_ref(&folder), &config).unwrap();
        assert_eq!((files.len(), &files[0]), (2, &broken));
        let whole: Vec<bool> = files.iter().map(|file| replay.segment(file, "").unwrap()).collect();
        assert_eq!((whole, replay.stats.events), (vec![false, true], 2));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn events_behind_a_gap_keep_their_numbers() {
        let config = Config::default();
        let (mut replay, mut world) = (replay(&config), World::reliving(16));
        let kinds = Kinds { now: None };
        let mut frame = |kind, payload: &[u8]| {
            replay.frame(&mut world, &kinds, kind, payload);
            world.events()
        };
        assert_eq!(frame(FrameKind::State, br#"{"context":"events","count":40}"#), 40);
        let aligned = to_words(&record(10));
        assert_eq!(frame(FrameKind::Record, from_words(&aligned)), 41);
        let mut gap = [0; 16];
        gap[0] = 5;
        assert_eq!(frame(FrameKind::Gap, &gap), 46);
        assert_eq!(frame(FrameKind::Record, b"makes no sense, but was an event"), 47);
        assert_eq!(frame(FrameKind::Record, from_words(&aligned)), 48);
        gap = [0xff; 16];
        assert_eq!(frame(FrameKind::Gap, &gap), u64::MAX);
        assert_eq!(frame(FrameKind::Record, from_words(&aligned)), u64::MAX);
    }
}
