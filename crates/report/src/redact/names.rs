//! Which names hold secrets, and which values plainly are none.

use super::extent;
use super::patterns::Kind;

/// Longest name that is looked at, in bytes.
pub(super) const LONGEST: usize = 64;
/// Values shorter than this stay.
pub(super) const SHORTEST: usize = 4;
/// Keys shorter than this stay: names of keys, ids of key files.
const SHORTEST_KEY: usize = 8;
/// Private keys shorter than this stay: mostly names of files.
const SHORTEST_PRIVATE_KEY: usize = 20;

/// What a name promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Promise {
    pub kind: Kind,
    /// The name is an ordinary word too ("unexpected token: x"), so its value needs a second look.
    pub weak: bool,
    /// Values shorter than this are none.
    pub shortest: usize,
}

/// Ends of names, in lower case without `_`, `-`, `.`.
const ENDS: &[(&str, Kind)] = &[
    ("password", Kind::Password),
    ("passwd", Kind::Password),
    ("passphrase", Kind::Password),
    ("passcode", Kind::Password),
    ("secret", Kind::Secret),
    ("erlangcookie", Kind::Secret),
    ("token", Kind::Token),
    ("apikey", Kind::Key),
    ("accesskey", Kind::Key),
    ("secretkey", Kind::Key),
    ("privatekey", Kind::Key),
    ("accountkey", Kind::Key),
    ("sharedkey", Kind::Key),
    ("authkey", Kind::Key),
    ("signingkey", Kind::Key),
    ("encryptionkey", Kind::Key),
    ("masterkey", Kind::Key),
    ("licensekey", Kind::Key),
    ("appkey", Kind::Key),
    ("servicekey", Kind::Key),
    ("serverkey", Kind::Key),
    ("storagekey", Kind::Key),
    ("clientkeydata", Kind::Key),
];

/// Last words of names, in lower case.
const LAST_WORDS: &[(&str, Kind)] = &[
    ("pass", Kind::Password),
    ("pwd", Kind::Password),
    ("pw", Kind::Password),
    ("psw", Kind::Password),
    ("bearer", Kind::Token),
    ("psk", Kind::Key),
];

/// What the name's value is, if it is a secret.
pub(super) fn promise(name: &[u8]) -> Option<Promise> {
    // The working directory, which every environment has.
    if name.len() < 2 || name.len() > LONGEST || name == b"PWD" || name == b"OLDPWD" {
        return None;
    }
    let mut squashed = [0; LONGEST];
    let (mut len, mut word) = (0, 0);
    for (at, &byte) in name.iter().enumerate() {
        if matches!(byte, b'_' | b'-' | b'.') {
            word = len;
            continue;
        }
        if byte.is_ascii_uppercase() && at > 0 && name[at - 1].is_ascii_lowercase() {
            word = len;
        }
        squashed[len] = byte.to_ascii_lowercase();
        len += 1;
    }
    let all = &squashed[..len];
    let last = &squashed[word..len];
    let found = ENDS.iter().find(|(end, _)| all.ends_with(end.as_bytes()));
    let (kind, weak) = match found {
        Some((_, kind)) => (*kind, *all == *b"token" || *all == *b"secret"),
        None => {
            let (_, kind) = LAST_WORDS.iter().find(|(word, _)| last == word.as_bytes())?;
            (*kind, last != b"pwd" && *kind != Kind::Key)
        }
    };
    let shortest = match kind {
        Kind::Key if all.ends_with(b"privatekey") => SHORTEST_PRIVATE_KEY,
        Kind::Key => SHORTEST_KEY,
        _ => SHORTEST,
    };
    Some(Promise { kind, weak, shortest })
}

/// Parameters of a URL's query that are secret beside those of [`promise`].
pub(super) fn query_promise(name: &[u8]) -> Option<Promise> {
    const NAMES: &[&str] =
        &["sig", "signature", "x-amz-signature", "x-amz-security-token", "x-goog-signature", "auth", "sign"];
    let known = NAMES.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
    known.then_some(Promise { kind: Kind::Signature, weak: false, shortest: 8 })
}

/// Whether a long option of this name switches or asks rather than taking a secret (`--no-password`).
pub(super) fn is_switch(name: &[u8]) -> bool {
    const FIRST: &[&str] = &[
        "no", "ask", "prompt", "skip", "enable", "disable", "with", "without", "allow", "has", "is", "need", "require",
        "reset", "change", "show", "generate", "create", "random", "hide", "use", "force", "print",
    ];
    let first = name.split(|byte| *byte == b'-' || *byte == b'_').next().unwrap_or_default();
    first.len() < name.len() && FIRST.iter().any(|word| first.eq_ignore_ascii_case(word.as_bytes()))
}

/// Whether what starts here is plainly no secret: a path, a variable, a placeholder. Looks at few bytes.
pub(super) fn starts_plain(value: &[u8]) -> bool {
    const STARTS: &[&str] = &["./", "../", "~/", "//", "file:", "env:", "@/", "@./", "{{", "${", "$(", "%(", "<", ":"];
    const FOLDERS: &[&str] = &[
        "run", "var", "etc", "home", "root", "tmp", "opt", "usr", "secrets", "mnt", "srv", "proc", "dev", "data",
        "app", "config", "bin", "lib", "Users",
    ];
    if STARTS.iter().any(|start| value.starts_with(start.as_bytes())) {
        return true;
    }
    if let Some(path) = value.strip_prefix(b"/") {
        let len = path.iter().take(8).take_while(|byte| byte.is_ascii_alphabetic()).count();
        let ends = path.get(len).is_none_or(|byte| *byte == b'/' || extent::is_blank(*byte));
        return ends && FOLDERS.iter().any(|folder| folder.as_bytes() == &path[..len]);
    }
    let Some(name) = value.strip_prefix(b"$") else { return false };
    let name = &name[..name.len().min(LONGEST)];
    let len =
        name.iter().take_while(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || **byte == b'_').count();
    len > 0 && name.get(len).is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'$')
}

/// Whether a whole value is plainly no secret.
pub(super) fn is_plain(value: &[u8], promise: Promise) -> bool {
    const WORDS: &[&str] = &[
        "true",
        "false",
        "null",
        "none",
        "undefined",
        "required",
        "optional",
        "disabled",
        "enabled",
        "default",
        "unset",
        "redacted",
        "hidden",
        "masked",
        "prompt",
        "string",
    ];
    value.len() < promise.shortest
        || (value.len() <= 12 && WORDS.iter().any(|word| value.eq_ignore_ascii_case(word.as_bytes())))
        || (matches!(value[0], b'*' | b'x' | b'X' | b'.' | b'-' | b'_' | b'#')
            && value.iter().all(|byte| *byte == value[0]))
        || (value.len() <= 16
            && (promise.weak || promise.kind != Kind::Password)
            && value.iter().all(u8::is_ascii_digit))
        || (promise.kind == Kind::Secret
            && ["id=", "src=", "source=", "type="].iter().any(|start| value.starts_with(start.as_bytes())))
}

/// Whether the value reads as an ordinary word of a message.
pub(super) fn is_word(value: &[u8]) -> bool {
    value.len() <= 24 && value.iter().all(|byte| byte.is_ascii_lowercase() || *byte == b'\'' || *byte == b'-')
}

/// Every end and last word, for the test that the first look notices all of them.
#[cfg(test)]
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    ENDS.iter().chain(LAST_WORDS).map(|(name, _)| *name)
}
