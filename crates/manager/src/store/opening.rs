//! Opens the store: makes it, checks it, and brings it to the schema of this program.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};

use super::{Place, Shared, Store, StoreError, statement};

/// The schema that this program writes.
pub const SCHEMA: i64 = 1;

/// The steps to it: `steps[n]` leads from schema n to n + 1. First for SQLite, then for PostgreSQL.
const STEPS: &[[&str; 2]] = &[[
    include_str!("../../migrations/sqlite/0001_begin.sql"),
    include_str!("../../migrations/postgres/0001_begin.sql"),
]];

/// SQLite files up to this size are checked page by page when they are opened; larger ones as they are read.
const CHECKED: u64 = 64 << 20;

/// `auto_vacuum` has to come before anything is in the file.
const SQLITE_SETUP: &str = "pragma auto_vacuum = incremental; pragma journal_mode = wal; pragma synchronous = full; \
                            pragma busy_timeout = 5000; pragma journal_size_limit = 16777216; \
                            pragma cache_size = -8192; pragma temp_store = memory;";

const META: &str = "create table if not exists meta (name text not null primary key, content text not null)";

impl Store {
    /// Opens the store, makes it if there is none, and upgrades it if it is older. A SQLite file is copied to
    /// `FILE.before-N` first, N being the schema it is brought to.
    ///
    /// # Errors
    /// [`StoreError::Newer`] and [`StoreError::Corrupt`] leave the store as it was; the others pass by themselves.
    pub async fn open(place: &Place, version: &str) -> Result<Self, StoreError> {
        Self::open_with(place, version, STEPS).await
    }

    pub(super) async fn open_with(place: &Place, version: &str, steps: &[[&str; 2]]) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let of = |error: &sqlx::Error| StoreError::of(place, error);
        if let Place::Sqlite(path) = place {
            prepare_file(place, path)?;
            examine(place, path, version, steps.len() as i64).await?;
        }
        let pool = connect(place).await.map_err(|error| of(&error))?;
        let upgraded = upgrade(&pool, place, version, steps).await;
        if let Err(error) = upgraded {
            pool.close().await;
            return Err(error);
        }
        let newest = statement("select coalesce(max(received_us), 0) as newest from findings", vec![])
            .fetch_one(&pool)
            .await
            .and_then(|row| row.try_get::<i64, _>("newest"))
            .map_err(|error| of(&error))?;
        let file = if let Place::Sqlite(path) = place { identity(path) } else { None };
        let gate = tokio::sync::Mutex::new(());
        Ok(Self {
            shared: Arc::new(Shared { pool, place: place.clone(), gate, received: AtomicI64::new(newest), file }),
        })
    }
}

/// Device and inode of a file.
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

fn unavailable(place: &Place, what: &str, error: &std::io::Error) -> StoreError {
    if error.kind() == std::io::ErrorKind::StorageFull {
        return StoreError::Full { place: place.shown(), reason: format!("{what}: {error}") };
    }
    StoreError::Unavailable { place: place.shown(), reason: format!("{what}: {error}") }
}

/// The folder is for the manager alone (0700), and so is the file (0600); SQLite gives its log the file's mode.
fn prepare_file(place: &Place, path: &Path) -> Result<(), StoreError> {
    let of = |what: &str, error: std::io::Error| unavailable(place, what, &error);
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|e| of("cannot make its folder", e))?;
    }
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).mode(0o600).open(path).map_err(|e| of("cannot open it", e))?;
    let meta = file.metadata().map_err(|e| of("cannot look at it", e))?;
    if !meta.is_file() {
        return Err(StoreError::Unavailable { place: place.shown(), reason: "it is not a regular file".into() });
    }
    if meta.mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(|e| of("cannot close it to others", e))?;
    }
    Ok(())
}

/// Looks at an existing SQLite file without writing to it.
async fn examine(place: &Place, path: &Path, version: &str, known: i64) -> Result<(), StoreError> {
    let size = fs::metadata(path).map_or(0, |meta| meta.len());
    if size == 0 {
        return Ok(());
    }
    let of = |error: sqlx::Error| StoreError::of(place, &error);
    let mut connection = AnyConnection::connect(&format!("{}?mode=ro", place.url())).await.map_err(of)?;
    let result = async {
        let tables = statement("select name from sqlite_master where type = 'table'", vec![]);
        let tables = tables.fetch_all(&mut connection).await.map_err(of)?;
        if !tables.is_empty() && !tables.iter().any(|row| row.try_get("name").is_ok_and(|name: String| name == "meta"))
        {
            let reason = "the file is a database of something else".into();
            return Err(StoreError::Other { place: place.shown(), reason });
        }
        if !tables.is_empty() {
            refuse_newer(&mut connection, place, version, known).await?;
        }
        if size <= CHECKED {
            let row = statement("pragma quick_check(1)", vec![]).fetch_one(&mut connection).await.map_err(of)?;
            let says: String = row.try_get(0).map_err(of)?;
            if says != "ok" {
                return Err(StoreError::Corrupt { place: place.shown(), reason: says.replace('\n', " ") });
            }
        }
        Ok(())
    }
    .await;
    connection.close().await.ok();
    result
}

async fn connect(place: &Place) -> Result<AnyPool, sqlx::Error> {
    let sqlite = place.is_sqlite();
    let options = AnyPoolOptions::new()
        .max_connections(if sqlite { 4 } else { 8 })
        .acquire_timeout(Duration::from_secs(5))
        .idle_timeout(Duration::from_secs(300))
        .after_connect(move |connection, _| {
            Box::pin(async move {
                if sqlite {
                    sqlx::raw_sql(SQLITE_SETUP).execute(connection).await?;
                }
                Ok(())
            })
        });
    // Statements would fill the log with their own length.
    let target = AnyConnectOptions::from_str(&place.url())?.disable_statement_logging();
    options.connect_with(target).await
}

/// The schema and who wrote it; 0 if there is none.
async fn schema(connection: &mut AnyConnection) -> Result<(i64, String), sqlx::Error> {
    let rows = statement("select name, content from meta where name in ('schema', 'writer')", vec![]);
    let (mut found, mut writer) = (0, String::new());
    for row in rows.fetch_all(connection).await? {
        let (name, content): (String, String) = (row.try_get("name")?, row.try_get("content")?);
        match name.as_str() {
            "schema" => found = content.parse().unwrap_or(i64::MAX),
            _ => writer = content,
        }
    }
    Ok((found, writer))
}

async fn refuse_newer(
    connection: &mut AnyConnection,
    place: &Place,
    version: &str,
    known: i64,
) -> Result<i64, StoreError> {
    let (found, writer) = schema(connection).await.map_err(|error| StoreError::of(place, &error))?;
    if found > known {
        return Err(StoreError::Newer { place: place.shown(), found, known, writer, version: version.to_owned() });
    }
    Ok(found)
}

async fn upgrade(pool: &AnyPool, place: &Place, version: &str, steps: &[[&str; 2]]) -> Result<(), StoreError> {
    let of = |error: sqlx::Error| StoreError::of(place, &error);
    let known = steps.len() as i64;
    let begin = if place.is_sqlite() { "begin immediate" } else { "begin" };
    if let (Place::Sqlite(path), true) = (place, has_meta(pool, place).await.map_err(of)?) {
        let mut connection = pool.acquire().await.map_err(of)?;
        let found = refuse_newer(&mut connection, place, version, known).await?;
        if found > 0 && found < known {
            back_up(&mut connection, place, path, known).await?;
        }
    }
    let mut tx = pool.begin_with(begin).await.map_err(of)?;
    if !place.is_sqlite() {
        // Two managers that start at once take turns.
        let turns = "set local client_min_messages = warning; select pg_advisory_xact_lock(7436528)";
        sqlx::raw_sql(turns).execute(&mut *tx).await.map_err(of)?;
    }
    sqlx::raw_sql(META).execute(&mut *tx).await.map_err(of)?;
    let found = refuse_newer(&mut tx, place, version, known).await?;
    if found == known {
        return tx.commit().await.map_err(of);
    }
    for step in &steps[usize::try_from(found).unwrap_or(0)..] {
        let text = step[usize::from(!place.is_sqlite())].to_owned();
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *tx).await.map_err(of)?;
    }
    let created = jiff::Timestamp::now().to_string();
    for (name, content, keep) in
        [("schema", known.to_string(), false), ("writer", version.to_owned(), false), ("created", created, true)]
    {
        let change = if keep { "nothing" } else { "update set content = excluded.content" };
        let sql = format!("insert into meta (name, content) values ($1, $2) on conflict (name) do {change}");
        statement(sql, vec![name.into(), content.as_str().into()]).execute(&mut *tx).await.map_err(of)?;
    }
    tx.commit().await.map_err(of)?;
    tracing::info!(store = %place.shown(), from = found, to = known, "store brought to this program's schema");
    Ok(())
}

async fn has_meta(pool: &AnyPool, place: &Place) -> Result<bool, sqlx::Error> {
    if !place.is_sqlite() {
        return Ok(false);
    }
    let sql = "select count(*) as n from sqlite_master where type = 'table' and name = 'meta'";
    Ok(statement(sql, vec![]).fetch_one(pool).await?.try_get::<i64, _>("n")? > 0)
}

/// A consistent copy beside the file, readable by the manager alone. A copy of the same name from an upgrade that did
/// not come about is replaced.
async fn back_up(connection: &mut AnyConnection, place: &Place, path: &Path, to: i64) -> Result<(), StoreError> {
    let with = |ending: &str| -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".before-{to}{ending}"));
        name.into()
    };
    let (partial, copy) = (with(".partial"), with(""));
    let of = |error: std::io::Error| unavailable(place, "cannot copy it before its upgrade", &error);
    if partial.exists() {
        fs::remove_file(&partial).map_err(of)?;
    }
    let mut options = OpenOptions::new();
    options.create_new(true).write(true).mode(0o600).open(&partial).map_err(of)?;
    let into = statement("vacuum into $1", vec![partial.to_string_lossy().as_ref().into()]);
    if let Err(error) = into.execute(connection).await {
        fs::remove_file(&partial).ok();
        return Err(StoreError::of(place, &error));
    }
    OpenOptions::new().write(true).open(&partial).and_then(|file| file.sync_all()).map_err(of)?;
    fs::rename(&partial, &copy).map_err(of)?;
    tracing::info!(copy = %copy.display(), "store copied before its upgrade");
    Ok(())
}
