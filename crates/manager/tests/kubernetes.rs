//! Pods of the node, from an API server that follows a script, through the manager to an agent.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "ground/api_server.rs"]
mod api_server;
mod ground;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api_server::{ApiServer, Say, furnish, kubeconfig, pod, status};
use ground::scene::{Agent, Connection, Manager, PATIENCE};
use serde_json::{Value, json};
use tw_manager::kubernetes::{Access, Options, Pace};
use tw_model::container::Pod;
use tw_model::link::FromManager;

/// Between connections; the true pauses are longer.
const QUICK: Duration = Duration::from_millis(100);

/// An agent that hears of pods.
struct Ears {
    connection: Connection,
    pods: BTreeMap<String, Pod>,
    /// How often it was told to begin anew.
    anew: usize,
}

impl Ears {
    async fn of(agent: &Agent) -> Self {
        Self { connection: agent.accept().await.0, pods: BTreeMap::new(), anew: 0 }
    }

    /// Listens until it is so.
    async fn until(&mut self, what: impl Fn(&BTreeMap<String, Pod>) -> bool) {
        // Who says nothing for long is given up; what is waited for may take as long again.
        self.connection.findings(Vec::new()).await;
        let heard = async {
            while !what(&self.pods) {
                let Some(said) = self.connection.hear().await else {
                    panic!("the manager went; {:?}", self.pods.keys())
                };
                let FromManager::Pods(news) = said else { continue };
                if news.anew {
                    self.pods.clear();
                    self.anew += 1;
                }
                for uid in news.gone {
                    assert!(self.pods.remove(&uid).is_some(), "{uid} was never there");
                }
                self.pods.extend(news.pods.into_iter().map(|pod| (pod.uid.clone(), pod)));
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, heard).await.is_ok();
        assert!(in_time, "{} pods: {:#?}", self.pods.len(), self.pods.keys());
    }

    async fn has(&mut self, uid: &str) {
        self.until(|pods| pods.contains_key(uid)).await;
    }
}

/// A manager, an agent and a server, each with what the other needs.
struct Ground {
    folder: tempfile::TempDir,
    server: ApiServer,
    agent: Agent,
    manager: Manager,
}

impl Ground {
    fn new(script: impl FnOnce(&ApiServer)) -> Self {
        let server = ApiServer::start();
        furnish(&server);
        script(&server);
        let url = format!("http://{}", server.address);
        Self::at(server, &url, None)
    }

    fn at(server: ApiServer, url: &str, authority: Option<&Path>) -> Self {
        let pace = Pace { pause: (QUICK, 2 * QUICK), watch: QUICK, ..Pace::default() };
        Self::paced(server, url, authority, pace)
    }

    fn paced(server: ApiServer, url: &str, authority: Option<&Path>, pace: Pace) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kubeconfig");
        kubeconfig(&file, url, authority);
        let agent = Agent::listen(folder.path());
        let options = Options { access: Access::File(file), node: "node-1".into(), pace };
        let store = format!("sqlite:{}/tidewatch.db", folder.path().display());
        let manager = Manager::start_with(folder.path(), &store, Some(options));
        Self { folder, server, agent, manager }
    }

    /// What status says of Kubernetes, once that is as wanted.
    async fn standing(&self, what: impl Fn(&Value) -> bool) -> Value {
        let shown = |body: &str| serde_json::from_str::<Value>(body).unwrap()["kubernetes"].clone();
        let body = self.manager.until("/api/v1/status", |_, body| what(&shown(body))).await;
        shown(&body)
    }

    /// Says something after which nobody watches on, once somebody watches.
    async fn say(&self, say: Say) {
        self.until("a watch", || self.server.script().watched).await;
        self.server.say(say);
    }

    /// Says a line that makes no sense, so that all is listed anew.
    async fn confuse(&self) {
        self.say(Say::Line("nonsense".into())).await;
    }

    /// Does so, and answers the next lists with this.
    async fn mislead(&self, body: &str, times: usize) {
        // Before somebody watches, the list after the line before may still be on its way.
        self.until("a watch", || self.server.script().watched).await;
        self.server.script().instead.extend(std::iter::repeat_n((200, body.to_owned()), times));
        self.confuse().await;
    }

    /// Waits for so many requests that hold this.
    async fn asked(&self, what: &str, times: usize) {
        self.until(what, || self.server.asked(what) >= times).await;
    }

    async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let begin = std::time::Instant::now();
        while !holds() {
            assert!(begin.elapsed() < PATIENCE, "{what}: {:#?}", self.server.script().requests);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn error(&self, holds: &str) -> String {
        let standing = self.standing(|shown| shown["error"].as_str().is_some_and(|text| text.contains(holds))).await;
        standing["error"].as_str().unwrap().to_owned()
    }

    /// The remedy of a problem, once there is that problem.
    async fn problem(&self, code: &str) -> (String, String) {
        let find = |body: &str| {
            let page: Value = serde_json::from_str(body).unwrap();
            let all = page["problems"].as_array().unwrap().clone();
            let found = all.into_iter().find(|problem| problem["code"] == code)?;
            Some((found["what"].as_str()?.to_owned(), found["remedy"].as_str()?.to_owned()))
        };
        let body = self.manager.until("/api/v1/problems", |_, body| find(body).is_some()).await;
        find(&body).unwrap()
    }
}

/// `get /api/v1/nodes/n` is to get nodes.
fn verb_and_resource(request: &str) -> (String, String) {
    let (verb, target) = request.split_once(' ').unwrap();
    let path: Vec<&str> = target.split('?').next().unwrap().trim_matches('/').split('/').collect();
    let resource = if verb == "get" { path[path.len() - 2] } else { path[path.len() - 1] };
    (verb.to_owned(), resource.to_owned())
}

/// What the role in `deploy/kubernetes.yaml` allows.
fn allowed() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubernetes.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let role = text.split("\n---\n").find(|part| part.contains("\nkind: ClusterRole\n")).unwrap();
    let role: Value = serde_saphyr::from_str(role).unwrap();
    let words = |rule: &Value, key: &str| -> Vec<String> { serde_json::from_value(rule[key].clone()).unwrap() };
    let mut allowed = Vec::new();
    for rule in role["rules"].as_array().unwrap() {
        for resource in words(rule, "resources") {
            allowed.extend(words(rule, "verbs").into_iter().map(|verb| (verb, resource.clone())));
        }
    }
    allowed.sort();
    allowed
}

#[tokio::test]
async fn pods_are_listed_in_pages_and_watched_with_all_that_is_to_be_known() {
    let ground = Ground::new(|server| {
        for n in 0..120 {
            server.put(pod(&format!("u-{n:03}"), &format!("web-7d4b9c8f6-{n:03}"), "web"));
        }
    });
    let mut ears = Ears::of(&ground.agent).await;
    ears.until(|pods| pods.len() == 120).await;
    assert_eq!(ground.server.asked("list /api/v1/pods"), 3, "pages: {:#?}", ground.server.script().requests);
    let told = &ears.pods["u-007"];
    assert_eq!((&*told.name, &*told.namespace, &*told.ip), ("web-7d4b9c8f6-007", "shop", "10.1.2.3"));
    assert_eq!((&*told.node, &*told.service_account, &*told.labels["app"]), ("node-1", "robot", "web"));
    assert_eq!((&*told.namespace_uid, &*told.namespace_labels["team"]), ("ns-uid", "blue"));
    let owners: Vec<_> = told.owners.iter().map(|o| (&*o.kind, &*o.name, &*o.uid)).collect();
    assert_eq!(owners, [("replicaset", "web-7d4b9c8f6", "rs-uid"), ("deployment", "web", "deployment-uid")]);
    assert_eq!(ground.server.asked("replicasets"), 1, "asked once for all of its pods");
    assert_eq!(ground.server.asked("namespaces/shop "), 0);

    // The watch begins after the pages were told.
    ground.asked("watch ", 1).await;
    // All that was asked for is in the role that the documents tell to give, and nothing more is; a job comes below.
    let mut asked: Vec<(String, String)> =
        ground.server.script().requests.iter().map(|line| verb_and_resource(line)).collect();
    asked.push(("get".to_owned(), "jobs".to_owned()));
    asked.sort();
    asked.dedup();
    assert_eq!(asked, allowed());

    // Changes.
    ground.server.put(pod("u-007", "web-7d4b9c8f6-007", "changed"));
    ears.until(|pods| pods["u-007"].labels["app"] == "changed").await;
    let mut job = pod("u-job", "tidy-29411520-x2x9k", "tidy");
    job["metadata"]["ownerReferences"] = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "tidy-29411520", "uid": "job-uid", "controller": true}]);
    ground.server.put(job);
    ears.has("u-job").await;
    assert_eq!(ears.pods["u-job"].owner("cronjob").unwrap().name, "tidy");
    ground.server.delete("u-007");
    ears.until(|pods| !pods.contains_key("u-007")).await;

    // A watch that ends in good order goes on from the last bookmark.
    let bookmark = ground.server.bookmark();
    ground.say(Say::End).await;
    ground.asked(&format!("resourceVersion={bookmark}"), 1).await;
    ground.server.put(pod("u-late", "late", "web"));
    ears.has("u-late").await;
    assert_eq!(ground.server.asked("list /api/v1/pods"), 3, "nothing was listed again");
    assert_eq!(ears.anew, 1);

    // An agent that comes anew is told everything.
    drop(ears);
    let mut ears = Ears::of(&ground.agent).await;
    ears.until(|pods| pods.len() == 121).await;
    let standing = ground.standing(|shown| shown["up"] == true).await;
    assert_eq!((&standing["pods"], &standing["node"], &standing["lists"]), (&json!(121), &json!("node-1"), &json!(1)));
    assert_eq!(ground.manager.metric("tidewatch_kubernetes_up").await, 1.0);
    assert_eq!(ground.manager.metric("tidewatch_kubernetes_pods").await, 121.0);
    assert!(ground.manager.metric("tidewatch_kubernetes_heard_time_seconds").await > 1.7e9);
    ground.manager.stop().await;
}

#[tokio::test]
async fn what_is_too_old_is_listed_anew_and_what_went_meanwhile_is_gone() {
    let ground = Ground::new(|server| server.put(pod("u-1", "web-1", "web")));
    let mut ears = Ears::of(&ground.agent).await;
    ears.has("u-1").await;

    // In the watch itself.
    let expired = status(410, "Expired", "too old resource version");
    ground.say(Say::Line(format!(r#"{{"type":"ERROR","object":{expired}}}"#))).await;
    ground.asked("list /api/v1/pods", 2).await;
    ground.server.put(pod("u-2", "web-2", "web"));
    ears.has("u-2").await;

    // As the answer to a watch that would go on. Nobody hears that a pod went.
    ground.until("a watch", || ground.server.script().watched).await;
    ground.server.script().oldest = u64::MAX;
    let watches = ground.server.asked("watch /api/v1/pods");
    ground.say(Say::End).await;
    ground.asked("watch /api/v1/pods", watches + 1).await;
    ground.server.delete("u-1");
    ground.server.forget();
    ears.until(|pods| !pods.contains_key("u-1") && pods.contains_key("u-2")).await;

    // In the middle of a list.
    ground.server.script().instead.push((410, status(410, "Expired", "the provided continue parameter is too old")));
    ground.confuse().await;
    ground.server.put(pod("u-3", "web-3", "web"));
    ears.has("u-3").await;
    ground.standing(|shown| shown["up"] == true && shown["error"].is_null()).await;
    assert!(ground.manager.metric("tidewatch_kubernetes_failures_total{reason=\"expired\"}").await >= 2.0);
    ground.manager.stop().await;
}

#[tokio::test]
async fn a_server_that_breaks_off_or_makes_no_sense_does_no_harm() {
    let ground = Ground::new(|server| server.put(pod("u-1", "web-1", "web")));
    let mut ears = Ears::of(&ground.agent).await;
    ears.has("u-1").await;
    // Whoever comes later does not hear it.
    ground.until("a watch", || ground.server.script().watched).await;
    for line in [
        json!({"type": "ADDED", "object": {"metadata": {"name": "no uid", "resourceVersion": "101"}}}),
        json!({"type": "DELETED", "object": {"metadata": {"uid": "never", "name": "x", "resourceVersion": "101"}}}),
    ] {
        ground.server.tell(&line);
    }
    let lines = [
        Say::Cut,
        Say::Line("nonsense".into()),
        Say::Line("\u{0}\u{1b}[31m".into()),
        Say::Line(json!({"type": "ADDED", "object": {"metadata": 7}}).to_string()),
        Say::Line(json!({"type": "STRANGE", "object": {}}).to_string()),
        Say::Line("[".repeat(100_000)),
        Say::Endless,
    ];
    for (n, say) in lines.into_iter().enumerate() {
        ground.say(say).await;
        let uid = format!("after-{n}");
        ground.server.put(pod(&uid, &uid, "web"));
        ears.has(&uid).await;
    }
    // What comes with the line without end may be told before it.
    ground.until("a line without end", || ground.server.script().endless >= 3 << 20).await;
    ground.until("its end", || ground.server.script().watched).await;
    let taken = ground.server.script().endless;
    assert!((3 << 20..16 << 20).contains(&taken), "{taken} bytes of a line were taken");
    for body in ["", "{", "[]", "<html>Sign in</html>", r#"{"metadata":{},"items":[]}"#] {
        ground.mislead(body, 1).await;
        let uid = format!("list-{}", body.len());
        ground.server.put(pod(&uid, &uid, "web"));
        ears.has(&uid).await;
    }
    // Often enough to be seen: the next list that is well takes the error away.
    ground.mislead(&" ".repeat(17 << 20), 10).await;
    ground.error("more than 16 MiB").await;
    ground.server.put(pod("last", "last", "web"));
    ears.has("last").await;
    assert!(ears.anew == 1 && ears.pods.contains_key("u-1"), "what was known stayed");
    ground.manager.stop().await;
}

#[tokio::test]
async fn who_is_not_known_or_may_not_is_told_what_is_missing() {
    let ground = Ground::new(|server| {
        server.put(pod("u-1", "web-1", "web"));
        server.script().token = "second".into();
    });
    let mut ears = Ears::of(&ground.agent).await;
    let error = ground.error("401").await;
    assert!(error.contains("does not know us"), "{error}");
    assert_eq!(ground.manager.metric("tidewatch_kubernetes_up").await, 0.0);
    // The token is replaced, as the kubelet does it.
    let token = ground.folder.path().join("token");
    std::fs::write(token.with_extension("new"), "second\n").unwrap();
    std::fs::rename(token.with_extension("new"), &token).unwrap();
    ears.has("u-1").await;
    ground.standing(|shown| shown["up"] == true && shown["error"].is_null()).await;

    for verb in ["list", "watch"] {
        ground.server.script().forbidden = vec![(verb, "pods")];
        ground.confuse().await;
        let (what, remedy) = ground.problem("kubernetes-forbidden").await;
        assert!(what.contains(&format!("cannot {verb} resource")), "{what}");
        assert!(remedy.contains(&format!("the verb {verb} for the resource pods")), "{remedy}");
        ground.server.script().forbidden.clear();
        ground.standing(|shown| shown["up"] == true).await;
    }

    // Without the right to look at owners, names have to do.
    ground.server.script().forbidden = vec![("get", "replicasets"), ("get", "namespaces"), ("get", "nodes")];
    let lists = ground.server.asked("list /api/v1/pods");
    ground.confuse().await;
    // What was asked for on the connection before is not known on this one.
    ground.asked("list /api/v1/pods", lists + 1).await;
    ground.server.put(pod("u-2", "web-2", "web"));
    ears.has("u-2").await;
    let owner = ears.pods["u-2"].owner("deployment").unwrap();
    assert_eq!((&*owner.name, &*owner.uid), ("web", ""));
    let (what, _) = ground.problem("kubernetes-relations").await;
    assert!(what.contains("replicasets, namespaces"), "{what}");
    ground.manager.stop().await;
}

#[tokio::test]
async fn owners_that_a_pod_makes_up_are_not_believed() {
    let ground = Ground::new(|server| {
        let owned = |uid: &str, kind: &str, name: &str, owner: &str| {
            let mut pod = pod(uid, uid, "web");
            // With it the name alone would say a deployment.
            let hash = name.rsplit_once('-').unwrap().1;
            pod["metadata"]["labels"] = json!({"pod-template-hash": hash});
            pod["metadata"]["ownerReferences"] =
                json!([{"apiVersion": "x/v1", "kind": kind, "name": name, "uid": owner, "controller": true}]);
            server.put(pod);
        };
        owned("u-other", "ReplicaSet", "web-7d4b9c8f6", "another-uid");
        owned("u-gone", "ReplicaSet", "gone-7d4b9c8f6", "rs-uid");
        owned("u-path", "ReplicaSet", "../../../../api/v1/nodes/node-1", "node-uid");
        owned("u-job", "Job", "tidy-29411520", "another-uid");
        owned("u-job-gone", "Job", "gone-29411520", "job-uid");
    });
    let mut ears = Ears::of(&ground.agent).await;
    ears.until(|pods| pods.len() == 5).await;
    assert!(ears.pods.values().all(|pod| pod.owner("deployment").is_none()), "{:#?}", ears.pods);
    assert!(ears.pods.values().all(|pod| pod.owner("cronjob").is_none()), "{:#?}", ears.pods);
    // That another pod has the owner in truth, and in another namespace, does not help.
    ground.server.put(pod("u-true", "web-7d4b9c8f6-1", "web"));
    ears.has("u-true").await;
    assert_eq!(ears.pods["u-true"].owner("deployment").unwrap().name, "web");
    let mut elsewhere = pod("u-elsewhere", "web-7d4b9c8f6-2", "web");
    elsewhere["metadata"]["namespace"] = "other".into();
    ground.server.put(elsewhere);
    ears.has("u-elsewhere").await;
    assert!(ears.pods["u-elsewhere"].owner("deployment").is_none(), "{:#?}", ears.pods["u-elsewhere"]);
    assert_eq!(
        ground.server.asked("nodes/node-1"),
        1,
        "the look at the node alone: {:#?}",
        ground.server.script().requests
    );
    ground.manager.stop().await;
}

#[tokio::test]
async fn what_could_not_be_read_is_asked_for_again() {
    let server = ApiServer::start();
    furnish(&server);
    server.put(pod("u-1", "web-1", "web"));
    server.script().forbidden = vec![("get", "replicasets"), ("get", "namespaces")];
    let node = server.script().objects.remove("api/v1/nodes/node-1").unwrap();
    let url = format!("http://{}", server.address);
    let pace = Pace { pause: (QUICK, 2 * QUICK), watch: QUICK, again: 2 * QUICK };
    let ground = Ground::paced(server, &url, None, pace);
    let mut ears = Ears::of(&ground.agent).await;
    ears.until(|pods| pods.get("u-1").is_some_and(|pod| pod.owner("deployment").is_some())).await;
    assert_eq!((&*ears.pods["u-1"].owners[1].uid, &*ears.pods["u-1"].namespace_uid), ("", ""));
    ground.problem("kubernetes-node").await;
    ground.problem("kubernetes-relations").await;
    // Nobody gives a sign of it: neither pods nor the connection change.
    ground.server.script().forbidden.clear();
    ground.server.script().objects.insert("api/v1/nodes/node-1".into(), node);
    ears.until(|pods| !pods["u-1"].owners[1].uid.is_empty() && !pods["u-1"].namespace_uid.is_empty()).await;
    assert_eq!(&*ears.pods["u-1"].owners[1].uid, "deployment-uid");
    ground.manager.until("/api/v1/problems", |_, body| !body.contains("\"kubernetes-")).await;

    // Answers of a server that fails are no answers for ever either, and what is known stays.
    let space = ground.server.script().objects.remove("api/v1/namespaces/shop").unwrap();
    ground.server.script().broken = vec!["namespaces"];
    let asked = ground.server.asked("namespaces/shop");
    ground.asked("namespaces/shop", asked + 6).await;
    assert_eq!(ground.server.asked("list /api/v1/pods"), 1);
    let mut changed = space;
    changed["metadata"]["labels"]["team"] = "red".into();
    ground.server.script().objects.insert("api/v1/namespaces/shop".into(), changed);
    assert_eq!(&*ears.pods["u-1"].namespace_labels["team"], "blue");
    ground.server.script().broken.clear();
    ears.until(|pods| pods["u-1"].namespace_labels.get("team").is_some_and(|team| team == "red")).await;
    // A right that is taken away while no pod changes.
    ground.server.script().forbidden = vec![("get", "namespaces")];
    let (what, _) = ground.problem("kubernetes-relations").await;
    assert!(what.contains("get namespaces:"), "{what}");
    assert_eq!(ground.server.asked("list /api/v1/pods"), 1, "all on one connection");
    ground.manager.stop().await;
}

#[tokio::test]
async fn watches_that_end_at_once_do_not_begin_at_once() {
    let server = ApiServer::start();
    furnish(&server);
    server.put(pod("u-1", "web-1", "web"));
    server.script().brief = true;
    let url = format!("http://{}", server.address);
    let pace = Pace { pause: (QUICK, 2 * QUICK), watch: 3 * QUICK, ..Pace::default() };
    let begin = std::time::Instant::now();
    let ground = Ground::paced(server, &url, None, pace);
    let mut ears = Ears::of(&ground.agent).await;
    ears.has("u-1").await;
    ground.asked("watch ", 4).await;
    assert!(begin.elapsed() >= 9 * QUICK, "four watches have three pauses between them: {:?}", begin.elapsed());
    ground.server.script().brief = false;
    ground.until("a watch", || ground.server.script().watched).await;
    ground.server.put(pod("u-2", "web-2", "web"));
    ears.has("u-2").await;
    assert_eq!(ground.server.asked("list /api/v1/pods"), 1, "that is no trouble");
    ground.manager.stop().await;
}

#[tokio::test]
async fn too_many_pods_are_left_out_and_a_node_that_nobody_knows_is_told() {
    let ground = Ground::new(|server| {
        for n in 0..1_100 {
            server.put(pod(&format!("u-{n}"), "web", "web"));
        }
        server.script().objects.remove("api/v1/nodes/node-1");
    });
    let mut ears = Ears::of(&ground.agent).await;
    ears.until(|pods| pods.len() == 1_024).await;
    let (what, _) = ground.problem("kubernetes-pods").await;
    assert!(what.starts_with("76 pods"), "{what}");
    let (what, remedy) = ground.problem("kubernetes-node").await;
    assert!(what.contains("no node named node-1") && remedy.contains("kubernetes.node"), "{what}; {remedy}");
    assert_eq!(ground.manager.metric("tidewatch_kubernetes_pods_left_out").await, 76.0);

    // One that is left out counts once, however often it changes, and no more when it is gone.
    ground.until("a watch", || ground.server.script().watched).await;
    for app in ["a", "b", "c"] {
        ground.server.put(pod("u-beyond", "beyond", app));
    }
    ground.manager.until("/metrics", |_, body| body.contains("tidewatch_kubernetes_pods_left_out 77.0\n")).await;
    ground.server.delete("u-beyond");
    ground.manager.until("/metrics", |_, body| body.contains("tidewatch_kubernetes_pods_left_out 76.0\n")).await;
    // Whoever finds room is left out no more. The first of the list in their order is known.
    ground.server.delete("u-0");
    ears.until(|pods| !pods.contains_key("u-0")).await;
    ground.server.put(pod("u-999", "web", "changed"));
    ears.has("u-999").await;
    assert_eq!(ground.manager.metric("tidewatch_kubernetes_pods_left_out").await, 75.0);
    ground.manager.stop().await;
}

#[tokio::test]
async fn certificates_are_checked_and_read_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (own, other) = (Authority::new(folder.path(), "own"), Authority::new(folder.path(), "other"));
    let config = own.server();
    let server = ApiServer::start_through(move |stream| {
        let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        Box::new(rustls::StreamOwned::new(connection, stream))
    });
    furnish(&server);
    server.put(pod("u-1", "web-1", "web"));
    let url = format!("https://localhost:{}", server.address.port());
    let ground = Ground::at(server, &url, Some(&other.certificate));
    let mut ears = Ears::of(&ground.agent).await;
    let (what, remedy) = ground.problem("kubernetes-certificate").await;
    assert!(what.contains("certificate") && remedy.contains("certificate-authority"), "{what}; {remedy}");
    std::fs::copy(&own.certificate, &other.certificate).unwrap();
    ears.has("u-1").await;
    ground.manager.stop().await;
}

#[tokio::test]
async fn a_server_that_is_away_is_told_and_waited_for() {
    let server = ApiServer::start();
    furnish(&server);
    server.put(pod("u-1", "web-1", "web"));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{}", server.address);
    let ground = Ground::at(server, &format!("http://{nobody}"), None);
    let mut ears = Ears::of(&ground.agent).await;
    let error = ground.error("cannot be reached").await;
    assert!(error.to_lowercase().contains("refused"), "{error}");
    let (_, remedy) = ground.problem("kubernetes-unreachable").await;
    assert!(remedy.contains("tried again"), "{remedy}");
    assert!(
        ears.connection.is_silent(Duration::from_millis(300)).await,
        "that nothing is known is not told as no pods"
    );
    kubeconfig(&ground.folder.path().join("kubeconfig"), &url, None);
    ears.has("u-1").await;
    ground.manager.stop().await;
}

/// A certificate that signed itself.
struct Authority {
    certificate: PathBuf,
    key: PathBuf,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let (certificate, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
        let mut command = std::process::Command::new("openssl");
        command.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ]);
        command.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]);
        command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        command.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
        let made = command.output().expect("openssl is there");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::io::stdout().flush().unwrap();
        Self { certificate, key }
    }

    fn server(&self) -> Arc<rustls::ServerConfig> {
        use rustls::pki_types::pem::PemObject as _;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        let chain = vec![CertificateDer::from_pem_file(&self.certificate).unwrap()];
        let key = PrivateKeyDer::from_pem_file(&self.key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap())
    }
}
