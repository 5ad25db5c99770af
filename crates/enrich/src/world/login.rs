//! Who is behind a process. All of it follows from records and from what is known of processes, so that a replay comes to
//! the same.
//!
//! A session begins where a server of SSH, or a login at a terminal, executes something else; what it starts descends from
//! it. `sudo` and its like hide who called them from what they start, so that is noted when they are executed. A program
//! that is brought into a running container descends from the runtime's daemon: whose it is tells the client that asked
//! for it, by its command line.
//!
//! **Never:** the word of a program that its user may have written: variables of the environment count only as sshd itself
//! gave them to the first program of a session, and where its connection was not seen.

use std::net::IpAddr;
use std::sync::Arc;

use tw_model::login::{ContainerExec, Door, Login, Source};
use tw_model::process::{Image, UserNames};
use tw_model::raw::{Body, sock_attr};
use tw_model::{Container, ProcKey, Process, Raw};

use super::{SETUID, World};
use crate::bounded;
use crate::launch::{Errand, errand};

/// How long after its end a client may still be the one that asked: `docker exec -d` ends at once.
const JUST_ENDED_NS: u64 = 2_000_000_000;
/// Most bytes kept of a command and of a client's command line.
const MAX_COMMAND: usize = 512;

/// Clients that have a command `exec`, and others that run them for people.
const CLIENTS: [&[u8]; 6] = [b"docker", b"podman", b"nerdctl", b"crictl", b"ctr", b"docker-compose"];

/// What is known of a process after an exec.
pub(super) struct Entered {
    pub login: Option<Arc<Login>>,
    pub door: Option<Door>,
    pub entered: bool,
}

/// A process that executes something, before and after.
struct Step<'a> {
    before: &'a Process,
    image: &'a Image,
    names: &'a UserNames,
    uid: u32,
    tty: u32,
    vpid: u32,
    container: Option<&'a Container>,
    at_ns: u64,
}

impl World {
    /// Who is behind a process that executes `image` and has these names then.
    pub(super) fn login_after(&self, raw: &Raw<'_>, image: &Image, names: Option<&UserNames>) -> Option<Entered> {
        let before = self.processes.get(raw.key())?;
        let body = raw.exec()?;
        let names = names.unwrap_or(&before.names);
        let container = self.membership.container(raw.header.cgroup);
        let (uid, tty, vpid, at_ns) = (raw.header.uid, body.tty, body.vpid, raw.header.time);
        Some(self.after(&Step { before, image, names, uid, tty, vpid, container, at_ns }))
    }

    /// The same of processes that were there before us, parents first.
    pub(super) fn seed_logins(&mut self, keys: &[ProcKey]) {
        for key in keys {
            let Some(process) = self.processes.get(*key) else { continue };
            let container = self.membership.container(process.cgroup_id);
            // It was forked by its parent and has executed what it is since.
            let parent = self.processes.ancestors(process).next();
            let before = match parent {
                Some(parent) => Process { key: *key, parent: process.parent, ..parent.clone() },
                None => Process { entered: container.is_some(), ..Process::default() },
            };
            let found = self.after(&Step {
                before: &before,
                image: &process.image,
                names: &process.names,
                uid: process.cred.uid,
                tty: process.tty,
                vpid: process.vpid,
                container,
                at_ns: u64::MAX,
            });
            if let Some(process) = self.processes.get_mut(*key) {
                (process.login, process.door, process.entered) = (found.login, found.door, found.entered);
            }
        }
    }

    /// A server of SSH took a connection.
    pub(super) fn accepted(&mut self, raw: &Raw<'_>) {
        let Body::Sock(body) = raw.body else { return };
        let is_door = |process: &Process| matches!(process.door, Some(Door::Ssh { .. }));
        if raw.header.ret < 0
            || body.attrs & sock_attr::FILE != 0
            || !self.processes.get(raw.key()).is_some_and(is_door)
        {
            return;
        }
        if let Some(peer) = body.remote()
            && let Some(process) = self.processes.get_mut(raw.key())
        {
            process.door = Some(Door::Ssh { peer: Some(peer.to_canonical()) });
        }
    }

    fn after(&self, step: &Step<'_>) -> Entered {
        let before = step.before;
        let mut login = before.login.clone();
        let mut entered = before.entered;
        if let Some(container) = step.container.filter(|_| !entered) {
            entered = true;
            login = self.login_of_entry(step, container);
        }
        let name = basename(&step.image.exepath);
        let mut door = door(name, step.uid);
        if let (Some(Door::Ssh { .. }), Some(Door::Ssh { .. })) = (door, before.door) {
            door = before.door; // sshd executes itself for each connection
        }
        if door.is_none() && before.door.is_some() && name == basename(&before.image.exepath) {
            door = before.door; // a process of it that gave up its rights
        }
        if door.is_none() {
            // sshd starts helpers too, before anybody is logged in: only a session is told of its connection.
            let told = step.image.env().find_map(|variable| variable.strip_prefix(b"SSH_CONNECTION="));
            match (before.door, told) {
                (Some(Door::Ssh { peer }), Some(told)) => {
                    let told = || step.container.is_none().then(|| first_address(told)).flatten();
                    login = Some(Arc::new(session(step, Source::Ssh, peer.or_else(told))));
                }
                (Some(Door::Console), _) if step.tty != 0 => {
                    login = Some(Arc::new(session(step, Source::Console, None)));
                }
                _ => {}
            }
        }
        if is_switch(name) && step.image.file.mode & SETUID != 0 && before.cred.uid != 0 {
            let caller = name_of(&before.names, before.cred.uid);
            let mut known = login.map_or_else(
                || Login { source: Source::Sudo, user: person(&before.names, before.cred.uid), ..Login::default() },
                Arc::unwrap_or_clone,
            );
            known.sudo_user = caller;
            login = Some(Arc::new(known));
        }
        Entered { login, door, entered }
    }

    /// Who is behind a process that came into a container, by its start or by an exec.
    fn login_of_entry(&self, step: &Step<'_>, container: &Container) -> Option<Arc<Login>> {
        let outside = || self.processes.ancestors(step.before);
        let found = outside().take(4).find_map(|process| errand(&process.image.exepath, &process.image.argv));
        let id = match found {
            Some(Errand::Exec { id }) => Some(id),
            Some(Errand::Start) => None,
            // The runtime was not seen: the first process of a container has number 1 there, or is known by its number.
            None => {
                let first = step.vpid == 1 || container.pid == 0 || container.pid == step.before.key.pid;
                (!first).then(String::new)
            }
        };
        // What descends from a daemon is not the daemon's starter's.
        let by_daemon = outside().any(|process| is_daemon(basename(&process.image.exepath)));
        let inherited = step.before.login.clone().filter(|_| !by_daemon);
        let Some(id) = id else { return inherited };
        let argv: Vec<&[u8]> = step.image.argv().collect();
        let client = outside().find(|process| asks(process, container, &argv));
        let client = client.or_else(|| self.client(container, &argv, step.at_ns));
        let command = shortened(&argv.join(&b' '));
        let mut login = match client {
            Some(client) => {
                let mut login = client.login.as_deref().cloned().unwrap_or_default();
                // Users of another container are nobody's here.
                if login.user.is_empty() && self.membership.container(client.cgroup_id).is_none() {
                    login.user = person(&client.names, client.cred.uid);
                }
                login
            }
            None => inherited.map(Arc::unwrap_or_clone).unwrap_or_default(),
        };
        let client = client.map(|client| shortened(&client.image.argv().collect::<Vec<_>>().join(&b' ')));
        login.exec = Some(ContainerExec { id, command, client: client.unwrap_or_default() });
        Some(Arc::new(login))
    }

    /// The client that asked for this command in the container. Nobody, if it could have been one of several people: who is
    /// named must have been it.
    fn client(&self, container: &Container, argv: &[&[u8]], at_ns: u64) -> Option<&Process> {
        let since = at_ns.saturating_sub(JUST_ENDED_NS);
        let around = |process: &&Process| process.exit_ns.is_none_or(|exit_ns| exit_ns >= since);
        let mut asking: Vec<&Process> =
            self.processes.iter().filter(around).filter(|process| asks(process, container, argv)).collect();
        if asking.iter().any(|process| process.exit_ns.is_none()) {
            asking.retain(|process| process.exit_ns.is_none());
        }
        let first = *asking.iter().max_by_key(|process| process.key)?;
        let same = |process: &&Process| process.login == first.login && process.cred.uid == first.cred.uid;
        asking.iter().all(same).then_some(first)
    }
}

/// Whether this is a client whose command line asks for `argv` in the container.
fn asks(process: &Process, container: &Container, argv: &[&[u8]]) -> bool {
    if !CLIENTS.contains(&basename(&process.image.exepath)) {
        return false;
    }
    let words: Vec<&[u8]> = process.image.argv().collect();
    let Some(exec) = words.iter().position(|word| *word == b"exec") else { return false };
    let names_it = |word: &[u8]| {
        let Ok(word) = std::str::from_utf8(word) else { return false };
        let service = container.labels.get("com.docker.compose.service").is_some_and(|service| service == word);
        word == container.name || word.len() >= 2 && container.id.starts_with(word) || service
    };
    let behind = &words[exec + 1..];
    behind.iter().enumerate().any(|(at, word)| {
        let command = &behind[at + 1..];
        names_it(word) && !command.is_empty() && (process.image.argv_truncated || is_command(command, argv))
    })
}

/// Whether `argv` is what came of this command: the same, or a script behind its interpreter.
fn is_command(command: &[&[u8]], argv: &[&[u8]]) -> bool {
    let script = || {
        let at = argv.len().checked_sub(command.len())?;
        let same_name = basename(argv[at]) == basename(command[0]);
        Some(at > 0 && same_name && argv[at + 1..] == command[1..])
    };
    argv == command || script().unwrap_or(false)
}

/// The session that begins with this step.
fn session(step: &Step<'_>, source: Source, address: Option<IpAddr>) -> Login {
    // The audit login user is one of the host, whose name the users of a container do not tell.
    let user = if step.container.is_none() { person(step.names, step.uid) } else { name_of(step.names, step.uid) };
    Login { source, user, address, ..Login::default() }
}

/// Who it is: the audit login user, which nobody can change who has not the right to; else the user.
fn person(names: &UserNames, uid: u32) -> String {
    if names.login.is_empty() { name_of(names, uid) } else { names.login.to_string() }
}

fn name_of(names: &UserNames, uid: u32) -> String {
    if names.user.is_empty() { uid.to_string() } else { names.user.to_string() }
}

/// The first of `address port address port`.
fn first_address(told: &[u8]) -> Option<IpAddr> {
    let address = std::str::from_utf8(told).ok()?.split(' ').next()?;
    address.split('%').next()?.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// Whether sessions begin below this program, which root runs.
fn door(name: &[u8], uid: u32) -> Option<Door> {
    match name {
        b"sshd" | b"sshd-session" | b"dropbear" if uid == 0 => Some(Door::Ssh { peer: None }),
        b"login" if uid == 0 => Some(Door::Console),
        _ => None,
    }
}

/// Programs that run others as another user.
fn is_switch(name: &[u8]) -> bool {
    matches!(name, b"sudo" | b"su" | b"doas" | b"pkexec")
}

/// Daemons that start containers, and what stands between them and the runtime.
fn is_daemon(name: &[u8]) -> bool {
    name.starts_with(b"containerd-shim") || matches!(name, b"dockerd" | b"containerd" | b"crio" | b"kubelet")
}

fn basename(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

fn shortened(text: &[u8]) -> String {
    bounded::cut(String::from_utf8_lossy(&text[..text.len().min(MAX_COMMAND)]).into_owned(), MAX_COMMAND)
}
