//! The store on SQLite and on a real PostgreSQL: the same tests, the same statements.
#![allow(clippy::unwrap_used, reason = "a test")]

mod ground;

use std::collections::BTreeSet;
use std::pin::Pin;
use std::time::Instant;

use ground::{ID, NEW_YEAR, NODE, container, finding, incoming, spooled};
use tw_manager::retention::{Limits, Retention, enforce};
use tw_manager::store::{
    AuditFilter, Committed, Container, Entry, FindingFilter, Found, Incoming, Inventory, Kind, Order, Place, Store,
    StoreError,
};
use tw_model::Priority;
use tw_model::finding::Shown;
use tw_model::status::{Node, RuleFile, SpoolLane};

type Test = fn(Store) -> Pin<Box<dyn Future<Output = ()>>>;

/// Every test of a store; each begins with an empty one.
const TESTS: &[(&str, Test)] = &[
    ("a_second_delivery_changes_nothing", |store| Box::pin(a_second_delivery_changes_nothing(store))),
    ("pages_are_complete_while_findings_come_in", |store| Box::pin(pages_are_complete_while_findings_come_in(store))),
    ("filters_narrow", |store| Box::pin(filters_narrow(store))),
    ("a_finding_is_found_by_the_start_of_its_id", |store| Box::pin(a_finding_is_found_by_the_start_of_its_id(store))),
    ("hostile_texts_come_back_whole", |store| Box::pin(hostile_texts_come_back_whole(store))),
    ("the_inventory_follows_the_containers", |store| Box::pin(the_inventory_follows_the_containers(store))),
    ("the_oldest_goes_first_and_every_limit_holds", |store| Box::pin(the_oldest_goes_first(store))),
    ("a_clock_that_jumps_back_deletes_nothing", |store| Box::pin(a_clock_that_jumps_back_deletes_nothing(store))),
    ("audit_is_read_page_by_page", |store| Box::pin(audit_is_read_page_by_page(store))),
];

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn run(place: &Place, name: &str, test: Test) {
    let begin = Instant::now();
    runtime().block_on(async {
        let store = Store::open(place, "test").await.unwrap();
        test(store.clone()).await;
        store.close().await;
    });
    eprintln!("{name} on {}: {:?}", place.shown(), begin.elapsed());
}

#[test]
fn everything_holds_on_sqlite() {
    for (name, test) in TESTS {
        let folder = tempfile::tempdir().unwrap();
        run(&ground::sqlite(folder.path()), name, *test);
    }
}

#[test]
fn everything_holds_on_postgresql() {
    if let Ok(url) = std::env::var("TIDEWATCH_TEST_POSTGRES") {
        // One database for all: each test needs it empty.
        for (name, test) in TESTS {
            let place = Place::parse(&url).unwrap();
            runtime().block_on(empty(&url));
            run(&place, name, *test);
        }
        return;
    }
    match ground::Postgres::start() {
        Ok(postgres) => {
            for (n, (name, test)) in TESTS.iter().enumerate() {
                run(&postgres.place(&format!("t{n}")), name, *test);
            }
        }
        Err(reason) => ground::skip(&reason),
    }
}

async fn empty(url: &str) {
    use sqlx::Connection as _;
    sqlx::any::install_default_drivers();
    let mut connection = sqlx::AnyConnection::connect(url).await.unwrap();
    let sql =
        "drop table if exists findings, cursors, totals, nodes, containers, images, workloads, rule_files, audit, meta";
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

fn page(limit: u32) -> FindingFilter {
    FindingFilter { limit, ..FindingFilter::default() }
}

async fn a_second_delivery_changes_nothing(store: Store) {
    let batch = incoming(1..=512);
    let first = store.commit(NODE, &batch, NEW_YEAR).await.unwrap();
    assert_eq!(first, Committed { stored: 512, redelivered: 0 });
    let total = store.total(Kind::Findings).await.unwrap();
    assert_eq!(total.0, 512);
    let again = store.commit(NODE, &incoming(500..=520), NEW_YEAR).await.unwrap();
    assert_eq!(again, Committed { stored: 8, redelivered: 13 });
    assert_eq!(store.total(Kind::Findings).await.unwrap().0, 520);
    // Twice in one batch, and an old batch after a newer one: the cursor does not go back.
    let twice = store.commit(NODE, &incoming([521, 521, 3]), NEW_YEAR).await.unwrap();
    assert_eq!(twice, Committed { stored: 1, redelivered: 2 });
    store.commit(NODE, &batch[..10], NEW_YEAR).await.unwrap();
    let cursors = store.cursors(NODE).await.unwrap();
    assert_eq!(
        cursors.iter().map(|c| (c.lane, c.seq)).collect::<Vec<_>>(),
        [(SpoolLane::Urgent, 0), (SpoolLane::Routine, 521)]
    );
    assert_eq!(store.cursors("another").await.unwrap()[1].seq, 0);
    let kept = store.findings(&page(1)).await.unwrap().remove(0);
    assert_eq!(kept.finding, finding(521));
    assert_eq!((kept.seq, kept.lane, kept.node.as_str()), (521, SpoolLane::Routine, NODE));
    assert!(store.bytes().await.unwrap() > 100_000);
}

async fn pages_are_complete_while_findings_come_in(store: Store) {
    const MANY: u64 = 10_000;
    let begin = Instant::now();
    for from in (0..MANY).step_by(500) {
        store
            .commit(NODE, &incoming(from * 2..from * 2 + 1000).into_iter().step_by(2).collect::<Vec<_>>(), NEW_YEAR)
            .await
            .unwrap();
    }
    eprintln!("{MANY} findings committed in {:?}", begin.elapsed());
    for order in [Order::Newest, Order::Oldest] {
        let (mut seen, mut filter, mut odd) = (Vec::new(), page(1000), 0);
        filter.order = order;
        loop {
            let rows = store.findings(&filter).await.unwrap();
            let Some(last) = rows.last() else { break };
            filter.after = Some((last.time_us, last.finding.id.to_string()));
            seen.extend(rows.iter().map(|row| row.finding.event_num));
            // Between the pages others come in, before and behind.
            let more: Vec<_> = [odd, MANY - odd].into_iter().map(|n| n * 2 + 1).collect();
            store.commit(NODE, &incoming(more), NEW_YEAR).await.unwrap();
            odd += 1;
        }
        let distinct: BTreeSet<_> = seen.iter().copied().collect();
        assert_eq!(distinct.len(), seen.len(), "one came twice");
        assert!((0..MANY).all(|n| distinct.contains(&(n * 2))), "one is missing");
        let ordered = if order == Order::Oldest { seen.is_sorted() } else { seen.iter().rev().is_sorted() };
        assert!(ordered);
    }
    // Many at the same moment are told apart by their ids.
    let same: Vec<_> = (0..50)
        .map(|n| {
            let mut incoming = incoming([n]).remove(0);
            incoming.spooled.finding.id = tw_model::finding::finding_id(8, (NEW_YEAR as u64) * 1000, n, "x");
            incoming.spooled.finding.time_ns = (NEW_YEAR as u64 - 1000) * 1000;
            incoming
        })
        .collect();
    store.commit(NODE, &same, NEW_YEAR).await.unwrap();
    let mut filter = FindingFilter { until_us: Some(NEW_YEAR), ..page(7) };
    let mut ids = BTreeSet::new();
    while let Some(last) = {
        let rows = store.findings(&filter).await.unwrap();
        ids.extend(rows.iter().map(|row| row.finding.id));
        rows.last().map(|row| (row.time_us, row.finding.id.to_string()))
    } {
        filter.after = Some(last);
    }
    assert_eq!(ids.len(), 50);
}

async fn filters_narrow(store: Store) {
    store.commit(NODE, &incoming(0..100), NEW_YEAR).await.unwrap();
    let count = async |filter: FindingFilter| store.findings(&filter).await.unwrap().len();
    assert_eq!(count(page(1000)).await, 100);
    assert_eq!(count(page(10)).await, 10);
    let second = 1_000_000;
    let between =
        FindingFilter { since_us: Some(NEW_YEAR + 10 * second), until_us: Some(NEW_YEAR + 20 * second), ..page(1000) };
    assert_eq!(count(between).await, 10);
    assert_eq!(count(FindingFilter { priority: Some(Priority::Alert), ..page(1000) }).await, 26);
    assert_eq!(count(FindingFilter { rule: Some("Miner".into()), ..page(1000) }).await, 50);
    assert_eq!(count(FindingFilter { rule: Some("miner".into()), ..page(1000) }).await, 0);
    for named in ["shop", &ID[..4], &ID[..12], ID] {
        assert_eq!(
            count(FindingFilter { container: Some(Container(named.into())), ..page(1000) }).await,
            34,
            "{named}"
        );
    }
    assert_eq!(count(FindingFilter { image: Some("shop/web:1.4".into()), ..page(1000) }).await, 34);
    assert_eq!(count(FindingFilter { text: Some("NUMBER 42".into()), ..page(1000) }).await, 1);
    for nothing in ["%", "_", "\\", "' or 1=1 --", "number%in"] {
        assert_eq!(count(FindingFilter { text: Some(nothing.into()), ..page(1000) }).await, 0, "{nothing}");
    }
    let all = FindingFilter {
        since_us: Some(0),
        until_us: Some(i64::MAX),
        priority: Some(Priority::Debug),
        rule: Some("Shell".into()),
        container: Some(Container("shop".into())),
        image: Some("shop/web:1.4".into()),
        text: Some("shell".into()),
        after: Some((0, String::new())),
        order: Order::Oldest,
        limit: 1000,
    };
    assert_eq!(count(all).await, 17);
}

async fn a_finding_is_found_by_the_start_of_its_id(store: Store) {
    store.commit(NODE, &incoming(0..100), NEW_YEAR).await.unwrap();
    let id = finding(7).id.to_string();
    for asked in [id.as_str(), &id[..14], &id.to_lowercase()] {
        let Found::One(found) = store.finding(asked).await.unwrap() else { panic!("{asked}") };
        assert_eq!(found.finding, finding(7));
    }
    assert_eq!(store.finding(&id[..6]).await.unwrap(), Found::Many);
    for nonsense in ["", "ZZZZZZ", "%", "é", "' or ''='", &"0".repeat(27)] {
        assert_eq!(store.finding(nonsense).await.unwrap(), Found::None, "{nonsense}");
    }
}

async fn hostile_texts_come_back_whole(store: Store) {
    let mut hostile = spooled(1);
    let text = format!("\0';\u{1b}[2J\u{202e}\u{fffd}\"\\{}", "é".repeat(20_000));
    hostile.finding.message = text.clone();
    hostile.finding.cause = tw_model::Cause::Rule { name: text.clone() };
    hostile.finding.fields = vec![(text.clone(), Shown::Text(text.clone()))];
    hostile.finding.time_ns = u64::MAX;
    hostile.seq = u64::MAX;
    if let Some(container) = &mut hostile.finding.container {
        container.name = text.clone();
    }
    let batch = [Incoming { spooled: hostile.clone(), workload: text.clone() }];
    store.commit(&text, &batch, NEW_YEAR).await.unwrap();
    assert_eq!(store.findings(&page(10)).await.unwrap()[0].finding, hostile.finding);
    let mut odd = container(&text, &text);
    odd.labels.insert(text.clone(), text.clone());
    let rules = Some(vec![RuleFile { name: text.clone(), digest: text.clone() }]);
    let changes = Inventory { changed: vec![odd], gone: vec![text.clone()], rules, touch: true };
    store.inventory(&text, &changes, NEW_YEAR).await.unwrap();
    let node = Node { id: text.clone(), hostname: text.clone(), ..Node::default() };
    store.node(&node, &text, NEW_YEAR).await.unwrap();
    let entry = Entry { actor: text.clone(), action: text.clone(), target: text.clone(), detail: text.into() };
    store.audit(NEW_YEAR, &entry).await.unwrap();
}

async fn the_inventory_follows_the_containers(store: Store) {
    let (first, second) = (container(ID, "shop"), container(&ID.replace('f', "e"), "till"));
    let files = |digest: &str| Some(vec![RuleFile { name: "rules.yaml".into(), digest: digest.into() }]);
    let begin = Inventory { changed: vec![first.clone(), second.clone()], rules: files("aa"), ..Inventory::default() };
    store.inventory(NODE, &begin, 1000).await.unwrap();
    let images = store.images(10, "").await.unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!((images[0].running, images[0].name.as_str()), (2, "shop/web:1.4"));
    assert_eq!(store.workloads(10, "").await.unwrap()[0].running, 2);

    let renamed = tw_model::Container { name: "shop2".into(), ..first.clone() };
    let next =
        Inventory { changed: vec![renamed.clone()], gone: vec![second.id.clone()], rules: files("bb"), touch: true };
    store.inventory(NODE, &next, 2000).await.unwrap();
    let here = store.containers(false, 10, "").await.unwrap();
    assert_eq!(here.len(), 1);
    assert_eq!((&here[0].container, here[0].first_seen, here[0].last_seen), (&renamed, 1000, 2000));
    let all = store.containers(true, 10, "").await.unwrap();
    assert_eq!(all.iter().map(|row| row.gone).collect::<Vec<_>>(), [2000, 0]);
    assert_eq!(store.containers(true, 10, &all[0].container.id).await.unwrap().len(), 1);
    assert_eq!(store.containers_of(NODE).await.unwrap().len(), 2);
    assert_eq!(store.images(10, "").await.unwrap()[0].running, 1);
    let rules = store.rules(10).await.unwrap();
    assert_eq!(
        rules.iter().map(|row| (row.digest.as_str(), row.in_force)).collect::<Vec<_>>(),
        [("bb", true), ("aa", false)]
    );
    // What runs is not deleted for its age, however long it has been running, once it was touched.
    let day = 86_400_000_000;
    store.inventory(NODE, &Inventory { touch: true, ..Inventory::default() }, 100 * day).await.unwrap();
    enforce(&store, &Retention::default(), 100 * day, |_, _, _| ()).await.unwrap();
    assert_eq!(store.containers(true, 10, "").await.unwrap().len(), 1);
    assert_eq!(store.images(10, "").await.unwrap().len(), 1);
    assert_eq!(store.workloads(10, "").await.unwrap().len(), 1);
}

fn only(findings: Limits) -> Retention {
    Retention { findings, ..Retention::default() }
}

async fn the_oldest_goes_first(store: Store) {
    let day = 86_400_000_000;
    for (n, received) in [(0, 0), (1, 10), (2, 20), (3, 30)] {
        let batch = incoming(n * 1000..(n + 1) * 1000);
        for chunk in batch.chunks(500) {
            store.commit(NODE, chunk, NEW_YEAR + received * day).await.unwrap();
        }
    }
    let before = store.bytes().await.unwrap();
    let mut told = Vec::new();
    let limits = Limits { max_days: 15, max_rows: 0, max_mib: 0 };
    let now = NEW_YEAR + 31 * day;
    let n = enforce(&store, &only(limits), now, |kind, reason, deleted| told.push((kind, reason, deleted.rows))).await;
    assert_eq!(n.unwrap(), 2000);
    assert_eq!(told, [(Kind::Findings, tw_manager::store::Reason::Age, 2000)]);
    let lowest = async || {
        let oldest = FindingFilter { order: Order::Oldest, ..page(1) };
        store.findings(&oldest).await.unwrap()[0].finding.event_num
    };
    assert_eq!(lowest().await, 2000);
    let limits = Limits { max_days: 0, max_rows: 700, max_mib: 0 };
    assert_eq!(enforce(&store, &only(limits), now, |_, _, _| ()).await.unwrap(), 1300);
    assert_eq!((lowest().await, store.total(Kind::Findings).await.unwrap().0), (3300, 700));
    store.commit(NODE, &incoming(4000..7000), now).await.unwrap();
    let bytes = store.total(Kind::Findings).await.unwrap().1;
    assert!(bytes > 1 << 20);
    let limits = Limits { max_days: 0, max_rows: 0, max_mib: 1 };
    let n = enforce(&store, &only(limits), now, |_, _, _| ()).await.unwrap();
    let (rows, bytes) = store.total(Kind::Findings).await.unwrap();
    assert!(bytes <= 1 << 20 && bytes > (1 << 20) - 2000, "{bytes}");
    assert_eq!(rows, 3700 - n);
    assert_eq!(lowest().await, 7000 - rows);
    // One audit line a run that deleted; a run that has nothing to do writes none.
    assert_eq!(enforce(&store, &only(limits), now, |_, _, _| ()).await.unwrap(), 0);
    let audit = store.audits(&AuditFilter { limit: 10, ..AuditFilter::default() }).await.unwrap();
    assert_eq!(audit.len(), 3);
    assert_eq!(audit[1].detail["findings/rows"]["rows"], 1300);
    assert_eq!(store.total(Kind::Audit).await.unwrap().0, 3);
    // The audit itself is bounded, and its own deletion feeds nothing.
    let audits = Limits { max_days: 0, max_rows: 1, max_mib: 0 };
    let limits = Retention { audit: audits, ..Retention::default() };
    assert_eq!(enforce(&store, &limits, now, |_, _, _| ()).await.unwrap(), 2);
    assert_eq!(store.total(Kind::Audit).await.unwrap().0, 1);
    if let Place::Sqlite(_) = store.place() {
        let none = Limits { max_days: 0, max_rows: 1, max_mib: 0 };
        enforce(&store, &only(none), now, |_, _, _| ()).await.unwrap();
        let after = store.bytes().await.unwrap();
        assert!(after < before / 2, "{before} bytes before, {after} after");
    }
}

async fn a_clock_that_jumps_back_deletes_nothing(store: Store) {
    let day = 86_400_000_000;
    store.commit(NODE, &incoming(0..10), NEW_YEAR).await.unwrap();
    // The clock of the host is reset: findings come in with a time of long ago, and so does the next run.
    store.commit(NODE, &incoming(10..20), 0).await.unwrap();
    assert_eq!(enforce(&store, &Retention::default(), 0, |_, _, _| ()).await.unwrap(), 0);
    // It is set right again: what came meanwhile is not mistaken for something old.
    assert_eq!(enforce(&store, &Retention::default(), NEW_YEAR + day, |_, _, _| ()).await.unwrap(), 0);
    assert_eq!(store.total(Kind::Findings).await.unwrap().0, 20);
    assert_eq!(enforce(&store, &Retention::default(), NEW_YEAR + 31 * day, |_, _, _| ()).await.unwrap(), 20);
}

async fn audit_is_read_page_by_page(store: Store) {
    for n in 0..25 {
        let entry = Entry { actor: "me".into(), action: "try".into(), target: n.to_string(), detail: n.into() };
        store.audit(NEW_YEAR + n / 3, &entry).await.unwrap();
    }
    let (mut filter, mut seen) = (AuditFilter { limit: 4, ..AuditFilter::default() }, BTreeSet::new());
    loop {
        let rows = store.audits(&filter).await.unwrap();
        let Some(last) = rows.last() else { break };
        filter.after = Some((last.time_us, last.id.clone()));
        assert!(rows.iter().all(|row| seen.insert(row.target.clone())));
    }
    assert_eq!(seen.len(), 25);
    let since = AuditFilter { since_us: Some(NEW_YEAR + 8), limit: 100, after: None };
    assert_eq!(store.audits(&since).await.unwrap().len(), 1);
}

#[test]
fn a_corrupt_file_is_told_and_left_alone() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let place = ground::sqlite(folder.path());
        let path = folder.path().join("tidewatch.db");
        let store = Store::open(&place, "test").await.unwrap();
        store.commit(NODE, &incoming(0..500), NEW_YEAR).await.unwrap();
        store.close().await;
        let whole = std::fs::read(&path).unwrap();
        let mut middle = whole.clone();
        let at = middle.len() / 2;
        middle[at..at + 20_000].fill(0xa5);
        let half = whole[..whole.len() / 2].to_vec();
        for bytes in [b"this is not a database, but a text that is long enough".repeat(40), middle, half] {
            std::fs::write(&path, &bytes).unwrap();
            let error = Store::open(&place, "test").await.unwrap_err();
            assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
            assert!(error.remedy().contains("move the file"));
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
        std::fs::write(&path, &whole).unwrap();
        let store = Store::open(&place, "test").await.unwrap();
        assert_eq!(store.total(Kind::Findings).await.unwrap().0, 500);
        store.close().await;
    });
}

#[test]
fn a_store_that_was_cut_off_opens_with_all_that_was_committed() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&ground::sqlite(folder.path()), "test").await.unwrap();
        store.commit(NODE, &incoming(0..500), NEW_YEAR).await.unwrap();
        // The files as a kill leaves them: the log not written back, with its index and without.
        for endings in [&["", "-wal", "-shm"][..], &["", "-wal"]] {
            let cut = tempfile::tempdir().unwrap();
            for ending in endings {
                let name = format!("tidewatch.db{ending}");
                std::fs::copy(folder.path().join(&name), cut.path().join(&name)).unwrap();
            }
            assert!(std::fs::metadata(cut.path().join("tidewatch.db-wal")).unwrap().len() > 100_000);
            let other = Store::open(&ground::sqlite(cut.path()), "test").await.unwrap();
            assert_eq!(other.total(Kind::Findings).await.unwrap().0, 500);
            assert_eq!(other.cursors(NODE).await.unwrap()[1].seq, 499);
            other.close().await;
        }
        store.close().await;
    });
}

#[test]
fn the_database_of_another_program_is_left_alone() {
    runtime().block_on(async {
        use sqlx::Connection as _;
        let folder = tempfile::tempdir().unwrap();
        let place = ground::sqlite(folder.path());
        std::fs::write(folder.path().join("tidewatch.db"), "").unwrap();
        sqlx::any::install_default_drivers();
        let url = format!("sqlite://{}/tidewatch.db", folder.path().display());
        let mut connection = sqlx::AnyConnection::connect(&url).await.unwrap();
        sqlx::raw_sql("create table theirs (a text)").execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let error = Store::open(&place, "test").await.unwrap_err();
        assert!(error.to_string().contains("something else"), "{error}");
    });
}
