//! Events lived again from records and notes are those that were seen live.

#![allow(clippy::unwrap_used, reason = "a test")]

use bumpalo::Bump;
use tw_enrich::{Context, World, WorldOptions};
use tw_model::process::Image;
use tw_model::raw::{
    CallBody, Encoder, ExecBody, ExitBody, FileBody, ForkBody, Header, SockBody, from_words, sock_attr, to_words,
};
use tw_model::{Container, Event, EventKind, FieldRef, ProcKey, Process, Raw};

const TICK: u64 = 10_000_000;
const SECOND: u64 = 1_000_000_000;
const WEB: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// A start of 7 ns past a tick: exact, as the kernel tells it.
fn start(pid: u32) -> u64 {
    u64::from(pid) * TICK + 7
}

fn key(pid: u32) -> ProcKey {
    ProcKey { start_ns: start(pid), pid }
}

fn header(kind: EventKind, pid: u32, time: u64, cgroup: u64) -> Header {
    let mut comm = [0; 16];
    comm[..4].copy_from_slice(b"test");
    Header { kind: kind as u16, pid, tid: pid, start: start(pid), time, cgroup, comm, ..Header::default() }
}

fn fork(parent: u32, child: u32, time: u64) -> Vec<u64> {
    let body = ForkBody {
        child_start: start(child),
        parent_start: start(parent),
        child_pid: child,
        parent_pid: parent,
        ..ForkBody::default()
    };
    to_words(&Encoder::new(&header(EventKind::Clone, parent, time, 1), size_of::<ForkBody>()).finish(&body))
}

fn exec(pid: u32, name: &str, time: u64, cgroup: u64) -> Vec<u64> {
    let mut header = header(EventKind::Execve, pid, time, cgroup);
    header.comm = [0; 16];
    header.comm[..name.len()].copy_from_slice(name.as_bytes());
    let mut out = Encoder::new(&header, size_of::<ExecBody>());
    let body = ExecBody {
        exepath: out.text(format!("/bin/{name}").as_bytes()),
        // Not UTF-8, and longer than what is kept of the dead.
        args: out.text(&[name.as_bytes(), b"\0\xff\xfe\0", &[b'x'; 700], b"\0"].concat()),
        cwd: out.text(b"/srv"),
        env: out.text(b"LD_PRELOAD=/tmp/x.so\0"),
        ino: u64::from(pid),
        tty: 34_816,
        sid: pid,
        ..ExecBody::default()
    };
    to_words(&out.finish(&body))
}

fn open(pid: u32, time: u64, cgroup: u64) -> Vec<u64> {
    let mut out = Encoder::new(&header(EventKind::Openat, pid, time, cgroup), size_of::<FileBody>());
    let body = FileBody { path: out.text(b"/etc/shadow"), ..FileBody::default() };
    to_words(&out.finish(&body))
}

fn setuid(pid: u32, uid: u32, time: u64) -> Vec<u64> {
    let header = Header { uid, ..header(EventKind::Setuid, pid, time, 1) };
    to_words(&Encoder::new(&header, size_of::<CallBody>()).finish(&CallBody::default()))
}

fn exit(pid: u32, time: u64) -> Vec<u64> {
    let header = header(EventKind::Procexit, pid, time, 1);
    to_words(&Encoder::new(&header, size_of::<ExitBody>()).finish(&ExitBody::default()))
}

/// An answer that says where "shop.example" is.
fn answer(pid: u32, time: u64) -> Vec<u64> {
    let mut message = vec![0, 1, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    message.extend(b"\x04shop\x07example\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\x0e\x10\0\x04\x0a\0\0\x07");
    let mut out = Encoder::new(&header(EventKind::Dns, pid, time, 1), size_of::<SockBody>());
    let attrs = sock_attr::CLIENT | sock_attr::RECEIVED;
    let body = SockBody { family: 2, proto: 17, rport: 53, attrs, data: out.text(&message), ..SockBody::default() };
    to_words(&out.finish(&body))
}

fn connect(pid: u32, time: u64) -> Vec<u64> {
    let mut raddr = [0; 16];
    raddr[..4].copy_from_slice(&[10, 0, 0, 7]);
    let body = SockBody { family: 2, proto: 6, rport: 80, attrs: sock_attr::CLIENT, raddr, ..SockBody::default() };
    let header = header(EventKind::Connect, pid, time, 1);
    to_words(&Encoder::new(&header, size_of::<SockBody>()).finish(&body))
}

/// All that an event shows, as text.
fn shown(event: &Event<'_>) -> String {
    let name = |process: &Process| String::from_utf8_lossy(&process.comm).into_owned();
    let ancestors: Vec<_> =
        event.processes.ancestors(event.process).map(|p| (p.key, name(p), &p.image, &p.cmdline, p.exit_ns)).collect();
    format!(
        "#{} at {}: {} {:?}\nto {:?}\nancestors {ancestors:?}\ncontainer {:?}",
        event.num,
        event.wall_ns,
        name(event.process),
        event.process,
        FieldRef::resolve("fd.sip.name", None).unwrap().get(event),
        event.container
    )
}

fn observe(world: &mut World, record: &[u64]) -> String {
    let scratch = Bump::new();
    shown(&world.observe(Raw::parse(from_words(record)).unwrap(), &scratch))
}

/// A world that asks nobody, with a journal, and a second one that lives from its checkpoint on what it notes.
struct Twins {
    live: World,
    again: World,
}

impl Twins {
    /// The live world after `before`, and its twin.
    fn after(processes: &[Process], before: &[Vec<u64>]) -> Self {
        let mut live = World::new(WorldOptions { max_processes: 256, ..WorldOptions::default() }).unwrap();
        live.keep_journal();
        live.news(1_700_000_000 * SECOND);
        for process in processes {
            live.relive(Context::Process { process: Box::new(process.clone()) });
        }
        for record in before {
            observe(&mut live, record);
        }
        live.learnt().for_each(drop);
        let mut again = World::reliving(256);
        let mut told = Vec::new();
        live.checkpoint(&mut |context| told.push(context));
        told.into_iter().for_each(|context| again.relive(as_stored(&context)));
        Self { live, again }
    }

    /// One record in both; what it shows.
    fn both(&mut self, record: &[u64]) -> String {
        let seen = observe(&mut self.live, record);
        self.live.learnt().for_each(|context| self.again.relive(as_stored(&context)));
        assert_eq!(observe(&mut self.again, record), seen);
        seen
    }
}

/// As it comes back from the disk.
fn as_stored(context: &Context) -> Context {
    serde_json::from_slice(&serde_json::to_vec(context).unwrap()).unwrap()
}

#[test]
fn lineage_credentials_names_and_numbers_are_those_of_the_live_run() {
    let before = [
        exec(10, "nginx", SECOND, 1),
        fork(10, 11, SECOND + 1),
        exec(11, "sh", SECOND + 2, 1),
        fork(11, 12, SECOND + 3),
        exit(11, SECOND + 4),
        setuid(12, 65534, 20 * SECOND),
    ];
    let mut twins = Twins::after(&[], &before);
    let seen = twins.both(&exec(12, "miner", 21 * SECOND, 1));
    assert!(seen.starts_with("#7 at 1700000021000000000"), "{seen}");
    assert!(seen.contains("nobody") || seen.contains("root"), "{seen}");
    twins.both(&setuid(12, 0, 22 * SECOND));
    twins.both(&fork(12, 13, 23 * SECOND));
    twins.both(&exec(13, "id", 24 * SECOND, 1));
    twins.both(&open(99, 25 * SECOND, 1));
    twins.live.news(1_800_000_000 * SECOND);
    let seen = twins.both(&open(99, 26 * SECOND, 1));
    assert!(seen.contains("at 1800000026000000000"), "{seen}");
}

#[test]
fn records_that_come_after_the_exit_still_show_the_process_and_its_lineage() {
    let before = [
        exec(10, "old", SECOND, 1),
        exit(10, SECOND + 1),
        exec(20, "parent", 10 * SECOND, 1),
        fork(20, 21, 10 * SECOND + 1),
        exit(20, 10 * SECOND + 2),
        exec(21, "quick", 20 * SECOND, 1),
        exit(21, 20 * SECOND + 5),
    ];
    let mut twins = Twins::after(&[], &before);
    // Another CPU's ring was read later.
    let seen = twins.both(&open(21, 20 * SECOND + 4, 1));
    assert!(seen.contains("quick") && seen.contains("parent"), "{seen}");
    // What ended long ago is told by its key alone.
    assert!(twins.again.processes().get(key(20)).is_some_and(|process| !process.comm.is_empty()));
    assert!(twins.again.processes().get(key(10)).is_some_and(|process| process.comm.is_empty()));
}

#[test]
fn a_connection_has_the_name_that_was_looked_up_before_and_after_the_segment_began() {
    let named = format!("{:?}", Some(tw_model::Value::Text(b"shop.example")));
    let mut twins = Twins::after(&[], &[exec(10, "wget", SECOND, 1), answer(10, SECOND + 1)]);
    assert!(twins.both(&connect(11, SECOND + 2)).contains(&named));
    assert!(!twins.both(&connect(11, 2 * 3600 * SECOND)).contains(&named), "it holds for an hour");
    twins.both(&answer(10, 3 * 3600 * SECOND));
    assert!(twins.both(&connect(11, 3 * 3600 * SECOND + 1)).contains(&named));
}

#[test]
fn a_process_known_to_the_tick_that_ended_is_lived_again_under_its_exact_start() {
    let found = |pid: u32, exit_ns| Process {
        key: ProcKey { start_ns: u64::from(pid) * TICK, pid },
        comm: (*b"seeded").into(),
        image: Image::from_argv(b"seeded\0").into(),
        exit_ns,
        inferred: true,
        ..Process::default()
    };
    let processes = [found(30, None), found(31, Some(9 * SECOND))];
    let before = [open(30, 9 * SECOND, 1), open(31, 9 * SECOND, 1), fork(30, 32, 9 * SECOND), exit(30, 9 * SECOND + 1)];
    let mut twins = Twins::after(&processes, &before);
    let seen = twins.both(&open(31, 9 * SECOND + 2, 1));
    assert!(seen.contains("seeded"), "{seen}");
    twins.both(&open(30, 9 * SECOND + 2, 1));
    twins.both(&exec(32, "child", 15 * SECOND, 1));
    assert_eq!(twins.again.processes().len(), twins.live.processes().len());
}

#[test]
fn a_container_that_gets_its_name_later_has_it_from_the_same_event_on() {
    let mut twins = Twins::after(&[], &[exec(10, "sh", SECOND, 77)]);
    let learn = |twins: &mut Twins, context: Context| {
        // What the runtime says goes to the live world, and as a note to the other.
        twins.live.relive(as_stored(&context));
        twins.live.learnt().for_each(drop);
        twins.again.relive(as_stored(&context));
    };
    assert!(twins.both(&open(10, 2 * SECOND, 77)).ends_with("container None"));
    learn(&mut twins, Context::Place { cgroup: 77, container: WEB.into() });
    assert!(twins.both(&open(10, 3 * SECOND, 77)).contains(WEB));
    let web = Container { id: WEB.into(), name: "web".into(), complete: true, ..Container::default() };
    learn(&mut twins, Context::Container { container: Box::new(web) });
    assert!(twins.both(&open(10, 4 * SECOND, 77)).contains(r#"name: "web""#));
    // A later checkpoint has it, and that it is gone changes nothing for the records still to come.
    learn(&mut twins, Context::Gone { id: WEB.into() });
    let mut third = World::reliving(256);
    twins.live.checkpoint(&mut |context| third.relive(as_stored(&context)));
    twins.again = third;
    assert!(twins.both(&open(10, 5 * SECOND, 77)).contains(r#"name: "web""#));
    twins.both(&exec(10, "id", 6 * SECOND, 77));
}
