//! Who did what: reloads, deletions by retention, and whatever else changes something.

use sqlx::any::AnyRow;
use tw_model::FindingId;

use super::commit::grow;
use super::{Bind, Kind, Store, StoreError, plain, statement};

/// Something to be written down.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Who, such as `uid 0 (pid 4711)` or `retention`.
    pub actor: String,
    /// What, such as `reload`.
    pub action: String,
    /// To what.
    pub target: String,
    /// More, as JSON.
    pub detail: serde_json::Value,
}

/// A line of the audit.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditRow {
    /// Identity, sorted by time.
    pub id: String,
    /// When, microseconds since the epoch.
    pub time_us: i64,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// To what.
    pub target: String,
    /// More.
    pub detail: serde_json::Value,
}

/// Which lines, newest first.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// From this time on, microseconds since the epoch.
    pub since_us: Option<i64>,
    /// At most so many.
    pub limit: u32,
    /// Behind this one, time and id.
    pub after: Option<(i64, String)>,
}

impl Store {
    /// Writes a line.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn audit(&self, now_us: i64, entry: &Entry) -> Result<(), StoreError> {
        let _gate = self.shared.gate.lock().await;
        self.patiently(async {
            let mut tx = self.begin().await?;
            write(&mut tx, now_us, entry).await?;
            tx.commit().await
        })
        .await
    }

    /// Lines that pass a filter, newest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn audits(&self, filter: &AuditFilter) -> Result<Vec<AuditRow>, StoreError> {
        let since = filter.since_us.unwrap_or(i64::MIN);
        let (time, id) = filter.after.clone().unwrap_or((i64::MAX, String::new()));
        let sql = "select id, time_us, actor, action, target, detail from audit \
                   where time_us >= $1 and (time_us, id) < ($2, $3) order by time_us desc, id desc limit $4";
        let binds: Vec<Bind> = vec![since.into(), time.into(), id.as_str().into(), i64::from(filter.limit).into()];
        self.all(sql, binds).await?.iter().map(|row| self.line(row)).collect()
    }

    fn line(&self, row: &AnyRow) -> Result<AuditRow, StoreError> {
        Ok(AuditRow {
            id: self.text(row, "id")?,
            time_us: self.int(row, "time_us")?,
            actor: self.text(row, "actor")?,
            action: self.text(row, "action")?,
            target: self.text(row, "target")?,
            detail: serde_json::from_str(&self.text(row, "detail")?).unwrap_or_default(),
        })
    }
}

/// Writes a line within a transaction.
pub(super) async fn write(tx: &mut sqlx::AnyConnection, now_us: i64, entry: &Entry) -> Result<(), sqlx::Error> {
    let detail = entry.detail.to_string();
    let texts = [&entry.actor, &entry.action, &entry.target].map(|text| plain(text, 1024));
    let size = i64::try_from(detail.len() + texts.iter().map(String::len).sum::<usize>() + 96).unwrap_or(i64::MAX);
    let id = FindingId::generate().to_string();
    let [actor, action, target] = texts;
    let sql =
        "insert into audit (id, time_us, actor, action, target, detail, size) values ($1, $2, $3, $4, $5, $6, $7)";
    let binds = vec![
        id.as_str().into(),
        now_us.into(),
        Bind::Text(actor),
        Bind::Text(action),
        Bind::Text(target),
        Bind::Text(plain(&detail, 64 << 10)),
        size.into(),
    ];
    statement(sql, binds).execute(&mut *tx).await?;
    grow(tx, Kind::Audit, 1, size).await
}
