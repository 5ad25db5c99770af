//! Limits for the texts that runtimes, bundles and labels bring: they are the user's, and any may be hostile.
//!
//! With its names, a container has 64 KiB of text at most.

use std::collections::BTreeMap;

use tw_model::container::{MAX_LABELS, Mount, Owner, Pod};

/// Most bytes of a name of a container, a label or an image.
pub const MAX_NAME: usize = 512;
/// Most bytes of a label's value or a path.
pub const MAX_TEXT: usize = 4_096;
/// Most mounts of one container.
const MAX_MOUNTS: usize = 256;
/// Most bytes of all labels of one container, and of all its mounts.
const MAX_TEXTS: usize = 28 << 10;
/// Most bytes of all labels of a pod: each of its containers carries them.
const MAX_POD_TEXTS: usize = 7 << 10;
/// Most owners of a pod, and bytes of their texts.
const MAX_OWNERS: usize = 4;
const MAX_OWNER: usize = 256;

/// The text, cut behind a whole character.
pub fn cut(mut text: String, limit: usize) -> String {
    text.truncate(text.floor_char_boundary(limit));
    text
}

/// A name, cut to [`MAX_NAME`].
pub fn name(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_NAME)].to_owned()
}

/// Mounts in their order, but for those that do not fit.
pub fn mounts(all: impl Iterator<Item = Mount>) -> Vec<Mount> {
    let mut room = MAX_TEXTS;
    let size = |mount: &Mount| [&mount.source, &mount.dest, &mount.mode, &mount.propagation].map(String::len);
    all.take(MAX_MOUNTS).filter(|mount| take_room(&mut room, size(mount).iter().sum())).collect()
}

/// Labels of a container.
pub fn labels(labels: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, String> {
    fitting(labels, &mut { MAX_TEXTS })
}

/// Labels of a pod.
pub fn pod_labels(labels: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, String> {
    fitting(labels, &mut { MAX_POD_TEXTS })
}

/// A pod as the manager tells it. Its namespace's labels get the room that its own leave.
pub fn pod(told: Pod) -> Pod {
    let short = |text: String| cut(text, MAX_OWNER);
    let mut room = MAX_POD_TEXTS;
    let owners = told.owners.into_iter().take(MAX_OWNERS);
    Pod {
        name: short(told.name),
        namespace: short(told.namespace),
        uid: short(told.uid),
        sandbox_id: String::new(),
        container: String::new(),
        ip: cut(told.ip, 64),
        labels: fitting(told.labels, &mut room),
        node: short(told.node),
        service_account: short(told.service_account),
        owners: owners.map(|o| Owner { kind: short(o.kind), name: short(o.name), uid: short(o.uid) }).collect(),
        namespace_uid: short(told.namespace_uid),
        namespace_labels: fitting(told.namespace_labels, &mut room),
    }
}

fn fitting(labels: impl IntoIterator<Item = (String, String)>, room: &mut usize) -> BTreeMap<String, String> {
    let cut_to_size = |(name, value)| (cut(name, MAX_NAME), cut(value, MAX_TEXT));
    let mut all: Vec<(String, String)> = labels.into_iter().map(cut_to_size).collect();
    // The short ones first: those say what a container is, the long ones are documents. In a fixed order, so that the
    // same labels are kept each time.
    all.sort_unstable_by(|a, b| (a.0.len() + a.1.len(), a).cmp(&(b.0.len() + b.1.len(), b)));
    let fits = |(name, value): &(String, String)| take_room(room, name.len() + value.len());
    all.into_iter().take(MAX_LABELS).take_while(fits).collect()
}

/// Whether so much still fits; if so it is taken.
fn take_room(room: &mut usize, size: usize) -> bool {
    let rest = room.checked_sub(size);
    *room = rest.unwrap_or(*room);
    rest.is_some()
}
