//! Files as fanotify tells them, where eBPF is refused: on the host, on mounts of a namespace of one's own, in a chroot; and
//! what is counted of those that are not told.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::BufRead as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tw_model::Mode;
use tw_model::coverage::{Class, Miss};
use tw_model::event::EventKind;
use tw_model::raw::{Body, F_PRESUMED, attr};
use tw_sensor::{ConnectorSensor, ConnectorSocket, FileWatch, Sampling, SensorError, Source as _};

mod watching;
use watching::{Record, text};

/// One test at a time, lest one's storm drowns another's files.
static ALONE: Mutex<()> = Mutex::new(());

fn sensor() -> Option<(ConnectorSensor, MutexGuard<'static, ()>)> {
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let start = || -> Result<ConnectorSensor, SensorError> {
        ConnectorSensor::start(ConnectorSocket::open()?, Some(FileWatch::open()?))
    };
    match start() {
        Ok(sensor) => Some((sensor, alone)),
        Err(error) if std::env::var_os("TIDEWATCH_REQUIRE_E2E").is_some() => panic!("{error}"),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

/// A file that was told of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    pid: u32,
    path: String,
    root: String,
    to_write: bool,
    attrs: u32,
}

fn records(sensor: &mut ConnectorSensor) -> Vec<Record> {
    let mut records = Vec::new();
    let deadline = Instant::now() + Duration::from_millis(250);
    while Instant::now() < deadline {
        sensor.drain(&mut |bytes| records.push(Record::of(bytes)));
        std::thread::sleep(Duration::from_millis(5));
    }
    records
}

fn told(sensor: &mut ConnectorSensor) -> Vec<Told> {
    let file = |record: &Record| {
        let raw = record.raw();
        let Body::File(body) = raw.body else { return None };
        assert_eq!((raw.kind(), raw.header.flags & F_PRESUMED, raw.header.ret), (EventKind::Openat, F_PRESUMED, 0));
        Some(Told {
            pid: raw.header.pid,
            path: text(&raw, body.path).into_owned(),
            root: text(&raw, body.root).into_owned(),
            to_write: body.flags & 3 != 0,
            attrs: body.attrs,
        })
    };
    records(sensor).iter().filter_map(file).collect()
}

/// Runs a command and returns its number.
fn run(command: &mut Command) -> u32 {
    let mut child = command.spawn().unwrap();
    assert!(child.wait().unwrap().success());
    child.id()
}

fn python(script: &str, folder: &Path) -> u32 {
    run(Command::new("/usr/bin/python3").args(["-c", script]).arg(folder))
}

#[test]
fn a_read_is_told_when_it_opens_and_a_write_when_it_closes() {
    let Some((mut sensor, _alone)) = sensor() else { return };
    assert_eq!(sensor.mode(), Mode::Fanotify);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let script = "import sys, os
os.chdir(sys.argv[1])
open('written', 'w').write('x')
open('written').read()
os.symlink('written', 'link')
open('link').read()
os.unlink('written')
os.listdir('.')
";
    let pid = python(script, &folder);
    let all = told(&mut sensor);
    let mine: Vec<_> = all.iter().filter(|told| told.path.starts_with(folder.to_str().unwrap())).collect();
    let written = folder.join("written").to_str().unwrap().to_owned();
    assert!(mine.iter().all(|told| told.pid == pid && told.path == written), "links lead to the file: {mine:?}");
    assert!(mine.iter().any(|told| told.to_write) && mine.iter().any(|told| !told.to_write), "{mine:?}");
    assert!(mine.iter().all(|told| told.attrs & attr::REG != 0), "{mine:?}");
    assert!(!all.iter().any(|told| told.pid == std::process::id()), "our own are nobody's business");
    let programs = all.iter().filter(|told| told.pid == pid && told.path.contains("/bin/python3"));
    assert_eq!(programs.count(), 0, "the connector tells of executions");
}

#[test]
fn a_file_is_told_in_front_of_the_execution_that_came_after_it() {
    let Some((mut sensor, _alone)) = sensor() else { return };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("after"), "x").unwrap();
    const RUNS: usize = 40;
    let mut right = 0;
    for _ in 0..RUNS {
        let script = "echo x > \"$1/before\"; exec cat \"$1/after\"";
        let pid = run(Command::new("sh").args(["-c", script, "sh"]).arg(folder.path()).stdout(Stdio::null()));
        let told = records(&mut sensor);
        let place = |wanted: &dyn Fn(&Record) -> bool| {
            told.iter().rposition(|record| record.raw().header.pid == pid && wanted(record))
        };
        let file = |record: &Record, name: &str| {
            let raw = record.raw();
            raw.file().is_some_and(|body| text(&raw, body.path).ends_with(name))
        };
        let executed = place(&|record| record.raw().kind() == EventKind::Execve);
        let (before, after) = (place(&|record| file(record, "/before")), place(&|record| file(record, "/after")));
        assert!(before.is_some() && executed.is_some() && after.is_some(), "{before:?} {executed:?} {after:?}");
        right += usize::from(before < executed && executed < after);
    }
    // Who hears of files may come late on a busy host; executions do not wait for it.
    assert!(right * 10 >= RUNS * 8, "{right} of {RUNS}");
}

#[test]
fn mounts_of_a_namespace_of_ones_own_are_watched_and_paths_are_those_of_the_process() {
    let Some((mut sensor, _alone)) = sensor() else { return };
    let folder = tempfile::tempdir().unwrap();
    // What is mounted is looked at when something is executed there: at most a second later, if that was just done.
    let script = r#"set -e
mount -t tmpfs none "$1"
mkdir "$1/jail" "$1/jail/etc"
echo secret > "$1/jail/etc/shadow"
cp /bin/busybox "$1/jail/busybox"
/bin/true
sleep 1.5
/bin/true
sleep 0.5
chroot "$1/jail" /busybox sh -c "/busybox sleep 0.3; read line < /etc/shadow"
cat "$1/jail/etc/shadow" > /dev/null
sleep 0.3
"#;
    run(Command::new("unshare").args(["-m", "sh", "-c", script, "sh"]).arg(folder.path()));
    let all = told(&mut sensor);
    let outside = folder.path().join("jail/etc/shadow");
    let shadows: Vec<_> = all.iter().filter(|told| told.path.ends_with("etc/shadow") && !told.to_write).collect();
    assert!(shadows.iter().any(|told| Path::new(&told.path) == outside && told.root.is_empty()), "{shadows:?}");
    let jail = folder.path().join("jail");
    let inside = |told: &&&Told| told.path == "/etc/shadow" && Path::new(&told.root) == jail;
    assert!(shadows.iter().any(|told| inside(&told)), "{shadows:?}");
}

#[test]
fn what_is_not_told_is_counted_and_can_be_given_up() {
    let Some((mut sensor, _alone)) = sensor() else { return };
    let folder = tempfile::tempdir().unwrap();
    let script = "import sys, os
for i in range(3200): open(f'{sys.argv[1]}/{i}', 'a').close() if not os.path.exists(f'{sys.argv[1]}/{i}') else os.close(os.open(f'{sys.argv[1]}/{i}', os.O_RDONLY))";
    python(script, folder.path());
    told(&mut sensor);
    let missed = |sensor: &mut ConnectorSensor| {
        let (mut sampled, mut lost) = (0, 0);
        sensor.missed(&mut |_, missing| {
            for (class, why, events) in missing {
                assert_eq!(*class, Class::File);
                *(if *why == Miss::Sampled { &mut sampled } else { &mut lost }) += events;
            }
        });
        (sampled, lost)
    };
    let in_folder = |sensor: &mut ConnectorSensor| {
        let all = told(sensor);
        all.iter().filter(|told| told.path.starts_with(folder.path().to_str().unwrap())).count()
    };
    missed(&mut sensor);

    python(script, folder.path());
    let seen = in_folder(&mut sensor);
    let (sampled, lost) = missed(&mut sensor);
    assert!(sampled == 0 && (seen == 3200 || lost > 0), "{seen} seen, {lost} lost");

    sensor.sample(Sampling { failed_opens: 16, read_opens: 16 }).unwrap();
    python(script, folder.path());
    let seen = in_folder(&mut sensor);
    let (sampled, lost) = missed(&mut sensor);
    assert!((100..=300).contains(&seen) || lost > 0, "{seen}");
    assert!(seen as u64 + sampled >= 3200 || lost > 0, "{seen} seen, {sampled} left out, {lost} lost");

    sensor.sample(Sampling { failed_opens: 256, read_opens: 256 }).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    python(script, folder.path());
    std::fs::write(folder.path().join("written"), "x").unwrap();
    run(Command::new("sh").args(["-c", "echo x > \"$1\"", "sh"]).arg(folder.path().join("written")));
    assert_eq!(in_folder(&mut sensor), 1, "writes go on");
    let problem = |sensor: &mut ConnectorSensor| {
        missed(sensor);
        sensor.health().problems().map(|hook| hook.name).collect::<Vec<_>>()
    };
    assert_eq!(problem(&mut sensor), ["fanotify/open"]);

    sensor.sample(Sampling::default()).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    python(script, folder.path());
    assert!(in_folder(&mut sensor) == 3200 || missed(&mut sensor).1 > 0, "taken back");
    assert!(problem(&mut sensor).is_empty());
}

#[test]
fn nothing_is_told_of_before_the_start() {
    let Some((sensor, _alone)) = sensor() else { return };
    drop(sensor);
    let folder = tempfile::tempdir().unwrap();
    let (socket, watch) = (ConnectorSocket::open().unwrap(), FileWatch::open().unwrap());
    let write =
        |name: &str| run(Command::new("sh").args(["-c", "echo x > \"$1\"", "sh"]).arg(folder.path().join(name)));
    write("before");
    let mut sensor = ConnectorSensor::start(socket, Some(watch)).unwrap();
    write("after");
    let all = told(&mut sensor);
    let is_told = |name: &str| all.iter().any(|told| Path::new(&told.path) == folder.path().join(name));
    assert!(is_told("after") && !is_told("before"), "{all:?}");
}

#[test]
fn writes_are_told_while_opens_for_reading_are_given_up_and_taken_back() {
    let Some((mut sensor, _alone)) = sensor() else { return };
    let folder = tempfile::tempdir().unwrap();
    let script = "import sys, time
for i in range(2000):
    open(f'{sys.argv[1]}/{i}', 'w').close()
    time.sleep(0.0005)";
    let mut writer = Command::new("/usr/bin/python3").args(["-c", script]).arg(folder.path()).spawn().unwrap();
    let mut all = Vec::new();
    let mut given_up = false;
    while writer.try_wait().unwrap().is_none() {
        given_up = !given_up;
        let reads = if given_up { 256 } else { 0 };
        sensor.sample(Sampling { failed_opens: 0, read_opens: reads }).unwrap();
        all.extend(told(&mut sensor));
    }
    all.extend(told(&mut sensor));
    let mut lost = 0;
    sensor.missed(&mut |_, missing| {
        lost += missing.iter().filter(|(_, why, _)| *why != Miss::Sampled).map(|(_, _, events)| *events).sum::<u64>();
    });
    let mine = |told: &&Told| told.to_write && told.path.starts_with(folder.path().to_str().unwrap());
    let mut written: Vec<_> = all.iter().filter(mine).map(|told| &told.path).collect();
    written.sort();
    let times = written.len();
    written.dedup();
    assert!(written.len() == 2000 || lost > 0, "{} of 2000, {lost} lost", written.len());
    assert_eq!(times, written.len(), "each once");
}

#[test]
fn an_overlay_mounted_without_rights_is_left_out_and_counted_as_long_as_it_is_there() {
    let Some((mut sensor, _alone)) = sensor() else { return };
    let folder = tempfile::tempdir().unwrap();
    // Looked at twice after everything is mounted, with a table that has not changed.
    let script = r#"set -e
mount -t tmpfs none "$1"
mkdir "$1/low" "$1/lower" "$1/merged"
echo secret > "$1/low/secret"
mkdir "$1/hidden" "$1/shown"
mount -t tmpfs none "$1/hidden"
echo secret > "$1/hidden/secret"
mount --bind "$1/hidden" "$1/shown"
mount -t tmpfs none "$1/hidden"
mount -t overlay -o lowerdir="$1/low:$1/lower" none "$1/merged"
for i in 1 2; do /bin/true; sleep 1.5; done
/bin/true
cat "$1/merged/secret" "$1/low/secret" "$1/shown/secret" > /dev/null
echo done
read end
"#;
    let mut child = Command::new("unshare")
        .args(["-Urm", "sh", "-c", script, "sh"])
        .arg(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    if line.trim() != "done" {
        child.wait().unwrap();
        eprintln!("skipped: no overlay in a user namespace of one's own");
        return;
    }
    let all = told(&mut sensor);
    let read = |name: &str| {
        let path = folder.path().join(name);
        all.iter().any(|told| Path::new(&told.path) == path && !told.to_write)
    };
    assert!(read("low/secret") && read("shown/secret") && !read("merged/secret"), "{all:?}");
    let problems = |sensor: &mut ConnectorSensor| {
        sensor.missed(&mut |_, _| {});
        sensor.health().problems().map(|hook| hook.problem.clone().unwrap_or_default()).collect::<Vec<_>>()
    };
    assert_eq!(problems(&mut sensor), ["1 file systems could not be watched"; 2]);

    drop(child.stdin.take());
    child.wait().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    std::fs::write(folder.path().join("wakes"), "x").unwrap();
    run(&mut Command::new("/bin/true"));
    std::thread::sleep(Duration::from_millis(250));
    assert!(problems(&mut sensor).is_empty(), "what is gone is nothing that could be watched");
}
