//! Where the store is: a SQLite file, or a PostgreSQL database.

use std::path::{Path, PathBuf};

/// A place for the store.
#[derive(Clone, PartialEq, Eq)]
pub enum Place {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// The URL of a PostgreSQL database, with its password.
    Postgres(String),
}

impl Place {
    /// Reads `sqlite:PATH`, `postgres://…` or `postgresql://…`.
    ///
    /// # Errors
    /// A sentence that names the forms, without the text itself: it may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if !path.starts_with('/') {
                return Err("the store's path is not absolute: use sqlite:/path/to/file".into());
            }
            return Ok(Self::Sqlite(PathBuf::from(path)));
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(text.to_owned()));
        }
        Err("the store's url is neither sqlite:/path/to/file nor postgres://user:password@host/database".into())
    }

    /// The text for people: without password and parameters.
    pub fn shown(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite:{}", path.display()),
            Self::Postgres(url) => {
                let plain = url.split(['?', '#']).next().unwrap_or_default();
                let (scheme, rest) = plain.split_once("://").unwrap_or(("postgres", plain));
                let (user, host) = rest.rsplit_once('@').unwrap_or(("", rest));
                let user = user.split(':').next().unwrap_or_default();
                let at = if user.is_empty() { "" } else { "@" };
                format!("{scheme}://{user}{at}{host}")
            }
        }
    }

    /// Whether this is SQLite.
    pub(crate) fn is_sqlite(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }

    /// The text that the driver takes.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(path) => sqlite_url(path),
            Self::Postgres(url) => url.clone(),
        }
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}

/// The driver decodes `%` and cuts at `?`, so that such bytes of a path are encoded.
fn sqlite_url(path: &Path) -> String {
    let mut url = "sqlite://".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => url.push(char::from(*byte)),
            _ if byte.is_ascii_alphanumeric() => url.push(char::from(*byte)),
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for url in ["postgres://u:secret@h/db", "postgres://u:se@cret@h/db?password=secret", "postgres://u:secret@h"] {
            let place = Place::parse(url).unwrap();
            assert!(!place.shown().contains("cret"), "{}", place.shown());
            assert!(!format!("{place:?}").contains("cret"));
        }
        assert_eq!(Place::parse("postgres://u:p@h:5433/db?sslmode=require").unwrap().shown(), "postgres://u@h:5433/db");
        assert_eq!(Place::parse("postgres:///db?host=/tmp").unwrap().shown(), "postgres:///db");
    }

    #[test]
    fn places_are_read() {
        assert_eq!(Place::parse("sqlite:/a b.db").unwrap(), Place::Sqlite("/a b.db".into()));
        assert_eq!(Place::parse("sqlite:///a%3f.db").unwrap().url(), "sqlite:///a%253f.db");
        assert!(Place::parse("sqlite:relative.db").is_err());
        assert!(!Place::parse("mysql://u:secret@h/db").unwrap_err().contains("secret"));
    }
}
