//! The spool against a simple model, with random work, restarts, crashes and damage.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use proptest::prelude::*;
use proptest::sample::Index;
use tw_model::status::SpoolLane;
use tw_report::spool::{HEADER, Spool};

use crate::scratch::{Scratch, payload, read, status};

#[derive(Clone, Debug)]
enum Op {
    Append(usize, Vec<usize>),
    /// Acknowledges one of the records that can be read.
    Ack(usize, Index),
    /// Acknowledges this far beyond the newest.
    Ahead(usize, u64),
    Reopen,
    /// The process ends without a word.
    Crash,
    /// Reopens; in between the newest segment of a lane is cut somewhere.
    Cut(usize, Index),
    /// Reopens; in between a byte of a segment changes.
    Flip(usize, Index, Index, u8),
    /// Reopens; in between the cursor file goes.
    Forget(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let lane = 0usize..2;
    prop_oneof![
        12 => (lane.clone(), prop::collection::vec(0usize..300, 1..9)).prop_map(|(lane, sizes)| Op::Append(lane, sizes)),
        4 => (lane.clone(), any::<Index>()).prop_map(|(lane, which)| Op::Ack(lane, which)),
        1 => (lane.clone(), 1u64..2000).prop_map(|(lane, by)| Op::Ahead(lane, by)),
        1 => Just(Op::Reopen),
        1 => Just(Op::Crash),
        1 => (lane.clone(), any::<Index>()).prop_map(|(lane, at)| Op::Cut(lane, at)),
        3 => (lane.clone(), any::<Index>(), any::<Index>(), 1u8..).prop_map(|(lane, file, at, to)| Op::Flip(lane, file, at, to)),
        1 => lane.prop_map(Op::Forget),
    ]
}

/// What a lane should be.
#[derive(Default)]
struct Lane {
    /// Every record ever kept.
    kept: BTreeMap<u64, Vec<u8>>,
    /// Those that are lost: dropped or corrupt.
    lost: BTreeSet<u64>,
    /// Those whose bytes are damaged or gone.
    damaged: BTreeSet<u64>,
    newest: u64,
    acked: u64,
    found_newest: u64,
    /// Numbers were left out: only heads of segments know which.
    jumped: bool,
    dropped: u64,
    corrupt: u64,
}

impl Lane {
    /// What a reader should give if nothing new is lost.
    fn readable(&self) -> Vec<u64> {
        let waiting = self.kept.range(self.acked + 1..).map(|(seq, _)| *seq);
        waiting.filter(|seq| !self.lost.contains(seq)).collect()
    }
}

struct World {
    scratch: Scratch,
    spool: Option<Spool>,
    lanes: [Lane; 2],
    count: u64,
}

/// Bytes of a record, made without the program.
fn encoded(seq: u64, payload: &[u8]) -> Vec<u8> {
    let mut body = (payload.len() as u32).to_le_bytes().to_vec();
    body.extend(seq.to_le_bytes());
    body.extend(payload);
    [&crc32c::crc32c(&body).to_le_bytes()[..], &body].concat()
}

impl World {
    fn new() -> Self {
        Self { scratch: Scratch::new("model"), spool: None, lanes: Default::default(), count: 0 }.reopened()
    }

    fn reopened(mut self) -> Self {
        self.reopen();
        self
    }

    fn reopen(&mut self) {
        self.spool = None;
        let mut options = self.scratch.options();
        options.max_bytes = 16 << 10;
        self.spool = Some(Spool::open(options).unwrap().0);
        for lane in &mut self.lanes {
            lane.found_newest = lane.newest;
        }
    }

    fn spool(&mut self) -> &mut Spool {
        self.spool.as_mut().unwrap()
    }

    /// Records of a file that are whole: number, start, end.
    fn layout(&self, lane: usize, bytes: &[u8]) -> Vec<(u64, usize, usize)> {
        let lane = &self.lanes[lane];
        let whole = lane.kept.iter().filter(|(seq, _)| !lane.damaged.contains(seq));
        let found = whole.filter_map(|(seq, payload)| {
            let record = encoded(*seq, payload);
            let start = bytes.windows(record.len()).position(|window| window == record)?;
            Some((*seq, start, start + record.len()))
        });
        found.collect()
    }

    /// Reopens with damage that costs exactly these records.
    fn harm(&mut self, index: usize, hit: &[u64]) {
        let lane = &mut self.lanes[index];
        lane.damaged.extend(hit);
        let waiting: Vec<u64> =
            hit.iter().copied().filter(|seq| *seq > lane.acked && !lane.lost.contains(seq)).collect();
        lane.corrupt += waiting.len() as u64;
        lane.lost.extend(waiting);
        self.reopen();
    }

    fn apply(&mut self, op: Op) {
        let lanes = SpoolLane::ALL;
        match op {
            Op::Append(index, sizes) => {
                let first = self.count + 1;
                self.count += sizes.len() as u64;
                let payloads: Vec<Vec<u8>> =
                    (first..).zip(&sizes).map(|(number, size)| payload(number, *size)).collect();
                let numbers = self.spool().append(lanes[index], &payloads).unwrap();
                let lane = &mut self.lanes[index];
                assert_eq!(numbers, lane.newest + 1..lane.newest + 1 + sizes.len() as u64);
                lane.newest = numbers.end - 1;
                for (seq, payload) in numbers.zip(payloads) {
                    lane.damaged.remove(&seq);
                    lane.kept.insert(seq, payload);
                }
                self.account_for_drops(index);
            }
            Op::Ack(index, which) => {
                let readable = self.lanes[index].readable();
                if readable.is_empty() {
                    return;
                }
                let seq = readable[which.index(readable.len())];
                let acked = self.lanes[index].acked;
                read(self.spool(), lanes[index], acked);
                assert_eq!(self.spool().ack(lanes[index], seq).unwrap(), seq);
                self.lanes[index].acked = seq;
            }
            Op::Ahead(index, by) => {
                let lane = &mut self.lanes[index];
                lane.newest += by;
                lane.jumped = true;
                lane.acked = lane.acked.max(lane.found_newest);
                let (seq, acked) = (lane.newest, lane.acked);
                assert_eq!(self.spool().ack(lanes[index], seq).unwrap(), acked);
                self.account_for_drops(index);
            }
            Op::Reopen => self.reopen(),
            Op::Crash => self.crash(),
            Op::Cut(index, at) => {
                self.spool = None;
                let Some(file) = self.scratch.segments(lanes[index]).pop() else { return self.reopen() };
                let mut bytes = fs::read(&file).unwrap();
                let least = if self.lanes[index].jumped { HEADER.min(bytes.len()) } else { 0 };
                let length = least + at.index(bytes.len() + 1 - least);
                let hit: Vec<u64> = self
                    .layout(index, &bytes)
                    .iter()
                    .filter(|record| record.2 > length)
                    .map(|record| record.0)
                    .collect();
                bytes.truncate(length);
                fs::write(file, bytes).unwrap();
                self.harm(index, &hit);
            }
            Op::Flip(index, file, at, to) => {
                self.spool = None;
                let files = self.scratch.segments(lanes[index]);
                if files.is_empty() {
                    return self.reopen();
                }
                let file = &files[file.index(files.len())];
                let mut bytes = fs::read(file).unwrap();
                let at = at.index(bytes.len());
                let layout = self.layout(index, &bytes);
                let hit: Vec<u64> = layout.iter().filter(|r| (r.1..r.2).contains(&at)).map(|r| r.0).collect();
                // Another change of what is damaged already might repair it. Damage to a head costs nothing.
                if !hit.is_empty() || at < HEADER && !self.lanes[index].jumped {
                    bytes[at] ^= to;
                    fs::write(file, bytes).unwrap();
                }
                self.harm(index, &hit);
            }
            Op::Forget(index) => {
                self.spool = None;
                fs::remove_file(self.scratch.cursor(lanes[index])).unwrap();
                let files = self.scratch.segments(lanes[index]);
                let first =
                    files.first().map_or(1, |path| path.file_stem().unwrap().to_str().unwrap().parse().unwrap());
                self.reopen();
                self.relearn(index, first);
            }
        }
    }

    /// Whatever is missing now was dropped: the oldest of its lane, and none of the urgent while there are others.
    fn account_for_drops(&mut self, written: usize) {
        let spool = self.spool.as_ref().unwrap();
        let mut gone = [Vec::new(), Vec::new()];
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            let readable = lane.readable();
            let found: Vec<u64> = read(spool, SpoolLane::ALL[index], lane.acked).iter().map(|(seq, _)| *seq).collect();
            let dropped = readable.len() - found.len();
            assert_eq!(readable[dropped..], found, "the oldest go first");
            lane.dropped += dropped as u64;
            lane.lost.extend(&readable[..dropped]);
            gone[index] = readable[..dropped].to_vec();
        }
        if !gone[0].is_empty() && written == 0 {
            assert_eq!(self.lanes[1].readable(), Vec::<u64>::new(), "routine gives way first");
        }
    }

    /// The cursor file is gone: the numbers are what the segments say.
    fn relearn(&mut self, index: usize, first: u64) {
        let spool = self.spool.as_ref().unwrap();
        let name = SpoolLane::ALL[index];
        let now = status(spool, name);
        let lane = &mut self.lanes[index];
        assert_eq!(now.acked, first - 1);
        assert!(now.newest <= lane.newest && now.dropped == 0);
        let found: BTreeSet<u64> = read(spool, name, now.acked).into_iter().map(|(seq, _)| seq).collect();
        (lane.acked, lane.newest, lane.found_newest, lane.dropped) = (now.acked, now.newest, now.newest, 0);
        lane.kept.retain(|seq, _| *seq <= now.newest);
        lane.lost = lane.kept.range(now.acked + 1..).map(|(seq, _)| *seq).filter(|seq| !found.contains(seq)).collect();
        assert!(lane.lost.iter().all(|seq| lane.damaged.contains(seq)), "everything else is there again");
        lane.corrupt = lane.lost.len() as u64;
    }

    /// Goes on with a copy of the files, made while the spool was open.
    fn crash(&mut self) {
        let copy = Scratch::new("model");
        for lane in SpoolLane::ALL {
            let folder = copy.path().join("spool").join(lane.name());
            fs::create_dir_all(&folder).unwrap();
            for file in self.scratch.segments(lane).iter().chain([&self.scratch.cursor(lane)]) {
                fs::copy(file, folder.join(file.file_name().unwrap())).unwrap();
            }
        }
        self.spool = None;
        self.scratch = copy;
        self.reopen();
    }

    fn check(&self) {
        let spool = self.spool.as_ref().unwrap();
        let mut bytes = 0;
        for (lane, name) in self.lanes.iter().zip(SpoolLane::ALL) {
            let found = read(spool, name, spool.acked(name));
            assert_eq!(found.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), lane.readable());
            assert!(found.iter().all(|(seq, payload)| lane.kept[seq] == *payload));
            let now = status(spool, name);
            assert_eq!((now.newest, now.acked), (lane.newest, lane.acked));
            assert_eq!((now.dropped, now.corrupt), (lane.dropped, lane.corrupt));
            let on_disk: u64 = self.scratch.segments(name).iter().map(|path| path.metadata().unwrap().len()).sum();
            assert_eq!(now.bytes, on_disk);
            bytes += on_disk;
        }
        assert!(bytes <= 16 << 10);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_uncounted_doubled_or_out_of_order(ops in prop::collection::vec(op(), 1..60)) {
        let mut world = World::new();
        for op in ops {
            world.apply(op);
            world.check();
        }
    }
}
