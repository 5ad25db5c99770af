//! The Docker watcher against a real Docker Engine. Skipped, with the reason, where none answers.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tw_enrich::{Api, Cgroups, RuntimeUpdate, RuntimeWatcher, UserDb, docker, procfs};
use tw_model::Container;

const WAIT: Duration = Duration::from_secs(15);

/// Runs `docker` and gives what it printed; panics with its complaint if it failed.
fn cli(args: &[&str]) -> String {
    let out = Command::new("docker").args(args).stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

/// An image with nothing but busybox, and all containers of one test; both go when this value goes.
struct Rig {
    name: String,
}

impl Rig {
    /// `None`, with the reason printed, if the test cannot run here.
    fn new(test: &str) -> Option<Self> {
        let answer = Command::new("timeout").args(["10", "docker", "info"]).output();
        if !answer.is_ok_and(|answer| answer.status.success()) {
            eprintln!("skipped: no Docker daemon answers");
            return None;
        }
        let busybox = Path::new("/bin/busybox");
        if !busybox.exists() {
            eprintln!("skipped: no /bin/busybox (package busybox-static)");
            return None;
        }
        let rig = Self { name: format!("tw-enrich-{test}-{}", std::process::id()) };
        let folder = std::env::temp_dir().join(&rig.name);
        for sub in ["bin", "etc", "tmp"] {
            std::fs::create_dir_all(folder.join(sub)).unwrap();
        }
        std::fs::copy(busybox, folder.join("bin/busybox")).unwrap();
        for applet in ["sh", "sleep", "true"] {
            std::os::unix::fs::symlink("busybox", folder.join("bin").join(applet)).unwrap();
        }
        std::fs::write(folder.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nboat:x:4711:4711::/home/boat:/bin/sh\n")
            .unwrap();
        let tar = folder.with_extension("tar");
        let made = Command::new("tar").arg("-C").arg(&folder).arg("-cf").arg(&tar).arg(".").status();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(made.unwrap().success());
        cli(&["import", tar.to_str().unwrap(), &rig.image()]);
        std::fs::remove_file(tar).unwrap();
        Some(rig)
    }

    fn image(&self) -> String {
        format!("{}:v1", self.name)
    }

    /// `docker VERB --name … --network none --pull=never FLAGS IMAGE COMMAND`.
    fn docker(&self, verb: &str, container: &str, flags: &[&str], command: &[&str]) -> String {
        let (name, image) = (self.container(container), self.image());
        let mut args = vec![verb, "--name", &name, "--network", "none", "--pull=never"];
        args.extend_from_slice(flags);
        args.push(&image);
        args.extend_from_slice(command);
        cli(&args)
    }

    fn container(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let quiet =
            |args: &[&str]| Command::new("docker").args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
        let list = Command::new("docker").args(["ps", "-aq", "--filter", &format!("name={}", self.name)]).output();
        for id in String::from_utf8_lossy(&list.map(|out| out.stdout).unwrap_or_default()).lines() {
            let _ = quiet(&["rm", "-f", id]);
        }
        let _ = quiet(&["rmi", "-f", &self.image()]);
    }
}

/// Starts a watcher and waits until it reached the daemon.
fn watch() -> (RuntimeWatcher, Receiver<RuntimeUpdate>) {
    let (watcher, updates) = RuntimeWatcher::start(Api::Docker, PathBuf::from(docker::DEFAULT_SOCKET)).unwrap();
    match updates.recv_timeout(WAIT).unwrap() {
        RuntimeUpdate::Available { version } => assert!(!version.is_empty()),
        other => panic!("{other:?}"),
    }
    (watcher, updates)
}

/// Waits for the first update that `pick` takes; other containers of the host pass by.
fn wait<T>(updates: &Receiver<RuntimeUpdate>, mut pick: impl FnMut(RuntimeUpdate) -> Option<T>) -> T {
    let end = Instant::now() + WAIT;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if let Some(found) = pick(updates.recv_timeout(left).unwrap()) {
            return found;
        }
    }
}

fn wait_container(updates: &Receiver<RuntimeUpdate>, want: impl Fn(&Container) -> bool) -> Container {
    wait(updates, |update| match update {
        RuntimeUpdate::Container(container) if want(&container) => Some(*container),
        _ => None,
    })
}

#[test]
fn a_created_container_is_known_before_it_runs() {
    let Some(rig) = Rig::new("create") else { return };
    let (_watcher, updates) = watch();
    let flags = ["--label", "team=tide", "-v", "/etc:/host:ro", "--pid", "host"];
    let id = rig.docker("create", "a", &flags, &["/bin/sleep", "60"]);
    let first = wait_container(&updates, |container| container.id == id);
    assert_eq!((&first.name, &first.image), (&rig.container("a"), &rig.image()));
    let known = wait_container(&updates, |container| container.id == id && container.complete);
    assert_eq!((known.pid, known.started_ns), (0, 0), "it did not run yet");
    assert_eq!((&known.repository, &*known.tag, &*known.runtime), (&rig.name, "v1", "docker"));
    assert_eq!((known.image_id.len(), known.host_pid, known.privileged), (64, true, false));
    assert_eq!(known.labels.get("team").map(String::as_str), Some("tide"));
    assert_eq!((&*known.mounts[0].source, &*known.mounts[0].dest, known.mounts[0].rdwr), ("/etc", "/host", false));

    cli(&["start", &id]);
    let running = wait_container(&updates, |container| container.id == id && container.pid != 0);
    assert!(running.started_ns > 1_700_000_000_000_000_000);
    let renamed = rig.container("b");
    cli(&["rename", &id, &renamed]);
    wait_container(&updates, |container| container.name == renamed);
    cli(&["rm", "-f", &id]);
    wait(&updates, |update| (update == RuntimeUpdate::Gone(id.clone())).then_some(()));
}

#[test]
fn a_short_life_leaves_name_and_image() {
    let Some(rig) = Rig::new("short") else { return };
    let (_watcher, updates) = watch();
    let mut known_at_start = 0;
    for n in 0..5 {
        rig.docker("run", &format!("r{n}"), &["--rm"], &["true"]);
        let name = rig.container(&format!("r{n}"));
        let mut id = String::new();
        let mut complete_before_start = false;
        wait(&updates, |update| match update {
            RuntimeUpdate::Container(container) if container.name == name => {
                assert_eq!((&container.image, &container.repository), (&rig.image(), &rig.name));
                complete_before_start |= container.complete && container.started_ns == 0;
                id = container.id;
                None
            }
            RuntimeUpdate::Gone(gone) => (gone == id).then_some(()),
            _ => None,
        });
        known_at_start += u32::from(complete_before_start);
    }
    eprintln!("complete before the start in {known_at_start} of 5 runs");
}

#[test]
fn many_at_once_are_all_told() {
    let Some(rig) = Rig::new("many") else { return };
    let mut missing: BTreeSet<String> =
        (0..12).map(|n| rig.docker("create", &format!("m{n}"), &[], &["true"])).collect();
    let (_watcher, updates) = watch();
    wait(&updates, |update| {
        if let RuntimeUpdate::Container(container) = update
            && container.complete
        {
            missing.remove(&container.id);
        }
        missing.is_empty().then_some(())
    });
}

#[test]
fn a_running_container_is_found_at_start_and_on_request() {
    let Some(rig) = Rig::new("list") else { return };
    let id = rig.docker("run", "c", &["-d", "--user", "4711", "-w", "/tmp"], &["/bin/sleep", "60"]);
    let (watcher, updates) = watch();
    let listed = wait_container(&updates, |container| container.id == id && container.complete);
    assert_eq!((&listed.name, listed.pid != 0), (&rig.container("c"), true));
    assert!(watcher.request(&id[..12]));
    assert_eq!(wait_container(&updates, |container| container.id == id), listed);
    let absent = "0".repeat(64);
    assert!(watcher.request(&absent));
    wait(&updates, |update| (update == RuntimeUpdate::NoMore(absent.clone())).then_some(()));

    // The other modules see the same container through the kernel.
    let process = procfs::read_process(Path::new("/proc"), listed.pid).unwrap();
    assert_eq!((&*process.image.exepath, &*process.cwd, process.vpid), (&b"/bin/busybox"[..], &b"/tmp"[..], 1));
    assert_eq!((&*process.comm, &*process.cmdline), (&b"sleep"[..], &b"sleep 60"[..]));
    let mut cgroups = Cgroups::new();
    if cgroups.mount().is_some() {
        assert_eq!(cgroups.lookup(process.cgroup_id), Some(id.clone()));
    }
    let names = UserDb::for_process(Path::new("/proc"), listed.pid, &UserDb::host()).names(4711, 0, u32::MAX);
    assert_eq!((&*names.user, &*names.home, &*names.group), ("boat", "/home/boat", "root"));

    let started = Instant::now();
    drop(watcher);
    assert!(started.elapsed() < Duration::from_secs(1));
}

/// A socket in front of the daemon's, to take away and bring back without touching the daemon.
struct Proxy {
    socket: PathBuf,
    streams: Arc<Mutex<Vec<UnixStream>>>,
}

impl Proxy {
    fn open(socket: &Path) -> Self {
        let streams = Arc::new(Mutex::new(Vec::new()));
        let (listener, kept) = (UnixListener::bind(socket).unwrap(), Arc::clone(&streams));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let daemon = UnixStream::connect(docker::DEFAULT_SOCKET).unwrap();
                for (from, to) in [(&client, &daemon), (&daemon, &client)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                kept.lock().unwrap().extend([client, daemon]);
            }
        });
        Self { socket: socket.into(), streams }
    }

    fn close(&self) {
        std::fs::remove_file(&self.socket).unwrap();
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

#[test]
fn a_daemon_that_comes_back_is_told_and_what_went_meanwhile_too() {
    let Some(rig) = Rig::new("back") else { return };
    let socket = std::env::temp_dir().join(format!("{}.sock", rig.name));
    let stays = rig.docker("create", "stays", &[], &["true"]);
    let goes = rig.docker("create", "goes", &[], &["true"]);
    let proxy = Proxy::open(&socket);
    let (_watcher, updates) = RuntimeWatcher::start(Api::Docker, socket.clone()).unwrap();
    let mut missing = BTreeSet::from([stays.clone(), goes.clone()]);
    wait(&updates, |update| {
        if let RuntimeUpdate::Container(container) = update {
            missing.remove(&container.id);
        }
        missing.is_empty().then_some(())
    });
    proxy.close();
    wait(&updates, |update| matches!(update, RuntimeUpdate::Unavailable(_) | RuntimeUpdate::Absent(_)).then_some(()));
    cli(&["rm", &goes]);
    let proxy = Proxy::open(&socket);
    wait(&updates, |update| matches!(update, RuntimeUpdate::Available { .. }).then_some(()));
    let (mut gone, mut told) = (false, false);
    wait(&updates, |update| {
        gone |= update == RuntimeUpdate::Gone(goes.clone());
        told |= matches!(update, RuntimeUpdate::Container(container) if container.id == stays && container.complete);
        (gone && told).then_some(())
    });
    proxy.close();
}
