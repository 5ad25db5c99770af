//! What the flight recorder kept, or a part of it by time and container.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bumpalo::Bump;
use tw_enrich::{Context, World, WorldOptions};
use tw_model::raw::from_words;
use tw_model::{Finding, Raw};
use tw_sensor::capture::{CaptureWriter, Frame, HostFacts};
use tw_sensor::recorder::{FrameKind, Gap, SegmentMeta, SegmentReader};

use super::tape::Tape;
use super::{End, Show, Whose, broken, create};
use crate::cli::RecordArgs;
use crate::config::Config;
use crate::replay::{Kinds, Translated, segments};
use crate::{screen, when};

/// See [`super::run`].
pub(super) fn run(args: &RecordArgs, paths: &[PathBuf], config: &Config) -> anyhow::Result<ExitCode> {
    when::in_order(args.since.as_deref(), args.until.as_deref())?;
    let now = jiff::Timestamp::now();
    let time = |text: &Option<String>, otherwise| text.as_ref().map_or(Ok(otherwise), |text| when::parse(text, now));
    let (since, until) = (time(&args.since, 0)?, time(&args.until, u64::MAX)?);
    let files = segments(paths, config)?;
    let file = create(&args.output, args.force)?;
    let tape =
        Tape::new(CaptureWriter::new(file, args.compress), Whose(args.container.clone()), !args.plain, args.max_size);
    let mut excerpt = Excerpt { tape, whose: Whose(args.container.clone()), since, until, lost: 0, wrote: Ok(()) };
    let mut show = Show::new();
    let mut whole = true;
    for file in &files {
        whole &= excerpt.segment(file, &mut show);
        if excerpt.wrote.is_err() || excerpt.tape.is_full() {
            break;
        }
    }
    let why = excerpt.tape.is_full().then(|| "--max-size is reached".to_owned());
    let seconds = show.end();
    let Excerpt { tape, wrote, lost, .. } = excerpt;
    let written = tape.written();
    let finished = wrote.and_then(|()| if tape.is_begun() { tape.finish().map(Some) } else { Ok(None) });
    let Some(written) = finished.map_err(|error| broken(args, &written, &error))? else {
        let _ = std::fs::remove_file(&args.output);
        anyhow::bail!("nothing was recorded in that time: `tidewatch replay --list` says what there is");
    };
    let code = End { args, written, seconds, lost, why }.tell()?;
    Ok(if whole { code } else { ExitCode::FAILURE })
}

struct Excerpt {
    tape: Tape,
    whose: Whose,
    since: u64,
    until: u64,
    lost: u64,
    wrote: io::Result<()>,
}

impl Excerpt {
    /// One segment; false if it could not be read to its end.
    fn segment(&mut self, path: &Path, show: &mut Show) -> bool {
        let mut reader = match SegmentReader::open(path) {
            Ok(reader) => reader,
            // The others are worth having all the same.
            Err(error) => {
                tracing::error!("{error}; it is left out");
                return false;
            }
        };
        let meta = reader.meta().clone();
        let index = reader.index();
        let last = index.last_ns.max(index.first_ns).saturating_add(meta.boot_to_wall_ns);
        if meta.started_ns > self.until || (index.records > 0 && last < self.since) {
            return true;
        }
        let mut part = Part {
            kinds: Kinds::of(&meta),
            world: World::reliving(WorldOptions::default().max_processes),
            offset: meta.boot_to_wall_ns,
            meta: Some(meta),
            scratch: Bump::new(),
        };
        let first = part.meta.as_ref().map_or(1, |meta| meta.first_event);
        part.world.relive(Context::Events { count: first.saturating_sub(1) });
        let reading = reader.frames(|kind, payload| {
            self.wrote = self.frame(&mut part, kind, payload);
            let written = self.tape.written();
            show.look(|_| format!("{} records, {}", written.records, screen::bytes(written.bytes)));
            if self.wrote.is_err() || self.tape.is_full() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match reading.error {
            // Being written, or its writer was killed: what is there can be read.
            None | Some(tw_sensor::recorder::RecorderError::Unfinished { .. }) => true,
            Some(error) => {
                tracing::error!("{error}; what could be read was taken");
                false
            }
        }
    }

    fn frame(&mut self, part: &mut Part, kind: FrameKind, payload: &[u8]) -> io::Result<()> {
        match kind {
            FrameKind::Record => self.record(part, payload),
            FrameKind::Gap => {
                let gap = Gap::parse(payload).map_or(0, |gap| gap.records);
                part.unseen(gap);
                if part.meta.is_none() {
                    self.lost = self.lost.saturating_add(gap);
                    self.tape.frame(Frame::Gap, payload)?;
                }
                Ok(())
            }
            FrameKind::Finding => {
                let wanted = serde_json::from_slice::<Finding>(payload).is_ok_and(|finding| {
                    (self.since..=self.until).contains(&finding.time_ns) && self.whose.wants_finding(&finding)
                });
                if wanted && part.meta.is_none() { self.tape.frame(Frame::Finding, payload) } else { Ok(()) }
            }
            FrameKind::State
            | FrameKind::Place
            | FrameKind::Container
            | FrameKind::Names
            | FrameKind::Clock
            | FrameKind::Missed => {
                let Ok(context) = serde_json::from_slice::<Context>(payload) else {
                    tracing::warn!("a piece of context cannot be read");
                    return Ok(());
                };
                if let Context::Clock { boot_to_wall_ns } = context {
                    part.offset = boot_to_wall_ns;
                }
                if part.meta.is_none() {
                    self.tape.context(&context)?;
                }
                part.world.relive(context);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn record(&mut self, part: &mut Part, payload: &[u8]) -> io::Result<()> {
        let renamed = part.kinds.translate(payload);
        let payload = match &renamed {
            Translated::AsIs => payload,
            Translated::Renamed(words) => from_words(words),
            Translated::Unknown => {
                part.unseen(1);
                return Ok(());
            }
        };
        let Ok(raw) = Raw::parse(payload) else {
            part.unseen(1);
            return Ok(());
        };
        let wanted = (self.since..=self.until).contains(&part.offset.saturating_add(raw.header.time));
        if wanted && let Some(meta) = part.meta.take() {
            let host = host_of(&meta, &part.world);
            let started_ns = part.offset.saturating_add(raw.header.time);
            let first_event = part.world.events() + 1;
            let meta = SegmentMeta { started_ns, first_event, boot_to_wall_ns: part.offset, ..meta };
            self.tape.begin(&part.world, meta, &host, &|_| Vec::new())?;
        }
        let event = part.world.observe(raw, &part.scratch);
        let number = event.num;
        let wrote = if wanted { self.tape.event(&event) } else { Ok(false) };
        part.scratch.reset();
        if wrote? {
            self.tape.record(&part.world, &raw, number)?;
        }
        Ok(())
    }
}

/// One segment on its way.
struct Part {
    kinds: Kinds,
    world: World,
    /// Added to a boot time to get the wall-clock time.
    offset: u64,
    /// Until its first record was written.
    meta: Option<SegmentMeta>,
    scratch: Bump,
}

impl Part {
    /// Events that were counted live, but are not here: those behind them keep their numbers.
    fn unseen(&mut self, events: u64) {
        self.world.relive(Context::Events { count: self.world.events().saturating_add(events) });
    }
}

/// What a segment tells of its host. Its users are those that processes had.
fn host_of(meta: &SegmentMeta, world: &World) -> HostFacts {
    let mut users = std::collections::BTreeMap::new();
    let mut groups = std::collections::BTreeMap::new();
    for process in world.processes().iter().filter(|process| world.container_of(process.cgroup_id).is_none()) {
        let (cred, names) = (&process.cred, &process.names);
        if !names.user.is_empty() {
            users.insert(cred.uid, (cred.gid, names.clone()));
        }
        if !names.group.is_empty() {
            groups.insert(cred.gid, names.group.to_string());
        }
    }
    HostFacts {
        hostname: meta.node.hostname.clone(),
        boot_ns: meta.boot_to_wall_ns,
        cpus: 1,
        users: users
            .into_iter()
            .map(|(uid, (gid, names))| {
                (uid, gid, names.user.to_string(), names.home.to_string(), names.shell.to_string())
            })
            .collect(),
        groups: groups.into_iter().collect(),
        ..HostFacts::default()
    }
}
