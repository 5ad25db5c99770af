//! How the API of Kubernetes is reached: by the service account of the own pod, or by a kubeconfig.
//!
//! Everything is read anew for each connection: tokens and certificates are replaced while the service runs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::trouble::Trouble;
use super::wire::{Wire, bearer};

/// Where a pod has its service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Longest kubeconfig, bytes.
const MAX_KUBECONFIG: u64 = 1 << 20;
/// How long a connection may take, and how long nothing can be written to it.
const CONNECT: Duration = Duration::from_secs(10);
const WRITE: Duration = Duration::from_secs(30);
/// How long nothing may come after a question: longer than a watch may be silent, which is told as its end.
const READ: Duration = Duration::from_secs(300);

/// Who says where the API is and who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// The pod that this runs in.
    Pod,
    /// A kubeconfig.
    File(PathBuf),
}

/// What a sandbox must leave open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Folders to read: files in them are replaced, not rewritten.
    pub folders: BTreeSet<PathBuf>,
    /// TCP ports to connect to.
    pub ports: Vec<u16>,
}

impl Access {
    /// The pod's service account, if this runs in a pod that has one.
    pub fn of_this_pod() -> Option<Self> {
        let in_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() && Path::new(ACCOUNT).join("token").exists();
        in_pod.then_some(Self::Pod)
    }

    /// Files and ports that connections will need. What cannot be read yet is left out; then the ports are the usual
    /// ones.
    pub fn needs(&self) -> Needs {
        let mut needs = Needs { folders: BTreeSet::new(), ports: vec![443, 6443] };
        match self {
            Self::Pod => {
                needs.folders.insert(ACCOUNT.into());
                let port = std::env::var("KUBERNETES_SERVICE_PORT").ok().and_then(|port| port.parse().ok());
                needs.ports = port.map_or(needs.ports, |port| vec![port]);
            }
            Self::File(path) => {
                needs.folders.extend(path.parent().map(PathBuf::from));
                let Ok(file) = read(path) else { return needs };
                let users = file.auth_infos.iter().filter_map(|named| named.auth_info.as_ref());
                let of_users = users
                    .flat_map(|user| [&user.client_certificate, &user.client_key, &user.token_file])
                    .flatten()
                    .map(PathBuf::from);
                let clusters = file.clusters.iter().filter_map(|named| named.cluster.as_ref());
                let of_clusters =
                    clusters.clone().filter_map(|cluster| cluster.certificate_authority.as_ref()).map(PathBuf::from);
                needs.folders.extend(of_users.chain(of_clusters).filter_map(|file| file.parent().map(PathBuf::from)));
                let ports: Vec<u16> = clusters.filter_map(|cluster| port_of(cluster.server.as_deref()?)).collect();
                if !ports.is_empty() {
                    needs.ports = ports;
                }
            }
        }
        needs
    }

    /// A client that begins no watch sooner than this after the one before, and where it will go.
    pub(super) async fn client(&self, pace: Duration) -> Result<(Client, String), Trouble> {
        let mut config = self.config().await?;
        if config.auth_info.exec.is_some() || config.auth_info.auth_provider.is_some() {
            return Err(Trouble::config("its user is proved by a program, which the manager may not start"));
        }
        let token = config.auth_info.token_file.take().filter(|_| config.auth_info.token.is_none()).map(PathBuf::from);
        if let Some(path) = &token {
            bearer(path).map_err(|error| Trouble::config(&error.to_string()))?;
        }
        bound(&mut config);
        let server = config.cluster_url.to_string();
        let builder = ClientBuilder::try_from(config).map_err(|error| Trouble::setup(&error))?;
        Ok((builder.with_layer(&Wire::new(token, pace)).build(), server))
    }

    async fn config(&self) -> Result<Config, Trouble> {
        match self {
            Self::Pod => Config::incluster_env().map_err(|error| Trouble::config(&super::trouble::chain(&error))),
            Self::File(path) => {
                let file = read(path)?;
                let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
                config.map_err(|error| {
                    let why = super::trouble::chain(&error);
                    Trouble::config(&format!("{}: {why}", path.display()))
                })
            }
        }
    }
}

/// Sets how long anything may take.
fn bound(config: &mut Config) {
    config.connect_timeout = Some(CONNECT);
    config.write_timeout = Some(WRITE);
    // Without it a question that is taken and never answered is waited for without end. How long the connection was idle
    // before does not count.
    (config.read_timeout, config.reset_reader_on_write) = (Some(READ), true);
    // Whoever watches waits and tries again by itself.
    config.default_retry = false;
}

/// Reads a kubeconfig; names of files in it are absolute then.
fn read(path: &Path) -> Result<Kubeconfig, Trouble> {
    let wrong = |why: String| Trouble::config(&format!("{}: {why}", path.display()));
    let file = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if !file.is_file() || file.len() > MAX_KUBECONFIG {
        return Err(wrong("it is no file of less than 1 MiB".into()));
    }
    Kubeconfig::read_from(path).map_err(|error| wrong(super::trouble::chain(&error)))
}

fn port_of(server: &str) -> Option<u16> {
    let url: hyper::Uri = server.parse().ok()?;
    let usual = if url.scheme_str() == Some("http") { 80 } else { 443 };
    Some(url.port_u16().unwrap_or(usual))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
apiVersion: v1
kind: Config
clusters:
- {name: c, cluster: {server: 'https://10.0.0.1:7443', certificate-authority: pki/ca.crt}}
users:
- {name: u, user: {tokenFile: /run/token/token}}
contexts:
- {name: x, context: {cluster: c, user: u}}
current-context: x
";

    #[test]
    fn a_sandbox_is_told_what_a_kubeconfig_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let access = Access::File(path.clone());
        assert_eq!(access.needs().ports, [443, 6443], "nothing is known yet");
        std::fs::write(&path, FILE).unwrap();
        let needs = access.needs();
        assert_eq!(needs.ports, [7443]);
        let wanted = [folder.path().to_owned(), folder.path().join("pki"), "/run/token".into()];
        assert_eq!(needs.folders, wanted.into());
    }

    #[test]
    fn nothing_is_waited_for_without_end() {
        let mut config = Config::new(hyper::Uri::from_static("https://10.0.0.1"));
        bound(&mut config);
        assert_eq!(config.connect_timeout, Some(Duration::from_secs(10)));
        assert_eq!(config.write_timeout, Some(Duration::from_secs(30)));
        // A watch is asked to end after 290 s, and given up by its reader 5 s later.
        assert!(config.read_timeout.is_some_and(|most| (296..=300).contains(&most.as_secs())));
        assert!(config.reset_reader_on_write && !config.default_retry);
    }

    #[test]
    fn ports_are_those_of_the_address_or_of_its_scheme() {
        for (url, port) in [("https://a", 443), ("http://a", 80), ("https://[::1]:6443/x", 6443), ("a:1", 1)] {
            assert_eq!(port_of(url), Some(port), "{url}");
        }
        assert_eq!(port_of("https://a b"), None);
    }

    #[tokio::test]
    async fn what_no_manager_can_use_is_told_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let access = Access::File(path.clone());
        let why = async || match access.client(Duration::ZERO).await {
            Ok(_) => String::new(),
            Err(trouble) => trouble.to_string(),
        };
        assert!(why().await.contains("No such file"), "{}", why().await);
        let plain = FILE.replace(", certificate-authority: pki/ca.crt", "");
        for (text, wanted) in [
            ("{", "parse"),
            ("a: b", "context"),
            (FILE, "ca.crt"),
            (&plain, "/run/token/token"),
            (&plain.replace("tokenFile: /run/token/token", "exec: {apiVersion: v1, command: sh}"), "program"),
        ] {
            std::fs::write(&path, text).unwrap();
            let why = why().await;
            assert!(why.contains(wanted) && why.len() < 600, "{wanted}: {why}");
        }
        std::fs::write(&path, "#".repeat(2 << 20)).unwrap();
        assert!(why().await.contains("1 MiB"));
    }
}
