//! What the terminal shows beside alerts: the status at start, and small helpers of style.

use std::io::Write as _;

use anstyle::{AnsiColor, Style};
use tw_enrich::World;
use tw_model::status::{RulesOrigin, RulesStatus};
use tw_model::{Container, Mode};
use tw_report::escape;
use tw_sensor::Source;

/// Style of the word `error`.
pub const ERROR: Style = AnsiColor::Red.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default();
/// Style of what is doubtful.
pub const DOUBT: Style = AnsiColor::Yellow.on_default();
const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();

/// Containers listed one by one in the status.
const LISTED: usize = 8;

/// `1 rule`, `2 rules`.
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A size in the largest unit that leaves a number above one: `3.4 MiB`.
pub fn bytes(size: u64) -> String {
    let mut value = size as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{size} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// Writes to standard output.
///
/// # Errors
/// If nobody reads it any more.
pub fn print_stdout(text: &str) -> std::io::Result<()> {
    std::io::stdout().write_all(text.as_bytes())
}

/// The one-screen status, on standard error.
pub fn status(sensor: &dyn Source, world: &World, rules: &RulesStatus, mute: usize, seeded: (usize, bool)) {
    let mut out = anstream::AutoStream::auto(std::io::stderr().lock());
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    // A status that cannot be shown is no reason not to watch.
    let _ = writeln!(
        out,
        "{BOLD}Tidewatch {}{BOLD:#}  on {} ({release})",
        env!("CARGO_PKG_VERSION"),
        crate::agent::hostname()
    );
    let health = sensor.health();
    let all = health.hooks.len();
    let style = if health.working() == all { GOOD } else { DOUBT };
    let mode = sensor.mode();
    let style = if mode == Mode::Ebpf { style } else { DOUBT };
    let _ = writeln!(out, "  sensor      {style}{}, {} of {all} hooks{style:#}", mode.what(), health.working());
    if mute > 0 {
        let _ = writeln!(
            out,
            "              {DOUBT}{} can find nothing this way (tidewatch doctor){DOUBT:#}",
            count(mute, "rule")
        );
    }
    for hook in health.problems() {
        let problem = hook.problem.as_deref().unwrap_or_default();
        let _ =
            writeln!(out, "              {DOUBT}without {}: {} ({problem}){DOUBT:#}", hook.name, hook.consequence());
    }
    let enabled = usize::try_from(rules.enabled).unwrap_or(usize::MAX);
    // Others than were asked for are not what one hopes to see.
    let style = if rules.origin == RulesOrigin::Configured { GOOD } else { ERROR };
    let _ = write!(out, "  rules       {style}{}{style:#} from {}", count(enabled, "rule"), rules.source);
    if rules.origin != RulesOrigin::Configured {
        let _ = write!(out, ", {ERROR}since those that were asked for do not load{ERROR:#}");
    }
    if rules.broken > 0 {
        let _ = write!(out, ", {ERROR}{} broken{ERROR:#}", rules.broken);
    }
    if rules.warnings > 0 {
        let warnings = usize::try_from(rules.warnings).unwrap_or(usize::MAX);
        let _ = write!(out, ", {DIM}{} (tidewatch rules check){DIM:#}", count(warnings, "warning"));
    }
    let _ = writeln!(out);
    let mut runtimes = world.runtimes().filter(|runtime| !runtime.absent).peekable();
    if runtimes.peek().is_none() {
        let _ = writeln!(out, "  runtime     {DOUBT}none: containers have ids but no names{DOUBT:#}");
    }
    for runtime in runtimes {
        let (name, says) = (runtime.name, escape::short(&runtime.says, 100));
        let _ = match runtime.up {
            true => writeln!(out, "  runtime     {GOOD}{name}{GOOD:#} {DIM}{says}{DIM:#}"),
            false => writeln!(out, "  runtime     {DOUBT}{name} does not answer ({says}){DOUBT:#}"),
        };
    }
    let (processes, all_read) = seeded;
    let partly = if all_read { "" } else { " (reading /proc took too long: known from now on only)" };
    let _ = writeln!(out, "  processes   {processes}{partly}");
    let mut containers: Vec<&Container> = world.containers().filter(|container| container.pid != 0).collect();
    containers.sort_by(|a, b| a.name.cmp(&b.name));
    let _ = writeln!(out, "  containers  {} running", containers.len());
    for container in containers.iter().take(LISTED) {
        let _ = writeln!(
            out,
            "              {}  {DIM}{}{DIM:#}",
            escape::short(&container.name, 40),
            escape::short(&container.image, 60)
        );
    }
    if containers.len() > LISTED {
        let _ = writeln!(out, "              {DIM}and {} more{DIM:#}", containers.len() - LISTED);
    }
    let _ = writeln!(out, "{DIM}watching; Ctrl-C stops and leaves nothing behind{DIM:#}\n");
}
