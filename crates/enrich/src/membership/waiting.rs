//! The room where records wait for the name of their container.

use std::collections::VecDeque;
use std::sync::Arc;

use tw_model::Raw;
use tw_model::raw::to_words;

/// Bytes of records that may wait, over all containers; beyond that they go on unnamed.
pub(super) const ROOM: usize = 16 << 20;

/// What a record waits for.
#[derive(Clone, Debug)]
pub(super) enum Whose {
    /// Whose this cgroup is.
    Cgroup(u64),
    /// What the container with this id is.
    Container(Arc<str>),
}

/// A record in the room.
pub(super) struct Waiting {
    /// What it waits for.
    pub whose: Whose,
    /// The record, in words so that it stays aligned.
    pub words: Vec<u64>,
}

/// Records in the order in which they came.
#[derive(Default)]
pub(super) struct Room {
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

impl Room {
    /// Keeps a copy of the record. False if there is no room.
    pub fn take(&mut self, whose: Whose, raw: &Raw<'_>) -> bool {
        if self.bytes + raw.bytes().len() > ROOM {
            return false;
        }
        self.put_back(Waiting { whose, words: to_words(raw.bytes()) });
        true
    }

    /// Keeps a record that came out.
    pub fn put_back(&mut self, waiting: Waiting) {
        self.bytes += waiting.words.len() * 8;
        self.waiting.push_back(waiting);
    }

    /// Everything that waits; the room is empty then.
    pub fn all(&mut self) -> VecDeque<Waiting> {
        self.bytes = 0;
        std::mem::take(&mut self.waiting)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
