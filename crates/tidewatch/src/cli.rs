//! The command line.

mod record;
mod rules;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use record::RecordArgs;
pub use rules::{
    CheckFormat, RulesArgs, RulesBenchArgs, RulesCheckArgs, RulesCommand, RulesExplainArgs, RulesListArgs,
    RulesShowArgs, RulesTestArgs,
};

/// Sees what containers really do, and says what does not belong.
#[derive(Debug, Parser)]
#[command(
    name = "tidewatch",
    version,
    about,
    max_term_width = 100,
    after_help = "Examples:
  sudo tidewatch run                          watch this host, alerts on the terminal
  sudo tidewatch run --json | jq .rule        alerts as JSON lines, in Falco's format
  sudo tidewatch run --rules falco_rules.yaml with your own rules instead of ours
  sudo tidewatch status                       how the service that runs is
  sudo tidewatch findings --since 1h          what it found
  sudo tidewatch replay --since 10m           the last ten minutes again, with the rules of now
  sudo tidewatch record -o trace.scap         what happens, for sysdig, Falco and replay
  tidewatch wrap -- make test                 watches one command (no root needed)
  tidewatch rules check my_rules.yaml         are my rules in order? (no root needed)
  tidewatch rules test my_rules.yaml          do they find what they should, and nothing else?
  tidewatch doctor                            what works on this host, and what would mend the rest"
)]
pub struct Cli {
    /// Log more on standard error; repeat for still more. Or set TIDEWATCH_LOG.
    #[arg(short, long, action = clap::ArgAction::Count, global = true, help_heading = GLOBAL)]
    pub verbose: u8,
    /// Read this file, not /etc/tidewatch/tidewatch.yaml. Or set TIDEWATCH_CONFIG.
    #[arg(long, value_name = "PATH", global = true, help_heading = GLOBAL)]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch this host and its containers: starts agent and manager, prints alerts as they happen.
    Run(RunArgs),
    /// The watching process alone, without store and API. `run` starts it; by hand it is for looking closer.
    Agent(RunArgs),
    /// The keeping process alone: store, API, metrics. `run` starts it.
    Manager(ManagerArgs),
    /// How the running service is: processes, rules, losses, spool, store, problems.
    Status(AskArgs),
    /// List what was found, newest first.
    #[command(after_help = "Examples:
  sudo tidewatch findings --since 1h --priority warning
  sudo tidewatch findings --container web --json | jq .rule
  sudo tidewatch findings --follow
  sudo tidewatch show 01KAYF3Q")]
    Findings(FindingsArgs),
    /// Show one finding whole.
    Show(ShowArgs),
    /// List containers that were seen, those that run first, each with the ports on which it listens.
    #[command(after_help = "Examples:
  sudo tidewatch containers
  sudo tidewatch containers --all --json | jq '.[] | {id, listening}'")]
    Containers(ContainersArgs),
    /// List the sockets that listen, on the host and in containers, with the process that began.
    #[command(after_help = "Examples:
  sudo tidewatch listeners
  sudo tidewatch listeners --json | jq '.[] | select(.port == 22)'")]
    Listeners(AskArgs),
    /// Read rules and settings again, without a gap. What is broken changes nothing and is told.
    Reload(AskArgs),
    /// Run what was recorded through the rules: by the flight recorder, or by sysdig or Falco (*.scap).
    #[command(after_help = "Examples:
  sudo tidewatch replay --list                what is recorded
  sudo tidewatch replay --json                everything again, as JSON lines
  sudo tidewatch replay --rules new.yaml --stats   what would my new rules have found?
  tidewatch replay trace.scap --stats         a capture of sysdig or Falco (no root needed)")]
    Replay(ReplayArgs),
    /// Record what happens into a file: for sysdig and Falco (*.scap), which `replay` reads too, or a container's
    /// packets for Wireshark (*.pcapng).
    #[command(after_help = "Examples:
  sudo tidewatch record -o trace.scap                             everything, until Ctrl-C
  sudo tidewatch record -o web.scap --container web --duration 60 one container, one minute
  sudo tidewatch record -o part.scap --from-recorder --since 10m  what the flight recorder kept
  sudo tidewatch record -o web.pcapng --packets --container web --max-size 64M
  sysdig -r trace.scap -p '%evt.type %proc.name %fd.name %container.name'
  tidewatch replay trace.scap --rules new.yaml")]
    Record(RecordArgs),
    /// Run a command, and watch it and everything that it starts; needs no rights and no service.
    #[command(after_help = "Examples:
  tidewatch wrap -- make test                 findings on standard error, the exit code is that of make
  tidewatch wrap --fail-on warning -- ./install.sh    exit code 4 if a warning or worse was found
  tidewatch wrap --output findings.json --quiet -- npm ci    findings as JSON lines in a file")]
    Wrap(WrapArgs),
    /// Check, list, show, explain and test rules; look up the fields that they may use.
    Rules(RulesArgs),
    /// Say what works on this host, how the running service is, and what would mend the rest.
    Doctor(DoctorArgs),
    /// Check and show the configuration, and what keys there are.
    Config(crate::config::ConfigArgs),
    /// Print a completion script for a shell.
    #[command(after_help = "Example: tidewatch completion bash > /etc/bash_completion.d/tidewatch")]
    Completion {
        /// The shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// The heading of what every verb takes.
const GLOBAL: &str = "Global options";

/// Settings given on the command line: they win over files and environment.
#[derive(Clone, Debug, Default, Args)]
pub struct SetArgs {
    /// Set any key of the configuration, such as spool.max_mib=64. Repeatable. `tidewatch config show --effective`
    /// lists the keys.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_set)]
    pub set: Vec<(String, String)>,
}

/// Which rules, and what they may do.
#[derive(Clone, Debug, Args)]
pub struct RuleArgs {
    /// Rule file, or folder of rule files (*.yaml, *.yml, in the order of their names). Repeatable; replaces the
    /// default pack.
    #[arg(short, long, value_name = "FILE_OR_DIR")]
    pub rules: Vec<PathBuf>,
    /// Leave out alerts below this priority.
    #[arg(long, value_name = "PRIORITY", value_parser = parse_priority)]
    pub priority: Option<tw_model::Priority>,
    /// Which rules speak when several match one event.
    #[arg(long, value_enum)]
    pub matching: Option<MatchingArg>,
    /// Start although some rules are broken; they are left out.
    #[arg(long)]
    pub skip_broken_rules: bool,
}

/// Arguments of `run` and `agent`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub rules: RuleArgs,
    /// Print each alert as one JSON line on standard output, in Falco's format, and nothing else there.
    #[arg(long)]
    pub json: bool,
    /// Append each alert as a JSON line to this file too.
    #[arg(long, value_name = "FILE")]
    pub alerts_file: Option<PathBuf>,
    /// How to watch; auto takes the best that is allowed.
    #[arg(long, value_enum)]
    pub sensor: Option<crate::config::SensorChoice>,
    /// Socket of Docker Engine.
    #[arg(long, value_name = "PATH")]
    pub docker_socket: Option<PathBuf>,
    /// Do not ask Docker for names and images.
    #[arg(long)]
    pub no_docker: bool,
    /// Privileged calls (mount, setns, ptrace, setuid …) that a container may make each second before the rest is
    /// counted instead of looked at.
    #[arg(long, value_name = "N")]
    pub privileged_rate: Option<u32>,
    /// Stop after this many seconds.
    #[arg(long, value_name = "SECONDS")]
    pub duration: Option<u64>,
    #[command(flatten)]
    pub set: SetArgs,
}

impl RunArgs {
    /// The options as settings, in the words of the configuration.
    pub fn settings(&self) -> Vec<(String, String)> {
        let mut settings = self.rules.settings();
        let mut set = |key: &str, value: String| settings.push((key.to_owned(), value));
        if self.json {
            set("output.stdout", "json".into());
        }
        if let Some(file) = &self.alerts_file {
            set("output.file", quoted(&absolute(file)));
        }
        if let Some(socket) = &self.docker_socket {
            set("agent.docker_socket", quoted(&absolute(socket)));
        }
        if let Some(sensor) = self.sensor {
            set("agent.sensor", sensor.name().into());
        }
        if self.no_docker {
            set("agent.docker", "false".into());
        }
        if let Some(rate) = self.privileged_rate {
            set("agent.privileged_rate", rate.to_string());
        }
        settings.extend(self.set.set.iter().cloned());
        settings
    }
}

impl RuleArgs {
    /// The options as settings.
    pub fn settings(&self) -> Vec<(String, String)> {
        let mut settings = Vec::new();
        let mut set = |key: &str, value: String| settings.push((key.to_owned(), value));
        if !self.rules.is_empty() {
            let files: Vec<String> = self.rules.iter().map(|file| quoted(&absolute(file))).collect();
            set("rules.files", format!("[{}]", files.join(", ")));
        }
        if let Some(priority) = self.priority {
            set("agent.priority", priority.name().to_lowercase());
        }
        match self.matching {
            Some(MatchingArg::All) => set("rules.matching", "all".into()),
            Some(MatchingArg::First) => set("rules.matching", "first".into()),
            None => {}
        }
        if self.skip_broken_rules {
            set("rules.skip_broken", "true".into());
        }
        settings
    }
}

/// A path as text of YAML, whatever is in it.
fn quoted(path: &std::path::Path) -> String {
    serde_json::Value::from(path.to_string_lossy()).to_string()
}

/// The same path from any working directory.
fn absolute(path: &std::path::Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn parse_set(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("KEY=VALUE is wanted, such as spool.max_mib=64")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

/// Arguments of `manager`.
#[derive(Clone, Debug, Args)]
pub struct ManagerArgs {
    #[command(flatten)]
    pub set: SetArgs,
}

/// Arguments of verbs that ask the running service.
#[derive(Clone, Debug, Args)]
pub struct AskArgs {
    /// Answer as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub set: SetArgs,
}

/// Arguments of `findings`.
#[derive(Clone, Debug, Args)]
pub struct FindingsArgs {
    /// Not older than this: a time (2026-11-24T08:00:00Z) or how long ago (15m, 2h, 7d).
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    pub since: Option<String>,
    /// Not younger than this.
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    pub until: Option<String>,
    /// This bad or worse.
    #[arg(long, value_name = "PRIORITY", value_parser = parse_priority)]
    pub priority: Option<tw_model::Priority>,
    /// Only of the rule of this name.
    #[arg(long, value_name = "NAME")]
    pub rule: Option<String>,
    /// Only of the container of this name, or whose id begins so.
    #[arg(long, value_name = "NAME_OR_ID")]
    pub container: Option<String>,
    /// Only of containers of this image.
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Only with this text in the message.
    #[arg(short = 'q', long = "text", value_name = "TEXT")]
    pub text: Option<String>,
    /// How many at most.
    #[arg(short = 'n', long, default_value_t = 100, value_name = "N", value_parser = parse_limit)]
    pub limit: u64,
    /// Go on with what comes, until interrupted.
    #[arg(short, long)]
    pub follow: bool,
    #[command(flatten)]
    pub ask: AskArgs,
}

/// Arguments of `show`.
#[derive(Clone, Debug, Args)]
pub struct ShowArgs {
    /// Id of the finding, or its first characters (six at least).
    pub id: String,
    #[command(flatten)]
    pub ask: AskArgs,
}

/// Arguments of `containers`.
#[derive(Clone, Debug, Args)]
pub struct ContainersArgs {
    /// Those that are gone as well.
    #[arg(short, long)]
    pub all: bool,
    #[command(flatten)]
    pub ask: AskArgs,
}

/// Arguments of `replay`.
#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// Segments (*.twrec), captures of sysdig or Falco (*.scap, also compressed), or folders of them; without any, the
    /// recording of this host.
    #[arg(value_name = "FILE_OR_DIR")]
    pub paths: Vec<PathBuf>,
    /// List the files instead.
    #[arg(long)]
    pub list: bool,
    /// Print findings as JSON lines, as `run --json` does.
    #[arg(long)]
    pub json: bool,
    /// Say at the end, on standard error, how much was read, how fast, and what each rule found.
    #[arg(long)]
    pub stats: bool,
    /// Nothing that happened before: a time, or how long ago (15m, 2h, 7d).
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    pub since: Option<String>,
    /// Nothing that happened after.
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    pub until: Option<String>,
    #[command(flatten)]
    pub rules: RuleArgs,
    #[command(flatten)]
    pub set: SetArgs,
}

/// Arguments of `wrap`.
#[derive(Clone, Debug, Args)]
pub struct WrapArgs {
    #[command(flatten)]
    pub rules: RuleArgs,
    /// Print findings on standard error as JSON lines, in Falco's format, and nothing else there.
    #[arg(long)]
    pub json: bool,
    /// Append each finding as a JSON line to this file.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Print nothing on standard error.
    #[arg(short, long)]
    pub quiet: bool,
    /// End with exit code 4 if something this bad or worse was found, and the command itself ended well.
    #[arg(long, value_name = "PRIORITY", value_parser = parse_priority)]
    pub fail_on: Option<tw_model::Priority>,
    /// Name of the container that the command passes for in rules and findings [default: name of the program].
    #[arg(long, value_name = "NAME", conflicts_with = "no_container")]
    pub as_container: Option<String>,
    /// Look at the command as a process of the host: rules about containers say nothing of it then.
    #[arg(long)]
    pub no_container: bool,
    /// Kill what the command leaves running when it ends, instead of waiting for it.
    #[arg(long)]
    pub kill_rest: bool,
    #[command(flatten)]
    pub set: SetArgs,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}

/// Which rules speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MatchingArg {
    /// Every rule that matches.
    All,
    /// Only the first, in the order of definition, as Falco does by default.
    First,
}

/// Arguments of `doctor`.
#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// Socket of Docker Engine.
    #[arg(long, value_name = "PATH")]
    pub docker_socket: Option<PathBuf>,
    #[command(flatten)]
    pub ask: AskArgs,
}

fn parse_limit(text: &str) -> Result<u64, String> {
    let number = text.parse().map_err(|_| "a whole number is wanted".to_owned())?;
    if number == 0 { Err("must be at least 1".into()) } else { Ok(number) }
}

/// Whether it is a time is told before anybody is asked; which one is a matter of who reads it.
fn parse_when(text: &str) -> Result<String, tw_manager::api::NoMoment> {
    tw_manager::api::moment(text, jiff::Timestamp::now()).map(|_| text.to_owned())
}

fn parse_priority(text: &str) -> Result<tw_model::Priority, String> {
    tw_model::Priority::parse(text).ok_or_else(|| {
        let names: Vec<&str> = tw_model::Priority::ALL.iter().map(|priority| priority.name()).collect();
        format!("not a priority; it is one of {}", names.join(", "))
    })
}

/// Writes the completion script for `shell` to standard output.
pub fn completion(shell: clap_complete::Shell) {
    let mut command = <Cli as clap::CommandFactory>::command();
    clap_complete::generate(shell, &mut command, "tidewatch", &mut std::io::stdout());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_in_order() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn priorities_are_read_in_any_case() {
        let cli = Cli::try_parse_from(["tidewatch", "run", "--priority", "warning"]).unwrap();
        let Command::Run(args) = cli.command else { panic!() };
        assert_eq!(args.rules.priority, Some(tw_model::Priority::Warning));
        assert!(Cli::try_parse_from(["tidewatch", "run", "--priority", "bad"]).is_err());
    }

    #[test]
    fn bad_times_and_limits_are_told_in_one_way() {
        let said = |args: &[&str]| Cli::try_parse_from(args).unwrap_err().to_string();
        for verb in ["findings", "replay"] {
            let said = said(&["tidewatch", verb, "--since", "yesterday"]);
            assert!(said.contains("'--since <WHEN>': neither a time nor how long ago: give a time such as"), "{said}");
        }
        let limit = said(&["tidewatch", "findings", "--limit", "0"]);
        assert!(limit.contains("'--limit <N>': must be at least 1"), "{limit}");
    }

    #[test]
    fn every_verb_has_the_global_options_at_its_end() {
        fn look(command: &mut clap::Command) {
            let help = command.render_help().to_string();
            let (own, global) = help.split_once("\nGlobal options:\n").expect(&help);
            assert!(!own.contains("--verbose") && !own.contains("--config "), "{help}");
            // Each on one line, in 100 columns.
            let global = global.split("\n\n").next().unwrap();
            assert_eq!(global.trim_end().lines().count(), 2, "{help}");
            for verb in command.get_subcommands_mut().filter(|verb| verb.get_name() != "help") {
                look(verb);
            }
        }
        let mut command = <Cli as clap::CommandFactory>::command().term_width(100);
        command.build();
        look(&mut command);
    }

    #[test]
    fn options_become_settings_whatever_is_in_them() {
        let cli = Cli::try_parse_from([
            "tidewatch",
            "run",
            "--json",
            "--rules",
            "/a, b].yaml",
            "--set",
            "spool.max_mib=64",
            "--no-docker",
        ]);
        let Command::Run(args) = cli.unwrap().command else { panic!() };
        let settings = args.settings();
        let text: Vec<String> = settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let wanted = [r#"rules.files=["/a, b].yaml"]"#, "output.stdout=json", "agent.docker=false", "spool.max_mib=64"];
        assert_eq!(text, wanted);
    }
}
