//! The one binary: reads the command line, wires the stages together, and says how it went.
//!
//! **Never:** logic of a stage. `agent` is the corridor from the kernel to the alert; everything it calls lives in a
//! crate of its own.
#![forbid(unsafe_code)]

mod agent;
mod ask;
mod cli;
mod config;
mod doctor;
mod keeper;
mod log;
mod outlet;
mod record;
mod replay;
mod rules;
mod sandbox;
mod screen;
mod service;
mod socket;
mod when;
mod wrap;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

use cli::{Cli, Command, RunArgs};
use config::{Config, ConfigErrors, Needs, Sources};
use log::{LogFormat, LogLevel, LogOptions};

fn main() -> ExitCode {
    // Whatever name it was started by: the supervisor starts its children by a link in /proc.
    let _ = rustix::thread::set_name(c"tidewatch");
    let cli = Cli::parse();
    run(&cli).unwrap_or_else(|error| {
        // `tidewatch rules list | head` is no failure.
        if error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
            return ExitCode::SUCCESS;
        }
        anstream::eprintln!("{}error:{:#} {error:#}", screen::ERROR, screen::ERROR);
        ExitCode::FAILURE
    })
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    match &cli.command {
        Command::Run(args) => {
            let (config, _) = configure(cli, args.settings())?;
            start_log(cli, &config, "run")?;
            if let Some(code) = refused() {
                return Ok(code);
            }
            service::run(&config, &for_children(cli, args, &config))
        }
        Command::Agent(args) => {
            let sources = sources(cli, args.settings());
            let (config, settings_error) = agent::settings(&sources)?;
            let level = start_log(cli, &config, "agent")?;
            if let Some(code) = refused() {
                return Ok(code);
            }
            // One that is started by hand has no supervisor that holds its run directory.
            let _hold = match agent::supervisor() {
                Some(_) => None,
                None => Some(socket::hold(&config.run_dir, "agent")?),
            };
            let duration = args.duration.map(Duration::from_secs);
            agent::run(config, agent::AgentOptions { sources, duration, level, settings_error })
        }
        Command::Manager(args) => {
            let (config, sources) = configure(cli, args.set.set.clone())?;
            let level = start_log(cli, &config, "manager")?;
            keeper::run(&config, sources, level)
        }
        Command::Status(args) => ask::status(args, &asking(cli, &args.set)?),
        Command::Findings(args) => ask::findings(args, &asking(cli, &args.ask.set)?),
        Command::Show(args) => ask::show(args, &asking(cli, &args.ask.set)?),
        Command::Containers(args) => ask::containers(args, &asking(cli, &args.ask.set)?),
        Command::Listeners(args) => ask::listeners(args, &asking(cli, &args.set)?),
        Command::Reload(args) => ask::reload(args, &asking(cli, &args.set)?),
        Command::Replay(args) => {
            let mut settings = args.rules.settings();
            settings.extend(args.set.set.iter().cloned());
            start_verb_log(cli)?;
            // To list what is named, or what is there, takes no rule.
            let needs = if args.list { &["state_dir"][..] } else { replay::NEEDS };
            let needs = if args.list && !args.paths.is_empty() { &[] } else { needs };
            let config = warned(configure_for(cli, settings, Needs::Keys(needs))?);
            replay::run(args, &config)
        }
        Command::Record(args) => {
            start_verb_log(cli)?;
            let config = warned(configure_for(cli, args.set.set.clone(), Needs::Keys(record::NEEDS))?);
            if args.from_recorder.is_none()
                && let Some(code) = refused()
            {
                return Ok(code);
            }
            record::run(args, &config)
        }
        Command::Wrap(args) => Ok(wrap::run(args, || {
            start_verb_log(cli)?;
            let mut settings = args.rules.settings();
            settings.extend(args.set.set.iter().cloned());
            Ok(warned(configure_for(cli, settings, Needs::Readable(wrap::NEEDS))?))
        })),
        Command::Rules(args) => {
            start_verb_log(cli)?;
            rules::run(args, &|| load(&sources(cli, Vec::new())))
        }
        Command::Doctor(args) => {
            let mut settings = args.ask.set.set.clone();
            let socket = args.docker_socket.as_ref().map(|path| path.to_string_lossy().into_owned());
            settings.extend(socket.map(|socket| ("agent.docker_socket".to_owned(), socket)));
            start_verb_log(cli)?;
            let (config, errors) = configure_for(cli, settings, Needs::Address)?;
            doctor::run(args, &config, errors.as_ref())
        }
        Command::Config(args) => config::run(args, cli.config.as_deref()),
        Command::Completion { shell } => {
            cli::completion(*shell);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The code to end with if this user may not watch; why is told.
fn refused() -> Option<ExitCode> {
    let may = rustix::process::geteuid().is_root();
    (!may).then(|| agent::cannot_watch(&tw_sensor::SensorError::NotPermitted("not root".into())))
}

/// The configuration with these settings of the command line on top.
fn configure(cli: &Cli, settings: Vec<(String, String)>) -> anyhow::Result<(Config, Sources)> {
    let sources = sources(cli, settings);
    Ok((load(&sources)?.config, sources))
}

fn load(sources: &Sources) -> anyhow::Result<config::Loaded> {
    Config::load(sources).map_err(|errors| anyhow::anyhow!("{errors}"))
}

/// Where the configuration comes from, with these settings of the command line on top.
fn sources(cli: &Cli, settings: Vec<(String, String)>) -> Sources {
    let mut sources = Sources::system(cli.config.clone());
    for (key, value) in settings {
        sources.set("--set", &key, value);
    }
    sources
}

/// For a verb that asks the service.
fn asking(cli: &Cli, set: &cli::SetArgs) -> anyhow::Result<Config> {
    start_verb_log(cli)?;
    Ok(warned(configure_for(cli, set.set.clone(), Needs::Address)?))
}

/// What can be read of the configuration, for a verb that needs little of it; and what is wrong with the rest.
fn configure_for(
    cli: &Cli,
    settings: Vec<(String, String)>,
    needs: Needs,
) -> anyhow::Result<(Config, Option<ConfigErrors>)> {
    Config::load_for(&sources(cli, settings), needs).map_err(|errors| anyhow::anyhow!("{errors}"))
}

/// Tells what is wrong with settings that are not needed, and goes on.
fn warned((config, errors): (Config, Option<ConfigErrors>)) -> Config {
    if let Some(errors) = errors {
        let style = screen::DOUBT;
        let what = if errors.is_unread() {
            "the host's configuration is left out, what it sets is as by default"
        } else {
            "the configuration is broken"
        };
        anstream::eprintln!("{style}warning:{style:#} {what}: {}", errors.short());
    }
    config
}

/// Arguments for agent and manager, so that they come to the same configuration.
fn for_children(cli: &Cli, args: &RunArgs, config: &Config) -> service::ServiceOptions {
    let mut common = vec![OsString::from("-v"); usize::from(cli.verbose)];
    if let Some(file) = Sources::system(cli.config.clone()).file {
        // The children may have another working directory.
        let file = std::path::absolute(&file).unwrap_or(file);
        common.extend(["--config".into(), file.into_os_string()]);
    }
    for (key, value) in args.settings() {
        common.extend(["--set".into(), format!("{key}={value}").into()]);
    }
    // Made absolute already, whatever the working directory of the children is.
    for (key, path) in [("state_dir", &config.state_dir), ("run_dir", &config.run_dir)] {
        let path = serde_json::Value::from(path.to_string_lossy());
        common.extend(["--set".into(), format!("{key}={path}").into()]);
    }
    let agent = args.duration.map(|seconds| vec!["--duration".into(), seconds.to_string().into()]);
    service::ServiceOptions { common, agent: agent.unwrap_or_default() }
}

/// The log of a process of the service.
fn start_log(cli: &Cli, config: &Config, process: &'static str) -> anyhow::Result<LogLevel> {
    let folder = config.log.file.as_ref().map(|folder| match process {
        // The manager's own: nobody else's log is within its reach.
        "manager" => folder.join("manager"),
        _ => folder.clone(),
    });
    log::start(&LogOptions {
        process,
        level: log_level(cli).unwrap_or(&config.log.level).to_owned(),
        fixed: cli.verbose > 0,
        format: match config.log.format {
            config::LogFormat::Auto => LogFormat::Auto,
            config::LogFormat::Text => LogFormat::Text,
            config::LogFormat::Json => LogFormat::Json,
        },
        folder,
        max_mib: config.log.max_mib,
        keep: config.log.keep as usize,
    })
}

/// The log of a verb: warnings on standard error, so that standard output holds answers and nothing else.
fn start_verb_log(cli: &Cli) -> anyhow::Result<()> {
    let level = log_level(cli).unwrap_or("warn,libbpf=error").to_owned();
    log::start(&LogOptions {
        process: "",
        level,
        fixed: true,
        format: LogFormat::Text,
        folder: None,
        max_mib: 0,
        keep: 0,
    })
    .map(drop)
}

fn log_level(cli: &Cli) -> Option<&'static str> {
    match cli.verbose {
        0 => None,
        1 => Some("info,libbpf=warn"),
        2 => Some("debug"),
        _ => Some("trace"),
    }
}
