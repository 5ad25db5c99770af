//! What happens now: a sensor of its own, so that it records whether or not a service watches this host.

use std::collections::HashSet;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bumpalo::Bump;
use tw_enrich::{World, WorldOptions};
use tw_model::Raw;
use tw_model::raw::from_words;
use tw_model::status::Node;
use tw_report::redact::{Redactor, load_or_make_salt};
use tw_sensor::capture::CaptureWriter;
use tw_sensor::recorder::SegmentMeta;
use tw_sensor::{EbpfSensor, clock as kernel};

use super::tape::{Tape, is_known};
use super::{End, Show, Whose, broken, create, host};
use crate::agent::{self, Clean, Cover, Settings};
use crate::cli::RecordArgs;
use crate::config::Config;
use crate::{sandbox, screen};

/// How long it sleeps when there was nothing to do.
const NAP: Duration = Duration::from_millis(10);
/// How often what was gathered goes to disk.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// See [`super::run`].
pub(super) fn run(args: &RecordArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let whose = Whose(args.container.clone());
    let redactor = redactor(config)?;
    // Everything that must be read of the host, and the file, before rights are given up.
    let facts = host::facts();
    let file = create(&args.output, args.force)?;
    let stop = agent::stop_flag()?;
    sandbox::enter_agent(tw_model::Mode::Ebpf)?;
    let mut sensor = match EbpfSensor::start(&agent::options(config)) {
        Ok(sensor) => sensor,
        Err(error) => {
            let _ = std::fs::remove_file(&args.output);
            return Ok(agent::cannot_watch(&error));
        }
    };
    let mut world = World::new(WorldOptions { runtimes: config.runtime_options(), ..WorldOptions::default() })?;
    world.keep_journal();
    agent::meet_runtimes(&mut world);
    world.news(kernel::boot_to_wall_ns());
    world.seed(|process| agent::without_secrets(redactor.as_ref(), process));
    if !is_known(&world, &whose) && !whose.is_everybody() {
        let name = args.container.as_deref().unwrap_or_default();
        anstream::eprintln!("no container {} runs yet: waiting for it", tw_report::escape::line(name));
    }
    let tape = Tape::new(CaptureWriter::new(file, args.compress), whose, !args.plain, args.max_size);
    let keep_secrets = !config.recorder.redact;
    let mut recording =
        Recording { world, tape, redactor, keep_secrets, cover: Cover::default(), scratch: Bump::new() };
    let begun = recording.begin(config, &facts);
    let mut wrote = begun;
    let mut show = Show::new();
    show.begins(args);
    let started = Instant::now();
    let end = args.duration.map(|seconds| started + Duration::from_secs(seconds));
    let mut flushed = started;
    let mut why = None;
    while wrote.is_ok() && !stop.load(Ordering::Relaxed) && end.is_none_or(|end| Instant::now() < end) {
        if recording.tape.is_full() {
            why = Some("--max-size is reached".to_owned());
            break;
        }
        let taken;
        (taken, wrote) = recording.turn(&mut sensor);
        if wrote.is_ok() && flushed.elapsed() >= FLUSH_EVERY {
            flushed = Instant::now();
            recording.world.refresh_users(kernel::boot_ns());
            wrote = recording.tape.flush();
        }
        let (written, lost) = (recording.tape.written(), lost(&sensor));
        show.look(|seconds| {
            format!(
                "{seconds} s: {} records, {}, {lost} lost. Ctrl-C ends",
                written.records,
                screen::bytes(written.bytes)
            )
        });
        if taken == 0 {
            std::thread::sleep(NAP);
        }
    }
    // What happened before the signal still counts; nor is there more to wait for.
    if wrote.is_ok() && why.is_none() {
        wrote = recording.turn(&mut sensor).1.and_then(|()| recording.released(u64::MAX));
        wrote = wrote.and_then(|()| recording.missed(&mut sensor, true));
    }
    let (lost, seconds) = (lost(&sensor), show.end());
    drop(sensor);
    let written = recording.tape.written();
    let whose = Whose(args.container.clone());
    if wrote.is_ok() && written.records == 0 && !is_known(&recording.world, &whose) {
        let _ = std::fs::remove_file(&args.output);
        let name = args.container.as_deref().unwrap_or_default();
        let name = tw_report::escape::line(name);
        anyhow::bail!(
            "no container {name} ran in that time: nothing was recorded; docker ps, ctr or crictl list names"
        );
    }
    let written = wrote.and_then(|()| recording.tape.finish()).map_err(|error| broken(args, &written, &error))?;
    End { args, written, seconds, lost, why }.tell()
}

/// Takes secrets out before anything is written, with the salt of this host, so that digests are the same everywhere.
fn redactor(config: &Config) -> anyhow::Result<Option<Redactor>> {
    if !config.redaction.enabled {
        return Ok(None);
    }
    let folder = config.agent_dir();
    std::fs::create_dir_all(&folder)?;
    Ok(Some(Redactor::new(load_or_make_salt(&folder.join("redaction-salt"))?)))
}

fn lost(sensor: &EbpfSensor) -> u64 {
    sensor.counts().iter().map(|(_, count)| count.lost()).sum()
}

/// The corridor from the rings to the file.
struct Recording {
    world: World,
    tape: Tape,
    redactor: Option<Redactor>,
    /// Secrets are not taken out of what is written, only of what a replay shows.
    keep_secrets: bool,
    /// What was missed goes into the file, so that a replay knows how much was seen.
    cover: Cover,
    scratch: Bump,
}

impl Recording {
    fn begin(&mut self, config: &Config, facts: &tw_sensor::capture::HostFacts) -> std::io::Result<()> {
        // The state has it all.
        self.world.learnt().for_each(drop);
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let now = kernel::wall_ns();
        let meta = SegmentMeta {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: Node {
                hostname: facts.hostname.clone(),
                boot_id: boot_id.trim().to_owned(),
                session: tw_model::finding::fnv1a(&[boot_id.trim().as_bytes(), &now.to_le_bytes()]),
                ..Node::default()
            },
            started_ns: now,
            boot_to_wall_ns: kernel::boot_to_wall_ns(),
            first_event: self.world.events() + 1,
            extra: serde_json::json!(Settings::of(config)),
            ..SegmentMeta::default()
        };
        self.tape.begin(&self.world, meta, facts, &|listed: &HashSet<_>| host::open_files(listed))
    }

    /// Takes what is in the rings; how many records that was.
    fn turn(&mut self, sensor: &mut EbpfSensor) -> (usize, std::io::Result<()>) {
        for notice in self.world.news(kernel::boot_to_wall_ns()) {
            tracing::debug!("{notice:?}");
        }
        let mut wrote = self.released(kernel::boot_ns());
        let taken = sensor.drain(|bytes| {
            if wrote.is_err() {
                return;
            }
            match Raw::parse(bytes) {
                Ok(raw) if self.world.admit(&raw) => wrote = self.inspect(raw),
                Ok(_) => {} // waits for its container's name
                Err(error) => {
                    tracing::debug!("{error}");
                    self.cover.malformed(&mut self.world);
                }
            }
        });
        (taken, wrote.and_then(|()| self.missed(sensor, false)))
    }

    /// Writes what was missed since the last time.
    fn missed(&mut self, sensor: &mut EbpfSensor, at_end: bool) -> std::io::Result<()> {
        self.cover.book(&mut self.world, sensor, at_end);
        self.learnt()
    }

    fn learnt(&mut self) -> std::io::Result<()> {
        for context in self.world.learnt().collect::<Vec<_>>() {
            self.tape.context(&context)?;
        }
        Ok(())
    }

    fn released(&mut self, now_ns: u64) -> std::io::Result<()> {
        for words in self.world.release(now_ns) {
            if let Ok(raw) = Raw::parse(from_words(&words)) {
                self.inspect(raw)?;
            }
        }
        Ok(())
    }

    fn inspect(&mut self, raw: Raw<'_>) -> std::io::Result<()> {
        if self.tape.is_full() {
            return Ok(());
        }
        let redactor = if self.keep_secrets { None } else { self.redactor.as_ref() };
        let clean = Clean::new(redactor, &raw);
        let seen = clean.instead_of(raw);
        let event = self.world.observe(seen, &self.scratch);
        let number = event.num;
        let wanted = self.tape.event(&event)?;
        self.scratch.reset();
        self.learnt()?;
        if wanted {
            self.tape.record(&self.world, &seen, number)?;
        }
        Ok(())
    }
}
