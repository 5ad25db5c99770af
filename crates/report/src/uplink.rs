//! The way from the spool to the manager: a local socket at which the manager asks for what it does not have yet.
//!
//! One thread waits for connections, each of which has a thread that reads and one that writes. What is said is in
//! [`tw_model::link`]. The spool forgets what the manager has committed, and nothing else. A peer that says nothing,
//! such as a command line while the manager is away, still hears the agent's status.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::sockopt::socket_peercred;
use tw_model::Container;
use tw_model::link::{Call, Cursor, FromAgent, FromManager, MAX_MANAGER_LINE, PROTOCOL, PodNews, Spooled};
use tw_model::listener::Listener;
use tw_model::status::{AgentStatus, Node, SpoolLane};

use crate::spool::{Spool, SpoolError, SpoolReader};

/// Findings in one line.
const BATCH: usize = 256;
/// Bytes of findings, or of containers, in one line, about.
const BATCH_BYTES: usize = 1 << 20;
/// Lines of the manager that wait to be heard.
const HEARD: usize = 8;
/// How often the status is sent.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// How long a peer may take to read what it is sent.
const SLOWEST: Duration = Duration::from_secs(30);
/// Connections at the same time.
const CONNECTIONS: usize = 8;

/// Wakes whoever waits for something new. Rung before anybody waits, it is not lost.
#[derive(Clone, Debug, Default)]
pub struct Bell(Arc<(Mutex<u64>, Condvar)>);

impl Bell {
    /// Rings.
    pub fn ring(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.1.notify_all();
    }

    /// Waits until it was rung since `heard`, for at most `patience`.
    pub fn wait(&self, heard: &mut u64, patience: Duration) {
        let rung = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = *heard;
        let waited = self.0.1.wait_timeout_while(rung, patience, |rung| *rung == known);
        *heard = *waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// What the agent shows of itself, for the uplink to pass on.
#[derive(Debug, Default)]
pub struct Board {
    /// Its state, once it watches.
    pub status: Mutex<Option<AgentStatus>>,
    /// Containers, with a number that grows with each change.
    pub containers: Mutex<(u64, Vec<Container>)>,
    /// Sockets that listen, in the same way.
    pub listeners: Mutex<(u64, Vec<Listener>)>,
}

/// Something the manager asked for; whoever does it answers.
pub struct Asked {
    /// What.
    pub call: Call,
    /// Where the answer goes.
    pub answer: SyncSender<Result<String, String>>,
}

/// What the uplink needs of the agent.
pub struct UplinkOptions {
    /// Where peers connect.
    pub listener: UnixListener,
    /// User of the manager; root may connect as well.
    pub manager_uid: u32,
    /// Version of the program.
    pub version: String,
    /// Who the agent is.
    pub node: Node,
    /// What the agent shows.
    pub board: Arc<Board>,
    /// Findings; none if they are not kept.
    pub spool: Option<Arc<Mutex<Spool>>>,
    /// Rung when there is more.
    pub bell: Bell,
    /// Takes what is asked.
    pub calls: SyncSender<Asked>,
    /// Takes what the manager says of pods; while it is full, the manager waits.
    pub pods: SyncSender<PodNews>,
}

/// The uplink's thread ends with the process; there is nothing to undo.
///
/// # Errors
/// If the thread cannot be started.
pub fn start(options: UplinkOptions) -> io::Result<()> {
    std::thread::Builder::new().name("uplink".into()).spawn(move || accept(Arc::new(options)))?;
    Ok(())
}

fn accept(options: Arc<UplinkOptions>) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let stream = match options.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("cannot take a connection of the manager: {error}");
                std::thread::sleep(Duration::from_secs(1));
                continue;
            }
        };
        let peer = match socket_peercred(&stream) {
            Ok(peer) => peer,
            Err(error) => {
                tracing::debug!("a connection is refused: who it is cannot be told ({error})");
                continue;
            }
        };
        let (uid, pid) = (peer.uid.as_raw(), peer.pid.as_raw_nonzero());
        if uid != 0 && uid != options.manager_uid {
            tracing::debug!("a connection of user {uid} (pid {pid}) is refused: only root and the manager may connect");
            continue;
        }
        let Some(place) = Place::take(&open) else {
            tracing::debug!("a connection of pid {pid} is refused: {CONNECTIONS} are open already");
            continue;
        };
        let options = Arc::clone(&options);
        let started = std::thread::Builder::new().name("uplink-out".into()).spawn(move || {
            let _place = place;
            match serve(&options, stream) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                Err(error) => tracing::warn!("the connection of the manager ended: {error}"),
            }
        });
        if let Err(error) = started {
            tracing::warn!("a connection of pid {pid} is refused: no thread for it ({error})");
        }
    }
}

/// One of the connections that may be open, given back when it goes.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(open: &Arc<AtomicUsize>) -> Option<Self> {
        // Only one thread takes.
        if open.load(Ordering::Relaxed) >= CONNECTIONS {
            return None;
        }
        open.fetch_add(1, Ordering::Relaxed);
        Some(Self(Arc::clone(open)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Ends a connection for both threads, however this one ends.
struct Hangup(UnixStream);

impl Drop for Hangup {
    fn drop(&mut self) {
        // The peer may have gone already.
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

/// One connection: this thread writes, another reads.
fn serve(options: &Arc<UplinkOptions>, stream: UnixStream) -> io::Result<()> {
    stream.set_write_timeout(Some(SLOWEST))?;
    let (heard, lines) = sync_channel(HEARD);
    let (answers, answered) = sync_channel(16);
    let gone = Arc::new(AtomicBool::new(false));
    let (reading, bell, over) = (stream.try_clone()?, options.bell.clone(), Arc::clone(&gone));
    let stream = Hangup(stream);
    std::thread::Builder::new().name("uplink-in".into()).spawn(move || {
        if let Err(error) = listen(reading, &heard, &bell) {
            tracing::warn!("the manager said something that makes no sense: {error}");
        }
        over.store(true, Ordering::Relaxed);
        bell.ring();
    })?;
    let mut out = Sending {
        options,
        stream,
        readers: None,
        status_sent: None,
        containers_sent: None,
        listeners_sent: None,
        ack_failed: false,
    };
    out.say(&FromAgent::Hello { protocol: PROTOCOL, version: options.version.clone(), node: options.node.clone() })?;
    let mut rung = 0;
    loop {
        if !out.hear(&lines, &answers)? {
            return Ok(());
        }
        while let Ok((id, result)) = answered.try_recv() {
            // Whoever asked looks next, and is to see what came of it.
            out.say_status()?;
            out.say(&FromAgent::Answer { id, result })?;
        }
        if gone.load(Ordering::Relaxed) {
            return Ok(());
        }
        if !out.news()? {
            options.bell.wait(&mut rung, Duration::from_millis(200));
        }
    }
}

/// Hands over each line of the manager until it leaves.
fn listen(stream: UnixStream, heard: &SyncSender<FromManager>, bell: &Bell) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut stream).take(MAX_MANAGER_LINE as u64).read_until(b'\n', &mut line) {
            Ok(0) => return Ok(()),
            Ok(_) if line.last() == Some(&b'\n') => {}
            Ok(n) if n < MAX_MANAGER_LINE => return Ok(()), // the peer went in the middle of a line
            Ok(_) => return Err(io::Error::other(format!("a line of more than {MAX_MANAGER_LINE} bytes"))),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error),
        }
        let said = serde_json::from_slice(&line).map_err(io::Error::other)?;
        if heard.send(said).is_err() {
            return Ok(());
        }
        bell.ring();
    }
}

struct Sending<'o> {
    options: &'o UplinkOptions,
    stream: Hangup,
    /// One per lane, once the manager said what it has.
    readers: Option<Vec<(SpoolLane, SpoolReader)>>,
    status_sent: Option<Instant>,
    containers_sent: Option<u64>,
    listeners_sent: Option<u64>,
    /// The last acknowledgement could not be remembered.
    ack_failed: bool,
}

impl Sending<'_> {
    fn say(&mut self, what: &FromAgent) -> io::Result<()> {
        let mut line = serde_json::to_vec(what).map_err(io::Error::other)?;
        line.push(b'\n');
        self.stream.0.write_all(&line)
    }

    /// Does what the manager said. False if the connection is to end.
    fn hear(
        &mut self,
        lines: &Receiver<FromManager>,
        answers: &SyncSender<(u64, Result<String, String>)>,
    ) -> io::Result<bool> {
        loop {
            match lines.try_recv() {
                Ok(FromManager::Hello { protocol, cursors }) => {
                    if protocol != PROTOCOL {
                        return Err(io::Error::other(format!(
                            "the manager speaks version {protocol} of the protocol, this agent {PROTOCOL}: restart the \
                             service, so that both are of one version"
                        )));
                    }
                    self.begin(&cursors)?;
                }
                Ok(FromManager::Ack { cursor }) => self.acknowledge(cursor)?,
                Ok(FromManager::Pods(news)) => {
                    self.options.pods.send(news).map_err(|_| io::Error::other("the agent takes no pods any more"))?;
                }
                Ok(FromManager::Call { id, call }) => self.ask(id, call, answers.clone()),
                Err(TryRecvError::Empty) => return Ok(true),
                Err(TryRecvError::Disconnected) => return Ok(false),
            }
        }
    }

    /// Starts to send from where the manager's store ends.
    fn begin(&mut self, cursors: &[Cursor]) -> io::Result<()> {
        let Some(spool) = &self.options.spool else { return Ok(()) };
        for cursor in cursors {
            self.acknowledge(*cursor)?;
        }
        let spool = spool.lock().unwrap_or_else(PoisonError::into_inner);
        self.readers = Some(SpoolLane::ALL.map(|lane| (lane, spool.reader(lane, spool.acked(lane)))).into());
        Ok(())
    }

    /// Lets the spool forget. What it cannot remember durably counts all the same, and is tried again with the next
    /// acknowledgement; only one that cannot be true ends the connection.
    fn acknowledge(&mut self, cursor: Cursor) -> io::Result<()> {
        let Some(spool) = &self.options.spool else { return Ok(()) };
        let result = spool.lock().unwrap_or_else(PoisonError::into_inner).ack(cursor.lane, cursor.seq);
        match result {
            Ok(_) => self.ack_failed = false,
            Err(error @ SpoolError::Ahead { .. }) => return Err(io::Error::other(error)),
            Err(error) => {
                if !std::mem::replace(&mut self.ack_failed, true) {
                    tracing::warn!("{error}; until then findings may be sent twice after a restart");
                }
            }
        }
        Ok(())
    }

    /// Passes a call on; a thread waits for the answer, since it may take a while.
    fn ask(&self, id: u64, call: Call, answers: SyncSender<(u64, Result<String, String>)>) {
        let (answer, answered) = sync_channel(1);
        let calls = self.options.calls.clone();
        let bell = self.options.bell.clone();
        let _ = std::thread::Builder::new().name("uplink-call".into()).spawn(move || {
            let result = match calls.try_send(Asked { call, answer }) {
                Ok(()) => answered.recv().unwrap_or_else(|_| Err("the agent ended before it could answer".into())),
                Err(_) => Err("the agent has too many requests waiting: try again".into()),
            };
            let _ = answers.send((id, result));
            bell.ring();
        });
    }

    /// Says the state as the board has it, if it has one.
    fn say_status(&mut self) -> io::Result<()> {
        let status = self.options.board.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(status) = status else { return Ok(()) };
        self.status_sent = Some(Instant::now());
        self.say(&FromAgent::Status { status: Box::new(status) })
    }

    /// Sends what is new. True if there may be more at once.
    fn news(&mut self) -> io::Result<bool> {
        if self.status_sent.is_none_or(|sent| sent.elapsed() >= STATUS_EVERY) {
            self.say_status()?;
        }
        let containers = {
            let known = self.options.board.containers.lock().unwrap_or_else(PoisonError::into_inner);
            (self.containers_sent != Some(known.0)).then(|| known.clone())
        };
        if let Some((version, containers)) = containers {
            self.containers_sent = Some(version);
            self.say_containers(containers)?;
        }
        let listeners = {
            let known = self.options.board.listeners.lock().unwrap_or_else(PoisonError::into_inner);
            (self.listeners_sent != Some(known.0)).then(|| known.clone())
        };
        if let Some((version, listeners)) = listeners {
            self.listeners_sent = Some(version);
            // A few thousand at most, with short names: they fit into a line.
            self.say(&FromAgent::Listeners { listeners })?;
        }
        let findings = self.next_findings();
        if findings.is_empty() {
            return Ok(false);
        }
        self.say(&FromAgent::Findings { findings })?;
        Ok(true)
    }

    /// Says all containers, in lines of about [`BATCH_BYTES`].
    fn say_containers(&mut self, containers: Vec<Container>) -> io::Result<()> {
        let (mut part, mut bytes) = (Vec::new(), 0);
        for container in containers {
            let size = serde_json::to_vec(&container).map_err(io::Error::other)?.len();
            if bytes + size > BATCH_BYTES && !part.is_empty() {
                self.say(&FromAgent::Containers { containers: std::mem::take(&mut part), more: true })?;
                bytes = 0;
            }
            bytes += size;
            part.push(container);
        }
        self.say(&FromAgent::Containers { containers: part, more: false })
    }

    /// The next findings, urgent ones first.
    fn next_findings(&mut self) -> Vec<Spooled> {
        let mut findings = Vec::new();
        let mut bytes = 0;
        for (lane, reader) in self.readers.iter_mut().flatten() {
            while findings.len() < BATCH && bytes < BATCH_BYTES {
                let (seq, payload) = match reader.read() {
                    Ok(Some(next)) => next,
                    Ok(None) => break,
                    Err(error) => {
                        tracing::warn!("the spool cannot be read: {error}; trying again");
                        break;
                    }
                };
                bytes += payload.len();
                match serde_json::from_slice(&payload) {
                    Ok(finding) => findings.push(Spooled { lane: *lane, seq, finding }),
                    // Written by a version that knew more; the next acknowledgement passes over it.
                    Err(error) => tracing::error!("finding {seq} of the spool cannot be read: {error}"),
                }
            }
        }
        findings
    }
}
