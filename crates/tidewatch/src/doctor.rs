//! `doctor`: what works on this host, and what would mend the rest.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use anstyle::AnsiColor;
use serde_json::json;
use tw_sensor::{EbpfSensor, Options};

use crate::cli::DoctorArgs;
use crate::screen::print_stdout;

/// One thing that was looked at.
struct Finding {
    what: &'static str,
    ok: bool,
    /// Whether nothing can be watched without it.
    vital: bool,
    says: String,
    remedy: String,
}

/// Looks at everything the agent needs and says what it found. Exit 0 if the agent can watch.
///
/// # Errors
/// If standard output is closed.
pub fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let mut found = vec![root(), btf()];
    found.extend(sensor());
    found.push(cgroups());
    found.push(docker(&args.docker_socket));
    if args.json {
        let rows: Vec<_> = found
            .iter()
            .map(|f| json!({"what": f.what, "ok": f.ok, "vital": f.vital, "says": f.says, "remedy": f.remedy}))
            .collect();
        print_stdout(&format!("{}\n", serde_json::Value::from(rows)))?;
    } else {
        for f in &found {
            let (mark, colour) = match (f.ok, f.vital) {
                (true, _) => ("ok", AnsiColor::Green),
                (false, true) => ("missing", AnsiColor::Red),
                (false, false) => ("partly", AnsiColor::Yellow),
            };
            let style = colour.on_default();
            anstream::println!("{style}{mark:<8}{style:#} {:<34} {}", f.what, f.says);
            if !f.ok {
                anstream::println!("         {:<34} → {}", "", f.remedy);
            }
        }
    }
    Ok(if found.iter().any(|f| f.vital && !f.ok) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn root() -> Finding {
    let ok = rustix::process::geteuid().is_root();
    Finding {
        what: "root",
        ok,
        vital: true,
        says: if ok { "yes".into() } else { "no".into() },
        remedy: "sudo tidewatch doctor; without root nothing below can be judged".into(),
    }
}

fn btf() -> Finding {
    let ok = Path::new("/sys/kernel/btf/vmlinux").exists();
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    Finding {
        what: "type information of the kernel (BTF)",
        ok,
        vital: true,
        says: format!("kernel {release}"),
        remedy: "use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as all current distributions' are".into(),
    }
}

fn sensor() -> Vec<Finding> {
    match EbpfSensor::start(&Options::default()) {
        Ok(sensor) => sensor
            .health()
            .hooks
            .iter()
            .map(|hook| Finding {
                what: hook.name,
                ok: hook.problem.is_none(),
                vital: false,
                says: hook.serves.to_owned(),
                remedy: hook.problem.clone().unwrap_or_default(),
            })
            .collect(),
        Err(error) => vec![Finding {
            what: "eBPF",
            ok: false,
            vital: true,
            says: error.to_string(),
            remedy: "run as root with CAP_BPF and CAP_PERFMON; in a container also with the host's pid namespace"
                .into(),
        }],
    }
}

fn cgroups() -> Finding {
    let mount = tw_enrich::cgroup::find_mount(Path::new("/proc"));
    Finding {
        what: "unified cgroup hierarchy",
        ok: mount.is_some(),
        vital: false,
        says: mount.map_or("not mounted".into(), |mount| mount.display().to_string()),
        remedy:
            "mount -t cgroup2 none /sys/fs/cgroup/unified; without it containers started before cannot be told apart"
                .into(),
    }
}

fn docker(socket: &Path) -> Finding {
    let answer = UnixStream::connect(socket);
    Finding {
        what: "Docker",
        ok: answer.is_ok(),
        vital: false,
        says: match &answer {
            Ok(_) => format!("{} answers", socket.display()),
            Err(error) => format!("{}: {error}", socket.display()),
        },
        remedy: "start Docker, or name its socket with --docker-socket; without it containers have ids but no names"
            .into(),
    }
}
