//! The settings: one struct for each section. Names, units, defaults, ranges and meaning of every key are here and
//! nowhere else (`store.retention` is the manager's own, `crates/manager/src/retention.rs`); the schema, the table in
//! `docs/configuration.md` and the messages are made from them.
//!
//! The attribute `x-applies` says when a change takes effect: `live`, or after a restart of `agent`, `manager` or
//! (`service`) all processes.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use tw_manager::retention::Retention;
use tw_model::Priority;

use super::rule_options::{AppendOutput, Compat, Select};
use super::secret::StoreUrl;

/// Configuration of Tidewatch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of everything that outlives a restart: spool, flight recorder, database.
    #[schemars(extend("format" = "path", "x-applies" = "service"))]
    pub state_dir: PathBuf,
    /// Folder of sockets and of what the supervisor knows; empty after a start of the host.
    #[schemars(extend("format" = "path", "x-applies" = "service"))]
    pub run_dir: PathBuf,
    /// Which rules are watched for.
    pub rules: Rules,
    /// The process that watches.
    pub agent: Agent,
    /// Container runtimes besides Docker: who tells names, images and pods.
    pub runtimes: Runtimes,
    /// The API of Kubernetes: who tells labels and owners of this node's pods.
    pub kubernetes: Kubernetes,
    /// Where alerts are written besides the store.
    pub output: Output,
    /// Findings on disk until the store has them.
    pub spool: Spool,
    /// The flight recorder: what happened around a finding, on disk.
    pub recorder: Recorder,
    /// Leaving secrets out of what is kept.
    pub redaction: Redaction,
    /// The process that stores and answers.
    pub manager: Manager,
    /// The database of findings, containers, images and rules.
    pub store: Store,
    /// Metrics and health over HTTP.
    pub metrics: Metrics,
    /// The log of the processes themselves.
    pub log: Log,
}

/// Which rules are watched for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Rule files, or folders of them (*.yaml and *.yml in the order of their names); empty for the built-in pack.
    #[schemars(extend("format" = "path", "x-applies" = "live"))]
    pub files: Vec<PathBuf>,
    /// Folder of rule files (*.yaml and *.yml in the order of their names) that are loaded behind those of rules.files
    /// or behind the built-in pack; may be missing; null for none.
    #[schemars(extend("format" = "path", "x-applies" = "live"))]
    pub dropins: Option<PathBuf>,
    /// Load rule files anew by itself when they change.
    #[schemars(extend("x-applies" = "live"))]
    pub watch: bool,
    /// Which rules speak when several match one event.
    #[schemars(extend("x-applies" = "live"))]
    pub matching: Matching,
    /// Start although some rules are broken; they are left out.
    #[schemars(extend("x-applies" = "live"))]
    pub skip_broken: bool,
    /// How rules are read where Falco does what looks like an accident.
    #[schemars(extend("x-applies" = "live"))]
    pub compat: Compat,
    /// Rules that are enabled or disabled whatever their files say, by name (* stands for any text) or by tag; later
    /// entries win over earlier ones.
    #[schemars(extend("x-applies" = "live"))]
    pub select: Vec<Select>,
    /// What is added to the outputs of rules, in the order of the entries.
    #[schemars(extend("x-applies" = "live"))]
    pub append_output: Vec<AppendOutput>,
}

/// Which rules speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Matching {
    /// every rule that matches
    #[default]
    All,
    /// only the first in the order of definition, as Falco does by default
    First,
}

/// The process that watches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Agent {
    /// How the host is watched: auto takes ebpf if the kernel and its rights allow, else fanotify, which sees executions
    /// and opened files, else connector, which sees executions alone.
    #[schemars(extend("x-applies" = "service"))]
    pub sensor: SensorChoice,
    /// Socket of Docker Engine.
    #[schemars(extend("format" = "path", "x-applies" = "agent"))]
    pub docker_socket: PathBuf,
    /// Ask Docker for names, images and labels; without it what Docker leaves in runtimes.folders is all that is known.
    #[schemars(extend("x-applies" = "agent"))]
    pub docker: bool,
    /// Privileged calls (mount, setns, ptrace, setuid …) per second and cgroup that are looked at; what is beyond is
    /// counted only.
    #[schemars(range(min = 1, max = 1_000_000), extend("x-applies" = "agent"))]
    pub privileged_rate: u32,
    /// Opens for reading that only say again what was told less than a second before (same thread, file, name, flags and
    /// outcome) are counted, not told one by one. false: each is told.
    #[schemars(extend("x-applies" = "agent"))]
    pub fold_opens: bool,
    /// Most CPU that the agent takes, in percent of the host's cores, and one core at most; above it, it gives up one
    /// thing after the other. 0: no bound.
    #[schemars(range(min = 0, max = 100), extend("x-applies" = "agent"))]
    pub cpu_budget: u32,
    /// Seconds between two measurements of what each container uses (processors, memory, disk, network); 0: none.
    #[schemars(range(min = 0, max = 3600), extend("x-applies" = "agent"))]
    pub resources_seconds: u64,
    /// Least severe priority that is told; findings below it are left out.
    #[serde(with = "priority")]
    #[schemars(schema_with = "priority::schema", extend("x-applies" = "live"))]
    pub priority: Priority,
}

/// Container runtimes besides Docker: who tells names, images and pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Runtimes {
    /// Socket of containerd, which is asked for the containers of Kubernetes, nerdctl and ctr; null: it is not asked.
    #[schemars(extend("format" = "path", "x-applies" = "agent"))]
    pub containerd: Option<PathBuf>,
    /// Socket of a runtime of Kubernetes (CRI) that is not containerd, such as CRI-O; null: none is asked.
    #[schemars(extend("format" = "path", "x-applies" = "agent"))]
    pub cri: Option<PathBuf>,
    /// Socket of podman's service, which adds labels to what its files say; null: it is not asked.
    #[schemars(extend("format" = "path", "x-applies" = "agent"))]
    pub podman: Option<PathBuf>,
    /// Folders in which runtimes leave what they know of each container: containerd, runc, crun, podman, CRI-O, Docker.
    #[schemars(extend("format" = "path", "x-applies" = "agent"))]
    pub folders: Vec<PathBuf>,
}

/// The API of Kubernetes: who tells labels and owners of this node's pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Kubernetes {
    /// Whether the manager watches the pods of this node.
    #[schemars(extend("x-applies" = "manager"))]
    pub enabled: KubernetesChoice,
    /// Kubeconfig that says where the API is; null for the service account of the pod that this runs in.
    #[schemars(extend("format" = "path", "x-applies" = "manager"))]
    pub kubeconfig: Option<PathBuf>,
    /// Name of this node in Kubernetes; null for the variable NODE_NAME, or else the name of the host.
    #[schemars(extend("x-applies" = "manager"))]
    pub node: Option<String>,
}

/// Whether the manager watches the pods of this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KubernetesChoice {
    /// where a kubeconfig is named, or a pod's service account is at hand
    #[default]
    Auto,
    /// yes
    On,
    /// no
    Off,
}

/// How the host is watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum SensorChoice {
    /// the best that is allowed
    #[default]
    Auto,
    /// programs in the kernel, or not at all
    Ebpf,
    /// the process connector, and fanotify beside it: the same as connector, and files that are opened
    Fanotify,
    /// the kernel's process connector: executions, users, tracing, ends
    Connector,
}

impl SensorChoice {
    /// As in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ebpf => "ebpf",
            Self::Fanotify => "fanotify",
            Self::Connector => "connector",
        }
    }
}

/// Where alerts are written besides the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Output {
    /// Shape of alerts on standard output.
    #[schemars(extend("x-applies" = "agent"))]
    pub stdout: Stdout,
    /// File to which every alert is added as a JSON line; null for none.
    #[schemars(extend("format" = "path", "x-applies" = "agent"))]
    pub file: Option<PathBuf>,
}

/// Shape of alerts on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stdout {
    /// blocks for people
    #[default]
    Text,
    /// JSON lines in Falco's format
    Json,
    /// no alerts there
    None,
}

/// Findings on disk until the store has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Spool {
    /// Most that the spool takes on disk, in MiB; then the oldest findings are dropped, counted and told.
    #[schemars(range(min = 8, max = 1_048_576), extend("x-applies" = "live"))]
    pub max_mib: u64,
    /// When a finding counts as kept.
    #[schemars(extend("x-applies" = "agent"))]
    pub sync: Sync,
}

/// When a finding counts as kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sync {
    /// after fdatasync of its batch: it survives a power cut
    Batch,
    /// once written: it survives a crash of the process, but not of the host
    None,
}

/// The flight recorder: what happened around a finding, on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Recorder {
    /// Record events at all.
    #[schemars(extend("x-applies" = "agent"))]
    pub enabled: bool,
    /// Most that the recording takes on disk, in MiB; then the oldest part is deleted.
    #[schemars(range(min = 8, max = 1_048_576), extend("x-applies" = "live"))]
    pub max_mib: u64,
    /// Oldest part that is kept, in hours.
    #[schemars(range(min = 1, max = 8_760), extend("x-applies" = "live"))]
    pub max_hours: u64,
    /// Leave secrets out of the recording too.
    #[schemars(extend("x-applies" = "agent"))]
    pub redact: bool,
}

/// Leaving secrets out of what is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Redaction {
    /// Replace passwords, tokens and keys in arguments, environments and texts by a mark before anything is kept or sent.
    #[schemars(extend("x-applies" = "agent"))]
    pub enabled: bool,
}

/// The process that stores and answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Manager {
    /// User that the manager runs as.
    #[schemars(extend("x-applies" = "manager"))]
    pub user: String,
}

/// The database of findings, containers, images and rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// Address of the database: postgres://user:password@host/db or sqlite:///path; null for SQLite below state_dir.
    #[schemars(with = "Option<String>", extend("x-applies" = "manager"))]
    pub url: Option<StoreUrl>,
    /// How long and how much is kept. What is beyond any of the limits is deleted, oldest first.
    pub retention: Retention,
}

/// Metrics and health over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Address and port of /metrics, /healthz and /readyz; null for the control socket only. Other than loopback
    /// needs allow_remote.
    #[schemars(extend("x-applies" = "manager"))]
    pub listen: Option<SocketAddr>,
    /// Let other hosts read metrics and health. There is no password and no encryption.
    #[schemars(extend("x-applies" = "manager"))]
    pub allow_remote: bool,
}

/// The log of the processes themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Least severe level (off, error, warn, info, debug, trace), or a filter such as warn,tidewatch=debug.
    #[schemars(extend("x-applies" = "live"))]
    pub level: String,
    /// Shape of the log.
    #[schemars(extend("x-applies" = "service"))]
    pub format: LogFormat,
    /// Folder for agent.log, run.log and manager/manager.log; null for standard error (the journal, under systemd).
    #[schemars(extend("format" = "path", "x-applies" = "service"))]
    pub file: Option<PathBuf>,
    /// Size at which a log file is put aside and a new one begun, in MiB.
    #[schemars(range(min = 1, max = 4_096), extend("x-applies" = "service"))]
    pub max_mib: u64,
    /// Number of log files put aside that are kept, for each process.
    #[schemars(range(min = 1, max = 100), extend("x-applies" = "service"))]
    pub keep: u32,
}

/// Shape of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// text, with the journal's marks of severity under systemd
    Auto,
    /// text
    Text,
    /// JSON lines
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/tidewatch".into(),
            run_dir: "/run/tidewatch".into(),
            rules: Rules::default(),
            agent: Agent::default(),
            runtimes: Runtimes::default(),
            kubernetes: Kubernetes::default(),
            output: Output::default(),
            spool: Spool::default(),
            recorder: Recorder::default(),
            redaction: Redaction::default(),
            manager: Manager::default(),
            store: Store::default(),
            metrics: Metrics::default(),
            log: Log::default(),
        }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            dropins: Some("/etc/tidewatch/rules.d".into()),
            watch: true,
            matching: Matching::All,
            skip_broken: false,
            compat: Compat::Tidewatch,
            select: Vec::new(),
            append_output: Vec::new(),
        }
    }
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            sensor: SensorChoice::Auto,
            docker_socket: "/var/run/docker.sock".into(),
            docker: true,
            privileged_rate: 1000,
            fold_opens: true,
            cpu_budget: 5,
            resources_seconds: 1,
            priority: Priority::Debug,
        }
    }
}

impl Default for Runtimes {
    fn default() -> Self {
        let usual = tw_enrich::RuntimeOptions::usual();
        Self { containerd: usual.containerd, cri: usual.cri, podman: usual.podman, folders: usual.folders }
    }
}

impl Config {
    /// Who is asked about containers.
    pub fn runtime_options(&self) -> tw_enrich::RuntimeOptions {
        tw_enrich::RuntimeOptions {
            docker: self.agent.docker.then(|| self.agent.docker_socket.clone()),
            podman: self.runtimes.podman.clone(),
            containerd: self.runtimes.containerd.clone(),
            cri: self.runtimes.cri.clone(),
            folders: self.runtimes.folders.clone(),
        }
    }
}

impl Default for Spool {
    fn default() -> Self {
        Self { max_mib: 256, sync: Sync::Batch }
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self { enabled: true, max_mib: 1024, max_hours: 24, redact: true }
    }
}

impl Default for Redaction {
    fn default() -> Self {
        Self { enabled: true }
    }
}

impl Default for Manager {
    fn default() -> Self {
        Self { user: "tidewatch".into() }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { listen: Some(SocketAddr::from(([127, 0, 0, 1], 9465))), allow_remote: false }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Auto, file: None, max_mib: 16, keep: 5 }
    }
}

/// How a priority is written in a file: in lower case, read in any.
mod priority {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use super::{Priority, Schema, SchemaGenerator, json_schema};

    pub fn serialize<S: Serializer>(priority: &Priority, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&priority.name().to_lowercase())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Priority, D::Error> {
        let text = String::deserialize(deserializer)?;
        Priority::parse(&text).ok_or_else(|| D::Error::custom("not a priority"))
    }

    pub fn schema(_: &mut SchemaGenerator) -> Schema {
        let mut names: Vec<String> = Priority::ALL.iter().map(|priority| priority.name().to_lowercase()).collect();
        names.push("info".into());
        json_schema!({"type": "string", "enum": names})
    }
}
