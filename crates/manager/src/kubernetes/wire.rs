//! What every request carries and every answer is held to: the token as it is now, and a bound, since the server is far
//! away and somebody else may sit there. And the pace of watches: one that ends in good order is begun anew by its reader
//! at once, as often as the server likes.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Request, Response};
use kube::client::Body;
use tower::{BoxError, Layer, Service};

/// Longest answer, bytes: a page of pods.
const MAX_ANSWER: usize = 16 << 20;
/// Longest line of a watch, bytes: an object in etcd has 1.5 MiB at most.
const MAX_LINE: usize = 4 << 20;

/// An answer was longer than it may be.
#[derive(Debug, thiserror::Error)]
#[error("the server's {what} has more than {} MiB", limit >> 20)]
pub(super) struct TooLong {
    what: &'static str,
    limit: usize,
}

/// The file of the token is no good.
#[derive(Debug, thiserror::Error)]
#[error("the token in {0} cannot be used: {1}")]
pub(super) struct NoToken(String, String);

/// Longest file of a token, bytes.
const MAX_TOKEN: u64 = 64 << 10;

/// The header that a token makes. The file is read for each request: there are few, and the kubelet replaces it.
pub(super) fn bearer(path: &Path) -> Result<HeaderValue, NoToken> {
    let wrong = |why: String| NoToken(path.display().to_string(), why);
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
    file.take(MAX_TOKEN).read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
    let token = text.trim();
    if token.is_empty() {
        return Err(wrong("it is empty".into()));
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|error| wrong(error.to_string()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// When watches begin: not too soon after each other.
#[derive(Clone, Debug)]
struct Pace {
    /// From one to the next, at least.
    least: Duration,
    last: Arc<Mutex<Option<Instant>>>,
}

impl Pace {
    /// When the next one may begin, now or later; then it counts as begun.
    fn next(&self) -> Instant {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let at = last.and_then(|last| last.checked_add(self.least)).map_or(now, |soonest| soonest.max(now));
        *last = Some(at);
        at
    }
}

/// Adds the token, bounds every answer, and spaces watches.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    /// The file of the token, if there is one.
    token: Option<PathBuf>,
    pace: Pace,
}

impl Wire {
    /// With the file of the token, if there is one, and the least time from the beginning of one watch to the next.
    pub(super) fn new(token: Option<PathBuf>, least: Duration) -> Self {
        Self { token, pace: Pace { least, last: Arc::default() } }
    }
}

impl<S> Layer<S> for Wire {
    type Service = Wired<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Wired { inner, wire: self.clone() }
    }
}

/// See [`Wire`].
#[derive(Clone, Debug)]
pub(super) struct Wired<S> {
    inner: S,
    wire: Wire,
}

type Answer<B> = Pin<Box<dyn Future<Output = Result<Response<Bounded<B>>, BoxError>> + Send>>;

impl<S, B> Service<Request<Body>> for Wired<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
{
    type Response = Response<Bounded<B>>;
    type Error = BoxError;
    type Future = Answer<B>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self.wire.token.as_deref().map(bearer).transpose() {
            Ok(Some(value)) => drop(request.headers_mut().insert(AUTHORIZATION, value)),
            Ok(None) => {}
            Err(error) => return Box::pin(async { Err(error.into()) }),
        }
        let query = request.uri().query().unwrap_or_default();
        let watch = query.split('&').any(|part| part == "watch=true");
        let answer = self.inner.call(request);
        let pace = watch.then(|| self.wire.pace.clone());
        Box::pin(async move {
            if let Some(pace) = pace {
                // Nothing is sent before the answer is waited for.
                tokio::time::sleep_until(pace.next().into()).await;
            }
            // What is wrong may be said at length too.
            let answer = answer.await.map_err(Into::into)?;
            let lines = watch && answer.status().is_success();
            Ok(answer.map(|inner| Bounded { inner, lines, bytes: 0 }))
        })
    }
}

/// A body that ends with an error where it becomes too long.
#[derive(Debug)]
pub(super) struct Bounded<B> {
    inner: B,
    /// Whether each line has the bound, rather than the whole.
    lines: bool,
    /// Bytes so far, or since the last end of a line.
    bytes: usize,
}

impl<B> Bounded<B> {
    fn count(&mut self, data: &[u8]) -> Result<(), TooLong> {
        if !self.lines {
            self.bytes = self.bytes.saturating_add(data.len());
            return if self.bytes > MAX_ANSWER { Err(TooLong { what: "answer", limit: MAX_ANSWER }) } else { Ok(()) };
        }
        for (nth, part) in data.split(|byte| *byte == b'\n').enumerate() {
            if nth > 0 {
                self.bytes = 0;
            }
            self.bytes = self.bytes.saturating_add(part.len());
            if self.bytes > MAX_LINE {
                return Err(TooLong { what: "line", limit: MAX_LINE });
            }
        }
        Ok(())
    }
}

impl<B> HttpBody for Bounded<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(context)) else { return Poll::Ready(None) };
        let frame = frame.map_err(Into::into)?;
        if let Some(data) = frame.data_ref() {
            self.count(data)?;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watches_begin_one_after_the_other() {
        let pace = Pace { least: Duration::from_secs(60), last: Arc::default() };
        let begin = Instant::now();
        let first = pace.next();
        assert!(first >= begin && first <= Instant::now(), "nothing came before");
        assert_eq!(pace.clone().next(), first + Duration::from_secs(60), "of all copies together");
        *pace.last.lock().unwrap() = begin.checked_sub(Duration::from_secs(61));
        assert!(pace.next() <= Instant::now(), "it is long ago");
    }

    #[test]
    fn a_watch_may_go_on_for_ever_but_none_of_its_lines() {
        let mut watch = Bounded { inner: (), lines: true, bytes: 0 };
        let line = [vec![b'x'; MAX_LINE / 2], vec![b'\n']].concat();
        for _ in 0..20 {
            watch.count(&line).unwrap();
        }
        watch.count(&vec![b'x'; MAX_LINE]).unwrap();
        assert!(watch.count(b"x").unwrap_err().to_string().contains("line has more than 4 MiB"));
        let mut list = Bounded { inner: (), lines: false, bytes: 0 };
        for _ in 0..(MAX_ANSWER / line.len()) {
            list.count(&line).unwrap();
        }
        assert!(list.count(&line).unwrap_err().to_string().contains("answer has more than 16 MiB"));
    }
}
