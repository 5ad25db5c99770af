//! What is read of objects of Kubernetes: of a pod its metadata, node, service account and address, and nothing else.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use serde::Deserialize;
use tw_model::container::{Owner, Pod as Told};

/// Most bytes of a name, and of all labels of an object.
const MAX_NAME: usize = 253;
const MAX_LABELS: usize = 7 << 10;

/// A pod, as far as it is read.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Pod {
    pub metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: Option<String>,
    service_account_name: Option<String>,
    host_network: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
}

impl Resource for Pod {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Pod".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "pods".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Pod {
    /// The uid by which the node knows it. A pod that the kubelet runs from a file has another in the API, where only its
    /// mirror is.
    pub(super) fn uid(&self) -> String {
        let mirrored = self.metadata.annotations.as_ref().and_then(|all| all.get("kubernetes.io/config.mirror"));
        name(mirrored.or(self.metadata.uid.as_ref()))
    }

    pub(super) fn namespace(&self) -> String {
        name(self.metadata.namespace.as_ref())
    }

    /// What is told of it, without what its owners and its namespace say themselves.
    pub(super) fn told(&self) -> Told {
        // On the host's network its address is the node's.
        let ip = self.status.pod_ip.as_ref().filter(|_| self.spec.host_network != Some(true));
        Told {
            name: name(self.metadata.name.as_ref()),
            namespace: self.namespace(),
            uid: self.uid(),
            ip: name(ip),
            labels: labels(self.metadata.labels.as_ref()),
            node: name(self.spec.node_name.as_ref()),
            service_account: name(self.spec.service_account_name.as_ref()),
            owners: owner_of(&self.metadata).into_iter().collect(),
            ..Told::default()
        }
    }
}

/// What made an object: what manages it, or else whatever is named first.
pub(super) fn owner_of(metadata: &ObjectMeta) -> Option<Owner> {
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    let owner = owners.iter().find(|owner| owner.controller == Some(true)).or_else(|| owners.first())?;
    let OwnerReference { kind, name: called, uid, .. } = owner;
    let told = Owner { kind: name(Some(&kind.to_lowercase())), name: name(Some(called)), uid: name(Some(uid)) };
    (!told.kind.is_empty() && !told.name.is_empty()).then_some(told)
}

/// A name, cut to what a name may have.
pub(super) fn name(text: Option<&String>) -> String {
    let text = text.map_or("", String::as_str);
    text.get(..text.floor_char_boundary(MAX_NAME)).unwrap_or_default().to_owned()
}

/// Labels in their order, until there is no more room.
pub(super) fn labels(all: Option<&BTreeMap<String, String>>) -> BTreeMap<String, String> {
    let mut room = MAX_LABELS;
    let fits = |(name, value): &(&String, &String)| {
        let rest = room.checked_sub(name.len() + value.len());
        room = rest.unwrap_or(room);
        rest.is_some()
    };
    let fitting = all.into_iter().flatten().filter(fits);
    fitting.map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Told {
        serde_json::from_str::<Pod>(text).unwrap().told()
    }

    #[test]
    fn a_pod_is_read_and_what_is_not_needed_is_left() {
        let pod = read(
            r#"{"kind":"Pod","metadata":{"name":"web-1","namespace":"shop","uid":"u-1","labels":{"app":"web"},
            "annotations":{"big":"x"},"managedFields":[{"manager":"kubelet"}],"ownerReferences":[
            {"apiVersion":"v1","kind":"Other","name":"o","uid":"o-1"},
            {"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web","uid":"r-1","controller":true}]},
            "spec":{"nodeName":"n","serviceAccountName":"robot","containers":[{"env":[{"name":"A","value":"secret"}]}]},
            "status":{"podIP":"10.0.0.9","phase":"Running"}}"#,
        );
        assert_eq!((&*pod.name, &*pod.namespace, &*pod.uid, &*pod.ip), ("web-1", "shop", "u-1", "10.0.0.9"));
        assert_eq!((&*pod.node, &*pod.service_account, &*pod.labels["app"]), ("n", "robot", "web"));
        let owner = Owner { kind: "replicaset".into(), name: "web".into(), uid: "r-1".into() };
        assert_eq!(pod.owners, [owner]);
        assert!(!format!("{pod:?}").contains("secret"));
    }

    #[test]
    fn a_pod_of_the_kubelet_has_the_uid_that_the_node_knows_and_one_on_the_hosts_network_no_address() {
        let pod = read(
            r#"{"metadata":{"name":"etcd-n","uid":"api-uid","annotations":{"kubernetes.io/config.mirror":"node-uid"},
            "ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"n","uid":"n-1","controller":true}]},
            "spec":{"hostNetwork":true},"status":{"podIP":"192.0.2.1"}}"#,
        );
        assert_eq!((&*pod.uid, &*pod.ip, &*pod.owners[0].kind), ("node-uid", "", "node"));
    }

    #[test]
    fn whatever_the_api_says_has_a_bound() {
        let long = "\u{20ac}".repeat(1_000);
        let labels: BTreeMap<String, String> = (0..1_000).map(|n| (format!("l{n}"), "x".repeat(100))).collect();
        let metadata = serde_json::json!({"name": long, "namespace": long, "uid": long, "labels": labels,
            "ownerReferences": [{"apiVersion": "v1", "kind": long, "name": long, "uid": long}]});
        let text = serde_json::json!({"metadata": metadata, "spec": {"nodeName": long}}).to_string();
        let pod = read(&text);
        assert!(serde_json::to_vec(&pod).unwrap().len() < 16 << 10);
        assert!(pod.labels.len() > 50);
        assert_eq!(
            read(r#"{"metadata":{"ownerReferences":[{"apiVersion":"","kind":"","name":"","uid":""}]}}"#).owners,
            []
        );
    }
}
