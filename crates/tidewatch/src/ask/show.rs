//! Answers of the service, for people.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Write as _};

use anstyle::{AnsiColor, Style};
use tw_manager::api::{ContainerItem, FindingItem, ListenerItem, Overview};
use tw_model::status::{AgentStatus, LastEnd, RuleFile, RulesOrigin};
use tw_report::{escape, terminal};

use crate::rules;
use crate::screen::{self, bytes, print_stdout};

const GOOD: Style = AnsiColor::Green.on_default();
const DOUBT: Style = AnsiColor::Yellow.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();
/// Most rule files that are listed.
const LISTED: usize = 12;
/// Most ports of one container that are listed.
const PORTS: usize = 6;

/// Seconds without a word after which the agent is not believed to watch: it says something each second.
const SILENT: f64 = 3.0;

/// Seconds since the agent's last word, if that is too long or the link is down.
pub fn silence(status: &Overview) -> Option<f64> {
    status.link.heard.filter(|seconds| *seconds > SILENT || !status.link.up)
}

fn stdout() -> anstream::AutoStream<io::Stdout> {
    anstream::AutoStream::auto(io::stdout())
}

/// The one-screen answer to "is it well?".
pub fn status(status: &Overview) -> io::Result<()> {
    let mut out = stdout();
    let problems = &status.problems;
    let (style, word) = match (problems.iter().any(|problem| problem.failed), problems.is_empty()) {
        (true, _) => (BAD, "not well"),
        (false, false) => (DOUBT, "works, with limits"),
        (false, true) => (GOOD, "well"),
    };
    writeln!(out, "{BOLD}Tidewatch{BOLD:#}   {style}{word}{style:#}")?;
    match (&status.agent, silence(status)) {
        (Some(agent), None) => watching(&mut out, agent)?,
        (Some(_), Some(seconds)) => {
            writeln!(out, "  agent       {BAD}silent{BAD:#} for {seconds:.0} s: it was ended, or it hangs")?;
        }
        (None, _) => writeln!(out, "  agent       {DOUBT}not heard of yet{DOUBT:#}")?,
    }
    if status.manager.pid != 0 {
        let (store, up) = (&status.manager.store, status.manager.store.up);
        let style = if up { GOOD } else { BAD };
        let holds = if up {
            let findings = counted(store.rows.get("findings").copied().unwrap_or(0), "finding");
            format!("  {}, {findings} kept", bytes(store.bytes))
        } else {
            String::new()
        };
        let word = if up { "up" } else { "down" };
        writeln!(out, "  store       {style}{word}{style:#}{holds}  {DIM}{}{DIM:#}", escape::short(&store.url, 80))?;
        let memory = bytes(status.manager.usage.resident_bytes);
        writeln!(out, "  manager     pid {}, {memory} of memory", status.manager.pid)?;
    }
    if let Some(kubernetes) = &status.kubernetes {
        let (style, word) = if kubernetes.up { (GOOD, "watched") } else { (DOUBT, "not watched") };
        writeln!(
            out,
            "  kubernetes  {style}{word}{style:#}, {} on node {}  {DIM}{}{DIM:#}",
            counted(kubernetes.pods, "pod"),
            escape::short(&kubernetes.node, 64),
            escape::short(&kubernetes.server, 80)
        )?;
    }
    for child in status.supervisor.iter().flat_map(|supervisor| &supervisor.children).filter(|child| child.restarts > 0)
    {
        writeln!(
            out,
            "  {:<11} {DOUBT}started again {}{DOUBT:#}, last end: {}",
            child.name,
            times(child.restarts),
            escape::short(&child.last_end, 100)
        )?;
    }
    for problem in problems {
        let style = if problem.failed { BAD } else { DOUBT };
        writeln!(out)?;
        for line in problem.what.trim().lines() {
            writeln!(out, "{style}▌{style:#} {}", escape::line(line))?;
        }
        writeln!(out, "{style}▌{style:#} {DIM}→ {}{DIM:#}", escape::line(&problem.remedy))?;
    }
    out.flush()
}

fn counted(number: u64, noun: &str) -> String {
    screen::count(usize::try_from(number).unwrap_or(usize::MAX), noun)
}

fn times(n: u64) -> String {
    if n == 1 { "once".into() } else { format!("{n} times") }
}

fn watching(out: &mut impl io::Write, agent: &AgentStatus) -> io::Result<()> {
    let since = agent.time_ns.saturating_sub(agent.started_ns) / 1_000_000_000;
    writeln!(
        out,
        "  agent       {GOOD}watching{GOOD:#} {} for {}, pid {}, {} of memory",
        escape::short(&agent.node.hostname, 40),
        span(since),
        agent.pid,
        bytes(agent.usage.resident_bytes)
    )?;
    let working = agent.hooks.iter().filter(|hook| hook.problem.is_none()).count();
    let lost: u64 = agent.events.iter().map(|event| event.lost_ring + event.lost_scratch).sum();
    let style = if lost > 0 { DOUBT } else { GOOD };
    writeln!(
        out,
        "  events      {} seen, {style}{lost} lost{style:#}, {}{} of {} hooks, kernel {}",
        agent.inspected,
        if agent.mode.is_empty() || agent.mode == "ebpf" { String::new() } else { format!("{}, ", agent.mode) },
        working,
        agent.hooks.len(),
        escape::short(&agent.kernel, 40)
    )?;
    coverage(out, agent)?;
    let style = if agent.rules.origin == RulesOrigin::Configured { Style::new() } else { BAD };
    writeln!(
        out,
        "  rules       {style}{}{style:#} from {}  {DIM}digest {}{DIM:#}",
        counted(agent.rules.enabled, "rule"),
        escape::short(&agent.rules.source, 120),
        agent.rules.digest.get(..12).unwrap_or_default()
    )?;
    rule_files(out, &agent.rules.files)?;
    for option in &agent.rules.options {
        writeln!(out, "              {DIM}{}{DIM:#}", escape::short(option, 160))?;
    }
    let findings: u64 = agent.findings.by_priority.iter().map(|(_, n)| n).sum();
    let levels = agent.findings.by_priority.iter().filter(|(_, n)| *n > 0);
    let levels: Vec<String> = levels.map(|(level, n)| format!("{n} {}", level.name().to_lowercase())).collect();
    writeln!(out, "  findings    {findings} since its start{}", dashed(&levels.join(", ")))?;
    writeln!(out, "  containers  {} running, {} processes known", agent.world.containers, agent.world.processes)?;
    for runtime in &agent.runtimes {
        let style = if runtime.up { GOOD } else { DOUBT };
        writeln!(
            out,
            "  runtime     {style}{}{style:#} {}",
            escape::line(&runtime.name),
            escape::short(&runtime.says, 80)
        )?;
    }
    if agent.runtimes.is_empty() {
        writeln!(out, "  runtime     none is asked: containers have ids but no names")?;
    }
    if let Some(resources) = &agent.resources {
        writeln!(
            out,
            "  resources   {} measured every {:.1} s",
            counted(resources.containers, "container"),
            resources.interval_ms as f64 / 1e3
        )?;
    }
    if let Some(spool) = &agent.spool {
        let waiting: u64 = spool.lanes.iter().map(|lane| lane.newest.saturating_sub(lane.acked)).sum();
        let used: u64 = spool.lanes.iter().map(|lane| lane.bytes).sum();
        writeln!(
            out,
            "  spool       {waiting} waiting for the manager, {} of {}",
            bytes(used),
            bytes(spool.max_bytes)
        )?;
    }
    if let Some(recorder) = &agent.recorder {
        let reach = agent.time_ns.saturating_sub(recorder.oldest_ns) / 1_000_000_000;
        let reach = if recorder.oldest_ns == 0 { "nothing yet".into() } else { format!("the last {}", span(reach)) };
        writeln!(
            out,
            "  recorder    {reach}, {} of {}, {} lost",
            bytes(recorder.bytes),
            bytes(recorder.max_bytes),
            counted(recorder.lost, "record")
        )?;
    }
    Ok(())
}

/// How much was seen in the last minute, of which containers it was not everything, and since when nobody is missing.
fn coverage(out: &mut impl io::Write, agent: &AgentStatus) -> io::Result<()> {
    let coverage = &agent.coverage;
    let style = if coverage.minute.missed.is_empty() { GOOD } else { DOUBT };
    writeln!(out, "  coverage    {style}{}{style:#}", escape::short(&coverage.minute.words(), 160))?;
    for container in coverage.worst.iter().take(4) {
        let name = if container.name.is_empty() { &container.id } else { &container.name };
        let words = container.coverage.words();
        writeln!(out, "              {DIM}{}: {}{DIM:#}", escape::short(name, 30), escape::short(&words, 160))?;
    }
    if let Some(gap) = &coverage.unwatched {
        let (from, until) = (tw_report::iso_time(gap.from_ns), tw_report::iso_time(gap.until_ns));
        let how = match gap.end {
            LastEnd::Asked => "it was told to end",
            LastEnd::Killed => "it was killed, or crashed",
            LastEnd::HostStarted => "the host was started anew",
        };
        let seconds = gap.until_ns.saturating_sub(gap.from_ns) as f64 / 1e9;
        writeln!(
            out,
            "              {DIM}before this start nobody watched for {seconds:.1} s, from {} to {} UTC: {how}{DIM:#}",
            moment(&from),
            moment(&until)
        )?;
    }
    if agent.budget.level > 0 {
        writeln!(
            out,
            "  budget      {DOUBT}{:.0} % of a core, of {:.0} %{DOUBT:#}; given up: {}",
            agent.budget.used * 100.0,
            agent.budget.cores * 100.0,
            escape::short(&agent.budget.given_up.join("; "), 300)
        )?;
    }
    Ok(())
}

/// Each with its digest, which `sha256sum` gives too; those of the operator before ours.
fn rule_files(out: &mut impl io::Write, files: &[RuleFile]) -> io::Result<()> {
    let mut files: Vec<&RuleFile> = files.iter().collect();
    files.sort_by_key(|file| rules::is_of_pack(&file.name));
    let width = files.iter().take(LISTED).map(|file| file.name.chars().count()).max().unwrap_or(0).min(80);
    for file in files.iter().take(LISTED) {
        let digest = file.digest.get(..12).unwrap_or_default();
        writeln!(out, "              {DIM}{:<width$}  {digest}{DIM:#}", escape::short(&file.name, 80))?;
    }
    if let more @ 1.. = files.len().saturating_sub(LISTED) {
        writeln!(out, "              {DIM}and {more} more: --json has them{DIM:#}")?;
    }
    Ok(())
}

fn dashed(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" – {text}") }
}

/// Seconds as a person says them.
fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// One line each; with `json` the lines of `run --json`.
pub fn findings(findings: &[FindingItem], json: bool) -> io::Result<()> {
    let mut out = stdout();
    for item in findings {
        let finding = &item.finding;
        if json {
            print_stdout(&(tw_report::json::line(finding, &crate::agent::hostname()) + "\n"))?;
            continue;
        }
        let style = terminal::colour(finding.priority);
        let container = match &finding.container {
            Some(container) if container.name.is_empty() => &container.id,
            Some(container) => &container.name,
            None => "host",
        };
        let sentence = finding.message.split_once(" | ").map_or(&*finding.message, |(sentence, _)| sentence);
        writeln!(
            out,
            "{DIM}{}  {}Z{DIM:#}  {style}{:<9}{style:#} {BOLD}{}{BOLD:#}  {}  {DIM}{}{DIM:#}",
            item.id,
            moment(&item.time),
            finding.priority.name().get(..9).unwrap_or(finding.priority.name()),
            escape::short(finding.cause.name(), 50),
            escape::short(container, 30),
            escape::short(sentence, 120)
        )?;
    }
    out.flush()
}

/// Instead of findings, where none pass the filter: the newest that does not.
pub fn nothing_fits(newest: &FindingItem) -> String {
    format!("nothing that fits; the newest of all findings is of {} UTC", moment(&newest.time))
}

/// Instead of findings, where none are stored: since when that means something.
pub fn nothing_yet(status: &Overview) -> String {
    match (&status.agent, silence(status)) {
        (Some(agent), None) => format!(
            "nothing found yet; the agent has watched since {} UTC, for {}",
            moment(&tw_report::iso_time(agent.started_ns)),
            span(agent.time_ns.saturating_sub(agent.started_ns) / 1_000_000_000)
        ),
        _ => "nothing found yet, but the agent may not watch: `tidewatch status` says more".to_owned(),
    }
}

/// A time of the API to the second.
fn moment(time: &str) -> String {
    time.get(..19).unwrap_or(time).replace('T', " ")
}

/// One finding, as its alert was shown.
pub fn finding(item: &FindingItem) -> io::Result<()> {
    let mut out = stdout();
    write!(out, "{}", terminal::block(&item.finding))?;
    let workload = if item.workload.is_empty() { String::new() } else { format!("  workload {}", item.workload) };
    writeln!(
        out,
        "{DIM}{}  happened {} UTC, stored {}{}{DIM:#}",
        item.id,
        moment(&item.time),
        moment(&item.received),
        escape::short(&workload, 100)
    )?;
    out.flush()
}

/// A table.
pub fn containers(containers: &[ContainerItem]) -> io::Result<()> {
    let mut out = stdout();
    if containers.is_empty() {
        anstream::eprintln!("no container runs that was seen; --all lists those that are gone as well");
        return Ok(());
    }
    writeln!(
        out,
        "{DIM}{:<12}  {:<28} {:<40} {:<8} {:<19}  LISTENS ON{DIM:#}",
        "ID", "NAME", "IMAGE", "STATE", "FIRST SEEN (UTC)"
    )?;
    for item in containers {
        let style = if item.gone.is_some() { DIM } else { GOOD };
        writeln!(
            out,
            "{:<12}  {:<28} {:<40} {style}{:<8}{style:#} {:<19}  {}",
            escape::short(item.container.short_id(), 12),
            escape::short(&item.container.name, 28),
            escape::short(&item.container.image, 40),
            if item.gone.is_some() { "gone" } else { "running" },
            moment(&item.first_seen),
            ports(&item.listening)
        )?;
    }
    out.flush()
}

/// `80/tcp 443/tcp`: each port once, and how many more there are.
fn ports(listening: &[ListenerItem]) -> String {
    let ports: BTreeSet<(u16, &str)> = listening.iter().map(|one| (one.port, one.protocol.as_str())).collect();
    let mut text: Vec<String> =
        ports.iter().take(PORTS).map(|(port, protocol)| format!("{port}/{}", escape::short(protocol, 8))).collect();
    if ports.len() > PORTS {
        text.push(format!("and {} more", ports.len() - PORTS));
    }
    text.join(" ")
}

/// A table.
pub fn listeners(listeners: &[ListenerItem], containers: &[ContainerItem]) -> io::Result<()> {
    let mut out = stdout();
    if listeners.is_empty() {
        anstream::eprintln!("nothing listens, as far as the agent saw; or it is away, which `tidewatch status` says");
        return Ok(());
    }
    let names: HashMap<&str, &str> =
        containers.iter().map(|item| (item.id.as_str(), item.container.name.as_str())).collect();
    writeln!(
        out,
        "{DIM}{:<28} {:<10} {:<40} {:<16} {:>8}  SINCE (UTC){DIM:#}",
        "WHERE", "PORT", "ADDRESS", "PROCESS", "PID"
    )?;
    for item in listeners {
        let id = item.container.as_str();
        let place = match names.get(id).filter(|name| !name.is_empty()) {
            Some(name) => (*name).to_owned(),
            None if id.is_empty() => "the host".to_owned(),
            None => tw_model::Container { id: id.to_owned(), ..Default::default() }.short_id().to_owned(),
        };
        writeln!(
            out,
            "{:<28} {:<10} {:<40} {:<16} {:>8}  {}",
            escape::short(&place, 28),
            format!("{}/{}", item.port, escape::short(&item.protocol, 8)),
            escape::short(&item.address, 40),
            escape::short(&item.process, 16),
            if item.pid == 0 { String::new() } else { item.pid.to_string() },
            item.since.as_deref().map_or_else(|| "before the agent looked".to_owned(), moment),
        )?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tw_model::Priority;

    #[test]
    fn nothing_yet_says_since_when_or_that_it_means_little() {
        let started_ns = 1_795_507_200_000_000_000;
        let agent = AgentStatus { started_ns, time_ns: started_ns + 600_000_000_000, ..AgentStatus::default() };
        let link = tw_manager::api::LinkOverview { up: true, heard: Some(0.5), ..Default::default() };
        let mut status = Overview { agent: Some(agent), link, ..Overview::default() };
        let said = nothing_yet(&status);
        assert!(said.contains("since 2026-11-24 08:00:00 UTC") && said.contains("10 min"), "{said}");
        status.link.heard = Some(60.0);
        assert!(nothing_yet(&status).contains("may not watch"));
        assert!(nothing_yet(&Overview::default()).contains("may not watch"));
    }

    #[test]
    fn a_port_is_listed_once_and_many_are_counted() {
        let on = |port: u16, protocol: &str, address: &str| {
            let item = serde_json::json!({"container": "", "protocol": protocol, "address": address, "port": port,
                "process": "x", "pid": 1, "since": null});
            serde_json::from_value::<ListenerItem>(item).unwrap()
        };
        assert_eq!(ports(&[]), "");
        let web = [on(443, "tcp", "::"), on(80, "tcp", "::"), on(80, "tcp", "0.0.0.0"), on(53, "udp", "::")];
        assert_eq!(ports(&web), "53/udp 80/tcp 443/tcp");
        let many: Vec<ListenerItem> = (1..=9).map(|port| on(port, "tcp", "::")).collect();
        assert_eq!(ports(&many), "1/tcp 2/tcp 3/tcp 4/tcp 5/tcp 6/tcp and 3 more");
    }

    #[test]
    fn rule_files_of_the_operator_are_listed_before_ours() {
        let file = |name: String| RuleFile { name, digest: "0123456789abcdef".into() };
        let pack = rules::RuleTexts::pack().files;
        let mut files: Vec<RuleFile> = pack.into_iter().map(|text| file(text.name)).collect();
        let (first, all) = (files[0].name.clone(), files.len() + 1);
        files.push(file("/etc/tidewatch/rules/mine.yaml".into()));
        let mut out = Vec::new();
        rule_files(&mut out, &files).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("/etc/tidewatch/rules/mine.yaml"), "{text}");
        assert!(lines[1].contains(&first) && lines.len() == all.min(LISTED + 1), "{text}");
    }

    #[test]
    fn levels_of_findings_add_up() {
        let mut agent = AgentStatus::default();
        agent.findings.by_priority = Priority::ALL.iter().map(|level| (*level, 2)).collect();
        let mut out = Vec::new();
        watching(&mut out, &agent).unwrap();
        let text = String::from_utf8(out).unwrap();
        let line = text.lines().find(|line| line.contains("since its start")).unwrap();
        assert!(line.contains("16 since") && line.matches("2 ").count() == Priority::ALL.len(), "{line}");
    }

    #[test]
    fn spans_are_said_in_the_unit_that_fits() {
        assert_eq!([span(5), span(600), span(7200), span(300_000)], ["5 s", "10 min", "2 h", "3 days"]);
        assert_eq!([times(1), times(2)], ["once", "2 times"]);
    }
}
