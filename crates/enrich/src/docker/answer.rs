//! From Docker's answers to a [`Container`].
//!
//! The daemon is trusted to be root, not to make sense: it may be another program behind the same socket, and
//! names, labels and paths in its answers are the user's. Everything is cut to a length and a number.

use std::collections::BTreeMap;

use bollard::models::{
    ContainerInspectResponse, DriverData, EventActor, HostConfig, ImageInspect, MountPoint, NetworkSettings,
};
use tw_model::Container;
use tw_model::container::{Mount, split_image};

use crate::bounded::{self, MAX_NAME, MAX_TEXT, cut};

/// What we take from the description of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageNames {
    /// `repository:tag` names, of which the first is shown.
    tags: Vec<String>,
    /// `repository@sha256:…` names.
    digests: Vec<String>,
}

impl ImageNames {
    /// Takes the names from Docker's answer.
    pub fn new(answer: ImageInspect) -> Self {
        let bounded = |names: Option<Vec<String>>| {
            names.unwrap_or_default().into_iter().take(16).map(|name| cut(name, MAX_NAME)).collect()
        };
        Self { tags: bounded(answer.repo_tags), digests: bounded(answer.repo_digests) }
    }
}

/// Whether the text is a container's id in full.
pub fn is_id(text: &str) -> bool {
    text.len() == 64 && is_hex(text)
}

/// Whether the text consists of hexadecimal digits, at least one.
pub fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The little that an event says: id, name and image. Labels are there too, but mixed up with attributes.
pub fn from_event(actor: &EventActor) -> Option<Container> {
    let id = actor.id.as_ref().filter(|id| is_id(id))?;
    let attribute = |name| actor.attributes.as_ref().and_then(|all| all.get(name)).cloned().unwrap_or_default();
    let mut container = Container {
        id: id.clone(),
        runtime: "docker".into(),
        name: cut(attribute("name"), MAX_NAME),
        ..Container::default()
    };
    set_image(&mut container, attribute("image"), &ImageNames::default());
    Some(container)
}

/// All that Docker knows of a container. `None` if the answer has no sensible id.
pub fn from_inspect(answer: ContainerInspectResponse, names: &ImageNames) -> Option<Container> {
    let id = answer.id.filter(|id| is_id(id))?;
    let host = answer.host_config.unwrap_or_default();
    let state = answer.state.unwrap_or_default();
    let config = answer.config.unwrap_or_default();
    let image_id = answer.image.unwrap_or_default();
    let name = answer.name.unwrap_or_default();
    let mut container = Container {
        id,
        runtime: "docker".into(),
        name: cut(name.strip_prefix('/').unwrap_or(&name).to_owned(), MAX_NAME),
        image_id: cut(image_id.strip_prefix("sha256:").unwrap_or(&image_id).to_owned(), MAX_NAME),
        privileged: host.privileged.unwrap_or(false),
        host_pid: host.pid_mode.as_deref() == Some("host"),
        host_network: host.network_mode.as_deref() == Some("host"),
        host_ipc: host.ipc_mode.as_deref() == Some("host"),
        ip: address(&host, answer.network_settings.unwrap_or_default()),
        rootfs: answer.graph_driver.and_then(root_directory).unwrap_or_default(),
        mounts: bounded::mounts(answer.mounts.unwrap_or_default().into_iter().map(mount)),
        labels: bounded::labels(config.labels.unwrap_or_default()),
        started_ns: state.started_at.as_deref().map_or(0, nanoseconds),
        pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0),
        complete: true,
        ..Container::default()
    };
    set_image(&mut container, config.image.unwrap_or_default(), names);
    Some(container)
}

/// Fills image, repository, tag and digest from the name that the user gave.
pub(crate) fn set_image_name(container: &mut Container, given: &str) {
    set_image(container, given.to_owned(), &ImageNames::default());
}

/// Fills image, repository, tag and digest from the name that the user gave and the image's own names.
fn set_image(container: &mut Container, given: String, names: &ImageNames) {
    let given = cut(given, MAX_NAME);
    container.image = if names_an_id(&given, &container.image_id) {
        match names.tags.first() {
            Some(tag) => tag.clone(),
            None => {
                // `sha256` is no repository.
                container.image = given;
                return;
            }
        }
    } else {
        given
    };
    let (repository, tag, digest) = split_image(&container.image);
    // Docker takes a name without tag and digest as `latest`.
    let tag = if tag.is_empty() && digest.is_empty() && !repository.is_empty() { "latest" } else { tag };
    let digest = if digest.is_empty() { known_digest(repository, names) } else { digest };
    (container.repository, container.tag, container.digest) = (repository.into(), tag.into(), digest.into());
}

/// Whether the user named the image by its id or the beginning of it.
pub(crate) fn names_an_id(given: &str, image_id: &str) -> bool {
    given.starts_with("sha256:") || (given.len() >= 4 && is_hex(given) && image_id.starts_with(given))
}

/// The digest that the image has in this repository, or else in any.
fn known_digest<'n>(repository: &str, names: &'n ImageNames) -> &'n str {
    let pairs = || names.digests.iter().filter_map(|name| name.split_once('@'));
    let same = pairs().find(|(name, _)| familiar(name) == familiar(repository));
    same.or_else(|| pairs().next()).map_or("", |(_, digest)| digest)
}

/// A repository as Docker prints it, without the default registry.
fn familiar(repository: &str) -> &str {
    let name = repository.strip_prefix("docker.io/").unwrap_or(repository);
    name.strip_prefix("library/").unwrap_or(name)
}

/// The address on the network that the container was started on, or else on the first by name.
fn address(host: &HostConfig, settings: NetworkSettings) -> String {
    let networks: BTreeMap<_, _> = settings.networks.unwrap_or_default().into_iter().collect();
    let main = host.network_mode.as_deref().map(|mode| if mode == "default" { "bridge" } else { mode });
    let first = main.and_then(|name| networks.get(name)).into_iter();
    let mut addresses = first.chain(networks.values()).filter_map(|network| network.ip_address.as_deref());
    cut(addresses.find(|address| !address.is_empty()).unwrap_or_default().to_owned(), 64)
}

/// Where the host has the container's root directory: overlay2 says it; the others do not, or differently.
fn root_directory(driver: DriverData) -> Option<String> {
    let merged = driver.data.into_iter().find_map(|(name, value)| (name == "MergedDir").then_some(value))?;
    merged.starts_with('/').then(|| cut(merged, MAX_TEXT))
}

fn mount(point: MountPoint) -> Mount {
    let source = point.source.filter(|source| !source.is_empty()).or(point.name);
    let text = |text: Option<String>| cut(text.unwrap_or_default(), MAX_TEXT);
    Mount {
        source: text(source),
        dest: text(point.destination),
        mode: text(point.mode),
        rdwr: point.rw.unwrap_or(false),
        propagation: text(point.propagation),
    }
}

/// Nanoseconds since the epoch of an RFC 3339 time; 0 for nonsense and for Docker's "never" (year 1).
pub(crate) fn nanoseconds(text: &str) -> u64 {
    text.parse::<jiff::Timestamp>().ok().and_then(|time| u64::try_from(time.as_nanosecond()).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "5995a1624a299e468bd4b81f46ddd2df6c7d9a6cd6ef9fcbb70ccbe1d817c2a0";
    const IMAGE: &str = "237e823a188e00d6e310e7c46d8b0b99a03bf292229816ce13971d170a84bf99";

    fn names(tags: &[&str], digests: &[&str]) -> ImageNames {
        let answer = json!({ "RepoTags": tags, "RepoDigests": digests });
        ImageNames::new(serde_json::from_value(answer).unwrap())
    }

    fn read(answer: serde_json::Value, names: &ImageNames) -> Option<Container> {
        from_inspect(serde_json::from_value(answer).unwrap(), names)
    }

    fn with_image(image: &str, names: &ImageNames) -> Container {
        let answer = json!({ "Id": ID, "Image": format!("sha256:{IMAGE}"), "Config": { "Image": image } });
        read(answer, names).unwrap()
    }

    #[test]
    fn every_field_is_taken() {
        let answer = json!({
            "Id": ID, "Name": "/web", "Image": format!("sha256:{IMAGE}"),
            "State": { "Pid": 3582, "StartedAt": "2026-11-23T22:37:50.247027981Z", "Running": true },
            "HostConfig": { "Privileged": true, "PidMode": "host", "NetworkMode": "host", "IpcMode": "host" },
            "Config": { "Image": "reg.example:5000/team/web:1.2", "Labels": { "a": "b" } },
            "GraphDriver": { "Name": "overlay2", "Data": { "LowerDir": "/l", "MergedDir": "/var/lib/docker/m" } },
            "Mounts": [
                { "Type": "bind", "Source": "/etc", "Destination": "/host", "Mode": "z", "RW": true, "Propagation": "rprivate" },
                { "Type": "volume", "Name": "data", "Source": "", "Destination": "/data", "RW": false }
            ],
            "NetworkSettings": { "Networks": { "zz": { "IPAddress": "10.0.0.9" }, "aa": { "IPAddress": "" } } }
        });
        let container = read(answer, &names(&[], &["reg.example:5000/team/web@sha256:77"])).unwrap();
        let expected = Container {
            id: ID.into(),
            runtime: "docker".into(),
            name: "web".into(),
            image: "reg.example:5000/team/web:1.2".into(),
            repository: "reg.example:5000/team/web".into(),
            tag: "1.2".into(),
            digest: "sha256:77".into(),
            image_id: IMAGE.into(),
            privileged: true,
            host_pid: true,
            host_network: true,
            host_ipc: true,
            ip: "10.0.0.9".into(),
            rootfs: "/var/lib/docker/m".into(),
            mounts: vec![
                Mount {
                    source: "/etc".into(),
                    dest: "/host".into(),
                    mode: "z".into(),
                    rdwr: true,
                    propagation: "rprivate".into(),
                },
                Mount { source: "data".into(), dest: "/data".into(), ..Mount::default() },
            ],
            labels: [("a".to_owned(), "b".to_owned())].into(),
            started_ns: 1_795_473_470_247_027_981,
            pid: 3582,
            pod: tw_model::container::Pod::default(),
            complete: true,
        };
        assert_eq!(container, expected);
    }

    #[test]
    fn images_are_named_as_people_know_them() {
        let none = ImageNames::default();
        let parts = |container: Container| (container.image, container.repository, container.tag, container.digest);
        let owned = |a: &str, b: &str, c: &str, d: &str| (a.to_owned(), b.to_owned(), c.to_owned(), d.to_owned());
        assert_eq!(parts(with_image("nginx", &none)), owned("nginx", "nginx", "latest", ""));
        let pinned = with_image("nginx@sha256:ab", &none);
        assert_eq!(parts(pinned), owned("nginx@sha256:ab", "nginx", "", "sha256:ab"));
        let known = names(&["nginx:1", "other:2"], &["other@sha256:01", "nginx@sha256:02"]);
        assert_eq!(with_image("docker.io/library/nginx:1", &known).digest, "sha256:02");
        assert_eq!(with_image("unrelated:1", &known).digest, "sha256:01");
        let by_id = format!("sha256:{IMAGE}");
        assert_eq!(parts(with_image(&by_id, &known)), owned("nginx:1", "nginx", "1", "sha256:02"));
        assert_eq!(with_image(&IMAGE[..12], &known).image, "nginx:1");
        assert_eq!(parts(with_image(&by_id, &none)), owned(&by_id, "", "", ""));
        assert_eq!(with_image("cafe", &known).repository, "cafe", "hexadecimal, but not this image's id");
        assert_eq!(parts(with_image("", &none)), owned("", "", "", ""));
    }

    #[test]
    fn nonsense_is_cut_or_refused() {
        let none = ImageNames::default();
        assert!(read(json!({}), &none).is_none());
        assert!(read(json!({ "Id": "../../etc" }), &none).is_none());
        assert!(read(json!({ "Id": format!("{}g", &ID[1..]) }), &none).is_none());
        let labels: serde_json::Map<String, _> =
            (0..1000).map(|n| (format!("{n:04}"), json!("\u{20ac}".repeat(5000)))).collect();
        let answer = json!({
            "Id": ID, "Name": "\u{20ac}".repeat(1000), "State": { "Pid": -1, "StartedAt": "yesterday" },
            "Config": { "Labels": labels }
        });
        let container = read(answer, &none).unwrap();
        assert_eq!((container.pid, container.started_ns), (0, 0));
        assert!(container.name.len() <= MAX_NAME && !container.labels.is_empty());
        assert!(container.labels.values().all(|value| value.len() <= MAX_TEXT));
        assert_eq!(nanoseconds("0001-01-01T00:00:00Z"), 0);
    }

    #[test]
    fn the_texts_of_a_container_are_bounded_as_a_whole_and_what_it_is_stays() {
        let mut labels: serde_json::Map<String, _> =
            (0..1000).map(|n| (format!("a{n:04}"), json!("x".repeat(4000)))).collect();
        labels.insert("io.kubernetes.pod.name".into(), json!("web-1"));
        let mut points = vec![json!({ "Source": "x".repeat(4000), "Destination": "y".repeat(4000) }); 300];
        points.insert(200, json!({ "Source": "/etc", "Destination": "/host" }));
        let answer = json!({
            "Id": ID, "Name": "n".repeat(9000), "Image": "i".repeat(9000), "Mounts": points,
            "Config": { "Image": "r".repeat(9000), "Labels": labels }
        });
        let container = read(answer, &names(&[], &[&format!("r@{}", "d".repeat(9000))])).unwrap();
        assert_eq!(container.labels["io.kubernetes.pod.name"], "web-1");
        assert!(container.mounts.iter().any(|mount| mount.dest == "/host"));
        let size = serde_json::to_vec(&container).unwrap().len();
        assert!((40 << 10..64 << 10).contains(&size), "{size} bytes");
    }

    #[test]
    fn many_small_labels_are_bounded_in_number() {
        let labels: serde_json::Map<String, _> = (0..1000).map(|n| (format!("{n:04}"), json!("v"))).collect();
        let container = read(json!({ "Id": ID, "Config": { "Labels": labels } }), &ImageNames::default()).unwrap();
        assert_eq!(container.labels.len(), tw_model::container::MAX_LABELS);
        assert!(container.labels.contains_key("0255"));
    }

    #[test]
    fn an_event_gives_name_and_image() {
        let actor = json!({ "ID": ID, "Attributes": { "image": "nginx:1", "name": "web", "label": "x" } });
        let container = from_event(&serde_json::from_value(actor).unwrap()).unwrap();
        assert_eq!((&*container.name, &*container.repository, &*container.tag), ("web", "nginx", "1"));
        assert!(!container.complete);
        assert!(from_event(&EventActor::default()).is_none());
    }
}
