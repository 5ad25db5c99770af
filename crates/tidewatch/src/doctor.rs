//! `doctor`: what works on this host, how the running service is, and what would mend the rest.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anstyle::AnsiColor;
use serde_json::json;
use tw_manager::api::ProblemPage;
use tw_sensor::{EbpfSensor, Options};

mod modes;

use crate::ask::{Client, agent_status};
use crate::cli::DoctorArgs;
use crate::config::{Config, ConfigErrors};
use crate::screen::{self, print_stdout};
use modes::Ways;

/// How long all container runtimes are waited for.
const RUNTIME_PATIENCE: Duration = Duration::from_secs(3);

/// One thing that was looked at.
struct Finding {
    /// The way to watch that it is about, if it is about one.
    mode: Option<Ways>,
    what: String,
    ok: bool,
    /// Whether nothing can be watched without it.
    vital: bool,
    /// It could not be looked at, which says nothing of the host.
    unknown: bool,
    says: String,
    remedy: String,
}

impl Finding {
    fn new(what: &str, ok: bool, says: impl Into<String>, remedy: &str) -> Self {
        let (what, says, remedy) = (what.to_owned(), says.into(), remedy.to_owned());
        Self { mode: None, what, ok, vital: false, unknown: false, says, remedy }
    }

    fn vital(self) -> Self {
        Self { vital: true, ..self }
    }

    /// What failed for somebody who is not root may work for root: then nothing is known.
    fn for_root(self, root: bool) -> Self {
        if self.ok || root {
            return self;
        }
        let says = format!("not looked at, that takes root ({})", self.says);
        Self { unknown: true, vital: false, says, remedy: "sudo tidewatch doctor".to_owned(), ..self }
    }
}

/// Looks at everything the service needs and says what it found; `errors` is what is wrong with the configuration. Exit 0
/// if the agent can watch and nothing of a running service failed.
///
/// # Errors
/// If standard output is closed.
pub fn run(args: &DoctorArgs, config: &Config, errors: Option<&ConfigErrors>) -> anyhow::Result<ExitCode> {
    let mut found: Vec<Finding> = errors.map(configuration).into_iter().collect();
    found.extend([root(), btf()]);
    // A service that runs has tried the sensor already.
    let service = service(config);
    if service.is_empty() {
        found.extend(sensor());
    }
    found.extend(modes::all(config));
    found.push(cgroups());
    found.extend(runtimes(config));
    found.extend(folders(config));
    found.push(account(config));
    found.extend(service);
    if args.ask.json {
        let rows: Vec<_> = found
            .iter()
            .map(|f| {
                let mut row = json!({"what": f.what, "ok": f.ok, "vital": f.vital, "says": f.says, "remedy": f.remedy});
                if f.unknown {
                    row["unknown"] = true.into();
                }
                if let Some(ways) = f.mode {
                    row["mode"] = ways.mode.name().into();
                    row["rules"] = json!({"can_find": ways.can_find, "of": ways.of});
                }
                row
            })
            .collect();
        print_stdout(&format!("{}\n", serde_json::Value::from(rows)))?;
    } else {
        for f in &found {
            let (mark, colour) = match (f.ok, f.vital) {
                _ if f.unknown => ("unknown", AnsiColor::Yellow),
                (true, _) => ("ok", AnsiColor::Green),
                (false, true) => ("failed", AnsiColor::Red),
                (false, false) => ("partly", AnsiColor::Yellow),
            };
            let style = colour.on_default();
            let mut lines = f.says.trim().lines();
            let first = lines.next().unwrap_or_default();
            anstream::println!("{style}{mark:<8}{style:#} {:<34} {}", f.what, tw_report::escape::line(first));
            // An excerpt of a file: its marks stand below what they mark.
            for line in lines {
                anstream::println!("         {:<34} {}", "", tw_report::escape::line(line));
            }
            if !f.ok {
                anstream::println!("         {:<34} → {}", "", tw_report::escape::line(&f.remedy));
            }
        }
    }
    Ok(if found.iter().any(|f| f.vital && !f.ok) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn configuration(errors: &ConfigErrors) -> Finding {
    let remedy = "mend what is named: tidewatch config check shows it; the service would not start with it";
    Finding::new("configuration", false, errors.short(), remedy).vital()
}

fn root() -> Finding {
    let ok = is_root();
    let says = if ok { "yes" } else { "no: what only root can look at is marked unknown" };
    Finding::new("root", ok, says, "sudo tidewatch doctor").vital()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn btf() -> Finding {
    let ok = Path::new("/sys/kernel/btf/vmlinux").exists();
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let remedy = "use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as all current distributions' are";
    Finding::new("type information of the kernel (BTF)", ok, format!("kernel {release}"), remedy)
}

fn sensor() -> Vec<Finding> {
    match EbpfSensor::start(&Options::default()) {
        Ok(sensor) => sensor
            .health()
            .hooks
            .iter()
            .map(|hook| {
                let problem = hook.problem.as_deref().unwrap_or_default();
                let remedy = hook.instead.map_or_else(|| problem.to_owned(), |instead| format!("{problem}; {instead}"));
                Finding::new(hook.name, hook.problem.is_none(), hook.serves, &remedy)
            })
            .collect(),
        Err(error) => {
            let remedy = "run as root with CAP_BPF and CAP_PERFMON; in a container also with the host's pid namespace";
            vec![Finding::new("eBPF", false, error.to_string(), remedy).for_root(is_root())]
        }
    }
}

fn cgroups() -> Finding {
    let mount = tw_enrich::cgroup::find_mount(Path::new("/proc"));
    let says = mount.as_ref().map_or("not mounted".into(), |mount| mount.display().to_string());
    let remedy =
        "mount -t cgroup2 none /sys/fs/cgroup/unified; without it containers started before cannot be told apart";
    Finding::new("unified cgroup hierarchy", mount.is_some(), says, remedy)
}

/// Asks each runtime as the agent does, for as long as it takes.
fn runtimes(config: &Config) -> Vec<Finding> {
    let options = tw_enrich::WorldOptions { runtimes: config.runtime_options(), ..tw_enrich::WorldOptions::default() };
    let mut world = match tw_enrich::World::new(options) {
        Ok(world) => world,
        Err(error) => return vec![Finding::new("container runtimes", false, error.to_string(), "try again")],
    };
    world.await_runtimes(RUNTIME_PATIENCE);
    let remedy = |name: &str| match name {
        "docker" => "start Docker, or name its socket with --docker-socket; without it what is on disk is known".into(),
        name => format!("start it, or set runtimes.{name} to its socket, or to null"),
    };
    let mut found: Vec<Finding> = Vec::new();
    for runtime in world.runtimes() {
        let what = if runtime.name == "files" { "folders of runtimes" } else { runtime.name };
        if runtime.absent {
            found.push(Finding::new(what, true, format!("not installed ({})", runtime.says), ""));
        } else {
            let finding = Finding::new(what, runtime.up, runtime.says.clone(), &remedy(runtime.name));
            found.push(finding.for_root(is_root()));
        }
    }
    found
}

/// Whether there is room where things are kept.
fn folders(config: &Config) -> Vec<Finding> {
    let wanted = (config.spool.max_mib + if config.recorder.enabled { config.recorder.max_mib } else { 0 }) << 20;
    // The folder may not be there yet: then what it will lie in counts.
    let Some(place) = config.state_dir.ancestors().find(|folder| folder.exists()) else { return Vec::new() };
    let Ok(room) = rustix::fs::statvfs(place) else { return Vec::new() };
    let free = room.f_bavail * room.f_frsize;
    let says = format!("{} free, {} may be wanted for spool and recorder", screen::bytes(free), screen::bytes(wanted));
    let remedy = "free some, or lower spool.max_mib and recorder.max_mib";
    vec![Finding::new(&format!("room in {}", config.state_dir.display()), free >= wanted, says, remedy)]
}

fn account(config: &Config) -> Finding {
    match crate::service::Account::find(&config.manager.user) {
        Ok(account) => {
            Finding::new("user of the manager", true, format!("{} ({})", config.manager.user, account.uid), "")
        }
        Err(error) => Finding::new("user of the manager", false, error.to_string(), "set manager.user").vital(),
    }
}

/// How the running service is; nothing if none runs.
fn service(config: &Config) -> Vec<Finding> {
    if UnixStream::connect(config.control_socket()).is_err() && agent_status(config).is_err() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let problems = match Client::connect(config).and_then(|mut client| client.get("/api/v1/problems", &[])) {
        Ok(answer) => {
            let answer: ProblemPage = answer;
            found.push(Finding::new("running service", true, "the manager answers", ""));
            answer.problems
        }
        Err(error) => {
            let remedy = "what it says is in the log (journalctl -u tidewatch); the agent keeps findings meanwhile";
            found.push(Finding::new("manager", false, format!("{error:#}"), remedy).vital());
            agent_status(config).map(|agent| agent.problems).unwrap_or_default()
        }
    };
    found.extend(problems.into_iter().map(|problem| {
        let finding = Finding::new(&problem.code, false, problem.what, &problem.remedy);
        if problem.failed { finding.vital() } else { finding }
    }));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_without_root_says_nothing_of_the_host() {
        let failed = || Finding::new("eBPF", false, "not permitted", "a newer kernel").vital();
        let seen = failed().for_root(true);
        assert!(!seen.unknown && seen.vital && seen.remedy == "a newer kernel");
        let unseen = failed().for_root(false);
        assert!(unseen.unknown && !unseen.vital && unseen.remedy.contains("sudo"), "{}", unseen.says);
        assert!(!Finding::new("eBPF", true, "", "").for_root(false).unknown);
    }
}
