//! How long it takes: linear for hostile text, little for clean text.

use super::redactor;
use std::time::{Duration, Instant};

#[test]
fn hostile_text_takes_linear_time() {
    let redactor = redactor();
    for piece in [
        "password=",
        "password:",
        "password=\"",
        "password=/etc/",
        "password=$",
        "token:",
        "token:x",
        "\"token\":\"",
        "password=a&",
        "password=a;b",
        "a=",
        "=",
        ":",
        "--password ",
        "--password \"",
        "--password=",
        "mysql -p",
        "mysql -p'",
        "curl -u \"a:/etc/ ",
        "curl -u a",
        "curl -u '",
        "://",
        "://a:b",
        "://a:b/",
        "://@",
        "http://u:p@",
        "Authorization: Digest a=b, ",
        "Authorization: ",
        "Authorization: \"",
        "Cookie: ",
        "Cookie: a=b;",
        "Cookie:",
        "[redacted:",
        "[redacted:password:0123456789ab]",
        "password=[redacted:password:0123456789ab]",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN ",
        "-----END",
        "eyJ",
        "eyJaaaaaaaa.",
        "ghp_",
        "identified by '",
        "identified by 'aaaa'",
        "xoxb-",
        "sk-",
        "\\\"",
        "password=\\",
        "password=\\\"",
        "password=\\\\\"",
        "'",
        "htpasswd -b ",
        "AKIA",
        "hooks.slack.com/services/",
        "password=a\\",
        "]",
        "password[']",
        "password                 ",
        "://a:b#",
        "password=a,",
        "pass:\"",
    ] {
        // Four times the text may take four times as long, and a little more; if it were quadratic, sixteen times.
        let [small, large] = [1 << 16, 1 << 18].map(|size| {
            let text = piece.repeat(size / piece.len());
            let before = cpu_time();
            redactor.text(&text);
            redactor.argv(text.replace(' ', "\0").as_bytes());
            redactor.environ(text.as_bytes());
            cpu_time() - before
        });
        let ratio = large.as_secs_f64() / small.as_secs_f64().max(0.002);
        assert!(ratio < 9.0, "{piece:?}: {small:?}, then {large:?}");
    }
}

/// CPU time of this thread: what else runs on the host does not count (proc_pid_schedstat(5)).
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

#[test]
#[ignore = "a measurement: cargo test --release -p tidewatch-report --test redaction -- --ignored --nocapture speed"]
fn speed() {
    let redactor = redactor();
    let measure = |what: &str, rounds: u32, work: &dyn Fn()| {
        let best = (0..7).map(|_| {
            let start = Instant::now();
            (0..rounds).for_each(|_| work());
            start.elapsed() / rounds
        });
        eprintln!("{what}: {:?}", best.min().unwrap());
    };
    let clean = "runc --root /run/docker/runtime-runc/moby --log /run/containerd/io/log.json init";
    assert_eq!(clean.len(), 80);
    measure("clean, 80 bytes", 200_000, &|| {
        std::hint::black_box(redactor.text(std::hint::black_box(clean)));
    });
    let near = "curl -fsSL --retry 3 https://registry.example/v2/library/keyring/manifests/1.2.3";
    measure("near, 80 bytes", 200_000, &|| {
        std::hint::black_box(redactor.text(std::hint::black_box(near)));
    });
    let secret = "mysql -uroot -pcorrect-horse-battery -h db.shop.internal shop --execute select 1";
    measure("one secret, 80 bytes", 100_000, &|| {
        std::hint::black_box(redactor.text(std::hint::black_box(secret)));
    });
    let environ = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin\0HOME=/root\0PWD=/srv\0SSH_AUTH_SOCK=/tmp/a\0LANG=C.UTF-8\0"
        .repeat(10);
    measure(&format!("environment without secrets, {} bytes", environ.len()), 20_000, &|| {
        std::hint::black_box(redactor.environ(std::hint::black_box(environ.as_bytes())));
    });
}
