//! Keeps the store open, looks after it, and lets retention run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::retention::{WallClock, enforce};
use crate::state::{State, now_us};
use crate::store::{Kind, Store, StoreError};

/// Shortest and longest pause between attempts.
pub(crate) const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How often the store is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How often retention runs.
const RETENTION: Duration = Duration::from_secs(60);

/// Opens the store, however long it takes, and then looks at it every other second.
pub(crate) async fn keep(state: Arc<State>) {
    let mut pause = PAUSE.0;
    let store = loop {
        match Store::open(&state.place, &state.version).await {
            Ok(store) => break store,
            Err(error) => state.store_failed(&error),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    };
    tracing::debug!(store = %state.place.shown(), "store open");
    state.lock().store = Some(store.clone());
    state.store_works();
    state.recovered.notify_waiters();
    let mut pause = PAUSE.0;
    loop {
        let result = look(&state, &store).await;
        let healthy = result.is_ok() && state.store_up();
        if let Err(error) = result {
            state.store_failed(&error);
        }
        pause = if healthy { LOOK } else { (pause * 2).clamp(PAUSE.0, PAUSE.1) };
        tokio::time::sleep(pause).await;
        if healthy {
            pause = PAUSE.0;
        }
    }
}

/// Reads how much there is; if the store was at fault, tries whether it takes something.
async fn look(state: &State, store: &Store) -> Result<(), StoreError> {
    if !state.store_up() {
        store.probe().await?;
        state.store_works();
    } else {
        state.store_seen_well();
    }
    let bytes = store.bytes().await?;
    let mut rows = std::collections::BTreeMap::new();
    for kind in Kind::ALL {
        rows.insert(kind, store.total(kind).await?.0);
    }
    let mut inner = state.lock();
    (inner.bytes, inner.rows) = (bytes, rows);
    Ok(())
}

/// Lets retention run every minute, and sooner when much came in.
pub(crate) async fn retain(state: Arc<State>) {
    let begin = Instant::now();
    let mut clock = WallClock::new(now_us(), begin.elapsed());
    loop {
        if let Some(store) = state.store() {
            let now = clock.believe(now_us(), begin.elapsed());
            let limits = *state.retention.borrow();
            let result = enforce(&store, &limits, now, |kind, reason, n| state.deleted(kind, reason, n)).await;
            let before = std::mem::replace(&mut state.lock().retention_fault, result.as_ref().err().cloned());
            match result {
                Err(error) if before.is_none() => {
                    tracing::error!(code = error.code(), remedy = %error.remedy(), "retention cannot delete: {error}");
                }
                Ok(_) if before.is_some() => tracing::info!("retention works again"),
                _ => {}
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RETENTION) => {}
            () = state.much_came.notified() => tokio::time::sleep(Duration::from_secs(1)).await,
            () = state.recovered.notified() => {}
        }
    }
}

/// Something that is tried with the store until it works, with growing pauses.
pub(crate) struct Attempts<'a> {
    state: &'a State,
    pause: Duration,
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(state: &'a State) -> Self {
        Self { state, pause: PAUSE.0 }
    }

    /// The store, as soon as it is open.
    pub(crate) async fn store(&mut self) -> Store {
        loop {
            if let Some(store) = self.state.store() {
                return store;
            }
            self.wait().await;
        }
    }

    /// The value, or nothing after a pause: then it is to be tried again.
    pub(crate) async fn settle<T>(&mut self, result: Result<T, StoreError>) -> Option<T> {
        match result {
            Ok(value) => {
                self.state.store_works();
                Some(value)
            }
            Err(error) => {
                self.state.store_failed(&error);
                self.wait().await;
                None
            }
        }
    }

    /// A store that works again is noticed at once.
    async fn wait(&mut self) {
        tokio::select! {
            () = tokio::time::sleep(self.pause) => {}
            () = self.state.recovered.notified() => {}
        }
        self.pause = (self.pause * 2).min(PAUSE.1);
    }
}
