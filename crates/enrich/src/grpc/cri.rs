//! The Container Runtime Interface of Kubernetes: pods and their containers, from CRI-O, containerd or another.
//!
//! It tells names, images and labels, of the pod too. It has no events that every version sends, so containers are asked
//! for when they appear, and all are listed now and then to see which are gone.

use std::cell::RefCell;
use std::collections::HashMap as StdMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use prost::Message;
use tonic::Status;
use tw_model::Container as Told;
use tw_model::container::Pod;

use super::{Wire, failure, status_reason};
use crate::bounded;
use crate::docker::set_image_name;
use crate::runtime::{RuntimeUpdate, is_id};
use crate::watcher::inquiry::{Answer, Failure, Inquiry, MAX_CONTAINERS};
use crate::watcher::{End, Known, Line, Updates};

/// How often all containers are listed.
const LIST_EVERY: Duration = Duration::from_secs(10);
/// Most pods remembered.
const MAX_PODS: usize = 2_048;

const VERSION: &str = "/runtime.v1.RuntimeService/Version";
const LIST_CONTAINERS: &str = "/runtime.v1.RuntimeService/ListContainers";
const LIST_PODS: &str = "/runtime.v1.RuntimeService/ListPodSandbox";
const POD_STATUS: &str = "/runtime.v1.RuntimeService/PodSandboxStatus";

#[derive(Clone, PartialEq, Message)]
struct VersionRequest {}

#[derive(Clone, PartialEq, Message)]
struct VersionResponse {
    #[prost(string, tag = "2")]
    runtime_name: String,
    #[prost(string, tag = "3")]
    runtime_version: String,
}

#[derive(Clone, PartialEq, Message)]
struct IdFilter {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct ListRequest {
    #[prost(message, optional, tag = "1")]
    filter: Option<IdFilter>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerList {
    #[prost(message, repeated, tag = "1")]
    containers: Vec<Container>,
}

#[derive(Clone, PartialEq, Message)]
struct Name {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
    #[prost(string, tag = "18")]
    user_specified_image: String,
}

#[derive(Clone, PartialEq, Message)]
struct Container {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    pod_sandbox_id: String,
    #[prost(message, optional, tag = "3")]
    metadata: Option<Name>,
    #[prost(message, optional, tag = "4")]
    image: Option<ImageSpec>,
    #[prost(string, tag = "5")]
    image_ref: String,
    #[prost(map = "string, string", tag = "8")]
    labels: StdMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct PodList {
    #[prost(message, repeated, tag = "1")]
    items: Vec<IdFilter>,
}

#[derive(Clone, PartialEq, Message)]
struct PodStatusRequest {
    #[prost(string, tag = "1")]
    pod_sandbox_id: String,
}

#[derive(Clone, PartialEq, Message)]
struct PodStatusResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<PodStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct PodMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, Message)]
struct PodStatus {
    #[prost(message, optional, tag = "2")]
    metadata: Option<PodMetadata>,
    #[prost(message, optional, tag = "5")]
    network: Option<PodNetwork>,
    #[prost(map = "string, string", tag = "7")]
    labels: StdMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct PodNetwork {
    #[prost(string, tag = "1")]
    ip: String,
}

/// Pods that were asked for, by id of their sandbox.
pub(crate) type Pods = Rc<RefCell<HashMap<String, Rc<Pod>>>>;

/// What the interface says of a pod, without the name of a container in it. It is remembered, since all of its
/// containers ask; one without an address is asked for again, since it had none yet.
pub(crate) async fn pod(wire: &Wire, pods: &Pods, sandbox: &str) -> Result<Rc<Pod>, Status> {
    if let Some(pod) = pods.borrow().get(sandbox) {
        return Ok(Rc::clone(pod));
    }
    let question = PodStatusRequest { pod_sandbox_id: sandbox.to_owned() };
    let answer: PodStatusResponse = wire.call(POD_STATUS, "", question).await?;
    let status = answer.status.unwrap_or_default();
    let metadata = status.metadata.unwrap_or_default();
    let pod = Rc::new(Pod {
        name: bounded::name(&metadata.name),
        namespace: bounded::name(&metadata.namespace),
        uid: bounded::name(&metadata.uid),
        sandbox_id: bounded::name(sandbox),
        ip: bounded::cut(status.network.unwrap_or_default().ip, 64),
        labels: bounded::pod_labels(status.labels),
        ..Pod::default()
    });
    if !pod.ip.is_empty() {
        let mut pods = pods.borrow_mut();
        if pods.len() >= MAX_PODS {
            pods.clear();
        }
        pods.insert(sandbox.to_owned(), Rc::clone(&pod));
    }
    Ok(pod)
}

/// One connection to a runtime.
pub(crate) struct Session {
    wire: Wire,
    runtime: Rc<str>,
    pods: Pods,
    inquiry: Inquiry,
}

impl crate::watcher::Session for Session {
    async fn open(socket: &Path) -> Result<(Self, String), String> {
        let wire = Wire::open(socket).await?;
        let version: VersionResponse =
            wire.call(VERSION, "", VersionRequest {}).await.map_err(|status| status_reason(&status))?;
        let name = bounded::cut(version.runtime_name, 32);
        let told = format!("{name} {}", bounded::cut(version.runtime_version, 64));
        let session = Self { wire, runtime: name.into(), pods: Pods::default(), inquiry: Inquiry::new("cri") };
        Ok((session, told))
    }

    async fn follow(mut self, line: &mut Line) -> End {
        let Line { updates, requests, known } = line;
        let mut tick = tokio::time::interval(LIST_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let (wire, pods, runtime) = (&self.wire, &self.pods, &self.runtime);
            self.inquiry.send_off(|id| {
                let (wire, pods, runtime) = (wire.clone(), Rc::clone(pods), Rc::clone(runtime));
                Box::pin(async move { inspect(&wire, &pods, &runtime, id).await })
            });
            let step = tokio::select! {
                Some((question, answer)) = self.inquiry.next() =>
                    self.inquiry.settle(question, answer, updates, known).await.map_err(End::from),
                Some(id) = requests.recv() => { self.inquiry.ask(id, true, true); Ok(()) },
                _ = tick.tick() => self.list(updates, known).await,
            };
            if let Err(end) = step {
                return end;
            }
        }
    }
}

impl Session {
    /// Asks for what is new, tells what is gone.
    async fn list(&mut self, updates: &Updates, known: &mut Known) -> Result<(), End> {
        let lost = |status: Status| End::Lost(status_reason(&status));
        let containers: ContainerList =
            self.wire.call(LIST_CONTAINERS, "", ListRequest { filter: None }).await.map_err(lost)?;
        let pods: PodList = self.wire.call(LIST_PODS, "", ListRequest { filter: None }).await.map_err(lost)?;
        let ids = containers.containers.into_iter().map(|one| one.id).chain(pods.items.into_iter().map(|one| one.id));
        let ids: HashSet<String> = ids.filter(|id| is_id(id)).take(MAX_CONTAINERS).collect();
        let gone: Vec<String> = known.keys().filter(|id| !ids.contains(*id)).cloned().collect();
        for id in gone {
            known.remove(&id);
            self.pods.borrow_mut().remove(&id);
            updates.send(RuntimeUpdate::Gone(id)).await?;
        }
        for id in ids {
            if known.get(&id).is_none_or(|number| *number == 0) {
                // As if asked for: the end of the answer is of interest, since nothing more will come by itself.
                self.inquiry.ask(id, true, false);
            }
        }
        Ok(())
    }
}

async fn inspect(wire: &Wire, pods: &Pods, runtime: &str, id: String) -> Answer {
    let filter = Some(IdFilter { id: id.clone() });
    let list: ContainerList =
        wire.call(LIST_CONTAINERS, "", ListRequest { filter }).await.map_err(|status| failure(&status))?;
    // A filter takes the beginning of an id too.
    let Some(answer) = list.containers.into_iter().find(|one| one.id == id) else {
        return inspect_sandbox(wire, pods, runtime, id).await;
    };
    let name = bounded::name(&answer.metadata.unwrap_or_default().name);
    let pod = pod(wire, pods, &answer.pod_sandbox_id).await.unwrap_or_default();
    let mut container = Told {
        id,
        runtime: runtime.to_owned(),
        name: name.clone(),
        ip: pod.ip.clone(),
        labels: bounded::labels(answer.labels),
        pod: Pod { container: name, ..(*pod).clone() },
        ..Told::default()
    };
    let image = answer.image.unwrap_or_default();
    let given = if image.user_specified_image.is_empty() { image.image } else { image.user_specified_image };
    set_image_name(&mut container, &given);
    if let Some(id) = answer.image_ref.strip_prefix("sha256:") {
        container.image_id = bounded::name(id);
    } else if let Some((_, digest)) = answer.image_ref.split_once('@')
        && container.digest.is_empty()
    {
        container.digest = bounded::name(digest);
    }
    Ok(Some(Box::new(container)))
}

/// The sandbox of a pod is a container too.
async fn inspect_sandbox(wire: &Wire, pods: &Pods, runtime: &str, id: String) -> Answer {
    let pod = match pod(wire, pods, &id).await {
        Ok(pod) if !pod.name.is_empty() => pod,
        Ok(_) => return Err(Failure::Absent),
        // Some runtimes have other words for "not found".
        Err(status) if status_reason(&status).contains("not found") => return Err(Failure::Absent),
        Err(status) => return Err(failure(&status)),
    };
    Ok(Some(Box::new(Told {
        id,
        runtime: runtime.to_owned(),
        name: pod.name.clone(),
        ip: pod.ip.clone(),
        labels: pod.labels.clone(),
        pod: (*pod).clone(),
        ..Told::default()
    })))
}
