//! What can be wrong with the store, sorted by what helps against it.

use sqlx::error::DatabaseError;

/// Why the store could not do something.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum StoreError {
    /// There is no space left for it.
    #[error("the store {place} is full: {reason}")]
    Full {
        /// Which store.
        place: String,
        /// What the database said.
        reason: String,
    },
    /// It does not answer, or cannot be opened. Passes by itself as a rule.
    #[error("the store {place} cannot be reached: {reason}")]
    Unavailable {
        /// Which store.
        place: String,
        /// What the database or the system said.
        reason: String,
    },
    /// A newer version of Tidewatch wrote it.
    #[error(
        "the store {place} has schema {found}, written by tidewatch {writer}; this is tidewatch {version}, which knows schema {known}"
    )]
    Newer {
        /// Which store.
        place: String,
        /// Its schema.
        found: i64,
        /// The newest schema that this program knows.
        known: i64,
        /// The version of the program that brought it to that schema.
        writer: String,
        /// The version of this program.
        version: String,
    },
    /// Its bytes make no sense.
    #[error("the store {place} is corrupt: {reason}")]
    Corrupt {
        /// Which store.
        place: String,
        /// What the database said.
        reason: String,
    },
    /// Anything else.
    #[error("the store {place} refused: {reason}")]
    Other {
        /// Which store.
        place: String,
        /// What the database said.
        reason: String,
    },
}

impl StoreError {
    /// Stable code for programs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Full { .. } => "store-full",
            Self::Unavailable { .. } => "store-unavailable",
            Self::Newer { .. } => "store-newer",
            Self::Corrupt { .. } => "store-corrupt",
            Self::Other { .. } => "store-refused",
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Full { .. } => "make room on the disk or lower store.retention; it goes on by itself, and the agent \
                                  keeps what is not stored yet in its spool"
                .into(),
            Self::Unavailable { place, .. } if place.starts_with("sqlite") => {
                "check that the folder exists and belongs to the manager's user; it tries again by itself".into()
            }
            Self::Unavailable { .. } => {
                "check that the database runs and that store.url is right; it tries again by itself, and the agent \
                 keeps what is not stored yet in its spool"
                    .into()
            }
            Self::Newer { found, .. } => format!(
                "install the newer tidewatch again; or, to go back, put the copy that it made before its upgrade \
                 (tidewatch.db.before-{found}) in the store's place; nothing was changed"
            ),
            Self::Corrupt { place, .. } if place.starts_with("sqlite") => {
                "check the disk, then move the file and its -wal and -shm away (sqlite3's .recover may save what is \
                 in it) and restart: a new store begins; nothing was changed or deleted"
                    .into()
            }
            Self::Corrupt { .. } => "check the database's disk and restore it from a backup".into(),
            Self::Other { .. } => "look at the reason and at the database's log; it tries again by itself".into(),
        }
    }

    /// Sorts what the driver says.
    pub(crate) fn of(place: &super::Place, error: &sqlx::Error) -> Self {
        let (shown, reason) = (place.shown(), plain(error));
        match error {
            sqlx::Error::Database(database) => {
                let class = if place.is_sqlite() { sqlite_class(&**database) } else { postgres_class(&**database) };
                Self::build(class, shown, reason)
            }
            sqlx::Error::Io(io) if io.kind() == std::io::ErrorKind::StorageFull => {
                Self::build(Class::Full, shown, reason)
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed
            | sqlx::Error::Configuration(_) => Self::build(Class::Unavailable, shown, reason),
            _ => Self::build(Class::Other, shown, reason),
        }
    }

    fn build(class: Class, place: String, reason: String) -> Self {
        match class {
            Class::Full => Self::Full { place, reason },
            Class::Unavailable => Self::Unavailable { place, reason },
            Class::Corrupt => Self::Corrupt { place, reason },
            Class::Other => Self::Other { place, reason },
        }
    }
}

#[derive(Clone, Copy)]
enum Class {
    Full,
    Unavailable,
    Corrupt,
    Other,
}

/// One line, short enough to be shown.
fn plain(error: &sqlx::Error) -> String {
    let text = match error {
        sqlx::Error::Database(database) => database.message().to_owned(),
        sqlx::Error::Io(io) => io.to_string(),
        sqlx::Error::PoolTimedOut => "no connection came about in time".to_owned(),
        other => other.to_string(),
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

/// The low byte of SQLite's result code is its class.
fn sqlite_class(error: &dyn DatabaseError) -> Class {
    const BUSY: i32 = 5;
    const LOCKED: i32 = 6;
    const READONLY: i32 = 8;
    const IOERR: i32 = 10;
    const CORRUPT: i32 = 11;
    const FULL: i32 = 13;
    const CANTOPEN: i32 = 14;
    const NOTADB: i32 = 26;
    let code = error.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or(0);
    match code & 0xff {
        FULL => Class::Full,
        BUSY | LOCKED | READONLY | IOERR | CANTOPEN => Class::Unavailable,
        CORRUPT | NOTADB => Class::Corrupt,
        _ => Class::Other,
    }
}

/// The first two characters of an SQLSTATE are its class.
fn postgres_class(error: &dyn DatabaseError) -> Class {
    let code = error.code().unwrap_or_default().into_owned();
    match (code.as_str(), code.get(..2).unwrap_or_default()) {
        ("53100", _) => Class::Full,
        ("XX001" | "XX002", _) => Class::Corrupt,
        (_, "08" | "25" | "28" | "3D" | "40" | "53" | "55" | "57" | "58") => Class::Unavailable,
        _ => Class::Other,
    }
}
