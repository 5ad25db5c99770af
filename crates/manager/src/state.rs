//! What the manager's tasks share: the store, the link, and their counters.
//!
//! One lock, held for moments and never while something is waited for.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tw_model::link::{Call, FromManager, SupervisorStatus};
use tw_model::listener::Listener;
use tw_model::status::{AgentStatus, Histogram, Node, Problem};

use crate::kubernetes::Kubernetes;
use crate::retention::Retention;
use crate::store::{Deleted, Kind, Place, Reason, Store, StoreError};

/// A status older than this says nothing about now.
pub(crate) const FRESH: Duration = Duration::from_secs(30);
/// A link is missed after this long.
const MISSED: Duration = Duration::from_secs(2);
/// So many restarts of a process that does not run are a loop.
const LOOP: u64 = 3;

/// Bounds of the time that a commit takes, seconds.
const COMMIT_BOUNDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Bounds of the time from event to store, seconds.
const STORE_BOUNDS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0];

/// Nanoseconds since the epoch.
pub(crate) fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Microseconds since the epoch.
pub(crate) fn now_us() -> i64 {
    i64::try_from(now_ns() / 1000).unwrap_or(i64::MAX)
}

/// What the tasks share.
pub(crate) struct State {
    pub(crate) place: Place,
    pub(crate) retention: watch::Receiver<Retention>,
    pub(crate) agent_socket: PathBuf,
    pub(crate) supervisor_file: Option<PathBuf>,
    pub(crate) version: String,
    pub(crate) restarts: u64,
    pub(crate) started_ns: u64,
    /// The pods of this node, if Kubernetes is watched.
    pub(crate) kubernetes: Option<Arc<Kubernetes>>,
    /// Told when the agent loaded its settings anew, for whoever reads the manager's.
    pub(crate) reloaded: Arc<Notify>,
    /// Told when the store works again.
    pub(crate) recovered: Notify,
    /// Told when retention has reason to look at once.
    pub(crate) much_came: Notify,
    inner: Mutex<Inner>,
}

/// A store that failed again within this time of its last failure comes and goes: a nearly full disk takes a little,
/// and then nothing.
const CALM: Duration = Duration::from_secs(60);

/// What is there to say about a failure of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Failed,
    /// It comes and goes.
    Unsteady,
    Nothing,
}

/// The store's last failure.
#[derive(Default)]
pub(crate) struct LastFault {
    last: Option<(StoreError, Instant)>,
    unsteady: bool,
}

impl LastFault {
    /// Notes a failure; `new` if the store worked before, or failed otherwise.
    fn note(&mut self, error: &StoreError, new: bool, now: Instant) -> News {
        let last = self.last.replace((error.clone(), now));
        let soon = last.is_some_and(|(before, at)| before.code() == error.code() && now.duration_since(at) < CALM);
        match (new, soon) {
            (false, _) => News::Nothing,
            (true, false) => {
                self.unsteady = false;
                News::Failed
            }
            (true, true) if std::mem::replace(&mut self.unsteady, true) => News::Nothing,
            (true, true) => News::Unsteady,
        }
    }

    /// The failure, as long as the store comes and goes.
    fn unsteady(&self, now: Instant) -> Option<&StoreError> {
        let last = self.last.as_ref().filter(|(_, at)| self.unsteady && now.duration_since(*at) < CALM);
        last.map(|(error, _)| error)
    }

    /// Whether it was unsteady and has been calm since.
    fn calmed(&mut self, now: Instant) -> bool {
        let calmed = self.unsteady && self.unsteady(now).is_none();
        self.unsteady &= !calmed;
        calmed
    }
}

/// The part under the lock.
pub(crate) struct Inner {
    pub(crate) store: Option<Store>,
    pub(crate) fault: Option<StoreError>,
    pub(crate) last_fault: LastFault,
    pub(crate) retention_fault: Option<StoreError>,
    /// Why health and metrics are not served over TCP, if they should be.
    pub(crate) metrics_fault: Option<String>,
    pub(crate) bytes: u64,
    pub(crate) rows: BTreeMap<Kind, u64>,
    pub(crate) link: Link,
    pub(crate) counters: Counters,
}

impl Inner {
    /// What is wrong with the store, or was a moment ago if it comes and goes.
    pub(crate) fn trouble(&self) -> Option<&StoreError> {
        self.fault.as_ref().or_else(|| self.last_fault.unsteady(Instant::now()))
    }

    /// Whether the store is not open yet, and nothing says that it will not open.
    pub(crate) fn waits_for_store(&self) -> bool {
        self.store.is_none() && self.fault.is_none()
    }
}

/// The link as it is now.
pub(crate) struct Link {
    pub(crate) up: bool,
    pub(crate) since: Instant,
    pub(crate) since_ns: u64,
    /// Why it is down.
    pub(crate) reason: String,
    pub(crate) node: Option<Node>,
    pub(crate) agent: Option<AgentStatus>,
    /// Sockets that listen, as the agent said it last.
    pub(crate) listeners: Arc<Vec<Listener>>,
    pub(crate) heard: Option<Instant>,
    outgoing: Option<mpsc::Sender<FromManager>>,
    calls: HashMap<u64, oneshot::Sender<Result<String, String>>>,
    next_call: u64,
}

impl Link {
    /// The agent's last status, if it is not older than [`FRESH`].
    pub(crate) fn fresh(&self) -> Option<&AgentStatus> {
        self.agent.as_ref().filter(|_| self.heard.is_some_and(|heard| heard.elapsed() < FRESH))
    }
}

/// What the manager counts.
#[derive(Clone)]
pub(crate) struct Counters {
    pub(crate) stored: u64,
    pub(crate) redelivered: u64,
    pub(crate) failures: BTreeMap<&'static str, u64>,
    pub(crate) deleted: BTreeMap<(Kind, Reason), u64>,
    pub(crate) requests: BTreeMap<(String, u16), u64>,
    pub(crate) commit: Histogram,
    pub(crate) event_to_store: Histogram,
}

/// Why a call came to nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// The agent is not connected, or went away before it answered.
    Away,
    /// It did not answer in time.
    Late,
}

impl State {
    pub(crate) fn new(
        place: Place,
        retention: watch::Receiver<Retention>,
        agent_socket: PathBuf,
        version: String,
    ) -> Self {
        let link = Link {
            up: false,
            since: Instant::now(),
            since_ns: now_ns(),
            reason: "not connected yet".into(),
            node: None,
            agent: None,
            listeners: Arc::default(),
            heard: None,
            outgoing: None,
            calls: HashMap::new(),
            next_call: 1,
        };
        let counters = Counters {
            stored: 0,
            redelivered: 0,
            failures: BTreeMap::new(),
            deleted: BTreeMap::new(),
            requests: BTreeMap::new(),
            commit: Histogram::new(COMMIT_BOUNDS),
            event_to_store: Histogram::new(STORE_BOUNDS),
        };
        let inner = Inner {
            store: None,
            fault: None,
            last_fault: LastFault::default(),
            retention_fault: None,
            metrics_fault: None,
            bytes: 0,
            rows: BTreeMap::new(),
            link,
            counters,
        };
        Self {
            place,
            retention,
            agent_socket,
            supervisor_file: None,
            version,
            restarts: 0,
            started_ns: now_ns(),
            kubernetes: None,
            reloaded: Arc::default(),
            recovered: Notify::new(),
            much_came: Notify::new(),
            inner: Mutex::new(inner),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store, if it is open: it may still be at fault.
    pub(crate) fn store(&self) -> Option<Store> {
        self.lock().store.clone()
    }

    /// Whether the store is open and took what it was last given.
    pub(crate) fn store_up(&self) -> bool {
        let inner = self.lock();
        inner.store.is_some() && inner.fault.is_none()
    }

    /// Notes that the address of metrics cannot be had; says so when the reason is new.
    pub(crate) fn metrics_failed(&self, address: SocketAddr, reason: &str) {
        let fault = format!("metrics cannot listen on {address}: {reason}");
        if self.lock().metrics_fault.replace(fault.clone()).as_ref() != Some(&fault) {
            tracing::error!("{fault}. They are on the control socket meanwhile; it is tried again every 30 s");
        }
    }

    /// Notes that the store failed; says so once per kind of failure, and once that it comes and goes.
    pub(crate) fn store_failed(&self, error: &StoreError) {
        let mut inner = self.lock();
        *inner.counters.failures.entry(error.code()).or_insert(0) += 1;
        let new = inner.fault.as_ref().is_none_or(|before| before.code() != error.code());
        let news = inner.last_fault.note(error, new, Instant::now());
        inner.fault = Some(error.clone());
        drop(inner);
        let said = match news {
            News::Failed => "nothing is acknowledged meanwhile",
            News::Unsteady => "it comes and goes, which is not told again until it worked for a minute",
            News::Nothing => return,
        };
        tracing::error!(code = error.code(), remedy = %error.remedy(), "{error}; {said}");
    }

    /// Notes that the store took something.
    pub(crate) fn store_works(&self) {
        let mut inner = self.lock();
        let before = inner.fault.take();
        let unsteady = inner.last_fault.unsteady;
        drop(inner);
        if before.is_some() {
            if !unsteady {
                self.say_store_works();
            }
            self.recovered.notify_waiters();
        }
    }

    /// Notes that the store was looked at and had no fault.
    pub(crate) fn store_seen_well(&self) {
        if self.lock().last_fault.calmed(Instant::now()) {
            self.say_store_works();
        }
    }

    fn say_store_works(&self) {
        tracing::info!(store = %self.place.shown(), "the store works again");
    }

    pub(crate) fn deleted(&self, kind: Kind, reason: Reason, deleted: Deleted) {
        *self.lock().counters.deleted.entry((kind, reason)).or_insert(0) += deleted.rows;
        tracing::debug!(kind = kind.name(), reason = reason.name(), rows = deleted.rows, "deleted by retention");
    }

    /// The link came up. What is to be said goes to `outgoing`.
    pub(crate) fn link_up(&self, node: Node, outgoing: mpsc::Sender<FromManager>) {
        let mut inner = self.lock();
        let link = &mut inner.link;
        (link.up, link.since, link.since_ns) = (true, Instant::now(), now_ns());
        link.node = Some(node);
        link.outgoing = Some(outgoing);
        link.reason.clear();
    }

    /// The link went down. Callers that wait are told.
    pub(crate) fn link_down(&self, reason: String) {
        let mut inner = self.lock();
        let link = &mut inner.link;
        if link.up {
            (link.up, link.since, link.since_ns) = (false, Instant::now(), now_ns());
        }
        link.outgoing = None;
        link.calls.clear();
        link.reason = reason;
    }

    /// The agent said what listens.
    pub(crate) fn agent_sees(&self, listeners: Vec<Listener>) {
        self.lock().link.listeners = Arc::new(listeners);
    }

    /// What listens, as the agent said it last; nothing if it was not heard lately.
    pub(crate) fn listeners(&self) -> Arc<Vec<Listener>> {
        let inner = self.lock();
        inner.link.fresh().map(|_| Arc::clone(&inner.link.listeners)).unwrap_or_default()
    }

    /// The agent said how it is.
    pub(crate) fn agent_says(&self, status: AgentStatus) {
        let mut inner = self.lock();
        inner.link.agent = Some(status);
        inner.link.heard = Some(Instant::now());
    }

    /// The agent answered a call.
    pub(crate) fn answered(&self, id: u64, result: Result<String, String>) {
        let waiting = self.lock().link.calls.remove(&id);
        match waiting {
            Some(waiting) => drop(waiting.send(result)),
            None => tracing::debug!(id, "an answer that nobody waits for"),
        }
    }

    /// Asks the agent something, and waits for its answer.
    pub(crate) async fn call(&self, call: Call, patience: Duration) -> Result<Result<String, String>, NoAnswer> {
        let (id, outgoing, answer) = {
            let mut inner = self.lock();
            let link = &mut inner.link;
            let outgoing = link.outgoing.clone().ok_or(NoAnswer::Away)?;
            let id = link.next_call;
            link.next_call += 1;
            let (sender, answer) = oneshot::channel();
            link.calls.insert(id, sender);
            (id, outgoing, answer)
        };
        let exchange = async {
            outgoing.send(FromManager::Call { id, call }).await.map_err(|_| NoAnswer::Away)?;
            answer.await.map_err(|_| NoAnswer::Away)
        };
        let result = tokio::time::timeout(patience, exchange).await.unwrap_or(Err(NoAnswer::Late));
        self.lock().link.calls.remove(&id);
        result
    }

    /// The supervisor's word, if there is one that can be read.
    pub(crate) fn supervisor(&self) -> Option<SupervisorStatus> {
        use std::io::Read as _;
        let file = std::fs::File::open(self.supervisor_file.as_ref()?).ok()?;
        let mut text = String::new();
        file.take(1 << 20).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Everything that is not as it should be, each with its remedy.
    pub(crate) fn problems(&self, supervisor: Option<&SupervisorStatus>) -> Vec<Problem> {
        let problem =
            |code: &str, failed, what: String, remedy: String| Problem { code: code.into(), failed, what, remedy };
        let mut problems = Vec::new();
        let inner = self.lock();
        match (inner.trouble(), &inner.store) {
            (Some(fault), _) => problems.push(problem(fault.code(), true, fault.to_string(), fault.remedy())),
            (None, None) => problems.push(problem(
                "store-unavailable",
                true,
                format!("the store {} is not open yet", self.place.shown()),
                "wait a moment; if it stays so, look at the manager's log".into(),
            )),
            (None, Some(_)) => {}
        }
        if let Some(fault) = &inner.retention_fault {
            let what = format!("retention cannot delete: {fault}");
            problems.push(problem("retention-failed", false, what, fault.remedy()));
        }
        if let Some(fault) = &inner.metrics_fault {
            let remedy = "end what has the address (ss -ltnp names it): it is tried every 30 s; or set metrics.listen to a \
                          free one, or to null, and restart. Metrics are on the control socket meanwhile";
            problems.push(problem("metrics-unbound", true, fault.clone(), remedy.into()));
        }
        if !inner.link.up && inner.link.since.elapsed() > MISSED {
            let what = format!("the agent is not connected: {}", inner.link.reason);
            let remedy = format!(
                "look whether it runs (systemctl status tidewatch) and at its log; it listens on {}",
                self.agent_socket.display()
            );
            problems.push(problem("link-down", true, what, remedy));
        }
        problems.extend(self.kubernetes.iter().flat_map(|kubernetes| kubernetes.problems()));
        problems.extend(inner.link.fresh().map(|agent| agent.problems.clone()).unwrap_or_default());
        drop(inner);
        if let Some(supervisor) = supervisor {
            problems.extend(supervisor.problems.iter().cloned());
            for child in supervisor.children.iter().filter(|child| child.pid == 0 && child.restarts >= LOOP) {
                let what =
                    format!("the {} does not stay up: {} restarts; {}", child.name, child.restarts, child.last_end);
                let remedy = "look at its log; it is started again by itself, later and later".into();
                if !problems.iter().any(|known| known.code.contains("restart") && known.what.contains(&child.name)) {
                    problems.push(problem("restart-loop", true, what, remedy));
                }
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_comes_and_goes_is_told_twice_and_stays_a_problem_until_it_is_calm() {
        let error = |reason: &str| StoreError::Full { place: "sqlite".into(), reason: reason.into() };
        let (mut fault, begin) = (LastFault::default(), Instant::now());
        let after = |seconds| begin + Duration::from_secs(seconds);
        let told: Vec<News> = (0..5).map(|second| fault.note(&error("x"), true, after(second))).collect();
        assert_eq!(told, [News::Failed, News::Unsteady, News::Nothing, News::Nothing, News::Nothing]);
        assert_eq!(fault.note(&error("x"), false, after(5)), News::Nothing);
        assert!(fault.unsteady(after(60)).is_some() && !fault.calmed(after(60)));
        assert!(fault.unsteady(after(66)).is_none() && fault.calmed(after(66)) && !fault.calmed(after(67)));
        assert_eq!(fault.note(&error("y"), true, after(90)), News::Failed);
        let other = StoreError::Other { place: "sqlite".into(), reason: String::new() };
        assert_eq!(fault.note(&other, true, after(91)), News::Failed);
    }

    #[test]
    fn what_listens_now_is_not_told_of_an_agent_that_was_not_heard_lately() {
        let place = Place::parse("sqlite:/nowhere").unwrap();
        let retention = watch::channel(Retention::default()).1;
        let state = State::new(place, retention, "/nowhere".into(), "1".into());
        let listener = Listener {
            container: String::new(),
            protocol: "tcp".into(),
            address: [0, 0, 0, 0].into(),
            port: 22,
            process: "sshd".into(),
            pid: 7,
            since_ns: 0,
        };
        state.agent_says(AgentStatus::default());
        state.agent_sees(vec![listener.clone()]);
        assert_eq!(*state.listeners(), [listener]);
        state.lock().link.heard = Instant::now().checked_sub(FRESH);
        assert_eq!(*state.listeners(), []);
        state.agent_says(AgentStatus::default());
        assert_eq!(state.listeners().len(), 1, "it is heard again");
    }

    #[test]
    fn one_failure_is_over_as_soon_as_the_store_works() {
        let mut fault = LastFault::default();
        let error = StoreError::Full { place: String::new(), reason: String::new() };
        assert_eq!(fault.note(&error, true, Instant::now()), News::Failed);
        assert!(fault.unsteady(Instant::now()).is_none());
    }
}
