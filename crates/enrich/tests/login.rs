//! Who is behind a process: sessions of SSH, sudo, programs brought into containers; and who must not be believed.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::IpAddr;

use bumpalo::Bump;
use tw_enrich::{Context, World};
use tw_model::login::{Login, Source};
use tw_model::process::UserNames;
use tw_model::raw::{
    AF_INET, Encoder, ExecBody, ExitBody, ForkBody, Header, SockBody, from_words, sock_attr, to_words,
};
use tw_model::{Container, EventKind, Process, Raw};

const ROOT: u32 = 0;
const ANNA: u32 = 1000;
const BOB: u32 = 1001;
const HOST: u64 = 1;
const WEB: u64 = 77;
const WEB_ID: &str = "3f2a91b0c6de3f2a91b0c6de3f2a91b0c6de3f2a91b0c6de3f2a91b0c6de0001";

/// A host that is told record by record.
struct Scene {
    world: World,
    now: u64,
}

/// An exec; what is left out is harmless.
#[derive(Clone, Copy)]
struct Exec<'a> {
    path: &'a str,
    args: &'a str,
    env: &'a str,
    uid: u32,
    mode: u32,
    tty: u32,
    cgroup: u64,
}

impl Default for Exec<'_> {
    fn default() -> Self {
        Self { path: "/bin/sh", args: "sh", env: "", uid: ROOT, mode: 0o755, tty: 0, cgroup: HOST }
    }
}

impl Scene {
    fn new() -> Self {
        let mut world = World::reliving(1000);
        for (uid, name) in [(ROOT, "root"), (ANNA, "anna"), (BOB, "bob")] {
            let names = UserNames { user: name.into(), ..UserNames::default() };
            world.relive(Context::Names { container: String::new(), uid, gid: 0, loginuid: u32::MAX, names });
        }
        let web = Container {
            id: WEB_ID.into(),
            runtime: "docker".into(),
            name: "web".into(),
            pid: 900,
            complete: true,
            ..Container::default()
        };
        world.relive(Context::Container { container: Box::new(web) });
        world.relive(Context::Place { cgroup: WEB, container: WEB_ID.into() });
        let mut scene = Self { world, now: 1_000_000_000 };
        scene.exec(1, Exec { path: "/sbin/init", args: "init", ..Exec::default() });
        scene
    }

    fn header(&mut self, kind: EventKind, pid: u32, uid: u32, cgroup: u64) -> Header {
        self.now += 1_000_000;
        let start = start_of(pid);
        Header { kind: kind as u16, pid, tid: pid, start, time: self.now, cgroup, uid, ..Header::default() }
    }

    fn feed(&mut self, bytes: &[u8]) {
        let scratch = Bump::new();
        let words = to_words(bytes);
        self.world.observe(Raw::parse(from_words(&words)).unwrap(), &scratch);
    }

    fn uid_of(&self, pid: u32) -> u32 {
        self.world.processes().by_pid(pid).map_or(ROOT, |process| process.cred.uid)
    }

    fn fork(&mut self, parent: u32, child: u32) {
        let cgroup = self.world.processes().by_pid(parent).map_or(HOST, |process| process.cgroup_id);
        let header = self.header(EventKind::Clone, parent, self.uid_of(parent), cgroup);
        let body = ForkBody {
            child_start: start_of(child),
            parent_start: start_of(parent),
            child_pid: child,
            parent_pid: parent,
            child_uid: self.uid_of(parent),
            ..ForkBody::default()
        };
        self.feed(&Encoder::new(&header, size_of::<ForkBody>()).finish(&body));
    }

    fn exec(&mut self, pid: u32, exec: Exec<'_>) {
        let header = self.header(EventKind::Execve, pid, exec.uid, exec.cgroup);
        let mut out = Encoder::new(&header, size_of::<ExecBody>());
        let nul = |text: &str| if text.is_empty() { Vec::new() } else { format!("{text}\0").replace(' ', "\0").into() };
        let body = ExecBody {
            exepath: out.text(exec.path.as_bytes()),
            args: out.text(&nul(exec.args)),
            // Words of a variable are joined by `_` here.
            env: out.text(
                &String::from_utf8(nul(exec.env)).unwrap().replace('_', " ").replace("SSH ", "SSH_").into_bytes(),
            ),
            loginuid: u32::MAX,
            mode: exec.mode,
            tty: exec.tty,
            vpid: pid,
            ..ExecBody::default()
        };
        self.feed(&out.finish(&body));
    }

    /// The parent forks a child that executes something.
    fn run(&mut self, parent: u32, child: u32, exec: Exec<'_>) {
        self.fork(parent, child);
        self.exec(child, exec);
    }

    fn end(&mut self, pid: u32) {
        let header = self.header(EventKind::Procexit, pid, self.uid_of(pid), HOST);
        self.feed(&Encoder::new(&header, size_of::<ExitBody>()).finish(&ExitBody::default()));
    }

    fn accept(&mut self, pid: u32, peer: [u8; 4]) {
        let header = self.header(EventKind::Accept, pid, ROOT, HOST);
        let mut body = SockBody { family: AF_INET, attrs: sock_attr::SERVER, rport: 40_000, ..SockBody::default() };
        body.raddr[..4].copy_from_slice(&peer);
        self.feed(&Encoder::new(&header, size_of::<SockBody>()).finish(&body));
    }

    fn process(&self, pid: u32) -> &Process {
        self.world.processes().by_pid(pid).unwrap()
    }

    fn login(&self, pid: u32) -> Option<Login> {
        self.process(pid).login.as_deref().cloned()
    }

    /// Somebody logs in over SSH: sshd 10 is there; `pid` becomes their shell.
    fn session(&mut self, pid: u32, uid: u32, peer: [u8; 4]) {
        if self.world.processes().by_pid(10).is_none() {
            self.run(1, 10, Exec { path: "/usr/sbin/sshd", args: "sshd -D", ..Exec::default() });
        }
        self.accept(10, peer);
        self.fork(10, pid + 500);
        // The next connection comes before this one is served.
        self.accept(10, [192, 0, 2, 99]);
        self.exec(
            pid + 500,
            Exec { path: "/usr/lib/openssh/sshd-session", args: "sshd-session -R", ..Exec::default() },
        );
        let helper = Exec { path: "/usr/local/bin/keys", args: "keys", ..Exec::default() };
        self.run(pid + 500, pid + 501, helper);
        assert_eq!(self.login(pid + 501), None, "a helper of sshd is nobody's yet");
        self.fork(pid + 500, pid);
        self.exec(
            pid,
            Exec {
                path: "/bin/bash",
                args: "bash",
                env: "SSH_CONNECTION=203.0.113.6_1_127.0.0.1_22",
                uid,
                ..Exec::default()
            },
        );
    }

    /// dockerd is there, started by hand from root's session.
    fn docker(&mut self) {
        self.session(50, ROOT, [10, 0, 0, 1]);
        self.run(50, 60, Exec { path: "/usr/sbin/dockerd", args: "dockerd", ..Exec::default() });
        self.run(
            60,
            61,
            Exec { path: "/usr/bin/containerd-shim-runc-v2", args: "containerd-shim-runc-v2", ..Exec::default() },
        );
    }

    /// The shim runs runc, whose child becomes the program in the container.
    fn enter(&mut self, runc: u32, errand: &str, args: &str) {
        self.run(61, runc, Exec { path: "/usr/sbin/runc", args: errand, ..Exec::default() });
        self.run(
            runc,
            runc + 1,
            Exec { path: "/memfd:runc_cloned:/proc/self/exe", args: "runc init", ..Exec::default() },
        );
        self.exec(runc + 1, Exec { path: "/bin/sh", args, cgroup: WEB, ..Exec::default() });
    }
}

fn start_of(pid: u32) -> u64 {
    u64::from(pid) * 10_000_000 + 7
}

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn a_session_is_its_users_from_where_sshd_took_the_connection() {
    let mut scene = Scene::new();
    scene.session(100, ANNA, [10, 0, 0, 7]);
    let anna = Login { source: Source::Ssh, user: "anna".into(), address: address("10.0.0.7"), ..Login::default() };
    assert_eq!(scene.login(100), Some(anna.clone()));
    // What a user says of herself later counts for nothing, and what she starts stays hers.
    scene.run(100, 101, Exec { args: "sh", env: "SSH_CONNECTION=198.51.100.1_1_1_1", uid: ANNA, ..Exec::default() });
    scene.run(101, 102, Exec { path: "/home/anna/sshd", args: "sshd", uid: ANNA, ..Exec::default() });
    scene.run(102, 103, Exec { env: "SSH_CONNECTION=198.51.100.1_1_1_1", uid: ANNA, ..Exec::default() });
    scene.end(101);
    assert_eq!([101, 102, 103].map(|pid| scene.login(pid)), [(); 3].map(|()| Some(anna.clone())));
    assert_eq!(scene.login(10), None);
}

#[test]
fn without_the_connection_the_first_program_of_a_session_tells_its_address() {
    let mut scene = Scene::new();
    scene.run(1, 10, Exec { path: "/usr/sbin/sshd", args: "sshd -D", ..Exec::default() });
    scene.run(10, 11, Exec { path: "/usr/sbin/sshd", args: "sshd -R", ..Exec::default() });
    scene.run(11, 12, Exec { env: "SSH_CONNECTION=2001:db8::7_5000_::1_22", uid: BOB, ..Exec::default() });
    let bob = scene.login(12).unwrap();
    assert_eq!((bob.user.as_str(), bob.address), ("bob", address("2001:db8::7")));
    // A container's sshd is believed what the kernel says, and no more.
    scene.fork(11, 13);
    scene.exec(13, Exec { env: "SSH_CONNECTION=10.0.0.9_1_1_1", cgroup: WEB, ..Exec::default() });
    assert_eq!(scene.login(13).and_then(|login| login.address), None);
}

#[test]
fn a_login_at_the_console_is_its_users() {
    let mut scene = Scene::new();
    scene.run(1, 10, Exec { path: "/bin/login", args: "login --", tty: 1025, ..Exec::default() });
    scene.run(10, 11, Exec { uid: BOB, tty: 1025, ..Exec::default() });
    let bob = scene.login(11).unwrap();
    assert_eq!((bob.source, bob.user.as_str()), (Source::Console, "bob"));
}

#[test]
fn sudo_does_not_hide_who_called_it() {
    let sudo = Exec { path: "/usr/bin/sudo", args: "sudo -i", mode: 0o104_755, ..Exec::default() };
    let mut scene = Scene::new();
    scene.session(100, ANNA, [10, 0, 0, 7]);
    scene.fork(100, 101);
    scene.exec(101, sudo);
    scene.run(101, 102, Exec::default());
    let root = scene.login(102).unwrap();
    assert_eq!((root.source, root.user.as_str(), root.sudo_user.as_str()), (Source::Ssh, "anna", "anna"));
    assert_eq!(root.words(), "anna over ssh from 10.0.0.7, sudo");
    // Where nobody was seen to log in, its caller is all that is known; root needs no sudo to be root.
    scene.run(1, 200, Exec { uid: BOB, ..Exec::default() });
    scene.fork(200, 201);
    scene.exec(201, sudo);
    let bob = scene.login(201).unwrap();
    assert_eq!((bob.source, bob.user.as_str(), bob.sudo_user.as_str()), (Source::Sudo, "bob", "bob"));
    scene.run(1, 300, sudo);
    assert_eq!(scene.login(300), None);
    // A program of that name without the right is none.
    scene.fork(200, 202);
    scene.exec(202, Exec { mode: 0o755, uid: BOB, ..sudo });
    assert_eq!(scene.login(202), None);
}

#[test]
fn docker_exec_is_its_callers() {
    let mut scene = Scene::new();
    scene.docker();
    scene.session(100, ANNA, [10, 0, 0, 7]);
    scene.session(110, BOB, [10, 0, 0, 8]);
    // Others of Bob's do something else at the same time.
    for (pid, args) in [(111, "docker exec -it db sh -c id"), (112, "docker exec web ls"), (113, "docker logs web")] {
        scene.run(110, pid, Exec { path: "/usr/bin/docker", args, uid: BOB, ..Exec::default() });
    }
    scene.run(
        100,
        101,
        Exec { path: "/usr/bin/docker", args: "docker exec -u root web sh -c id", uid: ANNA, ..Exec::default() },
    );
    scene.enter(70, "runc --root /r exec --process /tmp/p --detach --pid-file /x/moby/3f2a/8c1d.pid 3f2a", "sh -c id");
    scene.run(71, 72, Exec { path: "/usr/bin/id", args: "id", cgroup: WEB, ..Exec::default() });
    for pid in [71, 72] {
        let login = scene.login(pid).unwrap();
        assert_eq!((login.source, login.user.as_str(), login.address), (Source::Ssh, "anna", address("10.0.0.7")));
        let exec = login.exec.clone().unwrap();
        assert_eq!((exec.id.as_str(), exec.command.as_str()), ("8c1d", "sh -c id"));
        assert_eq!(exec.client, "docker exec -u root web sh -c id");
        assert_eq!(login.words(), "anna over ssh from 10.0.0.7, docker exec");
    }
    // One that calls itself a runtime from inside does not come in anew.
    scene.run(
        72,
        73,
        Exec { path: "/tmp/runc", args: "runc exec --pid-file /x/ff.pid web sh", cgroup: WEB, ..Exec::default() },
    );
    scene.run(73, 74, Exec { cgroup: WEB, ..Exec::default() });
    assert_eq!(scene.login(74), scene.login(71));
}

#[test]
fn who_cannot_be_told_apart_is_not_named() {
    let mut scene = Scene::new();
    scene.docker();
    scene.session(100, ANNA, [10, 0, 0, 7]);
    scene.session(110, BOB, [10, 0, 0, 8]);
    let ask = |uid| Exec { path: "/usr/bin/docker", args: "docker exec web id", uid, ..Exec::default() };
    scene.run(100, 101, ask(ANNA));
    scene.run(110, 111, ask(BOB));
    scene.enter(70, "runc exec --pid-file /x/a.pid web", "id");
    let login = scene.login(71).unwrap();
    assert_eq!((login.user.as_str(), login.words().as_str()), ("", "exec into the container, caller not seen"));
    // One of them ended: it was the other.
    scene.end(101);
    scene.enter(80, "runc exec --pid-file /x/b.pid web", "id");
    assert_eq!(scene.login(81).unwrap().user, "bob");
    // Nobody asks any more: the health check of the engine itself, or somebody who is not on this host.
    scene.end(111);
    scene.now += 3_000_000_000;
    scene.enter(90, "runc exec --pid-file /x/c.pid web", "id");
    let login = scene.login(91).unwrap();
    assert_eq!((login.user.as_str(), login.exec.unwrap().id.as_str()), ("", "c"));
}

#[test]
fn a_container_is_not_its_daemons_starters() {
    let mut scene = Scene::new();
    scene.docker();
    assert_eq!(scene.login(61).unwrap().user, "root", "the daemon is");
    scene.enter(70, "runc create --bundle /b --pid-file /x/init.pid web", "nginx");
    assert_eq!(scene.login(71), None);
    assert!(scene.process(71).entered);
    // Whoever runs it without a daemon did.
    scene.session(100, ANNA, [10, 0, 0, 7]);
    scene.run(100, 101, Exec { path: "/usr/sbin/runc", args: "runc exec web sh", uid: ANNA, ..Exec::default() });
    scene.fork(101, 102);
    scene.exec(102, Exec { cgroup: WEB, ..Exec::default() });
    let login = scene.login(102).unwrap();
    assert_eq!((login.user.as_str(), login.exec.is_some()), ("anna", true));
}

#[test]
fn an_exec_whose_runtime_was_not_seen_is_one_all_the_same() {
    let mut scene = Scene::new();
    scene.run(1, 70, Exec { path: "/bin/app", args: "app", ..Exec::default() });
    scene.exec(70, Exec { args: "sh", cgroup: WEB, ..Exec::default() });
    assert!(scene.login(70).unwrap().exec.is_some());
    // Number 900 is the container's first process.
    scene.run(1, 900, Exec { args: "nginx", cgroup: WEB, ..Exec::default() });
    assert_eq!(scene.login(900), None);
}

#[test]
fn a_recording_that_begins_later_knows_the_same() {
    let mut scene = Scene::new();
    scene.docker();
    scene.session(100, ANNA, [10, 0, 0, 7]);
    scene.run(100, 101, Exec { path: "/usr/bin/docker", args: "docker exec web id", uid: ANNA, ..Exec::default() });
    scene.end(101);
    let mut later = Scene { world: World::reliving(1000), now: scene.now };
    let mut told = Vec::new();
    scene.world.checkpoint(&mut |context| told.push(serde_json::to_string(&context).unwrap()));
    for context in told {
        later.world.relive(serde_json::from_str(&context).unwrap());
    }
    for scene in [&mut scene, &mut later] {
        scene.enter(70, "runc exec --pid-file /x/a.pid web", "id");
        scene.run(10, 11, Exec { path: "/usr/sbin/sshd", args: "sshd -R", ..Exec::default() });
    }
    assert_eq!(scene.login(71).unwrap().user, "anna");
    assert_eq!(later.login(71), scene.login(71));
    assert_eq!(later.process(11).door, scene.process(11).door);
}
