//! What the tests need of the machine, and the promise that nothing of theirs outlives them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bits of the capability set, as in `capabilities(7)`.
const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;

/// Clears up when its input ends, which happens however this process ends: the test harness drops no statics.
const JANITOR: &str = r#"
trap '' HUP INT TERM
cat >/dev/null
docker ps -aq --filter "label=$1" | xargs -r docker rm -f
docker network ls -q --filter "label=$1" | xargs -r docker network rm
docker images --filter "label=$1" --format '{{.Repository}}' | xargs -r docker rmi -f
rm -rf "$2"
"#;

/// Whether the tests can run here; if not, the reason has been printed.
pub fn ready() -> bool {
    static READY: OnceLock<Result<Child, String>> = OnceLock::new();
    match READY.get_or_init(|| missing().map_or_else(|| Ok(hire_janitor()), Err)) {
        Ok(_) => true,
        Err(reason) => skip(reason),
    }
}

/// Says that a test is skipped; fails it where that is not acceptable. Returns false.
pub fn skip(reason: &str) -> bool {
    let required = std::env::var_os("TIDEWATCH_REQUIRE_E2E").is_some_and(|value| value == "1");
    assert!(!required, "end-to-end tests are required, but {reason}");
    eprintln!("skipped: {reason}");
    false
}

/// The label that everything made by this process carries.
pub fn label() -> String {
    format!("tidewatch.e2e={}", std::process::id())
}

/// A name that nothing else on this host has.
pub fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("tidewatch-e2e-{}-{}-{what}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A directory for this process's files; goes with it.
pub fn scratch() -> PathBuf {
    let dir = std::env::temp_dir().join(format!("tidewatch-e2e-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("the directory for temporary files is writable");
    dir
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the crate lies in a repository")
}

fn hire_janitor() -> Child {
    Command::new("sh")
        .args(["-c", JANITOR, "janitor", &label()])
        .arg(scratch())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh is there")
}

/// What is missing here, if anything.
fn missing() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if status_field(&status, "Uid:") != Some("0") {
        return Some("they need root".into());
    }
    let capabilities = status_field(&status, "CapEff:").and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0);
    if capabilities & (1 << CAP_BPF | 1 << CAP_SYS_ADMIN) == 0 {
        return Some("this root may not use eBPF (neither CAP_BPF nor CAP_SYS_ADMIN)".into());
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Some("the kernel has no type information (/sys/kernel/btf/vmlinux)".into());
    }
    if !Path::new("/bin/busybox").exists() {
        return Some("/bin/busybox is missing: apt-get install busybox-static".into());
    }
    [("docker", "info"), ("cc", "--version")].iter().find_map(|(program, argument)| {
        let answers = Command::new(program).arg(argument).output().is_ok_and(|output| output.status.success());
        (!answers).then(|| format!("`{program} {argument}` does not succeed"))
    })
}

/// The second (effective) number of a line of /proc/PID/status, or its only one.
fn status_field<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    let line = status.lines().find(|line| line.starts_with(key))?;
    let mut words = line.split_whitespace().skip(1);
    let first = words.next()?;
    Some(words.next().unwrap_or(first))
}
