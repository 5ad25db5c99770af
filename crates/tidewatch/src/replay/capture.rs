//! Captures of sysdig and Falco: what the reader tells becomes what the world knows, so that it lives them as it would
//! have lived the events.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tw_enrich::procfs::keep_env;
use tw_enrich::{Context, World, WorldOptions};
use tw_model::container::split_image;
use tw_model::process::{Credentials, ExeFile, Image, UserNames};
use tw_model::raw::Body;
use tw_model::{Container, Process, Raw};
use tw_report::redact::Redactor;
use tw_sensor::capture::{Account, CaptureReader, ContainerNews, Conversion, Frame, Item, Listed};
use tw_sensor::recorder::{FrameKind, SegmentMeta};

use super::{Kinds, Origin, Replay, salt_of};
use crate::agent::without_secrets;

/// After so many items the bar of progress moves.
const ITEMS: u32 = 4_096;
/// Most users, groups and containers of a capture.
const MAX_KNOWN: usize = 65_536;
/// Most bytes of what was told of containers, of one and of all.
const MAX_CONTAINER: usize = 1 << 20;
const MAX_CONTAINERS: usize = 64 << 20;
/// Longest name of a user or group; longest text of a process, as the kernel half cuts it.
const MAX_NAME: usize = 256;
const MAX_TEXT: usize = 4_096;

impl Replay<'_> {
    /// One capture; false if it could not be read, or not to its end.
    pub(super) fn capture(&mut self, path: &Path, digest: &str) -> anyhow::Result<bool> {
        let reader = match CaptureReader::open(path) {
            Ok(reader) => reader,
            // The others are worth replaying all the same.
            Err(error) => {
                tracing::error!("{error}; it is left out");
                return Ok(false);
            }
        };
        if self.redactors.segment.is_none() && self.config.redaction.enabled {
            self.redactors.capture = Some(Redactor::new(salt_of(path)?));
        }
        let mut host = Host::new();
        self.hostname.clear();
        let started = Instant::now();
        let (read, before) = (reader.bytes_read(), self.progress.position());
        let mut items = 0_u32;
        let reading = reader.read(&mut |item| {
            self.take(&mut host, path, digest, item);
            items = items.wrapping_add(1);
            if items.is_multiple_of(ITEMS) {
                self.progress.set_position(before + read.get());
            }
            self.flow()
        });
        if let Some(error) = self.failed.take() {
            return Err(error.into());
        }
        self.stats.took += started.elapsed();
        self.stats.captures += 1;
        // Where our own records are, they are looked at and nothing else.
        let conversion = match &host.own {
            Some(_) => Conversion { malformed: reading.conversion.malformed, ..Conversion::default() },
            None => reading.conversion,
        };
        self.stats.add(&conversion);
        if let Some(error) = &reading.error {
            tracing::error!("{error}");
        }
        Ok(reading.error.is_none())
    }

    /// What a capture tells; once it tells it in our own words, the others say nothing new.
    fn take(&mut self, host: &mut Host, path: &Path, digest: &str, item: Item<'_>) {
        let Item::Native { frame, bytes } = item else {
            if host.own.is_none() || matches!(item, Item::Section) {
                self.item(host, item);
            }
            return;
        };
        let kind = match frame {
            Frame::Meta => {
                match serde_json::from_slice::<SegmentMeta>(bytes) {
                    Ok(meta) => host.own = Some(Box::new(self.begin_part(path, &meta, digest))),
                    Err(error) => tracing::warn!("our own records in the capture cannot be understood: {error}"),
                }
                return;
            }
            Frame::Record => FrameKind::Record,
            Frame::Gap => FrameKind::Gap,
            Frame::Context => FrameKind::State,
            Frame::Finding => FrameKind::Finding,
        };
        if let Some(own) = &mut host.own {
            let (world, kinds) = &mut **own;
            self.frame(world, kinds, kind, bytes);
        }
    }

    fn item(&mut self, host: &mut Host, item: Item<'_>) {
        match item {
            Item::Record { number, bytes } => {
                let Ok(raw) = Raw::parse(bytes) else {
                    self.stats.malformed += 1;
                    return;
                };
                host.introduce(&raw);
                // Numbers are those of the capture: every event of it counts.
                host.world.relive(Context::Events { count: number.saturating_sub(1) });
                self.stats.events += 1;
                self.inspect(&mut host.world, raw, Origin::Capture);
            }
            Item::Process(listed) => {
                let mut process = host.process(listed);
                without_secrets(self.redactors.of(Origin::Capture), &mut process);
                host.world.relive(Context::Process { process: Box::new(process) });
            }
            Item::Machine(machine) => self.hostname.clone_from(&machine.hostname),
            Item::Clock { boot_to_wall_ns } => {
                // Part of the identity of findings: another capture has others.
                self.detector.set_session(boot_to_wall_ns);
                host.world.relive(Context::Clock { boot_to_wall_ns });
            }
            Item::Place { cgroup, container } => host.place(cgroup, container),
            Item::Container(news) => host.container(&news),
            Item::Account(account) => host.account(&account),
            Item::Section => *host = Host::new(),
            Item::Interface(_) | Item::Native { .. } => {}
        }
    }
}

/// In no cgroup, and nobody.
const NOBODY: (u64, u32, u32, u32) = (u64::MAX, u32::MAX, u32::MAX, u32::MAX);

/// What is behind the number of a user.
#[derive(Default)]
struct User {
    name: Arc<str>,
    home: Arc<str>,
    shell: Arc<str>,
}

/// The host of a capture.
struct Host {
    /// The same as our own records tell it, if there are any.
    own: Option<Box<(World, Kinds)>>,
    world: World,
    /// By first twelve digits of a container's id (empty: the host) and number.
    users: HashMap<(Box<str>, u32), User>,
    groups: HashMap<(Box<str>, u32), Arc<str>>,
    /// What was told of containers, by the first twelve digits of their ids, and in how many bytes.
    containers: HashMap<Box<str>, (Container, usize)>,
    /// Bytes of all of them.
    told_bytes: usize,
    /// Full ids by the same.
    full: HashMap<Box<str>, Box<str>>,
    /// Full ids by cgroup.
    places: HashMap<u64, Box<str>>,
    /// Names that the world knows already: cgroup, user, group, login user.
    told: HashSet<(u64, u32, u32, u32)>,
    /// How often names were told.
    introductions: usize,
    /// The last of these: most events are of the same.
    last: (u64, u32, u32, u32),
}

/// The first twelve digits of an id: that is how captures name containers, but for the paths of cgroups.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn cut(bytes: &[u8], most: usize) -> &[u8] {
    bytes.get(..most).unwrap_or(bytes)
}

fn name(bytes: &[u8]) -> Arc<str> {
    text(cut(bytes, MAX_NAME)).into()
}

impl Host {
    fn new() -> Self {
        Self {
            own: None,
            world: World::reliving(WorldOptions::default().max_processes),
            users: HashMap::new(),
            groups: HashMap::new(),
            containers: HashMap::new(),
            told_bytes: 0,
            full: HashMap::new(),
            places: HashMap::new(),
            told: HashSet::new(),
            introductions: 0,
            last: NOBODY,
        }
    }

    /// The id of the container that a cgroup belongs to; empty: the host.
    fn container_of(&self, cgroup: u64) -> Box<str> {
        self.places.get(&cgroup).cloned().unwrap_or_default()
    }

    fn names(&self, container: &str, uid: u32, gid: u32, loginuid: u32) -> UserNames {
        let of = |uid: u32| self.users.get(&(short(container).into(), uid));
        // A container whose users are not told has a root all the same.
        let root = || if uid == 0 { "root".into() } else { Arc::default() };
        let user = of(uid);
        UserNames {
            user: user.map_or_else(root, |user| Arc::clone(&user.name)),
            home: user.map(|user| Arc::clone(&user.home)).unwrap_or_default(),
            shell: user.map(|user| Arc::clone(&user.shell)).unwrap_or_default(),
            group: self.groups.get(&(short(container).into(), gid)).cloned().unwrap_or_default(),
            login: of(loginuid).map(|user| Arc::clone(&user.name)).unwrap_or_default(),
        }
    }

    /// Tells the world the names that it will ask for when it sees this record.
    fn introduce(&mut self, raw: &Raw<'_>) {
        let header = raw.header;
        let loginuid = match raw.body {
            Body::Exec(body) if header.ret >= 0 => body.loginuid,
            // A change of user: the login user stays who it is.
            Body::Call(_) => self.world.processes().get(raw.key()).map_or(u32::MAX, |process| process.cred.loginuid),
            _ => u32::MAX,
        };
        let key = (header.cgroup, header.uid, header.gid, loginuid);
        if key == std::mem::replace(&mut self.last, key) || self.told.contains(&key) || self.introductions >= MAX_KNOWN
        {
            return;
        }
        self.told.insert(key);
        self.introductions += 1;
        let container = self.container_of(header.cgroup);
        let names = self.names(&container, header.uid, header.gid, loginuid);
        if names != UserNames::default() {
            let (uid, gid) = (header.uid, header.gid);
            self.world.relive(Context::Names { container: container.into(), uid, gid, loginuid, names });
        }
    }

    fn process(&self, listed: &Listed<'_>) -> Process {
        let mut argv = Vec::new();
        argv.extend_from_slice(cut(listed.exe, MAX_TEXT));
        argv.push(0);
        argv.extend_from_slice(cut(listed.args, MAX_TEXT.saturating_sub(argv.len())));
        let file = ExeFile {
            ino: listed.ino,
            ctime_ns: listed.ctime_ns,
            mtime_ns: listed.mtime_ns,
            upper_layer: listed.upper_layer,
            lower_layer: listed.lower_layer,
            memfd: listed.memfd,
            writable: listed.writable,
            ..ExeFile::default()
        };
        // The oldest lists have no path; that which it was called by is one as a rule.
        let exepath =
            if listed.exepath.is_empty() && listed.exe.starts_with(b"/") { listed.exe } else { listed.exepath };
        let image = Image {
            exepath: cut(exepath, MAX_TEXT).into(),
            env: keep_env(cut(listed.env, MAX_TEXT)).into(),
            argv_truncated: listed.exe.len() + 1 + listed.args.len() > MAX_TEXT,
            file,
            ..Image::from_argv(if argv == [0] { b"" } else { &argv })
        };
        let container = self.container_of(listed.cgroup);
        let mut process = Process {
            key: listed.key,
            parent: listed.parent,
            comm: cut(listed.comm, MAX_NAME).into(),
            image: Arc::new(image),
            cwd: listed.cwd.into(),
            cred: Credentials {
                uid: listed.uid,
                gid: listed.gid,
                loginuid: listed.loginuid,
                cap_effective: listed.cap_effective,
                cap_permitted: listed.cap_permitted,
                cap_inheritable: listed.cap_inheritable,
            },
            names: self.names(&container, listed.uid, listed.gid, listed.loginuid),
            tty: listed.tty,
            sid: listed.sid,
            vpid: listed.vpid,
            vpgid: listed.vpgid,
            cgroup_id: listed.cgroup,
            inferred: true,
            ..Process::default()
        };
        process.rebuild_cmdline();
        process
    }

    /// A cgroup belongs to a container, which may have been told already by the first digits of its id.
    fn place(&mut self, cgroup: u64, id: &str) {
        if self.full.len() < MAX_KNOWN {
            self.full.insert(short(id).into(), id.into());
        }
        self.places.insert(cgroup, id.into());
        self.world.relive(Context::Place { cgroup, container: id.to_owned() });
        if let Some((known, _)) = self.containers.get(short(id)) {
            let container = Box::new(Container { id: id.to_owned(), ..known.clone() });
            self.world.relive(Context::Container { container });
        }
    }

    fn container(&mut self, news: &ContainerNews<'_>) {
        let size = match news {
            ContainerNews::Json(json) | ContainerNews::Gone(json) => json.len(),
            ContainerNews::Words { id, name, image, .. } => id.len() + name.len() + image.len(),
        };
        if size > MAX_CONTAINER {
            tracing::warn!("{size} bytes about one container in the capture: it is left out");
            return;
        }
        let container = match news {
            ContainerNews::Json(json) => from_json(json),
            ContainerNews::Words { id, kind, name, image } => {
                let container = Container {
                    id: text(id).into_owned(),
                    runtime: runtime(u64::from(*kind)).to_owned(),
                    name: text(name).into_owned(),
                    ..Container::default()
                };
                Some(with_image(container, &text(image)))
            }
            ContainerNews::Gone(json) => {
                if let Some(id) = from_json(json).and_then(|gone| self.full.get(short(&gone.id)).cloned()) {
                    self.world.relive(Context::Gone { id: id.into() });
                }
                return;
            }
        };
        let Some(mut container) = container.filter(|container| !container.id.is_empty()) else {
            tracing::warn!("a container in the capture cannot be understood");
            return;
        };
        let key: Box<str> = short(&container.id).into();
        if let Some(full) = self.full.get(&key) {
            container.id = full.to_string();
            self.world.relive(Context::Container { container: Box::new(container.clone()) });
        }
        let before = self.containers.get(&key).map(|(_, size)| *size);
        let bytes = self.told_bytes - before.unwrap_or(0) + size;
        if bytes <= MAX_CONTAINERS && (before.is_some() || self.containers.len() < MAX_KNOWN) {
            self.told_bytes = bytes;
            self.containers.insert(key, (container, size));
        }
    }

    fn account(&mut self, account: &Account<'_>) {
        let (of, number) = match account {
            Account::User { uid, container, .. } => (container, *uid),
            Account::Group { gid, container, .. } => (container, *gid),
        };
        let key = (short(&text(cut(of, MAX_NAME))).into(), number);
        match account {
            Account::User { name: user, home, shell, .. } if self.users.len() < MAX_KNOWN => {
                self.users.insert(key, User { name: name(user), home: name(home), shell: name(shell) });
            }
            Account::Group { name: group, .. } if self.groups.len() < MAX_KNOWN => {
                self.groups.insert(key, name(group));
            }
            _ => {}
        }
        // Who was told may have another name now.
        self.told.clear();
        self.last = NOBODY;
    }
}

/// Names of runtimes, in the order of their numbers in captures.
const RUNTIMES: [&str; 12] =
    ["docker", "lxc", "libvirt-lxc", "mesos", "rkt", "custom", "cri", "containerd", "cri-o", "bpm", "static", "podman"];

fn runtime(number: u64) -> &'static str {
    usize::try_from(number).ok().and_then(|number| RUNTIMES.get(number)).copied().unwrap_or_default()
}

/// A container as later writers put it.
fn from_json(json: &[u8]) -> Option<Container> {
    let json: serde_json::Value = serde_json::from_slice(json).ok()?;
    // Converters of old captures leave the object around it out.
    let told = json.get("container").unwrap_or(&json);
    let word = |key: &str| told.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
    let flag = |key: &str| told.get(key).and_then(serde_json::Value::as_bool).unwrap_or_default();
    let number = |key: &str| told.get(key).and_then(serde_json::Value::as_u64).unwrap_or_default();
    let full = word("full_id");
    let ip = word("ip");
    let labels = told.get("labels").and_then(|labels| labels.as_object()).into_iter().flatten();
    let container = Container {
        id: if full.len() == 64 { full } else { word("id") },
        runtime: runtime(number("type")).to_owned(),
        name: word("name"),
        image_id: word("imageid"),
        privileged: flag("privileged"),
        host_pid: flag("host_pid"),
        host_network: flag("host_network"),
        host_ipc: flag("host_ipc"),
        ip: if ip == "0.0.0.0" { String::new() } else { ip },
        mounts: told.get("Mounts").and_then(|mounts| mounts.as_array()).into_iter().flatten().map(mount).collect(),
        labels: labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect(),
        started_ns: number("created_time").saturating_mul(1_000_000_000),
        ..Container::default()
    };
    let mut container = with_image(container, &word("image"));
    for (key, place) in [
        ("imagerepo", &mut container.repository),
        ("imagetag", &mut container.tag),
        ("imagedigest", &mut container.digest),
    ] {
        let told = word(key);
        if !told.is_empty() {
            *place = told;
        }
    }
    Some(container)
}

fn with_image(container: Container, image: &str) -> Container {
    let (repository, tag, digest) = split_image(image);
    Container {
        repository: repository.to_owned(),
        tag: tag.to_owned(),
        digest: digest.to_owned(),
        image: image.to_owned(),
        complete: true,
        ..container
    }
}

fn mount(told: &serde_json::Value) -> tw_model::container::Mount {
    let word = |key: &str| told.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
    tw_model::container::Mount {
        source: word("Source"),
        dest: word("Destination"),
        mode: word("Mode"),
        rdwr: told.get("RW").and_then(serde_json::Value::as_bool).unwrap_or_default(),
        propagation: word("Propagation"),
    }
}
