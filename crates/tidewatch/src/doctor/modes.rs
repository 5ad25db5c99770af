//! The ways to watch on this host: which are to be had, what is in the way of the others, and how many rules each serves.

use std::time::{Duration, Instant};

use tw_model::Mode;
use tw_rules::RuleSet;
use tw_rules::reach::mute;
use tw_sensor::tracer::{Step, TraceOptions, Tracer};
use tw_sensor::{ConnectorSensor, ConnectorSocket, EbpfSensor, FileWatch};

use super::Finding;
use crate::config::Config;
use crate::rules;

/// How long a program that does nothing may take under the tracer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many of the enabled rules can find something in a mode.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ways {
    /// The mode.
    pub mode: Mode,
    /// Rules that can find something.
    pub can_find: usize,
    /// Rules that are enabled.
    pub of: usize,
}

/// A row for each mode. The host is not watched at all if none but the last works.
pub(super) fn all(config: &Config) -> Vec<Finding> {
    // Broken rules are told by whoever loads them; here they only cannot be counted.
    let rules = rules::RuleTexts::read(&rules::Places::of(config))
        .map(|texts| texts.load(&rules::RuleOptions::of(config)).rules)
        .unwrap_or_default();
    let tried = Mode::ALL.map(|mode| (mode, attempt(mode)));
    let host = tried.iter().any(|(mode, result)| *mode != Mode::Wrap && result.is_ok());
    tried
        .into_iter()
        .map(|(mode, result)| {
            let row = row(mode, result, &rules);
            if mode == Mode::Ebpf && !host && !row.unknown { row.vital() } else { row }
        })
        .collect()
}

fn attempt(mode: Mode) -> Result<(), String> {
    match mode {
        Mode::Ebpf => EbpfSensor::probe().map_err(|error| error.to_string()),
        // Newer kernels let anybody listen; to see more than numbers takes root.
        Mode::Fanotify | Mode::Connector if !rustix::process::geteuid().is_root() => Err("not root".into()),
        Mode::Connector => {
            let started = ConnectorSocket::open().and_then(|socket| ConnectorSensor::start(socket, None));
            started.map(drop).map_err(|error| error.to_string())
        }
        Mode::Fanotify => {
            let both = || ConnectorSensor::start(ConnectorSocket::open()?, Some(FileWatch::open()?));
            both().map(drop).map_err(|error| error.to_string())
        }
        Mode::Wrap => trace(),
    }
}

/// Traces a program that does nothing.
fn trace() -> Result<(), String> {
    let options = TraceOptions { program: "true".into(), args: Vec::new(), cgroup: 1 };
    let mut tracer = Tracer::start(&options).map_err(|error| error.to_string())?;
    let deadline = Instant::now() + PATIENCE;
    let mut records = 0;
    while Instant::now() < deadline {
        match tracer.step(&mut |_| records += 1).map_err(|error| error.to_string())? {
            Step::Done if records > 2 => return Ok(()),
            Step::Done => return Err("the calls of a program were not seen".into()),
            Step::Going | Step::CommandEnded { .. } => {}
        }
    }
    Err("a program that does nothing did not end".into())
}

fn row(mode: Mode, result: Result<(), String>, rules: &RuleSet) -> Finding {
    let of = rules.rules().iter().filter(|rule| rule.enabled).count();
    let can_find = of - mute(rules, mode).len();
    let whole = match mode {
        Mode::Wrap => "one command and what it starts",
        _ => "the whole host",
    };
    let serves = format!("{whole}; {can_find} of {of} rules can find something");
    let root = rustix::process::geteuid().is_root();
    let (ok, says) = match result {
        Ok(()) => (true, format!("{}: {serves}", mode.what())),
        Err(error) => (false, format!("{error}; it would be {serves}")),
    };
    let remedy = match mode {
        Mode::Ebpf => {
            "root with CAP_BPF and CAP_PERFMON, a kernel from 5.17 on with type information; in a container also the \
             host's pid namespace and a seccomp profile that allows bpf"
        }
        Mode::Fanotify => "root with CAP_SYS_ADMIN and what connector takes, a kernel with CONFIG_FANOTIFY",
        Mode::Connector => {
            "root with CAP_NET_ADMIN in the host's pid, user and network namespaces, a kernel with CONFIG_PROC_EVENTS"
        }
        Mode::Wrap => {
            "kernel.yama.ptrace_scope below 2, a kernel from 5.3 on; in a container a seccomp profile that allows ptrace"
        }
    };
    let finding = Finding::new(&format!("mode {mode}"), ok, says, remedy);
    // A command can be wrapped by anybody.
    let finding = finding.for_root(root || mode == Mode::Wrap);
    Finding { mode: Some(Ways { mode, can_find, of }), ..finding }
}
