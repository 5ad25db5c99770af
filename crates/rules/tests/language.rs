//! What the language says, statement by statement: conditions and their verdicts on events.

#![allow(clippy::unwrap_used, reason = "a test")]

use tw_model::sample::{Sample, SampleArg, SampleContainer, SampleProcess};
use tw_rules::{Loader, RuleSet};

fn rules(text: &str) -> RuleSet {
    let (rules, diagnostics) = Loader::new().add_file("t.yaml", text).finish();
    let errors: Vec<_> = diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).collect();
    assert!(errors.is_empty(), "{text}: {errors:#?}");
    rules
}

/// A rule whose condition is a folded block, in which nothing needs to be escaped.
fn rule(condition: &str) -> String {
    format!("- rule: R\n  desc: d\n  priority: INFO\n  output: o\n  condition: >\n    {condition}\n")
}

fn check(sample: &Sample, cases: &[(&str, bool)]) {
    sample
        .inspect(1, |event| {
            for (condition, expected) in cases {
                let rules = rules(&rule(condition));
                assert_eq!(rules.rules()[0].matches(event), *expected, "{condition}");
            }
        })
        .unwrap();
}

/// `vim -n "two words" -o` below bash below sshd, opening a file for writing, in a container.
fn file() -> Sample {
    let process = |name: &str| SampleProcess { name: name.into(), ..SampleProcess::default() };
    Sample {
        kind: "openat".into(),
        proc: SampleProcess {
            name: "vim".into(),
            args: ["vim", "-n", "two words", "-o"].map(str::to_owned).into(),
            env: ["EDITOR=vi", "LANG=C"].map(str::to_owned).into(),
            cwd: "/root".into(),
            uid: 1000,
            loginuid: Some(1000),
            vpid: 7,
            ..process("vim")
        },
        ancestors: vec![process("bash"), process("sshd"), process("systemd")],
        container: Some(SampleContainer {
            id: Some("0123456789abcdef".repeat(4)),
            name: "shop".into(),
            image: "registry.example/shop/api:9".into(),
            mounts: vec!["/proc:/host/proc".into(), "data:/var/lib/data".into()],
            ..SampleContainer::default()
        }),
        path: "/etc/ssh/sshd_config".into(),
        raw: Some("ssh/../ssh/sshd_config".into()),
        base: "/etc".into(),
        flags: "O_RDWR|O_CREAT".into(),
        fd: 4,
        ret: Some(SampleArg::Number(4)),
        ..Sample::default()
    }
}

fn socket() -> Sample {
    Sample {
        kind: "connect".into(),
        local: "10.0.0.5:40000".into(),
        remote: "1.2.3.4:443".into(),
        fd: 5,
        ..Sample::default()
    }
}

#[test]
fn grammar() {
    check(
        &file(),
        &[
            // `and` binds closer than `or`, `not` closer than both; an even number of nots cancels.
            ("fd.num = 4 or fd.num = 1 and fd.num = 2", true),
            ("(fd.num = 4 or fd.num = 1) and fd.num = 2", false),
            ("not fd.num = 1 and fd.num = 4", true),
            ("not not fd.num = 4", true),
            ("not not not fd.num = 4", false),
            ("not(fd.num = 1)", true),
            ("fd.num = 4 and(fd.num = 4)or(fd.num = 1)", true),
            ("(((fd.num = 4)))", true),
            // Blanks do not matter around symbols.
            ("fd.num=4", true),
            ("fd.num>=4 and fd.num<=4", true),
            ("proc.name in(vim,vi)", true),
            ("proc.name in ( vim , vi )", true),
            ("proc.name == vim", true),
            // Words may hold nearly everything.
            ("fd.name != runc:[0:PARENT]", true),
            ("evt.arg.flags contains O_RDWR|O", true),
            ("proc.args contains -o", true),
            ("proc.name != a>b<c", true),
            // Quotes of both kinds, and escapes.
            ("proc.args contains \"two words\"", true),
            ("proc.args contains 'two words'", true),
            (r#"proc.args contains "two\x20words""#, true),
            (r#"proc.name != "a\"b" and proc.name != 'a\'b' and proc.name != "\t\\\/""#, true),
            (r#"proc.args contains "\ ""#, false),
            // Modifiers are words like others where no list is behind them.
            ("proc.name != anyof and fd.num = 4", true),
            ("proc.name = anyof (vim, vi)", true),
            // Fields with something in brackets.
            ("proc.aname[1] = bash", true),
            ("proc.env[EDITOR] = vi", true),
            ("proc.env[\"EDITOR\"] = vi", true),
            ("container.mount.dest[/proc] = /host/proc", true),
            ("fd.num = 0x4 and fd.num = +4", true),
        ],
    );
}

#[test]
fn null_and_empty() {
    check(
        &file(),
        &[
            ("fd.sip = 1.2.3.4 or fd.sip != 1.2.3.4 or fd.sport < 5 or fd.sip exists", false),
            ("not fd.sip = 1.2.3.4 and not fd.sip != 1.2.3.4", true),
            ("fd.sip in (1.2.3.4)", false),
            ("fd.name = val(fd.nameraw)", false),
            ("fd.num = val(fd.sport)", false),
            ("not fd.num = val(fd.sport)", true),
            ("tolower(k8s.pod.name) exists", false),
            // The empty text is there.
            ("proc.env[NOPE] exists and proc.env[NOPE] = \"\"", true),
            ("proc.args[9] exists and proc.args[9] = \"\"", true),
            ("proc.aname[9] exists", false),
            ("proc.name contains \"\" and proc.name startswith \"\"", true),
            // Texts that stand for nothing.
            ("user.name = <NA>", true),
            ("user.loginname = \"<NA>\"", true),
            ("container.image.digest exists", false),
        ],
    );
}

#[test]
fn operators_on_texts() {
    check(
        &file(),
        &[
            ("fd.name contains ssh/sshd and fd.name icontains SSH/SSHD", true),
            ("fd.name contains SSH", false),
            ("fd.name startswith /etc and fd.name endswith _config", true),
            ("fd.name glob /etc/*config and fd.name glob /etc/???/sshd_*", true),
            ("fd.name glob /ETC/*", false),
            ("fd.name iglob /ETC/*", true),
            ("fd.name glob /etc/[a-s]*", true),
            ("fd.name regex /etc/[a-z]+/sshd_config", true),
            ("fd.name regex sshd_config", false),
            ("fd.name regex '.*(sshd|x)_config'", true),
            ("fd.name pmatch (/usr, /etc)", true),
            ("fd.name pmatch (/etc/ssh/sshd_config)", true),
            ("fd.name pmatch (/etc/s)", false),
            ("fd.name pmatch (/)", true),
            ("fd.name pmatch (/etc/*/sshd_config, /x)", true),
            ("fd.name intersects (/a, /etc/ssh/sshd_config)", true),
            ("fd.directory in (/etc/ssh) and fd.filename = sshd_config", true),
            ("fd.name startswith anyof (/x, /etc, /etc/ssh)", true),
            ("fd.name startswith oneof (/x, /etc, /etc/ssh)", false),
            ("fd.name startswith oneof (/x, /etc)", true),
            ("fd.name startswith allof (/etc, /etc/ssh)", true),
            ("fd.name contains anyof ()", false),
            ("fd.name contains allof ()", false),
            ("proc.name == anyof (vim, x)", true),
            ("proc.name != allof (vim, x)", false),
            ("proc.name != allof (y, x)", true),
            ("proc.name != anyof (vim, x)", true),
        ],
    );
}

#[test]
fn buffers() {
    let sample = Sample { kind: "sendto".into(), data: "\u{1}GET / HTTP".into(), ..socket() };
    check(
        &sample,
        &[
            ("evt.buffer bcontains 474554", true),
            ("evt.buffer bcontains 01474554", true),
            ("evt.buffer bstartswith 0147", true),
            ("evt.buffer bstartswith 47", false),
            ("evt.buffer contains GET and evt.buffer endswith HTTP", true),
            ("evt.buffer contains get", false),
            ("len(evt.buffer) = 11", true),
            ("evt.is_io_write = true and evt.io_dir = write", true),
        ],
    );
}

#[test]
fn numbers_and_ends_of_connections() {
    check(
        &socket(),
        &[
            ("fd.port = 443 and fd.port = 40000 and fd.port in (1, 443)", true),
            ("fd.port != 443", false),
            ("fd.port != 80", true),
            ("fd.port > 40000", false),
            ("fd.port >= 40000 and fd.port < 444", true),
            ("fd.proto = https", true),
            ("fd.sproto = https", true),
            ("fd.sport = https and fd.sport in (ssh, https)", true),
            ("fd.ip = 10.0.0.5 and fd.ip = \"1.2.3.4\"", true),
            ("fd.ip != 10.0.0.5", false),
            ("fd.ip != 10.0.0.6", true),
            ("fd.net = 10.0.0.0/8 and fd.net in (192.168.0.0/16, 1.2.3.0/24)", true),
            ("fd.net != 10.0.0.0/8", false),
            ("fd.net != 192.168.0.0/16", true),
            ("fd.snet in (9.0.0.0/8, 1.0.0.0/8)", true),
            ("fd.cnet = 10.0.0.0/8 and fd.cip = 10.0.0.5 and fd.sip = 1.2.3.4", true),
            ("fd.rip = 1.2.3.4 and fd.lip = 10.0.0.5 and fd.rport = 443 and fd.lport = 40000", true),
            // An address of the other family is another address.
            ("fd.sip = ::1", false),
            ("fd.sip != ::1", true),
            ("fd.snet != 2001:db8::/32", true),
            ("fd.connected = true and fd.is_server = false", true),
            ("fd.is_server in (false)", true),
            ("fd.typechar = 4 and fd.type = ipv4 and fd.l4proto = tcp and fd.sockfamily = ip", true),
            ("fd.name = \"10.0.0.5:40000->1.2.3.4:443\"", true),
            ("fd.sport = val(fd.rport) and fd.sport != val(fd.cport)", true),
            ("fd.directory exists or fd.filename exists", false),
        ],
    );
}

#[test]
fn ancestors() {
    check(
        &file(),
        &[
            ("proc.aname = sshd and proc.aname = systemd", true),
            ("proc.aname = vim", false),
            ("proc.aname[0] = vim and proc.aname[3] = systemd", true),
            ("proc.aname in (x, systemd)", true),
            ("proc.aname != sshd", true),
            ("not proc.aname = sshd", false),
            ("proc.aname startswith sys", true),
            ("proc.apid = 101", true),
            ("proc.pname = bash and proc.sname exists", false),
            ("proc.pcmdline startswith bash and proc.acmdline contains sshd", true),
            ("proc.aexepath = /usr/bin/sshd and proc.pexepath = /usr/bin/bash", true),
        ],
    );
}

#[test]
fn processes_and_containers() {
    check(
        &file(),
        &[
            ("proc.cmdline = \"vim -n two words -o\" and proc.args = \"-n two words -o\"", true),
            ("proc.args[1] = \"two words\"", true),
            ("proc.cmdnargs = 3 and proc.cmdlenargs = 13", true),
            ("proc.cwd = /root/", true),
            ("proc.env contains \"LANG=C\"", true),
            ("proc.vpid = 7 and user.uid = 1000 and user.loginuid = 1000", true),
            ("proc.duration >= 60000000000 and proc.duration < 61000000000", true),
            ("container.id = 0123456789ab and container.id != host", true),
            ("container.image.repository = registry.example/shop/api and container.image.tag = 9", true),
            ("container.image.repository endswith /api and container.privileged = false", true),
            ("container.mount.dest[0] = /host/proc and container.mount.source[/var/lib/data] = data", true),
            ("container.mounts contains \"/proc:/host/proc\"", true),
            ("evt.type = openat and evt.category = file and evt.dir = <", true),
            ("evt.res = SUCCESS and evt.rawres >= 0 and evt.failed = false", true),
            ("evt.arg.name = /etc/ssh/sshd_config and evt.arg[2] = /etc/ssh/sshd_config", true),
            ("fd.nameraw = ssh/../ssh/sshd_config", true),
            ("evt.arg.flags contains O_RDWR and evt.rawarg.flags > 0", true),
            ("evt.arg.newpath exists", false),
            ("evt.is_open_read = true and evt.is_open_write = true and evt.is_open_exec = false", true),
            ("evt.args contains \"name=\"", true),
        ],
    );
    let host = Sample { container: None, ret: Some(SampleArg::Name("EACCES".into())), ..file() };
    check(
        &host,
        &[
            ("container.id = host and container.name = host", true),
            ("container.image exists", false),
            ("evt.res = EACCES and evt.rawres < 0 and evt.failed = true", true),
            ("fd.num = -1", true),
        ],
    );
}

#[test]
fn transformers() {
    check(
        &file(),
        &[
            ("toupper(proc.name) = VIM and tolower(toupper(proc.name)) = vim", true),
            ("basename(fd.name) = sshd_config and basename(proc.name) = vim", true),
            ("len(proc.name) = 3 and len(fd.name) > val(fd.num)", true),
            ("b64(proc.name) exists", true),
            ("concat(proc.pname, \":\", proc.name) = bash:vim", true),
            ("join(\"-\", (proc.name, \"x\", proc.pname)) = vim-x-bash", true),
            ("getopt((\"-a\", \"-b\", \"v\", \"-cx\"), \"ab:c:\")[b] = v", true),
            ("getopt((\"-a\", \"-b\", \"v\", \"-cx\"), \"ab:c:\")[c] = x", true),
            ("getopt((\"-a\", \"-b1\", \"-b2\"), \"ab:\")[b] = 2", true),
            ("getopt((\"-a\", \"-b\"), \"ab:\")[b] exists", false),
            ("getopt((\"-q\"), \"ab\") intersects (\"?\")", true),
            ("getopt((\"x\", \"-a\"), \"a\")[a] exists", false),
            ("getopt((\"-a\", \"-b\"), \"ab\") in (a, b, c)", true),
            ("getopt((\"-a\", \"-b\"), \"ab\") in (a)", false),
            // All of no elements are in any list.
            ("getopt((\"x\"), \"ab\") in (a)", true),
            ("fd.name endswith basename(fd.name) and fd.name contains val(fd.filename)", true),
            ("proc.pname != val(proc.name) and proc.name in (x, vim)", true),
            ("proc.name < val(fd.name)", false),
        ],
    );
}

#[test]
fn hostile_texts_are_matched_as_they_are() {
    let process = SampleProcess { name: "\u{1b}[2J\u{202e}x".into(), ..SampleProcess::default() };
    let sample = Sample { path: "/tmp/\u{fffd}\n'\"".into(), proc: process, ..file() };
    check(
        &sample,
        &[
            (r#"proc.name startswith "\x1b[2J""#, true),
            (r#"fd.name endswith "\n'\"""#, true),
            ("fd.name regex '/tmp/(?s:.*)'", true),
            ("fd.name glob '/tmp/*'", true),
        ],
    );
}

#[test]
fn definitions_keep_their_place_and_rules_see_all_macros() {
    let one = |name: &str, condition: &str| rule(condition).replace("rule: R", &format!("rule: {name}"));
    let text = one("A", "later and fd.num = 4")
        + &one("B", "later")
        + "- macro: later\n  condition: evt.type = openat\n"
        + &one("A", "later and fd.num = 5");
    let loaded = rules(&text);
    let names: Vec<&str> = loaded.rules().iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["A", "B"], "a rule that is defined again stays where it was");
    assert_eq!(loaded.rules()[0].condition.as_str().trim(), "later and fd.num = 5");
}

#[test]
fn an_override_appends_before_it_replaces() {
    let text = rule("evt.type = openat")
        + "- rule: R\n  condition: and fd.num = 4\n  output: new\n  tags: [b]\n  priority: error\n  \
           override: {priority: replace, condition: append, output: replace, tags: append}\n";
    let loaded = rules(&text);
    let changed = &loaded.rules()[0];
    assert_eq!(changed.ast.to_string(), "evt.type = openat and fd.num = 4");
    assert_eq!(
        (changed.output.as_str(), changed.priority.name(), changed.tags.join(",")),
        ("new", "Error", "b".into())
    );
}

#[test]
fn priorities_are_read_in_any_case() {
    for (written, name) in [
        ("emergency", "Emergency"),
        ("ALERT", "Alert"),
        ("Critical", "Critical"),
        ("eRROR", "Error"),
        ("warning", "Warning"),
        ("NOTICE", "Notice"),
        ("info", "Informational"),
        ("INFORMATIONAL", "Informational"),
        ("debug", "Debug"),
    ] {
        let loaded = rules(&rule("evt.type = open").replace("INFO", written));
        assert_eq!(loaded.rules()[0].priority.name(), name);
    }
}

#[test]
fn measurements_are_matched_by_rules_that_ask_for_them() {
    let sample: Sample = serde_saphyr::from_str(
        "type: resource\nproc: {name: app}\ncontainer: {name: shop}\nresource: {cpu: 150, cpu_limit: 200, memory: 10}",
    )
    .unwrap();
    check(
        &sample,
        &[
            ("proc.name = app", false),
            ("evt.type != open", false),
            ("not evt.type in (open, execve)", false),
            ("container.name = shop and resource.cpu > 100", true),
            ("evt.type = resource", true),
            ("evt.type in (resource, open) and proc.name = app", true),
            ("resource.cpu.of_limit = 75 and resource.memory = 10", true),
            ("resource.memory.limit > 0", false),
            ("not resource.memory.limit exists", true),
            ("evt.arg.cpu = 150", false),
            ("evt.type = resource and evt.rawarg.cpu = 150", true),
        ],
    );
}
