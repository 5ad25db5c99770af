//! Deletes what is too old or too much, in chunks, oldest first.

use sqlx::Row as _;

use super::commit::grow;
use super::{Place, Store, StoreError, statement};

/// A kind of rows with limits of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Findings.
    Findings,
    /// Containers.
    Containers,
    /// Images.
    Images,
    /// Workloads.
    Workloads,
    /// Rule files.
    Rules,
    /// Audit.
    Audit,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Findings, Self::Containers, Self::Images, Self::Workloads, Self::Rules, Self::Audit];

    /// Name, as in the configuration and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Findings => "findings",
            Self::Containers => "containers",
            Self::Images => "images",
            Self::Workloads => "workloads",
            Self::Rules => "rules",
            Self::Audit => "audit",
        }
    }

    pub(super) fn table(self) -> &'static str {
        match self {
            Self::Rules => "rule_files",
            other => other.name(),
        }
    }

    /// The time that its age is told by.
    fn age(self) -> &'static str {
        match self {
            Self::Findings => "received_us",
            Self::Audit => "time_us",
            _ => "last_seen",
        }
    }

    /// Whether its rows and bytes are kept in `totals`: kinds that only grow, and that may be large.
    pub(super) fn is_counted(self) -> bool {
        matches!(self, Self::Findings | Self::Audit)
    }
}

/// What is over a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Rows from before this time, microseconds since the epoch.
    Before(i64),
    /// This many rows too many.
    Rows(u64),
    /// This many bytes too many.
    Bytes(u64),
}

/// Why something was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Too old.
    Age,
    /// Too many rows.
    Rows,
    /// Too many bytes.
    Bytes,
}

impl Reason {
    /// Name, as in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Rows => "rows",
            Self::Bytes => "bytes",
        }
    }
}

/// What one chunk took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Rows.
    pub rows: u64,
    /// Their bytes, as far as they count for the limit.
    pub bytes: u64,
}

impl Store {
    /// Deletes at most `chunk` rows that are over a limit, oldest first, in a transaction of its own.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn prune(&self, kind: Kind, limit: Limit, chunk: u32) -> Result<Deleted, StoreError> {
        let (table, age) = (kind.table(), kind.age());
        let before = if let Limit::Before(time) = limit { time } else { i64::MAX };
        let _gate = self.shared.gate.lock().await;
        self.patiently(async {
            let mut tx = self.begin().await?;
            let sql =
                format!("select {age} as age, id, size from {table} where {age} < $1 order by {age}, id limit $2");
            let oldest = statement(sql, vec![before.into(), i64::from(chunk).into()]).fetch_all(&mut *tx).await?;
            let (mut rows, mut bytes, mut last) = (0, 0, None);
            for row in &oldest {
                let enough = match limit {
                    Limit::Before(_) => false,
                    Limit::Rows(most) => rows >= most,
                    Limit::Bytes(most) => bytes >= most,
                };
                if enough {
                    break;
                }
                rows += 1;
                bytes += u64::try_from(row.try_get::<i64, _>("size")?).unwrap_or(0);
                last = Some((row.try_get::<i64, _>("age")?, row.try_get::<String, _>("id")?));
            }
            let Some((time, id)) = last else { return Ok(Deleted::default()) };
            let sql = format!("delete from {table} where ({age}, id) <= ($1, $2) returning size");
            let gone = statement(sql, vec![time.into(), id.as_str().into()]).fetch_all(&mut *tx).await?;
            let mut deleted = Deleted { rows: gone.len() as u64, bytes: 0 };
            for row in &gone {
                deleted.bytes += u64::try_from(row.try_get::<i64, _>("size")?).unwrap_or(0);
            }
            let signed = |value: u64| -i64::try_from(value).unwrap_or(i64::MAX);
            grow(&mut tx, kind, signed(deleted.rows), signed(deleted.bytes)).await?;
            tx.commit().await?;
            Ok(deleted)
        })
        .await
    }

    /// Gives at most `pages` free pages back to the file system, unless no more than `keep` are free. Returns whether
    /// there are more to give. PostgreSQL does this by itself.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn shrink(&self, pages: u32, keep: u32) -> Result<bool, StoreError> {
        if matches!(self.place(), Place::Postgres(_)) {
            return Ok(false);
        }
        let _gate = self.shared.gate.lock().await;
        self.patiently(async {
            let mut connection = self.shared.pool.acquire().await?;
            let row = statement("pragma freelist_count", vec![]).fetch_one(&mut *connection).await?;
            let free = row.try_get::<i64, _>(0)?;
            if free <= i64::from(keep) {
                return Ok(false);
            }
            statement(format!("pragma incremental_vacuum({pages})"), vec![]).fetch_all(&mut *connection).await?;
            if free - i64::from(pages) > i64::from(keep) {
                return Ok(true);
            }
            // The file itself gets shorter when the log is written back.
            statement("pragma wal_checkpoint(truncate)", vec![]).fetch_all(&mut *connection).await?;
            Ok(false)
        })
        .await
    }
}
