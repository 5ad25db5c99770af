//! A child of the supervisor: started, watched, started again with growing pauses.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};
use tw_model::link::ChildStatus;

use super::Account;

/// The first pause; doubles with each end up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(15);
/// A child that ran this long starts with the first pause again.
const STEADY: Duration = Duration::from_secs(10);
/// This many ends, each after a short life, are a loop.
const LOOP_ENDS: u32 = 3;

/// How a child ended.
#[derive(Debug)]
pub(super) struct End {
    /// Its exit code, unless a signal ended it.
    pub code: Option<u8>,
    /// The same for people.
    pub says: String,
}

/// One child.
#[derive(Debug)]
pub(super) struct Child {
    pub name: &'static str,
    arguments: Vec<OsString>,
    /// The listening socket that it gets as standard input.
    socket: OwnedFd,
    account: Option<Account>,
    process: Option<std::process::Child>,
    started: Instant,
    next: Instant,
    pause: Duration,
    restarts: u64,
    /// Ends in a row after a short life.
    short_lives: u32,
    last_end: String,
}

impl Child {
    pub(super) fn new(name: &'static str, arguments: Vec<OsString>, socket: OwnedFd, account: Option<Account>) -> Self {
        let now = Instant::now();
        Self {
            name,
            arguments,
            socket,
            account,
            process: None,
            started: now,
            next: now,
            pause: FIRST_PAUSE,
            restarts: 0,
            short_lives: 0,
            last_end: String::new(),
        }
    }

    /// Its number; 0 while it does not run.
    pub(super) fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, std::process::Child::id)
    }

    /// Starts it if it does not run and its pause is over.
    pub(super) fn start_if_due(&mut self) {
        if self.process.is_some() || Instant::now() < self.next {
            return;
        }
        self.started = Instant::now();
        match self.start() {
            Ok(process) => self.process = Some(process),
            Err(error) => {
                self.last_end = format!("cannot be started: {error}");
                tracing::error!("the {} {}", self.name, self.last_end);
                self.ended();
            }
        }
    }

    fn start(&self) -> std::io::Result<std::process::Child> {
        // By this name the program can be started whoever may reach the folder that it lies in.
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("tidewatch")
            .args(&self.arguments)
            .env("TIDEWATCH_SUPERVISED", std::process::id().to_string())
            .env("TIDEWATCH_RESTARTS", self.restarts.to_string())
            .stdin(Stdio::from(self.socket.try_clone()?))
            // The terminal's Ctrl-C is for the supervisor, which ends the children in order.
            .process_group(0);
        if let Some(account) = &self.account {
            command.uid(account.uid).gid(account.gid).stdout(Stdio::null()).current_dir("/");
        }
        command.spawn()
    }

    /// How it ended, once, if it did since the last look.
    pub(super) fn look(&mut self) -> Option<End> {
        let status = match self.process.as_mut()?.try_wait() {
            Ok(None) => return None,
            Ok(status) => status,
            // Whoever started the supervisor has its children reaped by the kernel: how it ended is not known.
            Err(_) => None,
        };
        self.process = None;
        self.last_end = status.map_or_else(|| "ended".to_owned(), describe);
        self.ended();
        let code = status.and_then(|status| status.code()).and_then(|code| u8::try_from(code).ok());
        Some(End { code, says: self.last_end.clone() })
    }

    fn ended(&mut self) {
        if self.started.elapsed() >= STEADY {
            self.pause = FIRST_PAUSE;
            self.short_lives = 0;
        }
        self.next = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LAST_PAUSE);
        self.short_lives += 1;
        self.restarts += 1;
    }

    /// How long until it is started again.
    pub(super) fn pause(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }

    /// Whether it ended again and again after lives shorter than `life`.
    pub(super) fn loops(&self, life: Duration) -> bool {
        self.short_lives >= LOOP_ENDS && (self.process.is_none() || self.started.elapsed() < life)
    }

    /// What a person may want to know of it.
    pub(super) fn status(&self) -> ChildStatus {
        let next_start_ns = if self.process.is_some() {
            0
        } else {
            let at = SystemTime::now() + self.pause();
            // To the second: a file that changes ten times a second helps nobody.
            at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() * 1_000_000_000)
        };
        ChildStatus {
            name: self.name.to_owned(),
            pid: self.pid(),
            restarts: self.restarts,
            last_end: self.last_end.clone(),
            next_start_ns,
        }
    }

    /// Sends it a signal, if it runs.
    pub(super) fn signal(&self, signal: Signal) {
        // It is our child and not waited for yet, so its number is its own.
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid
            && let Err(error) = kill_process(pid, signal)
        {
            tracing::debug!("cannot signal the {}: {error}", self.name);
        }
    }

    /// Asks it to end, and kills it after `patience`. False if it had to be killed.
    pub(super) fn stop(&mut self, patience: Duration) -> bool {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + patience;
        let Some(process) = &mut self.process else { return true };
        while Instant::now() < deadline {
            match process.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                Ok(Some(_)) | Err(_) => return true,
            }
        }
        let _ = process.kill();
        let _ = process.wait();
        false
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(9)) => "killed by signal 9, by somebody or by the kernel for want of memory".to_owned(),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_a_loop_is_noticed() {
        let socket = std::fs::File::open("/dev/null").unwrap();
        let mut child = Child::new("manager", Vec::new(), socket.into(), None);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            assert_eq!(child.loops(STEADY), pauses.len() >= LOOP_ENDS as usize);
            child.ended();
            pauses.push(child.pause());
        }
        assert!(pauses[0] <= FIRST_PAUSE && pauses[3] > pauses[0] * 4, "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= LAST_PAUSE));
        assert_eq!(child.status().restarts, 10);
    }
}
