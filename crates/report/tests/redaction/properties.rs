//! For any secret and any bytes: nothing leaks, twice is once, nothing panics.

use super::redactor;
use super::secrets::{CASES, Place, redact};
use proptest::prelude::*;

/// More with `PROPTEST_CASES`.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2000)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn block(text: &str) -> String {
    text.replace(" | ", "\0") + "\0"
}

/// Pieces that the readers look for, so that random texts come near them.
const PIECES: &[&str] = &[
    "password",
    "PASSWORD",
    "token",
    "secret",
    "api_key",
    "Authorization",
    "Cookie",
    "Set-Cookie",
    "=",
    ":",
    ": ",
    " = ",
    "\"",
    "'",
    "\\\"",
    "\\",
    " ",
    "\n",
    "\0",
    ";",
    "&",
    ",",
    "--password",
    "--token ",
    "-p",
    "-u",
    "curl ",
    "mysql ",
    "sshpass ",
    "htpasswd -b ",
    "docker login ",
    "://",
    "@",
    "/",
    "?sig=",
    "?",
    "user",
    "Bearer ",
    "Basic ",
    "Digest ",
    "hunter2hunter",
    "abcdef1234567890",
    "x",
    "[redacted:",
    "]",
    ")",
    "}",
    "{",
    "$X",
    "***",
    "%41",
    "IDENTIFIED BY '",
    "command=",
    "| ",
    "-----BEGIN PRIVATE KEY-----",
    "-----END",
    "容",
    "eyJ",
    "eyJabcdefgh.abcdefgh.x",
    "/etc/",
    "true",
    "<",
    ">",
    "`",
    "pass:",
    "#",
];

fn texts() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(PIECES), 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_token_is_nowhere_in_the_output(
        case in 0..CASES.len(),
        noise in "[A-Za-z0-9]{110}",
        before in "[ a-z]{0,12} ",
    ) {
        let (name, place, template, start, len) = CASES[case];
        // Words, numbers and runs of one letter are no secrets in some places.
        let tail = &format!("q7{noise}")[..len];
        let secret = format!("{start}{tail}");
        let before = if place == Place::Text && name != "program-option" { &before } else { "" };
        let template = format!("{before}{template}");
        let new = redact(place, &template, &secret);
        prop_assert!(!new.contains(&secret), "{} -> {}", template, new);
        if len >= 9 {
            prop_assert!(!new.contains(&tail[1..]), "{} -> {}", template, new);
        }
        prop_assert_eq!(redact(place, &new, ""), new);
    }

    #[test]
    fn any_value_of_a_secret_argument_or_variable_is_taken_out(
        secret in "[^\0\"'$<:;&./~@%{*x\\-][^\0;&]{7,30}[^\0;&\"']",
    ) {
        let redactor = redactor();
        let numeric = secret.bytes().all(|byte| byte.is_ascii_digit());
        for name in ["DB_PASSWORD", "API_TOKEN", "CLIENT_SECRET"] {
            let numeric = numeric && name != "DB_PASSWORD";
            prop_assume!(!numeric && !["undefined"].contains(&secret.to_lowercase().as_str()));
            prop_assume!(!["id=", "src=", "source=", "type="].iter().any(|start| secret.starts_with(start)));
            let environ = redactor.environ(format!("A=1\0{name}={secret}\0B=2\0").as_bytes()).into_owned();
            let text = String::from_utf8(environ).unwrap();
            prop_assert!(text.starts_with(&format!("A=1\0{name}=[redacted:")) && text.ends_with("]\0B=2\0"), "{:?}", text);
            let option = name.to_lowercase().replace('_', "-");
            let argv = redactor.argv(format!("x\0--{option}\0{secret}\0y\0").as_bytes()).into_owned();
            let text = String::from_utf8(argv).unwrap();
            prop_assert!(text.starts_with(&format!("x\0--{option}\0[redacted:")) && text.ends_with("]\0y\0"), "{:?}", text);
        }
    }

    #[test]
    fn twice_is_once(text in texts()) {
        let redactor = redactor();
        let once = redactor.text(&text).into_owned();
        prop_assert_eq!(redactor.text(&once), once.as_str(), "{:?}", text);
        let blocks = block(&text);
        let once = redactor.argv(blocks.as_bytes()).into_owned();
        prop_assert_eq!(lossy(&redactor.argv(&once)), lossy(&once), "{:?}", blocks);
        let once = redactor.environ(blocks.as_bytes()).into_owned();
        prop_assert_eq!(lossy(&redactor.environ(&once)), lossy(&once), "{:?}", blocks);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in texts(), at in 0..200_usize) {
        let mut bytes = bytes;
        let at = at.min(bytes.len());
        bytes.splice(at..at, text.bytes());
        bytes.splice(at..at, *b"[redacted:password:0123456789ab]");
        let redactor = redactor();
        redactor.bytes(&bytes);
        redactor.argv(&bytes);
        redactor.environ(&bytes);
    }
}
