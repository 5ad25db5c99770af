//! What a replay promises of its files.

use super::*;
use tw_enrich::World;
use tw_model::EventKind;
use tw_model::raw::{Encoder, ExitBody, Header, from_words, to_words};
use tw_sensor::recorder::{FrameKind, SegmentMeta};
use tw_sensor::recorder::{Recorder, RecorderOptions};

fn replay(config: &Config) -> Replay<'_> {
    Replay::new(Detector::new(tw_rules::RuleSet::default()), Redactors::default(), config)
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
    let whole: Vec<bool> = files.iter().map(|file| replay.file(file, "").unwrap()).collect();
    assert_eq!((whole, replay.stats.events), (vec![false, true], 2));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn events_behind_a_gap_keep_their_numbers() {
    let config = Config::default();
    let (mut replay, mut world) = (replay(&config), World::reliving(16));
    let kinds = segment::Kinds { now: None };
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

#[path = "../../../sensor/tests/capturing/mod.rs"]
mod capturing;

/// A capture with containers, users, forks and execs.
fn capture() -> Vec<u8> {
    use capturing::{Form, P, Proc, Scap};
    let id = "ab".repeat(32);
    let cgroups = format!("cpu=/docker/{id}\0");
    let mut scap = Scap::new(Form::New);
    scap.machine("web-1", 0);
    scap.accounts(2, &[(0, "root")], &[(0, "root")]);
    scap.processes(9, &[Proc { cgroups: cgroups.clone(), ..Proc::default() }]);
    let json =
        r#"{"container":{"id":"abababababab","name":"shop","image":"a/b:1","Mounts":[{"Source":"/"}],"labels":{}}}"#;
    scap.event(1, 324, &[P::Text(json)]);
    scap.event(1, 402, &[P::U32(0), P::Text("container_removed"), P::Text(json)]);
    scap.event(1, 354, &[P::U32(5), P::U32(5), P::Text("u"), P::Text("/h"), P::Text("/s"), P::Text("abababababab")]);
    scap.fork([0, 200, 200, 100, 2], 1 << 29, &cgroups);
    scap.exec(31, 200, 100, ["sh", "-c id"], &cgroups);
    scap.event(200, 307, &[P::I64(3), P::I64(-100), P::Text("/etc/shadow"), P::U32(1), P::U32(0)]);
    scap.event(200, 186, &[P::I64(0), P::I64(0), P::U8(0), P::U8(0)]);
    scap.bytes
}

#[test]
fn a_hostile_capture_never_panics_the_world_or_the_rules() {
    use proptest::prelude::*;
    let config = Config::default();
    let path = std::env::temp_dir().join(format!("tidewatch-hostile-{}.scap", std::process::id()));
    let whole = capture();
    let mut replay = replay(&config);
    replay.detector = Detector::new(rules::take(&config).unwrap().1.rules);
    // Findings are of no interest here.
    replay.period = u64::MAX..=u64::MAX;
    std::fs::write(&path, &whole).unwrap();
    assert!(replay.file(&path, "").unwrap());
    assert_eq!((replay.stats.events, replay.stats.malformed), (4, 0));
    let flips = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..30);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(150));
    let replay = std::cell::RefCell::new(replay);
    let outcome = runner.run(&flips, |flips| {
        let mut bytes = whole.clone();
        for (at, value) in flips {
            // The section stays as it is: without it there is nothing to read.
            let at = 28 + at.index(bytes.len() - 28);
            bytes[at] = value;
        }
        std::fs::write(&path, bytes).unwrap();
        let _ = replay.borrow_mut().file(&path, "").unwrap();
        Ok(())
    });
    std::fs::remove_file(path).unwrap();
    outcome.unwrap();
}
