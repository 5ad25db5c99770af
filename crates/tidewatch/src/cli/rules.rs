//! The command line of `rules`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};

/// Arguments of `rules`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without files, these verbs look at the rules that the configuration names (rules.files), which is the default pack as
long as it names none.

Examples:
  tidewatch rules check my_rules.yaml            are they in order? what is wrong, and where
  tidewatch rules list --tag T1611               which rules are about escapes to the host?
  tidewatch rules show 'New Program Run in Container'
  tidewatch rules explain 'New Program Run in Container' --event event.yaml
                                                 why does it match this event, or why not?
  tidewatch rules fields proc.                   which fields are there, and what do they mean?
  tidewatch rules test my_rules.yaml             run the tests that stand in the file
  tidewatch rules bench --rules my_rules.yaml    which of my rules is slow?")]
pub struct RulesArgs {
    /// What to do with rules.
    #[command(subcommand)]
    pub command: RulesCommand,
}

/// What to do with rules.
#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// Load rule files and report what is wrong, with file, line and column. Exit 0 if all load, else 1.
    #[command(after_help = "Examples:
  tidewatch rules check my_rules.yaml
  tidewatch rules check --strict rules.d/               warnings count as well
  tidewatch rules check --compat falco falco_rules.yaml would Falco understand the same?
  tidewatch rules check --format sarif my_rules.yaml > check.sarif   for code review")]
    Check(RulesCheckArgs),
    /// List rules with their priority, the events they look at, and tags.
    #[command(after_help = "Examples:
  tidewatch rules list --priority warning        those that are at least this bad
  tidewatch rules list --event execve --tag container
  tidewatch rules list --json | jq -r '.[].name'")]
    List(RulesListArgs),
    /// Show a rule, macro or list whole: what it finds, what to do, its condition laid out, and who uses it.
    #[command(after_help = "Examples:
  tidewatch rules show 'Runtime Socket Used in Container'
  tidewatch rules show --macro container         whatever else has this name")]
    Show(RulesShowArgs),
    /// Print the condition of a rule as a tree with macros unfolded; with an event, why each part holds or does not.
    #[command(after_help = "\
An event is written as in tests: `type`, and whatever of `proc`, `container`, `path`, `remote` … matters.

Examples:
  tidewatch rules explain 'Runtime Socket Used in Container'
  tidewatch rules explain 'Runtime Socket Used in Container' --event event.yaml
  tidewatch rules explain 'My Rule' --rules my_rules.yaml --event my_rules.yaml:42    the event of a test at line 42
  tidewatch rules explain 'My Rule' --replay web.scap --num 4711
  echo '{type: connect, proto: unix, path: /run/docker.sock}' |
    tidewatch rules explain 'Runtime Socket Used in Container' --event -")]
    Explain(RulesExplainArgs),
    /// List the fields that conditions and outputs may use, with their meaning and source.
    Fields {
        /// Only fields whose name or meaning contains this text.
        search: Option<String>,
        /// List as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run the tests that stand in rule files. Exit 0 if there are any and all are passed, else 1.
    #[command(after_help = "\
A test is an item of a rule file, or of a file of its own beside it:
  - test: A client in a web container speaks to Docker
    of: Runtime Socket Used in Container
    events:
      - {type: connect, proto: unix, path: /run/docker.sock, container: {name: shop, image: shop/web}}
      - {type: connect, proto: unix, path: /run/db.sock, container: {name: shop, image: shop/web}}
    hits: [1]

Examples:
  tidewatch rules test my_rules.yaml
  tidewatch rules test --rules my_rules.yaml my_tests.yaml
  tidewatch rules test --coverage                which rules have no test?
  tidewatch rules test rules.d/ --junit result.xml")]
    Test(RulesTestArgs),
    /// Say what each rule costs and how often it hits, over a recording or made-up events.
    #[command(after_help = "\
Each rule is tried alone on every event of its kinds, and all of them together as the service does it. Together they
cost far less than the sum: what several rules ask is found out once.

Examples:
  tidewatch rules bench                          over the built-in mix of everyday events
  tidewatch rules bench --rules my_rules.yaml
  sudo tidewatch rules bench /var/lib/tidewatch/agent/recorder
                                                 over what was recorded on this host
  tidewatch rules bench web.scap --json | jq '.rules[0]'")]
    Bench(RulesBenchArgs),
}

/// The rules that a verb is about.
#[derive(Clone, Debug, Args)]
pub struct RulesFromArgs {
    /// Rule file, or folder of rule files; `-` for standard input. Repeatable. Without: the rules that the configuration
    /// names.
    #[arg(short, long, value_name = "FILE_OR_DIR")]
    pub rules: Vec<PathBuf>,
}

/// How `rules check` reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// For people: source lines underlined, and a summary.
    #[default]
    Human,
    /// One JSON object.
    Json,
    /// SARIF 2.1.0, which code reviews and editors take.
    Sarif,
}

/// Arguments of `rules check`.
#[derive(Clone, Debug, Args)]
pub struct RulesCheckArgs {
    /// Rule files or folders, loaded together in this order; `-` for standard input. Those that the configuration names if
    /// none.
    #[arg(value_name = "FILE_OR_DIR")]
    pub files: Vec<PathBuf>,
    /// How to report.
    #[arg(long, value_enum, default_value_t)]
    pub format: CheckFormat,
    /// Report as JSON: short for --format json.
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// Fail for warnings too.
    #[arg(long)]
    pub strict: bool,
    /// Read the rules in this way, whatever rules.compat of the configuration says.
    #[arg(long, value_enum, value_name = "HOW")]
    pub compat: Option<crate::config::Compat>,
}

/// Arguments of `rules list`.
#[derive(Clone, Debug, Args)]
pub struct RulesListArgs {
    /// Rule files or folders; `-` for standard input. Those that the configuration names if none.
    #[arg(value_name = "FILE_OR_DIR")]
    pub files: Vec<PathBuf>,
    /// Only with this tag. Repeatable: with all of them.
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
    /// Only this bad or worse.
    #[arg(long, value_name = "PRIORITY", value_parser = super::parse_priority)]
    pub priority: Option<tw_model::Priority>,
    /// Only those that look at events of this type. Repeatable: at one of them.
    #[arg(long, value_name = "TYPE", value_parser = parse_event)]
    pub event: Vec<tw_model::EventKind>,
    /// Only those that can find something in this mode: ebpf, fanotify, connector or wrap.
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    pub mode: Option<tw_model::Mode>,
    /// Only rules that are enabled.
    #[arg(long, conflicts_with = "disabled")]
    pub enabled: bool,
    /// Only rules that are disabled.
    #[arg(long)]
    pub disabled: bool,
    /// List as JSON.
    #[arg(long)]
    pub json: bool,
}

fn parse_mode(text: &str) -> Result<tw_model::Mode, String> {
    let known = tw_model::Mode::ALL.into_iter().find(|mode| mode.name() == text);
    known.ok_or_else(|| format!("it is one of {}", tw_model::Mode::ALL.map(tw_model::Mode::name).join(", ")))
}

/// Arguments of `rules show`.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("kind").args(["rule", "macro_", "list"]))]
pub struct RulesShowArgs {
    /// Name of a rule, macro or list.
    pub name: String,
    /// Only a rule.
    #[arg(long)]
    pub rule: bool,
    /// Only a macro.
    #[arg(long = "macro")]
    pub macro_: bool,
    /// Only a list.
    #[arg(long)]
    pub list: bool,
    #[command(flatten)]
    pub from: RulesFromArgs,
    /// Show as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `rules explain`.
#[derive(Clone, Debug, Args)]
pub struct RulesExplainArgs {
    /// Name of a rule or macro.
    pub name: String,
    /// A file with an event, a list of events, or a rule file with tests; `-` for standard input. FILE:LINE is the event
    /// at this line.
    #[arg(long, value_name = "FILE")]
    pub event: Option<PathBuf>,
    /// A segment of the flight recorder or a capture with the event.
    #[arg(long, value_name = "CAPTURE", conflicts_with = "event", requires = "num")]
    pub replay: Option<PathBuf>,
    /// Which of several events: counted from 1 with --event; with --replay the event's number, as in `evt.num` and in
    /// findings.
    #[arg(long, value_name = "N")]
    pub num: Option<u64>,
    #[command(flatten)]
    pub from: RulesFromArgs,
    /// Explain as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `rules bench`.
#[derive(Clone, Debug, Args)]
pub struct RulesBenchArgs {
    /// Segments of the flight recorder (*.twrec), captures of sysdig and Falco (*.scap), or folders of them; the built-in
    /// mix if none.
    #[arg(value_name = "CAPTURE")]
    pub captures: Vec<PathBuf>,
    /// Events out of a file as `rules explain` reads it (`-` for standard input), instead of captures.
    #[arg(long, value_name = "FILE", conflicts_with = "captures")]
    pub events: Option<PathBuf>,
    /// Stop after this many events.
    #[arg(short = 'n', long, value_name = "N")]
    pub limit: Option<u64>,
    /// List every rule, not only those that cost most.
    #[arg(short, long)]
    pub all: bool,
    #[command(flatten)]
    pub from: RulesFromArgs,
    /// Report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `rules test`.
#[derive(Clone, Debug, Args)]
pub struct RulesTestArgs {
    /// Files with tests, or folders of them; rule files are both; `-` for standard input. Without any: the rules that the
    /// configuration names, and the tests of the default pack if that is among them.
    #[arg(value_name = "FILE_OR_DIR")]
    pub files: Vec<PathBuf>,
    /// Rule file or folder that the tests are about, loaded before FILEs; `-` for standard input. Repeatable.
    #[arg(short, long, value_name = "FILE_OR_DIR")]
    pub rules: Vec<PathBuf>,
    /// Only tests about the rule of this name.
    #[arg(long, value_name = "NAME")]
    pub of: Option<String>,
    /// Say too which rules have no event that they must find, or none that they must leave alone; fail if there is one.
    #[arg(long)]
    pub coverage: bool,
    /// Write the result as JUnit XML to this file too.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Report as JSON.
    #[arg(long)]
    pub json: bool,
}

fn parse_event(text: &str) -> Result<tw_model::EventKind, String> {
    tw_model::EventKind::from_name(text).ok_or_else(|| {
        let near = tw_model::field::nearest(text, tw_model::event::EVENTS.iter().map(|info| info.name));
        match near.as_slice() {
            [] => "not an event type that is delivered; docs/events.md lists them".to_owned(),
            near => format!("not an event type that is delivered; did you mean {}?", near.join(" or ")),
        }
    })
}
