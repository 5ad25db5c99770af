//! From a runtime specification (`config.json` of the Open Container Initiative) to a [`Container`].
//!
//! Every runtime writes one for each container, and says in its annotations who ordered it: containerd's plugin for
//! Kubernetes writes `io.kubernetes.cri.…`, CRI-O and podman `io.kubernetes.cri-o.…`, tools that unpack images
//! `org.opencontainers.image.…`. What stands there comes from whoever creates containers: it is text, cut to a length.

use std::path::Path;

use serde_json::Value;
use tw_model::Container;
use tw_model::container::{Mount, Pod};

use crate::bounded::{self, MAX_TEXT, cut};
use crate::docker::set_image_name;

/// Annotations that speak to the runtime, not of the container.
const NOT_LABELS: [&str; 5] =
    ["io.kubernetes.cri.", "io.kubernetes.cri-o.", "io.podman.", "io.container.manager", "nerdctl/"];

/// A specification that was read.
pub struct Spec(Value);

impl Spec {
    /// Reads one; none if it is no JSON object.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(Value::is_object).map(Self)
    }

    /// One of its annotations; empty if there is none.
    pub fn annotation(&self, name: &str) -> &str {
        self.0.get("annotations").and_then(|all| all.get(name)).and_then(Value::as_str).unwrap_or_default()
    }

    /// The first of these annotations that is there.
    fn first(&self, names: &[&str]) -> String {
        bounded::name(names.iter().map(|name| self.annotation(name)).find(|text| !text.is_empty()).unwrap_or_default())
    }

    /// Path of the container's cgroup in the unified hierarchy, if it says.
    pub fn cgroup_path(&self) -> Option<String> {
        let path = self.0.pointer("/linux/cgroupsPath")?.as_str().filter(|path| !path.is_empty())?;
        (path.len() <= MAX_TEXT).then(|| unit_path(path).unwrap_or_else(|| format!("/{}", path.trim_matches('/'))))
    }

    /// The container's root directory on the host, for a bundle at this path; empty if it says none.
    pub fn rootfs(&self, bundle: &Path) -> String {
        let path = self.0.pointer("/root/path").and_then(Value::as_str).map(|path| bundle.join(path));
        cut(path.and_then(|path| path.into_os_string().into_string().ok()).unwrap_or_default(), MAX_TEXT)
    }

    /// Id of the pod's sandbox, if Kubernetes ordered the container.
    pub fn sandbox_id(&self) -> String {
        self.first(&["io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID"])
    }

    /// Whether the container is the sandbox of a pod.
    pub fn is_sandbox(&self) -> bool {
        self.first(&["io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"]) == "sandbox"
    }

    /// Whether the container has no namespace of its own of this kind. `None` if it joins another container's.
    pub fn shares_host(&self, kind: &str) -> Option<bool> {
        let all = self.0.pointer("/linux/namespaces").and_then(Value::as_array)?;
        let Some(namespace) = all.iter().find(|namespace| text(namespace, "type") == kind) else { return Some(true) };
        text(namespace, "path").is_empty().then_some(false)
    }

    /// All that it says of the container with this id. `complete` is left to the caller.
    pub fn container(&self, id: &str, runtime: &str) -> Container {
        let runtime = match self.annotation("io.container.manager") {
            "libpod" => "podman",
            "cri-o" => "cri-o",
            _ => runtime,
        };
        let pod = self.pod();
        let name = self.first(&["io.kubernetes.cri.container-name", "io.kubernetes.container.name", "nerdctl/name"]);
        let name = match (name.is_empty(), self.is_sandbox()) {
            (false, false) => name,
            (_, true) => pod.name.clone(),
            (true, false) => bounded::name(id),
        };
        let mut container = Container {
            id: id.to_owned(),
            runtime: runtime.to_owned(),
            name,
            privileged: self.privileged(),
            host_pid: self.shares_host("pid").unwrap_or(false),
            host_network: self.shares_host("network").unwrap_or(false),
            host_ipc: self.shares_host("ipc").unwrap_or(false),
            mounts: self.mounts(),
            labels: bounded::labels(self.labels()),
            pod,
            ..Container::default()
        };
        let image = self.first(&[
            "io.kubernetes.cri.image-name",
            "io.kubernetes.cri.podsandbox.image-name",
            "io.kubernetes.cri-o.ImageName",
            "org.opencontainers.image.ref.name",
            "org.opencontainers.image.title",
        ]);
        set_image_name(&mut container, &image);
        container
    }

    fn pod(&self) -> Pod {
        let name = self.first(&["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"]);
        if name.is_empty() {
            return Pod::default();
        }
        let container = if self.is_sandbox() {
            String::new()
        } else {
            self.first(&["io.kubernetes.cri.container-name", "io.kubernetes.container.name"])
        };
        Pod {
            name,
            namespace: self.first(&["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"]),
            uid: self.first(&["io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"]),
            sandbox_id: self.sandbox_id(),
            container,
            ip: self.first(&["io.kubernetes.cri-o.IP.0"]),
            ..Pod::default()
        }
    }

    fn labels(&self) -> impl Iterator<Item = (String, String)> {
        let all = self.0.get("annotations").and_then(Value::as_object).into_iter().flatten();
        all.filter(|(name, _)| !NOT_LABELS.iter().any(|prefix| name.starts_with(prefix)))
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
    }

    /// Binds only: what every container has (`/proc`, `/dev` …) says nothing of this one.
    fn mounts(&self) -> Vec<Mount> {
        let all = self.0.get("mounts").and_then(Value::as_array).into_iter().flatten();
        bounded::mounts(all.filter_map(|mount| {
            let options: Vec<&str> =
                mount.get("options").and_then(Value::as_array)?.iter().filter_map(Value::as_str).collect();
            if text(mount, "type") != "bind" && !options.contains(&"bind") && !options.contains(&"rbind") {
                return None;
            }
            let spread = ["rprivate", "private", "rshared", "shared", "rslave", "slave"];
            let path = |name| cut(text(mount, name).to_owned(), MAX_TEXT);
            Some(Mount {
                source: path("source"),
                dest: path("destination"),
                mode: String::new(),
                rdwr: !options.contains(&"ro"),
                propagation: options.iter().find(|option| spread.contains(option)).map_or("", |option| option).into(),
            })
        }))
    }

    /// What runtimes do for `privileged`: nothing of `/proc` is hidden, and the container may load modules. Podman says
    /// it in words.
    fn privileged(&self) -> bool {
        let empty = |pointer| self.0.pointer(pointer).and_then(Value::as_array).is_none_or(Vec::is_empty);
        let bounding = self.0.pointer("/process/capabilities/bounding").and_then(Value::as_array);
        let has = |name: &str| bounding.is_some_and(|all| all.iter().any(|one| one.as_str() == Some(name)));
        self.annotation("io.podman.annotations.privileged") == "TRUE"
            || self.annotation("io.kubernetes.cri-o.PrivilegedRuntime") == "true"
            || (empty("/linux/maskedPaths")
                && empty("/linux/readonlyPaths")
                && has("CAP_SYS_ADMIN")
                && has("CAP_SYS_MODULE"))
    }
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The path of `slice:prefix:name`, as runtimes ask systemd for it: `a-b.slice` lies in `a.slice`.
fn unit_path(path: &str) -> Option<String> {
    let mut parts = path.split(':');
    let (slice, prefix, name) = (parts.next()?, parts.next()?, parts.next()?);
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    let stem = slice.strip_suffix(".slice")?;
    let mut full = String::new();
    if stem != "-" {
        for (at, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
            full.push('/');
            full.push_str(&stem[..at]);
            full.push_str(".slice");
        }
    }
    let unit = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}-{name}") };
    let scope = if unit.ends_with(".slice") || unit.ends_with(".scope") { "" } else { ".scope" };
    Some(format!("{full}/{unit}{scope}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(value: &Value) -> Spec {
        Spec::read(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_pods_container_is_known_by_its_annotations() {
        let spec = spec(&json!({
            "annotations": {
                "io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.container-name": "app",
                "io.kubernetes.cri.image-name": "reg:5000/shop/web:1.2", "io.kubernetes.cri.sandbox-id": "abc",
                "io.kubernetes.cri.sandbox-name": "web-0", "io.kubernetes.cri.sandbox-namespace": "shop",
                "io.kubernetes.cri.sandbox-uid": "u-1", "team": "blue"
            },
            "mounts": [
                { "type": "proc", "destination": "/proc", "source": "proc", "options": ["nosuid"] },
                { "type": "bind", "destination": "/host", "source": "/etc", "options": ["rbind", "rprivate", "ro"] }
            ],
            "linux": {
                "cgroupsPath": "kubepods-besteffort-pod1.slice:cri-containerd:77",
                "namespaces": [{ "type": "network", "path": "/proc/1/ns/net" }, { "type": "ipc" }]
            }
        }));
        let container = spec.container("77", "containerd");
        let pod = &container.pod;
        assert_eq!((&*pod.name, &*pod.namespace, &*pod.uid, &*pod.sandbox_id), ("web-0", "shop", "u-1", "abc"));
        assert_eq!((&*container.name, &*pod.container, &*container.tag), ("app", "app", "1.2"));
        assert_eq!(container.labels, [("team".to_owned(), "blue".to_owned())].into());
        let mount =
            Mount { source: "/etc".into(), dest: "/host".into(), propagation: "rprivate".into(), ..Mount::default() };
        assert_eq!(container.mounts, [mount]);
        assert!(container.host_pid && !container.host_network && !container.host_ipc);
        assert_eq!(spec.shares_host("network"), None, "that of the sandbox, whatever it is");
        let path = "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1.slice/cri-containerd-77.scope";
        assert_eq!(spec.cgroup_path().as_deref(), Some(path));
    }

    #[test]
    fn privileged_shows() {
        let open = json!({ "process": { "capabilities": { "bounding": ["CAP_SYS_ADMIN", "CAP_SYS_MODULE"] } } });
        assert!(spec(&open).container("x", "runc").privileged);
        let mut masked = open;
        masked["linux"] = json!({ "maskedPaths": ["/proc/kcore"] });
        assert!(!spec(&masked).container("x", "runc").privileged);
        assert!(!spec(&json!({})).container("x", "runc").privileged);
        let podman =
            json!({ "annotations": { "io.container.manager": "libpod", "io.podman.annotations.privileged": "TRUE" } });
        let container = spec(&podman).container("x", "runc");
        assert!(container.privileged && container.runtime == "podman");
    }

    #[test]
    fn nonsense_is_cut_or_passed_over() {
        assert!(Spec::read(b"").is_none() && Spec::read(b"[]").is_none() && Spec::read(&[b'['; 100_000]).is_none());
        let long = "\u{20ac}".repeat(5_000);
        let spec = spec(&json!({
            "annotations": { "io.kubernetes.cri.sandbox-name": long, "io.kubernetes.cri.image-name": 5, "a": null, long.clone(): long },
            "mounts": [{ "type": "bind" }, 7, null, { "options": "bind" }, { "options": ["bind", 1], "source": long }],
            "linux": { "cgroupsPath": long, "namespaces": [1, { "type": 5 }], "maskedPaths": {} },
            "process": []
        }));
        let container = spec.container("id", "runc");
        assert!(serde_json::to_vec(&container).unwrap().len() < 64 << 10);
        assert_eq!((spec.cgroup_path(), container.mounts.len()), (None, 1));
        assert_eq!(unit_path(":runc:x").as_deref(), Some("/system.slice/runc-x.scope"));
        assert_eq!(unit_path("-.slice::x.slice").as_deref(), Some("/x.slice"));
        assert_eq!(unit_path("plain"), None);
    }
}
