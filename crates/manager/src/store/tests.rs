//! What only the inside of the store can show: upgrades.

use std::os::unix::fs::MetadataExt as _;

use super::*;

const NEXT: [&str; 2] = ["alter table nodes add column colour text not null default ''"; 2];

fn steps() -> [[&'static str; 2]; 2] {
    let first = include_str!("../../migrations/sqlite/0001_begin.sql");
    [[first; 2], NEXT]
}

#[tokio::test]
async fn an_upgrade_keeps_a_copy_and_an_older_program_leaves_the_result_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it's%20?.db");
    let place = Place::Sqlite(path.clone());
    let entry =
        Entry { actor: "a".into(), action: "b".into(), target: "c".into(), detail: serde_json::json!({"d": 1}) };
    let old = Store::open(&place, "0.1").await.unwrap();
    old.audit(5, &entry).await.unwrap();
    old.close().await;

    let new = Store::open_with(&place, "0.2", &steps()).await.unwrap();
    assert_eq!(new.audits(&AuditFilter { limit: 5, ..AuditFilter::default() }).await.unwrap().len(), 1);
    new.one("select colour from nodes union all select 'red' limit 1", vec![]).await.unwrap();
    new.close().await;

    let copy = folder.path().join("it's%20?.db.before-2");
    assert_eq!(std::fs::metadata(&copy).unwrap().mode() & 0o777, 0o600);
    let bytes = std::fs::read(&path).unwrap();
    let error = Store::open(&place, "0.1").await.unwrap_err();
    assert!(matches!(&error, StoreError::Newer { found: 2, known: 1, writer, .. } if writer == "0.2"), "{error}");
    assert!(error.to_string().contains("tidewatch 0.2") && error.to_string().contains("tidewatch 0.1"), "{error}");
    assert!(error.remedy().contains("before-2"));
    assert_eq!(std::fs::read(&path).unwrap(), bytes);

    // The copy is a whole store of the older schema.
    let back = Store::open(&Place::Sqlite(copy), "0.1").await.unwrap();
    assert_eq!(back.audits(&AuditFilter { limit: 5, ..AuditFilter::default() }).await.unwrap().len(), 1);
    back.close().await;
}

#[tokio::test]
async fn an_upgrade_that_fails_leaves_the_store_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Sqlite(folder.path().join("tidewatch.db"));
    Store::open(&place, "0.1").await.unwrap().close().await;
    let broken = [steps()[0], ["create table half (a text); nonsense"; 2]];
    Store::open_with(&place, "0.2", &broken).await.unwrap_err();
    let store = Store::open(&place, "0.1").await.unwrap();
    let row = store.one("select count(*) as n from sqlite_master where name = 'half'", vec![]).await.unwrap();
    assert_eq!(store.int(&row, "n").unwrap(), 0);
    store.close().await;
}

#[tokio::test]
async fn the_file_is_closed_to_others_and_set_up_to_be_durable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("manager/tidewatch.db");
    let store = Store::open(&Place::Sqlite(path.clone()), "0.1").await.unwrap();
    store.probe().await.unwrap();
    assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
    for entry in std::fs::read_dir(path.parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
    for (pragma, value) in
        [("journal_mode", "wal"), ("synchronous", "2"), ("auto_vacuum", "2"), ("busy_timeout", "5000")]
    {
        let row = store.one(&format!("select cast({pragma} as text) as v from pragma_{pragma}"), vec![]).await;
        let row = match row {
            Ok(row) => row,
            Err(_) => {
                store.one(&format!("select cast(timeout as text) as v from pragma_{pragma}"), vec![]).await.unwrap()
            }
        };
        assert_eq!(store.text(&row, "v").unwrap(), value, "{pragma}");
    }
    // A file that was deleted under us is told, not written to.
    std::fs::remove_file(&path).unwrap();
    let error = store.probe().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }) && error.to_string().contains("deleted"), "{error}");
    store.close().await;
}

#[test]
fn texts_are_cut_between_characters_and_hold_no_nul() {
    assert_eq!(plain("a\0b", 10), "a\u{fffd}b");
    assert_eq!(plain("aé", 2), "a");
    assert_eq!(plain("", 2), "");
}
