//! The engine finds what the plain evaluation finds.

use std::fmt::Write as _;

use bumpalo::Bump;
use proptest::prelude::*;
use tw_model::container::Container;
use tw_model::process::Image;
use tw_model::raw::{Encoder, ExecBody, FileBody, Header, Raw, SockBody, from_words, sock_attr, to_words};
use tw_model::{Event, EventKind, Names, ProcKey, Process, ProcessTable};

use super::*;
use crate::Loader;

/// Comparisons of every kind, over the few values below, so that they hold now and then.
const CHECKS: &[&str] = &[
    "evt.type = openat",
    "evt.type in (connect, execve)",
    "evt.type != openat",
    "evt.rawres >= 0",
    "evt.rawres in (-2, 3)",
    "evt.rawres = 3",
    "evt.res = SUCCESS",
    "evt.res != SUCCESS",
    "evt.is_open_write = true",
    "evt.is_open_write = false",
    "evt.arg.flags contains O_CREAT",
    "evt.arg.name startswith /etc",
    "fd.name = /etc/passwd",
    "fd.name != /etc/passwd",
    "fd.name exists",
    "fd.name in (/etc/passwd, /etc/shadow, /tmp/x)",
    "fd.name startswith /etc",
    "fd.name startswith /",
    "fd.name startswith /etc/ssh/",
    "fd.name endswith .conf",
    "fd.name endswith wd",
    "fd.name contains ss",
    "fd.name contains etc",
    "fd.name contains /tmp",
    "fd.name contains h",
    "fd.name contains hadow",
    "fd.name icontains SHADOW",
    "fd.name glob /etc/*",
    "fd.name glob */*s*d",
    "fd.name glob '*[a-z]'",
    "fd.name glob '/[et]*/x'",
    "fd.name glob *\\x",
    "fd.name iglob *SHADOW",
    "fs.path.name startswith /etc/s",
    "proc.exepath glob /usr/*/sh",
    "fd.name regex '/[a-z]+/x'",
    "fd.name pmatch (/etc, /tmp)",
    "fd.name pmatch (/etc/ssh, /tm)",
    "fd.name pmatch (/)",
    "fd.name pmatch (/e*/ssh)",
    "fd.directory pmatch (/etc/)",
    "proc.exepath pmatch (/usr/bin)",
    "fd.name contains allof (etc, ss)",
    "proc.aname startswith anyof (in, cr)",
    "proc.aname contains allof (n, i)",
    "fd.name startswith anyof (/tmp, /etc/ssh)",
    "fd.name = oneof (/tmp/x, /etc/passwd)",
    "fd.name != allof (/tmp/x, /etc/passwd)",
    "fd.directory = /etc",
    "fd.filename in (x, passwd)",
    "fd.typechar = f",
    "fd.typechar in (4, 6)",
    "fd.num >= 0",
    "fd.nameraw contains ss",
    "fd.name icontains allof (S, H)",
    "fd.name icontains anyof (ETC, X, WD, SSH)",
    "proc.args icontains anyof (X, Y, Z, C)",
    "fd.name = val(proc.exepath)",
    "proc.exepath = val(fd.name)",
    "proc.pname = val(proc.name)",
    "tolower(proc.name) = sh",
    "basename(fd.name) = x",
    "len(fd.name) > 6",
    "fd.sport = 443",
    "fd.sport != 443",
    "fd.sport in (80, 443)",
    "fd.port = 80",
    "fd.port != 80",
    "fd.sip = 10.0.0.1",
    "fd.sip in (10.0.0.1, 10.0.0.2)",
    "fd.snet in (10.0.0.0/8)",
    "fd.net != 10.0.0.0/8",
    "fd.ip = 10.0.0.2",
    "fd.l4proto = tcp",
    "proc.name = sh",
    "proc.name in (sh, nginx)",
    "proc.name != nginx",
    "proc.name startswith n",
    "proc.pname exists",
    "proc.pname = nginx",
    "proc.pname in (sh, init)",
    "proc.aname = init",
    "proc.aname in (nginx, cron)",
    "proc.aname != nginx",
    "proc.aname[2] = init",
    "proc.aname[2] != init",
    "proc.cmdline contains -c",
    "proc.cmdline contains anyof (-c, nginx, sh, zzz)",
    "proc.args startswith -c",
    "basename(proc.exepath) = nginx",
    "proc.exepath in (/usr/bin/sh, /tmp/x)",
    "proc.exepath startswith /usr",
    "proc.args endswith x",
    "proc.tty != 0",
    "proc.vpid = 1",
    "proc.duration > 100",
    "proc.sname = init",
    "user.uid = 0",
    "container.id = host",
    "container.id != host",
    "container.name = web",
    "container.privileged = true",
    "container.image.repository in (nginx, redis)",
    "thread.ismain = true",
];

fn condition() -> impl Strategy<Value = String> {
    let check = proptest::sample::select(CHECKS).prop_map(str::to_owned);
    check.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            4 => proptest::collection::vec(inner.clone(), 2..5).prop_map(|terms| format!("({})", terms.join(" and "))),
            2 => proptest::collection::vec(inner.clone(), 2..4).prop_map(|terms| format!("({})", terms.join(" or "))),
            2 => inner.prop_map(|term| format!("not ({term})")),
        ]
    })
}

const COMMS: [&str; 4] = ["sh", "nginx", "cron", "init"];
const PATHS: [&str; 11] = [
    "/etc/passwd",
    "/etc/shadow",
    "/tmp/x",
    "/etc/ssh/sshd.conf",
    "/usr/bin/sh",
    "",
    "/",
    "/opt/Shadow",
    "//etc//ssh/",
    "etc/passwd",
    "/etcetera",
];
const IMAGES: [&str; 4] = ["/usr/bin/sh -c x", "/usr/sbin/nginx", "/tmp/x", "sh"];

/// Something that happens to a process.
#[derive(Clone, Debug)]
enum Step {
    Open { path: usize, flags: u32, ret: i64 },
    Connect { host: u8, port: u16 },
    Exec { comm: usize, image: usize },
    Fork { child: u32 },
    User { uid: u32, tty: u32 },
    Exit,
    Contain { name: usize, privileged: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..PATHS.len(), prop_oneof![Just(0_u32), Just(1), Just(0o101)], prop_oneof![Just(3_i64), Just(-2)])
            .prop_map(|(path, flags, ret)| Step::Open { path, flags, ret }),
        3 => (1_u8..4, prop_oneof![Just(80_u16), Just(443), Just(22)]).prop_map(|(host, port)| Step::Connect { host, port }),
        3 => (0..COMMS.len(), 0..IMAGES.len()).prop_map(|(comm, image)| Step::Exec { comm, image }),
        2 => (1_u32..6).prop_map(|child| Step::Fork { child }),
        1 => (0_u32..2, 0_u32..2).prop_map(|(uid, tty)| Step::User { uid, tty }),
        1 => Just(Step::Exit),
        1 => (0..3_usize, any::<bool>()).prop_map(|(name, privileged)| Step::Contain { name, privileged }),
    ]
}

/// A small world, kept as the real one keeps its own.
struct World {
    table: ProcessTable,
    keys: [ProcKey; 6],
    container: Option<Container>,
    context: u64,
    time: u64,
}

impl World {
    fn new() -> Self {
        // Small enough that processes are forgotten.
        let mut table = ProcessTable::new(7);
        let keys = [0, 1, 2, 3, 4, 5].map(|pid| ProcKey { start_ns: 5, pid: pid + 1 });
        table.insert(Process { key: keys[0], comm: b"init"[..].into(), sid: 1, vpid: 1, ..Process::default() });
        Self { table, keys, container: None, context: 0, time: 10 }
    }

    /// What the step makes of the world, and its record.
    fn take(&mut self, who: usize, thread: bool, step: &Step) -> Vec<u64> {
        self.time += 40;
        let key = self.keys[who];
        if self.table.get(key).is_none() {
            self.table.insert(Process { key, comm: b"late"[..].into(), sid: 1, ..Process::default() });
        }
        let comm = self.table.get(key).map(|process| process.comm.clone()).unwrap_or_default();
        let mut header = Header {
            kind: EventKind::Openat as u16,
            time: self.time,
            start: key.start_ns,
            pid: key.pid,
            tid: key.pid + if thread { 1000 } else { 0 },
            ..Header::default()
        };
        header.comm[..comm.len()].copy_from_slice(&comm);
        if thread {
            header.comm[0] = b'n';
        }
        match step {
            Step::Open { path, flags, ret } => {
                header.ret = *ret;
                let mut out = Encoder::new(&header, size_of::<FileBody>());
                let raw = out.text(PATHS[*path].as_bytes());
                // What failed has no resolved path.
                let path = if *ret < 0 { tw_model::raw::Str::default() } else { raw };
                to_words(&out.finish(&FileBody { path, raw, flags: *flags, ..FileBody::default() }))
            }
            Step::Connect { host, port } => {
                header.kind = EventKind::Connect as u16;
                let mut body = SockBody { family: 2, proto: 6, type_: 1, rport: *port, ..SockBody::default() };
                body.attrs = sock_attr::CLIENT;
                body.raddr[..4].copy_from_slice(&[if *host == 3 { 11 } else { 10 }, 0, 0, *host]);
                to_words(&Encoder::new(&header, size_of::<SockBody>()).finish(&body))
            }
            Step::Exec { comm, image } => {
                if let Some(process) = self.table.get_mut(key) {
                    process.comm = COMMS[*comm].as_bytes().into();
                    let argv: Vec<u8> = IMAGES[*image].bytes().map(|b| if b == b' ' { 0 } else { b }).collect();
                    let exepath = IMAGES[*image].split(' ').next().unwrap_or_default().as_bytes().into();
                    process.image = Arc::new(Image { exepath, ..Image::from_argv(&argv) });
                    process.rebuild_cmdline();
                }
                header.kind = EventKind::Execve as u16;
                header.comm = [0; 16];
                header.comm[..COMMS[*comm].len()].copy_from_slice(COMMS[*comm].as_bytes());
                to_words(&Encoder::new(&header, size_of::<ExecBody>()).finish(&ExecBody::default()))
            }
            Step::Fork { child } => {
                let number = *child as usize;
                if number != who
                    && let Some(parent) = self.table.get(key)
                {
                    // The number is used again, by another process.
                    self.keys[number].start_ns = self.time;
                    let child = Process { key: self.keys[number], parent: Some(key), vpid: *child, ..parent.clone() };
                    self.table.insert_forked(child);
                }
                self.take(*child as usize, false, &Step::Connect { host: 1, port: 22 })
            }
            Step::User { uid, tty } => {
                if let Some(process) = self.table.get_mut(key) {
                    process.cred.uid = *uid;
                    process.tty = *tty;
                }
                self.take(who, thread, &Step::Open { path: 0, flags: 0, ret: 3 })
            }
            Step::Exit => {
                self.table.end(key, self.time);
                self.take(who, thread, &Step::Open { path: 2, flags: 1, ret: 3 })
            }
            Step::Contain { name, privileged } => {
                self.context += 1;
                self.container = (*name > 0).then(|| Container {
                    id: "c".repeat(64),
                    name: ["", "web", "db"][*name].into(),
                    repository: ["", "nginx", "redis"][*name].into(),
                    privileged: *privileged,
                    complete: true,
                    ..Container::default()
                });
                self.take(who, thread, &Step::Open { path: 1, flags: 1, ret: 3 })
            }
        }
    }
}

fn rules(conditions: &[String], matching: Matching) -> RuleSet {
    let mut yaml = String::new();
    for (number, condition) in conditions.iter().enumerate() {
        let condition = condition.replace('\'', "''");
        let _ = writeln!(
            yaml,
            "- rule: R{number}\n  desc: d\n  priority: INFO\n  output: o\n  warn_evttypes: false\n  condition: '{condition}'"
        );
    }
    let (mut set, diagnostics) = Loader::new().add_file("t.yaml", yaml).finish();
    assert!(!diagnostics.iter().any(crate::Diagnostic::is_error), "{diagnostics:?}");
    set.set_matching(matching);
    set
}

/// Runs the steps; returns how many hits there were.
fn both_find_the_same(set: &RuleSet, steps: &[(usize, bool, Step)]) -> Result<usize, TestCaseError> {
    let mut engine = Engine::new(set);
    let mut world = World::new();
    let mut scratch = Bump::new();
    let mut hits = 0;
    for (number, (who, thread, step)) in steps.iter().enumerate() {
        let words = world.take(*who, *thread, step);
        let raw = Raw::parse(from_words(&words)).unwrap();
        let event = Event {
            raw,
            num: number as u64 + 1,
            wall_ns: 1_000_000 + world.time,
            process: world.table.get(raw.key()).unwrap(),
            processes: &world.table,
            container: world.container.as_ref(),
            unit: None,
            context: world.context,
            coverage: None,
            prior: tw_model::event::Prior::default(),
            names: Names::default(),
            scratch: &scratch,
        };
        let (mut plain, mut found) = (Vec::new(), Vec::new());
        set.inspect(&event, &mut |rule| plain.push(rule.name.clone()));
        engine.inspect(set, &event, &mut |rule| found.push(rule.name.clone()));
        prop_assert_eq!(&found, &plain, "step {}: {:?}", number, step);
        hits += found.len();
        scratch.reset();
    }
    Ok(hits)
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn the_engine_finds_what_the_plain_evaluation_finds(
        conditions in proptest::collection::vec(condition(), 1..40),
        first in any::<bool>(),
        steps in proptest::collection::vec((0..6_usize, proptest::bool::weighted(0.2), step()), 1..60),
    ) {
        let set = rules(&conditions, if first { Matching::First } else { Matching::All });
        both_find_the_same(&set, &steps)?;
    }
}

#[test]
fn every_comparison_holds_at_some_step_and_fails_at_another() {
    let mut steps: Vec<(usize, bool, Step)> = Vec::new();
    // Each forks the next.
    steps.extend((1..6).map(|child| (child as usize - 1, false, Step::Fork { child })));
    let mut things = Vec::new();
    for path in 0..PATHS.len() {
        things.extend([(0, 3), (0o101, 3), (1, -2)].map(|(flags, ret)| Step::Open { path, flags, ret }));
    }
    for host in 1..4 {
        things.extend([80, 443, 22].map(|port| Step::Connect { host, port }));
    }
    things.extend([Step::User { uid: 1, tty: 1 }, Step::Contain { name: 1, privileged: true }]);
    for comm in 0..COMMS.len() {
        let execs = (0..6).map(|who| (who, false, Step::Exec { comm: (comm + who) % COMMS.len(), image: comm }));
        steps.extend(execs);
        for who in 0..6 {
            steps.extend(things.iter().map(|step| (who, comm == 2, step.clone())));
        }
    }
    for check in CHECKS {
        let set = rules(&[(*check).to_owned()], Matching::All);
        let hits = both_find_the_same(&set, &steps).unwrap();
        assert!(hits > 0 && hits < steps.len(), "{check}: {hits} of {}", steps.len());
    }
}

#[test]
fn equal_comparisons_are_one() {
    let one = rules(&["fd.name startswith /a and proc.name = x".into()], Matching::All);
    let many: Vec<String> =
        (0..200).map(|number| format!("fd.name startswith /a and proc.name = x and evt.num > {number}")).collect();
    let bits = |set: &RuleSet| {
        let mut draft = Draft::default();
        set.rules().iter().for_each(|rule| drop(draft.condition(&rule.node)));
        draft.groups.iter().filter(|group| group.extract.is_wide() || group.lasting).map(|g| g.members.len()).sum()
    };
    let counts: [usize; 2] = [bits(&one), bits(&rules(&many, Matching::All))];
    assert_eq!(counts, [2, 2]);
}
