//! How many events user space takes on one core: records of real work are collected from the kernel, then run through
//! enrichment and detection as often as is needed for a steady figure. Time is that of the thread's CPU.

use std::process::Command;
use std::time::Duration;

use bumpalo::Bump;
use tw_detect::Detector;
use tw_enrich::{World, WorldOptions};
use tw_model::Raw;
use tw_model::raw::{Body, from_words, to_words};
use tw_rules::{Loader, RuleSet};
use tw_sensor::EbpfSensor;

use crate::made_up::made_up;

/// Real work of many kinds: shell jobs, text tools, an archive, files that come and go, and a compiler, a web server
/// and redis if they are there.
pub const WORK: &str = r"
d=$(mktemp -d); cd $d
for i in $(seq 60); do ls -l /usr/bin >l; sort -r l | head -5 >h; grep -c a l >c; cp l m; mv m n; rm n; done
tar cf t.tar /usr/share/doc 2>/dev/null; tar tf t.tar >/dev/null; gzip -1 t.tar
for i in $(seq 20); do printf 'int main(){return %d;}' $i >a.c; gcc -O1 a.c -o a 2>/dev/null && ./a; done
find /usr/share -type f 2>/dev/null | head -3000 | xargs cat >/dev/null 2>&1
for i in $(seq 400); do echo $i >f$i; mv f$i g$i; ln -s g$i h$i; chmod 600 g$i; rm g$i h$i; done
if command -v python3 >/dev/null && command -v curl >/dev/null; then
  python3 -m http.server 18081 --bind 127.0.0.1 >/dev/null 2>&1 & web=$!
  sleep 1; for i in $(seq 100); do curl -s http://127.0.0.1:18081/ >/dev/null; done; kill $web
fi
if command -v redis-server >/dev/null; then
  redis-server --port 18082 --save 1 1 --dir $d >/dev/null & redis=$!
  sleep 1; redis-benchmark -p 18082 -n 2000 -q >/dev/null; redis-cli -p 18082 save >/dev/null; kill $redis
fi
wait; rm -rf $d
";

/// Most bytes of records kept.
const KEEP: usize = 256 << 20;
/// How long each rule set is measured.
const MEASURE: Duration = Duration::from_secs(4);

struct Records {
    words: Vec<u64>,
    /// Start and length of each record, in words.
    pieces: Vec<(usize, usize)>,
}

impl Records {
    fn keep(&mut self, record: &[u8]) {
        let start = self.words.len();
        self.words.extend(to_words(record));
        self.pieces.push((start, self.words.len() - start));
    }

    fn each(&self) -> impl Iterator<Item = Raw<'_>> {
        let pieces = self.pieces.iter();
        pieces.filter_map(|&(start, len)| Raw::parse(from_words(&self.words[start..start + len])).ok())
    }

    /// The most frequent kinds with their share in percent.
    fn kinds(&self) -> Vec<String> {
        let mut counts = std::collections::HashMap::new();
        self.each().for_each(|raw| *counts.entry(raw.kind().name()).or_insert(0_usize) += 1);
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
        let share = |count| 100.0 * count as f64 / self.pieces.len() as f64;
        counts.into_iter().take(8).map(|(name, count)| format!("{name} {:.0} %", share(count))).collect()
    }
}

/// The records in the file that `TIDEWATCH_BENCH_RECORDS` names; if it is not there, new ones are collected and kept
/// in it. So two versions can be measured on the same.
fn kept_or_collected() -> anyhow::Result<Records> {
    let Some(file) = std::env::var_os("TIDEWATCH_BENCH_RECORDS") else { return collect() };
    let mut records = Records { words: Vec::new(), pieces: Vec::new() };
    if let Ok(bytes) = std::fs::read(&file) {
        let mut rest = bytes.as_slice();
        // The first two bytes of a record are its size.
        while let Some(size) = rest.first_chunk().map(|size| usize::from(u16::from_ne_bytes(*size))) {
            anyhow::ensure!(size >= 8 && size <= rest.len(), "{} is damaged: remove it", file.display());
            records.keep(&rest[..size]);
            rest = &rest[size..];
        }
    } else {
        records = collect()?;
        let bytes: Vec<u8> = records.each().flat_map(|raw| raw.bytes().to_vec()).collect();
        std::fs::write(&file, bytes)?;
    }
    Ok(records)
}

/// Which engine is measured.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// All rules at once, as the agent does it.
    Engine,
    /// One rule after the other, as a check and to compare with.
    Plain,
}

/// Collects, runs, prints; only the rule sets with `wanted` in their name.
pub fn measure(wanted: &str) -> anyhow::Result<()> {
    let records = kept_or_collected()?;
    println!(
        "User space, one core, on {} records of real work (shell jobs, tar, gcc, files, web server, redis):\n{}.\n",
        records.pieces.len(),
        records.kinds().join(", ")
    );
    println!("| rules | events a CPU second | ns an event | one by one | findings |");
    println!("|---|---|---|---|---|");
    let pack: Vec<(String, String)> = read_folder("rules")?;
    let mut sets = vec![("none, state only".to_owned(), Vec::new()), ("default pack".to_owned(), pack)];
    let falco = std::env::var("TIDEWATCH_FALCO_RULES").unwrap_or("../shared/data/falco-rules/falco_rules.yaml".into());
    let mut stock = Vec::new();
    for (number, path) in falco.split(':').enumerate() {
        let Ok(text) = std::fs::read_to_string(path) else { break };
        stock.push((path.to_owned(), text));
        let name = ["Falco's stable rules", "with its incubating", "with its sandbox"].get(number);
        sets.push(((*name.unwrap_or(&"and more")).to_owned(), stock.clone()));
    }
    for count in [10, 100, 1000] {
        sets.push(("made up".to_owned(), vec![("made-up.yaml".to_owned(), made_up(count))]));
    }
    for (name, files) in sets.into_iter().filter(|(name, _)| name.contains(wanted)) {
        let (fast, findings) = run(&records, load(&files), Way::Engine)?;
        let (plain, expected) = run(&records, load(&files), Way::Plain)?;
        anyhow::ensure!(findings == expected, "{name}: the engine found {findings}, one by one {expected}");
        let count = load(&files).rules().iter().filter(|rule| rule.enabled).count();
        println!("| {name} ({count}) | {fast:.0} | {:.0} | {:.0} ns | {findings} |", 1e9 / fast, 1e9 / plain);
    }
    println!();
    Ok(())
}

fn read_folder(folder: &str) -> anyhow::Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push((path.display().to_string(), std::fs::read_to_string(&path)?));
        }
    }
    files.sort();
    Ok(files)
}

fn load(files: &[(String, String)]) -> RuleSet {
    files.iter().fold(Loader::new(), |loader, (name, text)| loader.add_file(name, text)).finish().0
}

fn collect() -> anyhow::Result<Records> {
    let mut sensor = EbpfSensor::start(&tw_sensor::Options::default())?;
    let mut records = Records { words: Vec::new(), pieces: Vec::new() };
    let mut work = Command::new("sh").args(["-c", WORK]).spawn()?;
    // Whatever else runs on this host is left out.
    let mut family = std::collections::HashSet::from([work.id()]);
    loop {
        let done = work.try_wait()?.is_some();
        sensor.drain(|bytes| {
            let words = to_words(bytes);
            let Ok(raw) = Raw::parse(from_words(&words)) else { return };
            if !family.contains(&raw.header.pid) || records.words.len() * 8 >= KEEP {
                return;
            }
            if let Body::Fork(body) = raw.body {
                family.insert(body.child_pid);
            }
            records.keep(raw.bytes());
        });
        if done {
            return Ok(records);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// CPU time of this thread, from the first number of proc_pid_schedstat(5): nanoseconds on the CPU.
fn cpu_time() -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let ns = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(Duration::from_nanos(ns))
}

/// Events a CPU second, and findings in the last pass.
fn run(records: &Records, rules: RuleSet, way: Way) -> anyhow::Result<(f64, u64)> {
    let mut world = World::new(WorldOptions::default())?;
    let mut detector = Detector::new(rules);
    let mut scratch = Bump::new();
    let (mut findings, mut passes) = (0, 0_u64);
    let mut started = cpu_time()?;
    while passes == 0 || cpu_time()?.saturating_sub(started) < MEASURE {
        findings = 0;
        for raw in records.each() {
            if world.admit(&raw) {
                let event = world.observe(raw, &scratch);
                match way {
                    Way::Engine => detector.inspect(&event, &mut |_| findings += 1),
                    Way::Plain => detector.rules().inspect(&event, &mut |_| findings += 1),
                }
                scratch.reset();
            }
        }
        passes += 1;
        if passes == 1 {
            // The first teaches the world its processes.
            started = cpu_time()?;
        }
    }
    let events = (passes - 1) * records.pieces.len() as u64;
    Ok((events as f64 / cpu_time()?.saturating_sub(started).as_secs_f64(), findings))
}
