//! containerd, through its own API: all namespaces, which are Kubernetes' (`k8s.io`), nerdctl's and ctr's (`default`),
//! and others. Docker's (`moby`) is left to Docker, which knows more.
//!
//! containerd announces a container before its task, with its image; its specification tells the rest. Of a pod the
//! Container Runtime Interface, which is on the same socket, tells labels and address.

use std::cell::RefCell;
use std::collections::HashMap as StdMap;
use std::path::Path;
use std::rc::Rc;

use hashbrown::{HashMap, HashSet};
use prost::Message;
use tonic::Status;
use tw_model::Container as Told;
use tw_model::container::Pod;

use super::{Any, Wire, cri, failure, status_reason};
use crate::bounded;
use crate::docker::set_image_name;
use crate::oci::Spec;
use crate::runtime::{RuntimeUpdate, is_id};
use crate::watcher::inquiry::{Answer, Failure, Inquiry, MAX_CONTAINERS};
use crate::watcher::{End, Known, Line, Updates};

/// Most namespaces looked at.
const MAX_NAMESPACES: usize = 64;

const VERSION: &str = "/containerd.services.version.v1.Version/Version";
const SUBSCRIBE: &str = "/containerd.services.events.v1.Events/Subscribe";
const NAMESPACES: &str = "/containerd.services.namespaces.v1.Namespaces/List";
const LIST: &str = "/containerd.services.containers.v1.Containers/List";
const GET: &str = "/containerd.services.containers.v1.Containers/Get";
const IMAGE: &str = "/containerd.services.images.v1.Images/Get";
const TASK: &str = "/containerd.services.tasks.v1.Tasks/Get";

/// What is told of: `create`, `update` and `delete` of containers, and the start of their tasks.
const FILTERS: [&str; 2] = ["topic~=\"^/containers/\"", "topic==\"/tasks/start\""];

#[derive(Clone, PartialEq, Message)]
struct Empty {}

#[derive(Clone, PartialEq, Message)]
struct VersionAnswer {
    #[prost(string, tag = "1")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Filters {
    #[prost(string, repeated, tag = "1")]
    filters: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(string, tag = "2")]
    namespace: String,
    #[prost(string, tag = "3")]
    topic: String,
    #[prost(message, optional, tag = "4")]
    event: Option<Any>,
}

/// The events of a container, and that of a task's start, begin with its id. `create` and `update` name the image next.
#[derive(Clone, PartialEq, Message)]
struct ContainerEvent {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    image: String,
}

#[derive(Clone, PartialEq, Message)]
struct TaskStart {
    #[prost(string, tag = "1")]
    container_id: String,
}

#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct NamespaceList {
    #[prost(message, repeated, tag = "1")]
    namespaces: Vec<Named>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerIds {
    #[prost(message, repeated, tag = "1")]
    containers: Vec<ContainerId>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerId {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct GetAnswer {
    #[prost(message, optional, tag = "1")]
    container: Option<Container>,
}

#[derive(Clone, PartialEq, Message)]
struct Container {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(map = "string, string", tag = "2")]
    labels: StdMap<String, String>,
    #[prost(string, tag = "3")]
    image: String,
    #[prost(message, optional, tag = "5")]
    spec: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct ImageAnswer {
    #[prost(message, optional, tag = "1")]
    image: Option<Image>,
}

#[derive(Clone, PartialEq, Message)]
struct Image {
    #[prost(message, optional, tag = "3")]
    target: Option<Descriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct Descriptor {
    #[prost(string, tag = "2")]
    digest: String,
}

#[derive(Clone, PartialEq, Message)]
struct TaskAnswer {
    #[prost(message, optional, tag = "1")]
    process: Option<Process>,
}

#[derive(Clone, PartialEq, Message)]
struct Process {
    #[prost(uint32, tag = "3")]
    pid: u32,
}

/// What all questions of a session share.
#[derive(Clone)]
struct Shared {
    wire: Wire,
    /// In which namespace a container is.
    places: Rc<RefCell<HashMap<String, String>>>,
    /// Digest of a container's image, as its name meant it when the container was first looked at: tags move.
    digests: Rc<RefCell<HashMap<String, String>>>,
    pods: cri::Pods,
}

/// One connection to containerd.
pub(crate) struct Session {
    shared: Shared,
    inquiry: Inquiry,
}

impl crate::watcher::Session for Session {
    async fn open(socket: &Path) -> Result<(Self, String), String> {
        let wire = Wire::open(socket).await?;
        let version: VersionAnswer = wire.call(VERSION, "", Empty {}).await.map_err(|status| status_reason(&status))?;
        let shared = Shared { wire, places: Rc::default(), digests: Rc::default(), pods: cri::Pods::default() };
        Ok((Self { shared, inquiry: Inquiry::new("containerd") }, bounded::cut(version.version, 64)))
    }

    async fn follow(mut self, line: &mut Line) -> End {
        let Line { updates, requests, known } = line;
        // First the events, then the list: so nothing falls between.
        let filters = Filters { filters: FILTERS.map(str::to_owned).to_vec() };
        let (_task, mut events) = self.shared.wire.follow::<_, Envelope>(SUBSCRIBE, filters);
        if let Err(end) = self.list(updates, known).await {
            return end;
        }
        loop {
            let shared = &self.shared;
            self.inquiry.send_off(|id| {
                let shared = shared.clone();
                Box::pin(async move { inspect(&shared, id).await })
            });
            let step = tokio::select! {
                event = events.recv() => match event {
                    Some(Ok(event)) => self.on_event(event, updates, known).await,
                    Some(Err(status)) => Err(End::Lost(status_reason(&status))),
                    None => Err(End::Lost("containerd closed the stream of events".into())),
                },
                Some((question, answer)) = self.inquiry.next() =>
                    self.inquiry.settle(question, answer, updates, known).await.map_err(End::from),
                Some(id) = requests.recv() => { self.inquiry.ask(id, true, true); Ok(()) },
            };
            if let Err(end) = step {
                return end;
            }
        }
    }
}

impl Session {
    /// Asks for all that there are, tells those that are gone.
    async fn list(&mut self, updates: &Updates, known: &mut Known) -> Result<(), End> {
        let lost = |status: Status| End::Lost(status_reason(&status));
        let mut ids = HashSet::new();
        for namespace in namespaces(&self.shared.wire).await.map_err(lost)? {
            let list: ContainerIds = self.shared.wire.call(LIST, &namespace, Empty {}).await.map_err(lost)?;
            let mut places = self.shared.places.borrow_mut();
            for id in list.containers.into_iter().map(|one| one.id).filter(|id| is_id(id)) {
                if ids.len() < MAX_CONTAINERS && ids.insert(id.clone()) {
                    places.insert(id, namespace.clone());
                }
            }
        }
        let gone: Vec<String> = known.keys().filter(|id| !ids.contains(*id)).cloned().collect();
        for id in gone {
            known.remove(&id);
            updates.send(RuntimeUpdate::Gone(id)).await?;
        }
        for id in ids {
            known.entry(id.clone()).or_insert(0);
            self.inquiry.ask(id, false, false);
        }
        Ok(())
    }

    async fn on_event(&mut self, event: Envelope, updates: &Updates, known: &mut Known) -> Result<(), End> {
        let value = event.event.map(|event| event.value).unwrap_or_default();
        if is_dockers(&event.namespace) {
            return Ok(());
        }
        match event.topic.as_str() {
            "/containers/create" | "/containers/update" => {
                let Ok(ContainerEvent { id, image }) = ContainerEvent::decode(&*value) else { return Ok(()) };
                if !is_id(&id) {
                    return Ok(());
                }
                self.remember(&id, event.namespace);
                if !known.contains_key(&id) && known.len() < MAX_CONTAINERS {
                    known.insert(id.clone(), 0);
                    let mut first_word = Told { id: id.clone(), runtime: "containerd".into(), ..Told::default() };
                    // In a pod the id is no name.
                    if id.len() < 64 {
                        first_word.name.clone_from(&id);
                    }
                    set_image_name(&mut first_word, &image);
                    updates.send(RuntimeUpdate::Container(Box::new(first_word))).await?;
                }
                self.inquiry.ask(id, false, true);
            }
            "/tasks/start" => {
                let Ok(TaskStart { container_id }) = TaskStart::decode(&*value) else { return Ok(()) };
                if known.contains_key(&container_id) {
                    self.inquiry.ask(container_id, false, false);
                }
            }
            "/containers/delete" => {
                let Ok(ContainerId { id }) = ContainerId::decode(&*value) else { return Ok(()) };
                self.shared.places.borrow_mut().remove(&id);
                self.shared.digests.borrow_mut().remove(&id);
                self.shared.pods.borrow_mut().remove(&id);
                if known.remove(&id).is_some() {
                    updates.send(RuntimeUpdate::Gone(id)).await?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn remember(&self, id: &str, namespace: String) {
        let mut places = self.shared.places.borrow_mut();
        if places.len() >= MAX_CONTAINERS {
            places.clear();
        }
        places.insert(id.to_owned(), namespace);
    }
}

/// Docker keeps its containers and plugins in namespaces of their own.
fn is_dockers(namespace: &str) -> bool {
    namespace == "moby" || namespace == "plugins.moby"
}

async fn namespaces(wire: &Wire) -> Result<Vec<String>, Status> {
    let list: NamespaceList = wire.call(NAMESPACES, "", Empty {}).await?;
    let names = list.namespaces.into_iter().map(|one| one.name).filter(|name| !is_dockers(name));
    Ok(names.take(MAX_NAMESPACES).collect())
}

async fn inspect(shared: &Shared, id: String) -> Answer {
    let place = shared.places.borrow().get(&id).cloned();
    let all = match place {
        Some(place) => vec![place],
        None => namespaces(&shared.wire).await.map_err(|status| failure(&status))?,
    };
    for namespace in all {
        let answer = shared.wire.call(GET, &namespace, ContainerId { id: id.clone() }).await;
        match answer.map_err(|status| failure(&status)) {
            Ok(GetAnswer { container: Some(found) }) if found.id == id => {
                return Ok(Some(Box::new(describe(shared, &namespace, found).await)));
            }
            Ok(_) => return Ok(None),
            Err(Failure::Absent) => {}
            Err(other) => return Err(other),
        }
    }
    Err(Failure::Absent)
}

async fn describe(shared: &Shared, namespace: &str, found: Container) -> Told {
    let Container { id, labels, image, spec } = found;
    let spec = spec.and_then(|spec| Spec::read(&spec.value));
    let mut container = match &spec {
        Some(spec) => spec.container(&id, "containerd"),
        None => Told { id: id.clone(), runtime: "containerd".into(), name: bounded::name(&id), ..Told::default() },
    };
    let named = labels.get("nerdctl/name").or_else(|| labels.get("io.kubernetes.container.name"));
    if let Some(name) = named.filter(|_| container.pod.is_empty()) {
        container.name = bounded::name(name);
    }
    // Kubernetes may name an image by its id only; then the annotation has the name that was asked for.
    if container.image.is_empty() || !image.starts_with("sha256:") {
        set_image_name(&mut container, &image);
    }
    if container.digest.is_empty() {
        container.digest = digest(shared, namespace, &id, &image).await;
    }
    let sandbox = spec.as_ref().map(Spec::sandbox_id).unwrap_or_default();
    if !sandbox.is_empty()
        && let Ok(pod) = cri::pod(&shared.wire, &shared.pods, &sandbox).await
    {
        let name = std::mem::take(&mut container.pod.container);
        container.ip.clone_from(&pod.ip);
        container.pod = Pod { container: name, ..(*pod).clone() };
    }
    container.labels = bounded::labels(labels);
    if let Ok(TaskAnswer { process: Some(process) }) = shared.wire.call(TASK, namespace, ContainerId { id }).await {
        container.pid = process.pid;
    }
    container.complete = true;
    container
}

/// Digest of a container's image; empty if containerd does not tell.
async fn digest(shared: &Shared, namespace: &str, id: &str, image: &str) -> String {
    if let Some(digest) = shared.digests.borrow().get(id) {
        return digest.clone();
    }
    let answer: Result<ImageAnswer, _> = shared.wire.call(IMAGE, namespace, Named { name: image.to_owned() }).await;
    let Ok(answer) = answer else { return String::new() };
    let digest = answer.image.and_then(|image| image.target).map(|target| bounded::name(&target.digest));
    let digest = digest.unwrap_or_default();
    let mut digests = shared.digests.borrow_mut();
    if digests.len() >= MAX_CONTAINERS {
        digests.clear();
    }
    // An answer that comes late does not replace the first.
    digests.entry(id.to_owned()).or_insert(digest).clone()
}
