//! What servers under load lose of their throughput while they are watched: redis, nginx, and stress-ng's sockets. The
//! servers are started once, on free ports of the loopback; in each round every load runs in every mode.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::agent::scratch;
use crate::cost::{median, ratio};
use crate::stop;
use crate::watch::{Mode, Watch};

const ROUNDS: usize = 5;

/// One kind of load: what it is, and how it is made. Returns what was done a second.
struct Kind {
    what: &'static str,
    unit: &'static str,
    run: fn(&Servers) -> anyhow::Result<f64>,
}

const KINDS: &[Kind] = &[
    Kind { what: "redis, `redis-benchmark` set and get, 50 clients", unit: "requests", run: redis },
    Kind { what: "nginx, `wrk`, 16 connections kept", unit: "requests", run: |servers| nginx(servers, "keep-alive") },
    Kind {
        what: "nginx, `wrk`, a connection for each request",
        unit: "requests",
        run: |servers| nginx(servers, "close"),
    },
    Kind { what: "`stress-ng --sock 1`", unit: "operations", run: sock },
];

/// Measures and prints.
pub fn measure(agent: &Path) -> anyhow::Result<()> {
    let servers = Servers::start()?;
    let mut rates: Vec<[Vec<f64>; 3]> = KINDS.iter().map(|_| Default::default()).collect();
    let mut words = String::new();
    for round in 0..ROUNDS {
        for mode in Mode::ALL {
            eprint!("\rservers, round {} of {ROUNDS}: {:<12}", round + 1, mode.name());
            let watch = Watch::at_once(mode, agent)?;
            for (i, kind) in KINDS.iter().enumerate() {
                stop::check()?;
                let rate = (kind.run)(&servers).with_context(|| kind.what)?;
                rates[i][mode as usize].push(rate);
            }
            if let Some(usage) = watch.stop()? {
                words = usage.summary;
            }
        }
    }
    eprintln!("\r{:<50}", "");
    println!("Throughput that is left, median of {ROUNDS} rounds; each ratio is within one round.\n");
    println!(
        "| server and load | a second, unwatched | empty programs ÷ unwatched | Tidewatch ÷ unwatched | Tidewatch ÷ empty programs |"
    );
    println!("|---|---|---|---|---|");
    for (kind, [nothing, floor, tidewatch]) in KINDS.iter().zip(&rates) {
        println!(
            "| {} | {:.0} {} | {:.2} | {:.2} | {:.2} |",
            kind.what,
            median(nothing.clone()),
            kind.unit,
            ratio(floor, nothing),
            ratio(tidewatch, nothing),
            ratio(tidewatch, floor),
        );
    }
    println!("\nThe agent's last words in the last round: {words}\n");
    Ok(())
}

/// The servers, ended when dropped.
struct Servers {
    folder: PathBuf,
    children: Vec<Child>,
    redis: u16,
    nginx: u16,
}

impl Servers {
    fn start() -> anyhow::Result<Self> {
        let mut servers = Self { folder: scratch()?, children: Vec::new(), redis: free_port()?, nginx: free_port()? };
        let folder = servers.folder.clone();
        let redis = [
            ["--port", &servers.redis.to_string()],
            ["--bind", "127.0.0.1"],
            ["--save", ""],
            ["--appendonly", "no"],
            ["--dir", &folder.to_string_lossy()],
        ];
        servers.spawn(Command::new("redis-server").args(redis.concat()))?;
        std::fs::create_dir(folder.join("www"))?;
        std::fs::write(folder.join("www/index.html"), "x".repeat(612))?;
        let temporary =
            ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|what| format!("{what}_temp_path {what};"));
        let text = format!(
            "daemon off; worker_processes 1; pid nginx.pid; error_log error.log;\nevents {{ worker_connections 512; }}\n\
             http {{ access_log off; keepalive_requests 100000000; {}\n\
             server {{ listen 127.0.0.1:{}; root www; }} }}\n",
            temporary.concat(),
            servers.nginx
        );
        std::fs::write(folder.join("nginx.conf"), text)?;
        let path = folder.to_string_lossy().into_owned();
        servers.spawn(Command::new("nginx").args(["-p", &path, "-c", "nginx.conf", "-e", "error.log"]))?;
        for port in [servers.redis, servers.nginx] {
            let begun = Instant::now();
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                anyhow::ensure!(begun.elapsed() < Duration::from_secs(10), "no server answers at port {port}");
                stop::sleep(Duration::from_millis(20))?;
            }
        }
        Ok(servers)
    }

    fn spawn(&mut self, command: &mut Command) -> anyhow::Result<()> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.children.push(child.with_context(|| format!("{name} is missing: scripts/setup bench installs it"))?);
        Ok(())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in &mut self.children {
            // Not killed: a master of nginx ends its workers.
            let _ =
                rustix::process::kill_process(rustix::process::Pid::from_child(child), rustix::process::Signal::TERM);
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// What a program writes to both of its outputs.
fn output(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let out = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let out = out.with_context(|| format!("{program} is missing: scripts/setup bench installs it"))?;
    let text = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
    anyhow::ensure!(out.status.success(), "{program}: {text}");
    Ok(text.into_owned())
}

/// Lines such as `"SET","86206.90","0.308",…`: as many of each, one kind after the other.
fn redis(servers: &Servers) -> anyhow::Result<f64> {
    let port = servers.redis.to_string();
    let text = output("redis-benchmark", &["-p", &port, "-t", "set,get", "-n", "100000", "-c", "50", "--csv"])?;
    mean_of_csv(&text).with_context(|| format!("cannot read what redis-benchmark says: {text}"))
}

fn mean_of_csv(text: &str) -> Option<f64> {
    let rates = text.lines().filter_map(|line| line.split(',').nth(1)?.trim_matches('"').parse::<f64>().ok());
    let (count, time) = rates.fold((0.0, 0.0), |(count, time), rate| (count + 1.0, time + 1.0 / rate));
    (count > 0.0).then_some(count / time)
}

/// `Requests/sec:  12345.67`
fn nginx(servers: &Servers, connection: &str) -> anyhow::Result<f64> {
    let (header, url) = (format!("Connection: {connection}"), format!("http://127.0.0.1:{}/", servers.nginx));
    let text = output("wrk", &["-t", "1", "-c", "16", "-d", "3s", "-H", &header, &url])?;
    anyhow::ensure!(!text.contains("Non-2xx"), "nginx refuses: {text}");
    let rate = text.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:")?.trim().parse().ok());
    rate.with_context(|| format!("cannot read what wrk says: {text}"))
}

/// `stress-ng: metrc: [42] sock   1234   3.00   0.10   2.90   411.33   411.33`: the eighth word is operations a second.
fn sock(_: &Servers) -> anyhow::Result<f64> {
    let text = output("stress-ng", &["--sock", "1", "--timeout", "3s", "--metrics-brief"])?;
    sock_rate(&text).with_context(|| format!("cannot read what stress-ng says: {text}"))
}

fn sock_rate(text: &str) -> Option<f64> {
    text.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "sock")?;
        words.get(at + 1)?.parse::<f64>().ok()?;
        words.get(at + 5)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_programs_say_is_read() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\"\n\"SET\",\"100.0\",\"0.3\"\n\"GET\",\"300.0\",\"0.3\"\n";
        assert_eq!(mean_of_csv(csv), Some(150.0));
        assert_eq!(mean_of_csv("Could not connect"), None);
        let brief = "stress-ng: info:  [1] dispatching hogs: 1 sock\n\
                     stress-ng: metrc: [1] stressor       bogo ops real time  usr time  sys time   bogo ops/s  bogo ops/s\n\
                     stress-ng: metrc: [1] sock             4213      3.00      0.30      2.68      1404.29        1413.76\n";
        assert_eq!(sock_rate(brief), Some(1404.29));
    }
}
