//! The pods of this node, as the API of Kubernetes tells them: listed, watched, and told to the agent.
//!
//! One connection lists all and then hears of changes. Whatever goes wrong ends it, and after a pause another begins
//! from the start: pods of one node are few, and what was known stays meanwhile. A watch that ends in good order goes on
//! from where it was, though not at once again and again.
//!
//! **Never:** a change in the cluster; a secret, an environment or anything else of a pod's content.

mod access;
mod object;
mod relations;
mod tell;
mod trouble;
mod wire;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher as _, Hasher as _};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use tokio::sync::watch;
use tw_model::container::Pod as Told;
use tw_model::status::Problem;

use crate::state::now_ns;
pub use access::{Access, Needs};
use object::Pod;
use relations::Relations;
pub(crate) use tell::tell;
use trouble::{Kind, Trouble};

/// Most pods remembered; what is beyond is left out, and told.
const MAX_PODS: usize = 1_024;
/// Pods of one page.
const PAGE: u32 = 50;
/// How long it may take to list all.
const LISTING: Duration = Duration::from_secs(60);
/// How long an answer may take that a watch waits for meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);
/// A connection that worked for so long is followed by the shortest pause.
const STEADY: Duration = Duration::from_secs(60);
/// A trouble that may pass is told after this long.
const GRACE: Duration = Duration::from_secs(10);

/// What is to be watched.
#[derive(Clone, Debug)]
pub struct Options {
    /// How the API is reached.
    pub access: Access,
    /// Name of this node in Kubernetes.
    pub node: String,
    /// How often what is done.
    pub pace: Pace,
}

/// How often something is done; tests are quicker.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Shortest and longest pause between connections, about.
    pub pause: (Duration, Duration),
    /// From the beginning of one watch to that of the next, at least.
    pub watch: Duration,
    /// After this long the node, namespaces and whatever could not be read are asked for again: nothing tells that they
    /// changed.
    pub again: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            pause: (Duration::from_millis(500), Duration::from_secs(30)),
            watch: Duration::from_secs(1),
            again: Duration::from_secs(600),
        }
    }
}

/// What a person may want to know.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Standing {
    /// Where the API is.
    pub(crate) server: String,
    /// Whether pods are watched now.
    pub(crate) up: bool,
    /// When the API last told of pods, nanoseconds since the epoch; 0: never.
    pub(crate) heard_ns: u64,
    /// How often all pods were listed.
    pub(crate) lists: u64,
    /// Pods for which there was no room since all were listed last; [`MAX_PODS`] at most.
    pub(crate) left_out: u64,
    /// Troubles so far, by kind.
    pub(crate) failures: BTreeMap<&'static str, u64>,
    trouble: Option<(Trouble, Instant)>,
    /// Whether the node is known there; none while that was not found out.
    node_known: Option<bool>,
    /// What may not be read beside pods.
    denied: Vec<&'static str>,
}

/// What was said in the log since a connection last held for [`STEADY`].
#[derive(Default)]
struct Said {
    trouble: Option<Kind>,
    /// That it is over.
    watched: bool,
}

/// Uids of pods for which there is no room.
#[derive(Default)]
struct LeftOut(HashSet<String>);

impl LeftOut {
    fn add(&mut self, uid: String) {
        if self.0.len() < MAX_PODS {
            self.0.insert(uid);
        }
    }

    fn number(&self) -> u64 {
        self.0.len() as u64
    }
}

/// Watches, and remembers what it saw.
pub(crate) struct Kubernetes {
    pub(crate) options: Options,
    pods: Mutex<HashMap<String, Arc<Told>>>,
    standing: Mutex<Standing>,
    /// Whether all pods were listed once, and a number that grows with each change.
    changed: watch::Sender<u64>,
}

impl Standing {
    /// What is wrong, if something is.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.as_ref().map(|(trouble, _)| trouble.to_string())
    }
}

impl Kubernetes {
    pub(crate) fn new(options: Options) -> Self {
        Self { options, pods: Mutex::default(), standing: Mutex::default(), changed: watch::Sender::new(0) }
    }

    /// One that listed no pods, and then failed.
    #[cfg(test)]
    pub(crate) fn that_failed(options: Options) -> Self {
        let kubernetes = Self::new(options);
        let mut standing = kubernetes.standing_mut();
        (standing.lists, standing.heard_ns) = (1, now_ns());
        drop(standing);
        kubernetes.failed(&Trouble::silent(1), &mut Said::default());
        kubernetes
    }

    fn pods(&self) -> MutexGuard<'_, HashMap<String, Arc<Told>>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn standing_mut(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it is.
    pub(crate) fn standing(&self) -> Standing {
        self.standing_mut().clone()
    }

    /// Pods known.
    pub(crate) fn known(&self) -> usize {
        self.pods().len()
    }

    /// Everything that is not as it should be.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let standing = self.standing();
        let mut problems = Vec::new();
        let troubled = standing.trouble.as_ref().filter(|(trouble, since)| {
            // What passes by itself is no problem yet.
            !trouble.kind.may_pass() || since.elapsed() > GRACE
        });
        problems.extend(troubled.map(|(trouble, _)| trouble.problem()));
        let mut doubt = |code: &str, what: String, remedy: &str| {
            problems.push(Problem { code: code.into(), failed: false, what, remedy: remedy.into() });
        };
        if standing.node_known == Some(false) {
            let what = format!("Kubernetes has no node named {}: no pod is found on it", self.options.node);
            doubt(
                "kubernetes-node",
                what,
                "set kubernetes.node to the name that kubectl get nodes shows for this host",
            );
        }
        if !standing.denied.is_empty() {
            let what = format!(
                "the API of Kubernetes does not let us get {}: owners are guessed by name, labels of namespaces are missing",
                standing.denied.join(", ")
            );
            doubt("kubernetes-relations", what, "give its account the role of deploy/kubernetes.yaml");
        }
        if standing.left_out > 0 {
            let what = format!("{} pods of this node are too many to be remembered", standing.left_out);
            doubt("kubernetes-pods", what, "nothing: their containers are named by the runtime alone");
        }
        problems
    }

    /// Connects, watches, and connects again, for ever.
    pub(crate) async fn follow(&self) {
        let (shortest, longest) = self.options.pace.pause;
        let mut pause = shortest;
        let mut said = Said::default();
        loop {
            let begin = Instant::now();
            let trouble = match self.session(&mut said).await {
                Ok(never) => match never {},
                Err(trouble) => trouble,
            };
            if begin.elapsed() > STEADY {
                (pause, said) = (shortest, Said::default());
            }
            self.failed(&trouble, &mut said);
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(longest);
        }
    }

    fn failed(&self, trouble: &Trouble, said: &mut Said) {
        let mut standing = self.standing_mut();
        *standing.failures.entry(trouble.kind.name()).or_insert(0) += 1;
        if trouble.is_harmless() {
            return;
        }
        standing.up = false;
        let since = standing.trouble.as_ref().map_or_else(Instant::now, |(_, since)| *since);
        standing.trouble = Some((trouble.clone(), since));
        drop(standing);
        // Once for each kind, however often it is tried, and also if all goes well for a moment each time.
        if said.trouble.replace(trouble.kind) != Some(trouble.kind) {
            said.watched = false;
            let remedy = trouble.problem().remedy;
            tracing::warn!(%remedy, "{trouble}; trying again");
        }
    }

    async fn session(&self, said: &mut Said) -> Result<std::convert::Infallible, Trouble> {
        let (client, server) = self.options.access.client(self.options.pace.watch).await?;
        self.standing_mut().server = server;
        self.look_at_the_node(&client, LISTING).await?;
        let mut relations = Relations::new(client.clone());
        let wanted = watcher::Config::default().fields(&format!("spec.nodeName={}", self.options.node)).page_size(PAGE);
        let mut stream = pin!(watcher::watcher(Api::<Pod>::all(client.clone()), wanted));
        let mut listed_by = Some(Instant::now() + LISTING);
        let mut listing: HashMap<String, Arc<Told>> = HashMap::new();
        let mut left_out = LeftOut::default();
        let mut tick = tokio::time::interval(self.options.pace.again);
        tick.reset();
        loop {
            let late = async {
                match listed_by {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                event = stream.next() => event,
                () = late => return Err(Trouble::silent(LISTING.as_secs())),
                _ = tick.tick() => {
                    // What is wrong with the connection, the watch itself will say.
                    self.look_at_the_node(&client, PATIENCE).await.ok();
                    self.complete_again(&mut relations).await;
                    continue;
                }
            };
            // The stream never ends by itself.
            let Some(event) = event else { return Err(Trouble::silent(0)) };
            match event.map_err(|error| Trouble::of(&error))? {
                Event::Init => {
                    listed_by = Some(Instant::now() + LISTING);
                    (listing, left_out) = (HashMap::new(), LeftOut::default());
                }
                Event::InitApply(pod) => {
                    if listing.len() >= MAX_PODS && !listing.contains_key(&pod.uid()) {
                        left_out.add(pod.uid());
                        continue;
                    }
                    let begin = Instant::now();
                    listing.extend(read(&pod, &mut relations).await.map(|(uid, pod)| (uid, Arc::new(pod))));
                    // Only the list itself has to come in time.
                    listed_by = listed_by.map(|at| at + begin.elapsed());
                }
                Event::InitDone => {
                    listed_by = None;
                    self.listed(std::mem::take(&mut listing), left_out.number(), &relations, said);
                }
                Event::Apply(pod) => {
                    let Some((uid, pod)) = read(&pod, &mut relations).await else { continue };
                    if self.put(uid.clone(), pod, &relations) {
                        left_out.0.remove(&uid);
                    } else {
                        left_out.add(uid);
                    }
                    self.standing_mut().left_out = left_out.number();
                }
                Event::Delete(pod) => {
                    let uid = pod.uid();
                    left_out.0.remove(&uid);
                    let mut standing = self.standing_mut();
                    (standing.heard_ns, standing.left_out) = (now_ns(), left_out.number());
                    drop(standing);
                    if self.pods().remove(&uid).is_some() {
                        self.tell_change();
                    }
                }
            }
        }
    }

    /// Whether Kubernetes knows the node: no pod on one that it does not is no news. Who may not ask does not know.
    async fn look_at_the_node(&self, client: &Client, patience: Duration) -> Result<(), Trouble> {
        let nodes = Api::<Node>::all(client.clone());
        let answer = tokio::time::timeout(patience, nodes.get_metadata_opt(&self.options.node)).await;
        let known = match answer.map_err(|_| Trouble::silent(patience.as_secs()))? {
            Ok(node) => Some(node.is_some()),
            Err(kube::Error::Api(_)) => None,
            Err(error) => return Err(Trouble::of_request("get", &error)),
        };
        self.standing_mut().node_known = known;
        Ok(())
    }

    /// All pods of the node, in place of those that were known.
    fn listed(&self, pods: HashMap<String, Arc<Told>>, left_out: u64, relations: &Relations, said: &mut Said) {
        let number = pods.len();
        *self.pods() = pods;
        let mut standing = self.standing_mut();
        (standing.up, standing.heard_ns, standing.left_out) = (true, now_ns(), left_out);
        standing.lists += 1;
        standing.denied = relations.denied().to_vec();
        let (first, mended) = (standing.lists == 1, standing.trouble.take().is_some());
        let server = standing.server.clone();
        drop(standing);
        if first || (mended && !std::mem::replace(&mut said.watched, true)) {
            tracing::info!(%server, node = %self.options.node, pods = number, "the pods of this node are watched");
        }
        self.tell_change();
    }

    /// Takes a pod, as it is now; returns whether there is room for it.
    fn put(&self, uid: String, pod: Told, relations: &Relations) -> bool {
        let mut pods = self.pods();
        let full = pods.len() >= MAX_PODS && !pods.contains_key(&uid);
        let news = !full && pods.get(&uid).is_none_or(|known| **known != pod);
        if news {
            pods.insert(uid, Arc::new(pod));
        }
        drop(pods);
        let mut standing = self.standing_mut();
        standing.heard_ns = now_ns();
        if standing.denied != relations.denied() {
            standing.denied = relations.denied().to_vec();
        }
        drop(standing);
        if news {
            self.tell_change();
        }
        !full
    }

    /// Looks whether namespaces are other than they were, and whether what was denied or failed is answered now.
    async fn complete_again(&self, relations: &mut Relations) {
        relations.ask_again();
        let known: Vec<(String, Arc<Told>)> =
            self.pods().iter().map(|(uid, pod)| (uid.clone(), Arc::clone(pod))).collect();
        for (uid, pod) in known {
            let mut plain = (*pod).clone();
            plain.owners.truncate(1);
            let fresh = relations.complete(plain).await;
            if fresh != *pod && self.pods().contains_key(&uid) {
                self.put(uid, fresh, relations);
            }
        }
        self.standing_mut().denied = relations.denied().to_vec();
    }

    fn tell_change(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    /// What is there of pods beyond those that were told; and which of those are gone.
    fn news(&self, told: &HashMap<String, Arc<Told>>) -> (Vec<Arc<Told>>, Vec<String>) {
        let pods = self.pods();
        let fresh = pods.iter().filter(|(uid, pod)| told.get(*uid) != Some(*pod));
        let fresh = fresh.map(|(_, pod)| Arc::clone(pod)).collect();
        let here: HashSet<&String> = pods.keys().collect();
        (fresh, told.keys().filter(|uid| !here.contains(uid)).cloned().collect())
    }
}

/// What is told of a pod, by its uid; none without one.
async fn read(pod: &Pod, relations: &mut Relations) -> Option<(String, Told)> {
    let told = pod.told();
    if told.uid.is_empty() || told.name.is_empty() {
        return None;
    }
    Some((told.uid.clone(), relations.complete(told).await))
}

/// Between a half and the whole, so that the managers of a cluster do not all come at once.
fn jittered(pause: Duration) -> Duration {
    let random = std::hash::RandomState::new().build_hasher().finish();
    pause.mul_f64(0.5 + (random % 1_000) as f64 / 2_000.0)
}
