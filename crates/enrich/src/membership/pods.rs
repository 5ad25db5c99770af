//! Pods of this node as the API of Kubernetes tells them, through the manager, joined to containers by their pod's uid.
//!
//! What was joined stays with the container when the pod is gone. It is written down like everything else that is known of
//! a container, so that a replay knows it too.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use tw_model::Container;
use tw_model::container::Pod;
use tw_model::link::PodNews;

use super::Membership;
use crate::bounded;
use crate::journal::Context;
use crate::world::World;

/// Pods remembered; what is beyond is left out and counted: a kubelet runs 110 by default.
const MAX_PODS: usize = 1_024;

/// The table of pods.
#[derive(Default)]
pub(super) struct Pods {
    by_uid: HashMap<Box<str>, Pod, foldhash::fast::RandomState>,
    left_out: u64,
}

impl Pods {
    /// Entries, most entries, and how many found no room.
    pub fn size(&self) -> (u64, u64, u64) {
        (self.by_uid.len() as u64, MAX_PODS as u64, self.left_out)
    }

    /// Adds to a container what is known of its pod.
    pub fn join(&self, container: &mut Container) {
        if let Some(pod) = self.by_uid.get(container.pod_uid()) {
            container.pod.take_over(pod);
        }
    }

    /// Takes pods in; returns the uids of those that it has now.
    fn take(&mut self, news: PodNews) -> HashSet<Box<str>> {
        if news.anew {
            self.by_uid.clear();
        }
        for uid in &news.gone {
            self.by_uid.remove(uid.as_str());
        }
        let mut fresh = HashSet::new();
        for pod in news.pods {
            let pod = bounded::pod(pod);
            let uid: Box<str> = pod.uid.as_str().into();
            if uid.is_empty() {
                continue;
            }
            if self.by_uid.len() >= MAX_PODS && !self.by_uid.contains_key(&uid) {
                self.left_out += 1;
                continue;
            }
            self.by_uid.insert(uid.clone(), pod);
            fresh.insert(uid);
        }
        fresh
    }
}

impl Membership {
    pub(crate) fn take_pods(&mut self, news: PodNews) {
        let fresh = self.pods.take(news);
        if fresh.is_empty() {
            return;
        }
        for entry in self.containers.values_mut().filter(|entry| fresh.contains(entry.container.pod_uid())) {
            let mut container = (*entry.container).clone();
            self.pods.join(&mut container);
            if container != *entry.container {
                self.journal.note(|| Context::Container { container: Box::new(container.clone()) });
                self.version += 1;
                entry.container = Arc::new(container);
            }
        }
    }

    /// Where no runtime is asked, the path of its cgroup still says which pod a container is in.
    pub(super) fn learn_pod_by_cgroup(&mut self, cgroup: u64, id: &str) {
        let Some(uid) = self.cgroups.path(cgroup).and_then(Container::pod_uid_in_cgroup_path) else { return };
        let Some(entry) = self.containers.get_mut(id).filter(|entry| entry.container.pod_uid().is_empty()) else {
            return;
        };
        let container = Arc::make_mut(&mut entry.container);
        container.pod.uid = uid;
        self.pods.join(container);
        let container = Box::new(container.clone());
        self.journal.note(|| Context::Container { container });
        self.version += 1;
    }
}

impl World {
    /// Takes what the API of Kubernetes says of pods. Events from here on carry it.
    pub fn take_pods(&mut self, news: PodNews) {
        self.membership.take_pods(news);
    }
}
