//! Captures of sysdig and Falco (`.scap`): read, and told in our own words.
//!
//! A capture is a list of blocks: the machine, its interfaces, users, processes and their descriptors, then events, each
//! when a call begins and when it ends. [`CaptureReader::read`] gives what was known at the start, and for each call of
//! our kinds a record with the bytes that the kernel half would have written. What is read, what is not, and the limits:
//! `docs/spec/scap.md`.
//!
//! A file may be cut, damaged, or made by somebody who means harm. Everything before the first place that cannot be read
//! is delivered. **Never:** trusts a length before it is checked, grows a table without a bound, or panics.
#![forbid(unsafe_code)]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use tw_model::ProcKey;

mod arguments;
mod block;
mod bytes;
mod convert;
mod descriptors;
mod error;
mod event;
mod flags;
mod lists;
mod machine;
mod native;
mod path;
mod record;
mod source;
mod state;
mod table;
mod writer;

pub use convert::Conversion;
pub use error::CaptureError;
pub use machine::{Account, Interface, Machine};
pub use native::Frame;
pub use source::BytesRead;
pub use writer::{CaptureWriter, HostFacts, OpenFile, OpenKind, Written};

use block::{Block, BlockKind, Blocks, EventForm, damaged};
use convert::Converter;
use event::CaptureEvent;
use source::Source;

/// One thing that a capture tells. Borrows from the reader.
#[derive(Debug)]
pub enum Item<'a> {
    /// Another machine, or another time: nothing of what was told before holds any more.
    Section,
    /// The machine.
    Machine(&'a Machine),
    /// An address of the machine.
    Interface(Interface<'a>),
    /// A user or a group.
    Account(Account<'a>),
    /// A process that ran already.
    Process(&'a Listed<'a>),
    /// A cgroup belongs to a container. Numbers of cgroups are made up.
    Place {
        /// The cgroup.
        cgroup: u64,
        /// Full id of the container.
        container: &'a str,
    },
    /// What a container is.
    Container(ContainerNews<'a>),
    /// What to add to the boot times of records to get wall-clock times. Told before the first record.
    Clock {
        /// Nanoseconds.
        boot_to_wall_ns: u64,
    },
    /// A call that ended, as the kernel half would have told it.
    Record {
        /// Number of its event in the capture, from 1. Every event counts, told or not.
        number: u64,
        /// The record, aligned for [`tw_model::Raw::parse`].
        bytes: &'a [u8],
    },
    /// A frame that we wrote ourselves. A capture with such tells by them all that it tells otherwise, and more.
    Native {
        /// What it is.
        frame: Frame,
        /// Its bytes, aligned for [`tw_model::Raw::parse`].
        bytes: &'a [u8],
    },
}

/// What a capture says of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerNews<'a> {
    /// As later writers put it: an object `container` in JSON.
    Json(&'a [u8]),
    /// The same of a container that is gone.
    Gone(&'a [u8]),
    /// As the oldest writers put it.
    Words {
        /// Its id, the first twelve digits as a rule.
        id: &'a [u8],
        /// Number of its runtime.
        kind: u32,
        /// Its name.
        name: &'a [u8],
        /// Its image.
        image: &'a [u8],
    },
}

/// A process that ran when the capture began. What is not told is 0 or empty.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "named as the fields of Process, Image and ExeFile that they fill")]
pub struct Listed<'a> {
    /// Captures do not tell when it started: that is 0.
    pub key: ProcKey,
    pub parent: Option<ProcKey>,
    pub comm: &'a [u8],
    /// `argv[0]`
    pub exe: &'a [u8],
    /// argv from 1 on, each ended by NUL.
    pub args: &'a [u8],
    pub exepath: &'a [u8],
    pub env: &'a [u8],
    pub cwd: &'a [u8],
    pub uid: u32,
    pub gid: u32,
    pub loginuid: u32,
    pub cap_effective: u64,
    pub cap_permitted: u64,
    pub cap_inheritable: u64,
    pub tty: u32,
    pub sid: u32,
    pub vpid: u32,
    pub vpgid: u32,
    pub cgroup: u64,
    pub ino: u64,
    pub ctime_ns: u64,
    pub mtime_ns: u64,
    pub writable: bool,
    pub upper_layer: bool,
    pub lower_layer: bool,
    pub memfd: bool,
}

/// How a reading went.
#[derive(Debug, Default)]
#[must_use]
pub struct Reading {
    /// What became of the events.
    pub conversion: Conversion,
    /// Blocks of kinds that are not known: passed over.
    pub unknown_blocks: u64,
    /// Lists that break off: what was before that place is known.
    pub broken_lists: u64,
    /// What kept the capture from being read to its end.
    pub error: Option<CaptureError>,
}

/// What is in a capture, from a look that converts nothing.
#[derive(Debug, Default)]
pub struct Survey {
    /// The machine of the first section.
    pub machine: Machine,
    /// Its addresses, with the interface in front.
    pub addresses: Vec<String>,
    /// Threads in the lists of processes.
    pub threads: u64,
    /// Events.
    pub events: u64,
    /// Events that only our reader sees.
    pub native: u64,
    /// Wall-clock time of the first and of the last event, nanoseconds since the epoch; 0 without events.
    pub first_ns: u64,
    /// See `first_ns`.
    pub last_ns: u64,
    /// Whether the file is compressed.
    pub packed: bool,
    /// What kept the capture from being read to its end.
    pub error: Option<CaptureError>,
}

/// Most addresses that a survey lists.
const MAX_ADDRESSES: usize = 64;

/// Whether a file begins like a capture, gzip or plain. Of a gzip file that can be told only by opening it.
pub fn looks_like_capture(head: &[u8]) -> bool {
    head.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]) || head.starts_with(&[0x1f, 0x8b])
}

/// One capture, open for reading once.
pub struct CaptureReader {
    source: Source,
    blocks: Blocks,
}

impl CaptureReader {
    /// Opens a capture, gzip or plain, and looks at how it begins.
    ///
    /// # Errors
    /// [`CaptureError`] if it cannot be read, is no capture, or of a newer format.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        Self::new(Source::open(path)?)
    }

    /// The same for a capture in memory; `name` stands for its path in errors.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_bytes(name: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<Self, CaptureError> {
        Self::new(Source::from_bytes(name.into(), bytes))
    }

    fn new(mut source: Source) -> Result<Self, CaptureError> {
        let mut blocks = Blocks::default();
        blocks.next(&mut source)?; // stays at the front
        Ok(Self { source, blocks })
    }

    /// Whether the file is compressed.
    pub fn is_packed(&self) -> bool {
        self.source.is_packed()
    }

    /// A view of how much of the file was read, which goes on while [`Self::read`] does.
    pub fn bytes_read(&self) -> BytesRead {
        self.source.bytes_read()
    }

    /// Delivers everything in order, until `take` breaks.
    pub fn read(mut self, take: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>) -> Reading {
        let mut reading = Reading::default();
        let mut converter = Converter::new();
        let mut first = true;
        let mut broken = false;
        let mut tell = |item: Item<'_>| {
            if !broken {
                broken = take(item).is_break();
            }
            broken
        };
        loop {
            let block = match self.blocks.next(&mut self.source) {
                Ok(Some(block)) => block,
                Ok(None) => break,
                Err(error) => {
                    reading.error = Some(error);
                    break;
                }
            };
            let content = block.content(&self.source);
            let order = self.blocks.order();
            let mut stop = false;
            let mut told = |item: Item<'_>| stop = tell(item);
            let whole = match block.kind {
                BlockKind::Event(form) => {
                    converter.event(CaptureEvent::read(content, form, order), &mut told);
                    true
                }
                BlockKind::Section => {
                    if !first {
                        converter.section();
                        told(Item::Section);
                    }
                    first = false;
                    true
                }
                BlockKind::Machine => match Machine::read(content, order) {
                    Some(machine) => {
                        converter.booted(machine.boot_ns);
                        told(Item::Machine(&machine));
                        true
                    }
                    None => false,
                },
                BlockKind::Interfaces(version) => {
                    machine::read_interfaces(content, order, version, &mut |interface| told(Item::Interface(interface)))
                }
                BlockKind::Users(version) => {
                    machine::read_accounts(content, order, version, &mut |account| told(Item::Account(account)))
                }
                BlockKind::Processes(version) => {
                    // Parents are named by their threads, which may stand anywhere in the list.
                    let whole = lists::read_processes(content, order, version, &mut |entry| converter.thread(entry));
                    lists::read_processes(content, order, version, &mut |entry| converter.listed(entry, &mut told));
                    whole
                }
                BlockKind::Descriptors(version) => {
                    lists::read_descriptors(content, order, version, &mut |tid, fd, descriptor, name| {
                        converter.descriptor(tid, fd, descriptor, name);
                    })
                }
                BlockKind::Unknown => {
                    reading.unknown_blocks += 1;
                    true
                }
            };
            if !whole {
                reading.broken_lists += 1;
                let what = "a list breaks off in its block, what follows was read".to_owned();
                reading.error.get_or_insert_with(|| damaged(&self.source, block.offset, what));
            }
            block.pass(&mut self.source);
            if stop {
                break;
            }
        }
        reading.conversion = converter.counts;
        reading
    }

    /// Looks through the whole capture without converting anything.
    pub fn survey(mut self) -> Survey {
        let mut survey = Survey { packed: self.is_packed(), ..Survey::default() };
        loop {
            match self.blocks.next(&mut self.source) {
                Ok(Some(block)) => {
                    look_at(block, block.content(&self.source), self.blocks.order(), &mut survey);
                    block.pass(&mut self.source);
                }
                Ok(None) => return survey,
                Err(error) => {
                    survey.error = Some(error);
                    return survey;
                }
            }
        }
    }
}

fn look_at(block: Block, content: &[u8], order: bytes::Order, survey: &mut Survey) {
    match block.kind {
        BlockKind::Event(form) => look_at_event(content, form, order, survey),
        BlockKind::Machine if survey.machine == Machine::default() => {
            survey.machine = Machine::read(content, order).unwrap_or_default();
        }
        BlockKind::Interfaces(version) => {
            machine::read_interfaces(content, order, version, &mut |interface| {
                if survey.addresses.len() < MAX_ADDRESSES && !interface.address.is_loopback() {
                    let name = String::from_utf8_lossy(interface.name);
                    survey.addresses.push(format!("{name} {}", interface.address));
                }
            });
        }
        BlockKind::Processes(version) => {
            lists::read_processes(content, order, version, &mut |_| survey.threads += 1);
        }
        _ => {}
    }
}

fn look_at_event(content: &[u8], form: EventForm, order: bytes::Order, survey: &mut Survey) {
    let event = CaptureEvent::read(content, form, order);
    if event.is_some_and(|event| event.number == native::EVENT) {
        survey.native += 1;
        return;
    }
    survey.events += 1;
    if let Some(event) = event {
        if survey.first_ns == 0 {
            survey.first_ns = event.time_ns;
        }
        survey.last_ns = survey.last_ns.max(event.time_ns);
    }
}
