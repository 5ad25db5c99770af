//! Takes connections: bounded in number and in time, each with who is at its other end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt as _;

/// Connections at a time, for each of the sockets.
const CONNECTIONS: usize = 64;
/// A caller has so long for the head of a request, and between two requests.
const HEAD: Duration = Duration::from_secs(10);
/// No connection lasts longer.
const LIFE: Duration = Duration::from_secs(300);

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    /// User id and process number, as the kernel states them for a local socket.
    peer: Option<(u32, i32)>,
}

impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.peer {
            Some((uid, pid)) => write!(f, "uid {uid} (pid {pid})"),
            None => f.write_str("unknown"),
        }
    }
}

pub(crate) async fn serve_unix(listener: UnixListener, router: Router) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let peer = stream.peer_cred().ok().map(|peer| (peer.uid(), peer.pid().unwrap_or(0)));
                tokio::spawn(connection(stream, router.clone(), Caller { peer }, permit));
            }
            Err(error) => pause(&error).await,
        }
    }
}

pub(crate) async fn serve_tcp(listener: TcpListener, router: Router) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, router.clone(), Caller { peer: None }, permit))),
            Err(error) => pause(&error).await,
        }
    }
}

/// Without descriptors, for one, accepting fails at once, and again.
async fn pause(error: &std::io::Error) {
    tracing::warn!(%error, "cannot take a connection");
    tokio::time::sleep(Duration::from_millis(200)).await;
}

async fn connection<S>(stream: S, router: Router, caller: Caller, permit: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let router = router.clone();
        async move {
            let mut request: Request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(caller);
            router.oneshot(request).await.map_err(|never: Infallible| never)
        }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(64 << 10);
    let served = tokio::time::timeout(LIFE, server.serve_connection(TokioIo::new(stream), service)).await;
    if let Ok(Err(error)) = served {
        tracing::debug!(%error, "a connection ended early");
    }
    drop(permit);
}
