//! One connection to the daemon, from the first answer until it is lost.
//!
//! Questions run side by side, a few at a time, since one container that is locked must not hold up the
//! others. Each question has a number, and an answer is dropped when a later question was answered first.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::errors::Error;
use bollard::models::{ContainerSummary, EventMessage};
use bollard::query_parameters::{EventsOptions, ListContainersOptions};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hashbrown::{HashMap, HashSet};
use tw_model::Container;

use super::answer::{self, ImageNames};
use super::{Closed, Known, Updates, Watcher};
use crate::runtime::RuntimeUpdate;

/// Limit in time of each call.
const CALL: Duration = Duration::from_secs(2);
/// How often a quiet daemon is asked whether it is alive.
const PING: Duration = Duration::from_secs(10);
/// Most questions at a time.
const MAX_RUNNING: usize = 8;
/// Most containers known or waiting to be asked for.
const MAX_CONTAINERS: usize = 16_384;
/// Most images whose names are remembered.
const MAX_IMAGES: usize = 512;
/// How often a question about one container is asked again when it fails.
const MAX_TRIES: u8 = 3;
/// Most bytes of a reason.
const MAX_REASON: usize = 200;

/// Why a session ended.
pub(super) enum End {
    /// The daemon went away or stopped to answer, and how.
    Lost(String),
    /// Nobody listens to the updates any more.
    Closed,
}

impl From<Closed> for End {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

/// A question about one container.
#[derive(Debug)]
struct Question {
    id: String,
    /// Grows with each question.
    number: u64,
    /// The pipeline asked: it wants to know too that there is none.
    requested: bool,
    tries: u8,
}

/// An answer.
enum Done {
    Listed(Result<Vec<ContainerSummary>, String>),
    Told(Question, Result<Option<Box<Container>>, Failure>),
    Alive(Result<(), String>),
}

/// Why there is no answer about a container.
enum Failure {
    /// There is no such container.
    Absent,
    Other(String),
}

type Running = FuturesUnordered<Pin<Box<dyn Future<Output = Done>>>>;
type Images = Rc<RefCell<HashMap<String, Rc<ImageNames>>>>;

/// One connection to the daemon.
pub(super) struct Session {
    docker: Docker,
    images: Images,
    running: Running,
    waiting: VecDeque<Question>,
    /// Ids in `waiting`.
    queued: HashSet<String>,
    next_number: u64,
    pinging: bool,
    /// A failed question was logged; the others of this session go to the debug log.
    warned: bool,
}

impl Session {
    /// Connects and agrees on a version. Gives the daemon's version too, or the reason for the failure.
    pub async fn open(socket: &Path) -> Result<(Self, String), String> {
        let path = socket.to_str().ok_or("the socket's path is not UTF-8")?;
        let docker = Docker::connect_with_unix(path, CALL.as_secs(), API_DEFAULT_VERSION).map_err(reason)?;
        let docker = in_time(docker.negotiate_version()).await?;
        let version = in_time(docker.version()).await?.version.unwrap_or_default();
        let session = Self {
            docker,
            images: Images::default(),
            running: Running::new(),
            waiting: VecDeque::new(),
            queued: HashSet::new(),
            next_number: 0,
            pinging: false,
            warned: false,
        };
        Ok((session, version.chars().take(64).collect()))
    }

    /// Follows events, answers requests, keeps the pipeline informed; until the daemon is lost.
    pub async fn follow(mut self, watcher: &mut Watcher) -> End {
        let Watcher { updates, requests, known, .. } = watcher;
        // Numbers start again with each session; what was told before is older than any answer now.
        known.values_mut().for_each(|number| *number = 0);
        let before: Vec<String> = known.keys().cloned().collect();
        let mut events = Box::pin(self.docker.events(Some(event_options())));
        let docker = self.docker.clone();
        self.running.push(Box::pin(async move {
            let all = ListContainersOptions { all: true, ..ListContainersOptions::default() };
            Done::Listed(in_time(docker.list_containers(Some(all))).await)
        }));
        let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + PING, PING);
        ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.ask_next();
            let step = tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => self.on_event(event, updates, known).await,
                    Some(Err(error)) => Err(End::Lost(reason(error))),
                    None => Err(End::Lost("the daemon closed the stream of events".into())),
                },
                Some(done) = self.running.next() => self.on_done(done, &before, updates, known).await,
                Some(id) = requests.recv() => { self.ask(id, true, true); Ok(()) },
                _ = ping.tick() => { self.ping(); Ok(()) },
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    async fn on_event(&mut self, event: EventMessage, updates: &Updates, known: &mut Known) -> Result<(), End> {
        let (Some(action), Some(actor)) = (event.action, event.actor) else { return Ok(()) };
        let Some(first_word) = answer::from_event(&actor) else { return Ok(()) };
        let id = first_word.id.clone();
        match action.as_str() {
            "destroy" if known.remove(&id).is_some() => updates.send(RuntimeUpdate::Gone(id)).await?,
            "create" | "start" | "rename" | "die" => {
                if !known.contains_key(&id) && action != "die" && known.len() < MAX_CONTAINERS {
                    known.insert(id.clone(), 0);
                    updates.send(RuntimeUpdate::Container(Box::new(first_word))).await?;
                }
                self.ask(id, false, true);
            }
            _ => {}
        }
        Ok(())
    }

    async fn on_done(
        &mut self,
        done: Done,
        before: &[String],
        updates: &Updates,
        known: &mut Known,
    ) -> Result<(), End> {
        match done {
            Done::Alive(alive) => {
                self.pinging = false;
                alive.map_err(End::Lost)
            }
            Done::Listed(list) => self.on_list(list.map_err(End::Lost)?, before, updates, known).await,
            Done::Told(question, answer) => self.on_answer(question, answer, updates, known).await,
        }
    }

    async fn on_list(
        &mut self,
        list: Vec<ContainerSummary>,
        before: &[String],
        updates: &Updates,
        known: &mut Known,
    ) -> Result<(), End> {
        let ids: Vec<String> = list.into_iter().filter_map(|entry| entry.id).filter(|id| answer::is_id(id)).collect();
        let listed: HashSet<&str> = ids.iter().map(String::as_str).collect();
        let gone: Vec<&String> = before.iter().filter(|id| !listed.contains(id.as_str())).collect();
        drop(listed);
        for id in gone {
            if known.remove(id).is_some() {
                updates.send(RuntimeUpdate::Gone(id.clone())).await?;
            }
        }
        for id in ids {
            if known.len() < MAX_CONTAINERS {
                known.entry(id.clone()).or_insert(0);
            }
            self.ask(id, false, false);
        }
        Ok(())
    }

    async fn on_answer(
        &mut self,
        mut question: Question,
        answer: Result<Option<Box<Container>>, Failure>,
        updates: &Updates,
        known: &mut Known,
    ) -> Result<(), End> {
        match answer {
            Ok(Some(container)) => {
                if question.requested && known.len() < MAX_CONTAINERS {
                    known.entry(container.id.clone()).or_insert(0);
                }
                // Not known: destroyed while the question was on its way.
                if let Some(latest) = known.get_mut(&container.id).filter(|latest| **latest < question.number) {
                    *latest = question.number;
                    updates.send(RuntimeUpdate::Container(container)).await?;
                }
            }
            Ok(None) => self.complain(&question.id, "the answer makes no sense"),
            Err(Failure::Absent) if question.requested => updates.send(RuntimeUpdate::Unknown(question.id)).await?,
            Err(Failure::Absent) => {}
            Err(Failure::Other(reason)) => {
                self.complain(&question.id, &reason);
                question.tries += 1;
                if question.tries < MAX_TRIES && self.queued.insert(question.id.clone()) {
                    self.waiting.push_back(question);
                }
            }
        }
        Ok(())
    }

    /// Puts a question in line: in front if somebody waits for it.
    fn ask(&mut self, id: String, requested: bool, urgent: bool) {
        // One that waits will tell what is true when it is asked. But a request needs an answer of its own.
        if self.waiting.len() >= MAX_CONTAINERS || (!self.queued.insert(id.clone()) && !requested) {
            return;
        }
        let question = Question { id, number: 0, requested, tries: 0 };
        if urgent {
            self.waiting.push_front(question);
        } else {
            self.waiting.push_back(question);
        }
    }

    /// Sends questions off while there is room.
    fn ask_next(&mut self) {
        while self.running.len() < MAX_RUNNING {
            let Some(mut question) = self.waiting.pop_front() else { return };
            self.queued.remove(&question.id);
            self.next_number += 1;
            question.number = self.next_number;
            let (docker, images) = (self.docker.clone(), Rc::clone(&self.images));
            self.running.push(Box::pin(async move {
                let answer = inspect(&docker, &images, &question.id).await;
                Done::Told(question, answer)
            }));
        }
    }

    fn ping(&mut self) {
        if std::mem::replace(&mut self.pinging, true) {
            return;
        }
        let docker = self.docker.clone();
        self.running.push(Box::pin(async move { Done::Alive(in_time(docker.ping()).await.map(|_| ())) }));
    }

    fn complain(&mut self, id: &str, reason: &str) {
        if std::mem::replace(&mut self.warned, true) {
            tracing::debug!(id, reason, "Docker did not describe a container");
        } else {
            tracing::warn!(id, reason, "Docker did not describe a container; more of this goes to the debug log");
        }
    }
}

/// Events of containers, without the many of `exec`. From a moment ago, so that none is lost between the list
/// and the stream.
fn event_options() -> EventsOptions {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let text = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let filters = std::collections::HashMap::from([
        ("type".to_owned(), text(&["container"])),
        ("event".to_owned(), text(&["create", "start", "die", "destroy", "rename"])),
    ]);
    EventsOptions { since: Some(now.saturating_sub(1).to_string()), until: None, filters: Some(filters) }
}

/// Asks for a container and for its image's names. `None` if the answer makes no sense.
async fn inspect(docker: &Docker, images: &Images, id: &str) -> Result<Option<Box<Container>>, Failure> {
    let answer = match tokio::time::timeout(CALL, docker.inspect_container(id, None)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(Error::DockerResponseServerError { status_code: 404, .. })) => return Err(Failure::Absent),
        Ok(Err(error)) => return Err(Failure::Other(reason(error))),
        Err(_) => return Err(Failure::Other(too_late())),
    };
    let names = image_names(docker, images, answer.image.as_deref().unwrap_or_default()).await;
    Ok(answer::from_inspect(answer, &names).map(Box::new))
}

/// The names of an image, remembered for the session. Empty if the daemon does not tell: a container without
/// its image's digest is better than none.
async fn image_names(docker: &Docker, images: &Images, id: &str) -> Rc<ImageNames> {
    if !id.strip_prefix("sha256:").is_some_and(answer::is_id) {
        return Rc::default();
    }
    if let Some(names) = images.borrow().get(id) {
        return Rc::clone(names);
    }
    let Ok(answer) = in_time(docker.inspect_image(id)).await else { return Rc::default() };
    let names = Rc::new(ImageNames::new(answer));
    let mut images = images.borrow_mut();
    if images.len() >= MAX_IMAGES {
        images.clear();
    }
    images.insert(id.to_owned(), Rc::clone(&names));
    names
}

/// Waits for an answer for at most [`CALL`].
async fn in_time<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
    tokio::time::timeout(CALL, call).await.map_err(|_| too_late())?.map_err(reason)
}

fn too_late() -> String {
    format!("no answer in {} seconds", CALL.as_secs())
}

/// An error with its causes, in bounded length.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn reason(error: Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
        if text.len() > MAX_REASON {
            break;
        }
    }
    text.truncate(text.floor_char_boundary(MAX_REASON));
    text
}
