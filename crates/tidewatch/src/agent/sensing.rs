//! Which way this host is watched: the best that the kernel and our rights allow, unless the settings name one.

use std::process::ExitCode;

use tw_model::Mode;
use tw_sensor::{ConnectorSensor, ConnectorSocket, EbpfSensor, FileWatch, SensorError, Source};

use crate::config::{Config, SensorChoice};
use crate::screen;

/// A way that was chosen, with what must be opened before rights are given up.
pub enum Prepared {
    /// eBPF.
    Ebpf,
    /// The process connector, since eBPF is not to be had or was not asked for; with files, where fanotify is.
    Connector(ConnectorSocket, Option<FileWatch>),
}

impl Prepared {
    /// Chooses. Where nothing works it is eBPF: its error says what is in the way.
    ///
    /// # Errors
    /// If the settings name a way that is not to be had.
    pub fn choose(config: &Config) -> Result<Self, SensorError> {
        match config.agent.sensor {
            SensorChoice::Ebpf => Ok(Self::Ebpf),
            SensorChoice::Fanotify => Ok(Self::Connector(ConnectorSocket::open()?, Some(FileWatch::open()?))),
            SensorChoice::Connector => Ok(Self::Connector(ConnectorSocket::open()?, None)),
            SensorChoice::Auto => match EbpfSensor::probe() {
                Ok(()) => Ok(Self::Ebpf),
                Err(error) => match ConnectorSocket::open() {
                    Ok(socket) => {
                        let files = FileWatch::open();
                        match &files {
                            Ok(_) => tracing::warn!(
                                "{error}: executions and files are watched, through the process connector and fanotify"
                            ),
                            Err(why) => tracing::warn!(
                                "{error}: executions alone are watched, through the process connector; {why}"
                            ),
                        }
                        Ok(Self::Connector(socket, files.ok()))
                    }
                    Err(_) => Ok(Self::Ebpf),
                },
            },
        }
    }

    /// The way.
    pub fn mode(&self) -> Mode {
        match self {
            Self::Ebpf => Mode::Ebpf,
            Self::Connector(_, Some(_)) => Mode::Fanotify,
            Self::Connector(_, None) => Mode::Connector,
        }
    }

    /// Begins to watch.
    ///
    /// # Errors
    /// If that is not to be had after all.
    pub fn start(self, config: &Config) -> Result<Box<dyn Source>, SensorError> {
        let options = options(config);
        Ok(match self {
            Self::Ebpf => Box::new(EbpfSensor::start(&options)?),
            Self::Connector(socket, files) => Box::new(ConnectorSensor::start(socket, files)?),
        })
    }
}

/// One line on what is missing and two on what works without.
pub fn cannot_watch(error: &SensorError) -> ExitCode {
    let remedy = match error {
        SensorError::NotPermitted(_) | SensorError::NoConnector(_) | SensorError::NoFiles(_)
            if !rustix::process::geteuid().is_root() =>
        {
            "run it as root: sudo tidewatch run"
        }
        SensorError::NotPermitted(_) => {
            "give it CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE, and a kernel that allows bpf(), or CAP_NET_ADMIN for \
             --sensor connector, and CAP_SYS_ADMIN beside it for --sensor fanotify"
        }
        SensorError::NoConnector(_) => "it takes root with CAP_NET_ADMIN in the host's own pid and network namespaces",
        SensorError::NoFiles(_) => {
            "it takes CAP_SYS_ADMIN in the host's own user namespace and a kernel with CONFIG_FANOTIFY; --sensor connector \
             watches executions without"
        }
        SensorError::LockedDown => {
            "boot with lockdown=integrity, which protects the kernel and lets it be watched; \
             --sensor fanotify watches executions and files without eBPF"
        }
        SensorError::NoBtf | SensorError::Load(_) => {
            "tidewatch doctor tells more; --sensor fanotify watches executions and files without eBPF"
        }
        SensorError::Ring { .. } => "tidewatch doctor tells more",
    };
    let style = screen::ERROR;
    anstream::eprintln!(
        "{style}cannot watch:{style:#} {error}; {remedy}.\n\
         What works without: tidewatch wrap -- COMMAND watches one command and all that it starts, as any user;\n\
         and rules, replay of captures, config, completion, doctor."
    );
    ExitCode::from(3)
}

/// What the settings say of the kernel half.
pub fn options(config: &Config) -> tw_sensor::Options {
    tw_sensor::Options {
        privileged_rate: config.agent.privileged_rate,
        fold_opens: config.agent.fold_opens,
        ..tw_sensor::Options::default()
    }
}
