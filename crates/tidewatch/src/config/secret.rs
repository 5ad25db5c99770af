//! The address of the store, whose password is for the database only.
//!
//! **Never:** a password in a message, a log or the output of `config show`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Address of the store. Shown, logged and serialised without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl(String);

impl StoreUrl {
    /// An address as it stands in the configuration.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The address with its password, for the one who connects.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether it holds a password.
    pub fn has_password(&self) -> bool {
        hide_password(&self.0) != self.0
    }
}

impl std::fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hide_password(&self.0))
    }
}

impl std::fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl Serialize for StoreUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StoreUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

/// What stands in place of a password.
const HIDDEN: &str = "***";

/// Replaces the password of every address in `text` by `***`: what is between the first `:` behind `://` and the last
/// `@` of the line (passwords often hold characters that they should not), and what follows `password=`.
pub fn hide_password(text: &str) -> String {
    text.split('\n').map(hide_in_line).collect::<Vec<_>>().join("\n")
}

fn hide_in_line(line: &str) -> String {
    let mut out = line.to_owned();
    // `get`, as an offset may be wrong only if this is: then nothing is shown rather than a panic.
    if let Some(start) = out.find("://").map(|at| at + 3)
        && let Some(at) = out.rfind('@').filter(|at| *at >= start)
        && let Some(colon) = out.get(start..at).and_then(|user| user.find(':')).map(|colon| start + colon + 1)
    {
        out.replace_range(colon..at, HIDDEN);
    }
    let mut from = 0;
    while let Some(start) = out.get(from..).and_then(|rest| find_caseless(rest, "password=")).map(|at| from + at + 9) {
        let end = out[start..].find(['&', '"', '\'', ' ', '\t']).map_or(out.len(), |end| start + end);
        out.replace_range(start..end, HIDDEN);
        from = start + HIDDEN.len();
    }
    out
}

fn find_caseless(text: &str, word: &str) -> Option<usize> {
    text.to_ascii_lowercase().find(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hidden() {
        for (given, shown) in [
            ("postgres://user:pw@host/db", "postgres://user:***@host/db"),
            ("postgres://user:p@w/x:y@host/db", "postgres://user:***@host/db"),
            ("  url: \"postgres://u:a b@h\" # c", "  url: \"postgres://u:***@h\" # c"),
            ("postgres://host/db?user=a&password=pw&x=1", "postgres://host/db?user=a&password=***&x=1"),
            ("postgres://host/db?PASSWORD=pw", "postgres://host/db?PASSWORD=***"),
            ("postgres://user@host:5432/db", "postgres://user@host:5432/db"),
            ("sqlite:///var/lib/x.db", "sqlite:///var/lib/x.db"),
            ("postgres://u:é@h\npostgres://u:x@h", "postgres://u:***@h\npostgres://u:***@h"),
            ("a@b ://", "a@b ://"),
            ("", ""),
        ] {
            assert_eq!(hide_password(given), shown);
        }
    }

    #[test]
    fn an_address_shows_no_password_however_it_is_printed() {
        let url = StoreUrl::new("postgres://user:secret@host/db");
        let shown = format!("{url} {url:?} {:#?} {}", Some(&url), serde_json::to_string(&url).unwrap());
        assert!(!shown.contains("secret"), "{shown}");
        assert!(url.has_password() && url.reveal().contains("secret"));
        assert!(!StoreUrl::new("sqlite:///x").has_password());
    }
}
