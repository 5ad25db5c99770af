//! `tidewatch wrap` on real programs: with no rights, with signals, on a terminal, and what it does to exit codes.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const NOBODY: u32 = 65_534;

fn wrap(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.arg("wrap").args(arguments).stdin(Stdio::null()).current_dir("/");
    command.env("TIDEWATCH_CONFIG", config());
    command
}

/// A configuration that is not that of this host.
fn config() -> &'static Path {
    static FILE: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    FILE.get_or_init(|| {
        let file = std::env::temp_dir().join("tidewatch-wrap-test.yaml");
        std::fs::write(&file, "rules: {dropins: null}\n").unwrap();
        file
    })
}

/// The program where anybody may start it.
fn program() -> PathBuf {
    static COPY: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    COPY.get_or_init(|| {
        let built = PathBuf::from(env!("CARGO_BIN_EXE_tidewatch"));
        let reachable = built.ancestors().skip(1).all(|folder| {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::metadata(folder).is_ok_and(|what| what.permissions().mode() & 1 == 1)
        });
        if reachable {
            return built;
        }
        let copy = std::env::temp_dir().join("tidewatch-wrap-test");
        std::fs::copy(&built, &copy).unwrap();
        copy
    })
    .clone()
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn says(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn findings(output: &Output) -> Vec<Value> {
    says(output).lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

fn names(found: &[Value]) -> Vec<&str> {
    found.iter().filter_map(|finding| finding["rule"].as_str()).collect()
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

#[test]
fn a_command_keeps_its_streams_and_its_exit_code() {
    let output = run(&mut wrap(&["--", "sh", "-c", "echo out; echo err >&2; exit 7"]));
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(output.stdout, b"out\n");
    let says = says(&output);
    assert!(says.starts_with("err\n") && says.contains(" events, 0 findings, 0 lost"), "{says}");
    let output = run(&mut wrap(&["-q", "sh", "-c", "kill -9 $$"]));
    assert_eq!((output.status.code(), output.stderr.len()), (Some(137), 0));
    for (program, code) in [("no-such-program-of-ours", 127), ("/etc/passwd", 126), ("/nonexistent/x", 127)] {
        let output = run(&mut wrap(&[program]));
        assert_eq!(output.status.code(), Some(code), "{program}: {}", self::says(&output));
    }
    // Anything wrong with wrap itself is none of the command's codes.
    let output = run(&mut wrap(&["--rules", "/nonexistent.yaml", "true"]));
    assert_eq!(output.status.code(), Some(125), "{}", self::says(&output));
}

#[test]
fn nobody_may_watch_what_nobody_runs() {
    if !is_root() {
        return;
    }
    let dropped = std::env::temp_dir().join(format!("tw-wrap-dropped-{}", std::process::id()));
    let script = format!(
        "id -u; grep NoNewPrivs /proc/self/status; cp /bin/true {0}; {0}; cat /etc/shadow; rm {0}",
        dropped.display()
    );
    let output = run(wrap(&["--json", "--", "sh", "-c", &script]).uid(NOBODY).gid(NOBODY).env_remove("HOME"));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(stdout.split_whitespace().collect::<Vec<_>>(), ["65534", "NoNewPrivs:", "1"], "{}", says(&output));
    let lines: Vec<Value> = says(&output).lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(names(&lines), ["Program Run From Scratch Directory"]);
    let fields = &lines[0]["output_fields"];
    assert_eq!((&fields["container.name"], &fields["container.image"]), (&"sh".into(), &"wrap".into()));
    assert_eq!(fields["user.name"], "nobody");
    assert_eq!(fields["proc.exepath"], dropped.to_string_lossy().as_ref());
    let lineage: Vec<_> = lines[0]["tidewatch"]["lineage"].as_array().unwrap().iter().map(|p| &p["name"]).collect();
    assert_eq!(lineage[1..], ["sh", "tidewatch"], "the lineage ends where that of a container does");
}

#[test]
fn findings_fail_a_command_that_did_not_fail_itself() {
    if !is_root() {
        return;
    }
    let file = std::env::temp_dir().join(format!("tw-wrap-{}.json", std::process::id()));
    let name = file.to_string_lossy().into_owned();
    let reads = |more: &[&str], end: &str| {
        let script = format!("cat /etc/shadow > /dev/null; exit {end}");
        run(&mut wrap(&[&["-q", "--output", &name], more, &["--", "sh", "-c", &script]].concat())).status.code()
    };
    assert_eq!(reads(&[], "0"), Some(0));
    assert_eq!(reads(&["--fail-on", "warning"], "0"), Some(4));
    assert_eq!(reads(&["--fail-on", "warning"], "3"), Some(3));
    assert_eq!(reads(&["--fail-on", "error"], "0"), Some(0), "it is a warning");
    assert_eq!(reads(&["--no-container", "--fail-on", "warning"], "0"), Some(0), "a rule about containers");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let found: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(names(&found), ["Password File Read in Container"; 4]);
    let output = run(&mut wrap(&["--as-container", "build", "--json", "--", "sh", "-c", "cat /etc/shadow >/dev/null"]));
    assert_eq!(findings(&output)[0]["output_fields"]["container.name"], "build");
}

#[test]
fn secrets_do_not_leave_it() {
    let rules = std::env::temp_dir().join(format!("tw-wrap-secret-{}.yaml", std::process::id()));
    let rule =
        "- rule: Ran\n  desc: d\n  condition: evt.type = execve\n  output: ran %proc.cmdline\n  priority: INFO\n";
    std::fs::write(&rules, rule).unwrap();
    let mut command = wrap(&["--json", "--rules"]);
    let output = run(command.arg(&rules).args(["--", "/bin/true", "--password=hunter22", "plain"]));
    std::fs::remove_file(&rules).unwrap();
    let said = says(&output);
    assert!(said.contains("plain") && !said.contains("hunter22"), "{said}");
}

/// Starts a command that prints when it is ready and waits then.
fn waiting(script: &str) -> (std::process::Child, impl FnMut() -> String) {
    use std::io::BufRead as _;
    let mut command = wrap(&["-q", "--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    (child, move || lines.next().unwrap().unwrap())
}

fn send(child: &std::process::Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}

#[test]
fn signals_are_handed_on() {
    use rustix::process::Signal;
    let script = "trap 'echo usr1' USR1; trap 'echo term; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    let (mut child, mut line) = waiting(script);
    assert_eq!(line(), "ready");
    send(&child, Signal::USR1);
    assert_eq!(line(), "usr1");
    send(&child, Signal::TERM);
    assert_eq!(line(), "term");
    assert_eq!(child.wait().unwrap().code(), Some(9));
    // One that does not listen dies of it, and that is told as shells tell it.
    let (mut child, mut line) = waiting("echo ready; exec sleep 60");
    assert_eq!(line(), "ready");
    send(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_stop_of_the_command_alone_can_be_undone() {
    let (mut child, mut line) = waiting("echo $$; kill -STOP $$; echo on; exec sleep 60");
    let pid: u32 = line().parse().unwrap();
    let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let deadline = Instant::now() + Duration::from_secs(5);
    while !state().contains(") t ") && !state().contains(") T ") {
        assert!(Instant::now() < deadline, "{}", state());
        std::thread::sleep(Duration::from_millis(10));
    }
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    assert_eq!(line(), "on");
    send(&child, rustix::process::Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn when_it_is_killed_nothing_of_the_command_is_left() {
    let (mut child, mut line) = waiting("sleep 61 & echo $!; wait");
    let pid = line();
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    send(&child, rustix::process::Signal::KILL);
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    let deadline = Instant::now() + Duration::from_secs(5);
    while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < deadline, "the command outlives it");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_the_command_leaves_running_is_waited_for_or_killed() {
    let script = "sleep 1 & exit 3";
    let started = Instant::now();
    let output = run(&mut wrap(&["--", "sh", "-c", script]));
    assert!(started.elapsed() >= Duration::from_millis(900));
    assert_eq!(output.status.code(), Some(3));
    assert!(says(&output).contains("waiting for 1 process that it left running"), "{}", says(&output));
    let started = Instant::now();
    let output = run(&mut wrap(&["-q", "--kill-rest", "--", "sh", "-c", "sleep 60 & exit 3"]));
    assert!(started.elapsed() < Duration::from_secs(30));
    assert_eq!(output.status.code(), Some(3));
}

/// A shell in miniature: a terminal, a job in its foreground, stopped with Ctrl-Z, continued, and ended with Ctrl-C.
const TERMINAL: &str = r#"
import os, pty, signal, sys, time
pid, master = pty.fork()
if pid == 0:
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    job = os.fork()
    if job == 0:
        os.setpgid(0, 0); os.tcsetpgrp(0, os.getpid()); signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.execv(sys.argv[1], sys.argv[1:])
    os.waitpid(job, os.WUNTRACED)                     # comes back when the job is stopped
    os.tcsetpgrp(0, os.getpgrp()); os.write(1, b'STOPPED\n')
    os.read(0, 100)
    os.tcsetpgrp(0, job); os.killpg(job, signal.SIGCONT); os.write(1, b'GOES ON\n')
    _, status = os.waitpid(job, os.WUNTRACED)
    os.tcsetpgrp(0, os.getpgrp())
    os.write(1, b'ENDED %d\n' % os.waitstatus_to_exitcode(status)); os._exit(0)
seen = b''
def until(text):
    global seen
    end = time.time() + 20
    while text not in seen:
        assert time.time() < end, seen
        seen += os.read(master, 1000)
    seen = seen.split(text, 1)[1]
os.write(master, b'one\n'); until(b'one'); until(b'got one')
os.write(master, b'\x1a'); until(b'STOPPED')
os.write(master, b'fg\n'); until(b'GOES ON')
os.write(master, b'two\n'); until(b'got two')
os.write(master, b'\x03'); until(b'ENDED 130')
os.waitpid(pid, 0)
"#;

#[test]
fn job_control_of_a_terminal_works_as_without_it() {
    let script = "while read line; do echo got $line; done";
    let output = Command::new("timeout")
        .args(["60", "python3", "-c", TERMINAL])
        .arg(program())
        .args(["wrap", "-q", "--", "sh", "-c", script])
        .env("TIDEWATCH_CONFIG", config())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", says(&output));
}
