//! Packets of one container, as pcapng.
//!
//! The network namespace of the container is entered once, for a socket that gets a copy of each frame of each of its
//! interfaces; then all rights are given up. Nothing is changed in the container or in the kernel, and nothing stays
//! when the socket is closed. Layout of the file: <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html>.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{DataLink, Endianness};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tw_enrich::{World, WorldOptions};
use tw_model::Container;
use tw_sensor::capture::Written;
use tw_sensor::clock as kernel;
use tw_sensor::packets::{Packet, PacketTap};

use super::{Show, Whose, broken, create};
use crate::cli::RecordArgs;
use crate::config::Config;
use crate::screen;
use crate::{agent, sandbox};

/// How long a look for the next frame takes at most.
const PATIENCE: Duration = Duration::from_millis(100);
/// How often what was gathered goes to disk, and the container is looked at.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// Bytes that are gathered before they go to disk.
const PIECE: usize = 256 << 10;
/// Most interfaces.
const MAX_INTERFACES: usize = 1_024;
/// Room that a frame takes beside its bytes.
const AROUND: u64 = 1_024;
/// Most bytes of `/proc/PID/cgroup`.
const MAX_CGROUP: u64 = 64 << 10;

/// `ARPHRD_ETHER`, `ARPHRD_LOOPBACK`, `ARPHRD_NONE`, tunnels without a header of their own.
const ETHERNET: u16 = 1;
const LOOPBACK: u16 = 772;
const BARE: [u16; 5] = [65_534, 768, 769, 776, 778];

/// See [`super::run`].
pub(super) fn run(args: &RecordArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let whose = Whose(args.container.clone());
    let (container, process, namespace) = find(&whose, config)?;
    let mut tap = PacketTap::open(namespace, args.snaplen as usize)
        .context("cannot listen in the container's network (that takes CAP_SYS_ADMIN and CAP_NET_RAW)")?;
    let file = create(&args.output, args.force)?;
    let stop = agent::stop_flag()?;
    sandbox::enter_nothing()?;
    let mut out = Out::new(file, &container, args)?;
    let mut show = Show::new();
    show.begins(args);
    let started = Instant::now();
    let end = args.duration.map(|seconds| started + Duration::from_secs(seconds));
    let limit = args.max_size.unwrap_or(u64::MAX);
    let (mut lost, mut why, mut wrote, mut flushed) = (0, None, Ok(()), started);
    while !stop.load(Ordering::Relaxed) && end.is_none_or(|end| Instant::now() < end) {
        match tap.next(PATIENCE)? {
            // A frame on the loopback interface comes twice: when it is sent and when it arrives.
            Some(packet) if packet.hardware == LOOPBACK && packet.outgoing => {}
            Some(packet) => {
                if out.bytes() + packet.bytes.len() as u64 + AROUND > limit {
                    why = Some("--max-size is reached".to_owned());
                    break;
                }
                let number = packet.interface;
                let (length, at) = (packet.length, packet.wall_ns);
                let copy = Packet { bytes: &[], ..packet };
                if !out.knows(number) {
                    let (hardware, kept) = (copy.hardware, packet.bytes.to_vec());
                    let name = tap.interface_name(number);
                    out.interface(number, hardware, name)?;
                    out.packet(&Packet { bytes: &kept, length, wall_ns: at, ..copy })?;
                } else {
                    out.packet(&packet)?;
                }
            }
            None => {}
        }
        if flushed.elapsed() >= FLUSH_EVERY || out.is_large() {
            flushed = Instant::now();
            lost += tap.lost();
            wrote = out.flush();
            if wrote.is_err() {
                break;
            }
            if has_ended(&process) {
                why = Some("the container ended".to_owned());
                break;
            }
        }
        let (packets, bytes) = (out.packets, out.bytes());
        show.look(|seconds| {
            format!("{seconds} s: {packets} frames, {}, {lost} lost. Ctrl-C ends", screen::bytes(bytes))
        });
    }
    lost += tap.lost();
    let seconds = show.end();
    drop(tap);
    let so_far = Written { records: out.packets, bytes: out.written, ..Written::default() };
    wrote.and_then(|()| out.finish()).map_err(|error| broken(args, &so_far, &error))?;
    tell(args, &container, &out, seconds, lost, why.as_deref())
}

fn tell(
    args: &RecordArgs,
    container: &Container,
    out: &Out,
    seconds: f64,
    lost: u64,
    why: Option<&str>,
) -> anyhow::Result<ExitCode> {
    let file = args.output.display();
    if args.json {
        let line = serde_json::json!({
            "file": args.output, "container": container.name, "packets": out.packets, "bytes": out.written,
            "seconds": seconds, "lost": lost, "others": out.others, "ended": why,
        });
        screen::print_stdout(&format!("{line}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let frames = screen::count(usize::try_from(out.packets).unwrap_or(usize::MAX), "frame");
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    anstream::eprintln!("{file}: {frames} in {seconds:.1} s, {}, {lost} lost{why}", screen::bytes(out.written));
    if out.others > 0 {
        anstream::eprintln!("{} frames of interfaces that pcapng has no kind for were left out", out.others);
    }
    anstream::eprintln!("read it with: wireshark {file}   or: tcpdump -nr {file}");
    Ok(ExitCode::SUCCESS)
}

/// The container, its first process, and the namespace that this process is in.
fn find(whose: &Whose, config: &Config) -> anyhow::Result<(Container, OwnedFd, File)> {
    let options = WorldOptions { runtimes: config.runtime_options(), ..WorldOptions::default() };
    let mut world = World::new(options)?;
    agent::meet_runtimes(&mut world);
    world.news(kernel::boot_to_wall_ns());
    let wanted = tw_report::escape::line(whose.0.as_deref().unwrap_or_default()).into_owned();
    let running = || world.containers().filter(|container| container.pid != 0);
    let Some(container) = running().find(|container| whose.wants(Some(container))).cloned() else {
        let names: Vec<&str> = running().map(|container| &*container.name).take(20).collect();
        anyhow::bail!("no container {wanted} runs; these do: {}", names.join(", "));
    };
    let shown = |what: &str| format!("cannot look at the {what} of container {wanted}");
    let pid = i32::try_from(container.pid).ok().and_then(Pid::from_raw).context("its process has no number")?;
    let process = pidfd_open(pid, PidfdFlags::empty()).with_context(|| shown("first process"))?;
    let own = std::fs::read_link("/proc/self/ns/net")?;
    let path = format!("/proc/{}/ns/net", container.pid);
    let theirs = std::fs::read_link(&path).with_context(|| shown("network"))?;
    let namespace = File::open(&path).with_context(|| shown("network"))?;
    anyhow::ensure!(
        own != theirs,
        "container {wanted} is on the host's own network, where all others' packets are too: use tcpdump on the host"
    );
    // The number may have become another process's meanwhile: this one is in the container, and it still runs.
    let mut cgroups = String::new();
    File::open(format!("/proc/{}/cgroup", container.pid))?.take(MAX_CGROUP).read_to_string(&mut cgroups)?;
    anyhow::ensure!(cgroups.contains(&container.id) && !has_ended(&process), "container {wanted} just ended");
    Ok((container, process, namespace))
}

fn has_ended(process: &OwnedFd) -> bool {
    let mut wait = [PollFd::new(process, PollFlags::IN)];
    matches!(poll(&mut wait, Some(&Timespec::default())), Ok(1..))
}

/// The file.
struct Out {
    file: File,
    gathered: PcapNgWriter<Vec<u8>>,
    /// Bytes of the file up to the last whole piece.
    written: u64,
    /// Place in the file of each interface, by number; `None`: pcapng has no kind for it.
    interfaces: HashMap<u32, Option<u32>>,
    described: u32,
    snaplen: u32,
    packets: u64,
    others: u64,
}

impl Out {
    fn new(file: File, container: &Container, args: &RecordArgs) -> anyhow::Result<Self> {
        let about = format!("container {} ({}), image {}", container.name, container.id, container.image);
        let uname = rustix::system::uname();
        let system = format!("{} {}", uname.sysname().to_string_lossy(), uname.release().to_string_lossy());
        let section = SectionHeaderBlock {
            endianness: Endianness::native(),
            major_version: 1,
            minor_version: 0,
            section_length: -1,
            options: vec![
                SectionHeaderOption::OS(Cow::Owned(system)),
                SectionHeaderOption::UserApplication(Cow::Borrowed(concat!("tidewatch ", env!("CARGO_PKG_VERSION")))),
                SectionHeaderOption::Comment(Cow::Owned(cut(about))),
            ],
        };
        Ok(Self {
            file,
            gathered: PcapNgWriter::with_section_header(Vec::new(), section)?,
            written: 0,
            interfaces: HashMap::new(),
            described: 0,
            snaplen: args.snaplen,
            packets: 0,
            others: 0,
        })
    }

    fn bytes(&self) -> u64 {
        self.written + self.gathered.get_ref().len() as u64
    }

    fn is_large(&self) -> bool {
        self.gathered.get_ref().len() >= PIECE
    }

    fn knows(&self, number: u32) -> bool {
        self.interfaces.contains_key(&number)
    }

    /// An interface that a frame came from for the first time.
    fn interface(&mut self, number: u32, hardware: u16, name: String) -> anyhow::Result<()> {
        let link = match hardware {
            ETHERNET | LOOPBACK => Some(DataLink::ETHERNET),
            bare if BARE.contains(&bare) => Some(DataLink::RAW),
            _ => None,
        };
        let place = link.filter(|_| self.interfaces.len() < MAX_INTERFACES).map(|_| self.described);
        self.interfaces.insert(number, place);
        let (Some(link), Some(_)) = (link, place) else { return Ok(()) };
        self.described += 1;
        let options = vec![
            InterfaceDescriptionOption::IfName(Cow::Owned(name)),
            // Nanoseconds.
            InterfaceDescriptionOption::IfTsResol(9),
        ];
        self.gathered.write_pcapng_block(InterfaceDescriptionBlock {
            linktype: link,
            snaplen: self.snaplen,
            options,
        })?;
        Ok(())
    }

    fn packet(&mut self, packet: &Packet<'_>) -> anyhow::Result<()> {
        let Some(Some(place)) = self.interfaces.get(&packet.interface) else {
            self.others += 1;
            return Ok(());
        };
        self.packets += 1;
        self.gathered.write_pcapng_block(EnhancedPacketBlock {
            interface_id: *place,
            timestamp: Duration::from_nanos(packet.wall_ns),
            original_len: packet.length,
            data: Cow::Borrowed(packet.bytes),
            // 1: received, 2: sent.
            options: vec![EnhancedPacketOption::Flags(if packet.outgoing { 2 } else { 1 })],
        })?;
        Ok(())
    }

    /// Writes what was gathered. If that fails, the file ends with the last block that was written whole.
    fn flush(&mut self) -> io::Result<()> {
        let gathered = self.gathered.get_mut();
        let wrote = self.file.write_all(gathered);
        match wrote {
            Ok(()) => self.written += gathered.len() as u64,
            Err(_) => drop(self.file.set_len(self.written)),
        }
        gathered.clear();
        wrote
    }

    fn finish(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.sync_all()
    }
}

/// A comment has 65,535 bytes at most.
fn cut(mut text: String) -> String {
    let end = text.floor_char_boundary(4_096);
    text.truncate(end);
    text
}
