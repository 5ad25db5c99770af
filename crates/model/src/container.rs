//! Containers and the images they run.

use serde::{Deserialize, Serialize};

/// Most labels that one container keeps.
pub const MAX_LABELS: usize = 256;

/// A mount of a container, as its runtime states it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Path on the host, or name of the volume.
    pub source: String,
    /// Path in the container.
    pub dest: String,
    /// Mode text of the runtime, such as `z`.
    pub mode: String,
    /// Writable.
    pub rdwr: bool,
    /// Propagation, such as `rprivate`.
    pub propagation: String,
}

/// The pod of Kubernetes that a container belongs to, as its runtime states it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Name; empty if the container is in no pod.
    pub name: String,
    /// Namespace of Kubernetes.
    pub namespace: String,
    /// Uid.
    pub uid: String,
    /// Id of its sandbox, the container that holds its namespaces.
    pub sandbox_id: String,
    /// Name that the container has in the pod; empty for the sandbox itself.
    pub container: String,
    /// Address; empty if unknown or that of the host.
    pub ip: String,
    /// Labels of the pod, by name.
    pub labels: std::collections::BTreeMap<String, String>,
}

impl Pod {
    /// Whether nothing is known of a pod.
    pub fn is_empty(&self) -> bool {
        self.name.is_empty() && self.uid.is_empty() && self.sandbox_id.is_empty()
    }
}

/// What is known of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Container {
    /// Full id, 64 hexadecimal digits as a rule; those of runc and containerd may be any name.
    pub id: String,
    /// Which runtime: `docker`, `containerd`, `cri-o`, `podman`, `runc`, `crun`; empty if unknown.
    pub runtime: String,
    /// Name; empty until the runtime told it.
    pub name: String,
    /// Image as the user named it, such as `nginx:1.27`.
    pub image: String,
    /// Image name without tag and digest.
    pub repository: String,
    /// Tag; empty if none.
    pub tag: String,
    /// Digest (`sha256:…`); empty if none.
    pub digest: String,
    /// Id of the image's configuration, without `sha256:`.
    pub image_id: String,
    /// Runs with full privileges.
    pub privileged: bool,
    /// Shares the host's pid namespace.
    pub host_pid: bool,
    /// Shares the host's network namespace.
    pub host_network: bool,
    /// Shares the host's IPC namespace.
    pub host_ipc: bool,
    /// Address on its first network; empty if none.
    pub ip: String,
    /// Where the host has its root directory; empty if unknown. For an overlay the merged folder.
    pub rootfs: String,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Labels, by name.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Time of its start, nanoseconds since the epoch, 0 if unknown.
    pub started_ns: u64,
    /// Process number of its first process on the host, 0 if unknown.
    pub pid: u32,
    /// Its pod, if Kubernetes manages it.
    pub pod: Pod,
    /// False until the runtime's answer was merged in: then only the id is sure.
    pub complete: bool,
}

impl Container {
    /// The first twelve digits of the id, as `docker ps` shows it; an id that is a name in full.
    pub fn short_id(&self) -> &str {
        if self.id.len() < 64 { &self.id } else { self.id.get(..12).unwrap_or(&self.id) }
    }

    /// Takes from `other`, which tells of the same container, what is not known here.
    pub fn fill_gaps(&mut self, other: &Self) {
        let fill = |mine: &mut String, theirs: &String| {
            if mine.is_empty() {
                mine.clone_from(theirs);
            }
        };
        // The parts of an image's name belong together.
        if self.image.is_empty() || self.image == other.image {
            fill(&mut self.image, &other.image);
            fill(&mut self.repository, &other.repository);
            fill(&mut self.tag, &other.tag);
            fill(&mut self.digest, &other.digest);
        }
        fill(&mut self.runtime, &other.runtime);
        fill(&mut self.name, &other.name);
        fill(&mut self.image_id, &other.image_id);
        fill(&mut self.ip, &other.ip);
        fill(&mut self.rootfs, &other.rootfs);
        self.privileged |= other.privileged;
        self.host_pid |= other.host_pid;
        self.host_network |= other.host_network;
        self.host_ipc |= other.host_ipc;
        if self.mounts.is_empty() {
            self.mounts.clone_from(&other.mounts);
        }
        for (name, value) in &other.labels {
            if self.labels.len() < MAX_LABELS && !self.labels.contains_key(name) {
                self.labels.insert(name.clone(), value.clone());
            }
        }
        if self.started_ns == 0 {
            self.started_ns = other.started_ns;
        }
        if self.pid == 0 {
            self.pid = other.pid;
        }
        fill(&mut self.pod.name, &other.pod.name);
        fill(&mut self.pod.namespace, &other.pod.namespace);
        fill(&mut self.pod.uid, &other.pod.uid);
        fill(&mut self.pod.sandbox_id, &other.pod.sandbox_id);
        fill(&mut self.pod.container, &other.pod.container);
        fill(&mut self.pod.ip, &other.pod.ip);
        if self.pod.labels.is_empty() {
            self.pod.labels.clone_from(&other.pod.labels);
        }
    }

    /// Finds the container id in the path of a cgroup, as Docker, containerd, CRI-O, podman and
    /// Kubernetes name them: the last component that holds 64 hexadecimal digits.
    pub fn id_in_cgroup_path(path: &str) -> Option<&str> {
        path.rsplit('/').find_map(|component| {
            let stem = component.strip_suffix(".scope").unwrap_or(component);
            // `docker-<id>`, `cri-containerd-<id>`, `crio-<id>`, `libpod-<id>`, or the id alone;
            // containerd without systemd may write `<unit>:cri-containerd:<id>`.
            let id = stem.rsplit(['-', ':']).next()?;
            (id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
        })
    }
}

/// Splits an image reference into repository, tag and digest; the parts that are absent are empty.
///
/// A colon belongs to a tag only behind the last slash (before it, it is a registry's port).
pub fn split_image(reference: &str) -> (&str, &str, &str) {
    let (name, digest) = reference.split_once('@').unwrap_or((reference, ""));
    let slash = name.rfind('/').map_or(0, |at| at + 1);
    match name[slash..].rfind(':') {
        Some(colon) => (&name[..slash + colon], &name[slash + colon + 1..], digest),
        None => (name, "", digest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn ids_are_found_in_the_paths_of_all_runtimes() {
        for path in [
            format!("/docker/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!("/kubepods/besteffort/pod1234/{ID}"),
            format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope"),
            format!("/system.slice/containerd.service/kubepods-x.slice:cri-containerd:{ID}"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
            format!("/crio-{ID}"),
        ] {
            assert_eq!(Container::id_in_cgroup_path(&path), Some(ID), "{path}");
        }
        assert_eq!(Container::id_in_cgroup_path("/user.slice/user-0.slice/session-1.scope"), None);
        assert_eq!(Container::id_in_cgroup_path(""), None);
    }

    #[test]
    fn gaps_are_filled_and_what_is_known_stays() {
        let text = str::to_owned;
        let mut known = Container { image: text("nginx"), name: text("web"), ..Container::default() };
        let pod = Pod { name: text("web-0"), ..Pod::default() };
        let labels: std::collections::BTreeMap<_, _> = [(text("a"), text("b"))].into();
        let told = Container {
            image: text("other:1"),
            digest: text("sha256:1"),
            name: text("else"),
            ip: text("10.0.0.1"),
            labels: labels.clone(),
            pod: pod.clone(),
            pid: 7,
            ..Container::default()
        };
        known.fill_gaps(&told);
        assert_eq!((&*known.image, &*known.digest, &*known.name), ("nginx", "", "web"), "not the digest of another");
        assert_eq!((&*known.ip, &known.labels, &known.pod, known.pid), ("10.0.0.1", &labels, &pod, 7));
    }

    #[test]
    fn images_are_split() {
        assert_eq!(split_image("nginx"), ("nginx", "", ""));
        assert_eq!(split_image("reg:5000/a/nginx:1.27"), ("reg:5000/a/nginx", "1.27", ""));
        assert_eq!(split_image("reg:5000/nginx"), ("reg:5000/nginx", "", ""));
        assert_eq!(split_image("a/b:1@sha256:ff"), ("a/b", "1", "sha256:ff"));
    }
}
