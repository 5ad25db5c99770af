//! The manager as a whole: a scripted agent on a real socket, the API over the control socket, real databases.
#![allow(clippy::unwrap_used, reason = "a test")]

mod ground;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use ground::scene::{Agent, Manager};
use ground::{ID, NODE, Postgres, container, finding, spooled};
use serde_json::Value;
use tw_manager::api::{FindingPage, Overview};
use tw_model::link::{Call, FromAgent, FromManager, MAX_LINE, Spooled};
use tw_model::listener::Listener;
use tw_model::status::{AgentStatus, Node, Problem, RuleFile, RulesStatus};

fn sqlite_url(folder: &std::path::Path) -> String {
    format!("sqlite:{}/store/tidewatch.db", folder.display())
}

fn range(range: impl IntoIterator<Item = u64>) -> Vec<Spooled> {
    range.into_iter().map(spooled).collect()
}

/// Numbers of all stored findings, page by page.
async fn stored(manager: &Manager) -> Vec<u64> {
    let (mut path, mut numbers) = ("/api/v1/findings?limit=1000&order=asc".to_owned(), Vec::new());
    loop {
        let page: FindingPage = serde_json::from_value(manager.get(&path).await).unwrap();
        numbers.extend(page.findings.iter().map(|item| item.finding.event_num));
        let Some(next) = page.next else { return numbers };
        path = format!("/api/v1/findings?limit=1000&order=asc&cursor={next}");
    }
}

#[tokio::test]
async fn findings_are_acknowledged_once_committed_and_a_second_delivery_is_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::listen(folder.path());
    let manager = Manager::start(folder.path(), &sqlite_url(folder.path()));
    manager.until("/readyz", |status, body| status == 503 && body.contains("link-down")).await;
    let mut connection = ready(&agent, &manager).await;
    connection.findings(range(1..=10)).await;
    connection.findings(range(11..=1500)).await;
    connection.acknowledged(1500).await;
    manager.until("/readyz", |status, _| status == 200).await;
    assert_eq!(stored(&manager).await, (1..=1500).collect::<Vec<_>>());
    drop(connection);

    let (mut connection, cursors) = agent.accept().await;
    assert_eq!(cursors.iter().map(|cursor| cursor.seq).collect::<Vec<_>>(), [0, 1500]);
    connection.findings(range(1400..=1510)).await;
    connection.acknowledged(1510).await;
    assert_eq!(stored(&manager).await.len(), 1510);
    assert_eq!(manager.metric("tidewatch_findings_stored_total").await, 1510.0);
    assert_eq!(manager.metric("tidewatch_findings_redelivered_total").await, 101.0);
    assert_eq!(manager.metric("tidewatch_event_to_store_seconds_count").await, 1611.0);
    manager.stop().await;

    // Another manager begins where this one ended.
    let manager = Manager::start(folder.path(), &sqlite_url(folder.path()));
    drop(connection);
    let (_connection, cursors) = agent.accept().await;
    assert_eq!(cursors[1].seq, 1510);
    manager.stop().await;
}

#[tokio::test]
async fn ten_thousand_findings_are_listed_completely_while_others_come_in() {
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::listen(folder.path());
    let manager = Manager::start(folder.path(), &sqlite_url(folder.path()));
    let mut connection = ready(&agent, &manager).await;
    for from in (0..10_000_u64).step_by(100) {
        let findings = (from..from + 100).map(|n| Spooled { seq: n + 1, ..spooled(n * 2) });
        connection.findings(findings.collect()).await;
    }
    connection.acknowledged(10_000).await;
    let others = tokio::spawn(async move {
        for n in 0..200_u64 {
            connection.findings(vec![Spooled { seq: 10_001 + n, ..spooled((n * 97 % 10_000) * 2 + 1) }]).await;
            connection.acknowledged(10_001 + n).await;
        }
        connection
    });
    let (mut path, mut seen) = ("/api/v1/findings?limit=300".to_owned(), Vec::new());
    loop {
        let page: FindingPage = serde_json::from_value(manager.get(&path).await).unwrap();
        seen.extend(page.findings.iter().map(|item| item.finding.event_num));
        let Some(next) = page.next else { break };
        path = format!("/api/v1/findings?limit=300&cursor={next}");
    }
    let distinct: BTreeSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len());
    assert!((0..10_000).all(|n| distinct.contains(&(n * 2))));
    others.await.unwrap();
    manager.stop().await;
}

/// A connection on which the store's cursors were known.
async fn ready(agent: &Agent, manager: &Manager) -> ground::scene::Connection {
    manager.until("/api/v1/status", |_, body| body.contains("\"up\":true")).await;
    let (mut connection, mut cursors) = agent.accept().await;
    while cursors.is_empty() {
        (connection, cursors) = agent.accept().await;
    }
    connection
}

#[tokio::test]
async fn nothing_is_acknowledged_while_postgresql_is_away_and_all_is_there_once_afterwards() {
    let mut postgres = match Postgres::start() {
        Ok(postgres) => postgres,
        Err(reason) => return ground::skip(&reason),
    };
    postgres.place("tidewatch");
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::listen(folder.path());
    let manager = Manager::start(folder.path(), &postgres.url("tidewatch"));
    let mut connection = ready(&agent, &manager).await;
    connection.findings(range(1..=100)).await;
    connection.acknowledged(100).await;

    postgres.stop();
    connection.findings(range(101..=200)).await;
    let body = manager.until("/readyz", |status, _| status == 503).await;
    assert!(body.contains("store-unavailable"), "{body}");
    // What the agent says of itself still comes through, and so does what is asked of it.
    connection.status(AgentStatus { kernel: "6.6.6".into(), ..AgentStatus::default() }).await;
    let body = manager.until("/api/v1/status", |_, body| body.contains("6.6.6")).await;
    let overview: Overview = serde_json::from_str(&body).unwrap();
    assert!(!overview.manager.store.up && overview.link.up);
    assert!(overview.problems.iter().any(|problem| problem.code == "store-unavailable" && problem.failed));
    let (status, body) = manager.ask("GET", "/api/v1/findings").await;
    let problem: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &problem["code"]), (503, &"store-unavailable".into()), "{body}");
    assert!(problem["remedy"].as_str().unwrap().contains("database runs"));
    assert!(connection.is_silent(Duration::from_secs(1)).await, "acknowledged without a store");

    postgres.resume();
    connection.acknowledged(200).await;
    manager.until("/readyz", |status, _| status == 200).await;
    assert_eq!(stored(&manager).await, (1..=200).collect::<Vec<_>>());

    // More than waits in memory: the rest is passed over, and asked for again when the store is back.
    postgres.stop();
    let large = |n: u64| {
        let mut large = spooled(n);
        large.finding.message = "x".repeat(2 << 20);
        vec![large]
    };
    for n in 201..=240 {
        connection.findings(large(n)).await;
    }
    connection.status(AgentStatus { kernel: "7.7.7".into(), ..AgentStatus::default() }).await;
    manager.until("/api/v1/status", |_, body| body.contains("7.7.7")).await;
    postgres.resume();
    let (mut connection, cursors) = agent.accept().await;
    for n in cursors[1].seq + 1..=240 {
        connection.findings(large(n)).await;
    }
    if cursors[1].seq < 240 {
        connection.acknowledged(240).await;
    }
    manager.until("/readyz", |status, _| status == 200).await;
    let mut numbers = BTreeSet::new();
    let mut path = "/api/v1/findings?limit=10".to_owned();
    let mut n = 0;
    loop {
        let page: FindingPage = serde_json::from_value(manager.get(&path).await).unwrap();
        numbers.extend(page.findings.iter().map(|item| item.finding.event_num));
        n += page.findings.len();
        let Some(next) = page.next else { break };
        path = format!("/api/v1/findings?limit=10&cursor={next}");
    }
    assert_eq!((n, numbers), (240, (1..=240).collect()));
    manager.stop().await;
}

#[test]
fn a_full_disk_is_told_and_survived() {
    if std::env::var("TIDEWATCH_IN_NAMESPACE").is_err() {
        if !rustix::process::geteuid().is_root() {
            return ground::skip("mounting needs root");
        }
        let mut command = Command::new("unshare");
        command.args(["-m", "--propagation", "private", "--"]).arg(std::env::current_exe().unwrap());
        command.args(["--exact", "a_full_disk_is_told_and_survived", "--nocapture"]);
        match command.env("TIDEWATCH_IN_NAMESPACE", "1").status() {
            Ok(status) => assert!(status.success()),
            Err(error) => ground::skip(&format!("unshare: {error}")),
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("store");
    std::fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=12m", "none"]).arg(&disk).status().unwrap();
    if !mounted.success() {
        return ground::skip("no tmpfs can be mounted");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let agent = Agent::listen(folder.path());
        let manager = Manager::start(folder.path(), &sqlite_url(folder.path()));
        let mut connection = ready(&agent, &manager).await;
        connection.findings(range(1..=10)).await;
        connection.acknowledged(10).await;
        // Somebody else takes what is left of the disk.
        std::fs::write(disk.join("ballast"), vec![1; 13 << 20]).unwrap_err();
        connection.findings(range(11..=1000)).await;
        let body = manager.until("/readyz", |status, _| status == 503).await;
        assert!(body.contains("store-full"), "{body}");
        assert_eq!(stored(&manager).await.len(), 10);
        let problems = manager.get("/api/v1/problems").await;
        assert!(problems["problems"][0]["remedy"].as_str().unwrap().contains("make room"), "{problems}");
        assert!(connection.is_silent(Duration::from_secs(1)).await, "acknowledged without space");
        std::fs::remove_file(disk.join("ballast")).unwrap();
        connection.acknowledged(1000).await;
        manager.until("/readyz", |status, _| status == 200).await;
        assert_eq!(stored(&manager).await.len(), 1000);
        manager.stop().await;
    });
    // Connections that were cut off are closed by threads of their own.
    drop(runtime);
    let unmounted = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        Command::new("umount").arg(&disk).stderr(std::process::Stdio::null()).status().unwrap().success()
    });
    assert!(unmounted);
}

#[tokio::test]
async fn a_store_that_cannot_be_used_is_told_and_its_replacement_taken() {
    for newer in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store/tidewatch.db");
        if newer {
            use sqlx::Connection as _;
            let place = tw_manager::store::Place::Sqlite(path.clone());
            tw_manager::store::Store::open(&place, "9.9.9").await.unwrap().close().await;
            let mut connection = sqlx::AnyConnection::connect(&sqlite_url(folder.path())).await.unwrap();
            let sql = "update meta set content = '7' where name = 'schema'";
            sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        } else {
            std::fs::create_dir(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "no database at all ".repeat(500)).unwrap();
        }
        let agent = Agent::listen(folder.path());
        let manager = Manager::start(folder.path(), &sqlite_url(folder.path()));
        let (mut connection, cursors) = agent.accept().await;
        assert!(cursors.is_empty());
        connection.findings(range(1..=5)).await;
        let body = manager.until("/readyz", |_, body| body.contains("newer") || body.contains("corrupt")).await;
        if newer {
            assert!(body.contains("tidewatch 9.9.9") && body.contains("tidewatch 0.1.0-test"), "{body}");
        } else {
            assert!(body.contains("store-corrupt"), "{body}");
        }
        assert!(connection.is_silent(Duration::from_millis(500)).await);
        let kept = std::fs::read(&path).unwrap();
        std::fs::rename(&path, folder.path().join("moved.db")).unwrap();
        assert_eq!(std::fs::read(folder.path().join("moved.db")).unwrap(), kept);
        // A new store is begun, and what was passed over comes again.
        let (mut connection, cursors) = agent.accept().await;
        assert_eq!(cursors[1].seq, 0);
        connection.findings(range(1..=5)).await;
        connection.acknowledged(5).await;
        manager.until("/readyz", |status, _| status == 200).await;
        manager.stop().await;
    }
}

#[tokio::test]
async fn an_agent_that_makes_no_sense_is_told_and_left_and_a_better_one_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::listen(folder.path());
    let manager = Manager::start(folder.path(), &sqlite_url(folder.path()));
    let told = async |what: &str| {
        manager.until("/api/v1/status", |_, body| body.contains(what)).await;
    };
    drop(ready(&agent, &manager).await);
    let hello = FromAgent::Hello { protocol: 99, version: "9.9".into(), node: Node::default() };
    assert!(agent.accept_as(hello).await.hear().await.is_none());
    told("speaks protocol 99").await;
    let late = FromAgent::Answer { id: 1, result: Ok(String::new()) };
    assert!(agent.accept_as(late).await.hear().await.is_none());
    told("no hello").await;
    for nonsense in
        [&b"{\"type\":\"findings\",\"findings\":[{}]}\n"[..], b"\xff\xfe\n", b"[1,2]\n", b"{\"type\":\"x\"}\n"]
    {
        let (mut connection, _) = agent.accept().await;
        connection.send_bytes(nonsense).await;
        assert!(connection.hear().await.is_none());
        told("makes no sense").await;
    }
    let (mut connection, _) = agent.accept().await;
    connection.send_bytes(&vec![b'x'; MAX_LINE + (1 << 20)]).await;
    told("more than 16 MiB").await;
    let (mut connection, _) = agent.accept().await;
    connection.findings(range(1..=3)).await;
    connection.acknowledged(3).await;
    manager.stop().await;
}

#[tokio::test]
async fn an_agent_that_reads_late_holds_up_no_commit() {
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::listen(folder.path());
    let manager = Manager::start(folder.path(), &sqlite_url(folder.path()));
    let mut connection = ready(&agent, &manager).await;
    // More commits than acknowledgements fit between the two.
    for n in 1..=700 {
        connection.findings(range([n])).await;
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    manager.until("/metrics", |_, body| body.contains("tidewatch_findings_stored_total 700.0")).await;
    connection.acknowledged(700).await;
    manager.stop().await;
}

#[tokio::test]
async fn reload_reaches_the_agent_and_is_written_down_with_its_caller() {
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::listen(folder.path());
    let manager = Manager::start(folder.path(), &sqlite_url(folder.path()));
    let mut connection = ready(&agent, &manager).await;
    connection.findings(range(1..=1)).await;
    connection.acknowledged(1).await;
    for result in [Ok("25 rules in force".to_owned()), Err("rules.yaml:3: no such field".to_owned())] {
        let (answer, ()) = tokio::join!(manager.ask("POST", "/api/v1/reload"), async {
            let Some(FromManager::Call { id, call: Call::Reload }) = connection.hear().await else { panic!() };
            // An answer to something else comes between.
            connection.send(FromAgent::Answer { id: id + 100, result: Ok("stray".into()) }).await;
            connection.send(FromAgent::Answer { id, result: result.clone() }).await;
        });
        match result {
            Ok(message) => assert_eq!(answer, (200, format!("{{\"message\":\"{message}\"}}"))),
            Err(reason) => assert!(answer.0 == 422 && answer.1.contains(&reason), "{answer:?}"),
        }
    }
    // The agent goes away while it is asked.
    let (answer, ()) = tokio::join!(manager.ask("POST", "/api/v1/reload"), async {
        connection.hear().await;
        drop(connection);
    });
    assert_eq!(answer.0, 503, "{answer:?}");
    let audit = manager.get("/api/v1/audit").await;
    let lines = audit["audit"].as_array().unwrap();
    assert_eq!(lines.len(), 3);
    let caller = format!("uid {} (pid {})", rustix::process::geteuid().as_raw(), std::process::id());
    assert!(lines.iter().all(|line| line["actor"] == caller.as_str() && line["target"] == NODE), "{audit}");
    assert_eq!(lines[2]["detail"]["message"], "25 rules in force");
    assert_eq!(lines[1]["detail"]["result"], "refused");
    manager.stop().await;
}

#[tokio::test]
async fn inventory_rules_and_problems_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::listen(folder.path());
    let manager = Manager::start(folder.path(), &sqlite_url(folder.path()));
    let mut connection = ready(&agent, &manager).await;
    let (first, second) = (container(ID, "shop"), container(&ID.replace('f', "e"), "till"));
    for (part, more) in [(&first, true), (&second, false)] {
        connection.send(FromAgent::Containers { containers: vec![part.clone()], more }).await;
    }
    let files = vec![RuleFile { name: "default.yaml".into(), digest: "ab".repeat(32) }];
    let problems = vec![Problem { code: "spool-full".into(), what: "w".into(), remedy: "r".into(), failed: true }];
    let rules = RulesStatus { files, ..RulesStatus::default() };
    connection.status(AgentStatus { rules, problems, ..AgentStatus::default() }).await;
    // Its container is known by now, and with it the workload.
    connection.findings(vec![spooled(3)]).await;
    connection.acknowledged(3).await;
    manager.until("/api/v1/containers", |_, body| body.contains(&second.id)).await;
    let finding_of = manager.get("/api/v1/findings?container=shop").await;
    assert_eq!(finding_of["findings"][0]["workload"], "container/shop/web");
    assert_eq!(manager.get("/api/v1/images").await["images"][0]["running"], 2);
    assert_eq!(manager.get("/api/v1/workloads").await["workloads"][0]["running"], 2);
    manager.until("/api/v1/rules", |_, body| body.contains("\"in_force\":true")).await;
    manager.until("/api/v1/problems", |_, body| body.contains("spool-full")).await;

    let on = |container: &str, port: u16| Listener {
        container: container.into(),
        protocol: "tcp".into(),
        address: [0, 0, 0, 0].into(),
        port,
        process: "server".into(),
        pid: 7,
        since_ns: u64::from(port == 80) * 1_795_507_200_000_000_000,
    };
    connection
        .send(FromAgent::Listeners { listeners: vec![on("", 22), on(&second.id, 80), on(&second.id, 443)] })
        .await;
    manager.until("/api/v1/listeners", |_, body| body.contains("443")).await;
    let page = manager.get("/api/v1/listeners?limit=2").await;
    assert_eq!(page["listeners"][0]["since"], serde_json::Value::Null);
    assert_eq!(page["listeners"][1]["since"], "2026-11-24T08:00:00Z");
    let next = page["next"].as_str().unwrap();
    let last = manager.get(&format!("/api/v1/listeners?limit=2&cursor={next}")).await;
    assert_eq!((&last["listeners"][0]["port"], &last["next"]), (&443.into(), &serde_json::Value::Null));
    // The next page begins behind the last socket of the one before, whatever ended or began meanwhile.
    connection
        .send(FromAgent::Listeners { listeners: vec![on("", 21), on(&second.id, 81), on(&second.id, 443)] })
        .await;
    manager.until("/api/v1/listeners", |_, body| body.contains("\"port\":81,")).await;
    let rest = manager.get(&format!("/api/v1/listeners?cursor={next}")).await["listeners"].clone();
    let ports: Vec<&Value> = rest.as_array().unwrap().iter().map(|one| &one["port"]).collect();
    assert_eq!(ports, [81, 443]);
    connection
        .send(FromAgent::Listeners { listeners: vec![on("", 22), on(&second.id, 443), on(&second.id, 80)] })
        .await;
    manager.until("/api/v1/listeners", |_, body| body.contains("\"port\":80,")).await;
    let items = manager.get("/api/v1/containers").await["containers"].clone();
    let ports = |id: &str| {
        let item = items.as_array().unwrap().iter().find(|item| item["id"] == id).unwrap();
        item["listening"].as_array().unwrap().iter().map(|one| one["port"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((ports(&first.id), ports(&second.id)), (vec![], vec![80, 443]));
    manager.until("/api/v1/listeners?cursor=x", |status, body| status == 400 && body.contains("remedy")).await;

    // While nobody looked, one container ended.
    drop(connection);
    let (mut connection, _) = agent.accept().await;
    // As long as the list is not whole, nobody is taken for gone.
    connection.send(FromAgent::Containers { containers: vec![second.clone()], more: true }).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let body = manager.get("/api/v1/containers").await.to_string();
    assert!(body.contains(&first.id) && body.contains(&second.id), "{body}");
    drop(connection);
    // What came of a list that was broken off is forgotten.
    let (mut connection, _) = agent.accept().await;
    connection.send(FromAgent::Containers { containers: vec![first.clone()], more: false }).await;
    manager.until("/api/v1/containers", |_, body| !body.contains(&second.id)).await;
    let all = manager.get("/api/v1/containers?all=true&limit=1").await;
    assert_eq!(all["containers"][0]["id"], second.id);
    assert!(all["containers"][0]["gone"].is_string());
    let next = all["next"].as_str().unwrap();
    let rest = manager.get(&format!("/api/v1/containers?all=true&limit=1&cursor={next}")).await;
    assert_eq!((rest["containers"][0]["id"].as_str(), rest["next"].as_str()), (Some(ID), None));

    let looping = r#"{"pid":1,"children":[{"name":"agent","pid":0,"restarts":9,"last_end":"it crashed"}]}"#;
    std::fs::write(folder.path().join("supervisor.json"), looping).unwrap();
    let body = manager.get("/api/v1/status").await;
    assert_eq!(body["supervisor"]["children"][0]["restarts"], 9);
    assert!(body["problems"].to_string().contains("restart-loop"), "{body}");
    assert_eq!(manager.metric("tidewatch_up{process=\"agent\"}").await, 0.0);
    std::fs::write(folder.path().join("supervisor.json"), "{nonsense").unwrap();
    assert_eq!(manager.get("/api/v1/status").await["supervisor"], Value::Null);
    assert_eq!(body["manager"]["restarts"], 2);
    manager.stop().await;
}

#[tokio::test]
async fn hostile_requests_are_answered_with_a_remedy_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::listen(folder.path());
    let manager = Manager::start(folder.path(), &sqlite_url(folder.path()));
    let mut connection = ready(&agent, &manager).await;
    connection.findings(range(1..=100)).await;
    connection.acknowledged(100).await;
    let id = finding(5).id.to_string();
    assert_eq!(manager.get(&format!("/api/v1/findings/{}", &id[..20])).await["id"], id.as_str());
    for (method, path, expected) in [
        ("GET", "/api/v1/findings?since=yesterday", 400),
        ("GET", "/api/v1/findings?limit=0", 400),
        ("GET", "/api/v1/findings?limit=1001", 400),
        ("GET", "/api/v1/findings?limit=-1", 400),
        ("GET", "/api/v1/findings?cursor=%00", 400),
        ("GET", "/api/v1/findings?colour=red", 400),
        ("GET", "/api/v1/findings?priority=awful", 400),
        ("GET", "/api/v1/findings?order=sideways", 400),
        ("GET", "/api/v1/findings?q=%FF%FE&rule=%00", 200),
        ("GET", "/api/v1/findings?until=9999-06-01T00:00:00Z&since=-009999-06-01T00:00:00Z", 200),
        ("GET", "/api/v1/findings/abc", 400),
        ("GET", &format!("/api/v1/findings/{}", &id[..6]), 409),
        ("GET", "/api/v1/findings/ZZZZZZZZ", 404),
        ("GET", "/api/v1/findings/%27%20or%201=1%20--", 404),
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/../../etc/passwd", 404),
        ("DELETE", "/api/v1/findings", 405),
        ("GET", "/api/v1/reload", 405),
        ("GET", "/api/v1/audit?cursor=1.'", 400),
        ("GET", "/api/v1/openapi.json", 200),
    ] {
        let (status, body) = manager.ask(method, path).await;
        assert_eq!(status, expected, "{method} {path}: {body}");
        if status != 200 {
            let problem: Value = serde_json::from_str(&body).unwrap();
            assert!(!problem["detail"].as_str().unwrap().is_empty(), "{path}: {body}");
            let remedy = problem["remedy"].as_str().unwrap();
            assert!(!remedy.is_empty(), "{path}: {body}");
            // People at the command line read it too, and know verbs; only a program asks what does not exist.
            assert!(!remedy.contains("/api/") || problem["code"] == "unknown-request", "{path}: {body}");
        }
    }
    let large = format!("POST /api/v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", 1 << 30);
    let (status, body) = manager.raw(large.into_bytes()).await;
    assert!(status == 413 && body.contains("\"remedy\""), "{status}: {body}");
    for garbage in [vec![0xff; 200_000], b"GET / HTTP/1.1\r\n".repeat(10_000), b"\x16\x03\x01\x02\n\n".to_vec()] {
        let (status, _) = manager.raw(garbage).await;
        assert!(status == 0 || status == 400 || status == 431, "{status}");
    }
    // Over TCP there is health, and nothing else.
    assert_eq!(manager.ask_outside("/healthz").await, (200, "ok\n".into()));
    assert_eq!(manager.ask_outside("/readyz").await.0, 200);
    for path in ["/api/v1/status", "/api/v1/findings", "/api/v1/reload", "/api/v1/openapi.json"] {
        assert_eq!(manager.ask_outside(path).await.0, 404, "{path}");
    }
    assert!(manager.metric("tidewatch_api_requests_total{path=\"other\",status=\"404\"}").await >= 4.0);
    manager.stop().await;
}
