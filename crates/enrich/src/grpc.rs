//! Runtimes that speak gRPC on a local socket: [`containerd`], and whatever offers the [`cri`].
//!
//! The few messages that are needed are written down here with the numbers of their fields, from the `.proto` files of
//! containerd and of Kubernetes (`runtime.v1`); fields that are not named are passed over when read. Crates with all of
//! them need the Protocol Buffers compiler wherever Tidewatch is built.

pub(crate) mod containerd;
pub(crate) mod cri;

use std::path::Path;

use futures_util::StreamExt;
use http::uri::PathAndQuery;
use prost::Message;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinSet;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::watcher::inquiry::Failure;
use crate::watcher::{CALL, MAX_REASON, reason, too_late};

/// Most bytes of one answer: all containers of a namespace with their specifications.
const MAX_ANSWER: usize = 16 << 20;

/// How many answers of a call that goes on may wait; beyond, the runtime waits.
const FOLLOWED: usize = 64;

/// A message of Google's well-known types: bytes and what they are.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// A connection.
#[derive(Clone)]
pub(crate) struct Wire(Channel);

impl Wire {
    /// Connects to the socket.
    pub async fn open(socket: &Path) -> Result<Self, String> {
        let path = socket.to_str().ok_or("the socket's path is not UTF-8")?;
        let endpoint = Endpoint::from_shared(format!("unix://{path}"))
            .map_err(|error| reason(&error))?
            .http2_keep_alive_interval(CALL * 5)
            .keep_alive_timeout(CALL)
            .keep_alive_while_idle(true)
            .initial_connection_window_size(1 << 20)
            .initial_stream_window_size(1 << 20);
        let connected = tokio::time::timeout(CALL, endpoint.connect()).await.map_err(|_| too_late())?;
        connected.map(Self).map_err(|error| reason(&error))
    }

    /// One call with one answer, in bounded time. `namespace` is containerd's; empty where there is none.
    pub async fn call<Q, A>(&self, method: &'static str, namespace: &str, question: Q) -> Result<A, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut client = self.client();
        let asking = async {
            client.ready().await.map_err(|error| Status::unavailable(reason(&error)))?;
            let path = PathAndQuery::from_static(method);
            client.unary(request(namespace, question)?, path, ProstCodec::<Q, A>::default()).await
        };
        match tokio::time::timeout(CALL, asking).await {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded(too_late())),
        }
    }

    /// A call whose answers go on, until the task that takes them is dropped. Some answer nothing at all, not even that
    /// the call was taken, before there is something to tell: so nobody waits for that.
    pub fn follow<Q, A>(&self, method: &'static str, question: Q) -> (JoinSet<()>, Receiver<Result<A, Status>>)
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut client = self.client();
        let (answer, answers) = channel(FOLLOWED);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let path = PathAndQuery::from_static(method);
            let asking = async {
                client.ready().await.map_err(|error| Status::unavailable(reason(&error)))?;
                client.server_streaming(request("", question)?, path, ProstCodec::<Q, A>::default()).await
            };
            let mut stream = match asking.await {
                Ok(stream) => stream.into_inner(),
                Err(status) => return drop(answer.send(Err(status)).await),
            };
            while let Some(one) = stream.next().await {
                if answer.send(one).await.is_err() {
                    return;
                }
            }
        });
        (task, answers)
    }

    fn client(&self) -> Grpc<Channel> {
        Grpc::new(self.0.clone()).max_decoding_message_size(MAX_ANSWER)
    }
}

fn request<Q>(namespace: &str, question: Q) -> Result<Request<Q>, Status> {
    let mut request = Request::new(question);
    if !namespace.is_empty() {
        let value = MetadataValue::try_from(namespace).map_err(|_| Status::invalid_argument("no namespace"))?;
        request.metadata_mut().insert("containerd-namespace", value);
    }
    Ok(request)
}

/// What went wrong, in bounded length.
pub(crate) fn status_reason(status: &Status) -> String {
    let text = status.message();
    let text = if text.is_empty() { status.code().description() } else { text };
    text[..text.floor_char_boundary(MAX_REASON)].to_owned()
}

/// What it means for a question about one container.
pub(crate) fn failure(status: &Status) -> Failure {
    match status.code() {
        Code::NotFound => Failure::Absent,
        _ => Failure::Other(status_reason(status)),
    }
}
