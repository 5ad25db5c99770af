//! The agent: the corridor from the kernel to the alert, in the order of the picture in ARCHITECTURE.md.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bumpalo::Bump;
use tw_detect::Detector;
use tw_enrich::{Notice, World, WorldOptions};
use tw_model::finding::Shown;
use tw_model::raw::from_words;
use tw_model::{Finding, Priority, Raw};
use tw_rules::Matching;
use tw_sensor::{EbpfSensor, SensorError, clock};

use crate::cli::{MatchingArg, RunArgs};
use crate::outlet::{Outlet, OutletOptions};
use crate::rules::{self, Loaded};
use crate::screen::{self, Docker};

/// How long the agent sleeps when there was nothing to do. The rings hold far more than comes in that time.
const NAP: Duration = Duration::from_millis(10);
/// How often losses are looked for.
const LOSS_EVERY: Duration = Duration::from_secs(1);
/// How often losses are reported at most.
const LOSS_REPORT_EVERY: Duration = Duration::from_secs(30);
/// How long the start waits for Docker's first word.
const DOCKER_PATIENCE: Duration = Duration::from_secs(2);

/// Runs until a signal, the end of `--duration`, or the end of whoever reads the alerts.
///
/// # Errors
/// If the agent cannot start: a rule is broken, or eBPF is not to be had.
pub fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let Some(mut loaded) = load_rules(args)? else { return Ok(ExitCode::FAILURE) };
    if args.matching == MatchingArg::First {
        loaded.rules.set_matching(Matching::First);
    }
    let stop = stop_on_signals()?;
    let mut sensor = match EbpfSensor::start(&tw_sensor::Options { privileged_rate: args.privileged_rate }) {
        Ok(sensor) => sensor,
        Err(error) => return Ok(cannot_watch(&error)),
    };
    let outlet =
        Outlet::open(OutletOptions { json: args.json, alerts_file: args.alerts_file.clone(), hostname: hostname() })?;
    let mut world = World::new(WorldOptions {
        docker_socket: (!args.no_docker).then(|| args.docker_socket.clone()),
        ..WorldOptions::default()
    })?;
    let docker = meet_docker(&mut world, args);
    let seeded = world.seed();
    screen::status(&sensor, &world, &loaded, seeded, &docker);

    let mut agent = Agent {
        world,
        detector: Detector::new(loaded.rules),
        outlet,
        least: args.priority,
        scratch: Bump::new(),
        events: 0,
        malformed: 0,
        losses: Losses::default(),
    };
    let started = Instant::now();
    let end = args.duration.map(|seconds| started + Duration::from_secs(seconds));
    while !stop.load(Ordering::Relaxed) && !agent.outlet.is_closed() && end.is_none_or(|end| Instant::now() < end) {
        let taken = agent.turn(&mut sensor);
        if taken == 0 {
            std::thread::sleep(NAP);
        }
    }
    agent.finish(&mut sensor, started.elapsed());
    Ok(ExitCode::SUCCESS)
}

/// Everything between the rings and the outlet.
struct Agent {
    world: World,
    detector: Detector,
    outlet: Outlet,
    least: Priority,
    scratch: Bump,
    events: u64,
    malformed: u64,
    losses: Losses,
}

impl Agent {
    /// Takes what is in the rings; returns how many records that was.
    fn turn(&mut self, sensor: &mut EbpfSensor) -> usize {
        for notice in self.world.news(clock::boot_to_wall_ns()) {
            log_notice(&notice);
        }
        self.released();
        let taken = sensor.drain(|bytes| match Raw::parse(bytes) {
            Ok(raw) if self.world.admit(&raw) => self.inspect(raw),
            Ok(_) => {} // waits for its container's name
            Err(error) => {
                self.malformed += 1;
                tracing::debug!("{error}");
            }
        });
        self.report_losses(sensor);
        taken
    }

    /// Records that waited for their container's name long enough.
    fn released(&mut self) {
        for words in self.world.release(clock::boot_ns()) {
            if let Ok(raw) = Raw::parse(from_words(&words)) {
                self.inspect(raw);
            }
        }
    }

    /// One record: enrich, detect, report.
    fn inspect(&mut self, raw: Raw<'_>) {
        self.events += 1;
        let event = self.world.observe(raw, &self.scratch);
        let (outlet, least) = (&self.outlet, self.least);
        self.detector.inspect(&event, &mut |finding: Finding| {
            if finding.priority <= least {
                outlet.send(finding);
            }
        });
        self.scratch.reset();
    }

    /// A gap is a fact, never silence.
    fn report_losses(&mut self, sensor: &EbpfSensor) {
        let outlet_lost = self.outlet.counts().1;
        if let Some(message) = self.losses.look(sensor, outlet_lost) {
            let fields = vec![("n_lost".to_owned(), Shown::Uint(self.losses.reported))];
            tracing::warn!("{message}");
            self.outlet.send(tw_detect::of_sensor(
                clock::wall_ns(),
                "Tidewatch internal: events lost",
                Priority::Warning,
                message,
                fields,
            ));
        }
    }

    fn finish(mut self, sensor: &mut EbpfSensor, ran: Duration) {
        // What happened before the signal still counts.
        self.turn(sensor);
        self.losses.said = None;
        self.losses.looked = None;
        self.report_losses(sensor);
        let counts = self.world.counts();
        let (sent, outlet_lost) = self.outlet.counts();
        self.outlet.close();
        let lost: u64 = sensor.counts().iter().map(|(_, count)| count.lost()).sum();
        let folded: u64 = sensor.counts().iter().map(|(_, count)| count.folded).sum();
        tracing::info!(
            "watched for {:.0} s: {} events, {lost} lost, {folded} folded; {}, {outlet_lost} lost; \
             {} processes ({} inferred), {} containers, {} malformed records",
            ran.as_secs_f64(),
            self.events,
            screen::count(sent as usize, "alert"),
            counts.processes,
            counts.inferred,
            counts.membership.containers,
            self.malformed,
        );
    }
}

/// What was lost, and what of it was said.
#[derive(Default)]
struct Losses {
    looked: Option<Instant>,
    said: Option<Instant>,
    known: u64,
    reported: u64,
}

impl Losses {
    /// A message if something was lost since the last one and it is time to say so.
    fn look(&mut self, sensor: &EbpfSensor, outlet_lost: u64) -> Option<String> {
        let now = Instant::now();
        if self.looked.is_some_and(|looked| now - looked < LOSS_EVERY) {
            return None;
        }
        self.looked = Some(now);
        let counts = sensor.counts();
        let total = counts.iter().map(|(_, count)| count.lost()).sum::<u64>() + outlet_lost;
        if total == self.known || self.said.is_some_and(|said| now - said < LOSS_REPORT_EVERY) {
            return None;
        }
        self.said = Some(now);
        let new = total - self.known;
        self.known = total;
        self.reported = new;
        let mut classes: Vec<(u64, &str)> = counts
            .iter()
            .filter(|(_, count)| count.lost() > 0)
            .map(|(kind, count)| (count.lost(), kind.name()))
            .collect();
        classes.sort_unstable_by(|a, b| b.cmp(a));
        let mut shown: Vec<String> = classes.iter().take(5).map(|(lost, name)| format!("{name} {lost}")).collect();
        if outlet_lost > 0 {
            shown.push(format!("alerts {outlet_lost}"));
        }
        Some(format!("{new} events lost since the last report; since start: {}", shown.join(", ")))
    }
}

/// Loads the rules; `None` if some are broken and that was said.
fn load_rules(args: &RunArgs) -> anyhow::Result<Option<Loaded>> {
    let loaded = rules::load(&args.rules)?;
    let errors = loaded.errors();
    rules::show(&loaded.diagnostics, false);
    if errors > 0 && !args.skip_broken_rules {
        anyhow::bail!(
            "{} in the rules ({}): nothing is watched. Mend what is shown above, or start with --skip-broken-rules to \
             watch with the {} that are in order",
            screen::count(errors, "error"),
            loaded.source,
            loaded.rules.len()
        );
    }
    if loaded.rules.is_empty() {
        anyhow::bail!("no rule in {}: nothing to watch for", loaded.source);
    }
    Ok(Some(loaded))
}

fn meet_docker(world: &mut World, args: &RunArgs) -> Docker {
    if args.no_docker {
        return Docker::Off;
    }
    match world.await_runtime(DOCKER_PATIENCE).into_iter().next() {
        Some(Notice::RuntimeAvailable { version }) => {
            // The list of what runs follows at once; give it a moment, so that the status is whole.
            std::thread::sleep(Duration::from_millis(150));
            world.news(clock::boot_to_wall_ns());
            Docker::Answers(version)
        }
        Some(Notice::RuntimeUnavailable { reason }) => Docker::Silent(reason),
        None => Docker::Silent("no answer yet".to_owned()),
    }
}

fn log_notice(notice: &Notice) {
    match notice {
        Notice::RuntimeAvailable { version } => tracing::info!("Docker {version} answers"),
        Notice::RuntimeUnavailable { reason } => {
            tracing::warn!("Docker does not answer ({reason}): new containers have ids but no names until it does");
        }
    }
}

/// One line on what is missing and one on what still works.
fn cannot_watch(error: &SensorError) -> ExitCode {
    let remedy = match error {
        SensorError::NotPermitted(_) if !rustix::process::geteuid().is_root() => "run it as root: sudo tidewatch run",
        SensorError::NotPermitted(_) => {
            "give it CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE, and a kernel that allows bpf()"
        }
        _ => "tidewatch doctor tells more",
    };
    anstream::eprintln!(
        "{}cannot watch:{:#} {error}; {remedy}.\nWhat works without: tidewatch rules check, rules list, rules fields, doctor.",
        screen::ERROR,
        screen::ERROR
    );
    ExitCode::from(3)
}

fn stop_on_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        // A second signal ends the program at once, should the first hang.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// Name of this host.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
