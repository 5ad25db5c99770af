//! HTTP over the control socket, and a look at the agent's own socket while there is no manager.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::runtime::Runtime;
use tw_manager::api::UNKNOWN_REQUEST;
use tw_model::link::{FromAgent, MAX_LINE};
use tw_model::status::AgentStatus;

use crate::config::Config;

/// How long an answer may take. A manager that is being started again takes connections when it is back.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// What it means if one does not understand the other.
const OTHER_VERSION: &str = "the manager is of another version: restart the service";
/// Most bytes of an answer.
const MAX_ANSWER: usize = 64 << 20;

/// A connection to the manager.
pub struct Client {
    runtime: Runtime,
    socket: PathBuf,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// Connects to the control socket.
    ///
    /// # Errors
    /// If nothing listens there, or this user may not connect; the message says what to do.
    pub fn connect(config: &Config) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut client = Self { runtime, socket: config.control_socket(), sender: None };
        client.open()?;
        Ok(client)
    }

    fn open(&mut self) -> anyhow::Result<()> {
        let socket = self.socket.clone();
        let stream = UnixStream::connect(&socket).map_err(|error| {
            let remedy = match error.kind() {
                std::io::ErrorKind::PermissionDenied => "only root may ask: try with sudo",
                std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
                    "no Tidewatch runs here: start it (systemctl start tidewatch, or sudo tidewatch run), or name its \
                     folder (--set run_dir=…)"
                }
                _ => "tidewatch doctor may tell more",
            };
            anyhow::anyhow!("cannot ask {}: {error}; {remedy}", socket.display())
        })?;
        stream.set_nonblocking(true)?;
        self.sender = Some(self.runtime.block_on(async {
            let stream = TokioIo::new(tokio::net::UnixStream::from_std(stream)?);
            let (sender, connection) =
                tokio::time::timeout(CONNECT, handshake(stream)).await.context("no answer in time")??;
            tokio::spawn(connection);
            anyhow::Ok(sender)
        })?);
        Ok(())
    }

    /// Asks for something.
    ///
    /// # Errors
    /// What the manager says is wrong, with its remedy.
    pub fn get<T: DeserializeOwned>(&mut self, path: &str, query: &[(&str, String)]) -> anyhow::Result<T> {
        let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={}", segment(value))).collect();
        let uri = if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) };
        let answer = self.send(Method::GET, &uri)?;
        serde_json::from_value(answer).context(OTHER_VERSION)
    }

    /// Has something done.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn post<T: DeserializeOwned>(&mut self, path: &str) -> anyhow::Result<T> {
        let answer = self.send(Method::POST, path)?;
        serde_json::from_value(answer).context(OTHER_VERSION)
    }

    fn send(&mut self, method: Method, uri: &str) -> anyhow::Result<Value> {
        let mut sender = match self.sender.take() {
            Some(sender) if !sender.is_closed() => sender,
            _ => {
                self.open()?;
                self.sender.take().context("no connection")?
            }
        };
        let request =
            Request::builder().method(method).uri(uri).header("host", "tidewatch").body(Full::new(Bytes::new()))?;
        let answer = self.runtime.block_on(async {
            tokio::time::timeout(PATIENCE, async {
                sender.ready().await?;
                let answer = sender.send_request(request).await?;
                let status = answer.status();
                let body =
                    Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(anyhow::Error::from_boxed)?;
                anyhow::Ok((status, body.to_bytes()))
            })
            .await
        });
        let Ok(answer) = answer else {
            anyhow::bail!("the manager did not answer within {} s: what it says is in the log", PATIENCE.as_secs())
        };
        let (status, body) = answer.context("the manager ended before it answered")?;
        self.sender = Some(sender);
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status.is_success() || status == StatusCode::SERVICE_UNAVAILABLE && body.get("detail").is_none() {
            return Ok(body);
        }
        if body["code"] == UNKNOWN_REQUEST {
            anyhow::bail!(OTHER_VERSION);
        }
        let text = |key: &str| body[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let what = text("detail").or_else(|| text("title")).unwrap_or_else(|| format!("the manager answered {status}"));
        Err(match text("remedy") {
            // An excerpt of a file ends with a mark below the line: what follows needs one of its own.
            Some(remedy) if what.contains('\n') => anyhow::anyhow!("{what}\n{remedy}"),
            Some(remedy) => anyhow::anyhow!("{what}; {remedy}"),
            None => anyhow::anyhow!(what),
        })
    }
}

/// Text as a part of a path or query.
pub fn segment(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// What the agent itself says, without a manager.
///
/// # Errors
/// If no agent answers.
pub fn agent_status(config: &Config) -> anyhow::Result<AgentStatus> {
    let stream = UnixStream::connect(config.agent_socket())?;
    stream.set_read_timeout(Some(CONNECT))?;
    let mut lines = BufReader::new(stream);
    for _ in 0..4 {
        let mut line = Vec::new();
        (&mut lines).take(MAX_LINE as u64).read_until(b'\n', &mut line)?;
        if let FromAgent::Status { status } = serde_json::from_slice(&line)? {
            return Ok(*status);
        }
    }
    anyhow::bail!("the agent did not tell its state")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_value_can_end_it() {
        assert_eq!(segment("a b&c=d/é?#"), "a%20b%26c%3Dd%2F%C3%A9%3F%23");
        assert_eq!(segment("01KA-x_y.z~"), "01KA-x_y.z~");
    }
}
