//! The totals of a group, read from folders made for it.

use std::path::PathBuf;

use super::*;

/// A folder with these files.
fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let path = folder.path().to_owned();
    (folder, path)
}

#[test]
fn version_two_is_read() {
    let (_keep, root) = tree(&[
        ("c/cpu.stat", "usage_usec 2500\nuser_usec 2000\nsystem_usec 500\nnr_periods 9\nthrottled_usec 7\n"),
        ("c/cpu.max", "150000 100000\n"),
        ("c/memory.current", "4096\n"),
        ("c/memory.max", "max\n"),
        ("c/memory.stat", "anon 1000\nfile 3000\nkernel 96\n"),
        ("c/memory.swap.current", "12\n"),
        ("c/memory.events", "low 0\nhigh 0\nmax 4\noom 1\noom_kill 2\n"),
        ("c/io.stat", "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:16 rbytes=5 wbytes=0 rios=1 wios=0\n"),
        ("c/pids.current", "3\n"),
        ("c/pids.max", "100\n"),
        ("c/cpu.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=11\nfull avg10=0.00 total=1\n"),
        ("c/memory.pressure", "some avg10=0.00 total=12\n"),
        ("c/io.pressure", "some avg10=0.00 total=13\n"),
        (
            "proc/7/net/dev",
            "Inter-| Receive | Transmit\n face |bytes packets\n    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n  eth0: 100 2 1 0 0 0 0 0 200 3 0 1 0 0 0 0\n",
        ),
    ]);
    let files = Files { unified: Some(root.join("c")), ..Files::default() };
    let target = Target { pid: 7, own_network: true, ..Target::default() };
    let Totals(body) = Reader::default().read(&root.join("proc"), &files, &target).unwrap();
    let expected = ResourceBody {
        known: part::CPU
            | part::CPU_LIMIT
            | part::MEMORY
            | part::MEMORY_KINDS
            | part::OOM
            | part::DISK
            | part::NET
            | part::PROCESSES
            | part::PROCESS_LIMIT
            | part::PRESSURE,
        cpu_ns: 2_500_000,
        cpu_user_ns: 2_000_000,
        cpu_limit_milli: 1500,
        throttled_ns: 7_000,
        memory: 4096,
        memory_anon: 1000,
        memory_file: 3000,
        swap: 12,
        oom_kills: 2,
        memory_limit_hits: 4,
        read_bytes: 15,
        written_bytes: 20,
        reads: 2,
        writes: 2,
        received_bytes: 100,
        received_packets: 2,
        sent_bytes: 200,
        sent_packets: 3,
        failed_packets: 2,
        processes: 3,
        process_limit: 100,
        cpu_pressure_ns: 11_000,
        memory_pressure_ns: 12_000,
        disk_pressure_ns: 13_000,
        ..ResourceBody::default()
    };
    assert_eq!(body, expected);
}

#[test]
fn version_one_fills_what_version_two_does_not_tell() {
    let (_keep, root) = tree(&[
        ("u/cpu.stat", "usage_usec 1\nuser_usec 1\nsystem_usec 0\n"),
        ("a/cpuacct.usage", "999\n"),
        ("q/cpu.cfs_quota_us", "-1\n"),
        ("q/cpu.cfs_period_us", "100000\n"),
        ("q/cpu.stat", "nr_periods 0\nnr_throttled 0\nthrottled_time 5\n"),
        ("m/memory.usage_in_bytes", "50\n"),
        ("m/memory.limit_in_bytes", "9223372036854771712\n"),
        ("m/memory.stat", "cache 1\nrss 2\ntotal_cache 20\ntotal_rss 30\ntotal_swap 4\n"),
        ("m/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"),
        ("m/memory.failcnt", "6\n"),
        ("b/blkio.throttle.io_service_bytes_recursive", "8:0 Read 7\n8:0 Write 8\n8:0 Total 15\nTotal 15\n"),
        ("b/blkio.throttle.io_serviced_recursive", "8:0 Read 1\n8:0 Write 2\n"),
        ("p/pids.current", "2\n"),
        ("p/pids.max", "max\n"),
    ]);
    let folder = |name: &str| Some(root.join(name));
    let files = Files {
        unified: folder("u"),
        cpu: folder("q"),
        cpuacct: folder("a"),
        memory: folder("m"),
        blkio: folder("b"),
        pids: folder("p"),
    };
    let Totals(body) = Reader::default().read(&root, &files, &Target::default()).unwrap();
    let known = part::CPU | part::CPU_LIMIT | part::MEMORY | part::MEMORY_KINDS | part::OOM | part::DISK;
    assert_eq!(body.known, known | part::PROCESSES);
    assert_eq!((body.cpu_ns, body.cpu_limit_milli, body.throttled_ns), (1000, 0, 5));
    assert_eq!((body.memory, body.memory_anon, body.memory_file, body.swap), (50, 30, 20, 4));
    assert_eq!((body.oom_kills, body.memory_limit_hits), (1, 6));
    assert_eq!((body.read_bytes, body.written_bytes, body.reads, body.writes), (7, 8, 1, 2));
    assert_eq!(body.processes, 2);
}

#[test]
fn only_what_was_added_is_told() {
    let before = Totals(ResourceBody { known: part::CPU, cpu_ns: 100, memory: 5, ..ResourceBody::default() });
    let now = ResourceBody {
        known: part::CPU | part::MEMORY | part::NET,
        cpu_ns: 350,
        cpu_user_ns: 10,
        memory: 9,
        received_bytes: 1 << 40,
        ..ResourceBody::default()
    };
    let body = Totals(now).since(&before, 1000);
    assert_eq!((body.cpu_ns, body.cpu_user_ns, body.memory, body.interval_ns), (250, 10, 9, 1000));
    assert_eq!(body.known, part::CPU | part::MEMORY, "nobody knows when the bytes were received");
    let back = before.since(&Totals(now), 1000);
    assert_eq!(back.cpu_ns, 0, "a counter that went back");
}

#[test]
fn nonsense_and_nothing_are_not_known() {
    let (_keep, root) = tree(&[
        ("c/cpu.stat", "usage_usec -4\n"),
        ("c/cpu.max", "100000 0\n"),
        ("c/memory.current", "99999999999999999999999\n"),
        ("c/pids.current", "\u{fffd}"),
        ("c/io.pressure", "some total=\n"),
    ]);
    let files = Files { unified: Some(root.join("c")), ..Files::default() };
    assert_eq!(Reader::default().read(&root, &files, &Target::default()), None);
    assert_eq!(Reader::default().read(&root, &Files::default(), &Target::default()), None);
}
