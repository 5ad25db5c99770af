//! Bundles of every layout, early, late, and made by somebody who means harm.

use std::path::Path;
use std::time::Instant;

use serde_json::json;
use tw_model::Container;

use super::*;
use crate::scratch::Scratch;

const WAIT: Duration = Duration::from_secs(5);
const ID: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn start(root: &Path) -> (BundleReader, Receiver<RuntimeUpdate>) {
    BundleReader::start(vec![root.to_owned()], Some("/sys/fs/cgroup/unified".into())).unwrap()
}

/// Waits for the first word about a container.
fn container(updates: &Receiver<RuntimeUpdate>, id: &str) -> Container {
    wait(updates, |update| match update {
        RuntimeUpdate::Container(container) if container.id == id => Some(*container),
        _ => None,
    })
}

fn wait<T>(updates: &Receiver<RuntimeUpdate>, mut wanted: impl FnMut(RuntimeUpdate) -> Option<T>) -> T {
    let until = Instant::now() + WAIT;
    loop {
        let update = updates.recv_timeout(until.saturating_duration_since(Instant::now())).expect("in time");
        if let Some(found) = wanted(update) {
            return found;
        }
    }
}

#[test]
fn containers_of_every_layout_are_read_at_the_start() {
    let scratch = Scratch::new("layouts");
    let root = scratch.path().join("docker");
    let file = |path: String, value: serde_json::Value| scratch.write(&format!("docker/{path}"), value.to_string());
    file(
        "io.containerd.runtime.v2.task/default/web/config.json".into(),
        json!({ "annotations": { "a": "b" }, "linux": { "cgroupsPath": "/default/web" } }),
    );
    scratch.write("docker/io.containerd.runtime.v2.task/default/web/init.pid", "42\n");
    file("io.containerd.runtime.v2.task/moby/hidden/config.json".into(), json!({}));
    file("bundle/config.json".into(), json!({ "annotations": { "org.opencontainers.image.ref.name": "r/i:1" } }));
    let bundle = format!("bundle={}", root.join("bundle").display());
    file(
        "plain/state.json".into(),
        json!({ "init_process_pid": 7, "created": "2026-11-23T22:37:50Z", "config": { "labels": ["x=y", bundle] },
                "cgroup_paths": { "": "/sys/fs/cgroup/unified/plain", "cpu": "/sys/fs/cgroup/cpu/else" } }),
    );
    file(
        "curly/status".into(),
        json!({ "pid": 9, "cgroup-path": "/user.slice/curly", "bundle": "/nonexistent/there", "created": "" }),
    );
    file(
        format!("vfs-containers/{ID}/userdata/config.json"),
        json!({ "annotations": { "io.container.manager": "libpod" } }),
    );
    file(
        "vfs-containers/containers.json".into(),
        json!([{ "id": ID, "names": ["pod1"], "image": "77", "metadata": "{\"image-name\":\"localhost/base:2\"}" }]),
    );
    let docker = "b".repeat(64);
    file(
        format!("containers/{docker}/config.v2.json"),
        json!({ "Name": "/shop", "Image": "sha256:12", "Config": { "Image": "shop:3", "Labels": { "l": "m" } },
                "MountPoints": { "/data": { "Source": "/srv", "RW": true, "Propagation": "rprivate" } } }),
    );
    file(format!("containers/{docker}/hostconfig.json"), json!({ "PidMode": "host", "Privileged": true }));
    let (reader, updates) = start(&root);
    let mut found = std::collections::BTreeMap::new();
    let mut paths = std::collections::BTreeMap::new();
    wait(&updates, |update| {
        match update {
            RuntimeUpdate::Container(container) => drop(found.insert(container.id.clone(), *container)),
            RuntimeUpdate::Path { path, id } => drop(paths.insert(path, id)),
            RuntimeUpdate::Available { .. } => return Some(()),
            _ => {}
        }
        None
    });
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(names, [ID, &docker, "curly", "plain", "web"]);
    let of = |id: &str| {
        let c = &found[id];
        (c.runtime.as_str(), c.name.as_str(), c.image.as_str(), c.pid)
    };
    assert_eq!(of("web"), ("containerd", "web", "", 42));
    assert_eq!(of("plain"), ("runc", "plain", "r/i:1", 7));
    assert_eq!(of("curly"), ("crun", "curly", "/nonexistent/there", 9));
    assert_eq!(of(ID), ("podman", "pod1", "localhost/base:2", 0));
    assert_eq!(of(&docker), ("docker", "shop", "shop:3", 0));
    assert_eq!(found["plain"].started_ns, 1_795_473_470_000_000_000);
    let shop = &found[&docker];
    assert!(shop.privileged && shop.host_pid && !shop.host_ipc && shop.mounts[0].rdwr && shop.labels["l"] == "m");
    for (path, id) in [("/default/web", "web"), ("/plain", "plain"), ("/user.slice/curly", "curly")] {
        assert_eq!(paths.get(path).map(String::as_str), Some(id), "{path}");
    }
    drop(reader);
}

#[test]
fn what_comes_later_is_told_by_itself_and_what_goes_too() {
    let scratch = Scratch::new("later");
    let root = scratch.path().join("run/runc");
    let (reader, updates) = start(&root);
    wait(&updates, |update| matches!(update, RuntimeUpdate::Available { .. }).then_some(()));
    // The root itself comes with the first container, and the state behind its folder.
    std::fs::create_dir_all(root.join("one")).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    scratch.write("run/runc/one/state.json", "{\"init_process_pid\": 5, \"cgroup_pa");
    std::thread::sleep(Duration::from_millis(20));
    scratch.write("run/runc/one/state.json", "{\"init_process_pid\": 5}");
    assert_eq!(container(&updates, "one").pid, 5);
    std::fs::remove_dir_all(root.join("one")).unwrap();
    wait(&updates, |update| (update == RuntimeUpdate::Gone("one".into())).then_some(()));
    scratch.write("run/runc/one/state.json", "{\"init_process_pid\": 6}");
    assert_eq!(container(&updates, "one").pid, 6, "the same name again");
    drop(reader);
}

#[test]
fn questions_have_an_end_whatever_is_there() {
    let scratch = Scratch::new("questions");
    scratch.write(
        "io.containerd.runtime.v2.task/default/web/config.json",
        "{\"linux\":{\"cgroupsPath\":\"/default/web\"}}",
    );
    scratch.write(
        "runcs/state.json",
        "{\"cgroup_paths\":{\"\":\"/sys/fs/cgroup/unified/system.slice/runc-runcs.scope\"}}",
    );
    let (reader, updates) = start(scratch.path());
    wait(&updates, |update| matches!(update, RuntimeUpdate::Available { .. }).then_some(()));
    let end = |wanted: RuntimeUpdate| wait(&updates, |update| (update == wanted).then_some(()));
    assert!(reader.request("absent"));
    end(RuntimeUpdate::NoMore("absent".into()));
    assert!(!reader.request("../../etc") && !reader.request("") && !reader.request(&"a".repeat(300)));
    for (cgroup, path, id) in [
        (7, "/default/web/child", Some("web")),
        (8, "/system.slice/runc-runcs.scope", Some("runcs")),
        (9, "/elsewhere/web", None),
        (10, "/", None),
        (11, "", None),
        (12, "/../../etc/passwd", None),
    ] {
        assert!(reader.look(cgroup, path));
        let mut told = None;
        wait(&updates, |update| match update {
            RuntimeUpdate::Container(container) => {
                told = Some(container.id);
                None
            }
            update => (update == RuntimeUpdate::Looked { cgroup }).then_some(()),
        });
        assert_eq!(told.as_deref(), id, "{path}");
    }
}

#[test]
fn what_is_no_plain_file_or_makes_no_sense_is_passed_over() {
    let scratch = Scratch::new("hostile");
    let bundle = |id: &str| format!("io.containerd.runtime.v2.task/default/{id}/config.json");
    scratch.write(&bundle("large"), vec![b' '; file::MAX_FILE + 1]);
    scratch.write(&bundle("deep"), "[".repeat(100_000));
    scratch.write(&bundle("text"), "\"text\"");
    scratch.link(&bundle("link"), "/etc/hostname");
    scratch.write(&bundle("pipe/x"), "");
    let pipe = scratch.path().join("io.containerd.runtime.v2.task/default/fifo/config.json");
    std::fs::create_dir_all(pipe.parent().unwrap()).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    scratch.write(
        "x/state.json",
        "{\"config\":{\"labels\":[1,\"bundle=relative\",\"bundle\"]},\"cgroup_paths\":[],\"created\":5}",
    );
    scratch.write("y/status", "{\"bundle\":\"/proc\",\"cgroup-path\":\"/../../..\",\"pid\":-1}");
    scratch.write(&bundle("good"), "{}");
    let started = Instant::now();
    let (reader, updates) = start(scratch.path());
    let mut found = Vec::new();
    wait(&updates, |update| match update {
        RuntimeUpdate::Container(container) => {
            found.push(container.id);
            None
        }
        update => matches!(update, RuntimeUpdate::Available { .. }).then_some(()),
    });
    found.sort();
    assert_eq!(found, ["good", "x", "y"]);
    assert!(started.elapsed() < WAIT);
    for id in ["large", "deep", "text", "link", "pipe", "fifo"] {
        assert!(reader.request(id));
        wait(&updates, |update| (update == RuntimeUpdate::NoMore(id.into())).then_some(()));
    }
}

#[test]
fn a_reader_that_nobody_listens_to_stops() {
    let scratch = Scratch::new("full");
    for n in 0..2 * UPDATE_QUEUE {
        scratch.write(&format!("c{n}/state.json"), "{}");
    }
    let (reader, updates) = start(scratch.path());
    std::thread::sleep(Duration::from_millis(100));
    let started = Instant::now();
    drop(reader);
    assert!(started.elapsed() < Duration::from_secs(1), "its queue is full");
    drop(updates);
}

#[test]
fn a_bundle_that_somebody_runs_is_read_wherever_it_lies_and_goes_with_its_state() {
    let scratch = Scratch::new("announced");
    scratch.write("srv/app/config.json", "{\"annotations\":{\"tide\":\"low\"}}");
    scratch.write("x/moby/hidden/config.json", "{}");
    std::fs::create_dir_all(scratch.path().join("roots")).unwrap();
    let (reader, updates) = start(&scratch.path().join("roots"));
    wait(&updates, |update| matches!(update, RuntimeUpdate::Available { .. }).then_some(()));
    let announce = |id: &str, bundle: &str| {
        let (bundle, root) = (scratch.path().join(bundle), scratch.path().join("state"));
        reader.announce(Announced { id: id.into(), runtime: "runc", bundle, root })
    };
    assert!(announce("web", "srv/app") && !announce("../web", "srv/app"));
    let path =
        |update| matches!(update, RuntimeUpdate::Path { path, id } if path == "/web" && id == "web").then_some(());
    wait(&updates, path);
    let found = container(&updates, "web");
    let image = scratch.path().join("srv/app").to_string_lossy().into_owned();
    assert_eq!((found.runtime.as_str(), found.image, found.labels["tide"].as_str()), ("runc", image, "low"));
    for (id, bundle) in [("hidden", "x/moby/hidden"), ("absent", "nowhere")] {
        assert!(announce(id, bundle));
        wait(&updates, |update| (update == RuntimeUpdate::NoMore(id.into())).then_some(()));
    }
    wait(&updates, |update| (update == RuntimeUpdate::Gone("web".into())).then_some(()));
}

/// A reader without its thread, and what it tells.
fn by_hand(root: &Path) -> (Reader, Receiver<RuntimeUpdate>, SyncSender<Ask>) {
    let (update, updates) = sync_channel(UPDATE_QUEUE);
    let (asks, asked) = sync_channel(1);
    let reader = Reader {
        roots: vec![root.to_owned()],
        mount: None,
        inotify: Some(inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap()),
        watches: HashMap::new(),
        folders: Vec::new(),
        half: Vec::new(),
        told: HashMap::new(),
        announced: Vec::new(),
        update,
        asked,
        bell: Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()),
        stop: Arc::default(),
    };
    (reader, updates, asks)
}

#[test]
fn what_went_while_the_kernel_lost_count_is_told_as_gone() {
    let scratch = Scratch::new("overflow");
    for id in ["stays", "goes"] {
        scratch.write(&format!("{id}/state.json"), "{}");
    }
    let (mut reader, updates, _asks) = by_hand(scratch.path());
    assert!(reader.look_around().is_ok());
    updates.try_iter().for_each(drop);
    let most: usize =
        std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    for _ in 0..=most / 2 {
        // No name of a container.
        std::fs::create_dir(scratch.path().join(".x")).unwrap();
        std::fs::remove_dir(scratch.path().join(".x")).unwrap();
    }
    std::fs::remove_dir_all(scratch.path().join("goes")).unwrap();
    // So many are taken at a time.
    for _ in 0..=most / MAX_TOLD + 1 {
        assert!(reader.changes().is_ok());
    }
    let told: Vec<RuntimeUpdate> = updates.try_iter().collect();
    assert!(told.contains(&RuntimeUpdate::Gone("goes".into())), "{told:?}");
    assert!(!told.contains(&RuntimeUpdate::Gone("stays".into())), "{told:?}");
}

#[test]
fn a_folder_that_is_made_again_is_watched_again() {
    let scratch = Scratch::new("remade");
    let folder = "io.containerd.runtime.v2.task/default";
    scratch.write(&format!("{folder}/one/config.json"), "{}");
    let (mut reader, updates, _asks) = by_hand(scratch.path());
    assert!(reader.look_around().is_ok());
    std::fs::remove_dir_all(scratch.path().join(folder)).unwrap();
    // Both between two looks.
    scratch.write(&format!("{folder}/two/config.json"), "{}");
    assert!(reader.changes().is_ok() && reader.look_around().is_ok());
    container(&updates, "two");
    scratch.write(&format!("{folder}/three/config.json"), "{}");
    assert!(reader.changes().is_ok());
    container(&updates, "three");
}
