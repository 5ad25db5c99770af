//! The work whose slow-down is measured. Each load runs in a process of its own.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Instant;

use anyhow::Context as _;

/// One kind of work.
pub struct Load {
    /// Name on the command line.
    pub name: &'static str,
    /// Description for people.
    pub what: &'static str,
    steps: u32,
    step: fn() -> anyhow::Result<()>,
    threads: u32,
    /// All of it happens in the threads that do it.
    alone: bool,
}

/// Pieces that a load is done in.
const PIECES: u32 = 10;

/// All loads.
pub const LOADS: &[Load] = &[
    Load {
        name: "getppid",
        what: "getppid loop (not watched)",
        steps: 2_000_000,
        step: getppid,
        threads: 1,
        alone: true,
    },
    Load {
        name: "pipe",
        what: "2-byte pipe write+read loop (not watched)",
        steps: 300_000,
        step: pipe,
        threads: 1,
        alone: true,
    },
    Load {
        name: "open",
        what: "open/read/close loop, the same file again",
        steps: 200_000,
        step: open,
        threads: 1,
        alone: true,
    },
    Load {
        name: "open2",
        what: "the same file again, two threads on two cores",
        steps: 150_000,
        step: open,
        threads: 2,
        alone: true,
    },
    Load {
        name: "names",
        what: "open/read/close loop, by another name each time",
        steps: 100_000,
        step: open_another,
        threads: 1,
        alone: true,
    },
    Load { name: "exec", what: "fork+exec of /bin/true", steps: 400, step: exec, threads: 1, alone: false },
    Load {
        name: "connect",
        what: "loopback connect+accept+send+close",
        steps: 5_000,
        step: connect,
        threads: 1,
        alone: false,
    },
];

fn getppid() -> anyhow::Result<()> {
    std::hint::black_box(rustix::process::getppid());
    Ok(())
}

fn pipe() -> anyhow::Result<()> {
    thread_local! {
        static PIPE: std::cell::RefCell<Option<(std::io::PipeReader, std::io::PipeWriter)>> =
            const { std::cell::RefCell::new(None) };
    }
    PIPE.with_borrow_mut(|pipe| {
        let (reader, writer) = match pipe {
            Some(pipe) => pipe,
            None => pipe.insert(std::io::pipe()?),
        };
        writer.write_all(b"ab")?;
        reader.read_exact(&mut [0; 2])?;
        Ok(())
    })
}

fn open() -> anyhow::Result<()> {
    let mut file = std::fs::File::open("/etc/hostname")?;
    let _ = file.read(&mut [0; 64])?;
    Ok(())
}

/// Names of one file: more than the kernel half remembers opens of.
static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let dots = |n: u32| (0..10).map(|bit| if n >> bit & 1 == 1 { "./" } else { "/" }).collect::<String>();
    (0..1_024).map(|n| format!("/etc/{}hostname", dots(n))).collect()
});

/// Each open differs from the last thousand, so that each is told.
fn open_another() -> anyhow::Result<()> {
    thread_local!(static NEXT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });
    let next = NEXT.replace(NEXT.get() + 1) % NAMES.len();
    let mut file = std::fs::File::open(&NAMES[next])?;
    let _ = file.read(&mut [0; 64])?;
    Ok(())
}

fn exec() -> anyhow::Result<()> {
    anyhow::ensure!(Command::new("/bin/true").status()?.success());
    Ok(())
}

fn connect() -> anyhow::Result<()> {
    thread_local! {
        static LISTENER: std::cell::RefCell<Option<TcpListener>> = const { std::cell::RefCell::new(None) };
    }
    LISTENER.with_borrow_mut(|listener| {
        let listener = match listener {
            Some(listener) => listener,
            None => listener.insert(TcpListener::bind("127.0.0.1:0")?),
        };
        let mut client = TcpStream::connect(listener.local_addr()?)?;
        let (mut server, _) = listener.accept()?;
        client.write_all(b"hello")?;
        server.read_exact(&mut [0; 5])?;
        Ok(())
    })
}

/// Does the load of this name in this process and returns nanoseconds per step: where all of it happens in the threads that
/// do it, of their CPU time in the quickest of ten pieces, since others want the cores, too; else as long as it took.
pub fn run_here(name: &str) -> anyhow::Result<f64> {
    let load = LOADS.iter().find(|load| load.name == name).with_context(|| format!("no load {name}"))?;
    (load.step)()?;
    let started = Instant::now();
    let pieces = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..load.threads).map(|_| scope.spawn(|| load.quickest_piece())).collect();
        let pieces = workers.into_iter().map(|worker| worker.join().map_err(|_| anyhow::anyhow!("a load panicked"))?);
        pieces.collect::<anyhow::Result<Vec<f64>>>()
    })?;
    let taken = started.elapsed().as_nanos() as f64 / f64::from(load.steps);
    Ok(if load.alone { pieces.iter().sum::<f64>() / pieces.len() as f64 } else { taken })
}

impl Load {
    /// Does all steps; nanoseconds of CPU per step in the quickest tenth of them.
    fn quickest_piece(&self) -> anyhow::Result<f64> {
        let mut quickest = f64::INFINITY;
        for _ in 0..PIECES {
            let before = thread_seconds();
            (0..self.steps / PIECES).try_for_each(|_| (self.step)())?;
            quickest = quickest.min((thread_seconds() - before) * 1e9 / f64::from(self.steps / PIECES));
        }
        Ok(quickest)
    }
}

/// CPU time of this thread.
fn thread_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The same in a child process.
pub fn run_child(name: &str) -> anyhow::Result<f64> {
    let out = Command::new(std::env::current_exe()?).args(["load", name]).output()?;
    anyhow::ensure!(out.status.success(), "load {name}: {}", String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8(out.stdout)?.trim().parse()?)
}
