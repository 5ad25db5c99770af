//! What runtimes leave on disk of a container, and where.
//!
//! | Below one of the folders | Written by | Says |
//! |---|---|---|
//! | `io.containerd.runtime.v2.task/NAMESPACE/ID/config.json` | containerd | specification |
//! | `ID/state.json` | runc | where the bundle is, cgroup |
//! | `ID/status` | crun | where the bundle is, cgroup |
//! | `DRIVER-containers/ID/userdata/config.json` | podman, CRI-O | specification |
//! | `DRIVER-containers/containers.json` | podman, CRI-O | names, images |
//! | `containers/ID/config.v2.json`, `hostconfig.json` | Docker | name, image, labels |
//!
//! The folders are root's. What stands in the files comes from whoever orders containers.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tw_model::Container;
use tw_model::container::Mount;

use super::file::{self, Found};
use crate::bounded;
use crate::docker::{nanoseconds, set_image_name};
use crate::oci::Spec;
use crate::runtime::is_id;

/// containerd's folders of bundles: of today's shims, and of those before.
const TASKS: [&str; 2] = ["io.containerd.runtime.v2.task", "io.containerd.runtime.v1.linux"];
/// What the folders of podman and CRI-O end in, behind the name of the storage driver.
const STORAGE: &str = "-containers";
/// Docker's namespaces of containerd: Docker itself says more.
const DOCKERS: [&str; 2] = ["moby", "plugins.moby"];
/// Most folders of one kind in a folder.
const MAX_FOLDERS: usize = 64;

/// How a folder holds containers, each in a folder with its id as name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Bundles of containerd.
    Tasks,
    /// State of runc or crun.
    State,
    /// Storage of podman or CRI-O.
    Storage,
    /// Docker's.
    Docker,
}

/// What was read of a container.
#[derive(Debug)]
pub struct Read {
    /// The container, as far as it is told.
    pub container: Container,
    /// Its cgroup's path in the unified hierarchy, if it is told.
    pub cgroup: Option<String>,
}

/// Folders that hold containers in `root`, with how they hold them. `root` itself is one, of [`Layout::State`].
pub fn folders(root: &Path) -> Vec<(PathBuf, Layout)> {
    let mut found = vec![(root.to_owned(), Layout::State)];
    for name in file::folders(root, MAX_FOLDERS) {
        let path = root.join(&name);
        if TASKS.iter().any(|task| name == *task) {
            let namespaces = file::folders(&path, MAX_FOLDERS).into_iter();
            let others = namespaces.filter(|name| !DOCKERS.iter().any(|docker| name == *docker));
            found.extend(others.map(|name| (path.join(name), Layout::Tasks)));
        } else if name.to_str().is_some_and(|name| name.ends_with(STORAGE)) {
            found.push((path, Layout::Storage));
        } else if name == "containers" && root.file_name() == Some(OsStr::new("docker")) {
            found.push((path, Layout::Docker));
        }
    }
    found
}

/// Folders in which further ones of [`folders`] may appear.
pub fn parents(root: &Path) -> Vec<PathBuf> {
    TASKS.iter().map(|task| root.join(task)).chain([root.to_owned()]).collect()
}

/// Whether `folder`, of this layout, holds something of a container with this id.
pub fn holds(folder: &Path, layout: Layout, id: &str) -> bool {
    let path = folder.join(id);
    match layout {
        // Everything may lie in a root: what has the name of a state counts, and what is to have one yet.
        Layout::State => path.join("state.json").exists() || path.join("status").exists() || file::is_empty(&path),
        Layout::Tasks | Layout::Storage | Layout::Docker => path.is_dir(),
    }
}

/// Reads what `folder` says of a container. `mount` is where the unified hierarchy is mounted.
pub fn read(folder: &Path, layout: Layout, id: &str, mount: Option<&Path>) -> Found<Read> {
    if !is_id(id) {
        return Found::Nothing;
    }
    let own = folder.join(id);
    match layout {
        Layout::Tasks => tasks(folder, &own, id),
        Layout::State => state(&own, id, mount),
        Layout::Storage => bundle(&own.join("userdata"), id, "podman"),
        Layout::Docker => docker(&own, id),
    }
}

fn tasks(folder: &Path, own: &Path, id: &str) -> Found<Read> {
    let mut read = match bundle(own, id, "containerd") {
        Found::Whole(read) => read,
        other => return other,
    };
    if let Some(pid) = file::read(&own.join("init.pid"), 32).and_then(|text| String::from_utf8(text).ok()) {
        read.container.pid = pid.trim().parse().unwrap_or(0);
    }
    // A pod's containers join the namespaces of its sandbox: that knows whether they are the host's.
    let sandbox = &read.container.pod.sandbox_id;
    if is_id(sandbox)
        && *sandbox != id
        && let Found::Whole(spec) = spec(&folder.join(sandbox))
    {
        read.container.host_network = spec.shares_host("network").unwrap_or(false);
        read.container.host_ipc |= spec.shares_host("ipc").unwrap_or(false);
    }
    Found::Whole(read)
}

fn spec(bundle: &Path) -> Found<Spec> {
    match file::read(&bundle.join("config.json"), file::MAX_FILE) {
        None => Found::Nothing,
        // It may be half written.
        Some(bytes) => Spec::read(&bytes).map_or(Found::Half, Found::Whole),
    }
}

/// A bundle, wherever it lies.
fn bundle(path: &Path, id: &str, runtime: &str) -> Found<Read> {
    let spec = match spec(path) {
        Found::Whole(spec) => spec,
        Found::Half => return Found::Half,
        Found::Nothing if path.is_dir() => return Found::Half,
        Found::Nothing => return Found::Nothing,
    };
    let mut container = spec.container(id, runtime);
    container.started_ns = file::modified_ns(&path.join("config.json"));
    container.rootfs = spec.rootfs(path);
    if matches!(container.runtime.as_str(), "podman" | "cri-o") {
        stored(path, &mut container);
    }
    Found::Whole(Read { container, cgroup: spec.cgroup_path() })
}

/// A bundle that somebody was seen to run with `runtime`, which may lie anywhere. Docker's are left to Docker.
pub fn announced(path: &Path, id: &str, runtime: &str) -> Found<Read> {
    let parent = path.parent().and_then(Path::file_name);
    if !is_id(id) || DOCKERS.iter().any(|docker| parent == Some(OsStr::new(docker))) {
        return Found::Nothing;
    }
    let below = path.ancestors().nth(2).and_then(Path::file_name);
    if let Some(folder) = path.parent().filter(|_| TASKS.iter().any(|task| below == Some(OsStr::new(task)))) {
        return tasks(folder, path, id);
    }
    let mut read = match bundle(path, id, runtime) {
        Found::Whole(read) => read,
        other => return other,
    };
    name_by_place(&mut read.container, path);
    // Where runc puts it if nothing else is said.
    read.cgroup = read.cgroup.or_else(|| Some(format!("/{id}")));
    Found::Whole(read)
}

/// Where nobody named an image, what runs is what lies in the bundle.
fn name_by_place(container: &mut Container, bundle: &Path) {
    if container.image.is_empty() {
        container.image = bounded::cut(bundle.to_string_lossy().into_owned(), bounded::MAX_NAME);
        container.repository.clone_from(&container.image);
    }
}

/// Name and image of a container of podman, from the list that it keeps beside its bundles.
fn stored(bundle: &Path, container: &mut Container) {
    let Some(folder) = bundle.parent().and_then(Path::parent) else { return };
    for list in ["containers.json", "volatile-containers.json"] {
        let Some(bytes) = file::read(&folder.join(list), file::MAX_LIST) else { continue };
        let Ok(Value::Array(all)) = serde_json::from_slice(&bytes) else { continue };
        let is_it = |one: &&Value| one.get("id").and_then(Value::as_str) == Some(&*container.id);
        let Some(found) = all.iter().find(is_it) else { continue };
        if let Some(name) = found.pointer("/names/0").and_then(Value::as_str)
            && container.pod.is_empty()
        {
            container.name = bounded::name(name);
        }
        container.image_id = bounded::name(found.get("image").and_then(Value::as_str).unwrap_or_default());
        let metadata = found.get("metadata").and_then(Value::as_str).unwrap_or_default();
        if let Ok(metadata) = serde_json::from_str::<Value>(metadata)
            && let Some(image) = metadata.get("image-name").and_then(Value::as_str)
        {
            set_image_name(container, image);
        }
        return;
    }
}

/// What runc or crun says of a container that it holds: its bundle, its cgroup.
fn state(own: &Path, id: &str, mount: Option<&Path>) -> Found<Read> {
    for (name, runtime) in [("state.json", "runc"), ("status", "crun")] {
        let Some(bytes) = file::read(&own.join(name), file::MAX_FILE) else { continue };
        let Ok(state) = serde_json::from_slice::<Value>(&bytes) else { return Found::Half };
        let text = |pointer: &str| state.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let labels = state.pointer("/config/labels").and_then(Value::as_array).into_iter().flatten();
        let labels = labels.filter_map(|label| label.as_str()?.split_once('='));
        let path = if runtime == "runc" {
            labels.clone().find(|(name, _)| *name == "bundle").map_or("", |(_, path)| path)
        } else {
            text("/bundle")
        };
        let folder = PathBuf::from(path);
        let mut read = match folder.is_absolute().then(|| bundle(&folder, id, runtime)) {
            Some(Found::Whole(read)) => read,
            // The bundle may be gone, or be out of reach: the id is all the same that of a container.
            _ => Read { container: bare(id, runtime), cgroup: None },
        };
        let container = &mut read.container;
        name_by_place(container, &folder);
        container.started_ns = nanoseconds(text("/created"));
        let pid = state.get("init_process_pid").or_else(|| state.get("pid")).and_then(Value::as_u64);
        container.pid = pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
        let told = [text("/cgroup_paths/"), text("/cgroup-path")].into_iter().find(|path| !path.is_empty());
        if let Some(path) = told {
            let path = mount.and_then(|mount| Path::new(path).strip_prefix(mount).ok()?.to_str()).unwrap_or(path);
            read.cgroup = Some(format!("/{}", path.trim_matches('/')));
        }
        return Found::Whole(read);
    }
    // runc makes the folder first.
    if own.is_dir() && file::is_empty(own) { Found::Half } else { Found::Nothing }
}

fn bare(id: &str, runtime: &str) -> Container {
    Container { id: id.to_owned(), runtime: runtime.to_owned(), name: bounded::name(id), ..Container::default() }
}

/// A container of Docker, as its daemon keeps it.
fn docker(own: &Path, id: &str) -> Found<Read> {
    if id.len() != 64 {
        return Found::Nothing;
    }
    let Some(bytes) = file::read(&own.join("config.v2.json"), file::MAX_FILE) else {
        return if own.is_dir() { Found::Half } else { Found::Nothing };
    };
    let Ok(config) = serde_json::from_slice::<Value>(&bytes) else { return Found::Half };
    let host = file::read(&own.join("hostconfig.json"), file::MAX_FILE);
    let host: Value = host.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let text = |pointer: &str| config.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let is_host = |name: &str| host.get(name).and_then(Value::as_str) == Some("host");
    let labels = config.pointer("/Config/Labels").and_then(Value::as_object).into_iter().flatten();
    let labels = labels.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    let points = config.get("MountPoints").and_then(Value::as_object).into_iter().flatten();
    let mounts = points.map(|(dest, point)| {
        let text = |name: &str| {
            bounded::cut(point.get(name).and_then(Value::as_str).unwrap_or_default().to_owned(), bounded::MAX_TEXT)
        };
        Mount {
            source: text("Source"),
            dest: bounded::cut(dest.clone(), bounded::MAX_TEXT),
            mode: text("Relabel"),
            rdwr: point.get("RW").and_then(Value::as_bool).unwrap_or(false),
            propagation: text("Propagation"),
        }
    });
    let image_id = text("/Image");
    let mut container = Container {
        name: bounded::name(text("/Name").trim_start_matches('/')),
        image_id: bounded::name(image_id.strip_prefix("sha256:").unwrap_or(image_id)),
        privileged: host.get("Privileged").and_then(Value::as_bool).unwrap_or(false),
        host_pid: is_host("PidMode"),
        host_network: is_host("NetworkMode"),
        host_ipc: is_host("IpcMode"),
        mounts: bounded::mounts(mounts),
        labels: bounded::labels(labels),
        ..bare(id, "docker")
    };
    set_image_name(&mut container, text("/Config/Image"));
    Found::Whole(Read { container, cgroup: None })
}
