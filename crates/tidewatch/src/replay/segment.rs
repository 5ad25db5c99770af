//! Segments of the flight recorder: records as the kernel half wrote them, and everything else in the order in which it
//! was learnt.

use std::path::Path;
use std::time::Instant;

use tw_enrich::{Context, World, WorldOptions};
use tw_model::raw::{from_words, to_words};
use tw_model::{EventKind, Raw};
use tw_sensor::recorder::{FrameKind, Gap, RecorderError, SegmentMeta, SegmentReader};

use super::{Origin, Replay};
use crate::agent::Settings;

impl Replay<'_> {
    /// One segment; false if it could not be read, or not to its end.
    pub(super) fn segment(&mut self, path: &Path, digest: &str) -> anyhow::Result<bool> {
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
        let (mut world, kinds) = self.begin_part(path, &meta, digest);
        let started = Instant::now();
        let reading = reader.frames(|kind, payload| {
            self.frame(&mut world, &kinds, kind, payload);
            self.flow()
        });
        if let Some(error) = self.failed.take() {
            return Err(error.into());
        }
        self.stats.took += started.elapsed();
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

    /// The state in which the records of a part begin, which says what rules and settings were in force then.
    pub(super) fn begin_part(&mut self, path: &Path, meta: &SegmentMeta, digest: &str) -> (World, Kinds) {
        if self.look.is_none() && !meta.rules_digest.is_empty() && meta.rules_digest != digest {
            tracing::warn!(
                "{}: other rules were in force then (digest {}, now {}): findings may differ from those of that time",
                path.display(),
                meta.rules_digest.get(..12).unwrap_or("unknown"),
                digest.get(..12).unwrap_or_default()
            );
        }
        let changed = Settings::read(meta).map(|then| then.differences(&Settings::of(self.config)));
        if let (Some(changed), None) = (changed.filter(|changed| !changed.is_empty()), &self.look) {
            tracing::warn!("{}: settings were others then ({changed}): findings may differ", path.display());
        }
        let kinds = Kinds::of(meta);
        self.hostname.clone_from(&meta.node.hostname);
        self.detector.set_session(meta.node.session);
        let mut world = World::reliving(WorldOptions::default().max_processes);
        // The state says so too, but it may be lost.
        world.relive(Context::Events { count: meta.first_event.saturating_sub(1) });
        (world, kinds)
    }

    pub(super) fn frame(&mut self, world: &mut World, kinds: &Kinds, kind: FrameKind, payload: &[u8]) {
        match kind {
            FrameKind::Record => self.record(world, kinds, payload),
            FrameKind::Finding => match serde_json::from_slice(payload) {
                Ok(finding) => self.report(finding, Origin::Segment),
                Err(error) => tracing::warn!("a finding in the segment cannot be read: {error}"),
            },
            FrameKind::Gap => {
                let lost = Gap::parse(payload).map_or(0, |gap| gap.records);
                self.stats.lost = self.stats.lost.saturating_add(lost);
                count_unseen(world, lost);
            }
            FrameKind::State
            | FrameKind::Place
            | FrameKind::Container
            | FrameKind::Names
            | FrameKind::Clock
            | FrameKind::Missed => match serde_json::from_slice(payload) {
                Ok(context) => world.relive(context),
                Err(error) => tracing::warn!("a piece of context cannot be read: {error}"),
            },
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
        self.stats.events += 1;
        self.inspect(world, raw, Origin::Segment);
    }
}

/// Events that were counted live, but that the replay does not see: those behind them keep their numbers.
fn count_unseen(world: &mut World, events: u64) {
    world.relive(Context::Events { count: world.events().saturating_add(events) });
}

/// Numbers of kinds of events change between versions; names do not.
pub struct Kinds {
    /// Number now, by number then; `None` if all are the same.
    pub(super) now: Option<Vec<Option<u16>>>,
}

/// A record with the numbers of now.
pub enum Translated {
    /// It has them.
    AsIs,
    /// The record anew, in words.
    Renamed(Vec<u64>),
    /// Its kind is not known any more.
    Unknown,
}

impl Kinds {
    /// Of a segment.
    pub fn of(meta: &SegmentMeta) -> Self {
        if meta.kinds_are_ours() {
            return Self { now: None };
        }
        let number = |name: &String| EventKind::from_name(name).map(|kind| kind as u16);
        Self { now: Some(meta.events.iter().map(number).collect()) }
    }

    /// A record of it.
    pub fn translate(&self, record: &[u8]) -> Translated {
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
