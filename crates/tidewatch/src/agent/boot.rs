//! The start of the agent: what is given up, opened and read before the first event.

use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bumpalo::Bump;
use rustix::process::{Signal, set_parent_process_death_signal};
use tw_detect::Detector;
use tw_enrich::{Notice, World, WorldOptions};
use tw_model::Priority;
use tw_model::process::{Image, Process};
use tw_model::status::Histogram;
use tw_report::redact::{Redactor, load_or_make_salt};
use tw_report::spool::{Spool, SpoolOptions, SpoolSync};
use tw_report::uplink::{Bell, Board, UplinkOptions};
use tw_sensor::clock as kernel;

use super::beat::{self, Pulse};
use super::budget::Budget;
use super::clock::WallClock;
use super::costs::Costs;
use super::coverage::Cover;
use super::first_rules::FirstRules;
use super::losses::Losses;
use super::reload::Reload;
use super::sensing::{Prepared, cannot_watch};
use super::tape::Tape;
use super::usage::Meter;
use super::{Agent, first_rules, first_settings, identity};
use crate::config::{self, Config, Sources};
use crate::log::LogLevel;
use crate::outlet::{Outlet, OutletOptions, Shape};
use crate::screen;
use crate::service::Account;
use crate::{sandbox, socket};

/// How long the start waits for the first word of all runtimes.
const RUNTIME_PATIENCE: Duration = Duration::from_secs(2);
/// How long a runtime that answers takes to list what runs.
const LISTING: Duration = Duration::from_millis(150);
/// Messages about pods that wait; each has 64 KiB at most.
const PODS: usize = 8;
/// Upper bounds of the classes of seconds from event to finding.
const LATENCY: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// What the agent is told beside its configuration.
pub struct AgentOptions {
    /// Where the configuration came from, to read it again.
    pub sources: Sources,
    /// Stop after so long.
    pub duration: Option<Duration>,
    /// Changes the level of the log.
    pub level: LogLevel,
    /// Why the settings are those of before, if they are.
    pub settings_error: Option<String>,
}

/// Runs until a signal, the end of its time, or the end of whoever reads the alerts.
///
/// # Errors
/// If it cannot start: a rule is broken, or eBPF is not to be had.
pub fn run(config: Config, options: AgentOptions) -> anyhow::Result<ExitCode> {
    let supervised = supervisor().is_some();
    let wanted = flag(&[signal_hook::consts::SIGHUP])?;
    end_with_supervisor()?;
    // Whoever runs it by hand has no supervisor that made folders and socket.
    for folder in [&config.run_dir, &config.agent_dir()] {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let listener = match socket::inherited() {
        Some(listener) => listener,
        None => socket::bind(&config.agent_socket(), socket::Access::Root)?,
    };
    // Some of it is not allowed any more afterwards.
    let prepared = match Prepared::choose(&config) {
        Ok(prepared) => prepared,
        Err(error) => return Ok(cannot_watch(&error)),
    };
    sandbox::enter_agent(prepared.mode())?;
    let stop = stop_flag()?;
    let mut first = first_rules::choose(&config, restarts() > 0)?;
    // While the kernel looks at the programs the rules are put together, and runtimes say what they have to say.
    let rules = std::mem::take(&mut first.rules);
    let detector = std::thread::Builder::new().name("rules".into()).spawn(move || Detector::new(rules))?;
    let world = World::new(WorldOptions { runtimes: config.runtime_options(), ..WorldOptions::default() })?;
    let mut sensor = match prepared.start(&config) {
        Ok(sensor) => sensor,
        Err(error) => return Ok(cannot_watch(&error)),
    };
    let started = Instant::now();
    let detector = detector.join().map_err(|_| anyhow::anyhow!("the rules cannot be put together"))?;
    let parts = (world, detector);
    let mut agent = open(config, parts, listener, options.sources, options.level, wanted, &mut first)?;
    let up = hear_runtimes(&mut agent.world);
    let redactor = agent.redactor.clone();
    let seeded = agent.world.seed(|process| without_secrets(redactor.as_ref(), process));
    if let Some(tape) = &mut agent.tape {
        tape.begin(&mut agent.world, &agent.node, &agent.rules.digest);
    }
    if up {
        // The list of what runs follows at once; give it a moment, so that the status is whole.
        let whole = Instant::now() + LISTING;
        while Instant::now() < whole {
            agent.turn(&mut *sensor);
            std::thread::sleep(agent.budget.nap());
        }
    }
    agent.turn(&mut *sensor);
    if let Some(error) = options.settings_error {
        agent.say(first_settings::notice(&error));
        agent.settings_error = Some(error);
    }
    if let Some(notice) = first.notice.take() {
        agent.say(notice);
    }
    if let Some(notice) = agent.cover.unwatched().and_then(beat::notice) {
        tracing::warn!("{}", notice.message);
        agent.say(notice);
    }
    let mute = agent.mute(sensor.mode()).len();
    screen::status(&*sensor, &agent.world, &agent.rules, mute, seeded);
    if let Err(error) = std::fs::write(agent.config.ready_file(), std::process::id().to_string()) {
        tracing::warn!("cannot write {}: {error}", agent.config.ready_file().display());
    }

    // Rules were read, types of the kernel, a list of all processes: none of it is needed again.
    tw_sensor::memory::give_back();
    let end = options.duration.map(|duration| started + duration);
    while !stop.load(Ordering::Relaxed) && !agent.outlet.is_closed() && end.is_none_or(|end| Instant::now() < end) {
        if agent.turn(&mut *sensor) == 0 {
            std::thread::sleep(agent.budget.nap());
        }
    }
    agent.finish(&mut *sensor);
    // To the supervisor success means that the work is done; a signal does not.
    let signalled = stop.load(Ordering::Relaxed) && supervised;
    Ok(if signalled { ExitCode::from(143) } else { ExitCode::SUCCESS })
}

/// Opens everything that an agent writes to or is asked at.
fn open(
    config: Config,
    (mut world, detector): (World, Detector),
    listener: UnixListener,
    sources: Sources,
    level: LogLevel,
    wanted: Arc<AtomicBool>,
    first: &mut FirstRules,
) -> anyhow::Result<Agent> {
    let folder = config.agent_dir();
    let node = identity::of_this_agent(&folder)?;
    let redactor = if config.redaction.enabled {
        let salt = load_or_make_salt(&folder.join("redaction-salt")).context("the salt of the redaction")?;
        Some(Redactor::new(salt))
    } else {
        None
    };
    let spool = open_spool(&config)?;
    let view = spool.view();
    let spool = Arc::new(Mutex::new(spool));
    let bell = Bell::default();
    let board = Arc::<Board>::default();
    let (calls, asked) = sync_channel(16);
    let (say_pods, pods) = sync_channel(PODS);
    tw_report::uplink::start(UplinkOptions {
        listener,
        manager_uid: Account::find(&config.manager.user)?.uid,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: node.clone(),
        board: Arc::clone(&board),
        spool: Some(Arc::clone(&spool)),
        bell: bell.clone(),
        calls,
        pods: say_pods,
    })?;
    let outlet = Outlet::open(OutletOptions {
        stdout: match config.output.stdout {
            config::Stdout::Text => Shape::Text,
            config::Stdout::Json => Shape::Json,
            config::Stdout::None => Shape::Nothing,
        },
        file: config.output.file.clone(),
        hostname: node.hostname.clone(),
        redactor: redactor.clone(),
        spool: Some(spool),
        bell,
    })?;
    let (pulse, unwatched) = Pulse::open(&folder.join("beat"), &node.boot_id, kernel::wall_ns());
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let tape = if config.recorder.enabled { Some(Tape::open(&config, &mut world)?) } else { None };
    let meter = Meter::start(config.agent.resources_seconds).context("cannot measure what containers use")?;
    // Behind the spool, which nobody else has then.
    first.keep(&config);
    let detector = detector.in_session(node.session);
    Ok(Agent {
        node,
        world,
        detector,
        outlet,
        pods,
        redactor,
        tape,
        meter,
        reload: Reload::new(sources, wanted, asked, level, Some(view), std::mem::take(&mut first.watched)),
        board,
        rules: std::mem::take(&mut first.status),
        settings_error: None,
        clock: WallClock::read(),
        costs: Costs::default(),
        losses: Losses::default(),
        cover: Cover::after(unwatched),
        budget: Budget::new(config.agent.cpu_budget, cpus),
        pulse,
        found: [0; Priority::ALL.len()],
        latency: Histogram::new(&LATENCY),
        scratch: Bump::new(),
        started: Instant::now(),
        started_ns: kernel::wall_ns(),
        looked: None,
        malformed: 0,
        notices: 0,
        containers_told: None,
        listeners_told: None,
        mute: None,
        config,
    })
}

fn open_spool(config: &Config) -> anyhow::Result<Spool> {
    let sync = match config.spool.sync {
        config::Sync::Batch => SpoolSync::Batch,
        config::Sync::None => SpoolSync::None,
    };
    let max_bytes = config.spool.max_mib << 20;
    let (spool, recovery) = Spool::open(SpoolOptions { sync, max_bytes, ..SpoolOptions::new(config.spool_dir()) })?;
    for damage in recovery.damage() {
        tracing::warn!("spool: {damage}");
    }
    Ok(spool)
}

/// Takes secrets out of the arguments and the environment of a process that ran before us.
pub fn without_secrets(redactor: Option<&Redactor>, process: &mut Process) {
    let Some(redactor) = redactor else { return };
    let old = &process.image;
    let (clean, env) = (redactor.argv(&old.argv), redactor.environ(&old.env));
    if *clean != *old.argv || *env != *old.env {
        process.image = Arc::new(Image {
            exepath: old.exepath.clone(),
            argv_truncated: old.argv_truncated,
            env: env.as_ref().into(),
            file: old.file,
            ..Image::from_argv(&clean)
        });
        process.rebuild_cmdline();
    }
}

/// Number of the supervisor, if there is one.
pub fn supervisor() -> Option<u32> {
    std::env::var("TIDEWATCH_SUPERVISED").ok()?.parse().ok()
}

/// How often the supervisor started this process again.
pub fn restarts() -> u64 {
    std::env::var("TIDEWATCH_RESTARTS").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// A child ends when its supervisor does, however that ends.
pub fn end_with_supervisor() -> anyhow::Result<()> {
    let Some(supervisor) = supervisor() else { return Ok(()) };
    set_parent_process_death_signal(Some(Signal::TERM)).context("cannot ask to end with the supervisor")?;
    // It may have ended before that.
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    anyhow::ensure!(parent == Some(supervisor), "the supervisor is gone");
    Ok(())
}

/// Waits a moment for the first word of each runtime, and tells the log; whether one answers.
fn hear_runtimes(world: &mut World) -> bool {
    let notices = world.await_runtimes(RUNTIME_PATIENCE);
    notices.iter().for_each(log_notice);
    world.runtimes().any(|runtime| runtime.up)
}

/// Waits a moment for what each runtime has to say, and tells the log.
pub fn meet_runtimes(world: &mut World) {
    if hear_runtimes(world) {
        // The list of what runs follows at once; give it a moment, so that the status is whole.
        std::thread::sleep(LISTING);
        world.news(kernel::boot_to_wall_ns()).iter().for_each(log_notice);
    }
}

/// Tells the log.
pub(super) fn log_notice(notice: &Notice) {
    let Notice::Runtime(runtime) = notice;
    let (name, says) = (runtime.name, &runtime.says);
    if runtime.up {
        tracing::info!("{name} answers: {says}");
    } else if !runtime.absent {
        tracing::warn!("{name} does not answer ({says}): of its new containers only what is on disk is known");
    }
}

/// Set by the first signal to end.
pub fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    flag(&[signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM])
}

fn flag(signals: &[i32]) -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in signals {
        if *signal != signal_hook::consts::SIGHUP {
            // A second signal ends the program at once, should the first hang.
            signal_hook::flag::register_conditional_shutdown(*signal, 130, Arc::clone(&flag))?;
        }
        signal_hook::flag::register(*signal, Arc::clone(&flag))?;
    }
    Ok(flag)
}

/// Name of this host.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
