//! An API server of Kubernetes that follows a script: lists in pages, watches with bookmarks, and everything that goes
//! wrong with it. It speaks HTTP itself, since no server's library says what makes no sense.
#![allow(dead_code, clippy::unwrap_used, missing_docs, reason = "for tests; each uses a part")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};

/// What is said on every watch that is open, beside changes.
#[derive(Clone, Debug)]
pub enum Say {
    /// A line as it is.
    Line(String),
    /// A line without end.
    Endless,
    /// The end, in good order.
    End,
    /// The end in the middle of something.
    Cut,
}

#[derive(Default)]
pub struct Script {
    /// By path below the API's root, such as `api/v1/namespaces/shop`.
    pub objects: BTreeMap<String, Value>,
    pods: BTreeMap<String, Value>,
    version: u64,
    changes: Vec<(u64, &'static str, Value)>,
    said: Vec<Say>,
    /// Whether somebody watches since what was said last made the one before leave.
    pub watched: bool,
    /// Versions before this one are too old.
    pub oldest: u64,
    /// The token that is known; empty: all are.
    pub token: String,
    /// Verb and resource of what is not allowed.
    pub forbidden: Vec<(&'static str, &'static str)>,
    /// Said in place of the next lists: status and body.
    pub instead: Vec<(u16, String)>,
    /// Requests so far: verb and target.
    pub requests: Vec<String>,
    /// Resources that cannot be read just now.
    pub broken: Vec<&'static str>,
    /// Whether watches end, in good order, as soon as they begin.
    pub brief: bool,
    /// Bytes of lines without end that somebody took.
    pub endless: usize,
}

/// See the module.
#[derive(Clone)]
pub struct ApiServer {
    pub address: SocketAddr,
    script: Arc<(Mutex<Script>, Condvar)>,
}

pub trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl ApiServer {
    pub fn start() -> Self {
        Self::start_through(|stream| Box::new(stream))
    }

    /// One whose connections are made into others, such as encrypted ones.
    pub fn start_through(made: impl Fn(TcpStream) -> Box<dyn Stream> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let script = Script { version: 100, oldest: 100, ..Script::default() };
        let server =
            Self { address: listener.local_addr().unwrap(), script: Arc::new((Mutex::new(script), Condvar::new())) };
        let (accepting, made) = (server.clone(), Arc::new(made));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (server, made) = (accepting.clone(), Arc::clone(&made));
                std::thread::spawn(move || server.serve(&mut BufReader::new(made(stream))));
            }
        });
        server
    }

    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.0.lock().unwrap()
    }

    /// Adds or changes a pod, or anything else if it is in the way.
    pub fn put(&self, pod: Value) {
        self.change(pod, false);
    }

    pub fn delete(&self, uid: &str) {
        let pod = self.script().pods.get(uid).unwrap().clone();
        self.change(pod, true);
    }

    fn change(&self, mut pod: Value, gone: bool) {
        let mut script = self.script();
        script.version += 1;
        pod["metadata"]["resourceVersion"] = script.version.to_string().into();
        let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
        let known = if gone { script.pods.remove(&uid) } else { script.pods.insert(uid, pod.clone()) };
        let what = match (gone, known) {
            (true, _) => "DELETED",
            (false, None) => "ADDED",
            (false, Some(_)) => "MODIFIED",
        };
        let version = script.version;
        script.changes.push((version, what, pod));
        self.script.1.notify_all();
    }

    /// Forgets what happened, so that whoever was away has to list anew.
    pub fn forget(&self) {
        let mut script = self.script();
        script.version += 10;
        script.oldest = script.version;
        script.changes.clear();
    }

    /// Says something after which nobody watches on.
    pub fn say(&self, say: Say) {
        let mut script = self.script();
        script.said.push(say);
        script.watched = false;
        self.script.1.notify_all();
    }

    /// Says a line after which the watch goes on.
    pub fn tell(&self, line: &Value) {
        self.script().said.push(Say::Line(line.to_string()));
        self.script.1.notify_all();
    }

    /// Tells every watch how far it is; returns that.
    pub fn bookmark(&self) -> u64 {
        let version = {
            let mut script = self.script();
            script.version += 10;
            script.version
        };
        let object = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": version.to_string()}});
        self.tell(&json!({"type": "BOOKMARK", "object": object}));
        version
    }

    /// Requests so far whose line holds this.
    pub fn asked(&self, what: &str) -> usize {
        self.script().requests.iter().filter(|request| request.contains(what)).count()
    }

    fn serve(&self, stream: &mut BufReader<Box<dyn Stream>>) -> Option<()> {
        loop {
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).ok().filter(|n| *n > 0)?;
                if line == "\r\n" {
                    break;
                }
                head.push(line.trim_end().to_owned());
            }
            let target = head.first()?.split(' ').nth(1)?.to_owned();
            let given = head.iter().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("authorization")
                    .then(|| value.trim_start_matches("Bearer ").trim().to_owned())
            });
            self.answer(stream.get_mut(), &target, given.unwrap_or_default())?;
        }
    }

    fn answer(&self, out: &mut dyn Write, target: &str, given: String) -> Option<()> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query: BTreeMap<&str, &str> = query.split('&').filter_map(|part| part.split_once('=')).collect();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let pods = path == "/api/v1/pods";
        let (verb, resource) = match (pods, query.get("watch") == Some(&"true")) {
            (true, true) => ("watch", "pods"),
            (true, false) => ("list", "pods"),
            _ => ("get", parts[parts.len().saturating_sub(2)]),
        };
        let version = query.get("resourceVersion").copied();
        // Nothing is written while the script is held: whoever reads it may wait for the script.
        match self.look_up(verb, resource, target, &given, path, &query) {
            Some((code, body)) => reply(out, code, &body),
            None => self.watch(out, version?.parse().ok()?),
        }
    }

    /// The answer; none if it is a watch that begins.
    fn look_up(
        &self,
        verb: &str,
        resource: &str,
        target: &str,
        given: &str,
        path: &str,
        query: &BTreeMap<&str, &str>,
    ) -> Option<(u16, String)> {
        let pods = path == "/api/v1/pods";
        let mut script = self.script();
        script.requests.push(format!("{verb} {target}"));
        if !script.token.is_empty() && given != script.token {
            return Some((401, status(401, "Unauthorized", "Unauthorized")));
        }
        if script.forbidden.iter().any(|(v, r)| *v == verb && *r == resource) {
            let words = format!("{resource} is forbidden: User \"robot\" cannot {verb} resource \"{resource}\"");
            return Some((403, status(403, "Forbidden", &words)));
        }
        if script.broken.contains(&resource) {
            return Some((500, status(500, "InternalError", "no leader")));
        }
        if !pods {
            let found = script.objects.get(path.trim_start_matches('/')).map(Value::to_string);
            let missing = || status(404, "NotFound", "not found");
            return Some(found.map_or_else(|| (404, missing()), |found| (200, found)));
        }
        assert_eq!(query.get("fieldSelector"), Some(&"spec.nodeName%3Dnode-1"), "only the pods of the node: {target}");
        if verb == "list" && !script.instead.is_empty() {
            return Some(script.instead.remove(0));
        }
        if verb == "watch" {
            assert_eq!(query.get("allowWatchBookmarks"), Some(&"true"), "{target}");
            return None;
        }
        let limit: usize = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
        let from: usize = query.get("continue").map_or(0, |token| token.trim_start_matches("from-").parse().unwrap());
        let items: Vec<&Value> = script.pods.values().skip(from).take(limit).collect();
        let rest = script.pods.len() - from - items.len();
        let next = if rest > 0 { format!("from-{}", from + items.len()) } else { String::new() };
        let metadata = json!({"resourceVersion": script.version.to_string(), "continue": next});
        let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items});
        Some((200, list.to_string()))
    }

    fn watch(&self, out: &mut dyn Write, mut from: u64) -> Option<()> {
        let mut script = self.script();
        if from < script.oldest {
            drop(script);
            return reply(out, 410, &status(410, "Expired", "too old resource version"));
        }
        let mut said = script.said.len();
        drop(script);
        write!(out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n").ok()?;
        out.flush().ok()?;
        script = self.script();
        if script.brief {
            drop(script);
            return write!(out, "0\r\n\r\n").and_then(|()| out.flush()).ok();
        }
        script.watched = true;
        loop {
            let news: Vec<_> = script.changes.iter().filter(|(version, ..)| *version > from).cloned().collect();
            let more: Vec<Say> = script.said[said..].to_vec();
            said = script.said.len();
            drop(script);
            for (version, what, object) in news {
                chunk(out, format!("{}\n", json!({"type": what, "object": object})).as_bytes())?;
                from = version;
            }
            for say in more {
                match say {
                    Say::Line(line) => chunk(out, format!("{line}\n").as_bytes())?,
                    Say::Endless => loop {
                        let piece = [b'x'; 65_536];
                        chunk(out, &piece)?;
                        self.script().endless += piece.len();
                    },
                    Say::End => return write!(out, "0\r\n\r\n").and_then(|()| out.flush()).ok(),
                    Say::Cut => {
                        write!(out, "ff\r\n{{\"type\":").and_then(|()| out.flush()).ok()?;
                        return None;
                    }
                }
            }
            // What came while nobody held the script woke nobody.
            let nothing = |script: &mut Script| {
                script.said.len() == said && script.changes.last().is_none_or(|(version, ..)| *version <= from)
            };
            script = self.script.1.wait_timeout_while(self.script(), Duration::from_secs(60), nothing).unwrap().0;
        }
    }
}

fn chunk(out: &mut dyn Write, bytes: &[u8]) -> Option<()> {
    write!(out, "{:x}\r\n", bytes.len()).ok()?;
    out.write_all(bytes).ok()?;
    write!(out, "\r\n").ok()?;
    out.flush().ok()
}

fn reply(out: &mut dyn Write, code: u16, body: &str) -> Option<()> {
    let length = body.len();
    write!(out, "HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
        .ok()?;
    out.flush().ok()
}

/// What Kubernetes says when it refuses.
pub fn status(code: u16, reason: &str, message: &str) -> String {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": code})
    .to_string()
}

/// A kubeconfig for a server, with a file for the token.
pub fn kubeconfig(path: &Path, url: &str, authority: Option<&Path>) {
    let token = path.with_file_name("token");
    if !token.exists() {
        std::fs::write(&token, "first\n").unwrap();
    }
    let mut cluster = json!({"server": url});
    if let Some(authority) = authority {
        cluster["certificate-authority"] = authority.to_str().unwrap().into();
    }
    // JSON is YAML.
    let file = json!({"apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"tokenFile": token}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}]});
    std::fs::write(path, file.to_string()).unwrap();
}

/// A pod of the node, made by a replica set.
pub fn pod(uid: &str, name: &str, app: &str) -> Value {
    json!({"kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "shop", "uid": uid,
            "labels": {"app": app, "pod-template-hash": "7d4b9c8f6"}, "annotations": {"a": "b"},
            "managedFields": [{"manager": "kubelet", "operation": "Update"}],
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7d4b9c8f6",
                "uid": "rs-uid", "controller": true}]},
        "spec": {"nodeName": "node-1", "serviceAccountName": "robot",
            "containers": [{"name": "app", "image": "example/shop", "env": [{"name": "PASSWORD", "value": "hunter2"}]}]},
        "status": {"podIP": "10.1.2.3", "phase": "Running"}})
}

/// Metadata of an object alone, as it is asked for.
pub fn metadata(name: &str, uid: &str, more: &Value) -> Value {
    let mut object = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": {"name": name, "uid": uid}});
    for (key, value) in more.as_object().unwrap() {
        object["metadata"][key] = value.clone();
    }
    object
}

/// The node, the namespace and the owners that [`pod`] speaks of.
pub fn furnish(server: &ApiServer) {
    let mut script = server.script();
    script.objects.insert("api/v1/nodes/node-1".into(), metadata("node-1", "node-uid", &json!({})));
    let labels = json!({"labels": {"team": "blue"}});
    script.objects.insert("api/v1/namespaces/shop".into(), metadata("shop", "ns-uid", &labels));
    let owners = json!({"ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web",
        "uid": "deployment-uid", "controller": true}]});
    let path = "apis/apps/v1/namespaces/shop/replicasets/web-7d4b9c8f6";
    script.objects.insert(path.into(), metadata("web-7d4b9c8f6", "rs-uid", &owners));
    let owners = json!({"ownerReferences": [{"apiVersion": "batch/v1", "kind": "CronJob", "name": "tidy",
        "uid": "cron-uid", "controller": true}]});
    let path = "apis/batch/v1/namespaces/shop/jobs/tidy-29411520";
    script.objects.insert(path.into(), metadata("tidy-29411520", "job-uid", &owners));
}
