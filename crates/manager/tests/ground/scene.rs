//! A manager that runs, an agent that follows a script, and a caller: what the tests of the whole play with.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tw_manager::Options;
use tw_manager::retention::Retention;
use tw_model::link::{Cursor, FromAgent, FromManager, PROTOCOL, Spooled};
use tw_model::status::{AgentStatus, Node, SpoolLane};

use super::NODE;

/// Longest that anything is waited for.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A manager in this process.
pub struct Manager {
    pub control: PathBuf,
    pub metrics: std::net::SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

impl Manager {
    pub fn start(folder: &Path, store_url: &str) -> Self {
        Self::start_with(folder, store_url, None)
    }

    pub fn start_with(folder: &Path, store_url: &str, kubernetes: Option<tw_manager::kubernetes::Options>) -> Self {
        let control = folder.join("control.sock");
        std::fs::remove_file(&control).ok();
        let metrics = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = metrics.local_addr().unwrap();
        let options = Options {
            store_url: store_url.into(),
            reloaded: std::sync::Arc::default(),
            retention: tokio::sync::watch::channel(Retention::default()).1,
            agent_socket: folder.join("agent.sock"),
            control: std::os::unix::net::UnixListener::bind(&control).unwrap(),
            metrics: Some(tw_manager::Outside::Bound(metrics)),
            kubernetes,
            supervisor_file: Some(folder.join("supervisor.json")),
            version: "0.1.0-test".into(),
            restarts: 2,
        };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            tw_manager::run(options, async {
                stopped.await.ok();
            })
            .await
            .unwrap();
        });
        Self { control, metrics: address, stop: Some(stop), task }
    }

    pub async fn stop(mut self) {
        drop(self.stop.take());
        tokio::time::timeout(PATIENCE, &mut self.task).await.unwrap().unwrap();
    }

    /// Status and body of a request.
    pub async fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        self.raw(head.into_bytes()).await
    }

    /// What comes back for bytes that may be no request at all; status 0 if nothing does.
    pub async fn raw(&self, bytes: Vec<u8>) -> (u16, String) {
        let path = self.control.clone();
        let exchange = move || {
            let mut stream = StdStream::connect(path).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(&bytes).ok();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).ok();
            answered(&answer)
        };
        tokio::task::spawn_blocking(exchange).await.unwrap()
    }

    /// The same over TCP.
    pub async fn ask_outside(&self, path: &str) -> (u16, String) {
        let (address, head) = (self.metrics, format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
        let exchange = move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).ok();
            answered(&answer)
        };
        tokio::task::spawn_blocking(exchange).await.unwrap()
    }

    /// The JSON of a path that has to work.
    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path).await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Waits until a path answers so.
    pub async fn until(&self, path: &str, what: impl Fn(u16, &str) -> bool) -> String {
        let begin = Instant::now();
        loop {
            let (status, body) = self.ask("GET", path).await;
            if what(status, &body) {
                return body;
            }
            assert!(begin.elapsed() < PATIENCE, "{path} stays {status}: {body}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A metric without labels, or with these.
    pub async fn metric(&self, series: &str) -> f64 {
        let (_, text) = self.ask_outside("/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{series} is not in {text}")).parse().unwrap()
    }
}

fn answered(answer: &[u8]) -> (u16, String) {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return (0, text.into_owned()) };
    (head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), body.to_owned())
}

/// The agent's side of the link.
pub struct Agent {
    listener: UnixListener,
}

impl Agent {
    pub fn listen(folder: &Path) -> Self {
        let path = folder.join("agent.sock");
        std::fs::remove_file(&path).ok();
        Self { listener: UnixListener::bind(path).unwrap() }
    }

    /// Takes a connection, and says hello as this.
    pub async fn accept_as(&self, hello: FromAgent) -> Connection {
        let (stream, _) = tokio::time::timeout(PATIENCE, self.listener.accept()).await.unwrap().unwrap();
        let mut connection = Connection { stream: BufReader::new(stream) };
        connection.send(hello).await;
        connection
    }

    /// Takes a connection, exchanges hellos, and returns how far the manager has everything.
    pub async fn accept(&self) -> (Connection, Vec<Cursor>) {
        let node = Node { id: NODE.into(), hostname: "host".into(), ..Node::default() };
        let hello = FromAgent::Hello { protocol: PROTOCOL, version: "0.1.0-test".into(), node };
        let mut connection = self.accept_as(hello).await;
        match connection.hear().await {
            Some(FromManager::Hello { protocol: PROTOCOL, cursors }) => (connection, cursors),
            other => panic!("{other:?}"),
        }
    }
}

pub struct Connection {
    stream: BufReader<UnixStream>,
}

impl Connection {
    pub async fn send(&mut self, what: FromAgent) {
        let mut line = serde_json::to_vec(&what).unwrap();
        line.push(b'\n');
        self.send_bytes(&line).await;
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        // The manager may have ended it: the test looks at what comes of that.
        self.stream.get_mut().write_all(bytes).await.ok();
    }

    pub async fn findings(&mut self, findings: Vec<Spooled>) {
        self.send(FromAgent::Findings { findings }).await;
    }

    pub async fn status(&mut self, status: AgentStatus) {
        self.send(FromAgent::Status { status: Box::new(status) }).await;
    }

    /// The next line, or nothing if the manager ended the connection.
    pub async fn hear(&mut self) -> Option<FromManager> {
        tokio::time::timeout(PATIENCE, self.hear_slowly()).await.unwrap()
    }

    async fn hear_slowly(&mut self) -> Option<FromManager> {
        let mut line = String::new();
        match self.stream.read_line(&mut line).await {
            Ok(n) if n > 0 => Some(serde_json::from_str(&line).unwrap()),
            _ => None,
        }
    }

    /// Whether the manager says nothing for that long.
    pub async fn is_silent(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.hear_slowly()).await.is_err()
    }

    /// Waits until everything up to here is acknowledged.
    pub async fn acknowledged(&mut self, seq: u64) {
        loop {
            match self.hear().await {
                Some(FromManager::Ack { cursor: Cursor { lane: SpoolLane::Routine, seq: got } }) if got >= seq => {
                    return;
                }
                Some(FromManager::Ack { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}
