//! Workloads: the unit that people reason about. Containers come and go; the workload that they serve stays.

use serde::{Deserialize, Serialize};

use crate::container::Container;

/// What a container is a replica of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Workload {
    /// Kubernetes namespace, or Compose project; empty if neither.
    pub namespace: String,
    /// What manages it: `deployment`, `statefulset`, `daemonset`, `job`, `cronjob` or another owner that the API of
    /// Kubernetes names, `pod`, `compose`, or `container` where nothing does.
    pub kind: String,
    /// Name of the pod's first owner as far as it shows, of the Compose service, or of the image.
    pub name: String,
    /// Name of the container within it; empty unless it can have several.
    pub container: String,
    /// Image without tag and digest; the container's id if no image is known.
    pub image: String,
}

/// A [`Workload`] that borrows its texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkloadRef<'c> {
    /// See [`Workload::namespace`].
    pub namespace: &'c str,
    /// See [`Workload::kind`].
    pub kind: &'c str,
    /// See [`Workload::name`].
    pub name: &'c str,
    /// See [`Workload::container`].
    pub container: &'c str,
    /// See [`Workload::image`].
    pub image: &'c str,
}

impl<'c> WorkloadRef<'c> {
    /// The workload of a container, from what its runtime says of its pod and from the labels that Kubernetes (kubelet)
    /// and Docker Compose set. Containers that neither manages are a workload by their image, since names of such are
    /// often made up at each start.
    pub fn of(container: &'c Container) -> Self {
        let label = |name: &str| container.labels.get(name).map_or("", String::as_str);
        let either = |told: &'c String, name: &str| if told.is_empty() { label(name) } else { told.as_str() };
        let image = if container.repository.is_empty() { &container.id } else { &container.repository };
        let pod = either(&container.pod.name, "io.kubernetes.pod.name");
        if !pod.is_empty() {
            let (kind, name) = owner(pod, container);
            return Self {
                namespace: either(&container.pod.namespace, "io.kubernetes.pod.namespace"),
                kind,
                name,
                container: either(&container.pod.container, "io.kubernetes.container.name"),
                image,
            };
        }
        let service = label("com.docker.compose.service");
        if !service.is_empty() {
            let namespace = label("com.docker.compose.project");
            return Self { namespace, kind: "compose", name: service, container: "", image };
        }
        Self { namespace: "", kind: "container", name: image, container: "", image }
    }

    /// One text that names it, such as `compose/shop/web/example/shop` or `container/example/shop`; equal workloads
    /// have equal texts, others have not. Only the image, which comes last, may hold a slash.
    pub fn key(&self) -> String {
        // Where nothing manages it, the image is its name.
        let name = if self.kind == "container" && self.name == self.image { "" } else { self.name };
        let plain = |part: &str| part.replace('%', "%25").replace('/', "%2F");
        let parts = [self.kind, self.namespace, name, self.container].into_iter().map(plain);
        parts.chain([self.image.to_owned()]).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
    }
}

impl Workload {
    /// The workload of a container: see [`WorkloadRef::of`].
    pub fn of(container: &Container) -> Self {
        let of = WorkloadRef::of(container);
        Self {
            namespace: of.namespace.to_owned(),
            kind: of.kind.to_owned(),
            name: of.name.to_owned(),
            container: of.container.to_owned(),
            image: of.image.to_owned(),
        }
    }

    /// One text that names it: see [`WorkloadRef::key`].
    pub fn key(&self) -> String {
        let Self { namespace, kind, name, container, image } = self;
        WorkloadRef { namespace, kind, name, container, image }.key()
    }
}

/// Letters and digits of the suffixes that Kubernetes makes up (its `rand` package leaves out vowels and what looks
/// like them, so that no words come about).
const MADE_UP: &str = "bcdfghjklmnpqrstvwxz2456789";

/// Kind and name of what owns a pod: as the API of Kubernetes says, or else as far as its labels and its name show.
/// Kubernetes puts a label on the pods of each kind of owner, and names them after it. A pod without such a label is its
/// own owner, unless its name has the two suffixes of a deployment's.
fn owner<'c>(pod: &'c str, container: &'c Container) -> (&'c str, &'c str) {
    if !container.pod.node.is_empty() {
        // The kubelet's own pods belong to the node, which is no workload.
        let first = container.pod.owners.last().filter(|owner| owner.kind != "node");
        return first.map_or(("pod", pod), |owner| (&owner.kind, &owner.name));
    }
    let label = |name: &str| container.pod.labels.get(name).or_else(|| container.labels.get(name)).map(String::as_str);
    if let Some(hash) = label("pod-template-hash") {
        let owner = made_up(pod, 5..=5).and_then(|set| set.strip_suffix(hash)).and_then(|name| name.strip_suffix('-'));
        return owner.filter(|name| !name.is_empty()).map_or(("pod", pod), |name| ("deployment", name));
    }
    if label("statefulset.kubernetes.io/pod-name").is_some() || label("apps.kubernetes.io/pod-index").is_some() {
        return counted(pod, 1).map_or(("pod", pod), |name| ("statefulset", name));
    }
    let job = label("batch.kubernetes.io/job-name").or_else(|| label("job-name"));
    if let Some(job) = job.filter(|job| !job.is_empty())
        && let Some(name) = pod.get(..job.len()).filter(|name| *name == job)
    {
        // A cron job names its jobs after the minute, or second, of the epoch for which they run.
        return counted(name, 8).map_or(("job", name), |cron| ("cronjob", cron));
    }
    if label("controller-revision-hash").is_some() {
        return made_up(pod, 5..=5).map_or(("pod", pod), |name| ("daemonset", name));
    }
    // Without the pod's labels.
    match made_up(pod, 5..=5).and_then(|set| made_up(set, 8..=10)) {
        Some(name) => ("deployment", name),
        None => ("pod", pod),
    }
}

/// `name` without a last part that Kubernetes made up, of so many letters.
fn made_up(name: &str, length: std::ops::RangeInclusive<usize>) -> Option<&str> {
    let (before, last) = name.rsplit_once('-')?;
    (length.contains(&last.len()) && last.chars().all(|letter| MADE_UP.contains(letter)) && !before.is_empty())
        .then_some(before)
}

/// `name` without a number of at least so many digits at its end.
fn counted(name: &str, digits: usize) -> Option<&str> {
    let (before, last) = name.rsplit_once('-')?;
    (last.len() >= digits && last.bytes().all(|byte| byte.is_ascii_digit()) && !before.is_empty()).then_some(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(labels: &[(&str, &str)]) -> Container {
        Container {
            id: "f".repeat(64),
            name: "quirky_hopper".into(),
            repository: "example/shop".into(),
            labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..Container::default()
        }
    }

    #[test]
    fn replicas_are_one_workload() {
        let compose = with(&[("com.docker.compose.project", "p"), ("com.docker.compose.service", "web")]);
        assert_eq!(Workload::of(&compose).key(), "compose/p/web/example/shop");
        let pod = with(&[("io.kubernetes.pod.name", "web-1"), ("io.kubernetes.pod.namespace", "shop")]);
        assert_eq!(Workload::of(&pod).kind, "pod");
        let plain = with(&[]);
        let renamed = Container { name: "other".into(), ..plain.clone() };
        assert_eq!(Workload::of(&plain), Workload::of(&renamed));
        assert_eq!(Workload::of(&plain).key(), "container/example/shop");
    }

    #[test]
    fn the_owner_of_a_pod_shows_in_its_labels_and_its_name() {
        let of = |pod: &str, labels: &[(&str, &str)]| {
            let mut container = with(labels);
            container.pod.name = pod.to_owned();
            let workload = Workload::of(&container);
            (workload.kind, workload.name)
        };
        let is = |kind: &str, name: &str| (kind.to_owned(), name.to_owned());
        assert_eq!(of("web-7d4b9c8f6-x2x9k", &[("pod-template-hash", "7d4b9c8f6")]), is("deployment", "web"));
        assert_eq!(of("web-7d4b9c8f6-x2x9k", &[]), is("deployment", "web"), "by the two suffixes alone");
        assert_eq!(of("web-7d4b9c8f6-x2x9k", &[("pod-template-hash", "other")]), is("pod", "web-7d4b9c8f6-x2x9k"));
        assert_eq!(of("db-0", &[("statefulset.kubernetes.io/pod-name", "db-0")]), is("statefulset", "db"));
        assert_eq!(of("log-x2x9k", &[("controller-revision-hash", "6f")]), is("daemonset", "log"));
        assert_eq!(of("once-x2x9k", &[("job-name", "once")]), is("job", "once"));
        assert_eq!(of("tidy-29411520-x2x9k", &[("job-name", "tidy-29411520")]), is("cronjob", "tidy"));
        assert_eq!(of("bare", &[]), is("pod", "bare"));
        assert_eq!(of("my-shop-front", &[]), is("pod", "my-shop-front"), "words are not made up");
        for hostile in ["-", "--", "-7d4b9c8f6-x2x9k", "-0", "\u{20ac}-\u{20ac}"] {
            assert_eq!(of(hostile, &[("pod-template-hash", ""), ("job-name", "x")]).0, "pod", "{hostile}");
        }
    }

    #[test]
    fn the_owner_that_the_api_names_counts() {
        let owner = |kind: &str, name: &str| crate::container::Owner {
            kind: kind.into(),
            name: name.into(),
            ..Default::default()
        };
        let of = |owners: &[crate::container::Owner]| {
            // By labels and name it would be a deployment.
            let mut container = with(&[("pod-template-hash", "7d4b9c8f6")]);
            container.pod.name = "web-7d4b9c8f6-x2x9k".into();
            container.pod.namespace = "shop".into();
            container.pod.node = "node-1".into();
            container.pod.owners = owners.to_vec();
            Workload::of(&container).key()
        };
        let set = owner("replicaset", "web-7d4b9c8f6");
        assert_eq!(of(&[set.clone(), owner("rollout", "web")]), "rollout/shop/web/example/shop");
        assert_eq!(of(&[set]), "replicaset/shop/web-7d4b9c8f6/example/shop");
        assert_eq!(of(&[owner("node", "node-1")]), "pod/shop/web-7d4b9c8f6-x2x9k/example/shop");
        assert_eq!(of(&[]), "pod/shop/web-7d4b9c8f6-x2x9k/example/shop", "nobody made it");
    }

    #[test]
    fn a_name_with_a_slash_is_not_another_workload() {
        let of = |name: &str, container: &str| Workload {
            kind: "pod".into(),
            name: name.into(),
            container: container.into(),
            ..Workload::default()
        };
        assert_ne!(of("a/b", "").key(), of("a", "b").key());
    }
}
