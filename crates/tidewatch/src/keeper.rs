//! `manager`: the keeping process as the binary starts it: its sockets first, then its sandbox, then its work.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tw_manager::kubernetes::{self, Access};
use tw_manager::store::Place;
use tw_manager::{Options, Outside, retention};

use crate::config::{Config, KubernetesChoice, Sources};
use crate::log::LogLevel;
use crate::{agent, sandbox, socket};

/// Names of hosts, and certificates. Whole folders: their files are replaced, not rewritten.
const NETWORK: [&str; 3] = ["/etc", "/run/systemd/resolve", "/usr/share/ca-certificates"];

/// Runs until a signal comes.
///
/// # Errors
/// If it cannot start: it is root, a socket is held by somebody else, or the store cannot be opened for good.
pub fn run(config: &Config, sources: Sources, level: LogLevel) -> anyhow::Result<ExitCode> {
    // Before anything else: a reload that comes while this starts must not end it. A start reads everything anew.
    signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::default())?;
    agent::end_with_supervisor()?;
    anyhow::ensure!(
        !rustix::process::geteuid().is_root(),
        "the manager must not be root: `tidewatch run` starts it as user {}; by hand it needs folders of its own: sudo -u {} \
         tidewatch manager --set run_dir=… --set state_dir=…",
        config.manager.user,
        config.manager.user
    );
    let control = match socket::inherited() {
        Some(listener) => listener,
        None => socket::bind(&config.control_socket(), socket::Access::Root)?,
    };
    let metrics = config.metrics.listen.map(Outside::bind);
    let url = config.store_url();
    let mut reach = reach(config, &sources, url.reveal())?;
    let kubernetes = kubernetes(config)?;
    if let Some(kubernetes) = &kubernetes {
        let needs = kubernetes.access.needs();
        reach.connect.extend(needs.ports);
        reach.read.extend(needs.folders.into_iter().chain(NETWORK.map(PathBuf::from)));
    }
    reach.bind.extend(metrics.as_ref().and_then(Outside::wanted_port));
    let doubt = sandbox::enter_manager(&reach)?;
    if let Some(doubt) = doubt {
        tracing::warn!("{doubt}");
    }
    let reloaded = Arc::<Notify>::default();
    let (kept, changed) = tokio::sync::watch::channel(config.store.retention);
    let options = Options {
        store_url: url.reveal().to_owned(),
        retention: changed,
        reloaded: Arc::clone(&reloaded),
        agent_socket: config.agent_socket(),
        control,
        metrics,
        kubernetes,
        supervisor_file: Some(config.supervisor_file()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        restarts: agent::restarts(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async move {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => break,
                    () = reloaded.notified() => reload(&sources, &kept, &level),
                    _ = hangup.recv() => reload(&sources, &kept, &level),
                }
            }
            // Nobody hears it if the manager ended by itself.
            let _ = stop.send(());
        });
        let stopped = async {
            let _ = stopped.await;
        };
        tw_manager::run(options, stopped).await.context("the manager cannot work")
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What of the settings changes without a restart: how long things are kept, and the level of the log.
fn reload(sources: &Sources, kept: &tokio::sync::watch::Sender<retention::Retention>, level: &LogLevel) {
    match Config::load(sources) {
        Ok(loaded) => {
            kept.send_replace(loaded.config.store.retention);
            if let Err(error) = level.set(&loaded.config.log.level) {
                tracing::warn!("{error:#}");
            }
        }
        Err(errors) => tracing::error!("settings stay as they were: {errors}"),
    }
}

/// Which pods are to be watched, and how; none if none are.
fn kubernetes(config: &Config) -> anyhow::Result<Option<kubernetes::Options>> {
    let wanted = &config.kubernetes;
    let access = match (wanted.enabled, &wanted.kubeconfig) {
        (KubernetesChoice::Off, _) => None,
        (_, Some(path)) => Some(Access::File(path.clone())),
        (KubernetesChoice::Auto, None) => Access::of_this_pod(),
        (KubernetesChoice::On, None) => Some(Access::Pod),
    };
    let Some(access) = access else { return Ok(None) };
    let given = std::env::var("NODE_NAME").ok().filter(|name| !name.is_empty());
    let node = match wanted.node.clone().or(given) {
        Some(node) => node,
        // The kubelet takes it in lower case.
        None => agent::hostname().to_lowercase(),
    };
    Ok(Some(kubernetes::Options { access, node, pace: kubernetes::Pace::default() }))
}

fn reach(config: &Config, sources: &Sources, url: &str) -> anyhow::Result<sandbox::Reach> {
    let mut read = ["/etc/localtime", "/usr/share/zoneinfo", "/proc", "/dev/urandom"].map(PathBuf::from).to_vec();
    read.push(config.run_dir.clone());
    read.extend(sources.folders());
    let mut write = vec![config.manager_dir()];
    write.extend(config.log.file.as_ref().map(|folder| folder.join("manager")));
    let mut connect = Vec::new();
    match Place::parse(url).map_err(anyhow::Error::msg)? {
        // The database keeps files beside itself.
        Place::Sqlite(path) => write.extend(path.parent().map(PathBuf::from)),
        Place::Postgres(url) => {
            connect.push(port_of(&url));
            read.extend(NETWORK.map(PathBuf::from));
            read.push("/run/postgresql".into());
            read.extend(files_of(&url));
        }
    }
    Ok(sandbox::Reach { read, write, connect, bind: Vec::new() })
}

/// Files that the address of a database names: certificates and keys.
fn files_of(url: &str) -> Vec<PathBuf> {
    let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters).split('&');
    let named = parameters.filter_map(|parameter| parameter.split_once('='));
    let files = named.filter(|(name, _)| matches!(*name, "sslrootcert" | "sslcert" | "sslkey"));
    files.map(|(_, path)| PathBuf::from(path.replace("%2F", "/").replace("%2f", "/"))).collect()
}

/// The port in the address of a database; PostgreSQL's own if it names none.
fn port_of(url: &str) -> u16 {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters).split('&');
    if let Some(port) =
        parameters.filter_map(|parameter| parameter.strip_prefix("port=")).find_map(|port| port.parse().ok())
    {
        return port;
    }
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    // An address of IPv6 stands in brackets, which no port has.
    host.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(5432)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_a_database_is_found() {
        for (url, port) in [
            ("postgres://u:p@db.example:6543/x", 6543),
            ("postgres://u:p%40@db/x", 5432),
            ("postgresql://[::1]:7000/x?sslmode=disable", 7000),
            ("postgres://[::1]/x", 5432),
            ("postgres:///x?host=/run/postgresql", 5432),
            ("postgres://db/x?sslmode=require&port=6000", 6000),
        ] {
            assert_eq!(port_of(url), port, "{url}");
        }
        let files = files_of("postgres://db/x?sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem");
        assert_eq!(files, [PathBuf::from("/etc/ca.pem")]);
    }
}
