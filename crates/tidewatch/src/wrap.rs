//! `wrap`: one command and everything that it starts, watched by the tracer through the same stages as a host: secrets
//! out, enrich, detect. Nothing runs beside it, nothing is kept but what it is told to keep.

use std::fs::File;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bumpalo::Bump;
use sha2::{Digest as _, Sha256};
use tw_detect::Detector;
use tw_enrich::{Context, World, WorldOptions, procfs};
use tw_model::{Container, Finding, Mode, Priority, ProcKey, Raw};
use tw_report::redact::Redactor;
use tw_sensor::clock;
use tw_sensor::tracer::{Step, TraceCounts, TraceError, TraceOptions, Tracer};

use crate::agent::{Clean, hostname, without_secrets};
use crate::cli::WrapArgs;
use crate::config::Config;
use crate::rules;
use crate::screen;

/// Sections of the configuration that a wrapped command depends on.
pub const NEEDS: &[&str] = &["rules", "agent", "redaction"];

/// Exit codes of `wrap` itself, as other programs that run a command have them (env, timeout, docker run).
const CANNOT_WRAP: u8 = 125;
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;
/// Something was found that is bad enough for `--fail-on`.
const FOUND: u8 = 4;

/// The cgroup of everything that is wrapped: no real one, whose numbers are those of inodes.
const CGROUP: u64 = u64::from_be_bytes(*b"tw-wrap\0");
/// The root cgroup, where the host's own processes are.
const HOST: u64 = 1;
/// How far the lineage of the command is followed beyond this program.
const MAX_ANCESTORS: usize = 32;
/// How often the wall clock is looked at.
const CLOCK_EVERY: Duration = Duration::from_secs(1);

/// Runs the command to its end and to that of all that it started; tells its exit code, or why there is none.
pub fn run(args: &WrapArgs, config: impl FnOnce() -> anyhow::Result<Config>) -> ExitCode {
    config().and_then(|config| Wrap::open(args, &config)?.run()).unwrap_or_else(|error| {
        anstream::eprintln!("{}error:{:#} {error:#}", screen::ERROR, screen::ERROR);
        let code = match error.downcast_ref::<TraceError>() {
            Some(TraceError::NotFound(_)) => NOT_FOUND,
            _ => CANNOT_WRAP,
        };
        ExitCode::from(code)
    })
}

/// Everything between the tracer and the terminal.
struct Wrap<'w> {
    args: &'w WrapArgs,
    stage: Stage<'w>,
    /// Rules that cannot find anything this way.
    mute: usize,
}

/// What each record goes through.
struct Stage<'w> {
    args: &'w WrapArgs,
    least: Priority,
    world: World,
    detector: Detector,
    redactor: Option<Redactor>,
    hostname: String,
    file: Option<File>,
    scratch: Bump,
    found: [u64; Priority::ALL.len()],
    malformed: u64,
    looked: Instant,
}

impl<'w> Wrap<'w> {
    fn open(args: &'w WrapArgs, config: &Config) -> anyhow::Result<Self> {
        let loaded = rules::in_force(config)?;
        let mute = tw_rules::reach::mute(&loaded.rules, Mode::Wrap).len();
        let mut random = [0; 40];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).context("no random numbers")?;
        let (salt, session) = random.split_at(32);
        let salt: [u8; 32] = salt.try_into().unwrap_or_default();
        let session = session.try_into().map_or(0, u64::from_ne_bytes);
        let file = args.output.as_ref().map(|path| {
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .with_context(|| format!("cannot open {}", path.display()))
        });
        let stage = Stage {
            args,
            least: config.agent.priority,
            world: World::new(WorldOptions::default())?,
            detector: Detector::new(loaded.rules).in_session(session),
            redactor: config.redaction.enabled.then(|| Redactor::new(salt)),
            hostname: hostname(),
            file: file.transpose()?,
            scratch: Bump::new(),
            found: [0; Priority::ALL.len()],
            malformed: 0,
            looked: Instant::now(),
        };
        Ok(Self { args, stage, mute })
    }

    fn run(mut self) -> anyhow::Result<ExitCode> {
        let (program, arguments) = self.args.command.split_first().context("no command")?;
        let options = TraceOptions {
            program: program.clone(),
            args: arguments.to_vec(),
            cgroup: if self.args.no_container { HOST } else { CGROUP },
        };
        let started = Instant::now();
        let mut tracer = Tracer::start(&options).map_err(|error| {
            let refused = matches!(error, TraceError::Refused(_));
            let error = anyhow::Error::new(error);
            if refused { error.context(REFUSED) } else { error }
        })?;
        self.stage.introduce(tracer.root());
        let mut status = 0;
        loop {
            match tracer.step(&mut |bytes| self.stage.record(bytes))? {
                Step::Going => {}
                Step::CommandEnded { status: ended, left } => {
                    status = ended;
                    self.left_over(&tracer, left);
                }
                Step::Done => break,
            }
        }
        if let Some(error) = tracer.why_not() {
            anstream::eprintln!(
                "{}error:{:#} cannot run {}: {error}",
                screen::ERROR,
                screen::ERROR,
                program.to_string_lossy()
            );
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            return Ok(ExitCode::from(if missing { NOT_FOUND } else { CANNOT_RUN }));
        }
        self.summary(&tracer.counts(), started.elapsed());
        Ok(ExitCode::from(self.code(status)))
    }

    /// The command has ended, and something that it started has not.
    fn left_over(&self, tracer: &Tracer, left: usize) {
        if left == 0 {
            return;
        }
        if self.args.kill_rest {
            tracer.kill_rest();
        } else if self.talks() {
            let processes = if left == 1 { "1 process".to_owned() } else { format!("{left} processes") };
            self.say(&format!("the command ended; waiting for {processes} that it left running (Ctrl-C kills them)"));
        }
    }

    fn talks(&self) -> bool {
        !self.args.quiet && !self.args.json
    }

    fn say(&self, text: &str) {
        anstream::eprintln!("{DIM}tidewatch: {text}{DIM:#}");
    }

    fn summary(&self, counts: &TraceCounts, took: Duration) {
        if !self.talks() {
            return;
        }
        let events: u64 = counts.records.iter().sum();
        let found: u64 = self.stage.found.iter().sum();
        let by_priority: Vec<String> = Priority::ALL
            .iter()
            .map(|level| (self.stage.found[*level as usize], level.name().to_lowercase()))
            .filter(|(number, _)| *number > 0)
            .map(|(number, name)| format!("{number} {name}"))
            .collect();
        let found = screen::count(usize::try_from(found).unwrap_or(usize::MAX), "finding");
        let found = if by_priority.is_empty() { found } else { format!("{found} ({})", by_priority.join(", ")) };
        self.say(&format!("{events} events, {found}, 0 lost"));
        let (busy, took) = (counts.busy.as_secs_f64(), took.as_secs_f64());
        self.say(&format!(
            "{} stops: tracing took about {busy:.1} s of {took:.1} s{}",
            counts.stops,
            if self.mute > 0 {
                format!("; {} cannot speak in this mode", screen::count(self.mute, "rule"))
            } else {
                String::new()
            }
        ));
        if self.stage.malformed > 0 {
            self.say(&format!("{} records were malformed", self.stage.malformed));
        }
    }

    /// The command's own exit code; if that is 0, whether something bad enough was found.
    fn code(&self, status: i32) -> u8 {
        let own = match (status & 0x7f, (status >> 8) & 0xff) {
            (0, code) => code,
            (signal, _) => 128 + signal,
        };
        let bad = self.args.fail_on.is_some_and(|least| {
            Priority::ALL.iter().any(|level| *level <= least && self.stage.found[*level as usize] > 0)
        });
        if own == 0 && bad { FOUND } else { u8::try_from(own).unwrap_or(CANNOT_WRAP) }
    }
}

const DIM: anstyle::Style = anstyle::Style::new().dimmed();

/// What to do where ptrace is refused.
const REFUSED: &str = "wrap needs ptrace: in a container a seccomp profile that allows it (Docker's own does since 19.03 \
                       on kernels from 4.8 on), and kernel.yama.ptrace_scope below 2";

impl Stage<'_> {
    /// Tells the world what no record will: the processes that we descend from, and the container that the command
    /// passes for.
    fn introduce(&mut self, root: ProcKey) {
        self.world.news(clock::boot_to_wall_ns());
        let mut pid = std::process::id();
        let mut lineage = Vec::new();
        // A container's lineage ends at its runtime, which we are: whether make or a shell of somebody started us says
        // nothing of the command.
        let most = if self.args.no_container { MAX_ANCESTORS } else { 1 };
        while lineage.len() < most
            && let Ok(mut process) = procfs::read_process(std::path::Path::new("/proc"), pid)
        {
            process.cgroup_id = HOST;
            without_secrets(self.redactor.as_ref(), &mut process);
            pid = process.parent.map_or(0, |parent| parent.pid);
            if !self.args.no_container {
                process.parent = None;
            }
            lineage.push(process);
        }
        for process in lineage.into_iter().rev() {
            self.world.relive(Context::Process { process: Box::new(process) });
        }
        if self.args.no_container {
            return;
        }
        let container = self.container(root);
        self.world.relive(Context::Place { cgroup: CGROUP, container: container.id.clone() });
        self.world.relive(Context::Container { container: Box::new(container) });
    }

    fn container(&self, root: ProcKey) -> Container {
        let program = self.args.command.first().cloned().unwrap_or_default();
        let program = std::path::Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut id = Sha256::new();
        id.update(std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default());
        id.update(root.start_ns.to_le_bytes());
        id.update(root.pid.to_le_bytes());
        Container {
            id: id.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
            runtime: "wrap".into(),
            name: self.args.as_container.clone().unwrap_or(program),
            image: "wrap".into(),
            repository: "wrap".into(),
            started_ns: clock::wall_ns(),
            pid: root.pid,
            complete: true,
            ..Container::default()
        }
    }

    /// One record: secrets out, enrich, detect, report.
    fn record(&mut self, bytes: &[u8]) {
        let Ok(raw) = Raw::parse(bytes) else {
            self.malformed += 1;
            return;
        };
        if self.looked.elapsed() >= CLOCK_EVERY {
            self.looked = Instant::now();
            self.world.news(clock::boot_to_wall_ns());
        }
        let clean = Clean::new(self.redactor.as_ref(), &raw);
        let mut found = Vec::new();
        let event = self.world.observe(clean.instead_of(raw), &self.scratch);
        self.detector.inspect(&event, &mut |finding| found.push(finding));
        self.scratch.reset();
        for finding in found {
            if finding.priority <= self.least {
                self.report(finding);
            }
        }
    }

    /// Writes it before the command goes on: nothing waits in a queue, so nothing is lost.
    fn report(&mut self, mut finding: Finding) {
        if let Some(redactor) = &self.redactor {
            redactor.finding(&mut finding);
        }
        self.found[finding.priority as usize] += 1;
        let line = || tw_report::json::line(&finding, &self.hostname) + "\n";
        if let Some(file) = &mut self.file
            && let Err(error) = file.write_all(line().as_bytes())
        {
            tracing::error!("cannot write {}: {error}", self.args.output.clone().unwrap_or_default().display());
        }
        // Whoever closed standard error does not want to know.
        if self.args.json {
            let _ = std::io::stderr().write_all(line().as_bytes());
        } else if !self.args.quiet {
            let block = tw_report::terminal::block(&finding) + "\n";
            let _ = anstream::AutoStream::auto(std::io::stderr()).write_all(block.as_bytes());
        }
    }
}
