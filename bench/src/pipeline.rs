//! How many events user space takes on one core: records of real work are collected from the kernel, then run through
//! enrichment and detection as often as is needed for a steady figure.

use std::process::Command;
use std::time::{Duration, Instant};

use bumpalo::Bump;
use tw_detect::Detector;
use tw_enrich::{World, WorldOptions};
use tw_model::Raw;
use tw_model::raw::{from_words, to_words};
use tw_rules::{Loader, RuleSet};
use tw_sensor::EbpfSensor;

/// Real work of many kinds: shell jobs, text tools, an archive, a compiler if there is one, sockets.
const WORK: &str = r"
d=$(mktemp -d); cd $d
for i in $(seq 60); do ls -l /usr/bin >l; sort -r l | head -5 >h; grep -c a l >c; cp l m; mv m n; rm n; done
tar cf t.tar /usr/share/doc 2>/dev/null; tar tf t.tar >/dev/null; gzip -1 t.tar
for i in $(seq 20); do printf 'int main(){return %d;}' $i >a.c; gcc -O1 a.c -o a 2>/dev/null && ./a; done
find /usr/share -type f 2>/dev/null | head -3000 | xargs cat >/dev/null 2>&1
rm -rf $d
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

/// Collects, runs, prints.
pub fn measure() -> anyhow::Result<()> {
    let records = collect()?;
    println!("User space, one core, on {} records of real work (shell jobs, tar, gcc, find):\n", records.pieces.len());
    println!("| rules | events a second | ns an event | findings |");
    println!("|---|---|---|---|");
    let pack: Vec<(String, String)> = read_folder("rules")?;
    let mut sets = vec![("no rule, state only".to_owned(), RuleSet::default())];
    sets.push((format!("default pack ({})", load(&pack).len()), load(&pack)));
    let falco = std::env::var("TIDEWATCH_FALCO_RULES").unwrap_or("../shared/data/falco-rules/falco_rules.yaml".into());
    if let Ok(text) = std::fs::read_to_string(&falco) {
        let set = load(&[(falco, text)]);
        sets.push((format!("Falco's stable rules ({})", set.len()), set));
    }
    for (name, rules) in sets {
        let (rate, findings) = run(&records, rules)?;
        println!("| {name} | {rate:.0} | {:.0} | {findings} |", 1e9 / rate);
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
    loop {
        let done = work.try_wait()?.is_some();
        sensor.drain(|bytes| {
            if records.words.len() * 8 < KEEP {
                let start = records.words.len();
                records.words.extend(to_words(bytes));
                records.pieces.push((start, records.words.len() - start));
            }
        });
        if done {
            return Ok(records);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Events a second, and findings in one pass.
fn run(records: &Records, rules: RuleSet) -> anyhow::Result<(f64, u64)> {
    let mut world = World::new(WorldOptions { docker_socket: None, ..WorldOptions::default() })?;
    let detector = Detector::new(rules);
    let mut scratch = Bump::new();
    let (mut findings, mut passes, started) = (0, 0_u64, Instant::now());
    while started.elapsed() < MEASURE {
        for &(start, len) in &records.pieces {
            let bytes = from_words(&records.words[start..start + len]);
            let Ok(raw) = Raw::parse(bytes) else { continue };
            if world.admit(&raw) {
                let event = world.observe(raw, &scratch);
                detector.inspect(&event, &mut |_| findings += 1);
                scratch.reset();
            }
        }
        passes += 1;
    }
    let events = passes * records.pieces.len() as u64;
    Ok((events as f64 / started.elapsed().as_secs_f64(), findings / passes))
}
