//! One connection to the daemon, from the first answer until it is lost.

use std::cell::RefCell;
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

use super::answer::{self, ImageNames};
use crate::runtime::RuntimeUpdate;
use crate::watcher::inquiry::{Answer, Failure, Inquiry, MAX_CONTAINERS};
use crate::watcher::{CALL, End, Known, Line, Updates, reason, too_late};

/// How often a quiet daemon is asked whether it is alive.
const PING: Duration = Duration::from_secs(10);
/// Most images whose names are remembered.
const MAX_IMAGES: usize = 512;

/// An answer that is not about one container.
enum Done {
    Listed(Result<Vec<ContainerSummary>, String>),
    Alive(Result<(), String>),
}

type Running = FuturesUnordered<Pin<Box<dyn Future<Output = Done>>>>;
type Images = Rc<RefCell<HashMap<String, Rc<ImageNames>>>>;

/// One connection to the daemon.
pub(crate) struct Session {
    docker: Docker,
    images: Images,
    running: Running,
    inquiry: Inquiry,
    pinging: bool,
}

impl crate::watcher::Session for Session {
    /// Connects and agrees on a version of the API.
    async fn open(socket: &Path) -> Result<(Self, String), String> {
        let path = socket.to_str().ok_or("the socket's path is not UTF-8")?;
        let docker =
            Docker::connect_with_unix(path, CALL.as_secs(), API_DEFAULT_VERSION).map_err(|error| reason(&error))?;
        let docker = in_time(docker.negotiate_version()).await?;
        let version = in_time(docker.version()).await?.version.unwrap_or_default();
        let session = Self {
            docker,
            images: Images::default(),
            running: Running::new(),
            inquiry: Inquiry::new("docker"),
            pinging: false,
        };
        Ok((session, version.chars().take(64).collect()))
    }

    async fn follow(mut self, line: &mut Line) -> End {
        let Line { updates, requests, known } = line;
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
            let (docker, images) = (&self.docker, &self.images);
            self.inquiry.send_off(|id| {
                let (docker, images) = (docker.clone(), Rc::clone(images));
                Box::pin(async move { inspect(&docker, &images, &id).await })
            });
            let step = tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => self.on_event(event, updates, known).await,
                    Some(Err(error)) => Err(End::Lost(reason(&error))),
                    None => Err(End::Lost("the daemon closed the stream of events".into())),
                },
                Some(done) = self.running.next() => self.on_done(done, &before, updates, known).await,
                Some((question, answer)) = self.inquiry.next() =>
                    self.inquiry.settle(question, answer, updates, known).await.map_err(End::from),
                Some(id) = requests.recv() => { self.inquiry.ask(id, true, true); Ok(()) },
                _ = ping.tick() => { self.ping(); Ok(()) },
            };
            if let Err(end) = step {
                return end;
            }
        }
    }
}

impl Session {
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
                self.inquiry.ask(id, false, true);
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
            self.inquiry.ask(id, false, false);
        }
        Ok(())
    }

    fn ping(&mut self) {
        if std::mem::replace(&mut self.pinging, true) {
            return;
        }
        let docker = self.docker.clone();
        self.running.push(Box::pin(async move { Done::Alive(in_time(docker.ping()).await.map(|_| ())) }));
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
async fn inspect(docker: &Docker, images: &Images, id: &str) -> Answer {
    let answer = match tokio::time::timeout(CALL, docker.inspect_container(id, None)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(Error::DockerResponseServerError { status_code: 404, .. })) => return Err(Failure::Absent),
        Ok(Err(error)) => return Err(Failure::Other(reason(&error))),
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
    tokio::time::timeout(CALL, call).await.map_err(|_| too_late())?.map_err(|error| reason(&error))
}
