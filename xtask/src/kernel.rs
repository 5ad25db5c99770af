//! Runs the sensor's tests and the program itself on another kernel, in a virtual machine without acceleration.
//!
//! The machine has no disk and no network: its root is an archive in memory with busybox, python3, the tests and the
//! program. What it prints comes back over its serial line.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

/// What the machine runs first.
const INIT: &str = include_str!("kernel-init.sh");
/// The last line of a machine that came to its end: `tidewatch-vm: 0`.
const VERDICT: &str = "tidewatch-vm: ";
/// How long a machine may take; emulated, it is some twenty times slower than the host.
const PATIENCE: Duration = Duration::from_secs(900);
/// Programs that the tests run.
const PROGRAMS: [&str; 4] = ["python3", "unshare", "env", "true"];
/// Parts of Python's library that no test needs.
const NO_PYTHON: [&str; 8] =
    ["test", "idlelib", "lib2to3", "pydoc_data", "distutils", "unittest", "__pycache__", "site-packages"];

/// A way to boot: its name, what is put on the kernel's command line, and what is to be run.
const BOOTS: [(&str, &str, &str); 2] = [
    ("BPF LSM", "lsm=lockdown,capability,landlock,yama,bpf", "tests"),
    // Then no eBPF program may read the kernel's memory: the sensor must say so, not fail in a riddle.
    ("lockdown", "lsm=lockdown,capability,landlock,yama,bpf lockdown=confidentiality", "refusal"),
];

/// Runs everything on the kernel of this package (a file, or a name that apt knows).
///
/// # Errors
/// If something that is needed is missing, or a machine does not come to its end.
pub fn run(package: Option<&str>) -> anyhow::Result<ExitCode> {
    let folder = PathBuf::from("target/kernel");
    std::fs::create_dir_all(&folder).context("cannot make target/kernel")?;
    for program in ["qemu-system-x86_64", "cpio", "dpkg-deb", "busybox"] {
        ensure!(found(program).is_some(), "{program} is missing: apt-get install qemu-system-x86 cpio busybox-static");
    }
    let package = fetched(&folder, package)?;
    let kernel = unpacked(&folder, &package)?;
    let archive = archive(&folder)?;
    let mut failed = 0;
    for (name, options, what) in BOOTS {
        eprintln!("{}: {name} …", kernel.display());
        let (status, took) = boot(&kernel, &archive, &format!("{options} tidewatch={what}"))?;
        eprintln!("{name}: {} after {} s", if status == 0 { "well" } else { "FAILED" }, took.as_secs());
        failed += u32::from(status != 0);
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The system's own program: the first in PATH may be a script that picks a version.
fn found(program: &str) -> Option<PathBuf> {
    ["/usr/bin", "/bin", "/usr/sbin"].iter().map(|folder| Path::new(folder).join(program)).find(|file| file.is_file())
}

/// The package as a file: given as one, or downloaded by its name.
fn fetched(folder: &Path, package: Option<&str>) -> anyhow::Result<PathBuf> {
    if let Some(file) = package.map(Path::new).filter(|file| file.is_file()) {
        return Ok(file.to_owned());
    }
    let name = match package {
        Some(name) => name.to_owned(),
        None => {
            let depends = output(Command::new("apt-cache").args(["depends", "linux-image-cloud-amd64"]))?;
            let image = depends.split_whitespace().find(|word| word.starts_with("linux-image-") && word.contains('.'));
            image.context("apt knows no linux-image-cloud-amd64; name a package or a .deb file")?.to_owned()
        }
    };
    let known = |folder: &Path| {
        let files = std::fs::read_dir(folder).ok()?.filter_map(Result::ok).map(|entry| entry.path());
        files
            .filter(|file| file.extension() == Some(OsStr::new("deb")))
            .find(|file| file.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&format!("{name}_"))))
    };
    if let Some(file) = known(folder) {
        return Ok(file);
    }
    eprintln!("downloading {name} …");
    succeed(Command::new("apt-get").args(["download", &name]).current_dir(folder))?;
    known(folder).with_context(|| format!("apt-get download {name} left no file in {}", folder.display()))
}

/// The kernel's image out of the package.
fn unpacked(folder: &Path, package: &Path) -> anyhow::Result<PathBuf> {
    let name = package.file_stem().context("a file has a name")?;
    let to = folder.join("unpacked").join(name);
    if !to.join("boot").is_dir() {
        std::fs::create_dir_all(&to)?;
        succeed(Command::new("dpkg-deb").arg("-x").arg(package).arg(&to))?;
    }
    let images = std::fs::read_dir(to.join("boot")).with_context(|| format!("{} has no kernel", package.display()))?;
    let mut images = images.filter_map(Result::ok).map(|entry| entry.path());
    let image = images.find(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-")));
    image.with_context(|| format!("{} has no kernel", package.display()))
}

/// The root of the machine as an archive.
fn archive(folder: &Path) -> anyhow::Result<PathBuf> {
    let root = folder.join("root");
    if root.exists() {
        std::fs::remove_dir_all(&root)?;
    }
    for part in ["bin", "proc", "sys", "dev", "tmp", "etc", "root", "run", "var/lib", "usr/bin", "lib64"] {
        std::fs::create_dir_all(root.join(part))?;
    }
    std::fs::write(root.join("etc/hostname"), "machine\n")?;
    std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    std::fs::write(root.join("etc/group"), "root:x:0:\n")?;
    std::fs::write(root.join("etc/shadow"), "root:*:1::::::\n")?;
    put(&root, &found("busybox").context("busybox is gone")?, Path::new("bin/busybox"))?;
    for program in PROGRAMS {
        let file = found(program).with_context(|| format!("{program} is missing"))?;
        put(&root, &file, &Path::new("usr/bin").join(program))?;
    }
    // The tests name it so.
    put(&root, &found("true").context("true is gone")?, Path::new("bin/true"))?;
    let paths =
        output(Command::new("/usr/bin/python3").args(["-c", "import sysconfig; print(sysconfig.get_path('stdlib'))"]))?;
    copy_python(&root, Path::new(paths.trim()))?;
    let [events, network, program] = built()?;
    put(&root, &events, Path::new("events"))?;
    put(&root, &network, Path::new("network"))?;
    put(&root, &program, Path::new("usr/bin/tidewatch"))?;
    let init = root.join("init");
    std::fs::write(&init, INIT)?;
    succeed(Command::new("chmod").arg("755").arg(&init))?;
    let archive = std::path::absolute(folder.join("root.cpio"))?;
    let script = "find . -print0 | cpio --null --quiet -o -H newc >\"$1\"";
    succeed(Command::new("sh").args(["-ec", script, "sh"]).arg(&archive).current_dir(&root))?;
    Ok(archive)
}

/// Tests of the sensor and the program, built for this host.
fn built() -> anyhow::Result<[PathBuf; 3]> {
    let find = |arguments: &[&str], name: &str| -> anyhow::Result<PathBuf> {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        let said = output(cargo.args(arguments).arg("--message-format=json-render-diagnostics"))?;
        let mut artifacts = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let file = artifacts.find_map(|artifact| {
            (artifact["target"]["name"] == name).then(|| artifact["executable"].as_str().map(PathBuf::from))?
        });
        file.with_context(|| format!("cargo built no {name}"))
    };
    Ok([
        find(&["test", "--package", "tidewatch-sensor", "--test", "events", "--no-run"], "events")?,
        find(&["test", "--package", "tidewatch-sensor", "--test", "network", "--no-run"], "network")?,
        find(&["build", "--package", "tidewatch"], "tidewatch")?,
    ])
}

/// Copies a program with the libraries that it is linked with; without what only a debugger needs.
fn put(root: &Path, file: &Path, to: &Path) -> anyhow::Result<()> {
    let file = file.canonicalize()?;
    let target = root.join(to);
    std::fs::copy(&file, &target).with_context(|| format!("cannot copy {}", file.display()))?;
    // A program without symbols runs as well, and a machine has to load it.
    let _ = Command::new("strip").arg("--strip-debug").arg(&target).status();
    // Statically linked programs have none; then ldd fails.
    let libraries = Command::new("ldd").arg(&file).output().context("cannot run ldd")?;
    for word in String::from_utf8_lossy(&libraries.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
        let library = root.join(word.trim_start_matches('/'));
        if !library.exists() {
            std::fs::create_dir_all(library.parent().context("a library lies in a folder")?)?;
            std::fs::copy(word, &library)?;
        }
    }
    Ok(())
}

fn copy_python(root: &Path, library: &Path) -> anyhow::Result<()> {
    let inside = library.strip_prefix("/").unwrap_or(library);
    let to = root.join(inside);
    std::fs::create_dir_all(&to)?;
    for entry in std::fs::read_dir(library)? {
        let entry = entry?;
        let name = entry.file_name();
        if NO_PYTHON.iter().any(|left| name == *left) {
            continue;
        }
        if name.to_string_lossy().starts_with("config-") {
            continue;
        }
        if entry.file_type()?.is_dir() {
            copy_python(root, &entry.path())?;
        } else if name.to_string_lossy().ends_with(".so") {
            put(root, &entry.path(), &inside.join(&name))?;
        } else if entry.path().is_file() {
            std::fs::copy(entry.path(), to.join(&name))?;
        }
    }
    Ok(())
}

/// Starts the machine and shows what it says; returns its verdict and how long it took.
fn boot(kernel: &Path, archive: &Path, options: &str) -> anyhow::Result<(u32, Duration)> {
    let began = Instant::now();
    let mut machine = Command::new("qemu-system-x86_64")
        // Acceleration hangs some kernels on nested hosts; emulation runs everywhere.
        .args(["-M", "pc", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2G"])
        .args(["-nographic", "-no-reboot", "-nic", "none", "-serial", "stdio", "-monitor", "none"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(archive)
        .arg("-append")
        .arg(format!("console=ttyS0 quiet panic=-1 {options}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start qemu-system-x86_64")?;
    let lines = machine.stdout.take().context("a pipe")?;
    let (send, said) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(lines).split(b'\n').map_while(Result::ok) {
            if send.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                return;
            }
        }
    });
    let mut verdict = None;
    // The end of the machine's output is its end.
    while let Ok(line) = said.recv_timeout(PATIENCE.saturating_sub(began.elapsed())) {
        let _ = writeln!(std::io::stdout(), "  | {line}");
        if let Some(status) = line.split(VERDICT).nth(1) {
            verdict = status.trim().parse().ok();
        }
    }
    end(&mut machine)?;
    match verdict {
        Some(status) => Ok((status, began.elapsed())),
        None => bail!("the machine ended after {} s without a verdict", began.elapsed().as_secs()),
    }
}

fn end(machine: &mut Child) -> anyhow::Result<()> {
    if machine.try_wait()?.is_none() {
        std::thread::sleep(Duration::from_secs(1));
        if machine.try_wait()?.is_none() {
            machine.kill()?;
        }
        machine.wait()?;
    }
    Ok(())
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed: {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}
