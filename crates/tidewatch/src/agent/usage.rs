//! What containers use: whom to measure, and what came of it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tw_enrich::World;
use tw_model::raw::COMM;
use tw_model::status::ResourceStatus;
use tw_sensor::resources::{ResourceOptions, Resources, Target};

/// The measuring of containers, if it is wanted.
pub struct Meter {
    resources: Resources,
    /// State of the containers that it was last told.
    told: Option<u64>,
}

impl Meter {
    /// Starts to measure every `seconds`; `None` if that is 0, which means never.
    ///
    /// # Errors
    /// If its thread cannot be started.
    pub fn start(seconds: u64) -> std::io::Result<Option<Self>> {
        if seconds == 0 {
            return Ok(None);
        }
        let options = ResourceOptions { interval: Duration::from_secs(seconds), proc_root: "/proc".into() };
        Ok(Some(Self { resources: Resources::start(options)?, told: None }))
    }

    /// Says which containers there are, if that changed.
    pub fn look_after(&mut self, world: &World) {
        let version = world.containers_version();
        if self.told == Some(version) {
            return;
        }
        self.told = Some(version);
        self.resources.watch(targets(world));
    }

    /// The next measurement: a record in words.
    pub fn next(&self) -> Option<Vec<u64>> {
        self.resources.next()
    }

    /// How it goes.
    pub fn status(&self) -> ResourceStatus {
        let counts = self.resources.counts();
        ResourceStatus {
            containers: counts.containers.load(Ordering::Relaxed),
            measured: counts.measured.load(Ordering::Relaxed),
            dropped: counts.dropped.load(Ordering::Relaxed),
            left_out: counts.left_out.load(Ordering::Relaxed),
            interval_ms: counts.interval_ns.load(Ordering::Relaxed) / 1_000_000,
            round_us: counts.round_ns.load(Ordering::Relaxed) / 1000,
        }
    }
}

/// Running containers whose first process is known.
fn targets(world: &World) -> Vec<Target> {
    let running = world.containers().filter(|container| container.pid != 0);
    let known = running.filter_map(|container| {
        let process = world.processes().by_pid(container.pid).filter(|process| process.exit_ns.is_none())?;
        let mut comm = [0; COMM];
        let name = &process.comm[..process.comm.len().min(COMM - 1)];
        comm[..name.len()].copy_from_slice(name);
        Some(Target {
            id: container.id.clone(),
            cgroup: process.cgroup_id,
            pid: container.pid,
            start_ns: process.key.start_ns,
            comm,
            uid: process.cred.uid,
            gid: process.cred.gid,
            own_network: !container.host_network,
        })
    });
    known.collect()
}
