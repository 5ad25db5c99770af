//! The flight recorder as the pipeline uses it: each record as it was observed, and between them what the world learnt
//! otherwise, so that a replay comes to the same findings.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tw_enrich::{Context, World};
use tw_model::status::{Node, RecorderStatus};
use tw_model::{Finding, Priority, Raw};
use tw_sensor::clock;
use tw_sensor::recorder::{FrameKind, Recorder, RecorderOptions, SegmentMeta};

use crate::config::{Config, Matching};

/// How long the state at the start of a segment may take to be written, if the disk is slow.
const BURST: Duration = Duration::from_millis(500);
/// Bytes that must be free before another piece of state is told.
const ROOM: usize = 512 << 10;

/// Settings that decide, beside the rules, what is found; each segment says which were in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    matching: Matching,
    priority: Priority,
    redaction: bool,
}

impl Settings {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Self {
        let (matching, priority) = (config.rules.matching, config.agent.priority);
        Self { matching, priority, redaction: config.redaction.enabled }
    }

    /// Those that a segment names; `None` if it is older than this.
    pub fn read(meta: &SegmentMeta) -> Option<Self> {
        Self::deserialize(&meta.extra).ok()
    }

    /// What differs from `now`, in words; empty if nothing does.
    pub fn differences(&self, now: &Self) -> String {
        let (then, now) = (serde_json::json!(self), serde_json::json!(now));
        let keys = then.as_object().into_iter().flatten().filter(|(key, value)| now[key.as_str()] != **value);
        let words: Vec<String> = keys.map(|(key, value)| format!("{key} {value}, now {}", now[key.as_str()])).collect();
        words.join("; ")
    }
}

/// The recorder, and where its frames are put together.
pub(super) struct Tape {
    recorder: Recorder,
    frame: Vec<u8>,
    settings: Settings,
}

impl Tape {
    /// Opens the recorder and has the world note what it learns.
    pub(super) fn open(config: &Config, world: &mut World) -> anyhow::Result<Self> {
        let options = RecorderOptions {
            max_bytes: config.recorder.max_mib << 20,
            max_age: Duration::from_secs(config.recorder.max_hours * 3600),
            dir: config.recorder_dir(),
            ..RecorderOptions::default()
        };
        let (recorder, recovery) = Recorder::open(options)?;
        for error in &recovery.unreadable {
            tracing::warn!("flight recorder: {error}; the segment stays until it is its turn to be deleted");
        }
        world.keep_journal();
        Ok(Self { recorder, frame: Vec::new(), settings: Settings::of(config) })
    }

    /// Begins a segment: the whole state of the world, from which the records that follow can be understood.
    pub(super) fn begin(&mut self, world: &mut World, node: &Node, rules: &str) {
        self.recorder.begin_segment(SegmentMeta {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: node.clone(),
            started_ns: clock::wall_ns(),
            boot_to_wall_ns: clock::boot_to_wall_ns(),
            first_event: world.events() + 1,
            rules_digest: rules.to_owned(),
            extra: serde_json::json!(self.settings),
            ..SegmentMeta::default()
        });
        // The state has it all.
        world.learnt().for_each(drop);
        let Self { recorder, frame, .. } = self;
        let deadline = Instant::now() + BURST;
        world.checkpoint(&mut |context| {
            // A large state is more than the writer's queue holds; the rings hold what happens meanwhile.
            while recorder.room() < ROOM {
                if Instant::now() >= deadline {
                    // They do not hold more. The recorder asks for another segment later.
                    return recorder.give_up(FrameKind::State);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            learn(recorder, frame, FrameKind::State, &context);
        });
    }

    /// A record as it was observed, behind what was learnt before or through it.
    pub(super) fn record(&mut self, world: &mut World, raw: &Raw<'_>) {
        if world.has_learnt() {
            let Self { recorder, frame, .. } = self;
            world.learnt().for_each(|context| learn(recorder, frame, kind(&context), &context));
        }
        self.recorder.append(FrameKind::Record, raw.bytes());
    }

    /// A record that is not kept. When records are kept again, another segment must begin.
    pub(super) fn pass_over(&mut self, world: &mut World) {
        world.learnt().for_each(drop);
        self.recorder.pass_over();
    }

    /// A finding of the agent about itself: no record leads to it.
    pub(super) fn said(&mut self, finding: &Finding) {
        append(&mut self.recorder, &mut self.frame, FrameKind::Finding, finding);
    }

    /// Once a second: what is in memory goes to disk, and a segment that is large or old enough ends.
    pub(super) fn look_after(&mut self, world: &mut World, node: &Node, rules: &str) {
        if self.recorder.wants_segment() {
            self.begin(world, node, rules);
        }
        self.recorder.flush();
    }

    /// Takes other bounds and settings; true if a segment should begin, since what is found changes.
    pub(super) fn reconfigure(&mut self, config: &Config) -> bool {
        let age = Duration::from_secs(config.recorder.max_hours * 3600);
        self.recorder.set_bounds(config.recorder.max_mib << 20, age);
        let settings = Settings::of(config);
        std::mem::replace(&mut self.settings, settings.clone()) != settings
    }

    pub(super) fn status(&self) -> RecorderStatus {
        self.recorder.status()
    }

    pub(super) fn close(self) {
        self.recorder.close();
    }
}

/// One thing learnt; the index of the segment lists which container a cgroup is.
fn learn(recorder: &mut Recorder, frame: &mut Vec<u8>, kind: FrameKind, context: &Context) {
    if let Context::Place { cgroup, container } = context {
        recorder.note_container(*cgroup, container);
    }
    append(recorder, frame, kind, context);
}

fn append(recorder: &mut Recorder, frame: &mut Vec<u8>, kind: FrameKind, what: &impl serde::Serialize) {
    frame.clear();
    // Everything here serialises: text, numbers, lists.
    if serde_json::to_writer(&mut *frame, what).is_ok() {
        recorder.append(kind, frame);
    }
}

fn kind(context: &Context) -> FrameKind {
    match context {
        Context::Place { .. } | Context::Unit { .. } => FrameKind::Place,
        Context::Container { .. } | Context::Gone { .. } => FrameKind::Container,
        Context::Names { .. } => FrameKind::Names,
        Context::Clock { .. } => FrameKind::Clock,
        Context::Missed { .. } => FrameKind::Missed,
        Context::Events { .. }
        | Context::Address { .. }
        | Context::Coverage { .. }
        | Context::Listening { .. }
        | Context::ListeningEnded { .. }
        | Context::Process { .. }
        | Context::Dead { .. } => FrameKind::State,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_says_which_settings_were_in_force_and_a_change_wants_another() {
        let folder = std::env::temp_dir().join(format!("tidewatch-tape-{}", std::process::id()));
        let mut config = Config { state_dir: folder.clone(), ..Config::default() };
        let mut world = World::reliving(16);
        let mut tape = Tape::open(&config, &mut world).unwrap();
        tape.begin(&mut world, &Node::default(), "abc");
        config.recorder.max_mib = 64;
        assert!(!tape.reconfigure(&config), "a budget changes nothing that is found");
        (config.rules.matching, config.agent.priority) = (Matching::First, Priority::Warning);
        assert!(tape.reconfigure(&config) && !tape.reconfigure(&config));
        tape.begin(&mut world, &Node::default(), "abc");
        tape.close();

        let found = tw_sensor::recorder::segments(&config.recorder_dir()).unwrap();
        let metas: Vec<SegmentMeta> = found.into_iter().map(|segment| segment.content.unwrap().0).collect();
        let now = Settings::of(&config);
        let told = |meta| Settings::read(meta).unwrap().differences(&now);
        assert_eq!(told(&metas[0]), r#"matching "all", now "first"; priority "Debug", now "Warning""#);
        assert_eq!(told(&metas[1]), "");
        assert_eq!(Settings::read(&SegmentMeta::default()), None);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
