//! The uplink over a real socket, with a peer that follows a script.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tw_model::finding::{Cause, finding_id};
use tw_model::link::{Call, Cursor, FromAgent, FromManager, MAX_LINE, MAX_MANAGER_LINE, PROTOCOL, PodNews};
use tw_model::listener::Listener;
use tw_model::status::{AgentStatus, Node, SpoolLane};
use tw_model::{Container, Finding, Priority};
use tw_report::spool::{Spool, SpoolOptions, SpoolSync};
use tw_report::uplink::{Asked, Bell, Board, UplinkOptions, start};

const PATIENCE: Duration = Duration::from_secs(20);

/// An agent's uplink. One at a time, since threads are counted.
struct Ground {
    folder: PathBuf,
    spool: Arc<Mutex<Spool>>,
    bell: Bell,
    board: Arc<Board>,
    asked: Receiver<Asked>,
    pods: Receiver<PodNews>,
    _alone: MutexGuard<'static, ()>,
}

impl Ground {
    fn new(name: &str) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = std::env::temp_dir().join(format!("tw-uplink-{name}-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let options =
            SpoolOptions { sync: SpoolSync::None, segment_bytes: 1024, ..SpoolOptions::new(folder.join("spool")) };
        let spool = Arc::new(Mutex::new(Spool::open(options).unwrap().0));
        let (bell, board, (calls, asked)) = (Bell::default(), Arc::<Board>::default(), sync_channel(4));
        let (say_pods, pods) = sync_channel(2);
        start(UplinkOptions {
            listener: UnixListener::bind(folder.join("agent.sock")).unwrap(),
            manager_uid: rustix::process::geteuid().as_raw(),
            version: "1.2".into(),
            node: Node { id: "n".into(), ..Node::default() },
            board: Arc::clone(&board),
            spool: Some(Arc::clone(&spool)),
            bell: bell.clone(),
            calls,
            pods: say_pods,
        })
        .unwrap();
        Self { folder, spool, bell, board, asked, pods, _alone: alone }
    }

    fn keep(&self, lane: SpoolLane, numbers: impl IntoIterator<Item = u64>) {
        let bytes: Vec<Vec<u8>> = numbers.into_iter().map(|n| serde_json::to_vec(&finding(n)).unwrap()).collect();
        self.spool.lock().unwrap().append(lane, &bytes).unwrap();
        self.bell.ring();
    }

    fn connect(&self) -> Peer {
        let stream = UnixStream::connect(self.folder.join("agent.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Peer(BufReader::new(stream))
    }

    /// A peer that said hello with these cursors.
    fn greet(&self, cursors: Vec<Cursor>) -> Peer {
        let mut peer = self.connect();
        let hello = peer.hear().unwrap();
        assert!(matches!(hello, FromAgent::Hello { protocol: PROTOCOL, .. }), "{hello:?}");
        peer.say(&FromManager::Hello { protocol: PROTOCOL, cursors });
        peer
    }

    fn acked(&self, lane: SpoolLane) -> u64 {
        self.spool.lock().unwrap().acked(lane)
    }

    /// Waits until no thread of a connection is left.
    fn until_quiet(&self) {
        until("threads of the uplink end", || threads() == 0);
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

struct Peer(BufReader<UnixStream>);

impl Peer {
    fn say(&mut self, what: &FromManager) {
        let mut line = serde_json::to_vec(what).unwrap();
        line.push(b'\n');
        self.0.get_mut().write_all(&line).unwrap();
    }

    /// The next line; none at the end.
    fn hear(&mut self) -> Option<FromAgent> {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line).unwrap();
        assert!(line.len() <= MAX_LINE);
        (!line.is_empty()).then(|| serde_json::from_slice(&line).unwrap())
    }

    /// Numbers of the next findings, this many of them, with their lanes.
    fn findings(&mut self, count: usize) -> Vec<(SpoolLane, u64, u64)> {
        let mut heard = Vec::new();
        while heard.len() < count {
            if let FromAgent::Findings { findings } = self.hear().unwrap() {
                heard
                    .extend(findings.into_iter().map(|spooled| (spooled.lane, spooled.seq, spooled.finding.event_num)));
            }
        }
        heard
    }

    fn ack(&mut self, lane: SpoolLane, seq: u64) {
        self.say(&FromManager::Ack { cursor: Cursor { lane, seq } });
    }

    /// Whether the agent ends the connection, whatever it says before.
    fn is_left(&mut self) -> bool {
        // What it did not read makes the end a reset.
        let mut rest = Vec::new();
        !matches!(self.0.read_to_end(&mut rest), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }
}

fn until(what: &str, mut true_now: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !true_now() {
        assert!(begin.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Threads that serve a connection.
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| ["uplink-in", "uplink-out", "uplink-call"].contains(&name.trim_end())).count()
}

fn finding(number: u64) -> Finding {
    Finding {
        id: finding_id(1, number, number, "test"),
        time_ns: number,
        event_num: number,
        cause: Cause::Rule { name: "test".into() },
        priority: Priority::Notice,
        source: "syscall".into(),
        message: String::new(),
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

#[test]
fn what_is_not_acknowledged_comes_again() {
    let ground = Ground::new("again");
    ground.keep(SpoolLane::Routine, 1..=600);
    ground.keep(SpoolLane::Urgent, [1000]);
    let mut peer = ground.greet(Vec::new());
    let heard = peer.findings(601);
    assert_eq!(heard[0], (SpoolLane::Urgent, 1, 1000));
    assert!(heard[1..].iter().zip(1..).all(|(heard, n)| *heard == (SpoolLane::Routine, n, n)), "{heard:?}");
    peer.ack(SpoolLane::Routine, 400);
    until("acknowledged", || ground.acked(SpoolLane::Routine) == 400);
    assert_eq!(ground.acked(SpoolLane::Urgent), 0);
    // Something new is sent at once.
    ground.keep(SpoolLane::Routine, [601]);
    assert_eq!(peer.findings(1), [(SpoolLane::Routine, 601, 601)]);
    drop(peer);

    let cursor = Cursor { lane: SpoolLane::Routine, seq: 500 };
    let heard = ground.greet(vec![cursor]).findings(102);
    assert_eq!(heard[0], (SpoolLane::Urgent, 1, 1000));
    assert_eq!(heard[1..].iter().map(|heard| heard.1).collect::<Vec<_>>(), (501..=601).collect::<Vec<_>>());
    assert_eq!(ground.acked(SpoolLane::Routine), 500);
    ground.until_quiet();
}

#[test]
fn an_acknowledgement_that_cannot_be_remembered_ends_nothing_one_that_cannot_be_true_does() {
    let ground = Ground::new("ack");
    ground.keep(SpoolLane::Routine, 1..=20);
    let mut peer = ground.greet(Vec::new());
    peer.findings(20);
    // What is to be removed is not what it was: the spool cannot do it.
    let segment = ground.folder.join("spool/routine/00000000000000000001.seg");
    std::fs::remove_file(&segment).unwrap();
    std::fs::create_dir(&segment).unwrap();
    peer.ack(SpoolLane::Routine, 10);
    until("acknowledged", || ground.acked(SpoolLane::Routine) == 10);
    until("told", || ground.spool.lock().unwrap().status().error.is_some_and(|error| error.contains("remove")));
    ground.keep(SpoolLane::Routine, [21]);
    assert_eq!(peer.findings(1), [(SpoolLane::Routine, 21, 21)]);
    std::fs::remove_dir(&segment).unwrap();
    peer.ack(SpoolLane::Routine, 15);
    until("acknowledged", || ground.acked(SpoolLane::Routine) == 15);
    until("mended", || ground.spool.lock().unwrap().status().error.is_none());
    peer.ack(SpoolLane::Routine, 1 << 50);
    assert!(peer.is_left());
    ground.until_quiet();
}

#[test]
fn many_containers_come_in_parts_and_the_state_too() {
    let ground = Ground::new("containers");
    let label = |n: usize| (format!("label {n}"), "\u{1}".repeat(4000));
    let container =
        |n: usize| Container { id: format!("{n:064}"), labels: (0..15).map(label).collect(), ..Container::default() };
    let all: Vec<Container> = (0..100).map(container).collect();
    assert!(serde_json::to_vec(&all).unwrap().len() > 2 * MAX_LINE);
    *ground.board.containers.lock().unwrap() = (1, all.clone());
    *ground.board.status.lock().unwrap() = Some(AgentStatus { restarts: 7, ..AgentStatus::default() });
    let mut peer = ground.greet(Vec::new());
    let (mut heard, mut parts, mut restarts) = (Vec::new(), 0, 0);
    loop {
        match peer.hear().unwrap() {
            FromAgent::Containers { containers, more } => {
                heard.extend(containers);
                parts += 1;
                if !more {
                    break;
                }
            }
            FromAgent::Status { status } => restarts = status.restarts,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((heard, restarts), (all, 7));
    assert!(parts > 10, "{parts}");
    // None is a list as well.
    *ground.board.containers.lock().unwrap() = (2, Vec::new());
    ground.bell.ring();
    while !matches!(peer.hear().unwrap(), FromAgent::Containers { containers, more: false } if containers.is_empty()) {}
    let listener = Listener {
        container: String::new(),
        protocol: "tcp".into(),
        address: [127, 0, 0, 1].into(),
        port: 22,
        process: "sshd".into(),
        pid: 9,
        since_ns: 0,
    };
    *ground.board.listeners.lock().unwrap() = (1, vec![listener.clone()]);
    ground.bell.ring();
    while !matches!(peer.hear().unwrap(), FromAgent::Listeners { listeners } if listeners == [listener.clone()]) {}
}

#[test]
fn calls_are_answered() {
    let ground = Ground::new("calls");
    let mut peer = ground.greet(Vec::new());
    peer.say(&FromManager::Call { id: 9, call: Call::Reload });
    let asked = ground.asked.recv_timeout(PATIENCE).unwrap();
    assert_eq!(asked.call, Call::Reload);
    asked.answer.send(Ok("done".into())).unwrap();
    let answer = std::iter::from_fn(|| peer.hear()).find(|said| matches!(said, FromAgent::Answer { .. }));
    assert_eq!(answer, Some(FromAgent::Answer { id: 9, result: Ok("done".into()) }));
}

#[test]
fn whoever_is_answered_knows_the_state_that_came_of_it() {
    let ground = Ground::new("agrees");
    let show = |version: &str| {
        let status = AgentStatus { version: version.into(), ..AgentStatus::default() };
        *ground.board.status.lock().unwrap() = Some(status);
    };
    show("before");
    let mut peer = ground.greet(Vec::new());
    while !matches!(peer.hear().unwrap(), FromAgent::Status { .. }) {}
    peer.say(&FromManager::Call { id: 1, call: Call::Reload });
    let asked = ground.asked.recv_timeout(PATIENCE).unwrap();
    show("after");
    asked.answer.send(Ok("done".into())).unwrap();
    let mut version = String::new();
    loop {
        match peer.hear().unwrap() {
            FromAgent::Status { status } => version = status.version,
            FromAgent::Answer { .. } => break,
            _ => {}
        }
    }
    assert_eq!(version, "after");
}

#[test]
fn a_peer_that_makes_no_sense_is_left_without_a_trace() {
    let ground = Ground::new("nonsense");
    let mut foreign = ground.connect();
    foreign.say(&FromManager::Hello { protocol: PROTOCOL + 1, cursors: Vec::new() });
    let mut long = ground.connect();
    // The agent may be gone before all of it is written.
    let _ = long.0.get_mut().write_all(&vec![b' '; 2 * MAX_MANAGER_LINE]);
    let mut garbled = ground.connect();
    garbled.0.get_mut().write_all(b"\xff\n").unwrap();
    // They stay, and yet nothing of them does.
    for peer in [&mut foreign, &mut long, &mut garbled] {
        assert!(peer.is_left());
    }
    ground.until_quiet();
}

#[test]
fn peers_that_leave_early_leave_nothing_behind_and_only_so_many_are_served() {
    let ground = Ground::new("early");
    for n in 0..40 {
        let mut peer = ground.connect();
        // It may be refused, as those before it are still on their way out.
        match n % 4 {
            0 => {}
            1 => drop(peer.hear()),
            2 => drop(peer.0.get_mut().write_all(b"{\"type\":")),
            _ => drop(peer.0.get_mut().write_all(b"{\"type\":\"call\",\"id\":1,\"call\":{\"call\":\"reload\"}}\n")),
        }
        drop(peer);
        // An answer to nobody.
        drop(ground.asked.try_recv());
    }
    while ground.asked.recv_timeout(Duration::from_millis(300)).is_ok() {}
    ground.until_quiet();
    let mut served: Vec<Peer> = (0..8).map(|_| ground.greet(Vec::new())).collect();
    assert_eq!(ground.connect().hear(), None, "one too many");
    served.pop();
    until("there is room again", || ground.connect().hear().is_some());
}

#[test]
fn pods_reach_the_agent_and_a_manager_that_says_much_waits() {
    let ground = Ground::new("pods");
    let mut peer = ground.greet(Vec::new());
    for n in 0..50 {
        let pod = tw_model::container::Pod { uid: format!("u-{n}"), ..Default::default() };
        peer.say(&FromManager::Pods(PodNews { anew: n == 0, pods: vec![pod], gone: Vec::new() }));
    }
    for n in 0..50 {
        let news = ground.pods.recv_timeout(PATIENCE).unwrap();
        assert_eq!((news.anew, &*news.pods[0].uid), (n == 0, &*format!("u-{n}")));
    }
}
