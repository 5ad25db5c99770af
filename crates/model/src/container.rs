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

/// What a pod, or its owner, was made by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Owner {
    /// Kind in lower case: `replicaset`, `deployment`, `job` …
    pub kind: String,
    /// Name.
    pub name: String,
    /// Uid; empty if only the name is known.
    pub uid: String,
}

/// The pod of Kubernetes that a container belongs to, as its runtime and the API of Kubernetes state it.
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
    /// Node that it runs on; like what follows from the API of Kubernetes alone.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// Service account that it runs as.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_account: String,
    /// What made it, what made that, and so on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<Owner>,
    /// Uid of its namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace_uid: String,
    /// Labels of its namespace, by name.
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub namespace_labels: std::collections::BTreeMap<String, String>,
}

impl Pod {
    /// Whether nothing is known of a pod.
    pub fn is_empty(&self) -> bool {
        self.name.is_empty() && self.uid.is_empty() && self.sandbox_id.is_empty()
    }

    /// Takes over what the API of Kubernetes says of the same pod; it knows better than the runtime, which was told once.
    pub fn take_over(&mut self, told: &Self) {
        let take = |mine: &mut String, theirs: &String| {
            if !theirs.is_empty() && mine != theirs {
                mine.clone_from(theirs);
            }
        };
        take(&mut self.uid, &told.uid);
        take(&mut self.name, &told.name);
        take(&mut self.namespace, &told.namespace);
        take(&mut self.ip, &told.ip);
        take(&mut self.node, &told.node);
        take(&mut self.service_account, &told.service_account);
        take(&mut self.namespace_uid, &told.namespace_uid);
        if self.labels != told.labels {
            self.labels.clone_from(&told.labels);
        }
        if self.owners != told.owners {
            self.owners.clone_from(&told.owners);
        }
        if self.namespace_labels != told.namespace_labels {
            self.namespace_labels.clone_from(&told.namespace_labels);
        }
    }

    /// The nearest owner of a kind.
    pub fn owner(&self, kind: &str) -> Option<&Owner> {
        self.owners.iter().find(|owner| owner.kind == kind)
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
        fill(&mut self.pod.node, &other.pod.node);
        fill(&mut self.pod.service_account, &other.pod.service_account);
        fill(&mut self.pod.namespace_uid, &other.pod.namespace_uid);
        if self.pod.owners.is_empty() {
            self.pod.owners.clone_from(&other.pod.owners);
        }
        if self.pod.namespace_labels.is_empty() {
            self.pod.namespace_labels.clone_from(&other.pod.namespace_labels);
        }
    }

    /// Uid of its pod, told or by the label that the kubelet sets; empty if neither.
    pub fn pod_uid(&self) -> &str {
        if self.pod.uid.is_empty() {
            return self.labels.get("io.kubernetes.pod.uid").map_or("", String::as_str);
        }
        &self.pod.uid
    }

    /// Finds the uid of a pod in the path of a cgroup, as the kubelet names it: `/kubepods/burstable/pod<uid>/…`, or
    /// `/kubepods.slice/kubepods-pod<uid>.slice/…` with underscores for hyphens. Only below the kubelet's own folder,
    /// and the outermost counts: what is further in, containers name as they like.
    pub fn pod_uid_in_cgroup_path(path: &str) -> Option<String> {
        let mut parts = path.split('/').skip(1);
        let top = parts.next()?;
        let is_kubelets = |name: &str| matches!(name, "kubepods" | "kubepods.slice");
        if !is_kubelets(top) {
            // Where the kubelet has a root of its own, as that of kind.
            let below = parts.next().filter(|_| matches!(top, "kubelet" | "kubelet.slice"))?;
            if !is_kubelets(below) && below != "kubelet-kubepods.slice" {
                return None;
            }
        }
        let is_uid = |uid: &str| {
            (1..=64).contains(&uid.len()) && uid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let class = |name: &str| {
            matches!(name, "besteffort" | "burstable")
                || name.ends_with("-besteffort.slice")
                || name.ends_with("-burstable.slice")
        };
        let name = parts.find(|part| !class(part))?;
        let uid = match name.strip_suffix(".slice") {
            Some(slice) => slice.rsplit_once("-pod")?.1.replace('_', "-"),
            None => name.strip_prefix("pod")?.to_owned(),
        };
        is_uid(&uid).then_some(uid)
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
    fn uids_of_pods_are_found_where_the_kubelet_names_them() {
        let uid = "8dbc0e95-8d42-4f3b-9c33-8c3b0e1f2a7d";
        let flat = uid.replace('-', "_");
        for path in [
            format!("/kubepods/besteffort/pod{uid}/{ID}"),
            format!("/kubepods/pod{uid}"),
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{flat}.slice/cri-containerd-{ID}.scope"
            ),
            format!("/kubepods.slice/kubepods-pod{flat}.slice/crio-{ID}.scope/pod{ID}"),
            format!(
                "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{flat}.slice/x"
            ),
            format!("/kubelet/kubepods/burstable/pod{uid}/{ID}"),
        ] {
            assert_eq!(Container::pod_uid_in_cgroup_path(&path).as_deref(), Some(uid), "{path}");
        }
        for path in [
            format!("/docker/{ID}/kubepods/pod{uid}"),
            format!("/kubepods/{ID}/pod{uid}"),
            format!("/kubepods/burstable/{ID}/pod{uid}"),
            "/kubepods/pod".into(),
            "/kubepods/podx y".into(),
            "/kubepods".into(),
            "/kubelet/kubepods".into(),
            "/".into(),
            String::new(),
        ] {
            assert_eq!(Container::pod_uid_in_cgroup_path(&path), None, "{path}");
        }
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
