//! `run`: the supervisor. It makes the folders and sockets, starts agent and manager, and starts again what ends.
//!
//! It is small on purpose: it reads no event and no request. Either child may be killed; the other goes on, and the
//! sockets stay, since they belong to the supervisor.

mod child;
mod folders;

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sd_notify::NotifyState;
use tw_model::link::SupervisorStatus;
use tw_model::status::Problem;

use crate::agent::{Prepared, cannot_watch};
use crate::config::Config;
use crate::{sandbox, socket};
use child::{Child, End};
pub use folders::Account;

/// How often the supervisor looks.
const LOOK: Duration = Duration::from_millis(100);
/// How long a child may take to end when it is asked to.
const FAREWELL: Duration = Duration::from_secs(10);
/// After several short lives in a row, one that lasts this long ends the loop.
const LOOP: Duration = Duration::from_secs(10);

/// What the supervisor is to do.
#[derive(Debug)]
pub struct ServiceOptions {
    /// Arguments of both children, behind their verb.
    pub common: Vec<OsString>,
    /// Arguments of the agent alone.
    pub agent: Vec<OsString>,
}

/// Runs until a signal comes or the agent is done.
///
/// # Errors
/// If it cannot start: no root, folders that cannot be made, another service in the way.
pub fn run(config: &Config, options: &ServiceOptions) -> anyhow::Result<ExitCode> {
    let signals = Signals::listen()?;
    let account = folders::prepare(config)?;
    let _hold = socket::hold(&config.run_dir, "run")?;
    let agent_socket = config.agent_socket();
    let control_socket = config.control_socket();
    let for_agent = socket::bind(&agent_socket, socket::Access::Group(account.gid))?;
    let _agent_file = socket::Removed(agent_socket);
    let for_manager = socket::bind(&control_socket, socket::Access::Root)?;
    let _control_file = socket::Removed(control_socket);
    let ready = config.ready_file();
    let _ = std::fs::remove_file(&ready);
    let _ready_file = socket::Removed(ready.clone());
    let status_file = config.supervisor_file();
    let _status_file = socket::Removed(status_file.clone());
    let mut kept: Vec<_> = sandbox::SUPERVISOR.to_vec();
    // The agent chooses for itself, by the same signs.
    let mode = match Prepared::choose(config) {
        Ok(prepared) => prepared.mode(),
        Err(error) => return Ok(cannot_watch(&error)),
    };
    kept.extend(sandbox::of_agent(mode));
    sandbox::keep_capabilities(&kept)?;

    let with_verb = |verb: &str, more: &[OsString]| {
        let mut arguments = vec![OsString::from(verb)];
        arguments.extend(options.common.iter().chain(more).cloned());
        arguments
    };
    let mut supervisor = Supervisor {
        agent: Child::new("agent", with_verb("agent", &options.agent), for_agent.into(), None),
        manager: Child::new("manager", with_verb("manager", &[]), for_manager.into(), Some(account)),
        ready_file: ready,
        ready: false,
        status_file,
        told: None,
        signals,
    };
    let code = supervisor.watch();
    supervisor.stop();
    Ok(code)
}

struct Signals {
    stop: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        let signals = Self { stop: Arc::default(), reload: Arc::default() };
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&signals.stop))?;
        }
        signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::clone(&signals.reload))?;
        Ok(signals)
    }
}

struct Supervisor {
    agent: Child,
    manager: Child,
    /// The agent writes its number here when it watches.
    ready_file: PathBuf,
    ready: bool,
    status_file: PathBuf,
    told: Option<SupervisorStatus>,
    signals: Signals,
}

impl Supervisor {
    fn watch(&mut self) -> ExitCode {
        let watchdog = sd_notify::watchdog_enabled();
        let mut fed = Instant::now();
        loop {
            if self.signals.stop.load(Ordering::Relaxed) {
                tracing::debug!("stopping");
                return ExitCode::SUCCESS;
            }
            if self.signals.reload.swap(false, Ordering::Relaxed) {
                self.agent.signal(Signal::HUP);
                self.manager.signal(Signal::HUP);
            }
            // The agent first: nothing that happens now is to be missed.
            if let Some(code) = self.look_after_agent() {
                return code;
            }
            if let Some(End { says, .. }) = self.manager.look() {
                let pause = self.manager.pause();
                tracing::error!(
                    "the manager ended ({says}); it is started again in {:.1} s. Findings wait in the spool meanwhile",
                    pause.as_secs_f64()
                );
            }
            self.manager.start_if_due();
            self.note_ready();
            self.tell();
            if watchdog.is_some_and(|every| fed.elapsed() > every / 3) {
                fed = Instant::now();
                notify(&[NotifyState::Watchdog]);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The code to end with, if the agent's end is the end of all.
    fn look_after_agent(&mut self) -> Option<ExitCode> {
        if let Some(end) = self.agent.look() {
            match end.code {
                // Done: the end of its time, or nobody reads its alerts any more.
                Some(0) => return Some(ExitCode::SUCCESS),
                // It said why it cannot watch; trying again would change nothing.
                Some(code @ 1..=3) if !self.ready => return Some(ExitCode::from(code)),
                _ => {}
            }
            let pause = self.agent.pause();
            tracing::error!(
                "the agent ended ({}): nothing is watched until it is back, in {:.1} s",
                end.says,
                pause.as_secs_f64()
            );
        }
        self.agent.start_if_due();
        None
    }

    fn note_ready(&mut self) {
        if self.ready {
            return;
        }
        let said = std::fs::read_to_string(&self.ready_file).unwrap_or_default();
        if said.trim().parse() == Ok(self.agent.pid()) {
            self.ready = true;
            notify(&[NotifyState::Ready, NotifyState::Status("watching")]);
        }
    }

    /// Writes down how both are, when it changed.
    fn tell(&mut self) {
        let children = [&self.agent, &self.manager];
        let problems = children.iter().filter(|child| child.loops(LOOP)).map(|child| Problem {
            code: format!("{}-restarts", child.name),
            failed: true,
            what: format!("the {} does not stay up: {}", child.name, child.status().last_end),
            remedy: "what it said is in the log (journalctl -u tidewatch, or the standard error of `tidewatch run`)"
                .into(),
        });
        let status = SupervisorStatus {
            pid: std::process::id(),
            problems: problems.collect(),
            children: children.iter().map(|child| child.status()).collect(),
        };
        if self.told.as_ref() == Some(&status) {
            return;
        }
        if let Err(error) = write_whole(&self.status_file, &serde_json::to_vec(&status).unwrap_or_default()) {
            tracing::warn!("cannot write {}: {error}", self.status_file.display());
        }
        self.told = Some(status);
    }

    /// Ends both, the agent first. What the manager did not take any more waits in the spool for its next start.
    fn stop(&mut self) {
        notify(&[NotifyState::Stopping]);
        for child in [&mut self.agent, &mut self.manager] {
            if !child.stop(FAREWELL) {
                tracing::warn!("the {} did not end within {} s and was killed", child.name, FAREWELL.as_secs());
            }
        }
    }
}

fn notify(state: &[NotifyState<'_>]) {
    // Without a service manager there is nobody to tell.
    let _ = sd_notify::notify(state);
}

/// Writes a file so that a reader sees the old or the new one, never a part.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, bytes)?;
    // The manager reads it, whatever the mask of the supervisor is; the folder keeps others out.
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o644))?;
    std::fs::rename(&fresh, path)
}
