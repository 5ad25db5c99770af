//! A capture as the pipeline writes it: each record for other readers, and once more as it is, with what was learnt
//! between, for ours.

use std::collections::HashSet;
use std::io;

use tw_enrich::{Context, World};
use tw_model::event::{EVENTS, EventKind};
use tw_model::{Container, Event, ProcKey, Raw};
use tw_sensor::capture::{CaptureWriter, Frame, HostFacts, OpenFile, Written};
use tw_sensor::recorder::SegmentMeta;

use super::Whose;

/// Room for one record with everything around it: the file ends before its limit by this much.
const SLACK: u64 = 256 << 10;

/// Says what these processes have open.
pub(super) type LookAtOpen<'a> = &'a dyn Fn(&HashSet<ProcKey>) -> Vec<(u32, Vec<OpenFile>)>;

/// The file, and whose records go in.
pub(super) struct Tape {
    writer: CaptureWriter,
    whose: Whose,
    /// Whether our own records are written too.
    native: bool,
    limit: u64,
    begun: bool,
    /// Number of the next event, if none is left out.
    next: u64,
    wall_ns: u64,
    json: Vec<u8>,
    /// Living processes that our own reader was told of, whoever they belong to: it must hear of their end, too.
    described: HashSet<ProcKey>,
}

impl Tape {
    pub(super) fn new(writer: CaptureWriter, whose: Whose, native: bool, limit: Option<u64>) -> Self {
        let limit = limit.unwrap_or(u64::MAX);
        Self {
            writer,
            whose,
            native,
            limit,
            begun: false,
            next: 0,
            wall_ns: 0,
            json: Vec::new(),
            described: HashSet::new(),
        }
    }

    /// Whether something was written.
    pub(super) fn is_begun(&self) -> bool {
        self.begun
    }

    /// Whether there is no room for another record.
    pub(super) fn is_full(&self) -> bool {
        self.writer.bytes().saturating_add(SLACK) > self.limit
    }

    /// The state of the world, from which what follows can be understood. Before the first record, and for our own
    /// reader again when the state is another: at the next segment of the recorder.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn begin(
        &mut self,
        world: &World,
        meta: SegmentMeta,
        host: &HostFacts,
        open: LookAtOpen<'_>,
    ) -> io::Result<()> {
        self.wall_ns = meta.started_ns;
        let listed = self.listed(world);
        if !self.begun {
            let mut running: Vec<_> = world.processes().iter().filter(|it| listed.contains(&it.key)).collect();
            // Those who started earlier stand first: parents before children.
            running.sort_unstable_by_key(|process| (process.key.start_ns, process.key.pid));
            let mut open = open(&listed).into_iter();
            self.writer.begin(host, &mut running.into_iter(), &|cgroup| world.container_of(cgroup), &mut open)?;
            for container in world.containers().filter(|container| self.whose.wants(Some(container))) {
                self.writer.container(container, self.wall_ns)?;
            }
        }
        self.begun = true;
        if !self.native {
            return Ok(());
        }
        self.next = world.events() + 1;
        let meta = SegmentMeta {
            arch: std::env::consts::ARCH.into(),
            events: EVENTS.iter().map(|event| event.name.to_owned()).collect(),
            ..meta
        };
        self.json.clear();
        serde_json::to_writer(&mut self.json, &meta)?;
        self.writer.native(Frame::Meta, &self.json, self.wall_ns)?;
        self.described.extend(&listed);
        let mut wrote = Ok(());
        world.checkpoint(&mut |context| {
            let wanted = match &context {
                Context::Process { process } => self.whose.is_everybody() || listed.contains(&process.key),
                Context::Dead { .. } => self.whose.is_everybody(),
                _ => true,
            };
            if wrote.is_ok() && wanted {
                wrote = self.context(&context);
            }
        });
        wrote
    }

    /// Who stands in the list of processes: of a container alone those in it, and whom they descend from.
    fn listed(&self, world: &World) -> HashSet<ProcKey> {
        let table = world.processes();
        let living = table.iter().filter(|process| process.exit_ns.is_none());
        let mut listed = HashSet::new();
        for process in living.filter(|process| self.whose.wants(world.container_of(process.cgroup_id))) {
            listed.insert(process.key);
            listed.extend(table.ancestors(process).map(|ancestor| ancestor.key));
        }
        listed
    }

    /// Something that was learnt; only our own reader is told.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn context(&mut self, context: &Context) -> io::Result<()> {
        let foreign = match context {
            Context::Container { container } => !self.whose.wants(Some(container)),
            Context::Listening { .. } | Context::ListeningEnded { .. } => !self.whose.is_everybody(),
            _ => false,
        };
        if !self.native || !self.begun || foreign {
            return Ok(());
        }
        self.json.clear();
        serde_json::to_writer(&mut self.json, context)?;
        self.writer.native(Frame::Context, &self.json, self.wall_ns)
    }

    /// Any other frame of our own.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn frame(&mut self, frame: Frame, payload: &[u8]) -> io::Result<()> {
        if !self.native || !self.begun {
            return Ok(());
        }
        self.writer.native(frame, payload, self.wall_ns)
    }

    /// The event for other readers; false if it is nobody's who is wanted. Then call [`Self::record`], unless it was.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn event(&mut self, event: &Event<'_>) -> io::Result<bool> {
        let ends = event.kind() == EventKind::Procexit && self.described.remove(&event.process.key);
        if !ends && !self.whose.wants(event.container) {
            return Ok(false);
        }
        self.wall_ns = event.wall_ns;
        self.writer.event(event)?;
        Ok(true)
    }

    /// The record for our own reader, behind those who were never told before.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn record(&mut self, world: &World, raw: &Raw<'_>, number: u64) -> io::Result<()> {
        if !self.native {
            return Ok(());
        }
        if !self.whose.is_everybody() {
            for key in self.writer.introduced().to_vec() {
                if let Some(process) = world.processes().get(key) {
                    self.described.insert(key);
                    self.context(&Context::Process { process: Box::new(process.clone()) })?;
                }
            }
        }
        if self.next != number {
            self.context(&Context::Events { count: number - 1 })?;
        }
        self.next = number + 1;
        self.writer.native(Frame::Record, raw.bytes(), self.wall_ns)
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }

    pub(super) fn written(&self) -> Written {
        self.writer.written()
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn finish(self) -> io::Result<Written> {
        self.writer.finish()
    }
}

/// Whether a container of this name or id is known.
pub(super) fn is_known(world: &World, whose: &Whose) -> bool {
    world.containers().any(|container: &Container| whose.wants(Some(container)))
}
