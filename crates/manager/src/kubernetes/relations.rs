//! What is known of a pod beside itself: what made its replica set or its job, and what its namespace is.
//!
//! Asked one by one and remembered, rather than watched: a node has few of them, a cluster many. Where that is not
//! allowed, names say what they can.

use std::collections::HashMap;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client};
use tw_model::container::{Owner, Pod as Told};

use super::PATIENCE;
use super::object::{labels, name, owner_of};
use super::trouble::{Kind, Trouble};

/// So many questions in a row that were not answered, and none is asked until [`Relations::ask_again`].
const FAILURES: u32 = 3;
/// Owners, and namespaces, remembered; then all are asked for again.
const MAX_REMEMBERED: usize = 4_096;

/// A namespace: its uid and its labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Space {
    uid: String,
    labels: std::collections::BTreeMap<String, String>,
}

/// What was asked on one connection.
pub(super) struct Relations {
    client: Client,
    /// What made an owner, by the pod's namespace and the owner as the pod names it; none if nothing did, or if there is
    /// no such owner.
    owners: HashMap<(String, Owner), Option<Owner>>,
    /// Namespaces, and in which round each was asked for.
    spaces: HashMap<String, (Space, u64)>,
    round: u64,
    failures: u32,
    /// What may not be read: resources.
    denied: Vec<&'static str>,
}

impl Relations {
    pub(super) fn new(client: Client) -> Self {
        Self { client, owners: HashMap::new(), spaces: HashMap::new(), round: 0, failures: 0, denied: Vec::new() }
    }

    /// Forgets what could not be read, and that namespaces were: their labels change, and nothing tells.
    pub(super) fn ask_again(&mut self) {
        self.round += 1;
        self.failures = 0;
        self.denied.clear();
    }

    /// Resources that may not be read.
    pub(super) fn denied(&self) -> &[&'static str] {
        &self.denied
    }

    /// Completes what is told of a pod.
    pub(super) async fn complete(&mut self, mut pod: Told) -> Told {
        if let Some(owner) = pod.owners.first() {
            let parent = self.parent(&pod, owner).await;
            pod.owners.extend(parent);
        }
        let space = self.space(&pod.namespace).await;
        pod.namespace_uid = space.uid;
        pod.namespace_labels = space.labels;
        pod
    }

    /// What made the owner of a pod.
    async fn parent(&mut self, pod: &Told, owner: &Owner) -> Option<Owner> {
        if !matches!(&*owner.kind, "replicaset" | "job") {
            return None;
        }
        let key = (pod.namespace.clone(), owner.clone());
        if let Some(known) = self.owners.get(&key) {
            return known.clone();
        }
        let found = match &*owner.kind {
            "replicaset" => self.get::<ReplicaSet>("replicasets", &pod.namespace, &owner.name).await,
            _ => self.get::<Job>("jobs", &pod.namespace, &owner.name).await,
        };
        let Some(found) = found else { return guess(pod, owner) };
        // Whoever makes pods names owners and labels as he likes: where the API can say it, only that counts.
        let meant = found.filter(|metadata| metadata.uid.as_ref() == Some(&owner.uid));
        let parent = meant.as_ref().and_then(owner_of);
        if self.owners.len() >= MAX_REMEMBERED {
            self.owners.clear();
        }
        self.owners.insert(key, parent.clone());
        parent
    }

    async fn space(&mut self, namespace: &str) -> Space {
        if let Some((known, round)) = self.spaces.get(namespace)
            && *round == self.round
        {
            return known.clone();
        }
        let found = if self.may_ask("namespaces") && is_name(namespace) {
            let api = Api::<Namespace>::all(self.client.clone());
            let answer = tokio::time::timeout(PATIENCE, api.get_metadata_opt(namespace)).await;
            self.taken("namespaces", answer)
        } else {
            None
        };
        // What cannot be asked for now is better old than not at all.
        let Some(metadata) = found.flatten() else {
            return self.spaces.get(namespace).map(|(known, _)| known.clone()).unwrap_or_default();
        };
        let space = Space { uid: name(metadata.uid.as_ref()), labels: labels(metadata.labels.as_ref()) };
        if self.spaces.len() >= MAX_REMEMBERED {
            self.spaces.clear();
        }
        self.spaces.insert(namespace.to_owned(), (space.clone(), self.round));
        space
    }

    /// What the API says of an object, which may be that there is none; nothing if it says nothing.
    async fn get<K>(&mut self, resource: &'static str, namespace: &str, called: &str) -> Option<Option<ObjectMeta>>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        if !is_name(called) || !is_name(namespace) {
            return Some(None);
        }
        if !self.may_ask(resource) {
            return None;
        }
        let api = Api::<K>::namespaced(self.client.clone(), namespace);
        let answer = tokio::time::timeout(PATIENCE, api.get_metadata_opt(called)).await;
        self.taken(resource, answer)
    }

    fn may_ask(&self, resource: &'static str) -> bool {
        self.failures < FAILURES && !self.denied.contains(&resource)
    }

    /// The answer, if there is one that says something.
    fn taken<K>(
        &mut self,
        resource: &'static str,
        answer: Result<kube::Result<Option<kube::core::PartialObjectMeta<K>>>, tokio::time::error::Elapsed>,
    ) -> Option<Option<ObjectMeta>> {
        match answer {
            Ok(Ok(found)) => {
                self.failures = 0;
                Some(found.map(|object| object.metadata))
            }
            Ok(Err(error)) => {
                let trouble = Trouble::of_request("get", &error);
                if trouble.kind == Kind::Forbidden {
                    self.denied.push(resource);
                } else {
                    self.failures += 1;
                }
                tracing::debug!("{resource} of Kubernetes: {trouble}");
                None
            }
            Err(_) => {
                self.failures += 1;
                None
            }
        }
    }
}

/// Whether it is a name of an object, rather than a part of a path.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    text.bytes().all(plain) && text.bytes().next().is_some_and(|byte| byte != b'.') && text.len() <= 253
}

/// What made an owner, by its name: Kubernetes names a replica set after its deployment and the hash of its template,
/// and a job after its cron job and the time for which it runs.
fn guess(pod: &Told, owner: &Owner) -> Option<Owner> {
    let (kind, made) = match &*owner.kind {
        "replicaset" => {
            let hash = pod.labels.get("pod-template-hash").filter(|hash| !hash.is_empty())?;
            ("deployment", owner.name.strip_suffix(hash.as_str())?.strip_suffix('-')?)
        }
        "job" => {
            let (before, time) = owner.name.rsplit_once('-')?;
            let is_time = time.len() >= 8 && time.bytes().all(|byte| byte.is_ascii_digit());
            ("cronjob", Some(before).filter(|_| is_time)?)
        }
        _ => return None,
    };
    (!made.is_empty()).then(|| Owner { kind: kind.into(), name: made.into(), uid: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_they_can() {
        let of = |kind: &str, called: &str, hash: &str| {
            let labels = [("pod-template-hash".to_owned(), hash.to_owned())].into();
            let owner = Owner { kind: kind.into(), name: called.into(), uid: "u".into() };
            guess(&Told { labels, ..Told::default() }, &owner).map(|owner| format!("{}/{}", owner.kind, owner.name))
        };
        assert_eq!(of("replicaset", "web-7d4b9c8f6", "7d4b9c8f6").as_deref(), Some("deployment/web"));
        assert_eq!(of("replicaset", "web-7d4b9c8f6", "other"), None);
        assert_eq!(of("replicaset", "-7d4b9c8f6", "7d4b9c8f6"), None);
        assert_eq!(of("replicaset", "web", ""), None);
        assert_eq!(of("job", "tidy-29411520", "").as_deref(), Some("cronjob/tidy"));
        assert_eq!(of("job", "tidy-1", ""), None);
        assert_eq!(of("daemonset", "log-29411520", ""), None);
    }

    #[test]
    fn only_names_become_a_part_of_a_path() {
        for name in ["web-1", "a.b", &"x".repeat(253)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "..", "../secrets", "a/b", "a?x", "A", "%2e", "a b", &"x".repeat(254)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
