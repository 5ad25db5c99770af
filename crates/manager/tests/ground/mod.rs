//! What tests stand on: findings, containers, a real PostgreSQL of their own.
#![allow(dead_code, missing_docs, clippy::unwrap_used, reason = "a test; each uses a part")]

pub mod scene;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tw_manager::store::{Incoming, Place};
use tw_model::finding::{ContainerSummary, finding_id};
use tw_model::link::Spooled;
use tw_model::status::SpoolLane;
use tw_model::{Cause, Container, Finding, Priority};

/// 2026-01-01, microseconds since the epoch.
pub const NEW_YEAR: i64 = 1_767_225_600_000_000;
pub const NODE: &str = "0123456789abcdef0123456789abcdef";
pub const ID: &str = "f00dfeed0123456789abcdef0123456789abcdef0123456789abcdef01234567";

/// The n-th finding: one a second.
pub fn finding(n: u64) -> Finding {
    let time_ns = (NEW_YEAR as u64 + n * 1_000_000) * 1000;
    let priority = Priority::ALL[(n % 8) as usize];
    Finding {
        id: finding_id(7, time_ns, n, "Shell"),
        time_ns,
        event_num: n,
        cause: Cause::Rule { name: if n.is_multiple_of(2) { "Shell".into() } else { "Miner".into() } },
        priority,
        source: "syscall".into(),
        message: format!("Shell number {n} in a container"),
        why: "because".into(),
        advice: "look".into(),
        tags: vec!["T1059".into()],
        fields: Vec::new(),
        event: "execve".into(),
        lineage: Vec::new(),
        container: n.is_multiple_of(3).then(|| ContainerSummary {
            id: ID[..12].into(),
            name: "shop".into(),
            image: "shop/web:1.4".into(),
            digest: String::new(),
        }),
        workload: String::new(),
        login: None,
        coverage: None,
        fingerprint: n % 5,
    }
}

pub fn spooled(n: u64) -> Spooled {
    Spooled { lane: SpoolLane::Routine, seq: n, finding: finding(n) }
}

pub fn incoming(range: impl IntoIterator<Item = u64>) -> Vec<Incoming> {
    range.into_iter().map(|n| Incoming { spooled: spooled(n), workload: String::new() }).collect()
}

pub fn container(id: &str, name: &str) -> Container {
    Container {
        id: id.into(),
        runtime: "docker".into(),
        name: name.into(),
        image: "shop/web:1.4".into(),
        repository: "shop/web".into(),
        tag: "1.4".into(),
        image_id: "ab".repeat(32),
        complete: true,
        ..Container::default()
    }
}

/// Prints why a test cannot run; with TIDEWATCH_REQUIRE_E2E=1 that is a failure.
pub fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
    let required = std::env::var("TIDEWATCH_REQUIRE_E2E").is_ok_and(|value| value == "1");
    assert!(!required, "{reason}");
}

/// A PostgreSQL of this test alone, on a socket in a folder of its own. Ends with the value.
pub struct Postgres {
    folder: tempfile::TempDir,
    programs: PathBuf,
    user: Option<&'static str>,
    child: Option<Child>,
}

impl Postgres {
    /// Starts one, or says why not. Not used where TIDEWATCH_TEST_POSTGRES names a database.
    pub fn start() -> Result<Self, String> {
        let programs = std::fs::read_dir("/usr/lib/postgresql").map_err(|_| "PostgreSQL is not installed")?;
        let programs = programs.flatten().map(|entry| entry.path().join("bin"));
        let programs = programs.filter(|path| path.join("initdb").exists()).max().ok_or("there is no initdb")?;
        let user = if rustix::process::geteuid().is_root() {
            let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
            Some(if passwd.contains("\npostgres:") { "postgres" } else { "nobody" })
        } else {
            None
        };
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        if let Some(user) = user {
            let done = Command::new("chown").arg(user).arg(folder.path()).status().map_err(|e| e.to_string())?;
            assert!(done.success());
        }
        let mut postgres = Self { folder, programs, user, child: None };
        // Texts that sort otherwise than by their bytes show whether the tables insist on bytes.
        let icu: &[&str] = &["--locale-provider=icu", "--icu-locale=en"];
        if !postgres.initdb(icu) && !postgres.initdb(&[]) {
            return Err("initdb failed".into());
        }
        postgres.resume();
        Ok(postgres)
    }

    fn initdb(&self, more: &[&str]) -> bool {
        let mut command = self.command("initdb");
        command.args(["--no-sync", "-A", "trust", "-U", "tw", "-E", "UTF8", "--locale=C.UTF-8", "-D"]);
        command.arg(self.folder.path().join("data")).args(more);
        let done = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        done.success()
    }

    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let Some(user) = self.user else { return Command::new(program) };
        let mut command = Command::new("setpriv");
        command.args(["--reuid", user, "--regid", user, "--clear-groups", "--"]).arg(program);
        command
    }

    /// Starts it again after [`Self::stop`].
    pub fn resume(&mut self) {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.folder.path().join("data")).arg("-k").arg(self.folder.path());
        command.args(["-c", "listen_addresses=", "-c", "fsync=off"]);
        self.child = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let begin = Instant::now();
        while !self.psql("postgres", "select 1") {
            assert!(begin.elapsed() < Duration::from_secs(30), "PostgreSQL does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it; connections are cut.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, rustix::process::Signal::INT).ok();
            child.wait().ok();
        }
    }

    fn psql(&self, database: &str, sql: &str) -> bool {
        let mut command = Command::new(self.programs.join("psql"));
        command.arg("-h").arg(self.folder.path()).args(["-U", "tw", "-d", database, "-qc", sql]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }

    /// A fresh database.
    pub fn place(&self, database: &str) -> Place {
        assert!(self.psql("postgres", &format!("create database {database}")));
        Place::parse(&self.url(database)).unwrap()
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres:///{database}?host={}&user=tw", self.folder.path().display())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

pub fn sqlite(folder: &Path) -> Place {
    Place::Sqlite(folder.join("tidewatch.db"))
}
