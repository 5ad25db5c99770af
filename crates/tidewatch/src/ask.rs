//! The verbs that ask the running service, over its control socket.

mod client;
mod show;

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tw_manager::api::{ContainerItem, ContainerPage, FindingItem, FindingPage, ListenerPage, Overview, Reloaded};
use tw_model::link::SupervisorStatus;
use tw_model::status::Problem;

use crate::cli::{AskArgs, ContainersArgs, FindingsArgs, ShowArgs};
use crate::config::Config;
use crate::screen::{self, print_stdout};
use crate::{rules, when};
pub use client::{Client, agent_status};

/// How often `--follow` asks.
const FOLLOW: Duration = Duration::from_millis(500);
/// How late a finding may be stored and still be shown by `--follow`.
const LATE: Duration = Duration::from_secs(60);
/// Findings asked for at once.
const PAGE: u64 = 1000;

/// `status`: exit 0 if all is well, 1 if something failed.
///
/// # Errors
/// If nothing runs or nobody may be asked.
pub fn status(args: &AskArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let mut status: Overview = match Client::connect(config).and_then(|mut client| client.get("/api/v1/status", &[])) {
        Ok(status) => status,
        Err(error) => without_manager(config, error)?,
    };
    // The manager forgives a moment; whoever asks now wants to know now.
    let known = status.problems.iter().any(|problem| problem.code == "link-down");
    if let (Some(seconds), false) = (show::silence(&status), known) {
        status.problems.push(Problem {
            code: "agent-silent".into(),
            failed: true,
            what: format!("nothing was heard of the agent for {seconds:.0} s: nothing may be watched"),
            remedy: "if it was ended it is started again at once: ask again; else look at its log".into(),
        });
    }
    if args.json {
        print_stdout(&format!("{}\n", serde_json::to_string(&status)?))?;
    } else {
        show::status(&status)?;
    }
    let failed = status.problems.iter().any(|problem| problem.failed);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// While the manager is away, the agent can still be asked how it is.
fn without_manager(config: &Config, error: anyhow::Error) -> anyhow::Result<Overview> {
    let Ok(agent) = agent_status(config) else { return Err(error) };
    let supervisor: Option<SupervisorStatus> =
        std::fs::read(config.supervisor_file()).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let mut problems = vec![Problem {
        code: "manager-away".into(),
        failed: true,
        what: format!("the manager does not answer: {error:#}"),
        remedy: "the agent watches on and keeps findings in its spool; what the manager says is in the log".into(),
    }];
    problems.extend(agent.problems.iter().cloned());
    Ok(Overview { agent: Some(agent), supervisor, problems, ..Overview::default() })
}

/// `findings`.
///
/// # Errors
/// If the service cannot be asked.
pub fn findings(args: &FindingsArgs, config: &Config) -> anyhow::Result<ExitCode> {
    when::in_order(args.since.as_deref(), args.until.as_deref())?;
    let mut client = Client::connect(config)?;
    let mut query: Vec<(&str, String)> = Vec::new();
    let texts = [
        ("since", &args.since),
        ("until", &args.until),
        ("rule", &args.rule),
        ("container", &args.container),
        ("image", &args.image),
        ("q", &args.text),
    ];
    query.extend(texts.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
    query.extend(args.priority.map(|priority| ("priority", priority.name().to_lowercase())));
    if args.follow {
        return follow(&mut client, query, args);
    }
    let mut left = args.limit;
    let mut cursor: Option<String> = None;
    let mut any = false;
    while left > 0 {
        let mut page = query.clone();
        page.push(("limit", left.min(PAGE).to_string()));
        page.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let answer: FindingPage = client.get("/api/v1/findings", &page)?;
        left = left.saturating_sub(answer.findings.len() as u64);
        any |= !answer.findings.is_empty();
        show::findings(&answer.findings, args.ask.json)?;
        cursor = answer.next;
        if cursor.is_none() {
            break;
        }
    }
    if !args.ask.json {
        if !any {
            anstream::eprintln!("{}", nothing(&mut client, query.is_empty())?);
            for hint in hints(&mut client, args, config) {
                anstream::eprintln!("{}", tw_report::escape::line(&hint));
            }
        } else if cursor.is_some() {
            anstream::eprintln!("… and older ones: --limit or --until shows them");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What to say instead of findings; `all` if none were left out.
fn nothing(client: &mut Client, all: bool) -> anyhow::Result<String> {
    if !all {
        let page: FindingPage = client.get("/api/v1/findings", &[("limit", "1".to_owned())])?;
        if let Some(newest) = page.findings.first() {
            return Ok(show::nothing_fits(newest));
        }
    }
    Ok(show::nothing_yet(&client.get("/api/v1/status", &[])?))
}

/// Which filters no finding can pass, whatever was found: names are compared exactly.
fn hints(client: &mut Client, args: &FindingsArgs, config: &Config) -> Vec<String> {
    let mut hints: Vec<String> = args
        .rule
        .iter()
        .filter_map(|name| rules::no_such_rule(config, name))
        .map(|hint| format!("--rule: {hint}"))
        .collect();
    if args.container.is_none() && args.image.is_none() {
        return hints;
    }
    let query = [("all", "true".to_owned()), ("limit", PAGE.to_string())];
    // A hint less is no failure.
    let Ok(page) = client.get::<ContainerPage>("/api/v1/containers", &query) else { return hints };
    let seen = || page.containers.iter().map(|item| &item.container);
    if let Some(name) = &args.container
        && !seen().any(|container| *container.name == **name || container.id.starts_with(name.as_str()))
    {
        let names = seen().map(|container| &*container.name);
        hints.push(format!("--container: no container of this name or id was seen{}", alike(name, names)));
    }
    if let Some(image) = &args.image
        && !seen().any(|container| *container.image == **image)
    {
        let images = seen().map(|container| &*container.image);
        hints.push(format!("--image: no container of exactly this image was seen{}", alike(image, images)));
    }
    hints
}

/// A few names that hold the text that was given, in whatever case.
fn alike<'n>(text: &str, names: impl Iterator<Item = &'n str>) -> String {
    let text = text.to_lowercase();
    let mut names: Vec<&str> = names.filter(|name| name.to_lowercase().contains(&text)).collect();
    names.sort_unstable();
    names.dedup();
    names.truncate(5);
    if names.is_empty() { String::new() } else { format!(": did you mean {}?", names.join(" or ")) }
}

/// The newest few, then what is stored from now on, in the order of their times.
fn follow(client: &mut Client, mut query: Vec<(&str, String)>, args: &FindingsArgs) -> anyhow::Result<ExitCode> {
    let mut page = query.clone();
    page.push(("limit", args.limit.min(PAGE).to_string()));
    let mut newest: FindingPage = client.get("/api/v1/findings", &page)?;
    newest.findings.reverse();
    show::findings(&newest.findings, args.ask.json)?;
    let mut seen: HashSet<String> = newest.findings.into_iter().map(|item| item.id).collect();
    query.retain(|(name, _)| !matches!(*name, "since" | "until"));
    query.extend([("order", "asc".to_owned()), ("limit", PAGE.to_string())]);
    loop {
        std::thread::sleep(FOLLOW);
        // What is stored late, because the manager was away, has an older time: look back a while.
        let since = tw_sensor::clock::wall_ns().saturating_sub(LATE.as_nanos() as u64);
        let mut page = query.clone();
        page.push(("since", tw_report::iso_time(since)));
        let mut fresh = HashSet::new();
        let mut whole = true;
        loop {
            let mut answer: FindingPage = match client.get("/api/v1/findings", &page) {
                Ok(answer) => answer,
                Err(error) => {
                    tracing::warn!("{error:#}; trying again");
                    whole = false;
                    break;
                }
            };
            fresh.extend(answer.findings.iter().map(|item| item.id.clone()));
            answer.findings.retain(|item| !seen.contains(&item.id));
            show::findings(&answer.findings, args.ask.json)?;
            let Some(next) = answer.next else { break };
            page.retain(|(name, _)| *name != "cursor");
            page.push(("cursor", next));
        }
        if whole {
            seen = fresh;
        } else {
            seen.extend(fresh);
        }
    }
}

/// `show ID`.
///
/// # Errors
/// If there is no such finding, or several.
pub fn show(args: &ShowArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let path = format!("/api/v1/findings/{}", client::segment(&args.id));
    let item: FindingItem = Client::connect(config)?.get(&path, &[])?;
    if args.ask.json {
        print_stdout(&format!("{}\n", serde_json::to_string(&item)?))?;
    } else {
        show::finding(&item)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What all pages of a list hold; `split` takes one apart, into what it holds and where the next begins.
fn all_pages<P: DeserializeOwned, T>(
    client: &mut Client,
    path: &str,
    query: &[(&'static str, String)],
    split: impl Fn(P) -> (Vec<T>, Option<String>),
) -> anyhow::Result<Vec<T>> {
    let (mut all, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let mut query = query.to_vec();
        query.push(("limit", PAGE.to_string()));
        query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let (items, next) = split(client.get(path, &query)?);
        all.extend(items);
        cursor = next;
        if cursor.is_none() {
            return Ok(all);
        }
    }
}

/// All containers, by id.
fn all_containers(client: &mut Client, gone_too: bool) -> anyhow::Result<Vec<ContainerItem>> {
    let query = [("all", gone_too.to_string())];
    all_pages(client, "/api/v1/containers", &query, |page: ContainerPage| (page.containers, page.next))
}

/// `listeners`.
///
/// # Errors
/// If the service cannot be asked.
pub fn listeners(args: &AskArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let mut client = Client::connect(config)?;
    let split = |page: ListenerPage| (page.listeners, page.next);
    let listeners = all_pages(&mut client, "/api/v1/listeners", &[], split)?;
    if args.json {
        print_stdout(&format!("{}\n", serde_json::to_string(&listeners)?))?;
    } else {
        // Names are good to have: without a store there are none.
        let containers = all_containers(&mut client, false).unwrap_or_default();
        show::listeners(&listeners, &containers)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `containers`.
///
/// # Errors
/// If the service cannot be asked.
pub fn containers(args: &ContainersArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let mut containers = all_containers(&mut Client::connect(config)?, args.all)?;
    containers.sort_by(|a, b| (a.gone.is_some(), &a.container.name).cmp(&(b.gone.is_some(), &b.container.name)));
    if args.ask.json {
        print_stdout(&format!("{}\n", serde_json::to_string(&containers)?))?;
    } else {
        show::containers(&containers)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `reload`: exit 0 if what is there now is in force, else 1.
///
/// # Errors
/// If the service cannot be asked.
pub fn reload(args: &AskArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let outcome: anyhow::Result<Reloaded> = Client::connect(config)?.post("/api/v1/reload");
    let (ok, says) = match outcome {
        Ok(done) => (true, done.message),
        Err(error) => (false, format!("{error:#}")),
    };
    if args.json {
        print_stdout(&format!("{}\n", serde_json::json!({ "ok": ok, "says": says })))?;
    } else if ok {
        anstream::println!("{}", tw_report::escape::line(&says));
    } else {
        anstream::eprintln!("{}not reloaded:{:#} {says}", screen::ERROR, screen::ERROR);
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_hold_what_was_typed_are_told() {
        let names = ["newcomer-web", "shop", "Newcomer-db", "newcomer-web"];
        assert_eq!(alike("newcomer", names.into_iter()), ": did you mean Newcomer-db or newcomer-web?");
        assert_eq!(alike("absent", names.into_iter()), "");
    }
}
