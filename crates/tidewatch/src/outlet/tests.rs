//! The outlet with a real spool, and outputs that block and fail as they are told.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::io;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use tw_model::Priority;
use tw_model::finding::{Cause, finding_id};
use tw_model::status::SpoolLane;
use tw_report::spool::{MAX_PAYLOAD, SpoolOptions, SpoolSync};

use super::*;

/// A folder that goes with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tw-outlet-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn spool(&self, max_bytes: u64) -> Arc<Mutex<Spool>> {
        let options = SpoolOptions { max_bytes, sync: SpoolSync::None, ..SpoolOptions::new(self.0.join("spool")) };
        Arc::new(Mutex::new(Spool::open(options).unwrap().0))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn finding(number: u64, priority: Priority, message: usize) -> Finding {
    Finding {
        id: finding_id(1, number, number, "test"),
        time_ns: number,
        event_num: number,
        cause: Cause::Rule { name: "test".into() },
        priority,
        source: "syscall".into(),
        message: "m".repeat(message),
        why: String::new(),
        advice: String::new(),
        tags: Vec::new(),
        fields: Vec::new(),
        event: "execve".into(),
        lineage: Vec::new(),
        container: None,
        workload: String::new(),
        login: None,
        coverage: None,
        fingerprint: 0,
    }
}

/// Numbers of the findings in a lane.
fn kept(spool: &Mutex<Spool>, lane: SpoolLane) -> Vec<u64> {
    let mut reader = spool.lock().unwrap_or_else(PoisonError::into_inner).reader(lane, 0);
    std::iter::from_fn(|| reader.read().unwrap())
        .map(|(_, bytes)| serde_json::from_slice::<Finding>(&bytes).unwrap().event_num)
        .collect()
}

fn options(spool: Option<Arc<Mutex<Spool>>>) -> OutletOptions {
    let bell = Bell::default();
    OutletOptions { stdout: Shape::Nothing, file: None, hostname: "h".into(), redactor: None, spool, bell }
}

fn until(what: &str, mut true_now: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !true_now() {
        assert!(begin.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn hold(spool: &Arc<Mutex<Spool>>) -> (Hold, Arc<OutletCounts>) {
    let counts = Arc::<OutletCounts>::default();
    (Hold::new(Some(Arc::clone(spool)), Bell::default(), Arc::clone(&counts)), counts)
}

fn lost(counts: &OutletCounts) -> u64 {
    counts.lost_spool.load(Ordering::Relaxed)
}

#[test]
fn a_finding_that_can_never_be_kept_is_given_up_and_holds_up_no_other() {
    let scratch = Scratch::new();
    let spool = scratch.spool(8 << 20);
    let (mut hold, counts) = hold(&spool);
    let batch: Vec<Finding> = (1..=600)
        .map(|n| finding(n, Priority::Notice, if n == 300 { MAX_PAYLOAD + 1 } else { 10 }))
        .chain([finding(601, Priority::Error, 10)])
        .collect();
    hold.keep(&batch);
    assert_eq!(kept(&spool, SpoolLane::Routine), (1..=600).filter(|n| *n != 300).collect::<Vec<_>>());
    assert_eq!(kept(&spool, SpoolLane::Urgent), [601]);
    assert_eq!((lost(&counts), counts.spool_error.lock().unwrap().clone()), (1, None));
}

#[test]
fn more_than_the_spool_takes_at_once_is_kept_in_parts() {
    let scratch = Scratch::new();
    // A chunk of 1 MiB does not fit, one finding does.
    let spool = scratch.spool(256 << 10);
    let (mut hold, counts) = hold(&spool);
    let batch: Vec<Finding> = (1..=20).map(|n| finding(n, Priority::Notice, 60_000)).collect();
    hold.keep(&batch);
    assert_eq!(lost(&counts), 0);
    assert_eq!(kept(&spool, SpoolLane::Routine).last(), Some(&20), "older ones gave way");
    // And one that never fits.
    hold.keep(&[finding(21, Priority::Notice, 300_000), finding(22, Priority::Notice, 10)]);
    assert_eq!(lost(&counts), 1);
    assert_eq!(kept(&spool, SpoolLane::Routine).last(), Some(&22));
}

/// A spool that cannot be written: the folder of a lane is gone, and it has no segment yet.
fn broken(scratch: &Scratch, lane: SpoolLane) -> Arc<Mutex<Spool>> {
    let spool = scratch.spool(64 << 20);
    std::fs::remove_dir_all(scratch.0.join("spool").join(lane.name())).unwrap();
    spool
}

#[test]
fn a_broken_lane_does_not_hold_up_the_other_and_goes_on_when_it_is_mended() {
    let scratch = Scratch::new();
    let spool = broken(&scratch, SpoolLane::Urgent);
    let (mut hold, counts) = hold(&spool);
    hold.keep(&[finding(1, Priority::Error, 10), finding(2, Priority::Notice, 10)]);
    assert_eq!(kept(&spool, SpoolLane::Routine), [2]);
    assert!(counts.spool_error.lock().unwrap().is_some());
    std::fs::create_dir(scratch.0.join("spool/urgent")).unwrap();
    hold.keep(&[]);
    assert_eq!(kept(&spool, SpoolLane::Urgent), [0; 0], "not tried again at once");
    std::thread::sleep(RETRY);
    hold.keep(&[]);
    assert_eq!(kept(&spool, SpoolLane::Urgent), [1]);
    assert_eq!((lost(&counts), counts.spool_error.lock().unwrap().clone()), (0, None));
}

#[test]
fn what_is_held_is_bounded_in_bytes_and_counted_when_it_is_lost_at_the_end() {
    let scratch = Scratch::new();
    let spool = broken(&scratch, SpoolLane::Routine);
    let (mut hold, counts) = hold(&spool);
    for n in 0..40 {
        hold.keep(&[finding(n, Priority::Notice, 1_000_000)]);
    }
    // 16 of a little more than 1 MB fit into 16 MiB.
    assert_eq!(lost(&counts), 24);
    hold.close();
    assert_eq!(lost(&counts), 40);
}

#[test]
fn a_thread_that_died_with_the_spool_does_not_end_the_keeping() {
    let scratch = Scratch::new();
    let spool = scratch.spool(1 << 20);
    let poison = Arc::clone(&spool);
    std::thread::spawn(move || {
        let _held = poison.lock();
        std::panic::resume_unwind(Box::new("poisoned"));
    })
    .join()
    .unwrap_err();
    let (mut hold, _) = hold(&spool);
    hold.keep(&[finding(1, Priority::Notice, 10)]);
    assert_eq!(kept(&spool, SpoolLane::Routine), [1]);
}

/// Fails as the script says, `None` for success; tells each line.
struct Scripted {
    errors: Vec<Option<io::Error>>,
    lines: Sender<()>,
}

impl Write for Scripted {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.lines.send(()).ok();
        match if self.errors.is_empty() { None } else { self.errors.remove(0) } {
            Some(error) => Err(error),
            None => Ok(text.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_under_standard_output_is_told_and_tried_again_a_closed_pipe_ends_it() {
    let (lines, written) = std::sync::mpsc::channel();
    let errors = vec![
        Some(io::Error::from_raw_os_error(28)),
        None,
        Some(io::Error::from_raw_os_error(5)),
        Some(io::ErrorKind::BrokenPipe.into()),
    ];
    let screen = Screen { out: Box::new(Scripted { errors, lines }), json: true, terminal: false };
    let outlet = Outlet::onto(Some(screen), options(None)).unwrap();
    let error = || outlet.counts().display_error.lock().unwrap().clone();
    for told in [true, false, true] {
        outlet.send(finding(1, Priority::Notice, 10));
        written.recv_timeout(Duration::from_secs(20)).unwrap();
        until("the error is told or taken back", || error().is_some() == told);
        assert!(!outlet.is_closed());
    }
    outlet.send(finding(1, Priority::Notice, 10));
    until("closed", || outlet.is_closed());
    assert_eq!(outlet.counts().not_shown.load(Ordering::Relaxed), 3);
    outlet.close();
}

#[test]
fn a_terminal_that_was_closed_ends_it() {
    let (lines, _written) = std::sync::mpsc::channel();
    let errors = vec![Some(io::Error::from_raw_os_error(5))];
    let screen = Screen { out: Box::new(Scripted { errors, lines }), json: false, terminal: true };
    let outlet = Outlet::onto(Some(screen), options(None)).unwrap();
    outlet.send(finding(1, Priority::Notice, 10));
    until("closed", || outlet.is_closed());
}

/// Blocks until the other end goes.
struct Stuck(Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_standard_output_that_nobody_reads_holds_up_neither_the_spool_nor_the_end() {
    let scratch = Scratch::new();
    let spool = scratch.spool(64 << 20);
    let (release, stuck) = sync_channel(0);
    let screen = Screen { out: Box::new(Stuck(stuck)), json: true, terminal: false };
    let outlet = Outlet::onto(Some(screen), options(Some(Arc::clone(&spool)))).unwrap();
    let all = QUEUE as u64 + 2000;
    for n in 1..=all {
        outlet.send(finding(n, Priority::Notice, 10));
        if n % 1000 == 0 {
            until("the queue is taken", || outlet.counts().taken.load(Ordering::Relaxed) + 100 >= n);
        }
    }
    let view = spool.lock().unwrap().view();
    until("everything is kept", || view.status().lanes.iter().map(|lane| lane.newest).sum::<u64>() == all);
    until("not shown", || outlet.counts().not_shown.load(Ordering::Relaxed) >= 1999);
    assert!(outlet.counts().stalled.load(Ordering::Relaxed));
    let (counts, begin) = (Arc::clone(outlet.counts()), Instant::now());
    outlet.close();
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    drop(release);
    until("shown after all", || Arc::strong_count(&counts) == 1);
    assert_eq!(counts.lost_queue.load(Ordering::Relaxed) + lost(&counts), 0);
}

#[test]
fn the_state_of_the_spool_is_told_while_somebody_has_it() {
    let scratch = Scratch::new();
    let spool = scratch.spool(1 << 20);
    let view = spool.lock().unwrap().view();
    let mut had = spool.lock().unwrap();
    had.append(SpoolLane::Urgent, &[b"x"]).unwrap();
    assert_eq!(view.status().lanes[0].newest, 1);
    view.set_max_bytes(2 << 20);
    assert_eq!(had.status().max_bytes, 2 << 20);
}
