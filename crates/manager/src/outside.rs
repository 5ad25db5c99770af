//! Health and metrics over TCP: on a socket that is bound already, or as soon as somebody else gives the address free.

use std::net::{SocketAddr, TcpListener as BoundListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::state::State;
use crate::{ManagerError, api};

/// How often an address that somebody else has is tried again.
pub(crate) const RETRY: Duration = Duration::from_secs(30);

/// Where health and metrics are served beside the control socket.
#[derive(Debug)]
pub enum Outside {
    /// On this socket.
    Bound(BoundListener),
    /// At this address, which could not be had at first, for this reason.
    Wanted(SocketAddr, String),
}

impl Outside {
    /// Binds an address; if it cannot be had, that is told and tried again later.
    pub fn bind(address: SocketAddr) -> Self {
        match BoundListener::bind(address) {
            Ok(listener) => Self::Bound(listener),
            Err(error) => Self::Wanted(address, error.to_string()),
        }
    }

    /// The port that is to be bound later, if one is.
    pub fn wanted_port(&self) -> Option<u16> {
        match self {
            Self::Bound(_) => None,
            Self::Wanted(address, _) => Some(address.port()),
        }
    }
}

/// A socket, or the address to try.
pub(crate) enum Place {
    Here(TcpListener),
    Later(SocketAddr),
}

/// Takes what was handed over.
///
/// # Errors
/// If a socket that is bound cannot be used.
pub(crate) fn take(outside: Outside, state: &State) -> Result<Place, ManagerError> {
    let failed = |error| ManagerError::Socket("metrics", error);
    match outside {
        Outside::Bound(listener) => {
            listener.set_nonblocking(true).map_err(failed)?;
            TcpListener::from_std(listener).map(Place::Here).map_err(failed)
        }
        Outside::Wanted(address, reason) => {
            state.metrics_failed(address, &reason);
            Ok(Place::Later(address))
        }
    }
}

/// Serves for ever.
pub(crate) async fn serve(state: Arc<State>, place: Place, retry: Duration) {
    let listener = match place {
        Place::Here(listener) => listener,
        Place::Later(address) => loop {
            tokio::time::sleep(retry).await;
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    tracing::info!("metrics listen on {address} now");
                    state.lock().metrics_fault = None;
                    break listener;
                }
                Err(error) => state.metrics_failed(address, &error.to_string()),
            }
        },
    };
    api::serve_tcp(listener, api::outside(state)).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::retention::Retention;
    use crate::store;

    fn codes(state: &State) -> Vec<String> {
        state.problems(None).into_iter().map(|problem| problem.code).filter(|code| code.contains("metrics")).collect()
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_told_and_had_once_it_is_free() {
        let holder = BoundListener::bind("127.0.0.1:0").unwrap();
        let address = holder.local_addr().unwrap();
        let outside = Outside::bind(address);
        assert_eq!(outside.wanted_port(), Some(address.port()));
        let place = store::Place::parse("sqlite:/nowhere").unwrap();
        let retention = tokio::sync::watch::channel(Retention::default()).1;
        let state = Arc::new(State::new(place, retention, "/nowhere".into(), "1".into()));
        let place = take(outside, &state).unwrap();
        let problem = state.problems(None).into_iter().find(|problem| problem.code == "metrics-unbound").unwrap();
        assert!(problem.failed && problem.what.contains(&address.to_string()), "{problem:?}");
        assert!(problem.remedy.contains("metrics.listen"), "{problem:?}");

        let task = tokio::spawn(serve(Arc::clone(&state), place, Duration::from_millis(20)));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(codes(&state), ["metrics-unbound"], "somebody else has it still");
        drop(holder);
        let mut text = String::new();
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let Ok(mut stream) = tokio::net::TcpStream::connect(address).await else { continue };
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
            stream.read_to_string(&mut text).await.unwrap();
            break;
        }
        assert!(text.contains("tidewatch_build_info"), "{text}");
        assert_eq!(codes(&state), [] as [&str; 0]);
        task.abort();
    }
}
