//! The link: takes what the agent sends, puts it into the store, and acknowledges what was committed.
//!
//! While the store is away the agent's state is still read, a bounded amount of findings waits in memory, and the rest
//! is passed over unacknowledged: the agent has it in its spool, and sends it again on the connection that is made when
//! the store is back.
//!
//! **Never:** an acknowledgement of what is not committed.

mod lines;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tw_model::link::{Cursor, FromAgent, FromManager, MAX_LINE, PROTOCOL, Spooled};
use tw_model::status::{Node, RuleFile, SpoolLane};
use tw_model::{Container, Workload};

use crate::api::in_order;
use crate::keeper::{Attempts, PAUSE};
use crate::kubernetes::tell;
use crate::state::{State, now_ns, now_us};
use crate::store::{Incoming, difference};
use lines::{LineError, Lines};

/// Findings of one transaction.
const BATCH: usize = 512;
/// Kibibytes of lines that wait for the store at most: room for the longest. A line counts as one at least.
const WAITING: usize = MAX_LINE >> 10;
/// A silent agent is given up after this long: it says something every second or two.
const SILENCE: Duration = Duration::from_secs(30);
/// The hellos may take so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often what is present is marked as seen.
const TOUCH: Duration = Duration::from_secs(3600);
/// Containers that are taken at most; what is beyond is left out of the inventory.
const CONTAINERS: usize = 100_000;
/// Sockets that listen that are taken at most.
const LISTENERS: usize = 16_384;
/// Containers whose workload is remembered at most.
const REMEMBERED: usize = 40_000;

/// Up to where each lane is committed.
type Acks = BTreeMap<SpoolLane, u64>;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("cannot connect to {0}: {1}")]
    Connect(String, std::io::Error),
    #[error("the agent ended the connection")]
    Closed,
    #[error("the connection broke: {0}")]
    Broken(std::io::Error),
    #[error("the agent sent a line of more than {} MiB", MAX_LINE >> 20)]
    TooLong,
    #[error("the agent sent a line that makes no sense: {0}")]
    Nonsense(String),
    #[error("the agent said nothing for {} s", SILENCE.as_secs())]
    Silent,
    #[error("the agent does not take the hello")]
    Deaf,
    #[error(
        "the agent (tidewatch {version}) speaks protocol {protocol}, this manager {PROTOCOL}: restart the service, so that both are of one version"
    )]
    Protocol { protocol: u32, version: String },
    /// The store is back: what was passed over is asked for again.
    #[error("the store is back")]
    Again,
}

impl From<LineError> for Ended {
    fn from(error: LineError) -> Self {
        match error {
            LineError::Closed => Self::Closed,
            LineError::TooLong => Self::TooLong,
            LineError::Broken(error) => Self::Broken(error),
        }
    }
}

/// What is there now, as the agent says it.
#[derive(Clone, Default)]
struct Seen {
    containers: Option<Arc<Vec<Container>>>,
    rules: Option<Arc<Vec<RuleFile>>>,
}

/// Findings that wait for the store, with the room that their line takes.
struct Waiting {
    findings: Vec<Spooled>,
    room: OwnedSemaphorePermit,
}

/// Connects, takes, and connects again, for ever.
pub(crate) async fn follow(state: Arc<State>) {
    let mut pause = PAUSE.0;
    let mut said = String::new();
    // As a rule the store opens at once; then the first connection can begin with its cursors.
    let begin = Instant::now();
    while state.lock().waits_for_store() && begin.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    loop {
        let begin = Instant::now();
        let ended = connection(&state, &mut said).await;
        state.link_down(ended.to_string());
        if matches!(ended, Ended::Again) {
            continue;
        }
        if begin.elapsed() > PATIENCE {
            pause = PAUSE.0;
        }
        // Once for each reason, however often it is tried.
        let reason = ended.to_string();
        if reason != said {
            match ended {
                // What became of it, the supervisor says.
                Ended::Closed => tracing::debug!("{reason}; trying again"),
                _ => tracing::warn!("{reason}; trying again"),
            }
            said = reason;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

async fn connection(state: &Arc<State>, said: &mut String) -> Ended {
    match session(state, said).await {
        Ok(never) => match never {},
        Err(ended) => ended,
    }
}

async fn session(state: &Arc<State>, said: &mut String) -> Result<std::convert::Infallible, Ended> {
    let stream = UnixStream::connect(&state.agent_socket)
        .await
        .map_err(|error| Ended::Connect(state.agent_socket.display().to_string(), error))?;
    let (read, mut write) = stream.into_split();
    let mut lines = Lines::new(read);
    let hello = tokio::time::timeout(PATIENCE, lines.next()).await.map_err(|_| Ended::Silent)??;
    let node = match parse(hello)? {
        FromAgent::Hello { protocol: PROTOCOL, version, node } => {
            tracing::debug!(node = %node.id, host = %node.hostname, agent = %version, "connected to the agent");
            (node, version)
        }
        FromAgent::Hello { protocol, version, .. } => return Err(Ended::Protocol { protocol, version }),
        _ => return Err(Ended::Nonsense("its first line is no hello".into())),
    };
    let (node, version) = node;
    let (cursors, workloads) = known(state, &node).await;
    // Without the store's word on how far it has everything, findings are passed over.
    let passing = AtomicBool::new(cursors.is_none());
    let hello = FromManager::Hello { protocol: PROTOCOL, cursors: cursors.unwrap_or_default() };
    tokio::time::timeout(PATIENCE, say(&mut write, &hello)).await.map_err(|_| Ended::Deaf)??;
    said.clear();
    let (outgoing, to_say) = mpsc::channel(256);
    let (acks, to_ack) = watch::channel(Acks::new());
    state.link_up(node.clone(), outgoing.clone());
    let (queue, waiting) = mpsc::unbounded_channel();
    let (seen, sight) = watch::channel(Seen::default());
    let room = Arc::new(Semaphore::new(WAITING));
    let reader = Reader { state, queue, seen, passing: &passing, room, parts: Vec::new() };
    tokio::select! {
        ended = reader.run(lines) => Err(ended),
        ended = speak(write, to_say, to_ack) => Err(ended),
        ended = store_findings(state, &node, waiting, acks, workloads, sight.clone()) => Err(ended),
        ended = store_inventory(state, &node, &version, sight) => Err(ended),
        ended = ask_again(state, &passing) => Err(ended),
        ended = tell_pods(state, outgoing) => Err(ended),
    }
}

fn parse(line: &[u8]) -> Result<FromAgent, Ended> {
    serde_json::from_slice(line).map_err(|error| Ended::Nonsense(error.to_string()))
}

/// How far the store has everything of this node, and which workload its containers belong to.
async fn known(state: &State, node: &Node) -> (Option<Vec<Cursor>>, HashMap<String, String>) {
    let Some(store) = state.store().filter(|_| state.store_up()) else { return (None, HashMap::new()) };
    let result = async {
        let cursors = store.cursors(&node.id).await?;
        let containers = store.containers_of(&node.id).await?;
        let workloads =
            containers.into_values().map(|row| (row.container.short_id().to_owned(), row.workload)).collect();
        Ok((cursors, workloads))
    };
    match result.await {
        Ok((cursors, workloads)) => (Some(cursors), workloads),
        Err(error) => {
            state.store_failed(&error);
            (None, HashMap::new())
        }
    }
}

async fn say(write: &mut OwnedWriteHalf, what: &FromManager) -> Result<(), Ended> {
    let mut line = serde_json::to_vec(what).map_err(|error| Ended::Nonsense(error.to_string()))?;
    line.push(b'\n');
    write.write_all(&line).await.map_err(Ended::Broken)
}

/// Says what is asked of the agent, and how far its findings are committed: of that only the newest, so that an agent
/// which reads slowly, or only when it has sent what it has, holds up no commit.
async fn speak(
    mut write: OwnedWriteHalf,
    mut to_say: mpsc::Receiver<FromManager>,
    mut acks: watch::Receiver<Acks>,
) -> Ended {
    let mut said = Acks::new();
    loop {
        let next = tokio::select! {
            changed = acks.changed() => match changed {
                Ok(()) => None,
                Err(_) => return Ended::Closed,
            },
            next = to_say.recv() => match next {
                Some(next) => Some(next),
                None => return Ended::Closed,
            },
        };
        let newest = acks.borrow_and_update().clone();
        let news = newest.iter().filter(|(lane, seq)| said.get(lane) != Some(seq));
        let news = news.map(|(lane, seq)| FromManager::Ack { cursor: Cursor { lane: *lane, seq: *seq } });
        for what in news.chain(next) {
            if let Err(ended) = say(&mut write, &what).await {
                return ended;
            }
        }
        said = newest;
    }
}

/// Ends a connection on which findings were passed over, once the store is back.
async fn ask_again(state: &State, passing: &AtomicBool) -> Ended {
    loop {
        let recovered = state.recovered.notified();
        if passing.load(Ordering::Relaxed) && state.store_up() {
            return Ended::Again;
        }
        tokio::select! {
            () = recovered => {}
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

/// Tells the agent of pods, where they are watched.
async fn tell_pods(state: &State, outgoing: mpsc::Sender<FromManager>) -> Ended {
    match &state.kubernetes {
        Some(kubernetes) => tell(kubernetes, outgoing).await,
        None => std::future::pending().await,
    }
    Ended::Closed
}

struct Reader<'a> {
    state: &'a State,
    queue: mpsc::UnboundedSender<Waiting>,
    seen: watch::Sender<Seen>,
    passing: &'a AtomicBool,
    room: Arc<Semaphore>,
    /// Containers of a list that is not whole yet.
    parts: Vec<Container>,
}

impl Reader<'_> {
    async fn run<R: tokio::io::AsyncRead + Unpin>(mut self, mut lines: Lines<R>) -> Ended {
        loop {
            let line = match tokio::time::timeout(SILENCE, lines.next()).await {
                Ok(Ok(line)) => line,
                Ok(Err(error)) => return error.into(),
                Err(_) => return Ended::Silent,
            };
            // What is passed over need not be read either.
            if self.passing.load(Ordering::Relaxed) && line.starts_with(br#"{"type":"findings""#) {
                continue;
            }
            let size = line.len();
            match parse(line) {
                Ok(said) => {
                    if let Err(ended) = self.take(said, size).await {
                        return ended;
                    }
                }
                Err(ended) => return ended,
            }
        }
    }

    async fn take(&mut self, said: FromAgent, size: usize) -> Result<(), Ended> {
        match said {
            FromAgent::Hello { .. } => return Err(Ended::Nonsense("a second hello".into())),
            FromAgent::Findings { findings } => self.wait_for_room(findings, size).await,
            FromAgent::Status { status } => {
                let files = &status.rules.files;
                self.seen.send_if_modified(|seen| {
                    let same = seen.rules.as_ref().is_some_and(|known| known.as_ref() == files);
                    if !same {
                        seen.rules = Some(Arc::new(files.clone()));
                    }
                    !same
                });
                self.state.agent_says(*status);
            }
            FromAgent::Containers { containers, more } => {
                let room = CONTAINERS.saturating_sub(self.parts.len());
                self.parts.extend(containers.into_iter().take(room));
                if more {
                    return Ok(());
                }
                let containers = std::mem::take(&mut self.parts);
                self.seen.send_modify(|seen| seen.containers = Some(Arc::new(containers)));
            }
            FromAgent::Listeners { mut listeners } => {
                listeners.truncate(LISTENERS);
                in_order(&mut listeners);
                self.state.agent_sees(listeners);
            }
            FromAgent::Answer { id, result } => self.state.answered(id, result),
        }
        Ok(())
    }

    /// Queues findings. Without room the agent waits while the store works, and is passed over while it does not.
    async fn wait_for_room(&self, findings: Vec<Spooled>, size: usize) {
        if self.passing.load(Ordering::Relaxed) || findings.is_empty() {
            return;
        }
        let wanted = u32::try_from(size / 1024 + 1).unwrap_or(u32::MAX).min(WAITING as u32);
        loop {
            let room = Arc::clone(&self.room).acquire_many_owned(wanted);
            match tokio::time::timeout(Duration::from_millis(250), room).await {
                Ok(Ok(room)) => {
                    self.queue.send(Waiting { findings, room }).ok();
                    return;
                }
                Ok(Err(_)) => return,
                Err(_) if self.state.store_up() => {}
                Err(_) => {
                    tracing::warn!("the store is away for long: findings stay in the agent's spool");
                    self.passing.store(true, Ordering::Relaxed);
                    return;
                }
            }
        }
    }
}

/// Commits what waits, up to [`BATCH`] findings at a time, and acknowledges it.
async fn store_findings(
    state: &State,
    node: &Node,
    mut waiting: mpsc::UnboundedReceiver<Waiting>,
    acks: watch::Sender<Acks>,
    mut workloads: HashMap<String, String>,
    mut sight: watch::Receiver<Seen>,
) -> Ended {
    let mut since_retention = 0;
    while let Some(first) = waiting.recv().await {
        if sight.has_changed().unwrap_or(false) {
            learn(&mut workloads, sight.borrow_and_update().containers.as_deref());
        }
        let (mut findings, mut room) = (first.findings, vec![first.room]);
        while findings.len() < BATCH
            && let Ok(next) = waiting.try_recv()
        {
            findings.extend(next.findings);
            room.push(next.room);
        }
        let mut rest: Vec<Incoming> = findings.into_iter().map(|spooled| with_workload(spooled, &workloads)).collect();
        while !rest.is_empty() {
            let later = rest.split_off(rest.len().min(BATCH));
            let batch = std::mem::replace(&mut rest, later);
            store_batch(state, node, &batch).await;
            acks.send_modify(|acks| {
                for incoming in &batch {
                    let seq = acks.entry(incoming.spooled.lane).or_default();
                    *seq = incoming.spooled.seq.max(*seq);
                }
            });
            since_retention += batch.len();
        }
        if since_retention > 50_000 {
            since_retention = 0;
            state.much_came.notify_one();
        }
        drop(room);
    }
    Ended::Closed
}

async fn store_batch(state: &State, node: &Node, batch: &[Incoming]) {
    let mut attempts = Attempts::new(state);
    let (committed, took) = loop {
        let store = attempts.store().await;
        let begin = Instant::now();
        let result = store.commit(&node.id, batch, now_us()).await;
        if let Some(committed) = attempts.settle(result).await {
            break (committed, begin.elapsed());
        }
    };
    let now = now_ns();
    let mut inner = state.lock();
    let counters = &mut inner.counters;
    counters.stored += committed.stored;
    counters.redelivered += committed.redelivered;
    counters.commit.observe(took.as_secs_f64());
    for incoming in batch {
        let nanos = now.saturating_sub(incoming.spooled.finding.time_ns);
        counters.event_to_store.observe(Duration::from_nanos(nanos).as_secs_f64());
    }
}

fn with_workload(spooled: Spooled, workloads: &HashMap<String, String>) -> Incoming {
    // The agent says it; one of before did not.
    let container = spooled.finding.container.as_ref().filter(|_| spooled.finding.workload.is_empty());
    let known = container.and_then(|container| workloads.get(&container.id)).cloned();
    let workload = known.unwrap_or_else(|| spooled.finding.workload.clone());
    Incoming { spooled, workload }
}

fn learn(workloads: &mut HashMap<String, String>, containers: Option<&Vec<Container>>) {
    if workloads.len() > REMEMBERED {
        workloads.clear();
    }
    for container in containers.into_iter().flatten().filter(|container| container.complete) {
        workloads.insert(container.short_id().to_owned(), Workload::of(container).key());
    }
}

/// Writes the agent's containers and rules down as they change.
async fn store_inventory(state: &State, node: &Node, version: &str, mut sight: watch::Receiver<Seen>) -> Ended {
    let mut attempts = Attempts::new(state);
    let kept = loop {
        let store = attempts.store().await;
        let result = match store.node(node, version, now_us()).await {
            Ok(()) => store.containers_of(&node.id).await,
            Err(error) => Err(error),
        };
        if let Some(kept) = attempts.settle(result).await {
            break kept;
        }
    };
    let here = kept.into_iter().filter(|(_, row)| row.gone == 0);
    let mut known: BTreeMap<String, Container> = here.map(|(id, row)| (id, row.container)).collect();
    let mut rules: Option<Arc<Vec<RuleFile>>> = None;
    let mut touched: Option<Instant> = None;
    loop {
        let seen = sight.borrow_and_update().clone();
        let mut changes = seen.containers.as_ref().map(|now| difference(&known, now)).unwrap_or_default();
        if seen.rules != rules {
            changes.rules = seen.rules.as_ref().map(|files| files.as_ref().clone());
        }
        // What is gone is to be marked so before what is left is marked as seen.
        changes.touch = seen.containers.is_some() && touched.is_none_or(|touched| touched.elapsed() > TOUCH);
        if !changes.is_empty() {
            let mut attempts = Attempts::new(state);
            loop {
                let store = attempts.store().await;
                let result = store.inventory(&node.id, &changes, now_us()).await;
                if attempts.settle(result).await.is_some() {
                    break;
                }
            }
            if changes.touch {
                touched = Some(Instant::now());
            }
            rules = seen.rules;
            if let Some(now) = seen.containers {
                known = now.iter().map(|container| (container.id.clone(), container.clone())).collect();
            }
        }
        tokio::select! {
            changed = sight.changed() => if changed.is_err() {
                return Ended::Closed;
            },
            () = tokio::time::sleep(TOUCH) => {}
        }
    }
}
