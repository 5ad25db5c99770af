//! Counters and states of a container, read from the kernel's files.

use std::path::Path;

use tw_model::raw::{ResourceBody, part};

use super::Target;
use super::group::{Files, read_file};

/// Most processes whose descriptors are counted.
const MAX_PROCESSES: usize = 256;
/// From here on a limit of version 1 means none.
const NO_LIMIT: u64 = 1 << 60;

/// Where the counters of a container stand; states as in [`ResourceBody`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals(ResourceBody);

impl Totals {
    /// What was added since `before`, `interval_ns` ago. A counter that went back counts as nothing.
    pub fn since(&self, before: &Self, interval_ns: u64) -> ResourceBody {
        let (now, old) = (&self.0, &before.0);
        let mut body = ResourceBody { interval_ns, ..self.0 };
        // A counter that was not known before would bring all that it ever counted.
        let counters = part::CPU | part::OOM | part::DISK | part::NET | part::PRESSURE;
        body.known &= old.known | !counters;
        macro_rules! added {
            ($($member:ident)*) => { $(body.$member = now.$member.saturating_sub(old.$member);)* };
        }
        added!(cpu_ns cpu_user_ns throttled_ns oom_kills memory_limit_hits read_bytes written_bytes reads writes);
        added!(received_bytes sent_bytes received_packets sent_packets failed_packets);
        added!(cpu_pressure_ns memory_pressure_ns disk_pressure_ns);
        body
    }
}

/// Reads containers. Knows what the kernel cannot tell.
#[derive(Debug, Default)]
pub struct Reader {
    /// The size of `/proc/PID/fd` is not the number of descriptors (kernels before 6.2).
    no_descriptor_count: bool,
}

impl Reader {
    /// Reads everything that there is; `None` if there is nothing.
    pub fn read(&mut self, proc_root: &Path, files: &Files, target: &Target) -> Option<Totals> {
        let mut body = ResourceBody::default();
        if let Some(folder) = &files.unified {
            unified(&mut body, folder);
        }
        first_version(&mut body, files);
        if body.known == 0 {
            return None;
        }
        if target.own_network
            && let Some(table) = read_file(&proc_root.join(format!("{}/net/dev", target.pid)))
        {
            network(&mut body, &table);
        }
        self.descriptors(&mut body, proc_root, files);
        Some(Totals(body))
    }

    fn descriptors(&mut self, body: &mut ResourceBody, proc_root: &Path, files: &Files) {
        let folder = files.unified.as_ref().or(files.pids.as_ref()).or(files.cpu.as_ref());
        let Some(folder) = folder.filter(|_| !self.no_descriptor_count) else { return };
        let Some(list) = read_file(&folder.join("cgroup.procs")) else { return };
        let pids: Vec<u64> = lines(&list).take(MAX_PROCESSES + 1).filter_map(number).collect();
        if pids.is_empty() || pids.len() > MAX_PROCESSES {
            return;
        }
        let sizes = pids.iter().filter_map(|pid| std::fs::metadata(proc_root.join(format!("{pid}/fd"))).ok());
        let (seen, sum) = sizes.fold((0, 0), |(seen, sum), stat| (seen + 1, sum + stat.len()));
        if seen > 0 && sum == 0 && !has_descriptor_count(proc_root) {
            self.no_descriptor_count = true;
            return;
        }
        body.descriptors = sum;
        body.known |= part::DESCRIPTORS;
    }
}

/// Whether the size of `/proc/self/fd` tells something; this process has descriptors for sure.
fn has_descriptor_count(proc_root: &Path) -> bool {
    std::fs::metadata(proc_root.join("self/fd")).is_ok_and(|stat| stat.len() > 0)
}

fn unified(body: &mut ResourceBody, folder: &Path) {
    let get = |name: &str| read_file(&folder.join(name));
    if let Some(text) = get("cpu.stat") {
        put(body, part::CPU, |body| {
            body.cpu_ns = keyed(&text, "usage_usec")?.saturating_mul(1000);
            body.cpu_user_ns = keyed(&text, "user_usec")?.saturating_mul(1000);
            Some(())
        });
        body.throttled_ns = keyed(&text, "throttled_usec").unwrap_or(0).saturating_mul(1000);
    }
    if let Some(text) = get("cpu.max") {
        put(body, part::CPU_LIMIT, |body| {
            let mut words = words(&text);
            let (quota, period) = (words.next()?, number(words.next()?)?);
            body.cpu_limit_milli = if quota == b"max" { 0 } else { limit_milli(number(quota)?, period)? };
            Some(())
        });
    }
    if let Some(text) = get("memory.current") {
        put(body, part::MEMORY, |body| {
            body.memory = number(&text)?;
            Some(())
        });
    }
    if let Some(text) = get("memory.max") {
        put(body, part::MEMORY_LIMIT, |body| {
            body.memory_limit = number(&text)?;
            Some(())
        });
    }
    if let Some(text) = get("memory.stat") {
        put(body, part::MEMORY_KINDS, |body| {
            (body.memory_anon, body.memory_file) = (keyed(&text, "anon")?, keyed(&text, "file")?);
            body.swap = get("memory.swap.current").and_then(|text| number(&text)).unwrap_or(0);
            Some(())
        });
    }
    if let Some(text) = get("memory.events") {
        put(body, part::OOM, |body| {
            (body.oom_kills, body.memory_limit_hits) = (keyed(&text, "oom_kill")?, keyed(&text, "max")?);
            Some(())
        });
    }
    if let Some(text) = get("io.stat") {
        put(body, part::DISK, |body| {
            for word in lines(&text).flat_map(words) {
                let Some(at) = word.iter().position(|byte| *byte == b'=') else { continue };
                let (Some(amount), name) = (number(&word[at + 1..]), &word[..at]) else { continue };
                let place = match name {
                    b"rbytes" => &mut body.read_bytes,
                    b"wbytes" => &mut body.written_bytes,
                    b"rios" => &mut body.reads,
                    b"wios" => &mut body.writes,
                    _ => continue,
                };
                *place = place.saturating_add(amount);
            }
            Some(())
        });
    }
    processes(body, folder);
    let stalled = |name: &str| get(name).and_then(|text| pressure(&text));
    if let (Some(cpu), Some(memory), Some(disk)) =
        (stalled("cpu.pressure"), stalled("memory.pressure"), stalled("io.pressure"))
    {
        (body.cpu_pressure_ns, body.memory_pressure_ns, body.disk_pressure_ns) = (cpu, memory, disk);
        body.known |= part::PRESSURE;
    }
}

/// What version 1 tells and version 2 did not: on a host with both, most controllers are in the first.
fn first_version(body: &mut ResourceBody, files: &Files) {
    if let Some(folder) = files.cpuacct.as_ref().filter(|_| !body.knows(part::CPU)) {
        put(body, part::CPU, |body| {
            body.cpu_ns = number(&read_file(&folder.join("cpuacct.usage"))?)?;
            body.cpu_user_ns = number(&read_file(&folder.join("cpuacct.usage_user")).unwrap_or_default()).unwrap_or(0);
            Some(())
        });
    }
    if let Some(folder) = files.cpu.as_ref().filter(|_| !body.knows(part::CPU_LIMIT)) {
        put(body, part::CPU_LIMIT, |body| {
            let get = |name: &str| read_file(&folder.join(name));
            let (quota, period) = (get("cpu.cfs_quota_us")?, number(&get("cpu.cfs_period_us")?)?);
            // -1: no limit.
            body.cpu_limit_milli = number(&quota).map_or(Some(0), |quota| limit_milli(quota, period))?;
            body.throttled_ns = get("cpu.stat").and_then(|text| keyed(&text, "throttled_time")).unwrap_or(0);
            Some(())
        });
    }
    if let Some(folder) = files.memory.as_ref().filter(|_| !body.knows(part::MEMORY)) {
        memory_of_first(body, folder);
    }
    if let Some(folder) = files.blkio.as_ref().filter(|_| !body.knows(part::DISK)) {
        put(body, part::DISK, |body| {
            let bytes = read_file(&folder.join("blkio.throttle.io_service_bytes_recursive"))?;
            (body.read_bytes, body.written_bytes) = (operations(&bytes, b"Read"), operations(&bytes, b"Write"));
            let calls = read_file(&folder.join("blkio.throttle.io_serviced_recursive"))?;
            (body.reads, body.writes) = (operations(&calls, b"Read"), operations(&calls, b"Write"));
            Some(())
        });
    }
    if let Some(folder) = files.pids.as_ref().filter(|_| !body.knows(part::PROCESSES)) {
        processes(body, folder);
    }
}

fn memory_of_first(body: &mut ResourceBody, folder: &Path) {
    let get = |name: &str| read_file(&folder.join(name));
    put(body, part::MEMORY, |body| {
        body.memory = number(&get("memory.usage_in_bytes")?)?;
        Some(())
    });
    put(body, part::MEMORY_LIMIT, |body| {
        body.memory_limit = number(&get("memory.limit_in_bytes")?).filter(|limit| *limit < NO_LIMIT)?;
        Some(())
    });
    put(body, part::MEMORY_KINDS, |body| {
        let text = get("memory.stat")?;
        (body.memory_anon, body.memory_file) = (keyed(&text, "total_rss")?, keyed(&text, "total_cache")?);
        body.swap = keyed(&text, "total_swap").unwrap_or(0);
        Some(())
    });
    put(body, part::OOM, |body| {
        body.oom_kills = keyed(&get("memory.oom_control")?, "oom_kill")?;
        body.memory_limit_hits = number(&get("memory.failcnt")?)?;
        Some(())
    });
}

/// The same files in both versions.
fn processes(body: &mut ResourceBody, folder: &Path) {
    let get = |name: &str| read_file(&folder.join(name)).and_then(|text| number(&text));
    put(body, part::PROCESSES, |body| {
        body.processes = get("pids.current")?;
        Some(())
    });
    // `max`: no limit.
    put(body, part::PROCESS_LIMIT, |body| {
        body.process_limit = get("pids.max")?;
        Some(())
    });
}

/// Fills members; if all were there, they are known. Else they stay as they were.
fn put(body: &mut ResourceBody, part: u64, fill: impl FnOnce(&mut ResourceBody) -> Option<()>) {
    let mut filled = *body;
    if fill(&mut filled).is_some() {
        *body = filled;
        body.known |= part;
    }
}

fn limit_milli(quota: u64, period: u64) -> Option<u64> {
    quota.saturating_mul(1000).checked_div(period)
}

fn network(body: &mut ResourceBody, table: &[u8]) {
    // Two lines of headings, then `name: 8 numbers received, 8 sent` (net/core/net-procfs.c).
    for line in lines(table).skip(2) {
        let Some(at) = line.iter().position(|byte| *byte == b':') else { continue };
        if line[..at].trim_ascii() == b"lo" {
            continue;
        }
        let numbers: Vec<u64> = words(&line[at + 1..]).filter_map(number).collect();
        let &[rx, rx_packets, rx_errors, rx_drops, _, _, _, _, tx, tx_packets, tx_errors, tx_drops, ..] = &numbers[..]
        else {
            continue;
        };
        let failed = [rx_errors, rx_drops, tx_errors, tx_drops].into_iter().fold(0, u64::saturating_add);
        for (place, amount) in [
            (&mut body.received_bytes, rx),
            (&mut body.received_packets, rx_packets),
            (&mut body.sent_bytes, tx),
            (&mut body.sent_packets, tx_packets),
            (&mut body.failed_packets, failed),
        ] {
            *place = place.saturating_add(amount);
        }
    }
    body.known |= part::NET;
}

/// `some … total=MICROSECONDS` (Documentation/accounting/psi.rst), in nanoseconds.
fn pressure(text: &[u8]) -> Option<u64> {
    let some = lines(text).find(|line| line.starts_with(b"some "))?;
    let total = words(some).find_map(|word| word.strip_prefix(b"total="))?;
    Some(number(total)?.saturating_mul(1000))
}

/// Sum of the lines `DEVICE OPERATION NUMBER`.
fn operations(text: &[u8], operation: &[u8]) -> u64 {
    let numbers = lines(text).filter_map(|line| {
        let mut words = words(line);
        (words.nth(1)? == operation).then(|| number(words.next()?))?
    });
    numbers.fold(0, u64::saturating_add)
}

/// Number behind a name at the start of a line.
fn keyed(text: &[u8], name: &str) -> Option<u64> {
    lines(text).find_map(|line| {
        let mut words = words(line);
        (words.next()? == name.as_bytes()).then(|| number(words.next()?))?
    })
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

fn number(word: &[u8]) -> Option<u64> {
    std::str::from_utf8(word.trim_ascii()).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
