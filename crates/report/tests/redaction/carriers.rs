//! Findings and records with secrets in them.

use super::{digest, marks, redactor};
use tw_model::event::EventKind;
use tw_model::finding::{Cause, Finding, Priority, ProcessSummary, Shown, finding_id};
use tw_model::raw::{CallBody, Encoder, ExecBody, Header, Raw, SockBody, from_words, to_words};

#[test]
fn a_finding_loses_its_secrets_and_nothing_else() {
    let secret = "hunter2hunter";
    let line = format!("mysql -uroot -p{secret} shop");
    let process = ProcessSummary { name: "mysql".into(), cmdline: line.clone(), ..ProcessSummary::default() };
    let mut finding = Finding {
        id: finding_id(1, 2, 3, "x"),
        time_ns: 2,
        event_num: 3,
        cause: Cause::Rule { name: "Password Read".into() },
        priority: Priority::Warning,
        source: "syscall".into(),
        message: format!("Query | command={line} user=root env={secret}"),
        why: "why".into(),
        advice: String::new(),
        tags: vec![],
        fields: vec![
            ("proc.cmdline".into(), Shown::Text(line)),
            ("proc.env[DB_PASSWORD]".into(), Shown::Text(secret.into())),
            ("proc.env[HOME]".into(), Shown::Text("/root".into())),
            ("proc.pid".into(), Shown::Int(7)),
        ],
        event: "execve".into(),
        lineage: vec![process.clone(), process],
        container: None,
        workload: String::new(),
        login: None,
        coverage: None,
        fingerprint: 9,
    };
    let before = finding.clone();
    redactor().finding(&mut finding);
    let all = format!("{finding:?}");
    assert!(!all.contains(secret), "{all}");
    let digests = marks(&all);
    assert_eq!(digests.len(), 6, "{all}");
    assert!(digests.iter().all(|(_, other)| *other == digest(secret)), "{all}");
    assert_eq!(finding.fields[2..], before.fields[2..]);
    assert_eq!((finding.id, &finding.cause, finding.fingerprint), (before.id, &before.cause, 9));
    let once = finding.clone();
    redactor().finding(&mut finding);
    assert_eq!(finding, once, "twice is once");
}

#[test]
fn an_exec_record_loses_its_secrets_and_nothing_else() {
    let header = Header {
        kind: EventKind::Execve as u16,
        pid: 7,
        tid: 8,
        time: 9,
        ret: -2,
        comm: *b"mysql\0\0\0\0\0\0\0\0\0\0\0",
        ..Header::default()
    };
    let mut out = Encoder::new(&header, size_of::<ExecBody>());
    let body = ExecBody {
        ino: 11,
        exepath: out.text(b"/usr/bin/mysql"),
        cwd: out.text(b"/"),
        args: out.text(b"mysql\0-phunter2hunter\0-h\0db\xff\0"),
        env: out.text(b"HOME=/root\0DB_PASSWORD=hunter2hunter\0PWD=/\0"),
        cgroup_name: out.text(b"pod"),
        ..ExecBody::default()
    };
    let words = to_words(&out.finish(&body));
    let raw = Raw::parse(from_words(&words)).unwrap();
    let new = to_words(&redactor().record(&raw).unwrap());
    let new = Raw::parse(from_words(&new)).unwrap();
    assert!(memchr(new.bytes(), b"hunter2").is_none());
    let (old, exec) = (raw.exec().unwrap(), new.exec().unwrap());
    let mark = |name: &str| format!("[redacted:{name}:{}]", digest("hunter2hunter"));
    let mut args = format!("mysql\0-p{}\0-h\0db", mark("program-option")).into_bytes();
    args.extend(b"\xff\0");
    assert_eq!(new.text(exec.args), args);
    let env = format!("HOME=/root\0DB_PASSWORD={}\0PWD=/\0", mark("password"));
    assert_eq!(new.text(exec.env), env.as_bytes());
    for (before, after) in [
        (old.exepath, exec.exepath),
        (old.cwd, exec.cwd),
        (old.cgroup_name, exec.cgroup_name),
        (old.interp, exec.interp),
    ] {
        assert_eq!(raw.text(before), new.text(after));
    }
    assert_eq!(exec.ino, 11);
    assert_eq!(Header { size: 0, ..*new.header }, Header { size: 0, ..*raw.header });
    assert!(redactor().record(&new).is_none(), "twice is once");
}

#[test]
fn first_bytes_and_text_arguments_lose_their_secrets() {
    let header = Header { kind: EventKind::Sendto as u16, ..Header::default() };
    let mut out = Encoder::new(&header, size_of::<SockBody>());
    let data = b"GET / HTTP/1.1\r\nAuthorization: Basic dTpodW50ZXIy\r\nCookie: sid=hunter2\r\n\r\n\xff\x00";
    let body = SockBody { size: 99, data: out.text(data), raw: out.text(b"/run/x"), ..SockBody::default() };
    let words = to_words(&out.finish(&body));
    let raw = Raw::parse(from_words(&words)).unwrap();
    let new = to_words(&redactor().record(&raw).unwrap());
    let new = Raw::parse(from_words(&new)).unwrap();
    let sock = new.sock().unwrap();
    let text = String::from_utf8_lossy(new.text(sock.data)).into_owned();
    let mark = |name: &str| (name.to_owned(), digest("hunter2"));
    assert_eq!(marks(&text), [mark("authorization"), mark("cookie")], "{text}");
    assert_eq!((new.text(sock.raw), sock.size), (b"/run/x".as_slice(), 99));

    let header = Header { kind: EventKind::MemfdCreate as u16, ..Header::default() };
    let mut out = Encoder::new(&header, size_of::<CallBody>());
    let body = CallBody { args: [1, 2, 3, 4, 5, 6], text: out.text(b"token=hunter2hunter"), ..CallBody::default() };
    let words = to_words(&out.finish(&body));
    let new = to_words(&redactor().record(&Raw::parse(from_words(&words)).unwrap()).unwrap());
    let new = Raw::parse(from_words(&new)).unwrap();
    assert!(new.text(new.call().unwrap().text).starts_with(b"token=[redacted:token:"));
}

#[test]
fn a_record_that_grows_too_long_is_cut_and_says_so() {
    let header = Header { kind: EventKind::Execve as u16, ..Header::default() };
    let mut out = Encoder::new(&header, size_of::<ExecBody>());
    let body =
        ExecBody { env: out.text(&b"A_TOKEN=abcdef\0".repeat(4000)), args: out.text(b"x\0"), ..ExecBody::default() };
    let words = to_words(&out.finish(&body));
    let new = to_words(&redactor().record(&Raw::parse(from_words(&words)).unwrap()).unwrap());
    let new = Raw::parse(from_words(&new)).unwrap();
    assert_eq!(new.header.flags, tw_model::raw::F_TRUNCATED);
    assert!(memchr(new.bytes(), b"abcdef\0").is_none());
    assert_eq!(new.text(new.exec().unwrap().args), b"x\0");
}

fn memchr(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
