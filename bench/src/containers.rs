//! Many containers that do nothing, made by runc alone of one busybox: cheap enough for a thousand. All are gone when this
//! is dropped.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::agent::scratch;
use crate::stop;

/// How many are made or removed at once.
const AT_ONCE: usize = 4;

/// The containers that run.
pub struct Containers {
    folder: PathBuf,
    spec: Value,
    /// Names of those that were begun.
    names: Mutex<Vec<String>>,
}

impl Containers {
    /// None yet.
    pub fn new() -> anyhow::Result<Self> {
        let folder = scratch()?;
        let mut containers = Self { folder, spec: Value::Null, names: Mutex::default() };
        let bin = containers.folder.join("rootfs/bin");
        std::fs::create_dir_all(&bin)?;
        let copied = std::fs::copy("/bin/busybox", bin.join("busybox"));
        copied.context("busybox-static is missing: scripts/setup bench installs it")?;
        std::os::unix::fs::symlink("busybox", bin.join("sleep"))?;
        runc(Command::new("runc").arg("spec").current_dir(&containers.folder))?;
        let text = std::fs::read(containers.folder.join("config.json"))?;
        let mut spec: Value = serde_json::from_slice(&text)?;
        spec["process"]["terminal"] = false.into();
        spec["process"]["args"] = json!(["/bin/sleep", "100000"]);
        // Not every host lets them be raised.
        spec["process"]["rlimits"] = json!([]);
        spec["root"] = json!({ "path": containers.folder.join("rootfs"), "readonly": true });
        spec["annotations"] = json!({ "org.opencontainers.image.ref.name": "example/idle:1", "bench": "yes" });
        if let Some(namespaces) = spec["linux"]["namespaces"].as_array_mut() {
            // A thousand networks would be measured, too.
            namespaces.retain(|namespace| namespace["type"] != "network");
        }
        containers.spec = spec;
        Ok(containers)
    }

    /// Starts more until there are `count`.
    pub fn grow(&self, count: usize) -> anyhow::Result<()> {
        let next = AtomicUsize::new(self.names.lock().unwrap_or_else(PoisonError::into_inner).len());
        std::thread::scope(|scope| {
            let worker = || -> anyhow::Result<()> {
                loop {
                    stop::check()?;
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return Ok(());
                    }
                    eprint!("\rcontainers: {:<6}", number + 1);
                    self.start(number)?;
                }
            };
            let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
        })
    }

    fn start(&self, number: usize) -> anyhow::Result<()> {
        let name = format!("tidewatch-bench-{}-{number}", std::process::id());
        let bundle = self.folder.join(&name);
        std::fs::create_dir(&bundle)?;
        let mut spec = self.spec.clone();
        spec["hostname"] = name.as_str().into();
        spec["linux"]["cgroupsPath"] = format!("/tidewatch-bench/{name}").into();
        std::fs::write(bundle.join("config.json"), spec.to_string())?;
        self.names.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
        runc(Command::new("runc").args(["run", "-d", &name]).current_dir(&bundle))
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        let names = std::mem::take(&mut *self.names.lock().unwrap_or_else(PoisonError::into_inner));
        eprint!("\rremoving {} containers ", names.len());
        std::thread::scope(|scope| {
            for names in names.chunks(names.len().div_ceil(AT_ONCE).max(1)) {
                scope.spawn(move || {
                    for name in names {
                        let _ = runc(Command::new("runc").args(["delete", "-f", name]));
                    }
                });
            }
        });
        for root in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            // Of every hierarchy; what is not there or not empty stays.
            let _ = std::fs::remove_dir(root.path().join("tidewatch-bench"));
        }
        let _ = std::fs::remove_dir("/sys/fs/cgroup/tidewatch-bench");
        let _ = std::fs::remove_dir_all(&self.folder);
        eprintln!("\r{:<40}", "");
    }
}

/// Runs it to its end. What it starts keeps nothing of ours open.
fn runc(command: &mut Command) -> anyhow::Result<()> {
    let log = tempfile()?;
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.try_clone()?).status();
    let status = status.context("runc is missing: scripts/setup bench installs it")?;
    let said = || {
        use std::io::{Read as _, Seek as _};
        let (mut text, mut log) = (String::new(), &log);
        let _ = log.rewind().and_then(|()| log.read_to_string(&mut text));
        text
    };
    anyhow::ensure!(status.success(), "runc: {}", said());
    Ok(())
}

/// A file without a name: a pipe would be held open by the container.
fn tempfile() -> anyhow::Result<std::fs::File> {
    Ok(rustix::fs::memfd_create(c"runc", rustix::fs::MemfdFlags::CLOEXEC)?.into())
}
