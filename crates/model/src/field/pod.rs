//! Fields about what the API of Kubernetes says of a container's pod: its owners, its namespace, its node.

use bumpalo::collections::Vec as BumpVec;

use super::Arg;
use super::container::{container, known, list};
use crate::container::{Container, Owner, Pod};
use crate::event::Event;
use crate::value::Value;

fn pod<'e>(event: &Event<'e>) -> Option<&'e Pod> {
    event.container.map(|container| &container.pod)
}

macro_rules! owned_by {
    ($($name:ident $id:ident $kind:literal)*) => {$(
        pub(super) fn $name<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
            owner(event, $kind).and_then(|owner| known(&owner.name))
        }

        pub(super) fn $id<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
            owner(event, $kind).and_then(|owner| known(&owner.uid))
        }
    )*};
}

owned_by! {
    replica_set replica_set_id "replicaset"
    deployment deployment_id "deployment"
    replication_controller replication_controller_id "replicationcontroller"
}

fn owner<'e>(event: &Event<'e>, kind: &str) -> Option<&'e Owner> {
    pod(event)?.owner(kind)
}

container! {
    node: |c| known(&c.pod.node);
    service_account: |c| known(&c.pod.service_account);
    namespace_id: |c| known(&c.pod.namespace_uid);
}

pub(super) fn namespace_label<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    let Arg::Key(name) = arg else { return None };
    pod(event)?.namespace_labels.get(&**name).map(|value| Value::Text(value.as_bytes()))
}

/// Whether the API told of the namespace: then no labels means that it has none.
fn namespace_is_known(pod: &Pod) -> bool {
    !pod.namespace_uid.is_empty()
}

pub(super) fn namespace_labels<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let pod = pod(event).filter(|pod| namespace_is_known(pod))?;
    Some(list(event, pod.namespace_labels.iter()))
}

pub(super) fn namespace_label_list<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let pod = pod(event).filter(|pod| namespace_is_known(pod))?;
    Some(texts(event, pod.namespace_labels.iter()))
}

pub(super) fn label_list<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let pod = pod(event).filter(|pod| !pod.is_empty())?;
    Some(texts(event, pod.labels.iter()))
}

/// Labels as a list of `name:value`.
fn texts<'e>(event: &Event<'e>, labels: impl Iterator<Item = (&'e String, &'e String)>) -> Value<'e> {
    let mut texts = BumpVec::new_in(event.scratch);
    for one in labels {
        texts.push(list(event, std::iter::once(one)));
    }
    Value::List(texts.into_bump_slice())
}
