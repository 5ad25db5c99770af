//! Questions about single containers.
//!
//! They run side by side, a few at a time, since one container that is locked must not hold up the others. Each question
//! has a number, and an answer is dropped when a later question was answered first.

use std::collections::VecDeque;
use std::pin::Pin;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hashbrown::HashSet;
use tw_model::Container;

use super::{Closed, Known, Updates};
use crate::runtime::RuntimeUpdate;

/// Most questions at a time.
const MAX_RUNNING: usize = 8;
/// Most containers known or waiting to be asked for.
pub(crate) const MAX_CONTAINERS: usize = 16_384;
/// How often a question about one container is asked again when it fails.
const MAX_TRIES: u8 = 3;

/// A question about one container.
#[derive(Debug)]
pub(crate) struct Question {
    id: String,
    /// Grows with each question.
    number: u64,
    /// The pipeline asked: it wants to know too that there is none.
    requested: bool,
    tries: u8,
}

/// Why there is no answer about a container.
pub(crate) enum Failure {
    /// There is no such container.
    Absent,
    /// Another reason.
    Other(String),
}

/// What a runtime says of a container; none if it makes no sense.
pub(crate) type Answer = Result<Option<Box<Container>>, Failure>;
/// An answer on its way.
pub(crate) type Asking = Pin<Box<dyn Future<Output = Answer>>>;
type Running = FuturesUnordered<Pin<Box<dyn Future<Output = (Question, Answer)>>>>;

/// The questions of one session.
pub(crate) struct Inquiry {
    runtime: &'static str,
    running: Running,
    waiting: VecDeque<Question>,
    /// Ids in `waiting`.
    queued: HashSet<String>,
    next_number: u64,
    /// A failed question was logged; the others of this session go to the debug log.
    warned: bool,
}

impl Inquiry {
    /// None asked yet, of the runtime of this name. Numbers start again with each session; what was told before is older
    /// than any answer now.
    pub fn new(runtime: &'static str) -> Self {
        Self {
            runtime,
            running: Running::new(),
            waiting: VecDeque::new(),
            queued: HashSet::new(),
            next_number: 0,
            warned: false,
        }
    }

    /// Puts a question in line: in front if somebody waits for it.
    pub fn ask(&mut self, id: String, requested: bool, urgent: bool) {
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
    pub fn send_off(&mut self, inspect: impl Fn(String) -> Asking) {
        while self.running.len() < MAX_RUNNING {
            let Some(mut question) = self.waiting.pop_front() else { return };
            self.queued.remove(&question.id);
            self.next_number += 1;
            question.number = self.next_number;
            let asking = inspect(question.id.clone());
            self.running.push(Box::pin(async move { (question, asking.await) }));
        }
    }

    /// The next answer; none if nothing was asked.
    pub async fn next(&mut self) -> Option<(Question, Answer)> {
        self.running.next().await
    }

    /// Passes an answer on.
    pub async fn settle(
        &mut self,
        mut question: Question,
        answer: Answer,
        updates: &Updates,
        known: &mut Known,
    ) -> Result<(), Closed> {
        let requested = question.requested;
        let id = question.id.clone();
        match answer {
            Ok(Some(container)) => {
                if requested && known.len() < MAX_CONTAINERS {
                    known.entry(container.id.clone()).or_insert(0);
                }
                // Not known: destroyed while the question was on its way.
                if let Some(latest) = known.get_mut(&container.id).filter(|latest| **latest < question.number) {
                    *latest = question.number;
                    updates.send(RuntimeUpdate::Container(container)).await?;
                }
            }
            Ok(None) => self.complain(&question.id, "the answer makes no sense"),
            Err(Failure::Absent) => {}
            Err(Failure::Other(reason)) => {
                self.complain(&question.id, &reason);
                question.tries += 1;
                if question.tries < MAX_TRIES && self.queued.insert(question.id.clone()) {
                    self.waiting.push_back(question);
                    return Ok(());
                }
            }
        }
        if requested {
            updates.send(RuntimeUpdate::NoMore(id)).await?;
        }
        Ok(())
    }

    fn complain(&mut self, id: &str, reason: &str) {
        let runtime = self.runtime;
        if std::mem::replace(&mut self.warned, true) {
            tracing::debug!(runtime, id, reason, "the runtime did not describe a container");
        } else {
            tracing::warn!(
                runtime,
                id,
                reason,
                "the runtime did not describe a container; more of this goes to the debug log"
            );
        }
    }
}
