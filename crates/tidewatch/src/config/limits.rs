//! What a value must be beyond its type: ranges, addresses, names, and which go together.

use std::net::SocketAddr;
use std::path::{Component, Path};

use serde_json::Value;

use super::key::{Key, Kind};
use super::settings::Config;

/// Longest path of a socket, in bytes.
const MAX_SOCKET: usize = 107;
/// Longest path and text, in bytes.
const MAX_TEXT: usize = 4096;
/// Levels of the log.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// What is wrong with a value, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// What is wrong, beginning with what the value is or must be.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

fn wrong(message: impl Into<String>, help: impl Into<String>) -> Result<(), Wrong> {
    Err(Wrong { message: message.into(), help: help.into() })
}

/// Checks a value of the right type.
///
/// # Errors
/// [`Wrong`].
pub fn check(key: &Key, value: &Value) -> Result<(), Wrong> {
    match (&key.kind, value) {
        (Kind::Number(min, max), Value::Number(number)) => range(*min, *max, number.as_u64().unwrap_or(u64::MAX)),
        (_, Value::String(text)) => check_text(key, text),
        (_, Value::Array(items)) => items.iter().filter_map(Value::as_str).try_for_each(|text| check_text(key, text)),
        _ => Ok(()),
    }
}

fn range(min: u64, max: u64, number: u64) -> Result<(), Wrong> {
    if number < min {
        return wrong(format!("is {number}, but must be at least {min}"), format!("write {min} or more"));
    }
    if number > max {
        return wrong(format!("is {number}, but must be at most {max}"), format!("write {max} or less"));
    }
    Ok(())
}

fn check_text(key: &Key, text: &str) -> Result<(), Wrong> {
    if text.is_empty() {
        let help = if key.nullable { "write null, or leave the key out" } else { "leave the key out for the default" };
        return wrong("is empty", help);
    }
    if text.len() > MAX_TEXT {
        return wrong(format!("has {} bytes; {MAX_TEXT} are allowed", text.len()), "shorten it");
    }
    if text.chars().any(char::is_control) {
        return wrong("holds a control character", "remove it");
    }
    if key.is_path {
        check_path(&key.path, text)?;
    }
    match key.path.as_str() {
        "run_dir" => check_socket(&format!("{text}/control.sock"), "the sockets in it"),
        "agent.docker_socket" | "runtimes.containerd" | "runtimes.cri" | "runtimes.podman" => check_socket(text, "it"),
        "manager.user" => check_user(text),
        "kubernetes.node" => check_node(text),
        "store.url" => check_url(text),
        "metrics.listen" => check_listen(text),
        "log.level" => check_level(text),
        _ => Ok(()),
    }
}

fn check_path(key: &str, text: &str) -> Result<(), Wrong> {
    let path = Path::new(text);
    if !path.is_absolute() {
        return wrong(
            format!("is `{text}`, but must be an absolute path"),
            "begin it with `/`: the processes have no folder of their own",
        );
    }
    // What is written to is to lie where it says; what is read may be named as it comes.
    let written = matches!(key, "state_dir" | "run_dir" | "log.file" | "output.file");
    if written && path.components().any(|part| part == Component::ParentDir) {
        return wrong(format!("is `{text}`, but must not hold `..`"), "write the path that it stands for");
    }
    if path.components().count() < 2 {
        return wrong(format!("is `{text}`, but must not be the root folder"), "name a folder or file below it");
    }
    Ok(())
}

fn check_socket(path: &str, what: &str) -> Result<(), Wrong> {
    if path.len() <= MAX_SOCKET {
        return Ok(());
    }
    wrong(
        "is too long",
        format!(
            "shorten it by {} bytes: {what} would have more than the {MAX_SOCKET} bytes of a socket's path",
            path.len() - MAX_SOCKET
        ),
    )
}

fn check_user(text: &str) -> Result<(), Wrong> {
    let first =
        text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit());
    let rest = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
    if first && rest && text.len() <= 32 {
        return Ok(());
    }
    wrong(
        format!("is `{text}`, which is no name of a user"),
        "write a name such as `tidewatch`, or the number of a user",
    )
}

fn check_node(text: &str) -> Result<(), Wrong> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    if text.bytes().all(plain) && text.len() <= 253 && !text.starts_with(['-', '.']) {
        return Ok(());
    }
    wrong(
        format!("is `{text}`, which is no name of a node"),
        "write the name that `kubectl get nodes` shows: lower-case letters, digits, `-` and `.`",
    )
}

fn check_url(text: &str) -> Result<(), Wrong> {
    let example = "write postgres://user:password@host/database, sqlite:///absolute/path.db, or null";
    if let Some(path) = text.strip_prefix("sqlite://") {
        let file = path.split('?').next().unwrap_or_default();
        return if file.starts_with('/') && file.len() > 1 {
            Ok(())
        } else {
            wrong("must name the database by an absolute path", "write sqlite:///absolute/path.db, with three `/`")
        };
    }
    let Some(rest) = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://")) else {
        return wrong("is no address of SQLite or PostgreSQL", example);
    };
    let encode = "in user and password write `@` as %40, `:` as %3A, `/` as %2F, `?` as %3F, `#` as %23";
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if rest.matches('@').count() > 1 || rest.contains('@') != authority.contains('@') {
        return wrong("holds a character that an address gives a meaning", encode);
    }
    if text.contains(char::is_whitespace) {
        return wrong("holds a blank", "write %20 for a blank that is meant");
    }
    let host = authority.rsplit('@').next().unwrap_or_default();
    // With a socket, the folder is given as a parameter.
    if host.is_empty() && !rest.contains("host=") {
        return wrong("names no host", example);
    }
    let port = host.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'));
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return wrong("has a port that is no number up to 65535", example);
    }
    Ok(())
}

fn check_listen(text: &str) -> Result<(), Wrong> {
    if text.parse::<SocketAddr>().is_ok() {
        return Ok(());
    }
    let help = match text.rsplit_once(':') {
        Some(("localhost", port)) => format!("write 127.0.0.1:{port}: a name may mean several addresses"),
        Some(("" | "*", port)) => format!("write 0.0.0.0:{port}, and set metrics.allow_remote"),
        None if text.parse::<u16>().is_ok() => format!("write 127.0.0.1:{text}"),
        None if text.parse::<std::net::IpAddr>().is_ok() => format!("add a port: {text}:9465"),
        _ => "write an address such as 127.0.0.1:9465 or \"[::1]:9465\", or null".to_owned(),
    };
    wrong(format!("is `{text}`, which is no address and port"), help)
}

fn check_level(text: &str) -> Result<(), Wrong> {
    for part in text.split(',').map(str::trim) {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level).trim();
        if !LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
            let near = tw_model::field::nearest(&level.to_ascii_lowercase(), LEVELS.into_iter());
            let help = match near.first() {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("write one of {}, or a filter such as warn,tidewatch=debug", LEVELS.join(", ")),
            };
            return wrong(format!("holds `{level}`, which is no level"), help);
        }
    }
    match tracing_subscriber::EnvFilter::builder().parse(text) {
        Ok(_) => Ok(()),
        Err(error) => wrong(format!("is no filter: {error}"), "write a filter such as warn,tidewatch=debug"),
    }
}

/// What is wrong with values together: the key that is to blame, and what.
pub fn check_together(config: &Config) -> Vec<(&'static str, Wrong)> {
    let mut found = Vec::new();
    if let Some(listen) = config.metrics.listen
        && !listen.ip().to_canonical().is_loopback()
        && !config.metrics.allow_remote
    {
        let message = format!("is {listen}, which other hosts can reach");
        let help = "set metrics.allow_remote to true if they should, else write 127.0.0.1".to_owned();
        found.push(("metrics.listen", Wrong { message, help }));
    }
    if config.state_dir == config.run_dir {
        let message = "is state_dir too; what is there must outlive a restart, and sockets must not".to_owned();
        found.push(("run_dir", Wrong { message, help: "give each a folder of its own".into() }));
    }
    found
}

/// What is allowed, but hardly meant.
pub fn doubts(config: &Config) -> Vec<(&'static str, Wrong)> {
    let mut found = Vec::new();
    let mut doubt = |key, message: &str, help: &str| {
        found.push((key, Wrong { message: message.into(), help: help.into() }));
    };
    if matches!(config.manager.user.as_str(), "root" | "0") {
        doubt("manager.user", "is root: whoever breaks into the manager owns the host", "use a user of its own");
    }
    if !config.redaction.enabled {
        doubt("redaction.enabled", "is false: passwords in command lines are kept and sent", "set it to true");
    }
    found
}
