//! Fields about the container, its image and its pod.

use bumpalo::collections::Vec as BumpVec;

use super::Arg;
use crate::container::{Container, Mount};
use crate::event::Event;
use crate::value::Value;
use crate::workload::WorkloadRef;

pub(super) fn known(text: &str) -> Option<Value<'_>> {
    (!text.is_empty()).then_some(Value::Text(text.as_bytes()))
}

macro_rules! container {
    ($($name:ident: $body:expr;)*) => {$(
        pub(super) fn $name<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
            let body: for<'c> fn(&'c Container) -> Option<Value<'c>> = $body;
            body(event.container?)
        }
    )*};
}
pub(super) use container;

container! {
    container_image: |c| known(&c.image);
    container_image_id: |c| known(&c.image_id);
    container_repository: |c| known(&c.repository);
    container_tag: |c| known(&c.tag);
    container_digest: |c| known(&c.digest);
    container_privileged: |c| c.complete.then_some(Value::Bool(c.privileged));
    container_start: |c| (c.started_ns != 0).then_some(Value::Int(c.started_ns as i64));
    container_ip: |c| known(&c.ip);
    container_host_pid: |c| c.complete.then_some(Value::Bool(c.host_pid));
    container_host_network: |c| c.complete.then_some(Value::Bool(c.host_network));
    container_host_ipc: |c| c.complete.then_some(Value::Bool(c.host_ipc));
    pod_name: |c| known(&c.pod.name).or_else(|| label(c, "io.kubernetes.pod.name"));
    pod_uid: |c| known(c.pod_uid());
    pod_namespace: |c| known(&c.pod.namespace).or_else(|| label(c, "io.kubernetes.pod.namespace"));
    pod_ip: |c| known(&c.pod.ip).or_else(|| label(c, "io.kubernetes.pod.name").and_then(|_| known(&c.ip)));
    full_sandbox_id: |c| sandbox(c).map(|id| Value::Text(id.as_bytes()));
    sandbox_id: |c| sandbox(c).map(|id| Value::Text(id.get(..12).unwrap_or(id).as_bytes()));
}

/// The pod's sandbox, told or by the labels of the runtimes that set one.
fn sandbox(container: &Container) -> Option<&str> {
    if !container.pod.sandbox_id.is_empty() {
        return Some(&container.pod.sandbox_id);
    }
    let names = ["io.kubernetes.cri.sandbox-id", "io.kubernetes.sandbox.id", "io.kubernetes.cri-o.SandboxID"];
    names.iter().find_map(|name| container.labels.get(*name)).map(String::as_str)
}

fn label<'c>(container: &'c Container, name: &str) -> Option<Value<'c>> {
    container.labels.get(name).map(|value| Value::Text(value.as_bytes()))
}

pub(super) fn container_id<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Text(event.container.map_or(b"host", |c| c.short_id().as_bytes())))
}

pub(super) fn container_full_id<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    Some(Value::Text(event.container.map_or(b"host", |c| c.id.as_bytes())))
}

pub(super) fn container_name<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    event.container.map_or(Some(Value::Text(b"host")), |c| known(&c.name))
}

pub(super) fn container_type<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    event.container.map_or(Some(Value::Text(b"host")), |c| known(&c.runtime))
}

pub(super) fn container_duration<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let started = event.container?.started_ns;
    (started != 0).then(|| Value::Int(event.wall_ns.saturating_sub(started) as i64))
}

pub(super) fn container_label<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    let Arg::Key(name) = arg else { return None };
    label(event.container?, name)
}

pub(super) fn container_labels<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    // Falco leaves out what Kubernetes keeps for itself.
    let own = |name: &str| name.starts_with("io.kubernetes.") || name.starts_with("annotation.");
    Some(list(event, event.container?.labels.iter().filter(|(name, _)| !own(name))))
}

pub(super) fn pod_label<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    let Arg::Key(name) = arg else { return None };
    event.container?.pod.labels.get(&**name).map(|value| Value::Text(value.as_bytes()))
}

pub(super) fn pod_labels<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let pod = &event.container?.pod;
    (!pod.is_empty()).then(|| list(event, pod.labels.iter()))
}

/// Labels as `name:value`, with commas between.
pub(super) fn list<'e>(event: &Event<'e>, labels: impl Iterator<Item = (&'e String, &'e String)>) -> Value<'e> {
    let mut text = BumpVec::new_in(event.scratch);
    for (name, value) in labels {
        if !text.is_empty() {
            text.extend_from_slice(b", ");
        }
        text.extend_from_slice(name.as_bytes());
        if !value.is_empty() {
            text.push(b':');
            text.extend_from_slice(value.as_bytes());
        }
    }
    Value::Text(text.into_bump_slice())
}

pub(super) fn workload_name<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    match event.container {
        Some(container) => known(WorkloadRef::of(container).name),
        None => Some(Value::Text(event.unit.unwrap_or("host").as_bytes())),
    }
}

pub(super) fn workload_kind<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let kind = match event.container {
        Some(container) => WorkloadRef::of(container).kind,
        None if event.unit.is_some() => "unit",
        None => "host",
    };
    Some(Value::Text(kind.as_bytes()))
}

pub(super) fn workload_namespace<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    known(WorkloadRef::of(event.container?).namespace)
}

pub(super) fn container_mounts<'e>(event: &Event<'e>, _: &Arg) -> Option<Value<'e>> {
    let mut text = BumpVec::new_in(event.scratch);
    for mount in &event.container?.mounts {
        if !text.is_empty() {
            text.push(b',');
        }
        push_mount(&mut text, mount);
    }
    Some(Value::Text(text.into_bump_slice()))
}

fn push_mount(text: &mut BumpVec<'_, u8>, mount: &Mount) {
    let rdwr = if mount.rdwr { "true" } else { "false" };
    for part in [&mount.source, ":", &mount.dest, ":", &mount.mode, ":", rdwr, ":", &mount.propagation] {
        text.extend_from_slice(part.as_bytes());
    }
}

/// `[n]`: mount number n; `[PATH]`: the mount whose source (for `.dest`) or destination is PATH.
fn mount<'e>(event: &Event<'e>, arg: &Arg, by_source: bool) -> Option<&'e Mount> {
    let mounts = &event.container?.mounts;
    match arg {
        Arg::Index(n) => mounts.get(*n as usize),
        Arg::Key(path) => mounts.iter().find(|m| **path == *(if by_source { &m.source } else { &m.dest })),
        Arg::None => None,
    }
}

pub(super) fn mount_all<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    let mount = mount(event, arg, false)?;
    let mut text = BumpVec::new_in(event.scratch);
    push_mount(&mut text, mount);
    Some(Value::Text(text.into_bump_slice()))
}

pub(super) fn mount_propagation<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    mount(event, arg, false).map(|m| Value::Text(m.propagation.as_bytes()))
}

pub(super) fn mount_source<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    mount(event, arg, false).map(|m| Value::Text(m.source.as_bytes()))
}

pub(super) fn mount_dest<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    mount(event, arg, true).map(|m| Value::Text(m.dest.as_bytes()))
}

pub(super) fn mount_mode<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    mount(event, arg, false).map(|m| Value::Text(m.mode.as_bytes()))
}

pub(super) fn mount_rdwr<'e>(event: &Event<'e>, arg: &Arg) -> Option<Value<'e>> {
    mount(event, arg, false).map(|m| Value::Text(if m.rdwr { b"true" } else { b"false" }))
}
