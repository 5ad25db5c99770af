//! Workloads: the unit that people reason about. Containers come and go; the workload that they serve stays.

use serde::{Deserialize, Serialize};

use crate::container::Container;

/// What a container is a replica of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Workload {
    /// Kubernetes namespace, or Compose project; empty if neither.
    pub namespace: String,
    /// What manages it: `pod`, `compose`, or `container` where nothing does.
    pub kind: String,
    /// Name of the pod's owner as far as it shows, of the Compose service, or of the container.
    pub name: String,
    /// Name of the container within it; empty unless it can have several.
    pub container: String,
    /// Image without tag and digest; the container's id if no image is known.
    pub image: String,
}

impl Workload {
    /// The workload of a container, from the labels that Kubernetes (kubelet) and Docker Compose set. Containers that
    /// neither manages are a workload by their image, since names of such are often made up at each start.
    pub fn of(container: &Container) -> Self {
        let label = |name: &str| container.labels.get(name).map_or("", String::as_str).to_owned();
        let image = if container.repository.is_empty() { &container.id } else { &container.repository }.clone();
        let pod = label("io.kubernetes.pod.name");
        if !pod.is_empty() {
            return Self {
                namespace: label("io.kubernetes.pod.namespace"),
                kind: "pod".into(),
                name: pod,
                container: label("io.kubernetes.container.name"),
                image,
            };
        }
        let service = label("com.docker.compose.service");
        if !service.is_empty() {
            let namespace = label("com.docker.compose.project");
            return Self { namespace, kind: "compose".into(), name: service, container: String::new(), image };
        }
        Self { kind: "container".into(), name: image.clone(), image, ..Self::default() }
    }

    /// One text that names it, such as `compose/shop/web/example/shop` or `container/example/shop`; equal workloads
    /// have equal texts, others have not. Only the image, which comes last, may hold a slash.
    pub fn key(&self) -> String {
        // Where nothing manages it, the image is its name.
        let name = if self.kind == "container" && self.name == self.image { "" } else { &self.name };
        let plain = |part: &str| part.replace('%', "%25").replace('/', "%2F");
        let parts = [&self.kind, &self.namespace, name, &self.container].into_iter().map(plain);
        parts.chain([self.image.clone()]).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
    }
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
