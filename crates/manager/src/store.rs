//! The store: findings, inventory, rules and audit, in SQLite or PostgreSQL, with the same statements on both.
//!
//! Parameters are `$1`; columns are TEXT and BIGINT; times are microseconds since the epoch; JSON is TEXT; nothing is
//! null. Only the tables' definitions and a handful of house-keeping statements differ.
//!
//! **Never:** an acknowledgement before the commit; a store recreated in place of one that cannot be read.

mod audit;
mod commit;
mod fault;
mod findings;
mod inventory;
mod opening;
mod place;
mod prune;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, AssertSqlSafe, Row as _};

pub use audit::{AuditFilter, AuditRow, Entry};
pub use commit::{Committed, Incoming};
pub use fault::StoreError;
pub use findings::{Container, FindingFilter, Found, Order, StoredFinding};
pub(crate) use inventory::difference;
pub use inventory::{ContainerRow, ImageRow, Inventory, RuleRow, WorkloadRow};
pub use opening::SCHEMA;
pub use place::Place;
pub use prune::{Deleted, Kind, Limit, Reason};

/// Longest that one statement group may take before the store counts as unreachable.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes that [`Store::probe`] writes.
const PROBE: usize = 2 << 20;

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    pool: AnyPool,
    place: Place,
    /// Writers queue here in fair order, so that a commit waits for one chunk of retention at most.
    gate: tokio::sync::Mutex<()>,
    /// The newest `received_us` that was given out: it never goes back, whatever the clock does.
    received: AtomicI64,
    /// Device and inode of the SQLite file that was opened.
    file: Option<(u64, u64)>,
}

/// A value of a statement.
#[derive(Clone, Debug)]
pub(crate) enum Bind {
    Int(i64),
    Text(String),
}

impl From<i64> for Bind {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<&str> for Bind {
    fn from(value: &str) -> Self {
        Self::Text(plain(value, usize::MAX))
    }
}

/// A statement with its values.
pub(crate) fn statement(sql: impl Into<String>, binds: Vec<Bind>) -> sqlx::query::Query<'static, Any, AnyArguments> {
    let mut query = sqlx::query(AssertSqlSafe(sql.into()));
    for bind in binds {
        query = match bind {
            Bind::Int(value) => query.bind(value),
            Bind::Text(value) => query.bind(value),
        };
    }
    query
}

/// Text that both databases take: PostgreSQL has no NUL in its texts, and an index entry of it at most 2,704 bytes.
pub(crate) fn plain(text: &str, most: usize) -> String {
    let cut = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= most).last().unwrap_or(0);
    text[..cut].replace('\0', "\u{fffd}")
}

/// A transaction. Without a commit its connection is closed, which rolls back in every case: SQLite ends a transaction
/// by itself when the disk is full, and a driver that counts them is out of step with it from then on.
struct Write {
    connection: PoolConnection<Any>,
    committed: bool,
}

impl Write {
    async fn commit(mut self) -> Result<(), sqlx::Error> {
        sqlx::raw_sql("commit").execute(&mut *self).await?;
        self.committed = true;
        Ok(())
    }
}

impl std::ops::Deref for Write {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        &self.connection
    }
}

impl std::ops::DerefMut for Write {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.connection
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        if !self.committed {
            self.connection.close_on_drop();
        }
    }
}

impl Store {
    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.shared.place
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.shared.pool.close().await;
    }

    /// Bytes that the store takes: of SQLite the file and its log, of PostgreSQL the database.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn bytes(&self) -> Result<u64, StoreError> {
        match self.place() {
            Place::Sqlite(path) => Ok(["", "-wal"]
                .iter()
                .map(|ending| {
                    let mut name = path.as_os_str().to_owned();
                    name.push(ending);
                    std::fs::metadata(name).map_or(0, |meta| meta.len())
                })
                .sum()),
            Place::Postgres(_) => {
                let sql = "select cast(pg_database_size(current_database()) as bigint) as bytes";
                let row = self.one(sql, vec![]).await?;
                Ok(self.int(&row, "bytes")?.try_into().unwrap_or(0))
            }
        }
    }

    /// Rows and bytes of a kind.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn total(&self, kind: Kind) -> Result<(u64, u64), StoreError> {
        let sql = if kind.is_counted() {
            "select row_count, byte_count from totals where kind = $1".to_owned()
        } else {
            format!(
                "select count(*) as row_count, cast(coalesce(sum(size), 0) as bigint) as byte_count from {} \
                 where $1 = $1",
                kind.table()
            )
        };
        let row = self.one(&sql, vec![kind.name().into()]).await?;
        let get = |column| self.int(&row, column).map(|value| u64::try_from(value).unwrap_or(0));
        Ok((get("row_count")?, get("byte_count")?))
    }

    /// Writes about as much as a large batch does and takes it back: whether the store can commit.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn probe(&self) -> Result<(), StoreError> {
        let _gate = self.shared.gate.lock().await;
        self.patiently(async {
            let sql = "insert into meta (name, content) values ('probe', $1) \
                       on conflict (name) do update set content = excluded.content";
            for content in ["x".repeat(PROBE), String::new()] {
                let mut tx = self.begin().await?;
                statement(sql, vec![Bind::Text(content)]).execute(&mut *tx).await?;
                tx.commit().await?;
            }
            Ok(())
        })
        .await
    }

    /// The newest time that a finding was received at, or `now` if that is later. It never goes back.
    fn received(&self, now_us: i64) -> i64 {
        self.shared.received.fetch_max(now_us, Ordering::Relaxed).max(now_us)
    }

    async fn begin(&self) -> Result<Write, sqlx::Error> {
        // SQLite: without `immediate` two that read and then write would trip over each other.
        let begin = if self.shared.place.is_sqlite() { "begin immediate" } else { "begin" };
        let mut write = Write { connection: self.shared.pool.acquire().await?, committed: false };
        sqlx::raw_sql(begin).execute(&mut *write).await?;
        Ok(write)
    }

    async fn all(&self, sql: &str, binds: Vec<Bind>) -> Result<Vec<AnyRow>, StoreError> {
        self.patiently(async { statement(sql, binds).fetch_all(&self.shared.pool).await }).await
    }

    async fn one(&self, sql: &str, binds: Vec<Bind>) -> Result<AnyRow, StoreError> {
        self.patiently(async { statement(sql, binds).fetch_one(&self.shared.pool).await }).await
    }

    /// Bounds the time, and sorts the error.
    async fn patiently<T>(&self, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
        self.still_there()?;
        match tokio::time::timeout(PATIENCE, work).await {
            Ok(result) => result.map_err(|error| self.fault(&error)),
            Err(_) => Err(StoreError::Unavailable {
                place: self.shared.place.shown(),
                reason: format!("no answer within {} s", PATIENCE.as_secs()),
            }),
        }
    }

    /// A file that was deleted or replaced below us would take findings that nobody finds again.
    fn still_there(&self) -> Result<(), StoreError> {
        let (Some(opened), Place::Sqlite(path)) = (self.shared.file, &self.shared.place) else { return Ok(()) };
        if opening::identity(path) == Some(opened) {
            return Ok(());
        }
        Err(StoreError::Unavailable {
            place: self.shared.place.shown(),
            reason: "the file was deleted or replaced while it was open; put it back, or restart the manager".into(),
        })
    }

    fn fault(&self, error: &sqlx::Error) -> StoreError {
        StoreError::of(&self.shared.place, error)
    }

    fn int(&self, row: &AnyRow, column: &str) -> Result<i64, StoreError> {
        row.try_get(column).map_err(|error| self.fault(&error))
    }

    fn text(&self, row: &AnyRow, column: &str) -> Result<String, StoreError> {
        row.try_get(column).map_err(|error| self.fault(&error))
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({:?})", self.shared.place)
    }
}
